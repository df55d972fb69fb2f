//! A dump read from its beginning to its end by whoever restores it: the whole table of contents first, then block
//! after block of rows and large objects, each in pieces. The reader pulls, so that a slow server slows it down. Bytes
//! may be hostile: every length is held against a limit before anything is allocated, and nothing panics.

use super::wire::{self, ENTRY_BYTES_MAX, Fields, Head, INT_LENGTH, Stop};
use super::{ArchiveError, chunk_length, statement};
use std::io::{self, Read};

/// Most memory that the statements of a table of contents may need, in bytes: functions and views by the thousand, or
/// one entry for each of some million large objects.
const CONTENTS_BYTES_MAX: usize = 512 * 1024 * 1024;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// How much of a block is handed on at once at most, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// Why a dump could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream broke.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
    /// It is not a whole dump.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// One entry of the table of contents. Texts are in the archive's encoding.
#[derive(Debug)]
pub(in crate::sources::postgres) struct Entry {
    /// Its number, which its block of data names.
    pub(in crate::sources::postgres) dump_id: i32,
    /// What it is: `TABLE`, `TABLE DATA`, `FK CONSTRAINT`.
    pub(in crate::sources::postgres) kind: String,
    /// Its schema.
    pub(in crate::sources::postgres) schema: Vec<u8>,
    /// Its name.
    pub(in crate::sources::postgres) tag: Vec<u8>,
    /// When it is restored.
    pub(in crate::sources::postgres) section: Section,
    /// The statements that make it.
    pub(in crate::sources::postgres) definition: Vec<u8>,
    /// The COPY statement of its rows.
    pub(in crate::sources::postgres) copy: Vec<u8>,
    /// The tablespace it was in, where that was not the database's own.
    pub(in crate::sources::postgres) tablespace: Vec<u8>,
    /// How its rows are kept: `heap`.
    pub(in crate::sources::postgres) access_method: Vec<u8>,
    /// Numbers of the entries that it needs.
    pub(in crate::sources::postgres) depends: Vec<i32>,
}

/// The parts of a dump, in the order in which they are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sources::postgres) enum Section {
    /// Settings of the dump itself.
    None,
    /// What rows are put into.
    PreData,
    /// Rows, values of sequences, large objects.
    Data,
    /// Indexes, constraints, triggers and whatever else needs the rows.
    PostData,
}

/// A dump's table of contents.
#[derive(Debug)]
pub(in crate::sources::postgres) struct Contents {
    /// The encoding of its texts and rows.
    pub(in crate::sources::postgres) encoding: String,
    /// Its entries, in its own order.
    pub(in crate::sources::postgres) entries: Vec<Entry>,
}

/// What a block of data holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources::postgres) enum Block {
    /// The rows of the entry with this number.
    Rows(i32),
    /// Large objects of the entry with this number.
    Objects,
}

/// Reads a dump.
pub(in crate::sources::postgres) struct Reader<'r> {
    from: &'r mut dyn Read,
    /// Bytes that were read too far, from `at` on.
    ahead: Vec<u8>,
    at: usize,
    /// Bytes of the chunk that have not been handed on yet.
    left: usize,
    /// Whether the end of the rows or of the object was read, and not told yet.
    is_over: bool,
}

impl<'r> Reader<'r> {
    pub(in crate::sources::postgres) fn new(from: &'r mut dyn Read) -> Self {
        Self { from, ahead: Vec::new(), at: 0, left: 0, is_over: false }
    }

    /// Header and table of contents.
    pub(in crate::sources::postgres) fn contents(&mut self) -> Result<Contents, ReadError> {
        let head = self.parsed(wire::head)?;
        let mut contents = Contents { encoding: String::new(), entries: Vec::new() };
        let mut kept = 0;
        for _ in 0..head.entries {
            let entry = self.parsed(|fields| owned(fields, &head))?;
            kept += size_of::<Entry>()
                + entry.definition.len()
                + entry.copy.len()
                + entry.tag.len()
                + 4 * entry.depends.len();
            if kept > CONTENTS_BYTES_MAX {
                let what = "the table of contents";
                return Err(ArchiveError::TooLarge { what, bytes: kept, limit: CONTENTS_BYTES_MAX }.into());
            }
            if entry.kind == "ENCODING" {
                contents.encoding = statement::client_encoding(&entry.definition).unwrap_or_default();
            }
            contents.entries.push(entry);
        }
        if contents.encoding.is_empty() {
            return Err(ArchiveError::Malformed { what: "the entry that names the encoding" }.into());
        }
        Ok(contents)
    }

    /// Parses once enough bytes have come.
    fn parsed<T>(&mut self, parse: impl Fn(&mut Fields<'_>) -> Result<T, Stop>) -> Result<T, ReadError> {
        loop {
            let mut fields = Fields::new(self.ahead.get(self.at..).unwrap_or_default());
            match parse(&mut fields) {
                Ok(parsed) => {
                    self.at += fields.consumed();
                    return Ok(parsed);
                }
                Err(Stop::Bad(error)) => return Err(error.into()),
                Err(Stop::More) => {}
            }
            let waiting = self.ahead.len() - self.at;
            if waiting > ENTRY_BYTES_MAX {
                let what = "an entry";
                return Err(ArchiveError::TooLarge { what, bytes: waiting, limit: ENTRY_BYTES_MAX }.into());
            }
            // As much again as there is: an entry of many megabytes is not parsed anew for each piece of it.
            let more = self.more(waiting.max(READ_BYTES))?;
            if more == 0 {
                return Err(match waiting {
                    0 if self.at == 0 => ArchiveError::Empty,
                    _ => ArchiveError::Truncated { inside: "its table of contents".to_owned() },
                }
                .into());
            }
        }
    }

    fn more(&mut self, wanted: usize) -> Result<usize, ReadError> {
        self.ahead.drain(..self.at);
        self.at = 0;
        let limit = u64::try_from(wanted).unwrap_or(u64::MAX);
        (&mut self.from).take(limit).read_to_end(&mut self.ahead).map_err(ReadError::Io)
    }

    /// The next block; none at the stream's end.
    pub(in crate::sources::postgres) fn block(&mut self) -> Result<Option<Block>, ReadError> {
        let Some(kind) = self.byte()? else { return Ok(None) };
        let dump_id = self.int()?;
        match kind {
            1 => Ok(Some(Block::Rows(dump_id))),
            3 => Ok(Some(Block::Objects)),
            _ => Err(ArchiveError::Malformed { what: "the header of a data block" }.into()),
        }
    }

    /// The number of the next large object of the block; none at the block's end.
    pub(in crate::sources::postgres) fn object(&mut self) -> Result<Option<u32>, ReadError> {
        let oid = self.int()?.cast_unsigned();
        Ok((oid != 0).then_some(oid))
    }

    /// The next piece of the rows or of the object that was begun; none at its end.
    pub(in crate::sources::postgres) fn piece(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let mut piece = Vec::new();
        // Servers up to 15 are dumped with a chunk for each row: many of them make a piece.
        while !self.is_over && piece.len() < PIECE_BYTES {
            if self.left == 0 {
                let mut header = [0; INT_LENGTH];
                self.exact(&mut header)?;
                self.left = chunk_length(&header)?;
                self.is_over = self.left == 0;
                continue;
            }
            let begin = piece.len();
            piece.reserve(PIECE_BYTES - begin);
            piece.resize(begin + self.left.min(PIECE_BYTES - begin), 0);
            let part = piece.get_mut(begin..).unwrap_or_default();
            self.exact(part)?;
            self.left -= part.len();
        }
        if piece.is_empty() {
            self.is_over = false;
            return Ok(None);
        }
        Ok(Some(piece))
    }

    fn byte(&mut self) -> Result<Option<u8>, ReadError> {
        if self.at == self.ahead.len() && self.more(READ_BYTES)? == 0 {
            return Ok(None);
        }
        let byte = self.ahead.get(self.at).copied();
        self.at += 1;
        Ok(byte)
    }

    fn int(&mut self) -> Result<i32, ReadError> {
        let mut bytes = [0; INT_LENGTH];
        self.exact(&mut bytes)?;
        Ok(wire::int(&bytes)?)
    }

    fn exact(&mut self, into: &mut [u8]) -> Result<(), ReadError> {
        // A small part is not worth a call to the system of its own.
        if self.ahead.len() - self.at < into.len() && into.len() < READ_BYTES {
            self.more(READ_BYTES)?;
        }
        let ahead = self.ahead.get(self.at..).unwrap_or_default();
        let count = ahead.len().min(into.len());
        let (first, rest) = into.split_at_mut(count);
        first.copy_from_slice(ahead.get(..count).unwrap_or_default());
        self.at += count;
        self.from.read_exact(rest).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated { inside: "its rows".to_owned() }.into(),
            _ => ReadError::Io(error),
        })
    }
}

fn owned(fields: &mut Fields<'_>, head: &Head) -> Result<Entry, Stop> {
    let entry = wire::entry(fields, head)?;
    let malformed = || ArchiveError::Malformed { what: "the kind of an entry" };
    Ok(Entry {
        dump_id: entry.dump_id,
        kind: std::str::from_utf8(entry.kind).map_err(|_| malformed())?.to_owned(),
        schema: entry.schema.to_vec(),
        tag: entry.tag.to_vec(),
        section: match entry.section {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            _ => return Err(ArchiveError::Malformed { what: "the section of an entry" }.into()),
        },
        definition: entry.definition.to_vec(),
        copy: entry.copy.to_vec(),
        tablespace: entry.tablespace.to_vec(),
        access_method: entry.access_method.to_vec(),
        depends: entry.depends,
    })
}
