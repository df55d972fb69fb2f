//! A child that runs: read from, written to, waited for; killed and reaped when its handle is dropped.

use super::super::limits::STDERR_BYTES_MAX;
use super::ExecError;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, ExitStatus};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A child that is running, its output being read. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    finished: bool,
    /// Whether the last read found little in the pipe.
    was_little: bool,
}

impl Running {
    pub(super) fn new(
        program: String,
        child: Child,
        stdout: Option<ChildStdout>,
        stderr: Option<JoinHandle<Vec<u8>>>,
    ) -> Self {
        Self { program, child, stdout, stderr, finished: false, was_little: false }
    }

    /// Waits for its end; an error when it failed. Read its output to the end first.
    pub fn finish(self) -> Result<(), ExecError> {
        self.finish_saying().map(drop)
    }

    /// Waits for its end; an error when it failed, else what it said on standard error, trimmed and bounded.
    pub fn finish_saying(mut self) -> Result<String, ExecError> {
        drop(self.stdout.take());
        let status = self.child.wait().map_err(|source| ExecError::Io { program: self.program.clone(), source })?;
        self.finished = true;
        judge(&self.program, status, self.stderr.take())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        // A child that cannot be asked after is none that runs.
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The same, after waiting for it this long at most.
    pub fn has_ended_within(&mut self, limit: Duration) -> bool {
        let begin = Instant::now();
        while !self.has_ended() {
            if begin.elapsed() > limit {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

/// Pause between two looks at a child that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(3);
/// How long a reader rests that found little in the pipe. Programs write through buffers of 4 KiB; a reader that waits
/// in the kernel would be woken for each of them, which costs both sides more than the work itself.
const REST: Duration = Duration::from_millis(1);
/// What counts as little, in bytes.
const LITTLE_BYTES: usize = 64 * 1024;

impl Read for Running {
    /// Reads what has gathered in the pipe; may rest for a moment so that more gathers.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &mut self.stdout else { return Ok(0) };
        if self.was_little {
            std::thread::sleep(REST);
        }
        let count = pipe.read(buffer)?;
        self.was_little = count < LITTLE_BYTES.min(buffer.len());
        Ok(count)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.finished {
            // It may have ended by itself; either way it is reaped.
            if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
                tracing::debug!(program = self.program, %error, "the child could not be stopped");
            }
        }
    }
}

/// A child that is being written to. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Feeding {
    pub(super) running: Running,
    pub(super) stdin: Option<std::process::ChildStdin>,
}

impl Feeding {
    /// Closes its input and waits for its end; an error when it failed, else what it said on standard error.
    pub fn finish(mut self) -> Result<String, ExecError> {
        drop(self.stdin.take());
        self.running.finish_saying()
    }
}

impl io::Write for Feeding {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdin.as_mut().map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), |pipe| pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.as_mut().map_or(Ok(()), io::Write::flush)
    }
}

pub(super) fn keep_tail(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = VecDeque::new();
        let mut buffer = [0u8; 4096];
        while let Ok(count) = pipe.read(&mut buffer) {
            if count == 0 {
                break;
            }
            kept.extend(&buffer[..count]);
            let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
            kept.drain(..excess);
        }
        kept.into()
    })
}

pub(super) fn judge(
    program: &str,
    status: ExitStatus,
    stderr: Option<JoinHandle<Vec<u8>>>,
) -> Result<String, ExecError> {
    let said = stderr.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if status.success() {
        if !said.is_empty() {
            tracing::info!(program, said, "a program warned");
        }
        return Ok(said);
    }
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    };
    let stderr = if said.is_empty() { "it said nothing".to_owned() } else { said };
    Err(ExecError::Failed { program: program.to_owned(), status, stderr })
}
