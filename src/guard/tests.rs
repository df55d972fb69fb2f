//! Guards on the files of a real node, on random channels, and one by one: each rule has a test that fails without it.

mod acceptances;
mod fixtures;
mod histories;
mod merging;
mod random;
mod rollback;
mod rules;
mod running;
mod stale;
mod stale_rules;
mod witness;
mod world;

use super::*;

/// The verdict of one guard.
fn verdict(guard: Guard, plan: &Plan, facts: &Facts) -> Verdict {
    let judgement = judge(plan.clone(), facts, &Acceptances::default());
    judgement.verdicts().iter().find(|judged| judged.guard == guard).unwrap().verdict.clone()
}

/// The refusal of one guard.
#[track_caller]
fn refusal(guard: Guard, plan: &Plan, facts: &Facts) -> Refusal {
    match verdict(guard, plan, facts) {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{guard} should have refused, but said {other:?}"),
    }
}

/// Asks one guard, and looks for a reason that holds these words.
#[track_caller]
fn refused(guard: Guard, plan: &Plan, facts: &Facts, words: &str) {
    let refusal = refusal(guard, plan, facts);
    let found = refusal.details.iter().any(|detail| format!("{}: {}", detail.subject, detail.message).contains(words));
    assert!(found, "no reason of {guard} says {words:?}: {:#?}", refusal.details);
    assert!(!refusal.hint.is_empty() && refusal.details.iter().all(|detail| !detail.hint.is_empty()));
}

/// Asks one guard, and looks for these words in what it says when it clears.
#[track_caller]
fn cleared(guard: Guard, plan: &Plan, facts: &Facts, words: &str) {
    match verdict(guard, plan, facts) {
        Verdict::Cleared { because } => assert!(because.contains(words), "{guard} says {because:?}"),
        other => panic!("{guard} should have cleared, but said {other:#?}"),
    }
}

#[track_caller]
fn not_applicable(guard: Guard, plan: &Plan, facts: &Facts) {
    let found = verdict(guard, plan, facts);
    assert!(matches!(&found, Verdict::NotApplicable { why } if !why.is_empty()), "{guard} says {found:#?}");
}
