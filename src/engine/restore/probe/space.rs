//! Room: what the plan writes, filesystem by filesystem, against what is free there. Files are written beside what they
//! replace, and databases beside the old ones, so everything is needed in full.

use super::View;
use super::servers::server;
use super::target::Written;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::facts::Facts;
use crate::guard::facts::{FileAt, Known, Space};
use crate::plan::{Action, ServerUrl};
use crate::sources::postgres::restore::{self, Landing, RestoreError, Stand};
use crate::target::{Root, TargetError, space};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How much of a server's write-ahead log a large restore leaves behind until the next checkpoint, in bytes: its
/// `max_wal_size`, 1 GB unless it is told otherwise.
const LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What is needed on one filesystem.
struct Demand {
    space: space::Space,
    bytes: u64,
    files: u64,
    /// Bytes that are there already.
    there: u64,
}

/// What one action writes.
struct Write {
    place: String,
    bytes: u64,
    files: u64,
    there: u64,
    space: Known<space::Space>,
}

/// Adds up what is needed. What an interrupted run has written already counts as free: it need not be written again.
pub(super) fn probe(
    view: &View<'_>,
    files: &BTreeMap<PathBuf, Known<FileAt>>,
    written: &Written,
) -> Result<Vec<Space>, Error> {
    let mut demands: BTreeMap<u64, Demand> = BTreeMap::new();
    let mut unknown = Vec::new();
    for action in view.plan.actions() {
        let Some(length) = action.length() else { continue };
        view.world.context.check()?;
        let write = match write(view, action, length)? {
            Some(write) => write,
            None => continue,
        };
        let there = match action {
            Action::RestoreDatabase { .. } => write.there,
            Action::PlaceTree { artifact, .. } => written.get(artifact).copied().unwrap_or(0),
            _ => already(action, files),
        };
        match write.space {
            Known::Unknown(why) => {
                unknown.push(Space { place: write.place, needed: write.bytes, free: Known::Unknown(why) });
            }
            Known::Is(space) => {
                let demand = demands.entry(space.filesystem).or_insert(Demand { space, bytes: 0, files: 0, there: 0 });
                demand.bytes = demand.bytes.saturating_add(write.bytes);
                demand.files = demand.files.saturating_add(write.files);
                demand.there = demand.there.saturating_add(there.min(write.bytes));
            }
        }
    }
    Ok(demands.into_values().map(told).chain(unknown).collect())
}

fn write(view: &View<'_>, action: &Action, length: u64) -> Result<Option<Write>, Error> {
    let root = view.world.root;
    Ok(Some(match action {
        Action::RestoreDatabase { server: url, database, owner_role, .. } => {
            let found = view.settle(of_server(view, url, (database, owner_role)))?.and(|found| found);
            let (there, space) = match found {
                Known::Is((space, there)) => (there, Known::Is(space)),
                Known::Unknown(why) => (0, Known::Unknown(why)),
            };
            let bytes = of_database(view, action, length);
            Write { place: format!("the server of database {database}"), bytes, files: 0, there, space }
        }
        Action::PlaceTree { artifact, below, .. } => {
            let files = match view.notes(artifact) {
                Some(Facts::Tar(facts)) => facts.entries,
                Some(Facts::ClnExtras(facts)) => facts.files.len() as u64,
                _ => 0,
            };
            let space = view.settle(root.space(below))?;
            Write { place: below.display().to_string(), bytes: length, files, there: 0, space }
        }
        Action::PlaceFile { to, .. } | Action::PlaceChannelDatabase { to, .. } | Action::Quarantine { to, .. } => {
            let space = view.settle(root.space(to))?;
            Write { place: to.display().to_string(), bytes: length, files: 1, there: 0, space }
        }
        _ => return Ok(None),
    }))
}

/// Bytes of a file that is in its place already.
fn already(action: &Action, files: &BTreeMap<PathBuf, Known<FileAt>>) -> u64 {
    let to = match action {
        Action::PlaceFile { to, .. } | Action::PlaceChannelDatabase { to, .. } | Action::Quarantine { to, .. } => to,
        _ => return 0,
    };
    let is_there = files.get(to) == Some(&Known::Is(FileAt::Identical));
    if is_there { action.length().unwrap_or(0) } else { 0 }
}

/// What a database takes on the server's disk, its indexes and the log of its making included.
fn of_database(view: &View<'_>, action: &Action, length: u64) -> u64 {
    let on_disk = match action.artifact().and_then(|name| view.notes(name)) {
        Some(Facts::PostgresDump(facts)) => facts.size_bytes,
        _ => 0,
    };
    on_disk.max(length).saturating_add(length.min(LOG_BYTES_MAX))
}

/// The filesystem that holds a server's data, and what an interrupted run has made of the database there already.
fn of_server(
    view: &View<'_>,
    url: &ServerUrl,
    (database, owner): (&str, &str),
) -> Result<Known<(space::Space, u64)>, RestoreError> {
    let server = server(view, url)?;
    let Some(folder) = restore::data_directory(&server)? else {
        let role = server.user();
        return Ok(Known::Unknown(format!(
            "the role {role} may not ask the server where it keeps its data; a superuser lets it by GRANT \
             pg_read_all_settings TO \"{role}\";"
        )));
    };
    let there = match &view.plan.snapshot {
        Some(snapshot) => {
            let interrupt = view.world.context.interrupt;
            let landing = Landing { server: &server, database, owner, snapshot, run: view.world.run, interrupt };
            let name = match landing.stand()? {
                Stand::Swapped => database.to_owned(),
                Stand::NotBegun | Stand::Made | Stand::Partial | Stand::Filled => landing.fresh_name(),
            };
            restore::occupancy(&server, &name)?.and_then(|found| found.size_bytes).unwrap_or(0)
        }
        None => 0,
    };
    Ok(of_folder(folder).map_or_else(|error| Known::Unknown(chain(&error)), |space| Known::Is((space, there))))
}

/// Servers are reached by their socket or over loopback, so the folder is one of this machine, whatever the root.
fn of_folder(folder: PathBuf) -> Result<space::Space, TargetError> {
    // A package may have made it a link; nothing is written through it here.
    let folder = std::fs::canonicalize(&folder).unwrap_or(folder);
    Root::machine()?.space(&folder)
}

fn told(demand: Demand) -> Space {
    let Demand { space, bytes, files, there } = demand;
    let place = space.folder.display().to_string();
    let free = if space.is_read_only {
        Known::Unknown(format!("the filesystem of {place} is mounted read-only"))
    } else if let Some(left) = space.free_files.filter(|left| *left < files) {
        Known::Unknown(format!("{files} files are to be made there, and its filesystem has room for {left}"))
    } else {
        Known::Is(space.free_bytes.saturating_add(there))
    };
    Space { place, needed: bytes, free }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::ArtifactKind;
    use crate::plan::Owner;

    #[test]
    fn a_file_that_is_in_its_place_takes_no_more_room() {
        let place = Action::PlaceFile {
            artifact: "cln/hsm_secret".parse().unwrap(),
            kind: ArtifactKind::HsmSecret,
            to: "/x".into(),
            owner: Owner { user: None, uid: 0, group: None, gid: 0 },
            mode: 0o400,
            length: 32,
        };
        let at = |found: FileAt| already(&place, &BTreeMap::from([("/x".into(), Known::Is(found))]));
        assert_eq!(at(FileAt::Identical), 32);
        assert_eq!(at(FileAt::Other { length: 32 }), 0);
        assert_eq!(already(&place, &BTreeMap::new()), 0);
    }

    #[test]
    fn what_cannot_be_written_to_has_no_known_room() {
        let space = space::Space {
            filesystem: 1,
            folder: "/x".into(),
            free_bytes: 100,
            free_files: Some(3),
            is_read_only: false,
        };
        let free = |space: &space::Space, files| told(Demand { space: space.clone(), bytes: 10, files, there: 5 }).free;
        assert_eq!(free(&space, 3), Known::Is(105));
        assert!(matches!(free(&space, 4), Known::Unknown(why) if why.contains("4 files")));
        let read_only = space::Space { is_read_only: true, ..space };
        assert!(matches!(free(&read_only, 0), Known::Unknown(why) if why.contains("read-only")));
    }
}
