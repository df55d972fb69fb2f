//! Record locks on a whole file: asked for, and held for as long as a value lives. The lock belongs to the open file,
//! not to the process, so that no other close of the same file drops it; it stands against the POSIX lock that
//! lightningd takes on its pid file (`lockf`), both ways. It is given back by saying so: a child that is being started
//! holds what is open until its program begins, and closing alone would give the lock back only then.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// Who holds a lock that stands against ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A process, by its number; lightningd is one.
    Process(u32),
    /// An open file of some process, which the system does not name: a fence of this program's.
    OpenFile,
}

/// An open file whose write lock is held, until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as this is dropped"]
pub(super) struct Held(File);

/// Takes the write lock on a file opened for writing, without waiting; gives the file back when somebody else holds one.
pub(super) fn take(file: File) -> io::Result<Result<Held, File>> {
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => Ok(Ok(Held(file))),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(Err(file)),
        Err(errno) => Err(errno.into()),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(errno) = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK))) {
            tracing::debug!(%errno, "a lock is given back when its file is closed");
        }
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

/// Who holds a lock on this file through another opening of it.
pub(super) fn holder(file: &File) -> io::Result<Option<Holder>> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(io::Error::from)?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    // An open file's lock has the number -1. A process of another namespace has 0 and is a process all the same.
    Ok(Some(u32::try_from(lock.l_pid).map_or(Holder::OpenFile, Holder::Process)))
}

/// A lock on everything from the first byte on. The number must be 0 for a lock of an open file.
#[expect(clippy::cast_possible_truncation, reason = "small constants whose types differ between systems")]
#[allow(clippy::unnecessary_cast, reason = "the same")]
fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::tests::Children;
    use std::io::{BufRead, BufReader, Write};
    use std::path::Path;
    use std::process::{Child, Stdio};

    /// Another process that holds a POSIX lock on a file, as lightningd does on its pid file.
    pub(in crate::target) struct Locker(Child);

    impl Locker {
        pub(in crate::target) fn start(path: &Path) -> Self {
            // Perl is part of every Debian; the packing is that of `struct flock` where a long has eight bytes.
            let program = "use Fcntl; open(my $f, '+<', $ARGV[0]) or die $!; \
                           my $lock = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0); \
                           fcntl($f, F_SETLK, $lock) or die $!; $| = 1; print \"held\\n\"; <STDIN>;";
            #[expect(clippy::disallowed_methods, reason = "the test needs another process that holds the lock")]
            let mut child = std::process::Command::new("perl")
                .args(["-e", program])
                .arg(path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "held\n");
            Self(child)
        }

        pub(in crate::target) fn id(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Locker {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn locks_of_processes_and_of_open_files_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let mut first = File::create(&path).unwrap();
        first.write_all(b"812\n").unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let (second, locker) = (open(), Locker::start(&path));
        assert_eq!(holder(&first).unwrap(), Some(Holder::Process(locker.id())));
        let first = take(first).unwrap().unwrap_err();
        drop(locker);
        let first = take(first).unwrap().unwrap();
        assert_eq!(holder(&first).unwrap(), None, "our own stands in nobody's way");
        assert_eq!(holder(&second).unwrap(), Some(Holder::OpenFile));
        let second = take(second).unwrap().unwrap_err();
        // Another opening that ends does not end the lock.
        drop(open());
        let second = take(second).unwrap().unwrap_err();
        drop(first);
        drop(take(second).unwrap().unwrap());
    }

    #[test]
    fn a_lock_is_free_at_once_while_children_begin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        File::create(&path).unwrap();
        let children = Children::begin();
        while children.are_fewer_than(300) {
            drop(take(File::options().read(true).write(true).open(&path).unwrap()).unwrap().unwrap());
        }
    }
}
