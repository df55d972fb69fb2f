//! A target that is full: before the restore begins, and because somebody else fills it in the middle.

use super::scene::{GONE, NewHost, Tree, Wallet, tree, until};
use crate::support::env::{Ended, Run};
use rustix::process::Signal;
use std::fs;
use std::io::Write;

const ROOT: &str = "/mnt/target";
const KIB: u64 = 1024;

/// A restore below a root that is a small disk of its own.
fn command(new: &NewHost) -> Run {
    new.command("server-loss", &[&["--root", ROOT], &GONE[..]].concat())
}

fn target(new: &NewHost) -> Tree {
    tree(&new.machine.at(ROOT), 0)
}

/// Writes until nothing more fits.
fn fill(new: &NewHost) {
    let mut filler = fs::File::create(new.machine.at(ROOT).join("filler")).unwrap();
    for length in [64 * 1024, 1024, 1] {
        while filler.write_all(&vec![7; length]).is_ok() {}
    }
}

fn empty(new: &NewHost) {
    fs::remove_file(new.machine.at(ROOT).join("filler")).unwrap();
}

#[test]
fn a_target_that_is_too_small_is_refused_in_numbers() {
    let new = NewHost::new();
    new.machine.disk(ROOT, 512);
    fs::write(new.machine.at(ROOT).join("was-here"), "before").unwrap();
    let before = target(&new);
    let ended = command(&new).ends().exits(21).complains("the guard space refused").complains("make room");
    assert_eq!(target(&new), before);
    let number = |before: &str| -> u64 {
        let head = ended.stderr.split(before).next().unwrap();
        head.split_whitespace().last().unwrap().parse().unwrap_or_else(|_| panic!("{before}\n{ended}"))
    };
    let (needed, free, missing) = (number(" bytes are needed"), number(" are free"), number(" are missing"));
    assert!(free < 512 * KIB && needed > 600_000 && needed == free + missing, "{ended}");
}

/// Demands that a run failed for want of room, said so, and left nothing that looks done and is not.
#[track_caller]
fn failed_cleanly(new: &NewHost, ended: Ended) {
    let ended = ended
        .exits(1)
        .complains("No space left on device")
        .complains("make room")
        .complains("run the same command again");
    for (path, (_, content)) in target(new) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with(".relay-backup-staging-"), "{} is left\n{ended}", path.display());
        let Some((_, content)) = content else { continue };
        let was = super::scene::lost().machine.at(std::path::Path::new("/").join(&path));
        if was.is_file() && name != "lightningd.sqlite3" {
            assert!(content == fs::read(was).unwrap(), "{} is half there\n{ended}", path.display());
        }
    }
}

#[test]
fn a_target_that_fills_up_in_the_middle_fails_cleanly_and_with_room_it_goes_on() {
    let new = NewHost::new();
    new.machine.disk(ROOT, 8 * KIB);
    for after in ["fence", "restore-roles"] {
        let running = command(&new).start();
        until(&running, || new.journal_below(ROOT, "server-loss").0.iter().any(|step| step == after));
        running.signal(Signal::STOP);
        fill(&new);
        running.signal(Signal::CONT);
        failed_cleanly(&new, running.ends());
        let before = target(&new);
        command(&new).ends().exits(21).complains("the guard space refused");
        assert!(target(&new) == before, "nothing is begun on a disk that is full");
        empty(&new);
    }
    command(&new).ends().exits(0);
    new.is_whole_below(ROOT, Wallet::Nowhere);
    let calm = NewHost::new();
    calm.machine.disk(ROOT, 8 * KIB);
    command(&calm).ends().exits(0);
    let names = |new: &NewHost| target(new).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&new), names(&calm));
}
