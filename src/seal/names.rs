//! The node's dedup key, and what is derived from it: segment ids and the table that decides where artifacts are cut.
//! Without the key neither ids nor lengths tell anything about content.

use super::{SealError, random};
use crate::artifact::Codec;
use crate::base::ids::{EpochId, SegmentId};
use crate::base::secret::Secret;

/// The node's random 32-byte dedup key.
#[derive(Clone, Debug)]
pub struct DedupKey(Secret);

impl DedupKey {
    /// A new random key.
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self(Secret::new(random::<32>()?.to_vec())))
    }

    /// From its 64 hexadecimal digits; an error that does not repeat them.
    pub fn from_hex(text: &Secret) -> Result<Self, SealError> {
        let bad = || SealError::Unexpected { thing: "the dedup key".into(), reason: "64 hexadecimal digits expected" };
        let digits = std::str::from_utf8(text.expose()).map_err(|_| bad())?.trim();
        let bytes = Secret::new(hex::decode(digits).map_err(|_| bad())?);
        if bytes.len() != 32 {
            return Err(bad());
        }
        Ok(Self(bytes))
    }

    /// Its 64 hexadecimal digits.
    pub fn to_hex(&self) -> Secret {
        Secret::from(hex::encode(self.0.expose()))
    }

    /// The id of a segment: BLAKE3 keyed with this key over codec, epoch and plaintext, so that the same content is
    /// sealed anew in another epoch or with another codec.
    pub fn segment_id(&self, codec: Codec, epoch: &EpochId, plaintext: &[u8]) -> SegmentId {
        let mut hasher = self.hasher();
        hasher.update(codec.as_str().as_bytes()).update(b"\0").update(epoch.as_str().as_bytes()).update(b"\0");
        hasher.update(plaintext);
        SegmentId::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The gear table for content-defined cutting: 256 words that nobody without the key can know.
    pub fn gear_table(&self) -> [u64; 256] {
        let mut hasher = self.hasher();
        hasher.update(b"relay-backup gear table 1");
        let mut reader = hasher.finalize_xof();
        let mut table = [0u64; 256];
        for word in &mut table {
            let mut bytes = [0u8; 8];
            reader.fill(&mut bytes);
            *word = u64::from_le_bytes(bytes);
        }
        table
    }

    fn hasher(&self) -> blake3::Hasher {
        let mut key = [0u8; 32];
        key.copy_from_slice(self.0.expose());
        let hasher = blake3::Hasher::new_keyed(&key);
        zeroize::Zeroize::zeroize(&mut key);
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DedupKey {
        DedupKey::from_hex(&Secret::from(hex::encode([byte; 32]))).unwrap()
    }

    #[test]
    fn an_id_depends_on_key_codec_epoch_and_content() {
        let epoch: EpochId = "20261120-00000001".parse().unwrap();
        let next: EpochId = "20261120-00000002".parse().unwrap();
        let id = key(1).segment_id(Codec::Zstd, &epoch, b"content");
        assert_eq!(id, key(1).segment_id(Codec::Zstd, &epoch, b"content"));
        assert_ne!(id, key(2).segment_id(Codec::Zstd, &epoch, b"content"));
        assert_ne!(id, key(1).segment_id(Codec::Gzip, &epoch, b"content"));
        assert_ne!(id, key(1).segment_id(Codec::Zstd, &next, b"content"));
        assert_ne!(id, key(1).segment_id(Codec::Zstd, &epoch, b"content."));
    }

    #[test]
    fn the_gear_table_depends_on_the_key() {
        assert_eq!(key(1).gear_table(), key(1).gear_table());
        let (one, two) = (key(1).gear_table(), key(2).gear_table());
        assert!(one.iter().zip(&two).all(|(left, right)| left != right));
        let difference = one[0] ^ two[0];
        assert!(one.iter().zip(&two).any(|(left, right)| left ^ right != difference), "not one constant apart");
    }

    #[test]
    fn a_bad_key_is_refused_without_repeating_it() {
        let error = DedupKey::from_hex(&Secret::from("0011zz".to_owned())).unwrap_err();
        assert!(!error.to_string().contains("0011"));
    }
}
