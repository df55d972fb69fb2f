//! A dump in `pg_dump`'s custom format, looked at as it streams past: header, table of contents, then the rows of
//! each table and the large objects, counted and summed. A dump that stops short, that lacks a table's rows, that is
//! compressed or of an unknown version is an error. Takes bytes in slices of any length; never changes or keeps
//! them; memory is bounded by the table of contents. Never panics on hostile bytes.

mod blocks;
mod contents;
mod error;
mod rows;
mod statement;
mod wire;

use crate::facts::node_tables;
use crate::facts::postgres::{ContentDigest, LargeObjectFacts};
use rows::{ObjectSum, RowFault, RowSum};
use std::collections::HashMap;
use wire::{ENTRY_BYTES_MAX, Fields, Head, Stop};

use blocks::chunk_length;
pub use contents::ReadError;
pub(super) use contents::{Block, Entry, Reader, Section};
pub use error::ArchiveError;
pub(super) use statement::{copy_from, extension};

/// Most memory that what is kept of the table of contents may need, in bytes.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What one kept entry needs besides its texts, in bytes, about.
const KEPT_ENTRY_BYTES: usize = 256;

/// What was learned of a whole dump. Names are in the archive's encoding.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive {
    /// Version of the format, such as `1.14`.
    pub version: String,
    /// The server it was dumped from, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub server: String,
    /// The `pg_dump` that wrote it.
    pub pg_dump: String,
    /// The database's name.
    pub database: Vec<u8>,
    /// The encoding of texts and rows.
    pub encoding: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Tables with rows, in the archive's order.
    pub tables: Vec<ArchiveTable>,
    /// Sequences that are set.
    pub sequences: Vec<ArchiveSequence>,
    /// Materialised views: schema, name, and whether a restore fills them.
    pub materialized_views: Vec<ArchiveView>,
    /// Large objects.
    pub large_objects: LargeObjectFacts,
}

/// One table of a dump.
#[derive(Debug, PartialEq, Eq)]
pub struct ArchiveTable {
    /// Its number in the server's catalogue.
    pub oid: u32,
    /// Its schema.
    pub schema: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
    /// The columns of its COPY statement.
    pub columns: Vec<Vec<u8>>,
    /// Number of rows.
    pub rows: u64,
    /// Content digest of the rows.
    pub digest: ContentDigest,
}

/// One sequence of a dump.
#[derive(Debug, PartialEq, Eq)]
pub struct ArchiveSequence {
    /// Its schema.
    pub schema: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
    /// The last value.
    pub last_value: i64,
    /// Whether that value was handed out.
    pub is_called: bool,
}

/// One materialised view of a dump.
#[derive(Debug, PartialEq, Eq)]
pub struct ArchiveView {
    /// Its schema.
    pub schema: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
    /// Whether a restore fills it.
    pub populated: bool,
}

/// What data an entry has.
#[derive(Clone, Copy)]
enum Data {
    Table(usize),
    LargeObjects,
}

/// Where in the stream the scanner is.
enum State {
    Head,
    Contents { left: u32 },
    Block,
    TableChunk { table: usize },
    TableBytes { table: usize, left: usize },
    Object,
    ObjectChunk,
    ObjectBytes { left: usize },
}

/// Looks at a dump as it streams past.
pub struct Scanner {
    state: State,
    head: Option<Head>,
    /// Bytes of a header or entry whose end has not come yet.
    pending: Vec<u8>,
    bytes: u64,
    /// Where header and table of contents end, once they have.
    head_bytes: Option<u64>,
    kept: usize,
    encoding: Option<String>,
    tables: Vec<ArchiveTable>,
    sequences: Vec<ArchiveSequence>,
    views: Vec<ArchiveView>,
    expected: usize,
    waiting: HashMap<i32, Data>,
    rows: RowSum,
    objects: ObjectSum,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self {
            state: State::Head,
            head: None,
            pending: Vec::new(),
            bytes: 0,
            head_bytes: None,
            kept: 0,
            encoding: None,
            tables: Vec::new(),
            sequences: Vec::new(),
            views: Vec::new(),
            expected: 0,
            waiting: HashMap::new(),
            rows: RowSum::default(),
            objects: ObjectSum::default(),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.bytes += bytes.len() as u64;
        if matches!(self.state, State::Head | State::Contents { .. }) {
            self.pending.extend_from_slice(bytes);
            self.contents()?;
            if matches!(self.state, State::Head | State::Contents { .. }) {
                return Ok(());
            }
            let rest = std::mem::take(&mut self.pending);
            self.head_bytes = Some(self.bytes - rest.len() as u64);
            return self.data(&rest);
        }
        self.data(bytes)
    }

    /// The tables that tell a Lightning node, qualified, among those whose entries have passed.
    pub fn node_tables(&self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        node_tables(self.tables.iter().map(|table| (text(&table.schema), text(&table.name))))
    }

    /// How many bytes header and table of contents have, once they have passed. They name the moment of the dump and
    /// every sequence's value, so they differ in every run; what follows does not.
    pub fn head_bytes(&self) -> Option<u64> {
        self.head_bytes
    }

    /// Reads header and entries as far as they have come.
    fn contents(&mut self) -> Result<(), ArchiveError> {
        let pending = std::mem::take(&mut self.pending);
        let mut at = 0;
        let result = self.contents_of(&pending, &mut at);
        self.pending = pending;
        self.pending.drain(..at);
        result?;
        if self.pending.len() > ENTRY_BYTES_MAX && matches!(self.state, State::Head | State::Contents { .. }) {
            let bytes = self.pending.len();
            return Err(ArchiveError::TooLarge { what: "an entry", bytes, limit: ENTRY_BYTES_MAX });
        }
        Ok(())
    }

    fn contents_of(&mut self, pending: &[u8], at: &mut usize) -> Result<(), ArchiveError> {
        loop {
            let mut fields = Fields::new(&pending[*at..]);
            match &mut self.state {
                State::Head => match wire::head(&mut fields) {
                    Ok(head) => {
                        self.state =
                            if head.entries == 0 { State::Block } else { State::Contents { left: head.entries } };
                        self.head = Some(head);
                    }
                    Err(Stop::More) => return Ok(()),
                    Err(Stop::Bad(error)) => return Err(error),
                },
                State::Contents { left } => {
                    let Some(head) = &self.head else { return Ok(()) };
                    let entry = match wire::entry(&mut fields, head) {
                        Ok(entry) => entry,
                        Err(Stop::More) => return Ok(()),
                        Err(Stop::Bad(error)) => return Err(error),
                    };
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Block;
                    }
                    self.entry(&entry)?;
                }
                _ => return Ok(()),
            }
            *at += fields.consumed();
        }
    }

    /// Keeps of an entry what is needed later.
    fn entry(&mut self, entry: &wire::Entry<'_>) -> Result<(), ArchiveError> {
        match entry.kind {
            b"ENCODING" => {
                self.encoding = statement::client_encoding(entry.definition);
            }
            b"TABLE DATA" if entry.has_data => return self.table(entry),
            b"BLOBS" if entry.has_data => {
                self.keep(0)?;
                return self.expect(entry.dump_id, Data::LargeObjects);
            }
            b"SEQUENCE SET" => {
                let malformed = ArchiveError::Malformed { what: "the value of a sequence" };
                let (last_value, is_called) = statement::setval(entry.definition).ok_or(malformed)?;
                self.keep(entry.schema.len() + entry.tag.len())?;
                let (schema, name) = (entry.schema.to_vec(), entry.tag.to_vec());
                self.sequences.push(ArchiveSequence { schema, name, last_value, is_called });
            }
            b"MATERIALIZED VIEW" => {
                self.keep(entry.schema.len() + entry.tag.len())?;
                let (schema, name) = (entry.schema.to_vec(), entry.tag.to_vec());
                self.views.push(ArchiveView { schema, name, populated: false });
            }
            b"MATERIALIZED VIEW DATA" => {
                let same = |view: &&mut ArchiveView| view.schema == entry.schema && view.name == entry.tag;
                if let Some(view) = self.views.iter_mut().find(same) {
                    view.populated = true;
                }
            }
            _ if entry.has_data => return Err(ArchiveError::Malformed { what: "the kind of an entry with data" }),
            _ => {}
        }
        Ok(())
    }

    fn table(&mut self, entry: &wire::Entry<'_>) -> Result<(), ArchiveError> {
        let columns = statement::copy_columns(entry.copy)
            .ok_or(ArchiveError::Malformed { what: "the COPY statement of a table" })?;
        let oid = std::str::from_utf8(entry.oid).ok().and_then(|text| text.parse().ok());
        let oid = oid.ok_or(ArchiveError::Malformed { what: "the number of a table" })?;
        let texts: usize = columns.iter().map(|column| column.len() + size_of::<Vec<u8>>()).sum();
        self.keep(entry.schema.len() + entry.tag.len() + texts)?;
        self.expect(entry.dump_id, Data::Table(self.tables.len()))?;
        let (schema, name) = (entry.schema.to_vec(), entry.tag.to_vec());
        self.tables.push(ArchiveTable { oid, schema, name, columns, rows: 0, digest: ContentDigest::default() });
        Ok(())
    }

    fn keep(&mut self, texts: usize) -> Result<(), ArchiveError> {
        self.kept += KEPT_ENTRY_BYTES + texts;
        if self.kept > KEPT_BYTES_MAX {
            let what = "the table of contents";
            return Err(ArchiveError::TooLarge { what, bytes: self.kept, limit: KEPT_BYTES_MAX });
        }
        Ok(())
    }

    fn expect(&mut self, dump_id: i32, data: Data) -> Result<(), ArchiveError> {
        self.expected += 1;
        match self.waiting.insert(dump_id, data) {
            None => Ok(()),
            Some(_) => Err(ArchiveError::Malformed { what: "an entry's number, which is there twice," }),
        }
    }

    fn rows_error(&self, table: usize, _: RowFault) -> ArchiveError {
        ArchiveError::Rows { table: self.table_name(table) }
    }

    fn table_name(&self, table: usize) -> String {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.tables
            .get(table)
            .map_or_else(String::new, |table| format!("{}.{}", text(&table.schema), text(&table.name)))
    }

    fn data_name(&self, data: Data) -> String {
        match data {
            Data::Table(table) => format!("table {}", self.table_name(table)),
            Data::LargeObjects => "the large objects".to_owned(),
        }
    }

    /// At the stream's end: what was learned, or why the dump is not whole.
    pub fn finish(self) -> Result<Archive, ArchiveError> {
        if self.bytes == 0 {
            return Err(ArchiveError::Empty);
        }
        let inside = match self.state {
            State::Head => Some("its header".to_owned()),
            State::Contents { .. } => Some("its table of contents".to_owned()),
            State::Block if self.pending.is_empty() => None,
            State::Block => Some("the header of a data block".to_owned()),
            State::TableChunk { table } | State::TableBytes { table, .. } => Some(self.data_name(Data::Table(table))),
            State::Object | State::ObjectChunk | State::ObjectBytes { .. } => Some(self.data_name(Data::LargeObjects)),
        };
        if let Some(inside) = inside {
            return Err(ArchiveError::Truncated { inside });
        }
        if let Some((_, first)) = self.waiting.iter().min_by_key(|(dump_id, _)| **dump_id) {
            let (first, count, expected) = (self.data_name(*first), self.waiting.len(), self.expected);
            return Err(ArchiveError::MissingData { first, count, expected });
        }
        let head = self.head.ok_or(ArchiveError::Malformed { what: "the header" })?;
        let encoding = self.encoding.ok_or(ArchiveError::Malformed { what: "the entry that names the encoding" })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Archive {
            version: format!("1.{}", head.minor),
            server: text(&head.server),
            pg_dump: text(&head.pg_dump),
            database: head.database,
            encoding,
            bytes: self.bytes,
            tables: self.tables,
            sequences: self.sequences,
            materialized_views: self.views,
            large_objects: self.objects.facts(),
        })
    }
}

/// Sums rows as the server's own COPY sends them, for comparison with those of a dump.
#[derive(Default)]
pub(super) struct PlainRows(RowSum);

impl PlainRows {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.0.push(bytes).map_err(|_| ArchiveError::Rows { table: "that is compared".to_owned() })
    }

    /// Number and digest of the rows.
    pub(super) fn finish(self) -> Result<(u64, ContentDigest), ArchiveError> {
        self.0.finish_plain().map_err(|_| ArchiveError::Rows { table: "that is compared".to_owned() })
    }
}

pub(super) use rows::ObjectSum as PlainObjects;

#[cfg(test)]
mod tests;
