//! docs/EXIT-CODES.md names every exit code, in its table and with a part of its own; so do the help texts.

use super::read;
use relay_backup::exit::Exit;

#[test]
fn every_exit_code_is_described() {
    let text = read("docs/EXIT-CODES.md");
    for exit in Exit::ALL {
        let code = exit.code();
        assert!(text.contains(&format!("\n| {code} | ")), "{code} is not in the table");
        assert!(text.contains(&format!("\n### {code}: ")), "{code} has no part of its own");
    }
    let named = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(named("### "), Exit::ALL.len(), "a code is described that the program does not have");
}

#[test]
fn the_json_outcomes_are_described() {
    let text = read("docs/JSON.md");
    for exit in Exit::ALL {
        assert!(text.contains(&format!("| {} | `{}` |", exit.code(), exit.outcome())), "{}", exit.outcome());
    }
}
