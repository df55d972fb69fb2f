//! What is known is not shipped again, and what is precious is.

use crate::faults::noise;
use crate::support::host::{Host, whole};
use std::collections::BTreeSet;
use std::fs;

#[test]
fn the_same_backup_again_ships_almost_nothing() {
    let [empty, first, second] = whole().bytes;
    let (shipped_first, shipped_second) = (first - empty, second - first);
    assert!(shipped_second * 20 < shipped_first, "{shipped_second} bytes after {shipped_first}");
}

#[test]
fn segments_that_did_not_change_lie_in_the_same_objects() {
    let whole = whole();
    let vault = whole.host.vault();
    for artifact in ["medusa/files.tar", "cln/lightningd.sqlite3"] {
        let (before, after) = (vault.objects_of(&whole.first, artifact), vault.objects_of(&whole.second, artifact));
        assert_eq!(before, after, "{artifact}");
    }
    // A dump's head, which holds the moment it was made, lies in a segment of its own.
    for artifact in ["btcpay/btcpaydb.dump", "btcpay/nbxplorer.dump"] {
        let (before, after) = (vault.objects_of(&whole.first, artifact), vault.objects_of(&whole.second, artifact));
        assert!(before.len() > 1 && before[1..] == after[1..], "{artifact}: {before:?} {after:?}");
    }
}

#[test]
fn a_small_change_ships_little() {
    let host = Host::of_files();
    // More than one segment can hold, wherever the key of this host puts the boundaries.
    host.env.write("medusa/uploads/archive.bin", noise(3, 12_000_000), 0o600);
    host.init();
    let empty = host.vault().bytes();
    host.backup();
    let first = host.vault().bytes();
    host.env.write("medusa/.env", "JWT=made-up-jwt-0002\n", 0o600);
    host.backup();
    let (shipped_first, shipped_second) = (first - empty, host.vault().bytes() - first);
    assert!(shipped_second > 0 && shipped_second < shipped_first, "{shipped_second} after {shipped_first}");
}

#[test]
fn small_secrets_are_sealed_anew_in_every_snapshot() {
    let whole = whole();
    let vault = whole.host.vault();
    for artifact in ["cln/hsm_secret", "cln/emergency.recover", "cln/extras.tar", "btcpay/globals.sql"] {
        let before: BTreeSet<String> = vault.objects_of(&whole.first, artifact).into_iter().collect();
        let after: BTreeSet<String> = vault.objects_of(&whole.second, artifact).into_iter().collect();
        assert!(before.is_disjoint(&after) && !after.is_empty(), "{artifact}: {before:?} {after:?}");
    }
}

#[test]
fn every_snapshot_carries_the_epoch_key() {
    let whole = whole();
    let vault = whole.host.vault();
    let keys: Vec<String> = vault.files().into_keys().filter(|name| name.contains("/keys/")).collect();
    let epoch = keys.iter().find(|name| name.ends_with(".age")).unwrap();
    let epoch = fs::read(vault.root.join(epoch)).unwrap();
    for id in [&whole.first, &whole.second] {
        assert_eq!(fs::read(vault.snapshot(id).join("epoch.age")).unwrap(), epoch, "{id}");
    }
}

#[test]
fn a_secret_survives_the_loss_of_every_object_of_the_older_snapshot() {
    let bare = crate::support::host::Bare::new();
    let newest: BTreeSet<String> = bare
        .vault
        .artifacts(bare.newest())
        .iter()
        .flat_map(|artifact| bare.vault.objects_of(bare.newest(), artifact))
        .collect();
    let mut lost = 0;
    for object in bare.vault.objects().iter().filter(|object| !newest.contains(*object)) {
        fs::remove_file(bare.vault.object(object)).unwrap();
        lost += 1;
    }
    assert!(lost >= 3, "{lost}");
    bare.verify("opened").exits(0);
}
