//! What was learned about artifacts while they were read: the material of the sealed notes, of `verify --depth meaning`
//! and of guards. Plain data; no I/O. Secrets never appear here.

pub mod cln;
pub mod files;
pub mod lnd;
pub mod postgres;
pub mod sqlite;
mod toxicity;

pub use toxicity::{node_tables, toxicity};

use serde::{Deserialize, Serialize};

/// What is known of one artifact, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Facts {
    /// Of `hsm_secret`.
    HsmSecret(cln::SecretFacts),
    /// Of `emergency.recover`.
    EmergencyRecover(cln::EmergencyFacts),
    /// Of `lightningd.sqlite3`.
    ClnWallet(Box<cln::WalletFacts>),
    /// Of a Core Lightning node's small files: configuration and TLS keys, in a tar.
    ClnExtras(cln::ExtrasFacts),
    /// Of LND's `channel.backup`.
    LndChannelBackup(lnd::ChannelBackupFacts),
    /// Of a SQLite database that is not a node's.
    Sqlite(sqlite::SqliteFacts),
    /// Of a tar of files.
    Tar(files::TarFacts),
    /// Of one database's dump.
    PostgresDump(Box<postgres::DatabaseFacts>),
    /// Of the cluster's roles and grants.
    PostgresGlobals(postgres::GlobalsFacts),
}
