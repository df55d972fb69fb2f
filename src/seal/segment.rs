//! One segment: compress, then encrypt to the epoch; decrypt, then decompress. A sealed segment is one age file.

use super::SealError;
use super::codec::{Compressor, decompress};
use super::identity::{EpochIdentity, EpochRecipient};
use crate::artifact::Codec;
use crate::base::ids::Sha256Hex;
use crate::base::limits::OBJECT_BYTES_MAX;

/// A sealed segment: the bytes of an object and its name.
#[derive(Debug)]
pub struct Sealed {
    /// SHA-256 of the bytes: the object's name.
    pub object: Sha256Hex,
    /// The age file.
    pub bytes: Vec<u8>,
}

/// Seals one segment.
pub fn seal(
    compressor: &mut Compressor,
    codec: Codec,
    epoch: &EpochRecipient,
    plaintext: &[u8],
) -> Result<Sealed, SealError> {
    let packed = compressor.compress(codec, plaintext).map_err(SealError::Memory)?;
    let bytes = epoch.seal(&packed)?;
    assert!(bytes.len() <= OBJECT_BYTES_MAX, "a sealed segment keeps within its limit");
    Ok(Sealed { object: Sha256Hex::of(&bytes), bytes })
}

/// Opens one sealed segment. Whether its content is the right one is for the caller to check, by its id.
pub fn open(codec: Codec, epoch: &EpochIdentity, sealed: &[u8], thing: &str) -> Result<Vec<u8>, SealError> {
    let packed = epoch.decrypt(sealed, thing)?;
    decompress(codec, &packed).map_err(|source| SealError::Content { thing: thing.to_owned(), source })
}
