//! What a restore could not give back, told so that a person can: what it is, why, and the statement, where that can be
//! shown. Statements that may hold a password, a row or a body of code are named and not shown.

use super::super::super::PostgresError;
use super::super::super::archive::Entry;
use super::super::RestoreError;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Longest statement that is shown, in bytes.
const STATEMENT_BYTES_MAX: usize = 600;
/// Kinds whose statements hold names, expressions and nothing secret.
const SHOWN: [&str; 17] = [
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "EXTENSION",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "MATERIALIZED VIEW",
    "MATERIALIZED VIEW DATA",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "STATISTICS",
    "TRIGGER",
    "VIEW",
    "ROW SECURITY",
];
/// Kinds without which rows are lost.
const HOLD_ROWS: [&str; 4] = ["TABLE", "SEQUENCE", "TABLE ATTACH", "SCHEMA"];

/// One thing that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What it is, such as `event trigger et`.
    pub what: String,
    /// Why it is not there, a sentence without its full stop.
    pub why: String,
    /// The statement that makes it, where it can be shown.
    pub statement: Option<String>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not given back: {}", self.what, self.why)
    }
}

impl LeftOut {
    fn of(entry: &Entry, why: String) -> Self {
        let text = String::from_utf8_lossy(&entry.definition);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_shown = SHOWN.contains(&entry.kind.as_str()) && !text.is_empty() && text.len() <= STATEMENT_BYTES_MAX;
        Self { what: name_of(entry), why, statement: is_shown.then_some(text) }
    }

    /// What a person does about it.
    pub fn hint(&self) -> String {
        match &self.statement {
            Some(statement) => format!("in the restored database, as a superuser if need be, run: {statement}"),
            None => "its statement is in the dump: `relay-backup extract --artifact NAME.dump --to FILE`, then \
                     `pg_restore --schema-only -f - FILE`, and run it by hand"
                .to_owned(),
        }
    }
}

/// What an entry is, for a person.
pub(super) fn name_of(entry: &Entry) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kind = match entry.kind.as_str() {
        "MATERIALIZED VIEW DATA" => "the rows of materialised view".to_owned(),
        "TABLE DATA" => "the rows of table".to_owned(),
        "FK CONSTRAINT" => "foreign key".to_owned(),
        other => other.to_lowercase(),
    };
    match entry.schema.is_empty() {
        true => format!("{kind} {}", text(&entry.tag)),
        false => format!("{kind} {}.{}", text(&entry.schema), text(&entry.tag)),
    }
}

/// How the tag of a comment names an entry.
fn subject_of(entry: &Entry) -> String {
    plain(&format!("{} {}", entry.kind, String::from_utf8_lossy(&entry.tag)))
}

fn plain(tag: &str) -> String {
    tag.replace('"', "")
}

/// What failed so far, from all sessions of one restore.
#[derive(Debug)]
pub(super) struct Failures {
    database: String,
    found: Mutex<Vec<LeftOut>>,
    /// What comments on these would be about.
    absent: Mutex<BTreeSet<String>>,
    /// What ends the restore.
    fatal: Mutex<Option<RestoreError>>,
}

impl Failures {
    pub(super) fn new(database: &str) -> Self {
        Self {
            database: database.to_owned(),
            found: Mutex::default(),
            absent: Mutex::default(),
            fatal: Mutex::default(),
        }
    }

    /// Takes down that an entry failed.
    pub(super) fn add(&self, entry: &Entry, error: PostgresError) {
        let is_lost = HOLD_ROWS.contains(&entry.kind.as_str()) && !(entry.kind == "SCHEMA" && entry.tag == b"public");
        let ends_all = matches!(&error, PostgresError::Interrupted { .. })
            || matches!(&error, PostgresError::Query { source, .. } if source.is_closed() || source.is_no_room());
        if ends_all || is_lost {
            let error = self.essential(entry, error);
            self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            return;
        }
        let why = match &error {
            PostgresError::Query { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        // A comment on what is not there is no loss of its own.
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.kind == "COMMENT" && absent.contains(&plain(&String::from_utf8_lossy(&entry.tag))) {
            return;
        }
        absent.insert(subject_of(entry));
        found.push(LeftOut::of(entry, why));
    }

    /// Takes down an entry that is a person's to run.
    pub(super) fn not_ours(&self, entry: &Entry) {
        let why = match entry.kind.as_str() {
            "SUBSCRIPTION" => "it would connect to another server and take rows from there",
            _ => "only a superuser may make it, and nothing of a dump is run as one",
        };
        self.absent.lock().unwrap_or_else(PoisonError::into_inner).insert(subject_of(entry));
        self.found.lock().unwrap_or_else(PoisonError::into_inner).push(LeftOut::of(entry, why.to_owned()));
    }

    /// The error that ends the restore because of this entry. What failed before it is likely why.
    pub(super) fn essential(&self, entry: &Entry, error: PostgresError) -> RestoreError {
        if let PostgresError::Interrupted { .. } = error {
            return RestoreError::Interrupted { database: self.database.clone() };
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        RestoreError::Refused {
            database: self.database.clone(),
            what: name_of(entry),
            before: found.first().cloned(),
            source: error,
        }
    }

    /// The first error that ends the restore, if there was one.
    pub(super) fn check(&self) -> Result<(), RestoreError> {
        match self.fatal.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn into_left_out(self) -> Vec<LeftOut> {
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
