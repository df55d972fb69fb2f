//! A first look at a database file without SQLite: is it there, is it one, is it whole. The file is closed again before
//! SQLite opens it, because closing a second descriptor later would drop SQLite's locks.

use super::error::SqliteError;
use crate::facts::sqlite::JournalMode;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// A writer in the middle of its commit has written the header but not yet the last pages: look again before judging.
const LOOKS: u32 = 4;
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// What the header tells, and which file it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The journal mode.
    pub(super) mode: JournalMode,
    /// Bytes per page.
    pub(super) page_bytes: u32,
    /// Length of the file in bytes.
    pub(super) length: u64,
    /// In WAL mode, and no program has it open: all of it is in the file, and SQLite could not read it without making
    /// a log beside it.
    pub(super) is_closed: bool,
    /// Filesystem and number of the file: whether it is still the same one later.
    pub(super) identity: (u64, u64),
}

/// Looks at the file and refuses what cannot be copied.
pub(super) fn look(path: &Path) -> Result<Header, SqliteError> {
    let mut looks = 1;
    loop {
        match look_once(path) {
            Err(SqliteError::Truncated { .. } | SqliteError::Empty { .. }) if looks < LOOKS => {
                looks += 1;
                std::thread::sleep(PAUSE_BETWEEN_LOOKS);
            }
            result => return result,
        }
    }
}

fn look_once(path: &Path) -> Result<Header, SqliteError> {
    let look = |source| SqliteError::Look { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(look)?;
    if !meta.is_file() {
        return Err(SqliteError::NotRegular { path: path.to_owned() });
    }
    let file = open(path).map_err(look)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(look)?;
    let meta = file.metadata().map_err(look)?;
    drop(file);
    let header = parse(path, &bytes, meta.len())?;
    let is_closed = header.mode == JournalMode::Wal && !has_log(path);
    Ok(Header { identity: (meta.dev(), meta.ino()), is_closed, ..header })
}

/// Opens the file without waiting: a fifo may have taken its place meanwhile.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    File::options().read(true).custom_flags(i32::try_from(flags).unwrap_or(0)).open(path)
}

/// What SQLite would open here and wait for without end: the database or a file that belongs to it, where something
/// else than a regular file stands in its place. SQLite looks for them where a link to the database leads.
pub(super) fn obstacle(path: &Path) -> io::Result<Option<PathBuf>> {
    let real = std::fs::canonicalize(path)?;
    for ending in ["", "-journal", "-wal", "-shm"] {
        let mut name = real.as_os_str().to_owned();
        name.push(ending);
        match std::fs::symlink_metadata(&name) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Ok(Some(name.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !ending.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a write-ahead log stands beside a database: it does while a program has it open in WAL mode.
pub(super) fn has_log(path: &Path) -> bool {
    is_beside(path, "-wal")
}

/// Whether the index of that log does.
pub(super) fn has_index(path: &Path) -> bool {
    is_beside(path, "-shm")
}

fn is_beside(path: &Path, ending: &str) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    Path::new(&name).symlink_metadata().is_ok()
}

fn parse(path: &Path, bytes: &[u8], length: u64) -> Result<Header, SqliteError> {
    if length == 0 {
        return Err(SqliteError::Empty { path: path.to_owned() });
    }
    if bytes.len() < MAGIC.len() || &bytes[..MAGIC.len()] != MAGIC {
        return Err(SqliteError::NotADatabase { path: path.to_owned() });
    }
    if bytes.len() < HEADER_BYTES {
        return Err(SqliteError::Truncated { path: path.to_owned(), length, expected: HEADER_BYTES as u64 });
    }
    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        size if size >= 512 && size.is_power_of_two() => u32::from(size),
        _ => return Err(SqliteError::NotADatabase { path: path.to_owned() }),
    };
    let mode = if bytes[18] == 2 || bytes[19] == 2 { JournalMode::Wal } else { JournalMode::Rollback };
    // The page count counts only when it was written by the same version as the last change (bytes 24 and 92).
    if mode == JournalMode::Rollback && word(24) == word(92) {
        let expected = u64::from(word(28)) * u64::from(page_bytes);
        if length < expected {
            return Err(SqliteError::Truncated { path: path.to_owned(), length, expected });
        }
    }
    Ok(Header { mode, page_bytes, length, is_closed: false, identity: (0, 0) })
}

/// Whether another file stands at this path now.
pub(super) fn is_replaced(path: &Path, header: &Header) -> bool {
    std::fs::metadata(path).map_or(true, |meta| (meta.dev(), meta.ino()) != header.identity)
}
