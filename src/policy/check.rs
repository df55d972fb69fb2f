//! Placeholder.

use super::Policy;
use std::path::Path;

/// Placeholder.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {}

impl PolicyError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// Placeholder.
pub fn load(_file: &Path) -> Result<Policy, PolicyError> {
    unreachable!("placeholder")
}

/// Placeholder.
pub fn parse(_file: &Path, _text: &str) -> Result<Policy, PolicyError> {
    unreachable!("placeholder")
}
