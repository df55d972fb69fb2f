//! Refuses to write over anything: a newer channel database, a different secret, a database with rows, any other file.
//! What is there is moved aside as one, and nothing of it may remain beside what is placed.

mod database;
mod wallet;

use super::evidence::{ChannelKnowledge, Knowledge, Origin};
use super::facts::{EmergencyAt, Facts, FileAt, Known, SecretAt};
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::artifact::ArtifactKind;
use crate::base::ids::ArtifactName;
use crate::plan::{Action, Plan};
use std::path::Path;

const ASIDE: &str = "let the plan move it aside before, or choose an empty target; nothing is ever written over";

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    let mut objections = Objections::of(Guard::Rollback);
    let mut moved: Vec<&Path> = Vec::new();
    let mut is_subject = false;
    for action in plan.actions() {
        is_subject |=
            action.artifact().is_some() || matches!(action, Action::RaiseFence { .. } | Action::MoveAside { .. });
        match action {
            Action::MoveAside { paths, .. } => moved.extend(paths.iter().map(|path| path.as_path())),
            Action::PlaceFile { to, kind, .. } => {
                file(&mut objections, facts, to, &moved);
                match kind {
                    ArtifactKind::EmergencyRecover => emergency(&mut objections, facts, to),
                    ArtifactKind::HsmSecret => secret(&mut objections, facts, to),
                    ArtifactKind::Sqlite => wallet::beside(&mut objections, facts, to, &moved),
                    _ => {}
                }
            }
            Action::PlaceChannelDatabase { to, .. } => {
                file(&mut objections, facts, to, &moved);
                wallet::beside(&mut objections, facts, to, &moved);
                wallet::replaced(&mut objections, plan, facts, to);
            }
            Action::RaiseFence { lightning } => {
                // The fence goes up first and holds the lock while the database behind it is moved aside.
                let moved: Vec<&Path> = moved_anywhere(plan).collect();
                file(&mut objections, facts, &lightning.wallet, &moved);
                wallet::beside(&mut objections, facts, &lightning.wallet, &moved);
                wallet::replaced(&mut objections, plan, facts, &lightning.wallet);
            }
            Action::Quarantine { to, .. } => file(&mut objections, facts, to, &moved),
            Action::PlaceTree { artifact, .. } => tree(&mut objections, facts, artifact, &moved),
            Action::RestoreDatabase { .. } => database::judge(&mut objections, facts, action),
            _ => {}
        }
    }
    if !is_subject {
        return Verdict::NotApplicable { why: "nothing is placed, restored or moved".to_owned() };
    }
    wallet::as_one(&mut objections, plan, facts);
    objections.verdict("nothing newer, different or unsaved lies where something is placed")
}

fn moved_anywhere(plan: &Plan) -> impl Iterator<Item = &Path> {
    plan.actions()
        .filter_map(|action| match action {
            Action::MoveAside { paths, .. } => Some(paths),
            _ => None,
        })
        .flatten()
        .map(|path| path.as_path())
}

/// Objects to what lies at a path and is not moved away.
fn file(objections: &mut Objections, facts: &Facts, path: &Path, moved: &[&Path]) {
    let at = Known::found(facts.target.files.get(path));
    let what = match objections.need(path.display(), "what lies there", at) {
        Some(FileAt::Other { length }) => format!("a file of {length} bytes"),
        Some(FileAt::NoFile { what }) => (*what).to_owned(),
        Some(FileAt::Nothing | FileAt::Identical | FileAt::Fence) | None => return,
    };
    if !moved.contains(&path) {
        objections.add(path.display(), format!("{what} is there and would be written over"), ASIDE);
    }
}

fn tree(objections: &mut Objections, facts: &Facts, artifact: &ArtifactName, moved: &[&Path]) {
    let found = Known::found(facts.target.trees.get(artifact));
    let found = objections.need(artifact, "what unpacking it would write over", found);
    for path in found.into_iter().flatten().filter(|path| !moved.contains(&path.as_path())) {
        objections.add(path.display(), format!("it is there, and differs from what {artifact} holds"), ASIDE);
    }
}

/// An `emergency.recover` that knows more than the snapshot's is the better road out, and is not replaced.
fn emergency(objections: &mut Objections, facts: &Facts, path: &Path) {
    let at = Known::found(facts.target.emergencies.get(path));
    let Some(EmergencyAt::Sound(there)) = objections.need(path.display(), "which channels the one there holds", at)
    else {
        return;
    };
    let what = "the snapshot's emergency.recover, which the one there must be held against,";
    let Some(ours) = objections.need(path.display(), what, facts.emergency.as_ref()) else { return };
    let of = |contents| {
        let mut knowledge = Knowledge::default();
        knowledge.learn_emergency(contents, &Origin::Target(path.to_owned()));
        knowledge
    };
    let (there, ours) = (of(there), of(ours));
    for (id, known) in there.channels() {
        let then = ours.channels().find(|(other, _)| *other == id).map(|(_, known)| known);
        let revocations = |of: &ChannelKnowledge| of.best(|sighting| sighting.revocations).map(|(best, _)| best);
        if then.is_none_or(|then| revocations(known) > revocations(then)) {
            let message = format!("the emergency.recover there knows more of channel {id} than the snapshot's");
            let hint = "recover from the one that is there: keep a copy of it elsewhere, and leave the snapshot's out";
            objections.add(path.display(), message, hint);
        }
    }
}

/// Another secret is never replaced, not even moved aside: it may be the only key to money.
fn secret(objections: &mut Objections, facts: &Facts, path: &Path) {
    let at = Known::found(facts.target.secrets.get(path));
    let Some(SecretAt::Other { node_id }) = objections.need(path.display(), "which secret lies there", at) else {
        return;
    };
    let whose = node_id.as_ref().map_or("of an unknown node".to_owned(), |id| format!("of node {id}"));
    let hint = "find out what hangs on that secret and keep it safe first; then move it away by hand, or choose another \
                target";
    objections.add(path.display(), format!("a different hsm_secret is there, {whose}"), hint);
}
