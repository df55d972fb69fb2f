//! What the system knows of a file: kind, owner, mode, times, extended attributes; and opening without following
//! links, waiting for a device, or leaving a trace.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What `stat` tells of a file, in our own types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) kind: FileType,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) links: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Seconds and nanoseconds of the last change of content.
    pub(super) modified: (i64, u32),
    /// Seconds and nanoseconds of the last change of content, owner or mode.
    pub(super) changed: (i64, u32),
}

impl From<Stat> for Meta {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    fn from(stat: Stat) -> Self {
        let nanos = |value: u64| u32::try_from(value).unwrap_or(0);
        Self {
            kind: FileType::from_raw_mode(stat.st_mode as _),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime as i64, nanos(stat.st_mtime_nsec as u64)),
            changed: (stat.st_ctime as i64, nanos(stat.st_ctime_nsec as u64)),
        }
    }
}

impl Meta {
    /// Whether the content may be another than it was.
    pub(super) fn has_changed(&self, later: &Self) -> bool {
        (self.size, self.modified, self.changed) != (later.size, later.modified, later.changed)
    }
}

/// Opens something in a folder for reading, without following a link in its last part, without waiting for the
/// other end of a fifo, and without touching its access time where that is allowed.
pub(super) fn open_in(folder: BorrowedFd<'_>, name: &OsStr, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | extra;
    match rustix::fs::openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only a file's owner and root may ask for that.
        Err(Errno::PERM) => rustix::fs::openat(folder, name, flags, Mode::empty()),
        other => other,
    }
}

/// The extended attributes of an open file or folder, sorted by name.
pub(super) fn attributes(file: impl AsFd) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    let file = file.as_fd();
    let names = match sized(|| rustix::fs::flistxattr_query(file), |buffer| rustix::fs::flistxattr(file, buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    read_each(&names, |name| {
        sized(|| rustix::fs::fgetxattr_query(file, name), |buffer| rustix::fs::fgetxattr(file, name, buffer))
    })
}

/// The extended attributes of a symbolic link itself, sorted by name.
pub(super) fn link_attributes(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    // By its folder, which is open: the way to it may have been changed, or be too long to be given.
    let path = &PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    let names = match sized(|| rustix::fs::llistxattr_query(path), |buffer| rustix::fs::llistxattr(path, buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    read_each(&names, |name| {
        sized(|| rustix::fs::lgetxattr_query(path, name), |buffer| rustix::fs::lgetxattr(path, name, buffer))
    })
}

fn read_each(names: &[u8], get: impl Fn(&OsStr) -> Result<Vec<u8>, Errno>) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsString::from_vec(name.to_vec());
        match get(&name) {
            Ok(value) => found.push((name, value)),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

/// Asks for the length, then for the bytes; again when it grew in between.
fn sized(
    query: impl Fn() -> Result<usize, Errno>,
    get: impl Fn(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    loop {
        let mut buffer = vec![0; query()?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match get(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The raw bytes of a path without its first slash, as it stands in a tar.
pub(super) fn stored_name(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
}
