//! What stands between a scratch server and whoever started it, and where the server is started behind that. As root:
//! a cell and a user of its own; else a cell that util-linux makes; and where neither can be had, what is left. Which
//! wall is missing is told, never passed over.

use super::ClusterError;
use super::account::Account;
use super::folder::Folder;
use super::keeper::Keeper;
use super::view;
use crate::base::confinement::{Cell, Confinement, ConfinementError};
use crate::base::exec::{Exec, Running};
use rustix::process::{Pid, Signal};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a server may take to stop by itself.
const STOP_MAX: Duration = Duration::from_secs(3);

/// One wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// A user of the server's own, who owns nothing else.
    User,
    /// No file but the system's programs and its own folder's.
    Files,
    /// No process but its own.
    Processes,
    /// No network.
    Network,
}

impl fmt::Display for Wall {
    /// What the server does where the wall is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "runs as a user who owns more than this server",
            Self::Files => "reads what that user can read of this machine's files",
            Self::Processes => "can tell that other processes run",
            Self::Network => "reaches the network, and what listens on this machine",
        })
    }
}

/// Which walls a cluster is behind.
#[derive(Clone, Debug, Default)]
pub struct Walls {
    missing: Vec<Wall>,
    why: Option<String>,
}

impl Walls {
    /// Those that are not there.
    pub fn missing(&self) -> &[Wall] {
        &self.missing
    }

    /// What the missing ones would have kept from a hostile dump, and why they are missing; `None` when all are there.
    pub fn weakness(&self) -> Option<String> {
        if self.missing == [Wall::User] {
            const NARROW: &str = "the scratch server has no user of its own; it sees no file and no process of others, but a hostile dump has one wall less before it";
            return Some(NARROW.to_owned());
        }
        let (last, others) = self.missing.split_last()?;
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        let all = if others.is_empty() { last.to_string() } else { format!("{}, and {last}", others.join(", ")) };
        let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        Some(format!("the scratch server {all}{why}; a hostile dump could make use of that"))
    }

    /// What to do about them.
    pub fn hint(&self) -> Option<&'static str> {
        let is_root = uzers::get_effective_uid() == 0;
        match self.missing.as_slice() {
            [] => None,
            [Wall::User] if is_root => Some("run it where more users can be had than this container has"),
            [Wall::User] => Some("run it as root, who can give the server a user of its own"),
            _ if is_root => Some(
                "run it where root may make namespaces: outside of a container, or in one with --cap-add SYS_ADMIN",
            ),
            _ => Some(
                "run it as root; or install util-linux and allow user namespaces (sysctl user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
            ),
        }
    }
}

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Every wall that can be had.
    All,
    /// No namespaces, as where the machine refuses them.
    #[cfg(test)]
    NoNamespaces,
    /// No Landlock either.
    #[cfg(test)]
    Nothing,
}

/// Where a server is started.
#[derive(Debug)]
pub(super) struct Seat {
    bin: PathBuf,
    account: Option<Account>,
    place: Place,
    walls: Walls,
}

#[derive(Debug)]
enum Place {
    Cell(Arc<Confinement>),
    Kept(Keeper, Arc<Confinement>),
    Open(Arc<Confinement>),
}

impl Seat {
    /// Takes the best that can be had for a server in this folder with its programs in `bin`.
    pub(super) fn take(folder: &Folder, bin: &Path, wanted: Wanted) -> Result<Self, ClusterError> {
        let account = Account::choose()?;
        let user = account.as_ref().map(|account| (account.uid, account.gid));
        let user = user.unwrap_or_else(|| (uzers::get_effective_uid(), uzers::get_effective_gid()));
        let cell = view::set(&folder.stage(), bin, &folder.given(), user);
        let cell = cell.map_err(ClusterError::Folder)?;
        let fence = Arc::new(Confinement::Fence(view::without_stage(&cell)));
        let mut walls = Walls::default();
        if !account.as_ref().is_some_and(Account::is_own) {
            walls.missing.push(Wall::User);
        }
        let place = match Place::walled(cell, folder, account.is_some(), wanted) {
            Ok(place) => place,
            Err(why) => {
                walls.why = Some(why);
                let (place, missing) = Place::open(fence, wanted);
                walls.missing.extend(missing);
                place
            }
        };
        Ok(Self { bin: bin.to_owned(), account, place, walls })
    }

    pub(super) fn walls(&self) -> &Walls {
        &self.walls
    }

    /// Runs `initdb` for a server in this folder, which is the server's then.
    pub(super) fn initialise(
        &self,
        folder: &Folder,
        initdb: Exec,
        finish: impl FnOnce(Running) -> Result<(), ClusterError>,
    ) -> Result<(), ClusterError> {
        let run = |account: Option<&Account>| {
            let started = self.seated(initdb, folder, account).stream(None);
            finish(started.map_err(|source| ClusterError::Initdb { source })?)
        };
        let Some(own) = &self.account else { return run(None) };
        if let Place::Open(_) = &self.place {
            folder.let_through(own)?;
            if own.is_own() {
                // It refuses a user without a name, and only in a cell can a name be given. No hostile code runs yet.
                let named = Account::named()?;
                folder.give(&named)?;
                run(Some(&named))?;
                return folder.give_all(own);
            }
        }
        folder.give(own)?;
        run(Some(own))
    }

    /// A server's program, seated.
    pub(super) fn server(&self, folder: &Folder, program: Exec) -> Exec {
        self.seated(program, folder, self.account.as_ref())
    }

    fn seated(&self, program: Exec, folder: &Folder, account: Option<&Account>) -> Exec {
        let program = program.bare().env("LC_ALL", "C").env("TZ", "UTC").env("HOME", "/").env("PATH", "/usr/bin:/bin");
        // Without /proc the loader cannot tell where the program lies that it loads (ld.so(8)).
        let program = program.env("LD_ORIGIN_PATH", &self.bin).folder(folder.path());
        let program = match account {
            Some(account) => program.user(account.uid, account.gid),
            None => program,
        };
        match &self.place {
            Place::Cell(confinement) | Place::Open(confinement) => program.within(confinement),
            Place::Kept(keeper, confinement) => keeper.within(program.within(confinement), folder.path()),
        }
    }

    /// Ends a server and everything that it started.
    pub(super) fn end(self, mut server: Running) {
        match self.place {
            // The first process of its namespace: the kernel ends the others with it.
            Place::Cell(_) => return drop(server),
            Place::Kept(keeper, _) => drop(keeper),
            Place::Open(_) => stop(&server),
        }
        if !server.has_ended_within(STOP_MAX) {
            tracing::debug!("a scratch cluster is killed");
        }
        drop(server);
        if let Some(account) = self.account {
            account.end_all();
        }
    }
}

impl Seat {
    /// Ends the server with a signal that it hears; the end of its log.
    pub(super) fn end_saying(self, mut server: Running) -> String {
        stop(&server);
        if !server.has_ended_within(STOP_MAX) {
            self.end(server);
            return String::new();
        }
        let said = match server.finish_saying() {
            Ok(said) => said,
            Err(error) => error.to_string(),
        };
        if let Some(account) = self.account {
            account.end_all();
        }
        said
    }
}

impl Place {
    /// A cell, or why there is none.
    fn walled(cell: Cell, folder: &Folder, is_root: bool, wanted: Wanted) -> Result<Self, String> {
        if wanted != Wanted::All {
            return Err("not wanted".to_owned());
        }
        if is_root {
            let confinement = Arc::new(Confinement::Cell(cell));
            return confinement.try_out().map(|()| Self::Cell(confinement)).map_err(|error| told(&error));
        }
        let confinement = Arc::new(Confinement::NoNewRights);
        let keeper = Keeper::start(&cell, &folder.table(), &confinement);
        keeper.map(|keeper| Self::Kept(keeper, confinement)).map_err(|error| told(&error))
    }

    /// What can be had without namespaces, and the walls that are missing then.
    fn open(fence: Arc<Confinement>, wanted: Wanted) -> (Self, Vec<Wall>) {
        let never = [Wall::Processes, Wall::Network];
        let fenced = if is_fence_wanted(wanted) { fence.try_out() } else { Err(ConfinementError::NoFence) };
        match fenced {
            Ok(()) => (Self::Open(fence), never.to_vec()),
            Err(error) => {
                tracing::debug!(error = told(&error), "no fence for the scratch cluster");
                let missing = std::iter::once(Wall::Files).chain(never).collect();
                (Self::Open(Arc::new(Confinement::NoNewRights)), missing)
            }
        }
    }
}

/// Only tests do without.
fn is_fence_wanted(wanted: Wanted) -> bool {
    match wanted {
        Wanted::All => true,
        #[cfg(test)]
        Wanted::NoNamespaces => true,
        #[cfg(test)]
        Wanted::Nothing => false,
    }
}

/// Asks for an immediate stop, because nothing of it is wanted any more; it ends its children itself.
fn stop(server: &Running) {
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| rustix::process::kill_process(pid, Signal::QUIT)) {
        tracing::debug!(%error, "a scratch cluster could not be asked to stop");
    }
}

/// An error with its causes.
fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", told(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
