//! Reads a tar as one of our sources writes it, entry by entry and once: the reader of `verify`, of a dry run and of
//! `restore` alike. Extended headers are taken apart by the length that each record names, never by its lines: a value,
//! a name and a target may hold any byte. What is wrong with one entry is told with that entry, and the next is read;
//! only what leaves open where the next one begins ends the reading.

use super::TarError;
use super::header::BLOCK;
use crate::base::limits::TAR_EXTENSION_BYTES_MAX;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

/// How much is read over at once, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, whose content follows.
    File,
    /// A folder.
    Folder,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A second name of the entry of this name.
    HardLink(Vec<u8>),
    /// What no tar of ours holds.
    Other,
}

/// All of an entry but its content.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its name without a last slash.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its content.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// The owner's name, where it was known.
    pub user: Option<String>,
    /// The owner's number.
    pub uid: u32,
    /// The group's name, where it was known.
    pub group: Option<String>,
    /// The group's number.
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Extended attributes.
    pub extended: Vec<(OsString, Vec<u8>)>,
    /// What is wrong with its headers; then nothing else of them counts but name, kind and size.
    pub fault: Option<&'static str>,
}

/// A tar that is read.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    entries: u64,
    /// Bytes of the entry's content that were not read yet, and of what fills its last block.
    left: u64,
    padding: u64,
    is_ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads from the beginning of a tar.
    pub fn new(inner: R) -> Self {
        Self { inner, entries: 0, left: 0, padding: 0, is_ended: false }
    }

    /// Entries that were begun.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// What it means that reading failed.
    pub fn damaged(&self, source: io::Error) -> TarError {
        TarError::Damaged { entries: self.entries, source }
    }

    /// The next entry, past what was not read of the last; none at the tar's end, which must be there and be all.
    pub fn next_entry(&mut self) -> Result<Option<Head>, TarError> {
        let next = self.read_head();
        let next = next.map_err(|source| self.damaged(source))?;
        self.entries += u64::from(next.is_some());
        Ok(next)
    }

    fn read_head(&mut self) -> io::Result<Option<Head>> {
        if self.is_ended {
            return Ok(None);
        }
        self.skip()?;
        let mut before = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                return if before.is_empty() { Ok(None) } else { Err(bad("a header before an entry stands alone")) };
            };
            let size = header.entry_size()?;
            match header.entry_type() {
                tar::EntryType::XHeader => before.take(self.extension(size)?, Extensions::records),
                tar::EntryType::GNULongName => before.take(self.extension(size)?, Extensions::name),
                tar::EntryType::GNULongLink => before.take(self.extension(size)?, Extensions::target),
                _ => return before.head(&header, size).inspect(|_| self.set_content(size)).map(Some),
            }
            before.count += 1;
            if before.count > EXTENSIONS_MAX {
                return Err(bad("too many headers stand before one entry"));
            }
        }
    }

    fn set_content(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    /// Reads over what is left of an entry.
    fn skip(&mut self) -> io::Result<()> {
        let mut waste = vec![0; BUFFER_BYTES];
        let mut left = self.left.checked_add(self.padding).ok_or_else(|| bad("an entry is too long"))?;
        while left > 0 {
            let length = waste.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.inner.read_exact(waste.get_mut(..length).unwrap_or_default())?;
            left -= length as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header; none after the two empty blocks that end a tar.
    fn header(&mut self) -> io::Result<Option<tar::Header>> {
        let mut header = tar::Header::new_old();
        self.inner.read_exact(header.as_mut_bytes()).map_err(no_end)?;
        if header.as_bytes().iter().any(|byte| *byte != 0) {
            // The sum counts its own field as blanks.
            let plain: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
            let field: u32 = header.as_bytes().iter().skip(148).take(8).map(|byte| u32::from(*byte)).sum();
            let is_right = header.cksum().ok() == (plain + 8 * 32).checked_sub(field);
            return if is_right { Ok(Some(header)) } else { Err(bad("the sum of a header is wrong")) };
        }
        self.inner.read_exact(header.as_mut_bytes()).map_err(no_end)?;
        let mut waste = vec![0; BUFFER_BYTES];
        let (mut length, mut is_clean) = (0_u64, header.as_bytes().iter().all(|byte| *byte == 0));
        loop {
            match self.inner.read(&mut waste) {
                Ok(0) => break,
                Ok(count) => {
                    length += count as u64;
                    is_clean &= waste.iter().take(count).all(|byte| *byte == 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if !is_clean || !length.is_multiple_of(BLOCK) {
            return Err(bad("something follows its end"));
        }
        self.is_ended = true;
        Ok(None)
    }

    /// The content of a header before an entry; none where it is too long to be kept.
    fn extension(&mut self, size: u64) -> io::Result<Option<Vec<u8>>> {
        self.set_content(size);
        if size > TAR_EXTENSION_BYTES_MAX {
            self.skip()?;
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.inner.read_exact(&mut bytes)?;
        self.left = 0;
        self.skip()?;
        Ok(Some(bytes))
    }
}

impl<R: Read> Read for TarReader<R> {
    /// Reads of the entry's content; a tar that breaks off in it is an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.inner.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file in it breaks off"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Most headers before one entry: its records, its long name and its long target.
const EXTENSIONS_MAX: usize = 4;

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extensions {
    count: usize,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    fault: Option<&'static str>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn take(&mut self, bytes: Option<Vec<u8>>, apply: fn(&mut Self, Vec<u8>)) {
        match bytes {
            Some(bytes) => apply(self, bytes),
            None => self.fault = Some("has attributes that are too long to be read"),
        }
    }

    fn name(&mut self, bytes: Vec<u8>) {
        self.name = Some(until_nul(bytes));
    }

    fn target(&mut self, bytes: Vec<u8>) {
        self.target = Some(until_nul(bytes));
    }

    fn records(&mut self, bytes: Vec<u8>) {
        match records(&bytes) {
            Some(records) => self.records.extend(records.into_iter().map(|(key, value)| (key.into(), value.into()))),
            None => self.fault = Some("has attributes that cannot be read"),
        }
    }

    /// The entry whose own header this is.
    fn head(self, header: &tar::Header, size: u64) -> io::Result<Head> {
        let mut name = self.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let mut target = self.target.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let mut fault = self.fault;
        for (key, value) in &self.records {
            match key.as_slice() {
                b"path" => name.clone_from(value),
                b"linkpath" => target.clone_from(value),
                // It would be read otherwise by another reader.
                b"size" if parsed(value) != Some(size) => return Err(bad("an entry has two lengths")),
                _ => {}
            }
        }
        if name.ends_with(b"/") {
            name.pop();
        }
        let kind = match header.entry_type() {
            tar::EntryType::Regular => Kind::File,
            tar::EntryType::Directory => Kind::Folder,
            tar::EntryType::Symlink => Kind::Symlink(target),
            tar::EntryType::Link => Kind::HardLink(target),
            _ => Kind::Other,
        };
        let mut head = Head {
            name,
            kind,
            size,
            mode: 0,
            user: None,
            uid: 0,
            group: None,
            gid: 0,
            modified: (0, 0),
            extended: Vec::new(),
            fault: None,
        };
        if fault.is_none() && head.fill(header, &self.records).is_none() {
            fault = Some("has a number in its headers that is none");
        }
        head.fault = fault;
        Ok(head)
    }
}

impl Head {
    /// Takes owner, mode, times and attributes from the header and the records before it, which go first; nothing when
    /// a number is none.
    fn fill(&mut self, header: &tar::Header, records: &[(Vec<u8>, Vec<u8>)]) -> Option<()> {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        self.mode = header.mode().ok()? & 0o7777;
        self.user = text(header.username_bytes());
        self.uid = u32::try_from(header.uid().ok()?).ok()?;
        self.group = text(header.groupname_bytes());
        self.gid = u32::try_from(header.gid().ok()?).ok()?;
        self.modified = (i64::try_from(header.mtime().ok()?).unwrap_or(i64::MAX), 0);
        for (key, value) in records {
            match key.as_slice() {
                b"uid" => self.uid = parsed(value)?,
                b"gid" => self.gid = parsed(value)?,
                b"uname" => self.user = text(Some(value)),
                b"gname" => self.group = text(Some(value)),
                b"mtime" => self.modified = decimal(std::str::from_utf8(value).ok()?)?,
                other => {
                    if let Some(name) = other.strip_prefix(b"SCHILY.xattr.") {
                        self.extended.push((attribute_name(name), value.clone()));
                    }
                }
            }
        }
        Some(())
    }
}

/// The records of an extended header, each by the length it names: that length, a blank, key, `=`, value, newline.
fn records(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ')?;
        let (record, rest) = bytes.split_at_checked(parsed(bytes.get(..blank)?)?)?;
        let pair = record.get(blank + 1..)?.strip_suffix(b"\n")?;
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        found.push((pair.get(..equals)?, pair.get(equals + 1..)?));
        bytes = rest;
    }
    Some(found)
}

/// A number in decimal digits and nothing else.
fn parsed<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn no_end(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::UnexpectedEof, "its end is missing"),
        _ => error,
    }
}

/// `=` and `%` of an attribute's name are written with `%`, as GNU tar does.
fn attribute_name(written: &[u8]) -> OsString {
    let mut name = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        let (byte, next) = match rest.get(..3) {
            Some(b"%3D") => (b'=', rest.get(3..).unwrap_or_default()),
            Some(b"%25") => (b'%', rest.get(3..).unwrap_or_default()),
            _ => (*first, after),
        };
        name.push(byte);
        rest = next;
    }
    OsString::from_vec(name)
}

/// Seconds since 1970 with a fraction, as PAX has it; before 1970 the fraction counts the other way.
fn decimal(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    match (is_negative, nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names_of_attributes_are_read_as_they_were_written() {
        assert_eq!(decimal("1.000000005"), Some((1, 5)));
        assert_eq!(decimal("-0.250000000"), Some((-1, 750_000_000)));
        assert_eq!(decimal("-2.000000000"), Some((-2, 0)));
        assert_eq!(decimal("7"), Some((7, 0)));
        assert_eq!(decimal("7.5"), Some((7, 500_000_000)));
        assert_eq!(decimal("1.x"), None);
        assert_eq!(attribute_name(b"user.a%3Db%25%"), "user.a=b%%");
    }

    #[test]
    fn records_are_taken_by_their_length_and_by_nothing_else() {
        let whole: &[u8] = b"9 a=b\nc\n\n6 x=y\n6 e==\n5 e=\n";
        let pairs: [(&[u8], &[u8]); 4] = [(b"a", b"b\nc\n"), (b"x", b"y"), (b"e", b"="), (b"e", b"")];
        assert_eq!(records(whole), Some(pairs.to_vec()));
        let wrong: [&[u8]; 9] = [
            b"5 a=b\n",
            b"7 a=b\n",
            b"x a=b\n",
            b"-6 a=b\n",
            b"6 a=bc",
            b"4 a\n",
            b"1 ",
            b"99999999999999999999 a=b\n",
            b"6 a=b\n3",
        ];
        for wrong in wrong {
            assert_eq!(records(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }
}
