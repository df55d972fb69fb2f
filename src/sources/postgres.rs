//! Placeholder.

/// Placeholder.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {}

impl PostgresError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
