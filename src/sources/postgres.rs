//! PostgreSQL databases, dumped one by one with `pg_dump` under an exported snapshot, and the cluster's roles and
//! grants. Facts for the notes are read under the same snapshot; rows are counted and summed as the dump streams
//! past. Never writes to a database, never puts a password into argv, environment, log or error, and never takes a
//! dump for whole because a program said so: exit status, stream, table of contents and catalogue must agree.

mod archive;
mod connect;
mod dump;
mod error;
mod hand;
mod marks;
mod passfile;
pub(crate) mod programs;
mod prove;
pub mod restore;
mod rights;
mod said;
mod still;
mod survey;

pub use archive::{Archive, ArchiveError, ArchiveSequence, ArchiveTable, ArchiveView, ReadError, Scanner};
pub(crate) use connect::quote_name;
pub use connect::{Server, Session};
pub use error::PostgresError;
pub use prove::{Difference, Proof, prove};
pub use said::Said;

use super::{Sink, SourceError};
use crate::artifact::Codec;
use crate::base::ids::SourceName;
use crate::base::interrupt::Interrupt;
use crate::facts::postgres::{Marks, ServerVersion, Software};
use crate::report::{Finding, Level};
use std::path::{Path, PathBuf};

/// The database that every server has, to ask from.
pub const MAINTENANCE: &str = "postgres";

/// Databases of one PostgreSQL server, as the policy names them.
#[derive(Clone, Debug)]
pub struct Postgres<'a> {
    /// The source's name: the first part of its artifacts' names.
    pub name: &'a SourceName,
    /// A libpq connection URL without a password.
    pub url: &'a str,
    /// A libpq password file, where the socket does not do.
    pub passfile: Option<&'a Path>,
    /// The databases.
    pub databases: &'a [String],
    /// How segments are compressed.
    pub codec: Codec,
    /// The wish to stop.
    pub interrupt: Interrupt,
    /// Programs to use instead of those that are found.
    pub programs: Programs,
}

/// PostgreSQL's programs, where they are not to be looked for.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// `pg_dump`.
    pub pg_dump: Option<PathBuf>,
    /// `pg_dumpall`.
    pub pg_dumpall: Option<PathBuf>,
}

/// A database of the policy, reached and recognised, or why not.
type Reached = (String, Result<Software, PostgresError>);

/// A database's name and its high-water marks, or why they could not be read.
pub type DatabaseMarks = (String, Result<Marks, PostgresError>);

impl Postgres<'_> {
    /// Dumps every database and the roles. A database that fails is a finding of level `Failed` and keeps no other
    /// from being sealed; an error comes back only when the server cannot be reached at all, the sink failed, or
    /// somebody asked to stop.
    pub fn read(&self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let server = Server::parse(self.url, self.passfile)?.stopping_at(&self.interrupt);
        let (version, mut reached) = self.reach(&server)?;
        self.tell_superuser(&server, &version, sink)?;
        // BTCPay's database first and NBXplorer's second, so that NBXplorer is never behind; then the policy's order.
        reached.sort_by_key(|(_, software)| match software {
            Ok(Software::Btcpay) => 0,
            Ok(Software::Nbxplorer) => 1,
            _ => 2,
        });
        for (database, software) in reached {
            self.interrupt.check().map_err(SourceError::Sink)?;
            let artifact = dump::artifact_name(self.name, &database)?;
            let result = software
                .map_err(SourceError::from)
                .and_then(|_| dump::database(self, &server.with_database(&database), &version, sink));
            self.settle(result, &artifact, sink)?;
        }
        self.interrupt.check().map_err(SourceError::Sink)?;
        let artifact = dump::globals_name(self.name)?;
        let result = dump::globals(self, &server, &version, sink);
        self.settle(result, &artifact, sink)
    }

    /// Says what it means that the policy logs in as a superuser, and how it need not.
    fn tell_superuser(
        &self,
        server: &Server,
        version: &ServerVersion,
        sink: &mut dyn Sink,
    ) -> Result<(), PostgresError> {
        let Ok((_, session)) = dump::any_database(self, server) else { return Ok(()) };
        if !hand::Standing::of(&session)?.is_super {
            return Ok(());
        }
        let user = server.user();
        let message = format!(
            "the databases are read as {user}, \
                a superuser: whoever takes this host's policy and login takes every database"
        );
        // The role of that name came with version 14.
        let hint = match version.major() {
            14.. => {
                "make a role that can only read, \
                    and name it in `url`: CREATE ROLE relay_backup LOGIN IN ROLE pg_read_all_data;"
            }
            _ => {
                "make a role that can only read, name it in `url`, \
                    and in each database: CREATE ROLE relay_backup LOGIN; GRANT \
                  USAGE ON SCHEMA public TO relay_backup; GRANT SELECT ON ALL TABLES IN SCHEMA public TO relay_backup;"
            }
        };
        sink.finding(Finding::new(Level::Note, "superuser-login", self.name.as_str(), message).with_hint(hint));
        Ok(())
    }

    /// High-water marks of every database that can be reached, without a dump; an error in one is its own.
    pub fn marks(&self) -> Result<Vec<DatabaseMarks>, PostgresError> {
        let server = Server::parse(self.url, self.passfile)?.stopping_at(&self.interrupt);
        let read = |database: &String| {
            let session = server.with_database(database).connect()?;
            session.execute("begin a transaction", dump::BEGIN)?;
            let recognised = survey::recognise(&survey::tables(&session)?);
            marks::read(&session, &recognised)
        };
        Ok(self.databases.iter().map(|database| (database.clone(), read(database))).collect())
    }

    /// Connects to every database once: the server's version, and whose tables each holds.
    fn reach(&self, server: &Server) -> Result<(ServerVersion, Vec<Reached>), PostgresError> {
        let mut version = None;
        let mut reached = Vec::new();
        for database in self.databases {
            let software = server.with_database(database).connect().and_then(|session| {
                version = Some(survey::server_version(&session)?);
                Ok(survey::recognise(&survey::tables(&session)?).software)
            });
            reached.push((database.clone(), software));
        }
        let version = match version {
            Some(version) => version,
            None => survey::server_version(&server.connect()?)?,
        };
        Ok((version, reached))
    }

    /// Turns the failure of one artifact into a finding; hands on what ends the whole source.
    fn settle(&self, result: Result<(), SourceError>, artifact: &str, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let error = match result {
            Ok(()) => return Ok(()),
            Err(error @ SourceError::Sink(_)) => return Err(error),
            Err(error) => error,
        };
        self.interrupt.check().map_err(SourceError::Sink)?;
        let hint = error.hint();
        let mut finding = Finding::new(Level::Failed, "dump-failed", artifact, chain(&error));
        finding.hint = hint;
        sink.finding(finding);
        Ok(())
    }
}

/// An error with its causes, one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
