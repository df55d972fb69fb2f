//! A fifo where the node's user can put one: at a configuration, at what belongs to the database. Nothing waits there,
//! and what cannot be read is said.

use crate::support::env::Ended;
use crate::support::host::Host;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

fn fifo(path: &Path) {
    drop(std::fs::remove_file(path));
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

/// Ends in any case: whoever waits at a fifo is killed.
fn ended(host: &Host, arguments: &[&str]) -> Ended {
    let running = host.command(arguments).start();
    let given_up = Instant::now() + Duration::from_secs(60);
    while !running.has_ended() && Instant::now() < given_up {
        std::thread::sleep(Duration::from_millis(20));
    }
    if !running.has_ended() {
        running.signal(Signal::KILL);
    }
    running.ends()
}

#[test]
fn a_fifo_at_a_file_of_the_database_hangs_no_backup() {
    for ending in ["-journal", "-wal", "-shm"] {
        let host = Host::new();
        host.init();
        fifo(&host.lightning(&format!("lightningd.sqlite3{ending}")));
        ended(&host, &["backup"]).exits(1).complains("is not a regular file");
        ended(&host, &["backup", "--final", "--yes"]).complains("is not a regular file");
        assert!(host.lightning("lightningd.sqlite3").metadata().unwrap().len() > 1000, "nothing was moved");
    }
}

#[test]
fn a_fifo_at_a_configuration_hangs_no_backup() {
    for place in ["config", "../config"] {
        let host = Host::new();
        host.init();
        fifo(&host.lightning(place));
        ended(&host, &["backup"]).exits(1).complains("which database lightningd uses cannot be told");
        ended(&host, &["backup", "--final", "--yes"]).complains("no final snapshot was made");
    }
}
