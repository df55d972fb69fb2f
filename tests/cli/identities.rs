//! Whose key opens, in every form a key can have, and what is said when it does not.

use crate::support::env::{Ended, TestEnv};
use crate::support::host::{Bare, Host, mode, whole};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn show(host: &Host, identity: &Path) -> Ended {
    host.run(&["show", "latest", "--identity", identity.to_str().unwrap()])
}

/// A host of files that is backed up for these recipients.
fn backed_up_for(recipients: &[&str]) -> Host {
    let mut host = Host::of_files();
    host.recipients = recipients.iter().map(|&recipient| recipient.to_owned()).collect();
    host.write_policy();
    host.init();
    host.backup();
    host
}

#[test]
fn keygen_makes_a_key_that_only_its_owner_reads_and_never_overwrites_one() {
    let env = TestEnv::new();
    let file = env.path("recovery.key");
    let made = env.run(&["keygen", "--out", file.to_str().unwrap()]).exits(0);
    let text = fs::read_to_string(&file).unwrap();
    let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let made = made.keeps_quiet_about(secret);
    let stock = env.program("age-keygen").arg("-y").arg(&file).ends().exits(0);
    assert!(made.stdout.contains(stock.stdout.trim()), "{made}");
    assert_eq!(mode(&file), 0o600);
    env.run(&["keygen", "--out", file.to_str().unwrap()]).exits(1).complains("recovery.key");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    env.run(&["keygen"]).exits(0).prints("AGE-SECRET-KEY-1");
}

#[test]
fn a_wrong_identity_exits_12_at_every_verb_that_opens() {
    let (host, env) = (&whole().host, TestEnv::new());
    let stranger = env.identity("stranger.key");
    let key = stranger.file.to_str().unwrap();
    let to = env.path("out");
    let verbs: [&[&str]; 4] = [
        &["show", "latest"],
        &["verify", "--depth", "opened"],
        &["verify", "--depth", "meaning"],
        &["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()],
    ];
    for verb in verbs {
        let ended = host.run(&[verb, &["--identity", key]].concat()).exits(12);
        assert!(ended.stderr.contains("epoch") && ended.stderr.contains("Hint:"), "{ended}");
    }
    assert!(!to.exists());
}

#[test]
fn no_identity_exits_2_where_one_is_needed() {
    let (host, env) = (&whole().host, TestEnv::new());
    let to = env.path("out");
    let verbs: [&[&str]; 3] = [
        &["verify", "--depth", "opened"],
        &["verify", "--depth", "meaning"],
        &["extract", "--artifact", "cln/hsm_secret", "--to", to.to_str().unwrap()],
    ];
    for verb in verbs {
        host.run(verb).exits(2).complains("needs an identity").complains("RELAY_BACKUP_IDENTITY_FILE");
    }
    assert!(!to.exists());
}

#[test]
fn an_identity_may_be_named_by_the_environment_or_come_on_standard_input() {
    let host = &whole().host;
    host.command(&["show", "latest"])
        .env("RELAY_BACKUP_IDENTITY_FILE", host.identity())
        .ends()
        .exits(0)
        .prints("policy:");
    let key = fs::read(host.identity()).unwrap();
    host.command(&["show", "latest", "--identity", "-"]).stdin(key).ends().exits(0).prints("policy:");
}

#[test]
fn an_identity_that_others_can_read_is_refused_with_the_chmod() {
    let (host, env) = (&whole().host, TestEnv::new());
    let file = env.write("open.key", fs::read(host.identity()).unwrap(), 0o644);
    let chmod = format!("chmod 0600 {}", file.display());
    show(host, &file).exits(2).complains("can be read by others").complains(&chmod);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    show(host, &file).exits(0);
}

#[test]
fn a_missing_identity_file_is_named() {
    let host = &whole().host;
    let ended = show(host, Path::new("/nonexistent/recovery.key"));
    assert!(ended.code != Some(0) && ended.stderr.contains("/nonexistent/recovery.key"), "{ended}");
}

#[test]
fn what_is_no_identity_is_refused_and_never_quoted() {
    let (host, env) = (&whole().host, TestEnv::new());
    for text in [
        "AGE-SECRET-KEY-1NOTREALLYONE",
        "# nothing\n",
        "",
        "hush-hush",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nhush-hush",
    ] {
        let file = env.write("bad.key", text, 0o600);
        let ended = show(host, &file).exits(2).complains("bad.key");
        ended.keeps_quiet_about("NOTREALLY").keeps_quiet_about("hush-hush").keeps_quiet_about("panicked");
    }
}

#[test]
fn a_passphrase_without_a_terminal_is_a_clear_error_and_no_hang() {
    let (host, env) = (&whole().host, TestEnv::new());
    // Sealed to a passphrase by the format's own library, because stock age asks a terminal for it.
    let key = fs::read(host.identity()).unwrap();
    let sealed = age::encrypt(&age::scrypt::Recipient::new("correct horse".to_owned().into()), &key).unwrap();
    let file = env.write("locked.key", sealed, 0o600);
    // `setsid` takes the terminal away, should the tester have one.
    let program = env!("CARGO_BIN_EXE_relay-backup");
    let policy = host.env.path("policy.toml");
    let run = env.program("setsid").args(["-w", program, "--policy"]).arg(&policy);
    let ended = run.args(["show", "latest", "--identity"]).arg(&file).patience(Duration::from_secs(60)).ends();
    assert!(ended.code == Some(2), "{ended}");
    ended.complains("locked.key").complains("passphrase").keeps_quiet_about("panicked");
}

#[test]
fn a_passphrase_is_asked_for_by_pinentry_where_there_is_one() {
    let (host, env) = (&whole().host, TestEnv::new());
    let key = fs::read(host.identity()).unwrap();
    let sealed = age::encrypt(&age::scrypt::Recipient::new("correct horse".to_owned().into()), &key).unwrap();
    let file = env.write("locked.key", sealed, 0o600);
    for (typed, opens) in [("correct horse", true), ("wrong horse", false)] {
        // The protocol that the program's makers published: a line in, data and OK out.
        let answers =
            format!("case $command in GETPIN) echo 'D {typed}' ;; esac; echo OK; [ \"$command\" != BYE ] || exit 0");
        env.fake("pinentry", &format!("echo OK; while read -r command rest; do {answers}; done"));
        let program = env!("CARGO_BIN_EXE_relay-backup");
        let run = env.program("setsid").args(["-w", program, "--policy"]).arg(host.env.path("policy.toml"));
        let ended = run.args(["show", "latest", "--identity"]).arg(&file).patience(Duration::from_secs(60)).ends();
        assert_eq!(ended.stdout.contains("policy:"), opens, "{ended}");
        assert_eq!(ended.code, Some(if opens { 0 } else { 2 }), "{ended}");
        ended.keeps_quiet_about(typed);
    }
}

#[test]
fn an_ssh_key_is_a_recipient_and_an_identity() {
    let public = fs::read_to_string("tests/fixtures/ssh/id_ed25519.pub").unwrap();
    let host = backed_up_for(&[public.trim()]);
    let key = host.env.write("id_ed25519", fs::read("tests/fixtures/ssh/id_ed25519").unwrap(), 0o600);
    show(&host, &key).exits(0).prints("policy:");
    host.run(&["verify", "--depth", "opened", "--identity", key.to_str().unwrap()]).exits(0);
    host.open(&["show", "latest"]).exits(12);
}

#[test]
fn each_of_several_recipients_opens_alone() {
    let env = TestEnv::new();
    let (one, two) = (env.identity("one.key"), env.identity("two.key"));
    let ssh = fs::read_to_string("tests/fixtures/ssh/id_ed25519.pub").unwrap();
    let host = backed_up_for(&[&one.recipient, &two.recipient, ssh.trim()]);
    let ssh = env.write("id_ed25519", fs::read("tests/fixtures/ssh/id_ed25519").unwrap(), 0o600);
    for key in [&one.file, &two.file, &ssh] {
        host.run(&["verify", "--depth", "opened", "--identity", key.to_str().unwrap()]).exits(0);
    }
    host.open(&["show", "latest"]).exits(12);
}

#[test]
fn one_file_with_several_identities_opens_when_one_fits() {
    let (bare, host) = (Bare::new(), &whole().host);
    let stranger = bare.env.identity("stranger.key");
    let mut both = fs::read(stranger.file).unwrap();
    both.extend(fs::read(host.identity()).unwrap());
    let both = bare.env.write("both.key", both, 0o600);
    show(host, &both).exits(0).prints("policy:");
}

#[test]
fn a_recipient_whose_plugin_is_missing_is_found_before_anything_is_sealed() {
    let mut host = Host::of_files();
    let plugin = "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t";
    host.recipients.push(plugin.into());
    host.write_policy();
    for verb in [&["policy", "check"][..], &["init"]] {
        host.run(verb).exits(2).complains("age-plugin-yubikey").complains(plugin);
    }
    assert!(!host.state().join("host.json").exists() && !host.vault().root.exists());
}

#[test]
fn recipients_that_are_none_are_refused_by_policy_check() {
    for bad in [
        "age1nonsense",
        "ssh-rsa AAAAB3NzaC1yc2E",
        "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
    ] {
        let mut host = Host::of_files();
        host.recipients = vec![bad.into()];
        host.write_policy();
        let ended = host.run(&["policy", "check"]).exits(2);
        if bad.starts_with("AGE-SECRET") {
            ended.keeps_quiet_about("1QQQQ");
        } else {
            ended.complains("[keys] recipients").complains("Hint:");
        }
    }
}
