//! Rows of COPY text, split and summed as they pass: the number of rows and the sum modulo 2^128 of each row's
//! XXH3-128. A row inside one slice is hashed where it lies; only a row that straddles slices is copied, and a very
//! long one is hashed as it comes, so that memory stays bounded. Never looks into a row.

use crate::facts::postgres::ContentDigest;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The longest part of a row that is kept until its end arrives, in bytes; longer rows are hashed in pieces.
const PART_BYTES_MAX: usize = 64 * 1024;

/// The line that ends the rows of a table in an archive.
const END_MARKER: &[u8] = b"\\.";

/// Sum over the rows of one table.
#[derive(Default)]
pub(super) struct RowSum {
    rows: u64,
    sum: u128,
    part: Vec<u8>,
    long: Option<Box<Xxh3>>,
    ended: bool,
}

/// Why the rows of a table cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowFault {
    /// More rows after the end marker.
    AfterEnd,
    /// A row without its end, or no end marker.
    Unfinished,
}

impl RowSum {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), RowFault> {
        if !self.part.is_empty() || self.long.is_some() {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.keep(bytes);
                return Ok(());
            };
            self.keep(&bytes[..end]);
            self.close_part()?;
            bytes = &bytes[end + 1..];
        }
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.row(&bytes[..end])?;
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.keep(bytes);
        }
        Ok(())
    }

    fn row(&mut self, row: &[u8]) -> Result<(), RowFault> {
        if self.ended {
            return if row.is_empty() { Ok(()) } else { Err(RowFault::AfterEnd) };
        }
        if row == END_MARKER {
            self.ended = true;
        } else {
            self.add(xxh3_128(row));
        }
        Ok(())
    }

    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.long {
            hasher.update(bytes);
        } else if self.part.len() + bytes.len() <= PART_BYTES_MAX {
            self.part.extend_from_slice(bytes);
        } else {
            let mut hasher = Box::new(Xxh3::new());
            hasher.update(&self.part);
            hasher.update(bytes);
            self.part.clear();
            self.long = Some(hasher);
        }
    }

    fn close_part(&mut self) -> Result<(), RowFault> {
        if let Some(hasher) = self.long.take() {
            if self.ended {
                return Err(RowFault::AfterEnd);
            }
            self.add(hasher.digest128());
            return Ok(());
        }
        let part = std::mem::take(&mut self.part);
        let result = self.row(&part);
        self.part = part;
        self.part.clear();
        result
    }

    /// The result of rows that end with the marker, as they do in an archive.
    pub(super) fn finish_marked(self) -> Result<(u64, ContentDigest), RowFault> {
        if self.ended && self.part.is_empty() && self.long.is_none() {
            Ok((self.rows, ContentDigest::new(self.sum)))
        } else {
            Err(RowFault::Unfinished)
        }
    }

    /// The result of rows as the server's COPY sends them, which end without a marker.
    pub(super) fn finish_plain(self) -> Result<(u64, ContentDigest), RowFault> {
        if !self.ended && self.part.is_empty() && self.long.is_none() {
            Ok((self.rows, ContentDigest::new(self.sum)))
        } else {
            Err(RowFault::Unfinished)
        }
    }
}

/// Sum over large objects: number and content of each.
#[derive(Default)]
pub(in super::super) struct ObjectSum {
    count: u64,
    sum: u128,
    open: Option<Box<Xxh3>>,
}

impl ObjectSum {
    /// Begins the object with this number.
    pub(in super::super) fn begin(&mut self, oid: u32) {
        let mut hasher = Box::new(Xxh3::new());
        hasher.update(&oid.to_le_bytes());
        self.open = Some(hasher);
    }

    /// Takes the next bytes of the object that was begun.
    pub(in super::super) fn push(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.open {
            hasher.update(bytes);
        }
    }

    /// Ends the object.
    pub(in super::super) fn end(&mut self) {
        if let Some(hasher) = self.open.take() {
            self.count += 1;
            self.sum = self.sum.wrapping_add(hasher.digest128());
        }
    }

    /// Number and digest of the objects that have ended.
    pub(in super::super) fn facts(&self) -> crate::facts::postgres::LargeObjectFacts {
        crate::facts::postgres::LargeObjectFacts { count: self.count, digest: ContentDigest::new(self.sum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &[u8]) -> (u64, ContentDigest) {
        let mut sum = RowSum::default();
        sum.push(text).unwrap();
        sum.finish_marked().unwrap()
    }

    #[test]
    fn the_sum_does_not_depend_on_order_or_slices() {
        let long = "x".repeat(3 * PART_BYTES_MAX);
        let text = format!("1\ta\n2\tb\\n\n\n{long}\n\\.\n\n\n");
        let expected = whole(text.as_bytes());
        assert_eq!(expected.0, 4);
        assert_eq!(whole(format!("{long}\n\n2\tb\\n\n1\ta\n\\.\n\n\n").as_bytes()), expected);
        for step in [1, 2, 7, 1000, 65_536, 65_537] {
            let mut sum = RowSum::default();
            for piece in text.as_bytes().chunks(step) {
                sum.push(piece).unwrap();
            }
            assert_eq!(sum.finish_marked().unwrap(), expected, "in steps of {step}");
        }
        assert_ne!(whole(text.replace("1\ta", "1\tA").as_bytes()).1, expected.1);
    }

    #[test]
    fn rows_that_stop_short_are_noticed() {
        for (text, fault) in
            [("1\n", RowFault::Unfinished), ("1\n\\.", RowFault::Unfinished), ("", RowFault::Unfinished)]
        {
            let mut sum = RowSum::default();
            sum.push(text.as_bytes()).unwrap();
            assert_eq!(sum.finish_marked().unwrap_err(), fault, "{text:?}");
        }
        assert_eq!(RowSum::default().push(b"\\.\n1\n").unwrap_err(), RowFault::AfterEnd);
    }
}
