//! Why a Core Lightning node's files could not be read, and what to do about it.

use super::hsm_secret::SecretError;
use crate::base::fsio::FileError;
use crate::base::ids::BadId;
use crate::sources::sqlite::{NodeSoftware, SqliteError};
use std::io;
use std::path::PathBuf;

/// Why a Core Lightning node's files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClnError {
    /// There is no such folder.
    #[error("cannot enter {}, the folder of lightningd's network {network:?}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The network it is for.
        network: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read a file of the node")]
    File(#[source] FileError),
    /// The secret is in no valid form.
    #[error("{} is no valid hsm_secret", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: SecretError,
    },
    /// The wallet could not be copied or read.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The database is another program's.
    #[error("{} is not Core Lightning's database{}", path.display(), owner.map(|owner| format!(" but {owner}'s")).unwrap_or_default())]
    NotCln {
        /// The database.
        path: PathBuf,
        /// Whose it is, where that can be told.
        owner: Option<NodeSoftware>,
    },
    /// The database is the copy that lightningd itself keeps.
    #[error("{} is the mirror copy in lightningd's wallet option", path.display())]
    Mirror {
        /// The mirror.
        path: PathBuf,
        /// The database it mirrors.
        main: PathBuf,
    },
    /// lightningd's configuration puts the database elsewhere.
    #[error("{} is not the database lightningd uses: {} says {configured}", path.display(), config.display())]
    Elsewhere {
        /// The database of the policy.
        path: PathBuf,
        /// The configuration file.
        config: PathBuf,
        /// What it says, without credentials.
        configured: String,
    },
    /// A part of lightningd's configuration cannot be read, and may say which database is in use.
    #[error("which database lightningd uses cannot be told: its configuration {} cannot be read", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: FileError,
    },
    /// lightningd's configuration cannot be followed.
    #[error("which database lightningd uses cannot be told: {}: {why}", path.display())]
    Untold {
        /// The configuration file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// lightningd runs and has another database open.
    #[error("{} is not the database lightningd uses: process {process} does not have it open", path.display())]
    NotOpen {
        /// The database of the policy.
        path: PathBuf,
        /// lightningd's process.
        process: u32,
    },
    /// No random salt could be had.
    #[error("cannot attest {}: no random bytes", path.display())]
    Random {
        /// The secret.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A name that no artifact can have.
    #[error("the source's name gives no artifact name")]
    Name(#[source] BadId),
    /// Somebody asked to stop.
    #[error("the backup of the node was interrupted")]
    Interrupted,
}

impl ClnError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Folder { path, network, .. } => format!(
                "set lightning_dir to the folder that holds {network:?}, check the network's name, and let the user \
                 this program runs as enter {}",
                path.display()
            ),
            Self::File(error) => return error.hint(),
            Self::Secret { .. } => "do not change the file; compare it with the backups, whose first copy is the one \
                                    that was attested"
                .to_owned(),
            Self::Sqlite(error) => return error.hint(),
            Self::NotCln { .. } => "set wallet to the file that lightningd's own wallet option names, or use a source \
                                    of kind \"sqlite\" for another program's database"
                .to_owned(),
            Self::Mirror { main, .. } => format!(
                "set wallet to {}: opening the mirror while lightningd runs can end lightningd, which waits for no lock \
                 on it",
                main.display()
            ),
            Self::Elsewhere { .. } => "set wallet in the policy to the file that lightningd uses; for a PostgreSQL \
                                       wallet use a source of kind \"postgres\""
                .to_owned(),
            Self::Config { .. } | Self::Untold { .. } => "mend the configuration that is named, or let the user this \
                                                          program runs as read it; nothing of the wallet was taken"
                .to_owned(),
            Self::NotOpen { process, .. } => format!(
                "look which database it has open (`ls -l /proc/{process}/fd`) and set wallet in the policy to that file"
            ),
            Self::Random { .. } | Self::Name(_) | Self::Interrupted => return None,
        })
    }
}
