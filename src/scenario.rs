//! Scenarios: a disaster and the steps out of it, as data. Text is parsed once into these checked types; what a step
//! does is one of a closed set of verbs, and no step can name a shell, a secret or a path of one host. Nothing here
//! reads a file: whoever loads a scenario from a folder checks that others cannot change it, and gives the text.

mod check;
mod embedded;
mod error;
mod rules;
mod runbook;
mod step;
mod text;
mod verbs;
mod wire;
mod words;

pub use embedded::{EMBEDDED, embedded, names};
pub use error::ScenarioError;
pub use runbook::runbook;
pub use text::Template;
pub use verbs::{Do, VERBS, Verb};
pub use wire::schema;
pub use words::{
    Answer, Aside, Assertion, Burn, Condition, Depth, Expected, GuardName, Harm, Inspection, Need, Placed, Placeholder,
    Purpose, Swap, UnitRole, When, Which,
};

use crate::base::ids::{ScenarioName, StepId};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The format that this program reads.
pub const FORMAT: u32 = 1;

/// A checked scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Where its text came from, for messages: a file, or `restore-drills/NAME.toml` for one that is built in.
    pub place: PathBuf,
    /// Its name.
    pub name: ScenarioName,
    /// What it is called on a page.
    pub title: String,
    /// What the operator sees when this has happened.
    pub what_happened: Template,
    /// What it is for.
    pub purpose: Purpose,
    /// What must be so before the first step, each once.
    pub needs: Vec<Need>,
    /// How long it may take, where it says so.
    pub objectives: Objectives,
    /// What is done, in this order; at least one, ids unique.
    pub steps: Vec<Step>,
    /// What is left to do, in this order; ids unique. A scenario for a restore has at least one.
    pub followups: Vec<Followup>,
    /// What must hold afterwards; at least one.
    pub must_hold: Vec<MustHold>,
}

/// How long a scenario may take. `None` leaves it to the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// Until secrets, databases and files are back.
    pub rto_data: Option<Duration>,
    /// Until payments flow again, an estimate.
    pub rto_service: Option<Duration>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name in the journal and in messages.
    pub id: StepId,
    /// What it does, in one line.
    pub title: String,
    /// Why, where it needs saying.
    pub why: Option<Template>,
    /// What it does.
    pub action: Do,
}

/// One entry of the follow-up list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followup {
    /// Its name.
    pub id: StepId,
    /// What is to be done, in one line.
    pub title: String,
    /// How, and why.
    pub text: Template,
    /// All of these must be so for it to apply; a fact that could not be learned counts as so.
    pub when: Vec<When>,
    /// How soon after the disaster.
    pub within: Option<Duration>,
    /// Lines to be copied, never run by the program.
    pub command: Vec<Template>,
}

/// What must hold when all is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MustHold {
    /// What.
    pub what: Assertion,
    /// Why it matters.
    pub because: Template,
}

impl Scenario {
    /// Checks a scenario's text. `place` says in messages where it came from.
    pub fn parse(text: &str, place: &Path) -> Result<Self, ScenarioError> {
        check::parse(text, place)
    }

    /// The guards that its `guard` steps name, each once, in the order of their first mention.
    pub fn guards(&self) -> Vec<GuardName> {
        let mut all = Vec::new();
        for step in &self.steps {
            if let Do::Guard { names } = &step.action {
                all.extend(names.iter().copied().filter(|name| !all.contains(name)).collect::<Vec<_>>());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests;
