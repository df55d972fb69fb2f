//! What `backup` learns of its stores: a probe now and then, a word when a store got weaker, and never a failed backup.

use super::bench::Bench;
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::base::clock::Clock;
use relay_backup::base::interrupt::Interrupt;
use relay_backup::engine::Context;
use relay_backup::engine::backup::VaultRow;
use relay_backup::engine::state::StateFolder;
use relay_backup::engine::stores::Stores;
use relay_backup::exit::Exit;
use relay_backup::report::Finding;
use relay_backup::vault::WriteOnce;

const DAY: i64 = 24 * 3600;

/// The first vault's row of a run that must end so, and what was said.
#[track_caller]
fn run(bench: &Bench, exit: Exit) -> (VaultRow, String) {
    let ran = bench.run().exits(exit);
    (ran.report.unwrap().vaults.remove(0), ran.said)
}

/// Probes so far: nothing else removes.
fn probes(bench: &Bench) -> u64 {
    bench.stores[0].faults.count(On::Remove)
}

/// What the program notes of the first store when it is tried at this moment, in seconds.
fn observe(bench: &Bench, moment: i64) -> (WriteOnce, Vec<Finding>) {
    let mut findings = Vec::new();
    let interrupt = Interrupt::new();
    let clock = Clock::Fixed(jiff::Timestamp::from_second(moment).unwrap());
    let context = Context { clock, interrupt: &interrupt, progress: &|_| {} };
    let mut stores = Stores::load(&StateFolder::of(&bench.policy), &mut findings);
    let store = &bench.stores[0];
    stores.observe(&context, std::iter::once((&store.vault, &store.id)), &mut findings);
    (stores.seen(&store.id).map_or(WriteOnce::Unknown, |seen| seen.write_once), findings)
}

/// From now on the store keeps what it has: the probe's third put, which replaces, and its removal are refused.
fn keep_what_is_there(bench: &Bench) {
    bench.on(0, On::Put, Nth::At(3), Fault::Denied);
    bench.on(0, On::Remove, Nth::From(1), Fault::Denied);
}

#[test]
fn a_store_is_probed_once_and_again_after_a_week() {
    let bench = Bench::new(1, 1);
    let (row, _) = run(&bench, Exit::Ok);
    assert_eq!((row.write_once, probes(&bench)), (WriteOnce::Overwrites, 1));
    let first = row.probed.unwrap();
    let (row, _) = run(&bench, Exit::Ok);
    assert_eq!((row.write_once, probes(&bench)), (WriteOnce::Overwrites, 1));
    assert_eq!(row.probed.as_deref(), Some(first.as_str()), "the older answer, and when it was got");
    bench.move_clock(8 * DAY);
    let (row, _) = run(&bench, Exit::Ok);
    assert_eq!(probes(&bench), 2);
    assert_ne!(row.probed.unwrap(), first);
    bench.move_clock(-5 * DAY);
    run(&bench, Exit::NotWhole);
    assert_eq!(probes(&bench), 3, "what is dated in the future tells nothing");
}

#[test]
fn a_probe_that_fails_is_a_note_and_tried_again() {
    for (on, nth) in
        [(On::Put, Nth::Path("probe/".into())), (On::Get, Nth::Path("probe/".into())), (On::Remove, Nth::From(1))]
    {
        for fault in [Fault::Permanent, Fault::Temporary, Fault::Reset] {
            let bench = Bench::new(1, 1);
            bench.on(0, on, nth.clone(), fault);
            let (row, said) = run(&bench, Exit::Ok);
            assert!(row.whole && said.contains("store-not-probed"), "{said}");
            assert_eq!((row.write_once, row.probed), (WriteOnce::Unknown, None));
            bench.heal();
            let (row, said) = run(&bench, Exit::Ok);
            assert!(row.write_once == WriteOnce::Overwrites && !said.contains("store-not-probed"), "{said}");
        }
    }
}

#[test]
fn a_probe_that_finds_a_liar_leaves_the_snapshot_and_says_so() {
    let bench = Bench::new(1, 1);
    bench.on(0, On::Get, Nth::Path("probe/".into()), Fault::FlipBit(3));
    let (row, said) = run(&bench, Exit::NotWhole);
    assert!(row.whole && said.contains("store-get-wrong"), "{said}");
    assert_eq!(row.write_once, WriteOnce::Unknown);
    bench.assert_recovers();
}

#[test]
fn a_store_that_got_weaker_is_told_until_it_is_mended() {
    let bench = Bench::new(1, 1);
    run(&bench, Exit::Ok);
    let moment = 1_790_000_000 + 30 * DAY;
    keep_what_is_there(&bench);
    let (kept, findings) = observe(&bench, moment);
    assert_eq!((kept, findings), (WriteOnce::Refused, Vec::new()), "better is no reason to say anything");
    bench.heal();
    bench.move_clock(31 * DAY);
    let (row, said) = run(&bench, Exit::Ok);
    assert_eq!((row.write_once, said.as_str()), (WriteOnce::Refused, "[]"), "it was tried a day ago");
    bench.move_clock(8 * DAY);
    for _ in 0..2 {
        let (row, said) = run(&bench, Exit::NotWhole);
        assert!(row.whole && row.write_once == WriteOnce::Overwrites, "{said}");
        for part in ["store-weakened", "could not be replaced, and now it can", "could not be removed, and now it can"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    keep_what_is_there(&bench);
    let (kept, findings) = observe(&bench, moment + 9 * DAY);
    assert_eq!((kept, findings), (WriteOnce::Refused, Vec::new()), "mended, and seen at once");
    bench.heal();
    run(&bench, Exit::Ok);
}

#[test]
fn a_record_that_cannot_be_read_is_begun_anew_and_said_once() {
    let bench = Bench::new(1, 1);
    run(&bench, Exit::Ok);
    bench.env.write("state/stores.json", "{\"format\":7", 0o600);
    let (row, said) = run(&bench, Exit::NotWhole);
    assert!(said.contains("store-record-failed") && row.write_once == WriteOnce::Overwrites, "{said}");
    run(&bench, Exit::Ok);
}
