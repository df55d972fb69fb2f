//! Clears up what lives as long as the whole test binary: a static is never dropped, so a shell that outlives the tests
//! waits for its input to end, however they end, and then stops and removes what it was told of. It must never be told
//! of anything that the tests did not make.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};

const SCRIPT: &str = "pids=; paths=
while read -r word value; do
    case $word in stop) pids=\"$pids $value\" ;; wipe) paths=\"$paths $value\" ;; esac
done
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

/// Has this folder of the tests' own removed when they are over.
pub(crate) fn wipes(folder: &Path) {
    let folder = folder.to_str().unwrap();
    assert!(!folder.contains(char::is_whitespace), "{folder:?} would be taken for several");
    writeln!(JANITOR.lock().unwrap(), "wipe {folder}").unwrap();
}
