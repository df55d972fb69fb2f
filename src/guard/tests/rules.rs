//! The smaller guards, one condition at a time: identity, twin, payout, compromise, space, freshness.

use super::world::*;
use super::{cleared, not_applicable, refusal, refused};
use crate::artifact::ArtifactKind;
use crate::guard::facts::*;
use crate::guard::{Acceptance, Acceptances, Guard, judge};
use crate::plan::{Burn, Secrecy, UnitChange, UnitRole};
use std::collections::BTreeMap;

type Text = fn(&mut IdentityFacts) -> &mut Known<String>;

#[test]
fn secret_database_and_chain_belong_together() {
    let texts: [(Text, &str); 6] = [
        (|facts| &mut facts.secret_node_id, "the node id"),
        (|facts| &mut facts.database_node_id, "the node id"),
        (|facts| &mut facts.database_network, "the network"),
        (|facts| &mut facts.target_network, "the network"),
        (|facts| &mut facts.database_genesis, "the chain's first block"),
        (|facts| &mut facts.target_genesis, "the chain's first block"),
    ];
    for world in [server_loss(), migration()] {
        cleared(Guard::Identity, &world.0, &world.1, NODE_ID);
        for (text, words) in texts {
            let (plan, mut facts) = world.clone();
            *text(&mut facts.identity) = Known::Is("another".to_owned());
            refused(Guard::Identity, &plan, &facts, words);
            refused(Guard::Identity, &plan, &facts, "another");
            *text(&mut facts.identity) = Known::default();
            refused(Guard::Identity, &plan, &facts, &format!("{words} is not known"));
        }
    }
}

#[test]
fn the_target_must_be_able_to_read_the_database() {
    let (plan, mut facts) = migration();
    facts.identity.database_schema = Known::Is(282);
    cleared(Guard::Identity, &plan, &facts, "regtest");
    facts.identity.database_schema = Known::Is(283);
    refused(Guard::Identity, &plan, &facts, "it has schema 283, and the target's lightningd knows none above 282");
    let (recovery, _) = server_loss();
    cleared(Guard::Identity, &recovery, &facts, "regtest");
    facts.identity.database_schema = Known::default();
    refused(Guard::Identity, &plan, &facts, "its schema version is not known");
    facts.identity.database_schema = Known::Is(280);
    facts.identity.lightningd_schema = Known::default();
    refused(Guard::Identity, &plan, &facts, "the newest schema it can read is not known");
}

#[test]
fn identity_is_asked_of_each_file_of_a_node() {
    let with = |name, kind| plan("server-loss", vec![place(name, kind, "/x")]);
    let facts = Facts::default();
    for plan in [
        with("cln/hsm_secret", ArtifactKind::HsmSecret),
        with("cln/emergency.recover", ArtifactKind::EmergencyRecover),
        plan("planned-migration", vec![place_database("cln/lightningd.sqlite3")]),
    ] {
        refused(Guard::Identity, &plan, &facts, "is not known");
    }
    not_applicable(Guard::Identity, &with("lnd/channel.backup", ArtifactKind::LndChannelBackup), &facts);
}

fn sign(facts: &mut Facts) -> &mut SignOfLife {
    match &mut facts.twin.last {
        Known::Is(Some(sign)) => sign,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_host_that_spoke_within_half_an_hour_may_live() {
    let (plan, mut facts) = server_loss();
    cleared(Guard::Twin, &plan, &facts, "old-host has given no sign of life since");
    for (age, may_live) in [(0, true), (1799, true), (1800, false), (-60, true)] {
        sign(&mut facts).at = at(100_000 - age);
        if may_live {
            refused(Guard::Twin, &plan, &facts, "old-host: its last sign of life is");
        } else {
            cleared(Guard::Twin, &plan, &facts, "no sign of life since");
        }
    }
}

#[test]
fn an_unknown_clock_or_sign_counts_as_life() {
    let (plan, facts) = migration();
    let mut unknown = facts.clone();
    unknown.twin.store_now = Known::default();
    refused(Guard::Twin, &plan, &unknown, "the vault: its clock is not known");
    let mut unknown = facts.clone();
    unknown.twin.last = Known::default();
    refused(Guard::Twin, &plan, &unknown, "the old host: its last sign of life is not known");
    unknown.twin.last = Known::Is(None);
    refused(Guard::Twin, &plan, &unknown, "not even the snapshot's");
}

#[test]
fn this_machine_and_a_farewell_are_no_twins() {
    let (plan, mut facts) = migration();
    sign(&mut facts).at = at(99_990);
    refused(Guard::Twin, &plan, &facts, "0 minutes old");
    sign(&mut facts).kind = LifeKind::Farewell;
    cleared(Guard::Twin, &plan, &facts, "is its final snapshot");
    sign(&mut facts).kind = LifeKind::Working;
    sign(&mut facts).source = LifeSource::ThisMachine;
    cleared(Guard::Twin, &plan, &facts, "this very machine");
}

#[test]
fn a_sign_that_comes_while_we_work_is_nothing_to_accept() {
    let (plan, mut facts) = server_loss();
    let accepted = Acceptances::new(["twin=it burnt down".parse::<Acceptance>().unwrap()]).unwrap();
    sign(&mut facts).at = at(99_990);
    facts.twin.when_begun = Some(at(99_990));
    assert!(refusal(Guard::Twin, &plan, &facts).can_be_accepted);
    assert!(judge(plan.clone(), &facts, &accepted).clear().is_ok());
    facts.twin.when_begun = Some(at(99_989));
    refused(Guard::Twin, &plan, &facts, "after this run had begun: it is alive");
    assert!(judge(plan.clone(), &facts, &accepted).clear().is_err());
    sign(&mut facts).kind = LifeKind::Farewell;
    assert!(judge(plan, &facts, &accepted).clear().is_err());
}

#[test]
fn a_twin_is_looked_for_whenever_something_comes_to_life() {
    let facts = Facts::default();
    let with = |action| plan("server-loss", vec![action]);
    for action in [
        place("cln/hsm_secret", ArtifactKind::HsmSecret, "/x"),
        place("cln/emergency.recover", ArtifactKind::EmergencyRecover, "/x"),
        place("lnd/channel.backup", ArtifactKind::LndChannelBackup, "/x"),
        place_database("cln/lightningd.sqlite3"),
        unit("a", UnitRole::CoreLightning, UnitChange::Start),
        unit("a", UnitRole::Lnd, UnitChange::Start),
        start_btcpay(),
    ] {
        refused(Guard::Twin, &with(action), &facts, "is not known");
    }
    for action in [
        place("app/data.sqlite", ArtifactKind::Sqlite, "/x"),
        unit("a", UnitRole::CoreLightning, UnitChange::Stop),
        unit("a", UnitRole::Nbxplorer, UnitChange::Start),
    ] {
        not_applicable(Guard::Twin, &with(action), &facts);
    }
}

#[test]
fn nothing_is_paid_twice() {
    let (_, mut facts) = server_loss();
    let dump = || restore("btcpay/btcpaydb.dump", "btcpaydb");
    let armed = plan("postgres-corruption", vec![dump(), start_btcpay()]);
    refused(Guard::Payout, &armed, &facts, "3 payouts wait in the restored database and OnChainAutomated");
    facts.payout = Known::Is(PayoutFacts { processors: vec!["a".to_owned()], pending: 0 });
    cleared(Guard::Payout, &armed, &facts, "no payout waits");
    facts.payout = Known::Is(PayoutFacts { processors: Vec::new(), pending: 3 });
    cleared(Guard::Payout, &armed, &facts, "no automated payout processor is enabled");
    facts.payout = Known::default();
    refused(Guard::Payout, &armed, &facts, "what it would pay out by itself is not known");
    let off = burn(Burn::PayoutProcessors);
    for (harmless, is_subject) in [
        (vec![dump(), off.clone(), start_btcpay()], false),
        (vec![start_btcpay(), dump()], false),
        (vec![dump()], false),
        (vec![start_btcpay()], false),
        (vec![restore("btcpay/nbxplorer.dump", "nbxplorer"), start_btcpay()], false),
        (vec![off.clone(), dump(), start_btcpay()], true),
        (vec![dump(), start_btcpay(), off], true),
        (vec![dump(), burn(Burn::Webhooks), start_btcpay()], true),
        (vec![restore("unknown/x.dump", "x"), start_btcpay()], true),
        (vec![restore("unknown/x.dump", "x"), burn(Burn::PayoutProcessors), start_btcpay()], true),
    ] {
        let plan = plan("postgres-corruption", harmless);
        if is_subject {
            refused(Guard::Payout, &plan, &facts, "is not known");
        } else {
            not_applicable(Guard::Payout, &plan, &facts);
        }
    }
}

#[test]
fn nothing_that_was_stolen_comes_back_into_service() {
    let compromise = |actions| plan("wallet-compromise", actions);
    let (_, mut facts) = server_loss();
    facts.target.secrets.insert(SECRET.into(), Known::Is(SecretAt::Other { node_id: None }));
    let burns = [Burn::ApiKeys, Burn::Webhooks, Burn::PayoutProcessors].map(burn);
    let dump = || restore("btcpay/btcpaydb.dump", "btcpaydb");
    let with = |burns: &[crate::plan::Action]| compromise([&[dump()], burns, &[start_btcpay()]].concat());
    cleared(Guard::Compromise, &with(&burns), &facts, "nothing that a thief may hold");
    for (index, name) in ["API keys", "webhooks", "payout processors"].into_iter().enumerate() {
        let mut two = burns.to_vec();
        two.remove(index);
        refused(Guard::Compromise, &with(&two), &facts, &format!("the restored {name} would still be good"));
        refused(Guard::Compromise, &compromise([&[dump()], &two[..]].concat()), &facts, "when the plan ends");
    }
    let late = compromise([&[dump(), start_btcpay()], &burns[..]].concat());
    refused(Guard::Compromise, &late, &facts, "when btcpayserver.service is started");
    let early = compromise([&burns[..], &[dump()]].concat());
    refused(Guard::Compromise, &early, &facts, "when the plan ends");
    for action in [
        place("cln/hsm_secret", ArtifactKind::HsmSecret, SECRET),
        place("cln/emergency.recover", ArtifactKind::EmergencyRecover, EMERGENCY),
        place("lnd/channel.backup", ArtifactKind::LndChannelBackup, "/lnd/channel.backup"),
        place_database("cln/lightningd.sqlite3"),
    ] {
        refused(Guard::Compromise, &compromise(vec![action]), &facts, "a thief may have");
    }
    let others = vec![place("app/data.sqlite", ArtifactKind::Sqlite, "/x"), restore("btcpay/nbxplorer.dump", "n")];
    cleared(Guard::Compromise, &compromise(others), &facts, "nothing that a thief may hold");
}

#[test]
fn a_node_starts_on_another_secret_than_the_stolen_one() {
    let start = plan("wallet-compromise", vec![unit(NODE_UNIT, UnitRole::CoreLightning, UnitChange::Start)]);
    let (_, mut facts) = server_loss();
    for (at, words) in [
        (Known::Is(SecretAt::Same), "clightning.service would be started on the secret that a thief may have"),
        (Known::default(), "whose secret lies there is not known"),
    ] {
        facts.target.secrets.insert(SECRET.into(), at);
        refused(Guard::Compromise, &start, &facts, words);
    }
    let bitcoind = plan("wallet-compromise", vec![unit("b", UnitRole::Bitcoind, UnitChange::Start)]);
    cleared(Guard::Compromise, &bitcoind, &facts, "nothing that a thief may hold");
    for at in [SecretAt::Nothing, SecretAt::Other { node_id: None }] {
        facts.target.secrets.insert(SECRET.into(), Known::Is(at));
        cleared(Guard::Compromise, &start, &facts, "nothing that a thief may hold");
    }
    facts.target.secrets.clear();
    refused(Guard::Compromise, &start, &facts, "on which secret it would start is not known");
}

#[test]
fn lost_secrecy_is_told_by_the_plan_or_by_the_scenarios_name() {
    let (mut plan, facts) = server_loss();
    not_applicable(Guard::Compromise, &plan, &facts);
    plan.secrecy = Secrecy::Lost;
    refused(Guard::Compromise, &plan, &facts, "cln/hsm_secret: it would come back into service");
    plan.secrecy = Secrecy::Kept;
    plan.scenario = "wallet-compromise".parse().unwrap();
    refused(Guard::Compromise, &plan, &facts, "cln/hsm_secret: it would come back into service");
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let (plan, mut facts) = server_loss();
    cleared(Guard::Space, &plan, &facts, "2500 bytes fit: /cln");
    facts.space[0].free = Known::Is(4999);
    refused(Guard::Space, &plan, &facts, "/cln: 5000 bytes are needed and 4999 are free: 1 are missing");
    facts.space[0].free = Known::default();
    refused(Guard::Space, &plan, &facts, "/cln: its free room is not known");
    facts.space[0].free = Known::Is(10_000);
    facts.space[0].needed = 2500;
    cleared(Guard::Space, &plan, &facts, "fit");
    facts.space[0].needed = 2499;
    refused(Guard::Space, &plan, &facts, "the plan writes 2500 bytes, and room was looked at for 2499");
    let (_, facts) = migration();
    not_applicable(Guard::Space, &super::world::plan("integration-outage", vec![start_btcpay()]), &facts);
}

#[test]
fn only_the_newest_complete_snapshot_is_fresh() {
    let (plan, mut facts) = server_loss();
    cleared(Guard::Freshness, &plan, &facts, "the newest mark is 8 minutes younger");
    facts.freshness.newest_complete = Known::Is(Some(snapshot(10)));
    refused(Guard::Freshness, &plan, &facts, "it is not the newest complete snapshot: that is 20270115T081640Z-000010");
    facts.freshness.newest_complete = Known::Is(None);
    refused(Guard::Freshness, &plan, &facts, "that is no complete one");
    facts.freshness.newest_complete = Known::default();
    refused(Guard::Freshness, &plan, &facts, "which snapshot is the newest complete one is not known");
}

#[test]
fn the_way_to_the_tip_must_not_be_pruned() {
    let (mut plan, mut facts) = server_loss();
    facts.freshness.prune = Known::Is(PruneWindow::From(901));
    refused(Guard::Freshness, &plan, &facts, "Core Lightning: it stands at block 900, and bitcoind has pruned");
    facts.freshness.prune = Known::Is(PruneWindow::Whole);
    cleared(Guard::Freshness, &plan, &facts, "newest complete");
    facts.freshness.prune = Known::Is(PruneWindow::NotHere);
    refused(Guard::Freshness, &plan, &facts, "there is none at the target");
    plan.root = Some("/mnt".into());
    cleared(Guard::Freshness, &plan, &facts, "newest complete");
    facts.freshness.prune = Known::default();
    refused(Guard::Freshness, &plan, &facts, "which blocks it still has is not known");
    facts.freshness.prune = Known::Is(PruneWindow::Whole);
    facts.freshness.heights = Known::default();
    refused(Guard::Freshness, &plan, &facts, "from which heights blocks must be read again is not known");
    facts.freshness.heights = Known::Is(BTreeMap::new());
    cleared(Guard::Freshness, &plan, &facts, "newest complete");
}

#[test]
fn the_gap_is_told() {
    let (plan, mut facts) = server_loss();
    facts.freshness.newest_mark = Known::Is(Some(at(1000)));
    cleared(Guard::Freshness, &plan, &facts, "no mark is younger");
    facts.freshness.newest_mark = Known::Is(None);
    cleared(Guard::Freshness, &plan, &facts, "there is no mark");
    facts.freshness.newest_mark = Known::default();
    refused(Guard::Freshness, &plan, &facts, "when the newest mark was taken is not known");
    facts.freshness.newest_mark = Known::Is(None);
    facts.freshness.taken = Known::default();
    refused(Guard::Freshness, &plan, &facts, "when it was taken is not known");
}

#[test]
fn freshness_is_asked_only_when_something_of_a_snapshot_is_placed() {
    let facts = Facts::default();
    let mut nothing = plan("bitcoin-node-corruption", vec![start_btcpay()]);
    not_applicable(Guard::Freshness, &nothing, &facts);
    nothing.snapshot = None;
    not_applicable(Guard::Freshness, &nothing, &facts);
}
