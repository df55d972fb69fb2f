//! What a restore would do: steps, and in each the actions with every path, owner, mode, database and unit they touch.
//! A plan is plain data. Making one reads and writes nothing, and none may be applied before `guard` has cleared it.

mod show;
#[cfg(test)]
mod tests;

use crate::artifact::ArtifactKind;
use crate::base::ids::{ArtifactName, NodeName, ScenarioName, SnapshotId, StepId};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files that SQLite keeps beside a database; what they hold belongs to the database.
pub const SIDE_FILES: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Everything that one restore would do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Plan {
    /// The scenario it was made from.
    #[schemars(with = "String")]
    pub scenario: ScenarioName,
    /// Whether what the snapshot holds is still secret.
    pub secrecy: Secrecy,
    /// The protected host.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// The snapshot it takes from; none where nothing of ours is needed.
    #[schemars(with = "Option<String>")]
    pub snapshot: Option<SnapshotId>,
    /// The folder in which the target lies, instead of `/`. Units of this machine are then left alone.
    pub root: Option<PathBuf>,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
}

/// Whether what a snapshot holds is still secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Secrecy {
    /// Nobody else has had it.
    Kept,
    /// Somebody else may have it: what opens anything must not come back into service.
    Lost,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedStep {
    /// Its name, unique in the plan.
    #[schemars(with = "String")]
    pub id: StepId,
    /// What a person reads.
    pub title: String,
    /// What it does, in order.
    pub actions: Vec<Action>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Takes the pid file's lock and lets a text file stand at the place of the channel database.
    RaiseFence {
        /// The node.
        lightning: LightningPlace,
    },
    /// Removes the text file and gives the lock back.
    LowerFence {
        /// The node.
        lightning: LightningPlace,
    },
    /// Puts one file in its place.
    PlaceFile {
        /// What is placed.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// What it holds.
        kind: ArtifactKind,
        /// Where.
        to: PathBuf,
        /// Whose it will be.
        owner: Owner,
        /// Permission bits.
        #[serde(serialize_with = "octal")]
        #[schemars(with = "String")]
        mode: u32,
        /// Length in bytes.
        length: u64,
    },
    /// Unpacks a tar, with the owners and modes it names.
    PlaceTree {
        /// What is unpacked.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// The folder its paths begin at.
        below: PathBuf,
        /// Length in bytes.
        length: u64,
    },
    /// Puts a channel database where a node starts on it. Only a planned migration does.
    PlaceChannelDatabase {
        /// What is placed.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// Where.
        to: PathBuf,
        /// Whose it will be.
        owner: Owner,
        /// Permission bits.
        #[serde(serialize_with = "octal")]
        #[schemars(with = "String")]
        mode: u32,
        /// Length in bytes.
        length: u64,
        /// The final snapshot that is claimed for it.
        #[schemars(with = "String")]
        claim: SnapshotId,
    },
    /// Puts a toxic artifact where nothing starts on it, with a text beside it that says why.
    Quarantine {
        /// What is put there.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// Where; its name holds `TOXIC`.
        to: PathBuf,
        /// Length in bytes.
        length: u64,
    },
    /// Moves what lies at the target aside; never deletes.
    MoveAside {
        /// What is moved where it is there, in this order.
        paths: Vec<PathBuf>,
        /// What the paths are to each other.
        together: Together,
    },
    /// Makes the roles that the databases need.
    RestoreRoles {
        /// Where they are listed.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// The server.
        server: ServerUrl,
    },
    /// Restores a database into a fresh one and proves it row for row.
    RestoreDatabase {
        /// The dump.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// The server.
        server: ServerUrl,
        /// The name under which it will be used.
        database: String,
        /// The role that will own everything in it.
        owner_role: String,
        /// Length of the dump in bytes.
        length: u64,
        /// What becomes of a database of that name.
        swap: Swap,
    },
    /// Stops or starts a unit.
    Unit {
        /// Its full name.
        unit: String,
        /// What runs in it.
        role: UnitRole,
        /// What is done.
        change: UnitChange,
    },
    /// Runs a command of the operator's, without a shell.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Waits until something holds.
    Wait {
        /// What must hold.
        #[serde(rename = "for")]
        for_: Condition,
        /// How long at most, in seconds.
        #[serde(rename = "at_most_s", serialize_with = "whole_seconds")]
        #[schemars(with = "u64")]
        at_most: Duration,
    },
    /// Tells a person to do something.
    Tell {
        /// What they read.
        text: String,
        /// What they answer.
        answer: Answer,
    },
    /// Makes what was stolen useless, in one transaction.
    Burn {
        /// The server.
        server: ServerUrl,
        /// The database.
        database: String,
        /// What is burnt.
        what: Burn,
    },
    /// Looks, and adds what it finds to the follow-up list.
    Inspect {
        /// At what.
        what: Inspection,
    },
    /// Fails unless something holds.
    Assert {
        /// What must hold.
        what: Assertion,
    },
}

/// Where one Core Lightning node keeps what a restore must know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LightningPlace {
    /// lightningd's base folder.
    pub lightning_dir: PathBuf,
    /// The network's folder in it.
    pub network_dir: PathBuf,
    /// The channel database.
    pub wallet: PathBuf,
    /// The pid file, which lightningd locks for life.
    pub pid_file: PathBuf,
    /// The RPC socket.
    pub rpc_socket: PathBuf,
}

impl LightningPlace {
    /// Whether a path lies in one of the node's folders, or beside its channel database.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.lightning_dir)
            || path.starts_with(&self.network_dir)
            || self.wallet.parent().is_some_and(|folder| path.parent() == Some(folder))
    }
}

/// Whose a file is. The name decides; the number is for a host that does not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Owner {
    /// Owner's name.
    pub user: Option<String>,
    /// Owner's number.
    pub uid: u32,
    /// Group's name.
    pub group: Option<String>,
    /// Group's number.
    pub gid: u32,
}

/// A PostgreSQL server, as a policy names it: without a password.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ServerUrl(pub String);

/// What several paths are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Together {
    /// Nothing: each by itself.
    Separate,
    /// One database with its side files, and a mirror before it: they go together or not at all.
    Database,
}

/// What becomes of a database that has the name already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "swap", rename_all = "kebab-case")]
pub enum Swap {
    /// There must be none, or an empty one.
    IntoEmpty,
    /// It keeps its rows under another name.
    KeepOld {
        /// That name.
        aside: String,
    },
}

/// What runs in a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitRole {
    /// A Core Lightning node.
    CoreLightning,
    /// An LND node.
    Lnd,
    /// BTCPay Server.
    Btcpay,
    /// NBXplorer.
    Nbxplorer,
    /// bitcoind.
    Bitcoind,
    /// PostgreSQL.
    Postgres,
    /// The reverse proxy: what customers reach.
    Proxy,
    /// Something else.
    Other,
}

/// What is done to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitChange {
    /// It is stopped.
    Stop,
    /// It is started.
    Start,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "condition", rename_all = "kebab-case")]
pub enum Condition {
    /// The unit runs.
    UnitActive {
        /// Its name.
        unit: String,
    },
    /// The unit has ended.
    UnitInactive {
        /// Its name.
        unit: String,
    },
    /// The server takes connections.
    PostgresAnswers {
        /// The server.
        server: ServerUrl,
    },
    /// bitcoind has the newest block.
    BitcoindAtTip,
    /// NBXplorer has caught up with bitcoind.
    NbxplorerSynced,
    /// The path is there.
    PathExists {
        /// The path.
        path: PathBuf,
    },
}

/// What a person answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nothing.
    None,
    /// That it is done; recorded.
    Done,
}

/// What may be burnt: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Burn {
    /// BTCPay's API keys are deleted.
    ApiKeys,
    /// BTCPay's webhooks are switched off and lose their secrets.
    Webhooks,
    /// BTCPay's automated payout processors are switched off.
    PayoutProcessors,
}

/// What may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Inspection {
    /// Where each webhook points.
    Webhooks,
    /// Paid invoices without a successful delivery.
    UnpaidDeliveries,
    /// Heights of node and NBXplorer against the blocks that bitcoind still has.
    PruneWindow,
    /// What must be rotated, by place.
    RotationList,
    /// What the host's resolver and the authoritative server answer.
    Dns,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "assertion", rename_all = "kebab-case")]
pub enum Assertion {
    /// The file is the artifact, byte for byte, with its owner and mode.
    FileIs {
        /// The file.
        path: PathBuf,
        /// The artifact.
        #[schemars(with = "String")]
        artifact: ArtifactName,
    },
    /// The secret at this path is of the node whose wallet was backed up.
    SecretIsOfNode {
        /// The file.
        path: PathBuf,
    },
    /// The database holds what was dumped, row for row.
    RowForRow {
        /// The server.
        server: ServerUrl,
        /// The database.
        database: String,
        /// The dump.
        #[schemars(with = "String")]
        artifact: ArtifactName,
    },
    /// Nothing is at this path.
    NothingAt {
        /// The path.
        path: PathBuf,
    },
    /// The unit does not run.
    UnitInactive {
        /// Its name.
        unit: String,
    },
}

/// The thing that an action changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch<'a> {
    /// A file or a folder.
    Path(&'a Path),
    /// A PostgreSQL server's roles.
    Server(&'a ServerUrl),
    /// A database.
    Database(&'a ServerUrl, &'a str),
    /// A systemd unit.
    Unit(&'a str),
}

impl Plan {
    /// All actions, in order.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().flat_map(|step| &step.actions)
    }

    /// What the plan changes, each thing once, in the order in which it is first changed.
    pub fn touches(&self) -> Vec<Touch<'_>> {
        let mut found = Vec::new();
        for touch in self.actions().flat_map(Action::touches) {
            if !found.contains(&touch) {
                found.push(touch);
            }
        }
        found
    }

    /// Whether a unit of this name is started.
    pub fn starts(&self, unit: &str) -> bool {
        self.actions().any(|action| action.starts(unit))
    }

    /// Whether a unit in which this runs is started.
    pub fn starts_role(&self, role: UnitRole) -> bool {
        self.actions().any(|action| action.starts_role(role))
    }

    /// Whether the unit is stopped before the first action of which this is true, and not started again before it.
    pub fn stops_before(&self, unit: &str, until: impl Fn(&Action) -> bool) -> bool {
        let before = self.actions().take_while(|action| !until(action));
        let last = before.filter_map(|action| match action {
            Action::Unit { unit: name, change, .. } if name == unit => Some(*change),
            _ => None,
        });
        last.last() == Some(UnitChange::Stop)
    }

    /// Bytes that the plan writes, as long as they are when read back.
    pub fn bytes(&self) -> u64 {
        self.actions().filter_map(Action::length).fold(0, u64::saturating_add)
    }

    /// The nodes behind whose fence it works.
    pub fn fences(&self) -> impl Iterator<Item = &LightningPlace> {
        self.actions().filter_map(|action| match action {
            Action::RaiseFence { lightning } => Some(lightning),
            _ => None,
        })
    }
}

impl Action {
    /// What it changes.
    pub fn touches(&self) -> Vec<Touch<'_>> {
        match self {
            Self::RaiseFence { lightning } | Self::LowerFence { lightning } => {
                vec![Touch::Path(&lightning.wallet), Touch::Path(&lightning.pid_file)]
            }
            Self::PlaceFile { to, .. } | Self::PlaceChannelDatabase { to, .. } | Self::Quarantine { to, .. } => {
                vec![Touch::Path(to)]
            }
            Self::PlaceTree { below, .. } => vec![Touch::Path(below)],
            Self::MoveAside { paths, .. } => paths.iter().map(|path| Touch::Path(path)).collect(),
            Self::RestoreRoles { server, .. } => vec![Touch::Server(server)],
            Self::RestoreDatabase { server, database, swap, .. } => match swap {
                Swap::IntoEmpty => vec![Touch::Database(server, database)],
                Swap::KeepOld { aside } => vec![Touch::Database(server, database), Touch::Database(server, aside)],
            },
            Self::Burn { server, database, .. } => vec![Touch::Database(server, database)],
            Self::Unit { unit, .. } => vec![Touch::Unit(unit)],
            Self::Run { .. } | Self::Wait { .. } | Self::Tell { .. } | Self::Inspect { .. } | Self::Assert { .. } => {
                Vec::new()
            }
        }
    }

    /// The artifact it takes from the snapshot.
    pub fn artifact(&self) -> Option<&ArtifactName> {
        match self {
            Self::PlaceFile { artifact, .. }
            | Self::PlaceTree { artifact, .. }
            | Self::PlaceChannelDatabase { artifact, .. }
            | Self::Quarantine { artifact, .. }
            | Self::RestoreRoles { artifact, .. }
            | Self::RestoreDatabase { artifact, .. } => Some(artifact),
            _ => None,
        }
    }

    /// Bytes that it writes.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::PlaceFile { length, .. }
            | Self::PlaceTree { length, .. }
            | Self::PlaceChannelDatabase { length, .. }
            | Self::Quarantine { length, .. }
            | Self::RestoreDatabase { length, .. } => Some(*length),
            _ => None,
        }
    }

    /// Whether it starts the unit of this name.
    pub fn starts(&self, name: &str) -> bool {
        matches!(self, Self::Unit { unit, change: UnitChange::Start, .. } if unit == name)
    }

    /// Whether it starts a unit in which this runs.
    pub fn starts_role(&self, wanted: UnitRole) -> bool {
        matches!(self, Self::Unit { role, change: UnitChange::Start, .. } if *role == wanted)
    }
}

fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn whole_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}
