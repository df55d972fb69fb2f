//! `pg_restore`, fed from a stream: everything or nothing, and the first error ends it.

use super::super::connect::{CONNECT_TIMEOUT, Server};
use super::RestoreError;
use crate::base::exec::Exec;
use crate::base::interrupt::Interrupt;
use std::io::{Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// How much of a dump is handed on at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// Restores a dump into an empty database, in one transaction. With a role, everything becomes its own. Reads the dump
/// as a stream, which need not end where the program stops reading.
pub fn feed(
    program: &Path,
    server: &Server,
    role: Option<&str>,
    dump: &mut dyn Read,
    interrupt: &Interrupt,
) -> Result<(), RestoreError> {
    let database = || server.database().to_owned();
    let failed = |source| RestoreError::Restore { database: database(), source };
    let mut exec = Exec::new(program)
        .args(["--no-owner", "--exit-on-error", "--single-transaction", "--no-password", "--format=custom"])
        .arg(format!("--dbname={}", server.conninfo()))
        .env("LC_ALL", "C")
        .env("PGTZ", "UTC")
        .env("PGAPPNAME", "relay-backup")
        .env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.as_secs().to_string());
    if let Some(role) = role {
        exec = exec.arg(format!("--role={role}"));
    }
    if let Some(passfile) = server.passfile() {
        exec = exec.env("PGPASSFILE", passfile);
    }
    let mut child = exec.feed().map_err(failed)?;
    let mut buffer = Zeroizing::new(vec![0; BUFFER_BYTES]);
    loop {
        if interrupt.is_set() {
            // The child is killed before its transaction ends, so nothing of it stays.
            return Err(RestoreError::Interrupted { database: database() });
        }
        let count = match dump.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(RestoreError::Read { database: database(), source }),
        };
        match child.write_all(buffer.get(..count).unwrap_or_default()) {
            Ok(()) => {}
            // A child that ends before it read everything says why by its exit status.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            Err(source) => return Err(RestoreError::Read { database: database(), source }),
        }
    }
    child.finish().map(drop).map_err(failed)
}
