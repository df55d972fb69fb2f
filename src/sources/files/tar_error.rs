//! What is wrong with a tar that is read again, to be checked or to be unpacked.

use std::io;

/// What to do where a tar is damaged, or not the one that was written.
pub(super) const ELSEWHERE: &str = "restore from another vault or an older snapshot, and run `verify --depth opened`";
/// Most of an entry's name that a message shows, in characters.
const NAME_CHARS: usize = 200;

/// Why a tar was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It does not parse, or is not whole.
    #[error("the tar is damaged after {entries} entries")]
    Damaged {
        /// Entries that could be read.
        entries: u64,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// It holds what no tar of ours does, such as a name that would leave the folder it is unpacked to, or an entry
    /// that is neither file, folder nor link.
    #[error("the tar's entry {name:?} {why}")]
    Hostile {
        /// The entry's name, made printable.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl TarError {
    /// An error about the entry of this name.
    pub fn hostile(name: &[u8], why: &'static str) -> Self {
        Self::Hostile { name: Self::shown(name), why }
    }

    /// A name as a message shows it.
    pub fn shown(name: &[u8]) -> String {
        String::from_utf8_lossy(name).chars().take(NAME_CHARS).collect()
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Damaged { .. } => ELSEWHERE.to_owned(),
            Self::Hostile { .. } => "do not unpack this tar; whoever wrote it is not the agent as published".to_owned(),
        }
    }
}
