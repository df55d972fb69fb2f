//! Runs that are killed, and a store that goes away, while objects are on their way to a real S3 store and a folder at
//! once. Whatever is committed opens, in every vault, and the next run succeeds.

use super::noise;
use super::store::host_of;
use crate::support::env::Running;
use crate::support::faulty::On;
use crate::support::garage::{GARAGE, Garage};
use crate::support::host::Host;
use crate::support::proxy::{Proxy, scatter};
use rustix::process::Signal;
use std::time::Duration;

/// Other content in the large file: about five segments.
fn change(host: &Host, seed: u64) {
    host.env.write("medusa/uploads/archive.bin", noise(seed, 6_000_000), 0o600);
}

/// Starts a backup and waits until the store has been given so many objects.
fn backup_until(host: &Host, proxy: &Proxy, puts: usize) -> Running {
    let before = proxy.count(On::Put, "");
    let running = host.command(&["backup"]).start();
    while !running.has_ended() && proxy.count(On::Put, "") - before < puts {
        std::thread::sleep(Duration::from_millis(1));
    }
    running
}

#[track_caller]
fn assert_all_open(host: &Host, codes: &[i32]) {
    let ended = host.open(&["verify", "--depth", "opened", "--snapshot", "all"]);
    assert!(ended.code.is_some_and(|code| codes.contains(&code)), "one of {codes:?} was expected\n{ended}");
}

#[test]
fn killed_at_chance_moments_with_a_folder_and_a_bucket() {
    const ROUNDS: u64 = 10;
    let seed = 0x5eed_0003;
    println!("seed {seed:#x}");
    let proxy = GARAGE.proxy();
    let host = host_of(Host::of_files(), &["local"], &[("offsite", &proxy)], "killed-both");
    host.init();
    host.backup();
    let mut killed = 0;
    for round in 0..ROUNDS {
        change(&host, round + 10);
        let puts = scatter(seed, 2 * round) % 9;
        let running = backup_until(&host, &proxy, usize::try_from(puts).unwrap());
        std::thread::sleep(Duration::from_millis(scatter(seed, 2 * round + 1) % 20));
        running.signal(Signal::KILL);
        killed += u64::from(running.ends().code.is_none());
        // One vault may have got the manifest and the other not.
        assert_all_open(&host, &[0, 3]);
        if round % 4 == 3 {
            host.run(&["backup"]).exits(0).prints("complete");
        }
    }
    assert!(killed > ROUNDS / 3, "only {killed} of {ROUNDS} runs were killed in their work");
    host.run(&["backup"]).exits(0).prints("complete");
    assert_all_open(&host, &[0]);
}

#[test]
fn what_was_put_before_a_kill_is_used_by_the_next_run() {
    const LENGTH: u64 = 6_000_000;
    let proxy = GARAGE.proxy();
    let mut host = host_of(Host::of_files(), &[], &[("offsite", &proxy)], "killed-late");
    // Slow enough that a kill comes in the middle.
    host.more += "bandwidth = \"2MiB/s\"\n";
    host.write_policy();
    host.run(&["init"]).exits(0);
    host.run(&["backup"]).exits(0);
    change(&host, 7);
    let running = backup_until(&host, &proxy, 5);
    running.signal(Signal::KILL);
    assert_eq!(running.ends().code, None);
    let (code, document) = host.json(&["backup"]);
    assert_eq!(code, 0, "{document:#}");
    let rows = document["report"]["vaults"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "offsite").unwrap();
    let shipped = row["bytes_shipped"].as_u64().unwrap();
    // The content does not compress; a segment has at least 256 KiB. The last records may be lost.
    assert!(shipped + 3 * 256 * 1024 < LENGTH, "{shipped} bytes were shipped after the kill");
    assert_all_open(&host, &[0]);
}

#[test]
fn a_store_that_is_stopped_and_started_again_in_the_middle_of_a_run() {
    let garage = Garage::start();
    let proxy = garage.proxy();
    let host = host_of(Host::of_files(), &["local"], &[("offsite", &proxy)], "stopped");
    host.init();
    host.backup();
    change(&host, 1);
    let running = backup_until(&host, &proxy, 3);
    garage.stop();
    garage.resume();
    // It may have been back before the last try, or not.
    let ended = running.ends();
    assert!([Some(0), Some(3)].contains(&ended.code), "{ended}");
    assert_all_open(&host, &[0, 3]);
    change(&host, 2);
    let running = backup_until(&host, &proxy, 5);
    garage.stop();
    running.ends().exits(3).complains("offsite").complains("check that this host reaches the endpoint");
    garage.resume();
    assert_all_open(&host, &[3]);
    host.run(&["backup"]).exits(0).prints("complete");
    assert_all_open(&host, &[0]);
}
