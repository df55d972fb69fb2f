//! Vaults that are slow or hang: they hold up nobody, catch up from the others, and are given up when they do not
//! answer.

use super::bench::{Bench, noise};
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::exit::Exit;
use relay_backup::vault::Patience;
use std::time::Duration;

#[test]
fn a_slow_vault_catches_up_from_the_fast_one() {
    let bench = Bench::new(2, 1);
    bench.run().exits(Exit::Ok);
    bench.env.write("data/large", noise(2, 24_000_000), 0o600);
    // All that it may work at or hold in its queue is slow, so what comes after must go to its backlog.
    for n in 1..=5 {
        bench.on(1, On::Put, Nth::At(n), Fault::Slow(Duration::from_millis(2500)));
    }
    let (fast_gets, slow_puts) = (bench.stores[0].faults.count(On::Get), bench.stores[1].puts());
    let ran = bench.run().exits(Exit::Ok);
    assert_eq!(ran.whole(), ["a", "b"]);
    let fetched = bench.stores[0].faults.count(On::Get) - fast_gets;
    assert!(fetched > 0, "nothing was fetched from the fast vault");
    let segments = bench.manifests(&bench.stores[1]).pop().unwrap().segments().count() as u64;
    assert_eq!(bench.stores[1].puts() - slow_puts, segments + 4, "each object is put once");
    bench.assert_sound();
}

#[test]
fn a_slow_vault_that_missed_a_run_is_not_waited_for() {
    let bench = Bench::new(2, 1);
    bench.env.write("data/large", noise(3, 24_000_000), 0o600);
    bench.on(1, On::Any, Nth::From(1), Fault::Denied);
    bench.run().exits(Exit::NotWhole);
    bench.heal();
    // It takes what it lacks slowly and then fails: what is known elsewhere needs no room in its queue.
    for n in 4..=9 {
        bench.on(1, On::Put, Nth::At(n), Fault::Slow(Duration::from_millis(500)));
    }
    bench.on(1, On::Put, Nth::From(10), Fault::Permanent);
    let ran = bench.run().exits(Exit::NotWhole);
    assert_eq!(ran.whole(), ["a"], "{}", ran.said);
    bench.assert_sound();
    bench.assert_recovers();
}

#[test]
fn a_vault_that_hangs_once_is_asked_again_and_one_that_always_hangs_is_left_behind() {
    let hang = Fault::Slow(Duration::from_secs(600));
    let patience = Patience {
        tries: 2,
        pause: Duration::from_millis(1),
        control: Duration::from_millis(300),
        transfer: Duration::from_secs(60),
    };
    let mut bench = Bench::new(2, 1);
    bench.stores[0].with_patience(patience);
    bench.on(0, On::Look, Nth::At(2), hang.clone());
    bench.on(0, On::List, Nth::At(1), hang.clone());
    bench.run().exits(Exit::Ok);
    bench.assert_sound();
    bench.change(2);
    bench.on(0, On::Look, Nth::From(2), hang);
    let ran = bench.run().exits(Exit::NotWhole);
    assert_eq!(ran.whole(), ["b"]);
    assert!(ran.said.contains("no answer within"), "{}", ran.said);
    bench.assert_recovers();
}
