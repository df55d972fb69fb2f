//! What a database holds, read from a copy of it: tables row by row, schema, whose it is, whether it is sound.

use crate::artifact::channels::{self, NodeSoftware};
use crate::base::interrupt::Interrupt;
use crate::facts::sqlite::{SqliteContent, TableFacts};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::Xxh3;

/// Rows read between two looks at the interrupt.
const ROWS_BETWEEN_LOOKS: u64 = 4096;
/// Most complaints of SQLite's check that are passed on.
const COMPLAINTS_MAX: usize = 5;

/// Reads everything that tells two databases apart. An error of code `SQLITE_INTERRUPT` when somebody asked to stop.
pub fn content(connection: &Connection, interrupt: &Interrupt) -> rusqlite::Result<SqliteContent> {
    let mut tables = BTreeMap::new();
    for name in table_names(connection)? {
        let facts = table(connection, &name, interrupt)?;
        tables.insert(name, facts);
    }
    Ok(SqliteContent {
        tables,
        schema_sha256: schema_digest(connection)?,
        application_id: connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
        user_version: connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
    })
}

/// Whose database it is, told by its tables; `None` when it is no Lightning node's.
pub fn owner_of(connection: &Connection) -> rusqlite::Result<Option<NodeSoftware>> {
    let names = table_names(connection)?;
    Ok(channels::owner_by_tables(names.iter().map(String::as_str)).map(|told| told.software))
}

/// SQLite's own check: `None` when it is content, else its first complaints.
pub(crate) fn integrity(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let lines: Vec<String> =
        statement.query_map([], |row| row.get(0))?.take(COMPLAINTS_MAX).collect::<Result<_, _>>()?;
    Ok(if lines == ["ok"] { None } else { Some(lines.join("; ")) })
}

/// Names of the tables that are kept in pages of their own; a virtual table's rows are in its shadow tables.
pub(crate) fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// A name as an SQL identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn table(connection: &Connection, name: &str, interrupt: &Interrupt) -> rusqlite::Result<TableFacts> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {}", quote(name)))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let (mut count, mut sum) = (0u64, 0u128);
    while let Some(row) = rows.next()? {
        let mut hash = Xxh3::new();
        for column in 0..columns {
            add_value(&mut hash, row.get_ref(column)?);
        }
        sum = sum.wrapping_add(hash.digest128());
        count += 1;
        if count.is_multiple_of(ROWS_BETWEEN_LOOKS) && interrupt.is_set() {
            return Err(interrupted());
        }
    }
    Ok(TableFacts { rows: count, digest: format!("{sum:032x}") })
}

/// Type, length and bytes, so that no two rows share an encoding.
fn add_value(hash: &mut Xxh3, value: ValueRef<'_>) {
    let mut add = |kind: u8, bytes: &[u8]| {
        hash.update(&[kind]);
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match value {
        ValueRef::Null => add(0, &[]),
        ValueRef::Integer(number) => add(1, &number.to_le_bytes()),
        ValueRef::Real(number) => add(2, &number.to_bits().to_le_bytes()),
        ValueRef::Text(text) => add(3, text),
        ValueRef::Blob(blob) => add(4, blob),
    }
}

fn schema_digest(connection: &Connection) -> rusqlite::Result<String> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name, tbl_name";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut hash = Sha256::new();
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            let text: Option<String> = row.get(column)?;
            let text = text.unwrap_or_default();
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    Ok(hex::encode(hash.finalize()))
}

fn interrupted() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT), None)
}
