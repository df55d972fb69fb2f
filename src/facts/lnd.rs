//! What is known of LND's `channel.backup` without its key: the file is encrypted with a key derived from the seed, so
//! neither its channels nor their number can be read here.

use super::sqlite::LiveFile;
use serde::{Deserialize, Serialize};

/// What can be seen of a `channel.backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelBackupFacts {
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is as short as one without any channel: 45 bytes.
    pub is_empty: bool,
    /// The file as it lay on the host.
    pub live: LiveFile,
}
