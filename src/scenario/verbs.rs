//! What a step can do: the closed set of verbs with their checked parameters. Adding one here means nothing until the
//! engine knows how to expand it; the compiler says where.

use super::text::Template;
use super::words::{
    Answer, Aside, Assertion, Burn, Condition, Depth, Expected, GuardName, Harm, Inspection, Placed, Swap, UnitRole,
    Which,
};
use crate::base::ids::ScenarioName;
use std::path::PathBuf;
use std::time::Duration;

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Picks a snapshot and verifies it.
    ChooseSnapshot {
        /// Which one.
        which: Which,
        /// How far it is verified.
        depth: Depth,
    },
    /// Judges guards.
    Guard {
        /// Which ones; at least one, each once.
        names: Vec<GuardName>,
    },
    /// Keeps lightningd from starting.
    Fence,
    /// Lets lightningd start again.
    Unfence,
    /// Puts something from the snapshot in its place.
    Place {
        /// What.
        what: Placed,
    },
    /// Puts every toxic artifact where no node starts on it.
    Quarantine,
    /// Moves something that lies at the target aside.
    MoveAside {
        /// What.
        what: Aside,
    },
    /// Makes the roles that the databases need.
    RestoreRoles,
    /// Restores every database beside the live one, and proves it.
    RestoreDatabases,
    /// Puts restored databases into service.
    SwapDatabases {
        /// Which ones.
        which: Swap,
    },
    /// Takes what was stolen out of force in the restored databases.
    Burn {
        /// What; at least one, each once.
        what: Vec<Burn>,
    },
    /// Looks at something and reports it.
    Inspect {
        /// At what.
        what: Inspection,
    },
    /// Stops a systemd unit.
    StopUnit {
        /// Its name with its type.
        unit: String,
        /// What runs in it.
        role: UnitRole,
    },
    /// Starts a systemd unit.
    StartUnit {
        /// Its name with its type.
        unit: String,
        /// What runs in it.
        role: UnitRole,
    },
    /// Runs a program, without a shell.
    Run {
        /// The program, an absolute path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<Template>,
    },
    /// Waits for a condition.
    Wait {
        /// For what.
        condition: Condition,
        /// The unit; there exactly where the condition is about one.
        unit: Option<String>,
        /// How long.
        at_most: Duration,
    },
    /// Tells the operator something.
    Tell {
        /// What.
        text: Template,
        /// Lines to be copied.
        command: Vec<Template>,
        /// What must be answered.
        answer: Answer,
    },
    /// Ends the run where something does not hold.
    Assert {
        /// What must hold; at least one, each once.
        what: Vec<Assertion>,
    },
    /// Claims the final snapshot.
    Claim,
    /// Drill only: breaks something in a vault.
    Damage {
        /// How.
        what: Harm,
    },
    /// Drill only: takes a vault away.
    LoseVault,
    /// Drill only: makes the lost vault again.
    SyncVault,
    /// Drill only: verifies every vault.
    VerifyVault {
        /// How far.
        depth: Depth,
        /// What must come of it.
        expect: Expected,
    },
    /// Drill only: throws one identity away.
    LoseIdentity,
    /// Drill only: puts a new recipient in the place of the lost one's.
    ChangeRecipients,
    /// Drill only: recovers with stock tools.
    RecoverByHand,
    /// Drill only: plays another scenario.
    Play {
        /// Which one.
        scenario: ScenarioName,
    },
}

/// A verb, and where it may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// The word in the file.
    pub word: &'static str,
    /// Whether it may stand in a scenario for a restore.
    pub stands: Stands,
}

/// Where a verb may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// In every scenario.
    Everywhere,
    /// Only in one for drills.
    InDrills,
}

/// Every verb.
pub const VERBS: [Verb; 27] = [
    everywhere("choose-snapshot"),
    everywhere("guard"),
    everywhere("fence"),
    everywhere("unfence"),
    everywhere("place"),
    everywhere("quarantine"),
    everywhere("move-aside"),
    everywhere("restore-roles"),
    everywhere("restore-databases"),
    everywhere("swap-databases"),
    everywhere("burn"),
    everywhere("inspect"),
    everywhere("stop-unit"),
    everywhere("start-unit"),
    everywhere("run"),
    everywhere("wait"),
    everywhere("tell"),
    everywhere("assert"),
    everywhere("claim"),
    in_drills("damage"),
    in_drills("lose-vault"),
    in_drills("sync-vault"),
    in_drills("verify-vault"),
    in_drills("lose-identity"),
    in_drills("change-recipients"),
    in_drills("recover-by-hand"),
    in_drills("play"),
];

const fn everywhere(word: &'static str) -> Verb {
    Verb { word, stands: Stands::Everywhere }
}

const fn in_drills(word: &'static str) -> Verb {
    Verb { word, stands: Stands::InDrills }
}

impl Do {
    /// The verb, as the file spells it.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::ChooseSnapshot { .. } => "choose-snapshot",
            Self::Guard { .. } => "guard",
            Self::Fence => "fence",
            Self::Unfence => "unfence",
            Self::Place { .. } => "place",
            Self::Quarantine => "quarantine",
            Self::MoveAside { .. } => "move-aside",
            Self::RestoreRoles => "restore-roles",
            Self::RestoreDatabases => "restore-databases",
            Self::SwapDatabases { .. } => "swap-databases",
            Self::Burn { .. } => "burn",
            Self::Inspect { .. } => "inspect",
            Self::StopUnit { .. } => "stop-unit",
            Self::StartUnit { .. } => "start-unit",
            Self::Run { .. } => "run",
            Self::Wait { .. } => "wait",
            Self::Tell { .. } => "tell",
            Self::Assert { .. } => "assert",
            Self::Claim => "claim",
            Self::Damage { .. } => "damage",
            Self::LoseVault => "lose-vault",
            Self::SyncVault => "sync-vault",
            Self::VerifyVault { .. } => "verify-vault",
            Self::LoseIdentity => "lose-identity",
            Self::ChangeRecipients => "change-recipients",
            Self::RecoverByHand => "recover-by-hand",
            Self::Play { .. } => "play",
        }
    }

    /// Whether it may stand only in a scenario for drills.
    pub fn is_for_drills_only(&self) -> bool {
        VERBS.iter().any(|verb| verb.word == self.verb() && verb.stands == Stands::InDrills)
    }

    /// Whether it takes something out of a snapshot, and so needs one that was chosen.
    pub fn reads_snapshot(&self) -> bool {
        matches!(
            self,
            Self::Place { .. } | Self::Quarantine | Self::RestoreRoles | Self::RestoreDatabases | Self::Claim
        )
    }

    /// Whether it changes the host that is restored to.
    pub fn changes_host(&self) -> bool {
        matches!(
            self,
            Self::Fence
                | Self::Unfence
                | Self::Place { .. }
                | Self::Quarantine
                | Self::MoveAside { .. }
                | Self::RestoreRoles
                | Self::RestoreDatabases
                | Self::SwapDatabases { .. }
                | Self::Burn { .. }
                | Self::StopUnit { .. }
                | Self::StartUnit { .. }
                | Self::Run { .. }
                | Self::Claim
        )
    }
}
