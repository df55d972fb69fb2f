//! Why a scratch cluster could not be made or filled, and what to do about it.

use crate::base::exec::ExecError;
use crate::base::fsio::FileError;
use crate::sources::postgres::PostgresError;
use std::io;
use std::path::PathBuf;

/// Why a scratch cluster could not be made or filled.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// PostgreSQL's server programs are not installed.
    #[error("a scratch PostgreSQL cluster needs the server's programs, which are not installed")]
    NoServer {
        /// Where they were looked for.
        #[source]
        source: ExecError,
    },
    /// Run as root without a user to run the server as.
    #[error("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`")]
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
    /// The dump comes from a newer server.
    #[error("the dump comes from PostgreSQL {dumped}, the scratch cluster is PostgreSQL {here}: it cannot take it in")]
    TooOld {
        /// Major version of the dump's server.
        dumped: u32,
        /// Major version of the cluster.
        here: u32,
    },
    /// `pg_restore` failed; the database is as empty as before.
    #[error("restoring into database {database} failed")]
    Restore {
        /// The database.
        database: String,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// The dump could not be read to its end; the database is as empty as before.
    #[error("the dump for database {database} could not be read to its end")]
    Read {
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ClusterError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoServer { .. } => Some(
                "install the package `postgresql` (Debian: apt install postgresql; NixOS: pkgs.postgresql)".to_owned(),
            ),
            Self::NoUser => Some("run as an ordinary user".to_owned()),
            Self::Closed { closed, .. } => Some(format!("chmod o+x {}, or choose another folder", closed.display())),
            Self::TooOld { dumped, .. } => {
                Some(format!("install PostgreSQL {dumped} or newer (Debian: postgresql-{dumped})"))
            }
            Self::Talk { source } => source.hint(),
            Self::Restore { source: ExecError::Failed { stderr, .. }, .. } => restore_hint(stderr),
            _ => None,
        }
    }
}

fn restore_hint(stderr: &str) -> Option<String> {
    let line = |part: &str| stderr.lines().find(|line| line.contains(part)).map(str::trim);
    if let Some(line) = line("role \"").filter(|line| line.contains("does not exist")) {
        return Some(format!(
            "the dump names a role that is not there ({line}); restore the roles (globals.sql) first"
        ));
    }
    if let Some(line) = line("extension").filter(|line| line.contains("control file") || line.contains("not available"))
    {
        return Some(format!("the dump needs an extension that is not installed here ({line}); install its package"));
    }
    stderr.contains("unsupported version").then(|| "install PostgreSQL's client programs of a newer version".to_owned())
}
