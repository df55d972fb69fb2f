//! Placeholder.

/// Placeholder.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {}

impl FilesError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
