//! The built-in scenarios, as they are, on `/`.

use super::scene::{LIGHTNING, NewHost, OldHost, UNPAID, WALLET, Wallet, everything, told_by, tree, until};
use crate::support::env::Ended;
use relay_backup::sandbox::shop::Shop;
use relay_backup::scenario;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::symlink;

const DATABASES: [&str; 2] = [Shop::BTCPAY, Shop::NBXPLORER];
const UNITS: [&str; 2] = ["btcpayserver.service", "nbxplorer.service"];

/// A host whose files are well and whose databases are damaged, with everything running.
fn damaged() -> NewHost {
    let new = NewHost::itself();
    for database in DATABASES {
        new.cluster.execute("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        new.cluster.execute(database, "CREATE TABLE damage ()").unwrap();
    }
    for unit in UNITS.iter().chain(&["clightning.service", "nginx.service", "bitcoind.service"]) {
        new.machine.unit(unit, "active");
    }
    new
}

#[track_caller]
fn is_mended(new: &NewHost) {
    new.has_databases();
    let kept =
        new.cluster.query("postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%replaced%'").unwrap();
    assert_eq!(kept.len(), DATABASES.len());
    for name in kept.into_iter().flatten().flatten() {
        assert_eq!(new.count(&name, "damage"), "0", "the damaged one is kept");
    }
    for unit in UNITS.iter().chain(&["clightning.service", "nginx.service", "bitcoind.service"]) {
        assert_eq!(new.machine.state(unit), "active", "{unit}");
    }
    assert!(new.journal("postgres-corruption").1);
}

#[test]
fn damaged_databases_are_replaced_between_the_stop_and_the_start_of_their_units() {
    let new = damaged();
    new.restore("postgres-corruption", &UNPAID).exits(0);
    is_mended(&new);
    let told = told_by(&scenario::embedded("postgres-corruption").unwrap());
    assert_eq!(new.machine.told(), told);
    let order = ["stop btcpayserver", "stop nbxplorer", "start nbxplorer", "start btcpayserver"];
    assert!(told.iter().zip(order).all(|(told, order)| told.starts_with(order)) && told.len() == order.len());
}

#[test]
fn a_replacement_that_is_killed_between_units_ends_as_one_that_is_not() {
    let new = damaged();
    // Cut off while it waits for the first to stop.
    new.machine.unit_file("btcpayserver.service", "stuck", "");
    let running = new.command("postgres-corruption", &UNPAID).start();
    until(&running, || new.machine.is_waited_for("btcpayserver.service"));
    running.signal(Signal::KILL);
    assert_eq!(running.ends().code, None);
    assert!(new.cluster.query(Shop::BTCPAY, "SELECT count(*)::text FROM damage").is_ok(), "not touched yet");
    new.machine.forget("btcpayserver.service", "stuck");
    // Cut off while it waits for BTCPay Server to start. NBXplorer is at work on its database then.
    let running = new.command("postgres-corruption", &UNPAID).start();
    until(&running, || new.journal("postgres-corruption").0.iter().any(|step| step == "stop-btcpay"));
    new.machine.forget("btcpayserver.service", "waited-for");
    new.machine.unit_file("btcpayserver.service", "stuck", "");
    until(&running, || new.machine.is_waited_for("btcpayserver.service"));
    running.signal(Signal::KILL);
    assert_eq!(running.ends().code, None);
    let session = new.cluster.session(Shop::NBXPLORER).unwrap();
    new.cluster.execute(Shop::NBXPLORER, "CREATE TABLE block_of_today ()").unwrap();
    new.machine.forget("btcpayserver.service", "stuck");
    new.restore("postgres-corruption", &UNPAID).exits(0);
    drop(session);
    is_mended(&new);
    assert_eq!(new.count(Shop::NBXPLORER, "block_of_today"), "0", "what is in service is not replaced");
    let nbxplorer: Vec<String> = new.machine.told().into_iter().filter(|told| told.contains("nbxplorer")).collect();
    assert_eq!(nbxplorer.len(), 2, "stopped once and started once: {nbxplorer:?}");
}

#[test]
fn a_broken_channel_database_is_kept_while_its_unit_is_off() {
    let new = NewHost::itself();
    let old = &super::scene::lost().machine;
    for (file, mode) in [("hsm_secret", 0o400), ("emergency.recover", 0o400)] {
        let path = format!("{LIGHTNING}/regtest/{file}");
        new.machine.write(&path, fs::read(old.at(&path)).unwrap(), mode, 30007);
    }
    new.machine.write(WALLET, "SQLite format 3\0 and then nothing that makes sense", 0o600, 30007);
    new.machine.write(&format!("{WALLET}-wal"), "half a log", 0o600, 30007);
    new.machine.unit("bitcoind.service", "active");
    new.machine.unit("clightning.service", "active");
    let before = everything(&new);
    new.restore("cln-db-corruption", &[]).exits(21).complains("clightning.service: it runs");
    assert_eq!(everything(&new), before);
    new.machine.unit("clightning.service", "failed");
    new.restore("cln-db-corruption", &[]).exits(0).prints("holds          damaged-kept");
    let aside = new.machine.at(format!("{WALLET}.replaced-{}", new.snapshot));
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 2);
    assert!(fs::read_to_string(aside.join("lightningd.sqlite3-wal")).unwrap() == "half a log");
    assert!(!new.machine.at(WALLET).exists());
    assert_eq!(new.machine.told(), told_by(&scenario::embedded("cln-db-corruption").unwrap()));
    assert_eq!(new.machine.state("clightning.service"), "failed");
}

#[test]
fn a_node_moves_and_is_started_by_nobody() {
    let old = OldHost::new();
    let gone = old.machine.relay_backup(&["backup", "--final", "--yes"]).ends().exits(0).prints("FINAL");
    let witness = crate::flows::witness::witness(&gone);
    let new = NewHost::after(&old);
    new.machine.write("/fake/bin/lightningd", "#!/bin/sh\necho v26.09\n", 0o755, 0);
    for unit in ["clightning.service", "bitcoind.service"] {
        new.machine.unit(unit, if unit == "bitcoind.service" { "active" } else { "inactive" });
    }
    let move_it = || -> Ended { new.restore("planned-migration", &["--witness", &witness]) };
    move_it().exits(0).prints("holds          channel-database-placed").prints("claim-ours");
    new.is_whole(Wallet::InPlace);
    assert_eq!(new.machine.told(), told_by(&scenario::embedded("planned-migration").unwrap()));
    assert_eq!(new.machine.state("clightning.service"), "inactive");
    let claims = new.machine.at(format!("/mnt/vault/nodes/{}/claims/{}", crate::support::host::NODE, new.snapshot));
    assert_eq!(fs::read_dir(claims).unwrap().count(), 2, "the run's own, and the one by which the node may start");
    // Once it runs, nothing is moved over it.
    new.machine.unit("clightning.service", "active");
    let before = tree(&new.machine.at(LIGHTNING), 1);
    move_it().exits(21).complains("clightning.service: it runs");
    assert_eq!(tree(&new.machine.at(LIGHTNING), 1), before);
}

#[test]
fn a_node_that_has_left_is_not_brought_back_by_a_restore() {
    let old = OldHost::new();
    old.machine.relay_backup(&["backup", "--final", "--yes"]).ends().exits(0).prints("FINAL");
    let before = tree(&old.machine.at(LIGHTNING), 0);
    for scenario in ["cln-db-corruption", "server-loss"] {
        old.restore(scenario).exits(21).complains("the node left this machine").complains("undo-final");
    }
    // Also where its folder lies on another disk.
    fs::create_dir(old.machine.at("/data")).unwrap();
    fs::rename(old.machine.at(LIGHTNING), old.machine.at("/data/clightning")).unwrap();
    symlink("/data/clightning", old.machine.at(LIGHTNING)).unwrap();
    old.restore("server-loss").exits(21).complains("the node left this machine");
    assert_eq!(tree(&old.machine.at("/data/clightning"), 0), before);
}

#[test]
fn scenarios_that_only_look_touch_neither_files_nor_units() {
    let new = NewHost::new();
    for unit in ["clightning.service", "bitcoind.service", "btcpayserver.service"] {
        new.machine.unit(unit, "active");
    }
    let before = everything(&new);
    for (scenario, sign) in [("bitcoin-node-corruption", "at block 900000 of 900000"), ("disk-full", "MiB free")] {
        new.restore(scenario, &[]).exits(0).prints(sign).prints("holds          nothing-touched");
        assert_eq!(everything(&new), before, "{scenario}");
    }
    assert_eq!(new.machine.told(), [""; 0]);
    // Nor do they need any room, the journal's included.
    new.machine.disk("/var/lib", 64);
    fs::write(new.machine.at("/var/lib/filler"), [7; 64 * 1024]).unwrap();
    let ended = new.restore("disk-full", &[]).exits(0).prints("holds          nothing-touched");
    assert_eq!(fs::read_dir(new.machine.at("/var/lib")).unwrap().count(), 1, "{ended}");
}
