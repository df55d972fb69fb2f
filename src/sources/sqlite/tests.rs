//! Copies of real databases with real writers. No time is asserted except that a writer never waits in vain.

use super::*;
use crate::base::ids::Sha256Hex;
use crate::facts::sqlite::JournalMode;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn options<'a>(folder: &'a Path, interrupt: &'a Interrupt) -> CopyOptions<'a> {
    CopyOptions { scratch: Scratch::Folder(folder), budget: LockBudget::default(), interrupt }
}

/// A database with this many rows of 2000 bytes.
fn database(folder: &Path, rows: u32) -> PathBuf {
    let path = folder.join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, filler BLOB); BEGIN").unwrap();
    for _ in 0..rows {
        connection.execute("INSERT INTO t (version, filler) VALUES (0, randomblob(2000))", []).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    path
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The copy's bytes, opened as a database of their own.
fn reopened(copy: &mut Copy, folder: &Path) -> (Connection, PathBuf) {
    let path = folder.join("restored.db");
    let mut bytes = Vec::new();
    copy.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, copy.length());
    std::fs::write(&path, bytes).unwrap();
    (Connection::open(&path).unwrap(), path)
}

#[test]
fn a_small_and_a_large_copy_equal_the_database_and_leave_nothing_behind() {
    for rows in [10, 12_000] {
        let folder = tempfile::tempdir().unwrap();
        let restored = tempfile::tempdir().unwrap();
        let path = database(folder.path(), rows);
        let interrupt = Interrupt::new();
        let mut copy = copy(&path, options(folder.path(), &interrupt)).unwrap();
        assert_eq!(names(folder.path()), ["app.db"], "no scratch file has a name");
        let (connection, _) = reopened(&mut copy, restored.path());
        let live = content(&Connection::open(&path).unwrap(), &interrupt).unwrap();
        assert_eq!(content(&connection, &interrupt).unwrap(), live);
        assert_eq!(content(copy.connection(), &interrupt).unwrap(), live);
        assert_eq!(live.tables["t"].rows, u64::from(rows));
        assert_eq!(copy.statistics().mode, JournalMode::Rollback);
        assert_eq!(copy.statistics().restarts, 0);
        assert!(copy.statistics().warmed && copy.statistics().holds >= 1);
    }
}

#[test]
fn other_page_sizes_are_kept() {
    for page in [512, 1024, 65536] {
        for rows in [5, 9_000] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("app.db");
            let connection = Connection::open(&path).unwrap();
            connection.pragma_update(None, "page_size", page).unwrap();
            connection
                .execute_batch(&format!(
                    "CREATE TABLE t (b BLOB);
                     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                     INSERT INTO t SELECT randomblob(2100) FROM n"
                ))
                .unwrap();
            let interrupt = Interrupt::new();
            let mut copy = copy(&path, options(folder.path(), &interrupt)).unwrap();
            assert_eq!(copy.statistics().page_bytes, page);
            let restored = tempfile::tempdir().unwrap();
            let (copied, _) = reopened(&mut copy, restored.path());
            assert_eq!(content(&copied, &interrupt).unwrap(), content(&connection, &interrupt).unwrap());
        }
    }
}

/// Commits as fast as it can, each time all rows of a group at once, until told to stop; returns the commits.
fn write_until(path: &Path, stop: &AtomicBool, pause: Duration) -> u64 {
    let mut connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut commits = 0;
    while !stop.load(Ordering::SeqCst) {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        transaction.execute("UPDATE t SET version = version + 1 WHERE id % 100 = 0", []).unwrap();
        transaction.commit().expect("no writer with a busy timeout of 5 s may fail");
        commits += 1;
        std::thread::sleep(pause);
    }
    commits
}

fn copy_beside_a_writer(rows: u32, budget: LockBudget, pause: Duration) -> (Result<i64, SqliteError>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path(), rows);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&path, &stop, pause));
        std::thread::sleep(Duration::from_millis(100));
        let interrupt = Interrupt::new();
        let result =
            copy(&path, CopyOptions { scratch: Scratch::Folder(folder.path()), budget, interrupt: &interrupt });
        stop.store(true, Ordering::SeqCst);
        let commits = writer.join().unwrap();
        let committed = result.map(|copy| {
            let query = "SELECT min(version), max(version), count(*) FROM t WHERE id % 100 = 0";
            let read =
                |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, u32>(2)?));
            let (least, most, count) = copy.connection().query_row(query, [], read).unwrap();
            assert_eq!((least, count), (most, rows / 100), "the copy is of one committed state");
            assert!(least.unsigned_abs() <= commits);
            least
        });
        (committed, commits)
    })
}

#[test]
fn a_busy_writer_never_fails_and_the_copy_is_a_committed_state() {
    let (state, commits) = copy_beside_a_writer(12_000, LockBudget::default(), Duration::from_millis(3));
    assert!(state.unwrap() > 0 && commits > 0);
}

#[test]
fn where_commits_restart_the_copy_one_longer_hold_does_it() {
    let budget = LockBudget { hold: Duration::from_millis(4), hold_max: Duration::from_secs(5) };
    let (state, _) = copy_beside_a_writer(30_000, budget, Duration::from_millis(3));
    assert!(state.unwrap() > 0);
}

#[test]
fn beyond_the_budget_the_error_names_figures_and_the_remedy() {
    let budget = LockBudget { hold: Duration::from_millis(2), hold_max: Duration::from_millis(4) };
    let (state, commits) = copy_beside_a_writer(30_000, budget, Duration::from_millis(3));
    let error = state.unwrap_err();
    assert!(matches!(error, SqliteError::Budget { restarts: 3.., allowed_ms: 4, .. }), "{error}");
    assert!(error.hint().unwrap().contains("lock_budget_max"));
    assert!(commits > 0);
}

#[test]
fn restarts_between_holds_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path(), 12_000);
    let stop = AtomicBool::new(false);
    let budget = LockBudget { hold: Duration::from_millis(1), hold_max: Duration::from_secs(5) };
    let statistics = std::thread::scope(|scope| {
        scope.spawn(|| write_until(&path, &stop, Duration::from_millis(2)));
        std::thread::sleep(Duration::from_millis(50));
        let interrupt = Interrupt::new();
        let result =
            copy(&path, CopyOptions { scratch: Scratch::Folder(folder.path()), budget, interrupt: &interrupt });
        stop.store(true, Ordering::SeqCst);
        result.unwrap().statistics().clone()
    });
    assert!(statistics.restarts >= 1 && statistics.holds > statistics.restarts, "{statistics:?}");
    assert!(statistics.total_hold_ms >= statistics.longest_hold_ms);
}

#[test]
fn wal_is_copied_in_one_transaction_beside_a_writer() {
    for rows in [500, 12_000] {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path(), rows);
        let owner = Connection::open(&path).unwrap();
        owner.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        owner.execute("UPDATE t SET version = 7", []).unwrap();
        let interrupt = Interrupt::new();
        let mut copy = copy(&path, options(folder.path(), &interrupt)).unwrap();
        assert_eq!((copy.statistics().mode, copy.statistics().holds), (JournalMode::Wal, 1));
        assert_eq!(names(folder.path()), ["app.db", "app.db-shm", "app.db-wal"]);
        owner.execute("UPDATE t SET version = 8", []).unwrap();
        let restored = tempfile::tempdir().unwrap();
        let (connection, restored_path) = reopened(&mut copy, restored.path());
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal", "the restored database keeps its mode");
        let versions: (i64, i64) = connection
            .query_row("SELECT min(version), max(version) FROM t", [], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap();
        assert_eq!(versions, (7, 7), "what was only in the log is in the copy");
        drop(connection);
        let facts = SqliteFacts {
            content: content(copy.connection(), &interrupt).unwrap(),
            length: copy.length(),
            live: live_file(&path).unwrap(),
            copy: copy.statistics().clone(),
        };
        assert_eq!(check("app/app.db", &restored_path, &facts, &interrupt), []);
    }
}

#[test]
fn a_closed_wal_database_is_copied_and_nothing_is_made_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path(), 5);
    let owner = Connection::open(&path).unwrap();
    owner.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    owner.execute("UPDATE t SET version = 7", []).unwrap();
    owner.close().unwrap();
    let interrupt = Interrupt::new();
    let mut copy = copy(&path, options(folder.path(), &interrupt)).unwrap();
    assert_eq!(names(folder.path()), ["app.db"]);
    assert_eq!((copy.statistics().mode, copy.statistics().holds), (JournalMode::Wal, 0));
    let mut bytes = Vec::new();
    copy.write_to(&mut bytes).unwrap();
    assert_eq!(bytes, std::fs::read(&path).unwrap(), "such a copy is equal byte for byte");
    assert_eq!(content(copy.connection(), &interrupt).unwrap().tables["t"].rows, 5);
}

#[test]
fn a_log_left_by_a_crash_is_read_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path(), 5);
    let owner = Connection::open(&path).unwrap();
    owner.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    owner.execute("UPDATE t SET version = 7", []).unwrap();
    // What a power cut leaves: the file and its log, without the index of the log.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["app.db", "app.db-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let left = crashed.path().join("app.db");
    let before = (std::fs::read(&left).unwrap(), std::fs::read(crashed.path().join("app.db-wal")).unwrap());
    let interrupt = Interrupt::new();
    let copy = copy(&left, options(crashed.path(), &interrupt)).unwrap();
    let version: i64 = copy.connection().query_row("SELECT min(version) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 7, "what was committed in the log is in the copy");
    let after = (std::fs::read(&left).unwrap(), std::fs::read(crashed.path().join("app.db-wal")).unwrap());
    assert!(before == after);
}

#[test]
fn a_hot_journal_is_refused_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path(), 3000);
    // What a power cut in the middle of a large transaction leaves: the file and its journal, and nobody's lock.
    let writer = Connection::open(&path).unwrap();
    writer.pragma_update(None, "cache_size", 5).unwrap();
    writer.execute_batch("BEGIN; UPDATE t SET filler = randomblob(2000)").unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let left = crashed.path().join("app.db");
    std::fs::copy(&path, &left).unwrap();
    std::fs::copy(folder.path().join("app.db-journal"), crashed.path().join("app.db-journal")).unwrap();
    let before = std::fs::read(&left).unwrap();
    let interrupt = Interrupt::new();
    let error = copy(&left, options(crashed.path(), &interrupt)).unwrap_err();
    assert!(matches!(error, SqliteError::HotJournal { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("never delete"));
    assert_eq!(names(crashed.path()), ["app.db", "app.db-journal"]);
    assert_eq!(std::fs::read(&left).unwrap(), before);
}

#[test]
fn what_is_no_whole_database_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let interrupt = Interrupt::new();
    let refused = |path: &Path| copy(path, options(folder.path(), &interrupt)).unwrap_err();
    let gone = folder.path().join("gone.db");
    assert!(matches!(refused(&gone), SqliteError::Look { .. }));
    assert!(!gone.exists(), "nothing is created");
    assert!(matches!(refused(folder.path()), SqliteError::NotRegular { .. }));
    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(refused(&empty), SqliteError::Empty { .. }));
    let fence = folder.path().join("fence.db");
    std::fs::write(&fence, "A restore is under way.\n".repeat(20)).unwrap();
    assert!(matches!(refused(&fence), SqliteError::NotADatabase { .. }));
    let path = database(folder.path(), 100);
    let bytes = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut.db");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let error = refused(&cut);
    assert!(matches!(error, SqliteError::Truncated { .. }), "{error}");
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0x5a);
    let broken = folder.path().join("broken.db");
    std::fs::write(&broken, damaged).unwrap();
    let error = refused(&broken);
    assert!(matches!(error, SqliteError::Corrupt { .. } | SqliteError::Read { .. }), "{error}");
}

#[test]
fn a_database_that_stays_locked_and_an_interrupt_end_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path(), 10);
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let interrupt = Interrupt::new();
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&path, options(folder.path(), &interrupt)).map(drop));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!copying.is_finished(), "it waits for the writer");
        interrupt.set();
        assert!(matches!(copying.join().unwrap(), Err(SqliteError::Interrupted { .. })));
    });
}

struct Shelf(Vec<(ArtifactSpec, Vec<u8>, Facts)>);

impl Sink for Shelf {
    fn artifact(&mut self, spec: ArtifactSpec, body: crate::sources::Body<'_>) -> Result<(), SourceError> {
        let mut bytes = Vec::new();
        let facts = body(&mut bytes)?;
        self.0.push((spec, bytes, facts));
        Ok(())
    }

    fn finding(&mut self, finding: crate::report::Finding) {
        panic!("{finding:?}");
    }
}

#[test]
fn a_plain_database_becomes_one_artifact_that_checks() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path(), 50);
    let odd = folder.path().join(".my base.db");
    std::fs::rename(&path, &odd).unwrap();
    let interrupt = Interrupt::new();
    let mut shelf = Shelf(Vec::new());
    read(&odd, &"shop".parse().unwrap(), Codec::Zstd, options(folder.path(), &interrupt), &mut shelf).unwrap();
    let (spec, bytes, facts) = &shelf.0[0];
    assert_eq!(spec.name.as_str(), "shop/my_base.db");
    assert_eq!(spec.toxicity, Toxicity::Harmless);
    let Facts::Sqlite(facts) = facts else { panic!("{facts:?}") };
    let restored = folder.path().join("restored.db");
    std::fs::write(&restored, bytes).unwrap();
    assert_eq!(check("shop/my_base.db", &restored, facts, &interrupt), []);
    let changed = Connection::open(&restored).unwrap();
    changed.execute("UPDATE t SET version = 1 WHERE id = 7", []).unwrap();
    changed.close().unwrap();
    let findings = check("shop/my_base.db", &restored, facts, &interrupt);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("other ones"), "{findings:?}");
    let text = serde_json::to_string(facts).unwrap();
    assert_eq!(serde_json::from_str::<SqliteFacts>(&text).unwrap(), *facts);
}

#[test]
fn a_nodes_database_does_not_check_whatever_the_notes_say() {
    let folder = tempfile::tempdir().unwrap();
    let restored = folder.path().join("restored.db");
    let node = Connection::open(&restored).unwrap();
    for table in ["vars", "version", "channels", "channel_htlcs", "shachains"] {
        node.execute(&format!("CREATE TABLE {table} (id INTEGER)"), []).unwrap();
    }
    let interrupt = Interrupt::new();
    let mut shelf = Shelf(Vec::new());
    let other = database(folder.path(), 5);
    read(&other, &"shop".parse().unwrap(), Codec::Zstd, options(folder.path(), &interrupt), &mut shelf).unwrap();
    let (_, _, Facts::Sqlite(facts)) = &shelf.0[0] else { panic!("other facts") };
    let facts = SqliteFacts { content: content(&node, &interrupt).unwrap(), ..facts.clone() };
    node.close().unwrap();
    let findings = check("shop/my_base.db", &restored, &facts, &interrupt);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("channel state of Core Lightning"), "{findings:?}");
}

#[test]
fn a_nodes_database_is_refused_as_a_plain_one() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = folder.path().join("wallet.db");
    let fixture =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cln/node/02-two-channels-open/lightningd.sqlite3");
    std::fs::copy(fixture, &wallet).unwrap();
    let lnd = folder.path().join("channel.sqlite");
    Connection::open(&lnd).unwrap().execute_batch("CREATE TABLE channeldb_kv (key BLOB)").unwrap();
    let interrupt = Interrupt::new();
    for (path, owner) in [(wallet, NodeSoftware::CoreLightning), (lnd, NodeSoftware::Lnd)] {
        let mut shelf = Shelf(Vec::new());
        let error = read(&path, &"x".parse().unwrap(), Codec::Zstd, options(folder.path(), &interrupt), &mut shelf)
            .unwrap_err();
        assert!(
            matches!(&error, SourceError::Sqlite(SqliteError::NodeDatabase { owner: found, .. }) if *found == owner),
            "{error}"
        );
        assert!(shelf.0.is_empty());
    }
}

/// Everything in a folder but indexes of logs, and the folder itself, with what writing changes. An index that this
/// process has open is shared by all its connections; `tests/flows/links.rs` shows that another process leaves it.
fn stand(folder: &Path) -> Vec<(PathBuf, u64, (i64, i64), Sha256Hex)> {
    use std::os::unix::fs::MetadataExt;
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !path.to_str().unwrap().ends_with("-shm"));
    paths.sort();
    paths.push(folder.to_owned());
    let told = |path: PathBuf| {
        let meta = path.metadata().unwrap();
        let bytes = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        (path, meta.ino(), (meta.mtime(), meta.mtime_nsec()), Sha256Hex::of(&bytes))
    };
    paths.into_iter().map(told).collect()
}

#[test]
fn a_copy_in_memory_leaves_the_folder_as_it_is() {
    let interrupt = Interrupt::new();
    let options = CopyOptions { scratch: Scratch::Memory, budget: LockBudget::default(), interrupt: &interrupt };
    for (mode, bytes) in [("DELETE", 1_000), ("DELETE", 20_000_000), ("WAL", 1_000), ("WAL", 40_000_000)] {
        let folder = tempfile::tempdir().unwrap();
        // A name that means something in an address.
        let path = folder.path().join("app 100%?#.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        connection
            .execute_batch(&format!("CREATE TABLE t AS SELECT zeroblob({bytes}) AS x; CREATE TABLE u (x)"))
            .unwrap();
        let looked = |rows: i64| {
            let before = stand(folder.path());
            let mut copy = copy(&path, options).unwrap();
            let count = |sql: &str| copy.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!((count("SELECT length(x) FROM t"), count("SELECT count(*) FROM u")), (bytes, rows), "{mode}");
            let mut written = Vec::new();
            copy.write_to(&mut written).unwrap();
            assert_eq!(written.len() as u64, copy.length(), "{mode}");
            assert_eq!(stand(folder.path()), before, "{mode} {bytes}");
            written
        };
        looked(0);
        // What is only in the log counts, too.
        connection.execute_batch("INSERT INTO u VALUES (1)").unwrap();
        looked(1);
        drop(connection);
        let written = looked(1);
        if mode == "WAL" {
            assert!(written == std::fs::read(&path).unwrap(), "of a closed one, byte for byte");
        }
    }
}

#[test]
fn in_memory_a_log_without_its_index_is_not_read() {
    let interrupt = Interrupt::new();
    let options = CopyOptions { scratch: Scratch::Memory, budget: LockBudget::default(), interrupt: &interrupt };
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let live = folder.path().join("app.db");
    let connection = Connection::open(&live).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch("CREATE TABLE t (x)").unwrap();
    let path = other.path().join("app.db");
    for ending in ["", "-wal"] {
        std::fs::copy(format!("{}{ending}", live.display()), format!("{}{ending}", path.display())).unwrap();
    }
    let before = stand(other.path());
    let error = copy(&path, options).unwrap_err();
    assert!(matches!(error, SqliteError::UnreadableWal { .. }), "{error}");
    assert_eq!(stand(other.path()), before);
}
