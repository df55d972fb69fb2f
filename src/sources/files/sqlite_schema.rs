//! The names of a SQLite file's tables, read from its pages directly (sqlite.org "Database File Format"). SQLite itself
//! is not asked: opening a live database would take a lock on it, or create files beside it. What cannot be read
//! consistently is `None`, never a guess.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Most pages of the schema that are read; a wallet's has about ten.
const PAGES_MAX: usize = 4096;

/// Whether the file begins like a SQLite database.
pub(super) fn is_sqlite(file: &File) -> bool {
    let mut head = [0; 16];
    file.read_exact_at(&mut head, 0).is_ok() && &head == MAGIC
}

/// The names of all tables, in lower case.
pub(super) fn tables(file: &File) -> Option<HashSet<String>> {
    let mut head = [0; 100];
    file.read_exact_at(&mut head, 0).ok()?;
    let page_size = match be16(&head, 16)? {
        1 => 65536,
        size if size >= 512 && size.is_power_of_two() => usize::from(size),
        _ => return None,
    };
    let usable = page_size.checked_sub(usize::from(*head.get(20)?))?;
    if usable < 480 {
        return None;
    }
    let mut names = HashSet::new();
    let mut waiting = vec![1_u32];
    let mut seen = HashSet::new();
    while let Some(number) = waiting.pop() {
        if !seen.insert(number) || seen.len() > PAGES_MAX {
            return None;
        }
        let mut page = vec![0; page_size];
        file.read_exact_at(&mut page, u64::from(number.checked_sub(1)?) * page_size as u64).ok()?;
        read_page(&page, if number == 1 { 100 } else { 0 }, usable, &mut waiting, &mut names)?;
    }
    Some(names)
}

fn read_page(
    page: &[u8],
    start: usize,
    usable: usize,
    waiting: &mut Vec<u32>,
    names: &mut HashSet<String>,
) -> Option<()> {
    const INTERIOR: u8 = 5;
    const LEAF: u8 = 13;
    let kind = *page.get(start)?;
    let cells = usize::from(be16(page, start + 3)?);
    let pointers = match kind {
        INTERIOR => {
            waiting.push(be32(page, start + 8)?);
            start + 12
        }
        LEAF => start + 8,
        _ => return None,
    };
    for cell in 0..cells {
        let at = usize::from(be16(page, pointers + 2 * cell)?);
        if kind == INTERIOR {
            waiting.push(be32(page, at)?);
        } else {
            names.extend(table_of(page, at, usable)?);
        }
    }
    Some(())
}

/// The table's name in one row of the schema, if the row is a table's.
fn table_of(page: &[u8], at: usize, usable: usize) -> Option<Option<String>> {
    let (payload, at) = varint(page, at)?;
    let (_row, at) = varint(page, at)?;
    let payload = usize::try_from(payload).ok()?;
    // What lies in this page; the rest of a long row (its SQL) is elsewhere and not needed.
    let local = if payload <= usable - 35 {
        payload
    } else {
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (payload - least) % (usable - 4);
        if fitting <= usable - 35 { fitting } else { least }
    };
    let row = page.get(at..at.checked_add(local)?)?;
    let (header, mut next) = varint(row, 0)?;
    let (type_code, after) = varint(row, next)?;
    next = after;
    let (name_code, _) = varint(row, next)?;
    let body = usize::try_from(header).ok()?;
    let type_length = text_length(type_code)?;
    let name_length = text_length(name_code)?;
    let name_at = body.checked_add(type_length)?;
    let kind = row.get(body..name_at)?;
    let name = row.get(name_at..name_at.checked_add(name_length)?)?;
    Some((plain(kind) == "table").then(|| plain(name)))
}

/// Text in any of SQLite's encodings; the names that matter are ASCII.
fn plain(bytes: &[u8]) -> String {
    let bytes: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).to_ascii_lowercase()
}

fn text_length(code: u64) -> Option<usize> {
    if code >= 13 && code % 2 == 1 { usize::try_from((code - 13) / 2).ok() } else { None }
}

/// SQLite's big-endian number of one to nine bytes; and where the next thing begins.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value: u64 = 0;
    for count in 0..8 {
        let byte = *bytes.get(at + count)?;
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + count + 1));
        }
    }
    Some(((value << 8) | u64::from(*bytes.get(at + 8)?), at + 9))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
