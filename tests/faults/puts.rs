//! Every single put of a run fails once, in each of the ways in which puts fail. The exit tells, the vault that failed
//! is behind or the run failed, nothing half is committed, and the next run makes it whole without sealing anew.

use super::bench::{Bench, at_every_put, shared};
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::exit::Exit;

/// Puts of the smallest run: sealed notes, epoch key, signature, manifest, and the small artifact.
const PUTS_OF_EVERY_RUN: u64 = 5;

/// Fails all puts to vault `a` from the nth on. The first run that ends before it gets there says so by its exit.
fn left_behind(fault: &Fault) {
    for n in 1.. {
        let bench = Bench::new(2, 1);
        bench.on(0, On::Put, Nth::From(n), fault.clone());
        let ran = bench.run();
        if ran.exit == Exit::Ok {
            assert!(n > 8, "{n} puts do not reach every kind of object");
            return;
        }
        let ran = ran.exits(Exit::NotWhole);
        assert_eq!(ran.whole(), ["b"], "{}", ran.said);
        assert!(fault != &Fault::Full || ran.said.contains("free space"), "{}", ran.said);
        bench.assert_sound();
        let before = bench.manifests(&bench.stores[1]).remove(0);
        let puts_before = bench.stores[1].puts();
        bench.assert_recovers();
        let after = bench.manifests(&bench.stores[0]).pop().unwrap();
        assert_eq!(shared(&before), shared(&after), "put {n}: something was sealed anew");
        assert_eq!(bench.stores[1].puts() - puts_before, PUTS_OF_EVERY_RUN, "put {n}");
    }
}

#[test]
fn a_put_that_fails_for_good_leaves_that_vault_behind_and_nothing_else() {
    left_behind(&Fault::Permanent);
}

#[test]
fn a_vault_without_space_is_left_behind_with_the_remedy() {
    left_behind(&Fault::Full);
}

#[test]
fn a_put_that_fails_once_is_tried_again() {
    for fault in [Fault::Temporary, Fault::Reset] {
        at_every_put(1, |n, bench| {
            bench.on(0, On::Put, Nth::At(n), fault.clone());
            bench.run().exits(Exit::Ok);
            bench.assert_sound();
        });
    }
}

#[test]
fn with_too_few_copies_left_the_run_failed_and_the_next_uses_what_was_put() {
    for n in 1.. {
        let bench = Bench::new(1, 1);
        bench.run().exits(Exit::Ok);
        bench.change(2);
        let known = bench.objects(&bench.stores[0]);
        bench.on(0, On::Put, Nth::From(n), Fault::Denied);
        let ran = bench.run();
        if ran.exit == Exit::Ok {
            assert!(n > PUTS_OF_EVERY_RUN, "{}", ran.said);
            return;
        }
        ran.exits(Exit::Failed);
        bench.assert_sound();
        let put: Vec<String> = bench.objects(&bench.stores[0]).difference(&known).cloned().collect();
        bench.assert_recovers();
        let manifest = bench.manifests(&bench.stores[0]).pop().unwrap();
        let is_used = |key: &&String| shared(&manifest).iter().any(|object| key.contains(object.as_str()));
        let used = put.iter().filter(is_used).count();
        // The small artifact is put in every run; all else that was put is used.
        assert!(used + 1 >= put.len(), "put {n}: of {put:?} only {used} were used again");
    }
}

#[test]
fn of_three_vaults_two_may_be_required() {
    let bench = Bench::new(3, 2);
    bench.on(0, On::Put, Nth::From(2), Fault::Permanent);
    let ran = bench.run().exits(Exit::NotWhole);
    assert_eq!(ran.whole(), ["b", "c"]);
    bench.assert_sound();
    bench.change(2);
    for index in [0, 2] {
        bench.on(index, On::Put, Nth::From(3), Fault::Full);
    }
    let ran = bench.run().exits(Exit::Failed);
    assert_eq!(ran.whole(), ["b"]);
    assert!(ran.said.contains("1 of the 2 copies required"), "{}", ran.said);
    bench.assert_recovers();
}

#[test]
fn a_vault_that_lacks_what_is_known_may_fail_while_it_is_given_it() {
    for n in 1.. {
        let bench = Bench::new(2, 1);
        bench.on(1, On::Any, Nth::From(1), Fault::Permanent);
        bench.run().exits(Exit::NotWhole);
        bench.heal();
        bench.on(1, On::Put, Nth::From(n), Fault::Permanent);
        let ran = bench.run();
        if ran.exit == Exit::Ok {
            assert!(n > 8, "{n} puts do not reach every kind of object");
            return;
        }
        let ran = ran.exits(Exit::NotWhole);
        assert_eq!(ran.whole(), ["a"], "{}", ran.said);
        bench.assert_sound();
        bench.assert_recovers();
    }
}
