//! A snapshot of a database whose tables stand still. A snapshot alone is not enough: a table that is rewritten or
//! emptied and filled again (`ALTER … TYPE`, `TRUNCATE`) after a snapshot was taken and before it is read looks empty
//! to it, without any error. So every table is locked first, in the mode that forbids only such things and lets
//! everybody read and write; the snapshot comes after the locks, and what it shows is held against the locks that are
//! really held.

use super::connect::Session;
use super::dump::BEGIN;
use super::survey::{self, CatalogTable, Survey};
use super::{PostgresError, quote_name};
use std::collections::HashSet;

/// How often it is tried anew because a table came or went meanwhile.
const TRIES_MAX: usize = 20;
/// Most tables in one statement.
const TABLES_AT_ONCE: usize = 200;

/// Begins the dump's transaction with every table locked; the exported snapshot's name and what the database says of
/// itself under it. The locks last as long as the transaction.
pub(super) fn begin(session: &Session) -> Result<(String, Survey), PostgresError> {
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let before = survey::tables(session)?;
        session.execute("begin a transaction", BEGIN)?;
        // A statement that locks takes no snapshot: that comes with the first query after it.
        if let Err(error) = lock(session, &before) {
            session.execute("give the transaction up", "ROLLBACK")?;
            match &error {
                // Dropped or renamed since it was listed.
                PostgresError::Query { source, .. } if source.code().is_some_and(survey::is_gone) => {
                    last = Some(error);
                    continue;
                }
                _ => return Err(error),
            }
        }
        let row = session.query_one("export a snapshot", "SELECT pg_export_snapshot()", &[])?;
        let survey = survey::survey(session)?;
        let held = held(session)?;
        let is_held = |table: &CatalogTable| held.contains(&table.oid);
        match survey.tables.iter().find(|table| !is_held(table)) {
            None => return Ok((row.get(0), survey)),
            Some(table) => {
                let (schema, name) = (&table.schema, &table.name);
                last = Some(PostgresError::Restless {
                    database: session.database().to_owned(),
                    table: format!("{schema}.{name}"),
                });
            }
        }
        session.execute("give the transaction up", "ROLLBACK")?;
    }
    Err(last.unwrap_or_else(|| PostgresError::Restless {
        database: session.database().to_owned(),
        table: "a table".to_owned(),
    }))
}

fn lock(session: &Session, tables: &[CatalogTable]) -> Result<(), PostgresError> {
    for some in tables.chunks(TABLES_AT_ONCE) {
        let names: Vec<String> =
            some.iter().map(|table| format!("{}.{}", quote_name(&table.schema), quote_name(&table.name))).collect();
        // Only the named one: what inherits from it stands in the list by itself.
        let sql = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", names.join(", ONLY "));
        session.execute("lock the tables against being rewritten", &sql)?;
    }
    Ok(())
}

/// Numbers of the tables that this session holds.
fn held(session: &Session) -> Result<HashSet<u32>, PostgresError> {
    let sql = "SELECT relation FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND mode = 'AccessShareLock'";
    Ok(session.query("look which tables are locked", sql, &[])?.iter().map(|row| row.get(0)).collect())
}
