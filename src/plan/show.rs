//! Plans as text: one line per action, with every path, owner, mode, database and unit it touches.

use super::{Action, Answer, Condition, Owner, Plan, Swap, Together, UnitChange};
use std::fmt::{Display, Formatter, Result};
use std::path::PathBuf;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} for {}", self.scenario, self.node)?;
        if let Some(snapshot) = &self.snapshot {
            write!(f, " from {snapshot}")?;
        }
        if let Some(root) = &self.root {
            write!(f, " below {}", root.display())?;
        }
        for step in &self.steps {
            write!(f, "\n{}: {}", step.id, step.title)?;
            for action in &step.actions {
                write!(f, "\n  {action}")?;
            }
        }
        Ok(())
    }
}

impl Display for Owner {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.user {
            Some(name) => write!(f, "{name}:")?,
            None => write!(f, "{}:", self.uid)?,
        }
        match &self.group {
            Some(name) => write!(f, "{name}"),
            None => write!(f, "{}", self.gid),
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::VerifySnapshot { snapshot } => write!(f, "verify {snapshot}: open every segment, and keep nothing"),
            Self::RaiseFence { lightning } => {
                write!(f, "raise the fence at {}", lightning.wallet.display())?;
                write!(f, ", holding the lock of {}", lightning.pid_file.display())
            }
            Self::LowerFence { lightning } => write!(f, "lower the fence at {}", lightning.wallet.display()),
            Self::PlaceFile { artifact, to, owner, mode, length, .. } => {
                write!(f, "place {artifact} at {} ({length} bytes, {owner}, mode {mode:04o})", to.display())
            }
            Self::PlaceTree { artifact, below, length } => {
                write!(f, "unpack {artifact} below {} ({length} bytes, owners and modes as in it)", below.display())
            }
            Self::PlaceChannelDatabase { artifact, to, owner, mode, length, claim } => {
                write!(f, "place the channel database {artifact} at {}", to.display())?;
                write!(f, " ({length} bytes, {owner}, mode {mode:04o}), claimed as {claim}")
            }
            Self::Quarantine { artifact, to, length } => {
                write!(f, "quarantine {artifact} as {} ({length} bytes, mode 0400)", to.display())
            }
            Self::MoveAside { paths, together } => {
                let as_one = if *together == Together::Database { ", as one" } else { "" };
                write!(f, "move aside what is at {}{as_one}", listed(paths))
            }
            Self::RestoreRoles { artifact, server } => write!(f, "make the roles of {artifact} on {}", server.0),
            Self::RestoreDatabase { artifact, server, database, owner_role, length, swap } => {
                write!(f, "restore {artifact} as database {database} on {} ({length} bytes", server.0)?;
                write!(f, ", owner {owner_role}")?;
                match swap {
                    Swap::IntoEmpty => write!(f, ")"),
                    Swap::KeepOld { aside } => write!(f, "), the old one kept as {aside}"),
                }
            }
            Self::SwapDatabase { server, database, swap, answer } => {
                let asks = if *answer == Answer::Done { " if you say yes" } else { "" };
                write!(f, "put the restored database {database} on {} into service{asks}", server.0)?;
                match swap {
                    Swap::IntoEmpty => Ok(()),
                    Swap::KeepOld { aside } => write!(f, ", the old one kept as {aside}"),
                }
            }
            Self::Unit { unit, change: UnitChange::Stop, .. } => write!(f, "stop {unit}"),
            Self::Unit { unit, change: UnitChange::Start, .. } => write!(f, "start {unit}"),
            Self::Run { argv } => write!(f, "run {argv:?}"),
            Self::Wait { for_, at_most } => write!(f, "wait until {for_}, at most {} s", at_most.as_secs()),
            Self::Tell { text, answer } => {
                let asks = if *answer == Answer::Done { " (asks whether it is done)" } else { "" };
                write!(f, "tell{asks}: {}", text.lines().next().unwrap_or_default())
            }
            Self::Burn { server, database, what } => {
                write!(f, "burn {} in database {database} on {}", what.things(), server.0)
            }
            Self::Inspect { what } => write!(f, "look at {what}: {}", what.meaning()),
            Self::Assert { what } => write!(f, "make sure that {}", what.meaning()),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::UnitActive { unit } => write!(f, "{unit} runs"),
            Self::UnitInactive { unit } => write!(f, "{unit} has ended"),
            Self::PostgresAnswers { server } => write!(f, "{} takes connections", server.0),
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
