//! Why a database could not be brought back, and what to do about it. Whatever failed, the database that was in the
//! place is still there.

use super::super::PostgresError;
use super::super::archive::ReadError as DumpError;
use super::super::prove::Difference;
use super::LeftOut;
use tokio_postgres::error::SqlState;

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
    /// The server refused what rows cannot do without.
    #[error("database {database} cannot be given back: {what} was refused{}", because(before.as_ref()))]
    Refused {
        /// The database.
        database: String,
        /// What was refused.
        what: String,
        /// What failed before it, and is likely why.
        before: Option<LeftOut>,
        /// Why.
        #[source]
        source: PostgresError,
    },
    /// The dump could not be read to its end.
    #[error("the dump for database {database} could not be read to its end")]
    Dump {
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: DumpError,
    },
    /// No session may run what the dump brings.
    #[error(
        "role {role} can come to a superuser's rights and may not make a role that cannot: what a dump brings must not run as it"
    )]
    NoHand {
        /// The role.
        role: String,
    },
    /// The server does not let the role in that runs what a dump brings.
    #[error("the server does not let the role {role} in, which runs what a dump brings")]
    NotLetIn {
        /// The role.
        role: String,
        /// What it said.
        #[source]
        source: PostgresError,
    },
    /// A role of that name is somebody's.
    #[error("there is a role {role} that this program did not make")]
    RoleTaken {
        /// The role.
        role: String,
    },
    /// Sessions that run what a dump brings do not end.
    #[error("sessions of the role {role}, which runs what a dump brings, do not end")]
    StillOpen {
        /// The role.
        role: String,
    },
    /// Another restore is at work on the server.
    #[error("another restore is at work on this PostgreSQL server")]
    Busy,
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
    /// An extension that only a superuser may make.
    #[error("the extension {extension} may be made by a superuser only, and {role} is none")]
    Untrusted {
        /// The extension.
        extension: String,
        /// The role that we came as.
        role: String,
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
    #[error("database {database} holds a node's channel state ({}), \
        and a node started on an old one loses its channels", tables.join(", "))]
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
            Self::TooOld { dumped, .. } => {
                format!("install PostgreSQL {dumped} or newer (Debian: postgresql-{dumped})")
            }
            Self::Refused { source, .. } => return refused_hint(source),
            Self::NoHand { role } => format!(
                "restore as a superuser, \
                or as a role with CREATEROLE: ALTER ROLE \"{role}\" CREATEROLE CREATEDB;"
            ),
            Self::NotLetIn { role, .. } => format!(
                "put the line `local all {role} scram-sha-256` first into pg_hba.conf (NixOS: services.postgresql.authentication = \
                 lib.mkBefore \"local all {role} scram-sha-256\";), reload PostgreSQL, run the same command again, \
                     and take the line \
                 out afterwards"
            ),
            Self::RoleTaken { role } => {
                format!("rename it for as long as the restore takes: ALTER ROLE \"{role}\" RENAME TO \"{role}_kept\";")
            }
            Self::StillOpen { role } => format!(
                "as a superuser: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'; then run \
                 the same command again"
            ),
            Self::Busy => "wait until it has ended, then run the same command again".to_owned(),
            Self::NoOwner { .. } => "restore the roles (globals.sql) first".to_owned(),
            Self::NoExtension { extension } => format!("install the package that brings {extension}"),
            Self::Untrusted { .. } => "restore with the URL of a superuser of this server, such as postgres".to_owned(),
            Self::NotEmpty { database } => format!("see what is in {database}, and drop or rename it by hand"),
            Self::Differs { .. } => "nothing was swapped: take an older snapshot, or another vault, \
                    and run `verify --depth meaning`"
                .to_owned(),
            Self::Toxic { .. } => "keep it in quarantine: `extract` to a file with TOXIC in its name; \
                    the node comes back by its seed and \
                 static channel backup"
                .to_owned(),
            Self::InUse { .. } => "stop the services that use it (`systemctl stop btcpayserver nbxplorer`), \
                    then run the same command again"
                .to_owned(),
            Self::Taken { database } => format!("rename or drop {database} when nobody needs it any more"),
            Self::BadRoles { .. } => "restore from another vault or an older snapshot".to_owned(),
            Self::Interrupted { .. } => "run the same command again; it goes on".to_owned(),
            Self::Talk(error) => return error.hint(),
            _ => return None,
        };
        Some(text)
    }
}

fn because(before: Option<&LeftOut>) -> String {
    before.map(|before| format!(" (before that, {before})")).unwrap_or_default()
}

/// Codes by which a server says that it or its machine lacks something.
const LACKS: [SqlState; 6] = [
    SqlState::FEATURE_NOT_SUPPORTED,
    SqlState::UNDEFINED_FILE,
    SqlState::UNDEFINED_OBJECT,
    SqlState::INVALID_PARAMETER_VALUE,
    SqlState::INSUFFICIENT_PRIVILEGE,
    SqlState::CONFIG_FILE_ERROR,
];

impl RestoreError {
    /// Whether somebody asked to stop.
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::Talk(PostgresError::Interrupted { .. }))
    }

    /// Whether the dump itself is at fault, and not what was to take it in.
    pub fn is_of_the_dump(&self) -> bool {
        matches!(self, Self::Dump { source: DumpError::Archive(_), .. } | Self::Differs { .. })
    }
}

fn refused_hint(error: &PostgresError) -> Option<String> {
    let PostgresError::Query { source, .. } = error else { return error.hint() };
    if let Some(hint) = source.hint() {
        return Some(hint.to_owned());
    }
    match source.code() {
        Some(code) if *code == SqlState::DISK_FULL => {
            Some("the server's disk is full; free space first, then run the same command again".to_owned())
        }
        Some(code) if LACKS.contains(code) => Some(
            "this server or its machine lacks what the message names (an extension, a collation, a language, a right): \
             install or grant it, or restore to a server that has it"
                .to_owned(),
        ),
        _ if source.is_closed() => Some("see PostgreSQL's own log, then run the same command again".to_owned()),
        _ => Some(
            "running it again changes nothing: the rows are whole in the dump. `relay-backup extract --artifact NAME.dump \
             --to FILE`, then `pg_restore` into an empty database by hand, without what is refused"
                .to_owned(),
        ),
    }
}
