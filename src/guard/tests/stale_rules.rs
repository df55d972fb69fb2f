//! The guard that decides whether money is lost, rule by rule.

use super::world::*;
use super::{cleared, not_applicable, refused};
use crate::artifact::{ArtifactKind, Toxicity};
use crate::facts::cln::{HtlcDirection, LiveHtlc};
use crate::facts::postgres::Software;
use crate::guard::Guard;
use crate::guard::evidence::{Origin, Piece, Testimony};
use crate::guard::facts::*;
use crate::plan::{Action, Plan, UnitChange, UnitRole};

const STALE: Guard = Guard::Stale;

#[test]
fn an_incoming_htlc_with_its_preimage_is_due_earlier() {
    let (plan, mut facts) = migration();
    let htlc = |has_preimage| LiveHtlc {
        channel_dbid: 97,
        direction: HtlcDirection::Incoming,
        msat: 1,
        cltv_expiry: 1010,
        has_preimage,
    };
    candidate_of(&mut facts).node.htlcs = vec![htlc(true)];
    refused(STALE, &plan, &facts, "due at block 1010");
    candidate_of(&mut facts).node.htlcs = vec![htlc(false)];
    cleared(STALE, &plan, &facts, "final state");
    facts.block_height = Known::Is(1010);
    refused(STALE, &plan, &facts, "due at block 1010");
}

/// A migration of channel a at commitment 7, and one piece of evidence from before.
fn against(node: crate::facts::cln::NodeState) -> (Plan, Facts) {
    let (plan, mut facts) = migration();
    facts.evidence = vec![wallet_of(8, 500, node)];
    (plan, facts)
}

#[test]
fn each_counter_counts_by_itself() {
    let (plan, facts) = against(node(vec![channel('a', 3, 7)]));
    cleared(STALE, &plan, &facts, "final state");
    let mut newer = channel('a', 3, 7);
    newer.next_index_local = Some(8);
    let (plan, facts) = against(node(vec![newer]));
    refused(STALE, &plan, &facts, "next_index_local is 7 in this copy and 8 in snapshot");
    let mut newer = channel('a', 3, 7);
    newer.next_index_remote = Some(8);
    let (plan, facts) = against(node(vec![newer]));
    refused(STALE, &plan, &facts, "next_index_remote is 7 in this copy and 8 in snapshot");
    let mut newer = channel('a', 3, 7);
    newer.revocations = Some(8);
    let (plan, facts) = against(node(vec![newer]));
    refused(STALE, &plan, &facts, "peer revocations is 7 in this copy and 8 in snapshot");
    let (plan, facts) = against(node(vec![channel('a', 4, 7)]));
    refused(STALE, &plan, &facts, "its state is CHANNELD_NORMAL in this copy and CHANNELD_SHUTTING_DOWN in");
    let (plan, facts) = against(node(vec![channel('b', 3, 1)]));
    refused(STALE, &plan, &facts, "this copy does not have it");
}

#[test]
fn a_counter_that_this_copy_does_not_tell_counts_against_it() {
    let (plan, mut facts) = against(node(vec![channel('a', 3, 7)]));
    candidate_of(&mut facts).node.channels[0].revocations = None;
    refused(STALE, &plan, &facts, "peer revocations is unknown in this copy and 7 in");
}

#[test]
fn splicing_to_and_fro_is_neither_newer_nor_older() {
    let (plan, facts) = against(node(vec![channel('a', 13, 6)]));
    cleared(STALE, &plan, &facts, "final state");
}

#[test]
fn a_state_of_a_later_lightningd_is_not_understood() {
    let (plan, mut facts) = migration();
    candidate_of(&mut facts).node.channels[0].state = 15;
    refused(STALE, &plan, &facts, "one that this program does not know");
    let (plan, facts) = against(node(vec![channel('a', 15, 7)]));
    refused(STALE, &plan, &facts, "its state is CHANNELD_NORMAL in this copy and unknown in");
}

#[test]
fn closed_counts_only_with_the_highest_counters() {
    let (plan, mut facts) = against(node(vec![channel('a', 10, 7)]));
    candidate_of(&mut facts).finality = Known::Is(Finality::Ordinary);
    cleared(STALE, &plan, &facts, "closed");
    for (local, remote, revocations) in [(6, 7, 7), (7, 6, 7), (7, 7, 6)] {
        let mut closed = channel('a', 10, 7);
        closed.next_index_local = Some(local);
        closed.next_index_remote = Some(remote);
        closed.revocations = Some(revocations);
        facts.evidence = vec![wallet_of(8, 500, node(vec![closed]))];
        refused(STALE, &plan, &facts, "its state is CHANNELD_NORMAL in this copy and CLOSED in");
    }
}

#[test]
fn a_stub_closes_nothing_and_knows_nothing_newer() {
    let mut closed = stub('a');
    closed.state = 10;
    let (plan, mut facts) = against(node(vec![closed.clone()]));
    cleared(STALE, &plan, &facts, "final state");
    candidate_of(&mut facts).finality = Known::Is(Finality::Ordinary);
    // Even with the highest counters, and even when only one of the two signs of a stub is there.
    for (short_id, has_last_tx) in [("1x1x1", Some(false)), ("1x1x1", Some(true)), ("97x2x0", Some(false))] {
        let mut closed = channel('a', 10, 9);
        closed.short_channel_id = Some(short_id.to_owned());
        closed.has_last_tx = has_last_tx;
        facts.evidence = vec![wallet_of(8, 500, node(vec![closed]))];
        refused(STALE, &plan, &facts, "is 7 in this copy and 9 in");
    }
}

#[test]
fn a_blank_or_recovered_database_is_no_news() {
    for channels in [vec![], vec![stub('a')]] {
        let mut blank = node(channels);
        blank.data_version = Some(3);
        let (plan, mut facts) = against(blank);
        cleared(STALE, &plan, &facts, "final state");
        facts.evidence[0].taken = None;
        facts.evidence[0].origin = Origin::Target(WALLET.into());
        cleared(STALE, &plan, &facts, "final state");
    }
}

#[test]
fn a_stub_of_our_own_can_broadcast_nothing() {
    let (plan, mut facts) = against(node(vec![channel('a', 3, 7)]));
    candidate_of(&mut facts).node.channels = vec![stub('a'), channel('b', 3, 2)];
    cleared(STALE, &plan, &facts, "final state");
    // One of the two signs is not enough.
    candidate_of(&mut facts).node.channels[0].has_last_tx = None;
    refused(STALE, &plan, &facts, "next_index_local is 1 in this copy and 7 in");
    candidate_of(&mut facts).node.channels[0].has_last_tx = Some(false);
    candidate_of(&mut facts).node.channels[0].short_channel_id = None;
    refused(STALE, &plan, &facts, "next_index_local is 1 in this copy and 7 in");
}

#[test]
fn one_good_row_of_two_is_not_enough() {
    let (plan, mut facts) = against(node(vec![channel('a', 3, 7)]));
    candidate_of(&mut facts).node.channels.push(channel('a', 3, 6));
    refused(STALE, &plan, &facts, "next_index_local is 6 in this copy and 7 in");
}

#[test]
fn a_channel_without_its_full_id_compares_with_nothing() {
    let mut nameless = channel('b', 10, 1);
    nameless.channel_id = None;
    let (plan, facts) = against(node(vec![nameless.clone()]));
    refused(STALE, &plan, &facts, "without a full channel id");
    let (plan, mut facts) = migration();
    candidate_of(&mut facts).node.channels = vec![nameless];
    refused(STALE, &plan, &facts, "without a full channel id");
}

#[test]
fn evidence_that_cannot_be_read_counts_against() {
    for channels in [vec![channel('a', 3, 7)], vec![]] {
        let (plan, mut facts) = migration();
        candidate_of(&mut facts).node.channels = channels;
        let says = Known::Unknown("no passphrase".to_owned());
        facts.evidence = vec![Piece { origin: Origin::Mark(at(5)), node_id: None, taken: None, says }];
        refused(STALE, &plan, &facts, "cannot be read: no passphrase");
    }
}

#[test]
fn a_backup_under_a_passphrase_says_nothing_new_only_to_a_final_snapshot_that_came_later() {
    let locked = |sequence| Piece {
        origin: Origin::Snapshot(snapshot(sequence)),
        node_id: None,
        taken: Some(at(5)),
        says: Known::Is(Testimony::Locked),
    };
    let (plan, mut facts) = migration();
    let own = candidate_of(&mut facts).snapshot.clone();
    facts.evidence.extend([locked(1), Piece { origin: Origin::Snapshot(own), ..locked(1) }]);
    cleared(STALE, &plan, &facts, "final state");
    // One that came after it may name a channel that was opened since.
    facts.evidence.push(locked(999));
    refused(STALE, &plan, &facts, "needs a passphrase");
    facts.evidence.pop();
    facts.evidence.push(Piece { origin: Origin::Mark(at(5)), ..locked(1) });
    refused(STALE, &plan, &facts, "needs a passphrase");
    // And one that is not final is cleared by what all evidence says, which this is not.
    let (plan, mut facts) = migration();
    let candidate = candidate_of(&mut facts);
    candidate.node.channels = Vec::new();
    candidate.finality = Known::Is(Finality::Ordinary);
    facts.evidence.retain(|piece| piece.says == Known::Is(Testimony::Nothing));
    cleared(STALE, &plan, &facts, "no evidence knows of any channel");
    facts.evidence.push(locked(1));
    refused(STALE, &plan, &facts, "needs a passphrase");
}

#[test]
fn another_nodes_channels_are_its_own_affair() {
    let mut other = node(vec![channel('b', 3, 9)]);
    other.node_id = Some("02".repeat(33));
    let (plan, mut facts) = against(other);
    cleared(STALE, &plan, &facts, "final state");
    // When nobody knows whose database this is, everything counts.
    candidate_of(&mut facts).node.node_id = None;
    refused(STALE, &plan, &facts, "this copy does not have it");
    // A wallet's own word goes before what others say of it.
    let (plan, mut facts) = against(node(vec![channel('b', 3, 9)]));
    facts.evidence[0].node_id = Some("02".repeat(33));
    refused(STALE, &plan, &facts, "this copy does not have it");
}

#[test]
fn only_a_final_snapshot_may_move() {
    let (plan, mut facts) = migration();
    cleared(STALE, &plan, &facts, "claimed by us alone");
    for (finality, words) in [
        (Known::Is(Finality::Ordinary), "the node went on"),
        (Known::Is(Finality::Ordinary), "nothing proves that this copy is its last state"),
        (Known::Is(Finality::Revoked), "that was undone"),
        (Known::Is(Finality::Revoked), "nothing proves"),
        (Known::default(), "stopped for good is not known"),
    ] {
        candidate_of(&mut facts).finality = finality;
        refused(STALE, &plan, &facts, words);
    }
}

#[test]
fn what_lies_at_the_target_is_evidence() {
    let (plan, facts) = migration();
    let with = |at| {
        let mut facts = facts.clone();
        facts.target.wallets.insert(WALLET.into(), at);
        facts
    };
    let sound = |channels, number| {
        let mut there = node(channels);
        there.data_version = Some(number);
        Known::Is(WalletAt::Sound(Box::new(there)))
    };
    cleared(STALE, &plan, &with(sound(vec![channel('a', 3, 6)], 90)), "final state");
    refused(STALE, &plan, &with(sound(vec![channel('a', 3, 8)], 90)), "8 in /cln/regtest/lightningd.sqlite3");
    refused(STALE, &plan, &with(sound(vec![channel('a', 3, 7)], 101)), "was written to after");
    refused(STALE, &plan, &with(Known::Is(WalletAt::Damaged { why: "torn".to_owned() })), "cannot be read: torn");
    refused(STALE, &plan, &with(Known::default()), "cannot be read: nobody has looked");
}

#[test]
fn every_vault_must_be_read_and_end_with_the_final_snapshot() {
    let (plan, facts) = migration();
    let with = |head: Known<Option<crate::base::ids::SnapshotId>>| {
        let mut facts = facts.clone();
        if let Known::Is(vaults) = &mut facts.vaults {
            vaults[1].head = head;
        }
        facts
    };
    refused(STALE, &plan, &with(Known::default()), "vault far: all that is in it is not known");
    refused(STALE, &plan, &with(Known::Is(Some(snapshot(10)))), "its newest snapshot is");
    refused(STALE, &plan, &with(Known::Is(Some(snapshot(8)))), "its newest snapshot is");
    refused(STALE, &plan, &with(Known::Is(None)), "its newest snapshot is nothing");
    let mut none = facts.clone();
    none.vaults = Known::Is(Vec::new());
    refused(STALE, &plan, &none, "none was read");
    none.vaults = Known::default();
    refused(STALE, &plan, &none, "the vaults: what they hold is not known");
}

#[test]
fn the_claim_must_be_ours_alone() {
    let (plan, mut facts) = migration();
    for (claim, words) in [
        (Known::Is(Claim::NotTaken), "has not been taken"),
        (Known::Is(Claim::Others { who: vec!["other-host".to_owned()] }), "others have laid claim to it: other-host"),
        (Known::Is(Claim::OursAlone { snapshot: snapshot(8) }), "is a claim to"),
        (Known::default(), "who has it is not known"),
    ] {
        facts.claim = claim;
        refused(STALE, &plan, &facts, words);
    }
}

#[test]
fn a_node_that_was_let_start_is_not_set_back() {
    let (plan, mut facts) = migration();
    facts.lowered = Known::Is(Some(at(2000)));
    for there in [FileAt::Nothing, FileAt::Fence, FileAt::Other { length: 1000 }] {
        facts.target.files.insert(WALLET.into(), Known::Is(there));
        refused(STALE, &plan, &facts, "the node may have run");
    }
    facts.target.files.insert(WALLET.into(), Known::default());
    refused(STALE, &plan, &facts, "the node may have run");
    // A run that was cut off between the two: the database has not changed since.
    facts.target.files.insert(WALLET.into(), Known::Is(FileAt::Identical));
    cleared(STALE, &plan, &facts, "claimed by us alone");
    facts.lowered = Known::default();
    refused(STALE, &plan, &facts, "whether this restore has let the node start on it already is not known");
}

#[test]
fn a_later_transaction_is_newer_even_when_no_channel_moved() {
    let of = |sequence: u64, number: i64, taken: i64| {
        let mut other = node(vec![channel('a', 3, 7)]);
        other.data_version = Some(number);
        let (plan, mut facts) = migration();
        facts.evidence = vec![wallet_of(sequence, taken, other)];
        (plan, facts)
    };
    let with = |number: i64, taken: i64| of(if taken > 1000 { 10 } else { 8 }, number, taken);
    // A snapshot from before, dated after: a clock was wrong, and nobody can say more than its number does.
    let (plan, facts) = of(8, 2, 1001);
    cleared(STALE, &plan, &facts, "final state");
    let (plan, facts) = of(8, 101, 1001);
    refused(STALE, &plan, &facts, "was written to after");
    let (plan, facts) = with(101, 1001);
    refused(STALE, &plan, &facts, "was written to after");
    let (plan, facts) = with(2, 1001);
    refused(STALE, &plan, &facts, "was written to after");
    let (plan, facts) = with(100, 1001);
    cleared(STALE, &plan, &facts, "final state");
    let (plan, mut facts) = with(5000, 900);
    cleared(STALE, &plan, &facts, "final state");
    facts.evidence[0].taken = None;
    refused(STALE, &plan, &facts, "was written to after");
    if let Known::Is(Testimony::Wallet(node)) = &mut facts.evidence[0].says {
        node.data_version = None;
    }
    refused(STALE, &plan, &facts, "without data_version");
    if let Known::Is(Testimony::Wallet(node)) = &mut facts.evidence[0].says {
        node.node_id = Some("02".repeat(33));
    }
    cleared(STALE, &plan, &facts, "final state");
}

#[test]
fn what_is_known_must_be_of_what_is_placed() {
    let (plan, mut facts) = migration();
    candidate_of(&mut facts).snapshot = snapshot(8);
    refused(STALE, &plan, &facts, "which is not the plan's");
    let (mut plan, mut facts) = migration();
    plan.snapshot = Some(snapshot(8));
    refused(STALE, &plan, &facts, "which is not the plan's");
    plan.snapshot = Some(snapshot(9));
    for action in &mut plan.steps[0].actions {
        if let Action::PlaceChannelDatabase { claim, .. } = action {
            *claim = snapshot(8);
        }
    }
    refused(STALE, &plan, &facts, "which is not the plan's");
    let (plan, _) = migration();
    facts.candidates.clear();
    refused(STALE, &plan, &facts, "which channels it holds is not known");
}

#[test]
fn nothing_else_that_is_placed_may_hold_channel_state() {
    let (plan, facts) = server_loss();
    cleared(STALE, &plan, &facts, "nothing that is placed holds channel state");
    for name in ["cln/hsm_secret", "cln/extras.tar", "btcpay/btcpaydb.dump"] {
        let mut facts = facts.clone();
        facts.artifacts.get_mut(&artifact(name)).unwrap().toxicity = Known::Is(Toxicity::Toxic);
        refused(STALE, &plan, &facts, "holds a node's channel state");
        facts.artifacts.get_mut(&artifact(name)).unwrap().toxicity = Known::default();
        refused(STALE, &plan, &facts, "whether it holds channel state is not known");
        facts.artifacts.remove(&artifact(name));
        refused(STALE, &plan, &facts, "whether it holds channel state is not known");
    }
    for software in [Software::Cln, Software::Lnd] {
        let mut facts = facts.clone();
        facts.artifacts.get_mut(&artifact("btcpay/btcpaydb.dump")).unwrap().software = Known::Is(software);
        refused(STALE, &plan, &facts, "holds a node's channel state");
    }
    let mut facts = facts;
    facts.artifacts.get_mut(&artifact("btcpay/btcpaydb.dump")).unwrap().software = Known::default();
    refused(STALE, &plan, &facts, "whose tables these are is not known");
}

#[test]
fn no_plain_file_goes_to_the_place_of_a_channel_database() {
    let (_, facts) = server_loss();
    let with = |to: &str, kind| plan("server-loss", vec![place("app/data.sqlite", kind, to)]);
    let sqlite = ArtifactKind::Sqlite;
    for to in [
        "/elsewhere/lightningd.sqlite3",
        "/elsewhere/lightningd.sqlite3-wal",
        "/elsewhere/lightningd.sqlite3-journal",
        "/lnd/graph/channel.db",
        "/lnd/channel.sqlite",
        "/lnd/channel.sqlite-shm",
    ] {
        refused(STALE, &with(to, sqlite), &facts, "is the place of a channel database");
    }
    cleared(STALE, &with("/app/data.sqlite", sqlite), &facts, "nothing that is placed");
    refused(STALE, &with("/app/data.sqlite", ArtifactKind::ClnWallet), &facts, "holds a node's channel state");
    // The policy may put the wallet elsewhere.
    let mut elsewhere = lightning();
    elsewhere.wallet = "/fast/wallet.db".into();
    let mut fenced = with("/fast/wallet.db", sqlite);
    fenced.steps[0].actions.insert(0, Action::RaiseFence { lightning: elsewhere });
    refused(STALE, &fenced, &facts, "is the place of a channel database");
}

#[test]
fn quarantine_lies_outside_of_every_node_and_says_so_in_its_name() {
    let (plan, facts) = server_loss();
    let with = |path: &str| {
        let mut plan = plan.clone();
        for action in &mut plan.steps[0].actions {
            if let Action::Quarantine { to, .. } = action {
                *to = path.into();
            }
        }
        plan
    };
    refused(STALE, &with("/quarantine/lightningd.sqlite3"), &facts, "does not say TOXIC");
    refused(STALE, &with("/TOXIC/lightningd.sqlite3"), &facts, "does not say TOXIC");
    refused(STALE, &with("/cln/regtest/wallet.TOXIC"), &facts, "among a node's own files");
}

#[test]
fn a_plan_that_places_nothing_is_no_subject() {
    let (_, facts) = server_loss();
    let stop = unit("bitcoind.service", UnitRole::Bitcoind, UnitChange::Stop);
    not_applicable(STALE, &plan("bitcoin-node-corruption", vec![stop]), &facts);
}

#[test]
fn two_databases_are_both_judged() {
    let (mut plan, mut facts) = migration();
    plan.steps[0].actions.push(place_database("other/lightningd.sqlite3"));
    refused(STALE, &plan, &facts, "which channels it holds is not known");
    let mut second = candidate(node(vec![channel('b', 3, 1)]));
    second.node.node_id = Some("02".repeat(33));
    facts.candidates.insert(artifact("other/lightningd.sqlite3"), Known::Is(second));
    cleared(STALE, &plan, &facts, "final state");
}
