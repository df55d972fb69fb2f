//! Runs a shell line and measures it: wall time, processor time, and the memory of the largest process it started.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time between two looks at the processes. The kernel keeps the largest size itself, so only what a process grows in
/// its very last moment can be missed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One measured line.
pub(crate) struct Figure {
    /// Seconds from beginning to end.
    pub(crate) wall: f64,
    /// Processor seconds of all its processes, a database server's not included.
    pub(crate) cpu: f64,
    /// Bytes of memory of its largest process; 0 where the kernel does not tell.
    pub(crate) peak: u64,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
}

/// Runs a line to its end. Pipelines are what this program is compared with, so a shell runs them.
pub(crate) fn measure(line: &str) -> Figure {
    let before = children_cpu();
    let begin = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "a benchmark runs what it is compared with")]
    let child = Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let (output, peaks) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| child.wait_with_output().unwrap());
        let mut peaks = BTreeMap::new();
        while !waiting.is_finished() {
            look(id, &mut peaks);
            std::thread::sleep(LOOK_EVERY);
        }
        (waiting.join().unwrap(), peaks)
    });
    let wall = begin.elapsed().as_secs_f64();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Figure { wall, cpu: children_cpu() - before, peak: peaks.into_values().max().unwrap_or(0), stdout }
}

/// Notes the largest size so far of a process and of all below it.
fn look(id: u32, peaks: &mut BTreeMap<u32, u64>) {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    // A process that has ended and was not waited for has no size any more.
    if let Some(kibibytes) = kibibytes.map(|kibibytes: u64| kibibytes * 1024) {
        let peak = peaks.entry(id).or_default();
        *peak = kibibytes.max(*peak);
    }
    // A child stands under the thread that started it.
    for thread in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|child| child.parse().ok()).for_each(|child| look(child, peaks));
    }
}

/// Processor seconds of all children that ended.
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

/// Bytes in all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    relay_backup::base::exec::find(program, &[]).is_ok()
}
