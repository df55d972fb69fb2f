//! What can happen to a Lightning node's files, and that each of it is an exit code, a sentence and a remedy, while the
//! rest is backed up all the same.

use crate::support::env::Ended;
use crate::support::host::{Host, NODE, WALLET};
use std::fs;
use std::path::Path;

fn set_up() -> Host {
    let host = Host::new();
    host.init();
    host
}

/// A backup that fails and yet commits what it could; gives how it ended and the snapshot.
#[track_caller]
fn backs_up_the_rest(host: &Host) -> (Ended, String) {
    let before = host.vault().snapshots();
    let ended = host.run(&["backup"]).exits(1).prints("NOT COMPLETE").prints("source cln").complains("Hint:");
    let snapshots = host.vault().snapshots();
    assert_eq!(snapshots.len(), before.len() + 1, "{ended}");
    let id = host.vault().newest();
    let manifest = host.vault().manifest(&id);
    assert_eq!(manifest["complete"], false);
    assert_eq!(manifest["sources"][0]["ok"], false);
    assert_eq!(manifest["sources"][1]["ok"], true);
    assert!(host.vault().artifacts(&id).contains(&"medusa/files.tar".to_owned()), "{ended}");
    (ended, id)
}

/// Another valid secret: a raw one.
fn other_secret() -> Vec<u8> {
    fs::read("tests/fixtures/cln/hsm_secret/raw32.hsm_secret").unwrap()
}

#[test]
fn a_missing_lightning_folder_fails_the_source_and_no_other() {
    let host = set_up();
    fs::rename(host.env.path("lightning"), host.env.path("moved")).unwrap();
    let (ended, id) = backs_up_the_rest(&host);
    let path = host.env.path("lightning/regtest").display().to_string();
    assert!(ended.stderr.contains(&path) && ended.stderr.contains("set lightning_dir"), "{ended}");
    assert_eq!(host.vault().artifacts(&id), ["medusa/files.tar"]);
}

#[test]
fn a_changed_secret_is_loud_and_the_attested_one_stays() {
    let host = set_up();
    let good = host.backup();
    let attested = host.vault().manifest(&good)["attested"].clone();
    host.replace("hsm_secret", other_secret());
    let (ended, id) = backs_up_the_rest(&host);
    let ended = ended.complains("hsm_secret is not the attested one").complains("relay-backup attest cln");
    let node = "037c0ac3be7b74b0d720936d0db9f51db75c05604a578e676515973a877d2e2ba7";
    assert!(ended.stderr.contains(node), "the node it was is named\n{ended}");
    let artifacts = host.vault().artifacts(&id);
    assert!(!artifacts.contains(&"cln/hsm_secret".to_owned()), "the new one is not taken: {artifacts:?}");
    assert!(artifacts.contains(&"cln/hsm_secret.unattested".to_owned()), "and not lost: {artifacts:?}");
    assert_eq!(host.vault().manifest(&id)["attested"], attested);

    // What `latest` gives is the old one still.
    host.run(&["show", "latest"]).exits(0).prints(&good);
    let live = fs::read("tests/fixtures/cln/node/hsm_secret").unwrap();
    assert_eq!(host.extract("cln/hsm_secret"), live);
}

#[test]
fn verify_on_the_node_sees_that_the_secret_changed() {
    let host = set_up();
    host.backup();
    host.replace("hsm_secret", other_secret());
    host.run(&["verify"]).exits(1).complains("is not the one that was attested").complains("relay-backup attest cln");
}

#[test]
fn an_accepted_secret_is_taken_by_the_next_run() {
    let host = set_up();
    host.backup();
    host.run(&["attest"]).exits(0).prints("was attested already");
    // A new node: another secret and an empty database of its own.
    host.replace("hsm_secret", other_secret());
    host.run(&["backup"]).exits(1);
    host.run(&["attest", "cln"]).exits(0).prints("is now attested");
    fs::remove_file(host.lightning("emergency.recover")).unwrap();
    let ended = host.run(&["backup"]).exits(1);
    assert!(!ended.stderr.contains("hsm-secret-changed"), "{ended}");
    let id = host.vault().newest();
    assert!(host.vault().artifacts(&id).contains(&"cln/hsm_secret".to_owned()), "{ended}");
}

#[test]
fn a_secret_that_came_back_after_a_mistake_needs_no_attest() {
    let host = set_up();
    host.backup();
    let good = fs::read(host.lightning("hsm_secret")).unwrap();
    host.replace("hsm_secret", other_secret());
    host.run(&["backup"]).exits(1);
    host.replace("hsm_secret", good);
    host.backup();
    host.run(&["verify"]).exits(0);
}

#[test]
fn attest_of_what_is_no_node_is_refused() {
    let host = set_up();
    host.run(&["attest", "medusa"]).exits(2).complains("medusa is a files source");
    host.run(&["attest", "clm"]).exits(2).complains("\"clm\"").complains("cln");
    fs::remove_file(host.lightning("hsm_secret")).unwrap();
    host.run(&["attest"]).exits(1).complains("hsm_secret");
}

#[test]
fn a_disappeared_secret_is_loud_and_the_old_one_is_there() {
    let host = set_up();
    host.backup();
    fs::remove_file(host.lightning("hsm_secret")).unwrap();
    let (ended, id) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("hsm-secret-missing") && ended.stderr.contains("do not start lightningd"), "{ended}");
    assert!(!host.vault().artifacts(&id).iter().any(|artifact| artifact.contains("hsm_secret")));
    host.run(&["verify"]).exits(1).complains("hsm_secret");
    assert_eq!(host.extract("cln/hsm_secret"), fs::read("tests/fixtures/cln/node/hsm_secret").unwrap());
}

#[test]
fn a_host_that_lost_its_state_still_knows_the_attested_secret() {
    let host = set_up();
    host.backup();
    fs::rename(host.state(), host.env.path("old-state")).unwrap();
    let old_key = relay_backup::seal::sign::SigningKey::read(&host.env.path("old-state/signing.key")).unwrap();
    let pin = format!("[[keys.trusted]]\nrole = \"node\"\nkey = \"{}\"\n", old_key.public().to_base64());
    let mut host = host;
    host.more = pin;
    host.write_policy();
    host.init();
    host.replace("hsm_secret", other_secret());
    let (ended, id) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("hsm_secret is not the attested one"), "{ended}");
    assert!(!host.vault().artifacts(&id).contains(&"cln/hsm_secret".to_owned()));
}

#[test]
fn a_secret_of_another_node_than_the_wallets_is_never_attested() {
    let host = set_up();
    host.replace("hsm_secret", other_secret());
    let (ended, id) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("node-id-mismatch") && ended.stderr.contains("lightningd will not start"), "{ended}");
    assert_eq!(host.vault().manifest(&id)["attested"], serde_json::json!([]));
    assert!(!host.vault().artifacts(&id).contains(&"cln/hsm_secret".to_owned()));
}

#[test]
fn an_empty_recovery_file_fails_the_source() {
    let host = set_up();
    host.replace("emergency.recover", "");
    let (ended, id) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("scb-empty") && ended.stderr.contains("chanbackup"), "{ended}");
    assert!(host.vault().artifacts(&id).contains(&"cln/hsm_secret".to_owned()), "the secret is backed up all the same");
}

#[test]
fn a_recovery_file_that_does_not_open_fails_the_source() {
    let host = set_up();
    let mut bytes = fs::read(host.lightning("emergency.recover")).unwrap();
    bytes[100] ^= 1;
    host.replace("emergency.recover", bytes);
    let (ended, _) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("scb-undecryptable") && ended.stderr.contains("emergency.recover"), "{ended}");
}

#[test]
fn a_recovery_file_of_an_earlier_time_fails_the_source() {
    let host = set_up();
    host.replace("emergency.recover", fs::read("tests/fixtures/cln/node/01-funded/emergency.recover").unwrap());
    let (ended, _) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("scb-incomplete") && ended.stderr.contains("lacks 2 of the wallet's"), "{ended}");
}

#[test]
fn a_wallet_that_knows_less_than_the_recovery_file_fails_the_source() {
    let host = set_up();
    host.replace("lightningd.sqlite3", fs::read("tests/fixtures/cln/node/01-funded/lightningd.sqlite3").unwrap());
    let (ended, _) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("wallet-behind") && ended.stderr.contains("is not in it"), "{ended}");
    host.run(&["backup", "--final", "--yes"]).exits(1).complains("no final snapshot was made");
    assert!(fs::read(host.lightning("lightningd.sqlite3")).unwrap().starts_with(b"SQLite"), "no fence stands there");
}

#[test]
fn an_abandoned_wallet_is_neither_backed_up_nor_fenced_however_the_real_one_is_named() {
    let named = "wallet=sqlite3://real.sqlite3\n";
    let by_unit = "case $* in *ExecStart*) echo 'ExecStart={ path=/bin/lightningd ; argv[]=/bin/lightningd \
                   --lightning-dir=LIGHTNING --wallet=sqlite3://real.sqlite3 ; ignore_errors=no }';; \
                   *) echo LoadState=loaded; echo ActiveState=inactive; echo Job=;; esac";
    for way in ["config", "regtest/config", "include", "unit"] {
        let host = set_up();
        fs::copy(host.lightning("lightningd.sqlite3"), host.lightning("real.sqlite3")).unwrap();
        match way {
            "include" => {
                host.env.write("lightning/more/wallet", named, 0o644);
                host.env.write("lightning/config", "include more/wallet\n", 0o644);
            }
            "unit" => {
                let script = by_unit.replace("LIGHTNING", &host.env.path("lightning").display().to_string());
                host.env.fake("systemctl", &script);
            }
            file => drop(host.env.write(&format!("lightning/{file}"), named, 0o644)),
        }
        let (ended, id) = backs_up_the_rest(&host);
        assert!(ended.stderr.contains("is not the database lightningd uses"), "{way}: {ended}");
        assert!(!host.vault().artifacts(&id).contains(&WALLET.to_owned()), "{way}");
        host.run(&["backup", "--final", "--yes"]).exits(1).complains("no final snapshot was made");
        assert!(fs::read(host.lightning("lightningd.sqlite3")).unwrap().starts_with(b"SQLite"), "{way}");
    }
}

#[test]
fn a_wallet_that_the_running_lightningd_does_not_have_open_is_not_taken() {
    let host = set_up();
    let program = host.env.path("lightningd");
    fs::copy("/bin/sleep", &program).unwrap();
    let running = host.env.program(&program).arg("600").start();
    host.env.write("lightning/lightningd-regtest.pid", format!("{}\n", running.id()), 0o644);
    let (ended, _) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("does not have it open"), "{ended}");
    running.signal(rustix::process::Signal::KILL);
    running.ends();
    host.backup();
}

#[test]
fn another_programs_database_is_not_taken_for_the_wallet() {
    let host = set_up();
    let file = host.lightning("lightningd.sqlite3");
    fs::remove_file(&file).unwrap();
    let sql = "CREATE TABLE songs (title TEXT); INSERT INTO songs VALUES ('x')";
    host.env.program("sqlite3").arg(&file).arg(sql).ends().exits(0);
    let (ended, id) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("is not Core Lightning's database"), "{ended}");
    assert!(!host.vault().artifacts(&id).contains(&WALLET.to_owned()));
}

#[test]
fn a_missing_wallet_fails_the_source() {
    let host = set_up();
    fs::remove_file(host.lightning("lightningd.sqlite3")).unwrap();
    let (ended, id) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("wallet-missing"), "{ended}");
    assert!(host.vault().artifacts(&id).contains(&"cln/emergency.recover".to_owned()));
}

#[test]
fn a_copy_that_does_not_open_never_counts() {
    let host = set_up();
    let good = fs::read(host.lightning("lightningd.sqlite3")).unwrap();
    let mut torn = good.clone();
    torn[4096..12288].fill(0xaa);
    for (ruin, told) in [(b"".to_vec(), "zero bytes"), (good[..good.len() / 2].to_vec(), "truncated"), (torn, "")] {
        host.replace("lightningd.sqlite3", ruin);
        let (ended, id) = backs_up_the_rest(&host);
        assert!(ended.stderr.contains("wallet-not-copied") && ended.stderr.contains(told), "{ended}");
        assert!(!host.vault().artifacts(&id).contains(&WALLET.to_owned()), "{ended}");
    }
    assert_eq!(host.vault().snapshots().len(), 3);
    host.run(&["show", "latest"]).exits(1).complains("no complete snapshot");
}

#[test]
fn a_hot_journal_is_refused_with_its_reason() {
    let host = set_up();
    // A program that dies in the middle of a transaction leaves its journal and a file that is half changed.
    let script = "PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE;\n\
        CREATE TABLE spilled AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)\n\
        SELECT i, randomblob(200) AS b FROM n;\n.shell kill -9 $PPID\n";
    let dies = host.env.program("sqlite3").arg(host.lightning("lightningd.sqlite3")).stdin(script).ends();
    assert_eq!(dies.code, None, "{dies}");
    let journal = host.lightning("lightningd.sqlite3-journal");
    assert!(fs::metadata(&journal).unwrap().len() > 512, "the journal was left");
    let database = fs::read(host.lightning("lightningd.sqlite3")).unwrap();
    let (ended, id) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("hot journal"), "{ended}");
    assert!(!host.vault().artifacts(&id).contains(&WALLET.to_owned()));
    assert!(journal.exists() && fs::read(host.lightning("lightningd.sqlite3")).unwrap() == database, "and left alone");
}

#[test]
fn a_wallet_of_another_network_fails_the_source() {
    let mut host = Host::new();
    fs::rename(host.env.path("lightning/regtest"), host.env.path("lightning/bitcoin")).unwrap();
    fs::write(host.env.path("lightning/config"), "network=bitcoin\n").unwrap();
    host.sources[0].1 = host.sources[0].1.replace("regtest", "bitcoin");
    host.write_policy();
    host.init();
    let (ended, _) = backs_up_the_rest(&host);
    assert!(ended.stderr.contains("network-mismatch") && ended.stderr.contains("regtest"), "{ended}");
}

#[test]
fn a_backup_changes_nothing_in_the_nodes_folder() {
    let host = set_up();
    let look = |folder: &Path| -> Vec<_> {
        let mut found: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let meta = entry.metadata().unwrap();
                (entry.file_name(), meta.len(), meta.modified().unwrap(), meta.permissions())
            })
            .map(|(name, length, modified, permissions)| format!("{name:?} {length} {modified:?} {permissions:?}"))
            .collect();
        found.sort();
        found
    };
    let folder = host.env.path("lightning/regtest");
    let before = look(&folder);
    host.backup();
    host.backup();
    assert_eq!(look(&folder), before);
}

#[test]
fn an_incomplete_snapshot_is_not_latest_and_verify_says_so() {
    let host = set_up();
    let whole = host.backup();
    fs::remove_file(host.lightning("hsm_secret")).unwrap();
    let (_, incomplete) = backs_up_the_rest(&host);
    fs::write(host.lightning("hsm_secret"), fs::read("tests/fixtures/cln/node/hsm_secret").unwrap()).unwrap();
    host.env.program("chmod").arg("0400").arg(host.lightning("hsm_secret")).ends().exits(0);
    host.run(&["show", "latest"]).exits(0).prints(&whole);
    let list = host.run(&["list"]).exits(0);
    let line = list.stdout.lines().find(|line| line.contains(&incomplete)).unwrap();
    assert!(line.contains("NOT COMPLETE"), "{list}");
    let verify = host.run(&["verify"]).exits(0).prints(&format!("newest complete {whole}"));
    assert!(verify.stdout.contains("2 snapshots"), "{verify}");
    let (code, document) = host.json(&["verify"]);
    assert_eq!((code, &document["report"]["vaults"][0]["checked"]), (0, &serde_json::json!([whole])));
    assert_eq!(document["report"]["node"], NODE);
    host.run(&["verify", "--snapshot", &incomplete]).exits(0);
}

#[test]
fn a_vault_with_only_incomplete_snapshots_is_too_old_for_any_objective() {
    let host = set_up();
    fs::remove_file(host.lightning("hsm_secret")).unwrap();
    backs_up_the_rest(&host);
    host.replace("hsm_secret", fs::read("tests/fixtures/cln/node/hsm_secret").unwrap());
    host.run(&["verify"]).exits(23).complains("it holds no complete snapshot").complains("relay-backup backup");
}
