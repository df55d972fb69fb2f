//! What is in the place of a database that is to be restored, without reading any of it: the place may hold the very
//! damage that the restore is for. Whether anybody uses it, and how large it is, the server knows without it; what its
//! catalogue says is told where it can be read, and does not count where it cannot.

use super::super::connect::{PROGRAM, Server, Session};
use super::super::{PostgresError, survey};
use super::RestoreError;
use crate::base::fsio;
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a server may take to notice that a session was closed: a busy machine gives it no time at once.
const ENDING_MAX: Duration = Duration::from_secs(3);
/// Pause between two looks at who is connected.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is in the place of a database that is to be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Its size on the server's disk in bytes; none where that cannot be told.
    pub size_bytes: Option<u64>,
    /// Its tables; none where its catalogue cannot be read.
    pub tables: Option<u64>,
    /// Tables of a node's channel state, as far as its catalogue can be read.
    pub channel_tables: Vec<String>,
    /// Who is connected to it: role, program and process.
    pub sessions: Vec<String>,
}

/// What is in the place of a database; `None` where there is none.
pub fn occupancy(server: &Server, database: &str) -> Result<Option<Occupancy>, RestoreError> {
    let session = server.connect()?;
    if !exists(&session, database)? {
        return Ok(None);
    }
    // Before our own connection to it, which would be counted.
    let sessions = sessions(&session, database)?;
    // A folder that is gone is no size, and no error of ours.
    let size = session.query("ask for the size", "SELECT pg_database_size($1::name)", &[&database]);
    let size_bytes = unless_interrupted(size)?
        .and_then(|rows| rows.first().and_then(|row| row.get::<_, Option<i64>>(0)).map(i64::unsigned_abs));
    let tables = server.with_database(database).connect().and_then(|session| survey::tables(&session));
    let tables = unless_interrupted(tables)?;
    Ok(Some(Occupancy {
        size_bytes,
        tables: tables.as_ref().map(|tables| tables.len() as u64),
        channel_tables: tables.map(|tables| survey::recognise(&tables).channel_tables).unwrap_or_default(),
        sessions,
    }))
}

/// Whether there is a database of this name.
pub fn is_there(server: &Server, database: &str) -> Result<bool, RestoreError> {
    Ok(exists(&server.connect()?, database)?)
}

/// What could be learned; an interruption stays an error.
fn unless_interrupted<T>(asked: Result<T, PostgresError>) -> Result<Option<T>, PostgresError> {
    match asked {
        Ok(known) => Ok(Some(known)),
        Err(error @ PostgresError::Interrupted { .. }) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "a database in the way could not be looked into");
            Ok(None)
        }
    }
}

/// Where the server keeps its data, for a look at the room there; `None` where neither the role may ask nor this
/// process may read the file beside the socket that says so.
pub fn data_directory(server: &Server) -> Result<Option<PathBuf>, RestoreError> {
    let sql = "SELECT setting FROM pg_settings WHERE name = 'data_directory'";
    let rows = server.connect()?.query("ask for the data directory", sql, &[])?;
    let told = rows.first().and_then(|row| row.get::<_, Option<String>>(0)).map(PathBuf::from);
    // The second line of a server's lock file is its data folder (`CreateLockFile` of PostgreSQL 13 to 18).
    let in_lock_file = || {
        let bytes = fsio::read_regular(&server.lock_file()?, SMALL_OBJECT_BYTES_MAX).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        text.lines().nth(1).map(PathBuf::from).filter(|folder| folder.is_absolute())
    };
    Ok(told.or_else(in_lock_file))
}

pub(super) fn exists(session: &Session, database: &str) -> Result<bool, PostgresError> {
    let sql = "SELECT FROM pg_database WHERE datname = $1";
    Ok(!session.query("look for a database", sql, &[&database])?.is_empty())
}

/// Who is connected to a database. Sessions that this program has closed are gone from the server's list a moment
/// later: as long as there are only such, they get that moment.
pub(super) fn sessions(session: &Session, database: &str) -> Result<Vec<String>, PostgresError> {
    let sql = "SELECT coalesce(usename::text, 'a role'), application_name, pid FROM pg_stat_activity
        WHERE datname = $1 AND pid <> pg_backend_pid() ORDER BY pid";
    let begin = Instant::now();
    let rows = loop {
        let rows = session.query("ask who is connected", sql, &[&database])?;
        let is_ours = |row: &tokio_postgres::Row| row.get::<_, Option<&str>>(1) == Some(PROGRAM);
        if rows.is_empty() || !rows.iter().all(is_ours) || begin.elapsed() > ENDING_MAX {
            break rows;
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    let tell = |row: &tokio_postgres::Row| {
        let (role, program, pid): (String, Option<String>, i32) = (row.get(0), row.get(1), row.get(2));
        let program = program.filter(|name| !name.is_empty()).unwrap_or_else(|| "a program".to_owned());
        format!("{role} by {program} (process {pid})")
    };
    Ok(rows.iter().map(tell).collect())
}

/// Whether nothing was put into a database since it was made.
pub(super) fn is_empty(session: &Session) -> Result<bool, PostgresError> {
    let sql = r"WITH own AS (SELECT oid FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema')
        SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace IN (SELECT oid FROM own))
            AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace IN (SELECT oid FROM own))
            AND NOT EXISTS (SELECT FROM pg_type WHERE typnamespace IN (SELECT oid FROM own))
            AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
            AND (SELECT count(*) FROM own) <= 1";
    Ok(session.query_one("look whether the database is empty", sql, &[])?.get(0))
}
