//! The manifest: the signed list of a snapshot's artifacts and segments. Its existence in a vault is the commit.
//!
//! The file is JSON in one canonical form, described in docs/FORMAT.md: fixed key order, one segment per line,
//! names limited to `[A-Za-z0-9._/-]`, so that awk can read it and so that one snapshot has one spelling. Reading
//! refuses everything else, so a manifest means the same to every reader.

mod text;

pub use text::{ManifestError, decode, encode};

use crate::artifact::{ArtifactKind, Codec};
use crate::base::ids::{
    ArtifactName, EpochId, InstanceId, NodeName, SegmentId, Sha256Hex, SnapshotId, SourceName, VaultId,
};
use jiff::Timestamp;
use serde::Deserialize;

/// The format this program writes.
pub const FORMAT: u64 = 1;

/// A snapshot's signed list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`]; looked at before anything else.
    pub format: u64,
    /// Program and version that wrote it.
    pub program: String,
    /// The protected host.
    pub node: NodeName,
    /// The installation that wrote it.
    pub instance: InstanceId,
    /// This snapshot.
    pub snapshot: SnapshotId,
    /// Its number on this node, one more than the one before it.
    pub sequence: u64,
    /// When the run began, UTC, whole seconds.
    pub created: Timestamp,
    /// Why it ran: `timer`, `manual`, `pre-update`, `final`, or an operator's own word.
    pub trigger: String,
    /// Whether every source of the policy succeeded.
    pub complete: bool,
    /// The node's snapshot before this one, in whichever vault it was.
    pub previous: Option<Previous>,
    /// The vaults this run wrote to, each with the newest snapshot it held when the run began.
    pub vaults: Vec<VaultHead>,
    /// The epoch that segments and notes are sealed to.
    pub epoch: EpochId,
    /// This snapshot's copy of the epoch key file, `epoch.age`.
    pub epoch_key: FileDigest,
    /// `notes.age`.
    pub notes: FileDigest,
    /// Fingerprints of the recipients that the epoch key is sealed to.
    pub recipients: Vec<String>,
    /// What every attested secret must hash to.
    pub attested: Vec<Attested>,
    /// The policy's sources and whether each succeeded.
    pub sources: Vec<SourceOutcome>,
    /// The artifacts, in the order they were sealed.
    pub artifacts: Vec<Artifact>,
}

/// The snapshot before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its id.
    pub snapshot: SnapshotId,
    /// The SHA-256 of its manifest's bytes.
    pub sha256: Sha256Hex,
}

/// A vault and what it held. A vault that missed runs is thereby told from one that lost snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultHead {
    /// The vault.
    pub vault: VaultId,
    /// Its newest snapshot of this node when the run began; none in a new vault.
    pub head: Option<SnapshotId>,
}

/// A file beside the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// SHA-256 of its bytes.
    pub sha256: Sha256Hex,
    /// Its length in bytes.
    pub length: u64,
}

/// A salted digest of a secret, so that a host that lost its state can still tell whether the live one is the one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// The source it belongs to.
    pub source: SourceName,
    /// Random salt, hexadecimal.
    pub salt: String,
    /// SHA-256 of the salt's bytes followed by the secret's.
    pub sha256: Sha256Hex,
}

/// How one source of the policy fared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceOutcome {
    /// The source.
    pub name: SourceName,
    /// Its kind, in the policy's word.
    pub kind: String,
    /// Whether everything it should yield is here.
    pub ok: bool,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// `<source>/<what>`.
    pub name: ArtifactName,
    /// What it holds.
    pub kind: ArtifactKind,
    /// How its segments are compressed.
    pub codec: Codec,
    /// Whether a guard must clear it before a node may start on it.
    pub toxic: bool,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Its segments, in order; none for an empty artifact.
    pub segments: Vec<Segment>,
}

/// One segment of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The keyed name of its content.
    pub id: SegmentId,
    /// The name of the object it lies in: SHA-256 of the sealed bytes.
    pub object: Sha256Hex,
    /// The object's length in bytes.
    pub length: u64,
}

impl Manifest {
    /// The artifact of this name.
    pub fn artifact(&self, name: &ArtifactName) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| &artifact.name == name)
    }

    /// All segments of all artifacts.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.artifacts.iter().flat_map(|artifact| &artifact.segments)
    }
}
