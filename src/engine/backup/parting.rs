//! What a final snapshot needs besides any other's: nodes that stand still, every vault of the policy whole, and a
//! fence in each database's place before the first vault can hold it. Where one vault does not take it, it is taken
//! back in all others and the node may stay.

use super::super::claim::{self, FINAL, Marks, Writer};
use super::super::departure::{self, Departure, Gone, LeftRow, Standing};
use super::super::error::chain;
use super::super::pipeline::Target;
use super::super::state::HostState;
use super::super::survey::{Disbelief, believe, entries};
use super::super::{Context, Error};
use super::draft::Draft;
use super::reading::Read;
use crate::artifact::ArtifactKind;
use crate::base::ids::{Sha256Hex, SnapshotId};
use crate::guard::facts::Finality;
use crate::policy::{Policy, SourceKind, VaultPolicy, Via};
use crate::report::{Finding, Level};
use crate::target::Root;
use crate::vault::Vault;
use crate::vault::layout::ObjectKey;
use crate::witness::State;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// Findings about vaults that do not stand in the way of a final snapshot.
const HARMLESS: [&str; 2] = ["recipients-differ", "catalog-failed"];

/// What a final snapshot did on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Parting {
    /// What came of it.
    pub outcome: Outcome,
    /// The databases that are behind a fence now.
    pub databases: Vec<LeftRow>,
}

/// What came of a run with the trigger `final` that left databases behind a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The snapshot is final.
    Final,
    /// An earlier run's snapshot is; this run only looked.
    AlreadyFinal,
    /// The snapshot is not final in all vaults and could not be taken back in those that have it.
    Unsettled,
}

/// What an earlier run with the trigger `final` came to.
pub(super) struct Already {
    pub(super) snapshot: SnapshotId,
    /// The digest of its manifest.
    pub(super) manifest: Sha256Hex,
    pub(super) parting: Parting,
    pub(super) findings: Vec<Finding>,
}

/// How a run with the trigger `final` begins.
pub(super) enum Begun<'a> {
    /// An earlier run came to its end: this is its snapshot.
    Already(Box<Already>),
    /// The nodes stand still.
    Still(Departure<'a>),
}

/// Brings the nodes to a standstill. An earlier run that was cut off is taken back first, so that of two snapshots
/// never both are final.
pub(super) fn begin<'a>(
    context: &Context<'_>,
    policy: &Policy,
    state: &HostState,
    root: &'a Root,
) -> Result<Begun<'a>, Error> {
    let mut earlier: Vec<SnapshotId> = state.final_on_record()?.into_iter().collect();
    let standing = departure::standing(root, policy)?;
    if let Standing::Away(away) = &standing {
        earlier.extend(away.iter().cloned());
        earlier.sort_unstable();
        earlier.dedup();
    }
    if !earlier.is_empty() {
        let (vaults, findings) = departure::all_vaults(context, policy)?;
        if let [snapshot] = &earlier[..]
            && let Some(databases) = departure::left_by(root, policy, snapshot)?
            && let Some(manifest) = final_everywhere(policy, state, &vaults, snapshot)?
        {
            let parting = Parting { outcome: Outcome::AlreadyFinal, databases };
            let already = Already { snapshot: snapshot.clone(), manifest, parting, findings };
            return Ok(Begun::Already(Box::new(already)));
        }
        departure::take_back(context, (state, &policy.node), &earlier, &vaults)?;
        departure::put_back_all(root, policy, state)?;
    }
    Ok(Begun::Still(departure::begin(root, policy)?))
}

/// The digest of this snapshot's manifest where every vault that `backup` writes ends with it, believed and final.
fn final_everywhere(
    policy: &Policy,
    state: &HostState,
    vaults: &[Vault],
    snapshot: &SnapshotId,
) -> Result<Option<Sha256Hex>, Error> {
    let trusted = state.trusted(policy)?;
    let mut found = None;
    for vault_policy in policy.vaults.iter().filter(|vault| vault.via == Via::Backup) {
        let Some(vault) = vaults.iter().find(|vault| vault.name() == &vault_policy.name) else { return Ok(None) };
        let newest = entries(vault, &policy.node)?.into_iter().rev().find(super::super::survey::Entry::is_committed);
        if newest.is_none_or(|entry| &entry.id != snapshot) {
            return Ok(None);
        }
        let believed = match believe(vault, &policy.node, snapshot, &trusted) {
            Ok(believed) => believed,
            Err(Disbelief::Vault(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        if claim::finality(vaults, &believed.manifest)? != Finality::Final {
            return Ok(None);
        }
        found = Some(believed.sha256);
    }
    Ok(found)
}

/// How a snapshot of this trigger stands for a witness, after its run; none where nobody can say yet.
pub(super) fn stands(trigger: &str, outcome: Option<Outcome>) -> Option<State> {
    match (is_final(trigger), outcome) {
        (false, _) => Some(State::Ordinary),
        (true, Some(Outcome::Final | Outcome::AlreadyFinal)) => Some(State::Final),
        (true, Some(Outcome::Unsettled)) => None,
        (true, None) => Some(State::Undone),
    }
}

/// The first sequence number from this one on whose snapshot nobody claimed or took back. A run that was cut off before
/// it committed anything leaves a revocation of its snapshot, and within the same second the next one would get its id.
pub(super) fn unmarked(policy: &Policy, vaults: &[Vault], created: Timestamp, mut sequence: u64) -> Result<u64, Error> {
    while claim::look(vaults, &policy.node, &SnapshotId::new(created, sequence))? != Marks::default() {
        sequence += 1;
    }
    Ok(sequence)
}

/// Why the vaults do not allow a final snapshot, before anything is read.
pub(super) fn vaults_hinder(
    policy: &Policy,
    written: &[&VaultPolicy],
    targets: &[Target<'_>],
    findings: &[Finding],
) -> Option<Finding> {
    let is_ready = |vault: &&VaultPolicy| targets.iter().any(|target| target.vault.name() == &vault.name);
    if let Some(vault) = written.iter().copied().find(|vault| !is_ready(vault)) {
        return Some(not_final(
            policy,
            format!("vault {} cannot be written, and a final snapshot must be whole in all", vault.name),
        ));
    }
    let said =
        findings.iter().find(|found| found.level >= Level::Degraded && !HARMLESS.contains(&found.code.as_str()))?;
    Some(not_final(policy, format!("{}: {}", said.subject, said.message)))
}

/// Why what was read is no node's last state, before anything is committed.
pub(super) fn sources_hinder(draft: &Draft<'_>, read: &Read, targets: &[Target<'_>]) -> Option<Finding> {
    let policy = draft.policy;
    if !draft.complete {
        let failed = read.sources.iter().find(|source| !source.ok);
        let which =
            failed.map_or("a source was not read".to_owned(), |source| format!("the source {} failed", source.name));
        return Some(not_final(policy, which));
    }
    for source in policy.sources.iter().filter(|source| matches!(source.kind, SourceKind::Cln { .. })) {
        let name = format!("{}/lightningd.sqlite3", source.name);
        let is_wallet = |artifact: &crate::manifest::Artifact| {
            artifact.kind == ArtifactKind::ClnWallet && artifact.name.as_str() == name
        };
        if !read.artifacts.iter().any(is_wallet) {
            return Some(not_final(policy, format!("{name} was not read")));
        }
    }
    let failed = targets.iter().find_map(|target| Some((target, target.failure()?)));
    failed.map(|(target, error)| not_final(policy, format!("vault {}: {}", target.vault.name(), chain(error))))
}

fn not_final(policy: &Policy, why: String) -> Finding {
    let message = format!("no final snapshot was made, and nothing changed here: {why}");
    Finding::new(Level::Failed, "not-final", policy.node.as_str(), message).with_hint(
        "mend it, leave lightningd stopped, and run `relay-backup backup --final` again; or start lightningd and go on as \
         before",
    )
}

/// Ends a final run: where every vault is whole the fences stay, otherwise the snapshot is taken back.
pub(super) fn settle(
    context: &Context<'_>,
    policy: &Policy,
    state: &HostState,
    gone: Gone<'_>,
    (targets, whole): (&[Target<'_>], &[String]),
    findings: &mut Vec<Finding>,
) -> Result<Option<Parting>, Error> {
    let written = policy.vaults.iter().filter(|vault| vault.via == Via::Backup).count();
    if whole.len() == written {
        findings.extend(departure::not_moved(policy));
        findings.extend(policy.vaults.iter().filter(|vault| vault.via == Via::Sync).map(to_sync));
        return Ok(Some(Parting { outcome: Outcome::Final, databases: gone.leave()? }));
    }
    let snapshot = gone.snapshot().clone();
    match withdraw(context, (policy, state), &snapshot, targets) {
        Ok(taken_back) => {
            gone.put_back()?;
            state.forget_final()?;
            let message = format!(
                "it is not final, because not every vault took it; it was taken back in {}, and every database is in its \
                 place",
                taken_back.join(", ")
            );
            findings.push(Finding::new(Level::Failed, "not-final", snapshot.as_str(), message).with_hint(
                "lightningd may start again; when every vault answers, stop it and run `relay-backup backup --final` again",
            ));
            Ok(None)
        }
        Err(why) => {
            let message = format!("not every vault took it, and it could not be taken back: {why}");
            findings.push(Finding::new(Level::Failed, "not-final", snapshot.as_str(), message).with_hint(
                "the fence stays, because the snapshot may count as final somewhere: when every vault answers, run \
                 `relay-backup backup --final` again, or `relay-backup undo-final` if the node is to stay",
            ));
            Ok(Some(Parting { outcome: Outcome::Unsettled, databases: gone.leave()? }))
        }
    }
}

/// Takes the snapshot back wherever it may have got to. Enough is: a revocation in every vault that is known to hold
/// it, and in one at least, since whoever restores must read all of them and one revocation counts for all.
fn withdraw(
    context: &Context<'_>,
    (policy, state): (&Policy, &HostState),
    snapshot: &SnapshotId,
    targets: &[Target<'_>],
) -> Result<Vec<String>, String> {
    let who = claim::this_machine();
    let random = state.new_revocation().map_err(|error| chain(&error))?;
    let writer = Writer { random, who: &who, at: context.now() };
    let mut taken_back = Vec::new();
    for target in targets {
        match claim::revoke(target.vault, &policy.node, snapshot, &writer) {
            Ok(()) => taken_back.push(target.vault),
            Err(error) => {
                if matches!(target.vault.length(&ObjectKey::manifest(&policy.node, snapshot)), Ok(Some(_))) {
                    return Err(format!("vault {} holds it: {}", target.vault.name(), chain(&error)));
                }
            }
        }
    }
    if taken_back.is_empty() {
        return Err("no vault takes anything any more".to_owned());
    }
    let vaults: Vec<Vault> = taken_back.into_iter().cloned().collect();
    let marks = claim::look(&vaults, &policy.node, snapshot).map_err(|error| chain(&error))?;
    if !marks.claims.is_empty() {
        return Err(format!("it was claimed by {}", marks.claimants()));
    }
    Ok(vaults.iter().map(|vault| vault.name().to_string()).collect())
}

/// A vault that only `sync` writes does not have the final snapshot yet.
fn to_sync(vault: &VaultPolicy) -> Finding {
    Finding::new(
        Level::Note,
        "final-to-sync",
        vault.name.as_str(),
        "it is written by sync and does not hold the final snapshot yet",
    )
    .with_hint(
        "bring it up to date before the node is moved: the restore wants every vault of the policy to end with it",
    )
}

/// Whether a run is a final one.
pub(super) fn is_final(trigger: &str) -> bool {
    trigger == FINAL
}
