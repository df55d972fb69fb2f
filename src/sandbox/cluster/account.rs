//! The user that a scratch server runs as where this process is root: one of its own, which no account and no other
//! process has, so that nothing on the machine is its own but the server's folder. It is claimed for as long as the
//! server is used. Where there is none to be had, an unprivileged account that exists.

use super::ClusterError;
use super::processes;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Numbers that nobody gives to anybody: systemd's table of users leaves them free, Debian gives out singly what it
/// uses of them, which then has an account; and they are small enough for a container's users.
const OWN: Range<u32> = 60_706..61_184;

/// A user and a group.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Held as long as the number is ours.
    claim: Option<UnixDatagram>,
}

impl Account {
    /// The server's user: none but this process's own when not root.
    pub(super) fn choose() -> Result<Option<Self>, ClusterError> {
        if uzers::get_effective_uid() != 0 {
            return Ok(None);
        }
        match Self::own() {
            Some(account) => Ok(Some(account)),
            None => Self::named().map(Some),
        }
    }

    /// An unprivileged account of this machine.
    pub(super) fn named() -> Result<Self, ClusterError> {
        let user = ["nobody", "postgres"].into_iter().find_map(uzers::get_user_by_name);
        let user = user.ok_or(ClusterError::NoUser)?;
        Ok(Self { uid: user.uid(), gid: user.primary_group_id(), claim: None })
    }

    /// Whether nobody else has it.
    pub(super) fn is_own(&self) -> bool {
        self.claim.is_some()
    }

    /// Ends everything that still runs as a user of its own; it is nobody's but a server's.
    pub(super) fn end_all(&self) {
        if self.is_own() {
            processes::kill(|| processes::with_user(self.uid));
        }
    }

    fn own() -> Option<Self> {
        // Begun anywhere, so that those who cannot see each other's claims seldom meet.
        let begin = std::process::id() % OWN.len() as u32;
        let numbers = (OWN.start + begin..OWN.end).chain(OWN.start..OWN.start + begin);
        numbers.filter(|number| is_mapped("/proc/self/uid_map", *number)).find_map(|number| {
            let claim = claim(number)?;
            let is_free = is_mapped("/proc/self/gid_map", number)
                && uzers::get_user_by_uid(number).is_none()
                && uzers::get_group_by_gid(number).is_none()
                && processes::with_user(number).is_empty();
            is_free.then_some(Self { uid: number, gid: number, claim: Some(claim) })
        })
    }
}

/// Ends what still runs as a server's own user, when no living owner claims it.
pub(super) fn end_unclaimed(uid: u32) {
    if OWN.contains(&uid)
        && let Some(_claim) = claim(uid)
    {
        processes::kill(|| processes::with_user(uid));
    }
}

/// Claims a number among all processes of this program here. A name that the kernel forgets with its last holder; none
/// in a folder, where somebody else could have put something.
fn claim(number: u32) -> Option<UnixDatagram> {
    let name = format!("relay-backup/scratch-user/{number}");
    SocketAddr::from_abstract_name(name).and_then(|address| UnixDatagram::bind_addr(&address)).ok()
}

/// Whether this number can be given here: in a container not all can.
fn is_mapped(table: &str, number: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(table) else { return false };
    text.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        matches!((first, count), (Some(first), Some(count)) if (first..first.saturating_add(count)).contains(&number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_the_same_user_and_a_user_in_use_is_nobody_elses() {
        if uzers::get_effective_uid() != 0 {
            assert!(Account::choose().unwrap().is_none());
            return;
        }
        let accounts: Vec<_> = (0..5).map(|_| Account::choose().unwrap().unwrap()).collect();
        for account in &accounts {
            assert!(OWN.contains(&account.uid) && account.is_own());
            assert_eq!(accounts.iter().filter(|other| other.uid == account.uid).count(), 1);
            assert!(claim(account.uid).is_none());
            end_unclaimed(account.uid);
        }
        let uid = accounts[0].uid;
        drop(accounts);
        assert!(claim(uid).is_some());
    }

    #[test]
    fn a_container_has_the_users_that_its_table_gives_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let table = file.path().to_str().unwrap();
        std::fs::write(table, "         0     100000      65536\n     70000 5 1\n").unwrap();
        assert!(is_mapped(table, 0) && is_mapped(table, 65535) && is_mapped(table, 70000));
        assert!(!is_mapped(table, 65536) && !is_mapped(table, 70001));
        assert!(!is_mapped("/nonexistent", 0));
    }
}
