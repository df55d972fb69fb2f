//! What unpacking a tar would write over with something else: the tar is read and compared, and nothing is written.

use super::entry::{Entry, Kind};
use super::{BUFFER_BYTES, TreeError, Unpack, hostile, refuse_forbidden};
use crate::base::fsio::FileError;
use crate::base::limits::TAR_ENTRIES_MAX;
use crate::sources::files::{TarError, Whole};
use crate::target::TargetError;
use crate::target::root::{Root, file, kind_of};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a tar was held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The paths at which something lies that differs from what the tar would put there, in the tar's order.
    pub differing: Vec<PathBuf>,
    /// Bytes of the files that are there already as they would be put there.
    pub same_bytes: u64,
}

impl Root {
    /// Holds a tar against what is there. Refuses what unpacking would refuse by its name. Reads the tar as a stream,
    /// once.
    pub fn compare(&self, tar: impl Read, how: &Unpack<'_>) -> Result<Compared, TreeError> {
        let (watched, whole) = Whole::watch(tar);
        let mut archive = tar::Archive::new(watched);
        let mut entries = 0_u64;
        let mut compared = Compared::default();
        for read in archive.entries().map_err(|source| TarError::Damaged { entries, source })? {
            let bad = |source| TarError::Damaged { entries, source };
            let mut read = read.map_err(bad)?;
            if how.interrupt.is_set() {
                return Err(TreeError::Interrupted { entries });
            }
            let entry = Entry::read(&mut read).map_err(bad)?;
            entries += 1;
            if entries > TAR_ENTRIES_MAX {
                return Err(hostile(&entry.name, "is one entry too many"));
            }
            let path = entry.place(how.below)?;
            refuse_forbidden(how, &entry, &path)?;
            // The last entry of a path counts: a file that changed while it was read is in the tar twice.
            if compared.differing.last() == Some(&path) {
                compared.differing.pop();
            }
            match self.differs(&entry, &path, how.below, &mut read)? {
                Differs::Yes => compared.differing.push(path),
                Differs::SameFile => compared.same_bytes = compared.same_bytes.saturating_add(entry.size),
                Differs::No => {}
            }
        }
        io::copy(&mut archive.into_inner(), &mut io::sink())
            .and_then(|_| whole.check())
            .map_err(|source| TarError::Damaged { entries, source })?;
        Ok(compared)
    }

    fn differs(&self, entry: &Entry, path: &Path, below: &Path, content: &mut impl Read) -> Result<Differs, TreeError> {
        let Some(stat) = self.look(path)? else { return Ok(Differs::No) };
        let differs = match &entry.kind {
            Kind::Folder => kind_of(&stat) != FileType::Directory,
            Kind::File if self.is_same_file(entry, &stat, path, content)? => return Ok(Differs::SameFile),
            Kind::File => true,
            Kind::Symlink(target) => {
                let (folder, name) = self.parent_of(path)?;
                let there = rustix::fs::readlinkat(folder.fd(), &name, Vec::new());
                !there.is_ok_and(|there| there.to_bytes() == target.as_slice())
            }
            Kind::HardLink(target) => {
                let first = self.look(&below.join(OsStr::from_bytes(target)))?;
                first.is_none_or(|first| (first.st_dev, first.st_ino) != (stat.st_dev, stat.st_ino))
            }
        };
        Ok(if differs { Differs::Yes } else { Differs::No })
    }

    /// Whether a file there is the entry: owner, mode, attributes and bytes. What unpacking would leave as it is.
    fn is_same_file(
        &self,
        entry: &Entry,
        stat: &Stat,
        path: &Path,
        content: &mut impl Read,
    ) -> Result<bool, TreeError> {
        let owner = self.accounts.resolve(&entry.owner, &mut Vec::new())?;
        let is_like = kind_of(stat) == FileType::RegularFile
            && u64::try_from(stat.st_size) == Ok(entry.size)
            && self.is_owned(stat, owner, entry.mode);
        if !is_like {
            return Ok(false);
        }
        let Some(there) = self.open_file(path)? else { return Ok(false) };
        for (name, value) in &entry.extended {
            let mut found = vec![0; value.len() + 1];
            match rustix::fs::fgetxattr(&there, name, &mut found) {
                Ok(length) if found.get(..length) == Some(value) => {}
                Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => return Ok(false),
                Err(errno) => return Err(file("read the attributes of", &self.path_of(path), errno).into()),
            }
        }
        let place = self.path_of(path);
        same_content(&there, content).map_err(|error| TargetError::from(FileError::io("compare", &place)(error)).into())
    }
}

/// How an entry stands to what is there.
enum Differs {
    /// Something else is there.
    Yes,
    /// Nothing is there, or what would be put there.
    No,
    /// The very file.
    SameFile,
}

fn same_content(mut there: &File, content: &mut impl Read) -> io::Result<bool> {
    let mut ours = Zeroizing::new(vec![0; BUFFER_BYTES]);
    let mut theirs = Zeroizing::new(vec![0; BUFFER_BYTES]);
    loop {
        let count = content.read(&mut ours)?;
        if count == 0 {
            return Ok(there.read(&mut theirs)? == 0);
        }
        let (ours, theirs) = (ours.get(..count).unwrap_or_default(), theirs.get_mut(..count).unwrap_or_default());
        match there.read_exact(theirs) {
            Ok(()) if ours == theirs => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::interrupt::Interrupt;
    use crate::target::Owners;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_uid(u64::from(uzers::get_effective_uid()));
            header.set_gid(u64::from(uzers::get_effective_gid()));
            tar.append_data(&mut header, name, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn differing(root: &Root, tar: &[u8]) -> Result<Vec<PathBuf>, TreeError> {
        let interrupt = Interrupt::new();
        let forbidden = [PathBuf::from("/home/secret")];
        let how = Unpack { below: Path::new("/home"), label: "test", forbidden: &forbidden, interrupt: &interrupt };
        root.compare(tar, &how).map(|compared| compared.differing)
    }

    fn put(folder: &Path, name: &str, content: &[u8], mode: u32) {
        let path = folder.join("home").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_unpacking_would_move_aside_is_named_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        let tar = tar_of(&[("same", b"same"), ("other", b"ours"), ("mode", b"m"), ("short", b"ab"), ("new", b"n")]);
        assert_eq!(differing(&root, &tar).unwrap(), Vec::<PathBuf>::new(), "nothing is there");
        put(folder.path(), "same", b"same", 0o640);
        put(folder.path(), "other", b"mine", 0o640);
        put(folder.path(), "mode", b"m", 0o600);
        put(folder.path(), "short", b"a", 0o640);
        let found = differing(&root, &tar).unwrap();
        assert_eq!(found, ["/home/other", "/home/mode", "/home/short"].map(PathBuf::from));
        symlink("same", folder.path().join("home/new")).unwrap();
        assert!(differing(&root, &tar).unwrap().contains(&PathBuf::from("/home/new")), "a link is in the way");
        let interrupt = Interrupt::new();
        let how = Unpack { below: Path::new("/home"), label: "", forbidden: &[], interrupt: &interrupt };
        assert_eq!(root.compare(tar.as_slice(), &how).unwrap().same_bytes, 4);
    }

    #[test]
    fn of_a_file_that_is_there_twice_the_last_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        put(folder.path(), "f", b"new", 0o640);
        assert_eq!(differing(&root, &tar_of(&[("f", b"old"), ("f", b"new")])).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(differing(&root, &tar_of(&[("f", b"new"), ("f", b"old")])).unwrap().len(), 1);
    }

    #[test]
    fn what_no_tar_of_ours_holds_is_refused_as_unpacking_refuses_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        let refused = |name: &str| differing(&root, &tar_of(&[(name, b"x")])).unwrap_err();
        assert!(matches!(refused("x/lightningd.sqlite3-wal"), TreeError::Toxic { .. }));
        assert!(matches!(refused("secret"), TreeError::Tar(TarError::Hostile { .. })));
        let whole = tar_of(&[("f", b"some content")]);
        assert!(matches!(differing(&root, &whole[..600]), Err(TreeError::Tar(TarError::Damaged { .. }))));
    }
}
