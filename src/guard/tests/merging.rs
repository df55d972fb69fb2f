//! Merging of evidence: in any order, any grouping, any number of times the same, and more is never less.

use super::world::{NODE_ID, at, channel, piece, stub};
use crate::facts::cln::WalletChannel;
use crate::guard::evidence::{ChannelKnowledge, Knowledge, Origin, Piece, Sighting, Testimony};
use crate::guard::facts::Known;
use proptest::prelude::*;

/// A channel as a wallet may show it: any state, counters that may be absent, perhaps a stub, perhaps nameless.
pub(super) fn wallet_channel() -> impl Strategy<Value = WalletChannel> {
    let counter = || proptest::option::weighted(0.9, 0..4_u64);
    let state = prop_oneof![Just(3), Just(10), Just(10), 1..16_i64];
    (0..3_u8, state, counter(), counter(), counter(), 0..12_u8).prop_map(
        |(id, state, local, remote, revocations, kind)| {
            let letter = char::from(b'a' + id);
            let mut made = if kind == 0 { stub(letter) } else { channel(letter, state, 0) };
            made.state = state;
            (made.next_index_local, made.next_index_remote, made.revocations) = (local, remote, revocations);
            made.local_msat = revocations.map(|count| count * 1000);
            if kind == 1 {
                made.channel_id = None;
            }
            if kind == 2 {
                made.has_last_tx = None;
            }
            made
        },
    )
}

fn emergency() -> impl Strategy<Value = Testimony> {
    proptest::collection::vec((0..3_u8, 0..5_u64), 0..3).prop_map(|channels| {
        let named: Vec<_> = channels.iter().map(|(id, count)| (char::from(b'a' + id), *count)).collect();
        let mut contents = super::world::emergency(&named);
        // The legacy layout tells no revocations.
        contents.channels.iter_mut().filter(|c| c.revocations == Some(4)).for_each(|c| c.revocations = None);
        Testimony::Emergency(contents)
    })
}

/// A piece of evidence of any kind, of one node or of another.
pub(super) fn any_piece() -> impl Strategy<Value = Piece> {
    let wallet = proptest::collection::vec(wallet_channel(), 0..4).prop_map(|channels| {
        let mut node = super::world::node(channels);
        node.node_id = None;
        Testimony::Wallet(Box::new(node))
    });
    let says = prop_oneof![6 => wallet, 3 => emergency(), 1 => Just(Testimony::Nothing)];
    (says, 0..2000_i64, 0..20_u8).prop_map(|(says, taken, kind)| {
        let mut made = piece(Origin::Mark(at(taken)), taken, says);
        match kind {
            0 => made.node_id = Some("02".repeat(33)),
            1 => made.node_id = None,
            2 => made.says = Known::Unknown("damaged".to_owned()),
            3 => made.taken = None,
            _ => {}
        }
        made
    })
}

pub(super) fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    proptest::collection::vec(any_piece(), 0..6)
}

fn knowledge(pieces: &[Piece]) -> Knowledge {
    Knowledge::of(pieces, Some(NODE_ID))
}

fn merged(left: &Knowledge, right: &Knowledge) -> Knowledge {
    let mut both = left.clone();
    both.merge(right.clone());
    both
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_order_does_not_matter(mut pieces in pieces(), by in 0..6_usize) {
        let before = knowledge(&pieces);
        if !pieces.is_empty() {
            let middle = by % pieces.len();
            pieces.rotate_left(middle);
            pieces.reverse();
        }
        prop_assert_eq!(before, knowledge(&pieces));
    }

    #[test]
    fn merging_commutes_associates_and_repeats(a in pieces(), b in pieces(), c in pieces()) {
        let (a, b, c) = (knowledge(&a), knowledge(&b), knowledge(&c));
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a.clone());
        prop_assert_eq!(merged(&a, &Knowledge::default()), a);
    }

    #[test]
    fn merging_is_learning_everything(a in pieces(), b in pieces()) {
        let all: Vec<Piece> = a.iter().chain(&b).cloned().collect();
        prop_assert_eq!(merged(&knowledge(&a), &knowledge(&b)), knowledge(&all));
    }

    #[test]
    fn more_is_never_less(a in pieces(), b in pieces()) {
        let (few, all) = (knowledge(&a), merged(&knowledge(&a), &knowledge(&b)));
        for (id, known) in few.channels() {
            let (_, then) = all.channels().find(|(other, _)| *other == id).unwrap();
            let counters: [fn(&Sighting) -> Option<u64>; 3] =
                [|s| s.next_index_local, |s| s.next_index_remote, |s| s.revocations];
            for counter in counters {
                prop_assert!(then.best(counter).map(|(best, _)| best) >= known.best(counter).map(|(best, _)| best));
            }
            let standing = |of: &ChannelKnowledge| of.best(|s| Some(s.standing)).map(|(best, _)| best);
            prop_assert!(standing(then) >= standing(known));
            prop_assert!(then.at_stake_sat().is_some() || known.at_stake_sat().is_none());
        }
        prop_assert!(few.unread().all(|piece| all.unread().any(|other| other == piece)));
        prop_assert!(few.unnamed().all(|row| all.unnamed().any(|other| other == row)));
    }
}

#[test]
fn the_maximum_of_each_counter_is_kept_with_who_knows_it() {
    let of = |taken, local, remote, revocations| {
        let mut seen = channel('a', 3, 0);
        seen.next_index_local = Some(local);
        seen.next_index_remote = Some(remote);
        seen.revocations = Some(revocations);
        piece(Origin::Mark(at(taken)), taken, Testimony::Wallet(Box::new(super::world::node(vec![seen]))))
    };
    let known = knowledge(&[of(1, 9, 1, 1), of(2, 1, 8, 1), of(3, 1, 1, 7), of(4, 1, 1, 1), of(5, 9, 1, 1)]);
    let (_, channel) = known.channels().next().unwrap();
    assert_eq!(channel.best(|s| s.next_index_local), Some((9, &Origin::Mark(at(1)))));
    assert_eq!(channel.best(|s| s.next_index_remote), Some((8, &Origin::Mark(at(2)))));
    assert_eq!(channel.best(|s| s.revocations), Some((7, &Origin::Mark(at(3)))));
    let reversed = knowledge(&[of(5, 9, 1, 1), of(1, 9, 1, 1)]);
    assert_eq!(reversed.channels().next().unwrap().1.best(|s| s.next_index_local), Some((9, &Origin::Mark(at(1)))));
}

#[test]
fn what_is_at_stake_is_our_side_or_else_all_of_it() {
    let mut seen = channel('a', 3, 1);
    seen.local_msat = None;
    let of = |seen: &WalletChannel| {
        let node = super::world::node(vec![seen.clone()]);
        knowledge(&[piece(Origin::Mark(at(1)), 1, Testimony::Wallet(Box::new(node)))])
    };
    assert_eq!(of(&seen).channels().next().unwrap().1.at_stake_sat(), Some(10_000));
    seen.local_msat = Some(2_000_999);
    assert_eq!(of(&seen).channels().next().unwrap().1.at_stake_sat(), Some(2000));
}
