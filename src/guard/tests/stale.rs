//! The guard that decides whether money is lost, on the files of a real node.

use super::fixtures::{Moment, moment};
use super::world::*;
use super::{cleared, refusal, refused};
use crate::guard::Guard;
use crate::guard::evidence::{Origin, Piece, Testimony};
use crate::guard::facts::*;
use crate::plan::Plan;

const STALE: Guard = Guard::Stale;
const CHANNEL_1: &str = "6459c9624c7a28dfe54f23515f4833f99de86ef8b93133fa12c8d6d0bb23b337";

/// A migration of the database of one moment, which is final or not, with what other moments say.
fn old_over_new(old: &str, finality: Finality, others: &[&str]) -> (Plan, Facts) {
    let (plan, mut facts) = migration();
    let candidate = candidate_of(&mut facts);
    candidate.node = moment(old).node;
    candidate.finality = Known::Is(finality);
    for (index, name) in others.iter().enumerate() {
        let later = 2000 + i64::try_from(index).unwrap();
        facts.evidence.extend(pieces(&moment(name), later));
    }
    (plan, facts)
}

fn pieces(moment: &Moment, taken: i64) -> Vec<Piece> {
    let mut found = vec![wallet_of(20, taken, moment.node.clone())];
    let emergency = moment.emergency.clone().map(Testimony::Emergency);
    found.extend(emergency.map(|contents| piece(Origin::Mark(at(taken)), taken, contents)));
    found
}

#[test]
fn two_channels_open_over_twenty_five_payments_is_toxic() {
    for finality in [Finality::Final, Finality::Ordinary] {
        let (plan, facts) = old_over_new("02-two-channels-open", finality, &["04-after-25-payments"]);
        let refusal = refusal(STALE, &plan, &facts);
        let detail = refusal.details.iter().find(|detail| detail.subject.contains(CHANNEL_1)).unwrap();
        assert_eq!(detail.subject, format!("channel 110x1x0 ({CHANNEL_1})"));
        for words in ["next_index_local is 1 in this copy and 11 in snapshot", "peer revocations is 0", "5000000 sat"] {
            assert!(detail.message.contains(words), "{words}: {}", detail.message);
        }
        assert_eq!((detail.at_stake_sat, refusal.at_stake_sat()), (Some(5_000_000), 10_000_000));
        assert!(refusal.hint.contains("quarantine") && refusal.hint.contains("emergencyrecover"));
        assert!(!refusal.can_be_accepted);
    }
}

#[test]
fn emergency_recover_alone_shows_that_a_copy_is_stale() {
    let (plan, mut facts) = old_over_new("02-two-channels-open", Finality::Final, &[]);
    cleared(STALE, &plan, &facts, "final state");
    let contents = moment("04-after-25-payments").emergency.unwrap();
    facts.evidence.push(piece(
        Origin::Target("/cln/regtest/emergency.recover".into()),
        900,
        Testimony::Emergency(contents),
    ));
    refused(STALE, &plan, &facts, "peer revocations is 0 in this copy and 10 in /cln/regtest/emergency.recover");
}

#[test]
fn all_channels_closed_is_harmless_and_so_is_any_older_copy_then() {
    let closed = "09-all-channels-closed";
    let (plan, facts) = old_over_new(closed, Finality::Ordinary, &[]);
    cleared(STALE, &plan, &facts, "all 2 channels are closed");
    for old in ["01-funded", "02-two-channels-open", "04-after-25-payments", "08-onchain-csv-wait"] {
        let (plan, facts) = old_over_new(old, Finality::Ordinary, &["04-after-25-payments", closed]);
        cleared(STALE, &plan, &facts, "all 2 channels are closed");
    }
}

#[test]
fn a_copy_from_before_the_channels_is_refused_once_anybody_knows_of_them() {
    let (plan, facts) = old_over_new("01-funded", Finality::Ordinary, &[]);
    cleared(STALE, &plan, &facts, "no evidence knows of any channel");
    let (plan, facts) = old_over_new("01-funded", Finality::Final, &["02-two-channels-open"]);
    refused(STALE, &plan, &facts, "this copy does not have it");
    let (plan, mut facts) = old_over_new("01-funded", Finality::Final, &[]);
    let contents = moment("02-two-channels-open").emergency.unwrap();
    facts.evidence.push(piece(Origin::Mark(at(900)), 900, Testimony::Emergency(contents)));
    refused(STALE, &plan, &facts, "this copy does not have it, and the mark of");
}

#[test]
fn five_payments_over_twenty_five_differ_in_one_channel_only() {
    let (plan, facts) = old_over_new("03-after-5-payments", Finality::Final, &["04-after-25-payments"]);
    let details = refusal(STALE, &plan, &facts).details;
    let behind: Vec<_> = details.iter().filter(|detail| detail.at_stake_sat.is_some()).collect();
    assert_eq!(behind.len(), 1, "channel 1 stood still: {details:#?}");
    assert!(behind[0].subject.starts_with("channel 111x1x0"));
    assert!(behind[0].message.contains("is 1 in this copy and 41"));
}

#[test]
fn a_live_htlc_past_its_deadline_is_refused() {
    let (plan, mut facts) = old_over_new("03b-htlc-in-flight", Finality::Final, &["03-after-5-payments"]);
    facts.evidence.iter_mut().for_each(|piece| piece.taken = Some(at(500)));
    facts.block_height = Known::Is(117);
    cleared(STALE, &plan, &facts, "final state");
    let expiry = candidate_of(&mut facts).node.htlcs[0].cltv_expiry;
    facts.block_height = Known::Is(expiry - 1);
    cleared(STALE, &plan, &facts, "final state");
    facts.block_height = Known::Is(expiry);
    refused(STALE, &plan, &facts, "as soon as it starts");
    facts.block_height = Known::default();
    refused(STALE, &plan, &facts, "the chain's height");
    candidate_of(&mut facts).node.htlcs.clear();
    cleared(STALE, &plan, &facts, "final state");
}

#[test]
fn closed_channels_need_every_vault_too() {
    let (plan, mut facts) = old_over_new("09-all-channels-closed", Finality::Ordinary, &[]);
    if let Known::Is(vaults) = &mut facts.vaults {
        vaults[0].head = Known::Is(Some(snapshot(12)));
    }
    refused(STALE, &plan, &facts, "vault near: what its newest snapshot, 20270115T081640Z-000012, says is not known");
    facts.evidence.push(piece(Origin::Snapshot(snapshot(12)), 2000, Testimony::Nothing));
    cleared(STALE, &plan, &facts, "closed");
    if let Known::Is(vaults) = &mut facts.vaults {
        vaults[0].head = Known::Unknown("it does not answer".to_owned());
    }
    refused(STALE, &plan, &facts, "it does not answer");
}
