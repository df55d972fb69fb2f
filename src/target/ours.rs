//! What this program keeps for itself below the root, such as a restore's folder with its journal and its lock: made
//! and opened without following a link. Its folders are for nobody else to read.

use super::TargetError;
use super::root::{ABOVE_MODE, Root, file, kind_name, kind_of};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// Mode of a folder of ours.
const FOLDER_MODE: u32 = 0o700;
/// Mode of a file of ours.
const FILE_MODE: u32 = 0o600;

impl Root {
    /// Makes a folder of ours, durably, with what is missing of the way: this process's, with mode 0700 from `home`
    /// downwards and 0755 above it. What is there stays as it is. An error where a link or no folder is on the way.
    pub fn make_own_folder(&self, path: &Path, home: &Path) -> Result<(), TargetError> {
        let mode = |named: &Path| if named.starts_with(home) { FOLDER_MODE } else { ABOVE_MODE };
        self.make_way(path, &mut Vec::new(), |named, _| Ok((None, mode(named)))).map(drop)
    }

    /// Opens a file of ours to read it and to write at its end; where it is missing it is made, durably, with mode
    /// 0600, in a folder that must be there. An error where a link or something else than a regular file is.
    pub fn open_own_file(&self, path: &Path) -> Result<File, TargetError> {
        let (folder, name) = self.parent_of(path)?;
        let place = self.path_of(path);
        // NONBLOCK: a fifo put in the way must not make us wait for a reader.
        let flags =
            OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(folder.fd(), &name, flags, Mode::from_raw_mode(FILE_MODE)) {
            Ok(fd) => File::from(fd),
            Err(Errno::LOOP) => return Err(TargetError::Symlink { path: place }),
            Err(errno) => return Err(file("open", &place, errno)),
        };
        let stat = rustix::fs::fstat(&opened).map_err(|errno| file("look at", &place, errno))?;
        if kind_of(&stat) != FileType::RegularFile {
            return Err(TargetError::Occupied { path: place, what: kind_name(&stat).to_owned() });
        }
        folder.sync()?;
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::ground;
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_folder_of_ours_is_for_nobody_else_and_those_above_it_are_for_all() {
        let (folder, root) = ground();
        let (path, home) = (Path::new("/var/lib/ours/run"), Path::new("/var/lib/ours"));
        root.make_own_folder(path, home).unwrap();
        root.make_own_folder(path, home).unwrap();
        let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("var"), mode("var/lib")), (0o755, 0o755));
        assert_eq!((mode("var/lib/ours"), mode("var/lib/ours/run")), (0o700, 0o700));
    }

    #[test]
    fn a_file_of_ours_is_made_once_and_grows_at_its_end() {
        let (folder, root) = ground();
        for line in ["one\n", "two\n"] {
            root.open_own_file(Path::new("/journal")).unwrap().write_all(line.as_bytes()).unwrap();
        }
        let at = folder.path().join("journal");
        assert_eq!(std::fs::read_to_string(&at).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::metadata(&at).unwrap().mode() & 0o7777, 0o600);
        assert!(matches!(root.open_own_file(Path::new("/none/x")), Err(TargetError::Missing { .. })));
    }

    #[test]
    fn nothing_of_ours_is_made_behind_a_link() {
        let (folder, root) = ground();
        let behind = tempfile::tempdir().unwrap();
        symlink(behind.path(), folder.path().join("way")).unwrap();
        symlink(behind.path().join("file"), folder.path().join("dangling")).unwrap();
        let refused = |error: TargetError| assert!(matches!(error, TargetError::Symlink { .. }), "{error}");
        refused(root.make_own_folder(Path::new("/way/run"), Path::new("/way")).unwrap_err());
        refused(root.make_own_folder(Path::new("/way"), Path::new("/way")).unwrap_err());
        refused(root.open_own_file(Path::new("/way/file")).unwrap_err());
        refused(root.open_own_file(Path::new("/dangling")).unwrap_err());
        assert_eq!(std::fs::read_dir(behind.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let (folder, root) = ground();
        let mode = Mode::from_raw_mode(0o600);
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = root.open_own_file(Path::new("/fifo")).unwrap_err();
        assert!(matches!(&error, TargetError::Occupied { what, .. } if what == "a fifo"), "{error}");
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(root.open_own_file(Path::new("/folder")).is_err());
    }
}
