//! The way back: `restore --scenario server-loss` into an empty root and an empty PostgreSQL server, on real parts; and
//! the refusals that keep it from doing harm.

use crate::support::env::{Ended, Run};
use crate::support::host::{Bare, Host, mode, whole};
use crate::support::vault::flip_bit;
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::Shop;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The old host gave a sign of life a moment ago: it backed up. A person knows that it burnt.
pub(super) const BURNT: &str = "twin=the old host burnt down, I stood beside it";

/// A new machine: an empty root, an empty server, and a policy that says where the server is.
pub(super) struct Machine {
    bare: Bare,
    pub(super) cluster: Cluster,
    pub(super) root: PathBuf,
}

impl Machine {
    pub(super) fn new() -> Self {
        let bare = Bare::new();
        let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
        let root = bare.env.path("new-root");
        fs::create_dir(&root).unwrap();
        let policy = whole().host.policy_text();
        let policy = policy
            .replace(&crate::support::shop::cluster().url("postgres"), &cluster.url("postgres"))
            .replace(&whole().host.vault().url(), &bare.vault.url())
            .replace(whole().host.state().to_str().unwrap(), bare.env.path("state").to_str().unwrap());
        bare.env.policy(&policy);
        Self { bare, cluster, root }
    }

    pub(super) fn run(&self, scenario: &str, more: &[&str]) -> Ended {
        self.command(scenario, more).ends()
    }

    pub(super) fn command(&self, scenario: &str, more: &[&str]) -> Run {
        let arguments = self.arguments(scenario, more);
        self.bare.env.relay_backup(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn arguments(&self, scenario: &str, more: &[&str]) -> Vec<String> {
        let key = whole().host.signing_key();
        let policy = self.bare.env.path("policy.toml");
        let fixed = [
            "--policy",
            policy.to_str().unwrap(),
            "restore",
            "--scenario",
            scenario,
            "--root",
            self.root.to_str().unwrap(),
            "--signing-key",
            &key,
            "--identity",
            whole().host.identity(),
        ];
        fixed.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }

    /// The same for somebody who sits at a terminal, which `script` gives, and types this.
    fn at_a_terminal(&self, scenario: &str, more: &[&str], typed: &str) -> Ended {
        let quoted = |argument: &String| format!("'{argument}'");
        let arguments: Vec<String> = self.arguments(scenario, more).iter().map(quoted).collect();
        let line = format!("{} {}", env!("CARGO_BIN_EXE_relay-backup"), arguments.join(" "));
        self.bare.env.program("script").args(["-qec", &line, "/dev/null"]).stdin(typed).ends()
    }

    /// Where a path of the old host lies below the root.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap())
    }

    fn databases(&self) -> Vec<String> {
        let rows = self.cluster.query("postgres", "SELECT datname FROM pg_database ORDER BY 1").unwrap();
        rows.into_iter().map(|mut row| row.remove(0).unwrap()).collect()
    }
}

/// Every path below a folder with what tells it from another.
pub(super) fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, u64, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = meta.is_file().then(|| fs::read(&path).unwrap());
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (meta.mode(), meta.ino(), content));
        }
    }
    found
}

fn host() -> &'static Host {
    &whole().host
}

#[test]
fn a_lost_server_comes_back_and_its_channel_database_stays_in_quarantine() {
    let machine = Machine::new();
    let ended = machine.run("server-loss", &["--yes", "--accept", BURNT]).exits(0);
    for file in ["hsm_secret", "emergency.recover"] {
        let path = host().lightning(file);
        let at = machine.at(&path);
        assert_eq!(fs::read(&at).unwrap(), fs::read(&path).unwrap(), "{file}\n{ended}");
        assert_eq!(mode(&at), 0o400, "{file}");
        assert_eq!(fs::metadata(&at).unwrap().uid(), fs::metadata(&path).unwrap().uid());
    }
    assert!(!machine.at(&host().lightning("lightningd.sqlite3")).exists(), "{ended}");
    let restores = machine.root.join("var/lib/relay-backup/restore");
    let folder = fs::read_dir(restores).unwrap().next().unwrap().unwrap().path();
    let toxic = folder.join("quarantine/TOXIC-cln-lightningd.sqlite3");
    assert_eq!(mode(&toxic), 0o400);
    assert!(
        fs::read_to_string(folder.join("quarantine/TOXIC-cln-lightningd.sqlite3.README.txt"))
            .unwrap()
            .contains("NEVER")
    );
    assert_eq!(
        fs::read(folder.join("cln-emergency.recover")).unwrap(),
        fs::read(host().lightning("emergency.recover")).unwrap(),
        "a second copy, which lightningd does not overwrite"
    );
    let env_file = host().env.path("medusa/.env");
    assert_eq!(fs::read(machine.at(&env_file)).unwrap(), fs::read(&env_file).unwrap());
    for database in [Shop::BTCPAY, Shop::NBXPLORER] {
        assert!(machine.databases().contains(&database.to_owned()), "{database}");
    }
    let count = |cluster: &Cluster| cluster.query(Shop::BTCPAY, "SELECT count(*)::text FROM \"Invoices\"").unwrap();
    assert_eq!(count(&machine.cluster), count(crate::support::shop::cluster()));
    ended.prints("holds          databases-proved").prints("What is left to do").prints("emergencyrecover");
    let followup = fs::read_to_string(folder.join("followup.txt")).unwrap();
    assert!(followup.contains("lightning-cli emergencyrecover"), "{followup}");
    assert!(followup.contains(".example/hook") && !followup.contains("(unknown)"), "{followup}");
    let height = machine.cluster.query(Shop::NBXPLORER, "SELECT max(height)::text FROM blks WHERE confirmed").unwrap();
    assert!(followup.contains(&format!("NBXplorer {}", height[0][0].as_deref().unwrap())), "{followup}");
    // Once more, on a machine that may have been in service since: its databases are not ours to replace.
    let before = tree(&machine.root);
    machine.run("server-loss", &["--yes", "--accept", BURNT]).exits(21).complains("rollback").complains("btcpaydb");
    assert_eq!(tree(&machine.root), before);
}

#[test]
fn a_dry_run_shows_everything_and_changes_nothing() {
    let machine = Machine::new();
    let databases = machine.databases();
    let ended = machine.run("server-loss", &["--dry-run", "--accept", BURNT]).exits(0);
    for part in [
        "hsm_secret",
        "mode 0400",
        "raise the fence",
        "quarantine cln/lightningd.sqlite3",
        "as database btcpaydb",
        "stale",
        "identity",
    ] {
        assert!(ended.stdout.contains(part), "{part}\n{ended}");
    }
    assert_eq!(tree(&machine.root), BTreeMap::new());
    assert_eq!(machine.databases(), databases);
}

#[test]
fn a_host_that_lived_a_moment_ago_is_a_twin() {
    let machine = Machine::new();
    let ended = machine.run("server-loss", &["--yes"]).exits(21).complains("twin");
    assert!(ended.stderr.contains("Hint"), "{ended}");
    assert_eq!(tree(&machine.root), BTreeMap::new());
    machine.run("server-loss", &["--yes", "--accept", "stale=I know better"]).exits(2).complains("cannot be accepted");
    machine.run("server-loss", &["--yes", "--accept", "twin= "]).exits(2).complains("empty");
}

#[test]
fn nothing_is_put_over_another_secret() {
    let machine = Machine::new();
    let at = machine.at(&host().lightning("hsm_secret"));
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(&at, [7; 32]).unwrap();
    let before = tree(&machine.root);
    machine.run("server-loss", &["--yes", "--accept", BURNT]).exits(21).complains("rollback");
    assert_eq!(tree(&machine.root), before);
}

#[test]
fn nobody_at_the_terminal_is_no_consent() {
    let machine = Machine::new();
    machine.run("server-loss", &["--accept", BURNT]).exits(21).complains("--yes");
    assert_eq!(tree(&machine.root), BTreeMap::new());
}

#[test]
fn scenarios_of_drills_and_unknown_ones_are_refused() {
    let machine = Machine::new();
    machine.run("tampered-storage", &["--yes"]).exits(2).complains("drills only");
    machine.run("alien-invasion", &["--yes"]).exits(2).complains("alien-invasion");
}

#[test]
fn without_a_scenario_it_lists_what_there_is() {
    let bare = Bare::new();
    bare.open(&["restore"]).exits(0).prints("server-loss").prints(&whole().second);
}

/// A session of somebody who reads a database.
fn reader_of(cluster: &Cluster, database: &str) -> relay_backup::sources::postgres::Session {
    cluster.session(database).unwrap()
}

impl Machine {
    /// The machine after a restore: its server holds the shop's databases.
    fn in_service() -> Self {
        let machine = Self::new();
        machine.run("server-loss", &["--yes", "--accept", BURNT]).exits(0);
        machine
    }

    fn count(&self, database: &str, table: &str) -> String {
        let rows = self.cluster.query(database, &format!("SELECT count(*)::text FROM {table}")).unwrap();
        rows[0][0].clone().unwrap()
    }
}

#[test]
fn damaged_databases_are_replaced_and_kept_and_never_while_somebody_reads_them() {
    let machine = Machine::in_service();
    let whole = machine.count(Shop::BTCPAY, "\"Invoices\"");
    machine.cluster.execute(Shop::BTCPAY, "DELETE FROM \"InvoiceEvents\"").ok();
    machine.cluster.execute(Shop::BTCPAY, "CREATE TABLE damage (); DROP TABLE \"AddressInvoices\" CASCADE").unwrap();
    let accept = ["--yes", "--accept", BURNT, "--accept", "payout=no payout was made since, I looked"];
    let session = reader_of(&machine.cluster, Shop::BTCPAY);
    machine.run("postgres-corruption", &accept).exits(21).complains("running");
    drop(session);
    machine.run("postgres-corruption", &accept).exits(0).prints("holds          databases-proved");
    assert_eq!(machine.count(Shop::BTCPAY, "\"Invoices\""), whole);
    assert!(machine.cluster.query(Shop::BTCPAY, "SELECT count(*)::text FROM \"AddressInvoices\"").is_ok());
    let kept: Vec<String> =
        machine.databases().into_iter().filter(|name| name.starts_with("btcpaydb_replaced")).collect();
    assert_eq!(kept.len(), 1, "{:?}", machine.databases());
    machine.cluster.query(&kept[0], "SELECT count(*)::text FROM damage").unwrap();
}

#[test]
fn a_restored_database_stays_beside_the_one_in_service_after_a_no() {
    let machine = Machine::in_service();
    for database in [Shop::BTCPAY, Shop::NBXPLORER] {
        machine.cluster.execute(database, "CREATE TABLE damage ()").unwrap();
    }
    // The plan, the two texts before the first database, each of the two, and the text before BTCPay Server starts.
    let typed = "yes\ndone\ndone\nno\nyes\ndone\n";
    let accept = ["--accept", BURNT, "--accept", "payout=no payout was made since, I looked"];
    let ended = machine.at_a_terminal("postgres-corruption", &accept, typed).exits(0);
    let is_damaged = |database: &str| machine.cluster.query(database, "SELECT count(*)::text FROM damage").is_ok();
    assert_eq!((is_damaged(Shop::BTCPAY), is_damaged(Shop::NBXPLORER)), (true, false), "{ended}");
    let beside = ended.stdout.split_once("stays as ").map(|(_, rest)| rest.split_whitespace().next().unwrap());
    let beside = beside.unwrap_or_else(|| panic!("{ended}"));
    let count = machine.cluster.query(beside, "SELECT count(*)::text FROM \"Invoices\"").unwrap();
    assert_eq!(count[0][0].as_deref(), Some(machine.count(Shop::BTCPAY, "\"Invoices\"").as_str()));
    ended.prints("holds          databases-proved");
}

#[test]
fn a_snapshot_that_is_damaged_anywhere_is_found_before_anything_is_placed() {
    let machine = Machine::new();
    let dump = format!("btcpay/{}.dump", Shop::NBXPLORER);
    let object = machine.bare.vault.objects_of(&whole().second, &dump).remove(0);
    flip_bit(&machine.bare.vault.object(&object));
    let before = machine.databases();
    let ended = machine.run("server-loss", &["--yes", "--accept", BURNT]).exits(20).complains(&dump);
    assert!(!machine.at(&host().lightning("hsm_secret")).exists(), "{ended}");
    assert!(!machine.at(&host().lightning("lightningd.sqlite3")).exists(), "no fence stands\n{ended}");
    assert_eq!(machine.databases(), before);
}

#[test]
fn after_a_theft_nothing_that_was_stolen_comes_back_into_force() {
    let machine = Machine::new();
    let ended = machine.run("wallet-compromise", &["--yes"]).exits(2).complains("--snapshot");
    ended.complains("Move the money to cold storage now; Close the channels");
    let accept =
        ["--yes", "--snapshot", &whole().first, "--accept", "freshness=before the theft", "--accept", "payout=off"];
    let ended = machine.run("wallet-compromise", &accept).exits(0).prints("stolen-keys-off");
    assert_eq!(machine.count(Shop::BTCPAY, "\"ApiKeys\""), "0");
    assert_eq!(machine.count(Shop::BTCPAY, "\"PayoutProcessors\""), "0");
    let active =
        "SELECT count(*)::text FROM \"Webhooks\" WHERE \"Blob2\"->>'active' = 'true' OR \"Blob2\"->>'secret' <> ''";
    assert_eq!(machine.cluster.query(Shop::BTCPAY, active).unwrap()[0][0].as_deref(), Some("0"));
    assert!(!machine.at(&host().lightning("hsm_secret")).exists(), "{ended}");
    assert!(!machine.at(&host().env.path("medusa/.env")).exists(), "{ended}");
    ended.prints("every password and key in it").keeps_quiet_about(crate::support::host::SHOP_SECRET);
}

#[test]
fn a_broken_channel_database_is_kept_aside_and_never_replaced_by_an_old_one() {
    let machine = Machine::new();
    let wallet = machine.at(&host().lightning("lightningd.sqlite3"));
    fs::create_dir_all(wallet.parent().unwrap()).unwrap();
    for file in ["hsm_secret", "emergency.recover"] {
        let to = machine.at(&host().lightning(file));
        fs::copy(host().lightning(file), to).unwrap();
    }
    fs::write(&wallet, "SQLite format 3\0 and then nothing that makes sense").unwrap();
    fs::write(wallet.with_file_name("lightningd.sqlite3-journal"), "half a journal").unwrap();
    // A mirror is as old as its last commit: it may be the last state there is.
    let mirror = machine.at(&host().env.path("second-disk/mirror.sqlite3"));
    fs::create_dir_all(mirror.parent().unwrap()).unwrap();
    fs::write(&mirror, "the last state").unwrap();
    let option = format!(
        "wallet=sqlite3://{}:{}\n",
        host().lightning("lightningd.sqlite3").display(),
        host().env.path("second-disk/mirror.sqlite3").display()
    );
    fs::write(machine.at(&host().env.path("lightning/config")), option).unwrap();
    machine.run("cln-db-corruption", &["--yes", "--accept", BURNT]).exits(0).prints("holds          damaged-kept");
    assert!(!wallet.exists() && !wallet.with_file_name("lightningd.sqlite3-journal").exists());
    let aside = wallet.with_file_name(format!("lightningd.sqlite3.replaced-{}", whole().second));
    assert!(fs::read_to_string(aside.join("lightningd.sqlite3")).unwrap().contains("nothing that makes sense"));
    assert!(aside.join("lightningd.sqlite3-journal").exists());
    assert!(!mirror.exists());
    let kept = mirror.with_file_name(format!("mirror.sqlite3.replaced-{}", whole().second)).join("mirror.sqlite3");
    assert_eq!(fs::read_to_string(kept).unwrap(), "the last state");
}

#[test]
fn scenarios_that_only_look_change_nothing() {
    let machine = Machine::in_service();
    let before = tree(&machine.root);
    let databases = machine.databases();
    for (scenario, sign) in [
        ("integration-outage", "every event)  signed off by"),
        ("bitcoin-node-corruption", "lightningd"),
        ("disk-full", "MiB free"),
    ] {
        machine.run(scenario, &["--yes"]).exits(0).prints(sign).prints("holds          nothing-touched");
        assert_eq!(tree(&machine.root), before, "{scenario}");
    }
    assert_eq!(machine.databases(), databases);
    // The zone names its server, which knows the name; this machine's resolver does not.
    let dig = "case \"$*\" in *' example NS'*) ;; *'.example NS'*) echo ns1.example.;; *'@ns1.example '*' A') echo 192.0.2.7;; esac";
    machine.bare.env.fake("dig", dig);
    let ended = machine.run("integration-outage", &["--yes"]).exits(0).prints("resolver");
    ended.prints("ns1.example, which has the authority, DIFFERS: 192.0.2.7");
}

#[test]
fn a_node_that_runs_is_left_alone() {
    let machine = Machine::new();
    let socket = machine.at(&host().lightning("lightning-rpc"));
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let before = tree(&machine.root);
    machine.run("server-loss", &["--yes", "--accept", BURNT]).exits(21).complains("running");
    assert_eq!(tree(&machine.root), before);
    drop(listener);
}

#[test]
fn a_node_that_runs_is_found_where_its_configuration_puts_its_socket() {
    let machine = Machine::new();
    let config = machine.at(&host().env.path("lightning/config"));
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "rpc-file=../socket-of-ours\n").unwrap();
    let listener = std::os::unix::net::UnixListener::bind(config.with_file_name("socket-of-ours")).unwrap();
    fs::create_dir(config.with_file_name("regtest")).unwrap();
    let before = tree(&machine.root);
    machine
        .run("cln-db-corruption", &["--yes", "--accept", BURNT])
        .exits(21)
        .complains("lightning/socket-of-ours: lightningd answers on it");
    assert_eq!(tree(&machine.root), before);
    drop(listener);
}

#[test]
fn a_secret_under_a_passphrase_comes_back_too() {
    let host = Host::new();
    let fixtures = Path::new("tests/fixtures/cln/hsm_secret");
    let secret = fs::read(fixtures.join("encrypted.hsm_secret")).unwrap();
    host.replace("hsm_secret", &secret);
    host.init();
    // What is in emergency.recover cannot be told without the passphrase.
    let ended = host.run(&["backup"]);
    assert!([Some(0), Some(3)].contains(&ended.code), "{ended}");
    let root = host.env.path("new-root");
    fs::create_dir(&root).unwrap();
    let text = host.policy_text().replace(host.state().to_str().unwrap(), host.env.path("new-state").to_str().unwrap());
    let policy = host.env.write("new-policy.toml", text, 0o600);
    let key = host.signing_key();
    let fixed = ["--policy", policy.to_str().unwrap(), "restore", "--scenario", "server-loss", "--yes"];
    let rest = ["--root", root.to_str().unwrap(), "--signing-key", &key, "--identity", host.identity()];
    host.env.run(&[&fixed[..], &rest, &["--accept", BURNT]].concat()).exits(0).prints("which needs a passphrase");
    let at = root.join(host.lightning("hsm_secret").strip_prefix("/").unwrap());
    assert_eq!(fs::read(at).unwrap(), secret);
}

#[test]
fn an_lnd_host_comes_back_with_its_channel_backup_and_without_its_channel_database() {
    let mut host = Host::new();
    host.sources.remove(0);
    let chain = "lnd/data/chain/bitcoin/regtest";
    let backup = host.env.write(&format!("{chain}/channel.backup"), [7; 300], 0o600);
    let macaroon = host.env.write(&format!("{chain}/admin.macaroon"), "made-up-macaroon", 0o640);
    let lnd = format!("kind = \"lnd\"\nlnd_dir = \"{}\"\nnetwork = \"regtest\"", host.env.path("lnd").display());
    host.sources.push(("lnd".to_owned(), lnd));
    host.write_policy();
    host.init();
    host.backup();
    let root = host.env.path("new-root");
    fs::create_dir(&root).unwrap();
    let text = host.policy_text().replace(host.state().to_str().unwrap(), host.env.path("new-state").to_str().unwrap());
    let policy = host.env.write("new-policy.toml", text, 0o600);
    let key = host.signing_key();
    let fixed = ["--policy", policy.to_str().unwrap(), "restore", "--scenario", "lnd-server-loss", "--yes"];
    let rest = ["--root", root.to_str().unwrap(), "--signing-key", &key, "--identity", host.identity()];
    let ended = host.env.run(&[&fixed[..], &rest, &["--accept", BURNT]].concat()).exits(0);
    let at = |path: &Path| root.join(path.strip_prefix("/").unwrap());
    assert_eq!(fs::read(at(&backup)).unwrap(), [7; 300]);
    assert_eq!((fs::read(at(&macaroon)).unwrap(), mode(&at(&macaroon))), (b"made-up-macaroon".to_vec(), 0o640));
    let ended = ended
        .prints("holds          channel-backup-placed")
        .prints("restorechanbackup")
        .keeps_quiet_about("made-up-macaroon");
    // What is told to be handed to lnd is the file itself.
    let told = ended.stdout.lines().find_map(|line| line.split_once("restorechanbackup --multi_file "));
    let (_, copy) = told.unwrap_or_else(|| panic!("{ended}"));
    assert_eq!(fs::read(at(Path::new(copy.trim()))).unwrap_or_default(), [7; 300], "{copy}");
}

#[test]
fn on_a_bare_machine_the_key_is_confirmed_from_the_paper() {
    let machine = Machine::new();
    let key = whole().host.signing_key();
    // `script` gives the program a terminal to ask at.
    let ask = |typed: &str| {
        let line = format!(
            "{} restore --vault {} --identity {}",
            env!("CARGO_BIN_EXE_relay-backup"),
            machine.bare.vault.url(),
            whole().host.identity()
        );
        machine.bare.env.program("script").args(["-qec", &line, "/dev/null"]).stdin(format!("{typed}\n")).ends()
    };
    let ended = ask(&key[..12]).exits(0);
    assert!(ended.stdout.contains(&key) && ended.stdout.contains(&whole().second), "{ended}");
    let ended = ask("RWnotTheKey1").exits(2);
    assert!(ended.stdout.contains("no key in this vault begins like the one on your kit"), "{ended}");
    assert!(!ended.stdout.contains(&whole().second), "{ended}");
    ask("RW").exits(2);
}
