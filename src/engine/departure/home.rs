//! One Core Lightning node of this host: its places, whether it runs, its lock, and what lies where its database
//! belongs. Looks and locks; changes nothing by itself.

use super::super::Error;
use super::LeftRow;
use crate::base::fsio::FileError;
use crate::base::ids::{SnapshotId, SourceName};
use crate::policy::{Policy, SourceKind, SourcePolicy};
use crate::sources::cln;
use crate::target::aside::Aside;
use crate::target::fence::{self, Fence, FenceError, Found, Place};
use crate::target::running::{self, Answer, Lightningd};
use crate::target::units::{State, Units};
use crate::target::{Owner, Root};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The units in which lightningd runs: nix-bitcoin's, and the one of upstream's own examples.
const UNITS: [&str; 2] = ["clightning.service", "lightningd.service"];
/// What systemd makes when it has started a machine (`sd_booted`).
const BOOTED: &str = "/run/systemd/system";
/// What the label of a database begins with that a final snapshot moved aside; the snapshot's id follows.
const LABEL: &str = "final-";
const STOP: &str = "stop lightningd and keep it stopped (`systemctl stop clightning`), then run the same command again";

/// One node.
#[derive(Debug)]
pub(super) struct Home {
    source: SourceName,
    place: Place,
    rpc_socket: PathBuf,
}

/// What lies where the database belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The database, or nothing.
    Here,
    /// The fence of a final snapshot; the database lies aside.
    Away(SnapshotId),
    /// The fence of a restore.
    Restoring,
}

/// What shows that a database was written to: of it and its journals, length and time of the last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(u64, i64, i64)>>);

/// The nodes of a policy.
pub(super) fn all(policy: &Policy) -> Result<Vec<Home>, Error> {
    policy.sources.iter().filter_map(|source| Home::of(source).transpose()).collect()
}

/// What lies where the database of a source belongs on the machine that is restored to, and that place; none for other
/// sources. Nothing of the node need be there yet. Links are followed on this machine alone: below another root they
/// lead elsewhere.
pub(super) fn standing_at(root: &Root, source: &SourcePolicy) -> Result<Option<(PathBuf, Standing)>, Error> {
    let SourceKind::Cln { lightning_dir, network, wallet } = &source.kind else { return Ok(None) };
    let mut wallet = wallet.clone().unwrap_or_else(|| lightning_dir.join(network).join("lightningd.sqlite3"));
    if root.is_machine() {
        let folder = wallet.parent().unwrap_or(Path::new("/"));
        match std::fs::canonicalize(folder) {
            Ok(real) => wallet = real.join(wallet.file_name().unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some((wallet, Standing::Here))),
            Err(error) => return Err(FileError::io("find", folder)(error).into()),
        }
    }
    let pid_file = lightning_dir.join(format!("lightningd-{network}.pid"));
    let place =
        Place { wallet: wallet.clone(), pid_file, lightning_dir: lightning_dir.clone(), owner: Owner::ourselves() };
    Ok(Some((wallet, standing(root, &place)?)))
}

fn standing(root: &Root, place: &Place) -> Result<Standing, Error> {
    let Found::Fence(_) = fence::find(root, place)? else { return Ok(Standing::Here) };
    let labels = fence::labels_aside(root, &place.wallet, LABEL)?;
    let mut snapshots = labels.iter().filter_map(|label| label.strip_prefix(LABEL)?.parse::<SnapshotId>().ok());
    match (snapshots.next(), snapshots.next()) {
        (None, _) => Ok(Standing::Restoring),
        (Some(snapshot), None) => Ok(Standing::Away(snapshot)),
        (Some(first), Some(second)) => Err(Error::Refused {
            guard: "rollback",
            reason: format!(
                "beside {} lie two databases that were moved aside, of {first} and of {second}",
                place.wallet.display()
            ),
            hint: "find out which one is the newer (the larger data_version in its table vars) and move the other one out \
                   of this folder by hand"
                .to_owned(),
        }),
    }
}

impl Home {
    /// The node of a source of the kind cln; none for other sources. Links on the way to its folder are followed here,
    /// once, because nothing after this follows any.
    pub(super) fn of(source: &SourcePolicy) -> Result<Option<Self>, Error> {
        let SourceKind::Cln { lightning_dir, network, wallet } = &source.kind else { return Ok(None) };
        let real = |path: &Path| std::fs::canonicalize(path).map_err(FileError::io("find", path));
        let lightning_dir = real(lightning_dir)?;
        let (pid_file, rpc_socket) = cln::pid_file_and_socket(&lightning_dir, network);
        let wallet = wallet.clone().unwrap_or_else(|| lightning_dir.join(network).join("lightningd.sqlite3"));
        let with_real_folder = |path: &Path| -> Result<PathBuf, Error> {
            Ok(real(path.parent().unwrap_or(Path::new("/")))?.join(path.file_name().unwrap_or_default()))
        };
        let meta = std::fs::metadata(&lightning_dir).map_err(FileError::io("look at", &lightning_dir))?;
        let owner = Owner { user: None, uid: meta.uid(), group: None, gid: meta.gid() };
        let place =
            Place { wallet: with_real_folder(&wallet)?, pid_file: with_real_folder(&pid_file)?, lightning_dir, owner };
        // A folder that is not there holds no socket.
        let rpc_socket = with_real_folder(&rpc_socket).unwrap_or(rpc_socket);
        Ok(Some(Self { source: source.name.clone(), place, rpc_socket }))
    }

    pub(super) fn source(&self) -> &SourceName {
        &self.source
    }

    pub(super) fn wallet(&self) -> &Path {
        &self.place.wallet
    }

    /// What lies where the database belongs.
    pub(super) fn standing(&self, root: &Root) -> Result<Standing, Error> {
        standing(root, &self.place)
    }

    /// Where the database goes for this snapshot.
    pub(super) fn aside(&self, snapshot: &SnapshotId) -> Result<Aside, Error> {
        Ok(Aside::database(&self.place.wallet, &format!("{LABEL}{snapshot}"))?)
    }

    pub(super) fn row(&self, aside: &Aside) -> LeftRow {
        let (place, lies_in) = (self.place.wallet.clone(), aside.folder().to_owned());
        LeftRow { source: self.source.to_string(), place, lies_in }
    }

    /// Takes the lock of the pid file.
    pub(super) fn hold<'a>(&self, root: &'a Root) -> Result<Fence<'a>, Error> {
        match fence::hold(root, &self.place) {
            Err(error @ FenceError::Held { .. }) => {
                Err(Error::Refused { guard: "running", reason: error.to_string(), hint: STOP.to_owned() })
            }
            other => Ok(other?),
        }
    }

    /// Refuses where the node runs, or where that cannot be told.
    pub(super) fn refuse_running(&self, root: &Root, fence: Option<&Fence<'_>>) -> Result<(), Error> {
        let places = Lightningd { pid_file: &self.place.pid_file, rpc_socket: &self.rpc_socket, unit: None };
        let mut answers = vec![running::lightningd(root, &places, fence)];
        answers.extend(units());
        let refused = |reason: String| {
            Err(Error::Refused {
                guard: "running",
                reason: format!("{}: {reason}", self.source),
                hint: STOP.to_owned(),
            })
        };
        for answer in &answers {
            if let Answer::Yes(why) = answer {
                return refused(format!("lightningd runs: {why}"));
            }
        }
        for answer in answers {
            if let Answer::Unknown(why) = answer {
                return refused(format!("whether lightningd runs cannot be told: {why}"));
            }
        }
        Ok(())
    }

    /// How the database and its journals look now.
    pub(super) fn stamp(&self) -> Result<Stamp, Error> {
        stamp_of(&self.place.wallet)
    }

    /// Refuses where the database that was moved aside is not as it was before it was read.
    pub(super) fn refuse_changed(&self, before: &Stamp, aside: &Aside) -> Result<(), Error> {
        let name = self.place.wallet.file_name().unwrap_or_default();
        if &stamp_of(&aside.folder().join(name))? == before {
            return Ok(());
        }
        Err(Error::Refused {
            guard: "running",
            reason: format!(
                "{} was written to while it was read, with lightningd's lock held",
                self.place.wallet.display()
            ),
            hint: "find the program that writes to it (`fuser -v` on the file), end it, and run the same command again"
                .to_owned(),
        })
    }
}

fn stamp_of(wallet: &Path) -> Result<Stamp, Error> {
    let look = |ending: &str| {
        let mut name = wallet.as_os_str().to_owned();
        name.push(ending);
        match std::fs::symlink_metadata(&name) {
            Ok(meta) => Ok(Some((meta.len(), meta.mtime(), meta.mtime_nsec()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::io("look at", Path::new(&name))(error).into()),
        }
    };
    // Not the -shm: reading a database in WAL mode writes to it.
    Ok(Stamp(["", "-journal", "-wal"].into_iter().map(look).collect::<Result<_, Error>>()?))
}

/// The command lines of the units that start lightningd on this folder; none where there is no systemd, or where a unit
/// starts it through a program of its own.
pub(in super::super) fn commands(lightning_dir: &Path) -> Vec<Vec<String>> {
    let Ok(units) = Units::find() else { return Vec::new() };
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let is_ours = |words: &Vec<String>| {
        let said = words.iter().find_map(|word| word.strip_prefix("--lightning-dir="));
        said.is_some_and(|folder| real(Path::new(folder)) == real(lightning_dir))
    };
    UNITS.iter().filter_map(|unit| units.command(unit).ok().flatten()).filter(is_ours).collect()
}

/// What systemd says of the units that lightningd runs in; nothing where there is no systemd.
fn units() -> Option<Answer> {
    let units = Units::find().ok()?;
    for unit in UNITS {
        match units.state(unit) {
            Ok(State::Running | State::Changing) => return Some(Answer::Yes(format!("the unit {unit} runs"))),
            Ok(State::Absent | State::Stopped | State::Failed) => {}
            Err(error) if Path::new(BOOTED).is_dir() => return Some(Answer::Unknown(error.to_string())),
            // A machine that systemd did not start has no units.
            Err(_) => return None,
        }
    }
    Some(Answer::No)
}
