//! What unpacking a tar would write over with something else: the tar is read and compared, and nothing is written.

use super::entry::{owner_of, place_of};
use super::{BUFFER_BYTES, TreeError, Unpack, hostile};
use crate::base::fsio::FileError;
use crate::base::limits::TAR_ENTRIES_MAX;
use crate::report::Level;
use crate::sources::files::rules::{self, LeftOut, Names};
use crate::sources::files::{Head, Kind, TarReader};
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
    /// What unpacking it would leave out.
    pub left_out: LeftOut,
}

impl Root {
    /// Holds a tar against what is there. Refuses what unpacking would refuse by its name. Reads the tar as a stream,
    /// once.
    pub fn compare(&self, tar: impl Read, how: &Unpack<'_>) -> Result<Compared, TreeError> {
        let mut reader = TarReader::new(tar);
        let (mut compared, mut files, mut skipped) = (Compared::default(), Names::default(), Names::default());
        while let Some(head) = reader.next_entry()? {
            if how.interrupt.is_set() {
                return Err(TreeError::Interrupted { entries: reader.entries() - 1 });
            }
            if reader.entries() > TAR_ENTRIES_MAX {
                return Err(hostile(&head.name, rules::TOO_MANY));
            }
            let place = place_of(how, &head, &mut compared.left_out)?;
            // The last entry of a path counts: a file that changed while it was read is in the tar twice.
            if place.is_some() && compared.differing.last() == place.as_ref() {
                compared.differing.pop();
            }
            match &head.kind {
                Kind::HardLink(first) if skipped.has(first) => {
                    compared.left_out.add(&head.name, Level::Degraded, rules::SECOND_NAME);
                    continue;
                }
                Kind::HardLink(first) if !files.has(first) => return Err(hostile(&head.name, rules::NO_FIRST_NAME)),
                _ => {}
            }
            let Some(path) = place else {
                skipped.add(&head.name);
                continue;
            };
            match self.differs(&head, &path, how.below, &mut reader)? {
                Differs::Yes => compared.differing.push(path),
                Differs::SameFile => compared.same_bytes = compared.same_bytes.saturating_add(head.size),
                Differs::No => {}
            }
            if head.kind == Kind::File {
                files.add(&head.name);
            }
        }
        Ok(compared)
    }

    fn differs(&self, entry: &Head, path: &Path, below: &Path, content: &mut impl Read) -> Result<Differs, TreeError> {
        let Some(stat) = self.look(path)? else { return Ok(Differs::No) };
        let differs = match &entry.kind {
            Kind::Folder | Kind::Other => kind_of(&stat) != FileType::Directory,
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
    fn is_same_file(&self, entry: &Head, stat: &Stat, path: &Path, content: &mut impl Read) -> Result<bool, TreeError> {
        let owner = self.accounts.resolve(&owner_of(entry), &mut Vec::new())?;
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
    use crate::sources::files::TarError;
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

    /// A header with another name.
    fn rewritten(header: &[u8], name: &[u8]) -> Vec<u8> {
        let mut changed = tar::Header::new_gnu();
        changed.as_mut_bytes().copy_from_slice(header);
        changed.as_mut_bytes()[..name.len()].copy_from_slice(name);
        changed.set_cksum();
        changed.as_bytes().to_vec()
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
    fn what_unpacking_leaves_out_is_told_and_what_no_tar_of_ours_holds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        let interrupt = Interrupt::new();
        let forbidden = [PathBuf::from("/home/secret")];
        let how = Unpack { below: Path::new("/home"), label: "test", forbidden: &forbidden, interrupt: &interrupt };
        for (name, why) in [("x/lightningd.sqlite3-wal", "channel database"), ("secret", "leave things alone")] {
            put(folder.path(), name, b"there already, and not the tar's to touch", 0o640);
            let compared = root.compare(tar_of(&[(name, b"x"), ("new", b"n")]).as_slice(), &how).unwrap();
            assert_eq!(compared.differing, Vec::<PathBuf>::new(), "{name}");
            let [told] = &compared.left_out.findings("app/files.tar")[..] else { panic!("{compared:?}") };
            assert!(told.message.contains(name) && told.message.contains(why), "{told:?}");
        }
        let absolute = tar_of(&[("f", b"x")]);
        let absolute = [&rewritten(&absolute[..512], b"/etc/f")[..], &absolute[512..]].concat();
        assert!(matches!(differing(&root, &absolute), Err(TreeError::Tar(TarError::Hostile { .. }))));
        let whole = tar_of(&[("f", b"some content")]);
        assert!(matches!(differing(&root, &whole[..600]), Err(TreeError::Tar(TarError::Damaged { .. }))));
    }
}
