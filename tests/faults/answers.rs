//! Stores that lie or break off: a put that is answered with yes and not done, lengths that are not so, listings that
//! end half-way. A manifest must never name what is not there.

use super::bench::{Bench, at_every_put};
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::engine::verify::{Depth, Which};
use relay_backup::exit::Exit;

#[test]
fn a_put_that_is_only_said_to_be_done_is_noticed_before_the_commit() {
    at_every_put(1, |n, bench| {
        bench.on(0, On::Put, Nth::At(n), Fault::Vanish);
        let ran = bench.run();
        let committed = bench.manifests(&bench.stores[0]).len();
        assert_eq!(ran.whole().len(), committed, "put {n}: what is said is not what is there\n{}", ran.said);
        assert_eq!(committed == 1, ran.exit == Exit::Ok, "put {n}: {}", ran.said);
        bench.assert_sound();
        bench.assert_recovers();
    });
    for file in ["manifest.json", "minisig", "notes.age", "epoch.age"] {
        let bench = Bench::new(1, 1);
        bench.on(0, On::Put, Nth::Path(file.to_owned()), Fault::Vanish);
        let ran = bench.run().exits(Exit::Failed);
        assert!(ran.said.contains("does not hold it"), "{}", ran.said);
        assert!(bench.manifests(&bench.stores[0]).is_empty());
        bench.assert_recovers();
    }
}

#[test]
fn with_another_vault_what_was_dropped_is_fetched_or_the_vault_is_behind() {
    at_every_put(2, |n, bench| {
        bench.on(0, On::Put, Nth::At(n), Fault::Vanish);
        let ran = bench.run();
        assert!([Exit::Ok, Exit::NotWhole].contains(&ran.exit), "{}", ran.said);
        assert_eq!(ran.whole().contains(&"a"), ran.exit == Exit::Ok, "{}", ran.said);
        bench.assert_sound();
        bench.assert_recovers();
    });
    let bench = Bench::new(2, 1);
    bench.on(0, On::Put, Nth::Path("/segments/".to_owned()), Fault::Vanish);
    let ran = bench.run().exits(Exit::NotWhole);
    assert_eq!(ran.whole(), ["b"], "{}", ran.said);
    bench.assert_sound();
    bench.assert_recovers();
}

#[test]
fn a_put_cut_short_is_noticed_by_its_length() {
    at_every_put(1, |n, bench| {
        bench.on(0, On::Put, Nth::At(n), Fault::Truncate(100));
        let ran = bench.run();
        assert!([Exit::Ok, Exit::Failed].contains(&ran.exit), "{}", ran.said);
        bench.assert_sound();
        bench.assert_recovers();
    });
}

#[test]
fn a_store_whose_looks_cannot_be_believed_gets_no_manifest() {
    for fault in [Fault::Vanish, Fault::Truncate(10), Fault::Permanent, Fault::Denied] {
        let bench = Bench::new(2, 1);
        bench.on(0, On::Look, Nth::Path("/segments/".to_owned()), fault);
        let ran = bench.run().exits(Exit::NotWhole);
        assert_eq!(ran.whole(), ["b"], "{}", ran.said);
        assert!(bench.manifests(&bench.stores[0]).is_empty());
        bench.assert_recovers();
    }
}

#[test]
fn a_bit_that_flips_on_the_way_in_is_found_by_verify() {
    let bench = Bench::new(2, 1);
    bench.on(0, On::Put, Nth::Path("/segments/".to_owned()), Fault::FlipBit(1000));
    bench.run();
    bench.heal();
    let report = bench.verify(&[&bench.stores[0]], Depth::Sealed, Which::Latest);
    assert_eq!(Exit::of(&report.findings), Exit::Damage);
    let report = bench.verify(&[&bench.stores[1]], Depth::Opened, Which::All);
    assert_eq!(Exit::of(&report.findings), Exit::Ok, "{:#?}", report.findings);
}

#[test]
fn a_listing_that_fails_or_breaks_off_is_never_a_shorter_one() {
    for fault in [Fault::Permanent, Fault::Denied, Fault::BreakAfter(0), Fault::BreakAfter(1), Fault::BreakAfter(5)] {
        let bench = Bench::new(2, 1);
        bench.run().exits(Exit::Ok);
        bench.change(2);
        bench.run().exits(Exit::Ok);
        bench.on(0, On::List, Nth::From(1), fault);
        let ran = bench.run().exits(Exit::NotWhole);
        assert_eq!(ran.whole(), ["b"], "{}", ran.said);
        bench.assert_sound();
        bench.assert_recovers();
        assert_eq!(bench.manifests(&bench.stores[0]).len(), 3);
    }
}

#[test]
fn a_listing_that_says_nothing_is_there_costs_a_sealing_and_no_soundness() {
    for fault in [Fault::Vanish, Fault::LeaveOut(0), Fault::LeaveOut(3)] {
        let bench = Bench::new(1, 1);
        for seed in 1..=2 {
            bench.change(seed);
            bench.run().exits(Exit::Ok);
        }
        bench.on(0, On::List, Nth::At(1), fault);
        bench.run();
        bench.assert_sound();
        bench.assert_recovers();
    }
}

#[test]
fn when_no_vault_answers_the_run_fails_and_says_why() {
    let bench = Bench::new(2, 1);
    for index in [0, 1] {
        bench.on(index, On::Any, Nth::From(1), Fault::Denied);
    }
    let ran = bench.run().exits(Exit::Failed);
    assert!(ran.said.contains("no vault can be used"), "{}", ran.said);
    bench.assert_recovers();
}

#[test]
fn what_a_store_gives_back_short_or_changed_is_not_copied_to_another() {
    for fault in [Fault::ShortRead(1000), Fault::Truncate(1000), Fault::FlipBit(1000), Fault::Vanish] {
        let mut bench = Bench::new(2, 1);
        bench.run().exits(Exit::Ok);
        bench.wipe(1);
        bench.on(0, On::Get, Nth::Path("/segments/".to_owned()), fault);
        // What cannot be read is sealed anew for the vault that lacks it.
        let ran = bench.run().exits(Exit::Ok);
        assert_eq!(ran.whole(), ["a", "b"], "{}", ran.said);
        bench.assert_sound();
    }
}
