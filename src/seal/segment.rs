//! One segment: compress, then encrypt to the epoch; decrypt, then decompress. A sealed segment is one age file.

use super::SealError;
use super::codec::{Compressor, decompress};
use super::identity::{EpochIdentity, EpochRecipient};
use crate::artifact::Codec;
use crate::base::ids::Sha256Hex;
use crate::base::limits::OBJECT_BYTES_MAX;
use zeroize::Zeroizing;

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
    let packed = Zeroizing::new(compressor.compress(codec, plaintext).map_err(SealError::Memory)?);
    let bytes = epoch.seal(&packed)?;
    assert!(bytes.len() <= OBJECT_BYTES_MAX, "a sealed segment keeps within its limit");
    Ok(Sealed { object: Sha256Hex::of(&bytes), bytes })
}

/// Opens one sealed segment; what is given is wiped when it is dropped.
/// Whether its content is the right one is for the caller to check, by its id.
pub fn open(codec: Codec, epoch: &EpochIdentity, sealed: &[u8], thing: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let packed = epoch.decrypt(sealed, thing)?;
    decompress(codec, packed).map_err(|source| SealError::Content { thing: thing.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::identity::{EpochIdentity, Identities, generate, new_epoch};
    use crate::seal::recipients::Recipients;
    use memchr::memmem;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const MASK: u8 = 0x5a;

    /// How often what is hidden behind the mask stands in this process's memory in clear.
    fn times_in_memory(masked: &[u8]) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut count = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (from, rest) = line.split_once('-').unwrap();
            let to = rest.split(' ').next().unwrap();
            let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).unwrap());
            let mut window = Zeroizing::new(vec![0; usize::try_from(to - from).unwrap().min(256 << 20)]);
            let Ok(length) = memory.read_at(&mut window, from) else { continue };
            window.iter_mut().for_each(|byte| *byte ^= MASK);
            count += memmem::find_iter(&window[..length], masked).count();
        }
        count
    }

    #[test]
    fn nothing_of_a_small_secret_stays_in_memory_once_its_segment_is_dropped() {
        let (key, recipient) = generate("2026-11-20T05:12:00Z".parse().unwrap());
        let recipients = Recipients::parse(&[recipient]).unwrap();
        let (epoch, sealed_key) = new_epoch(&recipients, "2026-11-20T05:12:00Z".parse().unwrap()).unwrap();
        let identities = Identities::parse(&key, "key").unwrap();
        let identity = EpochIdentity::open(epoch.id.clone(), &sealed_key, &identities).unwrap();
        // Never written in clear by the test itself, but for the moment in which it is sealed.
        let masked: Vec<u8> = (0..120_u8).map(|number| number.wrapping_mul(31) ^ 0xc3).collect();
        let sealed = {
            let clear = Zeroizing::new(masked.iter().map(|byte| byte ^ MASK).collect::<Vec<u8>>());
            seal(&mut Compressor::new().unwrap(), Codec::None, &epoch, &clear).unwrap()
        };
        let opened = open(Codec::None, &identity, &sealed.bytes, "it").unwrap();
        assert!(times_in_memory(&masked) >= 1, "the search finds what is there");
        drop(opened);
        assert_eq!(times_in_memory(&masked), 0);
    }
}
