//! PostgreSQL's own programs: where they are, and of which version. Debian keeps one folder for each major version,
//! NixOS one for the system.

use super::PostgresError;
use crate::base::exec::{self, Exec, ExecError};
use std::path::PathBuf;

/// Where distributions keep the programs of each major version.
const VERSIONED: &str = "/usr/lib/postgresql";
/// Where NixOS keeps the system's programs.
const NIXOS: &str = "/run/current-system/sw/bin";

/// Folders to look in after `PATH`, the highest version first.
pub(crate) fn folders() -> Vec<PathBuf> {
    let mut majors: Vec<u32> = match std::fs::read_dir(VERSIONED) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => Vec::new(),
    };
    majors.sort_unstable_by(|left, right| right.cmp(left));
    let versioned = majors.into_iter().map(|major| PathBuf::from(format!("{VERSIONED}/{major}/bin")));
    versioned.chain([PathBuf::from(NIXOS)]).collect()
}

/// A program and its major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its major version, such as 15.
    pub(super) major: u32,
}

/// The program of this name that serves a server of this major version: the server's own version wherever it lies,
/// else the oldest that is newer. What a program writes only its companions of the same or a newer version read, and
/// an older server may not take what they say.
pub(super) fn for_server(program: &'static str, server_major: u32) -> Result<Program, PostgresError> {
    let folders = folders();
    let first = exec::find(program, &folders).map_err(PostgresError::Program)?;
    let others = folders.iter().map(|folder| folder.join(program)).filter(|path| path.is_file());
    let mut best: Option<Program> = None;
    let mut newest = 0;
    for path in std::iter::once(first).chain(others) {
        let major = major_of(program, &path)?;
        if major == server_major {
            return Ok(Program { path, major });
        }
        newest = newest.max(major);
        if major > server_major && best.as_ref().is_none_or(|best| major < best.major) {
            best = Some(Program { path, major });
        }
    }
    best.ok_or(PostgresError::ProgramTooOld { program, major: newest, server_major })
}

/// Refuses a program that is older than the server.
pub(super) fn check(
    program: &'static str,
    path: &std::path::Path,
    server_major: u32,
) -> Result<Program, PostgresError> {
    let major = major_of(program, path)?;
    if major < server_major {
        return Err(PostgresError::ProgramTooOld { program, major, server_major });
    }
    Ok(Program { path: path.to_owned(), major })
}

/// The major version a program says it has: `pg_dump (PostgreSQL) 15.18 (Debian …)`.
fn major_of(program: &'static str, path: &std::path::Path) -> Result<u32, PostgresError> {
    let said = Exec::new(path).arg("--version").run(b"").map_err(PostgresError::Program)?;
    major_in(&String::from_utf8_lossy(&said)).ok_or_else(|| {
        let stderr = format!("it does not say its version: {}", String::from_utf8_lossy(&said).trim());
        let status = "no version".to_owned();
        PostgresError::Program(ExecError::Failed { program: program.to_owned(), status, stderr })
    })
}

fn major_in(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL)")?.1.trim_start();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_programs_say() {
        assert_eq!(major_in("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_in("pg_dump (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(major_in("pg_dump 15"), None);
    }

    #[test]
    fn a_server_newer_than_every_program_is_refused() {
        let error = for_server("pg_dump", 99).unwrap_err();
        assert!(matches!(error, PostgresError::ProgramTooOld { server_major: 99, .. }), "{error}");
        assert!(for_server("pg_dump", 9).is_ok());
    }
}
