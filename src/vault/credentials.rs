//! Credentials files: TOML of mode 0600, with the keys of one kind of store. Never quoted, in no message.

use crate::base::fsio::{self, FileError};
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Why a credentials file cannot be used. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read, or others can read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what it should be.
    #[error("{file} is not TOML with {keys}{}", place(.line))]
    Malformed {
        /// The file.
        file: String,
        /// What should stand in it.
        keys: &'static str,
        /// Where reading stopped.
        line: Option<usize>,
    },
    /// None is named, and this kind of store has no other road.
    #[error("no credentials file is named; it holds {keys}")]
    NotNamed {
        /// What should stand in it.
        keys: &'static str,
    },
}

impl CredentialsError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Malformed { keys, .. } => {
                Some(format!("write {keys}, each as key = \"value\" on a line of its own, into a file of mode 0600"))
            }
            Self::NotNamed { .. } => {
                Some("name a file of mode 0600 by credentials_file in the policy's [[vault]]".to_owned())
            }
        }
    }
}

fn place(line: &Option<usize>) -> String {
    line.map(|line| format!(" (line {line})")).unwrap_or_default()
}

/// Reads a credentials file; `keys` says in words what should stand in it.
pub(super) fn read<T: DeserializeOwned>(file: &Path, keys: &'static str) -> Result<T, CredentialsError> {
    let content = fsio::read_private(file, SMALL_OBJECT_BYTES_MAX)?;
    let text = std::str::from_utf8(content.expose()).map_err(|_| malformed(file, keys, None))?;
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        malformed(file, keys, line)
    })
}

/// The error for a file that can be read and lacks something.
pub(super) fn malformed(file: &Path, keys: &'static str, line: Option<usize>) -> CredentialsError {
    CredentialsError::Malformed { file: file.display().to_string(), keys, line }
}
