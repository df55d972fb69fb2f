//! A tar of ours unpacked where its files came from: each entry staged beside its place, made durable with others, and
//! renamed, with owner, mode,
//! times and extended attributes. What is equal stays; what differs is moved aside first. A tar that names anything
//! outside or holds a device is refused, what would bring channel state back is left out, and no link of it is ever
//! followed.

mod compare;
mod entry;

use super::accounts::{Numbers, Owner};
use super::aside::Aside;
use super::durable::{Durable, Filesystems};
use super::place::{Attributes, Checked, How, Placed, Staged, rename_new, same_bytes, times};
use super::root::{Folder, NewFolder, Root, file, kind_of, staging_name};
use super::{TargetError, steps};
use crate::base::fsio::FileError;
use crate::base::interrupt::Interrupt;
use crate::base::limits::{TAR_BATCH_BYTES_MAX, TAR_BATCH_FILES_MAX, TAR_ENTRIES_MAX};
use crate::report::{Finding, Level};
use crate::sources::files::rules::{self, LeftOut, Names};
use crate::sources::files::{Content, Head, Kind, TarError, TarReader, placed_content};
pub use compare::Compared;
use entry::{owner_of, place_of};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// How much of an entry is written at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
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
    /// What was left out.
    pub left_out: LeftOut,
    /// What could not be done as it should.
    pub findings: Vec<Finding>,
}

/// Why a tar could not be unpacked. What was placed before stays; the same call again goes on.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is damaged, or would do what no tar of ours does.
    #[error(transparent)]
    Tar(#[from] TarError),
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
            Self::Interrupted { .. } => Some("run the same command again; it goes on".to_owned()),
            Self::Target(error) => error.hint(),
        }
    }
}

fn hostile(name: &[u8], why: &'static str) -> TreeError {
    TarError::hostile(name, why).into()
}

impl Root {
    /// Unpacks a tar of one of our sources. Reads it as a stream, once. What it placed is durable when it returns.
    pub fn unpack(&self, tar: impl Read, how: &Unpack<'_>) -> Result<Unpacked, TreeError> {
        let mut reader = TarReader::new(tar);
        let mut tree = Tree::new(self, how);
        while let Some(head) = reader.next_entry()? {
            tree.check_interrupt()?;
            tree.take(head, &mut reader)?;
        }
        tree.settle()?;
        tree.flush()?;
        tree.finish_folders()?;
        Ok(Unpacked { left_out: tree.left_out, ..tree.done })
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

/// One unpacking.
struct Tree<'a> {
    root: &'a Root,
    how: &'a Unpack<'a>,
    done: Unpacked,
    /// Names of the files so far: only they may be given a second name.
    files: Names,
    /// Names of what was left out so far.
    skipped: Names,
    left_out: LeftOut,
    /// Folders that hold nothing half-made of an earlier run any more.
    swept: HashSet<PathBuf>,
    /// Folders whose owner, mode and times come last: what is made in them would change them.
    folders: Vec<(PathBuf, Head)>,
    /// A file that is written, and not placed: the next entry may be the same file once more, read again because it
    /// changed meanwhile; then the last counts.
    pending: Option<(Vec<u8>, PathBuf, Staged<'a>)>,
    /// Files that are written and checked, and wait to be made durable together before they are placed.
    batch: Vec<(Vec<u8>, PathBuf, Checked<'a>)>,
    batch_bytes: u64,
    filesystems: Filesystems,
    /// The folder of the last entry.
    here: Option<(PathBuf, Arc<Folder>)>,
    /// The owner of the last entry.
    owner: Option<(Owner, Numbers)>,
}

impl<'a> Tree<'a> {
    fn new(root: &'a Root, how: &'a Unpack<'a>) -> Self {
        Self {
            root,
            how,
            done: Unpacked::default(),
            files: Names::default(),
            skipped: Names::default(),
            left_out: LeftOut::default(),
            swept: HashSet::new(),
            folders: Vec::new(),
            pending: None,
            batch: Vec::new(),
            batch_bytes: 0,
            filesystems: Filesystems::new(),
            here: None,
            owner: None,
        }
    }

    fn check_interrupt(&self) -> Result<(), TreeError> {
        if self.how.interrupt.is_set() {
            return Err(TreeError::Interrupted { entries: self.done.entries });
        }
        Ok(())
    }

    fn take(&mut self, head: Head, content: &mut TarReader<impl Read>) -> Result<(), TreeError> {
        self.done.entries += 1;
        if self.done.entries > TAR_ENTRIES_MAX {
            return Err(hostile(&head.name, rules::TOO_MANY));
        }
        match &self.pending {
            Some((name, ..)) if *name == head.name && head.kind == Kind::File => self.pending = None,
            _ => self.settle()?,
        }
        let Some(path) = place_of(self.how, &head, &mut self.left_out)? else {
            self.skipped.add(&head.name);
            return Ok(());
        };
        match &head.kind {
            Kind::File => self.write_file(head, path, content),
            Kind::Folder => self.make_folder(head, path),
            Kind::Symlink(target) => self.make_symlink(&head, target, &path),
            Kind::HardLink(first) => self.make_hard_link(&head, first, &path),
            Kind::Other => Ok(()),
        }
    }

    fn leave_out(&mut self, name: &[u8], why: &'static str) {
        self.left_out.add(name, Level::Degraded, why);
        self.skipped.add(name);
    }

    /// The folder an entry stands in, its way made and swept.
    fn parent(&mut self, entry: &Head, path: &Path) -> Result<Arc<Folder>, TargetError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        if let Some((known, folder)) = &self.here
            && known == parent
        {
            return Ok(Arc::clone(folder));
        }
        let folder = Arc::new(self.root.make_folders(parent, parent, &owner_of(entry), &mut self.done.findings)?);
        if self.swept.insert(parent.to_owned()) {
            folder.sweep()?;
        }
        self.here = Some((parent.to_owned(), Arc::clone(&folder)));
        Ok(folder)
    }

    fn attributes(&mut self, entry: &Head) -> Result<Attributes, TargetError> {
        Ok(Attributes {
            owner: self.owner(entry)?,
            mode: entry.mode,
            modified: Some(entry.modified),
            extended: entry.extended.clone(),
        })
    }

    fn owner(&mut self, entry: &Head) -> Result<Numbers, TargetError> {
        let owner = owner_of(entry);
        if let Some((known, numbers)) = &self.owner
            && *known == owner
        {
            return Ok(*numbers);
        }
        let numbers = self.root.accounts.resolve(&owner, &mut self.done.findings)?;
        self.owner = Some((owner, numbers));
        Ok(numbers)
    }

    /// Moves aside what is in the way.
    fn clear(&mut self, path: &Path) -> Result<(), TargetError> {
        self.here = None;
        let moved = self.root.move_aside(&[Aside::single(path, self.how.label)?])?;
        self.done.aside.extend(moved.to);
        Ok(())
    }

    fn write_file(&mut self, entry: Head, path: PathBuf, content: &mut TarReader<impl Read>) -> Result<(), TreeError> {
        let folder = self.parent(&entry, &path)?;
        let attributes = self.attributes(&entry)?;
        let name = path.file_name().unwrap_or_default();
        self.filesystems.enter(&folder)?;
        let length = BUFFER_BYTES.min(usize::try_from(entry.size).unwrap_or(BUFFER_BYTES));
        let mut buffer = Zeroizing::new(vec![0; length]);
        content.read_exact(&mut buffer).map_err(|source| content.damaged(source))?;
        if length as u64 == entry.size
            && let Some(there) = self.root.open_like(&folder, name, &attributes, entry.size)?
            && same_bytes(&buffer[..], &there).map_err(FileError::io("compare", &path)).map_err(TargetError::from)?
        {
            self.leave(&entry, &there);
            return Ok(());
        }
        let mut staged = self.root.stage_in(folder, name, attributes, Vec::new())?;
        let mut count = length;
        while count > 0 {
            self.check_interrupt()?;
            let read = buffer.get(..count).unwrap_or_default();
            staged.write_all(read).map_err(FileError::io("write", &staged.path())).map_err(TargetError::from)?;
            count = content.read(&mut buffer).map_err(|source| content.damaged(source))?;
        }
        self.done.bytes += entry.size;
        self.pending = Some((entry.name, path, staged));
        Ok(())
    }

    /// Leaves a small file that is there already as it is: nothing is written to find that out.
    fn leave(&mut self, entry: &Head, there: &File) {
        self.done.bytes += entry.size;
        match placed_content(there) {
            Content::Harmless => {
                self.done.left += 1;
                self.files.add(&entry.name);
            }
            Content::Toxic(what) | Content::Unclear(what) | Content::TakenBefore(what) => {
                self.leave_out(&entry.name, what);
            }
        }
    }

    /// Checks the file that was written last, and places it or lets it wait for others.
    fn settle(&mut self) -> Result<(), TreeError> {
        let Some((name, path, staged)) = self.pending.take() else { return Ok(()) };
        let (checked, found) = staged.check(|written, _| {
            let length = written.metadata().map_err(FileError::io("look at", &path)).map_err(TargetError::from)?.len();
            Ok::<_, TreeError>((placed_content(written), length))
        })?;
        let length = match found {
            (Content::Harmless, length) => length,
            (Content::TakenBefore(what), _) => return self.set_aside(checked, &path, what),
            (Content::Toxic(what) | Content::Unclear(what), _) => {
                self.leave_out(&name, what);
                return Ok(());
            }
        };
        self.files.add(&name);
        if self.filesystems.enter(checked.0.folder())? == Durable::Now {
            self.clear_for(&checked, &path)?;
            let placed = checked.publish()?;
            self.count(placed);
            return Ok(());
        }
        self.batch.push((name, path, checked.ready()?));
        self.batch_bytes += length;
        if self.batch.len() >= TAR_BATCH_FILES_MAX || self.batch_bytes >= TAR_BATCH_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Places a file beside its place, under a name that no node starts on.
    fn set_aside(&mut self, mut checked: Checked<'_>, path: &Path, what: &str) -> Result<(), TreeError> {
        checked.under_another_name(QUARANTINE_ENDING, QUARANTINE_MODE);
        self.done.findings.push(quarantined(&self.root.path_of(path), what));
        let placed = checked.publish()?;
        self.count(placed);
        Ok(())
    }

    /// Makes durable what waits, and then places it. Its names become durable with the next batch, or at the end.
    fn flush(&mut self) -> Result<(), TreeError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.filesystems.sync()?;
        steps::reached("batch synced")?;
        self.batch_bytes = 0;
        for (_, path, ready) in std::mem::take(&mut self.batch) {
            self.clear_for(&ready, &path)?;
            let placed = ready.put()?;
            self.count(placed);
        }
        Ok(())
    }

    /// Moves aside what is in a file's way, unless it is that very file.
    fn clear_for(&mut self, checked: &Checked<'_>, path: &Path) -> Result<(), TargetError> {
        let staged = &checked.0;
        if staged.folder().look(staged.name())?.is_some() && !staged.is_there()? {
            self.clear(path)?;
        }
        Ok(())
    }

    fn count(&mut self, placed: Placed) {
        match placed.how {
            How::Placed => self.done.placed += 1,
            How::WasThere => self.done.left += 1,
        }
        self.done.findings.extend(placed.findings);
    }

    fn make_folder(&mut self, entry: Head, path: PathBuf) -> Result<(), TreeError> {
        let folder = self.parent(&entry, &path)?;
        let name = path.file_name().unwrap_or_default();
        let there = folder.look(name)?;
        let durable = self.filesystems.enter(&folder)?;
        if there.is_some_and(|stat| kind_of(&stat) != FileType::Directory) {
            self.flush()?;
            self.clear(&path)?;
        }
        if folder.look(name)?.is_none() {
            self.root.make_folder(
                &folder,
                name,
                NewFolder { owner: None, mode: 0o700, durable },
                &mut self.done.findings,
            )?;
        }
        self.done.folders += 1;
        self.folders.push((path, entry));
        Ok(())
    }

    /// Gives the folders their owners, modes and times, and makes all durable that is not yet.
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
            if self.filesystems.enter(&parent)? == Durable::Now {
                opened.sync_all().map_err(FileError::io("sync", &place)).map_err(TargetError::from)?;
            }
            steps::reached("folder finished")?;
        }
        Ok(self.filesystems.sync()?)
    }

    fn make_symlink(&mut self, entry: &Head, target: &[u8], path: &Path) -> Result<(), TreeError> {
        let folder = self.parent(entry, path)?;
        let name = path.file_name().unwrap_or_default();
        let place = folder.path().join(name);
        if folder.look(name)?.is_some() {
            let there = rustix::fs::readlinkat(folder.fd(), name, Vec::new());
            if there.is_ok_and(|there| there.to_bytes() == target) {
                self.done.left += 1;
                return Ok(());
            }
            self.flush()?;
            self.clear(path)?;
        }
        self.filesystems.enter(&folder)?;
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

    fn make_hard_link(&mut self, entry: &Head, target: &[u8], path: &Path) -> Result<(), TreeError> {
        if self.skipped.has(target) {
            self.leave_out(&entry.name, rules::SECOND_NAME);
            return Ok(());
        }
        if !self.files.has(target) {
            return Err(hostile(&entry.name, rules::NO_FIRST_NAME));
        }
        if self.batch.iter().any(|(name, ..)| name == target) {
            self.flush()?;
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
            self.flush()?;
            self.clear(path)?;
        }
        self.filesystems.enter(&folder)?;
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
        if self.filesystems.enter(folder)? == Durable::Now {
            folder.sync()?;
        }
        self.done.placed += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
