//! The failures that other tools pass over in silence: a dump that dies while the pipe succeeds, or that says nothing
//! and calls it success. Each fails the run, and nothing of it is a dump in any manifest.

use crate::support::env::Ended;
use crate::support::host::Host;
use crate::support::shop;
use relay_backup::sandbox::shop::Shop;
use std::collections::BTreeMap;
use std::fs;

/// A host whose databases were backed up once with the true `pg_dump`.
fn backed_up_once() -> Host {
    let host = Host::with_databases();
    host.init();
    host.backup();
    host
}

/// Puts a false `pg_dump` before the true one; `$real` is how the true one is called.
fn false_dump(host: &Host, script: &str) {
    let asked_for_its_version = "PATH=${PATH#*:}; case $* in *--version*) exec pg_dump --version ;; esac";
    host.env.fake("pg_dump", &format!("{asked_for_its_version}\n{script}"));
}

/// The run fails, no dump of this database is in the new manifest, and the older snapshot is as it was.
#[track_caller]
fn fails_without_a_dump(host: &Host) -> Ended {
    let vault = host.vault();
    let first = vault.newest();
    let before = contents(host, &first);
    let ended = host.run(&["backup"]).exits(1).prints("source btcpay").complains("btcpay");
    let second = vault.newest();
    assert_ne!(first, second, "the other sources are committed\n{ended}");
    let manifest = vault.manifest(&second);
    assert_eq!(manifest["complete"], false, "{ended}");
    for artifact in vault.artifacts(&second) {
        assert!(!artifact.ends_with(".dump"), "{artifact} is in the manifest\n{ended}");
    }
    assert!(vault.artifacts(&second).contains(&"cln/hsm_secret".to_owned()), "{ended}");
    assert_eq!(contents(host, &first), before, "the older snapshot was touched");
    host.run(&["show", "latest"]).exits(0).prints(&first);
    host.open(&["verify", "--depth", "opened", "--snapshot", &first]).exits(0);
    ended
}

fn contents(host: &Host, id: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = host.vault().snapshot(id);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn a_dump_that_dies_in_the_middle_fails_the_run() {
    let host = backed_up_once();
    false_dump(
        &host,
        "pg_dump \"$@\" | head -c 50000; echo 'pg_dump: error: server closed the connection' >&2; exit 1",
    );
    let ended = fails_without_a_dump(&host);
    assert!(ended.stderr.contains("server closed the connection"), "what it said is told\n{ended}");
}

#[test]
fn half_a_dump_that_is_called_a_success_fails_the_run() {
    let host = backed_up_once();
    false_dump(&host, "pg_dump \"$@\" | head -c 50000; exit 0");
    let ended = fails_without_a_dump(&host);
    assert!(ended.stderr.contains("not whole"), "{ended}");
}

#[test]
fn a_dump_without_its_last_byte_fails_the_run() {
    let host = backed_up_once();
    false_dump(&host, "pg_dump \"$@\" | head -c -1; exit 0");
    fails_without_a_dump(&host);
}

#[test]
fn a_zero_byte_dump_fails_the_run() {
    let host = backed_up_once();
    false_dump(&host, "exit 0");
    let ended = fails_without_a_dump(&host);
    assert!(ended.stderr.contains("Failed: btcpay"), "{ended}");
}

#[test]
fn a_whole_dump_of_a_program_that_failed_in_the_end_fails_the_run() {
    let host = backed_up_once();
    false_dump(&host, "pg_dump \"$@\"; exit 3");
    fails_without_a_dump(&host);
}

#[test]
fn a_dump_without_one_of_the_tables_fails_the_run() {
    let host = backed_up_once();
    false_dump(&host, "exec pg_dump --exclude-table='public.\"Invoices\"' \"$@\"");
    let ended = host.run(&["backup"]).exits(1);
    assert!(ended.stderr.contains("public.Invoices"), "the table is named\n{ended}");
    let newest = host.vault().newest();
    assert!(!host.vault().artifacts(&newest).contains(&"btcpay/btcpaydb.dump".to_owned()), "{ended}");
}

#[test]
fn a_dump_in_another_form_fails_the_run() {
    let host = backed_up_once();
    false_dump(&host, "echo '-- PostgreSQL database dump'; echo 'SELECT 1;'; exit 0");
    fails_without_a_dump(&host);
}

#[test]
fn a_dump_that_is_killed_fails_the_run() {
    let host = backed_up_once();
    false_dump(&host, "pg_dump \"$@\" | head -c 50000; kill -9 $$");
    let ended = fails_without_a_dump(&host);
    assert!(ended.stderr.contains("signal 9"), "{ended}");
}

#[test]
fn a_missing_dump_program_fails_the_run_before_anything_is_read() {
    let host = backed_up_once();
    host.env.fake("pg_dump", "exit 127");
    let ended = fails_without_a_dump(&host);
    assert!(ended.stderr.contains("pg_dump"), "{ended}");
}

#[test]
fn an_empty_list_of_roles_fails_the_run() {
    let host = backed_up_once();
    let version = "PATH=${PATH#*:}; case $* in *--version*) exec pg_dumpall --version ;; esac";
    host.env.fake("pg_dumpall", &format!("{version}\nexit 0"));
    let ended = host.run(&["backup"]).exits(1).complains("roles");
    let newest = host.vault().newest();
    assert!(!host.vault().artifacts(&newest).contains(&"btcpay/globals.sql".to_owned()), "{ended}");
}

#[test]
fn a_server_that_goes_away_in_the_middle_fails_the_run() {
    let mut host = Host::of_files();
    let cluster = shop::cluster();
    cluster.create_plain_database("goes_away").unwrap();
    cluster
        .execute("goes_away", "CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 1000) i")
        .unwrap();
    host.add_postgres(&cluster.url("postgres"), "\"goes_away\"");
    host.init();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'goes_away'";
    let script = format!("psql -qXtc \"{kill}\" '{}' >/dev/null; exec pg_dump \"$@\"", cluster.url("postgres"));
    false_dump(&host, &script);
    let ended = host.run(&["backup"]).exits(1);
    let newest = host.vault().newest();
    assert_eq!(host.vault().artifacts(&newest), ["medusa/files.tar", "btcpay/globals.sql"], "{ended}");
}

#[test]
fn two_databases_fail_by_themselves() {
    let host = backed_up_once();
    false_dump(&host, &format!("case $* in *{}*) exit 1 ;; esac; exec pg_dump \"$@\"", Shop::NBXPLORER));
    let ended = host.run(&["backup"]).exits(1).complains(Shop::NBXPLORER);
    let newest = host.vault().newest();
    let artifacts = host.vault().artifacts(&newest);
    assert!(!artifacts.contains(&"btcpay/nbxplorer.dump".to_owned()), "{ended}");
    assert_eq!(host.vault().manifest(&newest)["complete"], false);
}
