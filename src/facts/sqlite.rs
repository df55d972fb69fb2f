//! What is known of a SQLite database and of the copy that was taken of it. Plain data; no I/O; nothing of the
//! database's content beyond counts and digests.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A file as it lay on the protected host: what a restore needs to put it back for the right owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFile {
    /// Where it lay.
    pub path: PathBuf,
    /// Its length in bytes when it was looked at.
    pub length: u64,
    /// Permission bits, such as `0o400`.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Owner's name, where the host knew one; numbers differ between hosts.
    pub owner: Option<String>,
    /// Group's number.
    pub gid: u32,
    /// Group's name, where the host knew one.
    pub group: Option<String>,
    /// Last modification, in seconds since 1970 (UTC).
    pub modified: i64,
}

/// How a database keeps its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalMode {
    /// A rollback journal: readers and the writer's commit exclude each other.
    Rollback,
    /// A write-ahead log: readers hold nobody up.
    Wal,
}

/// How the copy went; differs from run to run and says nothing of the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStatistics {
    /// The source's journal mode.
    pub mode: JournalMode,
    /// Pages in the copy.
    pub pages: u64,
    /// Bytes per page.
    pub page_bytes: u32,
    /// How often the lock was held.
    pub holds: u32,
    /// How often a writer's commit between two holds made the copy begin again.
    pub restarts: u32,
    /// The longest single hold, in milliseconds, rounded up. In WAL mode the reading time, which holds nobody up.
    pub longest_hold_ms: u64,
    /// All holds together, in milliseconds, rounded up.
    pub total_hold_ms: u64,
    /// Whether the file was read into the page cache beforehand, in a process of its own.
    pub warmed: bool,
}

/// One table: how many rows, and what is in them regardless of their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Number of rows.
    pub rows: u64,
    /// XXH3-128 of every row (column types, lengths and bytes), summed modulo 2^128; 32 hexadecimal digits.
    pub digest: String,
}

/// What a database holds. Equal for two databases exactly when they are equal row for row and in their schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteContent {
    /// Tables by name; virtual tables appear by the ordinary tables they are kept in.
    pub tables: BTreeMap<String, TableFacts>,
    /// SHA-256 over the sorted definitions of all tables, indexes, views and triggers.
    pub schema_sha256: String,
    /// `PRAGMA application_id`.
    pub application_id: i64,
    /// `PRAGMA user_version`.
    pub user_version: i64,
}

/// Of a SQLite database that is not a node's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SqliteFacts {
    /// What it holds.
    pub content: SqliteContent,
    /// Length of the copy in bytes.
    pub length: u64,
    /// The file it was copied from.
    pub live: LiveFile,
    /// How the copy went.
    pub copy: CopyStatistics,
}
