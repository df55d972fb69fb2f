//! Who may start a node on a final snapshot's channel database. Whoever is about to places a claim in every vault and
//! then looks whether another is there; whoever lets the node stay where it was places a revocation in every vault and
//! then looks whether there is a claim. Each writes before it looks, so of two at work at least one sees the other and
//! both may refuse, but never do both go on. Claims and revocations are not signed: the machine that restores may have
//! no key, and a forged one can only make somebody refuse. Nothing here is ever removed.

use crate::base::fsio;
use crate::base::ids::{NodeName, Sha256Hex, SnapshotId, VaultName};
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::guard::facts::{Claim, Finality};
use crate::manifest::Manifest;
use crate::vault::layout::{ObjectKey, Place, Prefix};
use crate::vault::{Vault, VaultError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The trigger of a final snapshot's manifest. Only a run that stopped the node and stands behind its fence writes it.
pub const FINAL: &str = "final";
const FORMAT: u64 = 1;
/// Longest text of a stranger's that is repeated, in characters.
const WHO_CHARS_MAX: usize = 200;

/// Who writes a claim or a revocation.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The same for every look of one run, and new for every other, also for one that goes on where this was cut off:
    /// of two copies of one journal the first that goes on is then told from the other.
    pub random: [u8; 16],
    /// For a person: the machine's name, and what it is doing.
    pub who: &'a str,
    /// When.
    pub at: Timestamp,
}

/// What lies beside a final snapshot in one or more vaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Each claim once, by its object's key: who wrote it and in which vaults it lies.
    pub claims: BTreeMap<ObjectKey, Mark>,
    /// The same of revocations.
    pub revocations: BTreeMap<ObjectKey, Mark>,
    /// How many things lie there that this version cannot read: each may be either.
    pub unreadable: u64,
}

/// One claim or revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Who wrote it, as it says itself.
    pub who: String,
    /// The vaults in which it was seen.
    pub vaults: Vec<VaultName>,
}

/// Why nobody can say whose a final snapshot is.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// No vault was given.
    #[error("there is no vault in which {snapshot} could be claimed")]
    NoVault {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Something lies among the claims that this version cannot read.
    #[error("among the claims to {snapshot} lies something that this version cannot read; it may be undone")]
    Unreadable {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A vault said that it took the object and does not list it.
    #[error("vault {vault} says that it took {key} and does not list it")]
    NotKept {
        /// The vault.
        vault: VaultName,
        /// The object.
        key: ObjectKey,
    },
}

impl ClaimError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoVault { .. } => Some("name a policy, or a vault, that holds the snapshot".to_owned()),
            Self::Vault(error) => error.hint(),
            Self::Unreadable { .. } => Some("use the newest version of this program, and look who put it there".to_owned()),
            Self::NotKept { .. } => Some(
                "this store loses what it is given, or lists it late: wait a few minutes and run the same command again"
                    .to_owned(),
            ),
        }
    }
}

/// What a claim or a revocation says.
#[derive(Serialize, Deserialize)]
struct Said {
    format: u64,
    who: String,
    at: Timestamp,
}

/// Lays claim to a snapshot in every vault given, which must be all of the policy, and tells whether nobody but us has
/// one: `ours` are the random bytes of earlier runs that this one goes on from. Can be called again with the same
/// bytes. Ask [`finality`] after it, never before: a revocation that comes in between would not be seen.
pub fn take(
    vaults: &[Vault],
    node: &NodeName,
    snapshot: &SnapshotId,
    writer: &Writer<'_>,
    ours: &[[u8; 16]],
) -> Result<Claim, ClaimError> {
    if vaults.is_empty() {
        return Err(ClaimError::NoVault { snapshot: snapshot.clone() });
    }
    let this = ObjectKey::claim(node, snapshot, writer.random);
    for vault in vaults {
        write(vault, &this, writer)?;
    }
    let mut marks = Marks::default();
    for vault in vaults {
        marks.add(vault, node, snapshot)?;
        marks.must_hold(&this, vault)?;
    }
    let earlier = ours.iter().map(|random| ObjectKey::claim(node, snapshot, *random));
    Ok(marks.standing(earlier.chain([this]), snapshot))
}

/// What [`take`] would come to if it were called now: it writes nothing. `ours` are the random bytes of interrupted
/// runs that this one goes on from.
pub fn foresee(
    vaults: &[Vault],
    node: &NodeName,
    snapshot: &SnapshotId,
    ours: &[[u8; 16]],
) -> Result<Claim, ClaimError> {
    let ours = ours.iter().map(|random| ObjectKey::claim(node, snapshot, *random));
    Ok(look(vaults, node, snapshot)?.standing(ours, snapshot))
}

/// Whether a snapshot is a node's last state: it is marked so, is complete, and nobody took it back in any vault given.
pub fn finality(vaults: &[Vault], manifest: &Manifest) -> Result<Finality, ClaimError> {
    if manifest.trigger != FINAL || !manifest.complete {
        return Ok(Finality::Ordinary);
    }
    if vaults.is_empty() {
        return Err(ClaimError::NoVault { snapshot: manifest.snapshot.clone() });
    }
    let marks = look(vaults, &manifest.node, &manifest.snapshot)?;
    if marks.revocations.is_empty() && marks.unreadable > 0 {
        return Err(ClaimError::Unreadable { snapshot: manifest.snapshot.clone() });
    }
    Ok(if marks.revocations.is_empty() { Finality::Final } else { Finality::Revoked })
}

/// All claims and revocations of a snapshot in these vaults.
pub fn look(vaults: &[Vault], node: &NodeName, snapshot: &SnapshotId) -> Result<Marks, ClaimError> {
    let mut marks = Marks::default();
    for vault in vaults {
        marks.add(vault, node, snapshot)?;
    }
    Ok(marks)
}

/// Takes a snapshot back in one vault, and looks whether the vault kept it.
pub fn revoke(vault: &Vault, node: &NodeName, snapshot: &SnapshotId, writer: &Writer<'_>) -> Result<(), ClaimError> {
    let ours = ObjectKey::revocation(node, snapshot, writer.random);
    write(vault, &ours, writer)?;
    let mut marks = Marks::default();
    marks.add(vault, node, snapshot)?;
    marks.must_hold(&ours, vault)
}

/// Puts the object unless it is there, and makes it durable in either case.
fn write(vault: &Vault, key: &ObjectKey, writer: &Writer<'_>) -> Result<(), VaultError> {
    if vault.length(key)?.is_none() {
        let said = Said { format: FORMAT, who: writer.who.to_owned(), at: writer.at };
        let bytes = serde_json::to_vec(&said).unwrap_or_default();
        vault.put(key, &bytes)?;
    }
    vault.settle()
}

impl Marks {
    /// Adds what one vault lists. What cannot be understood counts as a claim: somebody put it there.
    fn add(&mut self, vault: &Vault, node: &NodeName, snapshot: &SnapshotId) -> Result<(), VaultError> {
        let listing = vault.list(&Prefix::claims(node, snapshot))?;
        let is_known = |key: &ObjectKey| matches!(key.place(), Place::Claim { .. } | Place::Revocation { .. });
        let unknown = listing.objects.iter().filter(|listed| !is_known(&listed.key)).count() as u64;
        self.unreadable += listing.strangers_count + unknown;
        for listed in listing.objects {
            let marks = match listed.key.place() {
                Place::Revocation { .. } => &mut self.revocations,
                _ => &mut self.claims,
            };
            let mark = match marks.get_mut(&listed.key) {
                Some(mark) => mark,
                None => {
                    let who = who(vault, &listed.key);
                    marks.entry(listed.key).or_insert(Mark { who, vaults: Vec::new() })
                }
            };
            mark.vaults.push(vault.name().clone());
        }
        Ok(())
    }

    /// Whose the snapshot is, when these claims are ours.
    fn standing(mut self, ours: impl Iterator<Item = ObjectKey>, snapshot: &SnapshotId) -> Claim {
        for ours in ours {
            self.claims.remove(&ours);
        }
        if self.claims.is_empty() && self.unreadable == 0 {
            return Claim::OursAlone { snapshot: snapshot.clone() };
        }
        let mut who: Vec<String> = self.claims.into_iter().map(|(key, mark)| format!("{} ({key})", mark.who)).collect();
        if who.is_empty() {
            who.push("something that this version cannot read".to_owned());
        }
        Claim::Others { who }
    }

    fn must_hold(&self, key: &ObjectKey, vault: &Vault) -> Result<(), ClaimError> {
        let mark = self.claims.get(key).or_else(|| self.revocations.get(key));
        if mark.is_some_and(|mark| mark.vaults.contains(vault.name())) {
            return Ok(());
        }
        Err(ClaimError::NotKept { vault: vault.name().clone(), key: key.clone() })
    }

    /// The claims in words, for a message.
    pub fn claimants(&self) -> String {
        let claims = self.claims.iter().map(|(key, mark)| format!("{} ({key})", mark.who));
        claims.collect::<Vec<_>>().join(", ")
    }
}

/// This machine, for a person who must tell it from another, also from a copy of its disk: its name, and the first
/// digits of its machine id (hashed, machine-id(5)) and of the id that the kernel made when it started.
pub fn this_machine() -> String {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let first = |text: String| text.chars().filter(char::is_ascii_hexdigit).take(8).collect::<String>();
    let read = |path: &str| fsio::read(Path::new(path), SMALL_OBJECT_BYTES_MAX).ok();
    let machine =
        read("/etc/machine-id").map(|id| first(Sha256Hex::of(&[b"relay-backup ", &id[..]].concat()).to_string()));
    let boot = read("/proc/sys/kernel/random/boot_id").map(|id| first(String::from_utf8_lossy(&id).into_owned()));
    let told = |id: Option<String>| id.unwrap_or_else(|| "unknown".to_owned());
    format!("{hostname} (machine {}, started as {})", told(machine), told(boot))
}

/// Who wrote it, as it says itself; anybody can have written anything, so it is made fit to be printed.
fn who(vault: &Vault, key: &ObjectKey) -> String {
    let said =
        vault.get(key, SMALL_OBJECT_BYTES_MAX).ok().and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok());
    let Some(said) = said else { return "somebody who does not say who".to_owned() };
    let who: String = said.who.chars().take(WHO_CHARS_MAX).flat_map(char::escape_debug).collect();
    format!("{who}, at {}", said.at)
}

#[cfg(test)]
mod tests;
