//! What is known of a tar of files: how many entries of each kind, how many bytes, from which roots. The list of
//! files is the tar itself. Holds no file's content.

use serde::{Deserialize, Serialize};

/// What was counted while a tar of files was written, or read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TarFacts {
    /// The policy's paths and globs, as they stand there; empty when a tar was read back without its notes.
    pub roots: Vec<String>,
    /// All entries, repeated ones included.
    pub entries: u64,
    /// Bytes of file content, repeated entries included.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of a file that is in the tar already.
    pub hard_links: u64,
    /// Entries that repeat the one before them because the file changed while it was read; the last one counts.
    pub repeated: u64,
    /// What was left out or deserves a word, one sentence each; bounded.
    pub notes: Vec<String>,
}

impl TarFacts {
    /// The same without what a tar does not hold itself: its roots and notes.
    #[must_use]
    pub fn counts(&self) -> Self {
        Self { roots: Vec::new(), notes: Vec::new(), ..self.clone() }
    }
}
