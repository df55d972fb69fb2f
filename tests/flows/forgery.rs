//! Whoever can write to a vault cannot make a snapshot that is believed, and cannot take one away unseen.

use crate::support::env::TestEnv;
use crate::support::host::{Bare, Host, NODE, whole};
use crate::support::vault::{SNAPSHOT_FILES, VaultFolder, overwrite};
use relay_backup::seal::sign::SigningKey;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Signs a manifest's text anew, as whoever holds the key can.
fn sign(vault: &VaultFolder, id: &str, text: &str, key: &SigningKey) {
    let folder = vault.snapshot(id);
    overwrite(&folder.join("manifest.json"), text.as_bytes());
    let signature = key.sign(text.as_bytes(), &format!("relay-backup {NODE} {id}")).unwrap();
    overwrite(&folder.join("manifest.json.minisig"), signature.as_bytes());
}

fn text(vault: &VaultFolder, id: &str) -> String {
    fs::read_to_string(vault.snapshot(id).join("manifest.json")).unwrap()
}

/// Copies a snapshot's files into another snapshot's folder.
fn move_snapshot(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in SNAPSHOT_FILES {
        overwrite_or_create(&to.join(file), &fs::read(from.join(file)).unwrap());
    }
}

fn overwrite_or_create(file: &Path, bytes: &[u8]) {
    if file.exists() {
        fs::remove_file(file).unwrap();
    }
    fs::write(file, bytes).unwrap();
}

/// Nothing that reads takes the newest snapshot of this vault.
#[track_caller]
fn nobody_takes_the_newest(bare: &Bare, why: &str) {
    bare.verify("present").exits(20).complains(why).complains("Hint:");
    bare.run(&["list"]).exits(20).complains(why);
    bare.run(&["show", "latest"]).exits(20);
    let to = bare.env.path("stolen");
    bare.open(&["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()]).exits(20);
    assert!(!to.exists());
}

#[test]
fn a_manifest_signed_by_another_key_is_not_believed() {
    let bare = Bare::new();
    let (stranger, _) = SigningKey::generate().unwrap();
    let honest = text(&bare.vault, bare.newest());
    sign(&bare.vault, bare.newest(), &honest, &stranger);
    nobody_takes_the_newest(&bare, "which nobody pinned");
    let id = stranger.public().id().to_string();
    bare.verify("present").complains(&id).complains("[[keys.trusted]]");
}

#[test]
fn a_strangers_key_in_the_vault_makes_nobody_trust_it() {
    let bare = Bare::new();
    let (stranger, _) = SigningKey::generate().unwrap();
    sign(&bare.vault, bare.newest(), &text(&bare.vault, bare.newest()), &stranger);
    let keys = bare.vault.root.join(format!("nodes/{NODE}/signing"));
    fs::write(keys.join(format!("{}.pub", stranger.public().id())), stranger.public().to_file()).unwrap();
    nobody_takes_the_newest(&bare, "which nobody pinned");
}

#[test]
fn a_snapshot_made_up_by_a_stranger_is_not_believed_and_the_true_ones_still_stand() {
    let bare = Bare::new();
    let (stranger, _) = SigningKey::generate().unwrap();
    let forged = "20310101T000000Z-000099";
    move_snapshot(&bare.vault.snapshot(bare.newest()), &bare.vault.snapshot(forged));
    let lie = text(&bare.vault, forged).replace(bare.newest(), forged).replace("\"sequence\": 2", "\"sequence\": 99");
    sign(&bare.vault, forged, &lie, &stranger);
    nobody_takes_the_newest(&bare, forged);
    let to = bare.env.path("hsm_secret");
    let true_one =
        ["extract", "--snapshot", bare.newest(), "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()];
    bare.open(&true_one).exits(0);
}

#[test]
fn a_true_manifest_under_another_snapshots_name_is_not_believed() {
    let bare = Bare::new();
    let moved = "20310101T000000Z-000099";
    move_snapshot(&bare.vault.snapshot(bare.newest()), &bare.vault.snapshot(moved));
    nobody_takes_the_newest(&bare, "lies in another place");
}

#[test]
fn an_older_manifest_replayed_over_the_newest_is_not_believed() {
    let bare = Bare::new();
    move_snapshot(&bare.vault.snapshot(&whole().first), &bare.vault.snapshot(bare.newest()));
    nobody_takes_the_newest(&bare, &whole().first);
}

#[test]
fn a_true_manifest_under_another_nodes_name_is_not_believed() {
    let bare = Bare::new();
    let other = VaultFolder { root: bare.vault.root.clone(), node: "other-node".into() };
    move_snapshot(&bare.vault.snapshot(bare.newest()), &other.snapshot(bare.newest()));
    let ended = bare.run(&["verify", "--node", "other-node"]).exits(20);
    assert!(ended.stderr.contains("lies in another place") && ended.stderr.contains(NODE), "{ended}");
    bare.run(&["show", "latest", "--node", "other-node"]).exits(20);
}

#[test]
fn a_true_manifest_in_another_vault_counts_only_with_all_its_objects() {
    let mut host = Host::of_files();
    host.vaults.push("second".into());
    host.write_policy();
    host.init();
    let (one, two) = (host.vault(), host.vault_named("second"));
    host.vaults.pop();
    host.write_policy();
    let id = host.backup();
    move_snapshot(&one.snapshot(&id), &two.snapshot(&id));
    host.run(&["verify", "--vault", &two.url()]).exits(20).complains(&id).complains("medusa/files.tar, segment 1");

    // With them it is what every copy is: the same snapshot in a second place.
    let segments = |vault: &VaultFolder| vault.root.join(format!("nodes/{NODE}/segments"));
    host.env.program("cp").arg("-a").arg(segments(&one)).arg(segments(&two)).ends().exits(0);
    // This host never wrote there, and says so: it cannot tell a copy from a vault that was tampered with.
    host.run(&["verify", "--vault", &two.url(), "--depth", "sealed"]).exits(3).complains("vault-id-unknown");
}

#[test]
fn a_rolled_back_vault_is_found_on_the_node() {
    let host = Host::of_files();
    host.init();
    let first = host.backup();
    let second = host.backup();
    fs::remove_dir_all(host.vault().snapshot(&second)).unwrap();
    let ended = host.run(&["verify"]).exits(20).complains(&second).complains("rolled back").complains("Hint:");
    assert!(ended.stdout.contains(&first), "what is left is named\n{ended}");

    // Taking one more does not make it pass unseen, nor is the number given again.
    host.run(&["backup"]).exits(3).complains(&second).complains("rolled back").complains("Hint:");
    assert!(host.vault().newest().ends_with("-000003"), "{}", host.vault().newest());
}

#[test]
fn a_vault_put_back_to_an_older_state_is_found_on_the_node() {
    let host = Host::of_files();
    host.init();
    host.backup();
    let old = TestEnv::new();
    let kept = host.vault().copy_to(&old, "old");
    let second = host.backup();
    fs::remove_dir_all(&host.vault().root).unwrap();
    host.env.program("cp").arg("-a").arg(&kept.root).arg(&host.vault().root).ends().exits(0);
    host.run(&["verify"]).exits(20).complains(&second).complains("rolled back");
}

#[test]
fn a_snapshot_taken_out_of_the_middle_is_found_by_anybody() {
    let host = Host::of_files();
    host.init();
    host.backup();
    let middle = host.backup();
    let last = host.backup();
    fs::remove_dir_all(host.vault().snapshot(&middle)).unwrap();
    host.run(&["verify"]).exits(20).complains(&middle).complains("is gone").complains(&last);
    let (elsewhere, key) = (TestEnv::new(), host.signing_key());
    let ended = elsewhere.run(&["verify", "--vault", &host.vault().url(), "--signing-key", &key]).exits(20);
    assert!(ended.stderr.contains(&middle) && ended.stderr.contains("Hint:"), "{ended}");
}

#[test]
fn a_replaced_history_is_found_by_the_chain() {
    let host = Host::of_files();
    host.init();
    let first = host.backup();
    host.backup();
    // Whoever stole the signing key rewrites the first; the second still names what it followed.
    let other = text(&host.vault(), &first).replace("\"trigger\": \"manual\"", "\"trigger\": \"timer\"");
    sign(&host.vault(), &first, &other, &host.signer());
    host.run(&["verify"]).exits(20).complains("the chain is broken").complains(&first);
}

#[test]
fn a_newest_manifest_rewritten_with_the_stolen_key_is_found_on_the_node() {
    let host = Host::of_files();
    host.init();
    let id = host.backup();
    let other = text(&host.vault(), &id).replace("\"trigger\": \"manual\"", "\"trigger\": \"timer\"");
    sign(&host.vault(), &id, &other, &host.signer());
    host.run(&["verify"]).exits(20).complains("not the one that this host wrote");
}

#[test]
fn a_manifest_of_another_format_is_never_taken_though_the_hosts_key_signed_it() {
    let host = Host::of_files();
    host.init();
    let first = host.backup();
    let second = host.backup();
    let newer = text(&host.vault(), &second).replace("{\"format\": 1,", "{\"format\": 2,");
    sign(&host.vault(), &second, &newer, &host.signer());
    let told = "format 2, and this program reads format 1";
    host.run(&["verify"]).exits(20).complains(told).complains(&second).complains("newer relay-backup");
    host.run(&["show", "latest"]).exits(20).complains(told).complains("newer relay-backup");
    host.open(&["extract", "--artifact", "medusa/files.tar", "--to", "x.tar"]).exits(20).complains(told);
    host.run(&["list"]).exits(20).complains(told);
    host.open(&["extract", "--snapshot", &first, "--artifact", "medusa/files.tar", "--to", "x.tar"]).exits(0);
}

#[test]
fn a_vault_of_another_format_is_neither_read_nor_written() {
    let host = Host::of_files();
    host.init();
    host.backup();
    let json = host.vault().root.join("vault.json");
    let newer = fs::read_to_string(&json).unwrap().replace("\"format\":1", "\"format\":2");
    assert!(newer.contains("\"format\":2"));
    overwrite(&json, newer.as_bytes());
    let before = host.vault().files();
    for verb in [&["verify"][..], &["list"], &["show", "latest"], &["backup"], &["init"]] {
        let ended = host.run(verb);
        assert!(ended.code != Some(0) && ended.stderr.contains("format 2"), "{ended}");
    }
    assert_eq!(host.vault().files(), before);
}

#[test]
fn a_recipient_that_the_policy_does_not_name_is_found() {
    let mut host = Host::of_files();
    let stranger = host.env.identity("owner/stranger.key");
    host.recipients.push(stranger.recipient);
    host.write_policy();
    host.init();
    host.backup();
    host.recipients.pop();
    host.write_policy();
    host.run(&["verify"]).exits(20).complains("recipient").complains("the policy does not name").complains("rotate");
}

#[test]
fn what_a_thief_of_the_signing_key_calls_harmless_is_looked_at_before_it_is_given() {
    let bare = Bare::new();
    let honest = text(&bare.vault, bare.newest());
    let wallet = "\"cln/lightningd.sqlite3\", \"kind\": \"cln-wallet\", \"codec\": \"zstd\", \"toxic\": true";
    assert!(honest.contains(wallet), "{honest}");
    for lie in [
        // Notes and kind still tell.
        wallet.replace("true", "false"),
        wallet.replace("true", "false").replace("cln-wallet", "sqlite"),
        // Only the bytes do.
        wallet.replace("true", "false").replace("cln-wallet", "sqlite").replace("lightningd.sqlite3", "recipes"),
        wallet.replace("true", "false").replace("cln-wallet", "hsm-secret").replace("lightningd.sqlite3", "recipes"),
    ] {
        sign(&bare.vault, bare.newest(), &honest.replace(wallet, &lie), &whole().host.signer());
        let name = if lie.contains("recipes") { "cln/recipes" } else { "cln/lightningd.sqlite3" };
        let extract = |to: &str| bare.open(&["extract", "--artifact", name, "--to", to]);
        let to = bare.env.path("lightningd.sqlite3");
        let ended = extract(to.to_str().unwrap()).exits(21);
        ended.complains("refused by the guard stale").complains("does not say TOXIC in its name");
        assert!(!to.exists());
        let ended = extract("-").exits(21).complains("a pipe could end anywhere");
        assert!(ended.stdout_bytes.is_empty(), "{ended}");
        let to = bare.env.path("wallet.TOXIC");
        extract(to.to_str().unwrap()).exits(0).prints("It is TOXIC");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o400);
        fs::remove_file(&to).unwrap();
        fs::remove_file(bare.env.path("wallet.TOXIC.README.txt")).unwrap();
    }
}
