//! From text to a checked [`Scenario`]: the order of the checks, the tables but the steps, what holds between tables.
//! Reads no file.

use super::error::ScenarioError;
use super::text::{self, Template};
use super::wire::{self, FollowupWire, MustHoldWire, ObjectivesWire, Wire};
use super::words::{Assertion, Need, Purpose, When};
use super::{FORMAT, Followup, MustHold, Objectives, Scenario, rules, step};
use crate::base::ids::{ScenarioName, StepId};
use crate::base::limits;
use crate::policy::check::name;
use crate::policy::shape::{self, Findings};
use crate::policy::values::{self, BadValue};
use serde::Deserialize;
use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeTable;

/// Checks a scenario's text.
pub(super) fn parse(text: &str, place: &Path) -> Result<Scenario, ScenarioError> {
    if text.len() as u64 > limits::SCENARIO_BYTES_MAX {
        let place = place.display().to_string();
        return Err(ScenarioError::TooLong { place, bytes: text.len(), max: limits::SCENARIO_BYTES_MAX });
    }
    refuse_secrets(text, place)?;
    let document = DeTable::parse(text).map_err(|error| syntax(text, place, &error))?;
    let mut findings = Findings::new(place, text);
    shape::check(&mut findings, &document, &wire::schema());
    refuse(findings)?;

    let (mut table, span) = (document.get_ref().clone(), document.span());
    let steps = table.remove("step");
    let wire = Wire::deserialize(toml::de::Deserializer::from(Spanned::new(span, table)))
        .map_err(|error| syntax(text, place, &error))?;
    let mut reader = Reader { findings: Findings::new(place, text) };
    let steps = step::read_all(&mut reader, steps.as_ref()).map_err(|error| syntax(text, place, &error))?;
    let scenario = reader.scenario(place, &wire, &steps);
    match scenario {
        Some(scenario) if reader.findings.is_empty() => {
            rules::check(&mut reader, &scenario, &steps);
            refuse(reader.findings).map(|()| scenario)
        }
        _ => Err(ScenarioError::Invalid { problems: reader.findings.into_problems() }),
    }
}

fn refuse(findings: Findings<'_>) -> Result<(), ScenarioError> {
    if findings.is_empty() { Ok(()) } else { Err(ScenarioError::Invalid { problems: findings.into_problems() }) }
}

fn syntax(text: &str, place: &Path, error: &toml::de::Error) -> ScenarioError {
    let mut findings = Findings::new(place, text);
    findings.not_toml(error, "docs/SCENARIOS.md");
    ScenarioError::Invalid { problems: findings.into_problems() }
}

/// A secret key is refused before anything else looks at the text, so that no message can quote it.
fn refuse_secrets(text: &str, place: &Path) -> Result<(), ScenarioError> {
    let mut findings = Findings::new(place, text);
    findings.secret_keys(
        "a SECRET key stands here; no scenario may hold one",
        "remove it, and treat it as stolen: a scenario is shown, logged and built into programs",
    );
    refuse(findings)
}

/// Turns wire values into checked ones and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) findings: Findings<'a>,
}

impl Reader<'_> {
    /// Checks one value; what is wrong with it goes to the findings.
    pub(super) fn value<T>(
        &mut self,
        place: &str,
        text: &Spanned<String>,
        check: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Option<T> {
        self.findings.value(place, text, check)
    }

    /// Checks a value that may be left out; one that is wrong gives `None` as well.
    pub(super) fn optional<T>(
        &mut self,
        place: &str,
        text: Option<&Spanned<String>>,
        check: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Option<T> {
        text.and_then(|text| self.value(place, text, check))
    }

    /// Checks each value of a list; one that stands there twice is refused.
    pub(super) fn set<T: Copy + Eq + Hash>(
        &mut self,
        place: &str,
        list: &[Spanned<String>],
        check: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Vec<T> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for text in list.iter().take(limits::SCENARIO_ENTRIES_MAX) {
            let Some(value) = self.value(place, text, &check) else { continue };
            if seen.insert(value) {
                all.push(value);
            } else {
                self.add(&text.span(), place, "this word stands there twice", "remove one of the two");
            }
        }
        all
    }

    /// Checks lines that an operator copies, or the arguments of a command.
    pub(super) fn lines(&mut self, place: &str, list: &[Spanned<String>]) -> Vec<Template> {
        if let Some(over) = list.get(limits::SCENARIO_COMMAND_LINES_MAX) {
            let most = limits::SCENARIO_COMMAND_LINES_MAX;
            self.add(&over.span(), place, format!("has more than {most} lines"), "split it into several entries");
        }
        let list = list.iter().take(limits::SCENARIO_COMMAND_LINES_MAX);
        list.filter_map(|line| self.value(place, line, Template::parse_line)).collect()
    }

    pub(super) fn add(&mut self, span: &Range<usize>, place: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.findings.add(span, place, what.into(), Some(remedy.into()));
    }

    fn scenario(&mut self, place: &Path, wire: &Wire, steps: &[step::Placed]) -> Option<Scenario> {
        if *wire.format.get_ref() != FORMAT {
            let what = format!("{} is not a format that this program reads", wire.format.get_ref());
            self.add(&wire.format.span(), "format", what, format!("write format = {FORMAT}, or use a newer program"));
        }
        let scenario_name = self.value("name", &wire.name, name::<ScenarioName>);
        let title = self.value("title", &wire.title, text::title);
        let what_happened = self.value("what_happened", &wire.what_happened, Template::parse);
        let purpose = self.value("for", &wire.purpose, Purpose::read);
        let needs = self.set("needs", &wire.needs, Need::read);
        let objectives = self.objectives(&wire.objectives);
        let followups = self.followups(&wire.followup);
        let must_hold = self.must_hold(&wire.must_hold);
        Some(Scenario {
            place: place.to_owned(),
            name: scenario_name?,
            title: title?,
            what_happened: what_happened?,
            purpose: purpose?,
            needs,
            objectives,
            steps: steps.iter().map(|placed| placed.step.clone()).collect(),
            followups,
            must_hold,
        })
    }

    fn objectives(&mut self, wire: &ObjectivesWire) -> Objectives {
        let mut read = |key: &str, text: &Option<Spanned<String>>| -> Option<Duration> {
            self.optional(&format!("[objectives] {key}"), text.as_ref(), values::duration)
        };
        Objectives { rto_data: read("rto_data", &wire.rto_data), rto_service: read("rto_service", &wire.rto_service) }
    }

    fn followups(&mut self, wire: &[FollowupWire]) -> Vec<Followup> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for entry in wire.iter() {
            let place = |key: &str| format!("[[followup]] {key}");
            if all.len() >= limits::SCENARIO_ENTRIES_MAX {
                let most = limits::SCENARIO_ENTRIES_MAX;
                self.add(&entry.id.span(), "[[followup]]", format!("there are more than {most}"), "join some of them");
                break;
            }
            let id = self.value(&place("id"), &entry.id, name::<StepId>);
            if !seen.insert(entry.id.get_ref().clone()) {
                self.add(&entry.id.span(), &place("id"), "this id stands there twice", "give each a name of its own");
            }
            let title = self.value(&place("title"), &entry.title, text::title);
            let text = self.value(&place("text"), &entry.text, Template::parse);
            let when = self.set(&place("when"), &entry.when, When::read);
            let within = self.optional(&place("within"), entry.within.as_ref(), values::duration);
            let command = self.lines(&place("command"), &entry.command);
            if let (Some(id), Some(title), Some(text)) = (id, title, text) {
                all.push(Followup { id, title, text, when, within, command });
            }
        }
        all
    }

    fn must_hold(&mut self, wire: &[MustHoldWire]) -> Vec<MustHold> {
        const PLACE: &str = "[[must_hold]] what";
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for entry in wire.iter().take(limits::SCENARIO_ENTRIES_MAX) {
            let what = self.value(PLACE, &entry.what, Assertion::read);
            let because = self.value("[[must_hold]] because", &entry.because, Template::parse);
            if !seen.insert(entry.what.get_ref().clone()) {
                self.add(&entry.what.span(), PLACE, "this assertion stands there twice", "remove one of the two");
            }
            if let (Some(what), Some(because)) = (what, because) {
                all.push(MustHold { what, because });
            }
        }
        if wire.is_empty() {
            let remedy = "add at least one [[must_hold]] with what and because: a scenario that must show nothing shows \
                          nothing";
            self.add(&(0..0), "[[must_hold]]", "there is no assertion", remedy);
        }
        all
    }
}
