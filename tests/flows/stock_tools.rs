//! The vault without this program: `age`, `zstd`, `gzip`, `minisign`, `sha256sum` and `awk` are enough.

use crate::support::env::{Ended, TestEnv};
use crate::support::host::{WALLET, whole};
use crate::support::vault::{flip_bit, overwrite};
use std::fs;
use std::path::{Path, PathBuf};

/// Opens the epoch's key by hand.
fn epoch_key(env: &TestEnv, id: &str) -> PathBuf {
    let (host, key) = (&whole().host, env.path("epoch.key"));
    let sealed = host.vault().snapshot(id).join("epoch.age");
    env.program("age").args(["-d", "-i", host.identity(), "-o"]).arg(&key).arg(sealed).ends().exits(0);
    key
}

/// Opens an artifact by hand: every segment with `age`, all of them in one pipe through `decompress`.
fn by_hand(env: &TestEnv, id: &str, artifact: &str, key: &Path, decompress: &str) -> Vec<u8> {
    let vault = whole().host.vault();
    let objects: Vec<String> =
        vault.objects_of(id, artifact).iter().map(|object| vault.object(object).to_str().unwrap().to_owned()).collect();
    let script = format!(
        "for object in {}; do age -d -i {} \"$object\" || exit 1; done | {decompress}",
        objects.join(" "),
        key.display()
    );
    env.program("sh").args(["-c", &script]).ends().exits(0).stdout_bytes
}

#[test]
fn every_artifact_comes_out_by_hand_as_extract_gives_it() {
    let env = TestEnv::new();
    let (host, id) = (&whole().host, &whole().second);
    let key = epoch_key(&env, id);
    let manifest = host.vault().manifest(id);
    let mut codecs = Vec::new();
    for artifact in manifest["artifacts"].as_array().unwrap() {
        let name = artifact["name"].as_str().unwrap();
        let codec = artifact["codec"].as_str().unwrap();
        let decompress = match codec {
            "none" => "cat",
            "gzip" => "gzip -dc",
            "zstd" => "zstd -dc",
            other => panic!("{other}"),
        };
        let plaintext = by_hand(&env, id, name, &key, decompress);
        assert_eq!(plaintext.len() as u64, artifact["length"].as_u64().unwrap(), "{name}");
        assert!(plaintext == host.extract(name), "{name} differs");
        codecs.push(codec);
    }
    for codec in ["none", "gzip", "zstd"] {
        assert!(codecs.contains(&codec), "no artifact tried {codec}");
    }
    assert!(host.vault().objects_of(id, "medusa/files.tar").len() > 1, "several segments were joined");
    assert!(!by_hand(&env, id, WALLET, &key, "zstd -dc").is_empty());
}

#[test]
fn minisign_accepts_a_manifest_and_refuses_a_changed_one() {
    let env = TestEnv::new();
    let (vault, id) = (whole().host.vault().copy_to(&env, "vault"), &whole().second);
    let manifest = vault.snapshot(id).join("manifest.json");
    let key = whole().host.signing_key();
    let minisign = || env.program("minisign").args(["-V", "-P", &key, "-m"]).arg(&manifest).ends();
    let refuses = |ended: Ended| assert!(ended.code != Some(0) && !ended.stdout.contains(id), "{ended}");
    minisign().exits(0).prints(id);
    let text = fs::read_to_string(&manifest).unwrap();
    overwrite(&manifest, text.replace("\"complete\": true", "\"complete\": false").as_bytes());
    refuses(minisign());
    overwrite(&manifest, text.as_bytes());
    minisign().exits(0);
    flip_bit(&vault.snapshot(id).join("manifest.json.minisig"));
    refuses(minisign());
}

#[test]
fn minisign_takes_the_public_key_file_in_the_vault() {
    let (env, vault) = (TestEnv::new(), whole().host.vault());
    let keys: Vec<String> = vault.files().into_keys().filter(|name| name.contains("/signing/")).collect();
    assert_eq!(keys.len(), 1);
    let manifest = vault.snapshot(&whole().second).join("manifest.json");
    env.program("minisign").args(["-V", "-p"]).arg(vault.root.join(&keys[0])).arg("-m").arg(manifest).ends().exits(0);
}

#[test]
fn every_object_is_named_by_its_sha256() {
    let (env, vault) = (TestEnv::new(), whole().host.vault());
    let files: Vec<PathBuf> = vault.objects().iter().map(|object| vault.object(object)).collect();
    let sums = env.program("sha256sum").args(&files).ends().exits(0);
    assert_eq!(sums.stdout.lines().count(), files.len());
    for line in sums.stdout.lines() {
        let (sum, file) = line.split_once("  ").unwrap();
        assert_eq!(Path::new(file).file_stem().unwrap().to_str().unwrap(), sum);
    }
}

#[test]
fn the_files_beside_a_manifest_have_the_digests_it_names() {
    let (env, vault, id) = (TestEnv::new(), whole().host.vault(), &whole().second);
    let manifest = vault.manifest(id);
    for (file, key) in [("epoch.age", "epoch_key"), ("notes.age", "notes")] {
        let path = vault.snapshot(id).join(file);
        let sum = env.program("sha256sum").arg(&path).ends().exits(0);
        assert_eq!(sum.stdout.split(' ').next(), manifest[key]["sha256"].as_str());
        assert_eq!(Some(fs::metadata(path).unwrap().len()), manifest[key]["length"].as_u64());
    }
}

#[test]
fn awk_reads_a_manifest_line_by_line() {
    let (env, vault, id) = (TestEnv::new(), whole().host.vault(), &whole().second);
    let script = r#"/^\{"name": / { split($0, part, "\""); artifact = part[4] }
        /^\{"id": / { split($0, part, "\""); print artifact, part[8] }"#;
    let read = env.program("awk").arg(script).arg(vault.snapshot(id).join("manifest.json")).ends().exits(0);
    let mut expected = Vec::new();
    for artifact in vault.artifacts(id) {
        expected.extend(vault.objects_of(id, &artifact).iter().map(|object| format!("{artifact} {object}")));
    }
    assert_eq!(read.stdout.lines().collect::<Vec<_>>(), expected);
    assert!(expected.len() >= vault.artifacts(id).len());
}
