//! The way back without the program: `recover.sh` with stock tools, from a plain copy of a vault.

use crate::support::env::Ended;
use crate::support::host::{Bare, mode, whole};
use crate::support::vault::{flip_bit, overwrite};
use std::fs;
use std::path::Path;

/// Runs the script that lies in the vault, under the machine's own `sh`.
fn recover(bare: &Bare, arguments: &[&str]) -> Ended {
    bare.env.program("sh").arg(bare.vault.root.join("recover.sh")).args(arguments).ends()
}

fn to(bare: &Bare, folder: &Path, more: &[&str]) -> Ended {
    let key = whole().host.signing_key();
    let fixed = ["--signing-key", &key, "--identity", whole().host.identity(), "--to", folder.to_str().unwrap()];
    recover(bare, &[&fixed[..], more].concat())
}

#[test]
fn the_script_gives_every_artifact_back() {
    let bare = Bare::new();
    let folder = bare.env.path("recovered");
    to(&bare, &folder, &[]).exits(0).prints("Everything of").prints("QUARANTINED");
    for artifact in bare.vault.artifacts(bare.newest()) {
        let file = if artifact == "cln/lightningd.sqlite3" {
            folder.join("quarantine/cln_lightningd.sqlite3.TOXIC")
        } else {
            folder.join(&artifact)
        };
        assert_eq!(fs::read(&file).unwrap(), whole().host.extract(&artifact), "{artifact}");
    }
    assert_eq!(mode(&folder.join("cln/hsm_secret")), 0o400);
    assert_eq!(mode(&folder.join("quarantine/cln_lightningd.sqlite3.TOXIC")), 0o400);
    assert!(folder.join("quarantine/cln_lightningd.sqlite3.TOXIC.README.txt").exists());
    assert!(!folder.join("cln/lightningd.sqlite3").exists());
    let notes = fs::read_to_string(folder.join("notes.json")).unwrap();
    assert!(notes.contains("\"hsm-secret\"") && notes.contains(bare.newest()));
}

#[test]
fn the_script_lists_and_takes_an_older_snapshot() {
    let bare = Bare::new();
    let key = whole().host.signing_key();
    let list = recover(&bare, &["--signing-key", &key]).exits(0);
    assert!(list.stdout.contains(&whole().first) && list.stdout.contains(bare.newest()), "{list}");
    let folder = bare.env.path("older");
    to(&bare, &folder, &["--snapshot", &whole().first]).exits(0).prints(&whole().first);
    let file = bare.env.write("key.pub", format!("untrusted comment: a key\n{key}\n"), 0o644);
    recover(&bare, &["--signing-key", file.to_str().unwrap(), "--node", &bare.vault.node]).exits(0);
}

#[test]
fn the_script_says_what_is_lacking() {
    let bare = Bare::new();
    recover(&bare, &["--help"]).exits(0).prints("--signing-key").prints("NEVER start lightningd");
    recover(&bare, &[]).exits(2).complains("--signing-key is needed");
    let key = whole().host.signing_key();
    let folder = bare.env.path("there");
    recover(&bare, &["--signing-key", &key, "--to", folder.to_str().unwrap()]).exits(2).complains("--identity");
    fs::create_dir(&folder).unwrap();
    to(&bare, &folder, &[]).exits(2).complains("exists already");
    to(&bare, &bare.env.path("x"), &["--node", "../.."]).exits(20);
    to(&bare, &bare.env.path("x"), &["--snapshot", "20200101T000000Z-000001"]).exits(1).complains("no snapshot");
    let stranger = bare.env.identity("stranger.key");
    let x = bare.env.path("x");
    let arguments = ["--signing-key", &key, "--identity", stranger.file.to_str().unwrap(), "--to", x.to_str().unwrap()];
    recover(&bare, &arguments).exits(12).complains("does not open");
    assert!(!x.exists());
}

#[test]
fn the_script_believes_only_the_key_from_the_kit() {
    let bare = Bare::new();
    let (other, _) = relay_backup::seal::sign::SigningKey::generate().unwrap();
    let wrong = other.public().to_base64();
    recover(&bare, &["--signing-key", &wrong]).exits(20).prints("CANNOT BE BELIEVED");
    let manifest = bare.vault.snapshot(bare.newest()).join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    overwrite(&manifest, text.replacen("\"complete\": true", "\"complete\": false", 1).as_bytes());
    recover(&bare, &["--signing-key", &whole().host.signing_key()]).exits(20).prints("CANNOT BE BELIEVED");
    let folder = bare.env.path("recovered");
    to(&bare, &folder, &[]).exits(20).complains("newer than anything that can be believed");
    to(&bare, &folder, &["--snapshot", bare.newest()]).exits(20).complains("cannot be believed");
    assert!(!folder.exists());
    to(&bare, &folder, &["--snapshot", &whole().first]).exits(0);
}

#[test]
fn the_script_finds_damage_and_gives_the_rest() {
    let bare = Bare::new();
    let objects = bare.vault.objects_of(bare.newest(), "btcpay/btcpaydb.dump");
    flip_bit(&bare.vault.object(&objects[0]));
    let folder = bare.env.path("recovered");
    to(&bare, &folder, &[]).exits(20).complains(&objects[0]).complains("btcpay/btcpaydb.dump is not whole");
    assert!(!folder.join("btcpay/btcpaydb.dump").exists());
    assert_eq!(fs::read(folder.join("cln/hsm_secret")).unwrap(), whole().host.extract("cln/hsm_secret"));
    fs::remove_file(bare.vault.object(&objects[0])).unwrap();
    to(&bare, &bare.env.path("again"), &[]).exits(20).complains("is missing");
}

#[test]
fn no_name_in_a_vault_writes_a_line_of_its_own_or_steers_a_terminal() {
    let bare = Bare::new();
    let snapshots = bare.vault.root.join("nodes").join(&bare.vault.node).join("snapshots");
    let forged = "20991120T051200Z-000042\n20991120T051200Z-000043  complete  taken now (manual)\u{1b}[2J\u{9b}2J";
    fs::create_dir(snapshots.join(forged)).unwrap();
    fs::write(snapshots.join(forged).join("manifest.json"), "{}").unwrap();
    let key = whole().host.signing_key();
    let list = recover(&bare, &["--signing-key", &key]).exits(20).prints("CANNOT BE BELIEVED");
    let taken = to(&bare, &bare.env.path("x"), &[]).exits(20).complains("newer than anything that can be believed");
    for said in [&list.stdout, &list.stderr, &taken.stdout, &taken.stderr] {
        assert!(!said.lines().any(|line| line.starts_with("20991120T051200Z-000043")), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{9b}']), "{said:?}");
    }
}

#[test]
fn no_more_comes_out_of_an_object_than_the_manifest_names() {
    let bare = Bare::new();
    let (artifact, id) = ("medusa/files.tar", bare.newest());
    let folder = bare.vault.snapshot(id);
    let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{{\"name\": \"{artifact}\""))).unwrap();
    let length: u64 = line.split("\"length\": ").nth(1).unwrap().split([',', '}']).next().unwrap().parse().unwrap();
    let shorter = line.replace(&format!("\"length\": {length}"), "\"length\": 1000");
    let text = text.replace(line, &shorter);
    let signature = whole().host.signer().sign(text.as_bytes(), "as whoever holds the key can").unwrap();
    overwrite(&folder.join("manifest.json"), text.as_bytes());
    overwrite(&folder.join("manifest.json.minisig"), signature.as_bytes());
    let out = bare.env.path("recovered");
    to(&bare, &out, &[]).exits(20).complains("opens to more than the 1000 bytes that the manifest names");
    assert!(!out.join(artifact).exists() && !out.join(format!("{artifact}.partial")).exists());
    assert_eq!(fs::read(out.join("cln/hsm_secret")).unwrap(), whole().host.extract("cln/hsm_secret"));
}
