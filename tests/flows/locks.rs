//! One writer per host: a second one is told who is at work, and a killed one leaves nothing in the way.

use crate::support::env::Running;
use crate::support::host::{Host, NODE};
use relay_backup::sandbox::shop::Shop;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A host whose dump waits until a file is removed, and that file.
fn slow_host() -> (Host, std::path::PathBuf) {
    let mut host = Host::of_files();
    let gate = host.env.write("gate", "", 0o600);
    let script = format!(
        "case $* in *--version*) ;; *) touch {0}.reached; while [ -e {0} ]; do sleep 0.05; done ;; esac\n\
         PATH=${{PATH#*:}}; exec pg_dump \"$@\"",
        gate.display()
    );
    host.env.fake("pg_dump", &script);
    host.add_postgres(&crate::support::shop::cluster().url("postgres"), &format!("\"{}\"", Shop::NBXPLORER));
    host.init();
    (host, gate)
}

/// Starts a backup and waits until it stands in the middle of the dump.
fn backup_in_the_middle(host: &Host, gate: &Path) -> Running {
    let running = host.command(&["backup"]).start();
    let reached = gate.with_extension("reached");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached.exists() {
        assert!(Instant::now() < deadline, "the backup never came to its dump");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

#[test]
fn a_second_backup_is_told_who_is_at_work_and_since_when() {
    let (host, gate) = slow_host();
    let first = backup_in_the_middle(&host, &gate);
    for verb in [&["backup"][..], &["init"], &["rotate"], &["catalog", "rebuild"]] {
        let second = host.run(verb).exits(11);
        let holder = fs::read_to_string(host.state().join("lock")).unwrap();
        let (pid, rest) = holder.trim().split_once(", ").unwrap();
        let since = rest.strip_prefix("backup, ").unwrap();
        assert!(second.stderr.contains(&format!("process {pid} (backup) since {since}")), "{second}");
        assert!(second.stderr.contains("Hint: wait for it to end"), "{second}");
    }
    // Reading is not writing.
    host.run(&["list"]).exits(0);
    fs::remove_file(&gate).unwrap();
    first.ends().exits(0);
    assert_eq!(host.vault().snapshots().len(), 1);
}

#[test]
fn after_a_killed_backup_the_next_one_works() {
    let (host, gate) = slow_host();
    let first = backup_in_the_middle(&host, &gate);
    first.signal(Signal::KILL);
    let killed = first.ends();
    assert_eq!(killed.code, None, "{killed}");
    assert!(host.vault().snapshots().is_empty(), "what was not committed is no snapshot");
    fs::remove_file(&gate).unwrap();
    host.backup();
    host.open(&["verify", "--depth", "opened"]).exits(0);
}

#[test]
fn an_interrupted_backup_commits_nothing_and_the_next_one_uses_what_was_put() {
    let (host, gate) = slow_host();
    for signal in [Signal::INT, Signal::TERM] {
        let running = backup_in_the_middle(&host, &gate);
        running.signal(signal);
        running.ends().exits(130).complains("interrupted");
        fs::remove_file(gate.with_extension("reached")).unwrap();
        assert!(host.vault().snapshots().is_empty());
    }
    let put: Vec<String> = host.vault().objects();
    assert!(!put.is_empty(), "the files were put before the dump began");
    fs::remove_file(&gate).unwrap();
    let id = host.backup();
    let used = host.vault().objects_of(&id, "medusa/files.tar");
    assert!(used.iter().all(|object| put.contains(object)), "what was put is used");
    host.open(&["verify", "--depth", "opened"]).exits(0);
    assert_eq!(host.vault().manifest(&id)["node"], NODE);
}
