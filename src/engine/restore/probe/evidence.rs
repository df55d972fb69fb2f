//! What anything says of the node's channels: the notes of every snapshot in every vault, marks, and every
//! `emergency.recover` at the target. (The guard takes the channel databases there from the facts on the target.)
//! Nothing is passed over: what is there and cannot be read is a piece that says so. Of each snapshot only the pieces
//! are kept.

use super::emergency::{self, Opened};
use super::identity::Secrets;
use super::shelf::Stand;
use super::{View, source_of};
use crate::artifact::ArtifactKind;
use crate::base::ids::{ArtifactName, SnapshotId, VaultName};
use crate::base::limits::EMERGENCY_BYTES_MAX;
use crate::engine::Error;
use crate::engine::claim;
use crate::engine::error::chain;
use crate::engine::reading::{Place, open_notes, open_snapshot};
use crate::engine::survey::Believed;
use crate::facts::Facts;
use crate::facts::cln::NodeState;
use crate::guard::evidence::{Origin, Piece, Testimony};
use crate::guard::facts::{Candidate, Finality, Known, VaultReading};
use crate::manifest::{Artifact, Manifest};
use crate::notes::Notes;
use crate::plan::Action;
use crate::policy::VaultPolicy;
use crate::seal::identity::EpochIdentity;
use crate::vault::Vault;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// lightningd's name of its static channel backup.
const EMERGENCY: &str = "emergency.recover";

/// What was found.
pub(super) struct Evidence {
    pub(super) pieces: Vec<Piece>,
    pub(super) vaults: Known<Vec<VaultReading>>,
}

/// Reads all of it where a channel database is to be placed; nothing else hangs on it, and it takes time.
pub(super) fn probe(view: &View<'_>, secrets: &Secrets) -> Result<Evidence, Error> {
    if !view.plan.actions().any(|action| matches!(action, Action::PlaceChannelDatabase { .. })) {
        let why = "they were not read through, because no channel database is placed";
        return Ok(Evidence { pieces: Vec::new(), vaults: Known::Unknown(why.to_owned()) });
    }
    let mut reading = Reading { view, epochs: Vec::new(), pieces: Vec::new(), unread: BTreeMap::new() };
    reading.snapshots()?;
    reading.marks();
    reading.emergencies(secrets)?;
    let vaults = reading.vaults();
    Ok(Evidence { pieces: reading.pieces, vaults })
}

/// One reading of all the vaults.
struct Reading<'a> {
    view: &'a View<'a>,
    /// Epochs that were opened, so that a key on a token is asked for once an epoch.
    epochs: Vec<EpochIdentity>,
    pieces: Vec<Piece>,
    /// Why a vault was not read whole, by its number.
    unread: BTreeMap<usize, String>,
}

/// Vaults that hold a snapshot, with their numbers.
type Holders<'a> = Vec<(usize, &'a Place)>;

impl Reading<'_> {
    fn snapshots(&mut self) -> Result<(), Error> {
        let view = self.view;
        for id in view.shelf.committed() {
            view.world.context.check()?;
            // The same snapshot in two vaults is read once; two that differ are both heard.
            let mut copies: Vec<(Believed, Holders<'_>)> = Vec::new();
            for (number, stand) in view.shelf.holders(&id) {
                match view.shelf.manifest(number, &id) {
                    Err(why) => self.not_read(&id, &[(number, stand.place)], why),
                    Ok(believed) => match copies.iter_mut().find(|(known, _)| known.sha256 == believed.sha256) {
                        Some((_, holders)) => holders.push((number, stand.place)),
                        None => copies.push((believed, vec![(number, stand.place)])),
                    },
                }
            }
            for (Believed { manifest, .. }, holders) in copies {
                let places: Vec<&Place> = holders.iter().map(|(_, place)| *place).collect();
                match self.notes(&manifest, &places) {
                    Ok(notes) => self.pieces.extend(pieces(&manifest, &notes)),
                    Err(error) => {
                        view.world.context.check()?;
                        self.not_read(&id, &holders, chain(&error));
                    }
                }
            }
        }
        Ok(())
    }

    fn not_read(&mut self, id: &SnapshotId, holders: &[(usize, &Place)], why: String) {
        for (number, _) in holders {
            self.unread.entry(*number).or_insert_with(|| format!("{id} in it cannot be read: {why}"));
        }
        self.pieces.push(Piece {
            origin: Origin::Snapshot(id.clone()),
            node_id: None,
            taken: None,
            says: Known::Unknown(why),
        });
    }

    fn notes(&mut self, manifest: &Manifest, places: &[&Place]) -> Result<Notes, Error> {
        let node = &self.view.world.reader.node;
        let chosen = self.view.world.chosen.map(|chosen| &chosen.opened.epoch);
        if let Some(epoch) = chosen.into_iter().chain(&self.epochs).find(|epoch| epoch.id == manifest.epoch) {
            return open_notes(places, node, manifest, epoch);
        }
        let identities =
            self.view.world.identities.ok_or(Error::NoIdentity { what: "reading another epoch's notes" })?;
        let opened = open_snapshot(places, node, manifest, identities)?;
        self.epochs.push(opened.epoch);
        Ok(opened.notes)
    }

    /// A mark is newer than a snapshot or it would not be there, and this program reads none.
    fn marks(&mut self) {
        for (number, stand) in self.view.shelf.stands.iter().enumerate() {
            let Known::Is(marks) = &stand.marks else { continue };
            for mark in marks {
                let why = "this version cannot read marks".to_owned();
                self.unread
                    .entry(number)
                    .or_insert_with(|| "it holds marks, which this version cannot read".to_owned());
                let moment = mark.moment.or(mark.stored).unwrap_or(Timestamp::UNIX_EPOCH);
                let says = Known::Unknown(why);
                self.pieces.push(Piece { origin: Origin::Mark(moment), node_id: None, taken: mark.moment, says });
            }
        }
    }

    /// The `emergency.recover` files that lie in the nodes' folders, opened with the snapshot's secrets.
    fn emergencies(&mut self, secrets: &Secrets) -> Result<(), Error> {
        let root = self.view.world.root;
        for node in self.view.nodes() {
            let path = node.network_dir.join(EMERGENCY);
            let says = match self.view.settle(root.read_file(&path, EMERGENCY_BYTES_MAX))? {
                Known::Is(None) => continue,
                Known::Is(Some(bytes)) => match emergency::at_target(self.view, &bytes, secrets, &path)? {
                    Opened::Sound { node_id, contents } => (node_id, Known::Is(Testimony::Emergency(contents))),
                    // The snapshot's notes have spoken for it.
                    Opened::Same => continue,
                    Opened::Damaged(why) | Opened::Unknown(why) => (None, Known::Unknown(why)),
                },
                Known::Unknown(why) => (None, Known::Unknown(why)),
            };
            let (node_id, says) = says;
            self.pieces.push(Piece { origin: Origin::Target(path), node_id, taken: None, says });
        }
        Ok(())
    }

    /// Every vault of the policy, every one that was read, and every one that the chosen snapshot was written to.
    fn vaults(&self) -> Known<Vec<VaultReading>> {
        let world = self.view.world;
        let Some(policy) = world.policy else {
            return Known::Unknown("there is no policy, so nobody knows which vaults there are".to_owned());
        };
        let stands = self.view.shelf.stands.iter().enumerate();
        let mut readings: Vec<VaultReading> = stands
            .map(|(number, stand)| VaultReading {
                vault: stand.place.vault.name().clone(),
                head: self.head(number, stand),
            })
            .collect();
        let mut silent: BTreeMap<VaultName, String> = BTreeMap::new();
        let is_at = |vault: &VaultPolicy| self.view.shelf.stands.iter().any(|stand| stand.place.url == vault.url);
        for vault in policy.vaults.iter().filter(|vault| !self.was_read(&vault.name) && !is_at(vault)) {
            let said = world.reader.findings.iter().find(|finding| finding.subject == vault.name.as_str());
            let why = said.map_or_else(|| "it was not asked".to_owned(), |finding| finding.message.clone());
            silent.insert(vault.name.clone(), why);
        }
        // A vault that only this machine's policy names, and that was asked in vain.
        for finding in &world.reader.findings {
            if let Ok(name) = finding.subject.parse::<VaultName>()
                && !self.was_read(&name)
            {
                silent.entry(name).or_insert_with(|| finding.message.clone());
            }
        }
        let read: BTreeSet<_> = world.reader.places.iter().map(|place| &place.id).collect();
        let written = world.chosen.into_iter().flat_map(|chosen| &chosen.believed.manifest.vaults);
        for head in written.filter(|head| !read.contains(&head.vault)) {
            // Where a vault of the policy is silent already, it may be this one; more than that nobody can say.
            if let Ok(name) = head.vault.as_str().parse() {
                silent.insert(name, "the snapshot was written to this vault, and it was not read".to_owned());
            }
        }
        readings.extend(silent.into_iter().map(|(vault, why)| VaultReading { vault, head: Known::Unknown(why) }));
        Known::Is(readings)
    }

    fn was_read(&self, name: &VaultName) -> bool {
        self.view.shelf.stands.iter().any(|stand| stand.place.vault.name() == name)
    }

    fn head(&self, number: usize, stand: &Stand<'_>) -> Known<Option<SnapshotId>> {
        if let Known::Unknown(why) = &stand.entries {
            return Known::Unknown(why.clone());
        }
        if let Known::Unknown(why) = &stand.marks {
            return Known::Unknown(format!("its marks cannot be listed: {why}"));
        }
        match self.unread.get(&number) {
            Some(why) => Known::Unknown(why.clone()),
            None => Known::Is(stand.committed().next_back().map(|entry| entry.id.clone())),
        }
    }
}

/// What the notes of one snapshot say of channels.
fn pieces(manifest: &Manifest, notes: &Notes) -> Vec<Piece> {
    let origin = Origin::Snapshot(manifest.snapshot.clone());
    let mut found = Vec::new();
    let is_of_channels =
        |artifact: &&Artifact| matches!(artifact.kind, ArtifactKind::ClnWallet | ArtifactKind::EmergencyRecover);
    for artifact in manifest.artifacts.iter().filter(is_of_channels) {
        let noted = notes.artifacts.iter().find(|noted| noted.name == artifact.name);
        // As late as it can be: what was read in a run may have changed until its last byte was.
        let taken = noted.map(|noted| noted.read_until);
        let (node_id, says) = match noted.map(|noted| &noted.facts) {
            Some(Facts::ClnWallet(facts)) => {
                (facts.node.node_id.clone(), Known::Is(Testimony::Wallet(Box::new(lean(&facts.node)))))
            }
            Some(Facts::EmergencyRecover(facts)) => {
                let says = match &facts.contents {
                    Some(contents) => Known::Is(Testimony::Emergency(contents.clone())),
                    None if has_wallet_of(notes, &artifact.name) => Known::Is(Testimony::Locked),
                    None => Known::Unknown(format!("{} was backed up without being opened", artifact.name)),
                };
                (node_of_secret(notes, &artifact.name), says)
            }
            _ => (None, Known::Unknown(format!("the notes say nothing of {}", artifact.name))),
        };
        found.push(Piece { origin: origin.clone(), node_id, taken, says });
    }
    if found.is_empty() {
        let (taken, says) = (Some(manifest.created), Known::Is(Testimony::Nothing));
        found.push(Piece { origin, node_id: None, taken, says });
    }
    found
}

/// Whether the wallet database of the same node was read in the same run.
fn has_wallet_of(notes: &Notes, name: &ArtifactName) -> bool {
    let is_wallet = |facts: &Facts| matches!(facts, Facts::ClnWallet(_));
    notes.artifacts.iter().any(|noted| is_wallet(&noted.facts) && source_of(&noted.name) == source_of(name))
}

/// The node of the secret that was backed up from the same source.
fn node_of_secret(notes: &Notes, name: &ArtifactName) -> Option<String> {
    notes.artifacts.iter().find_map(|noted| match &noted.facts {
        Facts::HsmSecret(facts) if facts.attested && source_of(&noted.name) == source_of(name) => facts.node_id.clone(),
        _ => None,
    })
}

/// A node's state without what no rule looks at: there can be hundreds.
fn lean(node: &NodeState) -> NodeState {
    NodeState { peers: Vec::new(), htlcs: Vec::new(), ..node.clone() }
}

/// The channel databases that the plan takes from the snapshot.
pub(super) fn candidates(view: &View<'_>) -> Result<BTreeMap<ArtifactName, Known<Candidate>>, Error> {
    let mut found = BTreeMap::new();
    for name in view.plan.actions().filter_map(Action::artifact) {
        let is_placed = view
            .plan
            .actions()
            .any(|action| matches!(action, Action::PlaceChannelDatabase { artifact, .. } if artifact == name));
        let facts = match (view.artifact(name), view.notes(name)) {
            (Known::Is(artifact), Some(Facts::ClnWallet(facts))) if artifact.kind == ArtifactKind::ClnWallet => facts,
            (Known::Is(artifact), _) if artifact.kind == ArtifactKind::ClnWallet => {
                found.insert(name.clone(), Known::Unknown(format!("the snapshot's notes say nothing of {name}")));
                continue;
            }
            (Known::Unknown(why), _) if is_placed => {
                found.insert(name.clone(), Known::Unknown(why));
                continue;
            }
            _ => continue,
        };
        let Some(chosen) = view.world.chosen else { continue };
        let manifest = &chosen.believed.manifest;
        let candidate = Candidate {
            snapshot: manifest.snapshot.clone(),
            // As early as it can be: nothing of it was read before the run began.
            taken: manifest.created,
            node: facts.node.clone(),
            finality: finality(view)?,
        };
        found.insert(name.clone(), Known::Is(candidate));
    }
    Ok(found)
}

/// Whether the chosen snapshot is its node's last one and nobody undid that, in any vault.
pub(super) fn finality(view: &View<'_>) -> Result<Known<Finality>, Error> {
    let Some(chosen) = view.world.chosen else { return Ok(super::unchosen()) };
    if chosen.believed.manifest.trigger != claim::FINAL {
        return Ok(Known::Is(Finality::Ordinary));
    }
    if let Some(why) = view.shelf.gap() {
        return Ok(Known::Unknown(format!("{why}, and it may tell that the final snapshot was undone")));
    }
    let vaults: Vec<Vault> = view.shelf.stands.iter().map(|stand| stand.place.vault.clone()).collect();
    // Read after the claim was taken: see `claim::take`.
    view.settle(claim::finality(&vaults, &chosen.believed.manifest))
}
