//! Vaults that were set back to an earlier moment, and the line outside of them that tells it.

use super::departure::{leave, restoring};
use crate::support::env::Ended;
use crate::support::host::Host;
use relay_backup::base::clock::Clock;
use relay_backup::base::interrupt::Interrupt;
use relay_backup::engine::{Context, backup};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::Duration;

const UNDO: [&str; 2] = ["undo-final", "--yes"];

/// The witness that a run printed.
#[track_caller]
pub(crate) fn witness(ended: &Ended) -> String {
    let mut lines = ended.stdout.lines().filter_map(|line| line.strip_prefix("Witness: "));
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_owned(),
        _ => panic!("one witness was expected: {ended}"),
    }
}

/// What the host keeps of its last witness.
fn kept(host: &Host) -> String {
    let text = fs::read_to_string(host.state().join("witness.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["line"].as_str().unwrap().to_owned()
}

fn copy(host: &Host, from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    let copied = host.env.program("cp").arg("-a").arg(from).arg(to).ends();
    assert_eq!(copied.code, Some(0), "{copied}");
}

/// A host whose node left, came back and went on, with every vault set back to the moment it had left. The witnesses
/// that were printed on the way.
fn set_back() -> (Host, [String; 3]) {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.run(&["init"]).exits(0);
    leave(&host);
    let gone = kept(&host);
    for vault in ["local", "offsite"] {
        copy(&host, &host.vault_named(vault).root, &host.env.path(&format!("{vault}-copy")));
    }
    let undone = witness(&host.run(&UNDO).exits(0).prints("Throw away"));
    let on = witness(&host.run(&["backup"]).exits(0));
    assert_eq!(kept(&host), on);
    for vault in ["local", "offsite"] {
        copy(&host, &host.env.path(&format!("{vault}-copy")), &host.vault_named(vault).root);
    }
    (host, [gone, undone, on])
}

#[track_caller]
fn refuses(ended: &Ended, why: &str) {
    assert!(ended.code == Some(21) && ended.stderr.contains(why), "{why}: {ended}");
}

#[test]
fn a_final_snapshot_moves_by_the_word_of_its_own_witness_and_by_no_older_or_later_one() {
    let (host, [gone, undone, on]) = set_back();
    let bare = |root: &str, witness: &[&str]| {
        // No witness of the helper's own: the state that it lies in is out of reach.
        let kept = host.env.path("kept.json");
        fs::rename(host.state().join("witness.json"), &kept).unwrap();
        let ended = restoring(&host, "planned-migration", root, witness).ends();
        fs::rename(&kept, host.state().join("witness.json")).unwrap();
        ended
    };
    refuses(&bare("none", &[]), "nothing outside of the vaults says that it is the last");
    refuses(&bare("undone", &["--witness", &undone]), "was taken back");
    refuses(&bare("on", &["--witness", &on]), "the node went on after");
    refuses(&bare("both", &["--witness", &gone, "--witness", &on]), "the node went on after");
    // Neither can be accepted away.
    let accept = ["--witness", &undone, "--accept", "freshness=I know", "--accept", "twin=off"];
    refuses(&bare("accept", &accept), "was taken back");
    for root in ["none", "undone", "on", "both", "accept"] {
        let place = host.env.path(root).join(host.env.path("lightning").strip_prefix("/").unwrap());
        assert!(!place.join("regtest/lightningd.sqlite3").exists(), "{root}");
    }
    // What remains: somebody who kept the first line although it was void, on a machine that knows nothing.
    assert_eq!(bare("void", &["--witness", &gone]).code, Some(0));
}

#[test]
fn the_host_itself_knows_better_than_vaults_that_were_set_back() {
    let (host, [gone, _, on]) = set_back();
    host.run(&["verify"]).exits(20).complains("rolled-back");
    let root = host.env.path("beside");
    fs::create_dir(&root).unwrap();
    let fixed = ["restore", "--root", root.to_str().unwrap(), "--identity", host.identity(), "--yes", "--scenario"];
    host.env.fake("lightningd", "echo v26.09");
    let restore = |more: &[&str]| host.run(&[&fixed[..], more].concat());
    restore(&["planned-migration", "--witness", &gone])
        .exits(21)
        .complains("this host's own state")
        .complains("went on");
    let accept = ["--accept", "twin=it is off"];
    let server_loss = [&["server-loss"][..], &accept].concat();
    restore(&server_loss).exits(21).complains("freshness").complains("set back to an earlier state");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    // A person may say that what is gone is gone.
    restore(&[&server_loss[..], &["--accept", "freshness=the vault's own disk died"]].concat()).exits(0);
    drop(on);
}

#[test]
fn verify_and_restore_hold_the_vaults_against_a_witness_on_any_machine() {
    let (host, [gone, undone, on]) = set_back();
    let (url, key) = (host.vault().url(), host.signing_key());
    let verify =
        |more: &[&str]| host.env.run(&[&["verify", "--vault", &url, "--signing-key", &key][..], more].concat());
    verify(&[]).exits(0);
    verify(&["--witness", &gone]).exits(0).prints("newest snapshot as witnessed");
    verify(&["--witness", &undone]).exits(20).complains("set-back").complains("was taken back, and no vault says so");
    verify(&["--witness", &on]).exits(20).complains("set-back").complains("nothing this new is there");
    // A whole log of runs, as a file.
    let log = host.env.write("log", format!("Snapshot\nWitness: {gone}\nx\nWitness: {on}\n"), 0o600);
    verify(&["--witness", log.to_str().unwrap()]).exits(20).complains("nothing this new is there");
    let server_loss = restoring(&host, "server-loss", "new", &["--witness", &on, "--accept", "twin=it is off"]).ends();
    refuses(&server_loss, "no vault that was asked holds it");
    // What somebody changed or made up.
    let forged = on.replace(":ordinary:", ":final:");
    verify(&["--witness", &forged]).exits(2).complains("cannot be believed");
    verify(&["--witness", &on[..on.len() - 3]]).exits(2).complains("cannot be believed");
    verify(&["--witness", "/nowhere"]).exits(1).complains("/nowhere");
    verify(&["--witness", "rbw1:short"]).exits(2).complains("six parts");
}

/// A disk that is copied in the middle of a move, and both copies go on: at the same place, one after the other.
#[test]
fn of_two_copies_of_one_disk_only_the_first_goes_on() {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.run(&["init"]).exits(0);
    let snapshot = leave(&host);
    let laid = host.vault_named("local").root.join(format!("nodes/{}/claims/{snapshot}", crate::support::host::NODE));
    let running = restoring(&host, "planned-migration", "new", &[]).start();
    while !running.has_ended() && fs::read_dir(&laid).map_or(0, Iterator::count) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal(Signal::KILL);
    running.ends();
    let (new, other) = (host.env.path("new"), host.env.path("other"));
    copy(&host, &new, &other);
    let go_on = || restoring(&host, "planned-migration", "new", &[]).ends();
    go_on().exits(0).prints("holds          channel-database-placed");
    let first = host.env.path("first");
    fs::rename(&new, &first).unwrap();
    fs::rename(&other, &new).unwrap();
    refuses(&go_on(), "others have laid claim to it");
    // The first again, with the lines cut out that say what it did: the vaults know.
    fs::remove_dir_all(&new).unwrap();
    fs::rename(&first, &new).unwrap();
    let journal = new.join(format!("var/lib/relay-backup/restore/planned-migration-{snapshot}/journal.jsonl"));
    let lines = fs::read_to_string(&journal).unwrap();
    let without = |words: &[&str]| {
        let is_kept = |line: &&str| !words.iter().any(|word| line.contains(word));
        lines.lines().filter(is_kept).map(|line| format!("{line}\n")).collect::<String>()
    };
    let wallet = new.join(host.env.path("lightning").strip_prefix("/").unwrap()).join("regtest/lightningd.sqlite3");
    fs::write(&wallet, "what the node wrote since").unwrap();
    for cut in [&["lowering"][..], &["lowering", "\"starts\":\"now\""], &["lowering", "finished", "\"claim\""]] {
        fs::write(&journal, without(cut)).unwrap();
        go_on().exits(21);
        assert_eq!(fs::read_to_string(&wallet).unwrap(), "what the node wrote since", "{cut:?}");
    }
    fs::write(&journal, "").unwrap();
    fs::remove_file(&wallet).unwrap();
    refuses(&go_on(), "others have laid claim to it");
    assert!(!wallet.exists());
}

#[test]
fn the_newest_witness_stands_on_the_kit_and_is_printed_again_where_the_node_has_left() {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.run(&["init"]).exits(0);
    host.run(&["kit"]).exits(0).prints("none yet");
    let first = witness(&host.run(&["backup"]).exits(0));
    host.run(&["kit"]).exits(0).prints(&first);
    let last = witness(&host.run(&["backup", "--final", "--yes"]).exits(0).prints("--witness rbw1:"));
    assert!(last.contains(":final:"));
    fs::remove_file(host.state().join("witness.json")).unwrap();
    let again = witness(&host.run(&["backup", "--final", "--yes"]).exits(0));
    // Two signatures of one text differ.
    let said = |line: &str| line.rsplit_once(':').unwrap().0.to_owned();
    assert_eq!(said(&again), said(&last));
    host.run(&["kit"]).exits(0).prints(&again);
}

/// A state folder that was copied to a second host, and both go on.
#[test]
fn a_copied_state_folder_is_told_at_the_next_run_of_either() {
    let host = Host::new();
    host.run(&["init"]).exits(0);
    host.run(&["backup"]).exits(0);
    let (state, other) = (host.state(), host.env.path("other-state"));
    copy(&host, &state, &other);
    let swap = || {
        let aside = host.env.path("aside-state");
        fs::rename(&state, &aside).unwrap();
        fs::rename(&other, &state).unwrap();
        fs::rename(&aside, &other).unwrap();
    };
    host.run(&["backup"]).exits(0);
    swap();
    host.run(&["backup"]).exits(3).complains("state-copied").complains("its state folder was copied");
    swap();
    host.run(&["backup"]).exits(3).complains("state-copied");
    host.run(&["backup"]).exits(0);
}

/// A run that was cut off between its journal's word that the node may start and the vaults': the next one tells them.
#[test]
fn that_a_node_may_start_is_told_to_the_vaults_also_where_the_journal_says_so_already() {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.run(&["init"]).exits(0);
    let snapshot = leave(&host);
    let go = || restoring(&host, "planned-migration", "new", &[]).ends();
    go().exits(0);
    let folder = host.env.path("new").join(format!("var/lib/relay-backup/restore/planned-migration-{snapshot}"));
    let journal = folder.join("journal.jsonl");
    let lines = fs::read_to_string(&journal).unwrap();
    let is_start = |line: &&str| line.contains("\"starts\":\"now\"");
    let start: serde_json::Value = serde_json::from_str(lines.lines().find(is_start).unwrap()).unwrap();
    let name = start["random"].as_str().unwrap();
    // As it stands where the run was killed right after that line.
    let upto: Vec<&str> = lines.lines().take(1 + lines.lines().position(|line| is_start(&line)).unwrap()).collect();
    fs::write(&journal, format!("{}\n", upto.join("\n"))).unwrap();
    let claims = |vault: &str| {
        host.vault_named(vault).root.join(format!("nodes/{}/claims/{snapshot}", crate::support::host::NODE))
    };
    for vault in ["local", "offsite"] {
        fs::remove_file(claims(vault).join(name)).unwrap();
    }
    go().exits(0);
    for vault in ["local", "offsite"] {
        let told: Vec<String> = fs::read_dir(claims(vault))
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        assert_eq!(told.iter().filter(|text| text.contains("was let start")).count(), 1, "{told:?}");
    }
}

/// A vault that is a byte copy of another.
#[test]
fn two_vaults_with_one_id_are_told_by_every_verb_that_looks() {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.run(&["init"]).exits(0);
    host.run(&["backup"]).exits(0);
    copy(&host, &host.vault_named("local").root, &host.vault_named("offsite").root);
    for verb in ["verify", "list", "backup"] {
        let ended = host.run(&[verb]);
        assert!(ended.code != Some(0) && ended.stderr.contains("same-vault"), "{ended}");
    }
}

/// Two restores at one place: the second says that the first is at work.
#[test]
fn a_second_restore_at_one_place_names_the_first() {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.run(&["init"]).exits(0);
    let snapshot = leave(&host);
    restoring(&host, "planned-migration", "new", &[]).ends().exits(0);
    let folder = host.env.path("new").join(format!("var/lib/relay-backup/restore/planned-migration-{snapshot}"));
    let file = fs::OpenOptions::new().read(true).write(true).open(folder.join("lock")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    restoring(&host, "planned-migration", "new", &[]).ends().exits(11).complains("is locked by");
}

/// A machine that its node left, copied, and both copies take the snapshot back.
#[test]
fn of_two_copies_of_a_machine_only_the_first_takes_its_node_back() {
    let mut host = Host::new();
    host.vaults = vec!["local".into(), "offsite".into()];
    host.write_policy();
    host.run(&["init"]).exits(0);
    leave(&host);
    let (lightning, state) = (host.env.path("lightning"), host.state());
    let copies = [(&lightning, host.env.path("lightning-copy")), (&state, host.env.path("state-copy"))];
    let take_the_copy = || {
        for (place, copied) in &copies {
            fs::remove_dir_all(place).unwrap();
            copy(&host, copied, place);
        }
    };
    for (place, copied) in &copies {
        copy(&host, place, copied);
    }
    host.run(&UNDO).exits(0).prints("in its place again");
    take_the_copy();
    let wallet = lightning.join("regtest/lightningd.sqlite3");
    let fence = fs::read(&wallet).unwrap();
    host.run(&UNDO).exits(21).complains("taken back already").complains("a copy of this");
    host.run(&["backup", "--final", "--yes"]).exits(21).complains("taken back already");
    assert_eq!(fs::read(&wallet).unwrap(), fence);
}

#[test]
fn a_node_that_went_on_elsewhere_is_not_taken_back() {
    let host = Host::new();
    host.run(&["init"]).exits(0);
    leave(&host);
    let (lightning, state) = (host.env.path("lightning"), host.state());
    copy(&host, &lightning, &host.env.path("lightning-copy"));
    copy(&host, &state, &host.env.path("state-copy"));
    host.run(&UNDO).exits(0);
    host.run(&["backup"]).exits(0);
    for (place, copied) in [(&lightning, "lightning-copy"), (&state, "state-copy")] {
        fs::remove_dir_all(place).unwrap();
        copy(&host, &host.env.path(copied), place);
    }
    host.run(&UNDO).exits(21).complains("the node went on elsewhere");
}

/// One run with a clock that was ten years ahead.
#[test]
fn one_run_with_a_wrong_clock_decides_nothing() {
    let host = Host::new();
    host.run(&["init"]).exits(0);
    host.run(&["backup"]).exits(0);
    let vault = host.vault();
    let interrupt = Interrupt::new();
    let clock = Clock::Fixed("2036-01-01T08:00:00Z".parse().unwrap());
    let context = Context { clock, interrupt: &interrupt, progress: &|_| {} };
    let policy = relay_backup::policy::load(&host.env.path("policy.toml")).unwrap();
    let request = backup::Request { only: Vec::new(), trigger: "manual".to_owned() };
    backup::backup(&context, &policy, &request).unwrap();
    assert!(vault.newest().starts_with("2036"));
    host.run(&["verify"]).exits(23).complains("from-the-future").complains("whatever the date of this one");
    host.run(&["backup"]).exits(3).complains("clock-behind").complains("whatever its date");
    let last = host.run(&["backup"]).exits(0).complains("from-the-future");
    let told = last.stdout.split_whitespace().nth(1).unwrap().to_owned();
    host.run(&["verify"]).exits(0).prints(&told).complains("from-the-future");
    restoring(&host, "server-loss", "new", &["--accept", "twin=off", "--dry-run"])
        .ends()
        .exits(0)
        .prints(&told)
        .complains("from-the-future");
}
