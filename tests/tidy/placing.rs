//! The rule about what puts things on a machine: the primitives that do are called in one file, and the one that puts a
//! channel database in its place only by a function that asks for a cleared action. A road around the guards would have
//! to pass here.

use crate::mask::code_only;
use crate::report::{Finding, line_of};

/// Calls that put something on the machine that is restored to, and the files that may make them.
const CALLS: [(&str, &[&str]); 5] = [
    (".stage(&", &["src/engine/restore/apply/files.rs"]),
    (".publish()", &["src/engine/restore/apply/files.rs"]),
    ("fence.publish(", &["src/engine/restore/apply/files.rs"]),
    // Looking whether everything is there unpacks once more, over nothing.
    (".unpack(", &["src/engine/restore/apply/files.rs", "src/engine/restore/check.rs"]),
    ("Cleared(", &["src/guard/cleared.rs"]),
];

/// What a function that places a channel database must ask for.
const CLEARED: &str = "action: &Cleared<&Action>";

/// Finds calls outside of their files, and a channel database that is placed without clearance.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let code = code_only(text);
    let mut found = Vec::new();
    if !path.starts_with("src/target") {
        for (call, places) in CALLS.iter().filter(|(_, places)| !places.contains(&path)) {
            found.extend(code.match_indices(call).map(|(at, _)| {
                let rule = format!("calls {call}…, which only {} may", places.join(" and "));
                Finding::failure(path, line_of(&code, at), rule, "go through a cleared plan and engine::restore::apply")
            }));
        }
        for (at, _) in code.match_indices("fence.publish(") {
            let before = &code[..at];
            let function = before.rfind("fn ").map_or("", |begin| &before[begin..]);
            if !function.contains(CLEARED) {
                let rule = "places a channel database in a function that asks for no clearance";
                found.push(Finding::failure(path, line_of(&code, at), rule, "take the action as Cleared"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, text: &str) -> usize {
        check(path, text).len()
    }

    #[test]
    fn what_is_placed_goes_one_way() {
        let place = "fn place(&mut self, action: &Cleared<&Action>) { fence.publish(checked)?; }";
        let bare = "fn place(&mut self, action: &Action) { fence.publish(checked)?; }";
        assert_eq!(told("src/engine/restore/apply/files.rs", place), 0);
        assert_eq!(told("src/engine/restore/apply/files.rs", bare), 1);
        assert_eq!(told("src/engine/extract.rs", place), 1);
        assert_eq!(told("src/commands/restore.rs", "fn x() { root.stage(&wanted)?.publish()?; }"), 2);
        assert_eq!(told("src/engine/restore.rs", "fn forge(plan: Plan) { Cleared(plan) }"), 1);
        assert_eq!(told("src/target/place.rs", "fn x() { self.stage(&wanted)?.publish()?; }"), 0);
    }
}
