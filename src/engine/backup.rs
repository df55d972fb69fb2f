//! One snapshot: look at the vaults, read every source through the pipeline, write the notes, sign the manifest,
//! commit it in every vault, and say what happened.

mod draft;
mod parting;
mod reading;
mod report;

pub use parting::{Outcome, Parting};
pub use report::{ArtifactRow, BackupReport, LockRow, SourceRow, VaultRow};

use super::claim::FINAL;
use super::commit::{Ready, commit};
use super::departure::{self, Departure};
use super::error::chain;
use super::init::ensure_keys;
use super::pipeline::{self, Settings, Target};
use super::progress::Event;
use super::reading::absent_vault;
use super::state::HostState;
use super::stores::Stores;
use super::survey::{Survey, believe, catalog_failed, disbelieved, from_the_future, open_catalog, survey};
use super::{Context, Error};
use crate::base::ids::{InstanceId, Sha256Hex, SnapshotId, VaultId};
use crate::catalog::Catalog;
use crate::manifest::Attested;
use crate::policy::{Policy, SourceKind, SourcePolicy, VaultPolicy, Via};
use crate::report::{Finding, Level};
use crate::target::Root;
use crate::vault::Vault;
use crate::witness::{State, Witness};
use draft::{Draft, Prepared};
use jiff::Timestamp;
use parting::{Already, Begun};
use reading::Reading;
use report::{artifact_row, vault_rows};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only these sources; all when empty.
    pub only: Vec<String>,
    /// Why it runs.
    pub trigger: String,
}

/// Takes one snapshot into the vaults of the policy that `backup` writes.
pub fn backup(context: &Context<'_>, policy: &Policy, request: &Request) -> Result<BackupReport, Error> {
    let (vaults, findings) = open_vaults(context, &written_by_backup(policy))?;
    take(context, policy, request, &vaults, findings)
}

/// The same into vaults that are open already. Each goes by the name of a vault of the policy that `backup` writes;
/// one of these that is not given counts as left out.
pub fn backup_to(
    context: &Context<'_>,
    policy: &Policy,
    request: &Request,
    vaults: &[Vault],
) -> Result<BackupReport, Error> {
    take(context, policy, request, vaults, Vec::new())
}

/// Takes the last snapshot of nodes that leave this host; they must stand still, and a fence keeps them so.
pub fn backup_final(context: &Context<'_>, policy: &Policy) -> Result<BackupReport, Error> {
    backup(context, policy, &Request { only: Vec::new(), trigger: FINAL.to_owned() })
}

/// What holds for a whole run.
struct Run<'a> {
    context: &'a Context<'a>,
    policy: &'a Policy,
    written: Vec<&'a VaultPolicy>,
    began: std::time::Instant,
    created: Timestamp,
    stores: Stores,
}

/// Takes one snapshot; `findings` is what opening the vaults gave.
fn take(
    context: &Context<'_>,
    policy: &Policy,
    request: &Request,
    vaults: &[Vault],
    mut findings: Vec<Finding>,
) -> Result<BackupReport, Error> {
    let began = std::time::Instant::now();
    let chosen = choose(policy, &request.only)?;
    let (mut state, _lock) = HostState::load_locked(policy, "backup", context.clock)?;
    let stores = Stores::load(&state.folder, &mut findings);
    let run = Run { context, policy, written: written_by_backup(policy), began, created: context.now(), stores };
    let root = Root::machine()?;
    let mut departure = None;
    if parting::is_final(&request.trigger) {
        match parting::begin(context, policy, &state, &root)? {
            Begun::Already(already) => return Ok(run.already(&state, *already)),
            Begun::Still(still) => departure = Some(still),
        }
    } else {
        departure::refuse_behind_fence(&root, policy)?;
    }
    findings.extend(recipients_differ(policy, &state));
    let catalog = open_catalog(&state.folder.catalog(), &mut findings)?;
    let half_grace = jiff::SignedDuration::try_from(policy.retention.grace / 2).unwrap_or_default();
    if let Err(error) = catalog.set_own_put_cutoff(run.created.saturating_sub(half_grace).unwrap_or(run.created)) {
        findings.push(catalog_failed(&error));
    }

    let (targets, heads) = look_at_vaults(context, policy, &state, &catalog, vaults, &mut findings)?;
    let mut sequence = heads.iter().map(|head| head.sequence).max().unwrap_or(0) + 1;
    let ready: Vec<Vault> = targets.iter().map(|target| target.vault.clone()).collect();
    if departure.is_some() {
        sequence = parting::unmarked(policy, &ready, run.created, sequence)?;
    }
    let snapshot = SnapshotId::new(run.created, sequence);
    findings.extend(clock_behind(&heads, run.created));
    if departure.is_some() {
        if let Some(hindrance) = parting::vaults_hinder(policy, &run.written, &targets, &findings) {
            return run.hindered(&targets, (departure, findings), hindrance);
        }
    } else {
        findings.extend(departure::back_by_hand(policy, &state, &ready)?);
    }

    let settings = Settings {
        context: *context,
        node: &policy.node,
        dedup: &state.dedup,
        epoch: &state.epoch,
        catalog: &catalog,
        memory: policy.backup.memory,
    };
    let inherited = heads
        .iter()
        .max_by_key(|head| head.newest.as_ref().map(|(id, _)| id.clone()))
        .map_or(Vec::new(), |head| head.attested.clone());
    let reading = Reading { context, policy, state: &state, chosen: &chosen, inherited };
    let read = pipeline::run(&settings, &targets, |pipeline| reading.read_all(pipeline));
    context.check()?;
    let pipeline::Ran { result: mut read, catalog_failure } = match read {
        Err(pipeline::PipelineError::NoVaultLeft) => {
            findings.extend(left_behind(&run.written, &targets));
            return Ok(run.failed(&targets, findings));
        }
        other => other?,
    };
    findings.extend(catalog_failure.as_ref().map(catalog_failed));
    findings.append(&mut read.findings);
    for attestation in read.attestations.drain(..) {
        state.attest(attestation)?;
    }
    let complete = chosen.len() == policy.sources.len() && read.sources.iter().all(|source| source.ok);
    let (created, trigger) = (run.created, request.trigger.as_str());
    let draft = Draft { policy, state: &state, snapshot, sequence, created, complete, trigger };
    run.commit(&catalog, &draft, read, (&targets, &heads), (departure, findings))
}

impl Run<'_> {
    /// Commits what was read, unless it is nothing, or not what a final snapshot must be.
    fn commit(
        mut self,
        catalog: &Catalog,
        draft: &Draft<'_>,
        read: reading::Read,
        (targets, heads): (&[Target<'_>], &[Head]),
        (departure, mut findings): (Option<Departure<'_>>, Vec<Finding>),
    ) -> Result<BackupReport, Error> {
        let (context, policy) = (self.context, self.policy);
        if read.artifacts.is_empty() {
            findings.push(Finding::new(
                Level::Failed,
                "nothing-read",
                policy.node.as_str(),
                "no source gave anything: no snapshot was made",
            ));
            return Ok(self.failed(targets, findings));
        }
        if departure.is_some()
            && let Some(hindrance) = parting::sources_hinder(draft, &read, targets)
        {
            return self.hindered(targets, (departure, findings), hindrance);
        }
        let prepared = draft.prepare(&read, targets, heads, &findings)?;
        if let Err(error) = draft.state.about_to_commit(&draft.snapshot) {
            let message = format!("what this host is about to commit could not be noted: {}", chain(&error));
            findings.push(Finding::new(Level::Degraded, "state-not-kept", draft.snapshot.as_str(), message));
        }
        // From here on lightningd cannot start: the first vault that takes the manifest makes it final.
        let gone = departure.map(|departure| departure.raise(context, draft.state, &draft.snapshot)).transpose()?;
        context.tell(Event::Step("committing".into()));
        let whole = commit_everywhere(context, catalog, draft, &prepared, targets, &mut findings);
        let parting = match gone {
            Some(gone) => parting::settle(context, policy, draft.state, gone, (targets, &whole), &mut findings)?,
            None => None,
        };
        if whole.len() < targets.len() {
            // Where all is committed, a wish to stop came too late to matter.
            context.check()?;
        }
        findings.extend(left_behind(&self.written, targets));
        let committed = targets.iter().filter(|target| whole.iter().any(|name| name == target.vault.name().as_str()));
        self.stores.observe(context, committed.map(|target| (target.vault, &target.id)), &mut findings);
        findings.extend(too_few_copies(policy, &whole));
        let manifest = Sha256Hex::of(prepared.text.as_bytes());
        let says = parting::stands(draft.trigger, parting.as_ref().map(|parting| parting.outcome))
            .filter(|_| !whole.is_empty())
            .map(|stands| Witness::new(&policy.node, &draft.snapshot, stands, &manifest));
        let witness = says.and_then(|says| bear_witness(draft.state, &says, &mut findings));
        Ok(BackupReport {
            witness,
            node: policy.node.to_string(),
            snapshot: (!whole.is_empty()).then(|| draft.snapshot.to_string()),
            complete: draft.complete,
            created: self.created.to_string(),
            seconds: self.began.elapsed().as_secs_f64(),
            bytes_read: read.artifacts.iter().map(|artifact| artifact.length).sum(),
            peak_memory_bytes: crate::base::memory::peak_bytes(),
            artifacts: read.artifacts.iter().map(|artifact| artifact_row(artifact, &read.notes)).collect(),
            sources: read.sources,
            vaults: vault_rows(&self.written, targets, &whole, &self.stores),
            parting,
            findings,
        })
    }

    /// The report of a final run that changed nothing.
    fn hindered(
        &self,
        targets: &[Target<'_>],
        (departure, mut findings): (Option<Departure<'_>>, Vec<Finding>),
        hindrance: Finding,
    ) -> Result<BackupReport, Error> {
        departure.map_or(Ok(()), Departure::stand_down)?;
        findings.push(hindrance);
        Ok(self.failed(targets, findings))
    }

    /// The report of a run that committed nothing.
    fn failed(&self, targets: &[Target<'_>], mut findings: Vec<Finding>) -> BackupReport {
        if !findings.iter().any(|finding| finding.level == Level::Failed) {
            findings.extend(too_few_copies(self.policy, &[]));
        }
        self.nothing_read(vault_rows(&self.written, targets, &[], &self.stores), findings)
    }

    /// The report of a run that found its work done by an earlier one.
    fn already(&self, state: &HostState, already: Already) -> BackupReport {
        let Already { snapshot, manifest, parting, mut findings } = already;
        let whole: Vec<String> = self.written.iter().map(|vault| vault.name.to_string()).collect();
        let says = Witness::new(&self.policy.node, &snapshot, State::Final, &manifest);
        let witness = bear_witness(state, &says, &mut findings);
        let (snapshot, parting) = (Some(snapshot.to_string()), Some(parting));
        BackupReport {
            witness,
            snapshot,
            complete: true,
            parting,
            ..self.nothing_read(vault_rows(&self.written, &[], &whole, &self.stores), findings)
        }
    }

    fn nothing_read(&self, vaults: Vec<VaultRow>, findings: Vec<Finding>) -> BackupReport {
        BackupReport {
            node: self.policy.node.to_string(),
            snapshot: None,
            witness: None,
            complete: false,
            created: self.created.to_string(),
            seconds: self.began.elapsed().as_secs_f64(),
            sources: Vec::new(),
            artifacts: Vec::new(),
            vaults,
            bytes_read: 0,
            peak_memory_bytes: crate::base::memory::peak_bytes(),
            parting: None,
            findings,
        }
    }
}

/// The witness's line. One that cannot be kept is told: the kit then prints an older one.
fn bear_witness(state: &HostState, says: &Witness, findings: &mut Vec<Finding>) -> Option<String> {
    match state.bear_witness(says) {
        Ok(line) => Some(line),
        Err(error) => {
            let message = format!("its witness could not be made or kept: {}", chain(&error));
            findings.push(Finding::new(Level::Degraded, "witness-not-kept", says.snapshot.as_str(), message));
            None
        }
    }
}

fn choose<'p>(policy: &'p Policy, only: &[String]) -> Result<Vec<&'p SourcePolicy>, Error> {
    for name in only {
        if !policy.sources.iter().any(|source| source.name.as_str() == name) {
            let known = policy.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::Unknown { what: "source", name: name.clone(), known });
        }
    }
    let is_chosen = |source: &&SourcePolicy| only.is_empty() || only.iter().any(|name| name == source.name.as_str());
    Ok(policy.sources.iter().filter(is_chosen).collect())
}

/// A policy whose recipients are no longer those that the epoch's key is sealed to.
fn recipients_differ(policy: &Policy, state: &HostState) -> Option<Finding> {
    let sorted = |texts: &[String]| {
        let mut sorted = texts.to_vec();
        sorted.sort_unstable();
        sorted
    };
    (sorted(&policy.keys.recipients) != sorted(&state.recipients)).then(|| {
        Finding::new(
            Level::Degraded,
            "recipients-differ",
            format!("epoch {}", state.epoch.id),
            "the policy's recipients are not those that this epoch's key is sealed to: a recipient who was added cannot \
             open this snapshot, one who was removed can",
        )
        .with_hint("`relay-backup rotate` begins an epoch that is sealed to the policy's recipients")
    })
}

fn written_by_backup(policy: &Policy) -> Vec<&VaultPolicy> {
    policy.vaults.iter().filter(|vault| vault.via == Via::Backup).collect()
}

/// Opens the vaults; one that cannot be opened is left behind.
fn open_vaults(context: &Context<'_>, written: &[&VaultPolicy]) -> Result<(Vec<Vault>, Vec<Finding>), Error> {
    if written.is_empty() {
        return Err(Error::Usage("every vault of the policy says via = \"sync\": there is none to write to".into()));
    }
    let (mut vaults, mut findings) = (Vec::new(), Vec::new());
    for policy in written {
        match Vault::open(policy) {
            Ok(vault) => vaults.push(vault.stopped_by(context.interrupt)),
            Err(error) => findings.push(behind(policy.name.as_str(), &chain(&error), error.hint())),
        }
    }
    Ok((vaults, findings))
}

/// A vault's newest snapshot when the run began, and the largest sequence number it has seen.
struct Head {
    newest: Option<(SnapshotId, Sha256Hex)>,
    /// The snapshot with the latest date.
    latest: Option<SnapshotId>,
    sequence: u64,
    attested: Vec<Attested>,
}

/// Opens and surveys each vault. One that is missing or fails is left behind; none at all is an error.
fn look_at_vaults<'v>(
    context: &Context<'_>,
    policy: &Policy,
    state: &HostState,
    catalog: &Catalog,
    vaults: &'v [Vault],
    findings: &mut Vec<Finding>,
) -> Result<(Vec<Target<'v>>, Vec<Head>), Error> {
    let trusted = state.trusted(policy)?;
    let (mut targets, mut heads, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    // What this host knew before it looked; where its catalog does not know, nothing is concluded.
    let before = catalog.newest_head().ok().flatten().map(|head| head.snapshot);
    for vault in vaults {
        context.check()?;
        context.tell(Event::Step(format!("looking at vault {}", vault.name())));
        let looked = vault.identify().map_err(Error::from).and_then(|info| {
            let Some(info) = info else { return Ok(None) };
            let found = survey(vault, &info.id, &policy.node, &trusted, catalog)?;
            ensure_keys(vault, policy, state)?;
            Ok(Some((info.id, found)))
        });
        match looked {
            Ok(Some((id, _))) if targets.iter().any(|target: &Target<'_>| target.id == id) => {
                findings.push(same_vault(vault.name().as_str()));
            }
            Ok(Some((id, mut found))) => {
                // What lies there already does not make this run fail, but somebody must look at it.
                findings.extend(elsewhere(state, before.as_ref(), &found));
                found.findings.iter_mut().for_each(|finding| finding.level = finding.level.min(Level::Degraded));
                findings.append(&mut found.findings);
                findings.extend(found.catalog_failure.as_ref().map(catalog_failed));
                let head = look_back(policy, state, catalog, vault, &id, found);
                findings.extend(head.1);
                heads.push(head.0);
                targets.push(Target::new(vault, id));
            }
            Ok(None) => {
                let known = policy.vaults.iter().find(|known| known.name == *vault.name());
                absent.extend(known.map(|known| known.url.to_string()));
                findings.push(absent_vault(vault.name().as_str()));
            }
            Err(error @ Error::Vault(_)) => findings.push(behind(vault.name().as_str(), &chain(&error), error.hint())),
            Err(error) => return Err(error),
        }
    }
    if targets.is_empty() && !absent.is_empty() && absent.len() == vaults.len() {
        return Err(Error::NoVault { place: absent.join(", ") });
    }
    if targets.is_empty() {
        let reasons: Vec<String> =
            findings.iter().map(|finding| format!("{}: {}", finding.subject, finding.message)).collect();
        let hint = findings.iter().find_map(|finding| finding.hint.clone());
        return Err(Error::NoVaultAnswers { reasons: reasons.join("; "), hint });
    }
    Ok((targets, heads))
}

/// Holds what lies in a vault against what this host remembers of it. A newest snapshot that this host committed there
/// and that is gone stays the head: the manifest then tells every later `verify` what is missing.
fn look_back(
    policy: &Policy,
    state: &HostState,
    catalog: &Catalog,
    vault: &Vault,
    id: &VaultId,
    found: Survey,
) -> (Head, Vec<Finding>) {
    let mut findings = Vec::new();
    let Survey { head: mut newest, latest, mut sequence, mut attested, .. } = found;
    match (catalog.head(id), catalog.newest_head()) {
        (Ok(Some(committed)), _) => {
            sequence = sequence.max(committed.snapshot.sequence());
            if newest.as_ref().is_none_or(|(held, _)| held < &committed.snapshot) {
                newest = Some((committed.snapshot, committed.manifest_sha256));
            }
        }
        (Ok(None), Ok(Some(_))) if newest.is_some() => findings.push(stranger(vault.name().as_str(), id)),
        (Ok(None), Ok(_)) => {}
        (Err(error), _) | (_, Err(error)) => findings.push(catalog_failed(&error)),
    }
    let is_cln = |source: &&SourcePolicy| matches!(source.kind, SourceKind::Cln { .. });
    let mut cln = policy.sources.iter().filter(is_cln);
    if attested.is_empty()
        && cln.any(|source| state.attestation(&source.name).is_none())
        && let Some((head, _)) = &newest
        && let Ok(trusted) = state.trusted(policy)
    {
        // The catalog knew this snapshot, so it was not read; what it attests counts where this host's state says
        // nothing.
        match believe(vault, &policy.node, head, &trusted) {
            Ok(believed) => attested = believed.manifest.attested,
            Err(reason) => {
                let mut finding = disbelieved(vault, head, &reason);
                finding.level = Level::Degraded;
                findings.push(finding);
            }
        }
    }
    (Head { newest, latest, sequence, attested }, findings)
}

/// What is told where a vault holds a snapshot of this very installation that it never made: somebody else runs with a
/// copy of its state.
fn elsewhere(state: &HostState, before: Option<&SnapshotId>, found: &Survey) -> Option<Finding> {
    let before = before?;
    let is_strange = |(id, instance): &&(SnapshotId, InstanceId)| {
        *instance == state.instance && id > before && !state.was_about_to_commit(id)
    };
    let (id, _) = found.learned.iter().find(is_strange)?;
    let message = format!(
        "{id} was made with this host's state and not by this host: its state folder was copied, and another machine backs up \
         as this node too, or this machine was set back to an earlier copy of its disk"
    );
    Some(Finding::new(Level::Degraded, "state-copied", id.as_str(), message).with_hint(
        "find the other machine; stop its backups, and make sure that only one of the two runs the node. Which one is meant to \
         stay goes on; on the other, remove the state folder",
    ))
}

/// The finding for two vaults of the policy that are one place, or of which one is a copy of the other.
fn same_vault(vault: &str) -> Finding {
    let message =
        "it is left out: another vault of the policy has the same id, so the two are one place or one is a copy";
    Finding::new(Level::Degraded, "same-vault", vault, message)
        .with_hint("give each vault a place of its own, and run `relay-backup init` for the new one")
}

/// The finding for a vault that holds this node's snapshots under an id that this host never committed to.
pub(super) fn stranger(vault: &str, id: &VaultId) -> Finding {
    let message = format!(
        "it holds snapshots of this node, but this host never committed to a vault of the id {id}: the vault was copied or \
         rebuilt, or somebody changed its vault.json so that what was removed is not missed"
    );
    Finding::new(Level::Degraded, "vault-id-unknown", vault, message)
        .with_hint("if you did not do this, compare its snapshots with another vault's before you trust it")
}

/// What is told of snapshots that are dated after this moment: a clock is or was wrong. Their order does not hang on
/// it.
fn clock_behind(heads: &[Head], now: Timestamp) -> Option<Finding> {
    let newest = heads.iter().filter_map(|head| head.newest.as_ref().map(|(id, _)| id)).max();
    let latest = heads.iter().filter_map(|head| head.latest.as_ref()).max_by_key(|id| id.moment());
    if let Some(newest) = newest.filter(|newest| newest.is_after(now)) {
        let message = format!(
            "this host's clock says that it is earlier than the newest snapshot, {newest}: either this clock is behind, or it \
             was ahead then"
        );
        let hint = "set the clock; nothing else is needed: `latest` is the snapshot with the greatest number, which is \
                    this one now, whatever its date";
        return Some(Finding::new(Level::Degraded, "clock-behind", newest.as_str(), message).with_hint(hint));
    }
    latest.filter(|latest| latest.is_after(now)).map(|latest| from_the_future(latest.as_str(), latest))
}

fn behind(vault: &str, reason: &str, hint: Option<String>) -> Finding {
    let finding = Finding::new(Level::Degraded, "vault-behind", vault, format!("it is left behind: {reason}"));
    match hint {
        Some(hint) => finding.with_hint(hint),
        None => finding.with_hint("the next backup that reaches it makes it whole again"),
    }
}

fn left_behind(written: &[&VaultPolicy], targets: &[Target<'_>]) -> Vec<Finding> {
    let failures = targets.iter().filter_map(|target| target.failure().map(|failure| (target, failure)));
    let failures = failures.filter(|(target, _)| written.iter().any(|policy| &policy.name == target.vault.name()));
    failures.map(|(target, error)| behind(target.vault.name().as_str(), &chain(error), error.hint())).collect()
}

/// Commits in all vaults at once; a slow one does not hold up the others. Gives the names of those that are whole.
fn commit_everywhere(
    context: &Context<'_>,
    catalog: &Catalog,
    draft: &Draft<'_>,
    prepared: &Prepared,
    targets: &[Target<'_>],
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let ready = Ready {
        node: &draft.policy.node,
        manifest: &prepared.manifest,
        text: &prepared.text,
        signature: &prepared.signature,
        notes: &prepared.notes,
        epoch_key: &draft.state.sealed_epoch,
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let working: Vec<&Target<'_>> = targets.iter().filter(|target| target.failure().is_none()).collect();
        let threads: Vec<_> = working
            .iter()
            .map(|&target| {
                // One that failed may still give back what it took before; it is asked last.
                let mut others: Vec<&Target<'_>> = targets.iter().filter(|other| other.id != target.id).collect();
                others.sort_by_key(|other| other.failure().is_some());
                let ready = &ready;
                (target, scope.spawn(move || commit(context, catalog, ready, target, others)))
            })
            .collect();
        threads.into_iter().map(|(target, thread)| (target, thread.join())).collect()
    });
    let mut whole = Vec::new();
    for (target, result) in results {
        let name = target.vault.name().to_string();
        match result {
            Ok(Ok(catalog_failure)) => {
                findings.extend(catalog_failure.as_ref().map(catalog_failed));
                whole.push(name);
            }
            Ok(Err(error)) => findings.push(behind(&name, &chain(&error), error.hint())),
            Err(_) => findings.push(behind(&name, "the committing thread ended early", None)),
        }
    }
    whole
}

/// A failure when fewer vaults are whole than the policy requires; where one is offsite, only such count.
fn too_few_copies(policy: &Policy, whole: &[String]) -> Option<Finding> {
    let any_offsite = policy.vaults.iter().any(|vault| vault.offsite);
    let counting = policy.vaults_that_count();
    let copies = whole.iter().filter(|name| counting.iter().any(|vault| vault.name.as_str() == *name)).count();
    let required = policy.backup.copies_required;
    (copies < required).then(|| {
        let kind = if any_offsite { "offsite copies" } else { "copies" };
        Finding::new(
            Level::Failed,
            "too-few-copies",
            policy.node.as_str(),
            format!("{copies} of the {required} {kind} required were written"),
        )
        .with_hint("see what is said of each vault, mend it, and run `relay-backup backup` again")
    })
}
