//! A vault: a place that holds snapshots, a folder or a bucket prefix. Knows keys and bytes, not what they mean.
//!
//! An object is written once under a name that follows from its bytes, and a manifest is written last; this module
//! gives what that needs: a put that is whole or not there, a barrier ([`Vault::settle`]) after which what was put
//! survives a power cut, and listings that are whole or an error. Whether a store refuses to overwrite is never
//! relied upon ([`Vault::probe`] says what it does). All calls block and must not be made from async code.

mod answer;
mod clock;
mod credentials;
mod error;
mod folder;
pub mod layout;
mod objects;
mod pace;
pub mod probe;
mod s3;
mod service;
mod transport;

#[cfg(test)]
#[path = "../tests/support/faulty.rs"]
mod faulty;
#[cfg(test)]
mod tests;

pub use answer::StoreError;
pub use error::{Trouble, VaultError};
pub use layout::{ObjectKey, Place, Prefix};
pub use probe::{Answer, Condition, Probe, WriteOnce};

use crate::base::clock::Clock;
use crate::base::ids::{NodeName, VaultId, VaultName};
use crate::base::interrupt::Interrupt;
use crate::base::limits;
use crate::policy::{VaultPolicy, VaultUrl};
use error::BadVaultJson;
use folder::FolderStore;
use jiff::Timestamp;
use objects::{Created, ObjectStore};
use pace::Pace;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The format of a vault that this program writes and reads.
const FORMAT: u64 = 1;

/// A vault that was opened. Cheap to clone; may be used by several threads at once.
#[derive(Clone, Debug)]
pub struct Vault(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: VaultName,
    store: Store,
    /// Shared with the copies of this vault that have another patience: it is one uplink.
    pace: Option<Arc<Pace>>,
}

#[derive(Debug)]
enum Store {
    Folder(FolderStore),
    Objects(ObjectStore),
}

/// What `vault.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultInfo {
    /// The vault's id, random.
    pub id: VaultId,
    /// When it was created, by the clock of the host that did.
    pub created: Timestamp,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub length: u64,
    /// When it was stored, by the store's clock; none where the store does not tell.
    pub stored: Option<Timestamp>,
}

/// What a store says of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its length in bytes.
    pub length: u64,
    /// When it was stored, by the store's clock; none where the store does not tell.
    pub stored: Option<Timestamp>,
}

/// A whole listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects, sorted by key. They may be ones that the layout does not know ([`Place::Unknown`]).
    pub objects: Vec<Listed>,
    /// Names that cannot be an object of a vault, escaped and cut so that they can be printed; at most
    /// [`limits::STRANGERS_MAX`]. They are never used as a path.
    pub strangers: Vec<String>,
    /// How many such names there are in all.
    pub strangers_count: u64,
}

impl Listing {
    fn add_stranger(&mut self, name: &str) {
        self.strangers_count += 1;
        if self.strangers.len() < limits::STRANGERS_MAX {
            self.strangers.push(name.chars().take(200).flat_map(char::escape_debug).collect());
        }
    }
}

/// How long and how often an object store is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often in all, at least once.
    pub tries: u32,
    /// Pause after the first failed try; each further one is four times as long.
    pub pause: Duration,
    /// Longest wait for an answer that carries no object.
    pub control: Duration,
    /// Longest wait for an object, before its length is taken into account.
    pub transfer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: limits::VAULT_TRIES,
            pause: limits::VAULT_PAUSE_FIRST,
            control: limits::VAULT_CONTROL_WAIT,
            transfer: limits::VAULT_TRANSFER_WAIT,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct VaultJson {
    format: u64,
    vault: VaultId,
    created: String,
}

impl Vault {
    /// Opens a vault of the policy. Touches neither disk nor network: [`Vault::identify`] says whether there is one.
    pub fn open(policy: &VaultPolicy) -> Result<Self, VaultError> {
        let store = Store::open(&policy.name, &policy.url, policy.credentials_file.as_deref())?;
        let pace = policy.bandwidth.filter(|rate| *rate > 0).map(|rate| Arc::new(Pace::new(rate)));
        Ok(Self(Arc::new(Inner { name: policy.name.clone(), store, pace })))
    }

    /// Opens the vault at a URL, under a name for messages. Touches neither disk nor network.
    pub fn open_url(name: VaultName, url: &VaultUrl, credentials_file: Option<&Path>) -> Result<Self, VaultError> {
        let store = Store::open(&name, url, credentials_file)?;
        Ok(Self(Arc::new(Inner { name, store, pace: None })))
    }

    /// A vault in any store that OpenDAL knows. The operator must have no retry or timeout layer of its own: both are
    /// set here, around whole operations.
    pub fn from_operator(name: VaultName, operator: opendal::Operator) -> Result<Self, VaultError> {
        let store = Store::Objects(ObjectStore::new(name.clone(), operator, Patience::default())?);
        Ok(Self(Arc::new(Inner { name, store, pace: None })))
    }

    /// The same vault; a wish to stop ends the waits that its bandwidth asks for.
    #[must_use]
    pub fn stopped_by(self, interrupt: &Interrupt) -> Self {
        if let Some(pace) = &self.0.pace {
            pace.stop_with(interrupt);
        }
        self
    }

    /// The same vault, tried for longer or less long: to be called right after it was opened, because what was put
    /// through one is not settled by the other. A folder is not tried again in any case.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        let store = match &self.0.store {
            Store::Folder(store) => Store::Folder(FolderStore::new(self.0.name.clone(), store.root().to_owned())),
            Store::Objects(store) => Store::Objects(store.with_patience(patience)),
        };
        Self(Arc::new(Inner { name: self.0.name.clone(), store, pace: self.0.pace.clone() }))
    }

    /// The same vault for what is not worth a second try; what was put through one is not settled by the other.
    #[must_use]
    pub fn tried_once(&self) -> Self {
        match &self.0.store {
            Store::Folder(_) => self.with_patience(Patience::default()),
            Store::Objects(store) => self.with_patience(Patience { tries: 1, ..store.patience() }),
        }
    }

    /// The vault's name in messages.
    pub fn name(&self) -> &VaultName {
        &self.0.name
    }

    /// Reads `vault.json`. `None` when there is no vault at that place: no folder, or nothing of that name in it.
    pub fn identify(&self) -> Result<Option<VaultInfo>, VaultError> {
        let key = ObjectKey::vault_json();
        let bytes = match self.get(&key, limits::SMALL_OBJECT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(VaultError::NotFound { .. } | VaultError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let malformed = |source: BadVaultJson| VaultError::Malformed {
            vault: self.0.name.clone(),
            key: key.to_string(),
            source: Box::new(source),
        };
        let header: Header = serde_json::from_slice(&bytes).map_err(|error| malformed(error.into()))?;
        if header.format != FORMAT {
            return Err(VaultError::Format { vault: self.0.name.clone(), format: header.format });
        }
        let json: VaultJson = serde_json::from_slice(&bytes).map_err(|error| malformed(error.into()))?;
        let created = json.created.parse().map_err(|error: jiff::Error| malformed(error.into()))?;
        Ok(Some(VaultInfo { id: json.vault, created }))
    }

    /// Makes a vault: creates the folder where there is none and writes `vault.json`, durably. Refuses, and changes
    /// nothing, where there is a vault already ([`VaultError::Exists`]) or one that lost its `vault.json`
    /// ([`VaultError::Leftovers`]).
    pub fn create(&self, id: &VaultId, now: Timestamp) -> Result<VaultInfo, VaultError> {
        if self.identify()?.is_some() {
            return Err(VaultError::Exists { vault: self.0.name.clone() });
        }
        if let Store::Folder(store) = &self.0.store {
            store.create_root()?;
        }
        if !self.nodes()?.is_empty() {
            return Err(VaultError::Leftovers { vault: self.0.name.clone() });
        }
        let key = ObjectKey::vault_json();
        let json = VaultJson { format: FORMAT, vault: id.clone(), created: now.to_string() };
        let mut bytes = serde_json::to_vec(&json).map_err(|error| VaultError::Malformed {
            vault: self.0.name.clone(),
            key: key.to_string(),
            source: Box::new(error),
        })?;
        bytes.push(b'\n');
        self.put_new(&key, &bytes)?;
        self.settle()?;
        Ok(VaultInfo { id: id.clone(), created: now })
    }

    /// Puts one object, whole: nobody ever sees a part of it. In a folder the bytes are on the disk when this returns,
    /// the name is only after [`Vault::settle`]. An object of the same name is replaced. Each try waits its turn
    /// where the policy sets a bandwidth.
    pub fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<(), VaultError> {
        match &self.0.store {
            Store::Folder(store) => {
                self.wait_turn(bytes)?;
                store.put(key, bytes)
            }
            Store::Objects(store) => store.put(key, bytes, &|| self.wait_turn(bytes)),
        }
    }

    fn wait_turn(&self, bytes: &[u8]) -> Result<(), VaultError> {
        match &self.0.pace {
            Some(pace) if !pace.wait(bytes.len() as u64) => Err(VaultError::Stopped { vault: self.0.name.clone() }),
            Some(_) | None => Ok(()),
        }
    }

    /// The durability barrier: when it returns, every object that was put through this vault since the last call, and
    /// every one that was listed or looked at, survives a power cut. Call it before a manifest is put and after. In an
    /// object store a put is durable by itself and this does nothing.
    pub fn settle(&self) -> Result<(), VaultError> {
        match &self.0.store {
            Store::Folder(store) => store.settle(),
            Store::Objects(_) => Ok(()),
        }
    }

    /// Reads one object of at most `limit` bytes, whole. [`VaultError::NotFound`], [`VaultError::TooLarge`] and
    /// [`VaultError::ShortRead`] (other than the store's own length of it) are errors of their own.
    pub fn get(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, VaultError> {
        match &self.0.store {
            Store::Folder(store) => store.get(key, limit),
            Store::Objects(store) => store.get(key, limit),
        }
    }

    /// The length of an object in bytes; `None` when there is none of that name.
    pub fn length(&self, key: &ObjectKey) -> Result<Option<u64>, VaultError> {
        Ok(self.look(key)?.map(|look| look.length))
    }

    /// What the store says of an object; `None` when there is none of that name.
    pub fn look(&self, key: &ObjectKey) -> Result<Option<Look>, VaultError> {
        match &self.0.store {
            Store::Folder(store) => store.look(key),
            Store::Objects(store) => store.look(key),
        }
    }

    /// Everything below a prefix, sorted by key. A listing that breaks off is an error, never a shorter list. About 250
    /// bytes of memory per object: list a node's segments by [`Prefix::segments_part`], or [`Vault::visit`] them.
    pub fn list(&self, prefix: &Prefix) -> Result<Listing, VaultError> {
        let mut listing = match &self.0.store {
            Store::Objects(store) => store.list(prefix)?,
            Store::Folder(store) => {
                let mut objects = Vec::new();
                let mut listing = store.visit(prefix, &mut |listed| objects.push(listed))?;
                listing.objects = objects;
                listing
            }
        };
        listing.objects.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        Ok(listing)
    }

    /// The store's clock: the one by which it says when an object was stored. Puts no object; on a folder that another
    /// machine serves, a file without content appears for a moment among those that are being put.
    pub fn now(&self, clock: Clock) -> Result<Timestamp, VaultError> {
        match &self.0.store {
            Store::Folder(store) => store.now(clock),
            Store::Objects(store) => store.now(),
        }
    }

    /// Whether things in it are dated by this machine's own clock, as on a disk of its own.
    pub fn is_dated_by_this_machine(&self) -> bool {
        match &self.0.store {
            Store::Folder(store) => store.is_local(),
            Store::Objects(_) => false,
        }
    }

    /// Calls `each` for everything below a prefix, in no order and with no memory kept; the listing that comes back has
    /// only the strangers. What was handed on counts only when this returned `Ok`.
    pub fn visit(&self, prefix: &Prefix, each: &mut dyn FnMut(Listed)) -> Result<Listing, VaultError> {
        match &self.0.store {
            Store::Folder(store) => store.visit(prefix, each),
            Store::Objects(store) => store.visit(prefix, each),
        }
    }

    /// The nodes that have something in this vault, sorted. Names that no node can have are left out.
    pub fn nodes(&self) -> Result<Vec<NodeName>, VaultError> {
        let names = match &self.0.store {
            Store::Folder(store) => store.folders(&Prefix::nodes()),
            Store::Objects(store) => store.folders(&Prefix::nodes()),
        }?;
        let mut nodes: Vec<NodeName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        nodes.sort_unstable();
        Ok(nodes)
    }

    /// Removes an object; fine when there is none. For pruners and probes only: everything else is written once.
    pub(crate) fn remove(&self, key: &ObjectKey) -> Result<(), VaultError> {
        match &self.0.store {
            Store::Folder(store) => store.remove(key),
            Store::Objects(store) => store.remove(key),
        }
    }

    /// Puts an object where there is none of that name, as well as the store can tell.
    fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<(), VaultError> {
        self.wait_turn(bytes)?;
        match &self.0.store {
            Store::Folder(store) => store.put_new(key, bytes),
            Store::Objects(store) => match store.put_new(key, bytes)? {
                Created::Taken => Ok(()),
                Created::Refused => Err(VaultError::Exists { vault: self.0.name.clone() }),
                Created::Unsupported => self.put(key, bytes),
            },
        }
    }
}

impl Store {
    fn open(name: &VaultName, url: &VaultUrl, credentials_file: Option<&Path>) -> Result<Self, VaultError> {
        match url {
            VaultUrl::Fs(folder) => Ok(Self::Folder(FolderStore::new(name.clone(), folder.clone()))),
            VaultUrl::S3 { bucket, prefix, endpoint, region } => {
                let place = s3::Bucket { bucket, prefix, endpoint: endpoint.as_deref(), region: region.as_deref() };
                let operator = s3::operator(name, &place, credentials_file)?;
                Ok(Self::Objects(ObjectStore::new(name.clone(), operator, Patience::default())?))
            }
            VaultUrl::Service(url) => {
                let operator = service::operator(name, url, credentials_file)?;
                Ok(Self::Objects(ObjectStore::new(name.clone(), operator, Patience::default())?))
            }
        }
    }
}
