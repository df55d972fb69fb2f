//! A cell: namespaces of its own, with a `/` that holds nothing but what is shown there. Whoever is in it sees no other
//! process, no network and no other file.

use super::{ConfinementError, How, Shown};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot, pivot_root};
use std::path::{Path, PathBuf};

/// The folder of a cell's stage that becomes the `/` of whoever is in it.
pub const ROOT: &str = "root";

/// A cell that threads can enter, each its own.
#[derive(Debug)]
pub struct Cell {
    /// A folder with nothing in it but [`ROOT`].
    pub stage: PathBuf,
    /// What is shown, in the order in which it is put there: first the stage on itself, which makes it a mount.
    pub shown: Vec<Shown>,
}

impl Cell {
    pub(super) fn enter(&self) -> Result<(), ConfinementError> {
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        let top = Path::new("/");
        unshare(namespaces).map_err(ConfinementError::at("make namespaces in", top))?;
        // From here on nothing that is mounted reaches the rest of the machine.
        let private = change(top, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        private.map_err(ConfinementError::at("make mounts private below", top))?;
        self.shown.iter().try_for_each(show)?;
        self.leave_the_rest()
    }

    /// Makes the stage `/` and lets go of everything else, then goes one folder deeper: who lives below `/` can make
    /// no user namespace, and in one he could try much on the kernel.
    fn leave_the_rest(&self) -> Result<(), ConfinementError> {
        let failed = |action| ConfinementError::at(action, &self.stage);
        chdir(&self.stage).map_err(failed("walk to"))?;
        pivot_root(".", ".").map_err(failed("make the root of"))?;
        // The old root lies on top of the new one now (pivot_root(2)).
        umount2(".", MntFlags::MNT_DETACH).map_err(failed("leave all but"))?;
        chroot(ROOT).map_err(failed("go into"))?;
        chdir("/").map_err(failed("go into"))
    }
}

fn show(shown: &Shown) -> Result<(), ConfinementError> {
    const NONE: Option<&str> = None;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&shown.from), &shown.at, NONE, bind, NONE).map_err(ConfinementError::at("show", &shown.from))?;
    if shown.how == How::Device {
        return Ok(());
    }
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, shown.how == How::Read);
    // In a container a mount may not lose what the one below it has.
    flags.set(MsFlags::MS_NOEXEC, shown.is_noexec());
    change(&shown.at, flags).map_err(ConfinementError::at("restrict", &shown.at))
}

fn change(at: &Path, flags: MsFlags) -> nix::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, at, NONE, flags, NONE)
}
