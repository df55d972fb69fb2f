//! Locks on whole files and folders (`flock`), given back by saying so. Such a lock belongs to the opened file, and a
//! child that any thread starts holds all that is open until its own program begins: who only closes the file gives the
//! lock back when the last such child has come that far, which may be after it was asked for again. Only here may the
//! program lock a file. Locks by record are another thing: see `target::record_lock`.

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};

/// An opened file or folder that is locked; the lock is given back when this is dropped, and then the file closed. A
/// process that is killed gives nothing back: its locks go with it and with a child that it was starting.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct Locked<F: AsFd>(F);

/// A lock that was not to be had: the file it was asked on, and why; [`Errno::AGAIN`] where somebody else holds it.
pub type Refused<F> = (F, Errno);

impl<F: AsFd> Locked<F> {
    /// Takes the lock for this opening alone, without waiting.
    pub fn alone(opened: F) -> Result<Self, Refused<F>> {
        Self::take(opened, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock together with others that share it, without waiting.
    pub fn shared(opened: F) -> Result<Self, Refused<F>> {
        Self::take(opened, FlockOperation::NonBlockingLockShared)
    }

    /// Takes the lock for this opening alone, and waits until it can be had.
    pub fn alone_at_last(opened: F) -> Result<Self, Refused<F>> {
        Self::take(opened, FlockOperation::LockExclusive)
    }

    fn take(opened: F, how: FlockOperation) -> Result<Self, Refused<F>> {
        loop {
            match rustix::fs::flock(&opened, how) {
                Ok(()) => return Ok(Self(opened)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err((opened, errno)),
            }
        }
    }
}

impl<F: AsFd> Drop for Locked<F> {
    fn drop(&mut self) {
        if let Err(errno) = rustix::fs::flock(&self.0, FlockOperation::Unlock) {
            tracing::debug!(%errno, "a lock is given back when its file is closed");
        }
    }
}

impl<F: AsFd> AsFd for Locked<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<F: AsFd> Deref for Locked<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl<F: AsFd> DerefMut for Locked<F> {
    fn deref_mut(&mut self) -> &mut F {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tests::Children;
    use std::fs::File;

    #[test]
    fn a_lock_keeps_others_out_and_one_that_is_shared_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::open(folder.path()).unwrap();
        let first = Locked::shared(open()).unwrap();
        let second = Locked::shared(open()).unwrap();
        drop(first);
        let (opened, errno) = Locked::alone(open()).unwrap_err();
        assert_eq!(errno, Errno::AGAIN);
        drop(second);
        let alone = Locked::alone(opened).unwrap();
        assert_eq!(Locked::shared(open()).unwrap_err().1, Errno::AGAIN);
        let waits = std::thread::spawn({
            let opened = open();
            move || drop(Locked::alone_at_last(opened).unwrap())
        });
        drop(alone);
        waits.join().unwrap();
    }

    #[test]
    fn a_lock_is_free_at_once_while_children_begin() {
        let folder = tempfile::tempdir().unwrap();
        let children = Children::begin();
        while children.are_fewer_than(300) {
            drop(Locked::alone(File::open(folder.path()).unwrap()).unwrap());
        }
    }
}
