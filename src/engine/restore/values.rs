//! What a scenario's texts are filled with, and which entries of its follow-up list apply: all from the snapshot's
//! notes, and later from what the run itself learned. What is not known says so; a condition that could not be decided
//! counts as met, so that nobody misses an entry.

use super::expand::flat;
use super::ground::{Node, node, restore_folder};
use crate::artifact::ArtifactKind;
use crate::base::ids::NodeName;
use crate::base::visible::visible;
use crate::facts::Facts;
use crate::facts::cln::{EmergencyContents, NodeState, STATE_CLOSED, WalletChannel};
use crate::facts::postgres::{BtcpayMarks, DatabaseFacts, NbxplorerMarks, Software};
use crate::manifest::Manifest;
use crate::notes::Notes;
use crate::policy::{Policy, SourceKind};
use crate::scenario::{Placeholder, When};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Display;

/// What is written where nothing is known.
const UNKNOWN: &str = "(unknown)";
/// What is written where there is none.
const NONE: &str = "none";
/// What of a payout's state means that it was paid or given up (BTCPay `PayoutState`).
const PAYOUTS_DONE: [&str; 2] = ["Completed", "Cancelled"];

/// What the notes say of one snapshot, sorted by what it is about.
#[derive(Default)]
struct Seen<'a> {
    node_id: Option<&'a str>,
    state: Option<&'a NodeState>,
    emergency: Option<&'a EmergencyContents>,
    databases: Vec<&'a DatabaseFacts>,
    extras: Vec<&'a str>,
    has_files: bool,
}

impl<'a> Seen<'a> {
    fn of(notes: &'a Notes) -> Self {
        let mut seen = Self::default();
        for artifact in &notes.artifacts {
            match &artifact.facts {
                Facts::HsmSecret(secret) => seen.node_id = seen.node_id.or(secret.node_id.as_deref()),
                Facts::ClnWallet(wallet) => seen.state = Some(&wallet.node),
                Facts::EmergencyRecover(emergency) => seen.emergency = emergency.contents.as_ref(),
                Facts::PostgresDump(dump) => seen.databases.push(dump),
                Facts::ClnExtras(extras) => seen.extras.extend(extras.files.iter().map(|file| file.name.as_str())),
                Facts::Tar(_) => seen.has_files = true,
                Facts::LndChannelBackup(_) | Facts::Sqlite(_) | Facts::PostgresGlobals(_) => {}
            }
        }
        seen
    }

    fn of_software(&self, software: Software) -> Option<&'a DatabaseFacts> {
        self.databases.iter().copied().find(|database| database.software == software)
    }

    fn btcpay(&self) -> Option<&'a BtcpayMarks> {
        self.of_software(Software::Btcpay)?.marks.btcpay.as_ref()
    }

    fn nbxplorer(&self) -> Option<&'a NbxplorerMarks> {
        self.of_software(Software::Nbxplorer)?.marks.nbxplorer.as_ref()
    }

    fn reached(&self) -> Vec<(&'static str, Option<u64>)> {
        let lightningd = self.state.map(|state| {
            let processed = state.last_processed_block.and_then(|height| u64::try_from(height).ok());
            ("lightningd", processed.or(state.block_height))
        });
        let nbxplorer = self
            .of_software(Software::Nbxplorer)
            .map(|_| ("NBXplorer", self.nbxplorer().and_then(|marks| marks.height)));
        lightningd.into_iter().chain(nbxplorer).collect()
    }

    /// The channels that were not over.
    fn open_channels(&self) -> Vec<&'a WalletChannel> {
        let channels = self.state.map(|state| &state.channels[..]).unwrap_or_default();
        channels.iter().filter(|channel| channel.state != STATE_CLOSED).collect()
    }
}

/// Texts by placeholder, and the conditions that are met.
#[derive(Clone, Debug, Default)]
pub struct Values {
    texts: BTreeMap<Placeholder, String>,
    met: Vec<When>,
}

impl Values {
    /// Of a scenario that takes nothing from a snapshot.
    pub fn without_snapshot(scenario: &str, node: &NodeName, policy: Option<&Policy>) -> Self {
        let mut values = Self::default();
        values.set(Placeholder::Node, node);
        values.set(Placeholder::FollowUpFile, restore_folder(scenario, None).join("followup.txt").display());
        values.places(policy);
        values.met = When::ALL.to_vec();
        if let Some(policy) = policy {
            let has = |wanted: fn(&SourceKind) -> bool| policy.sources.iter().any(|source| wanted(&source.kind));
            let (cln, lnd) = (
                has(|kind| matches!(kind, SourceKind::Cln { .. })),
                has(|kind| matches!(kind, SourceKind::Lnd { .. })),
            );
            values.met.retain(|when| match when {
                When::HasCln | When::HasClboss | When::HasMirror => cln,
                When::HasLnd => lnd,
                _ => true,
            });
        }
        values
    }

    /// Of a snapshot.
    pub fn of_snapshot(
        scenario: &str,
        manifest: &Manifest,
        notes: &Notes,
        policy: Option<&Policy>,
        now: Timestamp,
    ) -> Self {
        let seen = Seen::of(notes);
        let folder = restore_folder(scenario, Some(&manifest.snapshot));
        let mut values = Self::default();
        values.set(Placeholder::Snapshot, &manifest.snapshot);
        values.set(Placeholder::SnapshotAge, age(manifest.created, now));
        values.set(Placeholder::SnapshotTime, manifest.created.strftime("%Y-%m-%d %H:%M:%S+00"));
        values.set(Placeholder::Node, &manifest.node);
        values.maybe(Placeholder::NodeId, seen.node_id.or(seen.state.and_then(|state| state.node_id.as_deref())));
        values.set(Placeholder::Quarantine, folder.join("quarantine").display());
        let is_copied = |kind| matches!(kind, ArtifactKind::EmergencyRecover | ArtifactKind::LndChannelBackup);
        let copied = manifest.artifacts.iter().filter(|artifact| is_copied(artifact.kind));
        let copies: Vec<String> =
            copied.map(|artifact| folder.join(flat(&artifact.name)).display().to_string()).collect();
        values.set(Placeholder::RecoverCopy, listed(copies, ", "));
        values.set(Placeholder::FollowUpFile, folder.join("followup.txt").display());
        let names: Vec<&str> = seen.databases.iter().map(|database| database.name.as_str()).collect();
        values.set(Placeholder::Databases, listed(names, ", "));
        values.set(Placeholder::Peers, peers(&seen));
        values.set(Placeholder::Channels, channels(&seen));
        let oldest = seen.state.and_then(|state| state.unspent.oldest_height);
        values.maybe(Placeholder::OldestUtxoHeight, oldest);
        values.set(Placeholder::Heights, heights(&seen));
        values.set(Placeholder::AddressIndexes, address_indexes(&seen));
        values.set(Placeholder::NewestMarkAge, age(manifest.created, now));
        values.set(Placeholder::MovedAside, NONE);
        values.places(policy);
        values.met = conditions(&seen, policy);
        values
    }

    /// Sets a text that the run has learned. What a terminal would obey in it is written out.
    pub fn set(&mut self, placeholder: Placeholder, text: impl Display) {
        self.texts.insert(placeholder, visible(&text.to_string()).into_owned());
    }

    fn maybe(&mut self, placeholder: Placeholder, text: Option<impl Display>) {
        if let Some(text) = text {
            self.set(placeholder, text);
        }
    }

    fn places(&mut self, policy: Option<&Policy>) {
        for source in policy.into_iter().flat_map(|policy| &policy.sources) {
            if let Some(Node { place, .. }) = node(source) {
                self.set(Placeholder::LightningDir, place.lightning_dir.display());
                self.set(Placeholder::NetworkDir, place.network_dir.display());
            }
            if let SourceKind::Lnd { lnd_dir, .. } = &source.kind {
                self.set(Placeholder::LndDir, lnd_dir.display());
            }
        }
    }

    /// A placeholder's text.
    pub fn of(&self, placeholder: Placeholder) -> String {
        self.texts.get(&placeholder).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
    }

    /// Whether all conditions are met, or could not be decided.
    pub fn meets(&self, when: &[When]) -> bool {
        when.iter().all(|when| self.met.contains(when))
    }
}

/// The conditions that are met or could not be decided.
fn conditions(seen: &Seen<'_>, policy: Option<&Policy>) -> Vec<When> {
    let kinds: Vec<&SourceKind> = policy.into_iter().flat_map(|policy| &policy.sources).map(|s| &s.kind).collect();
    let has_cln = kinds.iter().any(|kind| matches!(kind, SourceKind::Cln { .. }));
    let btcpay = seen.of_software(Software::Btcpay);
    let rows = |table: &str| {
        let tables = btcpay.map(|database| &database.tables[..]).unwrap_or_default();
        tables.iter().find(|found| found.name == table).map(|found| found.rows)
    };
    let some = |count: Option<u64>| count.is_none_or(|count| count > 0);
    let is_met = |when: &When| match when {
        When::HasCln => has_cln,
        When::HasLnd => kinds.iter().any(|kind| matches!(kind, SourceKind::Lnd { .. })),
        When::HasChannels => seen.state.is_none() || !seen.open_channels().is_empty(),
        // Neither is told by what a backup sees.
        When::HasClboss | When::HasMirror => has_cln,
        When::HasBtcpay => btcpay.is_some(),
        When::HasNbxplorer => seen.of_software(Software::Nbxplorer).is_some(),
        When::HasHotWallets => {
            seen.of_software(Software::Nbxplorer).is_some()
                && some(seen.nbxplorer().and_then(|marks| marks.hot_wallet_keys))
        }
        When::HasWebhooks => btcpay.is_some() && some(rows("Webhooks")),
        When::HasPayouts => btcpay.is_some() && has_payouts(seen.btcpay()),
        When::HasFiles => seen.has_files,
        When::IsPruned => true,
    };
    When::ALL.iter().copied().filter(is_met).collect()
}

fn has_payouts(marks: Option<&BtcpayMarks>) -> bool {
    let Some(marks) = marks else { return true };
    let waits = |state: &str| !PAYOUTS_DONE.contains(&state);
    let pending = marks.payouts_by_state.as_ref().map(|states| states.iter().any(|s| waits(&s.state) && s.count > 0));
    pending.unwrap_or(true) || marks.payout_processors.is_none_or(|count| count > 0)
}

fn peers(seen: &Seen<'_>) -> String {
    let address = |peer: &str| {
        let known = seen.state.into_iter().flat_map(|state| &state.peers).find(|known| known.node_id == peer);
        let reached = known.and_then(|known| known.last_known_address.clone().or_else(|| known.address.clone()));
        let saved =
            || seen.emergency?.channels.iter().find(|channel| channel.peer_id == peer).map(|c| c.address.clone());
        reached.or_else(saved).unwrap_or_else(|| "address unknown".to_owned())
    };
    let line = |peer: &str, sat: Option<u64>| {
        let capacity = sat.map_or_else(|| UNKNOWN.to_owned(), |sat| format!("{sat} sat"));
        format!("{peer}  {}  capacity {capacity}", address(peer))
    };
    let open = seen.open_channels();
    if open.is_empty()
        && let Some(emergency) = seen.emergency
    {
        let of_backup = emergency.channels.iter().map(|channel| line(&channel.peer_id, Some(channel.funding_sat)));
        return listed(of_backup.collect(), "\n");
    }
    let lines = open.iter().filter_map(|channel| Some(line(channel.peer_id.as_deref()?, channel.funding_sat)));
    listed(lines.collect(), "\n")
}

fn channels(seen: &Seen<'_>) -> String {
    if seen.state.is_none() {
        return UNKNOWN.to_owned();
    }
    let open = seen.open_channels();
    let ours: u64 = open.iter().filter_map(|channel| channel.local_msat).sum::<u64>() / 1000;
    format!("{} channels, {ours} sat of them ours", open.len())
}

fn heights(seen: &Seen<'_>) -> String {
    let shown = |(what, height): (&str, Option<u64>)| {
        let height = height.map_or_else(|| UNKNOWN.to_owned(), |height| height.to_string());
        format!("{what} {height}")
    };
    listed(seen.reached().into_iter().map(shown).collect(), ", ")
}

/// The heights that the software in a snapshot had reached, by its name; none where the notes do not tell one.
pub(super) fn reached(notes: &Notes) -> Vec<(&'static str, Option<u64>)> {
    Seen::of(notes).reached()
}

fn address_indexes(seen: &Seen<'_>) -> String {
    let descriptors = seen.nbxplorer().and_then(|marks| marks.descriptors.as_deref()).unwrap_or_default();
    let line = |mark: &crate::facts::postgres::DescriptorMark| {
        let used = mark.max_used_index.map_or_else(|| NONE.to_owned(), |index| index.to_string());
        format!("{}  {}  next {}, highest given out {used}", mark.code, mark.descriptor, mark.next_index)
    };
    listed(descriptors.iter().map(line).collect(), "\n")
}

fn listed<T: AsRef<str>>(entries: Vec<T>, between: &str) -> String {
    if entries.is_empty() {
        return NONE.to_owned();
    }
    entries.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(between)
}

/// A span of time as people say it.
pub(super) fn age(from: Timestamp, now: Timestamp) -> String {
    let minutes = now.duration_since(from).as_secs().max(0) / 60;
    match minutes {
        0..=119 => format!("{minutes} minutes"),
        120..=2879 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}
