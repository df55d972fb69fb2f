//! Any kind of damage to any kind of object is found at the depth that promises it, and told with the artifact, the
//! segment, the vault and what still restores.

use crate::support::env::Ended;
use crate::support::host::{Bare, WALLET};
use crate::support::vault::{SNAPSHOT_FILES, flip_bit, overwrite, truncate};
use std::fs;
use std::path::Path;

/// What can happen to a file.
const REMOVED: fn(&Path) = |file| fs::remove_file(file).unwrap();
const EMPTIED: fn(&Path) = |file| overwrite(file, b"");
const TRUNCATED: fn(&Path) = truncate;
const FLIPPED: fn(&Path) = flip_bit;

/// Spoils the first segment of each artifact in turn and verifies.
fn each_artifact(spoil: fn(&Path), depth: &str, code: i32, check: impl Fn(&Ended)) {
    let bare = Bare::new();
    for artifact in bare.vault.artifacts(bare.newest()) {
        let object = bare.vault.objects_of(bare.newest(), &artifact).remove(0);
        let file = bare.vault.object(&object);
        let good = fs::read(&file).unwrap();
        spoil(&file);
        let ended = bare.verify(depth).exits(code);
        if code == 20 {
            names_all(&ended, &artifact, &object, bare.newest());
        }
        check(&ended);
        fs::write(&file, good).unwrap();
    }
    bare.verify(depth).exits(0);
}

/// Damage is told with artifact, segment, object, snapshot, vault and remedy, and with what still restores.
fn names_all(ended: &Ended, artifact: &str, object: &str, snapshot: &str) {
    let line = ended.stderr.lines().find(|line| line.starts_with("DAMAGE: vault: ")).unwrap_or_default();
    assert!(line.contains(&format!("{artifact}, segment 1 (object {object})")) && line.contains(snapshot), "{ended}");
    assert!(ended.stderr.contains("Hint: restore from another vault or snapshot"), "{ended}");
    let still = ended.stdout.split_once("What still restores:").unwrap_or_else(|| panic!("{ended}")).1;
    assert!(still.contains(snapshot) && still.contains("from vault vault"), "{ended}");
    let others = still.lines().find(|line| line.contains(&format!("of {snapshot} from vault"))).unwrap_or_default();
    assert!(!others.is_empty() && !others.contains(artifact), "{artifact} is said to restore\n{ended}");
}

#[test]
fn a_missing_segment_is_found_by_present() {
    each_artifact(REMOVED, "present", 20, |_| {});
}

#[test]
fn an_emptied_segment_is_found_by_present() {
    each_artifact(EMPTIED, "present", 20, |_| {});
}

#[test]
fn a_truncated_segment_is_found_by_present() {
    each_artifact(TRUNCATED, "present", 20, |_| {});
}

#[test]
fn verify_that_finds_damage_exits_20() {
    each_artifact(FLIPPED, "sealed", 20, |ended| assert!(ended.stdout.contains("Verdict: DAMAGE"), "{ended}"));
}

#[test]
fn a_flipped_bit_in_a_segment_is_beyond_present_which_does_not_claim_to_look() {
    each_artifact(FLIPPED, "present", 0, |ended| assert!(!ended.stdout.contains("hashes"), "{ended}"));
}

#[test]
fn a_flipped_bit_in_every_single_segment_is_found_by_sealed() {
    let bare = Bare::new();
    let mut flipped = Vec::new();
    for artifact in bare.vault.artifacts(bare.newest()) {
        for object in bare.vault.objects_of(bare.newest(), &artifact) {
            flip_bit(&bare.vault.object(&object));
            flipped.push(object);
        }
    }
    let ended = bare.verify("sealed").exits(20);
    for object in flipped {
        assert!(ended.stderr.contains(&object), "{object} was not named\n{ended}");
    }
}

#[test]
fn a_flipped_bit_is_found_by_the_deeper_depths_as_well() {
    let bare = Bare::new();
    let object = bare.vault.objects_of(bare.newest(), "btcpay/btcpaydb.dump").remove(0);
    flip_bit(&bare.vault.object(&object));
    for depth in ["opened", "meaning"] {
        bare.verify(depth).exits(20).complains(&object).complains("btcpay/btcpaydb.dump, segment 1");
    }
}

#[test]
fn segments_that_changed_places_are_found() {
    let bare = Bare::new();
    let objects = bare.vault.objects_of(bare.newest(), "medusa/files.tar");
    let (one, two) = (bare.vault.object(&objects[0]), bare.vault.object(&objects[1]));
    let (first, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
    overwrite(&one, &second);
    overwrite(&two, &first);
    bare.verify("sealed").exits(20).complains("medusa/files.tar, segment 1").complains("medusa/files.tar, segment 2");
}

#[test]
fn damage_to_the_epoch_key_or_the_notes_is_found() {
    for file in ["epoch.age", "notes.age"] {
        for (spoil, depth) in [(REMOVED, "present"), (EMPTIED, "present"), (TRUNCATED, "present"), (FLIPPED, "sealed")]
        {
            let bare = Bare::new();
            spoil(&bare.vault.snapshot(bare.newest()).join(file));
            let ended = bare.verify(depth).exits(20).complains(file).complains(bare.newest()).complains("Hint:");
            assert!(ended.stderr.contains("DAMAGE: vault: "), "the vault is named\n{ended}");
        }
    }
}

#[test]
fn a_lost_copy_of_the_epoch_key_does_not_keep_a_snapshot_shut() {
    let bare = Bare::new();
    fs::remove_file(bare.vault.snapshot(bare.newest()).join("epoch.age")).unwrap();
    let to = bare.env.path("hsm_secret");
    bare.open(&["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()]).exits(0);
}

#[test]
fn damage_to_a_manifest_or_its_signature_is_found_by_present() {
    for file in ["manifest.json", "manifest.json.minisig"] {
        for spoil in [EMPTIED, TRUNCATED, FLIPPED] {
            let bare = Bare::new();
            spoil(&bare.vault.snapshot(bare.newest()).join(file));
            bare.verify("present")
                .exits(20)
                .complains(bare.newest())
                .complains("cannot be believed")
                .complains("Hint:");
        }
    }
}

#[test]
fn a_missing_signature_is_found_by_present() {
    let bare = Bare::new();
    fs::remove_file(bare.vault.snapshot(bare.newest()).join("manifest.json.minisig")).unwrap();
    bare.verify("present").exits(20).complains("it has no signature");
}

#[test]
fn damage_beside_the_newest_manifest_keeps_extract_from_taking_it() {
    for file in ["manifest.json", "manifest.json.minisig"] {
        let bare = Bare::new();
        flip_bit(&bare.vault.snapshot(bare.newest()).join(file));
        let to = bare.env.path("hsm_secret");
        let ended = bare.open(&["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()]).exits(20);
        assert!(ended.stderr.contains(bare.newest()) && !to.exists(), "{ended}");
    }
}

#[test]
fn a_damaged_artifact_is_never_written_out() {
    let bare = Bare::new();
    let object = bare.vault.objects_of(bare.newest(), "medusa/files.tar").pop().unwrap();
    flip_bit(&bare.vault.object(&object));
    let to = bare.env.path("files.tar");
    let ended = bare.open(&["extract", "--artifact", "medusa/files.tar", "--to", to.to_str().unwrap()]).exits(20);
    assert!(ended.stderr.contains(&object) && ended.stderr.contains("vault vault"), "{ended}");
    let left: Vec<_> = fs::read_dir(bare.env.path("home").parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("files.tar") || name.contains("relay-backup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_older_snapshot_that_is_damaged_is_found_when_all_are_asked_for() {
    let bare = Bare::new();
    let first = bare.vault.snapshots().remove(0);
    let object = bare.vault.objects_of(&first, "cln/hsm_secret").remove(0);
    fs::remove_file(bare.vault.object(&object)).unwrap();
    bare.run(&["verify"]).exits(0);
    let ended = bare.run(&["verify", "--snapshot", "all"]).exits(20).complains(&object).complains(&first);
    assert!(ended.stdout.contains(&format!("all of {} from vault vault", bare.newest())), "{ended}");
    bare.run(&["verify", "--snapshot", &first]).exits(20).complains(&object);
}

#[test]
fn a_damaged_wallet_leaves_the_secret_to_be_had() {
    let bare = Bare::new();
    let object = bare.vault.objects_of(bare.newest(), WALLET).remove(0);
    flip_bit(&bare.vault.object(&object));
    let ended = bare.verify("sealed").exits(20);
    let still = ended.stdout.split_once("What still restores:").unwrap().1;
    assert!(still.contains("cln/hsm_secret") && still.contains("cln/emergency.recover"), "{ended}");
    let to = bare.env.path("hsm_secret");
    bare.open(&["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()]).exits(0);
}

#[test]
fn a_damaged_vault_json_is_no_vault_anybody_reads() {
    for spoil in [EMPTIED, TRUNCATED] {
        let bare = Bare::new();
        spoil(&bare.vault.root.join("vault.json"));
        let ended = bare.verify("present");
        assert!(ended.code != Some(0) && ended.stderr.contains("vault.json"), "{ended}");
    }
    let bare = Bare::new();
    fs::remove_file(bare.vault.root.join("vault.json")).unwrap();
    bare.verify("present").exits(10).complains("there is no vault").complains("Hint:");
}

#[test]
fn files_of_a_run_that_was_interrupted_count_for_nothing() {
    let bare = Bare::new();
    let unfinished = bare.vault.snapshot("20310101T000000Z-000099");
    fs::create_dir(&unfinished).unwrap();
    for file in SNAPSHOT_FILES.iter().filter(|file| **file != "manifest.json") {
        fs::copy(bare.vault.snapshot(bare.newest()).join(file), unfinished.join(file)).unwrap();
    }
    bare.verify("sealed").exits(0).complains("interrupted").complains("20310101T000000Z-000099");
    bare.run(&["show", "latest"]).exits(0).prints(bare.newest());
}
