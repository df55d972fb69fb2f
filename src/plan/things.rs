//! The things that actions speak of: places, owners, servers, what is done to a unit, and what is waited for.

use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where one Core Lightning node keeps what a restore must know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LightningPlace {
    /// lightningd's base folder.
    pub lightning_dir: PathBuf,
    /// The network's folder in it.
    pub network_dir: PathBuf,
    /// The channel database.
    pub wallet: PathBuf,
    /// The pid file, which lightningd locks for life.
    pub pid_file: PathBuf,
    /// The RPC socket.
    pub rpc_socket: PathBuf,
}

impl LightningPlace {
    /// Whether a path lies in one of the node's folders, or beside its channel database.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.lightning_dir)
            || path.starts_with(&self.network_dir)
            || self.wallet.parent().is_some_and(|folder| path.parent() == Some(folder))
    }
}

/// Whose a file is. The name decides; the number is for a host that does not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Owner {
    /// Owner's name.
    pub user: Option<String>,
    /// Owner's number.
    pub uid: u32,
    /// Group's name.
    pub group: Option<String>,
    /// Group's number.
    pub gid: u32,
}

/// A PostgreSQL server, as a policy names it: without a password.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ServerUrl(pub String);

/// What several paths are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Together {
    /// Nothing: each by itself.
    Separate,
    /// One database with its side files, and a mirror before it: they go together or not at all.
    Database,
}

/// What becomes of a database that has the name already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "swap", rename_all = "kebab-case")]
pub enum Swap {
    /// There must be none, or an empty one.
    IntoEmpty,
    /// It keeps its rows under another name.
    KeepOld {
        /// That name.
        aside: String,
    },
}

/// What is done to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitChange {
    /// It is stopped.
    Stop,
    /// It is started.
    Start,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "condition", rename_all = "kebab-case")]
pub enum Condition {
    /// The unit runs.
    UnitActive {
        /// Its name.
        unit: String,
    },
    /// The unit has ended.
    UnitInactive {
        /// Its name.
        unit: String,
    },
    /// The server takes connections.
    PostgresAnswers {
        /// The server.
        server: ServerUrl,
    },
}
