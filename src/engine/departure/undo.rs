//! Taking a final snapshot back: every vault is asked for claims, told that the snapshot counts no more, and asked
//! again; only then do the databases return. Each step can be done again. Wherever it stops, the node cannot start here
//! before nobody else may start it.

use super::super::claim::{self, Marks, Writer};
use super::super::error::chain;
use super::super::reading::{absent_vault, unreachable};
use super::super::state::HostState;
use super::super::survey::{believe, entries};
use super::super::{Context, Error};
use super::home;
use crate::base::ids::{NodeName, SnapshotId};
use crate::policy::{Policy, Via};
use crate::report::Finding;
use crate::target::Root;
use crate::vault::Vault;
use crate::vault::layout::ObjectKey;
use crate::witness::{State, Witness};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

/// What `undo-final` did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UndoReport {
    /// The protected host.
    pub node: String,
    /// The final snapshots that count no more.
    pub taken_back: Vec<String>,
    /// The databases that are in their places again.
    pub returned: Vec<Returned>,
    /// The vaults that say so.
    pub vaults: Vec<String>,
    /// The witness that the newest of them counts no more: one signed line, to be kept in place of the one that said it
    /// was final.
    pub witness: Option<String>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// A database that is in its place again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Returned {
    /// The source it belongs to.
    pub source: String,
    /// Where lightningd looks for it.
    pub place: PathBuf,
}

/// Takes back what `backup --final` did on this host. Where there is nothing to take back, it says so and changes
/// nothing.
pub fn undo(context: &Context<'_>, policy: &Policy) -> Result<UndoReport, Error> {
    let (state, _lock) = HostState::load_locked(policy, "undo-final", context.clock)?;
    let root = Root::machine()?;
    let mut snapshots: Vec<SnapshotId> = state.final_on_record()?.into_iter().collect();
    if let super::Standing::Away(away) = super::standing(&root, policy)? {
        snapshots.extend(away);
    }
    snapshots.sort_unstable();
    snapshots.dedup();
    let mut report = UndoReport {
        node: policy.node.to_string(),
        taken_back: snapshots.iter().map(ToString::to_string).collect(),
        returned: Vec::new(),
        vaults: Vec::new(),
        witness: None,
        findings: Vec::new(),
    };
    if snapshots.is_empty() {
        return Ok(report);
    }
    let (vaults, findings) = all_vaults(context, policy)?;
    report.findings = findings;
    take_back(context, (&state, &policy.node), &snapshots, &vaults)?;
    // Before the databases return: from then on the node may run, and the line that said it was final must not be the
    // last.
    report.witness = witness(policy, &state, &vaults, &snapshots)?;
    report.vaults = vaults.iter().map(|vault| vault.name().to_string()).collect();
    report.returned = put_back_all(&root, policy, &state)?;
    Ok(report)
}

/// The witness that the newest of these snapshots that ever lay in a vault was taken back.
fn witness(
    policy: &Policy,
    state: &HostState,
    vaults: &[Vault],
    snapshots: &[SnapshotId],
) -> Result<Option<String>, Error> {
    let trusted = state.trusted(policy)?;
    let says = snapshots.iter().rev().find_map(|snapshot| {
        let believed = vaults.iter().find_map(|vault| believe(vault, &policy.node, snapshot, &trusted).ok())?;
        Some(Witness::new(&policy.node, snapshot, State::Undone, &believed.sha256))
    });
    says.map(|says| state.bear_witness(&says)).transpose()
}

/// Every vault of the policy. One that `backup` writes and that does not answer is a refusal: a claim could lie there.
/// One that only `sync` writes is a finding: whoever restores claims in all vaults, so the others show it as well.
pub(in super::super) fn all_vaults(
    context: &Context<'_>,
    policy: &Policy,
) -> Result<(Vec<Vault>, Vec<Finding>), Error> {
    let (mut vaults, mut findings) = (Vec::new(), Vec::new());
    for vault_policy in &policy.vaults {
        context.check()?;
        let name = vault_policy.name.as_str();
        let opened = Vault::open(vault_policy).and_then(|vault| Ok((vault.identify()?, vault)));
        let (finding, reason, hint) = match opened {
            Ok((Some(_), vault)) => {
                vaults.push(vault);
                continue;
            }
            Ok((None, _)) => (absent_vault(name), "there is no vault at its url".to_owned(), None),
            Err(error) => (unreachable(name, &error), chain(&error), error.hint()),
        };
        if vault_policy.via == Via::Backup {
            let more = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            return Err(Error::Refused {
                guard: "twin",
                reason: format!(
                    "vault {name} does not answer ({reason}): whether somebody has claimed this node's channel database, and \
                     may be running it, cannot be told"
                ),
                hint: format!("make the vault reachable and run the same command again{more}"),
            });
        }
        findings.push(finding);
    }
    Ok((vaults, findings))
}

/// Makes final snapshots count no more, in every vault given; an error, and no more than revocations written, when
/// somebody has claimed one, or when the node went on without this machine.
pub(in super::super) fn take_back(
    context: &Context<'_>,
    (state, node): (&HostState, &NodeName),
    snapshots: &[SnapshotId],
    vaults: &[Vault],
) -> Result<(), Error> {
    let Some(newest) = snapshots.iter().max() else { return Ok(()) };
    refuse_gone_on(state, node, newest, vaults)?;
    for snapshot in snapshots {
        let marks = claim::look(vaults, node, snapshot)?;
        refuse_claimed(snapshot, &marks)?;
        refuse_taken_back_elsewhere(state, node, snapshot, &marks)?;
        let who = claim::this_machine();
        let random = state.new_revocation()?;
        let writer = Writer { random, who: &who, at: context.now() };
        for vault in vaults {
            if claim::look(std::slice::from_ref(vault), node, snapshot)?.revocations.is_empty() {
                claim::revoke(vault, node, snapshot, &writer)?;
            }
        }
        // Whoever claimed it before our revocation lay there may not have seen it.
        let marks = claim::look(vaults, node, snapshot)?;
        refuse_claimed(snapshot, &marks)?;
        refuse_taken_back_elsewhere(state, node, snapshot, &marks)?;
    }
    Ok(())
}

/// Of two copies of a machine that its node left, one may have taken the snapshot back, and run the node since.
fn refuse_taken_back_elsewhere(
    state: &HostState,
    node: &NodeName,
    snapshot: &SnapshotId,
    marks: &Marks,
) -> Result<(), Error> {
    let ours: Vec<ObjectKey> =
        state.revocations()?.into_iter().map(|random| ObjectKey::revocation(node, snapshot, random)).collect();
    let Some((key, mark)) = marks.revocations.iter().find(|(key, _)| !ours.contains(key)) else { return Ok(()) };
    Err(Error::Refused {
        guard: "twin",
        reason: format!(
            "{snapshot} was taken back already, by {} ({key}), and this machine's state does not know of it: a copy of this \
             machine may run the node",
            mark.who
        ),
        hint: "find that copy and let it alone run the node; only if there surely is none, such as where this state folder \
               came from a backup, remove that object from every vault by hand and run the same command again"
            .to_owned(),
    })
}

/// The same where the copy has backed up since.
fn refuse_gone_on(state: &HostState, node: &NodeName, newest: &SnapshotId, vaults: &[Vault]) -> Result<(), Error> {
    for vault in vaults {
        let later = entries(vault, node)?.into_iter().filter(|entry| entry.is_committed() && entry.id > *newest);
        let strange = later.map(|entry| entry.id).find(|id| !state.was_about_to_commit(id));
        if let Some(id) = strange {
            return Err(Error::Refused {
                guard: "twin",
                reason: format!(
                    "vault {} holds {id}, which came after {newest} and was not made by this machine: the node went on elsewhere",
                    vault.name()
                ),
                hint: "leave the database here where it is: it is older than what the node's peers know".to_owned(),
            });
        }
    }
    Ok(())
}

fn refuse_claimed(snapshot: &SnapshotId, marks: &Marks) -> Result<(), Error> {
    if marks.claims.is_empty() {
        return Ok(());
    }
    Err(Error::Refused {
        guard: "twin",
        reason: format!("{snapshot} was claimed by {}: they may be running the node already", marks.claimants()),
        hint: "if that machine has started lightningd, the node must never start here again; only if it surely has not and \
               never will, remove the claim's object from every vault by hand and run the same command again"
            .to_owned(),
    })
}

/// Puts the database of every node that is behind the fence of a final snapshot back in its place. To be called only
/// when every such snapshot was taken back.
pub(in super::super) fn put_back_all(root: &Root, policy: &Policy, state: &HostState) -> Result<Vec<Returned>, Error> {
    let mut returned = Vec::new();
    for home in home::all(policy)? {
        if let home::Standing::Away(snapshot) = home.standing(root)? {
            home.hold(root)?.put_back(&home.aside(&snapshot)?)?;
            returned.push(Returned { source: home.source().to_string(), place: home.wallet().to_owned() });
        }
    }
    state.forget_final()?;
    Ok(returned)
}
