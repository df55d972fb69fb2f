//! Many files made durable at once: all that was written to a filesystem by one call, whose error is looked at, instead
//! of a call for each file. Where such a call does not say that something was lost, or does not reach the disk that
//! counts, each file is synced by itself.

use super::TargetError;
use super::root::{Folder, file};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The first kernel whose `syncfs` tells that a write to the filesystem was lost.
const TELLS_SINCE: (u32, u32) = (5, 8);
/// Filesystems whose disk is another machine's or another program's (`linux/magic.h`): FUSE, NFS, SMB, CIFS, SMB2, 9P,
/// Ceph, AFS.
const FOREIGN: [u32; 8] =
    [0x6573_5546, 0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x6b41_4653];

/// When something becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// Before the step ends.
    Now,
    /// With all else on its filesystem.
    Later,
}

/// The filesystems that were written to.
#[derive(Debug)]
pub(super) struct Filesystems {
    tells: bool,
    /// By the device's number. Opened before the first write: what was lost since then is told.
    seen: Vec<(u64, Option<(OwnedFd, PathBuf)>)>,
}

impl Filesystems {
    pub(super) fn new() -> Self {
        let release = rustix::system::uname();
        Self { tells: tells(&release.release().to_string_lossy()), seen: Vec::new() }
    }

    /// To be called before something is written in a folder: says when it becomes durable.
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    pub(super) fn enter(&mut self, folder: &Folder) -> Result<Durable, TargetError> {
        let failed = |errno| file("look at the filesystem of", folder.path(), errno);
        let device = rustix::fs::fstat(folder.fd()).map_err(failed)?.st_dev as u64;
        if let Some((_, opened)) = self.seen.iter().find(|(known, _)| *known == device) {
            return Ok(if opened.is_some() { Durable::Later } else { Durable::Now });
        }
        let kind = rustix::fs::fstatfs(folder.fd()).map_err(failed)?.f_type as u32;
        let opened = if self.tells && !FOREIGN.contains(&kind) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat(folder.fd(), ".", flags, Mode::empty()) {
                Ok(opened) => Some((opened, folder.path().to_owned())),
                Err(Errno::ACCESS) => None,
                Err(errno) => return Err(failed(errno)),
            }
        } else {
            None
        };
        let durable = if opened.is_some() { Durable::Later } else { Durable::Now };
        self.seen.push((device, opened));
        Ok(durable)
    }

    /// Makes durable what was written so far and is to be durable later.
    pub(super) fn sync(&self) -> Result<(), TargetError> {
        for (opened, path) in self.seen.iter().filter_map(|(_, opened)| opened.as_ref()) {
            rustix::fs::syncfs(opened).map_err(|errno| file("sync the filesystem of", path, errno))?;
        }
        Ok(())
    }
}

/// Whether this kernel's `syncfs` tells of lost writes.
fn tells(release: &str) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= TELLS_SINCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_not_believed() {
        for (release, expected) in
            [("6.1.0-18-amd64", true), ("5.8.0", true), ("5.7.19", false), ("4.19", false), ("10.0", true), ("", false)]
        {
            assert_eq!(tells(release), expected, "{release}");
        }
    }

    #[test]
    fn a_filesystem_is_opened_once() {
        let (_ground, root) = super::super::root::tests::ground();
        let folder = root.folder(std::path::Path::new("/")).unwrap();
        let mut all = Filesystems::new();
        let first = all.enter(&folder).unwrap();
        assert_eq!((all.enter(&folder).unwrap(), all.seen.len()), (first, 1));
        all.sync().unwrap();
        all.tells = false;
        all.seen.clear();
        assert_eq!(all.enter(&folder).unwrap(), Durable::Now);
    }
}
