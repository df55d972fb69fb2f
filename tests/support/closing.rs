//! What a test closes is closed for certain. A child that another test starts at that moment holds everything this
//! process has open, until its program begins: a socket goes on answering, and a program that was written cannot be
//! run. Nothing here is needed by the program that is tested, which starts few children and closes at leisure.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// Closes a socket that listens, so that nobody is answered from here on.
pub(crate) fn hang_up(listener: impl Into<OwnedFd>) {
    rustix::net::shutdown(listener.into(), rustix::net::Shutdown::Both).unwrap();
}

/// A port of loopback at which nobody answers.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    hang_up(listener);
    port
}

/// Writes a file by another process, which alone holds it open: a program that can be run at once.
pub(crate) fn write_program(path: &Path, bytes: &[u8], mode: u32) {
    let script = "umask 077; cat >\"$1\" && chmod \"$2\" \"$1\"";
    #[expect(clippy::disallowed_methods, reason = "the tester's own shell, before any program that a test put on PATH")]
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", script, "sh"]).arg(path).arg(format!("{mode:o}")).stdin(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(shell.wait().unwrap().success(), "{} could not be written", path.display());
}

#[cfg(test)]
mod tests {
    use crate::support::env::TestEnv;

    #[test]
    fn a_program_can_be_run_as_soon_as_it_is_written_whatever_else_begins() {
        let env = TestEnv::new();
        let runs = |name: &str| {
            for _ in 0..40 {
                let program = env.fake(name, "exit 7");
                env.program(program).ends().exits(7);
            }
        };
        std::thread::scope(|scope| {
            for name in ["one", "two", "three", "four"] {
                scope.spawn(move || runs(name));
            }
        });
    }
}
