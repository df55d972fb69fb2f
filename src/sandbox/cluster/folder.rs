//! The private folder of a scratch cluster: made, given in part to the server's user, wiped. A lock held for as long as
//! the owner lives tells an abandoned folder from one in use. Never removes a folder whose lock somebody holds.

use super::ClusterError;
use super::account::{self, Account};
use super::processes;
use crate::base::fsio::{self, FileError};
use rustix::fs::{AtFlags, FlockOperation, Gid, Uid};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every folder's name begins with.
const PREFIX: &str = "relay-pg-";
/// The file whose lock the owner holds.
const LOCK: &str = "owner.lock";
/// Where a socket goes when the folder's path is too long for one.
const SHORT_FOLDER: &str = "/tmp";
/// Longest path of a unix socket, in bytes, without the end's zero: Linux's `sun_path` has 108.
const SOCKET_BYTES_MAX: usize = 107;
/// What PostgreSQL calls its socket.
const SOCKET_NAME: &str = ".s.PGSQL.5432";
/// How often wiping is tried: a program that was ended may still be about to write.
const WIPE_TRIES: u32 = 20;
/// Pause between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A private folder, wiped when dropped. What the server may write to is in it, or beside it when paths are long.
#[derive(Debug)]
pub(super) struct Folder {
    root: tempfile::TempDir,
    beside: Option<tempfile::TempDir>,
    socket: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes one below `parent`.
    pub(super) fn create(parent: &Path) -> Result<Self, ClusterError> {
        let parent = &fs::canonicalize(parent).map_err(FileError::io("find", parent)).map_err(ClusterError::Folder)?;
        // Until its own lock is held, a new folder looks abandoned to another process that sweeps.
        let making = lock_parent(parent);
        let root = private(parent)?;
        let lock = fsio::open_or_create(&root.path().join(LOCK), 0o600).map_err(ClusterError::Folder)?;
        let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        locked.map_err(|errno| ClusterError::Folder(FileError::io("lock", root.path())(errno.into())))?;
        drop(making);
        let socket = root.path().join("socket");
        let long = socket.join(SOCKET_NAME).as_os_str().len() > SOCKET_BYTES_MAX;
        let beside = if long { Some(private(Path::new(SHORT_FOLDER))?) } else { None };
        let socket = beside.as_ref().map_or(socket, |beside| beside.path().join("socket"));
        let folder = Self { root, beside, socket, lock };
        for path in [folder.data(), folder.listening(), folder.socket().to_owned()] {
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(FileError::io("create", &path)).map_err(ClusterError::Folder)?;
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn data(&self) -> PathBuf {
        data_of(self.path())
    }

    /// Where the server makes its socket.
    pub(super) fn listening(&self) -> PathBuf {
        self.beside().join("server")
    }

    /// Where we go to it: a folder that the server does not see. In its own it could put a link to another server.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes the server's socket ours to go to, once it is there.
    pub(super) fn open_door(&self) -> Result<(), FileError> {
        let (from, to) = (self.listening().join(SOCKET_NAME), self.socket().join(SOCKET_NAME));
        match fs::hard_link(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(FileError::io("link to", &from)(error)),
            _ => Ok(()),
        }
    }

    fn beside(&self) -> &Path {
        self.beside.as_ref().map_or(self.path(), tempfile::TempDir::path)
    }

    /// Where the server's view of the machine is set up.
    pub(super) fn stage(&self) -> PathBuf {
        self.path().join("stage")
    }

    /// Where what is mounted on the stage can be written down.
    pub(super) fn table(&self) -> PathBuf {
        self.path().join("mounts")
    }

    /// What the server may write to.
    pub(super) fn given(&self) -> [PathBuf; 2] {
        [self.data(), self.listening()]
    }

    /// Gives the server's folders to this user.
    pub(super) fn give(&self, account: &Account) -> Result<(), ClusterError> {
        self.given().iter().try_for_each(|path| give(path, account)).map_err(ClusterError::Folder)
    }

    /// The same with all that is in them, and nobody at work there.
    pub(super) fn give_all(&self, account: &Account) -> Result<(), ClusterError> {
        self.given().iter().try_for_each(|path| give_all(path, account)).map_err(ClusterError::Folder)
    }

    /// Lets a user who sees the machine as it is walk to the server's folders.
    pub(super) fn let_through(&self, account: &Account) -> Result<(), ClusterError> {
        check_reachable(self.path().parent().unwrap_or(Path::new("/")), account)?;
        [self.path(), self.beside()].into_iter().try_for_each(|path| {
            let opened = fs::set_permissions(path, Permissions::from_mode(0o711));
            opened.map_err(FileError::io("open", path)).map_err(ClusterError::Folder)
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for path in std::iter::once(self.path()).chain(self.beside.as_ref().map(tempfile::TempDir::path)) {
            wipe(path);
        }
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(%error, "the lock of a scratch cluster stays until the process ends");
        }
    }
}

fn data_of(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn give(path: &Path, account: &Account) -> Result<(), FileError> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    // The thing itself, whatever lies there.
    let given = rustix::fs::chownat(rustix::fs::CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
    given.map_err(|errno| FileError::io("give away", path)(errno.into()))
}

fn give_all(path: &Path, account: &Account) -> Result<(), FileError> {
    if is_folder(path) {
        for entry in fs::read_dir(path).map_err(FileError::io("read", path))? {
            give_all(&entry.map_err(FileError::io("read", path))?.path(), account)?;
        }
    }
    give(path, account)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Removes a folder with all that is in it. A server that was taken over may have closed folders to their own user.
fn wipe(path: &Path) {
    for tries in 1..=WIPE_TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if tries == WIPE_TRIES => {
                tracing::warn!(path = %path.display(), %error, "a scratch cluster could not be wiped");
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound || path.exists() => {
                open_all(path);
                std::thread::sleep(TRY_AGAIN);
            }
            _ => return,
        }
    }
}

fn open_all(path: &Path) {
    if !is_folder(path) {
        return;
    }
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(0o700)) {
        tracing::debug!(path = %path.display(), %error, "a folder of a scratch cluster stays closed");
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_all(&entry.path());
    }
}

fn private(parent: &Path) -> Result<tempfile::TempDir, ClusterError> {
    tempfile::Builder::new()
        .prefix(PREFIX)
        .rand_bytes(6)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|source| ClusterError::Folder(FileError::io("create a folder in", parent)(source)))
}

/// Refuses a place that the account cannot walk to.
fn check_reachable(parent: &Path, account: &Account) -> Result<(), ClusterError> {
    for folder in parent.ancestors() {
        let meta = fs::metadata(folder).map_err(FileError::io("look at", folder)).map_err(ClusterError::Folder)?;
        let needed = match (meta.uid() == account.uid, meta.gid() == account.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if meta.mode() & needed == 0 {
            let user = uzers::get_user_by_uid(account.uid);
            let user = user.map_or_else(|| account.uid.to_string(), |user| user.name().to_string_lossy().into_owned());
            return Err(ClusterError::Closed { user, folder: parent.to_owned(), closed: folder.to_owned() });
        }
    }
    Ok(())
}

/// Locks the folder that holds the clusters' folders, waiting a little; `None` where that cannot be.
fn lock_parent(parent: &Path) -> Option<File> {
    let folder = File::open(parent).ok()?;
    for _ in 0..100 {
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(folder);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

/// Stops and wipes what killed processes left below `parent`. Does what it can: a failure is not the caller's.
pub(super) fn sweep(parent: &Path) {
    let Some(_sweeping) = lock_parent(parent) else { return };
    let Ok(entries) = fs::read_dir(parent) else { return };
    let own = uzers::get_effective_uid();
    for entry in entries.flatten() {
        let path = entry.path();
        // What somebody else called so is left alone.
        let is_ours = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
        if !is_ours || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        stop_abandoned(&data_of(&path));
        wipe(&path);
    }
}

/// Stops the server of a folder: whatever runs as the user that the folder was given to when that was a user of its
/// own, else who says that it serves this folder.
fn stop_abandoned(data: &Path) {
    let Ok(meta) = fs::symlink_metadata(data) else { return };
    account::end_unclaimed(meta.uid());
    processes::stop(|| processes::of_folder(meta.uid(), data));
}
