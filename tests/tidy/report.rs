//! What a rule says: file, line, rule, remedy. It judges nothing itself.

use std::fmt;

/// Whether a finding fails the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Printed, no more.
    Note,
    /// Fails the test.
    Failure,
}

/// One place that breaks a rule.
#[derive(Debug)]
pub(crate) struct Finding {
    /// How much it counts.
    pub(crate) weight: Weight,
    file: String,
    line: usize,
    rule: String,
    remedy: String,
}

impl Finding {
    /// A place that must be changed.
    pub(crate) fn failure(file: &str, line: usize, rule: impl Into<String>, remedy: &str) -> Self {
        Self { weight: Weight::Failure, file: file.to_owned(), line, rule: rule.into(), remedy: remedy.to_owned() }
    }

    /// A place worth a look.
    pub(crate) fn note(file: &str, line: usize, rule: impl Into<String>, remedy: &str) -> Self {
        Self { weight: Weight::Note, ..Self::failure(file, line, rule, remedy) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file, self.line, self.rule, self.remedy)
    }
}

/// The number, from 1, of the line that holds the byte at this place.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
}
