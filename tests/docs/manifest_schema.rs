//! docs/manifest.schema.json against real manifests, and against every field that a manifest can have.

use super::host::Host;
use super::read;
use jsonschema::validator_for;
use relay_backup::artifact::{ArtifactKind, Codec};
use relay_backup::base::ids::SnapshotId;
use relay_backup::manifest::{
    Artifact, Attested, FORMAT, FileDigest, Manifest, Previous, Segment, SourceOutcome, VaultHead, encode,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Every field filled in. A field that the struct gains must be added here to compile, and then to the schema to pass.
fn full(kind: ArtifactKind, codec: Codec) -> Manifest {
    let created = "2026-11-20T05:12:00Z".parse().unwrap();
    let snapshot = SnapshotId::new(created, 42);
    let digest = || "ab".repeat(32).parse().unwrap();
    let file = || FileDigest { sha256: digest(), length: 400 };
    Manifest {
        format: FORMAT,
        program: "relay-backup 0.1.0".into(),
        node: "shops-btc-01".parse().unwrap(),
        instance: "12".repeat(16).parse().unwrap(),
        snapshot: snapshot.clone(),
        sequence: 42,
        created,
        trigger: "pre-update".into(),
        complete: true,
        previous: Some(Previous { snapshot: snapshot.clone(), sha256: digest() }),
        vaults: vec![VaultHead { vault: "34".repeat(16).parse().unwrap(), head: Some(snapshot) }],
        epoch: "20261120-9f86d081".parse().unwrap(),
        epoch_key: file(),
        notes: file(),
        recipients: vec!["56".repeat(16)],
        attested: vec![Attested { source: "cln".parse().unwrap(), salt: "78".repeat(16), sha256: digest() }],
        sources: vec![SourceOutcome { name: "cln".parse().unwrap(), kind: "cln".into(), ok: true }],
        artifacts: vec![Artifact {
            name: "cln/hsm_secret".parse().unwrap(),
            kind,
            codec,
            toxic: false,
            length: 32,
            segments: vec![Segment { id: "9a".repeat(32).parse().unwrap(), object: digest(), length: 421 }],
        }],
    }
}

fn schema() -> Value {
    serde_json::from_str(&read("docs/manifest.schema.json")).unwrap()
}

fn valid(manifest: &Value) -> Result<(), String> {
    let validator = validator_for(&schema()).unwrap();
    let problems: Vec<String> = validator.iter_errors(manifest).map(|error| error.to_string()).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Compares the keys of a manifest with those the schema demands and allows, all the way down.
fn same_keys(value: &Value, schema: &Value, root: &Value, path: &str) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let schema = match schema.get("oneOf").and_then(Value::as_array) {
        Some(choices) => choices.iter().find(|choice| choice["type"] != "null").unwrap(),
        None => schema,
    };
    match value {
        Value::Object(fields) => {
            let keys: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
            let known: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            let required: BTreeSet<&str> =
                schema["required"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
            assert_eq!(keys, known, "{path}: the schema's properties");
            assert_eq!(keys, required, "{path}: what the schema requires");
            assert_eq!(schema["additionalProperties"], json!(false), "{path}: unknown keys are refused");
            for (key, field) in fields {
                same_keys(field, &schema["properties"][key], root, &format!("{path}.{key}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                same_keys(item, &schema["items"], root, &format!("{path}[]"));
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_has_every_field_and_no_other() {
    let manifest: Value = serde_json::from_str(&encode(&full(ArtifactKind::HsmSecret, Codec::None))).unwrap();
    same_keys(&manifest, &schema(), &schema(), "manifest");
}

#[test]
fn the_schema_knows_every_kind_and_codec() {
    for kind in [
        ArtifactKind::HsmSecret,
        ArtifactKind::EmergencyRecover,
        ArtifactKind::ClnWallet,
        ArtifactKind::LndChannelBackup,
        ArtifactKind::Sqlite,
        ArtifactKind::Tar,
        ArtifactKind::PostgresDump,
        ArtifactKind::PostgresGlobals,
    ] {
        for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
            valid(&serde_json::from_str(&encode(&full(kind, codec))).unwrap()).unwrap();
        }
    }
}

#[test]
fn what_breaks_the_format_breaks_the_schema() {
    let good: Value = serde_json::from_str(&encode(&full(ArtifactKind::Tar, Codec::Gzip))).unwrap();
    for (pointer, wrong) in [
        ("/format", json!(2)),
        ("/node", json!("../x")),
        ("/snapshot", json!("yesterday")),
        ("/previous", json!(5)),
        ("/recipients", json!([])),
        ("/artifacts/0/name", json!("cln/../../etc")),
        ("/artifacts/0/segments/0/length", json!(4_456_449)),
        ("/artifacts/0/segments/0/object", json!("AB")),
    ] {
        let mut manifest = good.clone();
        *manifest.pointer_mut(pointer).unwrap() = wrong;
        assert!(valid(&manifest).is_err(), "{pointer} was accepted");
    }
}

#[test]
fn real_manifests_are_as_the_schema_says() {
    let host = Host::with_snapshots();
    let snapshots = host.env.path("mnt/backup-disk/relay-backup/nodes/shops-btc-01/snapshots");
    let mut seen = 0;
    for entry in std::fs::read_dir(snapshots).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path().join("manifest.json")).unwrap();
        let manifest = serde_json::from_str(&text).unwrap();
        valid(&manifest).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 2);
}
