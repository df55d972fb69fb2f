//! Why PostgreSQL could not be read, on which thing, and what to do about it. No error holds a password.

use super::archive::ArchiveError;
use super::said::Said;
use crate::base::exec::ExecError;
use crate::base::fsio::FileError;
use crate::base::ids::BadId;
use std::io;
use tokio_postgres::error::SqlState;

/// Why PostgreSQL could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The URL is not one.
    #[error("the PostgreSQL URL cannot be read")]
    Url {
        /// Why not.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The URL holds a password.
    #[error("the PostgreSQL URL holds a password, which would be seen by others")]
    PasswordInUrl,
    /// The URL names several servers.
    #[error("the PostgreSQL URL names several hosts; a backup reads one server")]
    SeveralHosts,
    /// The server is elsewhere.
    #[error("the PostgreSQL server {host} is not on this machine: password and data would cross the network in clear")]
    RemoteHost {
        /// The host as the URL gives it.
        host: String,
    },
    /// No user is named and this process has none.
    #[error("the PostgreSQL URL names no user and the user this program runs as has no name")]
    NoUser,
    /// The password file cannot be used.
    #[error("the PostgreSQL password file cannot be used")]
    Passfile(#[source] FileError),
    /// No runtime for the connection.
    #[error("cannot prepare a connection to PostgreSQL")]
    Runtime {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server does not let us in, or is not there.
    #[error("cannot connect to database {database} at {place}")]
    Connect {
        /// The database.
        database: String,
        /// Host, port and role.
        place: String,
        /// Why not.
        #[source]
        source: Said,
    },
    /// A query failed.
    #[error("cannot {doing} in database {database}")]
    Query {
        /// The database.
        database: String,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: Said,
    },
    /// Somebody asked to stop while a server had not answered.
    #[error("interrupted while the server of database {database} was waited for")]
    Interrupted {
        /// The database.
        database: String,
    },
    /// A program of PostgreSQL's is missing or does not run.
    #[error("a program of PostgreSQL's cannot be used")]
    Program(#[source] ExecError),
    /// A program is older than the server.
    #[error("{program} is of version {major}, the server of version {server_major}: it cannot read a newer server")]
    ProgramTooOld {
        /// The program.
        program: &'static str,
        /// Its major version.
        major: u32,
        /// The server's major version.
        server_major: u32,
    },
    /// A dump ended with a failure.
    #[error("dumping {subject} failed")]
    Dump {
        /// Database or `roles`.
        subject: String,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// Its output could not be read.
    #[error("the dump of {subject} cannot be read")]
    Read {
        /// Database or `roles`.
        subject: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The dump is not whole.
    #[error("the dump of database {database} is not whole")]
    Archive {
        /// The database.
        database: String,
        /// What is wrong.
        #[source]
        source: ArchiveError,
    },
    /// Tables come and go faster than they can be locked.
    #[error("the tables of database {database} do not stand still: {table} came or went while the others were locked")]
    Restless {
        /// The database.
        database: String,
        /// The table.
        table: String,
    },
    /// The dump lacks tables that the server has.
    #[error("the dump of database {database} lacks {count} tables that the server has, first of all {first}")]
    TablesMissing {
        /// The database.
        database: String,
        /// The first.
        first: String,
        /// How many.
        count: usize,
    },
    /// The roles' dump is empty or breaks off.
    #[error("the dump of the roles is not whole: {what}")]
    Globals {
        /// What is wrong.
        what: &'static str,
    },
    /// An artifact cannot be named.
    #[error("database {database:?} gives no valid artifact name")]
    Name {
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: BadId,
    },
}

impl PostgresError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::PasswordInUrl => {
                Some("take it out of the URL and put it into a file of mode 0600 named by `passfile`".to_owned())
            }
            Self::SeveralHosts => Some("name one host; make one source for each server".to_owned()),
            Self::RemoteHost { .. } => Some("run relay-backup on the database's host, \
                or use its unix socket".to_owned()),
            Self::NoUser => Some("name the user: postgresql://backup@/postgres?host=/run/postgresql".to_owned()),
            Self::Passfile(error) => error.hint(),
            Self::Connect { source, database, .. } => connect_hint(source, database),
            Self::Query { source, .. } if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Some(grant_hint())
            }
            Self::Program(ExecError::NotFound { .. }) => Some(
                "install PostgreSQL's client programs: Debian `postgresql-client`, NixOS `environment.systemPackages = \
                 [ config.services.postgresql.package ]`"
                    .to_owned(),
            ),
            Self::ProgramTooOld { server_major, .. } => {
                Some(format!("install the client programs of PostgreSQL {server_major}: Debian `postgresql-client-{server_major}`"))
            }
            Self::Query { source, .. } if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Some(
                "somebody holds a table for themselves (a migration, \
                    a vacuum): run the backup again when that has ended"
                    .to_owned(),
            ),
            Self::Query { source, database, .. } if source.code() == Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
                Some(format!(
                    "a name in {database} is not UTF-8, and its encoding, SQL_ASCII, does not tell what it is: rename what has \
                     letters beyond ASCII (psql -d {database} -c \"SELECT relname FROM pg_class WHERE relname ~ '[^ -~]'\"), \
                     or move to a database in UTF8"
                ))
            }
            Self::Restless { .. } => Some("run the backup again when the migration has ended".to_owned()),
            Self::Dump { source: ExecError::Failed { stderr, .. }, .. } => dump_hint(stderr),
            Self::Archive { source, .. } => source.hint(),
            _ => None,
        }
    }
}

fn grant_hint() -> String {
    "give the role the right to read everything: GRANT pg_read_all_data TO <role>;".to_owned()
}

fn dump_hint(stderr: &str) -> Option<String> {
    if stderr.contains("permission denied for large object") {
        let text = "pg_read_all_data does not cover large objects: GRANT SELECT ON LARGE OBJECT <number> TO <role>; \
            for each, \
             or let a superuser make the dumps";
        return Some(text.to_owned());
    }
    if stderr.contains("permission denied") {
        return Some(grant_hint());
    }
    if stderr.contains("row-level security") {
        return Some("rows are hidden from the role: ALTER ROLE <role> BYPASSRLS;".to_owned());
    }
    if stderr.contains("No space left") {
        return Some("the server's disk is full; free space first".to_owned());
    }
    Some("see PostgreSQL's own log for the reason, then run `relay-backup backup` again".to_owned())
}

fn connect_hint(error: &Said, database: &str) -> Option<String> {
    if error.to_string().contains("no encryption") {
        return Some(
            "the server wants TLS on this way, and this program speaks to servers of this machine only: name the socket's \
             folder in the URL, such as host=/run/postgresql"
                .to_owned(),
        );
    }
    let Some(code) = error.code() else {
        return Some(
            "see that PostgreSQL runs and that `host` names its socket folder, such as /run/postgresql".to_owned(),
        );
    };
    if *code == SqlState::INVALID_CATALOG_NAME {
        return Some(format!(
            "there is no database {database}; `databases` of the policy must name those that are there"
        ));
    }
    if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION || *code == SqlState::INVALID_PASSWORD {
        return Some(
            "with peer authentication run as a user whose name is the role's, or map it in pg_ident.conf (NixOS: \
             services.postgresql.identMap); with a password name a `passfile`"
                .to_owned(),
        );
    }
    (*code == SqlState::INSUFFICIENT_PRIVILEGE).then(|| format!("GRANT CONNECT ON DATABASE \"{database}\" TO <role>;"))
}
