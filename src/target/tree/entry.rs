//! One entry of a tar as it was written: name, kind, owner by name and number, times below a second, extended
//! attributes; and whether its name and its target stay where they belong.

use super::super::accounts::Owner;
use super::{TreeError, hostile};
use crate::base::limits::TAR_NAME_BYTES_MAX;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
}

/// One entry, but for its content.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its name without a last slash.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) owner: Owner,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, u32),
    pub(super) extended: Vec<(OsString, Vec<u8>)>,
}

impl Entry {
    /// Reads an entry's headers. A kind that no tar of ours holds is an error of its own, told by [`Entry::place`].
    pub(super) fn read<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Self> {
        let mut name = entry.path_bytes().into_owned();
        if name.ends_with(b"/") {
            name.pop();
        }
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let header = entry.header().clone();
        let kind = match header.entry_type() {
            tar::EntryType::Regular => Kind::File,
            tar::EntryType::Directory => Kind::Folder,
            tar::EntryType::Symlink => Kind::Symlink(target),
            tar::EntryType::Link => Kind::HardLink(target),
            _ => {
                let shown = String::from_utf8_lossy(&name).chars().take(200).collect::<String>();
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the entry {shown:?} is neither file, folder nor link"),
                ));
            }
        };
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let number = |value: u64| u32::try_from(value).map_err(|_| io::Error::other("an owner's number is too large"));
        let mut read = Self {
            name,
            kind,
            size: entry.size(),
            mode: header.mode()? & 0o7777,
            owner: Owner {
                user: text(header.username_bytes()),
                uid: number(header.uid()?)?,
                group: text(header.groupname_bytes()),
                gid: number(header.gid()?)?,
            },
            modified: (i64::try_from(header.mtime()?).unwrap_or(i64::MAX), 0),
            extended: Vec::new(),
        };
        if let Some(records) = entry.pax_extensions()? {
            for record in records {
                let record = record?;
                read.apply(record.key_bytes(), record.value_bytes())?;
            }
        }
        Ok(read)
    }

    /// A record of the header before the entry's own, which goes before what that says.
    fn apply(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a number in a header is none");
        let text = || std::str::from_utf8(value).map_err(|_| bad());
        let number = || text()?.parse().map_err(|_| bad());
        match key {
            b"uid" => self.owner.uid = number()?,
            b"gid" => self.owner.gid = number()?,
            b"uname" => self.owner.user = Some(String::from_utf8_lossy(value).into_owned()),
            b"gname" => self.owner.group = Some(String::from_utf8_lossy(value).into_owned()),
            b"mtime" => self.modified = decimal(text()?).ok_or_else(bad)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.extended.push((attribute_name(name), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Where it goes, as the restored machine names it.
    pub(super) fn place(&self, below: &Path) -> Result<PathBuf, TreeError> {
        check_name(&self.name, &self.name)?;
        if let Kind::HardLink(target) = &self.kind {
            check_name(&self.name, target)?;
        }
        Ok(below.join(OsStr::from_bytes(&self.name)))
    }

    /// Refuses a symbolic link that leads out of the folder the tar belongs to, as the restored machine will see it. It
    /// is never followed here.
    pub(super) fn check_target(&self, target: &[u8], path: &Path, below: &Path) -> Result<(), TreeError> {
        let bad = target.is_empty() || target.contains(&0) || target.len() > TAR_NAME_BYTES_MAX;
        let mut here: Vec<&OsStr> = match target.first() {
            Some(b'/') => Vec::new(),
            _ => path.parent().into_iter().flat_map(Path::iter).skip(1).collect(),
        };
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                // At the root itself, upwards leads nowhere.
                b".." => drop(here.pop()),
                name => here.push(OsStr::from_bytes(name)),
            }
        }
        let end: PathBuf = std::iter::once(OsStr::new("/")).chain(here).collect();
        if bad || !end.starts_with(below) {
            return Err(hostile(&self.name, "is a symbolic link that leads out of where the tar belongs"));
        }
        Ok(())
    }
}

fn check_name(entry: &[u8], name: &[u8]) -> Result<(), TreeError> {
    let why = if name.is_empty() {
        "has no name"
    } else if name.len() > TAR_NAME_BYTES_MAX {
        "has too long a name"
    } else if name.starts_with(b"/") {
        "is absolute"
    } else if name.contains(&0) {
        "holds a NUL"
    } else if name.split(|byte| *byte == b'/').any(|part| matches!(part, b".." | b"." | b"")) {
        "leads out of its folder"
    } else if name.split(|byte| *byte == b'/').any(|part| part.starts_with(b".relay-backup-staging-")) {
        "is named as something half-made"
    } else {
        return Ok(());
    };
    Err(hostile(entry, why))
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
}
