//! What a restore would do: steps, and in each the actions with every path, owner, mode, database and unit they touch.
//! A plan is plain data. Making one reads and writes nothing, and none may be applied before `guard` has cleared it.

mod action;
mod show;
#[cfg(test)]
mod tests;
mod things;

pub use action::{Action, Touch};
pub use things::{Condition, LightningPlace, Owner, ServerUrl, Swap, Together, UnitChange};

pub use crate::scenario::{Answer, Burn, UnitRole};

use crate::base::ids::{NodeName, ScenarioName, SnapshotId, StepId};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

/// Files that SQLite keeps beside a database; what they hold belongs to the database.
pub const SIDE_FILES: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Everything that one restore would do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Plan {
    /// The scenario it was made from.
    #[schemars(with = "String")]
    pub scenario: ScenarioName,
    /// Whether what the snapshot holds is still secret.
    pub secrecy: Secrecy,
    /// The protected host.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// The snapshot it takes from; none where nothing of ours is needed.
    #[schemars(with = "Option<String>")]
    pub snapshot: Option<SnapshotId>,
    /// The folder in which the target lies, instead of `/`. Units of this machine are then left alone.
    pub root: Option<PathBuf>,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
}

/// Whether what a snapshot holds is still secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Secrecy {
    /// Nobody else has had it.
    Kept,
    /// Somebody else may have it: what opens anything must not come back into service.
    Lost,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedStep {
    /// Its name, unique in the plan.
    #[schemars(with = "String")]
    pub id: StepId,
    /// What a person reads.
    pub title: String,
    /// What it does, in order.
    pub actions: Vec<Action>,
}

impl Plan {
    /// All actions, in order.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().flat_map(|step| &step.actions)
    }

    /// What the plan changes, each thing once, in the order in which it is first changed.
    pub fn touches(&self) -> Vec<Touch<'_>> {
        let mut found = Vec::new();
        for touch in self.actions().flat_map(Action::touches) {
            if !found.contains(&touch) {
                found.push(touch);
            }
        }
        found
    }

    /// Whether a unit of this name is started.
    pub fn starts(&self, unit: &str) -> bool {
        self.actions().any(|action| action.starts(unit))
    }

    /// Whether a unit in which this runs is started.
    pub fn starts_role(&self, role: UnitRole) -> bool {
        self.actions().any(|action| action.starts_role(role))
    }

    /// Whether the unit is stopped before the first action of which this is true, and not started again before it.
    pub fn stops_before(&self, unit: &str, until: impl Fn(&Action) -> bool) -> bool {
        let before = self.actions().take_while(|action| !until(action));
        let last = before.filter_map(|action| match action {
            Action::Unit { unit: name, change, .. } if name == unit => Some(*change),
            _ => None,
        });
        last.last() == Some(UnitChange::Stop)
    }

    /// Bytes that the plan writes, as long as they are when read back.
    pub fn bytes(&self) -> u64 {
        self.actions().filter_map(Action::length).fold(0, u64::saturating_add)
    }

    /// The nodes behind whose fence it works.
    pub fn fences(&self) -> impl Iterator<Item = &LightningPlace> {
        self.actions().filter_map(|action| match action {
            Action::RaiseFence { lightning } => Some(lightning),
            _ => None,
        })
    }
}
