//! Looking at a vault: which snapshots of a node it holds, which of them can be believed, and making the catalog agree.

use super::Error;
use super::error::chain;
use crate::base::ids::{InstanceId, NodeName, Sha256Hex, SnapshotId, VaultId};
use crate::base::limits::{MANIFEST_BYTES_MAX, SEQUENCE_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::catalog::{Catalog, CatalogError, Opened, SnapshotRow};
use crate::manifest::{self, Manifest, ManifestError};
use crate::report::{Finding, Level};
use crate::seal::sign::{Trusted, Verdict};
use crate::vault::layout::{ObjectKey, Place, Prefix, SnapshotFile};
use crate::vault::{Vault, VaultError};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot as it lies in one vault.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id, by the folder's name.
    pub id: SnapshotId,
    /// Which of its files are there, with length and the store's time.
    pub files: BTreeMap<SnapshotFile, (u64, Option<Timestamp>)>,
}

impl Entry {
    /// Whether it was committed: its manifest is there.
    pub fn is_committed(&self) -> bool {
        self.files.contains_key(&SnapshotFile::Manifest)
    }
}

/// Lists the snapshots of a node, oldest first. Those without a manifest were never committed.
pub fn entries(vault: &Vault, node: &NodeName) -> Result<Vec<Entry>, VaultError> {
    let mut found: BTreeMap<SnapshotId, Entry> = BTreeMap::new();
    vault.visit(&Prefix::snapshots(node), &mut |listed| {
        if let Place::Snapshot { snapshot, file, .. } = listed.key.place() {
            let entry = found.entry(snapshot.clone()).or_insert_with(|| Entry { id: snapshot, files: BTreeMap::new() });
            entry.files.insert(file, (listed.length, listed.stored));
        }
    })?;
    Ok(found.into_values().collect())
}

/// A manifest that a trusted key signed, in its place.
#[derive(Clone, Debug)]
pub struct Believed {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Hex,
}

/// Why a manifest cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum Disbelief {
    /// The vault did not give it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What lies there cannot be a manifest or its signature, or only a part of it comes.
    #[error("it cannot be read: {}", chain(.0))]
    Unreadable(VaultError),
    /// There is no signature beside it.
    #[error("it has no signature")]
    NoSignature,
    /// Nobody pinned the key that signed it.
    #[error("it is signed by the key {0}, which nobody pinned")]
    Untrusted(String),
    /// It was changed, or its signature is malformed.
    #[error("its signature is wrong: {0}")]
    Wrong(&'static str),
    /// It is not a manifest this program reads.
    #[error("{}", chain(.0))]
    Manifest(#[from] ManifestError),
    /// It is another snapshot's.
    #[error("it belongs to {snapshot} of node {node} and lies in another place")]
    Moved {
        /// The snapshot it names.
        snapshot: SnapshotId,
        /// The node it names.
        node: NodeName,
    },
}

/// Reads a snapshot's manifest and believes it only when a trusted key signed these bytes for this place.
pub fn believe(
    vault: &Vault,
    node: &NodeName,
    snapshot: &SnapshotId,
    trusted: &Trusted,
) -> Result<Believed, Disbelief> {
    let get = |key: &ObjectKey, limit| {
        vault.get(key, limit).map_err(|error| match error {
            // Of this object alone, and not to be mended by asking again: it must not keep others from being looked at.
            VaultError::NotFound { .. } | VaultError::TooLarge { .. } | VaultError::ShortRead { .. } => {
                Disbelief::Unreadable(error)
            }
            error => Disbelief::Vault(error),
        })
    };
    let bytes = get(&ObjectKey::manifest(node, snapshot), MANIFEST_BYTES_MAX)?;
    let signature = ObjectKey::snapshot(node, snapshot, SnapshotFile::Signature);
    let signature = match get(&signature, SMALL_OBJECT_BYTES_MAX) {
        Err(Disbelief::Unreadable(VaultError::NotFound { .. })) => return Err(Disbelief::NoSignature),
        other => other?,
    };
    match trusted.judge(&bytes, &signature) {
        Verdict::Good(_) => {}
        Verdict::Untrusted(key) => return Err(Disbelief::Untrusted(key.to_string())),
        Verdict::Bad(reason) => return Err(Disbelief::Wrong(reason)),
    }
    let manifest = manifest::decode(&bytes)?;
    if &manifest.node != node || &manifest.snapshot != snapshot {
        return Err(Disbelief::Moved { snapshot: manifest.snapshot, node: manifest.node });
    }
    Ok(Believed { manifest, sha256: Sha256Hex::of(&bytes) })
}

/// What a survey of one vault found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The newest believed snapshot: its id and its manifest's digest.
    pub head: Option<(SnapshotId, Sha256Hex)>,
    /// The committed snapshot with the latest date: after this moment where a clock is or was wrong.
    pub latest: Option<SnapshotId>,
    /// The largest sequence number seen, believed or not, so that none is used twice.
    pub sequence: u64,
    /// What the newest snapshot that was learned just now attests.
    pub attested: Vec<crate::manifest::Attested>,
    /// Snapshots that were learned just now, and the installation that wrote each.
    pub learned: Vec<(SnapshotId, InstanceId)>,
    /// What is worth saying.
    pub findings: Vec<Finding>,
    /// Why the catalog could not be made to agree, if it could not; the rest of the survey holds all the same.
    pub catalog_failure: Option<CatalogError>,
}

impl Survey {
    /// Keeps the catalog's first failure.
    fn noted<T: Default>(&mut self, result: Result<T, CatalogError>) -> T {
        result.unwrap_or_else(|error| {
            self.catalog_failure.get_or_insert(error);
            T::default()
        })
    }
}

/// Makes the catalog agree with what the vault holds now: forgets what vanished, learns what is new and believed.
pub fn survey(
    vault: &Vault,
    id: &VaultId,
    node: &NodeName,
    trusted: &Trusted,
    catalog: &Catalog,
) -> Result<Survey, Error> {
    let mut found = Survey::default();
    let entries = entries(vault, node)?;
    let mut committed = BTreeSet::new();
    let mut rows: BTreeMap<SnapshotId, SnapshotRow> =
        found.noted(catalog.snapshots(id)).into_iter().map(|row| (row.id.clone(), row)).collect();
    for entry in entries {
        if entry.id.sequence() <= SEQUENCE_MAX {
            found.sequence = found.sequence.max(entry.id.sequence());
        }
        if !entry.is_committed() {
            continue;
        }
        committed.insert(entry.id.clone());
        if found.latest.as_ref().is_none_or(|latest| entry.id.moment() > latest.moment()) {
            found.latest = Some(entry.id.clone());
        }
        if let Some(row) = rows.remove(&entry.id) {
            found.head = Some((row.id, row.manifest_sha256));
            continue;
        }
        match believe(vault, node, &entry.id, trusted) {
            Ok(believed) => {
                found.noted(learn(catalog, id, &believed));
                found.learned.push((entry.id.clone(), believed.manifest.instance));
                found.attested = believed.manifest.attested;
                found.head = Some((entry.id, believed.sha256));
            }
            Err(Disbelief::Vault(error)) => return Err(error.into()),
            Err(reason) => found.findings.push(disbelieved(vault, &entry.id, &reason)),
        }
    }
    if let Some(head) = found.noted(catalog.head(id)) {
        // Its number is not given again: two snapshots of one number would look like one.
        found.sequence = found.sequence.max(head.snapshot.sequence());
        if !committed.contains(&head.snapshot) {
            rows.remove(&head.snapshot);
            found.noted(catalog.remove_snapshot(id, &head.snapshot));
            found.findings.push(
                Finding::new(
                    Level::Damage,
                    "rolled-back",
                    format!("{}: {}", vault.name(), head.snapshot),
                    "this host committed it there as the newest, and it is gone: the vault was rolled back",
                )
                .with_hint("find out who changed the vault; copy the snapshot back from another one"),
            );
        }
    }
    for vanished in rows.into_keys() {
        found.findings.push(
            Finding::new(
                Level::Note,
                "snapshot-gone",
                format!("{}: {vanished}", vault.name()),
                "this snapshot was in the vault and is no longer",
            )
            .with_hint("`relay-backup verify` tells pruning from damage"),
        );
        found.noted(catalog.remove_snapshot(id, &vanished));
    }
    Ok(found)
}

/// The finding for a snapshot that is dated after this moment and is not the newest.
pub fn from_the_future(subject: &str, snapshot: &SnapshotId) -> Finding {
    let message =
        format!("{snapshot} is dated in the future: a clock was ahead when it was taken, or this one is behind");
    let hint = "nothing is lost by it and nothing need be done: snapshots are ordered by their numbers, so `latest` is \
                right; see that the clocks are";
    Finding::new(Level::Note, "from-the-future", subject, message).with_hint(hint)
}

/// The finding for a manifest that cannot be believed.
pub fn disbelieved(vault: &Vault, snapshot: &SnapshotId, reason: &Disbelief) -> Finding {
    let code = match reason {
        Disbelief::Manifest(ManifestError::Format { .. }) => "manifest-format",
        Disbelief::Untrusted(_) => "signature-untrusted",
        Disbelief::Unreadable(_) => "manifest-unreadable",
        _ => "manifest-forged",
    };
    let hint = match reason {
        Disbelief::Manifest(error) => error.hint(),
        Disbelief::Untrusted(_) => Some(
            "if this key is one of yours, pin it with [[keys.trusted]] in the policy; otherwise it is a forgery".into(),
        ),
        _ => None,
    };
    let hint = hint.unwrap_or_else(|| {
        "do not restore from it; an older snapshot or another vault is the way, and somebody may be able to write to \
         this vault"
            .into()
    });
    let message = format!("the manifest cannot be believed: {reason}");
    Finding::new(Level::Damage, code, format!("{}: {snapshot}", vault.name()), message).with_hint(hint)
}

/// Puts a believed manifest into the catalog.
pub fn learn(catalog: &Catalog, vault: &VaultId, believed: &Believed) -> Result<(), CatalogError> {
    let manifest = &believed.manifest;
    let row = SnapshotRow {
        id: manifest.snapshot.clone(),
        manifest_sha256: believed.sha256.clone(),
        complete: manifest.complete,
        created: manifest.created,
        sequence: manifest.sequence,
    };
    let shared = |artifact: &&manifest::Artifact| artifact.length > crate::base::limits::PRECIOUS_BYTES_MAX;
    let segments = manifest.artifacts.iter().filter(shared);
    let segments = segments
        .flat_map(|artifact| &artifact.segments)
        .map(|segment| (segment.id.clone(), segment.object.clone(), segment.length));
    catalog.add_snapshot(vault, &row, segments)
}

/// The catalog's file, or one in memory where that cannot be used: a catalog is a cache, and its loss stops no backup.
pub fn open_catalog(file: &std::path::Path, findings: &mut Vec<Finding>) -> Result<Catalog, Error> {
    match Catalog::open(file) {
        Ok((catalog, opened)) => {
            findings.extend(catalog_finding(&opened));
            Ok(catalog)
        }
        Err(error) => {
            findings.push(catalog_failed(&error));
            Ok(Catalog::in_memory()?)
        }
    }
}

/// The finding for a catalog that cannot be used.
pub fn catalog_failed(error: &CatalogError) -> Finding {
    let finding = Finding::new(
        Level::Degraded,
        "catalog-failed",
        "catalog",
        format!("it cannot be used, so what is known already may be shipped again: {}", chain(error)),
    );
    match error.hint() {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    }
}

/// What is worth saying of how the catalog was found.
fn catalog_finding(opened: &Opened) -> Option<Finding> {
    let Opened::Rebuilt { aside, why } = opened else { return None };
    Some(Finding::new(
        Level::Note,
        "catalog-rebuilt",
        aside.display().to_string(),
        format!("the catalog could not be used ({why}); it was moved aside and is made anew from the vaults"),
    ))
}
