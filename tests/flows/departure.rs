//! A node leaves its host: `backup --final`, what stands in its way, where it can be cut off, and `undo-final`. After
//! every step the one thing that must hold is looked at: never is there a final snapshot that nobody took back while a
//! database lies where lightningd would start on it.

use crate::support::closing::hang_up;
use crate::support::env::Running;
use crate::support::host::{Host, WALLET};
use rustix::process::Signal;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const FINAL: [&str; 3] = ["backup", "--final", "--yes"];
const UNDO: [&str; 2] = ["undo-final", "--yes"];
const NODE: &str = crate::support::host::NODE;

/// A host with two vaults, set up and backed up once.
pub(super) fn host() -> Host {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.init();
    host.backup();
    host
}

fn wallet(host: &Host) -> PathBuf {
    host.lightning("lightningd.sqlite3")
}

/// Whether lightningd would find a database.
fn is_here(host: &Host) -> bool {
    fs::read(wallet(host)).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}

fn claims(host: &Host, vault: &str, snapshot: &str) -> PathBuf {
    host.vault_named(vault).root.join("nodes").join(NODE).join("claims").join(snapshot)
}

fn is_revoked(host: &Host, snapshot: &str) -> bool {
    host.vaults.iter().any(|vault| {
        let names = fs::read_dir(claims(host, vault, snapshot)).into_iter().flatten();
        names.map(|entry| entry.unwrap().file_name()).any(|name| name.to_str().unwrap().starts_with("revoked-"))
    })
}

/// The final snapshots that nobody took back, in whichever vault.
fn finals(host: &Host) -> Vec<String> {
    let mut found = Vec::new();
    for vault in &host.vaults {
        let vault = host.vault_named(vault);
        let is_final = |id: &String| vault.manifest(id)["trigger"] == "final" && !is_revoked(host, id);
        found.extend(vault.snapshots().into_iter().filter(is_final));
    }
    found.sort();
    found.dedup();
    found
}

#[track_caller]
fn assert_safe(host: &Host) {
    let finals = finals(host);
    assert!(finals.is_empty() || !is_here(host), "{finals:?} is final, and lightningd could start");
    assert!(finals.len() < 2, "{finals:?}");
}

/// Makes the node's final snapshot; gives its id.
#[track_caller]
pub(super) fn leave(host: &Host) -> String {
    host.run(&FINAL).exits(0).prints("FINAL").prints("planned-migration");
    let finals = finals(host);
    assert_eq!(finals.len(), 1);
    for vault in &host.vaults {
        assert_eq!(host.vault_named(vault).newest(), finals[0]);
    }
    assert_safe(host);
    finals[0].clone()
}

/// Another process that holds the lock of the pid file, as lightningd does.
fn locked(host: &Host) -> Running {
    let pid_file = host.env.write("lightning/lightningd-regtest.pid", "812\n", 0o640);
    let ready = host.env.path("locked");
    let program = "use Fcntl; open(my $f, '+<', $ARGV[0]) or die $!; \
                   my $l = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0); \
                   fcntl($f, F_SETLK, $l) or die $!; open(my $r, '>', $ARGV[1]) or die $!; close $r; sleep 600;";
    let running = host.env.program("perl").args(["-e", program]).arg(&pid_file).arg(&ready).start();
    let given_up = Instant::now() + Duration::from_secs(60);
    while !ready.exists() && !running.has_ended() && Instant::now() < given_up {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(ready.exists());
    fs::remove_file(ready).unwrap();
    running
}

/// The names in the node's folder and the bytes of its database.
fn node_files(host: &Host) -> (Vec<String>, Vec<u8>) {
    let names = fs::read_dir(host.lightning("")).unwrap();
    let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (names, fs::read(wallet(host)).unwrap())
}

#[test]
fn a_final_snapshot_leaves_a_fence_and_the_whole_database_aside() {
    let host = host();
    let before = fs::read(wallet(&host)).unwrap();
    let snapshot = leave(&host);
    let fence = fs::read_to_string(wallet(&host)).unwrap();
    assert!(fence.contains(&snapshot) && fence.contains("undo-final"), "{fence}");
    let aside = host.lightning(&format!("lightningd.sqlite3.replaced-final-{snapshot}/lightningd.sqlite3"));
    assert!(fs::read(aside).unwrap() == before);
    let manifest = host.vault().manifest(&snapshot);
    assert_eq!((&manifest["trigger"], &manifest["complete"]), (&"final".into(), &true.into()));
    // A copy by SQLite differs from the file in counters of its header alone.
    assert!(host.extract(WALLET)[100..] == before[100..], "the snapshot holds the last state");
    assert!(!host.env.path("lightning/lightningd-regtest.pid").exists(), "made for the lock, and gone with it");
    host.run(&["verify", "--depth", "present"]).exits(0);
    // A second run finds the work done, and changes nothing.
    host.run(&FINAL).exits(0).prints("made FINAL by an earlier run").prints(&snapshot);
    let (code, document) = host.json(&FINAL);
    assert_eq!((code, &document["report"]["final"]["outcome"]), (0, &"already-final".into()), "{document:#}");
    assert_eq!(finals(&host), [snapshot]);
}

#[test]
fn a_node_that_runs_is_refused_and_nothing_changes() {
    let host = host();
    let (before, snapshots) = (node_files(&host), host.vault().snapshots());
    let lightningd = locked(&host);
    let refused = host.run(&FINAL).exits(21).complains("refused by the guard running");
    refused
        .complains(&format!("process {} (perl) holds the lock", lightningd.id()))
        .complains("systemctl stop clightning");
    lightningd.signal(Signal::KILL);
    drop(lightningd);
    // What a crash left behind shows nothing; a socket that answers does.
    let socket = host.lightning("lightning-rpc");
    let listener = UnixListener::bind(&socket).unwrap();
    host.run(&FINAL).exits(21).complains(&format!("process {} ", std::process::id())).complains(" answers at ");
    hang_up(listener);
    fs::remove_file(socket).unwrap();
    host.env.write("lightning/config", "rpc-file=/nowhere/rpc\npid-file=my.pid\n", 0o600);
    host.env.fake("systemctl", "echo LoadState=loaded; echo ActiveState=activating; echo Job=");
    host.run(&FINAL).exits(21).complains("clightning.service runs");
    assert!(node_files(&host) == before);
    assert_eq!(host.vault().snapshots(), snapshots);
    assert_safe(&host);
    host.env.fake("systemctl", "echo LoadState=loaded; echo ActiveState=inactive; echo Job=");
    leave(&host);
}

#[test]
fn what_fails_before_the_commit_leaves_the_node_as_it_was() {
    let mut host = host();
    let (before, snapshots) = (node_files(&host), host.vault().snapshots());
    // A source that fails.
    let recover = fs::read(host.lightning("emergency.recover")).unwrap();
    fs::remove_file(host.lightning("emergency.recover")).unwrap();
    host.run(&FINAL).exits(1).complains("no final snapshot was made").complains("the source cln failed");
    host.replace("emergency.recover", recover);
    // A vault that is not there.
    let (root, gone) = (host.vault_named("offsite").root, host.env.path("gone"));
    fs::rename(&root, &gone).unwrap();
    host.run(&FINAL).exits(1).complains("vault offsite cannot be written");
    assert!(!host.env.path("lightning/lightningd-regtest.pid").exists(), "made for the lock, and gone with it");
    fs::rename(&gone, &root).unwrap();
    assert!(node_files(&host) == before);
    assert_eq!(host.vault().snapshots(), snapshots);
    assert_safe(&host);
    // Nothing is asked where nobody can answer, and the words of the command line do not mix.
    host.run(&["backup", "--final"]).exits(2).complains("--yes");
    host.run(&["backup", "--final", "--yes", "--only", "cln"]).exits(2);
    host.run(&["backup", "--final", "--yes", "--trigger", "x"]).exits(2);
    host.run(&["backup", "--trigger", "final"]).exits(2).complains("backup --final");
    host.run(&["undo-final"]).exits(2).complains("--yes");
    host.sources.remove(0);
    host.write_policy();
    host.run(&FINAL).exits(2).complains("no source of the kind cln");
    assert!(node_files(&host) == before);
}

#[test]
fn nothing_is_backed_up_behind_a_fence_and_undoing_brings_everything_back() {
    let host = host();
    let before = node_files(&host);
    host.run(&UNDO).exits(0).prints("no final snapshot");
    let snapshot = leave(&host);
    // A newer snapshot, whatever it held, would bar the final one's way.
    host.run(&["backup"]).exits(1).complains("left it with the final snapshot").complains("undo-final");
    host.run(&["backup", "--only", "medusa"]).exits(1).complains(&snapshot);
    assert_eq!(host.vault().newest(), snapshot);
    host.run(&UNDO).exits(0).prints(&snapshot).prints("in its place again");
    assert!(node_files(&host) == before, "nothing of it is left: {:?}", node_files(&host).0);
    for vault in &host.vaults {
        assert_eq!(fs::read_dir(claims(&host, vault, &snapshot)).unwrap().count(), 1, "in every vault");
    }
    assert!(finals(&host).is_empty());
    host.run(&UNDO).exits(0).prints("no final snapshot");
    host.backup();
    host.run(&["verify"]).exits(0);
    assert_ne!(leave(&host), snapshot, "a later one is another one");
}

#[test]
fn what_was_claimed_or_may_have_been_is_not_undone() {
    let host = host();
    let snapshot = leave(&host);
    let (root, gone) = (host.vault_named("offsite").root, host.env.path("gone"));
    fs::rename(&root, &gone).unwrap();
    host.run(&UNDO).exits(21).complains("refused by the guard twin").complains("vault offsite does not answer");
    fs::rename(&gone, &root).unwrap();
    assert!(!is_revoked(&host, &snapshot), "nothing was written before the answer");
    let claim = claims(&host, "offsite", &snapshot).join("ab".repeat(16));
    let said = r#"{"format":1,"who":"new-shop","at":"2026-11-20T05:12:00Z"}"#;
    fs::create_dir_all(claim.parent().unwrap()).unwrap();
    fs::write(&claim, said).unwrap();
    host.run(&UNDO).exits(21).complains("claimed by new-shop").complains("guard twin");
    assert!(!is_here(&host) && !is_revoked(&host, &snapshot));
    host.run(&["verify"]).exits(0).keeps_quiet_about("claims");
    // Whoever puts the database back by hand is told at every backup.
    let aside = host.lightning(&format!("lightningd.sqlite3.replaced-final-{snapshot}/lightningd.sqlite3"));
    // The fence is read-only.
    fs::remove_file(wallet(&host)).unwrap();
    fs::copy(aside, wallet(&host)).unwrap();
    for _ in 0..2 {
        host.run(&["backup"]).exits(1).complains("two copies of this node may be running").complains("new-shop");
    }
    host.run(&FINAL).exits(21).complains("new-shop");
    host.run(&UNDO).exits(21).complains("new-shop");
}

#[test]
fn a_node_that_came_back_by_hand_is_told_and_can_be_set_right() {
    let host = host();
    let snapshot = leave(&host);
    let aside = host.lightning(&format!("lightningd.sqlite3.replaced-final-{snapshot}"));
    fs::rename(aside.join("lightningd.sqlite3"), wallet(&host)).unwrap();
    fs::remove_dir(aside).unwrap();
    host.run(&["backup"]).exits(3).complains("without the snapshot being taken back").complains("undo-final");
    host.run(&UNDO).exits(0).prints(&snapshot);
    assert_safe(&host);
    host.backup();
}

#[test]
fn an_earlier_run_that_was_cut_off_is_taken_back_and_done_again() {
    // Cut off behind the fence: with the snapshot in no vault, in one, and with a journal that did not follow yet.
    for lost_in in [&["local", "offsite"][..], &["offsite"], &[]] {
        let host = host();
        let before = fs::read(wallet(&host)).unwrap();
        let first = leave(&host);
        for vault in lost_in {
            fs::remove_dir_all(host.vault_named(vault).snapshot(&first)).unwrap();
        }
        // The run did not live to note it.
        fs::remove_file(host.state().join("catalog.sqlite3")).unwrap();
        let log = host.lightning("lightningd.sqlite3-wal");
        fs::write(&log, "").unwrap();
        host.run(&["backup"]).exits(1).complains("finish it with `relay-backup backup --final`");
        if lost_in.is_empty() {
            host.run(&FINAL).exits(0).prints("made FINAL by an earlier run");
            assert!(!log.exists(), "it followed");
            assert_eq!(finals(&host), [first]);
            continue;
        }
        fs::remove_file(log).unwrap();
        let second = leave(&host);
        assert_ne!(first, second);
        assert!(is_revoked(&host, &first));
        host.run(&UNDO).exits(0);
        assert!(fs::read(wallet(&host)).unwrap() == before);
    }
}

#[test]
fn killed_at_any_moment_it_never_leaves_two_places_to_start() {
    let host = host();
    let before = fs::read(wallet(&host)).unwrap();
    let began = Instant::now();
    leave(&host);
    let usual = began.elapsed();
    host.run(&UNDO).exits(0);
    let mut killed = 0;
    for round in 0..12 {
        let running = host.command(&FINAL).start();
        std::thread::sleep(usual * (round + 1) / 13);
        running.signal(Signal::KILL);
        killed += u32::from(running.ends().code.is_none());
        assert_safe(&host);
        // Undone half-way, or gone on with.
        if round % 2 == 0 {
            let undoing = host.command(&UNDO).start();
            std::thread::sleep(usual * (round + 1) / 40);
            undoing.signal(Signal::KILL);
            undoing.ends();
            assert_safe(&host);
        }
        if round % 3 == 0 {
            leave(&host);
        }
        host.run(&UNDO).exits(0);
        assert_safe(&host);
        assert!(fs::read(wallet(&host)).unwrap() == before, "round {round}");
        assert!(finals(&host).is_empty());
    }
    assert!(killed > 0, "no run was killed before its end");
    leave(&host);
}

/// A scenario on a new machine for the node: an empty root, and the host's own policy with another state folder.
pub(super) fn restoring(host: &Host, scenario: &str, root: &str, more: &[&str]) -> crate::support::env::Run {
    let folder = host.env.path(root);
    fs::create_dir_all(&folder).unwrap();
    let text = host.policy_text().replace(host.state().to_str().unwrap(), host.env.path("new-state").to_str().unwrap());
    let policy = host.env.write("new-policy.toml", text, 0o600);
    let (key, folder) = (host.signing_key(), folder.display().to_string());
    // A release that knows the schema of the recorded node.
    host.env.fake("lightningd", "echo v26.09");
    let fixed = ["--policy", policy.to_str().unwrap(), "restore", "--scenario", scenario, "--root", &folder];
    let rest = ["--signing-key", &key, "--identity", host.identity(), "--yes"];
    // What the host printed last, as a person has it.
    let kept = host.state().join("witness.json");
    let witness = ["--witness", kept.to_str().unwrap()];
    let witness = if scenario == "planned-migration" && kept.exists() { &witness[..] } else { &[] };
    host.env.relay_backup(&[&fixed[..], &rest, witness, more].concat())
}

fn restore(host: &Host, root: &str, more: &[&str]) -> crate::support::env::Ended {
    restoring(host, "planned-migration", root, more).ends()
}

/// Refused by the guard of stale channel state; a dry run tells it in its report.
#[track_caller]
fn refuses(ended: &crate::support::env::Ended, why: &str) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.code == Some(21) && said.contains("stale") && said.contains(why), "{ended}");
}

/// Where the new machine's database belongs.
fn new_wallet(host: &Host, root: &str) -> PathBuf {
    host.env.path(root).join(wallet(host).strip_prefix("/").unwrap())
}

#[test]
fn the_channels_move_with_a_final_snapshot_and_to_one_machine_only() {
    let host = host();
    let live = relay_backup::sandbox::node::wallet_content(&wallet(&host)).unwrap();
    // An ordinary snapshot moves no channel.
    restore(&host, "early", &[]).exits(21).complains("stale");
    assert!(!new_wallet(&host, "early").exists());
    let snapshot = leave(&host);
    restore(&host, "dry", &["--dry-run"]).exits(0).complains("claim-not-taken").prints("place the channel database");
    assert!(fs::read_dir(claims(&host, "local", &snapshot)).is_err(), "a dry run claims nothing");
    restore(&host, "new", &[]).exits(0).prints("holds          channel-database-placed").prints("claim-ours");
    let moved = relay_backup::sandbox::node::wallet_content(&new_wallet(&host, "new")).unwrap();
    assert_eq!(moved, live, "the last state, row for row");
    for more in [&["--dry-run"][..], &[]] {
        refuses(&restore(&host, "other", more), "others have laid claim");
    }
    assert!(!new_wallet(&host, "other").exists());
    for vault in ["local", "offsite"] {
        let laid = fs::read_dir(claims(&host, vault, &snapshot)).unwrap().count();
        // The run's own, and the one by which it let the node start.
        assert_eq!(laid, 2, "whoever comes too late holds up nobody");
    }
    restore(&host, "new", &["--dry-run"]).exits(0);
    host.run(&UNDO).exits(21);
    assert_safe(&host);
}

#[test]
fn a_final_snapshot_that_was_taken_back_moves_nothing() {
    let host = host();
    let snapshot = leave(&host);
    host.run(&UNDO).exits(0);
    restore(&host, "new", &["--snapshot", &snapshot]).exits(21).complains("stale");
    assert!(!new_wallet(&host, "new").exists());
}

#[test]
fn what_does_not_move_with_it_is_told() {
    let mut host = host();
    host.env.write("lnd/data/chain/bitcoin/regtest/channel.backup", [7; 300], 0o600);
    let lnd = format!("kind = \"lnd\"\nlnd_dir = \"{}\"\nnetwork = \"regtest\"", host.env.path("lnd").display());
    host.sources.push(("lnd".to_owned(), lnd));
    let pulled = host.vault_named("pulled").url();
    host.more = format!("[[vault]]\nname = \"pulled\"\nurl = \"{pulled}\"\nvia = \"sync\"\n");
    host.write_policy();
    // The host need not reach a vault that it never writes.
    let told = host.run(&FINAL).exits(3).prints("FINAL").complains("LND's channel state is in no snapshot");
    told.complains("[final-to-sync]").complains("move its whole folder");
    assert_safe(&host);
    host.run(&UNDO).exits(3).complains("pulled").prints("in its place again");
    assert!(finals(&host).is_empty() && is_here(&host));
}

#[test]
fn a_move_that_is_cut_off_after_the_database_is_in_place_goes_on() {
    let host = host();
    let snapshot = leave(&host);
    let folder = host.env.path("new").join(format!("var/lib/relay-backup/restore/planned-migration-{snapshot}"));
    let placed =
        || fs::read_to_string(folder.join("journal.jsonl")).is_ok_and(|text| text.contains("\"place-database\""));
    for at in ["placed", "noted"] {
        let running = restoring(&host, "planned-migration", "new", &[]).start();
        let is_there = || {
            if at == "placed" {
                fs::read(new_wallet(&host, "new")).is_ok_and(|b| b.starts_with(b"SQLite"))
            } else {
                placed()
            }
        };
        while !running.has_ended() && !is_there() {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.signal(Signal::KILL);
        running.ends();
    }
    let ended = restore(&host, "new", &[]);
    // The last run before it may have come to its end: then its work is found as it should be.
    assert_eq!(ended.code, Some(0), "{ended}");
    let database = fs::read(new_wallet(&host, "new")).unwrap();
    assert!(database.starts_with(b"SQLite format 3\0"));
}

#[test]
fn a_node_that_may_have_run_since_is_not_set_back_by_the_same_move() {
    let host = host();
    leave(&host);
    restore(&host, "new", &[]).exits(0).prints("claim-ours");
    // The node ran on it for a while, and then its database was lost.
    fs::remove_file(new_wallet(&host, "new")).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        refuses(&restore(&host, "new", more), "may have run");
        let there = fs::read(new_wallet(&host, "new"));
        assert!(there.is_err(), "nothing is placed, and no fence is raised");
    }
}

#[test]
fn no_restore_lowers_the_fence_of_a_node_that_has_moved() {
    let host = host();
    leave(&host);
    let fence = fs::read(wallet(&host)).unwrap();
    // The old machine, seen below a root: what lies there is what lies on it.
    let root = host.env.path("old");
    let below = root.join(host.env.path("lightning").strip_prefix("/").unwrap());
    fs::create_dir_all(below.parent().unwrap()).unwrap();
    let copied = host.env.program("cp").args(["-a"]).arg(host.env.path("lightning")).arg(&below).ends();
    assert_eq!(copied.code, Some(0), "{copied}");
    for scenario in ["cln-db-corruption", "server-loss", "planned-migration"] {
        let ended = restoring(&host, scenario, "old", &["--accept", "twin=it looks broken to me"]).ends().exits(21);
        assert!(ended.stderr.contains("undo-final"), "{ended}");
    }
    assert_eq!(fs::read(new_wallet(&host, "old")).unwrap(), fence);
}

#[test]
fn a_vault_that_was_not_looked_at_may_know_better() {
    let host = host();
    let ended = restoring(&host, "server-loss", "new", &["--vault", "local"]).ends().exits(21);
    assert!(ended.stderr.contains("1 more vaults that were not looked at"), "{ended}");
}

#[test]
fn a_bare_machine_takes_the_node_over_from_the_one_vault_there_is() {
    let host = Host::new();
    host.init();
    leave(&host);
    host.env.fake("lightningd", "echo v26.09");
    let root = host.env.path("new");
    fs::create_dir(&root).unwrap();
    let (url, key) = (host.vault().url(), host.signing_key());
    let kept = host.state().join("witness.json").display().to_string();
    let from = ["--vault", &url, "--signing-key", &key, "--identity", host.identity(), "--yes", "--witness", &kept];
    let restore = ["restore", "--scenario", "planned-migration", "--root", root.to_str().unwrap()];
    // The same vault at another place is not the one that the policy names.
    let copy = host.vault().copy_to(&host.env, "copy");
    let copy = copy.url();
    let elsewhere = [&restore[..], &["--vault", &copy], &from[2..]].concat();
    host.env.run(&elsewhere).exits(21).complains("stale").complains("vault local");
    host.env.run(&[&restore[..], &from].concat()).exits(0).prints("holds          channel-database-placed");
}

#[test]
fn a_node_whose_secret_needs_a_passphrase_moves_too() {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    let secret = fs::read("tests/fixtures/cln/hsm_secret/encrypted.hsm_secret").unwrap();
    host.replace("hsm_secret", &secret);
    host.init();
    host.backup();
    let live = relay_backup::sandbox::node::wallet_content(&wallet(&host)).unwrap();
    // Nobody can tell what the static backups name, so an ordinary snapshot is refused for that as well.
    restore(&host, "early", &[]).exits(21).complains("stale");
    leave(&host);
    restore(&host, "new", &[]).exits(0).prints("holds          channel-database-placed");
    let moved = relay_backup::sandbox::node::wallet_content(&new_wallet(&host, "new")).unwrap();
    assert_eq!(moved, live, "the last state, row for row");
}
