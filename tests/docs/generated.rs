//! Documents that are made from the code: docs/CLI.md from the command line's own help, docs/json.schema.json from the
//! reports' types. A change of the code that is not in them fails here, and the message says what to copy where.

use super::{compare, read};
use clap::{Command, CommandFactory};
use relay_backup::cli::Cli;

const CLI_HEAD: &str = "# The command line

Every verb with the text that `--help` prints, made from the program itself: do not edit it here,
`tests/docs/generated.rs` says how. What the exit codes mean and what to do about each stands in
[EXIT-CODES.md](EXIT-CODES.md), what `--json` prints in [JSON.md](JSON.md), the policy's keys in [POLICY.md](POLICY.md).
";

/// The help of a command and of all below it.
fn describe(command: &Command, path: &str, out: &mut String) {
    // Without the values that the tester's environment happens to have.
    let mut plain = command.clone().term_width(100).mut_args(|arg| arg.hide_env_values(true));
    let text = plain.render_long_help().to_string();
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    out.push_str(&format!("\n## {path}\n\n```text\n{}\n```\n", text.join("\n").trim_end()));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        describe(below, &format!("{path} {}", below.get_name()), out);
    }
}

#[test]
fn the_command_line_is_described() {
    let mut command = Cli::command();
    command.build();
    let mut text = CLI_HEAD.to_owned();
    describe(&command, "relay-backup", &mut text);
    compare("docs/CLI.md", &text);
}

#[test]
fn the_json_schema_is_published() {
    compare("docs/json.schema.json", &format!("{:#}\n", relay_backup::ui::schemas()));
}

#[test]
fn every_verb_with_a_report_is_described_in_words() {
    let text = read("docs/JSON.md");
    for verb in relay_backup::ui::schemas().as_object().unwrap().keys().filter(|verb| *verb != "document") {
        assert!(text.contains(&format!("| `{verb}` |")), "docs/JSON.md does not describe {verb}");
    }
}

/// Codes of findings in the program's sources, wherever one is made: the text literal behind a level, or the first one
/// of a helper that gives a level.
#[test]
fn every_finding_is_listed() {
    let text = read("docs/JSON.md");
    let mut missing = Vec::new();
    for code in codes() {
        if !text.contains(&format!("`{code}`")) {
            missing.push(code);
        }
    }
    assert!(missing.is_empty(), "docs/JSON.md does not list the findings {missing:?}");
}

fn codes() -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    let mut folders = vec![std::path::PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") && !entry.ends_with("tests.rs") {
                let text = read(&entry.display().to_string());
                let code = text.split("#[cfg(test)]").next().unwrap();
                for start in ["Finding::new(", ".damage(", "failed(", "self.note(", "self.failed(", "finding("] {
                    found.extend(code.split(start).skip(1).filter_map(first_literal));
                }
            }
        }
    }
    found.into_iter().collect()
}

/// The first argument, or the one behind a level, when it is a plain text in kebab-case with a hyphen.
fn first_literal(arguments: &str) -> Option<String> {
    let arguments = arguments.trim_start();
    let arguments = match arguments.strip_prefix("Level::") {
        Some(rest) => rest.split_once(',')?.1.trim_start(),
        None => arguments,
    };
    let code = arguments.strip_prefix('"')?.split('"').next()?;
    let is_code = code.contains('-') && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    is_code.then(|| code.to_owned())
}

#[test]
fn codes_of_findings_are_found() {
    let codes = codes();
    for code in ["object-missing", "older-than-rpo", "store-get", "hsm-secret-changed", "vault-behind"] {
        assert!(codes.iter().any(|found| found == code), "{code} was not found");
    }
}
