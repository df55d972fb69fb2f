//! A final snapshot while one of two vaults fails at every one of its operations: it is final in both, or it is final
//! in none and lightningd can start again, or the fence stays and says so. Never is a snapshot final that nobody took
//! back while a database lies where lightningd would start on it.

use super::bench::{Bench, Ran};
use crate::support::faulty::{Fault, Nth, On};
use relay_backup::base::ids::SnapshotId;
use relay_backup::engine::backup::Outcome;
use relay_backup::engine::claim;
use relay_backup::exit::Exit;
use relay_backup::policy::{SourceKind, SourcePolicy};
use std::fs;
use std::path::PathBuf;

/// Two vaults and a node, backed up once.
fn bench() -> (Bench, PathBuf) {
    let mut bench = Bench::new(2, 1);
    let lightning_dir = bench.env.lightning_dir("04-after-25-payments");
    let wallet = lightning_dir.join("regtest/lightningd.sqlite3");
    let kind = SourceKind::Cln { lightning_dir, network: "regtest".to_owned(), wallet: None };
    bench.policy.sources.push(SourcePolicy { name: "cln".parse().unwrap(), kind, codec: None });
    bench.run().exits(Exit::Ok);
    (bench, wallet)
}

fn is_here(wallet: &PathBuf) -> bool {
    fs::read(wallet).unwrap().starts_with(b"SQLite format 3\0")
}

/// The final snapshots in either vault that neither says are taken back.
fn finals(bench: &Bench) -> Vec<SnapshotId> {
    let vaults: Vec<_> = bench.stores.iter().map(|store| store.vault.clone()).collect();
    let mut found = Vec::new();
    for manifest in bench.stores.iter().flat_map(|store| bench.manifests(store)) {
        let marks = claim::look(&vaults, &manifest.node, &manifest.snapshot).unwrap();
        if manifest.trigger == "final" && marks.revocations.is_empty() {
            found.push(manifest.snapshot);
        }
    }
    found
}

/// Looks how a run ended; tells whether it made the snapshot final.
fn judge(bench: &Bench, wallet: &PathBuf, ran: &Ran, n: u64) -> bool {
    let finals = finals(bench);
    let outcome = ran.report.as_ref().and_then(|report| report.parting.as_ref()).map(|parting| parting.outcome);
    match outcome {
        Some(Outcome::Final) => {
            assert_eq!((ran.exit, finals.len()), (Exit::Ok, 2), "operation {n}: {}", ran.said);
            assert!(!is_here(wallet));
        }
        Some(_) => assert!(!is_here(wallet) && ran.said.contains("the fence stays"), "operation {n}: {}", ran.said),
        None => {
            assert!(is_here(wallet) && finals.is_empty(), "operation {n}: {finals:?}, {}", ran.said);
            assert_ne!(ran.exit, Exit::Ok, "operation {n}");
        }
    }
    outcome == Some(Outcome::Final)
}

#[test]
fn a_vault_that_fails_at_any_operation_never_leaves_two_places_to_start() {
    let (mut taken_back, mut refused) = (0, 0);
    for n in 1.. {
        let (bench, wallet) = bench();
        bench.on(1, On::Any, Nth::From(n), Fault::Permanent);
        let ran = bench.run_for("final");
        bench.heal();
        if judge(&bench, &wallet, &ran, n) {
            break;
        }
        if ran.report.as_ref().is_some_and(|report| report.snapshot.is_some()) {
            taken_back += 1;
            assert!(ran.said.contains("it was taken back in a"), "operation {n}: {}", ran.said);
        } else {
            refused += 1;
        }
        let again = bench.run_for("final").exits(Exit::Ok);
        assert!(judge(&bench, &wallet, &again, n));
    }
    assert!(taken_back >= 4 && refused >= 4, "{taken_back} runs were taken back and {refused} not begun");
}

#[test]
fn a_single_failure_of_either_vault_never_leaves_two_places_to_start() {
    for vault in 0..2 {
        let (counting, _) = bench();
        let operations = counting.operations_of_a_run(vault) + 12;
        for n in (1..=operations).step_by(3) {
            let (bench, wallet) = bench();
            bench.on(vault, On::Any, Nth::At(n), Fault::Permanent);
            let ran = bench.run_for("final");
            bench.heal();
            judge(&bench, &wallet, &ran, n);
        }
    }
}
