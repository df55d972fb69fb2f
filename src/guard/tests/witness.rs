//! What is known outside of the vaults: rule by rule.

use super::world::*;
use super::{cleared, refused};
use crate::guard::Guard;
use crate::guard::facts::*;
use crate::witness::State;

const STALE: Guard = Guard::Stale;

#[test]
fn a_final_snapshot_needs_somebody_outside_of_the_vaults_who_says_that_it_is_the_last() {
    let (plan, mut facts) = migration();
    cleared(STALE, &plan, &facts, "final state");
    let nobody = "nothing outside of the vaults says that it is the last";
    facts.remembered = Vec::new();
    refused(STALE, &plan, &facts, nobody);
    // A disk that was copied together with its vaults knows no better than they.
    facts.remembered = vec![remembered(Whose::ThisHost, 9, State::Final)];
    refused(STALE, &plan, &facts, nobody);
    facts.remembered = vec![remembered(Whose::Given, 8, State::Final)];
    refused(STALE, &plan, &facts, nobody);
    facts.remembered = vec![remembered(Whose::Given, 9, State::Ordinary)];
    refused(STALE, &plan, &facts, nobody);
}

#[test]
fn one_who_knows_better_is_enough_to_refuse() {
    let (plan, facts) = migration();
    let with = |whose, sequence, state| {
        let mut facts = facts.clone();
        facts.remembered.push(remembered(whose, sequence, state));
        facts
    };
    for whose in [Whose::Given, Whose::ThisHost] {
        refused(STALE, &plan, &with(whose, 10, State::Ordinary), "the node went on after");
        refused(STALE, &plan, &with(whose, 9, State::Undone), "was taken back");
        cleared(STALE, &plan, &with(whose, 8, State::Undone), "final state");
        cleared(STALE, &plan, &with(whose, 9, State::Ordinary), "final state");
    }
    for standing in [Known::Is(Standing::Other), Known::Unknown("it broke".to_owned())] {
        let mut facts = facts.clone();
        facts.remembered[0].standing = standing;
        refused(STALE, &plan, &facts, "it knows another");
    }
}

#[test]
fn every_restore_is_held_against_what_is_known_outside_of_the_vaults() {
    let (plan, mut facts) = server_loss();
    for (standing, words) in
        [(Standing::Missing, "no vault that was asked holds it"), (Standing::Other, "knows another")]
    {
        for whose in [Whose::Given, Whose::ThisHost] {
            let mut known = remembered(whose, 10, State::Ordinary);
            known.standing = Known::Is(standing);
            facts.remembered = vec![known];
            refused(Guard::Freshness, &plan, &facts, words);
        }
    }
    for standing in [Standing::Held, Standing::Gone] {
        facts.remembered[0].standing = Known::Is(standing);
        cleared(Guard::Freshness, &plan, &facts, "newest complete snapshot");
    }
    facts.remembered[0].standing = Known::Unknown("a vault did not answer".to_owned());
    refused(Guard::Freshness, &plan, &facts, "a vault did not answer");
    facts.remembered = Vec::new();
    cleared(Guard::Freshness, &plan, &facts, "newest complete snapshot");
}
