//! The data blocks of an archive: chunk after chunk of rows or large objects. Headers are read where they lie; only
//! one that straddles slices is copied. Goes over every byte of a dump, so it must cost little.

use super::rows::RowSum;
use super::wire::{self, INT_LENGTH};
use super::{ArchiveError, Data, Scanner, State};

/// Length of a data block's header: its kind and its entry's number.
const BLOCK_HEADER_LENGTH: usize = 1 + INT_LENGTH;

impl Scanner {
    /// Goes through data blocks.
    pub(super) fn data(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        loop {
            match self.state {
                State::TableBytes { table, left } => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    self.rows.push(now).map_err(|fault| self.rows_error(table, fault))?;
                    bytes = rest;
                    let left = left - now.len();
                    self.state =
                        if left == 0 { State::TableChunk { table } } else { State::TableBytes { table, left } };
                }
                State::ObjectBytes { left } => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    self.objects.push(now);
                    bytes = rest;
                    let left = left - now.len();
                    self.state = if left == 0 { State::ObjectChunk } else { State::ObjectBytes { left } };
                }
                _ => {}
            }
            let wanted = match self.state {
                State::Block => BLOCK_HEADER_LENGTH,
                State::TableChunk { .. } | State::Object | State::ObjectChunk => INT_LENGTH,
                _ => return Ok(()),
            };
            if self.pending.is_empty() && bytes.len() >= wanted {
                let (header, rest) = bytes.split_at(wanted);
                self.header(header)?;
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at((wanted - self.pending.len()).min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() < wanted {
                return Ok(());
            }
            let header = std::mem::take(&mut self.pending);
            let result = self.header(&header);
            self.pending = header;
            self.pending.clear();
            result?;
        }
    }

    /// Takes one block's, object's or chunk's header.
    fn header(&mut self, header: &[u8]) -> Result<(), ArchiveError> {
        match self.state {
            State::Block => self.block(header[0], wire::int(&header[1..])?),
            State::TableChunk { table } => match chunk_length(header)? {
                0 => {
                    self.state = State::Block;
                    self.close_table(table)
                }
                left => {
                    self.state = State::TableBytes { table, left };
                    Ok(())
                }
            },
            State::Object => {
                match wire::int(header)?.cast_unsigned() {
                    0 => self.state = State::Block,
                    oid => {
                        self.objects.begin(oid);
                        self.state = State::ObjectChunk;
                    }
                }
                Ok(())
            }
            State::ObjectChunk => {
                match chunk_length(header)? {
                    0 => {
                        self.objects.end();
                        self.state = State::Object;
                    }
                    left => self.state = State::ObjectBytes { left },
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn block(&mut self, kind: u8, dump_id: i32) -> Result<(), ArchiveError> {
        let malformed = ArchiveError::Malformed { what: "the header of a data block" };
        let data =
            self.waiting.remove(&dump_id).ok_or(ArchiveError::Malformed { what: "the number of a data block" })?;
        self.state = match (kind, data) {
            (1, Data::Table(table)) => {
                self.rows = RowSum::default();
                State::TableChunk { table }
            }
            (3, Data::LargeObjects) => State::Object,
            _ => return Err(malformed),
        };
        Ok(())
    }

    fn close_table(&mut self, table: usize) -> Result<(), ArchiveError> {
        let rows = std::mem::take(&mut self.rows);
        let (rows, digest) = rows.finish_marked().map_err(|fault| self.rows_error(table, fault))?;
        if let Some(table) = self.tables.get_mut(table) {
            (table.rows, table.digest) = (rows, digest);
        }
        Ok(())
    }
}

pub(super) fn chunk_length(header: &[u8]) -> Result<usize, ArchiveError> {
    usize::try_from(wire::int(header)?).map_err(|_| ArchiveError::Malformed { what: "the length of a chunk" })
}
