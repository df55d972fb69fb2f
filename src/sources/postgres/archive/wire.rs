//! The fields of an archive's header and table of contents, read from bytes that may be hostile or not all there
//! yet. Facts of the format: `pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL 13 to 18. A field that
//! is longer than its limit is refused before anything is allocated.

use super::ArchiveError;

/// The longest text in a header or table of contents, in bytes: a function's source, a view.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest entry of a table of contents, in bytes.
pub(super) const ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most entries: one for every large object before PostgreSQL 17.
const ENTRIES_MAX: i32 = 16 * 1024 * 1024;
/// Width of the integers that every supported platform writes, in bytes, without the sign.
const INT_BYTES: u8 = 4;
/// Length of a whole integer: its sign and its bytes.
pub(super) const INT_LENGTH: usize = 5;

/// The bytes every archive begins with.
const MAGIC: &[u8] = b"PGDMP";

/// Why a field could not be read.
pub(super) enum Stop {
    /// The bytes end inside it; more may come.
    More,
    /// It cannot be right.
    Bad(ArchiveError),
}

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Self {
        Self::Bad(error)
    }
}

/// Reads fields from the front of a slice.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn consumed(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(count).ok_or(Stop::More)?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::More)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }

    fn int(&mut self) -> Result<i32, Stop> {
        let bytes = self.take(INT_LENGTH)?;
        Ok(int(bytes)?)
    }

    /// A text; `None` is the archive's own null.
    fn text(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        let length = self.int()?;
        if length < 0 {
            return Ok(None);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > TEXT_BYTES_MAX {
            return Err(ArchiveError::TooLarge { what: "a text", bytes: length, limit: TEXT_BYTES_MAX }.into());
        }
        self.take(length).map(Some)
    }
}

/// An integer of the archive: a sign byte, then the magnitude, least byte first.
pub(super) fn int(bytes: &[u8]) -> Result<i32, ArchiveError> {
    let malformed = ArchiveError::Malformed { what: "an integer" };
    let [sign, magnitude @ ..] = bytes else { return Err(malformed) };
    let Ok(magnitude) = <[u8; 4]>::try_from(magnitude) else { return Err(malformed) };
    // The writer negates in 32 bits, so the smallest integer stands for itself.
    let magnitude = i32::from_le_bytes(magnitude);
    match sign {
        0 => Ok(magnitude),
        1 => Ok(magnitude.wrapping_neg()),
        _ => Err(malformed),
    }
}

/// What the header says.
pub(super) struct Head {
    pub(super) minor: u8,
    pub(super) offset_bytes: u8,
    pub(super) database: Vec<u8>,
    pub(super) server: Vec<u8>,
    pub(super) pg_dump: Vec<u8>,
    pub(super) entries: u32,
}

/// Reads the header and the number of entries behind it.
pub(super) fn head(fields: &mut Fields<'_>) -> Result<Head, Stop> {
    let start = &fields.bytes[..fields.bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(start) {
        return Err(ArchiveError::NotAnArchive.into());
    }
    fields.take(MAGIC.len())?;
    let (major, minor, revision) = (fields.byte()?, fields.byte()?, fields.byte()?);
    if major != 1 || !(14..=16).contains(&minor) {
        return Err(ArchiveError::UnknownVersion { version: format!("{major}.{minor}.{revision}") }.into());
    }
    let (int_bytes, offset_bytes, format) = (fields.byte()?, fields.byte()?, fields.byte()?);
    if int_bytes != INT_BYTES || !(1..=8).contains(&offset_bytes) {
        return Err(ArchiveError::Malformed { what: "the width of integers" }.into());
    }
    if format != 1 {
        return Err(ArchiveError::NotCustom { format }.into());
    }
    let compression = if minor >= 15 { i32::from(fields.byte()?) } else { fields.int()? };
    if compression != 0 {
        return Err(ArchiveError::Compressed.into());
    }
    for _ in 0..7 {
        fields.int()?; // The moment it was made, field by field.
    }
    let mut own = || Ok::<_, Stop>(fields.text()?.unwrap_or_default().to_vec());
    let (database, server, pg_dump) = (own()?, own()?, own()?);
    let entries = fields.int()?;
    if !(0..=ENTRIES_MAX).contains(&entries) {
        return Err(ArchiveError::Malformed { what: "the number of entries" }.into());
    }
    Ok(Head { minor, offset_bytes, database, server, pg_dump, entries: entries.unsigned_abs() })
}

/// One entry of the table of contents, borrowed from the bytes it was read from.
pub(super) struct Entry<'a> {
    pub(super) dump_id: i32,
    pub(super) has_data: bool,
    pub(super) oid: &'a [u8],
    pub(super) tag: &'a [u8],
    pub(super) kind: &'a [u8],
    pub(super) section: i32,
    pub(super) definition: &'a [u8],
    pub(super) copy: &'a [u8],
    pub(super) schema: &'a [u8],
    pub(super) tablespace: &'a [u8],
    pub(super) access_method: &'a [u8],
    pub(super) depends: Vec<i32>,
}

/// Reads one entry.
pub(super) fn entry<'a>(fields: &mut Fields<'a>, head: &Head) -> Result<Entry<'a>, Stop> {
    let dump_id = fields.int()?;
    if dump_id <= 0 {
        return Err(ArchiveError::Malformed { what: "an entry's number" }.into());
    }
    let has_data = fields.int()? != 0;
    fields.text()?; // The catalogue the object is in.
    let oid = fields.text()?.unwrap_or_default();
    let tag = fields.text()?.unwrap_or_default();
    let kind = fields.text()?.unwrap_or_default();
    let section = fields.int()?;
    let definition = fields.text()?.unwrap_or_default();
    fields.text()?; // How to drop it.
    let copy = fields.text()?.unwrap_or_default();
    let schema = fields.text()?.unwrap_or_default();
    let tablespace = fields.text()?.unwrap_or_default();
    let access_method = fields.text()?.unwrap_or_default();
    if head.minor >= 16 {
        fields.int()?; // The kind of relation.
    }
    fields.text()?; // The owner.
    fields.text()?; // Whether rows have numbers of their own, which no supported server has.
    let mut depends = Vec::new();
    while let Some(number) = fields.text()? {
        depends.extend(std::str::from_utf8(number).ok().and_then(|text| text.parse::<i32>().ok()));
    }
    fields.take(1 + usize::from(head.offset_bytes))?; // Where its data is: unset, for it was written to a pipe.
    Ok(Entry {
        dump_id,
        has_data,
        oid,
        tag,
        kind,
        section,
        definition,
        copy,
        schema,
        tablespace,
        access_method,
        depends,
    })
}
