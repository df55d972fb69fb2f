//! Folder vaults on disks that are full, read-only or not mounted: the run says so and how to mend it, loses nothing,
//! and makes no vault where the disk is missing.

use super::bench::noise;
use super::host::{Host, files_source};
use crate::support::env::{Run, TestEnv};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn host(vaults: &[&str]) -> Host {
    let env = TestEnv::new();
    let source = files_source("data", &env.path("data"));
    env.write("data/large", noise(1, 2_000_000), 0o600);
    Host::new(env, vaults, &source)
}

/// A filesystem in memory, as long as this lives.
struct Disk<'a> {
    env: &'a TestEnv,
    at: PathBuf,
}

impl<'a> Disk<'a> {
    /// None where this user may not mount.
    fn mount(env: &'a TestEnv, name: &str, megabytes: u32) -> Option<Self> {
        let at = env.path(name);
        fs::create_dir(&at).unwrap();
        let options = format!("size={megabytes}m,mode=0700");
        let mounted = env.program("mount").args(["-t", "tmpfs", "-o", &options, "none"]).args([&at]).ends();
        (mounted.code == Some(0)).then_some(Self { env, at })
    }

    fn grow(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}m");
        self.env.program("mount").args(["-o", &options]).args([&self.at]).ends().exits(0);
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.env.program("umount").args([&self.at]).ends();
    }
}

#[test]
fn a_full_disk_fails_the_run_loses_nothing_and_with_room_it_works() {
    let host = host(&["vault"]);
    let Some(disk) = Disk::mount(&host.env, "vault", 5) else {
        // The test of a limit on files shows the same to a user who may not mount.
        writeln!(std::io::stderr(), "note: this user may not mount: no disk was filled").unwrap();
        return;
    };
    host.run(&["init"], 0);
    host.run(&["backup"], 0);
    let mut refused = None;
    for seed in 2..6 {
        host.env.write("data/large", noise(seed, 2_000_000), 0o600);
        let ended = host.verb(&["backup"]).ends();
        if ended.code != Some(0) {
            refused = Some(ended.exits(1));
            break;
        }
    }
    refused.expect("the disk never got full").complains("free space").complains("vault vault");
    let committed = host.snapshots("vault");
    assert!(committed >= 1);
    host.assert_opens("all", 0);
    // Not even a second try, with the disk as full as before, does harm.
    host.run(&["backup"], 1);
    assert_eq!(host.snapshots("vault"), committed);
    disk.grow(30);
    host.run(&["backup"], 0);
    host.assert_opens("all", 0);
}

#[test]
fn a_limit_on_files_fails_the_run_and_loses_nothing() {
    let host = host(&["vault"]);
    host.run(&["init"], 0);
    host.run(&["backup"], 0);
    host.env.write("data/large", noise(2, 2_000_000), 0o600);
    // The signal that goes with the limit ends a program that does not ignore it.
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$@\"";
    let policy = host.env.path("policy.toml");
    let limited = host.env.program("sh").args(["-c", script, "sh", env!("CARGO_BIN_EXE_relay-backup"), "--policy"]);
    limited.args([&policy]).args(["backup"]).ends().exits(1).complains("vault vault").complains("File too large");
    assert_eq!(host.snapshots("vault"), 1);
    host.assert_opens("all", 0);
    host.run(&["backup"], 0);
    host.assert_opens("all", 0);
}

/// The program as a user that is not root, who owns state, vaults and data.
struct Unprivileged {
    host: Host,
    program: PathBuf,
}

impl Unprivileged {
    fn new(vaults: &[&str]) -> Self {
        let host = host(vaults);
        let program = host.env.path("bin/relay-backup");
        fs::copy(env!("CARGO_BIN_EXE_relay-backup"), &program).unwrap();
        for folder in vaults.iter().chain(&["state"]) {
            fs::create_dir(host.env.path(folder)).unwrap();
        }
        let own: Vec<PathBuf> = vaults.iter().chain(&["state", "data"]).map(|name| host.env.path(name)).collect();
        if rustix::process::geteuid().is_root() {
            host.env.program("chown").args(["-R", "65534:65534"]).args(&own).ends().exits(0);
        }
        Self { host, program }
    }

    fn verb(&self, verb: &str) -> Run {
        let policy = self.host.env.path("policy.toml");
        let run = if rustix::process::geteuid().is_root() {
            let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
            self.host.env.program("setpriv").args(nobody).args([&self.program])
        } else {
            self.host.env.program(&self.program)
        };
        run.args(["--policy"]).args([&policy]).args([verb])
    }

    /// Takes the right to write away from a vault, or gives it back.
    fn writable(&self, vault: &str, modes: &str) {
        self.host.env.program("chmod").args(["-R", modes]).args([self.host.env.path(vault)]).ends().exits(0);
    }
}

#[test]
fn a_vault_that_may_not_be_written_fails_the_run_or_is_left_behind() {
    let one = Unprivileged::new(&["vault"]);
    one.verb("init").ends().exits(0);
    one.verb("backup").ends().exits(0);
    one.writable("vault", "a-w");
    one.verb("backup").ends().exits(1).complains("own the vault's folder");
    assert_eq!(one.host.snapshots("vault"), 1);
    one.writable("vault", "u+w");
    one.verb("backup").ends().exits(0);
    one.host.assert_opens("all", 0);

    let two = Unprivileged::new(&["first", "second"]);
    two.verb("init").ends().exits(0);
    two.writable("first", "a-w");
    two.verb("backup").ends().exits(3).complains("own the vault's folder");
    assert_eq!([two.host.snapshots("first"), two.host.snapshots("second")], [0, 1]);
    two.writable("first", "u+w");
    two.verb("backup").ends().exits(0);
    two.host.assert_opens("all", 0);
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_vault_that_vanished_is_never_made_anew_by_a_backup() {
    let host = host(&["vault"]);
    host.run(&["init"], 0);
    host.run(&["backup"], 0);
    let (vault, aside) = (host.env.path("vault"), host.env.path("aside"));
    fs::rename(&vault, &aside).unwrap();
    host.run(&["backup"], 10).complains("mount");
    assert!(!vault.exists());
    // A disk that is not mounted leaves an empty folder.
    fs::create_dir(&vault).unwrap();
    fs::set_permissions(&vault, fs::Permissions::from_mode(0o700)).unwrap();
    host.run(&["backup"], 10);
    host.run(&["verify"], 10);
    assert!(is_empty(&vault));
    fs::remove_dir(&vault).unwrap();
    fs::rename(&aside, &vault).unwrap();
    host.run(&["backup"], 0);
    host.assert_opens("all", 0);
}

#[test]
fn of_two_vaults_one_that_vanished_is_behind_and_catches_up() {
    let host = host(&["first", "second"]);
    host.run(&["init"], 0);
    host.run(&["backup"], 0);
    let (vault, aside) = (host.env.path("second"), host.env.path("aside"));
    fs::rename(&vault, &aside).unwrap();
    for seed in 2..4 {
        host.env.write("data/large", noise(seed, 2_000_000), 0o600);
        host.run(&["backup"], 3).complains("second");
        assert!(!vault.exists());
    }
    host.run(&["verify"], 3);
    fs::rename(&aside, &vault).unwrap();
    host.run(&["verify"], 3).complains("behind");
    host.run(&["backup"], 0);
    host.assert_opens("all", 0);
    // Lost for good: only init makes a new one, and the next run fills it.
    fs::remove_dir_all(&vault).unwrap();
    host.run(&["backup"], 3);
    host.run(&["init"], 0);
    host.run(&["backup"], 0);
    host.assert_opens("all", 0);
    assert_eq!([host.snapshots("first"), host.snapshots("second")], [6, 1]);
}
