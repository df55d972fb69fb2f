//! Reads a tar of files back: whole, counted, and without a name that could lead out of the folder it is extracted
//! to. Extracts nothing.

use super::header::BLOCK;
use super::{FilesError, TarError};
use crate::facts::files::TarFacts;
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read};
use std::rc::Rc;

/// Most symbolic links that are remembered while a tar is checked; a tar with more is refused.
const LINKS_MAX: usize = 1_000_000;

/// Reads a whole tar and counts what is in it. Fails on damage, on a missing end, on names that are absolute, hold
/// `..` or NUL or lead through a symbolic link of the same tar, and on entries that are neither file, folder nor link.
pub fn inspect(reader: impl Read) -> Result<TarFacts, FilesError> {
    let (watched, whole) = Whole::watch(reader);
    let mut archive = tar::Archive::new(watched);
    let mut facts = TarFacts::default();
    let mut links = HashSet::new();
    let mut last = Vec::new();
    let bad = |entries| move |source| TarError::Damaged { entries, source };
    for entry in archive.entries().map_err(bad(0))? {
        let mut entry = entry.map_err(bad(facts.entries))?;
        let name = entry.path_bytes().into_owned();
        check_name(&name, &links)?;
        match entry.header().entry_type() {
            tar::EntryType::Regular => facts.files += 1,
            tar::EntryType::Directory => facts.folders += 1,
            tar::EntryType::Symlink => {
                facts.symlinks += 1;
                links.insert(without_end(&name).to_vec());
                if links.len() > LINKS_MAX {
                    return Err(hostile(&name, "is one symbolic link too many"));
                }
            }
            tar::EntryType::Link => {
                facts.hard_links += 1;
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                check_name(&target, &links)?;
            }
            _ => return Err(hostile(&name, "is neither file, folder nor link")),
        }
        facts.entries += 1;
        facts.bytes += io::copy(&mut entry, &mut io::sink()).map_err(bad(facts.entries))?;
        if name == last {
            facts.repeated += 1;
        }
        last = name;
    }
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).and_then(|_| whole.check()).map_err(bad(facts.entries))?;
    Ok(facts)
}

/// Reads a whole tar and holds it against what was noted when it was written.
pub fn check(reader: impl Read, expected: &TarFacts) -> Result<TarFacts, FilesError> {
    let found = inspect(reader)?;
    let pairs = [
        ("entries", expected.entries, found.entries),
        ("files", expected.files, found.files),
        ("folders", expected.folders, found.folders),
        ("symbolic links", expected.symlinks, found.symlinks),
        ("hard links", expected.hard_links, found.hard_links),
        ("repeated entries", expected.repeated, found.repeated),
        ("bytes of content", expected.bytes, found.bytes),
    ];
    match pairs.into_iter().find(|(_, expected, found)| expected != found) {
        Some((what, expected, found)) => Err(FilesError::Differs { what, expected, found }),
        None => Ok(found),
    }
}

fn without_end(name: &[u8]) -> &[u8] {
    name.strip_suffix(b"/").unwrap_or(name)
}

fn hostile(name: &[u8], why: &'static str) -> FilesError {
    TarError::hostile(name, why).into()
}

fn check_name(name: &[u8], links: &HashSet<Vec<u8>>) -> Result<(), FilesError> {
    let name = without_end(name);
    let why = if name.is_empty() {
        "has no name"
    } else if name.starts_with(b"/") {
        "is absolute"
    } else if name.contains(&0) {
        "holds a NUL"
    } else if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
        "leads out of its folder"
    } else if !links.is_empty()
        && name.iter().enumerate().any(|(at, byte)| *byte == b'/' && name.get(..at).is_some_and(|p| links.contains(p)))
    {
        "leads through a symbolic link of the same tar"
    } else {
        return Ok(());
    };
    Err(hostile(name, why))
}

/// Knows, once a tar was read, whether its end was there.
#[derive(Clone, Debug, Default)]
pub struct Whole(Rc<RefCell<Tail>>);

/// How long what was read is, and how many zero bytes it ends in.
#[derive(Debug, Default)]
struct Tail {
    length: u64,
    zeros: u64,
}

impl Whole {
    /// A reader that hands on what the other gives, and what will know of its end.
    pub fn watch<R: Read>(inner: R) -> (impl Read, Self) {
        let whole = Self::default();
        (Watched { inner, tail: Rc::clone(&whole.0) }, whole)
    }

    /// An error unless what was read by now, to its last byte, ends as a tar does.
    pub fn check(&self) -> io::Result<()> {
        let tail = self.0.borrow();
        if !tail.length.is_multiple_of(BLOCK) || tail.zeros < 2 * BLOCK {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its end is missing"));
        }
        Ok(())
    }
}

struct Watched<R> {
    inner: R,
    tail: Rc<RefCell<Tail>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let mut tail = self.tail.borrow_mut();
        tail.length += length as u64;
        let read = buffer.get(..length).unwrap_or_default();
        match read.iter().rposition(|byte| *byte != 0) {
            Some(at) => tail.zeros = (length - at - 1) as u64,
            None => tail.zeros += length as u64,
        }
        Ok(length)
    }
}
