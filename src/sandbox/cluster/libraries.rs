//! The libraries that a program is linked with, as the dynamic loader finds them: a PostgreSQL that was unpacked
//! somewhere may have some of them beside itself. Single files, because what else lies with them is not PostgreSQL's.

use crate::base::exec::Exec;
use std::fs;
use std::path::{Path, PathBuf};

/// Those of some programs, each by the folder that it really is in and the name it is asked for by. None where the
/// loader does not tell; a program that lacks one will say so itself.
pub(super) fn of(programs: &[PathBuf]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = programs.iter().flat_map(|program| of_one(program)).collect();
    found.sort();
    found.dedup();
    found
}

fn of_one(program: &Path) -> Vec<PathBuf> {
    // The loader answers in the program's stead (ld.so(8)); a program without one tells its version.
    let asked = Exec::new(program).arg("--version").bare().env("LD_TRACE_LOADED_OBJECTS", "1").output();
    let said = match asked {
        Ok(output) => output.stdout,
        Err(error) => {
            tracing::debug!(program = %program.display(), %error, "its libraries are not known");
            return Vec::new();
        }
    };
    said.lines().filter_map(path_in).filter_map(|path| real(&path)).collect()
}

/// The path in a line such as `libz.so.1 => /lib/libz.so.1 (0x00007f)`.
fn path_in(line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once(" => ")?;
    let (path, _) = rest.rsplit_once(" (")?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// A path whose folder is no link and has no way up in it.
fn real(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_is_linked_with_is_found() {
        let shell = crate::base::exec::find("sh", &[]).unwrap().canonicalize().unwrap();
        let found = of(&[shell]);
        assert!(found.iter().all(|path| path.is_file() && path.is_absolute()), "{found:?}");
        assert!(found.iter().any(|path| path.to_string_lossy().contains("libc")), "{found:?}");
        assert_eq!(of(&[PathBuf::from("/nonexistent/postgres")]), Vec::<PathBuf>::new());
        assert_eq!(path_in("\tlinux-vdso.so.1 (0x1)"), None);
        assert_eq!(path_in("\tlibx.so => not found"), None);
        assert_eq!(path_in("\tlibx.so => /a (b)/../x.so (0x1)"), Some(PathBuf::from("/a (b)/../x.so")));
    }
}
