//! The commit of a snapshot in one vault: what other vaults took in its stead is fetched, every object is looked for,
//! the small files are put, and the manifest last. Before the manifest is put the snapshot does not exist.

use super::Context;
use super::Error;
use super::error::chain;
use super::pipeline::{Target, read_object};
use super::survey::{Believed, learn};
use crate::base::ids::{NodeName, Sha256Hex};
use crate::catalog::{Catalog, CatalogError};
use crate::manifest::Manifest;
use crate::vault::layout::{ObjectKey, Place, Prefix, SnapshotFile};
use crate::vault::{Vault, VaultError};
use std::collections::HashMap;

/// Up to this many objects are looked at one by one; above it their folders are listed.
const LOOKS_MAX: usize = 64;

/// A snapshot that is ready to be committed.
pub struct Ready<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Its canonical text.
    pub text: &'a str,
    /// The content of its `.minisig`.
    pub signature: &'a str,
    /// The sealed notes.
    pub notes: &'a [u8],
    /// The sealed epoch key.
    pub epoch_key: &'a [u8],
}

/// Why a snapshot could not be committed in a vault.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The run was interrupted.
    #[error("{}", chain(.0.as_ref()))]
    Engine(Box<Error>),
    /// An object that should be there is not, and no other vault has it.
    #[error("{missing} of the snapshot's objects are missing there, first {first}")]
    Missing {
        /// How many.
        missing: usize,
        /// One of them.
        first: Sha256Hex,
    },
    /// The store said twice that it took a file of the snapshot, and does not hold it.
    #[error("the store says that it took {file} and does not hold it")]
    NotKept {
        /// Which file.
        file: &'static str,
    },
}

impl CommitError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Vault(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Missing { .. } => {
                Some("run `relay-backup backup` again: what is missing is sealed and put anew".into())
            }
            Self::NotKept { .. } => Some(
                "this store loses what it is given: see its log and its free space, and use another one until it is mended"
                    .into(),
            ),
        }
    }
}

/// Commits in one vault; `others` are where missing objects may be fetched from. Gives why the catalog could not note
/// it, if it could not: the snapshot is committed all the same.
pub fn commit(
    context: &Context<'_>,
    catalog: &Catalog,
    ready: &Ready<'_>,
    target: &Target<'_>,
    mut others: Vec<&Target<'_>>,
) -> Result<Option<CatalogError>, CommitError> {
    let engine = |error: Error| CommitError::Engine(Box::new(error));
    for (_, object) in target.take_backlog() {
        context.check().map_err(engine)?;
        fetch(context, catalog, ready.node, target, &mut others, &object)?;
    }
    ensure_present(context, catalog, ready, target, &mut others)?;
    context.check().map_err(engine)?;
    let snapshot = &ready.manifest.snapshot;
    let small = [
        (SnapshotFile::EpochKey, ready.epoch_key),
        (SnapshotFile::Notes, ready.notes),
        (SnapshotFile::Signature, ready.signature.as_bytes()),
    ];
    for (file, bytes) in small {
        put_and_look(ready, target, file, bytes)?;
    }
    target.vault.settle()?;
    put_and_look(ready, target, SnapshotFile::Manifest, ready.text.as_bytes())?;
    target.vault.settle()?;
    let believed = Believed { manifest: ready.manifest.clone(), sha256: Sha256Hex::of(ready.text.as_bytes()) };
    let noted = learn(catalog, &target.id, &believed)
        .and_then(|()| catalog.record_committed(&target.id, snapshot, &believed.sha256));
    Ok(noted.err())
}

/// Puts a file of the snapshot and looks whether it is there; once more when it is not. The manifest names these files
/// or is believed through them, so a store's word alone does not count.
fn put_and_look(ready: &Ready<'_>, target: &Target<'_>, file: SnapshotFile, bytes: &[u8]) -> Result<(), CommitError> {
    let key = ObjectKey::snapshot(ready.node, &ready.manifest.snapshot, file);
    for _ in 0..2 {
        target.put(&key, bytes)?;
        if target.vault.length(&key)? == Some(bytes.len() as u64) {
            return Ok(());
        }
    }
    Err(CommitError::NotKept { file: file.name() })
}

/// Gives a vault an object that another one has. Whether it could is seen when presence is checked.
fn fetch(
    context: &Context<'_>,
    catalog: &Catalog,
    node: &NodeName,
    target: &Target<'_>,
    others: &mut Vec<&Target<'_>>,
    object: &Sha256Hex,
) -> Result<(), CommitError> {
    let mut bytes = None;
    others.retain(|other| {
        if bytes.is_some() {
            return true;
        }
        bytes = read_object(other.vault, node, object).ok();
        // One that failed before is not asked again: every question to it could take minutes.
        bytes.is_some() || other.failure().is_none()
    });
    let Some(bytes) = bytes else {
        tracing::warn!(vault = %target.vault.name(), %object, "no other vault gives this object");
        return Ok(());
    };
    target.put(&ObjectKey::segment(node, object), &bytes)?;
    if let Err(error) = catalog.record_put(&target.id, object, context.now()) {
        tracing::warn!(error = %chain(&error), "the catalog does not note a put; the manifest will");
    }
    Ok(())
}

/// Looks for every object the manifest names; what is missing is fetched from another vault, looked for again, and
/// otherwise forgotten, so that the next run seals it anew.
fn ensure_present(
    context: &Context<'_>,
    catalog: &Catalog,
    ready: &Ready<'_>,
    target: &Target<'_>,
    others: &mut Vec<&Target<'_>>,
) -> Result<(), CommitError> {
    let mut missing = absent(target.vault, ready.node, ready.manifest)?;
    if missing.is_empty() {
        return Ok(());
    }
    for object in &missing {
        fetch(context, catalog, ready.node, target, others, object)?;
    }
    missing.retain(|object| {
        let length = ready.manifest.segments().find(|segment| &segment.object == object).map(|segment| segment.length);
        !matches!(target.vault.length(&ObjectKey::segment(ready.node, object)), Ok(found) if found == length)
    });
    let Some(first) = missing.first().cloned() else { return Ok(()) };
    for object in &missing {
        if let Err(error) = catalog.forget_object(&target.id, object) {
            tracing::warn!(error = %chain(&error), %object, "the catalog still believes that the vault has this object");
        }
    }
    Err(CommitError::Missing { missing: missing.len(), first })
}

/// The objects that a manifest names and the vault does not hold with the length it names.
pub fn absent(vault: &Vault, node: &NodeName, manifest: &Manifest) -> Result<Vec<Sha256Hex>, VaultError> {
    let mut wanted: HashMap<&Sha256Hex, u64> =
        manifest.segments().map(|segment| (&segment.object, segment.length)).collect();
    if wanted.len() <= LOOKS_MAX {
        let mut missing = Vec::new();
        for (object, length) in wanted {
            if vault.length(&ObjectKey::segment(node, object))? != Some(length) {
                missing.push(object.clone());
            }
        }
        missing.sort_unstable();
        return Ok(missing);
    }
    vault.visit(&Prefix::segments(node), &mut |listed| {
        if let Place::Segment { object, .. } = listed.key.place()
            && wanted.get(&object) == Some(&listed.length)
        {
            wanted.remove(&object);
        }
    })?;
    let mut missing: Vec<Sha256Hex> = wanted.into_keys().cloned().collect();
    missing.sort_unstable();
    Ok(missing)
}
