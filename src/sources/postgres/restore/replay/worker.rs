//! One session that takes entries of a dump in. A statement runs with an empty search path, as `pg_dump` wrote it; one
//! that fails because a function in it names something without its schema runs once more with the path that the
//! database's own sessions have. Rows are taken in with that path from the beginning: names in them are qualified, and
//! what a constraint calls finds what it finds in service.

use super::super::super::PostgresError;
use super::super::super::archive::{ArchiveError, Entry, ReadError, Reader, copy_from, extension};
use super::super::super::connect::{Server, Session};
use super::super::{RestoreError, literal};
use super::left_out::Failures;
use crate::facts::postgres::DatabaseFacts;
use std::cell::RefCell;
use tokio_postgres::error::SqlState;

/// What the session is set to beyond what all of ours are. Nothing waits for the disk statement by statement: what the
/// server lost with its power, the mark of the database does not call whole.
const SETTINGS: &str = "SET check_function_bodies = false; SET client_min_messages = warning; \
    SET synchronous_commit = off; SET lock_timeout = 0";
/// Codes of a name that was not found.
const NOT_FOUND: [SqlState; 5] = [
    SqlState::UNDEFINED_FUNCTION,
    SqlState::UNDEFINED_TABLE,
    SqlState::UNDEFINED_OBJECT,
    SqlState::INVALID_SCHEMA_NAME,
    SqlState::UNDEFINED_COLUMN,
];
/// How much of a large object is written at once, in bytes.
const OBJECT_PIECE_BYTES: usize = 1024 * 1024;

/// One session and what it needs to know.
pub(super) struct Worker<'a> {
    session: Session,
    encoding: &'a str,
    facts: &'a DatabaseFacts,
    failures: &'a Failures,
    path: String,
    notes: RefCell<Vec<String>>,
}

impl<'a> Worker<'a> {
    pub(super) fn begin(
        server: &Server,
        encoding: &'a str,
        facts: &'a DatabaseFacts,
        failures: &'a Failures,
    ) -> Result<Self, RestoreError> {
        let session = server.connect()?;
        session.execute("set up the session that restores", SETTINGS)?;
        Ok(Self { session, encoding, facts, failures, path: search_path(facts), notes: RefCell::default() })
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes.into_inner()
    }

    fn note(&self, note: String) {
        self.notes.borrow_mut().push(note);
    }

    /// Runs an entry; a failure is taken down.
    pub(super) fn try_entry(&self, entry: &Entry) {
        if let Err(error) = self.run(entry) {
            if entry.kind == "COLLATION" && self.plain_collation(entry) {
                return;
            }
            self.failures.add(entry, error);
        }
    }

    /// The error that ends the restore because of this entry.
    pub(super) fn essential(&self, entry: &Entry, error: PostgresError) -> RestoreError {
        self.failures.essential(entry, error)
    }

    /// Runs an entry's statements.
    pub(super) fn run(&self, entry: &Entry) -> Result<(), PostgresError> {
        if entry.definition.trim_ascii().is_empty() {
            return Ok(());
        }
        self.access_method(entry)?;
        let sql = self.text(&entry.definition);
        let first = self.session.execute("restore", &sql);
        match &first {
            Err(PostgresError::Query { source, .. }) if source.code().is_some_and(|code| NOT_FOUND.contains(code)) => {
                let again = self.with_path(|| self.session.execute("restore", &sql));
                if again.is_ok() { again } else { first }
            }
            _ => first,
        }
    }

    /// Does something with the search path of the database's own sessions.
    fn with_path<T>(&self, work: impl FnOnce() -> Result<T, PostgresError>) -> Result<T, PostgresError> {
        let set = format!("SELECT pg_catalog.set_config('search_path', {}, false)", literal(&self.path));
        self.session.execute("set the search path", &set)?;
        let result = work();
        let reset = "SELECT pg_catalog.set_config('search_path', '', false)";
        let reset = self.session.execute("set the search path back", reset);
        result.and_then(|done| reset.map(|()| done))
    }

    /// Statements as text that the server takes. What is not plain in another encoding than ours goes as bytes, which
    /// the server itself reads.
    fn text(&self, statements: &[u8]) -> String {
        match std::str::from_utf8(statements) {
            Ok(text) if text.is_ascii() || self.encoding == "UTF8" => text.to_owned(),
            _ => format!(
                "DO LANGUAGE plpgsql $relay$BEGIN EXECUTE pg_catalog.convert_from('\\x{}'::pg_catalog.bytea, '{}'); \
                    END$relay$",
                hex::encode(statements),
                self.encoding
            ),
        }
    }

    /// A name or a statement as text, translated by the server where it is not plain.
    fn translated(&self, bytes: &[u8]) -> Result<String, PostgresError> {
        super::super::super::dump::decode(&self.session, self.encoding, bytes)
    }

    /// Sets how the rows of a table are kept, where that is another way than the usual and the server knows it.
    fn access_method(&self, entry: &Entry) -> Result<(), PostgresError> {
        if entry.access_method.is_empty() || entry.access_method == b"heap" {
            return Ok(());
        }
        let method = self.translated(&entry.access_method)?;
        let doing = "set how rows are kept";
        let set = format!("SET default_table_access_method = {}", literal(&method));
        if self.session.execute(doing, &set).is_err() {
            let tag = String::from_utf8_lossy(&entry.tag);
            self.note(format!("the server does not know the access method {method}; {tag} is kept in the usual way"));
            return self.session.execute(doing, "SET default_table_access_method = heap");
        }
        Ok(())
    }

    /// Makes a collation that this machine lacks sort by bytes: rows are the same, their order may not be.
    fn plain_collation(&self, entry: &Entry) -> bool {
        let (Ok(schema), Ok(name)) = (self.translated(&entry.schema), self.translated(&entry.tag)) else {
            return false;
        };
        let name = format!("{}.{}", super::super::quote_name(&schema), super::super::quote_name(&name));
        let sql = format!("CREATE COLLATION {name} FROM pg_catalog.\"C\"");
        let is_made = self.session.execute("make a collation that sorts by bytes", &sql).is_ok();
        if is_made {
            self.note(format!("the collation {name} is not to be had on this machine; it was made to sort by bytes"));
        }
        is_made
    }

    /// Makes an extension; one that only a superuser may make is made by a statement of our own, where we came as one.
    pub(super) fn extension(&self, entry: &Entry, admin: &Server) -> Result<(), RestoreError> {
        let Err(error) = self.run(entry) else { return Ok(()) };
        let Some((name, schema)) = extension(&entry.definition) else {
            self.failures.add(entry, error);
            return Ok(());
        };
        let (name, schema) = (self.translated(&name)?, schema.map(|schema| self.translated(&schema)).transpose()?);
        let is_noted = self.facts.extensions.iter().any(|noted| noted.name == name);
        let lacks_right = matches!(&error, PostgresError::Query { source, .. }
            if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE));
        if !(is_noted && lacks_right) || super::by_superuser(admin, &name, schema.as_deref()).is_err() {
            self.failures.add(entry, error);
        }
        Ok(())
    }

    /// Makes the large objects of an entry, empty.
    pub(super) fn make_objects(&self, entry: &Entry) -> Result<(), RestoreError> {
        if entry.kind == "BLOB" {
            return self.run(entry).map_err(|error| self.essential(entry, error));
        }
        let malformed = || ReadError::from(ArchiveError::Malformed { what: "the numbers of large objects" });
        let broken = |source| RestoreError::Dump { database: self.facts.name.clone(), source };
        let text = std::str::from_utf8(&entry.definition).map_err(|_| broken(malformed()))?;
        let oids: Result<Vec<u32>, _> = text.split_whitespace().map(str::parse).collect();
        let oids = oids.map_err(|_| broken(malformed()))?;
        let sql = "SELECT count(lo_create(o)) FROM unnest($1::oid[]) o";
        self.session
            .query_one("make large objects", sql, &[&oids])
            .map(drop)
            .map_err(|error| self.essential(entry, error))
    }

    /// Writes one large object.
    pub(super) fn object(&self, oid: u32, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        let broken = |source| RestoreError::Dump { database: self.facts.name.clone(), source };
        let mut at: i64 = 0;
        let mut waiting: Vec<u8> = Vec::new();
        loop {
            let piece = reader.piece().map_err(broken)?;
            let is_last = piece.is_none();
            waiting.extend(piece.unwrap_or_default());
            if waiting.len() >= OBJECT_PIECE_BYTES || (is_last && !waiting.is_empty()) {
                self.session.query_one("write a large object", "SELECT lo_put($1, $2, $3)", &[&oid, &at, &waiting])?;
                at += waiting.len() as i64;
                waiting.clear();
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes in the rows of a table. Those of an extension's own table may be refused: the extension brings them too.
    pub(super) fn rows(&self, entry: &Entry, reader: &mut Reader<'_>, is_optional: bool) -> Result<(), RestoreError> {
        let broken = |source| RestoreError::Dump { database: self.facts.name.clone(), source };
        let malformed = || broken(ArchiveError::Malformed { what: "the COPY statement of a table" }.into());
        let statement = self.translated(&entry.copy)?;
        let sql = copy_from(&statement, self.encoding).ok_or_else(malformed)?;
        let mut is_over = false;
        let mut give = || -> Result<Option<Vec<u8>>, RowsError> {
            let piece = reader.piece()?;
            is_over = piece.is_none();
            Ok(piece)
        };
        let set = format!("SELECT pg_catalog.set_config('search_path', {}, false)", literal(&self.path));
        self.session.execute("set the search path", &set)?;
        let copied = self.session.copy_in("take in the rows of a table", &sql, &mut give);
        let reset = "SELECT pg_catalog.set_config('search_path', '', false)";
        match copied {
            Ok(_) => Ok(self.session.execute("set the search path back", reset)?),
            Err(RowsError::Read(source)) => Err(broken(source)),
            Err(RowsError::Server(error)) if is_optional => {
                self.failures.add(entry, error);
                while !is_over && reader.piece().map_err(broken)?.is_some() {}
                Ok(self.session.execute("set the search path back", reset)?)
            }
            Err(RowsError::Server(error)) => Err(self.essential(entry, error)),
        }
    }
}

/// Why rows could not be taken in.
enum RowsError {
    Read(ReadError),
    Server(PostgresError),
}

impl From<ReadError> for RowsError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<PostgresError> for RowsError {
    fn from(error: PostgresError) -> Self {
        Self::Server(error)
    }
}

/// The search path that sessions of the database's owner have, as far as it is known.
fn search_path(facts: &DatabaseFacts) -> String {
    let settings = facts.rights.iter().flat_map(|rights| &rights.database.settings);
    let own = |role: Option<&str>| {
        settings
            .clone()
            .find(|setting| setting.name == "search_path" && setting.role.as_deref() == role)
            .map(|setting| setting.value.clone())
    };
    let path = own(Some(&facts.owner)).or_else(|| own(None)).unwrap_or_else(|| "\"$user\", public".to_owned());
    path.replace("\"$user\"", &super::super::quote_name(&facts.owner))
}
