//! A copy is made in a thread of its own, and whoever waits for it hears a signal. SQLite opens the files beside a
//! database by itself, and where one of them is or becomes a fifo, its opening waits without end, with the read lock
//! held. What stands in the way is refused before, looked for meanwhile, and let go.

use super::copy::{Copy, copy_here};
use super::error::SqliteError;
use super::{CopyOptions, Scratch, header};
use crate::base::interrupt::Interrupt;
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// How often whoever waits for a copy looks whether the wait is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How many of these looks a copy that is to stop gets to end by itself.
const LOOKS_TO_THE_END: u32 = 20;

/// Copies a live database and checks the copy with `PRAGMA integrity_check`. Nothing is written to the database or
/// beside it, except for a scratch file without a name where it is large and may have one.
pub fn copy(database: &Path, options: CopyOptions<'_>) -> Result<Copy, SqliteError> {
    refuse_obstacle(database)?;
    let folder = match options.scratch {
        Scratch::Folder(folder) => Some(folder.to_owned()),
        Scratch::Memory => None,
    };
    let (path, budget, interrupt) = (database.to_owned(), options.budget, options.interrupt.clone());
    let (hand_over, copied) = mpsc::channel();
    let work = move || {
        let scratch = folder.as_deref().map_or(Scratch::Memory, Scratch::Folder);
        // Nobody takes it any more where the wait was given up.
        drop(hand_over.send(copy_here(&path, CopyOptions { scratch, budget, interrupt: &interrupt })));
    };
    let started = std::thread::Builder::new().name("sqlite-copy".to_owned()).spawn(work);
    started.map_err(|source| SqliteError::Look { path: database.to_owned(), source })?;
    wait(database, &copied, options.interrupt)
}

/// Waits for a copy. Ends without it when somebody asked to stop, or when something stands in SQLite's way, and the
/// thread does not end by itself.
fn wait(
    database: &Path,
    copied: &Receiver<Result<Copy, SqliteError>>,
    interrupt: &Interrupt,
) -> Result<Copy, SqliteError> {
    let mut patience = LOOKS_TO_THE_END;
    loop {
        match copied.recv_timeout(LOOK_AGAIN) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => {
                let source = std::io::Error::other("the copying thread ended early");
                return Err(SqliteError::Look { path: database.to_owned(), source });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let obstacle = refuse_obstacle(database);
        if let Err(SqliteError::Beside { beside: at, .. } | SqliteError::NotRegular { path: at }) = &obstacle {
            release(at);
        }
        let given_up = if interrupt.is_set() {
            Err(SqliteError::Interrupted { path: database.to_owned() })
        } else {
            // A database that is gone is the thread's to tell.
            obstacle.or_else(|error| if matches!(error, SqliteError::Look { .. }) { Ok(()) } else { Err(error) })
        };
        match given_up {
            Err(error) if patience == 0 => return Err(error),
            Err(_) => patience -= 1,
            Ok(()) => patience = LOOKS_TO_THE_END,
        }
    }
}

fn refuse_obstacle(database: &Path) -> Result<(), SqliteError> {
    let path = database.to_owned();
    match header::obstacle(database) {
        Ok(None) => Ok(()),
        Ok(Some(beside)) if std::fs::canonicalize(database).is_ok_and(|real| real == beside) => {
            Err(SqliteError::NotRegular { path })
        }
        Ok(Some(beside)) => Err(SqliteError::Beside { path, beside }),
        Err(source) => Err(SqliteError::Look { path, source }),
    }
}

/// Lets go whoever waits at a fifo for somebody to write, so that SQLite gives its locks back: opens and closes it.
fn release(fifo: &Path) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let is_fifo = std::fs::symlink_metadata(fifo).is_ok_and(|meta| meta.file_type().is_fifo());
    if is_fifo && let Err(errno) = rustix::fs::open(fifo, flags, Mode::empty()) {
        tracing::debug!(%errno, "nobody waits at the fifo");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat};

    #[test]
    fn a_wait_for_a_copy_ends_when_somebody_asks_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("db");
        std::fs::write(&database, "").unwrap();
        let (_never_told, copied) = mpsc::channel();
        let interrupt = Interrupt::new();
        interrupt.set();
        assert!(matches!(wait(&database, &copied, &interrupt), Err(SqliteError::Interrupted { .. })));
    }

    #[test]
    fn a_fifo_that_comes_while_sqlite_opens_it_ends_the_wait_and_lets_sqlite_go() {
        let folder = tempfile::tempdir().unwrap();
        let (database, journal) = (folder.path().join("db"), folder.path().join("db-journal"));
        std::fs::write(&database, "").unwrap();
        mknodat(CWD, &journal, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let (let_go, copied) = mpsc::channel();
        let opened = journal.clone();
        let opening = std::thread::spawn(move || {
            drop(std::fs::File::open(opened));
            let_go
        });
        assert!(matches!(wait(&database, &copied, &Interrupt::new()), Err(SqliteError::Beside { beside, .. })
            if beside == journal));
        drop(opening.join().unwrap());
    }
}
