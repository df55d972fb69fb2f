//! Stores and hosts that work against the program: rolled back, renumbered, renamed, moved in time. What is lost
//! must be told, not once but until it is mended, and nobody may keep a host from backing up by leaving something
//! in a vault.

use super::bench::{Bench, noise};
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::base::ids::SnapshotId;
use relay_backup::engine::verify::{Depth, VerifyReport, Which};
use relay_backup::exit::Exit;
use relay_backup::vault::layout::{ObjectKey, SnapshotFile};
use std::time::Duration;

const FILES: [SnapshotFile; 4] =
    [SnapshotFile::Manifest, SnapshotFile::Signature, SnapshotFile::Notes, SnapshotFile::EpochKey];

fn remove_newest(bench: &Bench, index: usize) -> SnapshotId {
    let newest = bench.manifests(&bench.stores[index]).pop().unwrap().snapshot;
    for file in FILES {
        bench.stores[index].remove(&ObjectKey::snapshot(&bench.policy.node, &newest, file));
    }
    newest
}

fn verified(bench: &Bench) -> VerifyReport {
    let stores: Vec<_> = bench.stores.iter().collect();
    bench.verify(&stores, Depth::Present, Which::Latest)
}

#[test]
fn a_rollback_is_still_damage_after_the_next_backup() {
    let bench = Bench::new(1, 1);
    bench.run().exits(Exit::Ok);
    bench.run().exits(Exit::Ok);
    let gone = remove_newest(&bench, 0);
    bench.run();
    let newest = bench.manifests(&bench.stores[0]).pop().unwrap();
    assert!(newest.sequence > gone.sequence(), "no number is given twice");
    let report = verified(&bench);
    assert_eq!(Exit::of(&report.findings), Exit::Damage, "{:#?}", report.findings);
    assert!(report.findings.iter().any(|finding| finding.message.contains(gone.as_str())), "{:#?}", report.findings);
}

#[test]
fn a_vault_under_another_id_is_told() {
    let bench = Bench::new(1, 1);
    bench.run().exits(Exit::Ok);
    bench.run().exits(Exit::Ok);
    remove_newest(&bench, 0);
    let json = format!("{{\"format\":1,\"vault\":\"{:032x}\",\"created\":\"2026-11-20T05:12:00Z\"}}\n", 77);
    bench.stores[0].vault.put(&ObjectKey::vault_json(), json.as_bytes()).unwrap();
    let ran = bench.run().exits(Exit::NotWhole);
    assert!(ran.said.contains("vault-id-unknown"), "{}", ran.said);
}

#[test]
fn a_name_with_a_huge_number_does_not_stop_backups() {
    let bench = Bench::new(1, 1);
    let id: SnapshotId = "20260101T000000Z-9999999999".parse().unwrap();
    let key = ObjectKey::snapshot(&bench.policy.node, &id, SnapshotFile::Notes);
    bench.stores[0].vault.put(&key, b"x").unwrap();
    bench.run().exits(Exit::Ok);
    assert_eq!(bench.manifests(&bench.stores[0]).pop().unwrap().sequence, 1);
}

#[test]
fn a_manifest_of_which_only_a_part_comes_does_not_stop_backups() {
    let bench = Bench::new(1, 1);
    bench.run().exits(Exit::Ok);
    bench.lose_catalog();
    let old = bench.manifests(&bench.stores[0]).pop().unwrap().snapshot;
    bench.on(0, On::Get, Nth::Path(format!("{old}/manifest.json")), Fault::ShortRead(10));
    let ran = bench.run().exits(Exit::NotWhole);
    assert!(ran.said.contains("manifest-unreadable"), "{}", ran.said);
    assert_eq!(ran.whole(), ["a"]);
}

#[test]
fn a_vault_that_fails_takes_no_slow_one_with_it() {
    let bench = Bench::new(2, 1);
    // The first run puts the keys, so that every put of the next one is an object's.
    bench.run().exits(Exit::Ok);
    bench.env.write("data/large", noise(7, 40_000_000), 0o600);
    // What the slow one has no room for goes to the other one alone, which then fails with some of it in hand.
    for n in 1..=5 {
        bench.on(0, On::Put, Nth::At(n), Fault::Slow(Duration::from_millis(2500)));
    }
    bench.on(1, On::Put, Nth::From(8), Fault::Denied);
    let ran = bench.run().exits(Exit::NotWhole);
    assert_eq!(ran.whole(), ["a"], "{}", ran.said);
    bench.assert_sound();
}

#[test]
fn one_place_under_two_names_is_one_copy() {
    let mut bench = Bench::new(2, 2);
    bench.make_one(0, 1);
    let ran = bench.run().exits(Exit::Failed);
    assert!(ran.said.contains("same-vault") && ran.said.contains("too-few-copies"), "{}", ran.said);
}

#[test]
fn a_clock_that_was_ahead_is_told_and_is_no_freshness() {
    let bench = Bench::new(1, 1);
    bench.move_clock(400 * 86_400);
    bench.run().exits(Exit::Ok);
    bench.move_clock(-400 * 86_400);
    let report = verified(&bench);
    assert_eq!(Exit::of(&report.findings), Exit::Stale, "{:#?}", report.findings);
    let ran = bench.run().exits(Exit::NotWhole);
    assert!(ran.said.contains("clock-behind"), "{}", ran.said);
}
