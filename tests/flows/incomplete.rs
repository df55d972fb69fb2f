//! Restores from a snapshot in which a source failed, and below a root with only the lost host's word for where the
//! databases are; restores that go on after they were cut off.

use super::restore::{BURNT, Machine, tree};
use crate::support::env::{Ended, Run, TestEnv};
use crate::support::host::{Host, whole};
use crate::support::json;
use relay_backup::sandbox::cluster::Cluster;
use std::fs;
use std::path::{Path, PathBuf};

/// A person who knows what is missing.
const KNOWN: &str = "freshness=the shop's folder is gone since a week, I know what is missing";

/// A new machine without a policy.
struct Empty {
    env: TestEnv,
    root: PathBuf,
    fixed: Vec<String>,
}

impl Empty {
    fn of(host: &Host) -> Self {
        let env = TestEnv::new();
        let root = env.path("root");
        fs::create_dir(&root).unwrap();
        let fixed =
            ["--vault", &host.vault().url(), "--signing-key", &host.signing_key(), "--identity", host.identity()]
                .map(str::to_owned)
                .to_vec();
        Self { env, root, fixed }
    }

    fn command(&self, scenario: &str, more: &[&str]) -> Run {
        let fixed: Vec<&str> = self.fixed.iter().map(String::as_str).collect();
        let restore = ["restore", "--scenario", scenario, "--root", self.root.to_str().unwrap()];
        self.env.relay_backup(&[&restore[..], &fixed, more].concat())
    }

    fn run(&self, scenario: &str, more: &[&str]) -> Ended {
        self.command(scenario, more).ends()
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap())
    }
}

#[test]
fn of_an_incomplete_snapshot_everything_is_restored_and_what_it_lacks_is_named() {
    let host = Host::new();
    host.init();
    host.backup();
    fs::rename(host.env.path("medusa"), host.env.path("gone")).unwrap();
    host.run(&["backup"]).exits(1);
    let snapshot = host.vault().newest();
    let machine = Empty::of(&host);
    let before = tree(&machine.root);
    let asked = ["--yes", "--accept", BURNT, "--snapshot", &snapshot];
    machine.run("server-loss", &asked).exits(21).complains("not the newest complete");
    assert_eq!(tree(&machine.root), before);
    let accepted = [&asked[..], &["--accept", KNOWN]].concat();
    let ended = machine.run("server-loss", &accepted).exits(3).prints("incomplete     files-placed");
    ended.complains("the files of medusa").prints("holds          secret-derives-node-id");
    let at = machine.at(&host.lightning("hsm_secret"));
    assert_eq!(fs::read(at).unwrap(), fs::read(host.lightning("hsm_secret")).unwrap());
    // A program reads it too, and a dry run tells it before anything is done.
    let fresh = Empty::of(&host);
    let ended = fresh.run("server-loss", &[&accepted[..], &["--json", "--dry-run"]].concat()).exits(3);
    let document = json::document(&ended);
    let findings = document["report"]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["code"] == "artifact-missing"), "{document}");
}

#[test]
fn what_was_wrong_with_a_thing_that_is_there_is_told_too() {
    let host = Host::new();
    host.init();
    host.backup();
    // It opens and is taken, and names none of the node's channels.
    host.replace("emergency.recover", fs::read("tests/fixtures/cln/node/01-funded/emergency.recover").unwrap());
    host.run(&["backup"]).exits(1);
    let snapshot = host.vault().newest();
    let machine = Empty::of(&host);
    let asked = ["--yes", "--accept", BURNT, "--accept", KNOWN, "--snapshot", &snapshot];
    for more in [&["--dry-run"][..], &[]] {
        let ended = machine.run("server-loss", &[&asked[..], more].concat()).exits(3);
        ended.complains("its own backup said").complains("cln/emergency.recover").complains("[artifact-not-whole]");
    }
}

#[test]
fn a_snapshot_without_the_nodes_keys_brings_no_node_back() {
    let host = Host::new();
    host.init();
    host.backup();
    host.run(&["backup", "--only", "medusa"]);
    let newest = host.vault().newest();
    let machine = Empty::of(&host);
    let before = tree(&machine.root);
    let asked = ["--yes", "--accept", BURNT, "--snapshot", &newest, "--accept", KNOWN];
    machine.run("server-loss", &asked).exits(21).complains("does not hold cln/hsm_secret").complains("--snapshot");
    assert_eq!(tree(&machine.root), before);
}

#[test]
fn below_a_root_the_lost_hosts_word_for_a_server_makes_databases_and_replaces_none() {
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    cluster.execute("postgres", "CREATE DATABASE till").unwrap();
    cluster.execute("till", "CREATE TABLE sales (id int PRIMARY KEY); INSERT INTO sales VALUES (1), (2)").unwrap();
    let mut host = Host::of_files();
    host.add_postgres(&cluster.url("postgres"), "\"till\"");
    host.init();
    host.backup();
    let machine = Empty::of(&host);
    let before = tree(&machine.root);
    let yes = ["--yes", "--accept", BURNT];
    machine.run("server-loss", &yes).exits(21).complains("rollback").complains("till");
    machine.run("postgres-corruption", &yes).exits(21).complains("only the lost host's policy names");
    assert_eq!(tree(&machine.root), before);
    cluster.execute("postgres", "DROP DATABASE till").unwrap();
    machine.run("postgres-corruption", &yes).exits(21).complains("only the lost host's policy names");
    machine.run("server-loss", &yes).exits(0).prints("holds          databases-proved");
    let rows = cluster.query("till", "SELECT sum(id)::text FROM sales").unwrap();
    assert_eq!(rows[0][0].as_deref(), Some("3"));
}

/// Takes the last lines from a restore's journal: what a power cut does to a run that was about to end.
fn cut_off(journal: &Path, keep: impl Fn(&str) -> bool) {
    let text = fs::read_to_string(journal).unwrap();
    assert!(text.contains("\"event\":\"finished\""), "{text}");
    let kept: String = text.lines().take_while(|line| keep(line)).map(|line| format!("{line}\n")).collect();
    fs::write(journal, kept).unwrap();
}

#[test]
fn what_a_run_that_was_cut_off_moved_aside_must_still_be_there() {
    let host = Host::new();
    host.init();
    host.backup();
    let machine = Empty::of(&host);
    let wallet = machine.at(&host.lightning("lightningd.sqlite3"));
    fs::create_dir_all(wallet.parent().unwrap()).unwrap();
    for file in ["hsm_secret", "emergency.recover"] {
        fs::copy(host.lightning(file), machine.at(&host.lightning(file))).unwrap();
    }
    fs::write(&wallet, "no database").unwrap();
    let yes = ["--yes", "--accept", BURNT];
    machine.run("cln-db-corruption", &yes).exits(0).prints("holds          damaged-kept");
    let snapshot = host.vault().newest();
    let folder = machine.root.join(format!("var/lib/relay-backup/restore/cln-db-corruption-{snapshot}"));
    let journal = folder.join("journal.jsonl");
    let followup = fs::read_to_string(folder.join("followup.txt")).unwrap();
    // The same list, though this run itself moved nothing.
    cut_off(&journal, |line| !line.contains("\"finished\""));
    machine.run("cln-db-corruption", &yes).exits(0).prints("holds          damaged-kept");
    assert_eq!(fs::read_to_string(folder.join("followup.txt")).unwrap(), followup);
    cut_off(&journal, |line| !line.contains("\"finished\""));
    let aside = wallet.with_file_name(format!("lightningd.sqlite3.replaced-{snapshot}"));
    fs::rename(&aside, machine.root.join("away")).unwrap();
    machine.run("cln-db-corruption", &yes).exits(1).complains("was moved there by this restore and is gone");
    // Told once, it is in nobody's way.
    machine.run("cln-db-corruption", &yes).exits(0);
}

#[test]
fn keys_that_an_earlier_run_burnt_are_on_the_list_of_the_run_that_ends() {
    let machine = Machine::new();
    let first = &whole().first;
    let accept = ["--yes", "--snapshot", first, "--accept", "freshness=before the theft", "--accept", "payout=off"];
    let key = "BTCPay API key \"label\\twith tab\" in btcpaydb";
    machine.run("wallet-compromise", &accept).exits(0).prints(key);
    let folder = machine.root.join(format!("var/lib/relay-backup/restore/wallet-compromise-{first}"));
    cut_off(&folder.join("journal.jsonl"), |line| !line.contains("\"step\":\"swap-databases\""));
    machine.run("wallet-compromise", &accept).exits(0).prints(key);
    assert!(fs::read_to_string(folder.join("followup.txt")).unwrap().contains(key));
}
