//! The fence: while a restore works, lightningd cannot start. A text file stands at the place of its database (it is
//! refused with "file is not a database" and left alone, also after a crash or a reboot), and the lock on its pid file
//! is held for as long as the value lives (lightningd then ends with "already running?"). Never stands without
//! explaining itself; lowering it removes nothing but this program's own text.

mod back;

pub use back::labels_aside;

use super::accounts::Owner;
use super::aside::Aside;
use super::place::{Attributes, Checked, Placed, Wanted, describe};
use super::record_lock::{self, Held, Holder};
use super::root::{Folder, Root, file, kind_of};
use super::{TargetError, steps};
use crate::base::fsio::FileError;
use crate::base::ids::SnapshotId;
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The first line of every fence. By it alone a fence is known; it must never change.
const MARK: &str = "relay-backup fence: this is not a Lightning database\n";
/// Most of a fence's text that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 16 * 1024;
/// Everybody may read it: lightningd must be able to, to refuse it, and so must whoever wonders.
const TEXT_MODE: u32 = 0o444;
/// Mode of a pid file as lightningd makes it (`lightningd.c`, `pidfile_create`).
const PID_FILE_MODE: u32 = 0o640;
/// How often a pid file that vanished before it was locked is opened again.
const TRIES_MAX: usize = 10;

/// The places of one Core Lightning node, as the restored machine names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The lightning directory.
    pub lightning_dir: PathBuf,
    /// The wallet database, where lightningd looks for it.
    pub wallet: PathBuf,
    /// The pid file: `<lightning_dir>/lightningd-<network>.pid` unless lightningd is told otherwise.
    pub pid_file: PathBuf,
    /// The user lightningd runs as.
    pub owner: Owner,
}

/// What the fence's text says of the run that raised it.
#[derive(Clone, Debug)]
pub struct Why<'a> {
    /// The command to run again, without anything secret: `relay-backup restore --scenario server-loss`.
    pub command: &'a str,
    /// The snapshot that is restored.
    pub snapshot: Option<&'a SnapshotId>,
    /// Since when.
    pub since: Timestamp,
}

/// What stands at the place of a wallet database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A fence, of this run or one that was cut off; its text.
    Fence(String),
    /// Something else: a database, most likely.
    Other(String),
}

/// A fence that stands. Dropped without being lowered, its text stays and its lock goes.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct Fence<'a> {
    root: &'a Root,
    place: Place,
    pid_file: Held,
}

/// Why a fence could not be raised or lowered.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// Somebody holds the lock.
    #[error("the lock on {} is held by {}", pid_file.display(), by_whom(*holder))]
    Held {
        /// The pid file on this machine.
        pid_file: PathBuf,
        /// The process, where it is known.
        holder: Option<u32>,
    },
    /// The pid file is another file as well.
    #[error("the pid file {} has a second name somewhere", pid_file.display())]
    SecondName {
        /// The pid file on this machine.
        pid_file: PathBuf,
    },
    /// The node's own configuration, which others can write, puts the pid file among files that are not the node's.
    #[error("the pid file {} lies outside of the lightning directory and is no file of the node's owner", pid_file.display())]
    Foreign {
        /// The pid file on this machine.
        pid_file: PathBuf,
    },
    /// What was to be replaced is no fence.
    #[error("{} holds no fence of ours any more, but {what}", path.display())]
    Gone {
        /// The place.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Target(#[from] TargetError),
}

fn by_whom(holder: Option<u32>) -> String {
    match holder {
        Some(0) => "a process in another container".to_owned(),
        Some(id) => format!("process {id}"),
        None => "another restore".to_owned(),
    }
}

impl FenceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Held { holder: Some(_), .. } => Some(
                "lightningd runs: stop it (`systemctl stop clightning`) before anything is restored under it"
                    .to_owned(),
            ),
            Self::Held { holder: None, .. } => Some("wait for the other restore to end".to_owned()),
            Self::Foreign { .. } => Some(
                "nothing is made or locked there for a configuration's sake: take `pid-file` out of lightningd's \
                 configuration, or make the file as the node's user, then run the same command again"
                    .to_owned(),
            ),
            Self::SecondName { pid_file } => Some(format!(
                "see that lightningd is stopped, then remove {}: lightningd makes it anew; whoever gave it a second name \
                 (`find / -xdev -samefile FILE`) may have wanted that file to be given away",
                pid_file.display()
            )),
            Self::Gone { .. } => {
                Some("see that lightningd is stopped and find out who wrote there, before anything else".to_owned())
            }
            Self::Target(error) => error.hint(),
        }
    }
}

impl From<FileError> for FenceError {
    fn from(error: FileError) -> Self {
        Self::Target(error.into())
    }
}

/// What stands at the place of the wallet database.
pub fn find(root: &Root, place: &Place) -> Result<Found, TargetError> {
    match root.parent_of(&place.wallet) {
        Ok((folder, name)) => found_in(&folder, &name),
        Err(TargetError::Missing { .. }) => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

fn found_in(folder: &Folder, name: &OsStr) -> Result<Found, TargetError> {
    let Some(stat) = folder.look(name)? else { return Ok(Found::Nothing) };
    if kind_of(&stat) == FileType::RegularFile {
        let path = folder.path().join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let there = rustix::fs::openat(folder.fd(), name, flags, Mode::empty());
        let there = File::from(there.map_err(|errno| file("open", &path, errno))?);
        let mut bytes = Vec::new();
        there.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).map_err(FileError::io("read", &path))?;
        if bytes.starts_with(MARK.as_bytes()) {
            return Ok(Found::Fence(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(Found::Other(describe(folder, name)?))
}

/// Raises the fence: takes the lock, then puts the text where the database belongs. A database that is there is
/// exchanged for the text in one instant and lies aside afterwards, with what belongs to it; without `aside` it is an
/// error. A fence that an earlier run left counts as raised.
pub fn raise<'a>(root: &'a Root, place: &Place, why: &Why<'_>, aside: Option<&Aside>) -> Result<Fence<'a>, FenceError> {
    let fence = hold(root, place)?;
    steps::reached("locked")?;
    fence.put(&|was| text(place, why, was), aside)?;
    Ok(fence)
}

/// Holds the lock alone, without a text: for a run that goes on after a cleared database took the fence's place, and
/// for whoever takes a stopped node's last state.
pub fn hold<'a>(root: &'a Root, place: &Place) -> Result<Fence<'a>, FenceError> {
    let pid_file = lock(root, place)?;
    Ok(Fence { root, place: place.clone(), pid_file })
}

/// Puts the text into the folder that takes the database, and exchanges the two.
fn exchange(
    root: &Root,
    place: &Place,
    text: &dyn Fn(Option<&Path>) -> String,
    aside: &Aside,
) -> Result<(), FenceError> {
    // Refuses what is no database before anything is made.
    root.aside_stand(aside)?;
    let name = place.wallet.file_name().unwrap_or_default();
    let (_, into) = root.open_aside(aside)?;
    match found_in(&into, name)? {
        Found::Nothing => {}
        Found::Fence(_) => remove(&into, name)?,
        Found::Other(what) => {
            return Err(TargetError::Occupied { path: into.path().join(name), what }.into());
        }
    }
    into.sweep()?;
    let ourselves = root.accounts.resolve(&Owner::ourselves(), &mut Vec::new())?;
    let attributes = Attributes { owner: ourselves, mode: TEXT_MODE, modified: None, extended: Vec::new() };
    let mut staged = root.stage_in(std::sync::Arc::new(into), name, attributes, Vec::new())?;
    let text = text(Some(&root.path_of(aside.folder())));
    staged.write_all(text.as_bytes()).map_err(FileError::io("write", &staged.path()))?;
    staged.trusted().publish()?;
    root.exchange_aside(aside)?;
    Ok(())
}

impl Fence<'_> {
    /// Raises the fence of a node that leaves this machine for good, where the lock alone was held: no restore will
    /// lower it. Otherwise like [`raise`].
    pub fn raise_for_good(self, why: &Why<'_>, aside: &Aside) -> Result<Self, FenceError> {
        self.put(&|was| farewell(&self.place, why, was), Some(aside))?;
        Ok(self)
    }

    /// Puts a text where the database belongs, and the database aside.
    fn put(&self, text: &dyn Fn(Option<&Path>) -> String, aside: Option<&Aside>) -> Result<(), FenceError> {
        let (root, place) = (self.root, &self.place);
        let parent = place.wallet.parent().unwrap_or(Path::new("/"));
        let folder = root.make_folders(parent, &place.lightning_dir, &place.owner, &mut Vec::new())?;
        let name = place.wallet.file_name().unwrap_or_default();
        match (found_in(&folder, name)?, aside) {
            (Found::Nothing, _) => {
                let (home, ourselves) = (&place.lightning_dir, Owner::ourselves());
                let wanted = Wanted { to: &place.wallet, home, owner: &ourselves, mode: TEXT_MODE };
                let mut staged = root.stage(&wanted)?;
                staged.write_all(text(None).as_bytes()).map_err(FileError::io("write", &staged.path()))?;
                staged.trusted().publish()?;
            }
            (Found::Fence(_), _) => {}
            (Found::Other(_), Some(aside)) => exchange(root, place, text, aside)?,
            (Found::Other(what), None) => {
                return Err(TargetError::Occupied { path: root.path_of(&place.wallet), what }.into());
            }
        }
        if let Some(aside) = aside
            && root.look(aside.folder())?.is_some()
        {
            // An earlier run may have been cut off before what belongs to the database followed it.
            root.finish_aside(aside)?;
        }
        Ok(())
    }

    /// Puts a checked file in the fence's place, over the text; the lock stays. Only for a channel database that a
    /// guard has cleared.
    pub fn publish(&self, checked: Checked<'_>) -> Result<Placed, FenceError> {
        let path = self.root.path_of(&self.place.wallet);
        match find(self.root, &self.place)? {
            Found::Fence(_) if checked.0.place() == path => Ok(checked.publish_over_ours()?),
            Found::Fence(_) => Err(FenceError::Gone { path, what: "the file is meant for another place".to_owned() }),
            Found::Nothing => Err(FenceError::Gone { path, what: "nothing".to_owned() }),
            Found::Other(what) => Err(FenceError::Gone { path, what }),
        }
    }

    /// Removes the text, if it is there, and gives the lock back. The pid file goes if it was made for the lock.
    pub fn lower(self) -> Result<(), FenceError> {
        let (folder, name) = self.root.parent_of(&self.place.wallet)?;
        if let Found::Fence(_) = found_in(&folder, &name)? {
            remove(&folder, &name)?;
            steps::reached("text removed")?;
        }
        folder.sync()?;
        Ok(self.release()?)
    }

    /// Gives the lock back and leaves the text, if there is one. The pid file goes if it was made for the lock.
    pub fn release(self) -> Result<(), TargetError> {
        let (folder, name) = self.root.parent_of(&self.place.pid_file)?;
        let path = self.root.path_of(&self.place.pid_file);
        let ours = rustix::fs::fstat(&*self.pid_file).map_err(|errno| file("look at", &path, errno))?;
        // lightningd always writes its number; an empty one is ours.
        let is_there = folder.look(&name)?.is_some_and(|stat| (stat.st_dev, stat.st_ino) == (ours.st_dev, ours.st_ino));
        if is_there && ours.st_size == 0 && self.place.is_pid_file_inside() {
            remove(&folder, &name)?;
        }
        Ok(())
    }

    /// Who else holds a lock on the pid file: nobody can, unless it was exchanged.
    pub(super) fn holds(&self, pid_file: &Path) -> bool {
        self.place.pid_file == pid_file
    }
}

fn remove(folder: &Folder, name: &OsStr) -> Result<(), TargetError> {
    match rustix::fs::unlinkat(folder.fd(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => folder.sync(),
        Err(errno) => Err(file("remove", &folder.path().join(name), errno)),
    }
}

impl Place {
    /// Whether the pid file lies in the lightning directory, where lightningd's own default puts it.
    fn is_pid_file_inside(&self) -> bool {
        self.pid_file.starts_with(&self.lightning_dir)
    }
}

/// Opens the pid file, made where it is missing so that lightningd can use it afterwards, and takes its lock.
fn lock(root: &Root, place: &Place) -> Result<Held, FenceError> {
    let path = root.path_of(&place.pid_file);
    let parent = place.pid_file.parent().unwrap_or(Path::new("/"));
    // A configuration belongs to the node's user: it must not make us create or hand over a file anywhere else.
    let is_inside = place.is_pid_file_inside();
    if !is_inside && !root.have_one_owner(&place.pid_file, &place.lightning_dir)? {
        return Err(FenceError::Foreign { pid_file: path });
    }
    let folder = root.make_folders(parent, &place.lightning_dir, &place.owner, &mut Vec::new())?;
    let name = place.pid_file.file_name().unwrap_or_default();
    for _ in 0..TRIES_MAX {
        let make = if is_inside { OFlags::CREATE } else { OFlags::empty() };
        let flags = make | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(folder.fd(), name, flags, Mode::from_raw_mode(PID_FILE_MODE));
        let opened = File::from(opened.map_err(|errno| file("open", &path, errno))?);
        let opened = match record_lock::take(opened).map_err(FileError::io("lock", &path))? {
            Ok(held) => held,
            Err(opened) => {
                let holder = match record_lock::holder(&opened).map_err(FileError::io("ask for the lock of", &path))? {
                    Some(Holder::Process(id)) => Some(id),
                    Some(Holder::OpenFile) => None,
                    // It was given back this moment.
                    None => continue,
                };
                return Err(FenceError::Held { pid_file: path, holder });
            }
        };
        let ours = rustix::fs::fstat(&*opened).map_err(|errno| file("look at", &path, errno))?;
        let there = folder.look(name)?;
        if there.is_none_or(|there| (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)) {
            continue; // lightningd removes it when it ends
        }
        if ours.st_nlink > 1 {
            // Whoever made the second name may want a file of somebody else's to be given away.
            return Err(FenceError::SecondName { pid_file: path });
        }
        if ours.st_size == 0 && is_inside {
            let owner = root.accounts.resolve(&place.owner, &mut Vec::new())?;
            root.set_owner_and_mode(&*opened, Some(owner), PID_FILE_MODE, &path, &mut Vec::new())?;
        }
        return Ok(opened);
    }
    Err(FenceError::Held { pid_file: path, holder: Some(0) })
}

fn text(place: &Place, why: &Why<'_>, aside: Option<&Path>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (since, pid, command) = (why.since, std::process::id(), why.command);
    let was = match aside {
        Some(folder) => format!(
            "The database that was here lies in\n    {}\nas it was. It may be the newest there is: keep it.",
            folder.display()
        ),
        None => "No database was here when this file was made.".to_owned(),
    };
    format!(
        "{MARK}\nrelay-backup {version} put it at {} at {since}, process {pid},\nwhile it ran\n    {command}\n{}\n\
         Why: as long as a restore is not finished, lightningd must not start. It would make an empty database\n\
         here, and every channel would be closed by its peer; or it would start on half a restore.\n\n{was}\n\n\
         To go on: run the command above again. It finds this file, goes on where it stopped, and removes it at the end.\n\n\
         To give up: only when you know which database belongs here, or that none does (then `emergencyrecover` is the\n\
         road), and lightningd is stopped: remove this file by hand. Never put an old copy of a channel database here.\n",
        place.wallet.display(),
        Snapshot(why.snapshot),
    )
}

/// The text for a node whose last state is in the vaults.
fn farewell(place: &Place, why: &Why<'_>, aside: Option<&Path>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (since, pid, command) = (why.since, std::process::id(), why.command);
    let snapshot = why.snapshot.map(|id| format!(", in the snapshot\n    {id}")).unwrap_or_default();
    let was = aside.map(|folder| folder.display().to_string()).unwrap_or_default();
    format!(
        "{MARK}\nrelay-backup {version} put it at {} at {since}, process {pid},\nwhile it ran\n    {command}\n\n\
         Why: the last state of this node was taken{snapshot}\nto be moved to another machine. From then on lightningd \
         must not start here: two copies of one\nnode lose its funds.\n\n\
         The database that was here lies in\n    {was}\nas it was.\n\n\
         To move the node: on the new machine, `relay-backup restore --scenario planned-migration`.\n\n\
         To keep the node here after all: `relay-backup undo-final`. It sees that nobody has claimed the snapshot, takes\n\
         it back in every vault, and puts the database here again. Never do that by hand: what was not taken back can\n\
         still be started elsewhere.\n",
        place.wallet.display(),
    )
}

struct Snapshot<'a>(Option<&'a SnapshotId>);

impl fmt::Display for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => writeln!(f, "to restore snapshot {id}."),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
