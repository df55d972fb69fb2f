//! The follow-up list: what is left to do, filled with what the snapshot and the run know. It is printed, is part of
//! the report, and lies beside what was restored.

use super::values::Values;
use crate::scenario::Scenario;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// What is to be done.
    pub title: String,
    /// How, and why.
    pub text: String,
    /// How soon after the disaster, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_min: Option<u64>,
    /// Lines to be copied; never run by this program.
    pub commands: Vec<String>,
}

/// The entries that apply, in their order.
pub fn entries(scenario: &Scenario, values: &Values) -> Vec<Entry> {
    let applies = scenario.followups.iter().filter(|entry| values.meets(&entry.when));
    applies
        .map(|entry| Entry {
            id: entry.id.to_string(),
            title: entry.title.clone(),
            text: entry.text.fill(|placeholder| values.of(placeholder)),
            within_min: entry.within.map(|within| within.as_secs() / 60),
            commands: entry.command.iter().map(|line| line.fill(|placeholder| values.of(placeholder))).collect(),
        })
        .collect()
}

/// The list as text, numbered.
pub fn text(entries: &[Entry]) -> String {
    let mut out = String::new();
    for (number, entry) in entries.iter().enumerate() {
        let within = entry.within_min.map(|minutes| match minutes {
            0..=119 => format!(" (within {minutes} minutes)"),
            _ => format!(" (within {} hours)", minutes / 60),
        });
        // Writing to a String cannot fail.
        _ = writeln!(out, "{:>2}. {}{}", number + 1, entry.title, within.unwrap_or_default());
        for line in entry.text.lines() {
            _ = writeln!(out, "    {line}");
        }
        for line in &entry.commands {
            _ = writeln!(out, "      $ {line}");
        }
        out.push('\n');
    }
    out
}
