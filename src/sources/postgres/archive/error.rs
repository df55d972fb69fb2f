//! Why a stream of bytes is not a whole dump.

/// Why a stream of bytes is not a whole dump.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// There are no bytes at all.
    #[error("the dump is empty")]
    Empty,
    /// It does not begin as an archive does.
    #[error("this is not a dump in pg_dump's custom format")]
    NotAnArchive,
    /// A version this program does not know.
    #[error("the dump is an archive of version {version}; versions 1.14, 1.15 and 1.16 are understood")]
    UnknownVersion {
        /// The version.
        version: String,
    },
    /// Another format than the custom one.
    #[error("the dump is in archive format {format}; only the custom format is understood")]
    NotCustom {
        /// The format's number.
        format: u8,
    },
    /// Its data is compressed, so rows cannot be seen.
    #[error("the dump is compressed; pg_dump must run with --compress=0")]
    Compressed,
    /// A part that cannot be right.
    #[error("the dump is damaged: {what} cannot be right")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// A part that is larger than anything it may be.
    #[error("the dump is damaged or hostile: {what} has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The rows of a table are not followed by their end marker, or by something else.
    #[error("the rows of table {table} do not end as they must")]
    Rows {
        /// The table.
        table: String,
    },
    /// The bytes end inside a part.
    #[error("the dump stops short, inside {inside}")]
    Truncated {
        /// Where.
        inside: String,
    },
    /// The table of contents promises data that never came.
    #[error("the dump stops short: the data of {first} never came ({count} of {expected} are missing)")]
    MissingData {
        /// The first that is missing.
        first: String,
        /// How many are missing.
        count: usize,
        /// How many there must be.
        expected: usize,
    },
}

impl ArchiveError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownVersion { .. } => Some("a newer relay-backup is needed for this pg_dump".to_owned()),
            Self::Empty | Self::Truncated { .. } | Self::MissingData { .. } | Self::Rows { .. } => {
                Some("look at the disk, the memory and the server's log, then run the backup again".to_owned())
            }
            _ => None,
        }
    }
}
