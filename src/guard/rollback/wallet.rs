//! Channel databases at the target: never replaced when they are newer, and never torn from their side files or behind
//! a mirror's back.

use super::ASIDE;
use crate::facts::cln::NodeState;
use crate::guard::evidence::lineage::{Relation, Version, relation};
use crate::guard::evidence::{Knowledge, Origin, Sighting, cannot_broadcast};
use crate::guard::facts::{Candidate, Facts, FileAt, Known, WalletAt};
use crate::guard::objections::Objections;
use crate::plan::{Action, Plan, SIDE_FILES, Together};
use std::path::{Path, PathBuf};

const KEEP: &str = "do not replace it: start the node on what is there if it starts, or, if it must go, move it to a safe \
                    place by hand first, with the files beside it";

const MIRROR: &str = "copy the mirror to a safe place, it may be the last state of the channels; then take it out of \
                      lightningd's `wallet=` option, in NixOS's configuration too, and run this again";

/// The files that belong to a database.
fn side_files(database: &Path) -> impl Iterator<Item = PathBuf> {
    SIDE_FILES.into_iter().map(|ending| {
        let mut text = database.as_os_str().to_owned();
        text.push(ending);
        text.into()
    })
}

/// Objects to side files of an earlier database that would be taken for the new one's.
pub(super) fn beside(objections: &mut Objections, facts: &Facts, database: &Path, moved: &[&Path]) {
    for path in side_files(database) {
        let at = Known::found(facts.target.files.get(&path));
        let at = objections.need(path.display(), "what lies there", at);
        if !matches!(at, Some(FileAt::Nothing) | None) && !moved.contains(&path.as_path()) {
            let message = "it belongs to the database that was there, and would be played into the one that is placed";
            objections.add(path.display(), message, ASIDE);
        }
    }
}

/// Objects to a database at the target that knows more than the snapshot's, or of which nobody can say.
pub(super) fn replaced(objections: &mut Objections, plan: &Plan, facts: &Facts, path: &Path) {
    let at = Known::found(facts.target.wallets.get(path));
    let is_placed =
        plan.actions().any(|action| matches!(action, Action::PlaceChannelDatabase { to, .. } if to == path));
    match objections.need(path.display(), "which channel database lies there", at) {
        Some(WalletAt::Damaged { why }) if is_placed => {
            let message = format!("the database there is damaged ({why}), so nobody can say that it is not newer");
            objections.add(path.display(), message, KEEP);
        }
        Some(WalletAt::Sound(node)) => sound(objections, plan, facts, (path, node)),
        Some(WalletAt::Nothing | WalletAt::Damaged { .. }) | None => {}
    }
}

fn sound(objections: &mut Objections, plan: &Plan, facts: &Facts, (path, node): (&Path, &NodeState)) {
    let subject = path.display();
    let mine = |name: &_| plan.actions().any(|action| action.artifact() == Some(name));
    let candidate = facts.candidates.iter().find(|(name, _)| mine(name)).map(|(_, candidate)| candidate);
    let what = "the snapshot's channel database, which the one there must be held against,";
    let Some(candidate) = objections.need(&subject, what, Known::found(candidate)) else { return };
    let (theirs, ours) = (&node.node_id, &candidate.node.node_id);
    if let (Some(theirs), Some(ours)) = (theirs, ours)
        && theirs != ours
    {
        objections.add(&subject, format!("the database there is of another node, {theirs}"), KEEP);
    }
    for message in newer(candidate, node, path) {
        objections.add(&subject, message, KEEP);
    }
}

/// In what the database at the target is newer than the snapshot's.
fn newer(candidate: &Candidate, node: &NodeState, path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let ours = Version { number: candidate.node.data_version, taken: Some(candidate.taken), sequence: None };
    match relation(ours, Version { number: node.data_version, taken: None, sequence: None }) {
        Relation::Newer => found.push("the database there is newer: its data_version is greater".to_owned()),
        Relation::Unknown => found.push("nobody can say which is newer: one of them has no data_version".to_owned()),
        Relation::NotNewer => {}
    }
    let mut knowledge = Knowledge::default();
    knowledge.learn_wallet(&candidate.node, &Origin::Snapshot(candidate.snapshot.clone()));
    let before = knowledge.clone();
    let mut there = node.clone();
    there.channels.retain(|channel| !cannot_broadcast(channel));
    knowledge.learn_wallet(&there, &Origin::Target(path.to_owned()));
    for (id, known) in knowledge.channels() {
        let then = before.channels().find(|(other, _)| *other == id).map(|(_, known)| known);
        let greater = |counter: fn(&Sighting) -> Option<u64>| {
            known.best(counter).map(|(best, _)| best) > then.and_then(|then| then.best(counter)).map(|(best, _)| best)
        };
        let standing =
            |known: &crate::guard::evidence::ChannelKnowledge| known.best(|s| Some(s.standing)).map(|(s, _)| s);
        let is_later = match (standing(known), then.and_then(standing)) {
            (Some(now), Some(then)) => now.is_later_than(then),
            (now, _) => now.is_some(),
        };
        if is_later || greater(|s| s.next_index_local) || greater(|s| s.next_index_remote) || greater(|s| s.revocations)
        {
            found.push(format!("the database there knows more of channel {id}"));
        }
    }
    if knowledge.unnamed().count() > before.unnamed().count() {
        found.push("the database there has channels without a full channel id, which compare with nothing".to_owned());
    }
    found
}

/// A channel database goes aside with its side files in one go, and its mirror before it.
pub(super) fn as_one(objections: &mut Objections, plan: &Plan, facts: &Facts) {
    let mut wallets: Vec<&Path> = plan.fences().map(|place| place.wallet.as_path()).collect();
    wallets.extend(plan.actions().filter_map(|action| match action {
        Action::PlaceChannelDatabase { to, .. } => Some(to.as_path()),
        _ => None,
    }));
    wallets.sort_unstable();
    wallets.dedup();
    for wallet in wallets {
        let what = "whether lightningd keeps a mirror of it";
        let mirror = objections.need(wallet.display(), what, facts.target.mirror.as_ref());
        let lies_there =
            matches!(facts.target.files.get(wallet), Some(Known::Is(FileAt::Other { .. } | FileAt::NoFile { .. })));
        let moves: Vec<_> = plan.actions().filter_map(|action| moved_with(action, wallet)).collect();
        for (paths, together) in &moves {
            let is_whole = side_files(wallet).all(|path| paths.contains(&path));
            if *together != Together::Database || !is_whole {
                let message = "it would be moved aside without -journal, -wal and -shm, which hold part of it";
                objections.add(wallet.display(), message, "move the four aside as one");
            }
        }
        let Some(Some(mirror)) = mirror else { continue };
        let is_first = |paths: &[PathBuf]| {
            let place = |wanted: &Path| paths.iter().position(|path| path == wanted);
            matches!((place(mirror), place(wallet)), (Some(mirror), Some(wallet)) if mirror < wallet)
        };
        let is_safe = moves.iter().any(|(paths, _)| is_first(paths));
        if !is_safe && (lies_there || mirror_holds(facts, mirror)) {
            let message =
                format!("it is the mirror of {}, and lightningd copies that over it when it starts", wallet.display());
            objections.add(mirror.display(), message, MIRROR);
        }
    }
}

fn moved_with<'a>(action: &'a Action, wallet: &Path) -> Option<(&'a [PathBuf], Together)> {
    match action {
        Action::MoveAside { paths, together } if paths.iter().any(|path| path == wallet) => Some((paths, *together)),
        _ => None,
    }
}

/// Whether something lies at the mirror's place, or nobody knows.
fn mirror_holds(facts: &Facts, mirror: &Path) -> bool {
    !matches!(facts.target.files.get(mirror), Some(Known::Is(FileAt::Nothing)))
}
