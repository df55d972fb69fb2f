//! The catalog: a local index of which segment lies under which name in which vault, and which snapshots are where.
//! It is a cache. Nothing a restore needs is decided here, losing it costs time and never data, and a damaged one
//! is moved aside and begun anew. It must never say that a vault holds an object without one of two reasons: a
//! manifest that was read from that vault, or committed to it, names the object; or this host put it there itself
//! not too long ago.
//!
//! It knows the snapshots of this host's node only. One process writes at a time ([`crate::base::lock`]).

mod names;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

pub use schema::{Opened, SetAside};

use crate::base::fsio::FileError;
use crate::base::ids::{SegmentId, Sha256Hex, SnapshotId, VaultId};
use jiff::Timestamp;
use names::{Digest, digest};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many records are gathered before they are written in one transaction, and for how long. A crash loses at most so
/// many, and on a slow uplink none but the last: the objects they tell of are then put once more.
const BATCH: usize = 64;
const GATHER_MAX: Duration = Duration::from_millis(100);

/// The catalog, open. May be used by several threads at once.
#[derive(Debug)]
pub struct Catalog {
    inner: Mutex<Inner>,
    /// Own puts count from this moment on, in milliseconds since 1970; none do until it is set.
    cutoff_ms: AtomicI64,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    pending: Vec<Pending>,
    written: Instant,
}

#[derive(Debug)]
enum Pending {
    Sealed { segment: Digest, object: Digest, length: i64 },
    Put { vault: VaultId, object: Digest, at_ms: i64 },
}

/// Where a segment's content lies already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name of the sealed object.
    pub object: Sha256Hex,
    /// Its length in bytes.
    pub length: u64,
    /// The vaults that may be relied upon to hold it, sorted; at least one.
    pub vaults: Vec<VaultId>,
}

/// One snapshot of this host's node in one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its id.
    pub id: SnapshotId,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Sha256Hex,
    /// Whether every source of the policy succeeded.
    pub complete: bool,
    /// When it was taken, as its manifest says; kept to the microsecond.
    pub created: Timestamp,
    /// Its place in the chain.
    pub sequence: u64,
}

/// The newest snapshot that this host committed to a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub snapshot: SnapshotId,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Sha256Hex,
}

/// Why the catalog could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Its file could not be made or moved aside.
    #[error("cannot prepare the catalog's file")]
    File(#[source] FileError),
    /// It could not be opened.
    #[error("cannot open the catalog {}", path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite refused.
    #[error("cannot {action} in the catalog")]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A row holds something that no row of ours holds.
    #[error("the catalog holds a {what} that is none")]
    Row {
        /// What it was meant to be.
        what: &'static str,
    },
}

impl CatalogError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Open { path, .. } => Some(format!(
                "see that {} belongs to the user that runs relay-backup and that its disk has space; the file is a cache and may be removed",
                path.display()
            )),
            Self::Sqlite { .. } | Self::Row { .. } => {
                Some("rebuild it from a vault with: relay-backup catalog rebuild".to_owned())
            }
        }
    }
}

impl Catalog {
    /// Opens the catalog, creating it where there is none. One that is damaged or was written by a newer program is
    /// moved aside and begun anew, which [`Opened`] tells; only trouble with the file itself is an error.
    pub fn open(path: &Path) -> Result<(Self, Opened), CatalogError> {
        let (connection, opened) = schema::open(path)?;
        Ok((Self::over(connection), opened))
    }

    /// A catalog that lasts as long as the process: what a run falls back on when the file cannot be used.
    pub fn in_memory() -> Result<Self, CatalogError> {
        schema::in_memory().map(Self::over).map_err(failed("begin"))
    }

    fn over(connection: Connection) -> Self {
        let inner = Inner { connection, pending: Vec::with_capacity(BATCH), written: Instant::now() };
        Self { inner: Mutex::new(inner), cutoff_ms: AtomicI64::new(i64::MAX) }
    }

    /// From which moment on this host's own puts count: now less half the grace. Forgets the older ones, and everything
    /// that was sealed and never put. Call it once, when a run begins; until then no own put counts.
    pub fn set_own_put_cutoff(&self, cutoff: Timestamp) -> Result<(), CatalogError> {
        let cutoff_ms = cutoff.as_millisecond();
        self.cutoff_ms.store(cutoff_ms, Ordering::Relaxed);
        self.inner()
            .written(|transaction| {
                transaction.execute("DELETE FROM held WHERE count = 0 AND put_at < ?1", [cutoff_ms])?;
                let sql = "DELETE FROM objects WHERE NOT EXISTS (SELECT 1 FROM held WHERE held.object = objects.n)";
                transaction.execute(sql, [])?;
                Ok(())
            })
            .map_err(failed("forget old puts"))
    }

    /// Where this content lies already; `None` when no vault may be relied upon to hold it. Of several sealings of one
    /// content the one that is in most vaults.
    pub fn known(&self, id: &SegmentId) -> Result<Option<Known>, CatalogError> {
        let segment = digest(id.as_str())?;
        let cutoff_ms = self.cutoff_ms.load(Ordering::Relaxed);
        let mut inner = self.inner();
        let mut found = inner.sealings(&segment).map_err(failed("look up a segment"))?;
        if inner.is_pending(&segment, &found) {
            inner.flush().map_err(failed("note what was put"))?;
            found = inner.sealings(&segment).map_err(failed("look up a segment"))?;
        }
        let mut best: Option<Known> = None;
        for (row, object, length) in found {
            let vaults = inner.vaults_of(row, cutoff_ms).map_err(failed("look up a segment's vaults"))?;
            if vaults.len() > best.as_ref().map_or(0, |known| known.vaults.len()) {
                let vaults = vaults.iter().map(|id| names::parse("vault id", id)).collect::<Result<_, _>>()?;
                let object = names::parse("digest", &hex::encode(object))?;
                best = Some(Known { object, length: names::uncount(length)?, vaults });
            }
        }
        Ok(best)
    }

    /// Notes under which name a content was sealed. To be called before the object is put, so that an interrupted run
    /// knows what it put. Gathered, and written with others.
    pub fn record_sealed(&self, id: &SegmentId, object: &Sha256Hex, length: u64) -> Result<(), CatalogError> {
        let (segment, object) = (digest(id.as_str())?, digest(object.as_str())?);
        let length = names::count(length)?;
        self.inner().push(Pending::Sealed { segment, object, length }).map_err(failed("note a sealed segment"))
    }

    /// Notes that this host put an object to a vault at this moment. To be called when the put has returned. Gathered,
    /// and written with others.
    pub fn record_put(&self, vault: &VaultId, object: &Sha256Hex, at: Timestamp) -> Result<(), CatalogError> {
        let object = digest(object.as_str())?;
        let put = Pending::Put { vault: vault.clone(), object, at_ms: at.as_millisecond() };
        self.inner().push(put).map_err(failed("note a put"))
    }

    /// Writes what was gathered. Happens by itself when enough has come together and when the catalog is dropped.
    pub fn flush(&self) -> Result<(), CatalogError> {
        self.inner().flush().map_err(failed("note what was put"))
    }

    /// The snapshots noted for a vault, oldest first.
    pub fn snapshots(&self, vault: &VaultId) -> Result<Vec<SnapshotRow>, CatalogError> {
        let inner = self.inner();
        let rows = inner.snapshots(vault).map_err(failed("list snapshots"))?;
        rows.into_iter().map(names::RawSnapshot::parse).collect()
    }

    /// Notes a snapshot of a vault and what its manifest names, all or nothing. A snapshot noted before under that id
    /// is replaced when its manifest differs. Several artifacts may name one segment.
    pub fn add_snapshot(
        &self,
        vault: &VaultId,
        snapshot: &SnapshotRow,
        segments: impl Iterator<Item = (SegmentId, Sha256Hex, u64)>,
    ) -> Result<(), CatalogError> {
        let manifest = digest(snapshot.manifest_sha256.as_str())?;
        let mut inner = self.inner();
        if inner.manifest_of(vault, &snapshot.id).map_err(failed("look up a snapshot"))? == Some(manifest) {
            return Ok(());
        }
        let mut segments = segments.map(|(id, object, length)| {
            let (segment, object) = (digest(id.as_str()), digest(object.as_str()));
            Ok((names::bound(segment)?, names::bound(object)?, names::bound(names::count(length))?))
        });
        let added = inner.written(|transaction| {
            rows::drop_snapshot(transaction, vault, snapshot.id.as_str())?;
            rows::insert_snapshot(transaction, vault, snapshot, &manifest, &mut segments)
        });
        added.map_err(failed("note a snapshot"))
    }

    /// Forgets a snapshot of a vault and what only it named; fine when it was not noted.
    pub fn remove_snapshot(&self, vault: &VaultId, id: &SnapshotId) -> Result<(), CatalogError> {
        self.inner()
            .written(|transaction| rows::drop_snapshot(transaction, vault, id.as_str()))
            .map_err(failed("forget a snapshot"))
    }

    /// Notes that a vault turned out not to hold an object, whatever its manifests and our own puts say. Its content is
    /// then sealed and put anew.
    pub fn forget_object(&self, vault: &VaultId, object: &Sha256Hex) -> Result<(), CatalogError> {
        let object = digest(object.as_str())?;
        self.inner()
            .written(|transaction| {
                let Some(row) = rows::vault_row(transaction, vault)? else { return Ok(()) };
                let sql = "DELETE FROM held WHERE vault = ?1 AND object IN (SELECT n FROM objects WHERE object = ?2)";
                transaction.execute(sql, params![row, object])?;
                Ok(())
            })
            .map_err(failed("forget an object"))
    }

    /// Forgets everything about what a vault holds, before it is read anew. What this host committed to it stays
    /// known ([`Catalog::head`]).
    pub fn forget_vault(&self, vault: &VaultId) -> Result<(), CatalogError> {
        self.inner()
            .written(|transaction| {
                let Some(row) = rows::vault_row(transaction, vault)? else { return Ok(()) };
                let sql = "DELETE FROM objects WHERE n IN (SELECT object FROM held WHERE vault = ?1)
                    AND NOT EXISTS (SELECT 1 FROM held WHERE held.object = objects.n AND held.vault <> ?1)";
                transaction.execute(sql, [row])?;
                transaction.execute("DELETE FROM held WHERE vault = ?1", [row])?;
                transaction.execute("DELETE FROM snapshots WHERE vault = ?1", [row])?;
                Ok(())
            })
            .map_err(failed("forget a vault"))
    }

    /// Notes that this host committed a snapshot to a vault. Only a higher sequence number replaces what is noted.
    pub fn record_committed(
        &self,
        vault: &VaultId,
        snapshot: &SnapshotId,
        manifest_sha256: &Sha256Hex,
    ) -> Result<(), CatalogError> {
        let manifest = digest(manifest_sha256.as_str())?;
        let sequence = names::count(snapshot.sequence())?;
        self.inner()
            .written(|transaction| {
                let sql = "INSERT INTO committed (vault, snapshot, sequence, manifest) VALUES (?1, ?2, ?3, ?4)
                    ON CONFLICT (vault) DO UPDATE SET snapshot = ?2, sequence = ?3, manifest = ?4 WHERE sequence <= ?3";
                transaction.execute(sql, params![vault.as_str(), snapshot.as_str(), sequence, manifest])?;
                Ok(())
            })
            .map_err(failed("note a commit"))
    }

    /// The newest snapshot that this host committed to a vault, even if the vault has lost it since: a vault whose
    /// newest is older was rolled back.
    pub fn head(&self, vault: &VaultId) -> Result<Option<Head>, CatalogError> {
        let row: Option<(String, Digest)> = self
            .inner()
            .connection
            .prepare_cached("SELECT snapshot, manifest FROM committed WHERE vault = ?1")
            .and_then(|mut query| query.query_row([vault.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .map_err(failed("look up the head"))?;
        row.map(|(snapshot, manifest)| {
            let manifest_sha256 = names::parse("digest", &hex::encode(manifest))?;
            Ok(Head { snapshot: names::parse("snapshot id", &snapshot)?, manifest_sha256 })
        })
        .transpose()
    }

    /// The newest snapshot that this host committed to any vault.
    pub fn newest_head(&self) -> Result<Option<Head>, CatalogError> {
        let vault: Option<String> = self
            .inner()
            .connection
            .query_row("SELECT vault FROM committed ORDER BY sequence DESC LIMIT 1", [], |row| row.get(0))
            .optional()
            .map_err(failed("look up the newest head"))?;
        vault.map_or(Ok(None), |vault| self.head(&names::parse("vault id", &vault)?))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            // Costs a second put of a few objects and nothing else.
            tracing::warn!(%error, "the catalog's last records were not written");
        }
    }
}

impl Inner {
    fn push(&mut self, pending: Pending) -> rusqlite::Result<()> {
        self.pending.push(pending);
        let is_due = self.pending.len() >= BATCH || self.written.elapsed() > GATHER_MAX;
        if is_due { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> rusqlite::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.written(|_| Ok(())) }
    }

    /// Writes what was gathered, and then what `work` does, in one transaction.
    fn written<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        rows::write_pending(&transaction, &self.pending)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        self.pending.clear();
        self.written = Instant::now();
        Ok(value)
    }

    fn is_pending(&self, segment: &Digest, found: &[(i64, Digest, i64)]) -> bool {
        self.pending.iter().any(|pending| match pending {
            Pending::Sealed { segment: sealed, .. } => sealed == segment,
            Pending::Put { object, .. } => found.iter().any(|(_, known, _)| known == object),
        })
    }

    fn sealings(&self, segment: &Digest) -> rusqlite::Result<Vec<(i64, Digest, i64)>> {
        self.connection
            .prepare_cached("SELECT n, object, length FROM objects WHERE segment = ?1 ORDER BY n DESC")?
            .query_map([segment], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    }

    fn vaults_of(&self, object: i64, cutoff_ms: i64) -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT vaults.id FROM held JOIN vaults ON vaults.n = held.vault
            WHERE held.object = ?1 AND (held.count > 0 OR held.put_at >= ?2) ORDER BY vaults.id";
        self.connection.prepare_cached(sql)?.query_map(params![object, cutoff_ms], |row| row.get(0))?.collect()
    }

    fn snapshots(&self, vault: &VaultId) -> rusqlite::Result<Vec<names::RawSnapshot>> {
        let sql = "SELECT snapshots.id, manifest, complete, created, sequence FROM snapshots
            JOIN vaults ON vaults.n = snapshots.vault WHERE vaults.id = ?1 ORDER BY snapshots.sequence, snapshots.id";
        self.connection.prepare_cached(sql)?.query_map([vault.as_str()], names::RawSnapshot::read)?.collect()
    }

    fn manifest_of(&self, vault: &VaultId, id: &SnapshotId) -> rusqlite::Result<Option<Digest>> {
        let sql = "SELECT manifest FROM snapshots JOIN vaults ON vaults.n = snapshots.vault
            WHERE vaults.id = ?1 AND snapshots.id = ?2";
        self.connection
            .prepare_cached(sql)?
            .query_row(params![vault.as_str(), id.as_str()], |row| row.get(0))
            .optional()
    }
}

fn failed(action: &'static str) -> impl FnOnce(rusqlite::Error) -> CatalogError {
    move |source| CatalogError::Sqlite { action, source }
}
