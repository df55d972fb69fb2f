//! Guards: pure rules that look at a plan and at facts and clear it or refuse it. Nothing is looked up here and
//! nothing is changed. An unknown fact is a refusal, and only a plan that every guard let pass becomes [`Cleared`], the
//! one value that an executor takes. It is never written down: whoever goes on after an interruption judges again.

mod acceptance;
mod cleared;
mod compromise;
pub mod evidence;
pub mod facts;
mod freshness;
mod identity;
mod objections;
mod payout;
mod rollback;
mod running;
mod space;
mod stale;
#[cfg(test)]
mod tests;
mod twin;

pub use acceptance::{Acceptance, AcceptanceError, Acceptances};
pub use cleared::Cleared;

use crate::plan::Plan;
use facts::Facts;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;

/// A guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// Secret, database, chain and software belong together.
    Identity,
    /// Nothing uses what would be changed.
    Running,
    /// No channel state that may be old comes where a node would start on it.
    Stale,
    /// Nothing newer, different or irreplaceable is written over.
    Rollback,
    /// The old host is dead.
    Twin,
    /// Nothing is paid twice.
    Payout,
    /// What was stolen does not come back into service.
    Compromise,
    /// There is room.
    Space,
    /// The snapshot is the newest one, and the blocks since then can be had.
    Freshness,
}

impl Guard {
    /// All, in the order in which they are asked.
    pub const ALL: [Self; 9] = [
        Self::Identity,
        Self::Running,
        Self::Stale,
        Self::Rollback,
        Self::Twin,
        Self::Payout,
        Self::Compromise,
        Self::Space,
        Self::Freshness,
    ];

    /// Its name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Running => "running",
            Self::Stale => "stale",
            Self::Rollback => "rollback",
            Self::Twin => "twin",
            Self::Payout => "payout",
            Self::Compromise => "compromise",
            Self::Space => "space",
            Self::Freshness => "freshness",
        }
    }

    /// The guard of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|guard| guard.as_str() == name)
    }

    /// Whether a person can know better than the facts.
    pub fn can_be_accepted(self) -> bool {
        matches!(self, Self::Twin | Self::Payout | Self::Space | Self::Freshness)
    }

    fn judge(self, plan: &Plan, facts: &Facts) -> Verdict {
        match self {
            Self::Identity => identity::judge(plan, facts),
            Self::Running => running::judge(plan, facts),
            Self::Stale => stale::judge(plan, facts),
            Self::Rollback => rollback::judge(plan, facts),
            Self::Twin => twin::judge(plan, facts),
            Self::Payout => payout::judge(plan, facts),
            Self::Compromise => compromise::judge(plan, facts),
            Self::Space => space::judge(plan, facts),
            Self::Freshness => freshness::judge(plan, facts),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a guard says of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The plan may go on.
    Cleared {
        /// What was seen.
        because: String,
    },
    /// It may not.
    Refused(Refusal),
    /// Nothing in the plan is the guard's subject.
    NotApplicable {
        /// What is not in it.
        why: String,
    },
    /// It was refused, and a person took it upon themselves.
    Accepted {
        /// Their words.
        why: String,
        /// What they accepted.
        refusal: Refusal,
    },
}

/// Why a guard refuses a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refusal {
    /// The guard.
    pub guard: Guard,
    /// The first and gravest reason, in one sentence.
    pub reason: String,
    /// The safe road.
    pub hint: String,
    /// Every reason.
    pub details: Vec<Detail>,
    /// Whether a person may accept it.
    pub can_be_accepted: bool,
}

impl Refusal {
    /// What may be lost in all, in satoshi, as far as the amounts are known.
    pub fn at_stake_sat(&self) -> u64 {
        self.details.iter().filter_map(|detail| detail.at_stake_sat).fold(0, u64::saturating_add)
    }
}

/// One reason of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Detail {
    /// The thing: a channel, a path, a database, a unit.
    pub subject: String,
    /// What is wrong with it, and why that matters.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// What may be lost, in satoshi, where money hangs on it and the amount is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_stake_sat: Option<u64>,
}

/// The verdict of one guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Judged {
    /// The guard.
    pub guard: Guard,
    /// What it says.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The verdicts of all guards on one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Judgement {
    plan: Plan,
    verdicts: Vec<Judged>,
}

/// A plan that was not cleared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", said(.refusals))]
pub struct Refused {
    /// Why, guard by guard; never empty.
    pub refusals: Vec<Refusal>,
}

impl Refused {
    /// The safe road.
    pub fn hint(&self) -> Option<String> {
        self.refusals.first().map(|refusal| refusal.hint.clone())
    }
}

fn said(refusals: &[Refusal]) -> String {
    let one = |refusal: &Refusal| format!("the guard {} refused: {}", refusal.guard, refusal.reason);
    refusals.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Asks every guard.
pub fn judge(plan: Plan, facts: &Facts, acceptances: &Acceptances) -> Judgement {
    let verdicts = Guard::ALL
        .into_iter()
        .map(|guard| Judged { guard, verdict: acceptances.apply(guard.judge(&plan, facts)) })
        .collect();
    Judgement { plan, verdicts }
}

impl Judgement {
    /// The plan that was judged.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What each guard says, in the order of [`Guard::ALL`].
    pub fn verdicts(&self) -> &[Judged] {
        &self.verdicts
    }

    /// What was refused and not accepted.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.verdicts.iter().filter_map(|judged| match &judged.verdict {
            Verdict::Refused(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// The plan, cleared, when every guard let it pass.
    pub fn clear(self) -> Result<Cleared<Plan>, Refused> {
        let refusals: Vec<Refusal> = self.refusals().cloned().collect();
        if refusals.is_empty() { Ok(Cleared::new(self.plan)) } else { Err(Refused { refusals }) }
    }
}
