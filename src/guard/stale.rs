//! Refuses to bring channel state that may be old to a place where a node would start on it: the peer holds the secrets
//! of every commitment we have revoked and takes the whole channel when one of them is broadcast. Two roads are open:
//! every channel that anybody knows of is closed, or the database is a node's final state, claimed by us alone, and
//! nothing anywhere is newer.

mod last;
mod words;

use super::evidence::{Knowledge, Origin, Piece, Sighting, Standing, Testimony, cannot_broadcast};
use super::facts::{Candidate, Facts, FileAt, Finality, Known, WalletAt};
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::artifact::channels::FILE_NAMES;
use crate::artifact::{ArtifactKind, Toxicity};
use crate::base::ids::{ArtifactName, SnapshotId};
use crate::facts::cln::WalletChannel;
use crate::plan::{Action, Plan, SIDE_FILES};
use std::path::{Path, PathBuf};

/// The safe road of a Core Lightning node.
const SAFE_ROAD: &str = "leave the database in quarantine and take the road of emergency.recover: an empty database, the \
                         same hsm_secret, `lightning-cli emergencyrecover` before anything else; peers then close the \
                         channels and our side comes back on chain";
/// The safe road of a node that has run since it moved.
const STARTED: &str = "find the database that the node ran on and put that in its place; if it is lost or broken, take the \
                       scenario cln-db-corruption, which goes by emergency.recover";
/// The safe road where it is not a file of Core Lightning's.
const QUARANTINE: &str = "put it in quarantine; an LND node comes back by its seed and channel.backup, a Core Lightning \
                          node by hsm_secret and emergency.recover";

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    if !plan.actions().any(|action| action.artifact().is_some()) {
        return Verdict::NotApplicable { why: "nothing of a snapshot is placed".to_owned() };
    }
    let mut objections = Objections::of(Guard::Stale);
    let mut because = "nothing that is placed holds channel state".to_owned();
    for action in plan.actions() {
        match action {
            Action::PlaceChannelDatabase { artifact, claim, to, .. } => {
                because = channel_database(&mut objections, plan, facts, (artifact, claim));
                started(&mut objections, facts, artifact, to);
            }
            Action::Quarantine { artifact, to, .. } => quarantine(&mut objections, plan, artifact, to),
            _ => innocent(&mut objections, plan, facts, action),
        }
    }
    objections.verdict(because)
}

/// What is placed by any other action must surely hold no channel state, and must not lie where such state belongs.
fn innocent(objections: &mut Objections, plan: &Plan, facts: &Facts, action: &Action) {
    let Some(artifact) = action.artifact() else { return };
    let known = facts.artifacts.get(artifact);
    let toxicity = known.map_or_else(Known::default, |known| known.toxicity.as_ref());
    let is_toxic = objections.need(artifact, "whether it holds channel state", toxicity) == Some(&Toxicity::Toxic);
    let is_wallet = matches!(action, Action::PlaceFile { kind: ArtifactKind::ClnWallet, .. });
    let is_tables = matches!(known.map(|known| &known.software), Some(Known::Is(software)) if software.is_node());
    if is_toxic || is_wallet || is_tables {
        let message = "it holds a node's channel state, and it would go where a node can start on it";
        objections.add(artifact, message, QUARANTINE);
    }
    if let Action::RestoreDatabase { .. } = action {
        let software = known.map_or_else(Known::default, |known| known.software.as_ref());
        objections.need(artifact, "whose tables these are", software);
    }
    if let Action::PlaceFile { to, .. } = action
        && is_channel_place(plan, to)
    {
        objections.add(artifact, format!("{} is the place of a channel database", to.display()), QUARANTINE);
    }
}

/// Whether a node looks for channel state, or for what belongs to it, at this path.
fn is_channel_place(plan: &Plan, path: &Path) -> bool {
    let of_plan = plan.fences().any(|place| is_database_or_beside(path, &place.wallet));
    of_plan || FILE_NAMES.iter().any(|name| is_database_or_beside(path, &path.with_file_name(name)))
}

fn is_database_or_beside(path: &Path, database: &Path) -> bool {
    let beside = |ending: &str| {
        let mut text = database.as_os_str().to_owned();
        text.push(ending);
        path.as_os_str() == text
    };
    path == database || SIDE_FILES.into_iter().any(beside)
}

fn quarantine(objections: &mut Objections, plan: &Plan, artifact: &ArtifactName, to: &Path) {
    let is_marked = to.file_name().is_some_and(|name| name.to_string_lossy().contains("TOXIC"));
    let hint = "choose a folder outside of every node's, and a name with TOXIC in it";
    if !is_marked {
        objections.add(artifact, format!("{} does not say TOXIC in its name", to.display()), hint);
    }
    if plan.fences().any(|place| place.holds(to)) {
        objections.add(artifact, format!("{} lies among a node's own files", to.display()), hint);
    }
}

/// The databases that lie at the target, as evidence.
fn at_target(facts: &Facts) -> Vec<Piece> {
    let piece = |(path, at): (&PathBuf, &Known<WalletAt>)| {
        let says = match at {
            Known::Is(WalletAt::Nothing) => return None,
            Known::Is(WalletAt::Sound(node)) => Known::Is(Testimony::Wallet(node.clone())),
            Known::Is(WalletAt::Damaged { why }) | Known::Unknown(why) => Known::Unknown(why.clone()),
        };
        Some(Piece { origin: Origin::Target(path.clone()), node_id: None, taken: None, says })
    };
    facts.target.wallets.iter().filter_map(piece).collect()
}

/// A node that was let start on the database has written to it since, wherever that is now, and no vault need know.
fn started(objections: &mut Objections, facts: &Facts, artifact: &ArtifactName, to: &Path) {
    let what = "whether this restore has let the node start on it already";
    let Some(Some(at)) = objections.need(artifact, what, facts.lowered.as_ref()) else { return };
    if Known::found(facts.target.files.get(to)) != Known::Is(&FileAt::Identical) {
        let message = format!(
            "this restore let the node start on it at {at}, and it is not at {} as it was: the node may have run, and \
             what it wrote since is newer",
            to.display()
        );
        objections.add(artifact, message, STARTED);
    }
}

/// Judges one channel database; gives the reason for which it is cleared if nothing was objected.
fn channel_database(
    objections: &mut Objections,
    plan: &Plan,
    facts: &Facts,
    (artifact, claim): (&ArtifactName, &SnapshotId),
) -> String {
    let candidate = Known::found(facts.candidates.get(artifact));
    let Some(candidate) = objections.need(artifact, "which channels it holds", candidate) else {
        return String::new();
    };
    if plan.snapshot.as_ref() != Some(&candidate.snapshot) || *claim != candidate.snapshot {
        let message = format!("what is known of it is of {}, which is not the plan's", candidate.snapshot);
        objections.add(artifact, message, "make the plan anew");
    }
    let at_target = at_target(facts);
    let evidence: Vec<&Piece> = facts.evidence.iter().chain(&at_target).collect();
    let mut knowledge = Knowledge::of(evidence.iter().copied(), candidate.node.node_id.as_deref());
    knowledge.learn_wallet(&candidate.node, &Origin::Snapshot(candidate.snapshot.clone()));
    let open = knowledge.open().count();
    if open > 0 {
        channels(objections, candidate, &knowledge);
        last::judge(objections, facts, candidate, (artifact, &evidence));
    }
    complete(objections, facts, candidate, artifact, &knowledge);
    let all = knowledge.channels().count();
    match (all, open) {
        (0, _) => "no evidence knows of any channel".to_owned(),
        (_, 0) => format!("all {all} channels are closed by the evidence with the highest counters"),
        _ => format!("{} is the final state, claimed by us alone, and nothing is newer", candidate.snapshot),
    }
}

/// Everything that is there must have been read, and must name its channels.
fn complete(
    objections: &mut Objections,
    facts: &Facts,
    candidate: &Candidate,
    artifact: &ArtifactName,
    knowledge: &Knowledge,
) {
    let vaults = objections.need("the vaults", "what they hold", facts.vaults.as_ref());
    if vaults.is_some_and(Vec::is_empty) {
        objections.add("the vaults", "none was read", "see to it that every vault of the policy can be read");
    }
    for reading in vaults.into_iter().flatten() {
        let vault = format!("vault {}", reading.vault);
        let Some(Some(head)) = objections.need(&vault, "all that is in it", reading.head.as_ref()) else { continue };
        let is_read = |piece: &Piece| matches!(&piece.origin, Origin::Snapshot(id) if id == head);
        if *head != candidate.snapshot && !facts.evidence.iter().any(is_read) {
            objections.need::<Candidate>(&vault, &format!("what its newest snapshot, {head}, says"), Known::default());
        }
    }
    for (origin, why) in knowledge.unread() {
        let message = format!("it may know of newer channel state and cannot be read: {why}");
        objections.add(origin, message, SAFE_ROAD);
    }
    // What a stopped node wrote last knows every channel that it had opened before.
    let is_before_the_end = |origin: &Origin| {
        let is_earlier = matches!(origin, Origin::Snapshot(id) if *id <= candidate.snapshot);
        candidate.finality == Known::Is(Finality::Final) && is_earlier
    };
    for origin in knowledge.locked().filter(|origin| !is_before_the_end(origin)) {
        let message = "its emergency.recover needs a passphrase, and may name a channel that nothing else does";
        objections.add(origin, message, SAFE_ROAD);
    }
    for (origin, row) in knowledge.unnamed() {
        let message =
            format!("{origin} has a channel (row {row}) without a full channel id, so it compares with nothing");
        objections.add(artifact, message, SAFE_ROAD);
    }
}

/// Objects to each channel of which something newer is known.
fn channels(objections: &mut Objections, candidate: &Candidate, knowledge: &Knowledge) {
    for (id, known) in knowledge.open() {
        let rows: Vec<&WalletChannel> =
            candidate.node.channels.iter().filter(|row| row.channel_id.as_deref() == Some(id)).collect();
        let mut newer = Vec::new();
        if rows.is_empty() {
            newer.push(words::absent(known));
        }
        for ours in rows.into_iter().filter(|ours| !cannot_broadcast(ours)) {
            let ours = Sighting::of(ours);
            newer.extend(words::behind("next_index_local", ours.next_index_local, known, |s| s.next_index_local));
            newer.extend(words::behind("next_index_remote", ours.next_index_remote, known, |s| s.next_index_remote));
            newer.extend(words::behind("peer revocations", ours.revocations, known, |s| s.revocations));
            newer.extend(words::earlier(ours.standing, known));
        }
        if newer.is_empty() && candidate.finality == Known::Is(Finality::Final) {
            continue;
        }
        objections.add_detail(words::channel(id, known, &newer));
    }
}
