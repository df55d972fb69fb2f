//! `--accept GUARD="why"`: a person takes a refusal upon themselves, in their own words, which the report keeps. Only
//! where a person can know better than the program.

use super::{Guard, Refusal, Verdict};
use crate::base::limits::ACCEPTANCE_BYTES_MAX;
use std::collections::BTreeMap;
use std::str::FromStr;

/// One guard's refusal, accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    guard: Guard,
    why: String,
}

/// All that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptances(BTreeMap<Guard, String>);

/// Why a text accepts nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptanceError {
    /// There is no `=`.
    #[error("{text:?} does not say why")]
    NoReason {
        /// What was given.
        text: String,
    },
    /// No such guard.
    #[error("there is no guard {name:?}")]
    NoSuchGuard {
        /// What was given.
        name: String,
    },
    /// A guard that nobody may overrule.
    #[error("the guard {guard} cannot be accepted away: no person can know better than its facts")]
    NotAcceptable {
        /// The guard.
        guard: Guard,
    },
    /// The reason is empty.
    #[error("the reason for accepting {guard} is empty")]
    Empty {
        /// The guard.
        guard: Guard,
    },
    /// The reason is too long or holds control characters.
    #[error("the reason for accepting {guard} is longer than {ACCEPTANCE_BYTES_MAX} bytes or holds control characters")]
    Unprintable {
        /// The guard.
        guard: Guard,
    },
    /// Two reasons for one guard.
    #[error("the guard {guard} is accepted twice")]
    Twice {
        /// The guard.
        guard: Guard,
    },
}

impl AcceptanceError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotAcceptable { guard: Guard::Stale } => {
                "leave the channel database in quarantine and take the road of emergency.recover".to_owned()
            }
            Self::NotAcceptable { .. } => "do what the refusal's hint says, and run it again".to_owned(),
            Self::Twice { .. } => "give one reason".to_owned(),
            _ => {
                "write --accept GUARD=\"why, in your own words\"; GUARD is twin, freshness, space or payout".to_owned()
            }
        }
    }
}

impl FromStr for Acceptance {
    type Err = AcceptanceError;

    fn from_str(text: &str) -> Result<Self, AcceptanceError> {
        let shown = || text.chars().take(200).collect();
        let (name, why) = text.split_once('=').ok_or_else(|| AcceptanceError::NoReason { text: shown() })?;
        let unknown = || AcceptanceError::NoSuchGuard { name: name.chars().take(200).collect() };
        let guard = Guard::named(name).ok_or_else(unknown)?;
        if !guard.can_be_accepted() {
            return Err(AcceptanceError::NotAcceptable { guard });
        }
        let why = why.trim();
        // A reason of nothing but invisible characters says nothing either.
        if !why.chars().any(char::is_alphanumeric) {
            return Err(AcceptanceError::Empty { guard });
        }
        if why.len() > ACCEPTANCE_BYTES_MAX || why.chars().any(char::is_control) {
            return Err(AcceptanceError::Unprintable { guard });
        }
        Ok(Self { guard, why: why.to_owned() })
    }
}

impl Acceptances {
    /// Of all that were given; an error when one guard is accepted twice.
    pub fn new(given: impl IntoIterator<Item = Acceptance>) -> Result<Self, AcceptanceError> {
        let mut accepted = BTreeMap::new();
        for Acceptance { guard, why } in given {
            if accepted.insert(guard, why).is_some() {
                return Err(AcceptanceError::Twice { guard });
            }
        }
        Ok(Self(accepted))
    }

    /// What a person accepted and why, for the report; also where the guard refused nothing.
    pub fn given(&self) -> impl Iterator<Item = (Guard, &str)> {
        self.0.iter().map(|(guard, why)| (*guard, why.as_str()))
    }

    pub(super) fn apply(&self, verdict: Verdict) -> Verdict {
        let Verdict::Refused(refusal) = verdict else { return verdict };
        match self.reason_for(&refusal) {
            Some(why) => Verdict::Accepted { why, refusal },
            None => Verdict::Refused(refusal),
        }
    }

    fn reason_for(&self, refusal: &Refusal) -> Option<String> {
        if refusal.can_be_accepted { self.0.get(&refusal.guard).cloned() } else { None }
    }
}
