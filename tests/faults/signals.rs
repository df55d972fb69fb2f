//! The program is killed or asked to stop, at moments that a fixed seed chooses, in the middle of real work. What is
//! committed opens, the next run succeeds, and whoever is asked to stop leaves nothing behind.

use super::host::{Host, cluster, files, processes, shop_sources};
use crate::support::env::{Ended, Running, TestEnv};
use relay_backup::sandbox::shop::{Shop, Size};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;

/// Waits for the end and gives the programs of its group that still run then.
fn ends_with_strays(running: Running) -> (Ended, Vec<String>) {
    // A process that was asked to stop by a test that waits for ever would hang the suite.
    let given_up = Instant::now() + Duration::from_secs(120);
    while !running.has_ended() && Instant::now() < given_up {
        std::thread::sleep(Duration::from_millis(5));
    }
    let group = running.id();
    let strays = processes().into_iter().filter(|process| process.group == group && process.id != group);
    let strays = strays.filter(|process| process.state != 'Z');
    let strays = strays.map(|process| String::from_utf8_lossy(&process.command).into_owned()).collect();
    (running.ends(), strays)
}

fn assert_nothing_left(host: &Host, strays: &[String], ended: &Ended) {
    assert!(strays.is_empty(), "still running: {strays:?}\n{ended}");
    let temporary = files(&host.env.path("tmp"));
    assert!(temporary.is_empty(), "left behind: {temporary:?}\n{ended}");
    assert_eq!(fs::read_dir(host.env.path("tmp")).unwrap().count(), 0, "{ended}");
    let state = files(&host.env.path("state"));
    let left = state.iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".tmp-"));
    assert_eq!(left.count(), 0, "{state:?}\n{ended}");
    let place = host.env.path("tmp").display().to_string();
    let working = processes().into_iter().filter(|process| process.state != 'Z');
    let working: Vec<String> = working.map(|process| String::from_utf8_lossy(&process.command).into_owned()).collect();
    assert!(!working.iter().any(|command| command.contains(&place)), "still running in {place}\n{ended}");
}

#[test]
fn killed_or_asked_to_stop_at_any_moment_the_next_run_succeeds() {
    let env = TestEnv::new();
    let cluster = cluster(&env);
    let mut shop = Shop::create(&cluster, 7, Size::Invoices(2000)).unwrap();
    env.write("medusa/.env", "JWT_SECRET=1\n", 0o600);
    let sources = shop_sources(&env, &cluster);
    let host = Host::new(env, &["vault"], &sources);
    host.run(&["init"], 0);
    let began = Instant::now();
    host.run(&["backup"], 0);
    let usual = began.elapsed();
    let mut random: u64 = 0x5eed;
    let mut stopped = 0;
    for round in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        shop.add(Size::Invoices(40)).unwrap();
        let before = host.snapshots("vault");
        let running = host.verb(&["backup"]).start();
        std::thread::sleep(usual * u32::try_from((random >> 33) % 100).unwrap() / 100);
        let signal = [Signal::KILL, Signal::TERM, Signal::INT][round % 3];
        running.signal(signal);
        let (ended, strays) = ends_with_strays(running);
        let committed = host.snapshots("vault") - before;
        assert!(committed <= 1);
        match (signal, ended.code) {
            (_, Some(0)) => assert_eq!(committed, 1, "{ended}"),
            (Signal::KILL, None) => stopped += 1,
            (Signal::TERM | Signal::INT, Some(130)) => stopped += 1,
            // Before the program has taken charge of signals they end it as they end any other.
            (Signal::TERM | Signal::INT, None) => {
                assert!(ended.stderr.is_empty() && ended.stdout.is_empty(), "{ended}")
            }
            _ => panic!("round {round}, {signal:?}\n{ended}"),
        }
        if signal != Signal::KILL {
            assert_nothing_left(&host, &strays, &ended);
        }
        if committed == 1 || round % 5 == 0 {
            host.assert_opens("latest", 0);
        }
        host.run(&["backup"], 0);
    }
    assert!(stopped > ROUNDS / 3, "only {stopped} of {ROUNDS} runs were stopped in their work");
    host.assert_opens("all", 0);
}

/// Starts a proof of meaning and waits until its server runs in the sandbox.
pub(super) fn proving(host: &Host) -> Running {
    let identity = host.identity.file.display().to_string();
    let running = host.verb(&["verify", "--depth", "meaning", "--identity", &identity]).start();
    let is_up = |path: &Path| path.ends_with("data/postmaster.pid");
    while !files(&host.env.path("tmp")).iter().any(|path| is_up(path)) {
        assert!(!running.has_ended(), "it ended before its server ran");
        std::thread::sleep(Duration::from_millis(10));
    }
    running
}

#[test]
fn a_proof_that_is_stopped_wipes_its_sandbox_and_one_that_was_killed_is_wiped_by_the_next() {
    let env = TestEnv::new();
    let cluster = cluster(&env);
    Shop::create(&cluster, 7, Size::Invoices(300)).unwrap();
    env.write("medusa/.env", "JWT_SECRET=1\n", 0o600);
    let sources = shop_sources(&env, &cluster);
    let host = Host::new(env, &["vault"], &sources);
    host.run(&["init"], 0);
    host.run(&["backup"], 0);
    for signal in [Signal::TERM, Signal::INT] {
        let running = proving(&host);
        running.signal(signal);
        let (ended, strays) = ends_with_strays(running);
        let ended = ended.exits(130);
        assert_nothing_left(&host, &strays, &ended);
    }
    let running = proving(&host);
    running.signal(Signal::KILL);
    let (killed, _) = ends_with_strays(running);
    assert_eq!(killed.code, None, "{killed}");
    // Plaintext that was being tried out when the kill came, in the folder of such.
    let folders = fs::read_dir(host.env.path("tmp")).unwrap().flatten().map(|entry| entry.path());
    let proofs =
        folders.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("relay-backup-meaning-"));
    let proofs: Vec<_> = proofs.collect();
    assert_eq!(proofs.len(), 1, "{proofs:?}");
    fs::write(proofs[0].join("plain"), "a wallet").unwrap();
    let identity = host.identity.file.display().to_string();
    let ended = host.run(&["verify", "--depth", "meaning", "--identity", &identity], 0);
    assert_nothing_left(&host, &[], &ended);
}
