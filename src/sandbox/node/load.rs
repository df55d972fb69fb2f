//! A wallet of a busy node's size, a writer that commits to it without pause as lightningd does, and the question
//! whether a copy is the wallet as it was after one of those commits. What each commit writes follows from its number
//! alone, so the expected rows of any moment are known. For tests and measurements; never for a real wallet.

use rusqlite::{Connection, Error::SqliteFailure, ErrorCode, params};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{Error, Read, Result};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one row's data.
const DATA_BYTES: usize = 2000;
/// Bytes of the file that one row comes to: two fit into a page of 4,096, and the key stands in an index too.
const FILE_BYTES_PER_ROW: u64 = 2080;
/// Rows that one commit changes, scattered over the whole table.
const TOUCHED_PER_COMMIT: u64 = 6;
/// How long the writer waits for the lock. lightningd waits 60 s; one of its plugins or tools less.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The row that tells where the load began.
const BASE_KEY: &str = "load-base";

/// What a writer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Transactions that were committed.
    pub commits: u64,
    /// Transactions that failed because the lock did not come in time.
    pub failures: u64,
    /// The longest a transaction took from its beginning to the end of its commit, in milliseconds.
    pub longest_ms: u64,
}

/// Where the load began.
struct Base {
    rows: u64,
    version: u64,
}

impl Base {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT data, generation FROM datastore WHERE key = CAST(?1 AS BLOB)";
        connection.query_row(sql, [BASE_KEY], |row| {
            let rows: [u8; 8] = row.get(0)?;
            Ok(Self { rows: u64::from_le_bytes(rows), version: row.get::<_, i64>(1)?.unsigned_abs() })
        })
    }
}

/// Adds rows to a wallet until its file has about so many bytes. The wallet must not be in use.
pub fn grow(database: &Path, bytes: u64) -> Result<()> {
    let mut connection = Connection::open(database).map_err(Error::other)?;
    let present = std::fs::metadata(database)?.len();
    let rows = bytes.saturating_sub(present) / FILE_BYTES_PER_ROW;
    fill(&mut connection, rows.max(TOUCHED_PER_COMMIT)).map_err(Error::other)?;
    connection.close().map_err(|(_, error)| Error::other(error))
}

fn fill(connection: &mut Connection, rows: u64) -> rusqlite::Result<()> {
    // Nobody needs what is half made: no journal, no fsync. Neither is kept in the file.
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    let version = data_version(connection)?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare(INSERT)?;
        for row in 0..rows {
            insert.execute(params![key(row), data(row, version), version.cast_signed()])?;
        }
        insert.execute(params![BASE_KEY.as_bytes(), rows.to_le_bytes(), version.cast_signed()])?;
    }
    transaction.commit()
}

const INSERT: &str = "INSERT INTO datastore (key, data, generation) VALUES (?1, ?2, ?3)";

/// Commits to a grown wallet without any pause until `input` ends; for a process of its own, whose standard input the
/// one that started it holds.
pub fn write_while_open(database: &Path, mut input: impl Read + Send) -> Result<Written> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = std::io::copy(&mut input, &mut std::io::sink());
            stop.store(true, Ordering::SeqCst);
            ended
        });
        write_until(database, &stop)
    })
}

/// Commits to a grown wallet without any pause until told to stop.
pub fn write_until(database: &Path, stop: &AtomicBool) -> Result<Written> {
    let connection = Connection::open(database).map_err(Error::other)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(Error::other)?;
    write_while(&connection, |_| !stop.load(Ordering::SeqCst)).map_err(Error::other)
}

fn write_while(connection: &Connection, go_on: impl Fn(&Written) -> bool) -> rusqlite::Result<Written> {
    let base = Base::of(connection)?;
    let mut version = data_version(connection)?;
    let mut written = Written::default();
    while go_on(&written) {
        let begin = Instant::now();
        match commit(connection, &base, version + 1) {
            Ok(()) => {
                version += 1;
                written.commits += 1;
            }
            Err(SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy => {
                written.failures += 1;
                // An error may have ended the transaction already.
                if !connection.is_autocommit() {
                    connection.execute_batch("ROLLBACK")?;
                }
            }
            Err(error) => return Err(error),
        }
        let took = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        written.longest_ms = written.longest_ms.max(took);
    }
    Ok(written)
}

/// One transaction as lightningd makes it: begun with the first write, and last of all the version, if it is still the
/// one that was read.
fn commit(connection: &Connection, base: &Base, version: u64) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN")?;
    let mut update = connection.prepare_cached("UPDATE datastore SET data = ?2, generation = ?3 WHERE key = ?1")?;
    for row in touched(base, version) {
        update.execute(params![key(row), data(row, version), version.cast_signed()])?;
    }
    let new = new_row(base, version);
    connection.prepare_cached(INSERT)?.execute(params![key(new), data(new, version), version.cast_signed()])?;
    let sql = "UPDATE vars SET intval = ?1 WHERE name = 'data_version' AND intval = ?2";
    if connection.prepare_cached(sql)?.execute(params![version.cast_signed(), version.cast_signed() - 1])? != 1 {
        return Err(rusqlite::Error::StatementChangedRows(0));
    }
    connection.execute_batch("COMMIT")
}

/// Reads all of a copy and holds it against what its own `data_version` says must be in it; returns that version and
/// the one before the load. An error says where the copy is of two moments at once.
pub fn check_copy(copy: &Connection) -> Result<(u64, u64)> {
    let base = Base::of(copy).map_err(Error::other)?;
    let version = data_version(copy).map_err(Error::other)?;
    let mut expected: HashMap<u64, u64> = HashMap::new();
    for commit in base.version + 1..=version {
        expected.extend(touched(&base, commit).map(|row| (row, commit)));
        expected.insert(new_row(&base, commit), commit);
    }
    let sql = "SELECT key, data, generation FROM datastore WHERE key >= CAST('load:' AS BLOB) ORDER BY key";
    let mut statement = copy.prepare(sql).map_err(Error::other)?;
    let mut rows = statement.query([]).map_err(Error::other)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(Error::other)? {
        let of = expected.get(&count).copied().unwrap_or(base.version);
        let found: u64 = row.get::<_, i64>(2).map_err(Error::other)?.unsigned_abs();
        let is_key = row.get_ref(0).map_err(Error::other)?.as_blob().is_ok_and(|found| found == key(count));
        let is_data = row.get_ref(1).map_err(Error::other)?.as_blob().is_ok_and(|found| found == data(count, of));
        if found != of || !is_key || !is_data {
            return Err(Error::other(format!(
                "a copy at commit {version} has row {count} of commit {found}, where commit {of} wrote it last"
            )));
        }
        count += 1;
    }
    let wanted = base.rows + (version - base.version);
    if count != wanted {
        return Err(Error::other(format!("a copy at commit {version} has {count} rows, not {wanted}")));
    }
    Ok((version, base.version))
}

/// The wallet's `data_version`: one more with each commit.
pub fn data_version(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT intval FROM vars WHERE name = 'data_version'";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn touched(base: &Base, version: u64) -> impl Iterator<Item = u64> + use<> {
    let rows = base.rows;
    (0..TOUCHED_PER_COMMIT).map(move |n| mix(version * TOUCHED_PER_COMMIT + n) % rows)
}

fn new_row(base: &Base, version: u64) -> u64 {
    base.rows + (version - base.version) - 1
}

fn key(row: u64) -> Vec<u8> {
    format!("load:{row:010}").into_bytes()
}

/// A row's data: at both ends what only this row of this commit has, so that a page of another moment shows.
fn data(row: u64, version: u64) -> Vec<u8> {
    let stamp = mix(row ^ mix(version)).to_le_bytes();
    let mut data = vec![b'.'; DATA_BYTES];
    data[..stamp.len()].copy_from_slice(&stamp);
    data[DATA_BYTES - stamp.len()..].copy_from_slice(&stamp);
    data
}

/// A number that looks random, the same for the same input (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut state = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::{Moment, Wallet};
    use super::*;

    #[test]
    fn a_copy_of_one_moment_passes_and_one_of_two_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut wallet = Wallet::create(folder.path()).unwrap();
        wallet.live_until(Moment::AfterPayments).unwrap();
        grow(&wallet.database(), 2_000_000).unwrap();
        let length = std::fs::metadata(wallet.database()).unwrap().len();
        assert!((1_900_000..2_100_000).contains(&length), "{length}");
        let connection = Connection::open(wallet.database()).unwrap();
        let from = data_version(&connection).unwrap();
        assert_eq!(check_copy(&connection).unwrap(), (from, from));
        let base = Base::of(&connection).unwrap();
        (from + 1..=from + 20).for_each(|version| commit(&connection, &base, version).unwrap());
        assert_eq!(check_copy(&connection).unwrap(), (from + 20, from));
        let row = touched(&base, from + 20).next().unwrap();
        let old = key(row);
        for sql in [
            "UPDATE datastore SET generation = generation - 1 WHERE key = ?1",
            "UPDATE datastore SET data = zeroblob(2000) WHERE key = ?1",
            "DELETE FROM datastore WHERE key = ?1",
        ] {
            connection.execute_batch("SAVEPOINT whole").unwrap();
            assert_eq!(connection.execute(sql, [&old]).unwrap(), 1);
            check_copy(&connection).unwrap_err();
            connection.execute_batch("ROLLBACK TO whole; RELEASE whole").unwrap();
        }
        connection.execute_batch("UPDATE vars SET intval = intval - 1 WHERE name = 'data_version'").unwrap();
        check_copy(&connection).unwrap_err();
    }

    #[test]
    fn a_writer_that_does_not_get_the_lock_counts_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut wallet = Wallet::create(folder.path()).unwrap();
        wallet.live_until(Moment::AfterPayments).unwrap();
        grow(&wallet.database(), 1_000_000).unwrap();
        let holder = Connection::open(wallet.database()).unwrap();
        let writer = Connection::open(wallet.database()).unwrap();
        writer.busy_timeout(Duration::ZERO).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let locked = write_while(&writer, |written| written.failures < 3).unwrap();
        assert_eq!((locked.commits, locked.failures), (0, 3));
        holder.execute_batch("ROLLBACK").unwrap();
        let free = write_while(&writer, |written| written.commits < 2).unwrap();
        assert_eq!((free.commits, free.failures), (2, 0));
        let (version, from) = check_copy(&writer).unwrap();
        assert_eq!(version, from + 2);
    }
}
