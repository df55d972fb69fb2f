//! Placeholder.

/// Placeholder.
#[derive(Debug, thiserror::Error)]
pub enum LndError {}

impl LndError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
