//! A machine that knows nothing: no policy, no state, no catalog. A vault, a signing key and an identity are enough;
//! without the key nothing is believed.

use crate::support::env::TestEnv;
use crate::support::host::{Bare, Host, NODE, whole};
use relay_backup::seal::sign::SigningKey;
use std::fs;

#[test]
fn everything_is_read_with_a_vault_a_key_and_an_identity() {
    let bare = Bare::new();
    bare.run(&["list"]).exits(0).prints(&whole().first).prints(&whole().second);
    bare.open(&["show", "latest"]).exits(0).prints("rpo = \"26h\"");
    let verify = bare.open(&["verify", "--depth", "meaning", "--snapshot", "all"]).exits(0);
    assert_eq!(verify.stdout.matches("restored and equal").count(), 4, "{verify}");
    assert!(verify.stdout.contains("n/a     recipients as pinned"), "what does not apply is said\n{verify}");
    let to = bare.env.path("hsm_secret");
    bare.open(&["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()]).exits(0);
    assert_eq!(fs::read(to).unwrap(), fs::read(whole().host.lightning("hsm_secret")).unwrap());
}

#[test]
fn the_key_may_be_given_as_a_file() {
    let bare = Bare::new();
    let key = bare.env.write("host.pub", whole().host.signer().public().to_file(), 0o644);
    let ended = bare.env.run(&["list", "--vault", &bare.vault.url(), "--signing-key", key.to_str().unwrap()]);
    ended.exits(0).prints(&whole().second);
}

#[test]
fn without_a_key_nothing_is_believed_and_the_vaults_own_is_shown_to_compare() {
    let bare = Bare::new();
    for verb in [&["list"][..], &["show", "latest"], &["verify"]] {
        let ended = bare.env.run(&[verb, &["--vault", &bare.vault.url()]].concat()).exits(2);
        let key = whole().host.signing_key();
        assert!(ended.stderr.contains(&key) && ended.stderr.contains("recovery kit"), "{ended}");
        assert!(ended.stderr.contains("--signing-key") && !ended.stdout.contains(&whole().second), "{ended}");
    }
}

#[test]
fn a_wrong_key_is_damage() {
    let bare = Bare::new();
    let (stranger, _) = SigningKey::generate().unwrap();
    let key = stranger.public().to_base64();
    for verb in [&["list"][..], &["show", "latest"], &["verify"]] {
        let ended = bare.env.run(&[verb, &["--vault", &bare.vault.url(), "--signing-key", &key]].concat()).exits(20);
        assert!(ended.stderr.contains(&whole().second) && ended.stderr.contains("nobody pinned"), "{ended}");
    }
}

#[test]
fn something_that_is_no_key_is_refused() {
    let bare = Bare::new();
    let ended = bare.env.run(&["list", "--vault", &bare.vault.url(), "--signing-key", "RWnonsense"]);
    assert!(ended.code != Some(0) && ended.stderr.contains("RWnonsense"), "{ended}");
    assert!(ended.stderr.contains("minisign public key"), "{ended}");
}

#[test]
fn a_place_without_a_vault_is_told_from_an_empty_one() {
    let env = TestEnv::new();
    let url = format!("fs://{}", env.path("nothing").display());
    let key = whole().host.signing_key();
    env.run(&["list", "--vault", &url, "--signing-key", &key])
        .exits(10)
        .complains("there is no vault")
        .complains("Hint:");
    let host = Host::of_files();
    host.init();
    host.run(&["list"]).exits(0).prints("No snapshots of node");
    host.open(&["show", "latest"]).exits(1).complains("no complete snapshot").complains(NODE);
    host.run(&["verify"]).exits(23).complains("relay-backup backup");
}

#[test]
fn a_vault_of_several_nodes_asks_which() {
    let bare = Bare::new();
    fs::create_dir_all(bare.vault.root.join("nodes/other/snapshots")).unwrap();
    bare.run(&["list"]).exits(2).complains("--node").complains(NODE).complains("other");
    bare.run(&["list", "--node", NODE]).exits(0).prints(&whole().second);
    bare.run(&["list", "--all-nodes"]).exits(0).prints(&whole().second).prints("No snapshots of node other");
}

#[test]
fn without_policy_and_vault_it_says_what_is_missing() {
    let env = TestEnv::new();
    let ended = env.run(&["list"]).exits(2);
    assert!(ended.stderr.contains("/etc/relay-backup/policy.toml"), "{ended}");
}

#[test]
fn a_vault_of_the_policy_goes_by_its_name_and_an_unknown_one_is_told_from_the_known() {
    let host = &whole().host;
    host.run(&["list", "--vault", "local"]).exits(0).prints(&whole().second);
    host.run(&["list", "--vault", "lokal"]).exits(2).complains("no vault \"lokal\"").complains("local");
    host.run(&["list", "--vault", "ftp://example.org/x"]).exits(2).complains("--vault");
}

#[test]
fn a_machine_that_knows_nothing_is_told_what_to_give() {
    let env = TestEnv::new();
    for arguments in
        [&["restore"][..], &["restore", "--scenario", "server-loss"], &["list"], &["restore", "--vault", "offsite"]]
    {
        env.run(arguments).exits(2).complains("--vault URL --signing-key KEY").complains("--policy FILE");
    }
    let nothing = format!("fs://{}", env.path("nothing").display());
    let key = whole().host.signing_key();
    env.run(&["restore", "--vault", &nothing, "--signing-key", &key])
        .exits(10)
        .complains(&format!("there is no vault at {nothing}"));
}

#[test]
fn a_root_that_is_the_machine_itself_is_no_place_for_a_try() {
    let bare = Bare::new();
    let ended = bare.open(&["restore", "--scenario", "server-loss", "--root", "/..", "--yes"]);
    ended.exits(2).complains("--root /.. is this machine's own /");
}
