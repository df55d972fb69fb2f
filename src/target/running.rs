//! Is it running? A node is asked in every way there is: the lock on its pid file or database, its socket, its unit.
//! One yes is a yes; a no needs all of them, and what could not be asked leaves the answer unknown. Starts, stops and
//! changes nothing.

use super::TargetError;
use super::fence::Fence;
use super::holders::Holder;
use super::root::Root;
use super::units::{State, Units};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a port on this machine may take to answer.
const PORT_WAIT: Duration = Duration::from_secs(3);

/// Whether something runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does, and what shows it.
    Yes(String),
    /// Nothing shows that it does, and all could be asked.
    No,
    /// Nothing shows that it does, but this could not be asked.
    Unknown(String),
}

/// Where lightningd can be asked for. Paths as the restored machine names them.
#[derive(Clone, Debug)]
pub struct Lightningd<'a> {
    /// Its pid file.
    pub pid_file: &'a Path,
    /// Its RPC socket.
    pub rpc_socket: &'a Path,
    /// Its unit; none below another root.
    pub unit: Option<(&'a Units, &'a str)>,
}

/// Where LND can be asked for.
#[derive(Clone, Debug)]
pub struct Lnd<'a> {
    /// Its databases of the kind bolt: `wallet.db`, `channel.db`. lnd locks them as long as it runs.
    pub databases: &'a [PathBuf],
    /// Its RPC port on this machine; none below another root.
    pub rpc: Option<SocketAddr>,
    /// Its unit; none below another root.
    pub unit: Option<(&'a Units, &'a str)>,
}

/// Whether lightningd runs. A fence of our own that holds the pid file's lock is no sign of it.
pub fn lightningd(root: &Root, places: &Lightningd<'_>, fence: Option<&Fence<'_>>) -> Answer {
    let mut answers = Vec::new();
    // As long as we hold the lock, lightningd cannot.
    if !fence.is_some_and(|fence| fence.holds(places.pid_file)) {
        answers.push(settle(pid_file(root, places.pid_file)));
    }
    answers.push(settle(socket(root, places.rpc_socket)));
    answers.extend(places.unit.map(unit));
    merge(answers)
}

/// Whether LND runs.
pub fn lnd(root: &Root, places: &Lnd<'_>) -> Answer {
    let mut answers: Vec<Answer> = places.databases.iter().map(|path| settle(bolt(root, path))).collect();
    answers.extend(places.rpc.map(port));
    answers.extend(places.unit.map(unit));
    merge(answers)
}

fn settle(answer: Result<Answer, TargetError>) -> Answer {
    answer.unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Answer::Unknown(format!("{error}{cause}"))
    })
}

fn merge(answers: Vec<Answer>) -> Answer {
    let (mut yes, mut unknown) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Answer::Yes(why) => yes.push(why),
            Answer::No => {}
            Answer::Unknown(why) => unknown.push(why),
        }
    }
    match (yes.is_empty(), unknown.is_empty()) {
        (false, _) => Answer::Yes(yes.join("; ")),
        (true, false) => Answer::Unknown(unknown.join("; ")),
        (true, true) => Answer::No,
    }
}

/// One that uses it is enough.
fn any(holders: &[Holder], told: impl FnOnce(&str) -> String) -> Answer {
    holders.first().map_or(Answer::No, |holder| Answer::Yes(told(&holder.what)))
}

fn pid_file(root: &Root, path: &Path) -> Result<Answer, TargetError> {
    let place = root.path_of(path);
    Ok(any(&root.lock_holders(path, None)?, |who| format!("{who} holds the lock on {}", place.display())))
}

fn socket(root: &Root, path: &Path) -> Result<Answer, TargetError> {
    let place = root.path_of(path);
    Ok(any(&root.socket_holders(path)?, |who| format!("{who} answers at {}", place.display())))
}

fn bolt(root: &Root, path: &Path) -> Result<Answer, TargetError> {
    Ok(any(&root.bolt_holders(path)?, str::to_owned))
}

fn port(address: SocketAddr) -> Answer {
    match TcpStream::connect_timeout(&address, PORT_WAIT) {
        Ok(_) => Answer::Yes(format!("somebody answers at {address}")),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Answer::No,
        Err(error) => Answer::Unknown(format!("{address} cannot be asked: {error}")),
    }
}

fn unit((units, unit): (&Units, &str)) -> Answer {
    match units.state(unit) {
        Ok(State::Running | State::Changing) => Answer::Yes(format!("the unit {unit} runs")),
        Ok(State::Absent | State::Stopped | State::Failed) => Answer::No,
        Err(error) => Answer::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::Owner;
    use super::super::record_lock::tests::Locker;
    use super::super::units::tests::Fake;
    use super::super::{Owners, fence};
    use super::*;
    use crate::base::flock::Locked;
    use crate::base::tests::hang_up;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    fn ground() -> (tempfile::TempDir, Root) {
        super::super::root::tests::ground_of(Owners::Required)
    }

    const PID: &str = "/lightningd-bitcoin.pid";
    const RPC: &str = "/lightning-rpc";

    fn ask(root: &Root, unit: Option<(&Units, &str)>) -> Answer {
        lightningd(root, &Lightningd { pid_file: Path::new(PID), rpc_socket: Path::new(RPC), unit }, None)
    }

    fn says(answer: &Answer, part: &str) -> bool {
        matches!(answer, Answer::Yes(why) if why.contains(part))
    }

    #[test]
    fn lightningd_is_known_by_its_lock_its_socket_and_its_unit() {
        let (folder, root) = ground();
        assert_eq!(ask(&root, None), Answer::No);
        let at = |path: &str| folder.path().join(path.trim_start_matches('/'));
        // What a crash leaves behind shows nothing.
        std::fs::write(at(PID), "812\n").unwrap();
        hang_up(UnixListener::bind(at(RPC)).unwrap());
        assert_eq!(ask(&root, None), Answer::No);

        let locker = Locker::start(&at(PID));
        assert!(says(&ask(&root, None), &format!("process {} (perl) holds", locker.id())));
        drop(locker);
        std::fs::remove_file(at(RPC)).unwrap();
        let listener = UnixListener::bind(at(RPC)).unwrap();
        assert!(says(&ask(&root, None), "answers at"));
        hang_up(listener);
        let fake = Fake::new("loaded", "active");
        assert!(says(&ask(&root, Some((&fake.units(), "clightning.service"))), "clightning.service runs"));
        fake.set("active", "inactive");
        assert_eq!(ask(&root, Some((&fake.units(), "clightning.service"))), Answer::No);
        fake.set("refuse", "");
        assert!(matches!(ask(&root, Some((&fake.units(), "clightning.service"))), Answer::Unknown(_)));
    }

    #[test]
    fn a_socket_with_a_long_path_and_a_full_queue_answers() {
        let (folder, root) = ground();
        let long = "d".repeat(200);
        std::fs::create_dir(folder.path().join(&long)).unwrap();
        let path = Path::new("/").join(&long).join("rpc");
        let opened = File::open(folder.path().join(&long)).unwrap();
        let through = format!("/proc/self/fd/{}/rpc", opened.as_raw_fd());
        let _listener = UnixListener::bind(through).unwrap();
        assert!(says(&socket(&root, &path).unwrap(), "answers at"));
    }

    #[test]
    fn what_cannot_be_asked_is_unknown() {
        let (folder, root) = ground();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("linked")).unwrap();
        let places =
            Lightningd { pid_file: Path::new("/linked/x.pid"), rpc_socket: Path::new("/linked/rpc"), unit: None };
        assert!(matches!(lightningd(&root, &places, None), Answer::Unknown(why) if why.contains("symbolic link")));
        std::fs::create_dir(folder.path().join("x.pid")).unwrap();
        let places = Lightningd { pid_file: Path::new("/x.pid"), ..places };
        assert!(matches!(lightningd(&root, &places, None), Answer::Unknown(_)));
    }

    #[test]
    fn our_own_fence_is_no_lightningd_and_another_restores_is_a_yes() {
        let (_folder, root) = ground();
        let place = fence::Place {
            lightning_dir: "/".into(),
            wallet: "/lightningd.sqlite3".into(),
            pid_file: PID.into(),
            owner: Owner::ourselves(),
        };
        let why = fence::Why { command: "test", snapshot: None, since: jiff::Timestamp::UNIX_EPOCH };
        let fence = fence::raise(&root, &place, &why, None).unwrap();
        let places = Lightningd { pid_file: Path::new(PID), rpc_socket: Path::new(RPC), unit: None };
        assert_eq!(lightningd(&root, &places, Some(&fence)), Answer::No);
        assert!(says(&lightningd(&root, &places, None), "another restore"));
    }

    #[test]
    fn lnd_is_known_by_its_databases_and_its_port() {
        let (folder, root) = ground();
        let databases = [PathBuf::from("/wallet.db"), PathBuf::from("/channel.db")];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ask = |rpc| lnd(&root, &Lnd { databases: &databases, rpc, unit: None });
        assert_eq!(ask(None), Answer::No);
        assert!(says(&ask(Some(address)), "answers at 127.0.0.1"));
        hang_up(listener);
        assert_eq!(ask(Some(address)), Answer::No);
        let database = File::create(folder.path().join("channel.db")).unwrap();
        assert_eq!(ask(None), Answer::No);
        let lnd = Locked::alone_at_last(database).unwrap();
        assert!(says(&ask(None), "has") && says(&ask(None), "channel.db open"));
        drop(lnd);
        assert_eq!(ask(None), Answer::No);
    }
}
