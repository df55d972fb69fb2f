//! The nodes: which secret, which `emergency.recover` and which channel database lie at their places.

use super::super::View;
use super::super::emergency::{self, Opened};
use super::super::identity::{SECRET, Secrets, node_id, secret_named};
use super::files::plain;
use crate::artifact::ArtifactKind;
use crate::base::limits::{EMERGENCY_BYTES_MAX, HSM_SECRET_BYTES_MAX};
use crate::base::secret::Secret;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::guard::facts::{EmergencyAt, FileAt, Known, SecretAt, WalletAt};
use crate::plan::Action;
use crate::sources::cln::{self, ClnError};
use crate::sources::sqlite::{CopyOptions, LockBudget, Scratch, SqliteError};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which secret lies at each place of one: where the plan puts one, and in each node's folder.
pub(super) fn secrets(view: &View<'_>, known: &Secrets) -> Result<BTreeMap<PathBuf, Known<SecretAt>>, Error> {
    let mut found = BTreeMap::new();
    for action in view.plan.actions() {
        if let Action::PlaceFile { artifact, kind: ArtifactKind::HsmSecret, to, .. } = action {
            let ours = secret_named(known, artifact).and(|secret| Known::Is(vec![secret]));
            found.insert(to.clone(), secret_at(view, to, &ours)?);
        }
    }
    let all = known.as_ref().and(|all| {
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
pub(super) fn emergencies(view: &View<'_>, secrets: &Secrets) -> Result<BTreeMap<PathBuf, Known<EmergencyAt>>, Error> {
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
pub(super) fn wallets(view: &View<'_>) -> Result<BTreeMap<PathBuf, Known<WalletAt>>, Error> {
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
