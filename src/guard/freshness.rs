//! Refuses a snapshot that is not the newest complete one, or from which the way to the chain's tip is cut: blocks that
//! a pruned bitcoind no longer has. Tells what lies in the gap between the snapshot and the newest mark.

use super::facts::{Facts, PruneWindow, Remembered, Standing};
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::base::ids::SnapshotId;
use crate::plan::Plan;
use std::collections::BTreeMap;

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    let Some(snapshot) = &plan.snapshot else {
        return Verdict::NotApplicable { why: "the plan takes nothing from a snapshot".to_owned() };
    };
    if !plan.actions().any(|action| action.artifact().is_some()) {
        return Verdict::NotApplicable { why: format!("nothing of {snapshot} is placed") };
    }
    let mut objections = Objections::of(Guard::Freshness);
    newest(&mut objections, snapshot, facts);
    remembered(&mut objections, facts);
    let facts = &facts.freshness;
    let heights = objections.need(snapshot, "from which heights blocks must be read again", facts.heights.as_ref());
    let prune = objections.need("bitcoind", "which blocks it still has", facts.prune.as_ref());
    if let (Some(heights), Some(prune)) = (heights, prune) {
        in_window(&mut objections, plan, heights, prune);
    }
    let gap = gap(&mut objections, snapshot, facts);
    objections.verdict(format!("{snapshot} is the newest complete snapshot; {gap}"))
}

fn newest(objections: &mut Objections, snapshot: &SnapshotId, facts: &Facts) {
    let newest = facts.freshness.newest_complete.as_ref();
    match objections.need("the vaults", "which snapshot is the newest complete one", newest) {
        Some(Some(newest)) if newest == snapshot => {}
        Some(newest) => {
            let name = newest.as_ref().map_or("no complete one".to_owned(), ToString::to_string);
            let message = format!("it is not the newest complete snapshot: that is {name}");
            let hint = "take the newest complete one; an older one loses what came after it, and with \
                        --accept freshness=\"…\" it is your word that this is meant";
            objections.add(snapshot, message, hint);
        }
        None => {}
    }
}

/// Objects where something outside of the vaults knows of a newer snapshot than they hold.
fn remembered(objections: &mut Objections, facts: &Facts) {
    for Remembered { whose, says, standing } in &facts.remembered {
        let known = objections.need(whose, "how it stands against the vaults", standing.as_ref());
        let message = match known {
            Some(Standing::Missing) => format!(
                "it knows of {}, and no vault that was asked holds it: they were set back to an earlier state, or lost it",
                says.snapshot
            ),
            Some(Standing::Other) => format!("it knows another {} than the one in the vaults", says.snapshot),
            Some(Standing::Held | Standing::Gone) | None => continue,
        };
        let hint = "look for a vault, or a copy of one, that holds it, and restore from that; where there is none, \
                    --accept freshness=\"…\" is your word that what came after is lost";
        objections.add(whose, message, hint);
    }
}

fn in_window(objections: &mut Objections, plan: &Plan, heights: &BTreeMap<String, u64>, prune: &PruneWindow) {
    let lowest = match prune {
        PruneWindow::Whole => return,
        PruneWindow::NotHere if plan.root.is_some() => return,
        PruneWindow::NotHere => {
            let hint = "start bitcoind first, then run it again";
            objections.add("bitcoind", "there is none at the target, so nobody can say which blocks it has", hint);
            return;
        }
        PruneWindow::From(lowest) => *lowest,
    };
    for (software, height) in heights.iter().filter(|(_, height)| **height < lowest) {
        let message = format!("it stands at block {height}, and bitcoind has pruned everything below {lowest}");
        let hint = "give bitcoind the blocks again (`-reindex` without pruning, or another node's block files) before \
                    this software is started; payments in the missing blocks are not seen otherwise";
        objections.add(software, message, hint);
    }
}

fn gap(objections: &mut Objections, snapshot: &SnapshotId, facts: &super::facts::FreshnessFacts) -> String {
    let taken = objections.need(snapshot, "when it was taken", facts.taken.as_ref());
    let mark = objections.need("the vaults", "when the newest mark was taken", facts.newest_mark.as_ref());
    match (taken, mark) {
        (Some(taken), Some(Some(mark))) if mark > taken => {
            let minutes = mark.duration_since(*taken).as_secs() / 60;
            format!(
                "the newest mark is {minutes} minutes younger, and what happened in between is only in its counters"
            )
        }
        (Some(_), Some(Some(_))) => "no mark is younger".to_owned(),
        _ => "there is no mark, so nobody can say what happened after it".to_owned(),
    }
}
