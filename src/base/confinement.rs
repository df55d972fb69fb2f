//! What a thread does to itself before it starts a child, so that the child has less than this process. Done to the
//! calling thread for good, which must do nothing else than start the child and end; the rest of the process keeps what
//! it has.

mod cell;
mod fence;

pub use cell::{Cell, ROOT};

use rustix::fs::StatVfsMountFlags;
use std::io;
use std::path::{Path, PathBuf};

/// Why a thread could not confine itself.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    /// The system refused a step.
    #[error("cannot {action} {}", path.display())]
    Step {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel's Landlock refused.
    #[error("cannot shut out the files of this machine")]
    Fence(#[source] landlock::RulesetError),
    /// The kernel has no Landlock, or it is not switched on.
    #[error("this kernel has no Landlock")]
    NoFence,
    /// A thread ended early.
    #[error("the thread that tries it ended early")]
    Ended,
}

impl ConfinementError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(nix::Error) -> Self {
        let path = path.to_owned();
        move |errno| Self::Step { action, path, source: errno.into() }
    }
}

/// What a child does without. In each case no program gives it rights that it does not have.
#[derive(Debug)]
pub enum Confinement {
    /// Nothing else.
    NoNewRights,
    /// Every other process, the network, and all files but those of the cell (needs root).
    Cell(Cell),
    /// Files but those that are shown, at their own places; tracing other processes; and as much of the network as the
    /// kernel's Landlock knows. Names of files stay visible.
    Fence(Vec<Shown>),
}

impl Confinement {
    /// Confines the calling thread, and what it starts, for good.
    pub(super) fn enter(&self) -> Result<(), ConfinementError> {
        let refused = ConfinementError::at("give up further rights in", Path::new("/"));
        nix::sys::prctl::set_no_new_privs().map_err(refused)?;
        match self {
            Self::NoNewRights => Ok(()),
            Self::Cell(cell) => cell.enter(),
            Self::Fence(shown) => fence::enter(shown),
        }
    }

    /// Tries on a thread of its own whether this can be done here.
    pub fn try_out(&self) -> Result<(), ConfinementError> {
        std::thread::scope(|scope| scope.spawn(|| self.enter()).join()).unwrap_or(Err(ConfinementError::Ended))
    }
}

/// How something is shown to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// To be read and run.
    Read,
    /// To be written too, as far as its modes allow.
    Write,
    /// A device.
    Device,
}

/// Something of this machine that a child sees.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What.
    pub from: PathBuf,
    /// Where it appears in a cell: a folder or file below the stage's [`ROOT`], which must be there.
    pub at: PathBuf,
    /// How.
    pub how: How,
}

impl Shown {
    /// Whether nothing can be run from where it comes from.
    pub fn is_noexec(&self) -> bool {
        rustix::fs::statvfs(&self.from).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }
}

#[cfg(test)]
mod tests {
    use super::super::exec::{self, Exec};
    use super::*;
    use std::sync::Arc;

    fn says(confinement: Confinement, script: &str) -> String {
        let shell = Exec::new(exec::find("sh", &[]).unwrap()).args(["-c", script]);
        shell.within(&Arc::new(confinement)).output().unwrap().stdout
    }

    #[test]
    fn a_child_is_confined_and_this_process_is_not() {
        let own = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let before = own().lines().find(|line| line.starts_with("NoNewPrivs")).unwrap().to_owned();
        assert_eq!(says(Confinement::NoNewRights, "grep NoNewPrivs /proc/self/status"), "NoNewPrivs:\t1\n");
        assert!(own().contains(&before));
    }

    #[test]
    fn behind_a_fence_there_is_only_what_is_shown() {
        if let Err(error) = Confinement::Fence(Vec::new()).try_out() {
            assert!(matches!(error, ConfinementError::NoFence), "{error}");
            return; // This kernel has none.
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["read", "write", "hidden"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("file"), name).unwrap();
        }
        let shown = |from: &Path, how| Shown { from: from.to_owned(), at: from.to_owned(), how };
        let system = ["/usr", "/bin", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache"].map(Path::new);
        let mut all: Vec<_> = system.into_iter().map(|path| shown(path, How::Read)).collect();
        all.extend([shown(&path("read"), How::Read), shown(&path("write"), How::Write)]);
        all.push(shown(Path::new("/dev/null"), How::Device));
        let script = format!(
            "cd {}; for name in read write hidden; do cat $name/file; echo new >$name/new; done",
            folder.path().display()
        );
        assert_eq!(says(Confinement::Fence(all), &script), "readwrite");
        assert!(path("write/new").exists() && !path("read/new").exists() && !path("hidden/new").exists());
    }

    #[test]
    fn what_cannot_be_confined_is_not_started() {
        let nowhere = Shown { from: "/nonexistent".into(), at: "/nonexistent".into(), how: How::Read };
        let cell = Confinement::Cell(Cell { stage: "/nonexistent".into(), shown: vec![nowhere] });
        let exec = Exec::new(exec::find("true", &[]).unwrap()).within(&Arc::new(cell));
        assert!(matches!(exec.output(), Err(exec::ExecError::Confine { .. })));
    }
}
