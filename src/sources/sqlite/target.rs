//! Where a copy goes: into memory when it is small or nothing may be written, else into a file of ours that has no name
//! any more before the first page is written to it, on the filesystem that held the plaintext before. A crash leaves
//! nothing behind.

use super::Scratch;
use super::error::SqliteError;
use super::header::Header;
use crate::base::fsio::{self, FileError};
use crate::base::limits::{SQLITE_MEMORY_BYTES_MAX, SQLITE_MEMORY_SPARE_BYTES, SQLITE_SPARE_BYTES};
use crate::base::memory;
use crate::facts::sqlite::JournalMode;
use crate::sources::SourceError;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Place of the two bytes of a header that tell the journal mode: 1 for a rollback journal, 2 for WAL.
const MODE_AT: usize = 18;

/// A place for a copy. `writer` is the destination of the backup API; after [`Target::finish`] the copy is read.
pub(super) struct Target {
    writer: Connection,
    file: Option<ScratchFile>,
}

struct ScratchFile {
    reader: Connection,
    file: File,
}

/// A finished copy.
#[derive(Debug)]
pub(super) struct Finished {
    connection: Connection,
    file: Option<File>,
    length: u64,
    mode: JournalMode,
}

impl Target {
    /// Makes a place for a copy of this database.
    pub(super) fn create(database: &Path, header: &Header, scratch: Scratch<'_>) -> Result<Self, SqliteError> {
        let target = match scratch {
            Scratch::Folder(preferred) if header.length > SQLITE_MEMORY_BYTES_MAX => {
                let folder = choose_folder(database, header, preferred)?;
                check_space(database, header, &folder)?;
                Self::in_file(database, &folder)?
            }
            _ => {
                check_memory(database, header.length)?;
                Self::in_memory(database)?
            }
        };
        set_up(&target.writer, header.page_bytes).map_err(write_error(database))?;
        Ok(target)
    }

    /// Makes a place for the bytes of a database that no program has open, and fills it with them, without SQLite.
    /// `next` hands out the bytes, one part after the other, until an empty one.
    pub(super) fn of_bytes(
        database: &Path,
        header: &Header,
        scratch: Scratch<'_>,
        next: &mut dyn FnMut() -> Result<Vec<u8>, SqliteError>,
    ) -> Result<Self, SqliteError> {
        let Scratch::Folder(preferred) = scratch else { return Self::of_bytes_in_memory(database, header, next) };
        let folder = choose_folder(database, header, preferred)?;
        check_space(database, header, &folder)?;
        let target = Self::in_file(database, &folder)?;
        let Some(scratch) = &target.file else { return Ok(target) };
        loop {
            let part = next()?;
            if part.is_empty() {
                return Ok(target);
            }
            (&scratch.file)
                .write_all(&part)
                .map_err(FileError::io("write the copy of", database))
                .map_err(|source| SqliteError::Scratch { path: database.to_owned(), source })?;
        }
    }

    /// For a moment the bytes are there twice, in our hands and in SQLite's.
    fn of_bytes_in_memory(
        database: &Path,
        header: &Header,
        next: &mut dyn FnMut() -> Result<Vec<u8>, SqliteError>,
    ) -> Result<Self, SqliteError> {
        check_memory(database, header.length.saturating_mul(2))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(header.length).unwrap_or(0)));
        loop {
            let part = next()?;
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(&part);
        }
        if let Some(modes) = bytes.get_mut(MODE_AT..=MODE_AT + 1) {
            // Memory has no log. `write_to` sets the bytes back.
            modes.fill(1);
        }
        let mut target = Self::in_memory(database)?;
        let length = bytes.len();
        let read = target.writer.deserialize_read_exact(rusqlite::MAIN_DB, bytes.as_slice(), length, true);
        read.map_err(write_error(database))?;
        Ok(target)
    }

    fn in_memory(database: &Path) -> Result<Self, SqliteError> {
        let writer = Connection::open_in_memory().map_err(write_error(database))?;
        Ok(Self { writer, file: None })
    }

    fn in_file(database: &Path, folder: &Path) -> Result<Self, SqliteError> {
        let scratch = |source| SqliteError::Scratch { path: database.to_owned(), source };
        let private = tempfile::Builder::new()
            .prefix(".relay-backup-copy-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(folder)
            .map_err(FileError::io("create a folder in", folder))
            .map_err(scratch)?;
        let path = private.path().join("copy");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(FileError::io("create", &path))
            .map_err(scratch)?;
        let writer =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(write_error(database))?;
        // Opened now, because the name is gone afterwards; it reads nothing before the copy is finished.
        let reader =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(write_error(database))?;
        let folder = private.path().to_owned();
        private.close().map_err(FileError::io("remove the folder", &folder)).map_err(scratch)?;
        Ok(Self { writer, file: Some(ScratchFile { reader, file }) })
    }

    /// The connection the backup API writes to.
    pub(super) fn writer(&mut self) -> &mut Connection {
        &mut self.writer
    }

    /// Turns the place into a copy that can be read.
    pub(super) fn finish(self, database: &Path, header: &Header) -> Result<Finished, SqliteError> {
        let scratch = |source| {
            let path = database.to_owned();
            SqliteError::Scratch { source: FileError::io("write the copy of", database)(source), path }
        };
        let Some(ScratchFile { reader, file }) = self.file else {
            let length = length_of(&self.writer).map_err(write_error(database))?;
            return Ok(Finished { connection: self.writer, file: None, length, mode: header.mode });
        };
        self.writer.close().map_err(|(_, error)| write_error(database)(error))?;
        if header.mode == JournalMode::Wal {
            // A reader would look for a log beside a file that has no name. `write_to` sets the bytes back.
            file.write_all_at(&[1, 1], MODE_AT as u64).map_err(scratch)?;
        }
        reader.pragma_update(None, "temp_store", "MEMORY").map_err(write_error(database))?;
        let length = file.metadata().map_err(scratch)?.len();
        Ok(Finished { connection: reader, file: Some(file), length, mode: header.mode })
    }
}

impl Finished {
    /// The copy, to be read.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Its length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes the copy's bytes in order; an error when they are not as many as they must be.
    pub(super) fn write_to(&mut self, database: &Path, out: &mut dyn Write) -> Result<(), SourceError> {
        let Some(file) = &self.file else {
            let mode = self.mode;
            let bytes =
                self.connection.serialize(rusqlite::MAIN_DB).map_err(|error| SqliteError::read(database, error))?;
            let (head, rest) = bytes.split_at(bytes.len().min(MODE_AT + 2));
            let mut head = head.to_vec();
            set_mode_back(mode, &mut head);
            return out.write_all(&head).and_then(|()| out.write_all(rest)).map_err(SourceError::Sink);
        };
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0u64;
        while at < self.length {
            let wanted = usize::try_from(self.length - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let part = &mut buffer[..wanted];
            file.read_exact_at(part, at).map_err(|source| SqliteError::Look { path: database.to_owned(), source })?;
            if at == 0 {
                set_mode_back(self.mode, part);
            }
            out.write_all(part).map_err(SourceError::Sink)?;
            at += wanted as u64;
        }
        Ok(())
    }
}

/// Gives the first bytes of the copy the journal mode of the original.
fn set_mode_back(mode: JournalMode, first: &mut [u8]) {
    if let (JournalMode::Wal, Some(modes)) = (mode, first.get_mut(MODE_AT..=MODE_AT + 1)) {
        modes.fill(2);
    }
}

fn write_error(database: &Path) -> impl FnOnce(rusqlite::Error) -> SqliteError {
    let path = database.to_owned();
    move |source| SqliteError::Write { path, source }
}

fn set_up(connection: &Connection, page_bytes: u32) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", page_bytes)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    // A journal of the copy would need a name and protect nothing: a copy that breaks off is thrown away.
    connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))
}

fn length_of(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(pages.unsigned_abs() * bytes.unsigned_abs())
}

fn choose_folder(database: &Path, header: &Header, preferred: &Path) -> Result<PathBuf, SqliteError> {
    match std::fs::metadata(preferred) {
        Ok(meta) if meta.dev() == header.identity.0 => Ok(preferred.to_owned()),
        Ok(_) => Ok(fsio::folder_of(database).to_owned()),
        Err(error) => {
            Err(SqliteError::Scratch { path: database.to_owned(), source: FileError::io("look at", preferred)(error) })
        }
    }
}

/// Refuses what does not fit into memory; what is small always does.
fn check_memory(database: &Path, bytes: u64) -> Result<(), SqliteError> {
    if bytes <= 2 * SQLITE_MEMORY_BYTES_MAX {
        return Ok(());
    }
    let needed = bytes.saturating_add(SQLITE_MEMORY_SPARE_BYTES);
    let free = memory::available_bytes();
    if free < needed {
        return Err(SqliteError::Memory { path: database.to_owned(), free, needed });
    }
    Ok(())
}

fn check_space(database: &Path, header: &Header, folder: &Path) -> Result<(), SqliteError> {
    let free = fsio::free_bytes(folder).map_err(|source| SqliteError::Scratch { path: database.to_owned(), source })?;
    let needed = header.length.saturating_mul(2).saturating_add(SQLITE_SPARE_BYTES);
    if free < needed {
        let (path, folder) = (database.to_owned(), folder.to_owned());
        return Err(SqliteError::Space { path, folder, free, needed });
    }
    Ok(())
}
