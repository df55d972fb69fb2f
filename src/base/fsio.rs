//! Files of our own, written so that a crash leaves the old or the new, never a half; and who may read or write them.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`, …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is larger than anything it may be.
    #[error("{} has {length} bytes; at most {limit} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Its mode lets the wrong people in.
    #[error("{} can be {can} by others (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// `read` or `changed`.
        can: &'static str,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
}

impl FileError {
    /// Wraps an error of the system with the file it happened on.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, wanted, .. } => Some(format!("chmod {wanted:04o} {}", path.display())),
            Self::Io { path, source, .. } => room_hint(source, path.display()),
            Self::TooLarge { .. } => None,
        }
    }

    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What to do where something could not be written to `place` because its filesystem, or a quota on it, is full;
/// nothing for any other error.
pub fn room_hint(error: &io::Error, place: impl std::fmt::Display) -> Option<String> {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded).then(|| {
        format!(
            "make room on the disk of {place}: old journals (`journalctl --vacuum-size=200M`) go first; never remove a \
             channel database"
        )
    })
}

/// Reads a whole file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::io("open", path))?;
    read_open(&file, path, limit)
}

/// Opens what must be a regular file, such as one of a node's: everything that a less privileged user can write. A fifo
/// put in its place is refused; opening it for reading would wait for a writer for ever, and no signal would end that.
/// A link in its place is followed where root or this program's own user made it, or whoever owns the file it leads to:
/// nobody has a file read to him that is not his.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    let open = |path: &Path, more: OFlags| {
        let flags = more | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(File::from)
    };
    let failed = |errno: Errno| FileError::io("open", path)(errno.into());
    let (file, link) = match open(path, OFlags::NOFOLLOW) {
        Err(Errno::LOOP) => {
            let link = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            let link = link.map_err(failed)?;
            let leads_to = rustix::fs::readlinkat(&link, "", Vec::new()).map_err(failed)?;
            let leads_to = folder_of(path).join(OsStr::from_bytes(leads_to.as_bytes()));
            let owner = rustix::fs::fstat(&link).map_err(failed)?.st_uid;
            (open(&leads_to, OFlags::empty()).map_err(failed)?, Some(owner))
        }
        opened => (opened.map_err(failed)?, None),
    };
    let meta = file.metadata().map_err(FileError::io("look at", path))?;
    let refused = |why: &str| Err(FileError::io("read", path)(io::Error::new(io::ErrorKind::InvalidInput, why)));
    let ours = rustix::process::geteuid().as_raw();
    if link.is_some_and(|owner| owner != 0 && owner != ours && owner != meta.uid()) {
        return refused("it is a symbolic link to a file that belongs to somebody else than the link does");
    }
    if meta.is_file() { Ok(file) } else { refused("it is not a regular file") }
}

/// Reads a whole regular file of at most `limit` bytes: see [`open_regular`].
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    read_open(&open_regular(path)?, path, limit)
}

/// Reads all of an opened file of at most `limit` bytes.
pub fn read_open(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    let length = bytes.len() as u64;
    if length > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), length, limit });
    }
    Ok(bytes)
}

/// Reads a file that only its owner may read or change, such as a key.
pub fn read_private(path: &Path, limit: u64) -> Result<super::secret::Secret, FileError> {
    let file = File::open(path).map_err(FileError::io("open", path))?;
    let meta = file.metadata().map_err(FileError::io("look at", path))?;
    if meta.is_file() {
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let can = if mode & 0o022 == 0 { "read" } else { "changed" };
            return Err(FileError::Exposed { path: path.to_owned(), can, mode, wanted: mode & 0o700 });
        }
    }
    Ok(super::secret::Secret::new(read_open(&file, path, limit)?))
}

/// Refuses a file that others than its owner may change, such as a policy.
pub fn check_unchangeable(path: &Path) -> Result<(), FileError> {
    let meta = fs::metadata(path).map_err(FileError::io("look at", path))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), can: "changed", mode, wanted: mode & 0o755 });
    }
    Ok(())
}

/// Creates a folder and its parents; those it creates get this mode.
pub fn create_folder(path: &Path, mode: u32) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(FileError::io("create the folder", path))
}

/// Writes a file durably: a temporary file beside it, fsync, rename, fsync of the folder. Replaces what was there.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = write_temporary(path, bytes, mode)?;
    temporary.persist(path).map_err(|error| FileError::io("rename to", path)(error.error))?;
    sync_folder_of(path)
}

/// Writes a new file durably; an error of kind `AlreadyExists` when there is one of that name, which stays as it is.
pub fn create_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = write_temporary(path, bytes, mode)?;
    temporary.persist_noclobber(path).map_err(|error| FileError::io("create", path)(error.error))?;
    sync_folder_of(path)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> Result<tempfile::NamedTempFile, FileError> {
    let folder = folder_of(path);
    let mut temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(FileError::io("create a file in", folder))?;
    temporary.write_all(bytes).map_err(FileError::io("write", path))?;
    temporary.as_file().sync_all().map_err(FileError::io("sync", path))?;
    Ok(temporary)
}

/// Makes what was created or renamed in a file's folder survive a power cut.
pub fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = folder_of(path);
    File::open(folder).and_then(|open| open.sync_all()).map_err(FileError::io("sync", folder))
}

/// The folder a file stands in; `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens a file for appending and locking, creating it with this mode.
pub fn open_or_create(path: &Path, mode: u32) -> Result<File, FileError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(path)
        .map_err(FileError::io("open", path))
}

/// Bytes free to this user on the filesystem that holds `path`.
pub fn free_bytes(path: &Path) -> Result<u64, FileError> {
    let stat =
        rustix::fs::statvfs(path).map_err(|errno| FileError::io("look at the filesystem of", path)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_durably(&path, b"one", 0o600).unwrap();
        let error = create_durably(&path, b"two", 0o600).unwrap_err();
        assert!(matches!(error, FileError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        write_durably(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_fifo_in_a_files_place_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let error = read_regular(&path, 100).unwrap_err();
        assert!(matches!(error, FileError::Io { source, .. } if source.to_string() == "it is not a regular file"));
        fs::write(folder.path().join("file"), b"content").unwrap();
        assert_eq!(read_regular(&folder.path().join("file"), 100).unwrap(), b"content");
    }

    #[test]
    fn a_link_is_followed_where_nobody_reads_through_it_what_is_not_his() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), b"content").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        assert_eq!(read_regular(&at("link"), 100).unwrap(), b"content");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::lchown(at("link"), Some(12_345), None).unwrap();
        let error = read_regular(&at("link"), 100).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("belongs to somebody else"));
        std::os::unix::fs::chown(at("file"), Some(12_345), None).unwrap();
        assert_eq!(read_regular(&at("link"), 100).unwrap(), b"content");
    }

    #[test]
    fn a_full_disk_says_what_may_go_first() {
        let hint = |kind: io::ErrorKind| FileError::io("write to", Path::new("/var/x"))(kind.into()).hint();
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(hint(full).unwrap().starts_with("make room on the disk of /var/x: old journals"));
        }
        assert_eq!(hint(io::ErrorKind::PermissionDenied), None);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, b"secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_private(&path, 100).unwrap_err();
        assert_eq!(error.hint().unwrap(), format!("chmod 0600 {}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_private(&path, 100).unwrap().expose(), b"secret");
        assert!(matches!(read_private(&path, 3), Err(FileError::TooLarge { limit: 3, .. })));
    }
}
