//! What lies in the vaults that answered: each one's listing, and the manifests that were believed so far. Manifests
//! themselves are not kept: one can be large, and there can be hundreds.

use super::World;
use crate::base::ids::{InstanceId, SnapshotId};
use crate::engine::Error;
use crate::engine::error::chain;
use crate::engine::reading::Place;
use crate::engine::survey::{Believed, Entry, believe, entries};
use crate::guard::facts::Known;
use crate::vault::VaultError;
use crate::vault::layout::{Place as Found, Prefix};
use jiff::Timestamp;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The vaults.
pub(super) struct Shelf<'a> {
    world: &'a World<'a>,
    /// Those that answered.
    pub(super) stands: Vec<Stand<'a>>,
    believed: RefCell<BTreeMap<(usize, SnapshotId), Result<Summary, String>>>,
}

/// One vault.
pub(super) struct Stand<'a> {
    /// The vault.
    pub(super) place: &'a Place,
    /// The node's snapshots in it, oldest first, those without a manifest too.
    pub(super) entries: Known<Vec<Entry>>,
    /// The node's marks in it.
    pub(super) marks: Known<Vec<Mark>>,
}

/// A mark, as far as its name and the store tell of it. What is in it this program cannot read.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// When it was made, by its name; `None` where the name is none of a mark's.
    pub(super) moment: Option<Timestamp>,
    /// When it was stored.
    pub(super) stored: Option<Timestamp>,
}

/// What is kept of a manifest.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    /// The installation that wrote it.
    pub(super) instance: InstanceId,
    /// Whether every source succeeded.
    pub(super) is_complete: bool,
}

impl<'a> Shelf<'a> {
    /// Lists every vault that answered.
    pub(super) fn look(world: &'a World<'a>) -> Result<Self, Error> {
        let node = &world.reader.node;
        let mut stands = Vec::new();
        for place in &world.reader.places {
            world.context.check()?;
            stands.push(Stand {
                place,
                entries: super::settle(world.context, entries(&place.vault, node))?,
                marks: super::settle(world.context, marks(place, world))?,
            });
        }
        Ok(Self { world, stands, believed: RefCell::default() })
    }

    /// Why what lies in the vaults is not all known: one of them did not answer or could not be listed.
    pub(super) fn gap(&self) -> Option<String> {
        if self.world.reader.places.len() < self.world.reader.asked {
            let silent =
                self.world.reader.findings.iter().map(|finding| format!("{}: {}", finding.subject, finding.message));
            return Some(format!("a vault did not answer ({})", silent.collect::<Vec<_>>().join("; ")));
        }
        let read: Vec<_> = self.world.reader.places.iter().map(|place| &place.id).collect();
        let written = self.world.chosen.into_iter().flat_map(|chosen| &chosen.believed.manifest.vaults);
        let unread = written.filter(|head| !read.contains(&&head.vault)).count();
        if unread > 0 {
            return Some(format!("the snapshot was written to {unread} more vaults that were not looked at"));
        }
        self.stands.iter().find_map(|stand| match &stand.entries {
            Known::Unknown(why) => Some(format!("vault {} cannot be listed: {why}", stand.place.vault.name())),
            Known::Is(_) => None,
        })
    }

    /// Every committed snapshot that a vault lists, newest first.
    pub(super) fn committed(&self) -> Vec<SnapshotId> {
        let all = self.stands.iter().flat_map(Stand::committed).map(|entry| entry.id.clone());
        all.collect::<BTreeSet<_>>().into_iter().rev().collect()
    }

    /// The vaults that list a snapshot as committed.
    pub(super) fn holders(&self, id: &SnapshotId) -> impl Iterator<Item = (usize, &Stand<'a>)> {
        let holds = move |stand: &Stand<'_>| stand.committed().any(|entry| entry.id == *id);
        self.stands.iter().enumerate().filter(move |(_, stand)| holds(stand))
    }

    /// A vault's manifest, read and believed, or why not.
    pub(super) fn manifest(&self, stand: usize, id: &SnapshotId) -> Result<Believed, String> {
        let reader = self.world.reader;
        let Some(place) = self.stands.get(stand).map(|stand| stand.place) else {
            return Err("there is no such vault".to_owned());
        };
        let believed = believe(&place.vault, &reader.node, id, &reader.trusted).map_err(|reason| {
            format!("the manifest of {id} in vault {} cannot be believed: {}", place.vault.name(), chain(&reason))
        });
        let summary = believed.as_ref().map_err(Clone::clone).map(|believed| Summary {
            instance: believed.manifest.instance.clone(),
            is_complete: believed.manifest.complete,
        });
        self.believed.borrow_mut().insert((stand, id.clone()), summary);
        believed
    }

    /// What is kept of that manifest; it is read where it was not yet.
    pub(super) fn summary(&self, stand: usize, id: &SnapshotId) -> Result<Summary, String> {
        if let Some(known) = self.believed.borrow().get(&(stand, id.clone())) {
            return known.clone();
        }
        self.manifest(stand, id)?;
        self.believed.borrow().get(&(stand, id.clone())).cloned().unwrap_or_else(|| Err("it was not read".to_owned()))
    }
}

impl Stand<'_> {
    /// The committed snapshots it lists, oldest first.
    pub(super) fn committed(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        let entries = match &self.entries {
            Known::Is(entries) => entries.as_slice(),
            Known::Unknown(_) => &[],
        };
        entries.iter().filter(|entry| entry.is_committed())
    }
}

fn marks(place: &Place, world: &World<'_>) -> Result<Vec<Mark>, VaultError> {
    let listing = place.vault.list(&Prefix::marks(&world.reader.node))?;
    let known = listing.objects.iter().map(|listed| Mark {
        moment: match listed.key.place() {
            Found::Mark { moment, .. } => Some(moment),
            _ => None,
        },
        stored: listed.stored,
    });
    let strangers = listing.strangers.iter().map(|_| Mark { moment: None, stored: None });
    Ok(known.chain(strangers).collect())
}
