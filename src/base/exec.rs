//! Child processes: the one place that starts any. Argument arrays only, never a shell; a small known
//! environment; standard error kept (bounded) for the message; a child is killed and reaped when its handle is dropped.

mod running;

pub use running::{Feeding, Running};

use super::confinement::{Confinement, ConfinementError};
use running::{judge, keep_tail};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Why a child process did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be found.
    #[error("{program} was not found on this machine (looked in {looked_in})")]
    NotFound {
        /// The program's name.
        program: String,
        /// Where it was looked for.
        looked_in: String,
    },
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be confined, and was not started.
    #[error("cannot confine {program}")]
    Confine {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: ConfinementError,
    },
    /// Its output could not be read or its end not waited for.
    #[error("cannot read from {program}")]
    Io {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("{program} failed with {status}: {stderr}")]
    Failed {
        /// The program.
        program: String,
        /// `exit code 1` or `signal 9`.
        status: String,
        /// What it said, trimmed and bounded.
        stderr: String,
    },
}

/// Environment variables a child keeps: what a program needs to find its libraries, its locale and the user's
/// files, and nothing that could carry a secret.
const KEPT_VARIABLES: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "LOCALE_ARCHIVE"];

/// The one that [`Exec::bare`] keeps. It is followed to its end, because links on the way may not be seen by the child.
const LOCALES: &str = "LOCALE_ARCHIVE";

/// A command to be run: a program and its arguments.
#[derive(Debug)]
pub struct Exec {
    program: PathBuf,
    arguments: Vec<OsString>,
    starter: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    kept: &'static [&'static str],
    folder: Option<PathBuf>,
    user: Option<(u32, u32)>,
    confinement: Option<Arc<Confinement>>,
}

impl Exec {
    /// A command without arguments. Nothing secret may be an argument: every process can read them.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            starter: Vec::new(),
            variables: Vec::new(),
            kept: &KEPT_VARIABLES,
            folder: None,
            user: None,
            confinement: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable. Nothing secret may stand in it.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Runs it as this user and group (needs root).
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Keeps nothing of this process's environment but where locales are.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.kept = &[LOCALES];
        self
    }

    /// Has it started by another program, which gets its path and arguments after its own.
    #[must_use]
    pub fn started_by<S: AsRef<OsStr>>(mut self, starter: impl IntoIterator<Item = S>) -> Self {
        self.starter = starter.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Starts it confined, from a thread of its own.
    #[must_use]
    pub fn within(mut self, confinement: &Arc<Confinement>) -> Self {
        self.confinement = Some(Arc::clone(confinement));
        self
    }

    /// The program's file name, for messages.
    pub fn program_name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts processes and reads what they inherit")]
    fn command(&self) -> Command {
        let mut command = match self.starter.split_first() {
            None => Command::new(&self.program),
            Some((starter, arguments)) => {
                let mut command = Command::new(starter);
                command.args(arguments).arg(&self.program);
                command
            }
        };
        command.args(&self.arguments).env_clear();
        for name in self.kept {
            if let Some(mut value) = std::env::var_os(name) {
                if *name == LOCALES {
                    value = std::fs::canonicalize(&value).map_or(value, PathBuf::into_os_string);
                }
                command.env(name, value);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some((uid, gid)) = self.user {
            use std::os::unix::process::CommandExt;
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts a child with these ends of standard input, output and error.
    fn spawn(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child, ExecError> {
        let mut command = self.command();
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let failed = |source| ExecError::Start { program: self.program_name(), source };
        let Some(confinement) = &self.confinement else { return command.spawn().map_err(failed) };
        // A child has what the thread has that starts it; this thread starts no other.
        let start = || {
            let confined = confinement.enter();
            confined.map_err(|source| ExecError::Confine { program: self.program_name(), source })?;
            command.spawn().map_err(failed)
        };
        std::thread::scope(|scope| scope.spawn(start).join())
            .unwrap_or_else(|_| Err(failed(io::Error::other("the starting thread ended early"))))
    }

    /// Starts it with its standard output as a pipe to read from. `stdin` is a file to read or nothing.
    pub fn stream(self, stdin: Option<std::fs::File>) -> Result<Running, ExecError> {
        let program = self.program_name();
        let mut child = self.spawn(stdin.map_or_else(Stdio::null, Stdio::from), Stdio::piped(), Stdio::piped())?;
        let stdout = child.stdout.take();
        if let Some(pipe) = &stdout {
            // A wider pipe means fewer switches between the two processes; a refusal costs only speed.
            if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, 1024 * 1024) {
                tracing::debug!(%error, "the pipe stays at its default size");
            }
        }
        let stderr = child.stderr.take().map(keep_tail);
        Ok(Running::new(program, child, stdout, stderr))
    }

    /// Starts it with its standard input as a pipe to write to; its standard output is discarded.
    pub fn feed(self) -> Result<Feeding, ExecError> {
        let program = self.program_name();
        let mut child = self.spawn(Stdio::piped(), Stdio::null(), Stdio::piped())?;
        let stdin = child.stdin.take();
        let stderr = child.stderr.take().map(keep_tail);
        Ok(Feeding { running: Running::new(program, child, None, stderr), stdin })
    }

    /// Runs it to its end without input; a failing exit code is no error here.
    pub fn output(self) -> Result<Output, ExecError> {
        let program = self.program_name();
        let child = self.spawn(Stdio::null(), Stdio::piped(), Stdio::piped())?;
        let output = child.wait_with_output().map_err(|source| ExecError::Io { program, source })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// Runs it to its end, feeding it `input`, and returns its whole standard output.
    pub fn run(self, input: &[u8]) -> Result<Vec<u8>, ExecError> {
        let program = self.program_name();
        let io_error = |source| ExecError::Io { program: program.clone(), source };
        let mut child = self.spawn(Stdio::piped(), Stdio::piped(), Stdio::piped())?;
        let stderr = child.stderr.take().map(keep_tail);
        let mut stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let output = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = stdout {
                    pipe.read_to_end(&mut bytes)?;
                }
                Ok::<_, io::Error>(bytes)
            });
            if let Some(pipe) = &mut stdin {
                // A child that ends before it read everything says why by its exit status.
                match io::Write::write_all(pipe, input) {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                    _ => {}
                }
            }
            drop(stdin);
            reader.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread ended early")))
        })
        .map_err(io_error)?;
        let status = child.wait().map_err(io_error)?;
        judge(&program, status, stderr)?;
        Ok(output)
    }
}

/// How a program ended and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Finds a program by name in the folders of `PATH` and then in `further`. A folder that is not named from `/` on is
/// passed over: what lies where somebody happens to stand is not run.
#[expect(clippy::disallowed_methods, reason = "the one place that looks programs up")]
pub fn find(program: &str, further: &[PathBuf]) -> Result<PathBuf, ExecError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(further.iter().cloned()).collect();
    find_in(program, folders)
}

fn find_in(program: &str, mut folders: Vec<PathBuf>) -> Result<PathBuf, ExecError> {
    folders.retain(|folder| folder.is_absolute());
    folders.iter().map(|folder| folder.join(program)).find(|candidate| is_executable(candidate)).ok_or_else(|| {
        let looked_in = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
        ExecError::NotFound { program: program.to_owned(), looked_in }
    })
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = Exec::new(find("sh", &[]).unwrap()).args(["-c", "echo no luck >&2; exit 3"]).run(b"").unwrap_err();
        assert_eq!(error.to_string(), "sh failed with exit code 3: no luck");
    }

    #[test]
    fn nothing_is_run_that_lies_where_somebody_stands() {
        // Tests run in the package's folder.
        assert!(is_executable(Path::new("run-tests")));
        for folder in ["", ".", "scripts/.."] {
            assert!(matches!(find_in("run-tests", vec![folder.into()]), Err(ExecError::NotFound { .. })));
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(find_in("run-tests", vec![".".into(), here.clone()]).unwrap(), here.join("run-tests"));
    }

    #[test]
    fn a_child_inherits_no_secret() {
        let output = Exec::new(find("env", &[]).unwrap()).env("PGTZ", "UTC").run(b"").unwrap();
        let text = String::from_utf8(output).unwrap();
        assert!(text.contains("PGTZ=UTC"));
        for line in text.lines() {
            let name = line.split('=').next().unwrap();
            assert!(name == "PGTZ" || KEPT_VARIABLES.contains(&name), "{name} was inherited");
        }
    }

    #[test]
    fn a_stream_is_read_and_judged() {
        let mut running =
            Exec::new(find("sh", &[]).unwrap()).args(["-c", "echo half; kill -9 $$"]).stream(None).unwrap();
        let mut text = String::new();
        running.read_to_string(&mut text).unwrap();
        assert_eq!(text, "half\n");
        assert_eq!(running.finish().unwrap_err().to_string(), "sh failed with signal 9: it said nothing");
    }
}
