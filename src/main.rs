//! The program: parses the command line, runs it, returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(relay_backup::run(std::env::args_os()))
}
