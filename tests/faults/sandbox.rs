//! The scratch server of `verify --depth meaning`, seen from outside: a wall that it lacks is told, and it outlives its
//! owner until the next run at most.

use super::host::{Host, cluster, files_source, processes, shop_sources};
use super::signals::proving;
use crate::support::env::{Ended, TestEnv};
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A host with one backup, and the server that it is of.
fn backed_up() -> (Host, Cluster) {
    let env = TestEnv::new();
    let cluster = cluster(&env);
    Shop::create(&cluster, 7, Size::Invoices(50)).unwrap();
    env.write("medusa/.env", "JWT_SECRET=1\n", 0o600);
    let sources = shop_sources(&env, &cluster);
    assert!(sources.contains(&files_source("medusa", &env.path("medusa"))));
    let host = Host::new(env, &["vault"], &sources);
    host.run(&["init"], 0);
    host.run(&["backup"], 0);
    (host, cluster)
}

/// The proof, as JSON, started by another program.
fn proved_by(host: &Host, starter: &[&str]) -> Ended {
    let file = |path: std::path::PathBuf| path.display().to_string();
    let (policy, identity) = (file(host.env.path("policy.toml")), file(host.identity.file.clone()));
    let verify = ["--json", "--policy", &policy, "verify", "--depth", "meaning", "--identity", &identity];
    let (program, arguments) = starter.split_first().unwrap();
    let run = host.env.program(program).args(arguments).args([env!("CARGO_BIN_EXE_relay-backup")]);
    run.args(verify).ends().exits(0)
}

#[test]
fn a_wall_that_is_missing_is_told_and_nothing_when_all_are_there() {
    let (host, _cluster) = backed_up();
    let told = |ended: &Ended| ended.stdout.contains("\"sandbox-weaker\"");
    let usual = proved_by(&host, &["env"]);
    assert_eq!(told(&usual), !is_root(), "{usual}");
    if is_root() {
        let confined = proved_by(&host, &["setpriv", "--bounding-set=-sys_admin"]);
        assert!(told(&confined) && confined.stdout.contains("--cap-add SYS_ADMIN"), "{confined}");
        assert!(confined.stdout.contains("Operation not permitted"), "{confined}");
    }
    assert_eq!(fs::read_dir(host.env.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_server_whose_owner_was_killed_is_ended_by_the_next_run() {
    let (host, _cluster) = backed_up();
    let place = host.env.path("tmp").display().to_string();
    let servers = || -> Vec<u32> {
        let working = processes().into_iter().filter(|process| process.state != 'Z');
        let named = |command: &[u8]| String::from_utf8_lossy(command).contains(&place);
        working.filter(|process| named(&process.command)).map(|process| process.id).collect()
    };
    let running = proving(&host);
    let owner = running.id();
    running.signal(Signal::KILL);
    while !running.has_ended() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = || servers().into_iter().filter(|id| *id != owner).collect::<Vec<_>>();
    if is_root() {
        assert!(!left().is_empty(), "its server ended with it");
    }
    let identity = host.identity.file.display().to_string();
    host.run(&["verify", "--depth", "meaning", "--identity", &identity], 0);
    // What an ordinary user starts ends with its owner, in its own time.
    let begun = Instant::now();
    while !left().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "still running: {:?}", left());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_dir(host.env.path("tmp")).unwrap().count(), 0);
    drop(running);
}
