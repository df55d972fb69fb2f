//! A host and vaults inside this process: object stores in memory that fail on demand, a policy, keys, files to back
//! up; and the one question that is asked after every fault: does everything that is committed open completely?

use crate::support::env::{Identity, TestEnv};
use crate::support::faulty::{Faults, Nth, On};
use jiff::Timestamp;
use opendal::{Operator, services};
use relay_backup::base::clock::Clock;
use relay_backup::base::ids::{Sha256Hex, VaultId};
use relay_backup::base::interrupt::Interrupt;
use relay_backup::base::secret::Secret;
use relay_backup::engine::backup::{BackupReport, Request, backup_to};
use relay_backup::engine::reading::{Place, Reader};
use relay_backup::engine::state::{HostState, StateFolder};
use relay_backup::engine::verify::{self, Depth, VerifyReport, Which};
use relay_backup::engine::{Context, survey};
use relay_backup::exit::{Exit, Failure};
use relay_backup::manifest::{self, Manifest};
use relay_backup::policy::{self, Policy, VaultUrl, Via};
use relay_backup::report::Level;
use relay_backup::seal::identity::Identities;
use relay_backup::vault::layout::{ObjectKey, Prefix, SnapshotFile};
use relay_backup::vault::{Patience, Vault};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Longest artifact that is never deduplicated, in bytes.
const PRECIOUS: u64 = 64 * 1024;
/// How long a run may take before it counts as one that hangs. Generous: it measures nothing.
const PATIENCE: Duration = Duration::from_secs(180);

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// One vault: a store in memory behind a layer of faults.
pub(crate) struct Store {
    pub(crate) vault: Vault,
    pub(crate) faults: Faults,
    pub(crate) id: VaultId,
    operator: Operator,
}

impl Store {
    fn new(name: &str, id: u8) -> Self {
        let faults = Faults::new();
        let operator = Operator::new(services::Memory::default()).unwrap().layer(faults.layer());
        let patience = Patience {
            tries: 2,
            pause: Duration::from_millis(1),
            control: Duration::from_secs(20),
            transfer: Duration::from_secs(60),
        };
        let vault = Vault::from_operator(name.parse().unwrap(), operator.clone()).unwrap().with_patience(patience);
        Self { vault, faults, id: format!("{id:032x}").parse().unwrap(), operator }
    }

    /// Puts counted so far.
    pub(crate) fn puts(&self) -> u64 {
        self.faults.count(On::Put)
    }

    /// Removes an object behind the program's back.
    pub(crate) fn remove(&self, key: &ObjectKey) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(self.operator.delete(key.as_str())).unwrap();
    }

    /// The same store, tried for less long.
    pub(crate) fn with_patience(&mut self, patience: Patience) {
        self.vault = self.vault.with_patience(patience);
    }
}

/// How a run ended.
pub(crate) struct Ran {
    /// The exit a user would see.
    pub(crate) exit: Exit,
    /// The report, when there is one.
    pub(crate) report: Option<BackupReport>,
    /// Findings or the failure, as text.
    pub(crate) said: String,
}

impl Ran {
    /// Demands this exit.
    #[track_caller]
    pub(crate) fn exits(self, exit: Exit) -> Self {
        assert_eq!(self.exit, exit, "{}", self.said);
        self
    }

    /// The vaults in which the snapshot was committed.
    pub(crate) fn whole(&self) -> Vec<&str> {
        let rows = self.report.iter().flat_map(|report| &report.vaults);
        rows.filter(|row| row.whole).map(|row| row.name.as_str()).collect()
    }
}

/// A host with vaults named `a`, `b`, …
pub(crate) struct Bench {
    pub(crate) env: TestEnv,
    pub(crate) policy: Policy,
    pub(crate) stores: Vec<Store>,
    identity: Identity,
    moment: AtomicI64,
}

impl Bench {
    /// So many empty vaults, of which `required` must be whole; something to back up.
    pub(crate) fn new(vaults: usize, required: usize) -> Self {
        let env = TestEnv::new();
        let identity = env.identity("owner.key");
        let names: Vec<String> = (0..vaults).map(|n| char::from(b'a' + n as u8).to_string()).collect();
        let policy = policy_text(&env, &identity, &names, required);
        let policy = policy::parse(&env.path("policy.toml"), &policy).unwrap();
        let bench = Self { env, policy, stores: Vec::new(), identity, moment: AtomicI64::new(1_790_000_000) };
        bench.change(1);
        bench.env.write("precious/.env", "API_KEY=1\n", 0o600);
        HostState::create(&bench.policy, None, bench.now()).unwrap();
        let stores: Vec<Store> = names.iter().zip(1..).map(|(name, id)| Store::new(name, id)).collect();
        for store in &stores {
            store.vault.create(&store.id, bench.now()).unwrap();
        }
        Self { stores, ..bench }
    }

    /// Other content in the large file: about four segments.
    pub(crate) fn change(&self, seed: u64) {
        self.env.write("data/large", noise(seed, 1_500_000), 0o600);
    }

    /// Adds a vault to the policy; it is created empty.
    pub(crate) fn add_vault(&mut self, name: &str) {
        let mut added = self.policy.vaults[0].clone();
        added.name = name.parse().unwrap();
        self.policy.vaults.push(added);
        let store = Store::new(name, 100 + self.stores.len() as u8);
        store.vault.create(&store.id, self.now()).unwrap();
        self.stores.push(store);
    }

    /// Replaces a vault by an empty one of the same name.
    pub(crate) fn wipe(&mut self, index: usize) {
        let name = self.stores[index].vault.name().to_string();
        let store = Store::new(&name, 200 + index as u8);
        store.vault.create(&store.id, self.now()).unwrap();
        self.stores[index] = store;
    }

    /// Makes two vaults of the policy one place.
    pub(crate) fn make_one(&mut self, index: usize, other: usize) {
        let name = self.stores[other].vault.name().clone();
        self.stores[other].vault = Vault::from_operator(name, self.stores[index].operator.clone()).unwrap();
    }

    /// Moves the clock by so many seconds.
    pub(crate) fn move_clock(&self, seconds: i64) {
        self.moment.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.moment.fetch_add(60, Ordering::SeqCst)).unwrap()
    }

    /// Nothing fails any more, anywhere.
    pub(crate) fn heal(&self) {
        self.stores.iter().for_each(|store| store.faults.clear());
    }

    /// One run, as a fresh process would do it. One that hangs fails the test.
    pub(crate) fn run(&self) -> Ran {
        self.run_for("manual")
    }

    /// The same for this reason.
    pub(crate) fn run_for(&self, trigger: &str) -> Ran {
        // Other tests of this process start programs: between its fork and its exec a child holds every lock that was
        // open, also that of the run before. A process of its own never meets this.
        for _ in 0..200 {
            let ran = self.run_once(trigger);
            if ran.exit != Exit::Locked {
                return ran;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.run_once(trigger)
    }

    fn run_once(&self, trigger: &str) -> Ran {
        let (policy, trigger) = (self.policy.clone(), trigger.to_owned());
        let vaults: Vec<Vault> = self.stores.iter().map(|store| store.vault.clone()).collect();
        let clock = Clock::Fixed(self.now());
        let (done, result) = mpsc::channel();
        std::thread::spawn(move || {
            let interrupt = Interrupt::new();
            let context = Context { clock, interrupt: &interrupt, progress: &|_| {} };
            let request = Request { only: Vec::new(), trigger };
            // Nobody waits any more when the test has given up.
            done.send(backup_to(&context, &policy, &request, &vaults)).ok();
        });
        match result.recv_timeout(PATIENCE).expect("the run hangs or panicked") {
            Ok(report) => {
                let exit = Exit::of(&report.findings);
                Ran { exit, said: format!("{:#?}", report.findings), report: Some(report) }
            }
            Err(error) => {
                let failure = Failure::from(error);
                Ran { exit: failure.exit, said: format!("{failure:?}"), report: None }
            }
        }
    }

    /// What `verify` says of these vaults.
    pub(crate) fn verify(&self, stores: &[&Store], depth: Depth, which: Which) -> VerifyReport {
        let interrupt = Interrupt::new();
        let context = Context { clock: Clock::Fixed(self.now()), interrupt: &interrupt, progress: &|_| {} };
        let place = |store: &&Store| Place {
            vault: store.vault.clone(),
            id: store.id.clone(),
            url: VaultUrl::Fs(format!("/memory/{}", store.vault.name()).into()),
            counts: true,
            via: Via::Backup,
        };
        let reader = Reader {
            node: self.policy.node.clone(),
            places: stores.iter().map(place).collect(),
            trusted: HostState::load(&self.policy).unwrap().trusted(&self.policy).unwrap(),
            findings: Vec::new(),
            witnesses: Vec::new(),
            asked: stores.len(),
        };
        let identities = self.identities();
        let scratch = self.env.path("tmp");
        let request = verify::Request { which, depth, identities: Some(&identities), scratch: &scratch };
        verify::verify(&context, Some(&self.policy), &reader, &request).unwrap()
    }

    pub(crate) fn identities(&self) -> Identities {
        let content = Secret::new(std::fs::read(&self.identity.file).unwrap());
        Identities::parse(&content, "owner.key").unwrap()
    }

    /// The snapshots that are committed in a vault, oldest first, read without the program's own reader.
    pub(crate) fn manifests(&self, store: &Store) -> Vec<Manifest> {
        let entries = survey::entries(&store.vault, &self.policy.node).unwrap();
        let committed = entries.into_iter().filter(survey::Entry::is_committed);
        committed
            .map(|entry| {
                let key = ObjectKey::manifest(&self.policy.node, &entry.id);
                manifest::decode(&store.vault.get(&key, u64::MAX / 2).unwrap()).unwrap()
            })
            .collect()
    }

    /// The objects of segments that lie in a vault.
    pub(crate) fn objects(&self, store: &Store) -> BTreeSet<String> {
        let listing = store.vault.list(&Prefix::segments(&self.policy.node)).unwrap();
        listing.objects.into_iter().map(|listed| listed.key.to_string()).collect()
    }

    /// The invariant: whatever a manifest names is there, byte for byte what it says, and opens.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        self.heal();
        for store in &self.stores {
            let node = &self.policy.node;
            let get = |key: ObjectKey| store.vault.get(&key, u64::MAX / 2).unwrap_or_else(|error| panic!("{error}"));
            for manifest in self.manifests(store) {
                for segment in manifest.segments() {
                    let bytes = get(ObjectKey::segment(node, &segment.object));
                    assert_eq!(Sha256Hex::of(&bytes), segment.object);
                    assert_eq!(bytes.len() as u64, segment.length);
                }
                for (file, digest) in
                    [(SnapshotFile::EpochKey, &manifest.epoch_key), (SnapshotFile::Notes, &manifest.notes)]
                {
                    let bytes = get(ObjectKey::snapshot(node, &manifest.snapshot, file));
                    assert_eq!(Sha256Hex::of(&bytes), digest.sha256, "{file:?}");
                }
            }
            let report = self.verify(&[store], Depth::Opened, Which::All);
            let bad: Vec<_> = report.findings.iter().filter(|finding| finding.level >= Level::Failed).collect();
            assert!(bad.is_empty(), "{bad:#?}");
        }
    }

    /// A run without faults is whole everywhere, and everything opens.
    #[track_caller]
    pub(crate) fn assert_recovers(&self) {
        self.heal();
        let ran = self.run().exits(Exit::Ok);
        assert_eq!(ran.whole().len(), self.stores.len(), "{}", ran.said);
        self.assert_sound();
    }

    /// Removes the catalog, as a host that lost its disk would.
    pub(crate) fn lose_catalog(&self) {
        let file = StateFolder::of(&self.policy).catalog();
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let path = format!("{}{suffix}", file.display());
            if std::fs::exists(&path).unwrap() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// How many operations of any kind a second run makes on the first vault.
    pub(crate) fn operations_of_a_run(&self, index: usize) -> u64 {
        let before = self.stores[index].faults.count(On::Any);
        self.run().exits(Exit::Ok);
        self.stores[index].faults.count(On::Any) - before
    }

    /// Sets a fault on one vault.
    pub(crate) fn on(&self, index: usize, on: On, nth: Nth, fault: crate::support::faulty::Fault) {
        self.stores[index].faults.on(on, nth, fault);
    }
}

/// Calls `each` for a fault at the first put to vault `a`, the second, and so on, each time on a fresh bench, until a
/// run makes fewer puts. Where segments end differs from bench to bench, so their number is not known beforehand.
pub(crate) fn at_every_put(vaults: usize, mut each: impl FnMut(u64, Bench)) {
    for n in 1.. {
        let bench = Bench::new(vaults, 1);
        let faults = bench.stores[0].faults.clone();
        let before = faults.count(On::Put);
        each(n, bench);
        if faults.count(On::Put) - before < n {
            assert!(n > 8, "{n} puts do not reach every kind of object");
            return;
        }
    }
}

/// The objects of a manifest's shared segments, in order.
pub(crate) fn shared(manifest: &Manifest) -> Vec<&Sha256Hex> {
    let artifacts = manifest.artifacts.iter().filter(|artifact| artifact.length > PRECIOUS);
    artifacts.flat_map(|artifact| &artifact.segments).map(|segment| &segment.object).collect()
}

fn policy_text(env: &TestEnv, identity: &Identity, names: &[String], required: usize) -> String {
    let at = |name: &str| env.path(name).display().to_string();
    let mut text = format!(
        "node = \"shop-1\"\nstate_dir = \"{}\"\n\n[keys]\nrecipients = [\"{}\"]\n\n[backup]\ncopies_required = {required}\n\n",
        at("state"),
        identity.recipient
    );
    for name in names {
        // The vaults are given to the engine; nothing is ever opened there.
        text += &format!("[[vault]]\nname = \"{name}\"\nurl = \"fs://{}\"\n\n", at(&format!("nowhere-{name}")));
    }
    for source in ["data", "precious"] {
        text += &format!("[[source]]\nname = \"{source}\"\nkind = \"files\"\npaths = [\"{}\"]\n\n", at(source));
    }
    text
}
