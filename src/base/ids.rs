//! Names and identifiers, each a type of its own, each checked once where it enters.

use super::limits;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a valid name or identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {rule}")]
pub struct BadId {
    /// What the text was meant to be.
    pub what: &'static str,
    /// The text itself.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        text_id!($(#[$doc])* $name, $what, $rule, $check, |_| 0);
    };
    // `rank` comes before the text where two are put in order.
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr, $rank:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                let rank: fn(&str) -> u64 = $rank;
                rank(&self.0).cmp(&rank(&other.0)).then_with(|| self.0.cmp(&other.0))
            }
        }
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(200).collect();
                    Err(BadId { what: $what, text, rule: $rule })
                }
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_plain_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= limits::NAME_BYTES_MAX
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_kebab_case(text: &str) -> bool {
    text.len() <= limits::SCENARIO_NAME_BYTES_MAX
        && text.starts_with(|letter: char| letter.is_ascii_lowercase())
        && !text.ends_with('-')
        && !text.contains("--")
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

text_id!(
    /// The name of a protected host, as the policy gives it.
    NodeName, "node name", "use 1 to 64 letters, digits, '.', '_' or '-', not first a '.' or '-'", is_plain_name
);
text_id!(
    /// The name of a source, as the policy gives it.
    SourceName, "source name", "use 1 to 64 letters, digits, '.', '_' or '-', not first a '.' or '-'", is_plain_name
);
text_id!(
    /// The name of a vault, as the policy gives it.
    VaultName, "vault name", "use 1 to 64 letters, digits, '.', '_' or '-', not first a '.' or '-'", is_plain_name
);
text_id!(
    /// The name of an artifact: `<source>/<what>`, limited to `[A-Za-z0-9._/-]` so that awk can read a manifest.
    ArtifactName, "artifact name",
    "use <source>/<what> of letters, digits, '.', '_', '-' and '/', no empty or dot part",
    |text| {
        text.len() <= limits::ARTIFACT_NAME_BYTES_MAX
            && text.split('/').count() >= 2
            && text.split('/').all(|part| {
                !part.is_empty() && !part.starts_with(['.', '-'])
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            })
    }
);
text_id!(
    /// The name of a scenario: of its file in `restore-drills/` without `.toml`.
    ScenarioName, "scenario name", "use up to 48 lower-case letters, digits and single hyphens, a letter first",
    is_kebab_case
);
text_id!(
    /// The name of a step, or of an entry of the follow-up list, unique in its scenario.
    StepId, "step id", "use up to 48 lower-case letters, digits and single hyphens, a letter first", is_kebab_case
);
text_id!(
    /// The name of an epoch: the day it began and four random bytes, `20261120-9f86d081`.
    EpochId, "epoch", "expected yyyymmdd-xxxxxxxx",
    |text| text.len() == 17 && text.as_bytes()[8] == b'-'
        && text.as_bytes()[..8].iter().all(u8::is_ascii_digit) && is_hex(&text[9..], 8)
);
text_id!(
    /// A SHA-256 digest in lower-case hexadecimal.
    Sha256Hex, "SHA-256 digest", "expected 64 lower-case hexadecimal digits", |text| is_hex(text, 64)
);
text_id!(
    /// The name of a segment's content: BLAKE3 keyed with the node's dedup key over codec, epoch and
    /// plaintext, in lower-case hexadecimal. Equal content has the same id; without the key it tells nothing.
    SegmentId, "segment id", "expected 64 lower-case hexadecimal digits", |text| is_hex(text, 64)
);
text_id!(
    /// The name of a vault: random, 32 lower-case hexadecimal digits, in `vault.json`.
    VaultId, "vault id", "expected 32 lower-case hexadecimal digits", |text| is_hex(text, 32)
);
text_id!(
    /// The name of one installation of the program: random, 32 lower-case hexadecimal digits.
    InstanceId, "instance id", "expected 32 lower-case hexadecimal digits", |text| is_hex(text, 32)
);
text_id!(
    /// A minisign key id in the way `minisign` prints it: 16 upper-case hexadecimal digits.
    SigningKeyId, "signing key id", "expected 16 upper-case hexadecimal digits",
    |text| text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
);
text_id!(
    /// The name of a snapshot: UTC time and the node's sequence number, `20261120T051200Z-000042`. Comes after another
    /// by its number, whatever the host's clock said; of two with one number, by the time.
    SnapshotId, "snapshot id", "expected yyyymmddThhmmssZ-nnnnnn",
    |text| {
        let b = text.as_bytes();
        b.len() >= 23 && b.len() <= 27 && b[8] == b'T' && b[15] == b'Z' && b[16] == b'-'
            && b[..8].iter().chain(&b[9..15]).chain(&b[17..]).all(u8::is_ascii_digit)
    },
    sequence_of
);

fn sequence_of(id: &str) -> u64 {
    id.get(17..).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl SnapshotId {
    /// Makes the id of the snapshot with this sequence number, taken at this moment.
    pub fn new(moment: Timestamp, sequence: u64) -> Self {
        Self(format!("{}-{sequence:06}", super::clock::compact(moment)))
    }

    /// The per-node sequence number.
    pub fn sequence(&self) -> u64 {
        sequence_of(&self.0)
    }

    /// Whether its run began after this moment, by more than two clocks may differ: one of them is or was wrong.
    pub fn is_after(&self, moment: Timestamp) -> bool {
        let slack = jiff::SignedDuration::try_from(limits::CLOCK_SLACK).unwrap_or(jiff::SignedDuration::MAX);
        self.moment().is_some_and(|own| own.duration_since(moment) > slack)
    }

    /// When its run began, by the host's clock; `None` where its text names no moment.
    pub fn moment(&self) -> Option<Timestamp> {
        super::clock::from_compact(self.0.get(..16)?)
    }
}

impl Sha256Hex {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(hex::encode(sha2::Sha256::digest(bytes)))
    }
}

impl SegmentId {
    /// From the 32 bytes of a keyed BLAKE3 hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }
}
