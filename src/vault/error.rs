//! Why a vault did not do what it was asked, on which object, and what to do. Holds no credential and no content.

use super::answer::StoreError;
use super::credentials::CredentialsError;
use crate::base::ids::VaultName;
use jiff::Timestamp;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a vault did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The runtime that carries network requests could not be started.
    #[error("cannot start the runtime for network requests")]
    Runtime {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop while an object waited for its turn.
    #[error("vault {vault}: stopped while an object waited for the bandwidth it is given")]
    Stopped {
        /// Which vault.
        vault: VaultName,
    },
    /// This program was built without what reaches that kind of store.
    #[error("vault {vault}: this program was built without the feature {feature}, which reaches it")]
    NotBuilt {
        /// Which vault.
        vault: VaultName,
        /// The cargo feature.
        feature: &'static str,
    },
    /// Its credentials cannot be used.
    #[error("vault {vault}: its credentials cannot be used")]
    Credentials {
        /// The vault.
        vault: VaultName,
        /// Why not.
        #[source]
        source: Box<CredentialsError>,
    },
    /// The store's client cannot be set up.
    #[error("vault {vault}: its store cannot be set up")]
    SetUp {
        /// The vault.
        vault: VaultName,
        /// Why not.
        #[source]
        source: Box<opendal::Error>,
    },
    /// The folder of the vault is not there.
    #[error("vault {vault}: there is no vault at {}", folder.display())]
    Missing {
        /// The vault.
        vault: VaultName,
        /// Its folder.
        folder: PathBuf,
    },
    /// There is no such object.
    #[error("vault {vault} has no {key}")]
    NotFound {
        /// The vault.
        vault: VaultName,
        /// The object.
        key: String,
    },
    /// The object is larger than anything of its kind may be.
    #[error("vault {vault}: {key} has {length} bytes; at most {limit} are read")]
    TooLarge {
        /// The vault.
        vault: VaultName,
        /// The object.
        key: String,
        /// Its length, as far as it is known.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Fewer or more bytes came than the store said there are.
    #[error("vault {vault}: {got} bytes of {key} came instead of {expected}")]
    ShortRead {
        /// The vault.
        vault: VaultName,
        /// The object.
        key: String,
        /// What the store says its length is.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// There is a vault already where one was to be created.
    #[error("vault {vault}: there is a vault already; it stays as it is")]
    Exists {
        /// The vault.
        vault: VaultName,
    },
    /// The place holds objects of a vault, but its `vault.json` is gone.
    #[error("vault {vault}: objects of a vault are there, but no vault.json")]
    Leftovers {
        /// The vault.
        vault: VaultName,
    },
    /// `vault.json` has a format that this program does not know.
    #[error("vault {vault} has format {format}; this program knows format 1")]
    Format {
        /// The vault.
        vault: VaultName,
        /// The format it says it has.
        format: u64,
    },
    /// An object is not what it must be.
    #[error("vault {vault}: {key} cannot be understood")]
    Malformed {
        /// The vault.
        vault: VaultName,
        /// The object.
        key: String,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A link, a device or something else stands where a plain file or folder must be.
    #[error("vault {vault}: {key} is not a plain {expected}; it is not followed")]
    NotPlain {
        /// The vault.
        vault: VaultName,
        /// The place inside the vault.
        key: String,
        /// `file` or `folder`.
        expected: &'static str,
    },
    /// The filesystem of a folder vault refused.
    #[error("vault {vault}: cannot {action} {key} in {}", folder.display())]
    Folder {
        /// The vault.
        vault: VaultName,
        /// What was tried.
        action: &'static str,
        /// The object or folder inside the vault.
        key: String,
        /// The vault's folder.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The store refused, or could not be reached.
    #[error("vault {vault}: cannot {action} {key} ({})", tried(*tries))]
    Store {
        /// The vault.
        vault: VaultName,
        /// What was tried.
        action: &'static str,
        /// The object or prefix.
        key: String,
        /// How often it was tried in all.
        tries: u32,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// The store does not tell the time.
    #[error("vault {vault}: the store's answer has no date, so its clock is not known")]
    NoClock {
        /// The vault.
        vault: VaultName,
    },
    /// No answer came in time.
    #[error("vault {vault}: no answer within {} s to: {action} {key} ({})", waited.as_secs(), tried(*tries))]
    TimedOut {
        /// The vault.
        vault: VaultName,
        /// What was tried.
        action: &'static str,
        /// The object or prefix.
        key: String,
        /// How often it was tried in all.
        tries: u32,
        /// How long each try waited.
        waited: Duration,
    },
}

/// The kinds of trouble that have a remedy of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No space left, or a quota is used up.
    Full,
    /// This user or these credentials may not do it.
    Denied,
    /// The filesystem is mounted read-only.
    ReadOnly,
    /// The store cannot be reached or breaks off.
    Connection,
    /// The store asks to slow down.
    Busy,
    /// The store fails by itself.
    Store,
    /// The store takes this host's clock, or its own, for wrong.
    Clock,
    /// There is no such bucket.
    Bucket,
    /// The bucket is in another region, or behind another address.
    Elsewhere,
    /// Anything else.
    Other,
}

impl VaultError {
    /// Whether the same call may succeed later with nothing changed.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Store { source, .. } => source.is_temporary(),
            Self::ShortRead { .. } => true,
            _ => false,
        }
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the object itself is missing or wrong. Otherwise the vault did not give it, and nothing is known of it.
    pub fn is_of_object(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::TooLarge { .. }
            | Self::ShortRead { .. }
            | Self::Malformed { .. }
            | Self::NotPlain { .. } => true,
            // A disk that cannot read a file has damaged it.
            Self::Folder { source, .. } => source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()),
            _ => false,
        }
    }

    /// What kind of trouble it is.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Folder { source, .. } => trouble_of(source),
            Self::TimedOut { .. } => Trouble::Connection,
            Self::Store { source, .. } => source.trouble(),
            _ => Trouble::Other,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Credentials { source, .. } => return source.hint(),
            Self::NotBuilt { feature, .. } => {
                return Some(format!("build it with: cargo build --release --locked --features {feature}"));
            }
            Self::SetUp { .. } => "check the vault's url in the policy: bucket, endpoint, region",
            Self::Missing { folder, .. } => {
                return Some(format!(
                    "mount the disk that holds {}, or create the vault with: relay-backup init",
                    folder.display()
                ));
            }
            Self::Exists { .. } => "use the vault as it is, or name another place in the policy",
            Self::Leftovers { .. } => {
                "put vault.json back from a copy of this vault, or name an empty place in the policy"
            }
            Self::Format { .. } => "use a newer relay-backup; do not change vault.json",
            Self::Malformed { .. } => "copy this file back from another vault or from a copy of this one",
            Self::NotPlain { .. } => "find out who put it there; then move it out of the vault's folder",
            Self::ShortRead { .. } => "run: relay-backup verify --depth sealed; it tells which objects are damaged",
            Self::Folder { vault, .. } | Self::Store { vault, .. } | Self::TimedOut { vault, .. } => {
                return self.hint_of_trouble(vault);
            }
            Self::Stopped { .. } => "run the same command again; what was put is used again",
            Self::Runtime { .. } => "raise the limit of threads or open files for this service",
            Self::NotFound { .. } | Self::TooLarge { .. } | Self::NoClock { .. } => return None,
        };
        Some(text.to_owned())
    }

    fn hint_of_trouble(&self, vault: &VaultName) -> Option<String> {
        let is_folder = matches!(self, Self::Folder { .. });
        Some(match self.trouble() {
            Trouble::Full => format!(
                "free space where vault {vault} lies, or give it a larger place; then run the same command again"
            ),
            Trouble::Denied if is_folder => {
                "let the user that runs relay-backup own the vault's folder and all in it (mode 0700)".to_owned()
            }
            Trouble::Denied => {
                format!(
                    "check the credentials of vault {vault} and what they may do: put, get and list under its prefix"
                )
            }
            Trouble::ReadOnly => {
                "mount the filesystem for writing; after errors of a disk Linux mounts it read-only: look at dmesg"
                    .to_owned()
            }
            Trouble::Connection => {
                format!("check that this host reaches the endpoint of vault {vault}; then run the same command again")
            }
            Trouble::Busy => "the store asks to slow down: set bandwidth for this vault, or try later".to_owned(),
            Trouble::Store => format!(
                "the store of vault {vault} fails by itself: see its log or its provider's status; then run the same command again"
            ),
            Trouble::Clock => {
                "set this host's clock (`timedatectl` tells whether it follows a time server), or the store's where that is yours"
                    .to_owned()
            }
            Trouble::Bucket => {
                format!("make the bucket, or mend its name in the url of vault {vault} in the policy")
            }
            Trouble::Elsewhere => format!(
                "mend endpoint and region in the url of vault {vault} in the policy: the bucket is elsewhere, or another server answers"
            ),
            Trouble::Other => return None,
        })
    }
}

/// What is wrong with the content of `vault.json`.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadVaultJson {
    /// Not the JSON that is expected.
    #[error("it is not the JSON that format 1 asks for")]
    Json(#[from] serde_json::Error),
    /// The moment of its creation is not a timestamp.
    #[error("its member `created` is not a moment such as {}", Timestamp::UNIX_EPOCH)]
    Created(#[from] jiff::Error),
}

fn tried(tries: u32) -> String {
    if tries == 1 { "tried once".to_owned() } else { format!("tried {tries} times") }
}

pub(super) fn trouble_of(error: &io::Error) -> Trouble {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => Trouble::Full,
        Kind::PermissionDenied => Trouble::Denied,
        Kind::ReadOnlyFilesystem => Trouble::ReadOnly,
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::NotConnected
        | Kind::BrokenPipe
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::TimedOut => Trouble::Connection,
        _ => Trouble::Other,
    }
}
