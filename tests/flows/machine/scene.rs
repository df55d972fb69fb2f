//! A shop's host as it stands at an operator's, with everything in its usual place, and the machine that comes after
//! it: both are a `/` of their own. Users have other numbers on the second one.

use crate::support::env::{Ended, Run, Running};
use crate::support::host::NODE;
use crate::support::machine::{Machine, is_root};
use crate::support::vault::VaultFolder;
use crate::support::{janitor, shop};
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::Shop;
use relay_backup::scenario::{Do, Scenario};
use relay_backup::seal::sign::SigningKey;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The old host backed up a moment ago; a person knows that it is gone.
pub(super) const GONE: [&str; 2] = ["--accept", "twin=the old host burnt down, I stood beside it"];
/// Nothing was paid out since the snapshot.
pub(super) const UNPAID: [&str; 2] = ["--accept", "payout=no payout was made since, I looked"];
/// The node's folder.
pub(super) const LIGHTNING: &str = "/var/lib/clightning";
/// Where lightningd looks for its database.
pub(super) const WALLET: &str = "/var/lib/clightning/regtest/lightningd.sqlite3";
/// What is the shop's and no database's.
pub(super) const FILES: [&str; 3] = [LIGHTNING, "/etc/medusa", "/var/lib/medusa"];

const CLIGHTNING: [u32; 2] = [30001, 30007];
const MEDUSA: [u32; 2] = [30002, 30008];
/// Notes how far the restore's journal is, whether the fence stands, and whether lightningd's lock is held: all as
/// another program finds it.
const WITNESS: &str = r#"
sed -n 's/.*"event":"done".*"step":"\([^"]*\)".*/ after \1/p' /var/lib/relay-backup/restore/*/journal.jsonl \
    2>/dev/null | tail -n 1 | tr -d '\n'
head -c 18 /var/lib/clightning/regtest/lightningd.sqlite3 2>/dev/null | grep -q '^relay-backup fence' || exit 0
printf ' behind the fence'
perl -e 'use Fcntl; open(F, "+<", "/var/lib/clightning/lightningd-regtest.pid") or exit;
    my $lock = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
    fcntl(F, F_SETLK, $lock) or print " and its lock"'
"#;

/// bitcoind as it answers when it is at the tip and has every block.
const BITCOIN_CLI: &str = r#"#!/bin/sh
case "$*" in
    *getblockchaininfo)
        echo '{"chain":"regtest","blocks":900000,"headers":900000,"initialblockdownload":false,"pruned":false}' ;;
    *'getblockhash 0') echo 0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206 ;;
    *) exit 1 ;;
esac
"#;

/// The host that is lost.
pub(super) struct OldHost {
    pub(super) machine: Machine,
    identity: Vec<u8>,
    pub(super) signing_key: String,
}

static LOST: LazyLock<OldHost> = LazyLock::new(|| {
    let old = OldHost::new();
    janitor::stops(old.machine.keeper());
    janitor::wipes(old.machine.env.home().parent().unwrap());
    old.machine.relay_backup(&["backup"]).ends().exits(0).prints("complete");
    old
});

/// The host that tests share, backed up once. They only read it.
pub(super) fn lost() -> &'static OldHost {
    &LOST
}

impl OldHost {
    /// A host that is set up and not backed up.
    pub(super) fn new() -> Self {
        let cluster = shop::cluster();
        let machine = Machine::new(&users(0), &[cluster.folder(), cluster.socket()]);
        let keeper = machine.env.identity("recovery.key");
        let fixture = |name: &str| fs::read(Path::new("tests/fixtures/cln/node").join(name)).unwrap();
        let now = |name: &str| fixture(&format!("04-after-25-payments/{name}"));
        let [node, _] = CLIGHTNING;
        let [shop, _] = MEDUSA;
        for (path, bytes, mode, owner) in [
            (format!("{LIGHTNING}/regtest/hsm_secret"), fixture("hsm_secret"), 0o400, node),
            (format!("{LIGHTNING}/regtest/emergency.recover"), now("emergency.recover"), 0o400, node),
            (WALLET.to_owned(), now("lightningd.sqlite3"), 0o600, node),
            (format!("{LIGHTNING}/config"), b"network=regtest\n".to_vec(), 0o640, node),
            ("/etc/medusa/.env".to_owned(), b"JWT=made-up-jwt-0001\n".to_vec(), 0o600, shop),
            ("/var/lib/medusa/uploads/logo.svg".to_owned(), b"<svg/>".to_vec(), 0o644, shop),
            ("/var/lib/medusa/uploads/large".to_owned(), crate::support::host::noise(600_000), 0o640, shop),
            ("/etc/relay-backup/policy.toml".to_owned(), policy(&keeper.recipient, cluster).into_bytes(), 0o644, 0),
        ] {
            machine.write(&path, bytes, mode, owner);
        }
        machine.relay_backup(&["init"]).ends().exits(0);
        let signer = SigningKey::read(&machine.at("/var/lib/relay-backup/signing.key")).unwrap();
        let identity = fs::read(&keeper.file).unwrap();
        Self { machine, identity, signing_key: signer.public().to_base64() }
    }

    /// A restore on it, by somebody who brought the identity.
    pub(super) fn restore(&self, scenario: &str) -> Ended {
        self.machine.write("/mnt/stick/recovery.key", &self.identity, 0o600, 0);
        let arguments = ["restore", "--scenario", scenario, "--yes", "--identity", "/mnt/stick/recovery.key"];
        self.machine.relay_backup(&arguments).ends()
    }

    fn vault(&self) -> VaultFolder {
        VaultFolder { root: self.machine.at("/mnt/vault"), node: NODE.into() }
    }

    /// Its newest snapshot.
    pub(super) fn snapshot(&self) -> String {
        self.vault().newest()
    }
}

fn users(number: usize) -> [(&'static str, u32); 2] {
    [("clightning", CLIGHTNING[number]), ("medusa", MEDUSA[number])]
}

fn policy(recipient: &str, cluster: &Cluster) -> String {
    format!(
        "node = \"{NODE}\"\nstate_dir = \"/var/lib/relay-backup\"\n\n[keys]\nrecipients = [\"{recipient}\"]\n\n\
         [objectives]\nrpo = \"26h\"\n\n[[vault]]\nname = \"local\"\nurl = \"fs:///mnt/vault\"\n\n\
         [[source]]\nname = \"cln\"\nkind = \"cln\"\nlightning_dir = \"{LIGHTNING}\"\nnetwork = \"regtest\"\n\n\
         [[source]]\nname = \"medusa\"\nkind = \"files\"\npaths = [\"/etc/medusa\", \"/var/lib/medusa\"]\n\n\
         [[source]]\nname = \"btcpay\"\nkind = \"postgres\"\nurl = \"{}\"\ndatabases = [\"{}\", \"{}\"]\n",
        cluster.url("postgres"),
        Shop::BTCPAY,
        Shop::NBXPLORER
    )
}

/// The machine that comes after it, with an empty PostgreSQL server and the old host's vault in reach.
pub(super) struct NewHost {
    pub(super) machine: Machine,
    pub(super) cluster: Cluster,
    /// The snapshot that is restored.
    pub(super) snapshot: String,
    signing_key: String,
}

impl NewHost {
    /// One after the host that tests share.
    pub(super) fn new() -> Self {
        Self::after(lost())
    }

    /// One after this host.
    pub(super) fn after(old: &OldHost) -> Self {
        let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
        let machine = Machine::new(&users(1), &[cluster.folder(), cluster.socket()]);
        machine.witness(WITNESS);
        machine.write("/fake/bin/bitcoin-cli", BITCOIN_CLI, 0o755, 0);
        old.vault().copy_to(&machine.env, "machine/mnt/vault");
        let policy = fs::read_to_string(old.machine.at("/etc/relay-backup/policy.toml")).unwrap();
        let policy = policy.replace(&shop::cluster().url("postgres"), &cluster.url("postgres"));
        machine.write("/etc/relay-backup/policy.toml", policy, 0o644, 0);
        machine.write("/mnt/stick/recovery.key", &old.identity, 0o600, 0);
        Self { machine, cluster, snapshot: old.snapshot(), signing_key: old.signing_key.clone() }
    }

    /// One with the old host's state: the host itself, and not another one after it.
    pub(super) fn itself() -> Self {
        let new = Self::new();
        let state = lost().machine.at("/var/lib/relay-backup");
        new.machine.env.program("cp").arg("-a").arg(state).arg(new.machine.at("/var/lib")).ends().exits(0);
        new
    }

    /// A restore on `/`, under the policy in its usual place.
    pub(super) fn command(&self, scenario: &str, more: &[&str]) -> Run {
        let fixed = ["restore", "--scenario", scenario, "--yes", "--signing-key", &self.signing_key];
        self.machine.relay_backup(&[&fixed[..], &["--identity", "/mnt/stick/recovery.key"], more].concat())
    }

    /// The same to its end.
    pub(super) fn restore(&self, scenario: &str, more: &[&str]) -> Ended {
        self.command(scenario, more).ends()
    }

    /// The same with a scenario of the machine's own, which stands in `/etc/relay-backup/scenarios`.
    pub(super) fn own(&self, scenario: &str, text: &str, more: &[&str]) -> Run {
        self.machine.write(&format!("/etc/relay-backup/scenarios/{scenario}.toml"), text, 0o644, 0);
        self.command(scenario, &[&["--scenarios", "/etc/relay-backup/scenarios"], more].concat())
    }

    /// The folder of this restore.
    pub(super) fn folder(&self, scenario: &str) -> PathBuf {
        self.folder_below("", scenario)
    }

    fn folder_below(&self, root: &str, scenario: &str) -> PathBuf {
        self.machine.at(format!("{root}/var/lib/relay-backup/restore/{scenario}-{}", self.snapshot))
    }

    /// The steps that the journal calls done, in order, and whether it says that all is.
    pub(super) fn journal(&self, scenario: &str) -> (Vec<String>, bool) {
        self.journal_below("", scenario)
    }

    /// The same of a restore below another root.
    pub(super) fn journal_below(&self, root: &str, scenario: &str) -> (Vec<String>, bool) {
        let text = fs::read_to_string(self.folder_below(root, scenario).join("journal.jsonl")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let lines: Vec<_> = lines.collect();
        let done = lines.iter().filter(|line| line["event"] == "done");
        let done = done.map(|line| line["step"].as_str().unwrap().to_owned()).collect();
        (done, lines.last().is_some_and(|line| line["event"] == "finished"))
    }

    /// One number of a database.
    pub(super) fn count(&self, database: &str, table: &str) -> String {
        count(&self.cluster, database, table)
    }

    /// Demands that the shop is here as it was there: files with owners and modes, databases, and nothing a node would
    /// start on but what is wanted.
    #[track_caller]
    pub(super) fn is_whole(&self, wallet: Wallet) {
        self.is_whole_below("", wallet);
    }

    /// The same below another root, where nobody knows who has which number.
    #[track_caller]
    pub(super) fn is_whole_below(&self, root: &str, wallet: Wallet) {
        let users = usize::from(root.is_empty());
        for folder in FILES {
            let mut old = tree(&lost().machine.at(folder), 0);
            let mut new = tree(&self.machine.at(format!("{root}{folder}")), users);
            if folder == LIGHTNING {
                let database = Path::new("regtest/lightningd.sqlite3");
                let found = [&mut old, &mut new].map(|tree| tree.remove(database).map(without_header));
                assert!(if wallet == Wallet::InPlace { found[0] == found[1] } else { found[1].is_none() });
            }
            assert_eq!(new, old, "{folder}");
        }
        self.has_databases();
    }

    /// Demands that the databases are here as they were there.
    #[track_caller]
    pub(super) fn has_databases(&self) {
        for (database, table) in [(Shop::BTCPAY, "\"Invoices\""), (Shop::NBXPLORER, "nbxv1_evts")] {
            assert_eq!(self.count(database, table), count(shop::cluster(), database, table), "{database}");
        }
    }
}

/// Whether the channel database is to be in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wallet {
    Nowhere,
    InPlace,
}

fn count(cluster: &Cluster, database: &str, table: &str) -> String {
    let rows = cluster.query(database, &format!("SELECT count(*)::text FROM {table}")).unwrap();
    rows[0][0].clone().unwrap()
}

/// Things by their path: owner, and of a file mode and content.
pub(super) type Tree = BTreeMap<PathBuf, Entry>;
type Entry = (String, Option<(u32, Vec<u8>)>);

/// A copy by SQLite differs from the file in counters of its header alone.
fn without_header((owner, content): Entry) -> Entry {
    (owner, content.map(|(mode, bytes)| (mode, bytes[100..].to_vec())))
}

/// What lies below a folder: of files owner by name, mode and content; of folders the owner, as their modes are the
/// restore's own where they were missing.
pub(super) fn tree(folder: &Path, number: usize) -> Tree {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let known =
                users(number).into_iter().find(|(_, uid)| is_root() && *uid == meta.uid() && *uid == meta.gid());
            let owner = known.map_or_else(|| format!("{}:{}", meta.uid(), meta.gid()), |(name, _)| name.to_owned());
            let content = meta.is_file().then(|| (meta.mode() & 0o7777, fs::read(&path).unwrap()));
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), (owner, content));
        }
    }
    found
}

/// Everything on the machine that a restore could change.
pub(super) fn everything(new: &NewHost) -> Tree {
    let below = |folder: &str| {
        let tree = tree(&new.machine.at(folder), 1).into_iter();
        tree.map(|(path, what)| (Path::new(folder).join(path), what)).collect::<Vec<_>>()
    };
    ["/etc", "/mnt", "/root", "/run", "/var", "/fake/units"].iter().flat_map(|folder| below(folder)).collect()
}

/// Waits until something is so, as long as the run lives.
#[track_caller]
pub(super) fn until(running: &Running, is_so: impl Fn() -> bool) {
    while !is_so() {
        assert!(!running.has_ended(), "the run ended before that");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// What the unit manager is told by a scenario's steps, in order, with what the witness says: each after the step
/// before it, and between fence and unfence behind the fence.
pub(super) fn told_by(scenario: &Scenario) -> Vec<String> {
    let mut before = None;
    let mut fence = "";
    let mut told = Vec::new();
    for step in &scenario.steps {
        let seen = before.map(|id| format!(" after {id}{fence}")).unwrap_or_default();
        match &step.action {
            Do::StopUnit { unit, .. } => told.push(format!("stop {unit}{seen}")),
            Do::StartUnit { unit, .. } => told.push(format!("start {unit}{seen}")),
            Do::Fence => fence = " behind the fence and its lock",
            Do::Unfence => fence = "",
            _ => {}
        }
        before = Some(&step.id);
    }
    told
}
