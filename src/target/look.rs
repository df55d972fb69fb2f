//! A look at what lies at a path, without following a link and without changing anything: nothing, a file, a link,
//! something else; its bytes; whether it is the very file that would be placed; who listens on a socket.

use super::TargetError;
use super::place::Wanted;
use super::root::{Root, file, kind_name, kind_of};
use crate::base::fsio::FileError;
use crate::base::secret::Secret;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Nothing, be it that a folder on the way is missing.
    Nothing,
    /// A regular file.
    File {
        /// Its length in bytes.
        length: u64,
    },
    /// A folder.
    Folder,
    /// Something else: `a symbolic link`, `a socket`, `a device`.
    Other(&'static str),
}

/// Who takes connections on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Nobody: there is no socket, or its process is gone.
    Nobody,
    /// Somebody, and which process it is, where the system says so.
    Somebody(Option<u32>),
}

impl Root {
    /// Whether two things are there and have the same owner.
    pub fn have_one_owner(&self, one: &Path, other: &Path) -> Result<bool, TargetError> {
        Ok(matches!((self.look(one)?, self.look(other)?), (Some(one), Some(other)) if one.st_uid == other.st_uid))
    }

    /// What lies at a path.
    pub fn at(&self, path: &Path) -> Result<At, TargetError> {
        Ok(match self.look(path)? {
            None => At::Nothing,
            Some(stat) => match kind_of(&stat) {
                FileType::RegularFile => At::File { length: u64::try_from(stat.st_size).unwrap_or(0) },
                FileType::Directory => At::Folder,
                _ => At::Other(kind_name(&stat)),
            },
        })
    }

    /// A regular file, opened for reading; none where there is nothing. An error where something else is.
    pub fn open_file(&self, path: &Path) -> Result<Option<File>, TargetError> {
        let Some(stat) = self.look(path)? else { return Ok(None) };
        let place = self.path_of(path);
        match kind_of(&stat) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(TargetError::Symlink { path: place }),
            _ => return Err(TargetError::Occupied { path: place, what: kind_name(&stat).to_owned() }),
        }
        let (folder, name) = self.parent_of(path)?;
        // NONBLOCK: a fifo put in the way must not make us wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(folder.fd(), &name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(file("open", &place, errno)),
        }
    }

    /// The bytes of a file of at most this length, which may be secret; none where there is nothing.
    pub fn read_file(&self, path: &Path, limit: u64) -> Result<Option<Secret>, TargetError> {
        let Some(opened) = self.open_file(path)? else { return Ok(None) };
        let place = self.path_of(path);
        let length = opened.metadata().map_err(FileError::io("look at", &place))?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(limit)).unwrap_or(0) + 1);
        let read = opened.take(limit + 1).read_to_end(&mut bytes);
        let bytes = Secret::new(bytes);
        read.map_err(FileError::io("read", &place))?;
        if bytes.len() as u64 > limit {
            return Err(FileError::TooLarge { path: place, length: length.max(limit + 1), limit }.into());
        }
        Ok(Some(bytes))
    }

    /// Whether the file in a place has the owner and the mode that it would get there.
    pub fn has_owner_and_mode(&self, wanted: &Wanted<'_>) -> Result<bool, TargetError> {
        let Some(stat) = self.look(wanted.to)? else { return Ok(false) };
        let owner = self.accounts.resolve(wanted.owner, &mut Vec::new())?;
        Ok(self.is_owned(&stat, owner, wanted.mode))
    }

    /// The permission bits of what lies at a path; none where there is nothing.
    pub fn mode_of(&self, path: &Path) -> Result<Option<u32>, TargetError> {
        Ok(self.look(path)?.map(|stat| stat.st_mode & 0o7777))
    }

    /// Who takes connections on a socket. A socket's file outlives its process: only one that takes a connection shows
    /// that somebody is there.
    pub fn listener(&self, path: &Path) -> Result<Listener, TargetError> {
        match self.look(path)? {
            Some(stat) if kind_of(&stat) == FileType::Socket => {}
            _ => return Ok(Listener::Nobody),
        }
        let (folder, name) = self.parent_of(path)?;
        let place = self.path_of(path);
        // A socket's address is short; a path can be long. Through the open folder it always fits, and no link is
        // followed.
        let through = PathBuf::from(format!("/proc/self/fd/{}", folder.fd().as_raw_fd())).join(name);
        let failed = |errno| file("connect to", &place, errno);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let ours = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        let address = SocketAddrUnix::new(&through).map_err(failed)?;
        match rustix::net::connect(&ours, &address) {
            Ok(()) => {
                // A process of another container has the number 0.
                let peer = nix::sys::socket::getsockopt(&ours, nix::sys::socket::sockopt::PeerCredentials);
                let process = peer.ok().and_then(|peer| u32::try_from(peer.pid()).ok());
                Ok(Listener::Somebody(process.filter(|id| *id != 0)))
            }
            // A queue that is full is somebody's, too.
            Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(Listener::Somebody(None)),
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Listener::Nobody),
            Err(errno) => Err(failed(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::Owner;
    use super::super::root::tests::ground;
    use super::*;
    use crate::base::tests::hang_up;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_lies_at_a_path_is_told_and_no_link_is_followed() {
        let (folder, root) = ground();
        let at = |path: &str| root.at(Path::new(path)).unwrap();
        std::fs::write(folder.path().join("file"), "four").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        symlink("file", folder.path().join("link")).unwrap();
        symlink("folder", folder.path().join("way")).unwrap();
        assert_eq!(at("/none/at/all"), At::Nothing);
        assert_eq!(at("/file"), At::File { length: 4 });
        assert_eq!(at("/folder"), At::Folder);
        assert_eq!(at("/link"), At::Other("a symbolic link"));
        assert!(matches!(root.at(Path::new("/way/x")), Err(TargetError::Symlink { .. })));
        let error = root.open_file(Path::new("/link")).unwrap_err();
        assert!(matches!(&error, TargetError::Symlink { path } if path.ends_with("link")), "{error}");
        assert!(root.open_file(Path::new("/none")).unwrap().is_none());
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let (folder, root) = ground();
        std::fs::write(folder.path().join("file"), "four").unwrap();
        let read = |limit| root.read_file(Path::new("/file"), limit);
        assert_eq!(read(4).unwrap().unwrap().expose(), b"four");
        assert!(matches!(read(3), Err(TargetError::File(FileError::TooLarge { .. }))));
        assert!(root.read_file(Path::new("/none"), 1).unwrap().is_none());
    }

    #[test]
    fn owner_and_mode_are_those_it_would_get() {
        let (folder, root) = ground();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        let owner = Owner::ourselves();
        let has = |mode| {
            let to = Path::new("/file");
            root.has_owner_and_mode(&Wanted { to, home: Path::new("/"), owner: &owner, mode }).unwrap()
        };
        assert!(has(0o400));
        assert!(!has(0o600));
    }

    #[test]
    fn the_process_behind_a_socket_is_named() {
        let (folder, root) = ground();
        let path = Path::new("/rpc");
        assert_eq!(root.listener(path).unwrap(), Listener::Nobody);
        let listener = UnixListener::bind(folder.path().join("rpc")).unwrap();
        assert_eq!(root.listener(path).unwrap(), Listener::Somebody(Some(std::process::id())));
        hang_up(listener);
        assert_eq!(root.listener(path).unwrap(), Listener::Nobody, "the file is left, and nobody answers");
    }
}
