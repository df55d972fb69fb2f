//! The way back from a key to what it is. Strict: what no maker of a key would have written is [`Place::Unknown`].

use super::{ObjectKey, RECOVER_SCRIPT, RECOVERY_TEXT, REVOKED, Signed, SnapshotFile, VAULT_JSON};
use crate::base::ids::{EpochId, NodeName, Sha256Hex, SigningKeyId, SnapshotId};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What an object is, as its key says. What the key says is a claim: only a signature or a digest proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `vault.json`.
    VaultJson,
    /// `RECOVERY.md`.
    RecoveryText,
    /// `recover.sh`.
    RecoverScript,
    /// The epoch's identity, sealed to all recipients.
    EpochKey {
        /// Whose.
        node: NodeName,
        /// Which epoch.
        epoch: EpochId,
    },
    /// The epoch's recipient.
    EpochRecipient {
        /// Whose.
        node: NodeName,
        /// Which epoch.
        epoch: EpochId,
    },
    /// A public key that has signed here.
    SigningKey {
        /// Whose.
        node: NodeName,
        /// Which key.
        key: SigningKeyId,
    },
    /// One of the files of a snapshot.
    Snapshot {
        /// Whose.
        node: NodeName,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Which file.
        file: SnapshotFile,
    },
    /// A segment.
    Segment {
        /// Whose.
        node: NodeName,
        /// SHA-256 of the sealed bytes.
        object: Sha256Hex,
    },
    /// A mark.
    Mark {
        /// Whose.
        node: NodeName,
        /// When it was made, to the millisecond.
        moment: Timestamp,
    },
    /// A claim on a final snapshot's channel database.
    Claim {
        /// Whose snapshot.
        node: NodeName,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// 32 lower-case hexadecimal digits, random per claim.
        nonce: String,
    },
    /// A final snapshot is taken back: its node may have run since.
    Revocation {
        /// Whose snapshot.
        node: NodeName,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// 32 lower-case hexadecimal digits, random per revocation.
        nonce: String,
    },
    /// A drill's report, or its signature.
    Drill {
        /// Whose.
        node: NodeName,
        /// When it began.
        moment: Timestamp,
        /// Which scenario.
        scenario: String,
        /// The report or its signature.
        part: Signed,
    },
    /// A record of what a pruner removed, or its signature.
    Prune {
        /// When.
        moment: Timestamp,
        /// The record or its signature.
        part: Signed,
    },
    /// What a probe left behind.
    Probe,
    /// Nothing that format 1 knows.
    Unknown,
}

impl Place {
    /// The key that the object would have; `from` is the key it was read from.
    pub(super) fn key(&self, from: &str) -> Option<ObjectKey> {
        Some(match self {
            Self::VaultJson => ObjectKey::vault_json(),
            Self::RecoveryText => ObjectKey::recovery_text(),
            Self::RecoverScript => ObjectKey::recover_script(),
            Self::EpochKey { node, epoch } => ObjectKey::epoch_key(node, epoch),
            Self::EpochRecipient { node, epoch } => ObjectKey::epoch_recipient(node, epoch),
            Self::SigningKey { node, key } => ObjectKey::signing_key(node, key),
            Self::Snapshot { node, snapshot, file } => ObjectKey::snapshot(node, snapshot, *file),
            Self::Segment { node, object } => ObjectKey::segment(node, object),
            Self::Mark { node, moment } => ObjectKey::mark(node, *moment),
            Self::Claim { node, snapshot, nonce } => ObjectKey::claim(node, snapshot, bytes16(nonce)?),
            Self::Revocation { node, snapshot, nonce } => ObjectKey::revocation(node, snapshot, bytes16(nonce)?),
            Self::Drill { node, moment, scenario, part } => ObjectKey::drill(node, *moment, scenario, *part).ok()?,
            Self::Prune { moment, part } => ObjectKey::prune(*moment, *part),
            Self::Probe => ObjectKey::probe(bytes16(from.strip_prefix("probe/")?)?),
            Self::Unknown => return None,
        })
    }
}

/// Reads a key generously; the caller compares with what the maker would have written.
pub(super) fn place_of(key: &str) -> Option<Place> {
    match key {
        VAULT_JSON => return Some(Place::VaultJson),
        RECOVERY_TEXT => return Some(Place::RecoveryText),
        RECOVER_SCRIPT => return Some(Place::RecoverScript),
        _ => {}
    }
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        ["nodes", node, rest @ ..] => place_of_node(node.parse().ok()?, rest),
        ["prune", name] => {
            let (moment, part) = signed(name)?;
            Some(Place::Prune { moment: moment_of(moment)?, part })
        }
        ["probe", _] => Some(Place::Probe),
        _ => None,
    }
}

fn place_of_node(node: NodeName, rest: &[&str]) -> Option<Place> {
    match rest {
        ["keys", name] => match name.rsplit_once('.')? {
            (epoch, "age") => Some(Place::EpochKey { node, epoch: epoch.parse().ok()? }),
            (epoch, "pub") => Some(Place::EpochRecipient { node, epoch: epoch.parse().ok()? }),
            _ => None,
        },
        ["signing", name] => {
            let key = name.strip_suffix(".pub")?.parse().ok()?;
            Some(Place::SigningKey { node, key })
        }
        ["snapshots", snapshot, name] => {
            let file = SnapshotFile::ALL.into_iter().find(|file| file.name() == *name)?;
            Some(Place::Snapshot { node, snapshot: snapshot.parse().ok()?, file })
        }
        ["segments", _, name] => {
            let object = name.strip_suffix(".age")?.parse().ok()?;
            Some(Place::Segment { node, object })
        }
        ["marks", _, name] => {
            let moment = moment_of(name.strip_suffix(".age")?)?;
            Some(Place::Mark { node, moment })
        }
        ["claims", snapshot, name] => {
            let snapshot = snapshot.parse().ok()?;
            Some(match name.strip_prefix(REVOKED) {
                Some(nonce) => Place::Revocation { node, snapshot, nonce: nonce.to_owned() },
                None => Place::Claim { node, snapshot, nonce: (*name).to_owned() },
            })
        }
        ["drills", name] => {
            let (name, part) = signed(name)?;
            let (moment, scenario) = name.split_once('-')?;
            Some(Place::Drill { node, moment: moment_of(moment)?, scenario: scenario.to_owned(), part })
        }
        _ => None,
    }
}

fn signed(name: &str) -> Option<(&str, Signed)> {
    [Signed::Signature, Signed::Document]
        .into_iter()
        .find_map(|part| name.strip_suffix(part.suffix()).map(|stem| (stem, part)))
}

fn bytes16(digits: &str) -> Option<[u8; 16]> {
    hex::decode(digits).ok()?.try_into().ok()
}

fn moment_of(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%S%.fZ", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}
