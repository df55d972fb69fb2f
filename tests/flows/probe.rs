//! Probing for a restore: real vaults, real wallets, real databases, an empty root; and what the guards make of it.
//! Where everything is right, a plan is cleared; each test spoils one thing, and one guard names it.

mod scene;

use crate::support::closing::hang_up;
use crate::support::host::{Host, WALLET};
use crate::support::vault::overwrite;
use jiff::{SignedDuration, Timestamp};
use relay_backup::artifact::{ArtifactKind, Toxicity};
use relay_backup::base::interrupt::Interrupt;
use relay_backup::engine::Error;
use relay_backup::facts::Facts;
use relay_backup::facts::postgres::Software;
use relay_backup::guard::evidence::{Origin, Testimony};
use relay_backup::guard::facts::{
    DatabaseAt, EmergencyAt, FileAt, Finality, Known, LifeKind, LifeSource, SecretAt, WalletAt,
};
use relay_backup::guard::{Guard, Verdict};
use relay_backup::manifest::VaultHead;
use relay_backup::plan::{Action, ServerUrl};
use relay_backup::sandbox::shop::Shop;
use relay_backup::sources::postgres::Server;
use relay_backup::sources::postgres::restore::Landing;
use relay_backup::target::fence::{self, Why};
use scene::*;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

const NODE_ID: &str = "037c0ac3be7b74b0d720936d0db9f51db75c05604a578e676515973a877d2e2ba7";
const SECRET: &str = "/var/lib/clightning/regtest/hsm_secret";
const EMERGENCY: &str = "/var/lib/clightning/regtest/emergency.recover";

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/fixtures/cln").join(name)).unwrap()
}

/// Lets the node live on to this step of its recorded life.
fn lives_on(host: &Host, step: &str) {
    host.replace("lightningd.sqlite3", fixture(&format!("node/{step}/lightningd.sqlite3")));
    host.replace("emergency.recover", fixture(&format!("node/{step}/emergency.recover")));
}

fn is<T>(known: &Known<T>) -> &T {
    match known {
        Known::Is(fact) => fact,
        Known::Unknown(why) => panic!("unknown: {why}"),
    }
}

fn why<T: std::fmt::Debug>(known: &Known<T>) -> &str {
    match known {
        Known::Unknown(why) => why,
        Known::Is(fact) => panic!("known: {fact:?}"),
    }
}

#[test]
fn an_empty_root_is_cleared_and_nothing_in_it_is_changed() {
    let scene = Scene::of(Host::with_databases());
    let learnt = scene.learn(|_| {
        let mut actions = server_loss();
        actions.insert(5, btcpay(FRESH));
        actions.insert(5, database(Shop::NBXPLORER, "probe_fresh_too"));
        actions
    });
    let refusals = learnt.refusals();
    assert!(refusals.is_empty(), "{refusals:#?}");
    assert_eq!(fs::read_dir(scene.ground.path("root")).unwrap().count(), 0);

    let facts = &learnt.facts;
    let identity = &facts.identity;
    assert_eq!((is(&identity.secret_node_id).as_str(), is(&identity.database_node_id).as_str()), (NODE_ID, NODE_ID));
    assert_eq!(is(&identity.target_network), "regtest");
    assert_eq!(is(&identity.target_genesis), is(&identity.database_genesis));
    let toxicity = |name: &str| *is(&facts.artifacts[&name.parse().unwrap()].toxicity);
    assert_eq!((toxicity(WALLET), toxicity("cln/hsm_secret")), (Toxicity::Toxic, Toxicity::Harmless));
    let dump = format!("btcpay/{}.dump", Shop::BTCPAY).parse().unwrap();
    assert_eq!(facts.artifacts[&dump].software, Known::Is(Software::Btcpay));
    assert_eq!(facts.target.files[Path::new(SECRET)], Known::Is(FileAt::Nothing));
    let heights = is(&facts.freshness.heights);
    assert!(heights["NBXplorer"] > 0 && heights["lightningd"] > 0, "{heights:?}");
    assert_eq!(*is(&facts.freshness.newest_mark), None);
    assert_eq!(is(&facts.candidates[&WALLET.parse().unwrap()]).finality, Known::Is(Finality::Ordinary));
    let payout = is(&facts.payout);
    assert!(payout.pending > 0 && payout.processors.len() == 1, "the shop has both: {payout:?}");
    assert!(why(&facts.vaults).contains("no channel database is placed"));
    assert_eq!(facts.target.mirror, Known::Is(None));
}

#[test]
fn what_uses_the_node_is_seen() {
    let scene = Scene::of(Host::new());
    let root = scene.root();
    let place = fence::Place {
        lightning_dir: CLN.into(),
        wallet: CLN_WALLET.into(),
        pid_file: lightning().pid_file,
        owner: relay_backup::target::Owner::ourselves(),
    };
    let why = Why { command: "relay-backup restore", snapshot: None, since: Timestamp::UNIX_EPOCH };
    let raised = fence::raise(&root, &place, &why, None).unwrap();
    // Another restore's fence holds the lock; the same one, known as ours, does not stand in our way.
    assert_eq!(scene.refused_by(), [Guard::Running]);
    let ours = scene.learn_behind(&[(lightning(), &raised)], |_| server_loss());
    assert_eq!(ours.refused_by(), []);
    assert_eq!(ours.facts.target.files[Path::new(CLN_WALLET)], Known::Is(FileAt::Fence));
    assert_eq!(ours.facts.target.wallets[Path::new(CLN_WALLET)], Known::Is(WalletAt::Nothing));
    raised.lower().unwrap();
    assert_eq!(scene.refused_by(), []);

    let listener = UnixListener::bind(scene.at("/var/lib/clightning/regtest/lightning-rpc")).unwrap();
    let learnt = scene.learn(|_| server_loss());
    assert!(learnt.said_by(Guard::Running).contains(&std::process::id().to_string()), "the process is named");
    hang_up(listener);
    assert_eq!(scene.refused_by(), [], "a socket that is left says nothing");
}

#[test]
fn another_secret_in_place_is_refused_and_the_same_one_is_known() {
    let scene = Scene::of(Host::new());
    scene.put(SECRET, fixture("hsm_secret/raw32.hsm_secret"), 0o400);
    let learnt = scene.learn(|_| server_loss());
    assert_eq!(learnt.refused_by(), [Guard::Rollback]);
    let at = is(&learnt.facts.target.secrets[Path::new(SECRET)]);
    assert!(matches!(at, SecretAt::Other { node_id: Some(id) } if id != NODE_ID), "{at:?}");

    // An interrupted run was here: what it placed is known, and is not in the way.
    let scene = Scene::of(Host::new());
    scene.put(SECRET, fixture("node/hsm_secret"), 0o400);
    let learnt = scene.learn(|_| server_loss());
    assert_eq!(learnt.refused_by(), []);
    assert_eq!(learnt.facts.target.files[Path::new(SECRET)], Known::Is(FileAt::Identical));
    assert_eq!(learnt.facts.target.secrets[Path::new(SECRET)], Known::Is(SecretAt::Same));
    // With another mode it is not what would be placed.
    scene.put(SECRET, fixture("node/hsm_secret"), 0o440);
    let learnt = scene.learn(|_| server_loss());
    assert!(matches!(learnt.facts.target.files[Path::new(SECRET)], Known::Is(FileAt::Other { .. })));
    assert_eq!(learnt.refused_by(), [Guard::Rollback]);
}

#[test]
fn what_lies_in_the_way_is_told_path_by_path() {
    let scene = Scene::of(Host::new());
    scene.put(EMERGENCY, fixture("node/04-after-25-payments/emergency.recover"), 0o600);
    scene.put("/var/lib/clightning/config", "wallet=sqlite3:///a/main.sqlite3:/b/mirror.sqlite3\n", 0o600);
    scene.put(&format!("{CLN_WALLET}-journal"), "x", 0o600);
    let learnt = scene.learn(|_| server_loss());
    let target = &learnt.facts.target;
    assert!(
        matches!(is(&target.emergencies[Path::new(EMERGENCY)]), EmergencyAt::Sound(found) if found.channels.len() == 2)
    );
    assert_eq!(target.files[&PathBuf::from(format!("{CLN_WALLET}-journal"))], Known::Is(FileAt::Other { length: 1 }));
    let trees = |name: &str| is(&target.trees[&name.parse().unwrap()]).clone();
    assert_eq!(trees("cln/extras.tar"), [PathBuf::from("/var/lib/clightning/config")]);
    assert_eq!(trees("medusa/files.tar"), Vec::<PathBuf>::new());
    assert_eq!(target.mirror, Known::Is(Some("/b/mirror.sqlite3".into())));
    assert_eq!(target.files[Path::new("/b/mirror.sqlite3")], Known::Is(FileAt::Nothing));
    let said = learnt.said_by(Guard::Rollback);
    for path in [EMERGENCY, "/var/lib/clightning/config", "lightningd.sqlite3-journal"] {
        assert!(said.contains(path), "{path}\n{said}");
    }
    scene.put("/var/lib/clightning/config", "include /etc/more\n", 0o600);
    assert!(why(&scene.learn(|_| server_loss()).facts.target.mirror).contains("takes in other files"));
}

#[test]
fn a_database_with_rows_and_one_in_use_are_refused() {
    let scene = Scene::of(Host::with_databases());
    let with = |name: &str| scene.learn(|_| [server_loss(), vec![btcpay(name)]].concat());
    let cluster = crate::support::shop::cluster();
    let key = |name: &str| (ServerUrl(cluster.url("postgres")), name.to_owned());
    let learnt = with(Shop::BTCPAY);
    assert!(learnt.refused_by().contains(&Guard::Rollback));
    assert!(
        matches!(is(&learnt.facts.target.databases[&key(Shop::BTCPAY)]), DatabaseAt::Other { tables } if *tables > 5)
    );

    cluster.execute("postgres", "CREATE DATABASE probe_empty").unwrap();
    let learnt = with("probe_empty");
    assert_eq!(learnt.facts.target.databases[&key("probe_empty")], Known::Is(DatabaseAt::Empty));
    assert_eq!(learnt.refused_by(), []);
    let session = cluster.session("probe_empty").unwrap();
    assert_eq!(with("probe_empty").refused_by(), [Guard::Running]);
    drop(session);

    // A server that is not there is not an empty one.
    let learnt = scene.learn(|_| {
        let Action::RestoreDatabase { artifact, database, owner_role, length, swap, .. } = btcpay(FRESH) else {
            unreachable!("it restores a database")
        };
        let server = ServerUrl(format!("postgresql:///postgres?host={}", scene.ground.path("none").display()));
        vec![Action::RestoreDatabase { artifact, server, database, owner_role, length, swap }]
    });
    for guard in [Guard::Running, Guard::Rollback, Guard::Space] {
        assert!(learnt.refused_by().contains(&guard), "{guard}");
    }
}

#[test]
fn a_database_of_an_interrupted_run_is_known_and_asked_itself() {
    let scene = Scene::of(Host::with_databases());
    let dump = scene.host.extract(&format!("btcpay/{}.dump", Shop::BTCPAY));
    let name = "probe_swapped";
    let cluster = crate::support::shop::cluster();
    let key = (ServerUrl(cluster.url("postgres")), name.to_owned());
    let before = scene.learn(|_| vec![btcpay(name)]);
    assert_eq!(before.facts.target.databases[&key], Known::Is(DatabaseAt::Absent));
    let noted = is(&before.facts.payout).clone();
    let after = scene.learn(|opened| {
        let artifact = format!("btcpay/{}.dump", Shop::BTCPAY).parse().unwrap();
        let Some(Facts::PostgresDump(facts)) = opened.notes.facts(&artifact) else { panic!("it is a dump") };
        let (server, interrupt) = (Server::parse(&key.0.0, None).unwrap(), Interrupt::new());
        let (snapshot, owner) = (&opened.notes.snapshot, &facts.owner);
        let landing = Landing { server: &server, database: name, owner, snapshot, run: "one", interrupt: &interrupt };
        landing.make(facts).unwrap();
        landing.fill(facts, &mut dump.as_slice()).unwrap();
        landing.swap(landing.prove(facts).unwrap()).unwrap();
        vec![btcpay(name)]
    });
    assert_eq!(after.facts.target.databases[&key], Known::Is(DatabaseAt::Restored));
    assert_eq!(after.refused_by(), []);
    let live = is(&after.facts.payout);
    assert_eq!((live.pending, live.processors.len()), (noted.pending, 1));
    assert!(live.processors[0].contains("store"), "the database tells which: {live:?}");
    cluster.execute(name, "DELETE FROM \"PayoutProcessors\"").unwrap();
    let burnt = scene.learn(|_| vec![btcpay(name)]);
    assert!(is(&burnt.facts.payout).processors.is_empty());
    cluster.execute("postgres", &format!("DROP DATABASE {name}")).unwrap();
}

#[test]
fn lnd_is_known_by_its_databases() {
    let mut host = Host::new();
    host.init();
    host.backup();
    let lnd = "kind = \"lnd\"\nlnd_dir = \"/var/lib/lnd\"\nnetwork = \"regtest\"".to_owned();
    host.sources.push(("lnd".to_owned(), lnd));
    host.write_policy();
    let scene = Scene::not_yet(host);
    let backup = || vec![file("channel.backup", ArtifactKind::LndChannelBackup, 10)];
    assert_eq!(scene.learn(|_| backup()).facts.running.lnd, Known::Is(Vec::new()));
    scene.put("/var/lib/lnd/graph/regtest/channel.db", "", 0o600);
    let database = fs::File::open(scene.at("/var/lib/lnd/graph/regtest/channel.db")).unwrap();
    rustix::fs::flock(&database, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let learnt = scene.learn(|_| backup());
    assert!(is(&learnt.facts.running.lnd)[0].what.contains("channel.db"));
    assert!(learnt.refused_by().contains(&Guard::Running));
}

#[test]
fn a_wish_to_stop_ends_it_and_is_no_fact() {
    let mut scene = Scene::of(Host::new());
    scene.is_interrupted = true;
    assert!(matches!(scene.try_learn(|_| server_loss()), Err(Error::Interrupted)));
    assert!(matches!(scene.try_learn(migration), Err(Error::Interrupted)));
}

#[test]
fn every_vault_that_was_written_to_must_have_been_read() {
    let mut scene = Scene::of(Host::new());
    let heads = |scene: &Scene| is(&scene.learn(migration).facts.vaults).clone();
    let read = heads(&scene);
    let [local] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!(is(&local.head).as_ref().map(ToString::to_string), Some(scene.host.vault().newest()));
    scene.forge = |believed| {
        let vault = "0123456789abcdef0123456789abcdef".parse().unwrap();
        believed.manifest.vaults.push(VaultHead { vault, head: None });
    };
    let read = heads(&scene);
    assert_eq!(read.len(), 2);
    assert!(why(&read[1].head).contains("was not read"));
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let scene = Scene::of(Host::new());
    let learnt = scene.learn(|_| {
        let mut actions = server_loss();
        actions.push(file("ca.pem", ArtifactKind::Tar, u64::MAX / 4));
        actions
    });
    assert!(learnt.said_by(Guard::Space).contains("are missing"));
    let spaces = &learnt.facts.space;
    assert_eq!(spaces.len(), 1, "one filesystem: {spaces:?}");
}

#[test]
fn a_newer_snapshot_in_another_vault_is_seen() {
    let mut host = Host::of_files();
    host.vaults.push("second".to_owned());
    host.write_policy();
    let mut scene = Scene::of(host);
    scene.host.backup();
    let newest = scene.host.vault().newest();
    fs::remove_dir_all(scene.host.vault().snapshot(&newest)).unwrap();
    scene.found_in = Some("local".to_owned());
    let files = |scene: &Scene| scene.learn(|_| vec![server_loss().remove(4)]);
    let learnt = files(&scene);
    assert_eq!(is(&learnt.facts.freshness.newest_complete).as_ref().map(ToString::to_string), Some(newest.clone()));
    assert!(learnt.said_by(Guard::Freshness).contains(&newest));

    // A manifest that nobody can believe may be a newer one.
    let second = scene.host.vault_named("second");
    overwrite(&second.snapshot(&newest).join("manifest.json"), b"{}");
    assert!(why(&files(&scene).facts.freshness.newest_complete).contains(&newest));
    // So may what lies in a vault that does not answer.
    fs::rename(&second.root, scene.host.env.path("away")).unwrap();
    let learnt = files(&scene);
    assert!(why(&learnt.facts.freshness.newest_complete).contains("second"));
    assert!(why(&learnt.facts.twin.last).contains("second"));
}

#[test]
fn a_host_that_was_heard_of_a_moment_ago_is_alive() {
    let mut scene = Scene::of(Host::new());
    // The program that probes runs on the very host, which may still run its node while a root of it is restored to.
    let twin = |scene: &Scene| scene.learn(|_| server_loss());
    let last = is(&twin(&scene).facts.twin.last).clone().unwrap();
    assert_eq!(last.source, LifeSource::Other);
    fs::rename(scene.host.state().join("host.json"), scene.host.env.path("host.json")).unwrap();
    let key = relay_backup::seal::sign::SigningKey::read(&scene.host.state().join("signing.key")).unwrap();
    scene.host.more = format!("[[keys.trusted]]\nrole = \"node\"\nkey = \"{}\"\n", key.public().to_base64());
    scene.host.write_policy();

    let learnt = twin(&scene);
    assert_eq!(learnt.refused_by(), []);
    let last = is(&learnt.facts.twin.last).clone().unwrap();
    assert_eq!((last.source, last.kind), (LifeSource::Other, LifeKind::Working));
    assert!(!last.host.contains("installation"), "its name is in the notes: {}", last.host);
    scene.later = SignedDuration::from_mins(29);
    assert_eq!(twin(&scene).refused_by(), [Guard::Twin]);
    scene.later = SignedDuration::from_hours(2);
    scene.begun = Some(last.at);
    assert_eq!(twin(&scene).refused_by(), []);
    scene.begun = Some(last.at - SignedDuration::from_secs(1));
    let refusals = twin(&scene).refusals();
    assert!(refusals.iter().any(|refusal| refusal.guard == Guard::Twin && !refusal.can_be_accepted), "{refusals:?}");

    // Below a root what this machine put there counts like another's.
    fs::rename(scene.host.state(), scene.host.env.path("old-state")).unwrap();
    scene.host.init();
    scene.host.backup();
    scene.begun = None;
    scene.later = SignedDuration::from_mins(29);
    let learnt = twin(&scene);
    assert!(is(&learnt.facts.twin.last).as_ref().is_some_and(|sign| sign.at > last.at));
    assert_eq!(learnt.refused_by(), [Guard::Twin]);
}

#[test]
fn a_channel_database_is_held_against_all_that_is_known() {
    let host = Host::new();
    host.init();
    lives_on(&host, "02-two-channels-open");
    let old = host.backup();
    lives_on(&host, "04-after-25-payments");
    let newer = host.backup();
    let mut scene = Scene::not_yet(host);
    scene.wanted = Some(old.clone());
    let learnt = scene.learn(migration);
    let evidence = &learnt.facts.evidence;
    let count = |id: &str, says: fn(&Testimony) -> bool| {
        let id = Origin::Snapshot(id.parse().unwrap());
        evidence.iter().filter(|piece| piece.origin == id && says(is(&piece.says))).count()
    };
    let wallets = |id: &str| count(id, |says| matches!(says, Testimony::Wallet(_)));
    let emergencies = |id: &str| count(id, |says| matches!(says, Testimony::Emergency(_)));
    assert_eq!((wallets(&old), emergencies(&old), wallets(&newer), emergencies(&newer)), (1, 1, 1, 1));
    assert!(evidence.iter().all(|piece| piece.node_id.as_deref() == Some(NODE_ID) && piece.taken.is_some()));
    let said = learnt.said_by(Guard::Stale);
    assert!(said.contains("6459c9624c7a28dfe54f23515f4833f99de86ef8b93133fa12c8d6d0bb23b337"), "{said}");
    assert!(said.contains(&newer), "{said}");

    // Once every channel is closed by the newest evidence, the old copy can do no harm.
    lives_on(&scene.host, "09-all-channels-closed");
    scene.host.backup();
    let learnt = scene.learn(migration);
    assert!(matches!(learnt.verdict(Guard::Stale), Verdict::Cleared { .. }), "{:?}", learnt.verdict(Guard::Stale));
    // An `emergency.recover` at the target is evidence, too.
    scene.put(EMERGENCY, fixture("node/04-after-25-payments/emergency.recover"), 0o400);
    let found = scene
        .learn(migration)
        .facts
        .evidence
        .into_iter()
        .find(|piece| piece.origin == Origin::Target(EMERGENCY.into()));
    assert!(matches!(found.unwrap().says, Known::Is(Testimony::Emergency(_))));
}

#[test]
fn what_cannot_be_read_is_evidence_that_says_so() {
    let host = Host::new();
    host.init();
    let old = host.backup();
    let newest = host.backup();
    let mut scene = Scene::not_yet(host);
    scene.wanted = Some(old);
    overwrite(&scene.host.vault().snapshot(&newest).join("notes.age"), b"none");
    let learnt = scene.learn(migration);
    let piece = learnt.facts.evidence.iter().find(|piece| piece.origin == Origin::Snapshot(newest.parse().unwrap()));
    assert!(why(&piece.unwrap().says).contains("notes"));
    let reading = &is(&learnt.facts.vaults)[0];
    assert!(why(&reading.head).contains(&newest));
    assert!(learnt.said_by(Guard::Stale).contains(&newest));

    // A mark that this version cannot read may know more than all snapshots.
    let learnt = {
        let mark = scene.host.vault().root.join(format!("nodes/{}/marks/20261120", crate::support::host::NODE));
        fs::create_dir_all(&mark).unwrap();
        fs::write(mark.join("20261120T040506.789Z.age"), b"sealed").unwrap();
        scene.learn(migration)
    };
    assert!(learnt.facts.evidence.iter().any(|piece| matches!(piece.origin, Origin::Mark(_))));
    assert!(why(&learnt.facts.freshness.newest_mark).contains("marks"));
}

#[test]
fn a_database_at_the_target_is_read_or_said_to_be_damaged() {
    let scene = Scene::of(Host::new());
    let at = |bytes: &[u8]| {
        scene.put(CLN_WALLET, bytes, 0o600);
        is(&scene.learn(migration).facts.target.wallets[Path::new(CLN_WALLET)]).clone()
    };
    let database = fixture("node/04-after-25-payments/lightningd.sqlite3");
    assert!(matches!(at(&database), WalletAt::Sound(node) if node.node_id.as_deref() == Some(NODE_ID)));
    let mut torn = database.clone();
    torn.truncate(database.len() / 2);
    assert!(matches!(at(&torn), WalletAt::Damaged { why } if why.contains("truncated")));
    assert!(matches!(at(b"no database"), WalletAt::Damaged { .. }));
    assert_eq!(fs::read(scene.at(CLN_WALLET)).unwrap(), b"no database", "nothing is written to it");
}

#[test]
fn a_final_snapshot_is_one_only_while_nothing_speaks_against_it() {
    let mut scene = Scene::of(Host::new());
    scene.forge = |believed| believed.manifest.trigger = "final".to_owned();
    let finality =
        |scene: &Scene| is(&scene.learn(migration).facts.candidates[&WALLET.parse().unwrap()]).finality.clone();
    assert_eq!(finality(&scene), Known::Is(Finality::Final));
    let last = is(&scene.learn(migration).facts.twin.last).clone().unwrap();
    assert_eq!(last.kind, LifeKind::Farewell);
    let node = crate::support::host::NODE;
    let claims = scene.host.vault().root.join(format!("nodes/{node}/claims/{}", scene.host.vault().newest()));
    fs::create_dir_all(&claims).unwrap();
    fs::write(claims.join("00112233445566778899aabbccddeeff"), b"").unwrap();
    assert_eq!(finality(&scene), Known::Is(Finality::Final), "a claim is no revocation");
    fs::write(claims.join("undone"), b"").unwrap();
    assert!(why(&finality(&scene)).contains("cannot read"));
}
