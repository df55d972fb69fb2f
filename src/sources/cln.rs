//! Placeholder.

/// Placeholder.
#[derive(Debug, thiserror::Error)]
pub enum ClnError {}

impl ClnError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
