//! Sealing and opening: cutting into segments, naming them, compressing, encrypting, signing. The only module that
//! knows age, minisign, BLAKE3 and the codecs. Plaintext stays in memory; nothing here touches a disk or a vault.

pub mod codec;
pub mod cut;
pub mod identity;
pub mod names;
pub mod recipients;
pub mod segment;
pub mod sign;

use crate::base::ids::BadId;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A recipient's text is not one.
    #[error("the recipient {text:?} cannot be used: {reason}")]
    Recipient {
        /// The recipient, a public key.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// age refused to encrypt.
    #[error("cannot encrypt to {to}")]
    Encrypt {
        /// To whom.
        to: String,
        /// Why.
        #[source]
        source: Box<age::EncryptError>,
    },
    /// Writing into memory failed, which age reports as an error of the system.
    #[error("cannot seal in memory")]
    Memory(#[source] std::io::Error),
    /// No identity at hand opens it.
    #[error("none of the identities given opens {thing}")]
    NoMatch {
        /// What was to be opened.
        thing: String,
    },
    /// It does not decrypt although an identity fits, or is no age file.
    #[error("{thing} does not decrypt")]
    Decrypt {
        /// What was to be opened.
        thing: String,
        /// Why.
        #[source]
        source: Box<age::DecryptError>,
    },
    /// What was decrypted is cut short or damaged.
    #[error("{thing} decrypts to damaged content")]
    Content {
        /// What was to be opened.
        thing: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What was decrypted is not what it should be.
    #[error("{thing} holds something else than expected: {reason}")]
    Unexpected {
        /// What was opened.
        thing: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An identity file cannot be read.
    #[error("cannot use the identity file {file}: {reason}")]
    IdentityFile {
        /// The file.
        file: String,
        /// Why not. Never quotes the file.
        reason: String,
    },
    /// A key file cannot be read.
    #[error(transparent)]
    File(#[from] crate::base::fsio::FileError),
    /// A signing key or signature is not one.
    #[error("{thing} is not valid: {reason}")]
    Signature {
        /// Which key or signature.
        thing: String,
        /// What is wrong.
        reason: String,
    },
    /// An identifier in a key file is malformed.
    #[error(transparent)]
    Id(#[from] BadId),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl SealError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Recipient { .. } => Some(
                "recipients are age1… (X25519), ssh-ed25519 … or age1<plugin>1…; `relay-backup keygen` makes one".into(),
            ),
            Self::NoMatch { .. } => {
                Some("give the identity of one of the policy's recipients with --identity FILE".into())
            }
            Self::IdentityFile { .. } => Some(
                "an identity file is what `relay-backup keygen` or `age-keygen` wrote, an OpenSSH ed25519 key, or either \
                 of them encrypted with a passphrase"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// Random bytes from the system.
pub fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(SealError::Random)?;
    Ok(bytes)
}
