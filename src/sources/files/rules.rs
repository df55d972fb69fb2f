//! What of a tar comes back, and what does not: the one list that `backup` writes by and that `verify`, a dry run and
//! `restore` read by. What only an author who means harm could have written ends the reading. What backups hold that a
//! restore must not place, or cannot, is left out, one entry at a time, and told.

use super::TarError;
use super::reader::{Head, Kind};
use crate::artifact::channels::NAMES_REFUSED;
use crate::base::limits::{TAR_LEFT_OUT_TOLD_MAX, TAR_NAME_BYTES_MAX};
use crate::report::{Finding, Level};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// What SQLite keeps beside a database.
pub const COMPANIONS: [&[u8]; 4] = [b"", b"-journal", b"-wal", b"-shm"];
/// What the name of everything half-made of a restore begins with.
const STAGING: &[u8] = b".relay-backup-staging-";

/// Why an entry with such a name is left out.
pub const NODE_DATABASE: &str = "is named as a node's channel database";
/// Why a hard link ends the reading.
pub const NO_FIRST_NAME: &str = "is a second name of a file that is not in the tar before it";
/// Why one is left out.
pub const SECOND_NAME: &str = "is a second name of an entry that is left out";
/// Why an entry ends it.
pub const TOO_MANY: &str = "is one entry too many";
const HALF_MADE: &str = "is named as something half-made of a restore";
const TOO_LONG: &str = "has a longer path than a program can open";

/// What an entry may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No tar of ours holds it.
    Hostile(&'static str),
    /// It is not placed; the others are.
    LeftOut(&'static str),
}

/// What an entry is, as far as its name matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A folder, or a file without a byte.
    Empty,
    /// A file that holds something, or a link.
    Filled,
}

/// Why an entry of this name and shape is left out of tars and of restores.
pub fn left_out(name: &[u8], shape: Shape) -> Option<&'static str> {
    if name.len() > TAR_NAME_BYTES_MAX {
        return Some(TOO_LONG);
    }
    if name.split(|byte| *byte == b'/').any(|part| part.starts_with(STAGING)) {
        return Some(HALF_MADE);
    }
    let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_toxic = |known: &&str| base.strip_prefix(known.as_bytes()).is_some_and(|end| COMPANIONS.contains(&end));
    // A folder and an empty file hold no channel state; what is not empty is not looked into, whatever it holds.
    (shape == Shape::Filled && NAMES_REFUSED.iter().any(is_toxic)).then_some(NODE_DATABASE)
}

/// Judges an entry by what its headers say.
pub fn judge(head: &Head) -> Result<(), Fault> {
    check_name(&head.name)?;
    let shape = match &head.kind {
        Kind::Other => return Err(Fault::Hostile("is neither file, folder nor link")),
        Kind::Folder | Kind::Symlink(_) | Kind::HardLink(_) if head.size > 0 => {
            return Err(Fault::Hostile("is no file and has content"));
        }
        Kind::Folder => Shape::Empty,
        Kind::File if head.size == 0 => Shape::Empty,
        Kind::File => Shape::Filled,
        Kind::HardLink(target) => {
            check_name(target)?;
            Shape::Filled
        }
        Kind::Symlink(target) if target.is_empty() || target.contains(&0) => {
            return Err(Fault::Hostile("is a symbolic link to nothing that can be"));
        }
        Kind::Symlink(target) if target.len() > TAR_NAME_BYTES_MAX => return Err(Fault::LeftOut(TOO_LONG)),
        Kind::Symlink(_) => Shape::Filled,
    };
    match head.fault.or_else(|| left_out(&head.name, shape)) {
        Some(why) => Err(Fault::LeftOut(why)),
        None => Ok(()),
    }
}

fn check_name(name: &[u8]) -> Result<(), Fault> {
    Err(Fault::Hostile(if name.is_empty() {
        "has no name"
    } else if name.starts_with(b"/") {
        "is absolute"
    } else if name.contains(&0) {
        "holds a NUL"
    } else if name.split(|byte| *byte == b'/').any(|part| matches!(part, b".." | b"." | b"")) {
        "leads out of its folder"
    } else {
        return Ok(());
    }))
}

/// Names that were seen, without keeping them. The sums are keyed anew each time, so that nobody can make two names
/// that are taken for one.
#[derive(Debug, Default)]
pub struct Names {
    key: RandomState,
    seen: HashSet<u64>,
}

impl Names {
    /// Remembers a name.
    pub fn add(&mut self, name: &[u8]) {
        self.seen.insert(self.key.hash_one(name));
    }

    /// Whether it was seen.
    pub fn has(&self, name: &[u8]) -> bool {
        self.seen.contains(&self.key.hash_one(name))
    }
}

/// What was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    told: Vec<(String, Level, &'static str)>,
    more: u64,
}

impl LeftOut {
    /// Adds an entry.
    pub fn add(&mut self, name: &[u8], level: Level, why: &'static str) {
        if self.told.len() < TAR_LEFT_OUT_TOLD_MAX {
            self.told.push((TarError::shown(name), level, why));
        } else {
            self.more += 1;
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.told.len() as u64 + self.more
    }

    /// The same as findings about a tar.
    pub fn findings(&self, tar: &str) -> Vec<Finding> {
        let told = self.told.iter().map(|(name, level, why)| {
            let message = format!("the tar's entry {name:?} {why}, and is left out of a restore; the others are not");
            Finding::new(*level, "entry-left-out", tar, message).with_hint(match level {
                Level::Note => "it comes back by an artifact of its own, under that one's guards, or not at all",
                _ => "if you need it, take the tar out with `extract` to an empty folder, and it from there by hand",
            })
        });
        let more = (self.more > 0).then(|| {
            let message = format!("{} further entries are left out of a restore", self.more);
            Finding::new(Level::Degraded, "entry-left-out", tar, message).with_hint("take the tar out with `extract`")
        });
        told.chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_no_channel_database_and_what_it_may_hold_is() {
        let toxic = ["lightningd.sqlite3", "a/channel.db-wal", "a/b/sphinxreplay.db", "channel.sqlite-journal"];
        for name in toxic {
            assert_eq!(left_out(name.as_bytes(), Shape::Filled), Some(NODE_DATABASE), "{name}");
            assert_eq!(left_out(name.as_bytes(), Shape::Empty), None, "{name}");
        }
        for name in ["channel.db.txt", "channel.db/x", "x-channel.db", "lightningd.sqlite3-old"] {
            assert_eq!(left_out(name.as_bytes(), Shape::Filled), None, "{name}");
        }
        assert_eq!(left_out(b"a/.relay-backup-staging-1/x", Shape::Empty), Some(HALF_MADE));
        assert_eq!(left_out(&[b'x'; TAR_NAME_BYTES_MAX], Shape::Filled), None);
        assert_eq!(left_out(&[b'x'; TAR_NAME_BYTES_MAX + 1], Shape::Empty), Some(TOO_LONG));
    }
}
