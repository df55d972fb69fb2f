//! Placeholder.

/// Placeholder.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {}

impl SqliteError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
