//! The numbers and rules of docs/FORMAT.md, computed again from that text alone and held against the program.

use super::read;
use relay_backup::artifact::Codec;
use relay_backup::base::limits;
use relay_backup::base::secret::Secret;
use relay_backup::seal::cut::{Cutter, Knife};
use relay_backup::seal::names::DedupKey;

const MASK_BELOW: u64 = 0x0000_d917_6753_7000;
const MASK_ABOVE: u64 = 0x0000_d917_0753_7000;

/// Cuts as docs/FORMAT.md says.
fn cut(content: &[u8], gear: &[u64; 256]) -> Vec<usize> {
    let (mut lengths, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let end = rest.len().min(4_194_304);
        let mut h = 0u64;
        let mut length = end;
        for (p, byte) in rest.iter().enumerate().take(end).skip(262_144) {
            h = h.wrapping_mul(2).wrapping_add(gear[usize::from(*byte)]);
            let mask = if p <= 1_048_575 { MASK_BELOW } else { MASK_ABOVE };
            if h & mask == 0 {
                length = p;
                break;
            }
        }
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

fn gear(key: &[u8; 32]) -> [u64; 256] {
    let mut bytes = vec![0u8; 2048];
    blake3::Hasher::new_keyed(key).update(b"relay-backup gear table 1").finalize_xof().fill(&mut bytes);
    let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    std::array::from_fn(|_| words.next().unwrap())
}

#[test]
fn cutting_is_as_described() {
    let key = [7u8; 32];
    let dedup = DedupKey::from_hex(&Secret::from(hex::encode(key))).unwrap();
    assert_eq!(dedup.gear_table(), gear(&key));
    let mut content = vec![0u8; 30_000_001];
    blake3::Hasher::new_keyed(&key).update(b"content").finalize_xof().fill(&mut content);
    // A stretch without any place to cut.
    content[8_000_000..20_000_000].fill(0);
    let mut lengths = Vec::new();
    let mut cutter = Cutter::new(Knife::new(dedup.gear_table()));
    let mut take = |segment: &[u8]| {
        lengths.push(segment.len());
        Ok::<_, ()>(())
    };
    cutter.push(&content, &mut take).unwrap();
    cutter.finish(&mut take).unwrap();
    assert_eq!(lengths, cut(&content, &gear(&key)));
    assert!(lengths.contains(&4_194_304) && lengths.iter().any(|length| (262_144..4_194_304).contains(length)));
}

#[test]
fn segment_ids_are_as_described() {
    let key = [9u8; 32];
    let dedup = DedupKey::from_hex(&Secret::from(hex::encode(key))).unwrap();
    let id = dedup.segment_id(Codec::Zstd, &"20261120-9f86d081".parse().unwrap(), b"plaintext");
    let mut by_hand = blake3::Hasher::new_keyed(&key);
    by_hand.update(b"zstd\x0020261120-9f86d081\0plaintext");
    assert_eq!(id.as_str(), by_hand.finalize().to_hex().as_str());
}

#[test]
fn the_limits_named_are_those_of_the_program() {
    let text = read("docs/FORMAT.md");
    let grouped = |number: usize| {
        let digits = number.to_string();
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        out
    };
    for limit in [
        limits::SEGMENT_BYTES_MIN,
        limits::SEGMENT_BYTES_AVERAGE,
        limits::SEGMENT_BYTES_MAX,
        limits::OBJECT_BYTES_MAX,
        limits::ARTIFACTS_MAX,
        limits::SEGMENTS_MAX,
        usize::try_from(limits::PRECIOUS_BYTES_MAX).unwrap(),
    ] {
        assert!(text.contains(&grouped(limit)), "{} is not in docs/FORMAT.md", grouped(limit));
    }
    for mask in [MASK_BELOW, MASK_ABOVE] {
        assert!(text.contains(&format!("{mask:#018x}")), "{mask:#018x}");
    }
    assert!(text.contains("768 MiB") && limits::MANIFEST_BYTES_MAX == 768 << 20);
    assert!(text.contains("at most 512 bytes and 8 parts"));
    assert_eq!((limits::OBJECT_KEY_BYTES_MAX, limits::OBJECT_KEY_PARTS_MAX), (512, 8));
}
