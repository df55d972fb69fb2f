//! The private folder of a scratch cluster: made, given to the server's user, wiped. A lock held for as long as the
//! owner lives tells an abandoned folder from one in use. Never removes a folder whose lock somebody holds.

use super::ClusterError;
use crate::base::fsio::{self, FileError};
use rustix::fs::{FlockOperation, Gid, Uid};
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What every folder's name begins with.
const PREFIX: &str = "relay-pg-";
/// The file whose lock the owner holds.
const LOCK: &str = "owner.lock";
/// Where a socket goes when the folder's path is too long for one.
const SHORT_FOLDER: &str = "/tmp";
/// Longest path of a unix socket, in bytes, without the end's zero: Linux's `sun_path` has 108.
const SOCKET_BYTES_MAX: usize = 107;
/// What PostgreSQL adds to the socket's folder.
const SOCKET_NAME: &str = "/.s.PGSQL.5432";

/// The user a server runs as when this process is root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// Nobody else when not root; `postgres`, else `nobody`, when root.
    pub(super) fn choose() -> Result<Option<Self>, ClusterError> {
        if uzers::get_effective_uid() != 0 {
            return Ok(None);
        }
        let user = ["postgres", "nobody"].into_iter().find_map(uzers::get_user_by_name);
        let user = user.ok_or(ClusterError::NoUser)?;
        Ok(Some(Self { uid: user.uid(), gid: user.primary_group_id() }))
    }
}

/// A private folder, wiped when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    root: tempfile::TempDir,
    socket: Option<tempfile::TempDir>,
    lock: File,
}

impl Folder {
    /// Makes one below `parent` and gives it to the account.
    pub(super) fn create(parent: &Path, account: Option<Account>) -> Result<Self, ClusterError> {
        let parent =
            &std::fs::canonicalize(parent).map_err(FileError::io("find", parent)).map_err(ClusterError::Folder)?;
        if let Some(account) = account {
            check_reachable(parent, account)?;
        }
        // Until its own lock is held, a new folder looks abandoned to another process that sweeps.
        let making = lock_parent(parent);
        let root = private(parent)?;
        let lock = fsio::open_or_create(&root.path().join(LOCK), 0o600).map_err(ClusterError::Folder)?;
        let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        locked.map_err(|errno| ClusterError::Folder(FileError::io("lock", root.path())(errno.into())))?;
        drop(making);
        let long = root.path().as_os_str().len() + SOCKET_NAME.len() > SOCKET_BYTES_MAX;
        let socket = if long { Some(private(Path::new(SHORT_FOLDER))?) } else { None };
        let folder = Self { root, socket, lock };
        if let Some(account) = account {
            for path in std::iter::once(folder.path()).chain(folder.socket.as_ref().map(tempfile::TempDir::path)) {
                let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
                rustix::fs::chown(path, Some(uid), Some(gid))
                    .map_err(|errno| ClusterError::Folder(FileError::io("give away", path)(errno.into())))?;
            }
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(super) fn socket(&self) -> &Path {
        self.socket.as_ref().map_or(self.path(), tempfile::TempDir::path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(%error, "the lock of a scratch cluster stays until the process ends");
        }
    }
}

fn private(parent: &Path) -> Result<tempfile::TempDir, ClusterError> {
    tempfile::Builder::new()
        .prefix(PREFIX)
        .rand_bytes(6)
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|source| ClusterError::Folder(FileError::io("create a folder in", parent)(source)))
}

/// Refuses a place that the account cannot walk to.
fn check_reachable(parent: &Path, account: Account) -> Result<(), ClusterError> {
    for folder in parent.ancestors() {
        let meta = std::fs::metadata(folder).map_err(FileError::io("look at", folder)).map_err(ClusterError::Folder)?;
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
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    None
}

/// Stops and wipes what killed processes left below `parent`. Does what it can: a failure is not the caller's.
pub(super) fn sweep(parent: &Path) {
    let Some(_sweeping) = lock_parent(parent) else { return };
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        stop_abandoned(&path.join("data"));
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "an abandoned scratch cluster could not be wiped");
        }
    }
}

/// Stops the server whose pid file lies in this folder, if the process is really that server.
fn stop_abandoned(data: &Path) {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else { return };
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { return };
    let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return };
    let is_ours = command.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes());
    if let (true, Some(pid)) = (is_ours, Pid::from_raw(pid)) {
        match rustix::process::kill_process(pid, Signal::QUIT) {
            Ok(()) => std::thread::sleep(std::time::Duration::from_millis(300)),
            Err(error) => tracing::warn!(%error, "an abandoned scratch cluster could not be stopped"),
        }
    }
}

/// Whether a child has ended, though it was not waited for.
pub(super) fn has_ended(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which stands in parentheses and may hold any.
        Ok(stat) => stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}
