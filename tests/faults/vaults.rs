//! The life of several vaults: one that missed runs, one that was lost and made anew, one that joins later.

use super::bench::Bench;
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::engine::verify::{Depth, Which};
use relay_backup::exit::Exit;
use relay_backup::vault::layout::{ObjectKey, SnapshotFile};

#[test]
fn a_vault_that_missed_two_runs_is_behind_and_not_damaged() {
    let bench = Bench::new(2, 1);
    bench.run().exits(Exit::Ok);
    for seed in 2..=3 {
        bench.change(seed);
        bench.on(1, On::Any, Nth::From(1), Fault::Denied);
        bench.run().exits(Exit::NotWhole);
        bench.heal();
    }
    let both = [&bench.stores[0], &bench.stores[1]];
    let report = bench.verify(&both, Depth::Opened, Which::All);
    assert_eq!(Exit::of(&report.findings), Exit::NotWhole, "{:#?}", report.findings);
    assert!(report.findings.iter().any(|finding| finding.code == "vault-behind" && finding.subject == "b"));
    bench.assert_recovers();
    let report = bench.verify(&both, Depth::Opened, Which::All);
    assert_eq!(Exit::of(&report.findings), Exit::Ok, "{:#?}", report.findings);
    assert_eq!(bench.manifests(&bench.stores[0]).len(), 4);
    assert_eq!(bench.manifests(&bench.stores[1]).len(), 2);
}

#[test]
fn a_vault_that_was_lost_and_made_anew_gets_the_next_snapshot_whole() {
    let mut bench = Bench::new(2, 1);
    bench.run().exits(Exit::Ok);
    bench.run().exits(Exit::Ok);
    let sealed = bench.objects(&bench.stores[0]);
    bench.wipe(1);
    bench.assert_recovers();
    let both = [&bench.stores[0], &bench.stores[1]];
    let report = bench.verify(&both, Depth::Opened, Which::All);
    assert_eq!(Exit::of(&report.findings), Exit::Ok, "{:#?}", report.findings);
    // What the other vault had was copied and not sealed again: only the small artifact is new.
    assert_eq!(bench.objects(&bench.stores[0]).difference(&sealed).count(), 1);
    assert_eq!(bench.manifests(&bench.stores[1]).len(), 1);
}

#[test]
fn a_vault_that_joins_later_is_whole_from_its_first_snapshot_on() {
    let mut bench = Bench::new(1, 1);
    for seed in 1..=2 {
        bench.change(seed);
        bench.run().exits(Exit::Ok);
    }
    bench.add_vault("late");
    bench.assert_recovers();
    bench.change(3);
    bench.assert_recovers();
    let both = [&bench.stores[0], &bench.stores[1]];
    let report = bench.verify(&both, Depth::Opened, Which::All);
    assert_eq!(Exit::of(&report.findings), Exit::Ok, "{:#?}", report.findings);
}

#[test]
fn a_snapshot_that_somebody_took_out_is_damage_and_not_a_vault_behind() {
    for taken in [0, 1, 2] {
        let bench = Bench::new(2, 1);
        for seed in 1..=3 {
            bench.change(seed);
            bench.run().exits(Exit::Ok);
        }
        let snapshot = bench.manifests(&bench.stores[0])[taken].snapshot.clone();
        for file in [SnapshotFile::Manifest, SnapshotFile::Signature, SnapshotFile::Notes, SnapshotFile::EpochKey] {
            bench.stores[0].remove(&ObjectKey::snapshot(&bench.policy.node, &snapshot, file));
        }
        let report = bench.verify(&[&bench.stores[0], &bench.stores[1]], Depth::Present, Which::Latest);
        assert_eq!(Exit::of(&report.findings), Exit::Damage, "snapshot {taken}: {:#?}", report.findings);
        let named = report
            .findings
            .iter()
            .any(|finding| finding.message.contains(snapshot.as_str()) || finding.subject.contains(snapshot.as_str()));
        assert!(named, "snapshot {taken}: {:#?}", report.findings);
        let other = bench.verify(&[&bench.stores[1]], Depth::Opened, Which::All);
        assert_eq!(Exit::of(&other.findings), Exit::Ok, "{:#?}", other.findings);
    }
}
