//! A place of its own for one test: home, temporary folder, programs that stand in for others, a node's files, keys, a
//! policy, and a way to run the program there that cannot see the tester's environment, cannot hang the run, and leaves
//! nothing behind. It never touches a path outside its scratch folder.

use super::{closing, janitor};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a program may run before the test gives it up. Generous: it exists to end a hang, not to measure.
const PATIENCE: Duration = Duration::from_secs(300);

/// One test's scratch folder, removed when it is dropped.
pub(crate) struct TestEnv {
    scratch: tempfile::TempDir,
}

/// An age identity and where it lies.
pub(crate) struct Identity {
    /// The identity file, mode 0600.
    pub(crate) file: PathBuf,
    /// The public key, `age1…`.
    pub(crate) recipient: String,
}

impl TestEnv {
    /// A fresh one. Its path is short, because sockets lie below it, and others may pass through its top, because a
    /// test that runs as root hands PostgreSQL's folders to another user.
    pub(crate) fn new() -> Self {
        let scratch = tempfile::Builder::new().prefix("rb-").tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o711)).unwrap();
        for (name, mode) in [("home", 0o700), ("tmp", 0o711), ("bin", 0o755)] {
            fs::DirBuilder::new().mode(mode).create(scratch.path().join(name)).unwrap();
        }
        Self { scratch }
    }

    /// A path inside the scratch folder; nothing is made there.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The home folder of what runs here.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Writes a file with this mode, and the folders above it with mode 0700. What was there is replaced.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        if mode & 0o111 != 0 {
            closing::write_program(&path, bytes.as_ref(), mode);
            return path;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
        // The process's umask may have taken bits away.
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Writes a policy that only its owner can change.
    pub(crate) fn policy(&self, text: &str) -> PathBuf {
        self.write("policy.toml", text, 0o644)
    }

    /// Puts a shell script before every other program of this name. The real one is found behind it, in `$PATH`.
    pub(crate) fn fake(&self, program: &str, script: &str) -> PathBuf {
        self.write(&format!("bin/{program}"), format!("#!/bin/sh\n{script}\n"), 0o755)
    }

    /// A new identity, in a file as `age-keygen` writes it.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        use age::secrecy::ExposeSecret;
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let text = format!("# public key: {recipient}\n{}\n", identity.to_string().expose_secret());
        Identity { file: self.write(name, text, 0o600), recipient }
    }

    /// A lightning directory of the regtest node of the fixtures as it was at this step (such as
    /// `04-after-25-payments`), with the modes lightningd gives. Called again, it replaces what the step brings.
    pub(crate) fn lightning_dir(&self, step: &str) -> PathBuf {
        // Cargo runs tests in the package's folder; a path fixed when compiling would outlive a checkout that moves.
        let fixtures = Path::new("tests/fixtures/cln/node");
        let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.write("lightning/regtest/hsm_secret", read(fixtures.join("hsm_secret")), 0o400);
        let database = read(fixtures.join(step).join("lightningd.sqlite3"));
        self.write("lightning/regtest/lightningd.sqlite3", database, 0o600);
        if fixtures.join(step).join("emergency.recover").exists() {
            let recover = read(fixtures.join(step).join("emergency.recover"));
            self.write("lightning/regtest/emergency.recover", recover, 0o400);
        }
        self.write("lightning/config", "network=regtest\n", 0o600);
        self.path("lightning")
    }

    /// The program that is tested, with these arguments.
    pub(crate) fn relay_backup(&self, arguments: &[&str]) -> Run {
        self.program(env!("CARGO_BIN_EXE_relay-backup")).args(arguments)
    }

    /// Runs the program that is tested, with these arguments, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.relay_backup(arguments).ends()
    }

    /// Any program. It sees this environment and nothing of the tester's but the folders of `PATH`.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Run {
        let mut folders = vec![self.path("bin")];
        #[expect(clippy::disallowed_methods, reason = "tests run the programs of the machine they run on")]
        folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        #[expect(clippy::disallowed_methods, reason = "tests start what they test as a user does")]
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", std::env::join_paths(folders).unwrap())
            .env("HOME", self.home())
            .env("TMPDIR", self.path("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("NO_COLOR", "1")
            .current_dir(self.home())
            .process_group(0);
        Run { command, stdin: Vec::new(), patience: PATIENCE, said: vec![program.as_ref().to_owned()] }
    }
}

/// A program that is about to run.
#[must_use]
pub(crate) struct Run {
    command: Command,
    stdin: Vec<u8>,
    patience: Duration,
    said: Vec<OsString>,
}

impl Run {
    /// Adds one argument.
    pub(crate) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            self.said.push(argument.as_ref().to_owned());
            self.command.arg(argument);
        }
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it as another user, which only root can.
    pub(crate) fn user(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Gives it something to read; otherwise there is nothing.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Gives it up after this time instead of [`PATIENCE`].
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {:?}: {error}", self.said));
        janitor::ends(child.id());
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin;
        // Whether it was all read is for the program to decide; a pipe closed early is no fault of the test.
        std::thread::spawn(move || stdin.write_all(&bytes).is_ok());
        let stdout = read_to_end(child.stdout.take().unwrap());
        let stderr = read_to_end(child.stderr.take().unwrap());
        Running { child, stdout: Some(stdout), stderr: Some(stderr), patience: self.patience, said: self.said }
    }

    /// Runs it to its end.
    pub(crate) fn ends(self) -> Ended {
        self.start().ends()
    }
}

fn read_to_end(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A program that runs. Dropping it kills it and everything it started.
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    patience: Duration,
    said: Vec<OsString>,
}

impl Running {
    /// Sends it a signal; not its children.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its process id, which is its group's too.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended; it is not reaped, so that its id still means it.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended_by(Instant::now())
    }

    /// Waits for its end.
    pub(crate) fn ends(mut self) -> Ended {
        let ended_in_time = self.has_ended_by(Instant::now() + self.patience);
        // What it left running would hold the pipes open.
        let status = self.kill_group().unwrap();
        let bytes = |thread: Option<JoinHandle<Vec<u8>>>| thread.unwrap().join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stdout_bytes = bytes(self.stdout.take());
        let ended = Ended {
            code: status.code(),
            stdout: text(&stdout_bytes),
            stdout_bytes,
            stderr: text(&bytes(self.stderr.take())),
            said: std::mem::take(&mut self.said),
        };
        assert!(ended_in_time, "it did not end within {:?}\n{ended}", self.patience);
        ended
    }

    /// Looks without reaping it, so that its number still means its group when that is killed.
    fn has_ended_by(&self, deadline: Instant) -> bool {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            if waitid(WaitId::Pid(Pid::from_child(&self.child)), options).unwrap().is_some() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill_group(&mut self) -> std::io::Result<ExitStatus> {
        let group = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
        // Before it is reaped: then another may get its number.
        janitor::has_ended(self.child.id());
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.stdout.is_some() {
            // The test has failed already, and says why.
            drop(self.kill_group());
        }
    }
}

/// What a program said and how it ended. Every assertion prints all of it when it fails.
pub(crate) struct Ended {
    /// Its exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// The same, byte for byte.
    pub(crate) stdout_bytes: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
    said: Vec<OsString>,
}

impl Ended {
    /// Demands this exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(self.code == Some(code), "exit code {code} was expected\n{self}");
        self
    }

    /// Demands this text somewhere in standard output.
    #[track_caller]
    pub(crate) fn prints(self, part: &str) -> Self {
        assert!(self.stdout.contains(part), "{part:?} was expected on standard output\n{self}");
        self
    }

    /// Demands this text somewhere in standard error.
    #[track_caller]
    pub(crate) fn complains(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "{part:?} was expected on standard error\n{self}");
        self
    }

    /// Demands that this text, such as a secret, stands nowhere in what it said.
    #[track_caller]
    pub(crate) fn keeps_quiet_about(self, part: &str) -> Self {
        assert!(!self.stdout.contains(part) && !self.stderr.contains(part), "{part:?} was not expected\n{self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "ran: {:?}", self.said)?;
        match self.code {
            Some(code) => writeln!(f, "exit code: {code}")?,
            None => writeln!(f, "exit code: none, it was killed")?,
        }
        write!(f, "standard output:\n{}\nstandard error:\n{}", self.stdout, self.stderr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn nothing_of_the_testers_environment_is_seen() {
        let env = TestEnv::new();
        let ended = env.program("env").env("EXTRA", "1").ends().exits(0).prints("EXTRA=1");
        let known = ["PATH", "HOME", "TMPDIR", "LC_ALL", "TZ", "NO_COLOR", "EXTRA"];
        for line in ended.stdout.lines() {
            assert!(known.contains(&line.split('=').next().unwrap()), "{line} was inherited");
        }
        assert!(ended.stdout.contains(&format!("HOME={}", env.home().display())));
    }

    #[test]
    fn a_fake_program_stands_before_the_real_one() {
        let env = TestEnv::new();
        env.fake("uname", "echo \"fake $*\"; cat; echo warned >&2; exit 7");
        let sh = env.program("sh").args(["-c", "uname -a"]).stdin("fed");
        sh.ends().exits(7).prints("fake -a\nfed").complains("warned").keeps_quiet_about("Linux");
    }

    #[test]
    #[should_panic(expected = "exit code 0 was expected")]
    fn a_wrong_exit_code_fails_the_test() {
        TestEnv::new().program("false").ends().exits(0);
    }

    #[test]
    #[should_panic(expected = "it did not end within")]
    fn a_program_that_hangs_fails_the_test() {
        let env = TestEnv::new();
        env.program("sh").args(["-c", "sleep 1000 & wait"]).patience(Duration::from_millis(300)).ends();
    }

    #[test]
    fn a_signal_reaches_the_program() {
        let env = TestEnv::new();
        let script = "trap 'exit 130' INT; touch ready; while :; do sleep 0.05; done";
        let running = env.program("sh").args(["-c", script]).start();
        while !env.home().join("ready").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        running.signal(rustix::process::Signal::INT);
        running.ends().exits(130);
    }

    #[test]
    fn a_lightning_dir_has_the_modes_of_a_real_one() {
        let env = TestEnv::new();
        let folder = env.lightning_dir("02-two-channels-open").join("regtest");
        let before = fs::read(folder.join("lightningd.sqlite3")).unwrap();
        env.lightning_dir("04-after-25-payments");
        assert_ne!(fs::read(folder.join("lightningd.sqlite3")).unwrap(), before);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(folder.join("hsm_secret")), 0o400);
        assert_eq!(mode(folder.join("emergency.recover")), 0o400);
        assert_eq!(mode(folder.join("lightningd.sqlite3")), 0o600);
    }

    #[test]
    fn an_identity_opens_what_was_sealed_to_it() {
        let env = TestEnv::new();
        let Identity { file, recipient } = env.identity("keys/one.txt");
        assert_eq!(mode(&file), 0o600);
        let text = env.write("plain", "plain text", 0o600);
        let sealed = env.path("sealed");
        env.program("age").args(["-r", &recipient, "-o"]).args([&sealed, &text]).ends().exits(0);
        env.program("age").args(["-d", "-i"]).args([&file, &sealed]).ends().exits(0).prints("plain text");
    }

    #[test]
    fn a_policy_can_be_changed_by_its_owner_only() {
        let env = TestEnv::new();
        assert_eq!(mode(env.policy("node = \"a\"\n")), 0o644);
    }

    #[test]
    fn the_scratch_folder_is_removed() {
        let env = TestEnv::new();
        let path = env.home();
        env.lightning_dir("01-funded");
        drop(env);
        assert!(!path.exists());
    }
}
