//! What is backed up. Each source reads something that lives on this host, checks it, and hands artifacts to a
//! [`Sink`].
//! A source is passive: it never writes to what it protects and holds no lock longer than its budget.

pub mod cln;
pub mod files;
pub mod lnd;
pub mod postgres;
mod readable;
pub mod sqlite;

use crate::artifact::ArtifactSpec;
use crate::facts::Facts;
use crate::report::Finding;
use std::io::Write;

/// Writes one artifact's bytes, in order, and returns what was learned on the way. `flush` tells that what was written
/// so far differs in every run and what follows does not: a segment ends there.
pub type Body<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<Facts, SourceError>;

/// Where a source delivers. The engine's pipeline is one; tests have another.
pub trait Sink {
    /// Takes one artifact: calls `body` once with the place to write to. When `body` fails, nothing of the
    /// artifact will be committed, and its error comes back. Bytes count only after this returned `Ok`.
    fn artifact(&mut self, spec: ArtifactSpec, body: Body<'_>) -> Result<(), SourceError>;

    /// Takes something worth saying that does not stop the source. A finding of level `Failed` makes the
    /// source count as failed although it went on.
    fn finding(&mut self, finding: Finding);
}

/// Why a source failed. Each kind names the thing, keeps its cause, and knows a remedy.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Core Lightning.
    #[error(transparent)]
    Cln(#[from] cln::ClnError),
    /// A SQLite database.
    #[error(transparent)]
    Sqlite(#[from] sqlite::SqliteError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::PostgresError),
    /// LND.
    #[error(transparent)]
    Lnd(#[from] lnd::LndError),
    /// Files.
    #[error(transparent)]
    Files(#[from] files::FilesError),
    /// What was read could not be handed on; the engine knows why.
    #[error("cannot hand on what was read")]
    Sink(#[source] std::io::Error),
}

impl SourceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cln(error) => error.hint(),
            Self::Sqlite(error) => error.hint(),
            Self::Postgres(error) => error.hint(),
            Self::Lnd(error) => error.hint(),
            Self::Files(error) => error.hint(),
            Self::Sink(_) => None,
        }
    }
}
