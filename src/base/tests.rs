//! What the unit tests of all layers share about processes. A child that is being started holds everything this process
//! has open, until its program begins: what a test closes is then not closed yet. These help to close for certain, and
//! to show that the program does.

use super::exec::{Exec, find};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Children that begin and end without a pause, for as long as this lives.
pub(crate) struct Children {
    ended: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Children {
    /// Begins, and returns when the first has ended.
    pub(crate) fn begin() -> Self {
        let (ended, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let begin = || drop(Exec::new(find("true", &[]).unwrap()).run(b"").unwrap());
        begin();
        let thread = || {
            let (ended, count) = (Arc::clone(&ended), Arc::clone(&count));
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    begin();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = vec![thread(), thread()];
        Self { ended, count, threads }
    }

    /// Whether fewer than so many have ended: a test goes on until it has met enough of them.
    pub(crate) fn are_fewer_than(&self, count: usize) -> bool {
        self.count.load(Ordering::Relaxed) < count
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "a child did not begin");
        }
    }
}

/// Closes a socket that listens, so that nobody is answered from here on.
pub(crate) fn hang_up(listener: impl Into<OwnedFd>) {
    rustix::net::shutdown(listener.into().as_fd(), rustix::net::Shutdown::Both).unwrap();
}

/// Writes a script that can be run at once: a file that anybody still holds open for writing cannot.
pub(crate) fn write_program(path: &Path, script: &str) {
    let shell = Exec::new(find("sh", &[]).unwrap()).args(["-c", "cat >\"$1\" && chmod 0755 \"$1\"", "sh"]);
    shell.arg(path).run(script.as_bytes()).unwrap();
}

#[test]
fn a_program_can_be_run_as_soon_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let _children = Children::begin();
    for round in 0..200 {
        let path = folder.path().join(round.to_string());
        write_program(&path, "#!/bin/sh\nexit 7\n");
        assert_eq!(Exec::new(path).output().unwrap().code, Some(7));
    }
}

#[test]
fn nobody_answers_after_a_socket_was_hung_up() {
    let folder = tempfile::tempdir().unwrap();
    let children = Children::begin();
    while children.are_fewer_than(300) {
        let path = folder.path().join("socket");
        hang_up(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::os::unix::net::UnixStream::connect(&path).unwrap_err();
        std::fs::remove_file(path).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        hang_up(listener);
        std::net::TcpStream::connect(address).unwrap_err();
    }
}
