//! What all evidence together knows of a node's channels, merged per full channel id: the maximum of each counter, and
//! who knows it. Absence proves nothing, so merging only ever adds. The order of the evidence does not matter.

pub mod lineage;
mod standing;

pub use standing::Standing;
pub(super) use standing::cannot_broadcast;

use super::facts::Known;
use crate::base::ids::SnapshotId;
use crate::facts::cln::{EmergencyContents, NodeState, WalletChannel};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// One piece of evidence.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where it is from.
    pub origin: Origin,
    /// The node it speaks of, where that is known; a wallet database's own word goes before it.
    pub node_id: Option<String>,
    /// When it was taken; `None` where nobody knows, as of a file found at the target.
    pub taken: Option<Timestamp>,
    /// What it says, or why it cannot be read.
    pub says: Known<Testimony>,
}

/// Where a piece of evidence is from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The sealed notes of a snapshot.
    Snapshot(SnapshotId),
    /// A mark.
    Mark(Timestamp),
    /// A file at the target.
    Target(PathBuf),
}

/// What a piece of evidence says.
#[derive(Clone, Debug, PartialEq)]
pub enum Testimony {
    /// A wallet database.
    Wallet(Box<NodeState>),
    /// An `emergency.recover`.
    Emergency(EmergencyContents),
    /// An `emergency.recover` that only a passphrase opens, read in the same run as the wallet database that wrote it.
    /// It may name a channel that was opened between the two.
    Locked,
    /// Nothing of channels: a mere sign of life, or a snapshot without a node.
    Nothing,
}

/// What was seen of one channel at one moment. A counter that is absent was not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// How far its life had come.
    pub standing: Standing,
    /// Number of our next commitment.
    pub next_index_local: Option<u64>,
    /// Number of the peer's next commitment.
    pub next_index_remote: Option<u64>,
    /// How many commitments the peer had revoked.
    pub revocations: Option<u64>,
}

/// All that is known of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelKnowledge {
    /// The sightings that no other one covers, each with the least of its origins. Usually one: the newest.
    sightings: BTreeMap<Sighting, Origin>,
    short_ids: BTreeSet<String>,
    local_sat: Option<u64>,
    capacity_sat: Option<u64>,
}

/// All that is known of a node's channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Knowledge {
    channels: BTreeMap<String, ChannelKnowledge>,
    unnamed: BTreeSet<(Origin, i64)>,
    unread: BTreeSet<(Origin, String)>,
    locked: BTreeSet<Origin>,
}

impl Piece {
    /// Whether it surely speaks of another node than this one.
    pub fn is_of_another_node(&self, node_id: Option<&str>) -> bool {
        let own = match &self.says {
            Known::Is(Testimony::Wallet(node)) => node.node_id.as_deref().or(self.node_id.as_deref()),
            _ => self.node_id.as_deref(),
        };
        matches!((own, node_id), (Some(own), Some(wanted)) if own != wanted)
    }
}

impl Sighting {
    /// What a wallet database says of a channel.
    pub fn of(channel: &WalletChannel) -> Self {
        Self {
            standing: Standing::of(channel),
            next_index_local: channel.next_index_local,
            next_index_remote: channel.next_index_remote,
            revocations: channel.revocations,
        }
    }

    /// Whether it knows at least as much in every respect.
    fn covers(&self, other: &Self) -> bool {
        self.standing >= other.standing
            && self.next_index_local >= other.next_index_local
            && self.next_index_remote >= other.next_index_remote
            && self.revocations >= other.revocations
    }
}

impl ChannelKnowledge {
    /// Whether the evidence with the highest counters says that the channel is closed. Evidence that says so with lower
    /// counters than another's contradicts it, and then the channel counts as open.
    pub fn is_closed(&self) -> bool {
        self.sightings.len() == 1 && self.sightings.keys().all(|sighting| sighting.standing.is_closed())
    }

    /// The greatest known value of a counter, and who knows it.
    pub fn best<T: Ord>(&self, counter: impl Fn(&Sighting) -> Option<T>) -> Option<(T, &Origin)> {
        let known = self.sightings.iter().filter_map(|(sighting, origin)| Some((counter(sighting)?, origin)));
        known.max_by(|(left, origin), (right, other)| left.cmp(right).then_with(|| other.cmp(origin)))
    }

    /// What may be lost with it, in satoshi: our side where it is known, otherwise all of it.
    pub fn at_stake_sat(&self) -> Option<u64> {
        self.local_sat.or(self.capacity_sat)
    }

    /// Its short channel id, such as `110x1x0`.
    pub fn short_id(&self) -> Option<&str> {
        self.short_ids.first().map(String::as_str)
    }

    fn see(&mut self, sighting: Sighting, origin: &Origin) {
        if self.sightings.keys().any(|known| *known != sighting && known.covers(&sighting)) {
            return;
        }
        self.sightings.retain(|known, _| *known == sighting || !sighting.covers(known));
        let least = self.sightings.entry(sighting).or_insert_with(|| origin.clone());
        if origin < least {
            *least = origin.clone();
        }
    }
}

impl Knowledge {
    /// What these pieces know together of the node of this id; all of them where the id is not known.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a Piece>, node_id: Option<&str>) -> Self {
        let mut knowledge = Self::default();
        for piece in pieces.into_iter().filter(|piece| !piece.is_of_another_node(node_id)) {
            knowledge.learn(piece);
        }
        knowledge
    }

    /// Adds a piece.
    pub fn learn(&mut self, piece: &Piece) {
        match &piece.says {
            Known::Unknown(why) => {
                self.unread.insert((piece.origin.clone(), why.clone()));
            }
            Known::Is(Testimony::Wallet(node)) => self.learn_wallet(node, &piece.origin),
            Known::Is(Testimony::Emergency(contents)) => self.learn_emergency(contents, &piece.origin),
            Known::Is(Testimony::Locked) => {
                self.locked.insert(piece.origin.clone());
            }
            Known::Is(Testimony::Nothing) => {}
        }
    }

    /// Adds what a wallet database says.
    pub fn learn_wallet(&mut self, node: &NodeState, origin: &Origin) {
        for channel in &node.channels {
            let Some(id) = &channel.channel_id else {
                self.unnamed.insert((origin.clone(), channel.dbid));
                continue;
            };
            let known = self.channels.entry(id.clone()).or_default();
            known.see(Sighting::of(channel), origin);
            if !standing::is_invented(channel) {
                known.short_ids.extend(channel.short_channel_id.clone());
            }
            known.local_sat = known.local_sat.max(channel.local_msat.map(|msat| msat / 1000));
            known.capacity_sat = known.capacity_sat.max(channel.funding_sat);
        }
    }

    /// Adds what an `emergency.recover` says.
    pub fn learn_emergency(&mut self, contents: &EmergencyContents, origin: &Origin) {
        for channel in &contents.channels {
            let known = self.channels.entry(channel.channel_id.clone()).or_default();
            let sighting = Sighting {
                standing: Standing::EXISTS,
                next_index_local: None,
                next_index_remote: None,
                revocations: channel.revocations,
            };
            known.see(sighting, origin);
            known.capacity_sat = known.capacity_sat.max(Some(channel.funding_sat));
        }
    }

    /// Adds what others know.
    pub fn merge(&mut self, other: Self) {
        for (id, theirs) in other.channels {
            let known = self.channels.entry(id).or_default();
            for (sighting, origin) in theirs.sightings {
                known.see(sighting, &origin);
            }
            known.short_ids.extend(theirs.short_ids);
            known.local_sat = known.local_sat.max(theirs.local_sat);
            known.capacity_sat = known.capacity_sat.max(theirs.capacity_sat);
        }
        self.unnamed.extend(other.unnamed);
        self.unread.extend(other.unread);
        self.locked.extend(other.locked);
    }

    /// Every channel that anybody knows, by its full id.
    pub fn channels(&self) -> impl Iterator<Item = (&str, &ChannelKnowledge)> {
        self.channels.iter().map(|(id, known)| (id.as_str(), known))
    }

    /// Channels that are not surely closed.
    pub fn open(&self) -> impl Iterator<Item = (&str, &ChannelKnowledge)> {
        self.channels().filter(|(_, known)| !known.is_closed())
    }

    /// Rows without a full channel id: nobody can say which channel they are.
    pub fn unnamed(&self) -> impl Iterator<Item = (&Origin, i64)> {
        self.unnamed.iter().map(|(origin, row)| (origin, *row))
    }

    /// Static backups that only a passphrase opens, each beside a wallet database that was read.
    pub fn locked(&self) -> impl Iterator<Item = &Origin> {
        self.locked.iter()
    }

    /// Evidence that is there and could not be read, and why.
    pub fn unread(&self) -> impl Iterator<Item = (&Origin, &str)> {
        self.unread.iter().map(|(origin, why)| (origin, why.as_str()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Mark(taken) => write!(f, "the mark of {taken}"),
            Self::Target(path) => write!(f, "{}", path.display()),
        }
    }
}
