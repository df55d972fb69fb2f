//! What a person may take upon themselves, what they may not, and what a clearing is.

use super::world::*;
use crate::guard::facts::*;
use crate::guard::{Acceptance, AcceptanceError, Acceptances, Guard, Verdict, judge};

fn accept(text: &str) -> Acceptances {
    Acceptances::new([text.parse::<Acceptance>().unwrap()]).unwrap()
}

#[test]
fn the_right_world_is_cleared_by_every_guard() {
    for (plan, facts) in [server_loss(), migration()] {
        let judgement = judge(plan.clone(), &facts, &Acceptances::default());
        assert_eq!(judgement.verdicts().iter().map(|judged| judged.guard).collect::<Vec<_>>(), Guard::ALL);
        assert_eq!(judgement.refusals().count(), 0, "{judgement:#?}");
        assert_eq!(judgement.clear().unwrap().get(), &plan);
    }
}

#[test]
fn a_world_of_which_nothing_is_known_is_refused_by_every_guard_it_concerns() {
    for (plan, _) in [server_loss(), migration()] {
        let judgement = judge(plan, &Facts::default(), &Acceptances::default());
        for judged in judgement.verdicts() {
            let concerns = !matches!(judged.guard, Guard::Compromise | Guard::Payout);
            assert!(!concerns || matches!(judged.verdict, Verdict::Refused(_)), "{judged:#?}");
        }
    }
}

#[test]
fn a_refusal_names_guard_reason_and_road() {
    let (plan, mut facts) = migration();
    facts.claim = Known::Is(Claim::NotTaken);
    facts.space[0].free = Known::Is(1);
    let refused = judge(plan, &facts, &Acceptances::default()).clear().unwrap_err();
    assert_eq!(refused.refusals.iter().map(|refusal| refusal.guard).collect::<Vec<_>>(), [Guard::Stale, Guard::Space]);
    let text = refused.to_string();
    assert!(text.starts_with("the guard stale refused: the claim to"), "{text}");
    assert!(text.contains("; the guard space refused: /cln: 5000 bytes are needed"), "{text}");
    assert_eq!(refused.hint().as_deref(), Some("take the claim, then look again"));
}

#[test]
fn an_accepted_refusal_lets_pass_and_is_recorded() {
    let (plan, mut facts) = server_loss();
    facts.space[0].free = Known::Is(1);
    let judgement = judge(plan.clone(), &facts, &accept("space=the second disk is mounted in step 2"));
    let space = judgement.verdicts().iter().find(|judged| judged.guard == Guard::Space).unwrap();
    let Verdict::Accepted { why, refusal } = &space.verdict else { panic!("{space:?}") };
    assert_eq!(why, "the second disk is mounted in step 2");
    assert!(refusal.reason.contains("4999 are missing"));
    let json = serde_json::to_value(space).unwrap();
    assert_eq!((json["guard"].as_str(), json["verdict"].as_str()), (Some("space"), Some("accepted")));
    assert!(judgement.clear().is_ok());
    // It accepts its own guard and no other.
    assert!(judge(plan, &facts, &accept("twin=it burnt down")).clear().is_err());
}

#[test]
fn an_acceptance_of_what_was_not_refused_changes_nothing() {
    let (plan, facts) = server_loss();
    let acceptances = accept("twin=it burnt down");
    let judgement = judge(plan, &facts, &acceptances);
    assert!(judgement.verdicts().iter().all(|judged| !matches!(judged.verdict, Verdict::Accepted { .. })));
    assert_eq!(acceptances.given().collect::<Vec<_>>(), [(Guard::Twin, "it burnt down")]);
}

#[test]
fn only_four_guards_can_be_accepted() {
    for guard in Guard::ALL {
        let parsed = format!("{guard}=I know better").parse::<Acceptance>();
        let allowed = ["twin", "freshness", "space", "payout"].contains(&guard.as_str());
        assert_eq!(parsed.is_ok(), allowed, "{guard}");
        assert_eq!(guard.can_be_accepted(), allowed, "{guard}");
        if !allowed {
            assert_eq!(parsed.unwrap_err(), AcceptanceError::NotAcceptable { guard });
        }
    }
    let hint = AcceptanceError::NotAcceptable { guard: Guard::Stale }.hint();
    assert!(hint.contains("quarantine"));
    assert!(AcceptanceError::NotAcceptable { guard: Guard::Identity }.hint().contains("the refusal's hint"));
    assert_eq!(AcceptanceError::Twice { guard: Guard::Twin }.hint(), "give one reason");
}

#[test]
fn a_reason_is_a_reason() {
    let parse = |text: &str| text.parse::<Acceptance>().unwrap_err();
    let guard = Guard::Twin;
    for empty in ["twin=", "twin=  \t ", "twin=...", "twin=\u{200b}"] {
        assert_eq!(parse(empty), AcceptanceError::Empty { guard }, "{empty:?}");
    }
    assert_eq!(parse("twin"), AcceptanceError::NoReason { text: "twin".to_owned() });
    assert_eq!(parse("twins=why"), AcceptanceError::NoSuchGuard { name: "twins".to_owned() });
    assert_eq!(parse("twin=a\u{1b}[2J"), AcceptanceError::Unprintable { guard });
    assert_eq!(parse(&format!("twin={}", "a".repeat(1001))), AcceptanceError::Unprintable { guard });
    assert!(format!("twin={}", "a".repeat(1000)).parse::<Acceptance>().is_ok());
    let twice = ["twin=a", "twin=b"].map(|text| text.parse().unwrap());
    assert_eq!(Acceptances::new(twice), Err(AcceptanceError::Twice { guard }));
    let errors = [parse("twin"), parse("x=y"), parse("twin="), AcceptanceError::Twice { guard }, parse("twin=\u{7}a")];
    assert!(errors.iter().all(|error| !error.hint().is_empty() && !error.to_string().is_empty()));
    assert_eq!(accept("twin=why = because").given().next(), Some((guard, "why = because")));
}

#[test]
fn a_clearing_gives_out_all_parts_in_order() {
    let (plan, facts) = migration();
    let cleared = judge(plan.clone(), &facts, &Acceptances::default()).clear().unwrap();
    let parts: Vec<String> = cleared
        .steps()
        .flat_map(|step| step.actions().map(|action| action.get().to_string()).collect::<Vec<_>>())
        .collect();
    assert_eq!(parts, plan.actions().map(ToString::to_string).collect::<Vec<_>>());
    assert!(format!("{cleared:?}").starts_with("Cleared(Plan"));
}

#[test]
fn the_schema_of_verdicts_fits_what_is_written() {
    let schema = serde_json::to_value(schemars::schema_for!(crate::guard::Judged)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let whole = serde_json::to_value(schemars::schema_for!(crate::guard::Judgement)).unwrap();
    let whole = jsonschema::validator_for(&whole).unwrap();
    let (plan, mut facts) = migration();
    for _ in 0..2 {
        let judgement = judge(plan.clone(), &facts, &Acceptances::default());
        assert_eq!(judgement.plan(), &plan);
        assert!(whole.is_valid(&serde_json::to_value(&judgement).unwrap()));
        for judged in judgement.verdicts() {
            let json = serde_json::to_value(judged).unwrap();
            assert!(validator.is_valid(&json), "{json}");
        }
        facts = Facts::default();
    }
}
