//! The root that all paths of a restore lie below: `/`, or a folder given by `--root`. Every path is walked part by
//! part from there, and a symbolic link on the way is refused, so that nothing is read or written elsewhere.

use super::accounts::{Accounts, Numbers, Owner};
use super::durable::Durable;
use super::{TargetError, steps};
use crate::base::flock::Locked;
use crate::base::fsio::FileError;
use crate::report::{Finding, Level};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What the name of everything half-made begins with.
pub const STAGING_PREFIX: &str = ".relay-backup-staging-";
/// Mode of a folder that was missing and belongs to the restored file's service.
const HOME_MODE: u32 = 0o750;
/// Mode of a folder that was missing above that.
pub(super) const ABOVE_MODE: u32 = 0o755;

/// Whether a restored file must get its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// It must; a step that cannot give it fails.
    Required,
    /// A finding is enough: a try-out by an ordinary user below another root.
    WherePossible,
}

/// Where a restore goes.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    folder: OwnedFd,
    pub(super) accounts: Accounts,
    owners: Owners,
}

/// What a folder gets that was not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewFolder {
    /// Its owner; none means this process.
    pub(super) owner: Option<Numbers>,
    pub(super) mode: u32,
    pub(super) durable: Durable,
}

/// A folder that was reached without a link.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// The machine itself.
    pub fn machine() -> Result<Self, TargetError> {
        Self::open(Path::new("/"), Accounts::System, Owners::Required)
    }

    /// A folder that must be there; every path of the restore is taken to lie below it.
    pub fn below(folder: &Path, owners: Owners) -> Result<Self, TargetError> {
        let path = std::fs::canonicalize(folder).map_err(FileError::io("find", folder))?;
        if path == Path::new("/") {
            return Self::machine();
        }
        let mut root = Self::open(&path, Accounts::Nobody, owners)?;
        root.accounts = Accounts::below(&root)?;
        Ok(root)
    }

    fn open(path: &Path, accounts: Accounts, owners: Owners) -> Result<Self, TargetError> {
        let folder = open_folder(CWD, path.as_os_str()).map_err(|errno| file("open", path, errno))?;
        Ok(Self { path: path.to_owned(), folder, accounts, owners })
    }

    /// Whether this is the machine itself, whose units and processes then count.
    pub fn is_machine(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Where a path of the restored machine lies on this one; for messages and for programs that want a path. Whoever
    /// opens it must expect links on the way.
    pub fn path_of(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The folder that holds what stands at `path`, and its name there.
    pub(super) fn parent_of(&self, path: &Path) -> Result<(Folder, OsString), TargetError> {
        let name = parts(path)?.pop().map(OsStr::to_owned).ok_or_else(|| bad(path, "it is the root itself"))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.folder(parent)?, name))
    }

    /// A folder that is there.
    pub(super) fn folder(&self, path: &Path) -> Result<Folder, TargetError> {
        let mut here = self.top()?;
        for part in parts(path)? {
            here = here.enter(part)?;
        }
        Ok(here)
    }

    fn top(&self) -> Result<Folder, TargetError> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.folder, 0).map_err(|errno| file("open", &self.path, errno))?;
        Ok(Folder { fd, path: self.path.clone() })
    }

    /// What is at a path: `None` where nothing is, be it that a folder on the way is missing.
    pub(super) fn look(&self, path: &Path) -> Result<Option<Stat>, TargetError> {
        match self.parent_of(path) {
            Ok((folder, name)) => folder.look(&name),
            Err(TargetError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reaches a folder and makes what is missing of the way. From `home` downwards new folders belong to `owner`, with
    /// mode 0750; above it they are this process's, with mode 0755. A folder appears with owner and mode or not at all.
    pub(super) fn make_folders(
        &self,
        path: &Path,
        home: &Path,
        owner: &Owner,
        findings: &mut Vec<Finding>,
    ) -> Result<Folder, TargetError> {
        self.make_way(path, findings, |named, findings| {
            let belongs = named.starts_with(home);
            let numbers = if belongs { Some(self.accounts.resolve(owner, findings)?) } else { None };
            Ok((numbers, if belongs { HOME_MODE } else { ABOVE_MODE }))
        })
    }

    /// Reaches a folder and makes what is missing of the way, each with the owner and the mode that it is given; no
    /// owner means this process.
    pub(super) fn make_way(
        &self,
        path: &Path,
        findings: &mut Vec<Finding>,
        given: impl Fn(&Path, &mut Vec<Finding>) -> Result<(Option<Numbers>, u32), TargetError>,
    ) -> Result<Folder, TargetError> {
        let mut here = self.top()?;
        let mut named = PathBuf::from("/");
        for part in parts(path)? {
            named.push(part);
            here = match here.enter(part) {
                Err(TargetError::Missing { .. }) => {
                    here.sweep()?;
                    let (owner, mode) = given(&named, findings)?;
                    self.make_folder(&here, part, NewFolder { owner, mode, durable: Durable::Now }, findings)?;
                    here.enter(part)?
                }
                other => other?,
            };
        }
        Ok(here)
    }

    /// Makes one folder that was not there.
    pub(super) fn make_folder(
        &self,
        parent: &Folder,
        name: &OsStr,
        new: NewFolder,
        findings: &mut Vec<Finding>,
    ) -> Result<(), TargetError> {
        let NewFolder { owner, mode, durable } = new;
        let staging = staging_name()?;
        let staged = parent.path.join(&staging);
        rustix::fs::mkdirat(&parent.fd, &staging, Mode::from_raw_mode(0o700))
            .map_err(|errno| file("create the folder", &staged, errno))?;
        steps::reached("folder made")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent.fd, &staging, flags, Mode::empty())
            .map_err(|errno| file("open", &staged, errno))?;
        // Whoever sweeps leaves what is locked.
        let fd = Locked::shared(fd).map_err(|(_, errno)| file("lock", &staged, errno))?;
        let path = parent.path.join(name);
        self.set_owner_and_mode(&fd, owner, mode, &path, findings)?;
        steps::reached("folder given away")?;
        if durable == Durable::Now {
            rustix::fs::fsync(&fd).map_err(|errno| file("sync", &staged, errno))?;
        }
        rustix::fs::renameat_with(&parent.fd, &staging, &parent.fd, name, RenameFlags::NOREPLACE)
            .map_err(|errno| file("create the folder", &path, errno))?;
        steps::reached("folder renamed")?;
        if durable == Durable::Now { parent.sync() } else { Ok(()) }
    }

    /// Sets owner and mode of an open file or folder and looks whether they are set. No owner means this process.
    pub(super) fn set_owner_and_mode(
        &self,
        fd: impl AsFd,
        owner: Option<Numbers>,
        mode: u32,
        path: &Path,
        findings: &mut Vec<Finding>,
    ) -> Result<(), TargetError> {
        let mut mode = mode & 0o7777;
        if let Some(owner) = owner {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            let stat = rustix::fs::fstat(&fd).map_err(|errno| file("look at", path, errno))?;
            let given = if (stat.st_uid, stat.st_gid) == (owner.uid, owner.gid) {
                Ok(())
            } else {
                rustix::fs::fchown(&fd, Some(uid), Some(gid))
            };
            if let Err(errno) = given {
                self.excuse_owner(owner, path, errno, findings)?;
                // What runs with its owner's rights must not run with those of whoever restores.
                mode &= 0o1777;
            }
        }
        let refused =
            |source| TargetError::Attribute { what: format!("mode {mode:04o}"), path: path.to_owned(), source };
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(|errno| refused(errno.into()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| file("look at", path, errno))?;
        if stat.st_mode & 0o7777 != mode {
            return Err(refused(io::Error::from(io::ErrorKind::PermissionDenied)));
        }
        Ok(())
    }

    /// A finding where an owner that could not be given is one; an error elsewhere.
    pub(super) fn excuse_owner(
        &self,
        owner: Numbers,
        path: &Path,
        errno: Errno,
        findings: &mut Vec<Finding>,
    ) -> Result<(), TargetError> {
        let what = format!("owner {}:{}", owner.uid, owner.gid);
        self.excuse(what, "owner-not-set", path, errno, findings)
    }

    /// The same for anything that only root may set.
    pub(super) fn excuse(
        &self,
        what: String,
        code: &str,
        path: &Path,
        errno: Errno,
        findings: &mut Vec<Finding>,
    ) -> Result<(), TargetError> {
        if self.owners == Owners::Required || !matches!(errno, Errno::PERM | Errno::ACCESS) {
            return Err(TargetError::Attribute { what, path: path.to_owned(), source: errno.into() });
        }
        let message = format!("{what} of {} was not set: this process may not", path.display());
        findings.push(
            Finding::new(Level::Degraded, code, path.display().to_string(), message)
                .with_hint("run the restore as root, or set it by hand"),
        );
        Ok(())
    }

    /// Whether a file is as an owner and a mode say, as far as they can be set here.
    pub(super) fn is_owned(&self, stat: &Stat, owner: Numbers, mode: u32) -> bool {
        if (stat.st_uid, stat.st_gid) == (owner.uid, owner.gid) {
            return stat.st_mode & 0o7777 == mode & 0o7777;
        }
        let ours = stat.st_uid == uzers::get_effective_uid();
        self.owners == Owners::WherePossible && ours && stat.st_mode & 0o7777 == mode & 0o1777
    }
}

impl Folder {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where it lies on this machine.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of this name in it.
    pub(super) fn enter(&self, name: &OsStr) -> Result<Self, TargetError> {
        let path = self.path.join(name);
        match open_folder(&self.fd, name) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::NOENT) => Err(TargetError::Missing { path }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(match self.look(name)? {
                Some(stat) if kind_of(&stat) == FileType::Symlink => TargetError::Symlink { path },
                _ => TargetError::NotFolder { path },
            }),
            Err(errno) => Err(file("open", &path, errno)),
        }
    }

    /// What has this name in it; a link is not followed.
    pub(super) fn look(&self, name: &OsStr) -> Result<Option<Stat>, TargetError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(file("look at", &self.path.join(name), errno)),
        }
    }

    /// Makes what was renamed in it survive a power cut.
    pub(super) fn sync(&self) -> Result<(), TargetError> {
        // The descriptor that walks cannot be synced.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
            .and_then(rustix::fs::fsync)
            .map_err(|errno| file("sync", &self.path, errno))
    }

    /// The names in it.
    pub(super) fn names(&self) -> Result<Vec<OsString>, TargetError> {
        let failed = |errno| file("list", &self.path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Removes what a run of ours left half-made in it. What a run that still lives holds is locked and stays.
    pub(super) fn sweep(&self) -> Result<(), TargetError> {
        for name in self.names()? {
            if !name.as_bytes().starts_with(STAGING_PREFIX.as_bytes()) {
                continue;
            }
            let Some(stat) = self.look(&name)? else { continue };
            let (removal, lockable) = match kind_of(&stat) {
                FileType::Directory => (AtFlags::REMOVEDIR, true),
                FileType::RegularFile => (AtFlags::empty(), true),
                FileType::Symlink => (AtFlags::empty(), false),
                _ => continue,
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let locked = match rustix::fs::openat(&self.fd, &name, flags, Mode::empty()) {
                Ok(fd) => Locked::alone(fd).map(Some).map_err(|(_, errno)| errno),
                Err(_) if !lockable => Ok(None),
                Err(errno) => Err(errno),
            };
            let Ok(_locked) = locked else { continue };
            match rustix::fs::unlinkat(&self.fd, &name, removal) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                Err(errno) => return Err(file("remove", &self.path.join(&name), errno)),
            }
        }
        Ok(())
    }
}

/// A name that nothing has.
pub(super) fn staging_name() -> Result<OsString, TargetError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| FileError::io("find a name for", Path::new("a staging file"))(io::Error::other(error)))?;
    Ok(format!("{STAGING_PREFIX}{}", hex::encode(random)).into())
}

/// What a `stat` is of.
pub(super) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The word for it in a message.
pub(super) fn kind_name(stat: &Stat) -> &'static str {
    match kind_of(stat) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Socket => "a socket",
        FileType::Fifo => "a fifo",
        _ => "a device",
    }
}

pub(super) fn file(action: &'static str, path: &Path, errno: Errno) -> TargetError {
    TargetError::File(FileError::io(action, path)(errno.into()))
}

fn open_folder(at: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn bad(path: &Path, why: &'static str) -> TargetError {
    TargetError::BadPath { path: path.to_owned(), why }
}

/// The parts of an absolute path.
fn parts(path: &Path) -> Result<Vec<&OsStr>, TargetError> {
    if !path.is_absolute() {
        return Err(bad(path, "it is not absolute"));
    }
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => parts.push(name),
            _ => return Err(bad(path, "it leads upwards")),
        }
    }
    Ok(parts)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// An empty folder, and the root that it is.
    pub(in super::super) fn ground_of(owners: Owners) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), owners).unwrap();
        (folder, root)
    }

    /// The same for whoever runs the test.
    pub(in super::super) fn ground() -> (tempfile::TempDir, Root) {
        ground_of(Owners::WherePossible)
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let (folder, root) = ground();
        let refused = |path: &str| root.folder(Path::new(path)).unwrap_err();
        assert!(matches!(refused("var"), TargetError::BadPath { .. }));
        assert!(matches!(refused("/var/../.."), TargetError::BadPath { .. }));
        symlink("/", folder.path().join("out")).unwrap();
        let error = refused("/out/etc");
        assert!(matches!(&error, TargetError::Symlink { path } if path.ends_with("out")), "{error}");
        assert!(error.hint().unwrap().contains("readlink"));
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(matches!(refused("/file/x"), TargetError::NotFolder { .. }));
        assert!(matches!(refused("/nothing/x"), TargetError::Missing { .. }));
        assert!(root.look(Path::new("/nothing/x")).unwrap().is_none());
        assert!(matches!(root.parent_of(Path::new("/")), Err(TargetError::BadPath { .. })));
    }

    #[test]
    fn missing_folders_are_the_services_below_its_home_only() {
        let owner = Owner { user: None, uid: 64_321, group: None, gid: 64_322 };
        let points = steps::survive(
            ground,
            |(_, root)| {
                let (path, home) = (Path::new("/var/lib/cln/bitcoin"), Path::new("/var/lib/cln"));
                root.make_folders(path, home, &owner, &mut Vec::new()).map(drop)
            },
            |(folder, _), point| {
                let meta = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap();
                assert_eq!(meta("var/lib").mode() & 0o7777, 0o755, "point {point}");
                assert_eq!(meta("var/lib/cln").mode() & 0o7777, 0o750);
                if uzers::get_effective_uid() == 0 {
                    let deepest = meta("var/lib/cln/bitcoin");
                    assert_eq!((deepest.uid(), deepest.gid()), (64_321, 64_322));
                    assert_eq!(meta("var/lib").uid(), 0);
                }
                for part in ["", "var", "var/lib", "var/lib/cln"] {
                    assert_eq!(std::fs::read_dir(folder.path().join(part)).unwrap().count(), 1, "in /{part}");
                }
            },
        );
        assert_eq!(points, 12);
    }
}
