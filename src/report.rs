//! What every flow ends in: findings and an outcome, typed. Text and JSON are renderings of it.

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing; changes no exit code.
    Note,
    /// Done, but not whole (exit code 3).
    Degraded,
    /// Older than the objectives allow (exit code 23).
    Stale,
    /// Failed (exit code 1).
    Failed,
    /// What is stored is damaged, forged or missing (exit code 20).
    Damage,
}

/// One thing that was found: what, on which thing, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// A stable name for programs, in kebab-case, such as `object-missing`.
    pub code: String,
    /// The thing it was found on: an artifact, a path, a vault, a snapshot.
    pub subject: String,
    /// What was found and why, one sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// A finding without a hint.
    pub fn new(level: Level, code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level, code: code.to_owned(), subject: subject.into(), message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
