//! Compression of one segment: one gzip member, one zstd frame, or nothing. Members and frames of consecutive
//! segments concatenate to a valid `.gz` or `.zst` stream.

use crate::artifact::Codec;
use crate::base::limits::SEGMENT_BYTES_MAX;
use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// zstd's level: the fastest ordinary one; on a dump it stores less than gzip's level 6 does.
const ZSTD_LEVEL: i32 = 1;
/// gzip's level for zlib-rs.
const GZIP_LEVEL: u32 = 3;

/// A compressor that keeps its working memory from one segment to the next; one per thread.
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
}

impl Compressor {
    /// Sets the compressor up.
    pub fn new() -> io::Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        zstd.include_checksum(true)?;
        Ok(Self { zstd })
    }

    /// Compresses one segment.
    pub fn compress(&mut self, codec: Codec, plaintext: &[u8]) -> io::Result<Vec<u8>> {
        match codec {
            Codec::None => Ok(plaintext.to_vec()),
            Codec::Zstd => self.zstd.compress(plaintext),
            Codec::Gzip => {
                let mut encoder = flate2::GzBuilder::new()
                    .mtime(0)
                    .write(Vec::with_capacity(plaintext.len() / 2 + 64), flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(plaintext)?;
                encoder.finish()
            }
        }
    }
}

/// Decompresses one segment. More than a segment may hold, a second member or frame, or bytes behind the end
/// are errors: whoever could write them would otherwise fill our memory.
pub fn decompress(codec: Codec, packed: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<Vec<u8>>> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "it expands to more than a segment may hold");
    match codec {
        Codec::None if packed.len() > SEGMENT_BYTES_MAX => Err(too_long()),
        Codec::None => Ok(packed),
        Codec::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed.as_slice())?.single_frame();
            let plaintext = read_bounded(&mut decoder).and_then(|bytes| bytes.ok_or_else(too_long))?;
            refuse_rest(decoder.finish())?;
            Ok(plaintext)
        }
        Codec::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(packed.as_slice());
            let plaintext = read_bounded(&mut decoder).and_then(|bytes| bytes.ok_or_else(too_long))?;
            refuse_rest(decoder.into_inner())?;
            Ok(plaintext)
        }
    }
}

fn read_bounded(reader: &mut dyn Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // What is outgrown is not wiped: small segments, and so small secrets, never outgrow it.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024 * 1024));
    reader.take(SEGMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= SEGMENT_BYTES_MAX).then_some(bytes))
}

fn refuse_rest(rest: &[u8]) -> io::Result<()> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the end of the compressed segment"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_codec_gives_back_what_it_took(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            twice in any::<bool>(),
        ) {
            for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
                let mut compressor = Compressor::new().unwrap();
                if twice {
                    compressor.compress(codec, b"something else before it").unwrap();
                }
                let packed = compressor.compress(codec, &bytes).unwrap();
                prop_assert_eq!(&*decompress(codec, Zeroizing::new(packed.clone())).unwrap(), &bytes);
                if codec != Codec::None {
                    prop_assert!(decompress(codec, Zeroizing::new(packed[..packed.len() - 1].to_vec())).is_err());
                    let mut longer = packed.clone();
                    longer.push(0);
                    prop_assert!(decompress(codec, Zeroizing::new(longer)).is_err());
                }
            }
        }

        #[test]
        fn damaged_input_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in [Codec::Gzip, Codec::Zstd] {
                prop_assert!(decompress(codec, Zeroizing::new(bytes.clone())).is_err());
            }
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0u8; SEGMENT_BYTES_MAX + 1];
        for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
            let packed = Compressor::new().unwrap().compress(codec, &zeros).unwrap();
            let error = decompress(codec, Zeroizing::new(packed)).unwrap_err();
            assert_eq!(error.to_string(), "it expands to more than a segment may hold");
        }
    }

    #[test]
    fn members_and_frames_concatenate() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut compressor = Compressor::new().unwrap();
            let mut stream = compressor.compress(codec, b"one ").unwrap();
            stream.extend(compressor.compress(codec, b"two").unwrap());
            let mut text = String::new();
            match codec {
                Codec::Gzip => flate2::read::MultiGzDecoder::new(&stream[..]).read_to_string(&mut text).unwrap(),
                _ => zstd::stream::read::Decoder::new(&stream[..]).unwrap().read_to_string(&mut text).unwrap(),
            };
            assert_eq!(text, "one two");
        }
    }
}
