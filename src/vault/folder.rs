//! A vault in a folder. OpenDAL's own fs service is not used, for three reasons, each read in its source (0.59): it
//! does not sync the folder a file is created in, it follows links, and a listing ends quietly when a folder
//! vanishes. Here a partial object is never visible, no link inside the vault is followed, and a listing is whole
//! or an error.
//!
//! Every path is walked from the vault's folder part by part, so a link put in the way is refused and not followed. The
//! vault's own folder may be a link: where it lies is the operator's choice. It must never be created by a put: the
//! disk that holds it may be unmounted.

use super::error::VaultError;
use super::layout::{ObjectKey, Prefix, is_part};
use super::{Listed, Listing, Look, clock};
use crate::base::clock::Clock;
use crate::base::fsio;
use crate::base::ids::VaultName;
use crate::base::limits;
use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const TEMPORARY: &str = ".tmp";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A vault in a folder.
#[derive(Debug)]
pub(super) struct FolderStore {
    vault: VaultName,
    root: PathBuf,
    /// Folders whose entries a settled vault must not lose; relative, `""` for the vault's own.
    unsettled: Mutex<BTreeSet<String>>,
    swept: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Create,
    Fail,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Replace,
    Refuse,
}

impl FolderStore {
    pub(super) fn new(vault: VaultName, root: PathBuf) -> Self {
        Self { vault, root, unsettled: Mutex::default(), swept: AtomicBool::new(false) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the vault's folder and its parents where they are missing, durably.
    pub(super) fn create_root(&self) -> Result<(), VaultError> {
        let missing: Vec<&Path> = self.root.ancestors().take_while(|folder| !folder.exists()).collect();
        let failed = |error: fsio::FileError| {
            let source = match error {
                fsio::FileError::Io { source, .. } => source,
                other => std::io::Error::other(other),
            };
            self.failed("create", "its folder", source)
        };
        fsio::create_folder(&self.root, FOLDER_MODE).map_err(failed)?;
        for folder in missing {
            fsio::sync_folder_of(folder).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<(), VaultError> {
        self.place(key, bytes, Taken::Replace)
    }

    /// Puts an object only where there is none of that name; [`VaultError::Exists`] else.
    pub(super) fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<(), VaultError> {
        self.place(key, bytes, Taken::Refuse)
    }

    /// Makes everything that was put, listed or looked at since the last call survive a power cut.
    pub(super) fn settle(&self) -> Result<(), VaultError> {
        let mut left = std::mem::take(&mut *self.unsettled());
        while let Some(folder) = left.pop_first() {
            let synced = self.folder(&folder, Absent::Fail).and_then(|open| {
                rustix::fs::fsync(&open).map_err(|errno| self.failed("sync the folder", &folder, errno.into()))
            });
            if let Err(error) = synced {
                left.insert(folder);
                self.unsettled().append(&mut left);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, VaultError> {
        let (parent, name) = split(key);
        let folder = self.folder(parent, Absent::Fail)?;
        // NONBLOCK: a fifo put in the way must not make us wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| self.refused("open", key.as_str(), errno, "file"))?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.failed("look at", key.as_str(), errno.into()))?;
        let expected = self.length_of(&stat, key.as_str())?;
        if expected > limit {
            return Err(self.too_large(key, expected, limit));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0).saturating_add(1));
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| self.failed("read", key.as_str(), error))?;
        let got = bytes.len() as u64;
        if got > limit {
            return Err(self.too_large(key, got, limit));
        }
        if got != expected {
            return Err(VaultError::ShortRead { vault: self.vault.clone(), key: key.to_string(), expected, got });
        }
        Ok(bytes)
    }

    pub(super) fn look(&self, key: &ObjectKey) -> Result<Option<Look>, VaultError> {
        let (parent, name) = split(key);
        let folder = match self.folder(parent, Absent::Fail) {
            Ok(folder) => folder,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.refused("look at", key.as_str(), errno, "file")),
        };
        let length = self.length_of(&stat, key.as_str())?;
        self.remember(parent);
        Ok(Some(Look { length, stored: stored(&stat) }))
    }

    /// The clock by which the files here are dated. Where another machine serves them it is that machine's, and only a
    /// new file tells what it says: one without content, among those that are being put, for a moment.
    pub(super) fn now(&self, clock: Clock) -> Result<Timestamp, VaultError> {
        let failed = |errno: Errno| self.failed("look at the clock of", "its filesystem", errno.into());
        let root = self.folder("", Absent::Fail)?;
        if is_local(&root).map_err(failed)? {
            return Ok(clock.now());
        }
        self.now_by_a_file()
    }

    /// Whether this machine's own clock dates the files here; not where that cannot be told.
    pub(super) fn is_local(&self) -> bool {
        self.folder("", Absent::Fail).is_ok_and(|root| is_local(&root).unwrap_or(false))
    }

    pub(super) fn now_by_a_file(&self) -> Result<Timestamp, VaultError> {
        let key = ObjectKey::vault_json();
        let scratch = self.folder(TEMPORARY, Absent::Create)?;
        let name = self.scratch_name(&key)?;
        self.write_scratch(&scratch, &name, &key, b"")?;
        let stat = rustix::fs::statat(&scratch, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        // Best effort: a leftover is invisible and is swept.
        rustix::fs::unlinkat(&scratch, name.as_str(), AtFlags::empty()).ok();
        let stat = stat.map_err(|errno| self.failed("look at", "a new file", errno.into()))?;
        stored(&stat).ok_or_else(|| VaultError::NoClock { vault: self.vault.clone() })
    }

    /// Calls `each` for every object below the prefix, in no order.
    pub(super) fn visit(&self, prefix: &Prefix, each: &mut dyn FnMut(Listed)) -> Result<Listing, VaultError> {
        let mut rest = Listing::default();
        let mut folders = vec![prefix.as_str().trim_end_matches('/').to_owned()];
        while let Some(path) = folders.pop() {
            let folder = match self.folder(&path, Absent::Fail) {
                Ok(folder) => folder,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            self.visit_folder(&folder, &path, &mut folders, each, &mut rest)?;
            self.remember(&path);
        }
        Ok(rest)
    }

    /// The names of the folders directly below the prefix.
    pub(super) fn folders(&self, prefix: &Prefix) -> Result<Vec<String>, VaultError> {
        let path = prefix.as_str().trim_end_matches('/');
        let folder = match self.folder(path, Absent::Fail) {
            Ok(folder) => folder,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut below = Vec::new();
        self.visit_folder(&folder, path, &mut below, &mut |_| {}, &mut Listing::default())?;
        Ok(below.into_iter().filter_map(|path| path.rsplit('/').next().map(str::to_owned)).collect())
    }

    /// Removes an object; fine when there is none.
    pub(super) fn remove(&self, key: &ObjectKey) -> Result<(), VaultError> {
        let (parent, name) = split(key);
        let folder = match self.folder(parent, Absent::Fail) {
            Ok(folder) => folder,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) => {
                self.remember(parent);
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", key.as_str(), errno.into())),
        }
    }

    fn place(&self, key: &ObjectKey, bytes: &[u8], taken: Taken) -> Result<(), VaultError> {
        let scratch = self.folder(TEMPORARY, Absent::Create)?;
        let name = self.scratch_name(key)?;
        let placed =
            self.write_scratch(&scratch, &name, key, bytes).and_then(|()| self.publish(&scratch, &name, key, taken));
        if placed.is_err() {
            // Best effort: the error that brought us here says more than a failed removal, and a leftover is swept.
            rustix::fs::unlinkat(&scratch, name.as_str(), AtFlags::empty()).ok();
        }
        placed
    }

    fn write_scratch(&self, scratch: &OwnedFd, name: &str, key: &ObjectKey, bytes: &[u8]) -> Result<(), VaultError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = rustix::fs::openat(scratch, name, flags, Mode::from_raw_mode(FILE_MODE))
            .map(File::from)
            .map_err(|errno| self.failed("create", key.as_str(), errno.into()))?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.sweep(scratch, &file);
        }
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| self.failed("write", key.as_str(), error))
    }

    fn publish(&self, scratch: &OwnedFd, name: &str, key: &ObjectKey, taken: Taken) -> Result<(), VaultError> {
        let (parent, last) = split(key);
        let folder = self.folder(parent, Absent::Create)?;
        let renamed = match taken {
            Taken::Replace => rustix::fs::renameat(scratch, name, &folder, last),
            Taken::Refuse => rename_new(scratch, name, &folder, last),
        };
        match renamed {
            Ok(()) => {
                self.remember(parent);
                Ok(())
            }
            Err(Errno::EXIST) => Err(VaultError::Exists { vault: self.vault.clone() }),
            Err(errno) => Err(self.failed("put", key.as_str(), errno.into())),
        }
    }

    /// Removes what puts left behind that never came to their end. Best effort: a leftover is invisible and costs
    /// only space. Ages are compared on the filesystem's own clock: that of the file just created.
    fn sweep(&self, scratch: &OwnedFd, fresh: &File) {
        let (Ok(now), Ok(dir)) = (rustix::fs::fstat(fresh), Dir::read_from(scratch)) else { return };
        for entry in dir.flatten() {
            let Ok(stat) = rustix::fs::statat(scratch, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let age = now.st_mtime.saturating_sub(stat.st_mtime);
            let is_old = u64::try_from(age).is_ok_and(|age| age > limits::LEFTOVER_AGE.as_secs());
            if is_old && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                tracing::debug!(vault = %self.vault, "removes a leftover of an interrupted put");
                rustix::fs::unlinkat(scratch, entry.file_name(), AtFlags::empty()).ok();
            }
        }
    }

    fn scratch_name(&self, key: &ObjectKey) -> Result<String, VaultError> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random)
            .map_err(|error| self.failed("choose a name for", key.as_str(), std::io::Error::other(error)))?;
        Ok(format!("put-{}", hex::encode(random)))
    }

    /// Opens a folder of the vault, part by part, following no link.
    fn folder(&self, path: &str, absent: Absent) -> Result<OwnedFd, VaultError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = rustix::fs::openat(CWD, &self.root, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => {
                VaultError::Missing { vault: self.vault.clone(), folder: self.root.clone() }
            }
            _ => self.failed("open", "its folder", errno.into()),
        })?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let open = |from: &OwnedFd| rustix::fs::openat(from, part, flags | OFlags::NOFOLLOW, Mode::empty());
            folder = match open(&folder) {
                Err(Errno::NOENT) if absent == Absent::Create => {
                    match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(FOLDER_MODE)) {
                        Ok(()) | Err(Errno::EXIST) => open(&folder),
                        Err(errno) => Err(errno),
                    }
                }
                other => other,
            }
            .map_err(|errno| self.refused("open the folder", path, errno, "folder"))?;
        }
        Ok(folder)
    }

    fn visit_folder(
        &self,
        folder: &OwnedFd,
        path: &str,
        folders: &mut Vec<String>,
        each: &mut dyn FnMut(Listed),
        rest: &mut Listing,
    ) -> Result<(), VaultError> {
        let failed = |errno: Errno| self.failed("list", if path.is_empty() { "/" } else { path }, errno.into());
        for entry in Dir::read_from(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let full = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
            let stat = match rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Removed since its name was read: it is not there.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let key = full.parse::<ObjectKey>();
            match (FileType::from_raw_mode(stat.st_mode), key) {
                (FileType::Directory, Ok(_)) if is_part(&name) => folders.push(full),
                (FileType::RegularFile, Ok(key)) => {
                    let length = u64::try_from(stat.st_size).unwrap_or(0);
                    each(Listed { key, length, stored: stored(&stat) });
                }
                _ => rest.add_stranger(&full),
            }
        }
        Ok(())
    }

    /// Remembers a folder and all above it: a name is safe only when every folder on the way to it is.
    fn remember(&self, folder: &str) {
        let mut unsettled = self.unsettled();
        if unsettled.contains(folder) {
            return;
        }
        unsettled.insert(String::new());
        unsettled.insert(folder.to_owned());
        for (end, _) in folder.match_indices('/') {
            unsettled.insert(folder[..end].to_owned());
        }
    }

    fn unsettled(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length_of(&self, stat: &Stat, key: &str) -> Result<u64, VaultError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
            _ => Err(self.not_plain(key, "file")),
        }
    }

    fn refused(&self, action: &'static str, key: &str, errno: Errno, expected: &'static str) -> VaultError {
        match errno {
            Errno::NOENT => VaultError::NotFound { vault: self.vault.clone(), key: key.to_owned() },
            Errno::LOOP | Errno::NOTDIR => self.not_plain(key, expected),
            _ => self.failed(action, key, errno.into()),
        }
    }

    fn not_plain(&self, key: &str, expected: &'static str) -> VaultError {
        VaultError::NotPlain { vault: self.vault.clone(), key: key.to_owned(), expected }
    }

    fn too_large(&self, key: &ObjectKey, length: u64, limit: u64) -> VaultError {
        VaultError::TooLarge { vault: self.vault.clone(), key: key.to_string(), length, limit }
    }

    fn failed(&self, action: &'static str, key: &str, source: std::io::Error) -> VaultError {
        let key = if key.is_empty() { "/" } else { key }.to_owned();
        VaultError::Folder { vault: self.vault.clone(), action, key, folder: self.root.clone(), source }
    }
}

/// The folder and the name of an object.
fn split(key: &ObjectKey) -> (&str, &str) {
    key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()))
}

fn stored(stat: &Stat) -> Option<Timestamp> {
    Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).ok()?).ok()
}

/// Renames only where there is nothing of that name yet; by a link where the filesystem cannot say so.
fn rename_new(from: impl AsFd, name: &str, to: impl AsFd, last: &str) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(&from, name, &to, last, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(&from, name, &to, last, AtFlags::empty())?;
            rustix::fs::unlinkat(&from, name, AtFlags::empty())
        }
        other => other,
    }
}

fn is_local(root: impl std::os::fd::AsFd) -> Result<bool, Errno> {
    let kind = rustix::fs::fstatfs(root)?.f_type;
    Ok(clock::is_local(u64::try_from(kind).unwrap_or(u64::MAX)))
}
