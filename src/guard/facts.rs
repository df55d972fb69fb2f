//! What the guards must know of snapshot, vaults and target. Plain data, collected by others; nothing is looked up
//! here. A fact that nobody collected is unknown, and an unknown fact is a refusal.

use super::evidence::Piece;
use crate::artifact::Toxicity;
use crate::base::ids::{ArtifactName, SnapshotId, VaultName};
use crate::facts::cln::{EmergencyContents, NodeState};
use crate::facts::postgres::Software;
use crate::plan::ServerUrl;
use crate::report::Finding;
use crate::witness::Witness;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A fact, or why it could not be learned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known<T> {
    /// It was learned.
    Is(T),
    /// It was not, and this is why.
    Unknown(String),
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self::Unknown("nobody has looked".to_owned())
    }
}

impl<T> Known<T> {
    /// The fact by reference.
    pub fn as_ref(&self) -> Known<&T> {
        match self {
            Self::Is(fact) => Known::Is(fact),
            Self::Unknown(why) => Known::Unknown(why.clone()),
        }
    }

    /// What stands in a table, or that nobody has looked.
    pub fn found(entry: Option<&Self>) -> Known<&T> {
        entry.map_or_else(Known::default, Self::as_ref)
    }
}

/// All facts. The default knows nothing.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of each artifact that the plan takes from the snapshot.
    pub artifacts: BTreeMap<ArtifactName, ArtifactFacts>,
    /// The channel databases in the snapshot, placed or put in quarantine.
    pub candidates: BTreeMap<ArtifactName, Known<Candidate>>,
    /// What anything else says of the node's channels: all manifests' notes, marks, every `emergency.recover`. At least
    /// one piece of each vault's newest snapshot, also when it says nothing of channels.
    pub evidence: Vec<Piece>,
    /// Every vault of the policy.
    pub vaults: Known<Vec<VaultReading>>,
    /// The `emergency.recover` in the snapshot.
    pub emergency: Known<EmergencyContents>,
    /// Whose the final snapshot is.
    pub claim: Known<Claim>,
    /// What is known of the node's newest snapshot outside of the vaults.
    pub remembered: Vec<Remembered>,
    /// When this very restore let the node start on the channel database that it had placed; none where it has not.
    pub lowered: Known<Option<Timestamp>>,
    /// The chain's height now.
    pub block_height: Known<u64>,
    /// Whose secret and database these are.
    pub identity: IdentityFacts,
    /// What runs at the target.
    pub running: RunningFacts,
    /// What lies at the target.
    pub target: TargetFacts,
    /// Whether the old host lives.
    pub twin: TwinFacts,
    /// What BTCPay would pay out by itself.
    pub payout: Known<PayoutFacts>,
    /// Room, for each filesystem and server that is written to.
    pub space: Vec<Space>,
    /// How old the snapshot is.
    pub freshness: FreshnessFacts,
}

/// Of one artifact of the snapshot.
#[derive(Clone, Debug, Default)]
pub struct ArtifactFacts {
    /// Whether the manifest or the content says that it holds channel state.
    pub toxicity: Known<Toxicity>,
    /// Of a database dump: the software whose tables these are.
    pub software: Known<Software>,
}

/// A channel database of the snapshot.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The snapshot it is in.
    pub snapshot: SnapshotId,
    /// When it was read from the node.
    pub taken: Timestamp,
    /// What it says.
    pub node: NodeState,
    /// Whether the manifest is marked final.
    pub finality: Known<Finality>,
}

/// Whether a snapshot is the last state of a node that was stopped for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// It is.
    Final,
    /// It was, and somebody undid it: the node may have run since.
    Revoked,
    /// It never was.
    Ordinary,
}

/// One vault of the policy.
#[derive(Clone, Debug)]
pub struct VaultReading {
    /// Its name.
    pub vault: VaultName,
    /// The newest snapshot of this node in it. Known only when every manifest and mark in the vault was read.
    pub head: Known<Option<SnapshotId>>,
}

/// What is known of a node's newest snapshot outside of the vaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Who knows it.
    pub whose: Whose,
    /// What.
    pub says: Witness,
    /// How it stands against what the vaults hold.
    pub standing: Known<Standing>,
}

/// Who remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A person gave a witness.
    Given,
    /// This machine is the protected host, and it is in its state.
    ThisHost,
}

/// How a remembered snapshot stands against what the vaults hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Held,
    /// One of its name is there, with another manifest.
    Other,
    /// It is not there, and everything there is older.
    Missing,
    /// It is not there, and something newer is.
    Gone,
}

/// Who has laid claim to a final snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody. A run takes the claim before it is judged.
    NotTaken,
    /// We, and nobody else in any vault.
    OursAlone {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Others too, or others only.
    Others {
        /// Their names.
        who: Vec<String>,
    },
}

/// Whose secret and database these are.
#[derive(Clone, Debug, Default)]
pub struct IdentityFacts {
    /// The node id of the secret that will be in place.
    pub secret_node_id: Known<String>,
    /// The node id that the snapshot's wallet database names; where the snapshot has none, that of the newest evidence.
    pub database_node_id: Known<String>,
    /// The chain of that database, by lightningd's name.
    pub database_network: Known<String>,
    /// The chain of the target, by lightningd's name.
    pub target_network: Known<String>,
    /// The first block of the database's chain.
    pub database_genesis: Known<String>,
    /// The first block of the target's chain.
    pub target_genesis: Known<String>,
    /// The schema of the database.
    pub database_schema: Known<i64>,
    /// The newest schema that the target's lightningd knows.
    pub lightningd_schema: Known<i64>,
}

/// Something that uses a file or a database now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it is, for a person: program and process number, or user and client address.
    pub what: String,
    /// The systemd unit it belongs to, where that could be learned.
    pub unit: Option<String>,
}

/// What runs at the target.
#[derive(Clone, Debug, Default)]
pub struct RunningFacts {
    /// Of each node, by its pid file.
    pub lightning: BTreeMap<PathBuf, LightningRunning>,
    /// Who uses LND's files.
    pub lnd: Known<Vec<Holder>>,
    /// The state of the node units. Not looked at below another root.
    pub units: BTreeMap<String, Known<UnitState>>,
    /// Sessions in each database.
    pub sessions: BTreeMap<(ServerUrl, String), Known<Vec<Holder>>>,
}

/// Of one Core Lightning node.
#[derive(Clone, Debug, Default)]
pub struct LightningRunning {
    /// Who holds the pid file's lock.
    pub lock: Known<Vec<Holder>>,
    /// Who answers on the RPC socket.
    pub socket: Known<Vec<Holder>>,
}

/// The state of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// It runs, or is about to.
    Active,
    /// It does not.
    Inactive,
    /// There is no such unit.
    Absent,
}

/// What lies at the target.
#[derive(Clone, Debug, Default)]
pub struct TargetFacts {
    /// At each path that the plan writes, and beside each database.
    pub files: BTreeMap<PathBuf, Known<FileAt>>,
    /// Paths that unpacking a tar would overwrite with something else.
    pub trees: BTreeMap<ArtifactName, Known<Vec<PathBuf>>>,
    /// What of the tars would be left out.
    pub left_out: Vec<Finding>,
    /// At the place of each secret.
    pub secrets: BTreeMap<PathBuf, Known<SecretAt>>,
    /// At the place of each `emergency.recover`.
    pub emergencies: BTreeMap<PathBuf, Known<EmergencyAt>>,
    /// At the place of each channel database; it counts as evidence too.
    pub wallets: BTreeMap<PathBuf, Known<WalletAt>>,
    /// The mirror that lightningd's `wallet` option names. lightningd overwrites it when it starts.
    pub mirror: Known<Option<PathBuf>>,
    /// Of each database that the plan restores, and of each name an old one would be kept under.
    pub databases: BTreeMap<(ServerUrl, String), Known<DatabaseAt>>,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAt {
    /// Nothing.
    Nothing,
    /// Exactly what would be placed: an interrupted run was here.
    Identical,
    /// Our fence.
    Fence,
    /// Another file.
    Other {
        /// Its length in bytes.
        length: u64,
    },
    /// No file at all: `a folder`, `a symbolic link`, `a socket`.
    NoFile {
        /// What it is.
        what: &'static str,
    },
}

/// What lies at the place of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretAt {
    /// Nothing.
    Nothing,
    /// The secret of the snapshot.
    Same,
    /// Another one.
    Other {
        /// Its node id, where it can be derived.
        node_id: Option<String>,
    },
}

/// What lies at the place of an `emergency.recover`.
#[derive(Clone, Debug, PartialEq)]
pub enum EmergencyAt {
    /// Nothing.
    Nothing,
    /// One that cannot be opened.
    Damaged {
        /// What is wrong with it.
        why: String,
    },
    /// The snapshot's, byte for byte, which needs a passphrase to be opened.
    Same,
    /// One that can.
    Sound(EmergencyContents),
}

/// What lies at the place of a channel database.
#[derive(Clone, Debug, PartialEq)]
pub enum WalletAt {
    /// Nothing, or our fence.
    Nothing,
    /// One that cannot be read whole.
    Damaged {
        /// What is wrong with it.
        why: String,
    },
    /// One that can.
    Sound(Box<NodeState>),
}

/// What is known by the name of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseAt {
    /// There is none.
    Absent,
    /// One without tables.
    Empty,
    /// The one that this plan restores: an interrupted run was here.
    Restored,
    /// Another one.
    Other {
        /// Its tables.
        tables: u64,
    },
    /// One that cannot be looked into: it may be the damaged one.
    Unreadable,
}

/// Whether the old host lives.
#[derive(Clone, Debug, Default)]
pub struct TwinFacts {
    /// Its last sign of life in any vault.
    pub last: Known<Option<SignOfLife>>,
    /// The store's clock.
    pub store_now: Known<Timestamp>,
    /// When this restore began, by the stores' clocks, so that a later sign came while it was at work; none before it
    /// has begun.
    pub when_begun: Option<Timestamp>,
    /// By whose clock the last sign of life was dated.
    pub clock: WhoseClock,
}

/// By whose clock things in a vault are dated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhoseClock {
    /// The store's own.
    #[default]
    Stores,
    /// That of the machine that is restored to: a vault on a disk of its own. Its clock may be wrong as well as
    /// another's, and what lies on a disk that was carried here says nothing of a host that has not reached it since.
    ThisMachines,
}

/// A sign of life in a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOfLife {
    /// When it came, by the store's clock.
    pub at: Timestamp,
    /// The host that gave it, for a person.
    pub host: String,
    /// Whether that host is the very machine that is restored to.
    pub source: LifeSource,
    /// What it is.
    pub kind: LifeKind,
}

/// Where a sign of life comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeSource {
    /// The machine that is restored to.
    ThisMachine,
    /// Another one, or nobody can tell.
    Other,
}

/// What a sign of life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeKind {
    /// A mark or a snapshot of a host that went on.
    Working,
    /// The final snapshot of the plan: its node was stopped before it was taken.
    Farewell,
}

/// What BTCPay would pay out by itself, in the database that is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayoutFacts {
    /// Automated payout processors that are enabled.
    pub processors: Vec<String>,
    /// Payouts that wait.
    pub pending: u64,
}

/// Room on one filesystem or server.
#[derive(Clone, Debug)]
pub struct Space {
    /// Which one, for a person.
    pub place: String,
    /// Bytes that the plan writes there in all.
    pub needed: u64,
    /// Bytes that are free there, and those that an interrupted run has written there for this plan already.
    pub free: Known<u64>,
}

/// How old the snapshot is.
#[derive(Clone, Debug, Default)]
pub struct FreshnessFacts {
    /// The newest complete snapshot of the node in any vault.
    pub newest_complete: Known<Option<SnapshotId>>,
    /// When the plan's snapshot was taken.
    pub taken: Known<Timestamp>,
    /// When the newest mark was taken.
    pub newest_mark: Known<Option<Timestamp>>,
    /// Heights in the snapshot from which software would have to read blocks, by its name.
    pub heights: Known<BTreeMap<String, u64>>,
    /// The blocks that bitcoind still has.
    pub prune: Known<PruneWindow>,
}

/// The blocks that bitcoind still has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PruneWindow {
    /// All.
    Whole,
    /// From this height on.
    From(u64),
    /// There is no bitcoind below this root. Counts as known only for a plan that has a root.
    NotHere,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Given => "the witness",
            Self::ThisHost => "this host's own state",
        })
    }
}
