//! One writer per node: a lock on a file of the state folder. The kernel holds it and frees it when the process ends,
//! however it ends, so what the file says never blocks anybody; it is there for the message alone. The file is never
//! removed: two processes could then each hold a lock on a file of that name.

use super::clock::Clock;
use super::flock::{Locked, Refused};
use super::fsio::{self, FileError};
use super::limits::{LOCK_REST, LOCK_TRIES_MAX};
use jiff::Timestamp;
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Most of the file that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 256;

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct Lock {
    _file: Locked<File>,
}

/// Who holds a lock, as its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// What it does, such as `backup`.
    pub verb: String,
    /// Since when.
    pub since: Timestamp,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{} is locked by {}", path.display(), describe(holder.as_ref()))]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who holds it; none when that process has not written it yet.
        holder: Option<Holder>,
    },
    /// The file could not be used.
    #[error("cannot take the lock")]
    File(#[source] FileError),
}

impl LockError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some(
                "wait for it to end, then run the same command again; nothing needs to be removed by hand".to_owned(),
            ),
            Self::File(error) => error.hint(),
        }
    }
}

impl Lock {
    /// Takes the lock without waiting for whoever works under it, and notes who holds it.
    pub fn acquire(path: &Path, verb: &str, clock: Clock) -> Result<Self, LockError> {
        let file = fsio::open_or_create(path, 0o600).map_err(LockError::File)?;
        Self::hold(file, path, verb, clock)
    }

    /// An error where another process holds the lock of this file, opened already; it is not taken, and nothing is
    /// written.
    pub fn refuse_held(file: File, path: &Path) -> Result<(), LockError> {
        match take(file, || std::thread::sleep(LOCK_REST)) {
            Ok(_) => Ok(()),
            Err((mut file, Errno::AGAIN)) => {
                Err(LockError::Held { path: path.to_owned(), holder: Holder::read(&mut file) })
            }
            Err((_, errno)) => Err(LockError::File(FileError::io("lock", path)(errno.into()))),
        }
    }

    /// The same with the lock's file opened already, for reading and writing; `path` is for messages.
    pub fn hold(file: File, path: &Path, verb: &str, clock: Clock) -> Result<Self, LockError> {
        let mut file = match take(file, || std::thread::sleep(LOCK_REST)) {
            Ok(locked) => locked,
            Err((mut file, Errno::AGAIN)) => {
                return Err(LockError::Held { path: path.to_owned(), holder: Holder::read(&mut file) });
            }
            Err((_, errno)) => return Err(LockError::File(FileError::io("lock", path)(errno.into()))),
        };
        let holder = Holder { pid: std::process::id(), verb: verb.to_owned(), since: clock.now() };
        holder.write(&mut file).map_err(|error| LockError::File(FileError::io("write", path)(error)))?;
        Ok(Self { _file: file })
    }
}

/// Asks a few times: a process that was killed while it started a child leaves its lock to that child, until the
/// child's own program begins.
fn take(mut file: File, mut rest: impl FnMut()) -> Result<Locked<File>, Refused<File>> {
    for _ in 1..LOCK_TRIES_MAX {
        match Locked::alone(file) {
            Err((back, Errno::AGAIN)) => file = back,
            settled => return settled,
        }
        rest();
    }
    Locked::alone(file)
}

impl Holder {
    fn write(&self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(format!("{self}\n").as_bytes())
    }

    /// What the file says; none where it says nothing that can be understood.
    fn read(file: &mut File) -> Option<Self> {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
        let mut fields = text.strip_suffix('\n')?.splitn(3, ", ");
        let pid = fields.next()?.parse().ok()?;
        let verb = fields.next()?.chars().filter(|c| !c.is_control()).collect();
        Some(Self { pid, verb, since: fields.next()?.parse().ok()? })
    }
}

/// `812, backup, 2026-11-20T05:12:00Z`, as it stands in the file.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.pid, self.verb, self.since)
    }
}

fn describe(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, verb, since }) => format!("process {pid} ({verb}) since {since}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::exec::{Exec, find};
    use std::fs;

    fn clock() -> Clock {
        Clock::Fixed(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_second_writer_is_told_who_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::acquire(&path, "backup", clock()).unwrap();
        let error = Lock::acquire(&path, "prune", clock()).unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!("{} is locked by process {pid} (backup) since 1970-01-01T00:00:00Z", path.display())
        );
        let LockError::Held { holder: Some(holder), .. } = error else { panic!("{error}") };
        assert_eq!(holder, Holder { pid, verb: "backup".to_owned(), since: Timestamp::UNIX_EPOCH });
        drop(lock);
        drop(Lock::acquire(&path, "prune", clock()).unwrap());
    }

    #[test]
    fn a_lock_that_is_given_back_within_a_moment_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || fsio::open_or_create(&path, 0o600).unwrap();
        let mut other = Some(Locked::alone(open()).unwrap());
        let mut rests = 0;
        let taken = take(open(), || {
            rests += 1;
            if rests == 3 {
                drop(other.take());
            }
        });
        assert!(taken.is_ok(), "{taken:?}");
        assert_eq!(take(open(), || rests += 1).unwrap_err().1, Errno::AGAIN);
        assert_eq!(rests, 3 + LOCK_TRIES_MAX - 1);
    }

    #[test]
    fn what_a_crash_left_in_the_file_blocks_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, format!("1, backup, {}, and much more\n", "x".repeat(1000))).unwrap();
        let lock = Lock::acquire(&path, "mark", clock()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}, mark, 1970-01-01T00:00:00Z\n", std::process::id()));
        fs::write(&path, b"\xff\x00, \x1b[31m").unwrap();
        let error = Lock::acquire(&path, "prune", clock()).unwrap_err();
        assert!(matches!(error, LockError::Held { holder: None, .. }));
        assert!(error.to_string().ends_with("is locked by another process"));
        drop(lock);
    }

    #[test]
    fn the_kernel_frees_the_lock_of_a_process_that_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, "").unwrap();
        let flock = Exec::new(find("flock", &[]).unwrap()).args(["--exclusive", "--no-fork"]).arg(&path);
        // It says so with the lock in its hands, and is killed and reaped when it is dropped.
        let mut holder = flock.args(["sh", "-c", "echo held; exec sleep 600"]).stream(None).unwrap();
        holder.read_exact(&mut [0; 5]).unwrap();
        assert!(matches!(Lock::acquire(&path, "backup", clock()), Err(LockError::Held { .. })));
        drop(holder);
        drop(Lock::acquire(&path, "backup", clock()).unwrap());
    }
}
