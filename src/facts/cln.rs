//! What is known of a Core Lightning node's files. Plain data; no I/O; no secret. Channels are named by their full
//! channel id, transactions the way explorers print them, keys and ids in lower-case hexadecimal.

use super::sqlite::{CopyStatistics, LiveFile, SqliteContent};
use crate::base::ids::{Sha256Hex, SourceName};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The four ways an `hsm_secret` lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretFormat {
    /// 32 raw bytes.
    Raw,
    /// 73 bytes: 32 raw bytes, encrypted with a passphrase.
    Encrypted,
    /// 32 zero bytes, then the words.
    Mnemonic,
    /// SHA-256 of the seed, then the words; the seed needs a passphrase besides.
    MnemonicWithPassphrase,
}

impl SecretFormat {
    /// The words used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw, 32 bytes",
            Self::Encrypted => "encrypted with a passphrase, 73 bytes",
            Self::Mnemonic => "mnemonic without a passphrase",
            Self::MnemonicWithPassphrase => "mnemonic with a passphrase",
        }
    }
}

/// What was found the first time a secret was seen, or when a person accepted it: every later run compares with it.
/// Without the secret itself it tells nothing: the digest is salted, the node id is public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The source the secret belongs to.
    pub source: SourceName,
    /// 16 random bytes in hexadecimal.
    pub salt: String,
    /// SHA-256 over the salt's bytes and the file's bytes.
    pub sha256: Sha256Hex,
    /// How it lies on disk.
    pub format: SecretFormat,
    /// The node id, where it can be derived without a passphrase.
    pub node_id: Option<String>,
}

/// Of `hsm_secret`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretFacts {
    /// How it lies on disk; `None` when it is in no valid form.
    pub format: Option<SecretFormat>,
    /// Length in bytes.
    pub length: u64,
    /// The node id, where it can be derived without a passphrase.
    pub node_id: Option<String>,
    /// Whether it is the attested one.
    pub attested: bool,
    /// The file as it lay on the host.
    pub live: LiveFile,
}

/// Of `emergency.recover`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmergencyFacts {
    /// Length in bytes.
    pub length: u64,
    /// What is in it; `None` when the secret does not open it without a passphrase.
    pub contents: Option<EmergencyContents>,
    /// The file as it lay on the host.
    pub live: LiveFile,
}

/// Which layout an `emergency.recover` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmergencyLayout {
    /// Message type 6135: no penalty data.
    Legacy,
    /// Message type 6137: with the peer's revoked secrets.
    Modern,
}

/// What is in an `emergency.recover`, without the peers' secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmergencyContents {
    /// Which layout it has.
    pub layout: EmergencyLayout,
    /// The version it names.
    pub version: u64,
    /// When the node wrote it, in seconds since 1970 (UTC).
    pub written: u32,
    /// Its channels, in its order.
    pub channels: Vec<EmergencyChannel>,
}

/// One channel of an `emergency.recover`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmergencyChannel {
    /// Full channel id.
    pub channel_id: String,
    /// The channel's row in the wallet.
    pub dbid: u64,
    /// The peer's node id.
    pub peer_id: String,
    /// Where the peer was last reached, `host:port`.
    pub address: String,
    /// Funding outpoint, `txid:output`.
    pub funding: String,
    /// Capacity, in satoshi.
    pub funding_sat: u64,
    /// Channel type: its feature bits.
    pub channel_type: String,
    /// How many commitments the peer has revoked; `None` in the legacy layout.
    pub revocations: Option<u64>,
    /// Whether we opened the channel; `None` in the legacy layout.
    pub opened_by_us: Option<bool>,
}

/// Of `lightningd.sqlite3`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalletFacts {
    /// What the node's state is.
    pub node: NodeState,
    /// Everything in the database, table by table.
    pub content: SqliteContent,
    /// Length of the copy in bytes.
    pub length: u64,
    /// The file it was copied from.
    pub live: LiveFile,
    /// How the copy went.
    pub copy: CopyStatistics,
}

/// A node's state as its wallet tells it. A field is `None` where this schema version has no such column or row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// Schema version (`version`); a lightningd that knows only older ones refuses it.
    pub schema_version: i64,
    /// `data_version`: grows by one with each committed transaction of one lineage.
    pub data_version: Option<i64>,
    /// The node id the database was made for.
    pub node_id: Option<String>,
    /// Hash of the chain's first block.
    pub genesis_hash: Option<String>,
    /// lightningd's name of that chain, where it is a known one.
    pub network: Option<String>,
    /// Highest block in `blocks`.
    pub block_height: Option<u64>,
    /// `last_processed_block`.
    pub last_processed_block: Option<i64>,
    /// Highest BIP32 address index handed out.
    pub bip32_max_index: Option<i64>,
    /// Highest BIP86 address index handed out.
    pub bip86_max_index: Option<i64>,
    /// All channels, closed ones too.
    pub channels: Vec<WalletChannel>,
    /// HTLCs that are not settled.
    pub htlcs: Vec<LiveHtlc>,
    /// Unfinished funding or splice transactions.
    pub inflights: Option<u64>,
    /// Unspent outputs of the on-chain wallet.
    pub unspent: Unspent,
    /// Number of invoices.
    pub invoices: Option<u64>,
    /// Number of payments.
    pub payments: Option<u64>,
    /// Peers with which there is or was a channel.
    pub peers: Vec<KnownPeer>,
}

/// One channel of a wallet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalletChannel {
    /// Full channel id; `None` in very old schemas and before funding.
    pub channel_id: Option<String>,
    /// The channel's row.
    pub dbid: i64,
    /// The peer's node id.
    pub peer_id: Option<String>,
    /// `block x transaction x output`, such as `110x1x0`.
    pub short_channel_id: Option<String>,
    /// State code; see [`state_name`].
    pub state: i64,
    /// Number of our next commitment; the one we can broadcast is one less.
    pub next_index_local: Option<u64>,
    /// Number of the peer's next commitment.
    pub next_index_remote: Option<u64>,
    /// Number of our next HTLC.
    pub next_htlc_id: Option<u64>,
    /// How many commitments the peer has revoked.
    pub revocations: Option<u64>,
    /// Funding outpoint, `txid:output`.
    pub funding: Option<String>,
    /// Capacity, in satoshi.
    pub funding_sat: Option<u64>,
    /// Our side, in millisatoshi.
    pub local_msat: Option<u64>,
    /// Whether the peer has proved that we have lost state (`future_per_commitment_point` is set).
    pub lost_state: Option<bool>,
    /// Whether our latest commitment transaction is stored.
    pub has_last_tx: Option<bool>,
}

/// An HTLC that is not settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveHtlc {
    /// The channel's row.
    pub channel_dbid: i64,
    /// Which way it goes.
    pub direction: HtlcDirection,
    /// Amount, in millisatoshi.
    pub msat: u64,
    /// Block height after which it times out.
    pub cltv_expiry: u64,
    /// Whether we know the preimage.
    pub has_preimage: bool,
}

/// Which way an HTLC goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HtlcDirection {
    /// Offered by the peer.
    Incoming,
    /// Offered by us.
    Outgoing,
}

/// Unspent outputs of the on-chain wallet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unspent {
    /// How many.
    pub outputs: u64,
    /// What they are worth together, in satoshi.
    pub sat: u64,
    /// Height of the oldest one: a rescan must begin there or below.
    pub oldest_height: Option<u64>,
}

/// A peer the wallet knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Its node id.
    pub node_id: String,
    /// The address of its last connection, as the node wrote it down.
    pub address: Option<String>,
    /// The address at which it was last reached by us, `host:port`.
    pub last_known_address: Option<String>,
}

/// Of a Core Lightning node's small files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtrasFacts {
    /// The folder they are relative to.
    pub lightning_dir: PathBuf,
    /// The files, each with the name it has in the tar.
    pub files: Vec<ExtraFile>,
}

/// One small file of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtraFile {
    /// Its name in the tar: the path relative to the lightning directory.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Hex,
    /// The file as it lay on the host.
    pub live: LiveFile,
}

/// A channel that is over for good; no copy of it can do harm.
pub const STATE_CLOSED: i64 = 10;
/// Channels that are being opened and are not yet funded for good: never stored, or not in `emergency.recover`.
pub const STATES_OPENING: [i64; 3] = [1, 11, 14];

/// lightningd's name of a channel state.
pub fn state_name(state: i64) -> &'static str {
    match state {
        1 => "DUALOPEND_OPEN_INIT",
        2 => "CHANNELD_AWAITING_LOCKIN",
        3 => "CHANNELD_NORMAL",
        4 => "CHANNELD_SHUTTING_DOWN",
        5 => "CLOSINGD_SIGEXCHANGE",
        6 => "CLOSINGD_COMPLETE",
        7 => "AWAITING_UNILATERAL",
        8 => "FUNDING_SPEND_SEEN",
        9 => "ONCHAIN",
        10 => "CLOSED",
        11 => "DUALOPEND_OPEN_COMMITTED",
        12 => "DUALOPEND_AWAITING_LOCKIN",
        13 => "CHANNELD_AWAITING_SPLICE",
        14 => "DUALOPEND_OPEN_COMMIT_READY",
        _ => "unknown",
    }
}
