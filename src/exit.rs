//! The one table of exit codes, and the one place that chooses among them. Codes are part of the interface: they are
//! documented in docs/EXIT-CODES.md and never change their meaning.

use crate::base::fsio::FileError;
use crate::base::lock::LockError;
use crate::engine::Error;
use crate::engine::pipeline::PipelineError;
use crate::policy::PolicyError;
use crate::report::{Finding, Level};
use crate::seal::SealError;
use serde::Serialize;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: failed.
    Failed,
    /// 2: the command line or the policy is wrong.
    Usage,
    /// 3: done but not whole: a vault is behind, a source degraded.
    NotWhole,
    /// 10: there is no vault there.
    NoVault,
    /// 11: another run holds the lock.
    Locked,
    /// 12: no identity fits.
    NoIdentity,
    /// 20: damage was found.
    Damage,
    /// 21: a guard refused.
    Refused,
    /// 22: a drill failed.
    DrillFailed,
    /// 23: the newest snapshot is older than the objective allows.
    Stale,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// All of them, for the documentation's test.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::NotWhole,
        Self::NoVault,
        Self::Locked,
        Self::NoIdentity,
        Self::Damage,
        Self::Refused,
        Self::DrillFailed,
        Self::Stale,
        Self::Interrupted,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotWhole => 3,
            Self::NoVault => 10,
            Self::Locked => 11,
            Self::NoIdentity => 12,
            Self::Damage => 20,
            Self::Refused => 21,
            Self::DrillFailed => 22,
            Self::Stale => 23,
            Self::Interrupted => 130,
        }
    }

    /// One word for programs.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotWhole => "not-whole",
            Self::NoVault => "no-vault",
            Self::Locked => "locked",
            Self::NoIdentity => "no-identity",
            Self::Damage => "damage",
            Self::Refused => "refused",
            Self::DrillFailed => "drill-failed",
            Self::Stale => "stale",
            Self::Interrupted => "interrupted",
        }
    }

    /// What findings amount to: the worst one decides.
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|finding| finding.level).max() {
            None | Some(Level::Note) => Self::Ok,
            Some(Level::Degraded) => Self::NotWhole,
            Some(Level::Stale) => Self::Stale,
            Some(Level::Failed) => Self::Failed,
            Some(Level::Damage) => Self::Damage,
        }
    }
}

/// Why a command failed, ready to be shown.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Failure {
    /// The exit code.
    #[serde(skip)]
    #[schemars(skip)]
    pub exit: Exit,
    /// What failed, on which thing.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), causes: Vec::new(), hint: None }
    }

    fn new(exit: Exit, error: &dyn std::error::Error, hint: Option<String>) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(next) = cause {
            let text = next.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            cause = next.source();
        }
        Self { exit, message: error.to_string(), causes, hint }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = of(&error);
        Self::new(exit, &error, error.hint())
    }
}

fn of(error: &Error) -> Exit {
    match error {
        error if error.is_interruption() => Exit::Interrupted,
        Error::Step { source, .. } => of(source),
        Error::Guards(_) | Error::NotConfirmed { .. } => Exit::Refused,
        Error::Scenario(_) => Exit::Usage,
        Error::Usage(_) | Error::Unknown { .. } | Error::Id(_) | Error::NoIdentity { .. } => Exit::Usage,
        Error::NoVault { .. } => Exit::NoVault,
        Error::Locked(LockError::Held { .. }) => Exit::Locked,
        Error::Seal(error) | Error::Pipeline(PipelineError::Seal(error)) => of_seal(error),
        Error::Forged { .. } | Error::Damaged { .. } | Error::Manifest { .. } | Error::Notes { .. } => Exit::Damage,
        Error::Refused { .. } => Exit::Refused,
        Error::File(error) => of_file(error),
        _ => Exit::Failed,
    }
}

fn of_seal(error: &SealError) -> Exit {
    match error {
        SealError::NoMatch { .. } => Exit::NoIdentity,
        SealError::IdentityFile { .. } | SealError::Recipient { .. } => Exit::Usage,
        SealError::Decrypt { .. } | SealError::Content { .. } | SealError::Unexpected { .. } => Exit::Damage,
        SealError::File(error) => of_file(error),
        _ => Exit::Failed,
    }
}

fn of_file(error: &FileError) -> Exit {
    match error {
        FileError::Exposed { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::new(Exit::Usage, &error, error.hint())
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::from(Error::Seal(error))
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::from(Error::File(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::postgres::restore::RestoreError;
    use crate::target::tree::TreeError;
    use crate::target::units::UnitError;

    #[test]
    fn whoever_notices_an_interruption_it_is_no_failure() {
        let unit = || UnitError::Interrupted { unit: "x.service".to_owned() };
        let step = |source: Error| Error::Step { step: "one".parse().unwrap(), source: Box::new(source) };
        let all: [Error; 4] = [
            Error::Interrupted,
            unit().into(),
            TreeError::Interrupted { entries: 1 }.into(),
            RestoreError::Interrupted { database: "x".to_owned() }.into(),
        ];
        for error in all.into_iter().map(step).chain([unit().into()]) {
            assert_eq!(Failure::from(error).exit.code(), 130);
        }
        let absent = UnitError::Absent { unit: "x.service".to_owned() };
        assert_eq!(Failure::from(step(absent.into())).exit.code(), 1);
    }
}
