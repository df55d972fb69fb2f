//! Setting a host up: state folder, signing key, dedup key, epoch, and a vault at every place the policy names. Run
//! again it completes what is missing (a vault that was added) and never overwrites a key.

use super::error::chain;
use super::progress::Event;
use super::reading::offered_keys;
use super::recovery;
use super::state::{HostState, SealedEpoch};
use super::stores::Stores;
use super::{Context, Error};
use crate::base::ids::VaultId;
use crate::base::lock::Lock;
use crate::policy::{Policy, Via};
use crate::report::{Finding, Level};
use crate::seal::random;
use crate::seal::sign::VerifyingKey;
use crate::vault::layout::ObjectKey;
use crate::vault::{Vault, VaultError, probe::Probe};
use schemars::JsonSchema;
use serde::Serialize;

/// What `init` did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InitReport {
    /// The protected host.
    pub node: String,
    /// The state folder.
    pub state_dir: String,
    /// Whether this host was set up before.
    pub already: bool,
    /// The public signing key, base64 (`RW…`): pin it elsewhere with `[[keys.trusted]]`, and print it.
    pub signing_key: String,
    /// The signing key's id.
    pub signing_key_id: String,
    /// The epoch.
    pub epoch: String,
    /// The recipients that can open it.
    pub recipients: Vec<String>,
    /// The vaults.
    pub vaults: Vec<InitVault>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// What `init` found or made at one vault's place.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InitVault {
    /// Its name.
    pub name: String,
    /// Its id, when there is a vault now.
    pub vault: Option<String>,
    /// Whether it was made by this run.
    pub created: bool,
    /// What the store really does.
    pub probe: Option<Probe>,
}

/// Sets the host up.
pub fn init(context: &Context<'_>, policy: &Policy, handed: Option<SealedEpoch>) -> Result<InitReport, Error> {
    let folder = super::state::StateFolder::of(policy);
    crate::base::fsio::create_folder(folder.path(), 0o700)?;
    let _lock = Lock::acquire(&folder.lock(), "init", context.clock)?;
    let already = HostState::exists(policy);
    if already && handed.is_some() {
        return Err(Error::Usage("this host has an epoch already; a sealed epoch key is for a new host".into()));
    }
    let state = if already { HostState::load(policy)? } else { HostState::create(policy, handed, context.now())? };
    let mut findings = Vec::new();
    let mut stores = Stores::load(&state.folder, &mut findings);
    let mut vaults = Vec::new();
    for vault_policy in policy.vaults.iter().filter(|vault| vault.via == Via::Backup) {
        context.tell(Event::Step(format!("setting up vault {}", vault_policy.name)));
        let fresh: VaultId = hex::encode(random::<16>()?).parse()?;
        let done = Vault::open(vault_policy).and_then(|vault| set_up(context, vault, policy, &state, &fresh));
        if let Ok(done) = &done {
            let SetUp { vault, id, probe, strangers, replaced, .. } = done;
            findings.extend(replaced.clone());
            findings.extend(probe.findings.iter().filter(|finding| finding.level >= Level::Degraded).cloned());
            findings.extend(stores.accept(vault, id, probe, context.now()));
            findings.extend(strangers.iter().map(|key| stranger(vault_policy.name.as_str(), policy, key)));
        }
        vaults.push(done.map(SetUp::into_row).unwrap_or_else(|error| {
            let finding = Finding::new(Level::Failed, "vault-failed", vault_policy.name.as_str(), chain(&error));
            let hint = error.hint();
            let otherwise = "mend it and run `relay-backup init` again; nothing is overwritten";
            findings.push(finding.with_hint(hint.unwrap_or_else(|| otherwise.into())));
            InitVault { name: vault_policy.name.to_string(), vault: None, created: false, probe: None }
        }));
    }
    stores.save()?;
    context.check()?;
    Ok(InitReport {
        node: policy.node.to_string(),
        state_dir: policy.state_dir.display().to_string(),
        already,
        signing_key: state.signing.public().to_base64(),
        signing_key_id: state.signing.public().id().to_string(),
        epoch: state.epoch.id.to_string(),
        recipients: state.recipients.clone(),
        vaults,
        findings,
    })
}

/// The finding for a signing key of this node that is neither this host's nor pinned: a host whose state was lost, a
/// second host under the same name, or a forger.
fn stranger(vault: &str, policy: &Policy, key: &VerifyingKey) -> Finding {
    let message = format!("another key has signed snapshots of node {} there: {}", policy.node, key.to_base64());
    Finding::new(Level::Degraded, "unknown-signing-key", vault, message).with_hint(format!(
        "if this host was set up before and lost its state, compare with the printed key and pin it: [[keys.trusted]] \
         role = \"node\", key = \"{}\". If another host uses this name, give one of them another",
        key.to_base64()
    ))
}

/// What setting one vault up came to.
struct SetUp {
    vault: Vault,
    id: VaultId,
    created: bool,
    /// What its store does.
    probe: Probe,
    /// Signing keys of this node in it that nobody knows.
    strangers: Vec<VerifyingKey>,
    /// Said when its recovery script was another one.
    replaced: Option<Finding>,
}

impl SetUp {
    fn into_row(self) -> InitVault {
        let (name, vault) = (self.vault.name().to_string(), Some(self.id.to_string()));
        InitVault { name, vault, created: self.created, probe: Some(self.probe) }
    }
}

/// Finds or makes one vault, which gets the id `fresh` when it is made, and puts keys and the way back by hand there.
fn set_up(
    context: &Context<'_>,
    vault: Vault,
    policy: &Policy,
    state: &HostState,
    fresh: &VaultId,
) -> Result<SetUp, VaultError> {
    let (info, created) = match vault.identify()? {
        Some(info) => (info, false),
        None => (vault.create(fresh, context.now())?, true),
    };
    let known = state.trusted(policy).map(|trusted| trusted.keys().to_vec()).unwrap_or_default();
    let mut strangers = offered_keys(&vault, &policy.node)?;
    strangers.retain(|key| !known.contains(key));
    ensure_keys(&vault, policy, state)?;
    let replaced = recovery::put(&vault)?;
    vault.settle()?;
    let probe = vault.probe()?;
    Ok(SetUp { vault, id: info.id, created, probe, strangers, replaced })
}

/// Puts the epoch's key files and the signing key's public side where they are missing.
pub fn ensure_keys(vault: &Vault, policy: &Policy, state: &HostState) -> Result<(), VaultError> {
    let node = &policy.node;
    let epoch = &state.epoch;
    let signing = state.signing.public();
    let files = [
        (ObjectKey::epoch_key(node, &epoch.id), state.sealed_epoch.clone()),
        (ObjectKey::epoch_recipient(node, &epoch.id), format!("{}\n", epoch.to_text()).into_bytes()),
        (ObjectKey::signing_key(node, signing.id()), signing.to_file().into_bytes()),
    ];
    for (key, content) in files {
        if vault.length(&key)?.is_none() {
            vault.put(&key, &content)?;
        }
    }
    vault.settle()
}

/// What `rotate` did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RotateReport {
    /// The epoch that ended.
    pub before: String,
    /// The epoch that began.
    pub epoch: String,
    /// The recipients that can open it.
    pub recipients: Vec<String>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// Begins a new epoch, sealed to the policy's recipients. What was sealed before stays sealed to whom it was.
pub fn rotate(context: &Context<'_>, policy: &Policy) -> Result<RotateReport, Error> {
    let (mut state, _lock) = HostState::load_locked(policy, "rotate", context.clock)?;
    let before = state.epoch.id.to_string();
    state.rotate(policy, context.now())?;
    let mut findings = Vec::new();
    for vault_policy in policy.vaults.iter().filter(|vault| vault.via == Via::Backup) {
        let put = Vault::open(vault_policy).and_then(|vault| ensure_keys(&vault, policy, &state));
        if let Err(error) = put {
            let message = format!("the new epoch's key was not put there: {}", chain(&error));
            findings.push(
                Finding::new(Level::Degraded, "vault-behind", vault_policy.name.as_str(), message)
                    .with_hint("the next backup that reaches it puts the key there"),
            );
        }
    }
    Ok(RotateReport { before, epoch: state.epoch.id.to_string(), recipients: state.recipients.clone(), findings })
}
