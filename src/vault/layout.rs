//! Where everything lies in a vault, format 1: the key of each object, the prefixes to list, and the way back from a
//! key to what it is. Pure. A name that comes from a store is checked here before it is used for anything: one that
//! could become a path of its own (`..`, an empty part, a control character) is never an [`ObjectKey`].

mod place;

pub use place::Place;

use crate::base::clock;
use crate::base::ids::{BadId, EpochId, NodeName, Sha256Hex, SigningKeyId, SnapshotId};
use crate::base::limits;
use jiff::Timestamp;
use std::fmt;
use std::str::FromStr;

const VAULT_JSON: &str = "vault.json";
const RECOVERY_TEXT: &str = "RECOVERY.md";
const RECOVER_SCRIPT: &str = "recover.sh";
/// What a revocation's name begins with; a claim's is digits alone.
const REVOKED: &str = "revoked-";

/// The name of one object in a vault: parts of letters, digits, `.`, `_` and `-` with `/` between them, no part empty
/// or first a `.` or `-`. Safe to join to a folder's path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// A folder of a vault, to be listed: empty for the whole vault, else parts as in [`ObjectKey`], with a `/` at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

/// The files of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotFile {
    /// A copy of the epoch key file as it then was.
    EpochKey,
    /// The sealed notes.
    Notes,
    /// The manifest's signature.
    Signature,
    /// The manifest: the commit, written last.
    Manifest,
}

/// A signed document, or the signature beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signed {
    /// The document.
    Document,
    /// Its minisign signature.
    Signature,
}

impl SnapshotFile {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::EpochKey, Self::Notes, Self::Signature, Self::Manifest];

    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EpochKey => "epoch.age",
            Self::Notes => "notes.age",
            Self::Signature => "manifest.json.minisig",
            Self::Manifest => "manifest.json",
        }
    }
}

impl Signed {
    fn suffix(self) -> &'static str {
        match self {
            Self::Document => ".json",
            Self::Signature => ".json.minisig",
        }
    }
}

impl ObjectKey {
    /// `vault.json`.
    pub fn vault_json() -> Self {
        Self(VAULT_JSON.to_owned())
    }

    /// `RECOVERY.md`.
    pub fn recovery_text() -> Self {
        Self(RECOVERY_TEXT.to_owned())
    }

    /// `recover.sh`.
    pub fn recover_script() -> Self {
        Self(RECOVER_SCRIPT.to_owned())
    }

    /// `nodes/<node>/keys/<epoch>.age`.
    pub fn epoch_key(node: &NodeName, epoch: &EpochId) -> Self {
        Self(format!("nodes/{node}/keys/{epoch}.age"))
    }

    /// `nodes/<node>/keys/<epoch>.pub`.
    pub fn epoch_recipient(node: &NodeName, epoch: &EpochId) -> Self {
        Self(format!("nodes/{node}/keys/{epoch}.pub"))
    }

    /// `nodes/<node>/signing/<key-id>.pub`.
    pub fn signing_key(node: &NodeName, key: &SigningKeyId) -> Self {
        Self(format!("nodes/{node}/signing/{key}.pub"))
    }

    /// `nodes/<node>/snapshots/<snapshot>/<file>`.
    pub fn snapshot(node: &NodeName, snapshot: &SnapshotId, file: SnapshotFile) -> Self {
        Self(format!("nodes/{node}/snapshots/{snapshot}/{}", file.name()))
    }

    /// The manifest of a snapshot.
    pub fn manifest(node: &NodeName, snapshot: &SnapshotId) -> Self {
        Self::snapshot(node, snapshot, SnapshotFile::Manifest)
    }

    /// `nodes/<node>/segments/<first two digits>/<SHA-256 of the object>.age`.
    pub fn segment(node: &NodeName, object: &Sha256Hex) -> Self {
        Self(format!("nodes/{node}/segments/{}/{object}.age", &object.as_str()[..2]))
    }

    /// `nodes/<node>/marks/<yyyymmdd>/<time>.age`, the time in UTC to the millisecond, so that two marks made within
    /// a second keep apart: `20261120T051200.123Z`.
    pub fn mark(node: &NodeName, moment: Timestamp) -> Self {
        Self(format!("nodes/{node}/marks/{}/{}.age", day(moment), fine(moment)))
    }

    /// `nodes/<node>/claims/<snapshot>/<random>`; the random bytes must be new for every claim.
    pub fn claim(node: &NodeName, snapshot: &SnapshotId, random: [u8; 16]) -> Self {
        Self(format!("nodes/{node}/claims/{snapshot}/{}", hex::encode(random)))
    }

    /// `nodes/<node>/claims/<snapshot>/revoked-<random>`: beside the claims, so that one listing tells both.
    pub fn revocation(node: &NodeName, snapshot: &SnapshotId, random: [u8; 16]) -> Self {
        Self(format!("nodes/{node}/claims/{snapshot}/{REVOKED}{}", hex::encode(random)))
    }

    /// `nodes/<node>/drills/<time>-<scenario>.json` or its signature. An error when the scenario's name has other
    /// characters than lower-case letters, digits and `-`, or more than 64.
    pub fn drill(node: &NodeName, moment: Timestamp, scenario: &str, part: Signed) -> Result<Self, BadId> {
        if !is_scenario(scenario) {
            let text = scenario.chars().take(limits::NAME_BYTES_MAX).collect();
            let rule = "use 1 to 64 lower-case letters, digits or '-', not first a '-'";
            return Err(BadId { what: "scenario name", text, rule });
        }
        Ok(Self(format!("nodes/{node}/drills/{}-{scenario}{}", clock::compact(moment), part.suffix())))
    }

    /// `prune/<time>.json` or its signature.
    pub fn prune(moment: Timestamp, part: Signed) -> Self {
        Self(format!("prune/{}{}", clock::compact(moment), part.suffix()))
    }

    /// `probe/<random>`: a scratch object.
    pub fn probe(random: [u8; 16]) -> Self {
        Self(format!("probe/{}", hex::encode(random)))
    }

    /// The key as text, relative to the vault.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the object is, as its key says; strict: anything that [`ObjectKey`]'s makers would not have made is
    /// [`Place::Unknown`].
    pub fn place(&self) -> Place {
        match place::place_of(&self.0) {
            Some(place) if place.key(&self.0).as_ref() == Some(self) => place,
            _ => Place::Unknown,
        }
    }
}

impl Prefix {
    /// The whole vault.
    pub fn all() -> Self {
        Self(String::new())
    }

    /// All nodes.
    pub fn nodes() -> Self {
        Self("nodes/".to_owned())
    }

    /// Everything of one node.
    pub fn node(node: &NodeName) -> Self {
        Self(format!("nodes/{node}/"))
    }

    /// A node's epoch keys.
    pub fn keys(node: &NodeName) -> Self {
        Self(format!("nodes/{node}/keys/"))
    }

    /// A node's signing keys.
    pub fn signing(node: &NodeName) -> Self {
        Self(format!("nodes/{node}/signing/"))
    }

    /// A node's snapshots.
    pub fn snapshots(node: &NodeName) -> Self {
        Self(format!("nodes/{node}/snapshots/"))
    }

    /// One snapshot.
    pub fn snapshot(node: &NodeName, snapshot: &SnapshotId) -> Self {
        Self(format!("nodes/{node}/snapshots/{snapshot}/"))
    }

    /// A node's segments.
    pub fn segments(node: &NodeName) -> Self {
        Self(format!("nodes/{node}/segments/"))
    }

    /// One of the 256 parts of a node's segments: those whose name begins with this byte.
    pub fn segments_part(node: &NodeName, first: u8) -> Self {
        Self(format!("nodes/{node}/segments/{first:02x}/"))
    }

    /// A node's marks.
    pub fn marks(node: &NodeName) -> Self {
        Self(format!("nodes/{node}/marks/"))
    }

    /// A node's marks of the UTC day of this moment.
    pub fn marks_of_day(node: &NodeName, moment: Timestamp) -> Self {
        Self(format!("nodes/{node}/marks/{}/", day(moment)))
    }

    /// The claims on one snapshot, and its revocations.
    pub fn claims(node: &NodeName, snapshot: &SnapshotId) -> Self {
        Self(format!("nodes/{node}/claims/{snapshot}/"))
    }

    /// A node's drills.
    pub fn drills(node: &NodeName) -> Self {
        Self(format!("nodes/{node}/drills/"))
    }

    /// Records of pruners.
    pub fn prune() -> Self {
        Self("prune/".to_owned())
    }

    /// Scratch objects of probes.
    pub fn probe() -> Self {
        Self("probe/".to_owned())
    }

    /// The prefix as text, relative to the vault.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = BadId;

    /// Checks a name that comes from a store.
    fn from_str(text: &str) -> Result<Self, BadId> {
        let parts = text.split('/').count();
        let fits = text.len() <= limits::OBJECT_KEY_BYTES_MAX && parts <= limits::OBJECT_KEY_PARTS_MAX;
        if fits && text.split('/').all(is_part) {
            return Ok(Self(text.to_owned()));
        }
        let rule = "use letters, digits, '.', '_' and '-' with '/' between, no part empty or first a '.' or '-'";
        Err(BadId { what: "object key", text: text.chars().take(200).collect(), rule })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a text may be one part of a key: the name of a file or folder in a vault.
pub(super) fn is_part(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with(['.', '-'])
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_scenario(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= limits::NAME_BYTES_MAX
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn day(moment: Timestamp) -> String {
    moment.strftime("%Y%m%d").to_string()
}

fn fine(moment: Timestamp) -> String {
    moment.strftime("%Y%m%dT%H%M%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests;
