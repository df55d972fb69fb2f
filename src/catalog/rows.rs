//! The changes to the catalog's tables. Each runs inside a transaction of the caller's, so a change is whole or not
//! there.

use super::names::{self, Digest};
use super::{Pending, SnapshotRow};
use crate::base::ids::VaultId;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

pub(super) fn write_pending(transaction: &Transaction<'_>, pending: &[Pending]) -> rusqlite::Result<()> {
    for record in pending {
        match record {
            Pending::Sealed { segment, object, length } => {
                object_row(transaction, segment, object, *length)?;
            }
            Pending::Put { vault, object, at_ms } => {
                let vault = vault_row_made(transaction, vault)?;
                let sql = "INSERT INTO held (object, vault, count, put_at)
                    SELECT n, ?2, 0, ?3 FROM objects WHERE object = ?1
                    ON CONFLICT (object, vault) DO UPDATE SET put_at = max(coalesce(put_at, ?3), ?3)";
                transaction.prepare_cached(sql)?.execute(params![object, vault, at_ms])?;
            }
        }
    }
    Ok(())
}

pub(super) fn insert_snapshot(
    transaction: &Transaction<'_>,
    vault: &VaultId,
    snapshot: &SnapshotRow,
    manifest: &Digest,
    segments: &mut dyn Iterator<Item = rusqlite::Result<(Digest, Digest, i64)>>,
) -> rusqlite::Result<()> {
    let vault = vault_row_made(transaction, vault)?;
    let mut objects = Vec::new();
    for named in segments {
        let (segment, object, length) = named?;
        objects.push(object_row(transaction, &segment, &object, length)?);
    }
    objects.sort_unstable();
    objects.dedup();
    let mut hold = transaction.prepare_cached(
        "INSERT INTO held (object, vault, count) VALUES (?1, ?2, 1)
            ON CONFLICT (object, vault) DO UPDATE SET count = count + 1",
    )?;
    for object in &objects {
        hold.execute(params![object, vault])?;
    }
    let sql = "INSERT INTO snapshots (vault, id, manifest, complete, created, sequence, objects)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let created = snapshot.created.as_microsecond();
    let sequence = names::bound(names::count(snapshot.sequence))?;
    let named = names::pack(&objects);
    transaction
        .execute(sql, params![vault, snapshot.id.as_str(), manifest, snapshot.complete, created, sequence, named])?;
    Ok(())
}

/// Forgets a snapshot: every object it names is named once less in that vault, and one that nothing names and that was
/// not put by this host is forgotten with it.
pub(super) fn drop_snapshot(transaction: &Transaction<'_>, vault: &VaultId, id: &str) -> rusqlite::Result<()> {
    let Some(vault) = vault_row(transaction, vault)? else { return Ok(()) };
    let named: Option<Vec<u8>> = transaction
        .prepare_cached("DELETE FROM snapshots WHERE vault = ?1 AND id = ?2 RETURNING objects")?
        .query_row(params![vault, id], |row| row.get(0))
        .optional()?;
    let mut let_go = transaction.prepare_cached(
        "UPDATE held SET count = count - 1 WHERE object = ?1 AND vault = ?2 RETURNING count = 0 AND put_at IS NULL",
    )?;
    let mut forget_held = transaction.prepare_cached("DELETE FROM held WHERE object = ?1 AND vault = ?2")?;
    let mut forget_object = transaction.prepare_cached(
        "DELETE FROM objects WHERE n = ?1 AND NOT EXISTS (SELECT 1 FROM held WHERE held.object = objects.n)",
    )?;
    for object in names::unpack(named.as_deref().unwrap_or_default()) {
        let is_loose: Option<bool> = let_go.query_row(params![object, vault], |row| row.get(0)).optional()?;
        if is_loose == Some(true) {
            forget_held.execute(params![object, vault])?;
            forget_object.execute([object])?;
        }
    }
    Ok(())
}

fn object_row(transaction: &Transaction<'_>, segment: &Digest, object: &Digest, length: i64) -> rusqlite::Result<i64> {
    let found = transaction
        .prepare_cached("SELECT n FROM objects WHERE segment = ?1 AND object = ?2")?
        .query_row(params![segment, object], |row| row.get(0))
        .optional()?;
    if let Some(row) = found {
        return Ok(row);
    }
    transaction
        .prepare_cached("INSERT INTO objects (segment, object, length) VALUES (?1, ?2, ?3)")?
        .insert(params![segment, object, length])
}

pub(super) fn vault_row(connection: &Connection, vault: &VaultId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT n FROM vaults WHERE id = ?1")?
        .query_row([vault.as_str()], |row| row.get(0))
        .optional()
}

fn vault_row_made(connection: &Connection, vault: &VaultId) -> rusqlite::Result<i64> {
    match vault_row(connection, vault)? {
        Some(row) => Ok(row),
        None => connection.prepare_cached("INSERT INTO vaults (id) VALUES (?1)")?.insert([vault.as_str()]),
    }
}
