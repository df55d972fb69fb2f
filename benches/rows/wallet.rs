//! A wallet of a busy node's size, copied by the program's own method while another process commits to it without
//! pause: how long the copy held the lock, and what the writer saw of it.

use super::{Options, child};
use relay_backup::base::interrupt::Interrupt;
use relay_backup::sandbox::node::load::{self, Written};
use relay_backup::sandbox::node::{Moment, Wallet};
use relay_backup::sources::sqlite::{CopyOptions, LockBudget, Scratch, SqliteError, copy};
use rusqlite::Connection;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How often each copy is made.
const RUNS: usize = 3;

/// Measures and prints.
pub(crate) fn table(options: &Options, out: &mut dyn Write) {
    let budget = LockBudget::default();
    writeln!(
        out,
        "\nA Core Lightning wallet of {} MiB, the lock budget {} ms, at most {} ms once. The writer changes seven rows a \
         transaction and waits at most 5 s for the lock.\n",
        options.wallet,
        budget.hold.as_millis(),
        budget.hold_max.as_millis()
    )
    .unwrap();
    writeln!(
        out,
        "| wallet | copy | holds | restarts | longest ms | total ms | wall s | commits | failed | longest ms |"
    )
    .unwrap();
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|").unwrap();
    for mode in ["delete", "wal"] {
        let folder = tempfile::Builder::new().prefix("relay-backup-bench-").tempdir().unwrap();
        let database = wallet(folder.path(), options.wallet * 1024 * 1024, mode);
        row(out, &format!("{mode}, no writer"), &database, None);
        for _ in 0..RUNS {
            row(out, &format!("{mode}, a writer"), &database, Some(&(options.child)("writer")));
        }
    }
}

/// A node's wallet of so many bytes, in one of SQLite's journal modes.
pub(crate) fn wallet(folder: &Path, bytes: u64, mode: &str) -> PathBuf {
    let mut wallet = Wallet::create(folder).unwrap();
    wallet.live_until(Moment::AfterPayments).unwrap();
    load::grow(&wallet.database(), bytes).unwrap();
    let connection = Connection::open(wallet.database()).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(())).unwrap();
    wallet.database()
}

fn row(out: &mut dyn Write, name: &str, database: &Path, writer: Option<&[String]>) {
    let writer = writer.map(|arguments| child::writer(arguments, database));
    let interrupt = Interrupt::new();
    let folder = database.parent().unwrap();
    let options =
        CopyOptions { scratch: Scratch::Folder(folder), budget: LockBudget::default(), interrupt: &interrupt };
    let begin = Instant::now();
    let copy = copy(database, options);
    let wall = begin.elapsed().as_secs_f64();
    let written: Written = writer.map(child::Child::end).unwrap_or_default();
    let (said, figures) = match copy {
        Ok(copy) => {
            let lock = copy.statistics();
            let figures = [u64::from(lock.holds), u64::from(lock.restarts), lock.longest_hold_ms, lock.total_hold_ms];
            // A copy that is not exact ends the benchmark: its figures would mean nothing.
            load::check_copy(copy.connection()).unwrap();
            ("exact".to_owned(), figures.map(|figure| figure.to_string()))
        }
        Err(error @ SqliteError::Budget { .. }) => {
            // Not a failure of the method on a machine that is too slow; the row says so.
            (format!("given up: {error}"), ["-"; 4].map(str::to_owned))
        }
        Err(error) => panic!("{error}"),
    };
    let [holds, restarts, longest, total] = figures;
    let Written { commits, failures, longest_ms } = written;
    writeln!(
        out,
        "| {name} | {said} | {holds} | {restarts} | {longest} | {total} | {wall:.2} | {commits} | {failures} | {longest_ms} |"
    )
    .unwrap();
}
