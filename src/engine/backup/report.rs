//! What a backup ends in, and how its rows come about.

use super::parting::Parting;
use crate::engine::pipeline::Target;
use crate::engine::stores::Stores;
use crate::facts::Facts;
use crate::manifest::Artifact;
use crate::notes::ArtifactNotes;
use crate::policy::VaultPolicy;
use crate::report::Finding;
use crate::vault::WriteOnce;
use schemars::JsonSchema;
use serde::Serialize;

/// What a backup did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BackupReport {
    /// The protected host.
    pub node: String,
    /// The snapshot, when one was committed somewhere.
    pub snapshot: Option<String>,
    /// The witness of it: one signed line that tells vaults that were set back, when it is kept outside of them.
    pub witness: Option<String>,
    /// Whether every source of the policy succeeded.
    pub complete: bool,
    /// When the run began, UTC.
    pub created: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Of a final snapshot: what became of the databases; absent for any other.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub parting: Option<Parting>,
    /// How each source fared.
    pub sources: Vec<SourceRow>,
    /// The artifacts of the snapshot.
    pub artifacts: Vec<ArtifactRow>,
    /// How each vault fared.
    pub vaults: Vec<VaultRow>,
    /// Plaintext read, in bytes.
    pub bytes_read: u64,
    /// The most memory this process has used, in bytes.
    pub peak_memory_bytes: u64,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// How one source fared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether everything it should yield was read.
    pub ok: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// One artifact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ArtifactRow {
    /// Its name.
    pub name: String,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Number of segments.
    pub segments: usize,
    /// Whether a guard must clear it before a node may start on it.
    pub toxic: bool,
    /// How a live database's lock was held while it was copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockRow>,
}

/// How a live database's lock was held.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LockRow {
    /// Longest single hold, in milliseconds.
    pub longest_hold_ms: u64,
    /// How often a writer made the copy start over.
    pub restarts: u64,
}

/// How one vault fared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VaultRow {
    /// Its name.
    pub name: String,
    /// Whether the snapshot is committed there.
    pub whole: bool,
    /// Objects put in this run.
    pub objects_shipped: u64,
    /// Bytes put in this run.
    pub bytes_shipped: u64,
    /// What becomes of a put there where there is an object already, with this host's credentials, as last tried.
    pub write_once: WriteOnce,
    /// When that was tried, UTC; absent when it never was.
    pub probed: Option<String>,
}

/// The row of an artifact; a live database's copy tells how its lock was held.
pub(super) fn artifact_row(artifact: &Artifact, notes: &[ArtifactNotes]) -> ArtifactRow {
    let facts = notes.iter().find(|note| note.name == artifact.name).map(|note| &note.facts);
    let lock = match facts {
        Some(Facts::ClnWallet(wallet)) => Some(&wallet.copy),
        Some(Facts::Sqlite(sqlite)) => Some(&sqlite.copy),
        _ => None,
    };
    ArtifactRow {
        name: artifact.name.to_string(),
        length: artifact.length,
        segments: artifact.segments.len(),
        toxic: artifact.toxic,
        lock: lock.map(|copy| LockRow { longest_hold_ms: copy.longest_hold_ms, restarts: u64::from(copy.restarts) }),
    }
}

/// The rows of the vaults that were to be written; `whole` names those that have the snapshot.
pub(super) fn vault_rows(
    written: &[&VaultPolicy],
    targets: &[Target<'_>],
    whole: &[String],
    stores: &Stores,
) -> Vec<VaultRow> {
    let row = |policy: &&VaultPolicy| {
        let target = targets.iter().find(|target| target.vault.name() == &policy.name);
        let (objects_shipped, bytes_shipped) = target.map_or((0, 0), Target::shipped);
        let seen = target.and_then(|target| stores.seen(&target.id));
        VaultRow {
            name: policy.name.to_string(),
            whole: whole.iter().any(|name| name == policy.name.as_str()),
            objects_shipped,
            bytes_shipped,
            write_once: seen.map_or(WriteOnce::Unknown, |seen| seen.write_once),
            probed: seen.map(|seen| seen.at.to_string()),
        }
    };
    written.iter().map(row).collect()
}
