//! Random channel sets and random evidence: a channel database is never cleared when any channel that can lose money
//! is newer elsewhere. The oracle is written from the rule's words over plain observations, and shares no code with it.

use super::merging::{any_piece, pieces, wallet_channel};
use super::verdict;
use super::world::*;
use crate::facts::cln::WalletChannel;
use crate::guard::evidence::{Piece, Testimony};
use crate::guard::facts::*;
use crate::guard::{Guard, Verdict};
use proptest::prelude::*;

/// One observation of one channel: its state (0 where none can be believed) and three counters.
type Seen = (String, i64, [Option<u64>; 3]);

fn seen(row: &WalletChannel) -> Option<Seen> {
    let is_stub = row.short_channel_id.as_deref() == Some("1x1x1") || row.has_last_tx == Some(false);
    let state = if is_stub { 0 } else { row.state };
    Some((row.channel_id.clone()?, state, [row.next_index_local, row.next_index_remote, row.revocations]))
}

/// All observations of the node; `None` when something is there that cannot be compared.
fn observations(candidate: &[WalletChannel], evidence: &[Piece]) -> Option<Vec<Seen>> {
    let mut all: Vec<Seen> = candidate.iter().map(seen).collect::<Option<_>>()?;
    for piece in evidence.iter().filter(|piece| piece.node_id.as_deref() != Some("02".repeat(33).as_str())) {
        match &piece.says {
            Known::Unknown(_) => return None,
            Known::Is(Testimony::Locked) => unreachable!("no such piece is made here"),
            Known::Is(Testimony::Wallet(node)) => {
                all.extend(node.channels.iter().map(seen).collect::<Option<Vec<_>>>()?);
            }
            Known::Is(Testimony::Emergency(contents)) => {
                all.extend(contents.channels.iter().map(|c| (c.channel_id.clone(), 0, [None, None, c.revocations])));
            }
            Known::Is(Testimony::Nothing) => {}
        }
    }
    Some(all)
}

fn covers(left: &[Option<u64>; 3], right: &[Option<u64>; 3]) -> bool {
    left.iter().zip(right).all(|(left, right)| left >= right)
}

/// Whether money may be lost by starting a node on this candidate, by the words of the rule.
fn may_lose_money(candidate: &[WalletChannel], is_final: bool, evidence: &[Piece]) -> bool {
    let Some(all) = observations(candidate, evidence) else { return true };
    all.iter().any(|(id, ..)| {
        let of_channel: Vec<&Seen> = all.iter().filter(|(other, ..)| other == id).collect();
        let is_closed = of_channel
            .iter()
            .any(|closed| closed.1 == 10 && of_channel.iter().all(|other| covers(&closed.2, &other.2)));
        let ours: Vec<&WalletChannel> = candidate.iter().filter(|row| row.channel_id.as_ref() == Some(id)).collect();
        let can_broadcast = |row: &&&WalletChannel| {
            !(row.short_channel_id.as_deref() == Some("1x1x1") && row.has_last_tx == Some(false))
        };
        let is_newest = !ours.is_empty()
            && ours.iter().filter(can_broadcast).all(|row| {
                let counters = [row.next_index_local, row.next_index_remote, row.revocations];
                of_channel.iter().all(|other| covers(&counters, &other.2))
            });
        let is_safe = is_closed || (is_final && is_newest);
        !is_safe
    })
}

fn world(candidate: Vec<WalletChannel>, finality: Finality, evidence: Vec<Piece>) -> (crate::plan::Plan, Facts) {
    let (plan, mut facts) = migration();
    facts.evidence = evidence;
    let ours = candidate_of(&mut facts);
    ours.node.channels = candidate;
    ours.finality = Known::Is(finality);
    (plan, facts)
}

fn finality() -> impl Strategy<Value = Finality> {
    prop_oneof![3 => Just(Finality::Final), 1 => Just(Finality::Ordinary), 1 => Just(Finality::Revoked)]
}

fn channels() -> impl Strategy<Value = Vec<WalletChannel>> {
    proptest::collection::vec(wallet_channel(), 0..4)
}

/// A life: channels whose counters and states only grow, and the moments at which somebody looked.
fn life() -> impl Strategy<Value = Vec<Vec<WalletChannel>>> {
    let step = proptest::collection::vec((0..3_u8, 0..3_u8), 1..4);
    proptest::collection::vec(step, 1..6).prop_map(|steps| {
        let mut now: Vec<WalletChannel> = Vec::new();
        let mut moments = vec![now.clone()];
        for step in steps {
            for (id, what) in step {
                let letter = char::from(b'a' + id);
                match now.iter_mut().find(|row| row.dbid == i64::from(u32::from(letter))) {
                    None => now.push(channel(letter, 3, 1)),
                    Some(row) if row.state == 10 => {}
                    Some(row) if what == 0 => row.state = 10,
                    Some(row) => {
                        let next = row.next_index_local.map(|count| count + 1);
                        (row.next_index_local, row.next_index_remote, row.revocations) = (next, next, next);
                    }
                }
            }
            moments.push(now.clone());
        }
        moments
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn never_cleared_when_any_channel_that_can_lose_money_is_newer_elsewhere(
        candidate in channels(), finality in finality(), evidence in pieces(),
    ) {
        let risky = may_lose_money(&candidate, finality == Finality::Final, &evidence);
        let (plan, facts) = world(candidate, finality, evidence);
        let verdict = verdict(Guard::Stale, &plan, &facts);
        if risky {
            prop_assert!(matches!(verdict, Verdict::Refused(_)), "{:?}", verdict);
        }
    }

    /// Of a whole life, a moment may be started when each channel is as it was last, or is closed by now.
    #[test]
    fn of_a_life_only_what_is_as_it_was_last_is_cleared(
        moments in life(), which in 0..6_usize, looked in proptest::collection::vec(any::<bool>(), 6),
    ) {
        let which = which % moments.len();
        let newest = moments.last().cloned().unwrap_or_default();
        let evidence = moments.iter().zip(&looked).filter(|(_, looked)| **looked).map(|(moment, _)| moment.clone());
        let evidence = evidence.chain([newest.clone()]).map(|moment| wallet_of(8, 900, node(moment))).collect();
        let candidate = moments[which].clone();
        let is_safe = newest.iter().all(|row| row.state == 10 || candidate.contains(row));
        let (plan, facts) = world(candidate, Finality::Final, evidence);
        let is_cleared = matches!(verdict(Guard::Stale, &plan, &facts), Verdict::Cleared { .. });
        prop_assert_eq!(is_cleared, is_safe);
    }

    /// More evidence never turns a refusal into a clearing, unless it tells of a closing.
    #[test]
    fn more_evidence_never_clears(
        candidate in channels(), finality in finality(), evidence in pieces(), mut more in any_piece(),
    ) {
        if let Known::Is(Testimony::Wallet(node)) = &mut more.says {
            node.channels.iter_mut().filter(|row| row.state == 10).for_each(|row| row.state = 9);
        }
        let (plan, mut facts) = world(candidate, finality, evidence);
        let before = verdict(Guard::Stale, &plan, &facts);
        facts.evidence.push(more);
        let after = verdict(Guard::Stale, &plan, &facts);
        let is_refused = matches!(after, Verdict::Refused(_));
        let was_cleared = matches!(before, Verdict::Cleared { .. });
        prop_assert!(is_refused || was_cleared, "it was refused before");
    }

    #[test]
    fn the_order_of_the_evidence_changes_no_verdict(
        candidate in channels(), finality in finality(), mut evidence in pieces(),
    ) {
        let (plan, facts) = world(candidate.clone(), finality, evidence.clone());
        let before = verdict(Guard::Stale, &plan, &facts);
        evidence.reverse();
        let (plan, facts) = world(candidate, finality, evidence);
        let after = verdict(Guard::Stale, &plan, &facts);
        prop_assert_eq!(matches!(before, Verdict::Refused(_)), matches!(after, Verdict::Refused(_)));
    }
}
