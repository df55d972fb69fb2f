//! A live wallet is copied while another process commits to it without pause, as a busy node does: no commit fails, and
//! the copy is the wallet as it was after one of the commits.

use crate::support::env::TestEnv;
use crate::tables::{child, wallet};
use relay_backup::base::interrupt::Interrupt;
use relay_backup::facts::sqlite::{CopyStatistics, JournalMode};
use relay_backup::sandbox::node::load::{self, Written};
use relay_backup::sources::sqlite::{CopyOptions, LockBudget, Scratch, SqliteError, copy};
use std::time::Duration;

const MIB: u64 = 1024 * 1024;
/// How often a copy is tried that a busy machine makes too slow for the budget: as the next run of a timer would.
const TRIES: u32 = 6;

#[test]
#[ignore = "the writer's process; the tests of this file start it"]
fn writer() {
    child::write();
}

/// The arguments that run it.
pub(super) fn writer_arguments() -> Vec<String> {
    ["faults::wallet::writer", "--exact", "--ignored", "--nocapture"].map(str::to_owned).to_vec()
}

/// Copies a wallet of this size beside a writer.
#[track_caller]
fn copied(mode: &str, bytes: u64, budget: LockBudget) -> CopyStatistics {
    let env = TestEnv::new();
    let database = wallet::wallet(&env.path("lightning"), bytes, mode);
    let writer = child::writer(&writer_arguments(), &database);
    let interrupt = Interrupt::new();
    let options = CopyOptions { scratch: Scratch::Folder(&env.path("tmp")), budget, interrupt: &interrupt };
    let is_given_up = |result: &Result<_, SqliteError>| matches!(result, Err(SqliteError::Budget { .. }));
    let copy = (1..TRIES)
        .map(|_| copy(&database, options))
        .find(|result| !is_given_up(result))
        .unwrap_or_else(|| copy(&database, options));
    let written: Written = writer.end();
    assert_eq!(written.failures, 0, "{written:?}");
    let copy = copy.unwrap();
    let (version, before) = load::check_copy(copy.connection()).unwrap();
    assert!(version > before, "the copy is from before the writer began");
    assert!(version <= before + written.commits, "{version}, {before}, {written:?}");
    assert!(copy.length() >= bytes * 9 / 10, "{}", copy.length());
    copy.statistics().clone()
}

#[test]
fn a_large_wallet_under_a_writer_without_pause_is_copied_exactly_and_no_commit_fails() {
    let budget = LockBudget::default();
    let lock = copied("delete", 1024 * MIB, budget);
    assert_eq!(lock.mode, JournalMode::Rollback);
    assert!(u128::from(lock.longest_hold_ms) <= budget.hold_max.as_millis(), "{lock:?}");
}

#[test]
fn where_the_commits_restart_the_copy_one_longer_hold_ends_it() {
    // Far too short for this wallet: a commit falls between the holds.
    let budget = LockBudget { hold: Duration::from_millis(10), ..LockBudget::default() };
    let lock = copied("delete", 96 * MIB, budget);
    assert!(lock.restarts >= 1, "{lock:?}");
    assert!(u128::from(lock.longest_hold_ms) <= budget.hold_max.as_millis(), "{lock:?}");
}

#[test]
fn a_wallet_in_wal_mode_is_copied_exactly_while_it_grows() {
    let lock = copied("wal", 256 * MIB, LockBudget::default());
    assert_eq!((lock.mode, lock.holds, lock.restarts), (JournalMode::Wal, 1, 0));
}
