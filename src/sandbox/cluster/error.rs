//! Why a scratch cluster could not be made or filled, and what to do about it.

use crate::base::exec::ExecError;
use crate::base::fsio::FileError;
use crate::sources::postgres::PostgresError;
use crate::sources::postgres::restore::RestoreError;
use std::path::PathBuf;

/// Why a scratch cluster could not be made or filled.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// PostgreSQL's server programs are not installed.
    #[error("a scratch PostgreSQL cluster needs the server's programs, which are not installed")]
    NoServer {
        /// Where they were looked for.
        #[source]
        source: ExecError,
    },
    /// Run as root without a user to run the server as.
    #[error("PostgreSQL refuses to run as root, and there is neither a user `nobody` nor `postgres`")]
    NoUser,
    /// The server's user cannot walk to the folder.
    #[error("the user {user} cannot reach {}: {} lets nobody else through", folder.display(), closed.display())]
    Closed {
        /// The user.
        user: String,
        /// Where the cluster was to be made.
        folder: PathBuf,
        /// The folder on the way that is closed.
        closed: PathBuf,
    },
    /// Its folder could not be made.
    #[error("cannot make the folder of a scratch cluster")]
    Folder(#[source] FileError),
    /// `initdb` failed.
    #[error("cannot make a scratch cluster")]
    Initdb {
        /// Why.
        #[source]
        source: ExecError,
    },
    /// The server did not start.
    #[error("the scratch cluster's server did not start")]
    Start {
        /// Why.
        #[source]
        source: ExecError,
    },
    /// The server refused a query or a connection.
    #[error("the scratch cluster refused")]
    Talk {
        /// Why.
        #[source]
        source: PostgresError,
    },
    /// A database could not be made or filled.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl ClusterError {
    /// Whether the dump that was tried out is at fault.
    pub fn is_of_the_dump(&self) -> bool {
        matches!(self, Self::Restore(error) if error.is_of_the_dump())
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoServer { .. } => Some(
                "install the package `postgresql` (Debian: apt install postgresql; NixOS: pkgs.postgresql)".to_owned(),
            ),
            Self::NoUser => Some("run as an ordinary user".to_owned()),
            Self::Closed { closed, .. } => Some(format!("chmod o+x {}, or choose another folder", closed.display())),
            Self::Talk { source } => source.hint(),
            Self::Restore(error) => error.hint(),
            _ => None,
        }
    }
}
