//! Depth `present`: the chain, the objective, the pinned recipients, what the catalog remembers, and every object there
//! with its length. Needs no identity.

use super::super::Error;
use super::super::commit::absent;
use super::super::error::chain;
use super::super::state::{HostState, StateFolder, as_attestation};
use super::super::survey::from_the_future;
use super::{Check, Look, Run, Verdict};
use crate::base::ids::SnapshotId;
use crate::base::limits::CLOCK_SLACK;
use crate::catalog::Catalog;
use crate::policy::{SourceKind, Via};
use crate::report::{Finding, Level};
use crate::seal::recipients::fingerprint;
use crate::sources::cln;
use crate::vault::layout::{ObjectKey, SnapshotFile};
use std::collections::BTreeSet;

/// Holds each manifest against the one before it in this vault. A manifest says what the vault's newest snapshot was
/// when it was made: that one must be here. What the vault missed while it was out of reach is not damage.
pub(super) fn chain_of(run: &mut Run<'_>, look: &Look<'_>) {
    let mut broken = 0;
    for believed in look.believed.values() {
        let manifest = &believed.manifest;
        let subject = format!("{}: {}", look.name(), manifest.snapshot);
        if let Some(previous) = &manifest.previous
            && let Some(held) = look.believed.get(&previous.snapshot)
            && held.sha256 != previous.sha256
        {
            broken += 1;
            let message = format!("the chain is broken: {} here is not the one that it follows", previous.snapshot);
            run.damage(
                "chain-broken",
                subject.clone(),
                message,
                "compare with another vault; do not restore the older one",
            );
        }
        let head = manifest.vaults.iter().find(|head| head.vault == look.place.id).and_then(|head| head.head.as_ref());
        if let Some(head) = head
            && !look.believed.contains_key(head)
            && !look.disbelieved.contains(head)
        {
            broken += 1;
            let message = format!("{head} was in this vault when it was made, and is gone");
            run.damage(
                "snapshot-missing",
                subject,
                message,
                "somebody or something removed it; copy it back from another vault",
            );
        }
    }
    let verdict = if broken == 0 && look.disbelieved.is_empty() { Verdict::Passed } else { Verdict::Failed };
    let detail = format!("{} snapshots", look.believed.len());
    run.checks.push(Check::new("signatures and chain", look.name(), verdict, detail));
}

/// Holds the age of the newest complete snapshot against the objective.
pub(super) fn freshness(run: &mut Run<'_>, look: &mut Look<'_>) {
    let Some(policy) = run.policy else { return };
    let newest = look.newest_complete().map(|believed| believed.manifest.created);
    dated_ahead(run, look);
    let age = newest.map(|created| run.context.now().as_second() - created.as_second());
    look.row.age_seconds = age;
    if !look.place.counts {
        return;
    }
    let limit = i64::try_from(policy.objectives.rpo.as_secs()).unwrap_or(i64::MAX);
    let slack = i64::try_from(CLOCK_SLACK.as_secs()).unwrap_or(i64::MAX);
    let is_ahead = age.is_some_and(|age| age < -slack);
    let subject = look.name().to_owned();
    let (verdict, message) = match age {
        Some(age) if age < -slack => (
            Verdict::Failed,
            format!("the newest complete snapshot lies {} in the future, so its age tells nothing", hours(-age)),
        ),
        Some(age) if age <= limit => (Verdict::Passed, format!("{} old", hours(age))),
        Some(age) => (
            Verdict::Failed,
            format!("the newest complete snapshot is {} old; the objective allows {}", hours(age), hours(limit)),
        ),
        None => (Verdict::Failed, "it holds no complete snapshot".to_owned()),
    };
    if verdict == Verdict::Failed {
        let finding = if is_ahead {
            Finding::new(Level::Stale, "from-the-future", subject.clone(), message.clone()).with_hint(
                "set the clocks of the node and of this machine, then run `relay-backup backup` on the node: its snapshot is \
                 the newest, whatever the date of this one",
            )
        } else {
            Finding::new(Level::Stale, "older-than-rpo", subject.clone(), message.clone())
                .with_hint("run `relay-backup backup` on the node, and see why it did not run")
        };
        run.findings.push(finding);
    }
    run.checks.push(Check::new("age against the objective", subject, verdict, message));
}

/// Names snapshots before the newest complete one that are dated after this moment.
fn dated_ahead(run: &mut Run<'_>, look: &Look<'_>) {
    let slack = i64::try_from(CLOCK_SLACK.as_secs()).unwrap_or(i64::MAX);
    let limit = run.context.now().as_second().saturating_add(slack);
    let newest = look.newest_complete().map(|believed| &believed.manifest.snapshot);
    let others = look.believed.values().map(|believed| &believed.manifest);
    let ahead = others.filter(|other| Some(&other.snapshot) != newest && other.created.as_second() > limit);
    run.findings.extend(ahead.map(|other| from_the_future(look.name(), &other.snapshot)).collect::<Vec<_>>());
}

fn hours(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

/// Holds the vault against what this host's catalog says it committed there.
pub(super) fn rolled_back(run: &mut Run<'_>, look: &Look<'_>) -> Result<(), Error> {
    let Some(policy) = run.policy.filter(|policy| policy.node == run.reader.node && HostState::exists(policy)) else {
        let why = "this is not the node, so there is no catalog to compare with";
        run.checks.push(Check::new("newest snapshot as committed", look.name(), Verdict::NotApplicable, why));
        return Ok(());
    };
    let file = StateFolder::of(policy).catalog();
    let (catalog, _) = Catalog::open(&file)?;
    let Some(head) = catalog.head(&look.place.id)? else {
        if look.place.via == Via::Backup && !look.believed.is_empty() && catalog.newest_head()?.is_some() {
            run.findings.push(super::super::backup::stranger(look.name(), &look.place.id));
        }
        let why = "the catalog remembers no snapshot there";
        run.checks.push(Check::new("newest snapshot as committed", look.name(), Verdict::NotApplicable, why));
        return Ok(());
    };
    let (committed, sha256) = (head.snapshot, head.manifest_sha256);
    let subject = format!("{}: {committed}", look.name());
    let problem = match look.believed.get(&committed) {
        Some(held) if held.sha256 == sha256 => None,
        Some(_) => Some("its manifest is not the one that this host wrote"),
        None if look.disbelieved.contains(&committed) => None,
        None => Some("this host committed it there, and it is gone: the vault was rolled back"),
    };
    if let Some(problem) = problem {
        run.damage(
            "rolled-back",
            subject.clone(),
            problem,
            "copy it back from another vault, or run `relay-backup backup` now",
        );
    }
    let verdict =
        if problem.is_some() || look.disbelieved.contains(&committed) { Verdict::Failed } else { Verdict::Passed };
    run.checks.push(Check::new("newest snapshot as committed", look.name(), verdict, committed.to_string()));
    Ok(())
}

/// Holds the newest snapshot's recipients against the policy's: one who is not pinned could read it.
pub(super) fn recipients(run: &mut Run<'_>, look: &Look<'_>) {
    let Some(policy) = run.policy.filter(|policy| policy.node == run.reader.node) else {
        let why = "no policy pins this node's recipients";
        run.checks.push(Check::new("recipients as pinned", look.name(), Verdict::NotApplicable, why));
        return;
    };
    let Some(newest) = look.believed.values().next_back() else { return };
    let pinned: BTreeSet<String> = policy.keys.recipients.iter().map(|text| fingerprint(text)).collect();
    let sealed_to: BTreeSet<String> = newest.manifest.recipients.iter().cloned().collect();
    let subject = format!("{}: {}", look.name(), newest.manifest.snapshot);
    let strangers: Vec<&String> = sealed_to.difference(&pinned).collect();
    if let Some(first) = strangers.first() {
        let message =
            format!("it is sealed to {} recipient(s) that the policy does not name, first {first}", strangers.len());
        let hint = "if you removed one, `relay-backup rotate` begins an epoch without it; otherwise somebody changed this \
                    host's recipients";
        run.damage("recipient-not-pinned", subject.clone(), message, hint);
    }
    if let Some(first) = pinned.difference(&sealed_to).next() {
        run.findings.push(
            Finding::new(
                Level::Degraded,
                "recipient-missing",
                subject.clone(),
                format!("a recipient of the policy cannot open it: {first}"),
            )
            .with_hint("`relay-backup rotate` begins an epoch that is sealed to all recipients of the policy"),
        );
    }
    let verdict = if sealed_to == pinned { Verdict::Passed } else { Verdict::Failed };
    run.checks.push(Check::new("recipients as pinned", subject, verdict, format!("{} recipients", pinned.len())));
}

/// Tells which vaults lack the newest snapshot that another one has.
pub(super) fn compare(run: &mut Run<'_>, looks: &[Look<'_>]) {
    let newest = |look: &Look<'_>| look.believed.keys().next_back().cloned();
    let Some(head) = looks.iter().filter_map(newest).max() else {
        run.findings.push(
            Finding::new(
                Level::Stale,
                "no-snapshot",
                run.reader.node.as_str(),
                "no vault holds a snapshot of this node",
            )
            .with_hint("run `relay-backup backup` on the node"),
        );
        return;
    };
    for look in looks {
        let here = newest(look);
        if here.as_ref() == Some(&head) {
            continue;
        }
        let already = run
            .findings
            .iter()
            .any(|finding| finding.level == Level::Damage && finding.subject == format!("{}: {head}", look.name()));
        if already {
            continue;
        }
        let message = format!(
            "it is behind: its newest snapshot is {}, another vault has {head}",
            here.map_or("none".into(), |id: SnapshotId| id.to_string())
        );
        let hint = match look.place.via {
            Via::Backup => "the next backup that reaches it makes it whole again",
            Via::Sync => "bring it up to date from another vault",
        };
        run.findings.push(Finding::new(Level::Degraded, "vault-behind", look.name(), message).with_hint(hint));
    }
}

/// On the node itself: the live secret must still be the attested one.
pub(super) fn live_secret(run: &mut Run<'_>, looks: &[Look<'_>]) {
    const WHAT: &str = "live hsm_secret as attested";
    let Some(policy) = run.policy.filter(|policy| policy.node == run.reader.node && HostState::exists(policy)) else {
        run.checks.push(Check::new(WHAT, run.reader.node.as_str(), Verdict::NotApplicable, "this is not the node"));
        return;
    };
    let sources = policy.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Cln { lightning_dir, network, .. } => Some((&source.name, lightning_dir, network)),
        _ => None,
    });
    let mut any = false;
    for (name, lightning_dir, network) in sources {
        any = true;
        let newest =
            looks.iter().filter_map(|look| look.believed.values().next_back()).max_by_key(|b| b.manifest.sequence);
        let attested = newest.and_then(|b| b.manifest.attested.iter().find(|attested| &attested.source == name));
        let Some(attested) = attested else {
            run.checks.push(Check::new(WHAT, name.as_str(), Verdict::NotApplicable, "no snapshot attests it yet"));
            continue;
        };
        let problem = match cln::is_attested(&as_attestation(attested), lightning_dir, network) {
            Ok(true) => None,
            Ok(false) => Some("the live hsm_secret is not the one that was attested".to_owned()),
            Err(error) => Some(format!("the live hsm_secret cannot be read: {}", chain(&error))),
        };
        let verdict = if problem.is_some() { Verdict::Failed } else { Verdict::Passed };
        run.checks.push(Check::new(WHAT, name.as_str(), verdict, ""));
        if let Some(problem) = problem {
            run.findings.push(
                Finding::new(Level::Failed, "hsm-secret-changed", name.as_str(), problem).with_hint(format!(
                    "find out who changed it; the attested one is in the snapshots. If you meant it: relay-backup attest {name}"
                )),
            );
        }
    }
    if !any {
        run.checks.push(Check::new(
            WHAT,
            run.reader.node.as_str(),
            Verdict::NotApplicable,
            "the policy has no cln source",
        ));
    }
}

/// Looks for every object of the chosen snapshots, and for the files beside their manifests.
pub(super) fn objects(run: &mut Run<'_>, look: &mut Look<'_>) -> Result<(), Error> {
    let node = run.reader.node.clone();
    for id in look.chosen.clone() {
        run.context.check()?;
        let Some(believed) = look.believed.get(&id) else { continue };
        let manifest = &believed.manifest;
        let subject = format!("{}: {id}", look.name());
        let mut problems = 0;
        for (file, wanted) in
            [(SnapshotFile::EpochKey, manifest.epoch_key.length), (SnapshotFile::Notes, manifest.notes.length)]
        {
            let found = look.place.vault.length(&ObjectKey::snapshot(&node, &id, file))?;
            if found != Some(wanted) {
                problems += 1;
                if file == SnapshotFile::Notes {
                    look.unopenable.insert(id.clone());
                }
                let message = match found {
                    None => format!("{} is missing", file.name()),
                    Some(length) => format!("{} has {length} bytes and should have {wanted}", file.name()),
                };
                run.damage("file-damaged", subject.clone(), message, "copy it back from another vault");
            }
        }
        let missing = absent(&look.place.vault, &node, manifest)?;
        problems += missing.len();
        for object in &missing {
            for (artifact, index, segment) in named(manifest, object) {
                let thing = super::super::opening::name_segment(&artifact.name, index, segment);
                run.damage(
                    "object-missing",
                    format!("{subject}: {thing}"),
                    "its object is missing from this vault or has another length",
                    "restore from another vault or snapshot; the next backup seals it anew",
                );
            }
        }
        let objects = manifest.segments().count() as u64;
        let verdict = if problems == 0 { Verdict::Passed } else { Verdict::Failed };
        run.checks.push(Check::new("every object present", subject, verdict, format!("{objects} objects")));
        look.row.objects += objects;
        look.bad.extend(missing);
    }
    Ok(())
}

/// The segments of a manifest that lie in this object.
pub(super) fn named<'m>(
    manifest: &'m crate::manifest::Manifest,
    object: &'m crate::base::ids::Sha256Hex,
) -> impl Iterator<Item = (&'m crate::manifest::Artifact, usize, &'m crate::manifest::Segment)> {
    manifest.artifacts.iter().flat_map(move |artifact| {
        let segments = artifact.segments.iter().enumerate();
        segments
            .filter(move |(_, segment)| &segment.object == object)
            .map(move |(index, segment)| (artifact, index, segment))
    })
}
