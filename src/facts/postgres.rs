//! What is known of a PostgreSQL database and its cluster: enough to prove a restored copy row for row, to make a
//! database that the dump fits into, and to see what lies between two moments (the high-water marks). Plain data.
//! Never holds row contents, passwords or key material.

mod rights;

pub use rights::{DatabaseRights, DefaultRights, Grant, ObjectRights, Rights, Setting};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is known of one dumped database, all of it under the dump's own snapshot unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// The database's real name; the artifact's name may be an encoding of it.
    pub name: String,
    /// The server it was dumped from.
    pub server: ServerVersion,
    /// The version of `pg_dump`, as the archive's header gives it.
    pub pg_dump: String,
    /// The version of the archive format, such as `1.14`.
    pub archive_version: String,
    /// Length of the dump in bytes.
    pub dump_bytes: u64,
    /// The encoding of the dump's text, which is the database's: what the digests were taken in.
    pub encoding: String,
    /// `LC_COLLATE` of the database.
    pub collation: String,
    /// `LC_CTYPE` of the database.
    pub ctype: String,
    /// Who provides its collation: `libc`, `icu` or `builtin`.
    pub locale_provider: String,
    /// The provider's own locale where it is not `libc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The role that owns the database.
    pub owner: String,
    /// Every role that owns something in the database or holds a right there; a restore needs them to exist.
    pub roles: Vec<String>,
    /// Installed extensions.
    pub extensions: Vec<ExtensionFacts>,
    /// The software whose tables these are.
    pub software: Software,
    /// Why the dump is toxic: the tables of a node's channel state that are in it, qualified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel_tables: Vec<String>,
    /// Size of the database on the server's disk in bytes, indexes included; not under the snapshot.
    pub size_bytes: u64,
    /// Every table whose rows are in the dump, in the archive's order.
    pub tables: Vec<TableFacts>,
    /// Every sequence, with the value the dump sets. Sequences are not transactional: the value may be newer than
    /// the snapshot, never older.
    pub sequences: Vec<SequenceFacts>,
    /// Every materialised view.
    pub materialized_views: Vec<MaterializedViewFacts>,
    /// Large objects, all together.
    pub large_objects: LargeObjectFacts,
    /// High-water marks of the software.
    pub marks: Marks,
    /// Owners, rights and parts; absent in notes of versions that did not take them down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
}

/// A server's version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerVersion {
    /// `server_version_num`, such as 150018.
    pub number: u32,
    /// `server_version`, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub text: String,
}

impl ServerVersion {
    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.number / 10_000
    }
}

/// An installed extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The software whose tables a database holds; recognised by tables, never by the database's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Software {
    /// BTCPay Server.
    Btcpay,
    /// NBXplorer.
    Nbxplorer,
    /// MedusaJS.
    Medusa,
    /// Core Lightning: toxic.
    Cln,
    /// LND: toxic.
    Lnd,
    /// Something else.
    None,
}

/// One table of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Rows in the dump.
    pub rows: u64,
    /// Content digest of the rows, in any order.
    pub digest: ContentDigest,
    /// The columns whose values are in the dump, in order; generated columns are not among them.
    pub columns: Vec<String>,
    /// The extension it belongs to: the dump holds only the rows its owner added, so a restored copy has more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
}

/// One sequence of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The last value.
    pub last_value: i64,
    /// Whether that value was handed out already.
    pub is_called: bool,
}

/// One materialised view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaterializedViewFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it holds rows; a restore fills it again.
    pub populated: bool,
    /// Digest of its query as the server prints it. Kept for readers of older versions; it is compared with nothing,
    /// because a server prints a query differently after a dump and a restore.
    #[serde(default)]
    pub definition: ContentDigest,
    /// `name type` of each column.
    pub columns: Vec<String>,
}

/// All large objects of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LargeObjectFacts {
    /// How many.
    pub count: u64,
    /// Content digest over number and content of each, in any order.
    pub digest: ContentDigest,
}

/// The sum modulo 2^128 of a 128-bit hash (XXH3) of each row or object: equal for equal contents in any order. Finds
/// damage and loss; it is no defence against somebody who forges rows on purpose (the segments' digests are).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentDigest(u128);

impl ContentDigest {
    /// Of this sum.
    pub fn new(sum: u128) -> Self {
        Self(sum)
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex {
            return Err(BadDigest);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| BadDigest)
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = BadDigest;
    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> Self {
        digest.to_string()
    }
}

/// The text is not a content digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a content digest has 32 hexadecimal digits")]
pub struct BadDigest;

/// High-water marks: how far the software had come. A mark that is absent could not be learned, because the table
/// or a column is not there in this version of the software.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Marks {
    /// Of BTCPay Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub btcpay: Option<BtcpayMarks>,
    /// Of NBXplorer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbxplorer: Option<NbxplorerMarks>,
}

/// High-water marks of BTCPay Server. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BtcpayMarks {
    /// Number of invoices.
    pub invoices: Option<u64>,
    /// When the newest invoice was made.
    pub newest_invoice: Option<String>,
    /// Invoices by status and exception status.
    pub invoices_by_status: Option<Vec<InvoiceCount>>,
    /// Invoices that wait for a payment or for its confirmation.
    pub invoices_unsettled: Option<u64>,
    /// Number of payments.
    pub payments: Option<u64>,
    /// When the newest payment was seen.
    pub newest_payment: Option<String>,
    /// Payments that wait for confirmation.
    pub payments_unsettled: Option<u64>,
    /// The newest schema migration.
    pub newest_migration: Option<String>,
    /// Payouts by state.
    pub payouts_by_state: Option<Vec<StateCount>>,
    /// Automated payout processors that are set up: with payouts pending, an old queue would pay twice.
    pub payout_processors: Option<u64>,
    /// Webhooks and invoices whose newest delivery did not succeed, within the seven days before the newest delivery.
    pub webhooks_undelivered: Option<u64>,
    /// When the newest webhook delivery was made.
    pub newest_webhook_delivery: Option<String>,
}

/// How many invoices are in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceCount {
    /// `New`, `Processing`, `Settled`, `Expired` or `Invalid`; older versions have others.
    pub status: String,
    /// Empty, `PaidPartial`, `PaidOver`, `PaidLate` or `Marked`.
    pub exception: String,
    /// How many.
    pub count: u64,
}

/// How many payouts are in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCount {
    /// `AwaitingApproval`, `AwaitingPayment`, `InProgress`, `Completed` or `Cancelled`.
    pub state: String,
    /// How many.
    pub count: u64,
}

/// High-water marks of NBXplorer.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NbxplorerMarks {
    /// Keys of hot wallets kept in the database in clear: their number, never their content. Where there are any,
    /// the dump is as precious as `hsm_secret`.
    pub hot_wallet_keys: Option<u64>,
    /// How far each descriptor's addresses were derived and used.
    pub descriptors: Option<Vec<DescriptorMark>>,
    /// The height of the newest confirmed block in its tables.
    pub height: Option<u64>,
    /// Whether a sync position is stored for the block chain.
    pub has_block_locator: Option<bool>,
    /// The newest schema migration.
    pub newest_migration: Option<String>,
}

/// How far one descriptor has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorMark {
    /// The currency, such as `BTC`.
    pub code: String,
    /// NBXplorer's id of the descriptor (a hash, not the descriptor's keys).
    pub descriptor: String,
    /// The next index to be derived.
    pub next_index: i64,
    /// The largest index that was handed out or paid to.
    pub max_used_index: Option<i64>,
}

/// What is known of the roles and grants of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalsFacts {
    /// The server.
    pub server: ServerVersion,
    /// All roles but the predefined ones.
    pub roles: Vec<RoleFacts>,
    /// Whether password verifiers are in the artifact.
    pub passwords: Passwords,
    /// Length in bytes.
    pub bytes: u64,
}

/// One role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// Those of `superuser`, `createrole`, `createdb`, `login`, `replication`, `bypassrls` that it has.
    pub attributes: Vec<String>,
}

/// Whether password verifiers could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Passwords {
    /// They are in the artifact, hashed as the server keeps them.
    Included,
    /// The role that took the backup may not read them; they must be set anew after a restore.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_32_digits_there_and_back() {
        let digest = ContentDigest::new(0xab);
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(text, "\"000000000000000000000000000000ab\"");
        assert_eq!(serde_json::from_str::<ContentDigest>(&text).unwrap(), digest);
        for bad in ["", "+00000000000000000000000000000ab", "ab", "000000000000000000000000000000abc"] {
            assert!(bad.parse::<ContentDigest>().is_err(), "{bad}");
        }
    }
}
