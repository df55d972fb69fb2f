//! The policy: what is backed up, to where, for whom, how long. Text is parsed once into these checked types;
//! nothing below this module sees the TOML.

pub(crate) mod check;
mod error;
pub(crate) mod shape;
mod show;
mod source;
mod url;
pub(crate) mod values;
mod wire;

pub use check::{load, parse};
pub use error::{PolicyError, Problem};
pub use show::show;
pub use wire::schema;

use crate::artifact::Codec;
use crate::base::ids::{NodeName, SourceName, VaultName};
use std::path::PathBuf;
use std::time::Duration;

/// A checked policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file it came from, for messages.
    pub file: PathBuf,
    /// The name of the protected host.
    pub node: NodeName,
    /// Where signing key, dedup key, epoch, catalog and lock live.
    pub state_dir: PathBuf,
    /// Whose keys.
    pub keys: Keys,
    /// What must hold.
    pub objectives: Objectives,
    /// Where to; at least one.
    pub vaults: Vec<VaultPolicy>,
    /// How.
    pub backup: BackupPolicy,
    /// What; at least one, names unique.
    pub sources: Vec<SourcePolicy>,
    /// How long.
    pub retention: Retention,
    /// The text as it was read, which holds no credential (they live in files it names): kept in the sealed notes.
    pub text: String,
}

impl Policy {
    /// The vaults whose copies count for `copies_required`: those that `backup` writes, and of these only the offsite
    /// ones where any is marked so.
    pub fn vaults_that_count(&self) -> Vec<&VaultPolicy> {
        let written = || self.vaults.iter().filter(|vault| vault.via == Via::Backup);
        let offsite: Vec<_> = written().filter(|vault| vault.offsite).collect();
        if offsite.is_empty() { written().collect() } else { offsite }
    }
}

/// Public keys of the policy.
#[derive(Clone, Debug)]
pub struct Keys {
    /// age recipients as text, X25519, ssh-ed25519 or plugin; at least one, no duplicates. Checked for form here,
    /// turned into recipients by `seal`. After `parse` those of `recipients_file` are still missing; `load` adds them.
    pub recipients: Vec<String>,
    /// A file with further recipients.
    pub recipients_file: Option<PathBuf>,
    /// Signing keys that count besides this host's own.
    pub trusted: Vec<TrustedKey>,
}

/// A signing key that is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// What it may sign.
    pub role: KeyRole,
    /// The minisign public key, base64, as `minisign` prints it (`RW…`).
    pub key: String,
}

/// What a signing key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// Manifests.
    Node,
    /// Drill reports.
    Drill,
    /// Prune records.
    Pruner,
}

impl KeyRole {
    /// The word used in the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Drill => "drill",
            Self::Pruner => "pruner",
        }
    }
}

/// What must hold.
#[derive(Clone, Debug)]
pub struct Objectives {
    /// How old the newest complete snapshot may be.
    pub rpo: Duration,
    /// How long until secrets, databases and files are back.
    pub rto_data: Duration,
    /// How long until payments flow again; an estimate.
    pub rto_service: Duration,
    /// How often a drill is due.
    pub drill_every: Duration,
}

/// One vault of the policy.
#[derive(Clone, Debug)]
pub struct VaultPolicy {
    /// Its name in messages and `--vault`.
    pub name: VaultName,
    /// Where it is.
    pub url: VaultUrl,
    /// TOML file with `access_key_id` and `secret_access_key`.
    pub credentials_file: Option<PathBuf>,
    /// Whether it is away from the host; where one is, RPO and copies count only such.
    pub offsite: bool,
    /// Who writes it.
    pub via: Via,
    /// Most bytes per second to send.
    pub bandwidth: Option<u64>,
}

/// Who writes a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// `backup`.
    Backup,
    /// `sync`, from another vault.
    Sync,
}

/// Where a vault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultUrl {
    /// `fs:///absolute/path`.
    Fs(PathBuf),
    /// `s3://bucket/prefix?endpoint=…&region=…`.
    S3 {
        /// Bucket.
        bucket: String,
        /// Prefix inside it, without slashes at its ends; may be empty.
        prefix: String,
        /// Endpoint URL, when it is not Amazon's.
        endpoint: Option<String>,
        /// Region.
        region: Option<String>,
    },
    /// `azblob://…`, `gcs://…`, `webdav://…`.
    Service(ServiceUrl),
}

/// Where a vault in one of the further kinds of store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl {
    /// The kind of store.
    pub service: Service,
    /// Container, bucket, or host with its port.
    pub place: String,
    /// Prefix inside it, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Endpoint URL, where the kind has one.
    pub endpoint: Option<String>,
}

/// A kind of store that a program reaches only when it was built with the cargo feature of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Azure Blob Storage.
    Azblob,
    /// Google Cloud Storage.
    Gcs,
    /// A WebDAV server, over https.
    Webdav,
}

impl Service {
    /// Its URL's scheme, which is the feature's name as well.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Azblob => "azblob",
            Self::Gcs => "gcs",
            Self::Webdav => "webdav",
        }
    }

    /// Whether this program was built with it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Azblob => cfg!(feature = "azblob"),
            Self::Gcs => cfg!(feature = "gcs"),
            Self::Webdav => cfg!(feature = "webdav"),
        }
    }
}

impl VaultUrl {
    /// Parses a vault's URL, with the rules of the policy's `url`.
    /// The error is a sentence that says what is wrong and what to write instead; it quotes no credential.
    pub fn parse(text: &str) -> Result<Self, String> {
        url::vault(text).map_err(|bad| format!("the url {}; {}", bad.what, bad.remedy))
    }
}

/// How a backup runs.
#[derive(Clone, Debug)]
pub struct BackupPolicy {
    /// How many vaults must be whole for a run to count.
    pub copies_required: usize,
    /// Bytes of memory for the pipeline.
    pub memory: u64,
    /// Longest hold of a live database's lock.
    pub lock_budget: Duration,
    /// Longest hold where a busy writer keeps restarting the copy.
    pub lock_budget_max: Duration,
}

/// One source of the policy.
#[derive(Clone, Debug)]
pub struct SourcePolicy {
    /// Its name: the first part of its artifacts' names.
    pub name: SourceName,
    /// What it is.
    pub kind: SourceKind,
    /// Another codec than the kind's own.
    pub codec: Option<Codec>,
}

/// What a source is.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Core Lightning.
    Cln {
        /// `lightning-dir`, the base; the network's folder lies in it.
        lightning_dir: PathBuf,
        /// `bitcoin`, `testnet`, `testnet4`, `signet` or `regtest`: the name of that folder.
        network: String,
        /// Where lightningd's `wallet=` option puts the database elsewhere.
        wallet: Option<PathBuf>,
    },
    /// PostgreSQL databases of one cluster.
    Postgres {
        /// A libpq connection URL without a password.
        url: String,
        /// A libpq passfile, where the socket does not do.
        passfile: Option<PathBuf>,
        /// Databases, in the policy's order; at least one.
        databases: Vec<String>,
    },
    /// LND: `channel.backup` and the wallet files the policy names; never a channel database.
    Lnd {
        /// `lnddir`, the base.
        lnd_dir: PathBuf,
        /// `mainnet`, `testnet`, `testnet4`, `signet` or `regtest`: the folder below `data/chain/bitcoin`.
        network: String,
        /// Further files: seed, password, TLS pair, macaroons. Absolute paths and globs.
        paths: Vec<String>,
    },
    /// Any other SQLite database, by the online backup API.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// Files.
    Files {
        /// Absolute paths and globs; at least one.
        paths: Vec<String>,
        /// Absolute paths and globs left out.
        exclude: Vec<String>,
    },
}

impl SourceKind {
    /// The word used in the policy.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Cln { .. } => "cln",
            Self::Postgres { .. } => "postgres",
            Self::Lnd { .. } => "lnd",
            Self::Sqlite { .. } => "sqlite",
            Self::Files { .. } => "files",
        }
    }
}

/// How long snapshots are kept.
#[derive(Clone, Debug)]
pub struct Retention {
    /// The newest ones.
    pub keep_last: u32,
    /// Days with their newest kept.
    pub keep_daily: u32,
    /// Weeks.
    pub keep_weekly: u32,
    /// Months.
    pub keep_monthly: u32,
    /// Years.
    pub keep_yearly: u32,
    /// Triggers that keep a snapshot.
    pub keep_triggers: Vec<String>,
    /// How long objects that no manifest names are kept.
    pub grace: Duration,
}

#[cfg(test)]
mod tests;
