//! A host that was backed up, an empty root beside it, and a plan by hand for what the scenarios make plans of.

use crate::support::env::TestEnv;
use crate::support::host::{Host, NODE, WALLET};
use crate::support::shop;
use jiff::{SignedDuration, Timestamp};
use relay_backup::artifact::ArtifactKind;
use relay_backup::base::clock::Clock;
use relay_backup::base::interrupt::Interrupt;
use relay_backup::base::secret::Secret;
use relay_backup::engine::reading::{From, Opened, Place, Reader, Wanted, open_snapshot};
use relay_backup::engine::restore::probe::{Chosen, World, probe};
use relay_backup::engine::survey::Believed;
use relay_backup::engine::{Context, Error};
use relay_backup::guard::facts::{Claim, Facts, Known};
use relay_backup::guard::{Acceptances, Guard, Refusal, Verdict, judge};
use relay_backup::plan::{Action, LightningPlace, Owner, Plan, PlannedStep, Secrecy, ServerUrl, Swap, Together};
use relay_backup::policy::{self, Policy};
use relay_backup::sandbox::shop::Shop;
use relay_backup::seal::identity::Identities;
use relay_backup::target::fence::Fence;
use relay_backup::target::{Owners, Root};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the node goes, as the restored machine names it.
pub(super) const CLN: &str = "/var/lib/clightning";
/// Its channel database.
pub(super) const CLN_WALLET: &str = "/var/lib/clightning/regtest/lightningd.sqlite3";
/// Where toxic things go.
pub(super) const QUARANTINE: &str = "/var/lib/relay-backup/TOXIC-lightningd.sqlite3";
/// The database that BTCPay's goes to: its own name is taken on the server that the tests share.
pub(super) const FRESH: &str = "probe_fresh";

/// A host, and an empty root to restore to.
pub(super) struct Scene {
    pub(super) host: Host,
    pub(super) ground: TestEnv,
    /// How long ago everything was stored, by the clock that is told.
    pub(super) later: SignedDuration,
    /// The newest sign of life when the run began.
    pub(super) begun: Option<Timestamp>,
    /// The snapshot; the newest complete one where none is named.
    pub(super) wanted: Option<String>,
    /// The vault that the snapshot is found in; all of the policy are read.
    pub(super) found_in: Option<String>,
    /// Whether somebody asks to stop before anything is looked at.
    pub(super) is_interrupted: bool,
    /// Changes the manifest before it is believed, for what the program cannot be made to write.
    pub(super) forge: fn(&mut Believed),
}

/// What was learned, and the plan it was learned for.
pub(super) struct Learnt {
    pub(super) plan: Plan,
    pub(super) facts: Facts,
}

impl Scene {
    /// A host that is set up and was backed up once.
    pub(super) fn of(host: Host) -> Self {
        host.init();
        host.backup();
        Self::not_yet(host)
    }

    /// A host that the test sets up.
    pub(super) fn not_yet(host: Host) -> Self {
        Self {
            host,
            ground: TestEnv::new(),
            later: SignedDuration::from_hours(2),
            begun: None,
            wanted: None,
            found_in: None,
            is_interrupted: false,
            forge: |_| {},
        }
    }

    /// Where a path of the restored machine lies.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.ground.path("root").join(path.trim_start_matches('/'))
    }

    /// Puts a file below the root.
    pub(super) fn put(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        // One that is read-only is replaced, not written to.
        fs::remove_file(self.at(path)).ok();
        fs::write(self.at(path), bytes).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn root(&self) -> Root {
        fs::create_dir_all(self.ground.path("root")).unwrap();
        Root::below(&self.ground.path("root"), Owners::WherePossible).unwrap()
    }

    /// Probes a plan that is made of these actions.
    pub(super) fn learn(&self, actions: impl FnOnce(&Opened) -> Vec<Action>) -> Learnt {
        self.learn_behind(&[], actions)
    }

    /// The same; an error where nothing was learned.
    pub(super) fn try_learn(&self, actions: impl FnOnce(&Opened) -> Vec<Action>) -> Result<Learnt, Error> {
        self.try_learn_behind(&[], actions)
    }

    /// The same, with fences of our own.
    pub(super) fn learn_behind(
        &self,
        fences: &[(LightningPlace, &Fence<'_>)],
        actions: impl FnOnce(&Opened) -> Vec<Action>,
    ) -> Learnt {
        self.try_learn_behind(fences, actions).unwrap()
    }

    fn try_learn_behind(
        &self,
        fences: &[(LightningPlace, &Fence<'_>)],
        actions: impl FnOnce(&Opened) -> Vec<Action>,
    ) -> Result<Learnt, Error> {
        let interrupt = Interrupt::new();
        let now = Clock::System.now().checked_add(self.later).unwrap();
        let context = Context { clock: Clock::Fixed(now), interrupt: &interrupt, progress: &|_| {} };
        let policy = policy::load(&self.host.env.path("policy.toml")).unwrap();
        let identities = self.identities();
        let reader = Reader::open(&context, Some(&policy), &From::default()).unwrap();
        let wanted = self.wanted.as_ref().map_or(Wanted::Latest, |id| Wanted::One(id.parse().unwrap()));
        let (mut believed, places) = self.find(&context, &policy, &reader, &wanted);
        (self.forge)(&mut believed);
        let places: Vec<&Place> = places.iter().collect();
        let opened = open_snapshot(&places, &reader.node, &believed.manifest, &identities).unwrap();
        let root = self.root();
        let plan = plan(&believed, actions(&opened), &self.ground.path("root"));
        let world = World {
            context: &context,
            reader: &reader,
            chosen: Some(Chosen { believed: &believed, places: &places, opened: &opened }),
            identities: Some(&identities),
            policy: Some(&policy),
            root: &root,
            is_below: true,
            fences,
            claim: Known::Is(Claim::NotTaken),
            begun: self.begun,
            lowered: None,
            is_dry_run: false,
            run: "one",
        };
        if self.is_interrupted {
            interrupt.set();
        }
        let facts = probe(&world, &plan)?;
        Ok(Learnt { plan, facts })
    }

    fn find(&self, context: &Context<'_>, policy: &Policy, reader: &Reader, wanted: &Wanted) -> (Believed, Vec<Place>) {
        let owned = |(believed, places): (Believed, Vec<&Place>)| (believed, places.into_iter().cloned().collect());
        match &self.found_in {
            None => owned(reader.find(wanted).unwrap()),
            Some(vault) => {
                let from = From { vault: Some(vault.clone()), ..From::default() };
                owned(Reader::open(context, Some(policy), &from).unwrap().find(wanted).unwrap())
            }
        }
    }

    fn identities(&self) -> Identities {
        let bytes = Secret::new(fs::read(&self.host.keeper.file).unwrap());
        Identities::parse(&bytes, "the keeper's").unwrap()
    }

    /// Which guards refuse the plan after a server's loss.
    #[track_caller]
    pub(super) fn refused_by(&self) -> Vec<Guard> {
        self.learn(|_| server_loss()).refused_by()
    }
}

impl Learnt {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        judge(self.plan.clone(), &self.facts, &Acceptances::default()).refusals().cloned().collect()
    }

    pub(super) fn refused_by(&self) -> Vec<Guard> {
        self.refusals().iter().map(|refusal| refusal.guard).collect()
    }

    /// All that one guard says, for looking into it.
    #[track_caller]
    pub(super) fn said_by(&self, guard: Guard) -> String {
        let refusals = self.refusals();
        let refusal = refusals.iter().find(|refusal| refusal.guard == guard);
        let details = &refusal.unwrap_or_else(|| panic!("{guard} does not refuse")).details;
        details.iter().map(|detail| format!("{}: {}\n", detail.subject, detail.message)).collect()
    }

    pub(super) fn verdict(&self, guard: Guard) -> Verdict {
        let judgement = judge(self.plan.clone(), &self.facts, &Acceptances::default());
        judgement.verdicts().iter().find(|judged| judged.guard == guard).unwrap().verdict.clone()
    }
}

fn plan(believed: &Believed, actions: Vec<Action>, root: &Path) -> Plan {
    Plan {
        scenario: "server-loss".parse().unwrap(),
        secrecy: Secrecy::Kept,
        node: NODE.parse().unwrap(),
        snapshot: Some(believed.manifest.snapshot.clone()),
        root: Some(root.to_owned()),
        steps: vec![PlannedStep { id: "all".parse().unwrap(), title: "Everything".to_owned(), actions }],
    }
}

/// The node's places.
pub(super) fn lightning() -> LightningPlace {
    let network_dir = PathBuf::from(CLN).join("regtest");
    LightningPlace {
        lightning_dir: CLN.into(),
        wallet: network_dir.join("lightningd.sqlite3"),
        pid_file: PathBuf::from(CLN).join("lightningd-regtest.pid"),
        rpc_socket: network_dir.join("lightning-rpc"),
        network_dir,
    }
}

pub(super) fn ourselves() -> Owner {
    let owner = relay_backup::target::Owner::ourselves();
    Owner { user: owner.user, uid: owner.uid, group: owner.group, gid: owner.gid }
}

/// Places one file of the node.
pub(super) fn file(name: &str, kind: ArtifactKind, length: u64) -> Action {
    let to = PathBuf::from(CLN).join("regtest").join(name);
    Action::PlaceFile {
        artifact: format!("cln/{name}").parse().unwrap(),
        kind,
        to,
        owner: ourselves(),
        mode: 0o400,
        length,
    }
}

/// What a server's loss asks for, into an empty root, without databases.
pub(super) fn server_loss() -> Vec<Action> {
    vec![
        Action::RaiseFence { lightning: lightning() },
        file("hsm_secret", ArtifactKind::HsmSecret, 150),
        file("emergency.recover", ArtifactKind::EmergencyRecover, 500),
        Action::PlaceTree { artifact: "cln/extras.tar".parse().unwrap(), below: CLN.into(), length: 2048 },
        Action::PlaceTree { artifact: "medusa/files.tar".parse().unwrap(), below: "/".into(), length: 4096 },
        Action::Quarantine { artifact: WALLET.parse().unwrap(), to: QUARANTINE.into(), length: 400_000 },
        Action::LowerFence { lightning: lightning() },
    ]
}

/// The channel database put where a node starts on it, over one that is moved aside.
pub(super) fn migration(opened: &Opened) -> Vec<Action> {
    let beside = ["", "-journal", "-wal", "-shm"].map(|ending| PathBuf::from(format!("{CLN_WALLET}{ending}")));
    vec![
        Action::RaiseFence { lightning: lightning() },
        Action::MoveAside { paths: beside.to_vec(), together: Together::Database },
        file("hsm_secret", ArtifactKind::HsmSecret, 150),
        Action::PlaceChannelDatabase {
            artifact: WALLET.parse().unwrap(),
            to: CLN_WALLET.into(),
            owner: ourselves(),
            mode: 0o600,
            length: 400_000,
            claim: opened.notes.snapshot.clone(),
        },
        Action::LowerFence { lightning: lightning() },
    ]
}

/// Restores one of the shop's databases under this name.
pub(super) fn database(artifact: &str, name: &str) -> Action {
    Action::RestoreDatabase {
        artifact: format!("btcpay/{artifact}.dump").parse().unwrap(),
        server: ServerUrl(shop::cluster().url("postgres")),
        database: name.to_owned(),
        owner_role: "btcpayserver".to_owned(),
        length: 1000,
        swap: Swap::IntoEmpty,
    }
}

/// BTCPay's database, into a fresh one.
pub(super) fn btcpay(name: &str) -> Action {
    database(Shop::BTCPAY, name)
}
