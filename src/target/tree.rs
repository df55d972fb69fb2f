//! A tar of ours unpacked where its files came from: each entry staged beside its place and renamed, with owner, mode,
//! times and extended attributes. What is equal stays; what differs is moved aside first. A tar that names anything
//! outside, holds a device, or would bring channel state back is refused, and no link of it is ever followed.

mod compare;
mod entry;

use super::accounts::Numbers;
use super::aside::Aside;
use super::place::{Attributes, How, Staged, rename_new, times};
use super::root::{Folder, Root, file, kind_of, staging_name};
use super::{TargetError, steps};
use crate::artifact::channels::NAMES_REFUSED;
use crate::base::fsio::FileError;
use crate::base::interrupt::Interrupt;
use crate::base::limits::TAR_ENTRIES_MAX;
use crate::report::{Finding, Level};
use crate::sources::files::{Content, TarError, Whole, content};
pub use compare::Compared;
use entry::{Entry, Kind};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How much of an entry is written at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// What SQLite keeps beside a database.
const COMPANIONS: [&[u8]; 4] = [b"", b"-journal", b"-wal", b"-shm"];

/// What is added to the name of a file that may hold channel state and that an older version took.
const QUARANTINE_ENDING: &str = ".TOXIC";
/// Its mode.
const QUARANTINE_MODE: u32 = 0o400;

/// How a tar is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Unpack<'a> {
    /// The folder its names are relative to: `/` for a source of files, the lightning directory for a node's extras.
    pub below: &'a Path,
    /// What is added to the name of what is moved aside: see [`Aside::single`].
    pub label: &'a str,
    /// Places that it must leave alone, such as a node's wallet and its `hsm_secret`.
    pub forbidden: &'a [PathBuf],
    /// The wish to stop.
    pub interrupt: &'a Interrupt,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries of the tar.
    pub entries: u64,
    /// Files and links that were put in their place now.
    pub placed: u64,
    /// Files and links that were there already.
    pub left: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// What was in the way, where it lies now.
    pub aside: Vec<PathBuf>,
    /// What could not be done as it should.
    pub findings: Vec<Finding>,
}

/// Why a tar could not be unpacked. What was placed before stays; the same call again goes on.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is damaged, or would do what no tar of ours does.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It would bring channel state to a place where a node could start on it.
    #[error("the tar's entry {name:?} is {what}, and a node started on an old one loses its channels")]
    Toxic {
        /// The entry's name, made printable.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// Somebody asked to stop.
    #[error("interrupted after {entries} entries")]
    Interrupted {
        /// Entries that were placed.
        entries: u64,
    },
    /// The disk.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl TreeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tar(error) => Some(error.hint()),
            Self::Toxic { .. } => {
                Some("take it out with `extract` to a file with TOXIC in its name, if it is needed at all".to_owned())
            }
            Self::Interrupted { .. } => Some("run the same command again; it goes on".to_owned()),
            Self::Target(error) => error.hint(),
        }
    }
}

fn hostile(name: &[u8], why: &'static str) -> TreeError {
    TarError::hostile(name, why).into()
}

impl Root {
    /// Unpacks a tar of one of our sources. Reads it as a stream, once.
    pub fn unpack(&self, tar: impl Read, how: &Unpack<'_>) -> Result<Unpacked, TreeError> {
        let (watched, whole) = Whole::watch(tar);
        let mut archive = tar::Archive::new(watched);
        let mut tree = Tree {
            root: self,
            how,
            done: Unpacked::default(),
            files: HashSet::new(),
            swept: HashSet::new(),
            folders: Vec::new(),
            pending: None,
        };
        let bad = |entries| move |source| TarError::Damaged { entries, source };
        for read in archive.entries().map_err(bad(0))? {
            let mut read = read.map_err(bad(tree.done.entries))?;
            tree.check_interrupt()?;
            let entry = Entry::read(&mut read).map_err(bad(tree.done.entries))?;
            tree.take(entry, &mut read)?;
        }
        let entries = tree.done.entries;
        io::copy(&mut archive.into_inner(), &mut io::sink()).and_then(|_| whole.check()).map_err(bad(entries))?;
        tree.settle()?;
        tree.finish_folders()?;
        Ok(tree.done)
    }
}

/// Tells of a file that does not come back under its name.
fn quarantined(path: &Path, what: &str) -> Finding {
    let ending = QUARANTINE_ENDING;
    let message = format!("the snapshot holds {what} here, as old as the snapshot is: it lies beside, as …{ending}");
    let hint = "never let a node or wallet start on it where it has channels: an old copy can lose them all; bring that \
                node back by its seed and its own backup of channels";
    Finding::new(Level::Degraded, "toxic-set-aside", path.display().to_string(), message).with_hint(hint)
}

/// Refuses an entry that would come where this tar has no business.
fn refuse_forbidden(how: &Unpack<'_>, entry: &Entry, path: &Path) -> Result<(), TreeError> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let is_toxic = |known: &str| COMPANIONS.iter().any(|end| name.strip_prefix(known.as_bytes()) == Some(end));
    if NAMES_REFUSED.into_iter().any(is_toxic) {
        return Err(TreeError::Toxic {
            name: TarError::shown(&entry.name),
            what: "named as a node's channel database",
        });
    }
    for forbidden in how.forbidden {
        let its_own = path.as_os_str().as_bytes().strip_prefix(forbidden.as_os_str().as_bytes());
        if its_own.is_some_and(|end| COMPANIONS.contains(&end)) {
            return Err(hostile(&entry.name, "would be put where this tar must leave things alone"));
        }
        if path.starts_with(forbidden) || (entry.kind != Kind::Folder && forbidden.starts_with(path)) {
            return Err(hostile(&entry.name, "would move aside what this tar must leave alone"));
        }
    }
    Ok(())
}

/// One unpacking.
struct Tree<'a> {
    root: &'a Root,
    how: &'a Unpack<'a>,
    done: Unpacked,
    /// Names of the files so far: only they may be given a second name.
    files: HashSet<Vec<u8>>,
    /// Folders that hold nothing half-made of an earlier run any more.
    swept: HashSet<PathBuf>,
    /// Folders whose owner, mode and times come last: what is made in them would change them.
    folders: Vec<(PathBuf, Entry)>,
    /// A file that is written, and not placed: the next entry may be the same file once more, read again because it
    /// changed meanwhile; then the last counts.
    pending: Option<(Vec<u8>, PathBuf, Staged<'a>)>,
}

impl<'a> Tree<'a> {
    fn check_interrupt(&self) -> Result<(), TreeError> {
        if self.how.interrupt.is_set() {
            return Err(TreeError::Interrupted { entries: self.done.entries });
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry, content: &mut impl Read) -> Result<(), TreeError> {
        self.done.entries += 1;
        if self.done.entries > TAR_ENTRIES_MAX {
            return Err(hostile(&entry.name, "is one entry too many"));
        }
        let path = entry.place(self.how.below)?;
        refuse_forbidden(self.how, &entry, &path)?;
        match &self.pending {
            Some((name, ..)) if *name == entry.name && entry.kind == Kind::File => self.pending = None,
            _ => self.settle()?,
        }
        match &entry.kind {
            Kind::File => self.write_file(entry, path, content),
            Kind::Folder => self.make_folder(entry, path),
            Kind::Symlink(_) => self.make_symlink(&entry, &path),
            Kind::HardLink(_) => self.make_hard_link(&entry, &path),
        }
    }

    /// The folder an entry stands in, its way made and swept.
    fn parent(&mut self, entry: &Entry, path: &Path) -> Result<Folder, TargetError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let folder = self.root.make_folders(parent, parent, &entry.owner, &mut self.done.findings)?;
        if self.swept.insert(parent.to_owned()) {
            folder.sweep()?;
        }
        Ok(folder)
    }

    fn attributes(&mut self, entry: &Entry) -> Result<Attributes, TargetError> {
        Ok(Attributes {
            owner: self.owner(entry)?,
            mode: entry.mode,
            modified: Some(entry.modified),
            extended: entry.extended.clone(),
        })
    }

    fn owner(&mut self, entry: &Entry) -> Result<Numbers, TargetError> {
        self.root.accounts.resolve(&entry.owner, &mut self.done.findings)
    }

    /// Moves aside what is in the way.
    fn clear(&mut self, path: &Path) -> Result<(), TargetError> {
        let moved = self.root.move_aside(&[Aside::single(path, self.how.label)?])?;
        self.done.aside.extend(moved.to);
        Ok(())
    }

    fn write_file(&mut self, entry: Entry, path: PathBuf, content: &mut impl Read) -> Result<(), TreeError> {
        let folder = self.parent(&entry, &path)?;
        let attributes = self.attributes(&entry)?;
        let name = path.file_name().unwrap_or_default();
        let mut staged = self.root.stage_in(folder, name, attributes, Vec::new())?;
        let mut buffer = Zeroizing::new(vec![0; BUFFER_BYTES]);
        let mut length = 0;
        loop {
            self.check_interrupt()?;
            let entries = self.done.entries - 1;
            let count = content.read(&mut buffer).map_err(|source| TarError::Damaged { entries, source })?;
            if count == 0 {
                break;
            }
            let read = buffer.get(..count).unwrap_or_default();
            staged.write_all(read).map_err(FileError::io("write", &staged.path())).map_err(TargetError::from)?;
            length += count as u64;
        }
        if length != entry.size {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "a file in it breaks off");
            return Err(TarError::Damaged { entries: self.done.entries - 1, source }.into());
        }
        self.done.bytes += length;
        self.pending = Some((entry.name, path, staged));
        Ok(())
    }

    /// Places the file that was written last.
    fn settle(&mut self) -> Result<(), TreeError> {
        let Some((name, path, staged)) = self.pending.take() else { return Ok(()) };
        let (mut checked, taken_before) = staged.check(|written, _| match content(written) {
            Content::Harmless => Ok(None),
            Content::TakenBefore(what) => Ok(Some(what)),
            Content::Toxic(what) | Content::Unclear(what) => {
                Err(TreeError::Toxic { name: TarError::shown(&name), what })
            }
        })?;
        if let Some(what) = taken_before {
            checked.under_another_name(QUARANTINE_ENDING, QUARANTINE_MODE);
            self.done.findings.push(quarantined(&self.root.path_of(&path), what));
        } else if !checked.is_there()? && self.root.look(&path)?.is_some() {
            self.clear(&path)?;
        }
        let placed = checked.publish()?;
        match placed.how {
            How::Placed => self.done.placed += 1,
            How::WasThere => self.done.left += 1,
        }
        self.done.findings.extend(placed.findings);
        self.files.insert(name);
        Ok(())
    }

    fn make_folder(&mut self, entry: Entry, path: PathBuf) -> Result<(), TreeError> {
        let folder = self.parent(&entry, &path)?;
        let name = path.file_name().unwrap_or_default();
        let there = folder.look(name)?;
        if there.is_some_and(|stat| kind_of(&stat) != FileType::Directory) {
            self.clear(&path)?;
        }
        if folder.look(name)?.is_none() {
            self.root.make_folder(&folder, name, None, 0o700, &mut self.done.findings)?;
        }
        self.done.folders += 1;
        self.folders.push((path, entry));
        Ok(())
    }

    fn finish_folders(&mut self) -> Result<(), TreeError> {
        // The deepest first: a folder that is closed to this user would hide those below it.
        for (path, entry) in std::mem::take(&mut self.folders).into_iter().rev() {
            let attributes = self.attributes(&entry)?;
            let (parent, name) = self.root.parent_of(&path)?;
            let place = parent.path().join(&name);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(parent.fd(), &name, flags, Mode::empty());
            let opened = File::from(opened.map_err(|errno| file("open", &place, errno))?);
            for (name, value) in &attributes.extended {
                if let Err(errno) = rustix::fs::fsetxattr(&opened, name, value, XattrFlags::empty()) {
                    let what = format!("attribute {}", name.to_string_lossy());
                    self.root.excuse(what, "attribute-not-set", &place, errno, &mut self.done.findings)?;
                }
            }
            let owner = Some(attributes.owner);
            self.root.set_owner_and_mode(&opened, owner, attributes.mode, &place, &mut self.done.findings)?;
            let set = rustix::fs::futimens(&opened, &times(entry.modified));
            set.map_err(|errno| file("set the times of", &place, errno))?;
            opened.sync_all().map_err(FileError::io("sync", &place)).map_err(TargetError::from)?;
            steps::reached("folder finished")?;
        }
        Ok(())
    }

    fn make_symlink(&mut self, entry: &Entry, path: &Path) -> Result<(), TreeError> {
        let Kind::Symlink(target) = &entry.kind else { return Ok(()) };
        entry.check_target(target, path, self.how.below)?;
        let folder = self.parent(entry, path)?;
        let name = path.file_name().unwrap_or_default();
        let place = folder.path().join(name);
        if folder.look(name)?.is_some() {
            let there = rustix::fs::readlinkat(folder.fd(), name, Vec::new());
            if there.is_ok_and(|there| there.to_bytes() == target.as_slice()) {
                self.done.left += 1;
                return Ok(());
            }
            self.clear(path)?;
        }
        let staging = staging_name()?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), folder.fd(), &staging)
            .map_err(|errno| file("create the link", &place, errno))?;
        steps::reached("link made")?;
        let owner = self.owner(entry)?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        let ours = rustix::fs::statat(folder.fd(), &staging, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| file("look at", &place, errno))?;
        if (ours.st_uid, ours.st_gid) != (owner.uid, owner.gid)
            && let Err(errno) =
                rustix::fs::chownat(folder.fd(), &staging, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        {
            self.root.excuse_owner(owner, &place, errno, &mut self.done.findings)?;
        }
        let through = PathBuf::from(format!("/proc/self/fd/{}", folder.fd().as_raw_fd())).join(&staging);
        for (key, value) in &entry.extended {
            if let Err(errno) = rustix::fs::lsetxattr(&through, key, value, XattrFlags::empty()) {
                let what = format!("attribute {}", key.to_string_lossy());
                self.root.excuse(what, "attribute-not-set", &place, errno, &mut self.done.findings)?;
            }
        }
        rustix::fs::utimensat(folder.fd(), &staging, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| file("set the times of", &place, errno))?;
        self.publish_name(&folder, &staging, name)
    }

    fn make_hard_link(&mut self, entry: &Entry, path: &Path) -> Result<(), TreeError> {
        let Kind::HardLink(target) = &entry.kind else { return Ok(()) };
        if !self.files.contains(target) {
            return Err(hostile(&entry.name, "is a second name of a file that is not in the tar before it"));
        }
        let first = self.how.below.join(OsStr::from_bytes(target));
        let (from, first_name) = self.root.parent_of(&first)?;
        let folder = self.parent(entry, path)?;
        let name = path.file_name().unwrap_or_default();
        let place = folder.path().join(name);
        let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        if let Some(there) = folder.look(name)? {
            if from.look(&first_name)?.map(id) == Some(id(there)) {
                self.done.left += 1;
                return Ok(());
            }
            self.clear(path)?;
        }
        let staging = staging_name()?;
        rustix::fs::linkat(from.fd(), &first_name, folder.fd(), &staging, AtFlags::empty())
            .map_err(|errno| file("link", &place, errno))?;
        steps::reached("second name made")?;
        self.publish_name(&folder, &staging, name)
    }

    /// Gives a staged link its name.
    fn publish_name(&mut self, folder: &Folder, staging: &OsStr, name: &OsStr) -> Result<(), TreeError> {
        rename_new(folder, staging, folder, name)
            .map_err(|errno| file("rename to", &folder.path().join(name), errno))?;
        steps::reached("link renamed")?;
        folder.sync()?;
        self.done.placed += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
