//! Files that only begin like a database: what SQLite itself refuses by its first 100 bytes (sqlite.org "Database File
//! Format", 1.3; `btree.c`, `lockBtree`) is none, whatever follows, and is taken and given back byte for byte. Whoever
//! may upload a file could otherwise keep the others from being backed up. A database that is only damaged further on
//! is not told by this.

use super::Content;
use super::screen::content;
use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8] = b"SQLite format 3\0";

/// Judges a file that nobody else uses, by its content alone, as [`content`] does; what only begins like a database is
/// harmless.
pub fn placed_content(file: &File) -> Content {
    match content(file) {
        Content::Unclear(_) if is_no_database(file) => Content::Harmless,
        judged => judged,
    }
}

/// Whether SQLite refuses the file by its header.
pub(super) fn is_no_database(file: &File) -> bool {
    let mut head = [0; 100];
    let mut length = 0;
    while let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    let page_size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65536,
        size if size >= 512 && size.is_power_of_two() => u32::from(size),
        _ => 0,
    };
    let has_room = page_size >= 480 + u32::from(head[20]);
    // The version to read by, and three fractions that are the same in every database.
    head.starts_with(MAGIC) && !(has_room && head[19] <= 2 && head[21..24] == [64, 32, 32])
}
