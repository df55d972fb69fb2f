//! What is wrong with a scenario: where it stands, what it is, what to do.

use crate::policy::Problem;

/// Why a scenario was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is longer than any scenario.
    #[error("{place} has {bytes} bytes, more than any scenario ({max})")]
    TooLong {
        /// The file.
        place: String,
        /// Its length.
        bytes: usize,
        /// The most that is read.
        max: u64,
    },
    /// It is not TOML, or says what no scenario can say. Holds at least one problem, in the order of the text.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// What is wrong, each with its place.
        problems: Vec<Problem>,
    },
    /// No such scenario is built in.
    #[error("there is no scenario {name:?}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
}

impl ScenarioError {
    /// What to do about it; where several things are wrong, one line for each.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLong { .. } => Some("name a scenario file; docs/SCENARIOS.md describes its format".to_owned()),
            Self::Invalid { problems } => match problems.as_slice() {
                [only] => only.remedy.clone(),
                several => {
                    let remedies: Vec<String> = several
                        .iter()
                        .filter_map(|problem| Some(format!("line {}: {}", problem.line, problem.remedy.as_ref()?)))
                        .collect();
                    (!remedies.is_empty()).then(|| remedies.join("\n"))
                }
            },
            Self::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean {nearest}?")),
            Self::Unknown { nearest: None, .. } => {
                Some(format!("there are: {}", super::embedded::names().collect::<Vec<_>>().join(", ")))
            }
        }
    }

    /// What is wrong, one by one; empty when the text was not looked at.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid { problems } => problems,
            Self::TooLong { .. } | Self::Unknown { .. } => &[],
        }
    }
}
