//! The names of a bolt file's top-level buckets, read from its pages directly (go.etcd.io/bbolt, `page.go`,
//! `bucket.go`): LND's databases of its default kind. What cannot be read consistently is `None`, never a guess.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: u32 = 0xED0C_DAED;
const PAGE_HEADER: usize = 16;
const META_LENGTH: usize = 64;
/// Page sizes that systems use; the second meta page is looked for at each.
const PAGE_SIZES: [u64; 7] = [1024, 2048, 4096, 8192, 16384, 32768, 65536];
/// Most pages of the root bucket that are read.
const PAGES_MAX: usize = 4096;
/// Largest page with its overflow that is read, in bytes.
const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

struct Meta {
    page_size: u64,
    root: u64,
    transaction: u64,
}

/// Whether the file has a bolt meta page in the first or second place.
pub(super) fn is_bolt(file: &File) -> bool {
    std::iter::once(0).chain(PAGE_SIZES).any(|at| {
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, at + PAGE_HEADER as u64).is_ok() && u32::from_le_bytes(magic) == MAGIC
    })
}

/// The names of all top-level buckets.
pub(super) fn buckets(file: &File) -> Option<HashSet<Vec<u8>>> {
    let metas = std::iter::once(0).chain(PAGE_SIZES).filter_map(|at| meta_at(file, at));
    let meta = metas.max_by_key(|meta| meta.transaction)?;
    let mut names = HashSet::new();
    let mut waiting = vec![meta.root];
    let mut seen = HashSet::new();
    while let Some(number) = waiting.pop() {
        if !seen.insert(number) || seen.len() > PAGES_MAX {
            return None;
        }
        read_page(file, &meta, number, &mut waiting, &mut names)?;
    }
    Some(names)
}

/// The meta page at this place, if it is one and its checksum (64-bit FNV-1a) is right.
fn meta_at(file: &File, at: u64) -> Option<Meta> {
    let mut bytes = [0; META_LENGTH];
    file.read_exact_at(&mut bytes, at.checked_add(PAGE_HEADER as u64)?).ok()?;
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes.get(..56)? {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let page_size = u64::from(le32(&bytes, 8)?);
    let fits = le32(&bytes, 0)? == MAGIC && le64(&bytes, 56)? == sum && PAGE_SIZES.contains(&page_size);
    (fits && (at == 0 || at == page_size)).then_some(Meta {
        page_size,
        root: le64(&bytes, 16)?,
        transaction: le64(&bytes, 48)?,
    })
}

fn read_page(
    file: &File,
    meta: &Meta,
    number: u64,
    waiting: &mut Vec<u64>,
    names: &mut HashSet<Vec<u8>>,
) -> Option<()> {
    const BRANCH: u16 = 1;
    const LEAF: u16 = 2;
    const BUCKET: u32 = 1;
    let at = number.checked_mul(meta.page_size)?;
    let mut header = [0; PAGE_HEADER];
    file.read_exact_at(&mut header, at).ok()?;
    let (flags, count) = (le16(&header, 8)?, usize::from(le16(&header, 10)?));
    let length = (u64::from(le32(&header, 12)?) + 1).checked_mul(meta.page_size)?;
    if le64(&header, 0)? != number || length > PAGE_BYTES_MAX {
        return None;
    }
    let mut page = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut page, at).ok()?;
    for element in 0..count {
        let at = PAGE_HEADER + 16 * element;
        match flags {
            BRANCH => waiting.push(le64(&page, at + 8)?),
            LEAF => {
                let key_at = at.checked_add(usize::try_from(le32(&page, at + 4)?).ok()?)?;
                let key_length = usize::try_from(le32(&page, at + 8)?).ok()?;
                let key = page.get(key_at..key_at.checked_add(key_length)?)?;
                if le32(&page, at)? & BUCKET != 0 {
                    names.insert(key.to_vec());
                }
            }
            _ => return None,
        }
    }
    (flags == BRANCH || flags == LEAF).then_some(())
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
