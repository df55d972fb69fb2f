//! The catalog is a cache: without it, or with a ruined one, time is lost and nothing else.

use crate::support::host::{Host, whole};
use crate::support::vault::overwrite;
use std::fs;

/// Bytes that a backup of an unchanged host ships.
fn shipped(host: &Host) -> u64 {
    let before = host.vault().bytes();
    host.backup();
    host.vault().bytes() - before
}

fn started() -> (Host, u64) {
    let host = Host::of_files();
    host.init();
    let first = shipped(&host);
    (host, first)
}

#[test]
fn a_deleted_catalog_is_rebuilt_from_the_vault() {
    let (host, first) = started();
    host.backup();
    fs::remove_file(host.state().join("catalog.sqlite3")).unwrap();
    host.run(&["catalog", "rebuild"]).exits(0).prints("Vault local: 2 snapshots in the catalog");
    host.run(&["verify"]).exits(0);
    assert!(shipped(&host) * 20 < first, "what is known is not shipped again");
}

#[test]
fn the_next_backup_knows_the_segments_without_a_rebuild() {
    let (host, first) = started();
    fs::remove_file(host.state().join("catalog.sqlite3")).unwrap();
    assert!(shipped(&host) * 20 < first);
    host.run(&["verify", "--snapshot", "all", "--depth", "sealed"]).exits(0);
}

#[test]
fn reading_needs_no_catalog() {
    let (host, _) = started();
    fs::remove_file(host.state().join("catalog.sqlite3")).unwrap();
    host.run(&["list"]).exits(0);
    host.open(&["verify", "--depth", "opened"]).exits(0);
    assert!(!host.extract("medusa/files.tar").is_empty());
}

#[test]
fn a_corrupt_catalog_is_moved_aside_and_made_anew() {
    for ruin in [&b"this is no database"[..], b""] {
        let (host, first) = started();
        let catalog = host.state().join("catalog.sqlite3");
        overwrite(&catalog, ruin);
        let before = host.vault().bytes();
        let ended = host.run(&["backup"]).exits(0);
        assert!((host.vault().bytes() - before) * 20 < first, "{ended}");
        if !ruin.is_empty() {
            assert!(ended.stderr.contains("moved aside") && ended.stderr.contains("catalog-rebuilt"), "{ended}");
        }
        host.run(&["verify"]).exits(0);
    }
}

#[test]
fn a_catalog_corrupt_in_the_middle_never_costs_a_snapshot() {
    let (host, _) = started();
    let catalog = host.state().join("catalog.sqlite3");
    let mut bytes = fs::read(&catalog).unwrap();
    let length = bytes.len();
    bytes[4096..length].fill(0xaa);
    overwrite(&catalog, &bytes);
    let ended = host.run(&["backup"]);
    if ended.code != Some(0) {
        // Where it cannot go on by itself it says what to do, and that works.
        assert!(ended.stderr.contains("catalog"), "{ended}");
        host.run(&["catalog", "rebuild"]).exits(0);
        host.backup();
    }
    host.run(&["verify", "--depth", "sealed", "--snapshot", "all"]).exits(0);
}

#[test]
fn a_catalog_that_promises_what_the_vault_lost_does_not_make_a_hollow_snapshot() {
    let (host, _) = started();
    let vault = host.vault();
    let id = vault.newest();
    let lost = vault.objects_of(&id, "medusa/files.tar").remove(0);
    fs::remove_file(vault.object(&lost)).unwrap();
    let ended = host.run(&["backup"]);
    if ended.code == Some(0) {
        host.run(&["verify"]).exits(0);
    } else {
        assert!(ended.stderr.contains("missing") && ended.stderr.contains(&lost), "{ended}");
        host.run(&["backup"]).exits(0);
        host.run(&["verify"]).exits(0);
    }
}

#[test]
fn a_rebuild_finds_what_verify_would_find() {
    let (host, _) = started();
    let id = host.vault().newest();
    crate::support::vault::flip_bit(&host.vault().snapshot(&id).join("manifest.json"));
    host.run(&["catalog", "rebuild"]).exits(20).complains(&id);
}

#[test]
fn a_rebuild_without_a_vault_says_so() {
    let (host, _) = started();
    fs::remove_dir_all(host.vault().root).unwrap();
    host.run(&["catalog", "rebuild"]).exits(10).complains("there is no vault");
    host.run(&["backup"]).exits(10).complains("there is no vault").complains("Hint:");
    assert!(!whole().host.vault().snapshots().is_empty());
}
