//! Whether a restored database is what was backed up: sound by SQLite's own check, and equal in all that the notes say.

use super::content;
use crate::base::interrupt::Interrupt;
use crate::facts::sqlite::{SqliteContent, SqliteFacts, TableFacts};
use crate::report::{Finding, Level};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::Path;

/// Checks a restored copy, a private file, against what the notes say of it. No finding means that it is equal row
/// for row. `subject` names the artifact in findings.
pub fn check(subject: &str, file: &Path, facts: &SqliteFacts, interrupt: &Interrupt) -> Vec<Finding> {
    match open_sound(subject, file) {
        Ok(connection) => {
            let looked = content::owner_of(&connection)
                .and_then(|owner| content::content(&connection, interrupt).map(|found| (owner, found)));
            match looked {
                // Whatever the notes say: no source of this kind takes it, and nothing may put it in a place.
                Ok((Some(node), _)) => vec![Finding::new(
                    Level::Damage,
                    "database-differs",
                    subject,
                    format!("the restored database holds the channel state of {node}, which no snapshot says of it"),
                )],
                Ok((None, found)) => differences(subject, &facts.content, &found),
                Err(error) => vec![unreadable(subject, &error)],
            }
        }
        Err(finding) => vec![finding],
    }
}

/// Opens a restored copy and runs SQLite's own check.
pub(crate) fn open_sound(subject: &str, file: &Path) -> Result<Connection, Finding> {
    let opened = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|connection| connection.pragma_update(None, "temp_store", "MEMORY").map(|()| connection))
        .and_then(|connection| content::integrity(&connection).map(|complaints| (connection, complaints)));
    match opened {
        Ok((connection, None)) => Ok(connection),
        Ok((_, Some(found))) => Err(Finding::new(
            Level::Damage,
            "database-corrupt",
            subject,
            format!("the restored database fails SQLite's integrity check: {found}"),
        )),
        Err(error) => Err(unreadable(subject, &error)),
    }
}

/// A restored database that cannot be read.
pub(crate) fn unreadable(subject: &str, error: &rusqlite::Error) -> Finding {
    Finding::new(
        Level::Damage,
        "database-unreadable",
        subject,
        format!("the restored database cannot be read: {error}"),
    )
}

/// What differs between the notes and a restored database.
pub(crate) fn differences(subject: &str, noted: &SqliteContent, found: &SqliteContent) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut differ = |what: String| {
        findings.push(Finding::new(Level::Damage, "database-differs", subject, what));
    };
    if noted.schema_sha256 != found.schema_sha256 {
        differ("the restored database has another schema than the one backed up".to_owned());
    }
    if (noted.application_id, noted.user_version) != (found.application_id, found.user_version) {
        differ("the restored database has another application_id or user_version".to_owned());
    }
    for line in table_differences(&noted.tables, &found.tables) {
        differ(line);
    }
    findings
}

fn table_differences(noted: &BTreeMap<String, TableFacts>, found: &BTreeMap<String, TableFacts>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, before) in noted {
        match found.get(name) {
            None => lines.push(format!("table {name} is missing in the restored database")),
            Some(after) if after.rows != before.rows => {
                lines.push(format!("table {name} has {} rows where {} were backed up", after.rows, before.rows));
            }
            Some(after) if after != before => {
                lines.push(format!("table {name} has as many rows as were backed up, but other ones"));
            }
            Some(_) => {}
        }
    }
    lines.extend(
        found.keys().filter(|name| !noted.contains_key(*name)).map(|name| format!("table {name} was not backed up")),
    );
    lines
}
