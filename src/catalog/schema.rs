//! The catalog's tables, and how its file is opened: whatever is wrong with the content, a fresh catalog comes out. The
//! file that was there is moved aside under a name of its own and never read again by this program.

use super::CatalogError;
use crate::base::fsio::{self, FileError};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Raised with every change of the tables.
const VERSION: i64 = 1;
/// How long another process that reads or checkpoints is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(20);

/// `objects`: a sealing of a segment. `held`: an object in a vault, how many of its snapshots name it, and when
/// this host put it there (milliseconds). `snapshots.objects`: the rows of what a manifest names, packed.
/// `committed` outlives what the vault says.
const TABLES: &str = "
    CREATE TABLE vaults (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
    CREATE TABLE objects (n INTEGER PRIMARY KEY, segment BLOB NOT NULL, object BLOB NOT NULL, length INTEGER NOT NULL);
    CREATE UNIQUE INDEX objects_by_segment ON objects (segment, object);
    CREATE INDEX objects_by_object ON objects (object);
    CREATE TABLE held (object INTEGER NOT NULL, vault INTEGER NOT NULL, count INTEGER NOT NULL, put_at INTEGER,
        PRIMARY KEY (object, vault)) WITHOUT ROWID;
    CREATE INDEX held_loose ON held (put_at) WHERE count = 0;
    CREATE TABLE snapshots (vault INTEGER NOT NULL, id TEXT NOT NULL, manifest BLOB NOT NULL, complete INTEGER NOT NULL,
        created INTEGER NOT NULL, sequence INTEGER NOT NULL, objects BLOB NOT NULL, PRIMARY KEY (vault, id));
    CREATE TABLE committed (vault TEXT PRIMARY KEY, snapshot TEXT NOT NULL, sequence INTEGER NOT NULL,
        manifest BLOB NOT NULL) WITHOUT ROWID;
";

/// What was found when the catalog was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A catalog, and it is used.
    Existing,
    /// Nothing; it is new and empty.
    Created,
    /// One that cannot be used; it was moved aside and the catalog is new and empty.
    Rebuilt {
        /// Where it lies now.
        aside: PathBuf,
        /// Why.
        why: SetAside,
    },
}

/// Why a catalog was moved aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// SQLite cannot read it, or it is not a catalog.
    Damaged {
        /// What SQLite says.
        details: String,
    },
    /// A newer program wrote it.
    Newer {
        /// Its version.
        version: i64,
    },
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { details } => write!(f, "it is damaged ({details})"),
            Self::Newer { version } => {
                write!(f, "a newer program wrote it (version {version}; this one knows {VERSION})")
            }
        }
    }
}

enum Refused {
    Content(SetAside),
    File(rusqlite::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        let is_content = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => true,
            // The generic code: a table or a column that should be there is not.
            Some(ErrorCode::Unknown) => true,
            Some(_) => false,
            None => true,
        };
        if is_content { Self::Content(SetAside::Damaged { details: error.to_string() }) } else { Self::File(error) }
    }
}

pub(super) fn open(path: &Path) -> Result<(Connection, Opened), CatalogError> {
    let failed = |source| CatalogError::Open { path: path.to_owned(), source };
    let is_new = !path.exists();
    if is_new {
        // SQLite would create it readable by others; its companions take over the mode.
        fsio::create_durably(path, b"", 0o600).or_else(fine_if_there).map_err(CatalogError::File)?;
    }
    match connect(path) {
        Ok(connection) if is_new => Ok((connection, Opened::Created)),
        Ok(connection) => Ok((connection, Opened::Existing)),
        Err(Refused::File(source)) => Err(failed(source)),
        Err(Refused::Content(why)) => {
            let aside = set_aside(path, &why).map_err(CatalogError::File)?;
            fsio::create_durably(path, b"", 0o600).or_else(fine_if_there).map_err(CatalogError::File)?;
            match connect(path) {
                Ok(connection) => Ok((connection, Opened::Rebuilt { aside, why })),
                Err(Refused::File(source)) => Err(failed(source)),
                Err(Refused::Content(_)) => Err(CatalogError::Row { what: "fresh catalog" }),
            }
        }
    }
}

pub(super) fn in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, Refused> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(Refused::File)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(32);
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > VERSION {
        return Err(Refused::Content(SetAside::Newer { version }));
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // A power cut may cost the last records; in WAL mode it never costs the file.
    connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;")?;
    match version {
        0 => {
            let transaction = connection.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        VERSION => check(&connection)?,
        other => {
            let details = format!("version {other} never was");
            return Err(Refused::Content(SetAside::Damaged { details }));
        }
    }
    Ok(connection)
}

fn check(connection: &Connection) -> Result<(), Refused> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Refused::Content(SetAside::Damaged { details: verdict }));
    }
    for query in [
        "SELECT n, id FROM vaults LIMIT 1",
        "SELECT n, segment, object, length FROM objects LIMIT 1",
        "SELECT object, vault, count, put_at FROM held LIMIT 1",
        "SELECT vault, id, manifest, complete, created, sequence, objects FROM snapshots LIMIT 1",
        "SELECT vault, snapshot, sequence, manifest FROM committed LIMIT 1",
    ] {
        connection.prepare(query)?;
    }
    Ok(())
}

/// Moves a catalog and its write-ahead log aside; replaces what was moved aside for the same reason before.
fn set_aside(path: &Path, why: &SetAside) -> Result<PathBuf, FileError> {
    let suffix = match why {
        SetAside::Damaged { .. } => ".damaged",
        SetAside::Newer { .. } => ".newer",
    };
    let aside = with_suffix(path, suffix);
    fs::rename(path, &aside).map_err(FileError::io("move aside", path))?;
    let wal = with_suffix(path, "-wal");
    fine_if_absent(fs::rename(&wal, with_suffix(&aside, "-wal"))).map_err(FileError::io("move aside", &wal))?;
    let shm = with_suffix(path, "-shm");
    fine_if_absent(fs::remove_file(&shm)).map_err(FileError::io("remove", &shm))?;
    fsio::sync_folder_of(path)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn fine_if_absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn fine_if_there(error: FileError) -> Result<(), FileError> {
    match &error {
        FileError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    }
}
