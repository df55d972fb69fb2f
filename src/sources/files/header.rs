//! The headers of a tar: POSIX ustar, with a PAX header before each entry that needs one (long or odd names, times
//! below a second, extended attributes, large numbers). The same entry gives the same bytes.

use super::meta::Meta;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// A tar's unit, in bytes.
pub(super) const BLOCK: u64 = 512;
/// Longest name that a ustar header holds, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// Largest owner number that fits seven octal digits.
const OWNER_MAX: u32 = 0o7_777_777;
/// Largest size and time that fit eleven octal digits.
const NUMBER_MAX: u64 = 0o77_777_777_777;
/// Longest owner name that a ustar header holds, in bytes, its end included.
const OWNER_NAME_BYTES_MAX: usize = 31;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Folder,
    /// To this target, byte for byte.
    Symlink(Vec<u8>),
    /// To this entry, by its stored name.
    HardLink(Vec<u8>),
}

/// One entry, but for its content.
pub(super) struct Entry<'a> {
    /// Stored name, without a first slash.
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryKind,
    pub(super) meta: &'a Meta,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
    pub(super) attributes: Vec<(OsString, Vec<u8>)>,
}

impl Entry<'_> {
    /// The bytes of content that follow the header.
    pub(super) fn size(&self) -> u64 {
        if self.kind == EntryKind::File { self.meta.size } else { 0 }
    }

    /// Writes the headers.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut records = Vec::new();
        let mut header = tar::Header::new_ustar();
        let mut name = self.name.clone();
        let (entry_type, target) = match &self.kind {
            EntryKind::File => (tar::EntryType::Regular, &[][..]),
            EntryKind::Folder => (tar::EntryType::Directory, &[][..]),
            EntryKind::Symlink(target) => (tar::EntryType::Symlink, target.as_slice()),
            EntryKind::HardLink(target) => (tar::EntryType::Link, target.as_slice()),
        };
        if self.kind == EntryKind::Folder {
            name.push(b'/');
        }
        header.set_entry_type(entry_type);
        header.set_mode(self.meta.mode);
        put_bytes(&mut header, 0, NAME_BYTES_MAX, &name, "path", &mut records);
        put_bytes(&mut header, 157, NAME_BYTES_MAX, target, "linkpath", &mut records);
        put_bytes(&mut header, 265, OWNER_NAME_BYTES_MAX, &self.user, "uname", &mut records);
        put_bytes(&mut header, 297, OWNER_NAME_BYTES_MAX, &self.group, "gname", &mut records);
        self.put_numbers(&mut header, &mut records);
        for (key, value) in &self.attributes {
            let mut full = b"SCHILY.xattr.".to_vec();
            for byte in key.as_bytes() {
                // A '=' would end the key; this is how GNU tar writes one.
                match byte {
                    b'=' => full.extend_from_slice(b"%3D"),
                    b'%' => full.extend_from_slice(b"%25"),
                    other => full.push(*other),
                }
            }
            record(&full, value, &mut records);
        }
        header.set_cksum();
        if !records.is_empty() {
            let mut pax = tar::Header::new_ustar();
            pax.set_entry_type(tar::EntryType::XHeader);
            pax.set_mode(0o644);
            pax.set_size(records.len() as u64);
            put_bytes(&mut pax, 0, NAME_BYTES_MAX, b"PaxHeaders/entry", "path", &mut Vec::new());
            pax.set_cksum();
            out.write_all(pax.as_bytes())?;
            out.write_all(&records)?;
            write_padding(out, records.len() as u64)?;
        }
        out.write_all(header.as_bytes())
    }

    fn put_numbers(&self, header: &mut tar::Header, records: &mut Vec<u8>) {
        let mut owner = |value: u32, key: &[u8]| {
            if value > OWNER_MAX {
                record(key, value.to_string().as_bytes(), records);
            }
            u64::from(value.min(OWNER_MAX))
        };
        header.set_uid(owner(self.meta.uid, b"uid"));
        header.set_gid(owner(self.meta.gid, b"gid"));
        let size = self.size();
        if size > NUMBER_MAX {
            record(b"size", size.to_string().as_bytes(), records);
        }
        // Beyond its eleven digits the field is written in base 256, which every reader of today knows.
        header.set_size(size);
        let (seconds, nanos) = self.meta.modified;
        let in_header = u64::try_from(seconds).unwrap_or(0).min(NUMBER_MAX);
        header.set_mtime(in_header);
        if nanos != 0 || i64::try_from(in_header) != Ok(seconds) {
            record(b"mtime", decimal(seconds, nanos).as_bytes(), records);
        }
    }
}

/// Seconds since 1970 with nine digits of fraction; before 1970 the fraction counts the other way.
fn decimal(seconds: i64, nanos: u32) -> String {
    if seconds >= 0 || nanos == 0 {
        return format!("{seconds}.{nanos:09}");
    }
    let (whole, rest) = ((seconds + 1).unsigned_abs(), 1_000_000_000 - nanos);
    format!("-{whole}.{rest:09}")
}

/// Puts bytes into a field of the header; what does not fit goes to a PAX record as well.
fn put_bytes(header: &mut tar::Header, at: usize, limit: usize, bytes: &[u8], key: &str, records: &mut Vec<u8>) {
    let length = bytes.len().min(limit);
    if let (Some(field), Some(head)) = (header.as_mut_bytes().get_mut(at..at + length), bytes.get(..length)) {
        field.copy_from_slice(head);
    }
    if bytes.len() > limit {
        record(key.as_bytes(), bytes, records);
    }
}

/// Appends one PAX record: its own length in decimal, a space, key, `=`, value, newline.
fn record(key: &[u8], value: &[u8], records: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Fills the last block after this many bytes.
pub(super) fn write_padding(out: &mut dyn Write, length: u64) -> io::Result<()> {
    let missing = usize::try_from(length.next_multiple_of(BLOCK) - length).unwrap_or(0);
    out.write_all([0; 512].get(..missing).unwrap_or_default())
}

/// Ends a tar.
pub(super) fn write_end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 1024])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 0..1200 {
            let mut records = Vec::new();
            record(b"path", &vec![b'x'; length], &mut records);
            let text = String::from_utf8(records).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970_count_backwards() {
        assert_eq!(decimal(1, 5), "1.000000005");
        assert_eq!(decimal(-1, 750_000_000), "-0.250000000");
        assert_eq!(decimal(-2, 0), "-2.000000000");
    }
}
