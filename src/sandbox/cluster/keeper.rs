//! A cell for a user who is not root. Such a user may make namespaces only together with a user namespace, and only a
//! process of one thread may make that; so programs of util-linux do it. `unshare` makes the namespaces and keeps them
//! for as long as its child, which reads a pipe of ours, lives: when this process ends in whatever way, the kernel ends
//! everything in them. `mount` puts there what is shown. What is started goes in with `nsenter`, then into a further
//! user namespace in which it is this user again and has no right, below a root of its own, which nobody can leave
//! without one.

use crate::base::confinement::{Cell, Confinement, How, ROOT, Shown};
use crate::base::exec::{self, Exec, ExecError, Running};
use crate::base::fsio::{self, FileError};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where the programs are when `PATH` does not say it.
const FOLDERS: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"];

/// Why there is no such cell.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeeperError {
    /// A program is missing or failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A file of it could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It ended instead of answering.
    #[error("cannot talk to the process that keeps the namespaces")]
    Silent(#[source] std::io::Error),
}

/// How long everything in a cell may take to end.
const END_MAX: Duration = Duration::from_secs(3);

/// Keeps a cell; everything in it has ended when this was dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    pipe: Option<File>,
    keeper: Running,
    nsenter: PathBuf,
    unshare: PathBuf,
    root: PathBuf,
}

impl Keeper {
    /// Makes the cell; `table` is where a file for `mount` can be written.
    pub(super) fn start(cell: &Cell, table: &Path, confinement: &Arc<Confinement>) -> Result<Self, KeeperError> {
        let find = |program| exec::find(program, &FOLDERS.map(PathBuf::from));
        let (unshare, nsenter, mount) = (find("unshare")?, find("nsenter")?, find("mount")?);
        let ours = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (theirs, ours) = ours.map_err(|errno| KeeperError::Silent(errno.into()))?;
        let mut keeper = Exec::new(&unshare)
            .args(["--user", "--map-root-user", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork"])
            .args(["--kill-child", "--"])
            .arg(find("cat")?)
            .bare()
            .within(confinement)
            .stream(Some(theirs.into()))?;
        let mut pipe = File::from(ours);
        // What comes back says that everything has been made.
        if let Err(error) = pipe.write_all(b"?").and_then(|()| keeper.read_exact(&mut [0])) {
            keeper.finish()?;
            return Err(KeeperError::Silent(error));
        }
        let kept = Self { pipe: Some(pipe), keeper, nsenter, unshare, root: cell.stage.join(ROOT) };
        fsio::open_or_create(table, 0o600)?.write_all(&lines(cell)).map_err(FileError::io("write", table))?;
        let entered = kept.enter(&["--user", "--mount", "--preserve-credentials"]);
        Exec::new(mount)
            .args(["--all", "--fstab"])
            .arg(table)
            .started_by(entered)
            .bare()
            .within(confinement)
            .run(b"")?;
        Ok(kept)
    }

    /// Has a program started in the cell, in one of the folders that are shown there.
    pub(super) fn within(&self, exec: Exec, folder: &Path) -> Exec {
        let (uid, gid) = (uzers::get_effective_uid(), uzers::get_effective_gid());
        let pids = format!("--pid=/proc/{}/ns/pid_for_children", self.keeper.id());
        let mut starter =
            self.enter(&["--user", "--mount", "--net", "--ipc", "--uts", &pids, "--preserve-credentials"]);
        starter.push(self.unshare.clone().into());
        starter.extend(["--user".into(), format!("--map-user={uid}").into(), format!("--map-group={gid}").into()]);
        starter.extend([option("--root=", &self.root), option("--wd=", folder), "--".into()]);
        exec.started_by(starter)
    }

    fn enter(&self, what: &[&str]) -> Vec<OsString> {
        let mut words = vec![self.nsenter.clone().into(), format!("--target={}", self.keeper.id()).into()];
        words.extend(what.iter().map(OsString::from));
        words.push("--".into());
        words
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // With the pipe its child ends, the first process of the namespace, and the kernel lets that one go only after
        // all others.
        drop(self.pipe.take());
        if !self.keeper.has_ended_within(END_MAX) {
            tracing::warn!("what was started for a scratch cluster takes long to end");
        }
    }
}

fn option(name: &str, value: &Path) -> OsString {
    let mut word = OsString::from(name);
    word.push(value);
    word
}

/// What is shown, as lines of fstab(5).
fn lines(cell: &Cell) -> Vec<u8> {
    let line = |shown: &Shown| {
        let options = match shown.how {
            How::Device => "rbind",
            How::Read => "rbind,ro,nosuid,nodev",
            How::Write => "rbind,nosuid,nodev",
        };
        let noexec = if shown.how != How::Device && shown.is_noexec() { ",noexec" } else { "" };
        let rest = format!("none {options}{noexec} 0 0\n");
        [escaped(&shown.from), escaped(&shown.at), rest.into_bytes()].join(&b' ')
    };
    cell.shown.iter().flat_map(line).collect()
}

/// A path as fstab(5) wants it.
fn escaped(path: &Path) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    path.as_os_str().as_bytes().iter().flat_map(escape).collect()
}
