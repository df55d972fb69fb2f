//! Tests of the layout: every path of format 1, and everything that is none.

use super::*;
use proptest::prelude::*;

fn node() -> NodeName {
    "shops-btc-01".parse().unwrap()
}

fn moment() -> Timestamp {
    "2026-11-20T05:12:00.123Z".parse().unwrap()
}

fn snapshot() -> SnapshotId {
    SnapshotId::new(moment(), 42)
}

#[test]
fn every_path_of_format_1() {
    let object = Sha256Hex::of(b"");
    let (epoch, key) = ("20261120-9f86d081".parse().unwrap(), "0123456789ABCDEF".parse().unwrap());
    let node = &node();
    let keys = [
        (ObjectKey::vault_json(), "vault.json"),
        (ObjectKey::recovery_text(), "RECOVERY.md"),
        (ObjectKey::recover_script(), "recover.sh"),
        (ObjectKey::epoch_key(node, &epoch), "nodes/shops-btc-01/keys/20261120-9f86d081.age"),
        (ObjectKey::epoch_recipient(node, &epoch), "nodes/shops-btc-01/keys/20261120-9f86d081.pub"),
        (ObjectKey::signing_key(node, &key), "nodes/shops-btc-01/signing/0123456789ABCDEF.pub"),
        (
            ObjectKey::snapshot(node, &snapshot(), SnapshotFile::EpochKey),
            "nodes/shops-btc-01/snapshots/20261120T051200Z-000042/epoch.age",
        ),
        (
            ObjectKey::snapshot(node, &snapshot(), SnapshotFile::Notes),
            "nodes/shops-btc-01/snapshots/20261120T051200Z-000042/notes.age",
        ),
        (
            ObjectKey::snapshot(node, &snapshot(), SnapshotFile::Signature),
            "nodes/shops-btc-01/snapshots/20261120T051200Z-000042/manifest.json.minisig",
        ),
        (ObjectKey::manifest(node, &snapshot()), "nodes/shops-btc-01/snapshots/20261120T051200Z-000042/manifest.json"),
        (
            ObjectKey::segment(node, &object),
            "nodes/shops-btc-01/segments/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.age",
        ),
        (ObjectKey::mark(node, moment()), "nodes/shops-btc-01/marks/20261120/20261120T051200.123Z.age"),
        (
            ObjectKey::claim(node, &snapshot(), [0xab; 16]),
            "nodes/shops-btc-01/claims/20261120T051200Z-000042/abababababababababababababababab",
        ),
        (
            ObjectKey::revocation(node, &snapshot(), [0xab; 16]),
            "nodes/shops-btc-01/claims/20261120T051200Z-000042/revoked-abababababababababababababababab",
        ),
        (
            ObjectKey::drill(node, moment(), "server-loss", Signed::Document).unwrap(),
            "nodes/shops-btc-01/drills/20261120T051200Z-server-loss.json",
        ),
        (
            ObjectKey::drill(node, moment(), "server-loss", Signed::Signature).unwrap(),
            "nodes/shops-btc-01/drills/20261120T051200Z-server-loss.json.minisig",
        ),
        (ObjectKey::prune(moment(), Signed::Document), "prune/20261120T051200Z.json"),
        (ObjectKey::prune(moment(), Signed::Signature), "prune/20261120T051200Z.json.minisig"),
        (ObjectKey::probe([1; 16]), "probe/01010101010101010101010101010101"),
    ];
    for (key, text) in keys {
        assert_eq!(key.as_str(), text);
        assert_eq!(text.parse::<ObjectKey>().unwrap(), key);
        assert_ne!(key.place(), Place::Unknown, "{key}");
        assert!(text.parse::<ObjectKey>().unwrap().place().key(text).as_ref() == Some(&key));
    }
    let key = ObjectKey::mark(node, moment());
    assert_eq!(key.place(), Place::Mark { node: node.clone(), moment: moment() });
    let key = ObjectKey::segment(node, &object);
    assert_eq!(key.place(), Place::Segment { node: node.clone(), object });
}

#[test]
fn what_the_layout_does_not_know_is_unknown() {
    let digest = Sha256Hex::of(b"");
    for text in [
        "Vault.json",
        "vault.json.bak",
        "nodes",
        "nodes/n/keys/20261120-9f86d081.txt",
        "nodes/n/snapshots/20261120T051200Z-000042/manifest.json.bak",
        "nodes/n/snapshots/20261120T051200Z-000042/deeper/manifest.json",
        "nodes/n/marks/20261121/20261120T051200.123Z.age",
        "nodes/n/marks/20261120/20261120T051200Z.age",
        "nodes/n/marks/20261320/20261320T051200.123Z.age",
        "nodes/n/claims/20261120T051200Z-000042/short",
        "nodes/n/claims/20261120T051200Z-000042/revoked-short",
        "nodes/n/claims/20261120T051200Z-000042/revoked-ABABABABABABABABABABABABABABABAB",
        "nodes/n/drills/20261120T051200Z-Server.json",
        "prune/20261120T0512Z.json",
        "probe/xyz",
        &format!("nodes/n/segments/ff/{digest}.age"),
        &format!("nodes/n/segments/e3/{digest}"),
        &format!("segments/e3/{digest}.age"),
    ] {
        assert_eq!(text.parse::<ObjectKey>().unwrap().place(), Place::Unknown, "{text}");
    }
}

#[test]
fn a_hostile_name_is_no_key() {
    let long = "a/".repeat(7) + &"b".repeat(limits::OBJECT_KEY_BYTES_MAX);
    let deep = "a/".repeat(limits::OBJECT_KEY_PARTS_MAX) + "a";
    for text in [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "a//b",
        "a/",
        "a/.hidden",
        "a/-rf",
        "a\0b",
        "a\nb",
        "a b",
        "ä",
        "a\\b",
        &long,
        &deep,
    ] {
        assert!(text.parse::<ObjectKey>().is_err(), "{text:?}");
    }
    assert!(ObjectKey::drill(&node(), moment(), "../../x", Signed::Document).is_err());
    assert!(ObjectKey::drill(&node(), moment(), "", Signed::Document).is_err());
}

proptest! {
    #[test]
    fn any_text_is_a_safe_key_or_none(text in "[a-z./\\x00-\\x20-]{0,40}") {
        if let Ok(key) = text.parse::<ObjectKey>() {
            let path = std::path::Path::new(key.as_str());
            prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            prop_assert!(!key.as_str().chars().any(char::is_control));
        }
    }

    #[test]
    fn a_key_and_its_place_agree(
        node in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}", ms in 0..253_402_300_799_000_i64, sequence in 0..2_000_000_u64,
    ) {
        let node: NodeName = node.parse().unwrap();
        let moment = Timestamp::from_millisecond(ms).unwrap();
        let snapshot = SnapshotId::new(moment, sequence);
        prop_assert_eq!(ObjectKey::mark(&node, moment).place(), Place::Mark { node: node.clone(), moment });
        let key = ObjectKey::manifest(&node, &snapshot);
        prop_assert_eq!(key.place(), Place::Snapshot { node, snapshot, file: SnapshotFile::Manifest });
    }
}
