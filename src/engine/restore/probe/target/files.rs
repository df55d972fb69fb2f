//! Files: what lies at each path that the plan writes, moves or fences, held against what would be placed there.

use super::super::View;
use crate::artifact::ArtifactKind;
use crate::base::ids::ArtifactName;
use crate::engine::Error;
use crate::engine::restore::places::QUARANTINE_MODE;
use crate::guard::facts::{FileAt, Known};
use crate::manifest::Artifact;
use crate::plan::{Action, SIDE_FILES, Together};
use crate::target::fence::{self, Found};
use crate::target::look::At;
use crate::target::place::Wanted;
use crate::target::{self, TargetError};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// An artifact that goes to a place, with the owner and the mode it gets there.
struct Goes<'a> {
    artifact: &'a ArtifactName,
    to: &'a Path,
    owner: target::Owner,
    mode: u32,
}

/// What lies at each path that the plan writes or moves, and at those that matter although nothing goes there.
pub(super) fn found(
    view: &View<'_>,
    mirror: &Known<Option<PathBuf>>,
) -> Result<BTreeMap<PathBuf, Known<FileAt>>, Error> {
    let mut found = BTreeMap::new();
    for goes in view.plan.actions().filter_map(goes) {
        view.world.context.check()?;
        let at = compared(view, &goes)?;
        // Two artifacts for one place: it is at most one of them.
        let known = found.entry(goes.to.to_owned()).or_insert_with(|| at.clone());
        if *known == Known::Is(FileAt::Identical) {
            *known = at;
        }
    }
    for path in others(view, mirror) {
        if let Entry::Vacant(free) = found.entry(path) {
            let at = view.settle(plain(view, free.key()))?;
            free.insert(at);
        }
    }
    Ok(found)
}

fn goes(action: &Action) -> Option<Goes<'_>> {
    match action {
        Action::PlaceFile { artifact, to, owner, mode, .. }
        | Action::PlaceChannelDatabase { artifact, to, owner, mode, .. } => {
            Some(Goes { artifact, to, owner: owner.into(), mode: *mode })
        }
        Action::Quarantine { artifact, to, .. } => {
            Some(Goes { artifact, to, owner: target::Owner::ourselves(), mode: QUARANTINE_MODE })
        }
        _ => None,
    }
}

/// Paths that matter although no artifact goes there: places of fences, what is moved aside, mirrors, and whatever
/// SQLite keeps beside a database.
fn others(view: &View<'_>, mirror: &Known<Option<PathBuf>>) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    let mut database = |path: &Path| {
        paths.insert(path.to_owned());
        for ending in SIDE_FILES {
            let mut beside = path.as_os_str().to_owned();
            beside.push(ending);
            paths.insert(beside.into());
        }
    };
    for action in view.plan.actions() {
        match action {
            Action::RaiseFence { lightning } | Action::LowerFence { lightning } => database(&lightning.wallet),
            Action::PlaceChannelDatabase { to, .. } | Action::PlaceFile { to, kind: ArtifactKind::Sqlite, .. } => {
                database(to)
            }
            Action::MoveAside { paths, together: Together::Database } => paths.iter().for_each(|path| database(path)),
            _ => {}
        }
    }
    if let Known::Is(Some(mirror)) = mirror {
        database(mirror);
    }
    for action in view.plan.actions() {
        if let Action::MoveAside { paths: moved, .. } = action {
            paths.extend(moved.iter().cloned());
        }
    }
    paths
}

/// What lies at a path to which nothing is compared.
pub(super) fn plain(view: &View<'_>, path: &Path) -> Result<FileAt, TargetError> {
    // Only there: to tell a fence its first bytes are read, and at another place they may be a secret's.
    if is_place_of_database(view, path) && is_fence(view, path)? {
        return Ok(FileAt::Fence);
    }
    Ok(match view.world.root.at(path)? {
        At::Nothing => FileAt::Nothing,
        At::File { length } => FileAt::Other { length },
        At::Folder => FileAt::NoFile { what: "a folder" },
        At::Other(what) => FileAt::NoFile { what },
    })
}

/// Whether the plan knows the path as a channel database's.
fn is_place_of_database(view: &View<'_>, path: &Path) -> bool {
    view.plan.actions().any(|action| match action {
        Action::RaiseFence { lightning } | Action::LowerFence { lightning } => lightning.wallet == path,
        Action::PlaceChannelDatabase { to, .. } => to == path,
        Action::MoveAside { paths, together: Together::Database } => paths.iter().any(|moved| moved == path),
        _ => false,
    })
}

fn is_fence(view: &View<'_>, path: &Path) -> Result<bool, TargetError> {
    let place = fence::Place {
        lightning_dir: path.parent().unwrap_or(Path::new("/")).to_owned(),
        wallet: path.to_owned(),
        pid_file: path.to_owned(),
        owner: target::Owner::ourselves(),
    };
    Ok(matches!(fence::find(view.world.root, &place)?, Found::Fence(_)))
}

/// What lies at a path, held against what would be placed there.
fn compared(view: &View<'_>, goes: &Goes<'_>) -> Result<Known<FileAt>, Error> {
    let length = match view.settle(plain(view, goes.to))? {
        Known::Is(FileAt::Other { length }) => length,
        other => return Ok(other),
    };
    let other = Ok(Known::Is(FileAt::Other { length }));
    let artifact = match view.artifact(goes.artifact) {
        Known::Is(artifact) => artifact,
        Known::Unknown(why) => return Ok(Known::Unknown(why)),
    };
    if artifact.length != length || view.world.root.at(goes.to).ok() != Some(At::File { length }) {
        return other;
    }
    let wanted = Wanted { to: goes.to, home: Path::new("/"), owner: &goes.owner, mode: goes.mode };
    match view.settle(view.world.root.has_owner_and_mode(&wanted))? {
        Known::Is(true) => {}
        Known::Is(false) => return other,
        Known::Unknown(why) => return Ok(Known::Unknown(why)),
    }
    Ok(match same_bytes(view, artifact, goes.to)? {
        Known::Is(true) => Known::Is(FileAt::Identical),
        Known::Is(false) => Known::Is(FileAt::Other { length }),
        Known::Unknown(why) => Known::Unknown(why),
    })
}

/// Whether a file holds what an artifact does.
pub(in crate::engine::restore::probe) fn same_bytes(
    view: &View<'_>,
    artifact: &Artifact,
    path: &Path,
) -> Result<Known<bool>, Error> {
    let opener = match view.opener() {
        Known::Is(opener) => opener,
        Known::Unknown(why) => return Ok(Known::Unknown(why)),
    };
    let mut there = match view.settle(view.world.root.open_file(path))? {
        Known::Is(Some(there)) => there,
        Known::Is(None) => return Ok(Known::Is(false)),
        Known::Unknown(why) => return Ok(Known::Unknown(why)),
    };
    let mut buffer = Zeroizing::new(Vec::new());
    let mut is_same = true;
    let read = opener.artifact(
        artifact,
        &mut |part| {
            buffer.resize(part.len(), 0);
            match there.read_exact(&mut buffer) {
                Ok(()) if *buffer == part => return Ok(()),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
            is_same = false;
            // Enough was seen.
            Err(io::Error::other("it differs"))
        },
        &path.display().to_string(),
    );
    if !is_same {
        return Ok(Known::Is(false));
    }
    view.settle(read.map(|()| true))
}
