//! Why a SQLite database could not be copied or read, and what to do about each reason.

use crate::artifact::channels::NodeSoftware;
use crate::base::fsio::FileError;
use crate::base::ids::BadId;
use std::io;
use std::path::{Path, PathBuf};

/// Why a SQLite database could not be copied or read.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// The file could not be looked at; it may have vanished.
    #[error("cannot read the database {}", path.display())]
    Look {
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is a folder, socket or device.
    #[error("{} is not a regular file, so it cannot be a database", path.display())]
    NotRegular {
        /// What was meant to be the database.
        path: PathBuf,
    },
    /// Beside it stands a folder, link, fifo, socket or device where SQLite keeps a file that belongs to it.
    #[error("{} is not a regular file, so {} cannot be read", beside.display(), path.display())]
    Beside {
        /// The database.
        path: PathBuf,
        /// What stands beside it.
        beside: PathBuf,
    },
    /// It has no bytes.
    #[error("the database {} has zero bytes", path.display())]
    Empty {
        /// The database.
        path: PathBuf,
    },
    /// Its first bytes are not SQLite's.
    #[error("{} is not a SQLite database: its first bytes are something else", path.display())]
    NotADatabase {
        /// What was meant to be the database.
        path: PathBuf,
    },
    /// It is shorter than its own header says.
    #[error("the database {} is truncated: {length} bytes where its header says {expected}", path.display())]
    Truncated {
        /// The database.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The length its header tells, in bytes.
        expected: u64,
    },
    /// In WAL mode with a log that cannot be read without repairing it.
    #[error("the write-ahead log of {} cannot be read without writing to it", path.display())]
    UnreadableWal {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A program ended in the middle of a transaction and left its journal.
    #[error("the database {} has a hot journal: a program died in the middle of a transaction, and the file is not consistent without it", path.display())]
    HotJournal {
        /// The database.
        path: PathBuf,
    },
    /// Writers left no moment for reading.
    #[error("the database {} stayed locked by a writer for {waited_ms} ms", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// It could not be opened read-only.
    #[error("cannot open the database {} read-only", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// It could not be read.
    #[error("cannot read the database {}", path.display())]
    Read {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Another file took its place meanwhile, or a program opened it that was not running before.
    #[error("the database {} was replaced, removed or opened by its program while it was copied", path.display())]
    Replaced {
        /// The database.
        path: PathBuf,
    },
    /// The lock would have to be held for longer than the budget allows.
    #[error(
        "cannot copy {} within the lock budget: writers made the copy begin again (so far {restarts} \
         times), its {pages} pages need one hold of about {needed_ms} ms, and at most {allowed_ms} ms are allowed",
        path.display()
    )]
    Budget {
        /// The database.
        path: PathBuf,
        /// How often a commit made the copy begin again.
        restarts: u32,
        /// Pages of the database.
        pages: u64,
        /// The hold it would need, in milliseconds, as far as measured.
        needed_ms: u64,
        /// The longest hold allowed, in milliseconds.
        allowed_ms: u64,
    },
    /// There is no room for the copy.
    #[error("no room to copy {}: {} has {free} bytes free and {needed} are needed", path.display(), folder.display())]
    Space {
        /// The database.
        path: PathBuf,
        /// A folder on the filesystem that is too full.
        folder: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed: twice the database and 1 GiB.
        needed: u64,
    },
    /// There is not enough memory for a copy that may go nowhere else.
    #[error(
        "no memory to look into {}: {free} bytes are available and {needed} are needed, because nothing is written beside it",
        path.display()
    )]
    Memory {
        /// The database.
        path: PathBuf,
        /// Bytes available.
        free: u64,
        /// Bytes needed: the database, twice where no program has it open in WAL mode, and 256 MiB.
        needed: u64,
    },
    /// The scratch file could not be made.
    #[error("cannot make a scratch file for the copy of {}", path.display())]
    Scratch {
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: FileError,
    },
    /// The copy could not be set up or written.
    #[error("cannot write the copy of {}", path.display())]
    Write {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The copy does not pass SQLite's own check.
    #[error("the copy of {} fails SQLite's integrity check: {found}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// The first complaints.
        found: String,
    },
    /// It is a Lightning node's database and so toxic.
    #[error("{} is {owner}'s database: an old copy of it can lose every channel", path.display())]
    NodeDatabase {
        /// The database.
        path: PathBuf,
        /// Whose it is.
        owner: NodeSoftware,
    },
    /// The file's name gives no artifact name.
    #[error("{} gives no artifact name", path.display())]
    Name {
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: BadId,
    },
    /// Somebody asked to stop.
    #[error("the copy of {} was interrupted", path.display())]
    Interrupted {
        /// The database.
        path: PathBuf,
    },
}

impl SqliteError {
    /// What SQLite said while the database was read, told apart by its extended code.
    pub(crate) fn read(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if let Some(code) = source.sqlite_error() {
            match code.extended_code {
                rusqlite::ffi::SQLITE_READONLY_ROLLBACK => return Self::HotJournal { path },
                rusqlite::ffi::SQLITE_READONLY_RECOVERY | rusqlite::ffi::SQLITE_READONLY_CANTINIT => {
                    return Self::UnreadableWal { path, source };
                }
                rusqlite::ffi::SQLITE_NOTADB => return Self::NotADatabase { path },
                rusqlite::ffi::SQLITE_INTERRUPT => return Self::Interrupted { path },
                _ => {}
            }
        }
        Self::Read { path, source }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Look { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path in the policy; if the file was there yesterday, find out who removed it".to_owned()
            }
            Self::Look { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("let the user this program runs as read {} and enter the folders above it", path.display())
            }
            Self::Beside { beside, .. } => format!(
                "find out who put it there, move {} away, and run the same command again; SQLite would wait at it or read \
                 what it leads to",
                beside.display()
            ),
            Self::NotRegular { .. } | Self::Name { .. } => "name the database file itself in the policy".to_owned(),
            Self::Empty { .. } => "an empty file is no backup: check the path, and whether its program still writes \
                                   there"
                .to_owned(),
            Self::NotADatabase { .. } => {
                "check the path; a text file at the place of lightningd.sqlite3 may be the fence of a restore"
                    .to_owned()
            }
            Self::Truncated { .. } | Self::Corrupt { .. } => damaged(),
            Self::Read { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
                damaged()
            }
            Self::UnreadableWal { .. } => {
                "run the backup while the program that owns the database is running, or let that program open and \
                 close the database cleanly"
                    .to_owned()
            }
            Self::HotJournal { .. } => {
                "start the program that owns the database once, so that it rolls its transaction back, then run the \
                 backup again; never delete the -journal file"
                    .to_owned()
            }
            Self::Busy { .. } => "run the backup at a quieter moment".to_owned(),
            Self::Open { path, .. } => {
                format!("let the user this program runs as read {} and the folder it is in", path.display())
            }
            Self::Replaced { .. } => "run the backup again".to_owned(),
            Self::Budget { allowed_ms, .. } => format!(
                "raise lock_budget_max in [backup] (it allows {allowed_ms} ms now; lightningd bears waiting up to 60 s), \
                 or run the backup at a quieter moment"
            ),
            Self::Space { folder, .. } => format!("free some space on the filesystem of {}", folder.display()),
            Self::Memory { .. } => {
                "free memory on this machine, by stopping what is not needed now, then run the same command again"
                    .to_owned()
            }
            Self::Scratch { .. } => {
                "let the user this program runs as write to the state folder, and keep that folder on the database's \
                 filesystem"
                    .to_owned()
            }
            Self::NodeDatabase { owner: NodeSoftware::CoreLightning, .. } => {
                "use a source of kind \"cln\" for it".to_owned()
            }
            Self::NodeDatabase { owner: NodeSoftware::Lnd, .. } => {
                "use a source of kind \"lnd\": LND's channels come back from channel.backup, never from its database"
                    .to_owned()
            }
            Self::NodeDatabase { .. } => {
                "take this source out of the policy, and keep the node's seed and what it offers as a backup of its \
                 channels instead: no copy of its database is safe to start on"
                    .to_owned()
            }
            Self::Look { .. } | Self::Read { .. } | Self::Write { .. } | Self::Interrupted { .. } => return None,
        })
    }
}

/// What to do about a database that is damaged on its disk.
fn damaged() -> String {
    "keep the file as it is, look at the disk (dmesg, smartctl), and keep the older snapshots".to_owned()
}
