//! How names and lists of rows are kept in the catalog: digests as 32 bytes, a snapshot's objects as one compact list.
//! Pure. A value that does not fit is an error of the row, never a guess.

use super::{CatalogError, SnapshotRow};
use jiff::Timestamp;
use std::str::FromStr;

/// A digest or segment id as its 32 bytes.
pub(super) type Digest = [u8; 32];

/// A row of the table of snapshots before its texts are checked.
pub(super) struct RawSnapshot {
    id: String,
    manifest: Digest,
    complete: bool,
    created_us: i64,
    sequence: i64,
}

impl RawSnapshot {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            manifest: row.get(1)?,
            complete: row.get(2)?,
            created_us: row.get(3)?,
            sequence: row.get(4)?,
        })
    }

    pub(super) fn parse(self) -> Result<SnapshotRow, CatalogError> {
        Ok(SnapshotRow {
            id: parse("snapshot id", &self.id)?,
            manifest_sha256: parse("digest", &hex::encode(self.manifest))?,
            complete: self.complete,
            created: Timestamp::from_microsecond(self.created_us).map_err(|_| CatalogError::Row { what: "moment" })?,
            sequence: uncount(self.sequence)?,
        })
    }
}

pub(super) fn parse<T: FromStr>(what: &'static str, text: &str) -> Result<T, CatalogError> {
    text.parse().map_err(|_| CatalogError::Row { what })
}

/// A length or number as SQLite keeps it.
pub(super) fn count(number: u64) -> Result<i64, CatalogError> {
    i64::try_from(number).map_err(|_| CatalogError::Row { what: "number" })
}

/// What [`count`] counted.
pub(super) fn uncount(number: i64) -> Result<u64, CatalogError> {
    u64::try_from(number).map_err(|_| CatalogError::Row { what: "number" })
}

/// Hands an error of a value on through a transaction, which is then undone.
pub(super) fn bound<T>(value: Result<T, CatalogError>) -> rusqlite::Result<T> {
    value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The 32 bytes of 64 hexadecimal digits.
pub(super) fn digest(digits: &str) -> Result<Digest, CatalogError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| CatalogError::Row { what: "digest" })?;
    Ok(bytes)
}

/// Packs ascending row numbers: each as its distance from the one before it, seven bits a byte, the lowest first, the
/// top bit set on all but the last. Neighbours take one byte each.
pub(super) fn pack(ascending: &[i64]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(ascending.len() + ascending.len() / 4);
    let mut before = 0;
    for row in ascending {
        let mut distance = row.wrapping_sub(before).cast_unsigned();
        before = *row;
        while distance >= 0x80 {
            packed.push((distance & 0x7f) as u8 | 0x80);
            distance >>= 7;
        }
        packed.push(distance as u8);
    }
    packed
}

/// What [`pack`] packed.
pub(super) fn unpack(packed: &[u8]) -> impl Iterator<Item = i64> {
    let mut bytes = packed.iter();
    let mut before: i64 = 0;
    std::iter::from_fn(move || {
        let mut distance: u64 = 0;
        let mut shift = 0;
        loop {
            let byte = *bytes.next()?;
            distance |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                before = before.wrapping_add(distance.cast_signed());
                return Some(before);
            }
            shift += 7;
        }
    })
}
