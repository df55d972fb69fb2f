//! A restore on `/` itself, where units are stopped, started and waited for, programs are run, and owners must be
//! given: the whole program on a machine of its own, whose unit manager is a fake. An ordinary user's machine has one
//! user only: that files go to their owners by name, whatever the number, is shown where root runs the tests.

mod disk;
mod scenarios;
mod scene;
mod units;

use crate::support::machine::is_root;
use relay_backup::scenario;
use scene::{GONE, NewHost, Wallet, everything};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_lost_server_comes_back_on_the_machine_itself() {
    let new = NewHost::new();
    let ended = new.restore("server-loss", &GONE).exits(0).prints("holds          databases-proved");
    new.is_whole(Wallet::Nowhere);
    let owner = |path: &str| fs::metadata(new.machine.at(path)).map(|meta| (meta.uid(), meta.mode() & 0o7777)).unwrap();
    let node = if is_root() { 30007 } else { fs::metadata(new.machine.at("/root")).unwrap().uid() };
    assert_eq!(owner("/var/lib/clightning/regtest/hsm_secret"), (node, 0o400), "{ended}");
    assert_eq!(owner("/var/lib/clightning/regtest"), (node, 0o750), "{ended}");
    let folder = new.folder("server-loss");
    let ours = ["/var/lib/relay-backup/restore", folder.to_str().unwrap()];
    for path in [new.machine.at(ours[0]), folder.clone()] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700, "{}", path.display());
    }
    for (file, mode) in [
        ("journal.jsonl", 0o600),
        ("followup.txt", 0o600),
        ("followup.json", 0o600),
        ("cln-emergency.recover", 0o400),
        ("quarantine/TOXIC-cln-lightningd.sqlite3", 0o400),
    ] {
        assert_eq!(fs::metadata(folder.join(file)).unwrap().mode() & 0o7777, mode, "{file}");
    }
    let (done, is_finished) = new.journal("server-loss");
    let steps = scenario::embedded("server-loss").unwrap().steps;
    assert_eq!(done, steps.iter().map(|step| step.id.to_string()).collect::<Vec<_>>());
    assert!(is_finished);
    // The scenario starts and stops nothing; the node's units were asked for.
    assert_eq!(new.machine.told(), [""; 0]);
    for unit in ["clightning.service", "lightningd.service"] {
        let asked = format!("show --property=LoadState,ActiveState,Job -- {unit}");
        assert!(new.machine.asked().contains(&asked), "{unit}");
    }
}

#[test]
fn without_bitcoind_nobody_knows_whether_the_blocks_are_there() {
    let new = NewHost::new();
    let bitcoin_cli = new.machine.at("/fake/bin/bitcoin-cli");
    let at_the_tip = fs::read_to_string(&bitcoin_cli).unwrap();
    fs::remove_file(&bitcoin_cli).unwrap();
    let before = everything(&new);
    new.restore("server-loss", &GONE).exits(21).complains("the guard freshness refused").complains("start bitcoind");
    assert_eq!(everything(&new), before);
    // It need not have caught up, as long as it keeps what it gets.
    let syncing = at_the_tip.replace("\"initialblockdownload\":false", "\"initialblockdownload\":true");
    assert_ne!(syncing, at_the_tip);
    new.machine.write("/fake/bin/bitcoin-cli", syncing, 0o755, 0);
    new.restore("server-loss", &[&GONE[..], &["--dry-run"]].concat()).exits(0);
    assert_eq!(everything(&new), before);
}
