//! Core Lightning's `emergency.recover`: opened with the key that `hsm_secret` gives, and read with strict bounds, so
//! that a file that would not help on the day is noticed on the day it was written. The peers' revoked secrets in it
//! are looked past, and the plaintext is wiped.

use crate::facts::cln::{EmergencyChannel, EmergencyContents, EmergencyLayout};
use crypto_secretstream::{Header, Key, PullStream, Tag};
use std::net::{Ipv4Addr, Ipv6Addr};
use zeroize::Zeroizing;

const HEADER_BYTES: usize = 24;
const OVERHEAD_BYTES: usize = 17;
const TYPE_LEGACY: u16 = 6135;
const TYPE_MODERN: u16 = 6137;
/// Bits of the version that a reader must know; the others are optional.
const VERSION_MASK: u64 = 0x5555_5555_5555_5555;
const VERSION: u64 = 1;
/// The index of a shachain from which nothing was revealed yet; the indexes count down from there.
const SHACHAIN_START: u64 = 1 << 48;
/// A shachain keeps at most one secret per bit of its index, and one more.
const SHACHAIN_KNOWN_MAX: u32 = 49;

/// Why an `emergency.recover` could not be opened or read.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum EmergencyError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Shorter than the header and the seal.
    #[error("it has {length} bytes, and the shortest has 57")]
    TooShort {
        /// Its length in bytes.
        length: usize,
    },
    /// The seal does not fit: another secret, or damage.
    #[error("it does not open with this hsm_secret: it belongs to another one, or it is damaged")]
    Sealed,
    /// Its plaintext has another type than the two known.
    #[error("its content has message type {found}, and only 6135 and 6137 are known")]
    Type {
        /// The type found.
        found: u16,
    },
    /// Its plaintext has a version this program must not read.
    #[error("its content has version {found}, which this program does not know")]
    Version {
        /// The version found.
        found: u64,
    },
    /// It ends too early.
    #[error("its content ends in the middle of {what}")]
    Ends {
        /// What was being read.
        what: &'static str,
    },
    /// More follows than it announces.
    #[error("its content has {bytes} bytes more than it announces")]
    Trailing {
        /// How many bytes.
        bytes: usize,
    },
    /// A value that cannot be.
    #[error("its content has an impossible {what}")]
    Impossible {
        /// What was being read.
        what: &'static str,
    },
}

/// Opens and reads the file's bytes.
pub(super) fn open(file: &[u8], key: &[u8; 32]) -> Result<EmergencyContents, EmergencyError> {
    parse(&decrypt(file, key)?)
}

fn decrypt(file: &[u8], key: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, EmergencyError> {
    if file.is_empty() {
        return Err(EmergencyError::Empty);
    }
    if file.len() < HEADER_BYTES + OVERHEAD_BYTES {
        return Err(EmergencyError::TooShort { length: file.len() });
    }
    let (header, sealed) = file.split_at(HEADER_BYTES);
    let header = Header::try_from(header).map_err(|_| EmergencyError::TooShort { length: file.len() })?;
    let mut plaintext = Zeroizing::new(sealed.to_vec());
    let tag = PullStream::init(header, &Key::from(*key)).pull(&mut *plaintext, b"");
    match tag {
        Ok(Tag::Message) => Ok(plaintext),
        _ => Err(EmergencyError::Sealed),
    }
}

/// Reads a plaintext.
fn parse(plaintext: &[u8]) -> Result<EmergencyContents, EmergencyError> {
    let mut reader = Reader { rest: plaintext };
    let layout = match reader.u16("the message type")? {
        TYPE_LEGACY => EmergencyLayout::Legacy,
        TYPE_MODERN => EmergencyLayout::Modern,
        found => return Err(EmergencyError::Type { found }),
    };
    let version = reader.u64("the version")?;
    if (version ^ VERSION) & VERSION_MASK != 0 {
        return Err(EmergencyError::Version { found: version });
    }
    let written = reader.u32("the time")?;
    let count = reader.u16("the number of channels")?;
    let mut channels = Vec::new();
    for _ in 0..count {
        channels.push(channel(&mut reader, layout)?);
    }
    match reader.rest.len() {
        0 => Ok(EmergencyContents { layout, version, written, channels }),
        bytes => Err(EmergencyError::Trailing { bytes }),
    }
}

fn channel(reader: &mut Reader<'_>, layout: EmergencyLayout) -> Result<EmergencyChannel, EmergencyError> {
    let dbid = reader.u64("a channel's row")?;
    let channel_id = hex::encode(reader.take(32, "a channel id")?);
    let peer_id = hex::encode(reader.take(33, "a peer's node id")?);
    if layout == EmergencyLayout::Legacy {
        reader.take(1, "a channel's unused byte")?;
    }
    let address = address(reader)?;
    let txid = reader.take(32, "a funding transaction")?;
    let output = reader.u32("a funding output")?;
    let funding = outpoint(txid, u64::from(output));
    let funding_sat = reader.u64("a funding amount")?;
    let type_bytes = reader.u16("the length of a channel type")?;
    let channel_type = hex::encode(reader.take(usize::from(type_bytes), "a channel type")?);
    let mut further = Further::default();
    if layout == EmergencyLayout::Modern {
        let length = reader.u32("the length of a channel's further fields")?;
        let length = usize::try_from(length).map_err(|_| EmergencyError::Impossible { what: "length" })?;
        further = further_fields(reader.take(length, "a channel's further fields")?)?;
    }
    let Further { revocations, opened_by_us } = further;
    Ok(EmergencyChannel {
        channel_id,
        dbid,
        peer_id,
        address,
        funding,
        funding_sat,
        channel_type,
        revocations,
        opened_by_us,
    })
}

/// What the type-length-value fields of a channel tell.
#[derive(Default)]
struct Further {
    revocations: Option<u64>,
    opened_by_us: Option<bool>,
}

fn further_fields(bytes: &[u8]) -> Result<Further, EmergencyError> {
    let mut reader = Reader { rest: bytes };
    let mut further = Further::default();
    let mut last = None;
    while !reader.rest.is_empty() {
        let kind = reader.big_size("a field's type")?;
        if last.is_some_and(|last| kind <= last) {
            return Err(EmergencyError::Impossible { what: "order of fields" });
        }
        last = Some(kind);
        let length = reader.big_size("a field's length")?;
        let length = usize::try_from(length).map_err(|_| EmergencyError::Ends { what: "a field" })?;
        let mut value = Reader { rest: reader.take(length, "a field")? };
        match kind {
            1 => further.revocations = Some(shachain(&mut value)?),
            3 => drop(value.take(4 * 33, "the peer's base points")?),
            5 => {
                further.opened_by_us = Some(match value.u8("the opener")? {
                    0 => true,
                    1 => false,
                    _ => return Err(EmergencyError::Impossible { what: "opener" }),
                });
            }
            7 => drop(value.u16("the delay")?),
            // Fields of a later version are looked past: what is known of the channel stays true.
            _ => continue,
        }
        if !value.rest.is_empty() {
            return Err(EmergencyError::Impossible { what: "length of a field" });
        }
    }
    Ok(further)
}

/// How many commitments the peer has revoked.
fn shachain(reader: &mut Reader<'_>) -> Result<u64, EmergencyError> {
    let least = reader.u64("a shachain's index")?;
    let known = reader.u32("a shachain's count")?;
    if least > SHACHAIN_START || known > SHACHAIN_KNOWN_MAX {
        return Err(EmergencyError::Impossible { what: "shachain" });
    }
    for _ in 0..known {
        reader.take(8 + 32, "a shachain's secrets")?;
    }
    Ok(SHACHAIN_START - least)
}

/// How many commitments were revoked, from a shachain's least index; `None` for an index that cannot be.
pub(super) fn revocations(least_index: i64) -> Option<u64> {
    SHACHAIN_START.checked_sub(u64::try_from(least_index).ok()?)
}

/// A stored wire address as `host:port`; `None` when it is in no known form.
pub(super) fn stored_address(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader { rest: bytes };
    let text = address(&mut reader).ok()?;
    reader.rest.is_empty().then_some(text)
}

/// A funding output the way explorers print it: the transaction's bytes reversed.
pub(super) fn outpoint(txid: &[u8], output: u64) -> String {
    format!("{}:{output}", reversed_hex(txid))
}

/// Bytes in reversed order, in hexadecimal: how transactions and blocks are printed.
pub(super) fn reversed_hex(bytes: &[u8]) -> String {
    hex::encode(bytes.iter().rev().copied().collect::<Vec<_>>())
}

fn address(reader: &mut Reader<'_>) -> Result<String, EmergencyError> {
    let host = match reader.u8("an address")? {
        1 => Ipv4Addr::from(reader.array::<4>("an IPv4 address")?).to_string(),
        2 => format!("[{}]", Ipv6Addr::from(reader.array::<16>("an IPv6 address")?)),
        4 => format!("{}.onion", base32(reader.take(35, "a Tor address")?)),
        5 => {
            let length = reader.u8("a host name's length")?;
            let name = reader.take(usize::from(length), "a host name")?;
            let plain = name.iter().all(|byte| byte.is_ascii_graphic());
            match std::str::from_utf8(name) {
                Ok(name) if plain && !name.is_empty() => name.to_owned(),
                _ => return Err(EmergencyError::Impossible { what: "host name" }),
            }
        }
        _ => return Err(EmergencyError::Impossible { what: "kind of address" }),
    };
    Ok(format!("{host}:{}", reader.u16("a port")?))
}

/// Base32 of RFC 4648 in lower case, for lengths that need no padding.
fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0u32);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(DIGITS[((held >> bits) & 31) as usize]));
        }
    }
    text
}

/// Takes values off the front; every one is bounded by what is there.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], EmergencyError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(EmergencyError::Ends { what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], EmergencyError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(EmergencyError::Ends { what })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, EmergencyError> {
        self.array(what).map(u8::from_be_bytes)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, EmergencyError> {
        self.array(what).map(u16::from_be_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, EmergencyError> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, EmergencyError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// A number of BOLT 1's variable length, in its shortest form.
    fn big_size(&mut self, what: &'static str) -> Result<u64, EmergencyError> {
        let (value, least) = match self.u8(what)? {
            0xfd => (u64::from(self.u16(what)?), 0xfd),
            0xfe => (u64::from(self.u32(what)?), 0x1_0000),
            0xff => (self.u64(what)?, 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < least {
            return Err(EmergencyError::Impossible { what });
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto_secretstream::Stream;
    use crypto_secretstream::aead::AeadInPlace;
    use proptest::prelude::*;

    /// The plaintext the vendor's test of the old layout describes: one channel of node lightning-1.
    fn legacy() -> Vec<u8> {
        let mut bytes = vec![0x17, 0xf7];
        bytes.extend(1u64.to_be_bytes());
        bytes.extend(0x67b4_c103_u32.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes.extend(1u64.to_be_bytes());
        bytes.extend([0x34; 32]);
        bytes.extend(hex::decode("022d223620a359a47ff7f7ac447c85c46c923da53389221a0054c11c1e3ca31d59").unwrap());
        bytes.push(0);
        bytes.extend([1, 127, 0, 0, 1]);
        bytes.extend(52482u16.to_be_bytes());
        bytes.extend((0..32).collect::<Vec<u8>>());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(1_000_000u64.to_be_bytes());
        bytes.extend([0, 3, 0x40, 0x10, 0x00]);
        bytes
    }

    /// A modern plaintext with one channel that has this address and these further fields.
    fn modern(address: &[u8], further: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x17, 0xf9];
        bytes.extend(1u64.to_be_bytes());
        bytes.extend(7u32.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes.extend(9u64.to_be_bytes());
        bytes.extend([0xaa; 32]);
        bytes.extend([2; 33]);
        bytes.extend(address);
        bytes.extend([0xbb; 32]);
        bytes.extend(3u32.to_be_bytes());
        bytes.extend(5u64.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(u32::try_from(further.len()).unwrap().to_be_bytes());
        bytes.extend(further);
        bytes
    }

    fn seal(plaintext: &[u8], key: &[u8; 32]) -> Vec<u8> {
        let header = [7u8; HEADER_BYTES];
        let stream = Stream::init(&Key::from(*key), Header::try_from(&header[..]).unwrap());
        let nonce = [1, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7];
        let mut sealed = [&[0u8][..], plaintext].concat();
        let mac = stream.encrypt_in_place_detached((&nonce).into(), b"", &mut sealed).unwrap();
        [&header[..], &sealed, &mac].concat()
    }

    #[test]
    fn the_legacy_layout_is_read() {
        let plaintext = legacy();
        assert_eq!(plaintext.len(), 146, "as long as the vendor's");
        let file = seal(&plaintext, &[9; 32]);
        assert_eq!(file.len(), 187, "as long as the vendor's");
        let contents = open(&file, &[9; 32]).unwrap();
        assert_eq!(contents.layout, EmergencyLayout::Legacy);
        assert_eq!(contents.written, 0x67b4_c103);
        let channel = &contents.channels[0];
        assert_eq!((channel.dbid, channel.funding_sat), (1, 1_000_000));
        assert_eq!(channel.address, "127.0.0.1:52482");
        assert_eq!(channel.channel_type, "401000");
        assert_eq!(channel.funding, "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100:0");
        assert_eq!((channel.revocations, channel.opened_by_us), (None, None));
        assert_eq!(open(&file, &[8; 32]), Err(EmergencyError::Sealed));
    }

    #[test]
    fn every_kind_of_address_is_printed() {
        let channel =
            |address: &[u8]| parse(&modern(address, &[])).map(|contents| contents.channels[0].address.clone());
        let v6 = [&[2][..], &Ipv6Addr::LOCALHOST.octets(), &9735u16.to_be_bytes()].concat();
        assert_eq!(channel(&v6).unwrap(), "[::1]:9735");
        let tor = [&[4][..], &[0; 35], &9735u16.to_be_bytes()].concat();
        assert_eq!(channel(&tor).unwrap(), format!("{}.onion:9735", "a".repeat(56)));
        let name = [&[5, 11][..], b"example.com", &9735u16.to_be_bytes()].concat();
        assert_eq!(channel(&name).unwrap(), "example.com:9735");
        let hostile = [&[5, 3][..], b"a\nb", &9735u16.to_be_bytes()].concat();
        assert_eq!(channel(&hostile), Err(EmergencyError::Impossible { what: "host name" }));
        assert_eq!(channel(&[3, 0, 0]), Err(EmergencyError::Impossible { what: "kind of address" }));
        assert_eq!(base32(b"fooba"), "mzxw6ytb", "RFC 4648");
    }

    #[test]
    fn further_fields_are_bounded_and_later_ones_looked_past() {
        let v4 = [1, 10, 0, 0, 1, 0x26, 0x07];
        let read = |further: &[u8]| parse(&modern(&v4, further)).map(|contents| contents.channels[0].clone());
        let mut shachain = vec![1, 12];
        shachain.extend((SHACHAIN_START - 40).to_be_bytes());
        shachain.extend(0u32.to_be_bytes());
        assert_eq!(read(&shachain).unwrap().revocations, Some(40));
        let with_later = [&shachain[..], &[5, 1, 1, 8, 2, 0, 0, 9, 0]].concat();
        let channel = read(&with_later).unwrap();
        assert_eq!((channel.revocations, channel.opened_by_us), (Some(40), Some(false)));
        assert_eq!(read(&[5, 1, 2]), Err(EmergencyError::Impossible { what: "opener" }));
        assert_eq!(read(&[5, 2, 0, 0]), Err(EmergencyError::Impossible { what: "length of a field" }));
        assert_eq!(read(&[7, 2, 0, 6, 5, 1, 0]), Err(EmergencyError::Impossible { what: "order of fields" }));
        assert_eq!(read(&[1, 200]), Err(EmergencyError::Ends { what: "a field" }));
        let mut greedy = vec![1, 12];
        greedy.extend(SHACHAIN_START.to_be_bytes());
        greedy.extend(u32::MAX.to_be_bytes());
        assert_eq!(read(&greedy), Err(EmergencyError::Impossible { what: "shachain" }));
    }

    #[test]
    fn damaged_and_foreign_contents_are_refused() {
        let key = [1; 32];
        assert_eq!(open(&[], &key), Err(EmergencyError::Empty));
        assert_eq!(open(&[0; 40], &key), Err(EmergencyError::TooShort { length: 40 }));
        let whole = legacy();
        let mut flipped = seal(&whole, &key);
        flipped[60] ^= 1;
        assert_eq!(open(&flipped, &key), Err(EmergencyError::Sealed));
        let mut other_type = whole.clone();
        other_type[1] = 0xf8;
        assert_eq!(parse(&other_type), Err(EmergencyError::Type { found: 6136 }));
        let mut other_version = whole.clone();
        other_version[9] = 4;
        assert_eq!(parse(&other_version), Err(EmergencyError::Version { found: 4 }));
        let mut optional_bit = whole.clone();
        optional_bit[9] = 3;
        assert!(parse(&optional_bit).is_ok());
        assert_eq!(parse(&[&whole[..], &[0]].concat()), Err(EmergencyError::Trailing { bytes: 1 }));
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "cut after {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(parse(&bytes));
            prop_assert!(open(&bytes, &[3; 32]).is_err());
        }

        #[test]
        fn no_damaged_content_makes_it_panic(
            further in proptest::collection::vec(any::<u8>(), 0..60), at in 0usize..150, value: u8,
        ) {
            let mut bytes = modern(&[1, 10, 0, 0, 1, 0x26, 0x07], &further);
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(contents) = parse(&bytes) {
                prop_assert!(contents.channels.len() <= bytes.len() / 100);
            }
        }
    }
}
