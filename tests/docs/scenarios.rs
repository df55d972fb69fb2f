//! Scenarios and what is said of them: the schema, the runbooks, the page on the format. A runbook that differs from
//! the steps the program takes would be worse than none.

use super::{compare, documents, read};
use clap::CommandFactory;
use relay_backup::cli::Cli;
use relay_backup::scenario::{
    self, Answer, Aside, Assertion, Burn, Condition, Depth, EMBEDDED, Expected, GuardName, Harm, Inspection, Need,
    Placed, Placeholder, Purpose, Scenario, Swap, UnitRole, VERBS, When, Which, embedded, runbook, schema,
};
use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = "docs/SCENARIOS.md";

fn restores() -> Vec<Scenario> {
    let all = scenario::names().map(|name| embedded(name).unwrap_or_else(|error| panic!("{error}")));
    all.filter(|scenario| scenario.purpose == Purpose::Restore).collect()
}

#[test]
fn the_schema_of_scenarios_is_published() {
    compare("docs/scenario.schema.json", &format!("{:#}\n", schema()));
}

#[test]
fn every_runbook_is_what_the_program_does() {
    let mut wanted = BTreeSet::new();
    let mut stale = Vec::new();
    for scenario in restores() {
        let path = format!("docs/runbooks/{}.md", scenario.name);
        let fresh = runbook(&scenario);
        if std::fs::read_to_string(&path).unwrap_or_default() != fresh {
            let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runbooks");
            std::fs::create_dir_all(&beside).unwrap();
            std::fs::write(beside.join(format!("{}.md", scenario.name)), fresh).unwrap();
            stale.push(format!("cp {} {path}", beside.join(format!("{}.md", scenario.name)).display()));
        }
        wanted.insert(format!("{}.md", scenario.name));
    }
    let lines = stale.join("\n");
    assert!(stale.is_empty(), "runbooks are not up to date. Look at the difference, then:\n{lines}");
    let there: BTreeSet<String> = std::fs::read_dir("docs/runbooks")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, wanted);
    let index = read("docs/RUNBOOKS.md");
    for name in wanted {
        assert!(index.contains(&format!("(runbooks/{name})")), "docs/RUNBOOKS.md does not link {name}");
    }
}

#[test]
fn every_word_is_explained_as_the_program_means_it() {
    let text = read(PAGE);
    let mut missing = Vec::new();
    macro_rules! explained {
        ($($words:ident),*) => {$(
            for word in $words::ALL {
                let row = format!("| `{word}` | {} |", word.meaning());
                if !text.contains(&row) {
                    missing.push(row);
                }
            }
        )*};
    }
    explained!(Purpose, Need, Which, Depth, GuardName, Placed, Aside, Swap, Burn, Inspection, UnitRole, Condition);
    explained!(Answer, Harm, Expected, Assertion, When);
    for word in Placeholder::ALL {
        let row = format!("| `{{{word}}}` | {} |", word.meaning());
        if !text.contains(&row) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "{PAGE} lacks:\n{}", missing.join("\n"));
}

/// Keys of a schema and of everything below it.
fn keys(schema: &serde_json::Value, into: &mut BTreeSet<String>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        into.insert(key.clone());
        keys(value, into);
    }
    if schema["items"].is_object() {
        keys(&schema["items"], into);
    }
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        keys(variant, into);
    }
}

#[test]
fn every_verb_and_key_is_described() {
    let text = read(PAGE);
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    for verb in VERBS {
        let is_there = rows.iter().any(|row| {
            let first = row.split('|').nth(1).unwrap_or_default();
            row.split('|').count() >= 5 && first.contains(&format!("`{}`", verb.word))
        });
        assert!(is_there, "{PAGE} does not describe the verb {}", verb.word);
    }
    let mut all = BTreeSet::new();
    keys(&schema(), &mut all);
    assert!(all.len() > 25, "{all:?}");
    for key in all {
        let is_table = ["step", "followup", "must_hold", "objectives"].contains(&key.as_str());
        let is_there = if is_table {
            text.contains(&format!("[{key}]"))
        } else {
            rows.iter().any(|row| row.contains(&format!("`{key}`")))
        };
        assert!(is_there, "{PAGE} does not describe the key {key}");
    }
}

#[test]
fn the_example_of_the_page_is_a_scenario() {
    let text = read(PAGE);
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let scenario = Scenario::parse(example, Path::new(PAGE)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(scenario.steps.len(), 2);
}

/// What follows each `relay-backup ` in a text, where it is a word.
fn verbs_named(text: &str) -> BTreeSet<String> {
    text.match_indices("relay-backup ")
        .filter(|(at, _)| !text[..*at].ends_with(['/', '-', '.']))
        .filter_map(|(at, mark)| {
            let word: String = text[at + mark.len()..].chars().take_while(char::is_ascii_lowercase).collect();
            (!word.is_empty()).then_some(word)
        })
        .collect()
}

#[test]
fn nobody_is_told_to_use_a_verb_that_is_not_there() {
    let mut command = Cli::command();
    command.build();
    let known: BTreeSet<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let mut pages: Vec<(String, String)> =
        EMBEDDED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    for page in documents().into_iter().filter(|page| page.contains("RUNBOOKS") || page.contains("CUSTOMER")) {
        pages.push((page.clone(), read(&page)));
    }
    pages.extend(restores().iter().map(|scenario| (format!("the runbook of {}", scenario.name), runbook(scenario))));
    let mut seen = BTreeSet::new();
    for (place, text) in pages {
        for verb in verbs_named(&text) {
            assert!(known.contains(&verb), "{place} tells to use `relay-backup {verb}`");
            seen.insert(verb);
        }
    }
    for verb in ["backup", "verify", "restore", "attest", "kit"] {
        assert!(seen.contains(verb), "{verb} was not found in any text");
    }
}

#[test]
fn each_runbook_says_how_to_tell_customers() {
    for scenario in restores() {
        let page = runbook(&scenario);
        for part in ["Within 30 minutes.", "Within 48 hours.", "docs/CUSTOMER-MESSAGES.md"] {
            let announced = scenario.name.as_str() == "planned-migration" && part.contains("30");
            assert!(announced || page.contains(part), "{}: {part}", scenario.name);
        }
    }
    let messages = read("docs/CUSTOMER-MESSAGES.md");
    for heading in ["First message, within 30 minutes", "Every two hours", "It is over", "Summary, within 48 hours"] {
        assert!(messages.contains(&format!("\n## {heading}\n")), "{heading}");
    }
}
