//! What a restore tells: the verdicts, the plan or the steps, what was looked at, what holds, what is left to do.

use super::followup;
use super::inspect::Inspected;
use crate::guard::{Judged, Verdict};
use crate::plan::Plan;
use crate::report::Finding;
use schemars::JsonSchema;
use serde::Serialize;

/// What a restore did, or would do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RestoreReport {
    /// The scenario.
    pub scenario: String,
    /// What it is called on a page.
    pub title: String,
    /// The node.
    pub node: String,
    /// The snapshot it takes from.
    pub snapshot: Option<String>,
    /// The folder it works below, instead of `/`.
    pub root: Option<String>,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether it went on where an earlier run was cut off.
    pub resumed: bool,
    /// The verdict of every guard.
    pub guards: Vec<Judged>,
    /// What a dry run would do, with everything it would touch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The steps, as far as they were done.
    pub steps: Vec<StepReport>,
    /// What was looked at.
    pub inspected: Vec<Inspected>,
    /// What must hold, and whether it does.
    pub must_hold: Vec<Held>,
    /// What is left to do.
    pub followup: Vec<followup::Entry>,
    /// The folder that holds journal, copies, quarantine and follow-up list.
    pub folder: Option<String>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

impl RestoreReport {
    /// Whether a guard refuses: what a dry run finds out.
    pub fn is_refused(&self) -> bool {
        self.guards.iter().any(|judged| matches!(judged.verdict, Verdict::Refused(_)))
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepReport {
    /// Its name.
    pub id: String,
    /// What it does.
    pub title: String,
    /// `done`, or `done-before` by a run that was cut off.
    pub how: &'static str,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Held {
    /// What.
    pub what: String,
    /// `holds`, `fails`, `not-applicable`, or `incomplete` where the snapshot lacks a part of it.
    pub outcome: &'static str,
    /// What was seen.
    pub seen: String,
}
