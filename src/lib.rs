//! relay-backup: backup and disaster recovery for hosts that run BTCPay Server, Core Lightning and PostgreSQL.
//!
//! The library exists for the binary and its tests; it makes no promise of stability. ARCHITECTURE.md has the map.
//!
//! Layers, each using only those below it:
//!
//! | layer | modules |
//! |---|---|
//! | edge | [`cli`], [`commands`], [`ui`], [`exit`] |
//! | flow | [`engine`] |
//! | adapter | [`sources`], [`seal`], [`vault`], [`catalog`], [`sandbox`], [`target`] |
//! | model | [`artifact`], [`facts`], [`guard`], [`manifest`], [`notes`], [`plan`], [`policy`], [`report`], |
//! |       | [`scenario`] |
//! | base | [`base`] |
//!
//! What holds everywhere: no module below the edge prints or reads the environment; the machine that backs up holds
//! recipients only; a vault object is written once and never changed; a manifest in a vault means that every segment it
//! names is there; reading needs neither catalog nor policy nor the host it came from; a toxic artifact never reaches a
//! place where a node would start on it.

pub mod artifact;
pub mod base;
pub mod catalog;
pub mod cli;
pub mod commands;
pub mod engine;
pub mod exit;
pub mod facts;
pub mod guard;
pub mod manifest;
pub mod notes;
pub mod plan;
pub mod policy;
pub mod report;
pub mod sandbox;
pub mod scenario;
pub mod seal;
pub mod sources;
pub mod target;
pub mod ui;
pub mod vault;
pub mod witness;

use base::interrupt::Interrupt;
use clap::Parser;
use rustix::process::{Resource, Rlimit};
use std::ffi::OsString;

/// Runs the program with these arguments; gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let parsed = match cli::Cli::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are errors to clap, and no failure.
            let code = u8::try_from(error.exit_code()).unwrap_or(1);
            return if error.print().is_ok() { code } else { 1 };
        }
    };
    let interrupt = Interrupt::new();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, interrupt.flag()) {
            tracing::warn!(%error, "an interrupt will end the program at once");
        }
    }
    log_to_stderr(parsed.global.verbose);
    forbid_core_files();
    let progress = ui::progress::Progress::new(&parsed.global);
    let edge = commands::Edge {
        global: &parsed.global,
        interrupt: &interrupt,
        progress: &|event| progress.tell(event),
        program: std::env::current_exe().unwrap_or_else(|_| "relay-backup".into()),
        scratch: std::env::temp_dir(),
    };
    let outcome = commands::run(&edge, &parsed.verb);
    progress.finish();
    // A reader that went away is no failure of what was done.
    match ui::finish(&parsed.global, parsed.verb.name(), &outcome) {
        Ok(exit) => exit.code(),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(_) => 1,
    }
}

/// Keeps the memory of this process, and of those that it starts, from being written to a disk when one crashes: keys
/// and plaintext are in it.
fn forbid_core_files() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "a crash may leave a core file, with keys in it");
    }
}

/// Logs of our own modules only: others do not know what is secret here.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(format!("error,relay_backup={level}")))
        .init();
}
