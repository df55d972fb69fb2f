//! What is known of LND's `channel.backup` without its key: the file is encrypted with a key derived from the seed, so
//! neither its channels nor their number can be read here.

use serde::{Deserialize, Serialize};

/// What can be seen of a `channel.backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelBackupFacts {
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is as short as one without any channel: 45 bytes.
    pub is_empty: bool,
    /// Seconds since 1970 at which LND last wrote it.
    pub modified: i64,
    /// Where it was read.
    pub path: String,
}
