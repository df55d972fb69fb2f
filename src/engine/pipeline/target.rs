//! One vault of a run: whether it still takes part, what it was given, and what it must be given later.

use super::lock;
use crate::base::ids::{NodeName, SegmentId, Sha256Hex, VaultId};
use crate::base::limits::OBJECT_BYTES_MAX;
use crate::engine::given::NotGiven;
use crate::vault::layout::ObjectKey;
use crate::vault::{Vault, VaultError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// One vault of the run.
pub struct Target<'a> {
    /// The vault.
    pub vault: &'a Vault,
    /// Its id.
    pub id: VaultId,
    failed: OnceLock<VaultError>,
    pub(super) backlog: Mutex<Vec<(SegmentId, Sha256Hex)>>,
    objects: AtomicU64,
    bytes: AtomicU64,
}

impl<'a> Target<'a> {
    /// A vault that takes part.
    pub fn new(vault: &'a Vault, id: VaultId) -> Self {
        Self {
            vault,
            id,
            failed: OnceLock::new(),
            backlog: Mutex::new(Vec::new()),
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Why it takes no more part.
    pub fn failure(&self) -> Option<&VaultError> {
        self.failed.get()
    }

    /// Takes it out of the run.
    pub fn fail(&self, error: VaultError) {
        tracing::warn!(vault = %self.vault.name(), error = %crate::engine::error::chain(&error), "a vault is left behind");
        // Only the first failure is kept; later ones follow from it.
        drop(self.failed.set(error));
    }

    /// Objects and bytes put so far.
    pub fn shipped(&self) -> (u64, u64) {
        (self.objects.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Takes the list of what other vaults of this run took in its stead.
    pub fn take_backlog(&self) -> Vec<(SegmentId, Sha256Hex)> {
        std::mem::take(&mut *lock(&self.backlog))
    }

    /// Puts an object and counts it.
    pub fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<(), VaultError> {
        self.vault.put(key, bytes)?;
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a sealed object and holds it against its name.
pub(in crate::engine) fn read_object(vault: &Vault, node: &NodeName, object: &Sha256Hex) -> Result<Vec<u8>, NotGiven> {
    let bytes = vault.get(&ObjectKey::segment(node, object), OBJECT_BYTES_MAX as u64)?;
    if &Sha256Hex::of(&bytes) != object {
        return Err(NotGiven::damaged("its content does not have the digest that is its name"));
    }
    Ok(bytes)
}
