//! Sources that are missing, stopped, unreadable or left out: the run fails or is not complete, and says of what.

use crate::support::closing;
use crate::support::env::Ended;
use crate::support::host::{Host, noise};
use crate::support::shop;
use relay_backup::sandbox::shop::Shop;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The user that an unprivileged program runs as here.
const NOBODY: u32 = 65534;

/// A backup in which the source at this place of the policy fails and the others are committed.
#[track_caller]
fn fails_only(host: &Host, place: usize) -> (Ended, String) {
    let ended = host.run(&["backup"]).exits(1).prints("NOT COMPLETE");
    let id = host.vault().newest();
    let manifest = host.vault().manifest(&id);
    for (index, source) in manifest["sources"].as_array().unwrap().iter().enumerate() {
        assert_eq!(source["ok"], index != place, "{ended}");
    }
    (ended, id)
}

#[test]
fn a_missing_source_fails_the_run() {
    let mut host = Host::of_files();
    let gone = host.env.path("gone");
    host.sources.push(("spare".into(), format!("kind = \"files\"\npaths = [\"{}\"]", gone.display())));
    host.write_policy();
    host.init();
    let (ended, id) = fails_only(&host, 1);
    assert!(ended.stderr.contains(&format!("{} does not exist", gone.display())), "{ended}");
    assert!(ended.stderr.contains("remove it from paths"), "{ended}");
    assert_eq!(host.vault().artifacts(&id), ["medusa/files.tar"]);
}

#[test]
fn unreadable_files_fail_the_run() {
    let host = Host::of_files();
    let secret = host.env.path("medusa/.env");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything: hand the host to somebody who does not.
    let is_root = rustix::process::geteuid().is_root();
    let program = host.env.path("relay-backup");
    closing::write_program(&program, &fs::read(env!("CARGO_BIN_EXE_relay-backup")).unwrap(), 0o755);
    if is_root {
        let all = host.env.path("home").parent().unwrap().to_owned();
        host.env.program("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(all).ends().exits(0);
        host.env.program("chown").arg("0:0").arg(&secret).ends().exits(0);
    }
    let policy = host.env.path("policy.toml");
    let run = |verb: &str| {
        let run = host.env.program(&program).arg("--policy").arg(&policy).arg(verb);
        if is_root { run.user(NOBODY, NOBODY).ends() } else { run.ends() }
    };
    run("init").exits(0);
    let ended =
        run("backup").exits(1).complains("medusa/.env").complains("Permission denied").complains("let the agent");
    assert!(host.vault().snapshots().is_empty(), "nothing was read, so nothing was made\n{ended}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    run("backup").exits(0);
}

#[test]
fn when_all_sources_fail_there_is_no_snapshot() {
    let host = Host::of_files();
    host.init();
    let good = host.backup();
    fs::rename(host.env.path("medusa"), host.env.path("moved")).unwrap();
    host.run(&["backup"]).exits(1).prints("No snapshot of node").complains("no snapshot was made");
    assert_eq!(host.vault().snapshots(), [good]);
}

#[test]
fn a_stopped_server_fails_the_source() {
    let mut host = Host::of_files();
    let socket = host.env.path("pg");
    fs::create_dir(&socket).unwrap();
    host.add_postgres(&format!("postgresql://postgres@/postgres?host={}", socket.display()), "\"btcpaydb\"");
    host.init();
    let (ended, id) = fails_only(&host, 1);
    assert!(ended.stderr.contains("cannot connect to database") && ended.stderr.contains("PostgreSQL runs"), "{ended}");
    assert_eq!(host.vault().artifacts(&id), ["medusa/files.tar"]);
}

#[test]
fn a_missing_database_fails_the_source() {
    let mut host = Host::of_files();
    host.add_postgres(&shop::cluster().url("postgres"), &format!("\"{}\", \"btcpay-db\"", Shop::NBXPLORER));
    host.init();
    let (ended, _) = fails_only(&host, 1);
    assert!(ended.stderr.contains("there is no database btcpay-db"), "{ended}");
}

#[test]
fn a_password_in_the_url_is_refused_and_never_printed() {
    let mut host = Host::of_files();
    host.add_postgres("postgresql://btcpay:hunter2secret@/postgres?host=/run/postgresql", "\"btcpaydb\"");
    for verb in [&["policy", "check"][..], &["init"], &["backup"]] {
        let ended = host.run(verb);
        assert!(ended.code != Some(0), "{ended}");
        ended.keeps_quiet_about("hunter2secret").complains("pass");
    }
}

#[test]
fn a_stale_exclude_is_told() {
    let mut host = Host::of_files();
    let stale = host.env.path("medusa/cache-that-was-renamed");
    host.sources[0].1 += &format!("\nexclude = [\"{}\"]", stale.display());
    host.write_policy();
    host.init();
    let ended = host.run(&["backup"]);
    assert!(ended.stderr.contains("cache-that-was-renamed") && ended.stderr.contains("matches nothing"), "{ended}");
    assert_eq!(ended.code, Some(3), "{ended}");
}

#[test]
fn an_exclude_leaves_out_what_it_names_and_nothing_else() {
    let mut host = Host::of_files();
    host.sources[0].1 += &format!("\nexclude = [\"{}\"]", host.env.path("medusa/uploads").display());
    host.write_policy();
    host.init();
    host.backup();
    let tar = host.env.write("files.tar", host.extract("medusa/files.tar"), 0o600);
    let list = host.env.program("tar").arg("-tf").arg(tar).ends().exits(0);
    assert!(!list.stdout.contains("uploads/archive") && list.stdout.contains("medusa/.env"), "{list}");
}

#[test]
fn a_channel_database_among_files_fails_the_source() {
    let mut host = Host::new();
    host.sources.remove(0);
    host.sources
        .push(("node".into(), format!("kind = \"files\"\npaths = [\"{}\"]", host.env.path("lightning").display())));
    host.write_policy();
    host.init();
    let (ended, id) = fails_only(&host, 1);
    assert!(ended.stderr.contains("lightningd.sqlite3") && ended.stderr.contains("can lose every channel"), "{ended}");
    assert_eq!(host.vault().artifacts(&id), ["medusa/files.tar"]);
}

#[test]
fn only_some_sources_make_a_snapshot_that_is_not_complete() {
    let host = Host::new();
    host.init();
    let whole = host.backup();
    host.run(&["backup", "--only", "medusa"]).exits(0).prints("NOT COMPLETE");
    let id = host.vault().newest();
    assert_eq!(host.vault().artifacts(&id), ["medusa/files.tar"]);
    host.run(&["show", "latest"]).exits(0).prints(&whole);
    host.run(&["backup", "--only", "medusa", "cln"]).exits(0);
    assert_eq!(host.vault().manifest(&host.vault().newest())["complete"], true);
    host.run(&["backup", "--only", "medusaa"]).exits(2).complains("\"medusaa\"").complains("cln, medusa");
}

#[test]
fn a_sqlite_source_comes_back_row_for_row() {
    let mut host = Host::of_files();
    let file = host.env.path("notes.sqlite3");
    let sql = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes (text) VALUES ('a'), ('b')";
    host.env.program("sqlite3").arg(&file).arg(sql).ends().exits(0);
    host.sources.push(("notes".into(), format!("kind = \"sqlite\"\npath = \"{}\"", file.display())));
    host.write_policy();
    host.init();
    let id = host.backup();
    let artifacts = host.vault().artifacts(&id);
    let name = artifacts.iter().find(|name| name.starts_with("notes/")).unwrap();
    let copy = host.env.write("copy.sqlite3", host.extract(name), 0o600);
    let dump = |file: &std::path::Path| host.env.program("sqlite3").arg(file).arg(".dump").ends().exits(0).stdout;
    assert_eq!(dump(&copy), dump(&file));
    host.open(&["verify", "--depth", "meaning"]).exits(0);
}

#[test]
fn a_host_that_was_never_set_up_says_so() {
    let host = Host::of_files();
    host.run(&["backup"]).exits(1).complains("not set up").complains("relay-backup init");
    host.run(&["rotate"]).exits(1).complains("relay-backup init");
    host.run(&["catalog", "rebuild"]).exits(1).complains("relay-backup init");
}

#[test]
fn a_state_of_another_node_is_refused() {
    let host = Host::of_files();
    host.init();
    let other = host.policy_text().replace("shops-btc-01", "shops-btc-02");
    host.env.policy(&other);
    host.run(&["backup"]).exits(1).complains("shops-btc-01").complains("shops-btc-02").complains("Hint:");
}

#[test]
fn a_vault_that_is_gone_leaves_the_other_whole() {
    let mut host = Host::of_files();
    host.vaults.push("second".into());
    host.write_policy();
    host.init();
    let (one, two) = (host.vault(), host.vault_named("second"));
    fs::rename(&two.root, host.env.path("unmounted")).unwrap();
    let ended = host.run(&["backup"]).exits(3).complains("second").complains("there is no vault").complains("Hint:");
    assert!(one.snapshots().len() == 1 && !two.root.exists(), "{ended}");
    host.run(&["verify"]).exits(3).complains("second");
    fs::rename(host.env.path("unmounted"), &two.root).unwrap();
    host.run(&["verify"]).complains("vault-behind").complains("second");
    host.run(&["backup"]).exits(0);
    assert_eq!(two.snapshots().len(), 1);
    host.open(&["verify", "--depth", "opened", "--vault", "second"]).exits(0);
}

#[test]
fn too_few_copies_fail_the_run() {
    let mut host = Host::of_files();
    host.vaults.push("second".into());
    host.more = "[backup]\ncopies_required = 2\n".into();
    host.write_policy();
    host.init();
    fs::rename(host.vault_named("second").root, host.env.path("unmounted")).unwrap();
    host.run(&["backup"]).exits(1).complains("1 of the 2 copies required were written").complains("Hint:");
}

#[test]
fn damage_in_one_vault_is_healed_from_the_other_when_reading() {
    let mut host = Host::of_files();
    host.vaults.push("second".into());
    host.env.write("medusa/more.bin", noise(700_000), 0o600);
    host.write_policy();
    host.init();
    let id = host.backup();
    let object = host.vault().objects_of(&id, "medusa/files.tar").remove(0);
    crate::support::vault::flip_bit(&host.vault().object(&object));
    let ended = host.run(&["verify", "--depth", "sealed"]).exits(20).complains("local").complains(&object);
    assert!(ended.stdout.contains(&format!("all of {id} from vault second")), "{ended}");
    assert!(!host.extract("medusa/files.tar").is_empty());
}
