//! Who uses a node's files now: the holder of a pid file's lock, whoever answers on a socket or has a database open,
//! each with the process and the systemd unit it runs in where the system says so. Looks only.

use super::TargetError;
use super::fence::Fence;
use super::look::Listener;
use super::record_lock;
use super::root::{Root, file};
use crate::base::flock::Locked;
use crate::base::fsio::{self, FileError};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Longest list of a process's control groups that is read, in bytes.
const CGROUP_BYTES_MAX: u64 = 64 * 1024;

/// One that uses a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it is, for a person.
    pub what: String,
    /// The systemd unit it runs in.
    pub unit: Option<String>,
}

impl Holder {
    fn process(id: u32) -> Self {
        Self { what: format!("process {id}{}", name_of(id)), unit: unit_of(id) }
    }

    fn nameless(what: &str) -> Self {
        Self { what: what.to_owned(), unit: None }
    }
}

impl Root {
    /// Who holds the lock of a pid file. A fence of our own that holds it keeps everybody else out.
    pub fn lock_holders(&self, pid_file: &Path, fence: Option<&Fence<'_>>) -> Result<Vec<Holder>, TargetError> {
        if fence.is_some_and(|fence| fence.holds(pid_file)) {
            return Ok(Vec::new());
        }
        let Some(opened) = self.open_file(pid_file)? else { return Ok(Vec::new()) };
        let place = self.path_of(pid_file);
        let holder = record_lock::holder(&opened).map_err(FileError::io("ask for the lock of", &place))?;
        Ok(match holder {
            None => Vec::new(),
            Some(record_lock::Holder::Process(0)) => vec![Holder::nameless("a process in another container")],
            Some(record_lock::Holder::Process(id)) => vec![Holder::process(id)],
            Some(record_lock::Holder::OpenFile) => vec![Holder::nameless("another restore")],
        })
    }

    /// Who answers on a socket.
    pub fn socket_holders(&self, socket: &Path) -> Result<Vec<Holder>, TargetError> {
        Ok(match self.listener(socket)? {
            Listener::Nobody => Vec::new(),
            Listener::Somebody(Some(id)) => vec![Holder::process(id)],
            Listener::Somebody(None) => vec![Holder::nameless("a process that the system does not name")],
        })
    }

    /// Who has a database of the kind bolt open: LND locks its own for as long as it runs.
    pub fn bolt_holders(&self, database: &Path) -> Result<Vec<Holder>, TargetError> {
        let Some(opened) = self.open_file(database)? else { return Ok(Vec::new()) };
        let place = self.path_of(database);
        match Locked::shared(opened) {
            Ok(_given_back_at_once) => Ok(Vec::new()),
            Err((_, Errno::AGAIN)) => {
                let what = format!("a process that has {} open", place.display());
                Ok(vec![Holder::nameless(&what)])
            }
            Err((_, errno)) => Err(file("ask for the lock of", &place, errno)),
        }
    }
}

fn name_of(process: u32) -> String {
    let read = fsio::read(&proc_file(process, "comm"), CGROUP_BYTES_MAX).unwrap_or_default();
    let name = String::from_utf8_lossy(&read).trim().to_owned();
    if name.is_empty() { name } else { format!(" ({name})") }
}

/// The unit whose control group a process is in. Not known is not none: the caller must not conclude anything from it.
fn unit_of(process: u32) -> Option<String> {
    let read = fsio::read(&proc_file(process, "cgroup"), CGROUP_BYTES_MAX).ok()?;
    unit_in(&String::from_utf8_lossy(&read))
}

fn proc_file(process: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{name}"))
}

/// The service in a list of control groups, such as `0::/system.slice/clightning.service`.
fn unit_in(groups: &str) -> Option<String> {
    let of_systemd = groups.lines().filter_map(|line| {
        let (_, path) = line.split_once(':')?.1.split_once(':')?;
        path.rsplit('/').find(|part| part.ends_with(".service"))
    });
    of_systemd.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::super::record_lock::tests::Locker;
    use super::super::root::Owners;
    use super::*;
    use crate::base::tests::hang_up;

    #[test]
    fn a_unit_is_read_from_the_control_group() {
        assert_eq!(unit_in("0::/system.slice/clightning.service\n").as_deref(), Some("clightning.service"));
        let nested = "1:name=systemd:/user.slice\n0::/system.slice/lnd.service/payload\n";
        assert_eq!(unit_in(nested).as_deref(), Some("lnd.service"));
        assert_eq!(unit_in("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(unit_in(""), None);
    }

    #[test]
    fn the_holder_of_a_lock_is_named_and_a_lock_that_is_free_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        let pid = Path::new("/lightningd.pid");
        assert_eq!(root.lock_holders(pid, None).unwrap(), []);
        std::fs::write(folder.path().join("lightningd.pid"), "1\n").unwrap();
        assert_eq!(root.lock_holders(pid, None).unwrap(), []);
        let locker = Locker::start(&folder.path().join("lightningd.pid"));
        let holders = root.lock_holders(pid, None).unwrap();
        assert_eq!(holders[0].what, format!("process {} (perl)", locker.id()));
        drop(locker);
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("rpc")).unwrap();
        let holders = root.socket_holders(Path::new("/rpc")).unwrap();
        assert!(holders[0].what.contains(&std::process::id().to_string()), "{holders:?}");
        hang_up(socket);
        assert_eq!(root.socket_holders(Path::new("/rpc")).unwrap(), []);
    }

    #[test]
    fn an_open_bolt_database_has_a_holder() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        let database = std::fs::File::create(folder.path().join("channel.db")).unwrap();
        let ask = || root.bolt_holders(Path::new("/channel.db")).unwrap();
        assert_eq!(ask(), []);
        let _lnd = Locked::alone_at_last(&database).unwrap();
        assert_eq!(ask().len(), 1);
    }
}
