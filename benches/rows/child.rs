//! Processes that the benchmark starts from its own program: the writer beside which a wallet is copied, and the
//! pipeline whose memory is measured. Each reads its task as a line of its standard input, and prints one line of JSON.

use relay_backup::sandbox::node::load;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

/// This program, run once more. It is told to end by the end of its standard input, so it never outlives this one.
pub(crate) struct Child {
    process: std::process::Child,
    stdin: ChildStdin,
}

impl Child {
    /// Starts it with its task.
    pub(crate) fn start(arguments: &[String], task: &impl Serialize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs what it measures")]
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        writeln!(stdin, "{}", serde_json::to_string(task).unwrap()).unwrap();
        Self { process, stdin }
    }

    /// Lets it end, and returns what it says.
    pub(crate) fn end<T: DeserializeOwned>(self) -> T {
        drop(self.stdin);
        let output = self.process.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}", output.status);
        // Where a test is the program, its harness talks too.
        let answer = text.find('{').zip(text.rfind('}')).map(|(begin, end)| &text[begin..=end]);
        serde_json::from_str(answer.unwrap_or_else(|| panic!("no answer: {text}"))).unwrap()
    }
}

/// The task on standard input; `None` where there is none, because a person started it.
fn task<T: DeserializeOwned>() -> Option<T> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
}

fn answer(value: &impl Serialize) {
    #[expect(clippy::print_stdout, reason = "the answer of a process")]
    {
        println!("{}", serde_json::to_string(value).unwrap());
    }
}

/// The writer: commits to the wallet until its standard input ends.
pub(crate) fn write() {
    let Some(database) = task::<PathBuf>() else { return };
    answer(&load::write_while_open(&database, std::io::stdin()).unwrap());
}

/// The pipeline.
pub(crate) fn stream() {
    let Some(task) = task::<super::stream::Task>() else { return };
    answer(&super::stream::run(&task));
}

/// Starts a writer and waits until it has committed something.
pub(crate) fn writer(arguments: &[String], database: &Path) -> Child {
    let connection = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(database, flags).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        load::data_version(&connection).unwrap()
    };
    let before = connection();
    let child = Child::start(arguments, &database);
    while connection() < before + 3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}
