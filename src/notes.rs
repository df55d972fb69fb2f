//! The sealed notes: everything descriptive about a snapshot, readable only with an identity. A bare machine has
//! nowhere else to learn it. They hold the node's dedup key, so they are a secret themselves.

use crate::base::ids::{ArtifactName, NodeName, SnapshotId};
use crate::facts::Facts;
use crate::report::Finding;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The format this program writes.
pub const FORMAT: u64 = 1;

/// Notes on one snapshot.
#[derive(Clone, Serialize, Deserialize)]
pub struct Notes {
    /// Always [`FORMAT`].
    pub format: u64,
    /// The protected host.
    pub node: NodeName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When the run began.
    pub created: Timestamp,
    /// The host's own name.
    pub hostname: String,
    /// Segment ids can be checked with it.
    pub dedup_key: DedupKeyHex,
    /// The policy's text; credentials lie in files it names and are not in it.
    pub policy: String,
    /// What was learned about each artifact.
    pub artifacts: Vec<ArtifactNotes>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// Notes on one artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArtifactNotes {
    /// The artifact.
    pub name: ArtifactName,
    /// When its first byte was read.
    pub read_from: Timestamp,
    /// When its last byte was read.
    pub read_until: Timestamp,
    /// What was learned.
    pub facts: Facts,
}

/// The dedup key as hexadecimal text; wiped, never printed.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct DedupKeyHex(pub String);

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "notes of {} [secret]", self.snapshot)
    }
}

/// Why bytes are not notes. Never quotes them.
#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    /// Not JSON of the right shape.
    #[error("they are not notes of format {FORMAT} (line {line}, column {column})")]
    Malformed {
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
    /// Of another snapshot.
    #[error("they belong to {found}, not to {wanted}")]
    Other {
        /// The snapshot they name.
        found: SnapshotId,
        /// The snapshot they should name.
        wanted: SnapshotId,
    },
}

impl Notes {
    /// Their bytes, to be sealed.
    pub fn encode(&self) -> Result<crate::base::secret::Secret, NotesError> {
        serde_json::to_vec(self).map(crate::base::secret::Secret::new).map_err(malformed)
    }

    /// Reads notes that belong to this snapshot.
    pub fn decode(bytes: &[u8], snapshot: &SnapshotId) -> Result<Self, NotesError> {
        let notes: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if notes.format != FORMAT {
            return Err(NotesError::Malformed { line: 1, column: 1 });
        }
        if &notes.snapshot != snapshot {
            return Err(NotesError::Other { found: notes.snapshot, wanted: snapshot.clone() });
        }
        Ok(notes)
    }

    /// What was learned about this artifact.
    pub fn facts(&self, name: &ArtifactName) -> Option<&Facts> {
        self.artifacts.iter().find(|artifact| &artifact.name == name).map(|artifact| &artifact.facts)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn malformed(error: serde_json::Error) -> NotesError {
    NotesError::Malformed { line: error.line(), column: error.column() }
}
