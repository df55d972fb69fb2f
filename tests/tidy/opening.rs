//! The rule about how files of others are opened: sources, and what looks at a target, open none in a way that waits at
//! a fifo or follows a link anywhere. A road around `base::fsio` would have to pass here.

use crate::mask::code_only;
use crate::report::{Finding, line_of};

/// Calls that open whatever stands at a path, and the files that may make them.
const CALLS: [(&str, &[&str]); 4] = [
    ("File::open(", &[]),
    ("fs::read(", &[]),
    ("fs::read_to_string(", &[]),
    // What the kernel tells of processes.
    ("fsio::read(", &["src/target/holders.rs"]),
];

/// Finds calls that open a file and may wait.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let code = code_only(text);
    let mut found = Vec::new();
    if path.starts_with("src/sources") || path.starts_with("src/target") {
        for (call, _) in CALLS.iter().filter(|(_, places)| !places.contains(&path)) {
            found.extend(code.match_indices(call).map(|(at, _)| {
                let rule = format!("calls {call}…, which follows links and waits at a fifo");
                Finding::failure(path, line_of(&code, at), rule, "read through fsio::read_regular or target::Root")
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_opening_is_found_where_others_can_write() {
        let told = |path: &str, text: &str| check(path, text).len();
        assert_eq!(told("src/sources/lnd.rs", "let x = std::fs::read(path)?; let y = File::open(path)?;"), 2);
        assert_eq!(told("src/target/look.rs", "fsio::read(path, 1)?;"), 1);
        assert_eq!(told("src/target/holders.rs", "fsio::read(path, 1)?;"), 0);
        assert_eq!(told("src/engine/state.rs", "fsio::read(path, 1)?;"), 0);
        assert_eq!(told("src/sources/lnd.rs", "fsio::read_regular(path, 1)?; // fs::read(x)"), 0);
    }
}
