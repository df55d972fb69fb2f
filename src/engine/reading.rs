//! Reading from vaults: which vaults, which node, whose signatures count; finding a snapshot and opening it. Needs
//! neither catalog nor state: a vault, a signing key and an identity are enough.

use super::error::chain;
use super::given::{NotGiven, nobody_gave};
use super::progress::Event;
use super::state::{HostState, pinned};
use super::survey::{Believed, Disbelief, Entry, believe, disbelieved, entries};
use super::{Context, Error};
use crate::base::ids::{NodeName, Sha256Hex, SnapshotId, VaultId, VaultName};
use crate::base::limits::{NOTES_BYTES_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::base::secret::Secret;
use crate::manifest::Manifest;
use crate::notes::Notes;
use crate::policy::{Policy, VaultPolicy, VaultUrl, Via};
use crate::report::{Finding, Level};
use crate::seal::SealError;
use crate::seal::identity::{EpochIdentity, Identities};
use crate::seal::names::DedupKey;
use crate::seal::sign::{Trusted, Verdict, VerifyingKey};
use crate::vault::layout::{ObjectKey, Place as Found, Prefix, SnapshotFile};
use crate::vault::{Vault, VaultError};
use crate::witness::{Signed, Witness};
use std::collections::BTreeMap;

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest complete one.
    Latest,
    /// This one.
    One(SnapshotId),
}

/// Where to read from.
#[derive(Clone, Debug, Default)]
pub struct From {
    /// A vault of the policy by name, or any vault by URL; all of the policy when absent.
    pub vault: Option<String>,
    /// Another node than the policy's, or the node where there is no policy.
    pub node: Option<String>,
    /// Signing keys to trust besides.
    pub signing_keys: Vec<VerifyingKey>,
    /// Witnesses to hold the vaults against.
    pub witnesses: Vec<Signed>,
}

/// One vault that is read from.
#[derive(Clone, Debug)]
pub struct Place {
    /// The vault.
    pub vault: Vault,
    /// Its id; learned when it is looked at.
    pub id: VaultId,
    /// Where it is; a vault that was named by its URL has no other name.
    pub url: VaultUrl,
    /// Whether RPO and copies count it.
    pub counts: bool,
    /// Whether `backup` writes it.
    pub via: Via,
}

/// Snapshots by id, each with the places that hold it.
pub type Held<'a> = BTreeMap<SnapshotId, Vec<(&'a Place, Entry)>>;

/// The vaults that can be read and what counts in them.
#[derive(Debug)]
pub struct Reader {
    /// The node.
    pub node: NodeName,
    /// The vaults that answered.
    pub places: Vec<Place>,
    /// Whose manifests count.
    pub trusted: Trusted,
    /// What went wrong on the way; a vault that does not answer is one of these.
    pub findings: Vec<Finding>,
    /// How many vaults were asked.
    pub asked: usize,
    /// What witnesses say that a person gave, each signed by a trusted key.
    pub witnesses: Vec<Witness>,
}

impl Reader {
    /// Opens the vaults of the policy, or the one that `from` names; `policy` may be absent when `from` names a URL.
    pub fn open(context: &Context<'_>, policy: Option<&Policy>, from: &From) -> Result<Self, Error> {
        let Looked { places, findings, asked } = look(context, policy, from)?;
        let mut keys = from.signing_keys.clone();
        if let Some(policy) = policy {
            keys.extend(pinned(policy)?);
            if HostState::exists(policy) {
                keys.push(HostState::load(policy)?.signing.public().clone());
            }
        }
        let node = choose_node(policy, from, &places)?;
        if keys.is_empty() {
            return Err(no_key(&places, &node));
        }
        let trusted = Trusted::new(keys);
        let witnesses = from.witnesses.iter().map(|signed| heard(signed, &node, &trusted)).collect::<Result<_, _>>()?;
        Ok(Self { node, places, trusted, findings, asked, witnesses })
    }

    /// The names of the vaults, for messages.
    pub fn place_names(&self) -> String {
        self.places.iter().map(|place| place.vault.name().as_str()).collect::<Vec<_>>().join(", ")
    }

    /// All snapshots that are committed anywhere, oldest first, each with the places that hold it.
    pub fn snapshots(&self) -> Result<Held<'_>, Error> {
        let mut all = Held::new();
        for place in &self.places {
            for entry in entries(&place.vault, &self.node)?.into_iter().filter(Entry::is_committed) {
                all.entry(entry.id.clone()).or_default().push((place, entry));
            }
        }
        Ok(all)
    }

    /// Finds the snapshot that is meant. The newest one that cannot be believed stops the search: taking an older one
    /// in its stead is a person's decision.
    pub fn find(&self, wanted: &Wanted) -> Result<(Believed, Vec<&Place>), Error> {
        let all = self.snapshots()?;
        let none = |wanted: String| Error::NoSnapshot { wanted, node: self.node.clone(), place: self.place_names() };
        if let Wanted::One(id) = wanted {
            let holders = all.get(id).ok_or_else(|| none(id.to_string()))?;
            return self.believe_one(id, holders);
        }
        for (id, holders) in all.iter().rev() {
            let (believed, places) = self.believe_one(id, holders)?;
            if believed.manifest.complete {
                return Ok((believed, places));
            }
        }
        Err(none("complete".into()))
    }

    fn believe_one<'a>(
        &self,
        id: &SnapshotId,
        holders: &[(&'a Place, Entry)],
    ) -> Result<(Believed, Vec<&'a Place>), Error> {
        let mut found: Option<Believed> = None;
        let (mut places, mut reasons, mut unread) = (Vec::new(), Vec::new(), None);
        for (place, _) in holders {
            match believe(&place.vault, &self.node, id, &self.trusted) {
                Ok(believed) => {
                    places.push(*place);
                    found.get_or_insert(believed);
                }
                Err(Disbelief::Manifest(source)) => {
                    return Err(Error::Manifest {
                        snapshot: id.clone(),
                        place: place.vault.name().to_string(),
                        source,
                    });
                }
                Err(Disbelief::Vault(error)) => {
                    tracing::warn!(vault = %place.vault.name(), error = %chain(&error), "a manifest could not be read");
                    unread.get_or_insert(error);
                }
                Err(reason) => reasons.push(format!("{}: {reason}", place.vault.name())),
            }
        }
        match (found, unread) {
            (Some(believed), _) => Ok((believed, places)),
            // Nobody said that it is wrong: the way to it is.
            (None, Some(error)) if reasons.is_empty() => Err(error.into()),
            (None, _) => Err(Error::Forged {
                snapshot: id.clone(),
                place: holders.iter().map(|(place, _)| place.vault.name().as_str()).collect::<Vec<_>>().join(", "),
                reason: reasons.join("; "),
            }),
        }
    }
}

/// What a witness says, when it is this node's and a trusted key signed it.
fn heard(signed: &Signed, node: &NodeName, trusted: &Trusted) -> Result<Witness, Error> {
    let says = &signed.says;
    if says.node != *node {
        return Err(Error::Usage(format!("the witness {says} is of node {}, and this is about {node}", says.node)));
    }
    let why = match trusted.judge_short(&says.content(), &signed.signature) {
        Verdict::Good(_) => return Ok(says.clone()),
        Verdict::Untrusted(key) => format!("it is signed by the key {key}, which is not trusted here"),
        Verdict::Bad(why) => format!("its signature is wrong ({why}): a letter may be missing or changed"),
    };
    Err(Error::Usage(format!(
        "the witness {says} cannot be believed: {why}. Compare it with what `relay-backup backup` printed, and the signing key \
         with the kit"
    )))
}

/// The vaults that answered.
#[derive(Debug)]
pub struct Looked {
    /// The vaults.
    pub places: Vec<Place>,
    /// What is said of those that did not.
    pub findings: Vec<Finding>,
    /// How many were asked.
    pub asked: usize,
}

/// Opens the vaults of the policy, or the one that `from` names. An error when none answers.
pub fn look(context: &Context<'_>, policy: Option<&Policy>, from: &From) -> Result<Looked, Error> {
    let policies = vaults(policy, from)?;
    let any_offsite = policies.iter().any(|vault| vault.offsite);
    let (mut places, mut findings, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for vault_policy in &policies {
        context.check()?;
        context.tell(Event::Step(format!("looking at vault {}", vault_policy.name)));
        let opened = Vault::open(vault_policy).and_then(|vault| Ok((vault.identify()?, vault)));
        match opened {
            Ok((Some(info), vault)) => places.push(Place {
                vault,
                id: info.id,
                url: vault_policy.url.clone(),
                counts: vault_policy.offsite || !any_offsite,
                via: vault_policy.via,
            }),
            Ok((None, _)) => {
                absent.push(vault_policy.url.to_string());
                findings.push(absent_vault(vault_policy.name.as_str()));
            }
            Err(error) => findings.push(unreachable(vault_policy.name.as_str(), &error)),
        }
    }
    if places.is_empty() && absent.len() == policies.len() {
        return Err(Error::NoVault { place: absent.join(", ") });
    }
    if places.is_empty() {
        let reasons: Vec<String> =
            findings.iter().map(|finding| format!("{}: {}", finding.subject, finding.message)).collect();
        let hint = findings.iter().find_map(|finding| finding.hint.clone());
        return Err(Error::NoVaultAnswers { reasons: reasons.join("; "), hint });
    }
    Ok(Looked { places, findings, asked: policies.len() })
}

/// The finding for a place where there is no vault.
pub fn absent_vault(name: &str) -> Finding {
    Finding::new(Level::Degraded, "no-vault", name, "there is no vault at its url")
        .with_hint("check the url (is it mounted?); `relay-backup init` on the node makes a new vault there")
}

/// The findings for vaults that have one id: they are one place, or one is a copy of the other, and count as one.
pub fn copies(places: &[Place]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, place) in places.iter().enumerate() {
        if let Some(first) = places.iter().take(number).find(|first| first.id == place.id) {
            let message = format!(
                "it has the id of vault {}: the two are one place, or one is a copy of the other, so what is in both is there \
                 once and not twice",
                first.vault.name()
            );
            found.push(
                Finding::new(Level::Degraded, "same-vault", place.vault.name().as_str(), message)
                    .with_hint("give each vault a place of its own, and run `relay-backup init` for the new one"),
            );
        }
    }
    found
}

/// The finding for a vault that does not answer.
pub fn unreachable(name: &str, error: &VaultError) -> Finding {
    let finding =
        Finding::new(Level::Degraded, "vault-unreachable", name, format!("it cannot be read: {}", chain(error)));
    match error.hint() {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    }
}

/// The finding for a manifest in one place.
pub fn not_believed(place: &Place, snapshot: &SnapshotId, reason: &Disbelief) -> Finding {
    disbelieved(&place.vault, snapshot, reason)
}

fn vaults(policy: Option<&Policy>, from: &From) -> Result<Vec<VaultPolicy>, Error> {
    let of_policy = policy.map_or(&[][..], |policy| &policy.vaults[..]);
    let Some(wanted) = &from.vault else {
        return if of_policy.is_empty() {
            Err(Error::Usage("there is no policy: say which vault with --vault URL".into()))
        } else {
            Ok(of_policy.to_vec())
        };
    };
    if wanted.contains("://") {
        let url = VaultUrl::parse(wanted).map_err(|error| Error::Usage(format!("--vault: {error}")))?;
        if let Some(known) = of_policy.iter().find(|vault| vault.url == url) {
            return Ok(vec![known.clone()]);
        }
        return Ok(vec![VaultPolicy {
            name: "vault".parse()?,
            url,
            credentials_file: None,
            offsite: false,
            via: Via::Backup,
            bandwidth: None,
        }]);
    }
    let found = of_policy.iter().find(|vault| vault.name.as_str() == wanted);
    found.map(|vault| vec![vault.clone()]).ok_or_else(|| Error::Unknown {
        what: "vault",
        name: wanted.clone(),
        known: of_policy.iter().map(|vault| vault.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

fn choose_node(policy: Option<&Policy>, from: &From, places: &[Place]) -> Result<NodeName, Error> {
    if let Some(node) = &from.node {
        return Ok(node.parse()?);
    }
    if let Some(policy) = policy {
        return Ok(policy.node.clone());
    }
    let mut nodes = Vec::new();
    for place in places {
        nodes.extend(place.vault.nodes()?);
    }
    nodes.sort_unstable();
    nodes.dedup();
    match &nodes[..] {
        [only] => Ok(only.clone()),
        [] => Err(Error::NoVault { place: "this place: it holds no node's snapshots".into() }),
        many => {
            let names = many.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
            Err(Error::Usage(format!("the vault holds several nodes ({names}): say which with --node")))
        }
    }
}

/// Without a trusted key nothing can be believed; the keys that lie in the vault are shown for comparison with the kit.
fn no_key(places: &[Place], node: &NodeName) -> Error {
    let offered = |place: &Place| offered_keys(&place.vault, node).unwrap_or_default();
    let mut shown: Vec<String> = places.iter().flat_map(offered).map(|key| key.to_base64()).collect();
    shown.sort_unstable();
    shown.dedup();
    Error::Usage(format!(
        "no signing key is trusted here, so no snapshot can be believed. The vault itself offers {}: compare with the \
         printed recovery kit, then give it with --signing-key",
        if shown.is_empty() { "none".into() } else { shown.join(", ") }
    ))
}

/// The signing keys that a vault without a policy offers for the node that is meant.
pub fn offered(context: &Context<'_>, from: &From) -> Result<Vec<VerifyingKey>, Error> {
    let Looked { places, .. } = look(context, None, from)?;
    let node = choose_node(None, from, &places)?;
    let mut keys = Vec::new();
    for place in &places {
        keys.extend(offered_keys(&place.vault, &node)?);
    }
    Ok(keys)
}

/// The signing keys that lie in a vault for a node. They prove nothing: whoever writes to the vault can put one there.
pub fn offered_keys(vault: &Vault, node: &NodeName) -> Result<Vec<VerifyingKey>, VaultError> {
    let mut keys = Vec::new();
    for listed in vault.list(&Prefix::signing(node))?.objects {
        if let Found::SigningKey { .. } = listed.key.place() {
            let bytes = vault.get(&listed.key, SMALL_OBJECT_BYTES_MAX)?;
            keys.extend(VerifyingKey::parse(&String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(keys)
}

/// A snapshot whose notes were opened.
#[derive(Debug)]
pub struct Opened {
    /// The epoch's identity, which opens every segment.
    pub epoch: EpochIdentity,
    /// The notes.
    pub notes: Notes,
    /// What segment ids are checked with.
    pub dedup: DedupKey,
}

/// Opens a snapshot: the epoch key with a person's identities, the notes with the epoch key.
pub fn open_snapshot(
    places: &[&Place],
    node: &NodeName,
    manifest: &Manifest,
    identities: &Identities,
) -> Result<Opened, Error> {
    let sealed_notes = read_notes(places, node, manifest)?;
    let mut failure = None;
    let mut reasons = Vec::new();
    for sealed in epoch_keys(places, node, manifest) {
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(reason) => {
                reasons.push(reason);
                continue;
            }
        };
        let opened = EpochIdentity::open(manifest.epoch.clone(), &sealed, identities).and_then(|epoch| {
            let notes = decrypt_notes(&epoch, &sealed_notes, manifest)?;
            Ok((epoch, notes))
        });
        match opened {
            Ok((epoch, notes)) => {
                let notes = decode_notes(&notes, manifest)?;
                let dedup = DedupKey::from_hex(&Secret::from(notes.dedup_key.0.clone()))?;
                return Ok(Opened { epoch, notes, dedup });
            }
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.map_or_else(|| nobody_gave(format!("the key of epoch {}", manifest.epoch), &reasons), Error::from))
}

/// Opens a snapshot's notes with the identity of its epoch, which another snapshot's opening gave.
pub fn open_notes(
    places: &[&Place],
    node: &NodeName,
    manifest: &Manifest,
    epoch: &EpochIdentity,
) -> Result<Notes, Error> {
    let sealed = read_notes(places, node, manifest)?;
    decode_notes(&decrypt_notes(epoch, &sealed, manifest)?, manifest)
}

fn decrypt_notes(epoch: &EpochIdentity, sealed: &[u8], manifest: &Manifest) -> Result<Secret, SealError> {
    epoch.decrypt(sealed, &format!("the notes of {}", manifest.snapshot)).map(Secret::from)
}

fn decode_notes(notes: &Secret, manifest: &Manifest) -> Result<Notes, Error> {
    Notes::decode(notes.expose(), &manifest.snapshot)
        .map_err(|source| Error::Notes { snapshot: manifest.snapshot.clone(), source })
}

/// Every copy of the epoch key, or why it was not given: the snapshot's own first, then the epoch's file, which a
/// holder may have sealed to further recipients since.
fn epoch_keys<'a>(
    places: &'a [&Place],
    node: &'a NodeName,
    manifest: &'a Manifest,
) -> impl Iterator<Item = Result<Vec<u8>, (VaultName, NotGiven)>> + 'a {
    let keys = [
        ObjectKey::snapshot(node, &manifest.snapshot, SnapshotFile::EpochKey),
        ObjectKey::epoch_key(node, &manifest.epoch),
    ];
    keys.into_iter().flat_map(move |key| {
        places.iter().map(move |place| {
            let read = place.vault.get(&key, SMALL_OBJECT_BYTES_MAX);
            read.map_err(|error| (place.vault.name().clone(), error.into()))
        })
    })
}

fn read_notes(places: &[&Place], node: &NodeName, manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let key = ObjectKey::snapshot(node, &manifest.snapshot, SnapshotFile::Notes);
    let mut reasons = Vec::new();
    for place in places {
        match place.vault.get(&key, NOTES_BYTES_MAX) {
            Ok(bytes) if Sha256Hex::of(&bytes) == manifest.notes.sha256 => return Ok(bytes),
            Ok(_) => {
                let reason = NotGiven::damaged("other content than the manifest names");
                reasons.push((place.vault.name().clone(), reason));
            }
            Err(error) => reasons.push((place.vault.name().clone(), error.into())),
        }
    }
    Err(nobody_gave(format!("the notes of {}", manifest.snapshot), &reasons))
}
