//! What is wrong with a policy: where it stands, what it is, what to do. Nothing here ever quotes a value that may be
//! a secret.

use crate::base::fsio::FileError;
use std::fmt;
use std::path::PathBuf;

/// Why a policy was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file, or one that it names, could not be read or is open to others.
    #[error("cannot use the policy file")]
    File(#[source] FileError),
    /// It is not UTF-8 text.
    #[error("{} is not UTF-8 text", file.display())]
    NotText {
        /// The file.
        file: PathBuf,
        /// Where it stops being text.
        #[source]
        source: std::string::FromUtf8Error,
    },
    /// It is not TOML, or says what no policy can say. Holds at least one problem, in the order of the text.
    #[error("{}", list(problems))]
    Invalid {
        /// What is wrong, each with its place.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file it is in.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1, in characters.
    pub column: usize,
    /// Table and key, such as `[[vault]] url`; empty where there is none.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: ", self.file.display(), self.line)?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.what)
    }
}

impl PolicyError {
    /// What to do about it; where several things are wrong, one line for each.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) if error.is_not_found() => Some(
                "name the policy with --policy FILE or RELAY_BACKUP_POLICY; docs/SETUP.md writes a first one"
                    .to_owned(),
            ),
            Self::File(error) => error.hint(),
            Self::NotText { .. } => Some("save the file as UTF-8".to_owned()),
            Self::Invalid { problems } => match problems.as_slice() {
                [only] => only.remedy.clone(),
                several => {
                    let remedies: Vec<String> = several
                        .iter()
                        .filter_map(|problem| {
                            problem.remedy.as_ref().map(|text| format!("line {}: {text}", problem.line))
                        })
                        .collect();
                    (!remedies.is_empty()).then(|| remedies.join("\n"))
                }
            },
        }
    }

    /// What is wrong, one by one; empty when the file itself could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid { problems } => problems,
            Self::File(_) | Self::NotText { .. } => &[],
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
