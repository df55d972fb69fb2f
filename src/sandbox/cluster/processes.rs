//! The processes of this machine, looked through for those of a scratch server whose owner was killed. Asks the kernel
//! each time: what a server writes about itself may be another's by now.

use rustix::process::{Pid, Signal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes may take to end once they were told to.
const ENDING_MAX: Duration = Duration::from_secs(3);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Those that run as this user in any way.
pub(super) fn with_user(uid: u32) -> Vec<Pid> {
    let uid = uid.to_string();
    living(|process| users(process).contains(&uid))
}

/// Those that run as this user and have a word in their command line that is this path: a server of that folder.
pub(super) fn of_folder(uid: u32, data: &Path) -> Vec<Pid> {
    let uid = uid.to_string();
    let data = data.as_os_str().as_encoded_bytes();
    living(|process| {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|word| word == data) && users(process).contains(&uid)
    })
}

/// Ends what is found, as a whole, and waits for it, a few seconds at most.
pub(super) fn kill(find: impl Fn() -> Vec<Pid>) {
    if !are_gone_after(Signal::KILL, find) {
        tracing::warn!("processes of a scratch cluster could not be ended");
    }
}

/// The same, but asks it first to stop by itself: a server ends its children.
pub(super) fn stop(find: impl Fn() -> Vec<Pid>) {
    if !are_gone_after(Signal::QUIT, &find) {
        kill(find);
    }
}

fn are_gone_after(signal: Signal, find: impl Fn() -> Vec<Pid>) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < ENDING_MAX {
        let found = find();
        if found.is_empty() {
            return true;
        }
        for pid in found {
            if let Err(error) = rustix::process::kill_process(pid, signal) {
                tracing::debug!(%error, "a process of a scratch cluster could not be told to end");
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    false
}

/// Those that have not ended and are wanted, by their folder in `/proc`.
fn living(is_wanted: impl Fn(&Path) -> bool) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found = numbers.filter(|number| {
        let process = PathBuf::from(format!("/proc/{number}"));
        is_wanted(&process) && !is_over(&process)
    });
    found.filter_map(Pid::from_raw).collect()
}

/// Its real, effective, saved and filesystem user.
fn users(process: &Path) -> Vec<String> {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    users.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Whether it has ended and only its parent has not looked yet.
fn is_over(process: &Path) -> bool {
    match std::fs::read_to_string(process.join("stat")) {
        // The state follows the name, which stands in parentheses and may hold any.
        Ok(stat) => stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}
