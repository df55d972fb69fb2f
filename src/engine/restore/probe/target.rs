//! What lies at the target: at each path that the plan writes or moves, at the place of each secret and each channel
//! database, and below what each tar would be unpacked to.

use super::View;
use super::emergency::{self, Opened};
use super::identity::{SECRET, Secrets, node_id, secret_named};
use super::mirror;
use crate::artifact::ArtifactKind;
use crate::base::ids::ArtifactName;
use crate::base::limits::{EMERGENCY_BYTES_MAX, HSM_SECRET_BYTES_MAX};
use crate::base::secret::Secret;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::engine::restore::places;
use crate::facts::Facts;
use crate::guard::facts::{EmergencyAt, FileAt, Known, SecretAt, TargetFacts, WalletAt};
use crate::manifest::Artifact;
use crate::plan::{Action, Owner, SIDE_FILES, Together};
use crate::sources::cln::{self, ClnError};
use crate::sources::sqlite::{CopyOptions, LockBudget, Scratch, SqliteError};
use crate::target::fence::{self, Found};
use crate::target::look::At;
use crate::target::place::Wanted;
use crate::target::tree::{Compared, TreeError, Unpack};
use crate::target::{self, TargetError};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Mode of what lies in quarantine.
const QUARANTINE_MODE: u32 = 0o400;

/// What lies at the target, and how many bytes of each tar are there already; databases are asked elsewhere.
pub(super) fn probe(view: &View<'_>, secrets: &Secrets) -> Result<(TargetFacts, Written), Error> {
    let mirror = mirror::probe(view)?;
    let (mut trees, mut written) = (BTreeMap::new(), Written::new());
    for (name, compared) in self::trees(view, &mirror)? {
        if let Known::Is(compared) = &compared {
            written.insert(name.clone(), compared.same_bytes);
        }
        trees.insert(name, compared.and(|compared| Known::Is(compared.differing)));
    }
    let facts = TargetFacts {
        files: files(view, &mirror)?,
        trees,
        secrets: secrets_at(view, secrets)?,
        emergencies: emergencies(view, secrets)?,
        wallets: wallets(view)?,
        mirror,
        databases: BTreeMap::new(),
    };
    Ok((facts, written))
}

/// Bytes of each tar that an interrupted run has placed already.
pub(super) type Written = BTreeMap<ArtifactName, u64>;

/// An artifact that goes to a place, with the owner and the mode it gets there.
struct Goes<'a> {
    artifact: &'a ArtifactName,
    to: &'a Path,
    owner: target::Owner,
    mode: u32,
}

fn files(view: &View<'_>, mirror: &Known<Option<PathBuf>>) -> Result<BTreeMap<PathBuf, Known<FileAt>>, Error> {
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
            Some(Goes { artifact, to, owner: owner_here(owner), mode: *mode })
        }
        Action::Quarantine { artifact, to, .. } => {
            Some(Goes { artifact, to, owner: target::Owner::ourselves(), mode: QUARANTINE_MODE })
        }
        _ => None,
    }
}

fn owner_here(owner: &Owner) -> target::Owner {
    target::Owner { user: owner.user.clone(), uid: owner.uid, group: owner.group.clone(), gid: owner.gid }
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
fn plain(view: &View<'_>, path: &Path) -> Result<FileAt, TargetError> {
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
pub(super) fn same_bytes(view: &View<'_>, artifact: &Artifact, path: &Path) -> Result<Known<bool>, Error> {
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

/// Which secret lies at each place of one: where the plan puts one, and in each node's folder.
fn secrets_at(view: &View<'_>, secrets: &Secrets) -> Result<BTreeMap<PathBuf, Known<SecretAt>>, Error> {
    let mut found = BTreeMap::new();
    for action in view.plan.actions() {
        if let Action::PlaceFile { artifact, kind: ArtifactKind::HsmSecret, to, .. } = action {
            let ours = secret_named(secrets, artifact).and(|secret| Known::Is(vec![secret]));
            found.insert(to.clone(), secret_at(view, to, &ours)?);
        }
    }
    let all = secrets.as_ref().and(|all| {
        let unknown = all.iter().find_map(|(_, secret)| match secret {
            Known::Unknown(why) => Some(why.clone()),
            Known::Is(_) => None,
        });
        unknown.map_or_else(
            || {
                Known::Is(
                    all.iter()
                        .filter_map(|(_, secret)| match secret {
                            Known::Is(secret) => Some(secret),
                            Known::Unknown(_) => None,
                        })
                        .collect(),
                )
            },
            Known::Unknown,
        )
    });
    for node in view.nodes() {
        let path = node.network_dir.join(SECRET);
        if let Entry::Vacant(free) = found.entry(path) {
            let at = secret_at(view, free.key(), &all)?;
            free.insert(at);
        }
    }
    Ok(found)
}

fn secret_at(view: &View<'_>, path: &Path, ours: &Known<Vec<&Secret>>) -> Result<Known<SecretAt>, Error> {
    let there = match view.settle(view.world.root.read_file(path, HSM_SECRET_BYTES_MAX as u64))? {
        Known::Is(Some(there)) => there,
        Known::Is(None) => return Ok(Known::Is(SecretAt::Nothing)),
        Known::Unknown(why) => return Ok(Known::Unknown(why)),
    };
    Ok(ours.as_ref().and(|ours| {
        if ours.iter().any(|secret| secret.is_same(there.expose())) {
            return Known::Is(SecretAt::Same);
        }
        let node_id = match node_id(&there, &path.display().to_string()) {
            Known::Is(id) => Some(id),
            Known::Unknown(_) => None,
        };
        Known::Is(SecretAt::Other { node_id })
    }))
}

/// Which `emergency.recover` lies at each place that the plan puts one.
fn emergencies(view: &View<'_>, secrets: &Secrets) -> Result<BTreeMap<PathBuf, Known<EmergencyAt>>, Error> {
    let mut found = BTreeMap::new();
    for action in view.plan.actions() {
        let Action::PlaceFile { kind: ArtifactKind::EmergencyRecover, to, .. } = action else { continue };
        let read = view.settle(view.world.root.read_file(to, EMERGENCY_BYTES_MAX))?;
        let at = match read {
            Known::Unknown(why) => Known::Unknown(why),
            Known::Is(None) => Known::Is(EmergencyAt::Nothing),
            Known::Is(Some(file)) => match emergency::at_target(view, &file, secrets, to)? {
                Opened::Sound { contents, .. } => Known::Is(EmergencyAt::Sound(contents)),
                Opened::Same => Known::Is(EmergencyAt::Same),
                Opened::Damaged(why) => Known::Is(EmergencyAt::Damaged { why }),
                Opened::Unknown(why) => Known::Unknown(why),
            },
        };
        found.insert(to.clone(), at);
    }
    Ok(found)
}

/// Which channel database lies at each place of one.
fn wallets(view: &View<'_>) -> Result<BTreeMap<PathBuf, Known<WalletAt>>, Error> {
    let placed = view.plan.actions().filter_map(|action| match action {
        Action::PlaceChannelDatabase { to, .. } => Some(to),
        Action::RaiseFence { lightning } => Some(&lightning.wallet),
        _ => None,
    });
    let mut found = BTreeMap::new();
    for path in placed.collect::<BTreeSet<_>>() {
        let at = match view.settle(plain(view, path))? {
            Known::Is(FileAt::Nothing | FileAt::Fence) => Known::Is(WalletAt::Nothing),
            Known::Is(FileAt::Other { .. } | FileAt::Identical) => wallet_at(view, path)?,
            // SQLite opens it by its name and would follow a link.
            Known::Is(FileAt::NoFile { what }) => {
                Known::Unknown(format!("{what} is there, and nothing is read through it"))
            }
            Known::Unknown(why) => Known::Unknown(why),
        };
        found.insert(path.clone(), at);
    }
    Ok(found)
}

/// Reads a database that lies there from a copy of it in memory: it may be in use, and nothing is written to it or
/// beside it.
fn wallet_at(view: &View<'_>, path: &Path) -> Result<Known<WalletAt>, Error> {
    let place = view.world.root.path_of(path);
    let interrupt = view.world.context.interrupt;
    let options = CopyOptions { scratch: Scratch::Memory, budget: LockBudget::default(), interrupt };
    match cln::probe_wallet(&place, options) {
        Ok(facts) => Ok(Known::Is(WalletAt::Sound(Box::new(facts.node)))),
        Err(error) => {
            view.world.context.check()?;
            Ok(if is_damage(&error) {
                Known::Is(WalletAt::Damaged { why: chain(&error) })
            } else {
                Known::Unknown(chain(&error))
            })
        }
    }
}

/// Whether the file is at fault, and not the moment or the machine.
fn is_damage(error: &ClnError) -> bool {
    use SqliteError::{Corrupt, Empty, HotJournal, NotADatabase, Read, Truncated, UnreadableWal};
    match error {
        ClnError::NotCln { .. } => true,
        ClnError::Sqlite(error) => matches!(
            error,
            Corrupt { .. }
                | Empty { .. }
                | HotJournal { .. }
                | NotADatabase { .. }
                | Read { .. }
                | Truncated { .. }
                | UnreadableWal { .. }
        ),
        _ => false,
    }
}

/// The paths at which unpacking each tar would meet something else than it holds.
fn trees(view: &View<'_>, mirror: &Known<Option<PathBuf>>) -> Result<BTreeMap<ArtifactName, Known<Compared>>, Error> {
    let mirror = match mirror {
        Known::Is(mirror) => mirror.as_deref(),
        Known::Unknown(_) => None,
    };
    let forbidden = places::forbidden(view.plan, view.world.policy, mirror);
    let mut found = BTreeMap::new();
    for action in view.plan.actions() {
        let Action::PlaceTree { artifact: name, below, .. } = action else { continue };
        view.world.context.check()?;
        let differing = match (view.artifact(name), view.opener()) {
            (Known::Unknown(why), _) | (_, Known::Unknown(why)) => Known::Unknown(why),
            (Known::Is(_), Known::Is(_)) if is_bare(view, name, below, &forbidden)? => Known::Is(Compared::default()),
            (Known::Is(artifact), Known::Is(opener)) => {
                let (root, interrupt) = (view.world.root, view.world.context.interrupt);
                let how = Unpack { below, label: "", forbidden: &forbidden, interrupt };
                let compared = opener.through_pipe(artifact, |tar| match root.compare(tar, &how) {
                    Err(TreeError::Interrupted { .. }) => Err(Error::Interrupted),
                    other => Ok(other?),
                });
                view.settle(compared)?
            }
        };
        found.insert(name.clone(), differing);
    }
    Ok(found)
}

/// Whether nothing is at any place that a tar's files come from, and none of them is near one that no tar may touch, so
/// that there is nothing to compare and it need not be fetched twice. What the notes say is believed here for speed
/// only: unpacking looks once more at each file.
fn is_bare(view: &View<'_>, name: &ArtifactName, below: &Path, forbidden: &[PathBuf]) -> Result<bool, Error> {
    let roots: Vec<PathBuf> = match view.notes(name) {
        Some(Facts::Tar(facts)) if !facts.roots.is_empty() => facts.roots.iter().map(|root| fixed_part(root)).collect(),
        _ => vec![below.to_owned()],
    };
    for root in roots {
        // A name that only begins like one may be what SQLite keeps beside a database.
        let begins_like = |place: &PathBuf| root.as_os_str().as_bytes().starts_with(place.as_os_str().as_bytes());
        if forbidden.iter().any(|place| place.starts_with(&root) || begins_like(place)) {
            return Ok(false);
        }
        if !root.starts_with(below) || view.settle(view.world.root.at(&root))? != Known::Is(At::Nothing) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The part of a path or glob before its first wildcard.
fn fixed_part(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_part_of_a_glob_ends_before_its_first_wildcard() {
        for (pattern, fixed) in
            [("/var/lib/x", "/var/lib/x"), ("/var/lib/*/x", "/var/lib"), ("/etc/a?[b]", "/etc"), ("/*", "/")]
        {
            assert_eq!(fixed_part(pattern), Path::new(fixed), "{pattern}");
        }
    }
}
