//! The power goes at every step: from the kth operation on a store on, whatever kind it is, nothing works any more. A
//! fresh process finds the old snapshots whole, the new one complete or absent, and finishes the work.

use super::bench::Bench;
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::exit::Exit;

#[test]
fn the_old_stays_whole_and_the_new_is_whole_or_absent_wherever_it_stops() {
    let counting = Bench::new(1, 1);
    counting.run().exits(Exit::Ok);
    counting.change(1000);
    let operations = counting.operations_of_a_run(0);
    assert!(operations > 12, "{operations}");
    let bench = Bench::new(1, 1);
    bench.run().exits(Exit::Ok);
    let mut stopped = 0;
    for k in 1..=operations + 1 {
        bench.change(1 + k);
        let before = bench.manifests(&bench.stores[0]).len();
        bench.on(0, On::Any, Nth::From(k), Fault::Permanent);
        let ran = bench.run();
        bench.heal();
        let after = bench.manifests(&bench.stores[0]).len();
        assert!(after == before || after == before + 1);
        assert!(ran.exit != Exit::Ok || after == before + 1, "operation {k}: success without a snapshot");
        stopped += u64::from(ran.exit == Exit::Failed);
        if k % 3 == 0 {
            bench.lose_catalog();
        }
        if k % 5 == 0 {
            bench.assert_sound();
        }
    }
    assert!(stopped >= operations - 5, "only {stopped} of {operations} stopped the run");
    bench.assert_recovers();
}

#[test]
fn with_two_vaults_each_is_whole_wherever_the_other_stops() {
    let bench = Bench::new(2, 1);
    bench.run().exits(Exit::Ok);
    bench.change(1000);
    let operations = bench.operations_of_a_run(0);
    for k in (1..=operations + 1).step_by(2) {
        bench.change(1 + k);
        bench.on(0, On::Any, Nth::From(k), Fault::Denied);
        let ran = bench.run();
        assert!(ran.whole().contains(&"b"), "operation {k}: {}", ran.said);
        assert!([Exit::Ok, Exit::NotWhole].contains(&ran.exit), "operation {k}: {}", ran.said);
        bench.heal();
        // Every second time the vault that stopped is given what it missed before the next stop.
        if k % 4 == 1 {
            bench.run().exits(Exit::Ok);
        }
    }
    bench.assert_recovers();
}
