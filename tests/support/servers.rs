//! Real PostgreSQL servers of every major version, and the newest client programs, as `run-tests` lays them. A test
//! that needs them fails where they are lacking, and says so aloud where there are none for the machine: it never
//! passes in silence.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The major versions that are laid, oldest first.
const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];
/// That of the client programs.
const CLIENT_MAJOR: u32 = 18;

/// One server that a test may start; its folder has `initdb`, `pg_ctl` and `postgres`, and no client programs.
pub(crate) struct Server {
    /// Its major version, such as 13.
    pub(crate) major: u32,
    /// The folder of its programs, which every user can reach.
    pub(crate) bin: PathBuf,
}

/// Every server, oldest first; nothing, and a word on standard error, on a machine that there are none for.
pub(crate) fn all() -> Option<Vec<Server>> {
    are_to_be_had().then(|| {
        let laid = |major: u32| Server { major, bin: folder(&format!("postgresql/{major}/bin"), "postgres") };
        MAJORS.into_iter().map(laid).collect()
    })
}

/// The folder of the newest client programs, `pg_dump`, `pg_dumpall`, `pg_restore` and `psql` among them, with a whole
/// server of the same version; nothing, and a word on standard error, on a machine that there are none for.
pub(crate) fn client() -> Option<PathBuf> {
    are_to_be_had().then(|| folder(&format!("postgresql-client/{CLIENT_MAJOR}/bin"), "pg_dump"))
}

fn are_to_be_had() -> bool {
    let are = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if !are {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        // Past the test runner's capture, so that it is seen although the test passes.
        let mut screen = std::io::stderr();
        writeln!(screen, "{test}: PostgreSQL's versions are not to be had here; nothing was tested").unwrap();
    }
    are
}

/// Where a link leads: the cache is open to the user that a server runs as, and the checkout may not be.
fn folder(name: &str, program: &str) -> PathBuf {
    let laid = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join(name);
    let real = std::fs::canonicalize(&laid).ok().filter(|real| real.join(program).is_file());
    real.unwrap_or_else(|| panic!("{} is not there: run ./run-tests --setup", laid.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::env::TestEnv;

    #[test]
    fn every_major_version_is_what_it_says() {
        let Some(servers) = all() else { return };
        let env = TestEnv::new();
        for Server { major, bin } in servers {
            for program in ["initdb", "pg_ctl", "postgres"] {
                let wanted = format!("{program} (PostgreSQL) {major}.");
                env.program(bin.join(program)).arg("--version").ends().exits(0).prints(&wanted);
            }
        }
        let bin = client().unwrap();
        for program in ["pg_dump", "pg_dumpall", "pg_restore", "psql"] {
            let wanted = format!("{program} (PostgreSQL) {CLIENT_MAJOR}.");
            env.program(bin.join(program)).arg("--version").ends().exits(0).prints(&wanted);
        }
    }
}
