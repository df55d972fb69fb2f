//! Refuses to begin what would not fit.

use super::facts::Facts;
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::plan::Plan;

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    let bytes = plan.bytes();
    if bytes == 0 {
        return Verdict::NotApplicable { why: "nothing is written that takes room".to_owned() };
    }
    let mut objections = Objections::of(Guard::Space);
    let counted = facts.space.iter().fold(0_u64, |sum, space| sum.saturating_add(space.needed));
    if counted < bytes {
        let message = format!("the plan writes {bytes} bytes, and room was looked at for {counted} of them");
        objections.add("the target", message, "see to it that this can be learned, then run it again");
    }
    for space in &facts.space {
        let Some(free) = objections.need(&space.place, "its free room", space.free.as_ref()) else { continue };
        if space.needed > *free {
            let missing = space.needed - free;
            let message = format!("{} bytes are needed and {free} are free: {missing} are missing", space.needed);
            let hint = "make room (old journals, `journalctl --vacuum-size=200M`, and the chain's blocks by pruning, go \
                        first) or restore to a larger disk; never remove a channel database";
            objections.add(&space.place, message, hint);
        }
    }
    let places: Vec<&str> = facts.space.iter().map(|space| space.place.as_str()).collect();
    objections.verdict(format!("{bytes} bytes fit: {}", places.join(", ")))
}
