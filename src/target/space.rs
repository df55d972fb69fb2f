//! How much room there is where something is about to be written, and which filesystem that is: also for a path that
//! is not there yet.

use super::TargetError;
use super::root::{Root, file, kind_of};
use rustix::fs::{FileType, StatVfs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The system's number of it: two paths with one number share the room.
    pub filesystem: u64,
    /// The nearest folder that is there, on this machine.
    pub folder: PathBuf,
    /// Bytes free to this user.
    pub free_bytes: u64,
    /// Files that can still be made; `None` where the filesystem sets no such limit.
    pub free_files: Option<u64>,
    /// Whether nothing can be written to it.
    pub is_read_only: bool,
}

/// What is about to be written to one filesystem, all together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The filesystem.
    pub space: Space,
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

impl Root {
    /// The filesystem that holds a path or will hold it once its folders are made.
    pub fn space(&self, path: &Path) -> Result<Space, TargetError> {
        for nearest in path.ancestors() {
            let Some(stat) = self.look_or_root(nearest)? else { continue };
            if kind_of(&stat) != FileType::Directory {
                continue;
            }
            let folder = self.folder(nearest)?;
            let place = folder.path().to_owned();
            let room =
                rustix::fs::fstatvfs(folder.fd()).map_err(|errno| file("look at the filesystem of", &place, errno))?;
            return Ok(Space { filesystem: stat.st_dev, ..read(place, &room) });
        }
        Err(TargetError::BadPath { path: path.to_owned(), why: "it is not absolute" })
    }

    /// Adds up what is about to be written, filesystem by filesystem: each a path, its bytes and its files.
    pub fn demands<'p>(
        &self,
        writes: impl IntoIterator<Item = (&'p Path, u64, u64)>,
    ) -> Result<Vec<Demand>, TargetError> {
        let mut demands: BTreeMap<u64, Demand> = BTreeMap::new();
        for (path, bytes, files) in writes {
            let space = self.space(path)?;
            let demand = demands.entry(space.filesystem).or_insert(Demand { space, bytes: 0, files: 0 });
            demand.bytes = demand.bytes.saturating_add(bytes);
            demand.files = demand.files.saturating_add(files);
        }
        Ok(demands.into_values().collect())
    }

    fn look_or_root(&self, path: &Path) -> Result<Option<rustix::fs::Stat>, TargetError> {
        if path == Path::new("/") {
            let folder = self.folder(path)?;
            return rustix::fs::fstat(folder.fd()).map(Some).map_err(|errno| file("look at", folder.path(), errno));
        }
        self.look(path)
    }
}

impl Demand {
    /// Whether it fits, with `spare` bytes left.
    pub fn fits(&self, spare: u64) -> bool {
        let bytes = self.bytes.saturating_add(spare) <= self.space.free_bytes;
        bytes && self.space.free_files.is_none_or(|free| self.files <= free) && !self.space.is_read_only
    }
}

fn read(folder: PathBuf, room: &StatVfs) -> Space {
    Space {
        filesystem: 0,
        folder,
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        // Where files are made as they are needed (btrfs), none are counted.
        free_files: (room.f_files > 0).then_some(room.f_favail),
        is_read_only: room.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Owners;
    use super::*;
    use crate::base::fsio;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_path_that_is_not_there_lands_where_its_nearest_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        std::fs::create_dir(folder.path().join("var")).unwrap();
        std::fs::write(folder.path().join("var/file"), "").unwrap();
        let device = std::fs::metadata(folder.path()).unwrap().dev();
        for (path, nearest) in [("/", ""), ("/var/lib/x/y", "var"), ("/var/file", "var"), ("/other", "")] {
            let space = root.space(Path::new(path)).unwrap();
            assert_eq!(space.filesystem, device, "{path}");
            assert_eq!(space.folder, root.path_of(Path::new("/").join(nearest).as_path()), "{path}");
            assert!(space.free_bytes > 0 && !space.is_read_only);
        }
        // /proc is a filesystem of its own on every Linux, with no room at all.
        let machine = Root::machine().unwrap();
        let proc = machine.space(Path::new("/proc/nothing-here/x")).unwrap();
        assert_ne!(proc.filesystem, device);
        assert_eq!(proc.free_bytes, fsio::free_bytes(Path::new("/proc")).unwrap());
        assert!(root.space(Path::new("relative")).is_err());
    }

    #[test]
    fn what_shares_a_filesystem_shares_its_room() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        let free = root.space(Path::new("/")).unwrap().free_bytes;
        let demands = root.demands([(Path::new("/a"), free / 2 + 1, 1), (Path::new("/b/c"), free / 2 + 1, 2)]).unwrap();
        let [demand] = demands.as_slice() else { panic!("{demands:?}") };
        assert_eq!((demand.bytes, demand.files), (2 * (free / 2 + 1), 3));
        assert!(!demand.fits(0), "each alone would fit");
        assert!(Demand { bytes: 1, ..demand.clone() }.fits(0));
        assert!(!Demand { bytes: 1, ..demand.clone() }.fits(demand.space.free_bytes));
        let full = Space { free_files: Some(2), ..demand.space.clone() };
        assert!(!Demand { bytes: 1, files: 3, space: full }.fits(0));
    }
}
