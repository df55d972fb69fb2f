//! Restores that are killed again and again, after every step that changes something, and then run to their end: what
//! they leave is what one leaves that nobody cut off, file by file and row by row.

use super::departure;
use super::restore::{BURNT, Machine};
use crate::support::env::{Ended, Run};
use crate::support::host::{Host, whole};
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::Shop;
use relay_backup::scenario::{self, Do};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const UNPAID: &str = "payout=no payout was made since, I looked";

/// Kills runs of a scenario: the first as soon as it has begun, each further one when the next step that changes
/// something is done. Gives how the last one ended, which nobody killed.
fn killed(scenario: &str, folder: &Path, command: &dyn Fn() -> Run) -> Ended {
    let journal = folder.join("journal.jsonl");
    let is_done = |step: &str| {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.contains(&format!("\"event\":\"done\",\"step\":\"{step}\""))
    };
    let steps = scenario::embedded(scenario).unwrap().steps;
    let looks_only = |action: &Do| {
        matches!(
            action,
            Do::ChooseSnapshot { .. } | Do::Guard { .. } | Do::Tell { .. } | Do::Inspect { .. } | Do::Assert { .. }
        )
    };
    let changing = steps.iter().filter(|step| !looks_only(&step.action)).map(|step| Some(step.id.as_str()));
    let moments: Vec<Option<&str>> = [None].into_iter().chain(changing).collect();
    let mut kills = 0;
    let mut last = None;
    for moment in &moments {
        let running = command().start();
        while !running.has_ended() && !moment.map_or(journal.exists(), is_done) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        running.signal(Signal::KILL);
        let ended = running.ends();
        if ended.code.is_some() {
            // It came to its end before the signal came: late in the scenario that may be.
            last = Some(ended);
            break;
        }
        kills += 1;
    }
    assert!(kills * 2 > moments.len(), "{kills} of {} runs were killed", moments.len());
    last.unwrap_or_else(|| command().ends()).exits(0)
}

/// What lies below a root, by path: mode, and of a file what is in it. Not what tells one run from another: journal,
/// lock, and the texts that name the root or the hour.
fn left(root: &Path) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_told =
                ["journal.jsonl", "lock"].contains(&name) || name.starts_with("followup.") || name.ends_with(".txt");
            let content = (meta.is_file() && !is_told).then(|| fs::read(&path).unwrap());
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (meta.mode(), content));
        }
    }
    found
}

/// Every row of every database of a server, as a digest by table.
fn rows(cluster: &Cluster) -> Vec<(String, Vec<Vec<Option<String>>>)> {
    let names = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1";
    let digests = "SELECT table_name::text, query_to_xml(format('SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) \
                   FROM %I.%I t', table_schema, table_name), true, true, '')::text FROM information_schema.tables \
                   WHERE table_schema = 'public' ORDER BY 1";
    let names = cluster.query("postgres", names).unwrap().into_iter().flatten().flatten();
    names.map(|name| (name.clone(), cluster.query(&name, digests).unwrap())).collect()
}

/// Plays a scenario of the shared host twice, on machines that are made alike: once cut off, once not.
#[track_caller]
fn ends_alike(scenario: &str, snapshot: &str, more: &[&str], make: impl Fn() -> Machine) {
    let (cut, calm) = (make(), make());
    let arguments = [&["--yes", "--snapshot", snapshot][..], more].concat();
    let folder = cut.root.join(format!("var/lib/relay-backup/restore/{scenario}-{snapshot}"));
    killed(scenario, &folder, &|| cut.command(scenario, &arguments)).prints("What is left to do");
    calm.command(scenario, &arguments).ends().exits(0);
    assert!(left(&cut.root) == left(&calm.root), "{:#?}\n{:#?}", names(&cut.root), names(&calm.root));
    assert_eq!(rows(&cut.cluster), rows(&calm.cluster));
}

fn names(root: &Path) -> Vec<(PathBuf, u32)> {
    left(root).into_iter().map(|(path, (mode, _))| (path, mode)).collect()
}

#[test]
fn a_lost_server() {
    ends_alike("server-loss", &whole().second, &["--accept", BURNT], Machine::new);
}

#[test]
fn a_broken_channel_database() {
    let make = || {
        let machine = Machine::new();
        let wallet = machine.at(&whole().host.lightning("lightningd.sqlite3"));
        fs::create_dir_all(wallet.parent().unwrap()).unwrap();
        for file in ["hsm_secret", "emergency.recover"] {
            fs::copy(whole().host.lightning(file), wallet.with_file_name(file)).unwrap();
        }
        fs::write(&wallet, "SQLite format 3\0 and then nothing that makes sense").unwrap();
        fs::write(wallet.with_file_name("lightningd.sqlite3-journal"), "half a journal").unwrap();
        machine
    };
    ends_alike("cln-db-corruption", &whole().second, &["--accept", BURNT], make);
}

#[test]
fn damaged_databases() {
    let make = || {
        let machine = Machine::new();
        for database in [Shop::BTCPAY, Shop::NBXPLORER] {
            machine.cluster.execute("postgres", &format!("CREATE DATABASE {database}")).unwrap();
            machine.cluster.execute(database, "CREATE TABLE damage ()").unwrap();
        }
        machine
    };
    ends_alike("postgres-corruption", &whole().second, &["--accept", BURNT, "--accept", UNPAID], make);
}

#[test]
fn stolen_keys() {
    let accept = ["--accept", "freshness=before the theft", "--accept", "payout=off"];
    ends_alike("wallet-compromise", &whole().first, &accept, Machine::new);
}

#[test]
fn a_lost_server_with_lnd() {
    let mut host = Host::new();
    host.sources.remove(0);
    host.env.write("lnd/data/chain/bitcoin/regtest/channel.backup", [7; 300], 0o600);
    host.env.write("lnd/data/chain/bitcoin/regtest/admin.macaroon", "made-up-macaroon", 0o640);
    let lnd = format!("kind = \"lnd\"\nlnd_dir = \"{}\"\nnetwork = \"regtest\"", host.env.path("lnd").display());
    host.sources.push(("lnd".to_owned(), lnd));
    host.write_policy();
    host.init();
    let snapshot = host.backup();
    let command = |root: &str| departure::restoring(&host, "lnd-server-loss", root, &["--accept", BURNT]);
    let folder = host.env.path(&format!("cut/var/lib/relay-backup/restore/lnd-server-loss-{snapshot}"));
    killed("lnd-server-loss", &folder, &|| command("cut"));
    command("calm").ends().exits(0);
    assert!(left(&host.env.path("cut")) == left(&host.env.path("calm")));
}

#[test]
fn a_node_that_moves() {
    let host = departure::host();
    let snapshot = departure::leave(&host);
    let vaults: Vec<PathBuf> = host.vaults.iter().map(|name| host.vault_named(name).root).collect();
    let kept = |vault: &Path| vault.with_extension("kept");
    let copy = |from: &Path, to: &Path| host.env.program("cp").arg("-a").args([from, to]).ends().exits(0);
    for vault in &vaults {
        copy(vault, &kept(vault));
    }
    let command = |root: &str| departure::restoring(&host, "planned-migration", root, &[]);
    let folder = host.env.path(&format!("cut/var/lib/relay-backup/restore/planned-migration-{snapshot}"));
    killed("planned-migration", &folder, &|| command("cut")).prints("claim-ours");
    // A claim is for good: another machine can show what it does only where none was made.
    for vault in &vaults {
        fs::remove_dir_all(vault).unwrap();
        fs::rename(kept(vault), vault).unwrap();
    }
    command("calm").ends().exits(0);
    assert!(left(&host.env.path("cut")) == left(&host.env.path("calm")));
}
