//! What a regular file is, by its content and never by its name. Reads through the descriptor that is open already;
//! opens nothing, asks for locks without taking any (one shared lock on a bolt file is given back at once).

use super::bolt;
use super::sqlite_schema;
use super::state::{self, Found};
use crate::artifact::channels::{self, NodeSoftware};
use crate::base::flock::Locked;
use rustix::fd::BorrowedFd;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::process::{Flock, FlockOffsetType, FlockType};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;

/// What is done with a bolt database that another process holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources) enum LockedBolt {
    /// It fails the source.
    Refuse,
    /// It is taken if it did not change while it was read: LND holds its `wallet.db` open for as long as it runs,
    /// and writes it rarely.
    TakeIfStable,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Taken as it is.
    Plain,
    /// A SQLite database that nobody is using; looked at again after it was read.
    IdleSqlite,
    Toxic(&'static str),
    Live(&'static str, &'static str),
    Unclear(&'static str),
}

/// What a file is that is about to be put somewhere, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing that a node would start on.
    Harmless,
    /// A node's channel state.
    Toxic(&'static str),
    /// A database that cannot be read, so that it could be anything.
    Unclear(&'static str),
    /// Channel state, or what may be that, of a kind that older versions of this program took for plain files.
    TakenBefore(&'static str),
}

/// Judges a file that nobody else uses, by its content alone.
pub fn content(file: &File) -> Content {
    if sqlite_schema::is_sqlite(file) {
        return match sqlite_schema::tables(file) {
            Some(tables) => {
                let told = channels::by_tables(tables.iter().map(String::as_str));
                told.map_or(Content::Harmless, |told| of_node(told.software))
            }
            None => Content::Unclear("a SQLite database"),
        };
    }
    if bolt::is_bolt(file) {
        return match bolt::buckets(file) {
            Some(buckets) => node_by_buckets(&buckets).map_or(Content::Harmless, Content::Toxic),
            None => Content::Unclear("a bolt database"),
        };
    }
    match state::look(file) {
        Some(Found::State(software)) => of_node(software),
        Some(Found::Unclear(what)) => Content::TakenBefore(what),
        None => Content::Harmless,
    }
}

fn of_node(software: NodeSoftware) -> Content {
    let known = if software.is_always_refused() { Content::Toxic } else { Content::TakenBefore };
    known(software.state())
}

const SQLITE_REMEDY: &str = "back it up by a source of kind sqlite";
const BOLT_REMEDY: &str = "back it up while its owner is stopped";
/// The bytes SQLite locks, the same in every database (pending, reserved and shared; sqlite.org "File Locking").
const SQLITE_LOCKS: (u64, u64) = (0x4000_0000, 512);

/// Judges an open file that stands in `folder` under `name`.
pub(super) fn screen(file: &File, folder: BorrowedFd<'_>, name: &OsStr, bolt_rule: LockedBolt) -> Verdict {
    if sqlite_schema::is_sqlite(file) {
        return screen_sqlite(file, folder, name);
    }
    if bolt::is_bolt(file) {
        return screen_bolt(file, bolt_rule);
    }
    match state::look(file) {
        Some(Found::State(software)) => Verdict::Toxic(software.state()),
        Some(Found::Unclear(what)) => Verdict::Unclear(what),
        None => Verdict::Plain,
    }
}

fn screen_sqlite(file: &File, folder: BorrowedFd<'_>, name: &OsStr) -> Verdict {
    let is_in_use = sqlite_in_use(file, folder, name);
    // A writer may be at work on the pages that are read here; what is torn once is seldom torn three times.
    let tables = (0..3).find_map(|_| sqlite_schema::tables(file));
    match (tables, is_in_use) {
        (Some(tables), in_use) => match (node_by_tables(&tables), in_use) {
            (Some(node), _) => Verdict::Toxic(node),
            (None, Some(how)) => Verdict::Live(how, SQLITE_REMEDY),
            (None, None) => Verdict::IdleSqlite,
        },
        (None, Some(how)) => Verdict::Live(how, SQLITE_REMEDY),
        (None, None) => Verdict::Unclear("a SQLite database"),
    }
}

/// How it can be seen that a SQLite database is in use; `None` when nothing tells so.
fn sqlite_in_use(file: &File, folder: BorrowedFd<'_>, name: &OsStr) -> Option<&'static str> {
    let beside = [
        ("-wal", "a SQLite database in use (its -wal file lies beside it)"),
        ("-journal", "a SQLite database in use (its -journal file lies beside it)"),
        ("-shm", "a SQLite database in use (its -shm file lies beside it)"),
    ];
    for (ending, how) in beside {
        let mut companion = OsString::from(name);
        companion.push(ending);
        match rustix::fs::statat(folder, &companion, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            // Whatever else this means, its absence was not shown.
            _ => return Some(how),
        }
    }
    let (start, length) = SQLITE_LOCKS;
    let wanted = Flock { start, length, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    match rustix::process::fcntl_getlk(file, &wanted) {
        Ok(None) => None,
        Ok(Some(_)) => Some("a SQLite database in use (another process holds a lock on it)"),
        Err(_) => Some("a SQLite database, perhaps in use (its locks cannot be asked for)"),
    }
}

fn node_by_tables(tables: &HashSet<String>) -> Option<&'static str> {
    channels::by_tables(tables.iter().map(String::as_str)).map(|told| told.software.state())
}

fn screen_bolt(file: &File, rule: LockedBolt) -> Verdict {
    let buckets = (0..3).find_map(|_| bolt::buckets(file));
    // Given back at once.
    let is_locked = Locked::shared(file).is_err();
    if let Some(node) = buckets.as_ref().and_then(node_by_buckets) {
        return Verdict::Toxic(node);
    }
    if is_locked && rule == LockedBolt::Refuse {
        return Verdict::Live("a bolt database that another process holds open", BOLT_REMEDY);
    }
    if buckets.is_none() { Verdict::Unclear("a bolt database") } else { Verdict::Plain }
}

fn node_by_buckets(buckets: &HashSet<Vec<u8>>) -> Option<&'static str> {
    channels::by_buckets(buckets.iter().map(Vec::as_slice))
}
