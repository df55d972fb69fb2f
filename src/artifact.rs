//! What an artifact is: its name, kind, codec and whether it is toxic. Words shared by sources, manifest and engine.

pub mod channels;

use crate::base::ids::ArtifactName;
use serde::{Deserialize, Serialize};

/// How a segment's plaintext is compressed before it is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Stored as it is; for secrets of a few bytes.
    None,
    /// One gzip member per segment; any rescue image can open it.
    Gzip,
    /// One zstd frame per segment.
    Zstd,
}

impl Codec {
    /// The word used in policy and manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// What an artifact holds, and so how it is checked and restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// Core Lightning's `hsm_secret`, byte for byte.
    HsmSecret,
    /// Core Lightning's `emergency.recover`, byte for byte.
    EmergencyRecover,
    /// Core Lightning's wallet database, copied by SQLite's online backup API.
    ClnWallet,
    /// LND's `channel.backup`, byte for byte.
    LndChannelBackup,
    /// A SQLite database that is not a node's, copied by SQLite's online backup API.
    Sqlite,
    /// A tar of files.
    Tar,
    /// A `pg_dump -Fc --compress=0` of one database.
    PostgresDump,
    /// A `pg_dumpall --globals-only`: roles and grants.
    PostgresGlobals,
}

/// Whether an artifact may hold channel state that is older than what the peer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Toxicity {
    /// Safe to place where it came from.
    Harmless,
    /// Starting a node on it can lose every channel; a guard must clear it first.
    Toxic,
}

/// What a source says of an artifact before it writes the first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactSpec {
    /// `<source>/<what>`.
    pub name: ArtifactName,
    /// What it holds.
    pub kind: ArtifactKind,
    /// How its segments are compressed.
    pub codec: Codec,
    /// Whether a guard must clear it before a node may start on it.
    pub toxicity: Toxicity,
}
