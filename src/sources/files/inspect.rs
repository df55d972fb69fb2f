//! Reads a tar of files back: whole, counted, and held against the rules by which it would be restored. Extracts
//! nothing.

use super::reader::{Kind, TarReader};
use super::rules::{self, Fault, LeftOut, Names};
use super::{FilesError, TarError};
use crate::base::limits::TAR_ENTRIES_MAX;
use crate::facts::files::TarFacts;
use crate::report::Level;
use std::collections::HashSet;
use std::io::{self, Read};

/// Most symbolic links that are remembered while a tar is checked; a tar with more is refused.
const LINKS_MAX: usize = 1_000_000;

/// What was found in a tar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// What was counted.
    pub facts: TarFacts,
    /// What a restore would not place.
    pub left_out: LeftOut,
}

/// Reads a whole tar and counts what is in it. Fails on damage, on a missing end, on names that are absolute, hold
/// `..` or NUL or lead through a symbolic link of the same tar, and on entries that are neither file, folder nor link.
pub fn inspect(reader: impl Read) -> Result<Inspected, FilesError> {
    let mut tar = TarReader::new(reader);
    let mut found = Inspected::default();
    let (mut links, mut names, mut last) = (HashSet::new(), Names::default(), Vec::new());
    while let Some(head) = tar.next_entry()? {
        let facts = &mut found.facts;
        match rules::judge(&head) {
            Ok(()) => {}
            Err(Fault::Hostile(why)) => return Err(TarError::hostile(&head.name, why).into()),
            Err(Fault::LeftOut(why)) => found.left_out.add(&head.name, Level::Degraded, why),
        }
        check_way(&head.name, &head.name, &links)?;
        match &head.kind {
            Kind::File => {
                facts.files += 1;
                names.add(&head.name);
            }
            Kind::Folder => facts.folders += 1,
            Kind::Symlink(_) => {
                facts.symlinks += 1;
                links.insert(head.name.clone());
                if links.len() > LINKS_MAX {
                    return Err(TarError::hostile(&head.name, "is one symbolic link too many").into());
                }
            }
            Kind::HardLink(target) => {
                facts.hard_links += 1;
                check_way(&head.name, target, &links)?;
                if !names.has(target) {
                    return Err(TarError::hostile(&head.name, rules::NO_FIRST_NAME).into());
                }
            }
            Kind::Other => {}
        }
        facts.entries += 1;
        facts.bytes += io::copy(&mut tar, &mut io::sink()).map_err(|source| tar.damaged(source))?;
        if facts.entries > TAR_ENTRIES_MAX {
            return Err(TarError::hostile(&head.name, rules::TOO_MANY).into());
        }
        facts.repeated += u64::from(head.name == last);
        last = head.name;
    }
    Ok(found)
}

/// Reads a whole tar and holds it against what was noted when it was written.
pub fn check(reader: impl Read, expected: &TarFacts) -> Result<Inspected, FilesError> {
    let inspected = inspect(reader)?;
    let found = &inspected.facts;
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
        None => Ok(inspected),
    }
}

/// Refuses a name that leads through a symbolic link of the same tar.
fn check_way(entry: &[u8], name: &[u8], links: &HashSet<Vec<u8>>) -> Result<(), FilesError> {
    let leads = |(at, byte): (usize, &u8)| *byte == b'/' && name.get(..at).is_some_and(|part| links.contains(part));
    if !links.is_empty() && name.iter().enumerate().any(leads) {
        return Err(TarError::hostile(entry, "leads through a symbolic link of the same tar").into());
    }
    Ok(())
}
