//! Why a database could not be brought back, and what to do about it. Whatever failed, the database that was in the
//! place is still there.

use super::super::PostgresError;
use super::super::prove::Difference;
use crate::base::exec::ExecError;
use std::io;

/// Why a database could not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The dump comes from a newer server.
    #[error("the dump comes from PostgreSQL {dumped}, the server is PostgreSQL {here}: it cannot take it in")]
    TooOld {
        /// Major version of the dump's server.
        dumped: u32,
        /// Major version of the server.
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
    /// The owner is not there.
    #[error("the role {role}, which would own the database, is not there")]
    NoOwner {
        /// The role.
        role: String,
    },
    /// An extension is not installed.
    #[error("the database needs the extension {extension}, which is not installed on this server")]
    NoExtension {
        /// The extension.
        extension: String,
    },
    /// An extension that the owner may not make.
    #[error("the extension {extension} may be made by a superuser only, and {owner} is none")]
    Untrusted {
        /// The extension.
        extension: String,
        /// The owner.
        owner: String,
    },
    /// The database that is to be filled or dropped is not one that was just made.
    #[error("database {database} is not an empty one made for this restore")]
    NotEmpty {
        /// The database.
        database: String,
    },
    /// The restored database is not what was dumped.
    #[error("the restored copy of {database} is not what was dumped: {}", first(differences))]
    Differs {
        /// The database.
        database: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// It holds a node's channel state.
    #[error("database {database} holds a node's channel state ({}), and a node started on an old one loses its channels", tables.join(", "))]
    Toxic {
        /// The database.
        database: String,
        /// Its tables of that kind.
        tables: Vec<String>,
    },
    /// The proof is of another database.
    #[error("what was proved is not what would be put in the place of {database}")]
    NotProved {
        /// The database.
        database: String,
    },
    /// Somebody is connected.
    #[error("database {database} is in use: {}", sessions.join(", "))]
    InUse {
        /// The database.
        database: String,
        /// Who is connected.
        sessions: Vec<String>,
    },
    /// The name for the old database is taken.
    #[error("there is a database {database} already, from an earlier restore of this snapshot")]
    Taken {
        /// Its name.
        database: String,
    },
    /// The script of roles is not one.
    #[error("the script of roles cannot be understood: {what}")]
    BadRoles {
        /// What is wrong.
        what: &'static str,
    },
    /// The tables are not BTCPay Server's.
    #[error("database {database} has no table {table} of BTCPay Server's")]
    NotBtcpay {
        /// The database.
        database: String,
        /// The table that is missing.
        table: &'static str,
    },
    /// Somebody asked to stop.
    #[error("interrupted while database {database} was restored")]
    Interrupted {
        /// The database.
        database: String,
    },
    /// The server refused.
    #[error(transparent)]
    Talk(#[from] PostgresError),
}

fn first(differences: &[Difference]) -> String {
    match differences {
        [] => "nothing is named".to_owned(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one}, and {} more", rest.len()),
    }
}

impl RestoreError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::TooOld { dumped, .. } => format!("install PostgreSQL {dumped} or newer (Debian: postgresql-{dumped})"),
            Self::Restore { source: ExecError::Failed { stderr, .. }, .. } => return restore_hint(stderr),
            Self::NoOwner { .. } => "restore the roles (globals.sql) first".to_owned(),
            Self::NoExtension { extension } => format!("install the package that brings {extension}"),
            Self::Untrusted { extension, owner } => format!(
                "ALTER ROLE \"{owner}\" SUPERUSER; for as long as the restore takes, or leave {extension} out of the database"
            ),
            Self::NotEmpty { database } => format!("see what is in {database}, and drop or rename it by hand"),
            Self::Differs { .. } => {
                "nothing was swapped: take an older snapshot, or another vault, and run `verify --depth meaning`".to_owned()
            }
            Self::Toxic { .. } => {
                "keep it in quarantine: `extract` to a file with TOXIC in its name; the node comes back by its seed and \
                 static channel backup"
                    .to_owned()
            }
            Self::InUse { .. } => {
                "stop the services that use it (`systemctl stop btcpayserver nbxplorer`), then run the same command again"
                    .to_owned()
            }
            Self::Taken { database } => format!("rename or drop {database} when nobody needs it any more"),
            Self::BadRoles { .. } => "restore from another vault or an older snapshot".to_owned(),
            Self::Interrupted { .. } => "run the same command again; it goes on".to_owned(),
            Self::Talk(error) => return error.hint(),
            _ => return None,
        };
        Some(text)
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
    if stderr.contains("No space left") {
        return Some("the server's disk is full; free space first, then run the same command again".to_owned());
    }
    stderr.contains("unsupported version").then(|| "install PostgreSQL's client programs of a newer version".to_owned())
}
