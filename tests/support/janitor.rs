//! Clears up after the test binary, however it ends: a static is never dropped, and what a killed process started goes
//! on. So a shell that outlives the tests waits for its input to end, and then stops and removes what it was told of.
//! It must never be told of anything that the tests did not make.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};

const SCRIPT: &str = "pids=; paths=; groups=' '
while read -r word value; do
    case $word in
        stop) pids=\"$pids $value\" ;;
        wipe) paths=\"$paths $value\" ;;
        begun) groups=\"$groups$value \" ;;
        ended) groups=\"${groups%% $value *} ${groups#* $value }\" ;;
    esac
done
for group in $groups; do kill -s KILL -- \"-$group\"; done
for pid in $pids; do kill -QUIT \"$pid\"; done
[ -z \"$pids\" ] || sleep 1
for path in $paths; do rm -rf -- \"$path\"; done";

static JANITOR: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "tests clear up after themselves")]
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Mutex::new(shell.spawn().unwrap().stdin.unwrap())
});

/// Has this process of the tests' own stopped when they are over.
pub(crate) fn stops(pid: u32) {
    writeln!(JANITOR.lock().unwrap(), "stop {pid}").unwrap();
}

/// Has this group of processes ended when they are over, unless [`has_ended`] is called for it before.
pub(crate) fn ends(group: u32) {
    writeln!(JANITOR.lock().unwrap(), "begun {group}").unwrap();
}

/// Takes back what [`ends`] was told.
pub(crate) fn has_ended(group: u32) {
    writeln!(JANITOR.lock().unwrap(), "ended {group}").unwrap();
}

/// Has this folder of the tests' own removed when they are over.
pub(crate) fn wipes(folder: &Path) {
    let folder = folder.to_str().unwrap();
    assert!(!folder.contains(char::is_whitespace), "{folder:?} would be taken for several");
    writeln!(JANITOR.lock().unwrap(), "wipe {folder}").unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::env::TestEnv;

    #[test]
    fn what_was_begun_and_has_not_ended_is_killed_and_nothing_else() {
        let env = TestEnv::new();
        let [lost, other, kept] = [(); 3].map(|()| env.program("sleep").arg("600").start());
        #[expect(clippy::disallowed_methods, reason = "another janitor, whose tests are over")]
        let mut shell = Command::new("sh").args(["-c", SCRIPT]).stdin(Stdio::piped()).spawn().unwrap();
        let mut told = shell.stdin.take().unwrap();
        for (word, running) in [("begun", &lost), ("begun", &kept), ("begun", &other), ("ended", &kept)] {
            writeln!(told, "{word} {}", running.id()).unwrap();
        }
        drop(told);
        assert!(shell.wait().unwrap().success());
        assert_eq!((lost.ends().code, other.ends().code), (None, None));
        assert!(!kept.has_ended());
    }
}
