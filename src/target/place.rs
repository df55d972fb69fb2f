//! One file put where it belongs: staged beside its place, checked by the caller, given owner and mode, made durable,
//! and only then renamed, so that a service sees all of it or nothing. What stands there already is never replaced:
//! the same file counts as placed, anything else is an error.

use super::accounts::{Numbers, Owner};
use super::root::{Folder, Root, file, kind_name, kind_of, staging_name};
use super::{TargetError, steps};
use crate::base::flock::Locked;
use crate::base::fsio::FileError;
use crate::report::Finding;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// How much of two files is compared at once, in bytes.
const COMPARED_BYTES: usize = 64 * 1024;

/// Where a file goes and whose it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its place, absolute, as the restored machine names it.
    pub to: &'a Path,
    /// The folder of its service. Missing folders from here downwards get the file's owner and mode 0750; missing
    /// folders above are this process's, with mode 0755. The file's own folder where nothing better is known.
    pub home: &'a Path,
    /// Its owner.
    pub owner: &'a Owner,
    /// Its permission bits.
    pub mode: u32,
}

/// All that a file gets besides its content.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) owner: Numbers,
    pub(super) mode: u32,
    /// Seconds and nanoseconds.
    pub(super) modified: Option<(i64, u32)>,
    pub(super) extended: Vec<(OsString, Vec<u8>)>,
}

/// A file beside its place that is being written; only this process can read it. Dropped, it is gone.
#[derive(Debug)]
pub struct Staged<'a> {
    root: &'a Root,
    folder: Arc<Folder>,
    staging: OsString,
    name: OsString,
    file: Locked<File>,
    attributes: Attributes,
    findings: Vec<Finding>,
    is_settled: bool,
}

/// A staged file whose content was checked.
#[derive(Debug)]
pub struct Checked<'a>(pub(super) Staged<'a>);

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was put there now.
    Placed,
    /// The same file, with the same owner and mode, was there already.
    WasThere,
}

/// A file that is in its place, durable, with its owner and mode.
#[derive(Debug)]
pub struct Placed {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Whether it was put there now.
    pub how: How,
    /// What could not be done as it should.
    pub findings: Vec<Finding>,
}

impl Root {
    /// Begins a file beside its place, after removing what an earlier run left half-made there.
    pub fn stage(&self, wanted: &Wanted<'_>) -> Result<Staged<'_>, TargetError> {
        let mut findings = Vec::new();
        let owner = self.accounts.resolve(wanted.owner, &mut findings)?;
        // Refuses a path that has no name before any folder is made.
        let name = match (wanted.to.file_name(), wanted.to.parent()) {
            (Some(name), Some(_)) => name.to_owned(),
            _ => return Err(TargetError::BadPath { path: wanted.to.to_owned(), why: "it names no file" }),
        };
        let parent = wanted.to.parent().unwrap_or(Path::new("/"));
        let folder = self.make_folders(parent, wanted.home, wanted.owner, &mut findings)?;
        folder.sweep()?;
        let attributes = Attributes { owner, mode: wanted.mode, modified: None, extended: Vec::new() };
        self.stage_in(Arc::new(folder), &name, attributes, findings)
    }

    /// The same in a folder that was reached and swept already.
    pub(super) fn stage_in(
        &self,
        folder: Arc<Folder>,
        name: &OsStr,
        attributes: Attributes,
        findings: Vec<Finding>,
    ) -> Result<Staged<'_>, TargetError> {
        let staging = staging_name()?;
        let path = folder.path().join(&staging);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(folder.fd(), &staging, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| file("create", &path, errno))?;
        // Whoever sweeps leaves what is locked.
        let locked = Locked::shared(File::from(fd)).map_err(|(_, errno)| file("lock", &path, errno))?;
        let staged = Staged {
            root: self,
            folder,
            staging,
            name: name.to_owned(),
            file: locked,
            attributes,
            findings,
            is_settled: false,
        };
        steps::reached("staging file made")?;
        Ok(staged)
    }
}

impl<'a> Staged<'a> {
    /// Where it lies while it is staged; for a check that needs a path.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.staging)
    }

    /// Hands the written file, from its beginning, and its path to a check. Only what passes can be published.
    pub fn check<T, E: From<TargetError>>(
        mut self,
        check: impl FnOnce(&mut File, &Path) -> Result<T, E>,
    ) -> Result<(Checked<'a>, T), E> {
        let path = self.path();
        let failed = |error| E::from(TargetError::File(FileError::io("read", &path)(error)));
        self.file.flush().and_then(|()| self.file.rewind()).map_err(failed)?;
        let found = check(&mut self.file, &path)?;
        Ok((Checked(self), found))
    }

    /// Takes a content as checked that is nothing but text of our own.
    pub(super) fn trusted(self) -> Checked<'a> {
        Checked(self)
    }

    /// The folder it is meant for.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The name it is meant to get there.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Where it is meant to be, on this machine.
    pub(super) fn place(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    fn set_attributes(&mut self) -> Result<(), TargetError> {
        let (path, attributes) = (self.place(), &self.attributes);
        for (name, value) in &attributes.extended {
            if let Err(errno) = rustix::fs::fsetxattr(&self.file, name, value, XattrFlags::empty()) {
                let what = format!("attribute {}", name.to_string_lossy());
                self.root.excuse(what, "attribute-not-set", &path, errno, &mut self.findings)?;
            }
        }
        let owner = Some(attributes.owner);
        self.root.set_owner_and_mode(&self.file, owner, attributes.mode, &path, &mut self.findings)?;
        if let Some(modified) = attributes.modified {
            rustix::fs::futimens(&self.file, &times(modified)).map_err(|errno| TargetError::Attribute {
                what: "times".to_owned(),
                path,
                source: errno.into(),
            })?;
        }
        Ok(())
    }

    /// Whether the name still leads to the file that was written and checked.
    fn is_still_ours(&self) -> Result<bool, TargetError> {
        let ours = rustix::fs::fstat(&self.file).map_err(|errno| file("look at", &self.path(), errno))?;
        let there = self.folder.look(&self.staging)?;
        Ok(there.is_some_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)))
    }

    fn remove(&mut self) -> Result<(), TargetError> {
        self.is_settled = true;
        match rustix::fs::unlinkat(self.folder.fd(), &self.staging, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(file("remove", &self.path(), errno)),
        }
    }
}

impl Write for Staged<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.is_settled
            && !steps::is_cut()
            && let Err(error) = self.remove()
        {
            tracing::warn!(%error, "a staging file stays until the next restore");
        }
    }
}

impl Checked<'_> {
    /// Lets it come under another name, for its owner to read alone.
    pub(super) fn under_another_name(&mut self, ending: &str, mode: u32) {
        self.0.name.push(ending);
        self.0.attributes.mode = mode;
    }

    /// Gives it owner and mode, makes it durable and renames it into its place, over nothing.
    pub fn publish(self) -> Result<Placed, TargetError> {
        let ready = self.ready()?;
        ready.0.file.sync_all().map_err(FileError::io("sync", &ready.0.path()))?;
        let folder = Arc::clone(&ready.0.folder);
        let placed = ready.put()?;
        // Also where it was there already: the run that put it there may have been cut off before this.
        folder.sync()?;
        Ok(placed)
    }

    /// Gives it owner and mode, and nothing more.
    pub(super) fn ready(mut self) -> Result<Self, TargetError> {
        steps::reached("checked")?;
        self.0.set_attributes()?;
        steps::reached("attributes set")?;
        Ok(self)
    }

    /// Renames what is ready into its place, over nothing. The caller has made it durable, and makes its name so.
    pub(super) fn put(self) -> Result<Placed, TargetError> {
        let mut staged = self.0;
        let path = staged.place();
        if !staged.is_still_ours()? {
            staged.is_settled = true;
            return Err(TargetError::Exchanged { path });
        }
        let how = match rename_new(&staged.folder, &staged.staging, &staged.folder, &staged.name) {
            Ok(()) => {
                staged.is_settled = true;
                How::Placed
            }
            Err(Errno::EXIST) => {
                if !staged.is_there()? {
                    return Err(TargetError::Occupied { what: describe(&staged.folder, &staged.name)?, path });
                }
                staged.remove()?;
                How::WasThere
            }
            Err(errno) => return Err(file("rename to", &path, errno)),
        };
        steps::reached("renamed")?;
        Ok(Placed { path, how, findings: std::mem::take(&mut staged.findings) })
    }
}

impl Checked<'_> {
    /// The same, over a file of our own that kept the place free. The caller has looked whether it is ours and holds
    /// what keeps others from putting anything there.
    pub(super) fn publish_over_ours(self) -> Result<Placed, TargetError> {
        let mut staged = self.0;
        steps::reached("checked")?;
        staged.set_attributes()?;
        let path = staged.place();
        staged.file.sync_all().map_err(FileError::io("sync", &staged.path()))?;
        if !staged.is_still_ours()? {
            staged.is_settled = true;
            return Err(TargetError::Exchanged { path });
        }
        steps::reached("attributes set")?;
        rustix::fs::renameat(staged.folder.fd(), &staged.staging, staged.folder.fd(), &staged.name)
            .map_err(|errno| file("rename to", &path, errno))?;
        staged.is_settled = true;
        steps::reached("renamed")?;
        staged.folder.sync()?;
        Ok(Placed { path, how: How::Placed, findings: std::mem::take(&mut staged.findings) })
    }
}

impl Staged<'_> {
    /// Whether what stands in the place is this very file: content, owner, mode and attributes.
    pub(super) fn is_there(&self) -> Result<bool, TargetError> {
        let length = self.file.metadata().map_err(FileError::io("look at", &self.path()))?.len();
        let Some(there) = self.root.open_like(&self.folder, &self.name, &self.attributes, length)? else {
            return Ok(false);
        };
        let place = self.place();
        let failed = FileError::io("compare", &place);
        let mut ours: &File = &self.file;
        ours.rewind().and_then(|()| same_bytes(ours, &there)).map_err(|error| failed(error).into())
    }
}

impl Root {
    /// The file of this name, opened, where it is as long as another, with the same owner, mode and attributes.
    pub(super) fn open_like(
        &self,
        folder: &Folder,
        name: &OsStr,
        attributes: &Attributes,
        length: u64,
    ) -> Result<Option<File>, TargetError> {
        let path = folder.path().join(name);
        let Some(stat) = folder.look(name)? else { return Ok(None) };
        if kind_of(&stat) != FileType::RegularFile
            || u64::try_from(stat.st_size) != Ok(length)
            || !self.is_owned(&stat, attributes.owner, attributes.mode)
        {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let there = rustix::fs::openat(folder.fd(), name, flags, Mode::empty());
        let there = File::from(there.map_err(|errno| file("open", &path, errno))?);
        for (name, value) in &attributes.extended {
            let mut found = vec![0; value.len() + 1];
            match rustix::fs::fgetxattr(&there, name, &mut found) {
                Ok(length) if found.get(..length) == Some(value) => {}
                Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(file("read the attributes of", &path, errno)),
            }
        }
        Ok(Some(there))
    }
}

/// What stands at a place, for a message.
pub(super) fn describe(folder: &Folder, name: &OsStr) -> Result<String, TargetError> {
    Ok(match folder.look(name)? {
        None => "nothing any more".to_owned(),
        Some(stat) => {
            let (mode, length) = (stat.st_mode & 0o7777, stat.st_size);
            format!("{}, {length} bytes, owner {}:{}, mode {mode:04o}", kind_name(&stat), stat.st_uid, stat.st_gid)
        }
    })
}

/// Renames over nothing. Where the filesystem cannot promise that, a second name is made first, which it can.
pub(super) fn rename_new(from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from.fd(), name, to.fd(), new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => link_new(from, name, to, new),
        other => other,
    }
}

/// The same by two names for a moment. A folder cannot have two.
fn link_new(from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> Result<(), Errno> {
    rustix::fs::linkat(from.fd(), name, to.fd(), new, AtFlags::empty())?;
    rustix::fs::unlinkat(from.fd(), name, AtFlags::empty())
}

pub(super) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub(super) fn same_bytes(mut left: impl Read, mut right: impl Read) -> io::Result<bool> {
    let mut buffers = [Zeroizing::new(vec![0; COMPARED_BYTES]), Zeroizing::new(vec![0; COMPARED_BYTES])];
    loop {
        let [ours, theirs] = &mut buffers;
        let (ours, theirs) = (fill(&mut left, ours)?, fill(&mut right, theirs)?);
        if ours != theirs {
            return Ok(false);
        }
        if ours.is_empty() {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the end is reached.
fn fill<'b>(reader: &mut impl Read, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::root::{Owners, STAGING_PREFIX};
    use super::*;
    use crate::base::tests::Children;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// Somebody else where that can be given, else ourselves.
    fn somebody() -> Owner {
        match uzers::get_effective_uid() {
            0 => Owner { user: None, uid: 64_321, group: None, gid: 64_322 },
            _ => Owner::ourselves(),
        }
    }

    fn ground() -> (tempfile::TempDir, Root) {
        super::super::root::tests::ground_of(Owners::Required)
    }

    fn put(root: &Root, to: &str, bytes: &[u8], owner: &Owner, mode: u32) -> Result<Placed, TargetError> {
        let home = Path::new("/lightning");
        let mut staged = root.stage(&Wanted { to: Path::new(to), home, owner, mode })?;
        assert_eq!(std::fs::metadata(staged.path()).unwrap().mode() & 0o7777, 0o600);
        staged.write_all(bytes).unwrap();
        let (checked, read) = staged.check(|file, path| {
            assert_eq!(std::fs::read(path).unwrap(), bytes);
            let mut read = Vec::new();
            file.read_to_end(&mut read).map_err(FileError::io("read", path))?;
            Ok::<_, TargetError>(read)
        })?;
        assert_eq!(read, bytes);
        checked.publish()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_placed_whole_wherever_an_earlier_run_was_cut_off() {
        let owner = somebody();
        let points = steps::survive(
            ground,
            |(_, root)| put(root, "/lightning/bitcoin/hsm_secret", &[7; 100_000], &owner, 0o400).map(drop),
            |(folder, _), point| {
                let place = folder.path().join("lightning/bitcoin");
                assert_eq!(names(&place), ["hsm_secret"], "point {point}");
                let meta = std::fs::metadata(place.join("hsm_secret")).unwrap();
                assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (owner.uid, owner.gid, 0o400));
                assert_eq!(std::fs::read(place.join("hsm_secret")).unwrap_or(vec![7; 100_000]), [7; 100_000]);
            },
        );
        assert_eq!(points, 10);
    }

    #[test]
    fn what_a_cut_left_behind_is_swept_while_children_begin() {
        let children = Children::begin();
        while children.are_fewer_than(1500) {
            steps::survive(
                ground,
                |(_, root)| put(root, "/lightning/secret", b"one", &Owner::ourselves(), 0o400).map(drop),
                |(folder, _), point| {
                    assert_eq!(names(folder.path()), ["lightning"], "point {point}");
                    assert_eq!(names(&folder.path().join("lightning")), ["secret"], "point {point}");
                },
            );
        }
    }

    #[test]
    fn what_is_there_is_never_replaced() {
        let (folder, root) = ground();
        let ours = Owner::ourselves();
        let path = folder.path().join("lightning/secret");
        assert_eq!(put(&root, "/lightning/secret", b"one", &ours, 0o400).unwrap().how, How::Placed);
        assert_eq!(put(&root, "/lightning/secret", b"one", &ours, 0o400).unwrap().how, How::WasThere);
        let other: [(&[u8], u32); 3] = [(b"two", 0o400), (b"longer", 0o400), (b"one", 0o440)];
        for (bytes, mode) in other {
            let error = put(&root, "/lightning/secret", bytes, &ours, mode).unwrap_err();
            assert!(
                matches!(&error, TargetError::Occupied { what, .. } if what.starts_with("a file, 3 bytes")),
                "{error}"
            );
            assert!(error.hint().unwrap().contains("aside"));
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        symlink(&path, folder.path().join("lightning/link")).unwrap();
        std::fs::create_dir(folder.path().join("lightning/folder")).unwrap();
        for place in ["/lightning/link", "/lightning/folder"] {
            assert!(matches!(put(&root, place, b"one", &ours, 0o400), Err(TargetError::Occupied { .. })));
        }
        assert_eq!(names(&folder.path().join("lightning")), ["folder", "link", "secret"]);
    }

    #[test]
    fn a_file_that_fails_its_check_is_gone_and_one_that_was_exchanged_is_not_published() {
        let (folder, root) = ground();
        let ours = Owner::ourselves();
        let wanted = Wanted { to: Path::new("/x"), home: Path::new("/"), owner: &ours, mode: 0o600 };
        let failed =
            root.stage(&wanted).unwrap().check(|_, _| Err::<(), _>(TargetError::Missing { path: "/y".into() }));
        assert!(matches!(failed, Err(TargetError::Missing { .. })));
        assert_eq!(names(folder.path()), Vec::<String>::new());
        let staged = root.stage(&wanted).unwrap();
        let path = staged.path();
        let (checked, ()) = staged.check(|_, _| Ok::<_, TargetError>(())).unwrap();
        std::fs::rename(&path, folder.path().join("hidden")).unwrap();
        std::fs::write(&path, "forged").unwrap();
        assert!(matches!(checked.publish(), Err(TargetError::Exchanged { .. })));
        assert!(!folder.path().join("x").exists());
    }

    #[test]
    fn a_run_that_lives_keeps_its_staging_file() {
        let (folder, root) = ground();
        let ours = Owner::ourselves();
        let wanted = |to| Wanted { to, home: Path::new("/"), owner: &ours, mode: 0o600 };
        let first = root.stage(&wanted(Path::new("/a"))).unwrap();
        std::fs::write(folder.path().join(format!("{STAGING_PREFIX}left")), "by a crash").unwrap();
        symlink("/etc", folder.path().join(format!("{STAGING_PREFIX}link"))).unwrap();
        std::fs::write(folder.path().join("operators"), "").unwrap();
        let second = root.stage(&wanted(Path::new("/b"))).unwrap();
        assert_eq!(names(folder.path()).len(), 3);
        first.trusted().publish().unwrap();
        second.trusted().publish().unwrap();
        assert_eq!(names(folder.path()), ["a", "b", "operators"]);
    }

    #[test]
    fn an_owner_that_cannot_be_given_fails_the_step_or_is_a_finding() {
        if uzers::get_effective_uid() == 0 {
            return; // root can give everything away
        }
        let (folder, root) = ground();
        let root_owner = Owner { user: None, uid: 0, group: None, gid: 0 };
        let error = put(&root, "/secret", b"one", &root_owner, 0o4750).unwrap_err();
        assert!(matches!(&error, TargetError::Attribute { what, .. } if what == "owner 0:0"), "{error}");
        assert_eq!(error.hint().unwrap(), "run the restore as root");
        assert_eq!(names(folder.path()), Vec::<String>::new());
        let lenient = Root::below(folder.path(), Owners::WherePossible).unwrap();
        let placed = put(&lenient, "/secret", b"one", &root_owner, 0o4750).unwrap();
        assert_eq!(placed.findings[0].code, "owner-not-set");
        let mode = std::fs::metadata(&placed.path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o750, "no program may run with the rights of whoever restores");
        assert_eq!(put(&lenient, "/secret", b"one", &root_owner, 0o4750).unwrap().how, How::WasThere);
    }

    #[test]
    fn a_filesystem_without_safe_renames_is_served_by_a_second_name() {
        let (folder, root) = ground();
        let top = root.folder(Path::new("/")).unwrap();
        std::fs::write(folder.path().join("a"), "a").unwrap();
        std::fs::write(folder.path().join("b"), "b").unwrap();
        assert_eq!(link_new(&top, OsStr::new("a"), &top, OsStr::new("b")), Err(Errno::EXIST));
        link_new(&top, OsStr::new("a"), &top, OsStr::new("c")).unwrap();
        assert_eq!(names(folder.path()), ["b", "c"]);
        assert_eq!(std::fs::read(folder.path().join("c")).unwrap(), b"a");
    }
}
