//! The state folder: what this installation is and holds. Signing key, dedup key, the epoch's recipient and sealed
//! key, attestations, catalog and lock. No identity is ever in it.

use super::Error;
use crate::base::clock::Clock;
use crate::base::fsio::{self, FileError};
use crate::base::ids::{EpochId, InstanceId, NodeName, SnapshotId, SourceName};
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::base::lock::Lock;
use crate::facts::cln::Attestation;
use crate::policy::Policy;
use crate::seal::identity::EpochRecipient;
use crate::seal::names::DedupKey;
use crate::seal::recipients::Recipients;
use crate::seal::sign::{SigningKey, Trusted, VerifyingKey};
use crate::seal::{SealError, random};
use crate::witness::{Signed, Witness};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FORMAT: u64 = 1;
/// How many snapshots are remembered that this host was about to commit.
const COMMITTING_MAX: usize = 32;

/// Where things lie in the state folder.
#[derive(Clone, Debug)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// The policy's state folder.
    pub fn of(policy: &Policy) -> Self {
        Self(policy.state_dir.clone())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The lock of the one writer.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The catalog.
    pub fn catalog(&self) -> PathBuf {
        self.0.join("catalog.sqlite3")
    }

    fn host(&self) -> PathBuf {
        self.0.join("host.json")
    }

    fn signing_key(&self) -> PathBuf {
        self.0.join("signing.key")
    }

    fn dedup_key(&self) -> PathBuf {
        self.0.join("dedup.key")
    }

    fn epoch_key(&self, epoch: &EpochId) -> PathBuf {
        self.0.join(format!("epoch-{epoch}.age"))
    }

    /// What each vault's store was seen to do.
    pub(super) fn stores(&self) -> PathBuf {
        self.0.join("stores.json")
    }

    fn attested(&self) -> PathBuf {
        self.0.join("attested.json")
    }

    fn committing(&self) -> PathBuf {
        self.0.join("committing.json")
    }

    fn revoking(&self) -> PathBuf {
        self.0.join("revoking.json")
    }

    fn witness(&self) -> PathBuf {
        self.0.join("witness.json")
    }

    fn departed(&self) -> PathBuf {
        self.0.join("final.json")
    }
}

/// What `host.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFile {
    format: u64,
    node: NodeName,
    instance: InstanceId,
    created: Timestamp,
    epoch: EpochId,
    epoch_recipient: String,
    /// The recipients that the epoch's key is sealed to.
    recipients: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestedFile {
    format: u64,
    /// The attestations in force, one a source.
    current: Vec<Attestation>,
    /// Those that were replaced by `attest`, oldest first; never forgotten.
    replaced: Vec<Attestation>,
}

/// What `final.json` says: the last final snapshot of this host that was not taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FinalFile {
    format: u64,
    snapshot: SnapshotId,
    since: Timestamp,
}

/// What `committing.json` says: the last snapshots that this host was about to commit, newest last. A run that is
/// killed right after a vault took its manifest knows no more of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommittingFile {
    format: u64,
    snapshots: Vec<SnapshotId>,
}

/// What `revoking.json` says: the random parts of the revocations that this host wrote, hexadecimal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokingFile {
    format: u64,
    randoms: Vec<String>,
}

/// What `witness.json` says: the newest witness that this host printed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessFile {
    format: u64,
    line: String,
}

/// This installation.
#[derive(Debug)]
pub struct HostState {
    /// Where it lies.
    pub folder: StateFolder,
    /// Its random id.
    pub instance: InstanceId,
    /// The key that signs manifests.
    pub signing: SigningKey,
    /// What ids are derived from.
    pub dedup: DedupKey,
    /// Whom segments are sealed to.
    pub epoch: EpochRecipient,
    /// The epoch's key, sealed to the recipients.
    pub sealed_epoch: Vec<u8>,
    /// The recipients it is sealed to, as text.
    pub recipients: Vec<String>,
    attested: AttestedFile,
}

/// An epoch key that was made elsewhere and comes sealed.
pub struct SealedEpoch {
    /// The epoch's recipient, as text.
    pub recipient: String,
    /// The epoch's identity, sealed to the policy's recipients by whoever made it.
    pub sealed: Vec<u8>,
}

impl HostState {
    /// Reads the state of this host.
    pub fn load(policy: &Policy) -> Result<Self, Error> {
        let folder = StateFolder::of(policy);
        let host = read_json::<HostFile>(&folder.host())?
            .ok_or_else(|| Error::NotInitialised { folder: folder.path().to_owned() })?;
        if host.node != policy.node {
            return Err(Error::OtherNode {
                folder: folder.path().to_owned(),
                found: host.node,
                wanted: policy.node.clone(),
            });
        }
        let signing = SigningKey::read(&folder.signing_key())?;
        let dedup = DedupKey::from_hex(&fsio::read_private(&folder.dedup_key(), SMALL_OBJECT_BYTES_MAX)?)?;
        let sealed_epoch = fsio::read(&folder.epoch_key(&host.epoch), SMALL_OBJECT_BYTES_MAX)?;
        let epoch = EpochRecipient::parse(host.epoch, &host.epoch_recipient)?;
        let attested = read_json::<AttestedFile>(&folder.attested())?.unwrap_or_default();
        Ok(Self {
            folder,
            instance: host.instance,
            signing,
            dedup,
            epoch,
            sealed_epoch,
            recipients: host.recipients,
            attested,
        })
    }

    /// Takes the lock of the one writer and then reads the state, so that nobody changes it between the two.
    pub fn load_locked(policy: &Policy, verb: &str, clock: Clock) -> Result<(Self, Lock), Error> {
        let folder = StateFolder::of(policy);
        if !Self::exists(policy) {
            return Err(Error::NotInitialised { folder: folder.path().to_owned() });
        }
        let lock = Lock::acquire(&folder.lock(), verb, clock)?;
        Ok((Self::load(policy)?, lock))
    }

    /// Makes the state of a new host. What an interrupted attempt left is used, nothing is overwritten; `host.json` is
    /// written last and makes it count.
    pub fn create(policy: &Policy, handed: Option<SealedEpoch>, now: Timestamp) -> Result<Self, Error> {
        let folder = StateFolder::of(policy);
        let recipients = Recipients::parse(&policy.keys.recipients)?;
        fsio::create_folder(folder.path(), 0o700)?;
        if !folder.signing_key().exists() {
            let (_, content) = SigningKey::generate()?;
            fsio::create_durably(&folder.signing_key(), content.expose(), 0o600)?;
        }
        if !folder.dedup_key().exists() {
            fsio::create_durably(&folder.dedup_key(), DedupKey::generate()?.to_hex().expose(), 0o600)?;
        }
        let (epoch, sealed) = match handed {
            None => crate::seal::identity::new_epoch(&recipients, now)?,
            Some(handed) => {
                let id = crate::seal::identity::new_epoch(&recipients, now)?.0.id;
                (EpochRecipient::parse(id, &handed.recipient)?, handed.sealed)
            }
        };
        fsio::create_durably(&folder.epoch_key(&epoch.id), &sealed, 0o600)?;
        let host = HostFile {
            format: FORMAT,
            node: policy.node.clone(),
            instance: hex::encode(random::<16>()?).parse()?,
            created: now,
            epoch: epoch.id.clone(),
            epoch_recipient: epoch.to_text(),
            recipients: policy.keys.recipients.clone(),
        };
        write_json(&folder.host(), &host)?;
        Self::load(policy)
    }

    /// Whether there is any state.
    pub fn exists(policy: &Policy) -> bool {
        StateFolder::of(policy).host().exists()
    }

    /// The attestation in force for a source.
    pub fn attestation(&self, source: &SourceName) -> Option<&Attestation> {
        self.attested.current.iter().find(|attestation| &attestation.source == source)
    }

    /// All attestations in force.
    pub fn attestations(&self) -> &[Attestation] {
        &self.attested.current
    }

    /// Keeps an attestation; one that it replaces is kept beside it.
    pub fn attest(&mut self, attestation: Attestation) -> Result<(), Error> {
        let mut file = self.attested.clone();
        file.format = FORMAT;
        if let Some(place) = file.current.iter().position(|old| old.source == attestation.source) {
            file.replaced.push(file.current.remove(place));
        }
        file.current.push(attestation);
        write_json(&self.folder.attested(), &file)?;
        self.attested = file;
        Ok(())
    }

    /// Remembers that a final snapshot of this id may lie in a vault. To be called before it can.
    pub fn record_final(&self, snapshot: &SnapshotId, since: Timestamp) -> Result<(), Error> {
        write_json(&self.final_file(), &FinalFile { format: FORMAT, snapshot: snapshot.clone(), since })
    }

    /// The final snapshot that this host remembers and that was not taken back.
    pub fn final_on_record(&self) -> Result<Option<SnapshotId>, Error> {
        Ok(read_json::<FinalFile>(&self.final_file())?.map(|file| file.snapshot))
    }

    /// Forgets it; fine when there is none.
    pub fn forget_final(&self) -> Result<(), Error> {
        let file = self.final_file();
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FileError::io("remove", &file)(error).into())
            }
            _ => Ok(fsio::sync_folder_of(&file)?),
        }
    }

    /// Notes, before any vault can hold it, that this host commits this snapshot.
    pub fn about_to_commit(&self, snapshot: &SnapshotId) -> Result<(), Error> {
        let mut file = read_json::<CommittingFile>(&self.folder.committing())?.unwrap_or_default();
        file.format = FORMAT;
        file.snapshots.push(snapshot.clone());
        let surplus = file.snapshots.len().saturating_sub(COMMITTING_MAX);
        file.snapshots.drain(..surplus);
        write_json(&self.folder.committing(), &file)
    }

    /// Whether this host may have committed this snapshot; yes where its note cannot be read.
    pub fn was_about_to_commit(&self, snapshot: &SnapshotId) -> bool {
        match read_json::<CommittingFile>(&self.folder.committing()) {
            Ok(file) => file.is_none_or(|file| file.snapshots.contains(snapshot)),
            Err(_) => true,
        }
    }

    /// The random part of a revocation that is about to be put into the vaults, new, and noted before it can be in one.
    /// A copy of this state that was made before knows nothing of it.
    pub fn new_revocation(&self) -> Result<[u8; 16], Error> {
        let random = random::<16>()?;
        let mut file = read_json::<RevokingFile>(&self.folder.revoking())?.unwrap_or_default();
        file.format = FORMAT;
        file.randoms.push(hex::encode(random));
        write_json(&self.folder.revoking(), &file)?;
        Ok(random)
    }

    /// The random parts of every revocation that this host wrote.
    pub fn revocations(&self) -> Result<Vec<[u8; 16]>, Error> {
        let file = read_json::<RevokingFile>(&self.folder.revoking())?.unwrap_or_default();
        Ok(file.randoms.iter().filter_map(|text| hex::decode(text).ok()?.try_into().ok()).collect())
    }

    /// Makes the witness of this host's newest snapshot, and keeps it for the kit. An earlier one never replaces a
    /// later.
    pub fn bear_witness(&self, says: &Witness) -> Result<String, Error> {
        let line = says.line(&self.signing.sign_short(&says.content())?);
        if self.witness()?.is_none_or(|(kept, _)| !kept.is_later_than(says)) {
            write_json(&self.folder.witness(), &WitnessFile { format: FORMAT, line: line.clone() })?;
        }
        Ok(line)
    }

    /// The newest witness that this host printed, and its line.
    pub fn witness(&self) -> Result<Option<(Witness, String)>, Error> {
        Ok(read_json::<WitnessFile>(&self.folder.witness())?.and_then(|file| {
            // One that this program cannot read says nothing; the next run makes it anew.
            let signed: Signed = file.line.parse().ok()?;
            Some((signed.says, file.line))
        }))
    }

    /// Where it is remembered.
    pub fn final_file(&self) -> PathBuf {
        self.folder.departed()
    }

    /// Begins a new epoch, sealed to the policy's present recipients.
    pub fn rotate(&mut self, policy: &Policy, now: Timestamp) -> Result<(), Error> {
        let recipients = Recipients::parse(&policy.keys.recipients)?;
        let (epoch, sealed) = crate::seal::identity::new_epoch(&recipients, now)?;
        fsio::create_durably(&self.folder.epoch_key(&epoch.id), &sealed, 0o600)?;
        let mut host = read_json::<HostFile>(&self.folder.host())?
            .ok_or_else(|| Error::NotInitialised { folder: self.folder.path().to_owned() })?;
        host.epoch = epoch.id.clone();
        host.epoch_recipient = epoch.to_text();
        host.recipients = policy.keys.recipients.clone();
        write_json(&self.folder.host(), &host)?;
        self.recipients = host.recipients;
        self.epoch = epoch;
        self.sealed_epoch = sealed;
        Ok(())
    }

    /// The keys whose manifests count: this host's own and those the policy pins for nodes.
    pub fn trusted(&self, policy: &Policy) -> Result<Trusted, Error> {
        let mut keys = pinned(policy)?;
        keys.push(self.signing.public().clone());
        Ok(Trusted::new(keys))
    }
}

/// What a manifest attests, in the form that a live secret is held against. The manifest tells neither the secret's
/// format nor its node id; nothing that compares looks at them.
pub fn as_attestation(attested: &crate::manifest::Attested) -> Attestation {
    Attestation {
        source: attested.source.clone(),
        salt: attested.salt.clone(),
        sha256: attested.sha256.clone(),
        format: crate::facts::cln::SecretFormat::Raw,
        node_id: None,
    }
}

/// The keys that the policy pins for nodes.
pub fn pinned(policy: &Policy) -> Result<Vec<VerifyingKey>, SealError> {
    let node_keys = policy.keys.trusted.iter().filter(|key| key.role == crate::policy::KeyRole::Node);
    node_keys.map(|trusted| VerifyingKey::parse(&trusted.key)).collect()
}

pub(super) fn read_json<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<Option<T>, Error> {
    let bytes = match fsio::read(file, SMALL_OBJECT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::State { file: file.to_owned(), source })
}

pub(super) fn write_json(file: &Path, value: &impl Serialize) -> Result<(), Error> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|source| Error::State { file: file.to_owned(), source })?;
    fsio::write_durably(file, &bytes, 0o600).map_err(|error: FileError| error.into())
}
