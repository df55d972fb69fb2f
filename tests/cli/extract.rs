//! `extract`: one artifact, never over another file, and a toxic one only where no node would start on it.

use crate::support::env::{Ended, TestEnv};
use crate::support::host::{WALLET, mode, whole};
use std::fs;
use std::path::Path;

fn extract(artifact: &str, to: &Path) -> Ended {
    whole().host.open(&["extract", "--artifact", artifact, "--to", to.to_str().unwrap()])
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The guard refuses, says the safe road, and nothing was written into the folder.
#[track_caller]
fn refused(ended: Ended, folder: &Path) -> Ended {
    let before = ["hsm_secret", "regtest"];
    let ended = ended.exits(21).complains("refused by the guard stale").complains("emergency.recover");
    assert!(names(folder).iter().all(|name| before.contains(&name.as_str())), "{:?}\n{ended}", names(folder));
    assert!(ended.stdout_bytes.is_empty(), "{ended}");
    ended
}

#[test]
fn a_toxic_artifact_never_goes_into_a_pipe() {
    let env = TestEnv::new();
    fs::create_dir(env.path("out")).unwrap();
    refused(extract(WALLET, Path::new("-")), &env.path("out")).complains("a pipe could end anywhere");
}

#[test]
fn a_toxic_artifact_needs_a_name_that_says_so() {
    let env = TestEnv::new();
    fs::create_dir(env.path("TOXIC-folder")).unwrap();
    for name in ["lightningd.sqlite3", "wallet.toxic"] {
        let to = env.path("TOXIC-folder").join(name);
        refused(extract(WALLET, &to), &env.path("TOXIC-folder")).complains("does not say TOXIC in its name");
    }
}

#[test]
fn a_toxic_artifact_never_goes_into_a_lightning_directory() {
    let env = TestEnv::new();
    env.write("node/regtest/hsm_secret", "x", 0o400);
    let inside = [env.path("node/regtest"), env.path("node")];
    for folder in inside {
        let ended = refused(extract(WALLET, &folder.join("lightningd.sqlite3.TOXIC")), &folder);
        assert!(ended.stderr.contains("looks like a lightning directory"), "{ended}");
    }
    // Nor by way of a link to one.
    std::os::unix::fs::symlink(env.path("node/regtest"), env.path("harmless")).unwrap();
    refused(extract(WALLET, &env.path("harmless/x.TOXIC")), &env.path("node/regtest"));
    // A folder inside one is inside one.
    fs::create_dir(env.path("node/regtest/sub")).unwrap();
    let ended = extract(WALLET, &env.path("node/regtest/sub/x.TOXIC")).exits(21);
    assert!(names(&env.path("node/regtest/sub")).is_empty(), "{ended}");
}

#[test]
fn a_toxic_artifact_never_goes_into_the_live_nodes_own_folder() {
    let host = &whole().host;
    let to = host.lightning("old.TOXIC");
    extract(WALLET, &to).exits(21);
    assert!(!to.exists());
}

#[test]
fn in_quarantine_a_toxic_artifact_is_read_only_and_explained() {
    let env = TestEnv::new();
    fs::create_dir(env.path("quarantine")).unwrap();
    let to = env.path("quarantine/lightningd.sqlite3.TOXIC");
    extract(WALLET, &to).exits(0).prints("never start a node on it");
    assert_eq!(mode(&to), 0o400);
    let text = fs::read_to_string(env.path("quarantine/lightningd.sqlite3.TOXIC.README.txt")).unwrap();
    for part in ["NEVER start lightningd", "emergencyrecover", &whole().second] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(names(&env.path("quarantine")).len(), 2);
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let env = TestEnv::new();
    for (artifact, name) in [("cln/hsm_secret", "secret"), (WALLET, "wallet.TOXIC")] {
        let to = env.write(name, "mine", 0o600);
        extract(artifact, &to).exits(21).complains("exists already").complains("Hint:");
        assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    }
    // A link that leads nowhere is something as well.
    std::os::unix::fs::symlink(env.path("nowhere"), env.path("link")).unwrap();
    extract("cln/hsm_secret", &env.path("link")).exits(21);
    assert!(!env.path("nowhere").exists());
}

#[test]
fn an_unknown_artifact_names_the_known_ones() {
    let env = TestEnv::new();
    let ended = extract("cln/hsm_secrets", &env.path("x")).exits(1).complains("has no artifact cln/hsm_secrets");
    for artifact in whole().host.vault().artifacts(&whole().second) {
        assert!(ended.stderr.contains(&artifact), "{artifact}\n{ended}");
    }
    assert!(!env.path("x").exists());
}

#[test]
fn an_unknown_snapshot_is_told() {
    let env = TestEnv::new();
    let to = env.path("x");
    let id = "20200101T000000Z-000001";
    let verb = ["extract", "--snapshot", id, "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()];
    whole().host.open(&verb).exits(1).complains(id).complains("local");
    whole().host.run(&["verify", "--snapshot", id]).exits(1).complains(id);
    whole().host.run(&["show", id]).exits(1).complains(id);
}

#[test]
fn a_pipe_gets_the_bytes_and_nothing_else() {
    let host = &whole().host;
    let ended = extract("cln/hsm_secret", Path::new("-")).exits(0);
    assert_eq!(ended.stdout_bytes, fs::read(host.lightning("hsm_secret")).unwrap());
    let tar = extract("medusa/files.tar", Path::new("-")).exits(0);
    assert_eq!(tar.stdout_bytes, host.extract("medusa/files.tar"));
}

#[test]
fn a_broken_pipe_is_no_panic_and_no_hang() {
    let (host, env) = (&whole().host, TestEnv::new());
    let line = format!(
        "{} --policy {} extract --artifact medusa/files.tar --to - --identity {} | head -c 100 | wc -c",
        env!("CARGO_BIN_EXE_relay-backup"),
        host.env.path("policy.toml").display(),
        host.identity()
    );
    let ended = env.program("sh").args(["-c", &line]).ends().exits(0).prints("100");
    ended.keeps_quiet_about("panicked");
    let list = format!(
        "{} --policy {} list | true",
        env!("CARGO_BIN_EXE_relay-backup"),
        host.env.path("policy.toml").display()
    );
    env.program("sh").args(["-c", &list]).ends().exits(0).keeps_quiet_about("panicked");
}

#[test]
fn a_folder_that_is_not_there_or_full_is_told() {
    let env = TestEnv::new();
    let to = env.path("no/such/folder/secret");
    extract("cln/hsm_secret", &to).exits(1).complains("no/such/folder");
}

#[test]
fn an_older_snapshots_artifact_is_given_when_asked_for() {
    let env = TestEnv::new();
    let to = env.path("x");
    let verb = ["extract", "--snapshot", &whole().first, "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()];
    whole().host.open(&verb).exits(0).prints(&whole().first);
}
