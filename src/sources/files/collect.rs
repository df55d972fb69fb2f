//! The walk: from the roots down, folder by folder, each in the order of its names' bytes, every file opened
//! relative to its folder so that no link can lead it elsewhere. Memory is bounded: one listing per level, one
//! small file, one buffer. After the first obstacle nothing more is written; the walk goes on only to name the
//! others.

use super::expand::{Excludes, Plan};
use super::header::{self, Entry, EntryKind};
use super::meta::{self, Meta};
use super::no_database;
use super::obstacle::{Obstacle, shown};
use super::phrase;
use super::rules::{self, Shape};
use super::screen::{self, LockedBolt, Verdict};
use crate::base::interrupt::Interrupt;
use crate::base::limits::{TAR_ENTRIES_MAX, TAR_EXTENSION_BYTES_MAX, TAR_NAME_BYTES_MAX};
use crate::facts::files::TarFacts;
use crate::report::{Finding, Level};
use crate::sources::readable::{Person, Way};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use uzers::{Groups, Users, UsersCache};
use zeroize::Zeroizing;

/// Files up to this length, in bytes, are read to memory whole, so that only a stable state is written.
const SMALL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How often a changing file is read again.
const AGAIN_MAX: usize = 3;
const BUFFER_BYTES: usize = 256 * 1024;
/// Most folders in folders; each level holds one descriptor.
const DEPTH_MAX: usize = 128;
/// Most bytes of attributes that one entry is stored with; its name and its link's target come beside them.
const ATTRIBUTES_BYTES_MAX: usize = TAR_EXTENSION_BYTES_MAX as usize - 4 * TAR_NAME_BYTES_MAX;
/// Most obstacles that are named.
const OBSTACLES_MAX: usize = 20;
/// Most notes that are kept; the rest is counted.
const NOTES_MAX: usize = 200;
/// Most files with several names that are remembered until their last name was seen.
const LINKS_MAX: usize = 200_000;

/// Why a walk ended early.
pub(super) enum Stop {
    /// What was read could not be handed on.
    Sink(io::Error),
    /// Somebody asked to stop.
    Interrupted,
}

/// Why one reading of a file did not come to its end.
enum ReadFailure {
    Stop(Stop),
    File(io::Error),
}

impl From<Stop> for ReadFailure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// One walk over all roots.
pub(super) struct Collector<'a> {
    out: &'a mut dyn Write,
    roots: Vec<PathBuf>,
    excludes: Excludes,
    locked_bolt: LockedBolt,
    interrupt: &'a Interrupt,
    /// Whose links lead to the root that is walked.
    people: Vec<Person>,
    is_writing: bool,
    entries_max: u64,
    obstacles: Vec<Obstacle>,
    more_obstacles: usize,
    findings: Vec<Finding>,
    more_findings: usize,
    more_level: Level,
    facts: TarFacts,
    /// Files with several names: the stored name of the first, and how many names are still to come.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    users: UsersCache,
    buffer: Zeroizing<Vec<u8>>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(out: &'a mut dyn Write, plan: Plan, locked_bolt: LockedBolt, interrupt: &'a Interrupt) -> Self {
        Self {
            out,
            roots: plan.roots,
            excludes: plan.excludes,
            locked_bolt,
            interrupt,
            people: Vec::new(),
            is_writing: true,
            entries_max: TAR_ENTRIES_MAX,
            obstacles: plan.obstacles,
            more_obstacles: 0,
            findings: Vec::new(),
            more_findings: 0,
            more_level: Level::Note,
            facts: TarFacts::default(),
            links: HashMap::new(),
            users: UsersCache::new(),
            buffer: Zeroizing::new(vec![0; BUFFER_BYTES]),
        }
    }

    /// Writes nothing; only looks for obstacles.
    #[must_use]
    pub(super) fn counting_only(mut self) -> Self {
        self.is_writing = false;
        self
    }

    #[cfg(test)]
    pub(super) fn at_most(mut self, entries: u64) -> Self {
        self.entries_max = entries;
        self
    }

    /// Walks all roots and ends the tar.
    pub(super) fn run(&mut self) -> Result<(), Stop> {
        for root in std::mem::take(&mut self.roots) {
            let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else { continue };
            let opened = Way::of(parent)
                .and_then(|way| Ok((way.is_open_to_all()?, way.open(OFlags::PATH | OFlags::DIRECTORY)?, way.people)));
            match opened {
                Ok((true, folder, people)) => {
                    self.people = people;
                    self.entry(folder.as_fd(), name, &root, 0)?;
                }
                Ok((false, ..)) => self.not_for_its_owner(&root),
                Err(error) => self.unreadable("open", parent, error),
            }
        }
        if self.is_writing {
            header::write_end(self.out).map_err(Stop::Sink)?;
        }
        Ok(())
    }

    /// What was counted, and what stood in the way; the findings go to `findings`.
    pub(super) fn finish(mut self, findings: &mut Vec<Finding>) -> (TarFacts, Vec<Obstacle>, usize) {
        findings.append(&mut self.findings);
        if self.more_findings > 0 {
            let message = format!("{} further remarks were left out", self.more_findings);
            findings.push(Finding::new(self.more_level, "remarks-left-out", "", message));
        }
        findings.extend(self.excludes.unused());
        (self.facts, self.obstacles, self.more_obstacles)
    }

    fn obstacle(&mut self, obstacle: Obstacle) {
        self.is_writing = false;
        if self.obstacles.len() < OBSTACLES_MAX {
            self.obstacles.push(obstacle);
        } else {
            self.more_obstacles += 1;
        }
    }

    fn unreadable(&mut self, action: &'static str, path: &Path, source: io::Error) {
        self.obstacle(Obstacle::Unreadable { action, path: path.to_owned(), source });
    }

    fn find(&mut self, finding: Finding) {
        if finding.level <= Level::Degraded && self.findings.len() >= NOTES_MAX {
            self.more_findings += 1;
            self.more_level = self.more_level.max(finding.level);
        } else {
            self.findings.push(finding);
        }
    }

    fn note(&mut self, code: &str, path: &Path, what: &str) {
        let message = format!("{} {what}", shown(path));
        self.find(Finding::new(Level::Note, code, shown(path), message));
    }

    fn entry(&mut self, folder: BorrowedFd<'_>, name: &OsStr, path: &Path, depth: usize) -> Result<(), Stop> {
        if self.interrupt.is_set() {
            return Err(Stop::Interrupted);
        }
        if self.excludes.covers(path) {
            return Ok(());
        }
        // Between the look and the opening it may have become something else; then it is looked at again.
        for _ in 0..=AGAIN_MAX {
            let meta = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Meta::from(stat),
                Err(Errno::NOENT) => {
                    self.vanished(path, depth);
                    return Ok(());
                }
                Err(errno) => {
                    self.unreadable("look at", path, errno.into());
                    return Ok(());
                }
            };
            // A file is judged by its content first, and then by its name.
            let shape = if meta.kind == FileType::Symlink { Shape::Filled } else { Shape::Empty };
            if let Some(why) = rules::left_out(&meta::stored_name(path), shape) {
                self.leave_out(path, why);
                return Ok(());
            }
            let extra = match meta.kind {
                FileType::Directory => OFlags::DIRECTORY,
                FileType::RegularFile => OFlags::empty(),
                FileType::Symlink => return self.symlink(folder, name, path, &meta),
                other => {
                    self.special(path, other);
                    return Ok(());
                }
            };
            let opened = match meta::open_in(folder, name, extra) {
                Ok(opened) => opened,
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => continue,
                Err(errno) => {
                    self.unreadable("open", path, errno.into());
                    return Ok(());
                }
            };
            match rustix::fs::fstat(&opened).map(Meta::from) {
                Ok(now) if now.kind != meta.kind => {}
                Ok(now) if !self.is_for_all(&now) => {
                    self.not_for_its_owner(path);
                    return Ok(());
                }
                Ok(now) if now.kind == FileType::Directory => return self.folder(opened.as_fd(), path, &now, depth),
                Ok(_) => return self.file(File::from(opened), folder, name, path),
                Err(errno) => {
                    self.unreadable("look at", path, errno.into());
                    return Ok(());
                }
            }
        }
        self.vanished(path, depth);
        Ok(())
    }

    /// Whether all whose links led here may read it themselves.
    fn is_for_all(&self, meta: &Meta) -> bool {
        let is_folder = meta.kind == FileType::Directory;
        self.people.iter().all(|person| person.may_read(meta.uid, meta.gid, meta.mode, is_folder))
    }

    fn not_for_its_owner(&mut self, path: &Path) {
        let message = format!("{} is reached through a link whose owner may not read it, and is left out", shown(path));
        self.find(
            Finding::new(Level::Degraded, "not-for-its-owner", shown(path), message)
                .with_hint("name in paths where the link leads to, if that is what you want backed up"),
        );
    }

    /// Tells of what no restore would place, so that no tar holds it.
    fn leave_out(&mut self, path: &Path, why: &str) {
        let message = format!("{} {why} and is left out: no restore would place it", shown(path));
        self.find(
            Finding::new(Level::Degraded, "entry-left-out", shown(path), message)
                .with_hint("add it to exclude if this source need not hold it; if it must, give it another name"),
        );
    }

    fn vanished(&mut self, path: &Path, depth: usize) {
        if depth == 0 {
            self.obstacle(Obstacle::Missing { path: path.to_owned() });
        } else {
            self.note("file-vanished", path, "vanished after its folder was listed and is left out");
        }
    }

    fn special(&mut self, path: &Path, kind: FileType) {
        let what = match kind {
            FileType::Socket => "is a socket and is left out",
            FileType::Fifo => "is a fifo and is left out",
            _ => "is a device and is left out",
        };
        self.note("special-file", path, what);
    }

    fn folder(&mut self, folder: BorrowedFd<'_>, path: &Path, meta: &Meta, depth: usize) -> Result<(), Stop> {
        if depth >= DEPTH_MAX {
            self.obstacle(Obstacle::TooDeep { path: path.to_owned(), limit: DEPTH_MAX });
            return Ok(());
        }
        let has = |name: &str| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if has("PG_VERSION") && has("global/pg_control") {
            self.obstacle(Obstacle::Live {
                path: path.to_owned(),
                what: "a PostgreSQL data folder",
                remedy: "back its databases up by a source of kind postgres",
            });
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default();
        if name.as_bytes().starts_with(b"lightning.pre-recover.") {
            self.note("pre-recover", path, "was set aside by a recovery of Core Lightning and holds an hsm_secret");
        }
        let names = match list(folder) {
            Ok(names) => names,
            Err(errno) => {
                self.unreadable("list", path, errno.into());
                return Ok(());
            }
        };
        let attributes = meta::attributes(folder);
        self.head(path, EntryKind::Folder, meta, attributes)?;
        for name in names {
            self.entry(folder, &name, &path.join(&name), depth + 1)?;
        }
        Ok(())
    }

    fn symlink(&mut self, folder: BorrowedFd<'_>, name: &OsStr, path: &Path, meta: &Meta) -> Result<(), Stop> {
        match rustix::fs::readlinkat(folder, name, Vec::new()) {
            Ok(target) => {
                let attributes = meta::link_attributes(folder, name);
                self.head(path, EntryKind::Symlink(target.into_bytes()), meta, attributes)
            }
            Err(errno) => {
                self.unreadable("read the link", path, errno.into());
                Ok(())
            }
        }
    }

    /// Writes the headers of an entry and counts it.
    fn head(
        &mut self,
        path: &Path,
        kind: EntryKind,
        meta: &Meta,
        attributes: Result<Vec<(OsString, Vec<u8>)>, Errno>,
    ) -> Result<(), Stop> {
        let attributes = match attributes {
            Ok(attributes) => self.fitting(path, attributes),
            Err(errno) => {
                self.unreadable("read the attributes of", path, errno.into());
                return Ok(());
            }
        };
        if self.is_writing && self.facts.entries >= self.entries_max {
            self.obstacle(Obstacle::TooMany { path: path.to_owned(), limit: self.entries_max });
        }
        if !self.is_writing {
            return Ok(());
        }
        let user = self.users.get_user_by_uid(meta.uid).map(|user| user.name().as_bytes().to_vec());
        let group = self.users.get_group_by_gid(meta.gid).map(|group| group.name().as_bytes().to_vec());
        let entry = Entry {
            name: meta::stored_name(path),
            kind,
            meta,
            user: user.unwrap_or_default(),
            group: group.unwrap_or_default(),
            attributes,
        };
        entry.write(self.out).map_err(Stop::Sink)?;
        self.facts.entries += 1;
        self.facts.bytes += entry.size();
        *match entry.kind {
            EntryKind::File => &mut self.facts.files,
            EntryKind::Folder => &mut self.facts.folders,
            EntryKind::Symlink(_) => &mut self.facts.symlinks,
            EntryKind::HardLink(_) => &mut self.facts.hard_links,
        } += 1;
        Ok(())
    }

    /// The attributes of a file, unless they are more than is read back.
    fn fitting(&mut self, path: &Path, attributes: Vec<(OsString, Vec<u8>)>) -> Vec<(OsString, Vec<u8>)> {
        // Each takes its length in digits, and its name up to three times as long.
        let length: usize = attributes.iter().map(|(name, value)| 3 * name.len() + value.len() + 64).sum();
        if length <= ATTRIBUTES_BYTES_MAX {
            return attributes;
        }
        let message = format!("{} has {length} bytes of attributes, which are left out", shown(path));
        self.find(
            Finding::new(Level::Degraded, "attributes-left-out", shown(path), message)
                .with_hint("look who gave it so many (`getfattr -d -m - FILE`), and remove what nobody needs"),
        );
        Vec::new()
    }

    fn file(&mut self, mut file: File, folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), Stop> {
        let verdict = screen::screen(&file, folder, name, self.locked_bolt);
        if self.refuses(verdict, &file, path) || !self.is_writing {
            return Ok(());
        }
        let read = match rustix::fs::fstat(&file).map(Meta::from) {
            Ok(meta) if self.leaves_out(path, &meta) => return Ok(()),
            Ok(meta) if self.writes_link(path, &meta)? => return Ok(()),
            Ok(meta) if meta.size <= SMALL_BYTES_MAX => self.small(&mut file, path),
            Ok(_) => self.large(&mut file, path),
            Err(errno) => Err(ReadFailure::File(errno.into())),
        };
        match read {
            Ok(()) => {}
            Err(ReadFailure::Stop(stop)) => return Err(stop),
            Err(ReadFailure::File(error)) => self.unreadable("read", path, error),
        }
        if verdict == Verdict::IdleSqlite {
            // Somebody may have begun to use it meanwhile.
            let again = screen::screen(&file, folder, name, self.locked_bolt);
            self.refuses(again, &file, path);
        }
        Ok(())
    }

    fn refuses(&mut self, verdict: Verdict, file: &File, path: &Path) -> bool {
        if let Verdict::Unclear(what) = verdict {
            return self.is_left(file, path, what);
        }
        let path = path.to_owned();
        self.obstacle(match verdict {
            Verdict::Plain | Verdict::IdleSqlite | Verdict::Unclear(_) => return false,
            Verdict::Toxic(what) => Obstacle::Toxic { path, what },
            Verdict::Live(what, remedy) => Obstacle::Live { path, what, remedy },
        });
        true
    }

    /// Whether a file has a name under which no restore would place it.
    fn leaves_out(&mut self, path: &Path, meta: &Meta) -> bool {
        let shape = if meta.size == 0 { Shape::Empty } else { Shape::Filled };
        let why = rules::left_out(&meta::stored_name(path), shape);
        why.inspect(|why| self.leave_out(path, why)).is_some()
    }

    /// Whether a file that begins like a database is left as it is, and tells so. Anybody who may upload a file can
    /// make such a one: the others are taken all the same.
    fn is_left(&mut self, file: &File, path: &Path, what: &str) -> bool {
        if no_database::is_no_database(file) {
            self.note("no-database", path, &format!("begins like {what} and is none; it is taken byte for byte"));
            return false;
        }
        let message = format!("{} begins like {what}, and what is in it cannot be read: it is left out", shown(path));
        let hint = format!(
            "look whether it is damaged, and keep the seed of an encrypted wallet by itself; if it may be lost, add {:?} to exclude",
            path.to_string_lossy()
        );
        self.find(Finding::new(Level::Degraded, "database-unclear", shown(path), message).with_hint(hint));
        true
    }

    /// Writes a link when this file is in the tar already, under another name.
    fn writes_link(&mut self, path: &Path, meta: &Meta) -> Result<bool, Stop> {
        if meta.links < 2 {
            return Ok(false);
        }
        let id = (meta.device, meta.inode);
        if let Some((first, left)) = self.links.get_mut(&id) {
            let target = first.clone();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.links.remove(&id);
            }
            self.head(path, EntryKind::HardLink(target), meta, Ok(Vec::new()))?;
            return Ok(true);
        }
        if self.links.len() < LINKS_MAX {
            self.links.insert(id, (meta::stored_name(path), meta.links - 1));
        } else {
            self.note("hard-link-copied", path, "has several names; it is stored as a file of its own");
        }
        Ok(false)
    }

    /// Reads a small file to memory until it did not change meanwhile, then writes it.
    fn small(&mut self, file: &mut File, path: &Path) -> Result<(), ReadFailure> {
        let mut content = Zeroizing::new(Vec::new());
        let mut is_stable = false;
        let mut meta = now(file)?;
        for _ in 0..AGAIN_MAX {
            meta = now(file)?;
            // Reserved at once, so that no copy of a secret stays behind in a buffer that was outgrown.
            content = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.size).unwrap_or(0) + 1));
            file.rewind().map_err(ReadFailure::File)?;
            (&*file).take(meta.size + 1).read_to_end(&mut content).map_err(ReadFailure::File)?;
            if !meta.has_changed(&now(file)?) && content.len() as u64 == meta.size {
                is_stable = true;
                break;
            }
        }
        if !is_stable {
            self.keeps_changing(path);
            meta.size = content.len() as u64;
        }
        self.head(path, EntryKind::File, &meta, meta::attributes(&*file))?;
        if self.is_writing {
            self.out.write_all(&content).map_err(Stop::Sink)?;
            header::write_padding(self.out, meta.size).map_err(Stop::Sink)?;
        }
        if meta.size <= phrase::TEXT_BYTES_MAX && phrase::is_in(&content) {
            self.find(
                Finding::new(
                    Level::Note,
                    "bip39-phrase",
                    shown(path),
                    format!("{} holds a valid BIP39 phrase: the words of a wallet, in the clear", shown(path)),
                )
                .with_hint(
                    "whoever can read this file or open this backup can spend from that wallet; keep it on paper",
                ),
            );
        }
        Ok(())
    }

    /// Streams a large file; when it changed meanwhile it is appended again, and the last entry counts.
    fn large(&mut self, file: &mut File, path: &Path) -> Result<(), ReadFailure> {
        for turn in 0..=AGAIN_MAX {
            let meta = now(file)?;
            self.head(path, EntryKind::File, &meta, meta::attributes(&*file))?;
            if !self.is_writing {
                return Ok(());
            }
            self.facts.repeated += u64::from(turn > 0);
            file.rewind().map_err(ReadFailure::File)?;
            let is_short = self.stream(file, meta.size)?;
            if !is_short && !meta.has_changed(&now(file)?) {
                return Ok(());
            }
        }
        self.keeps_changing(path);
        Ok(())
    }

    /// Writes exactly this many bytes; tells whether the file had fewer, and zeros stand in for them.
    fn stream(&mut self, file: &mut File, size: u64) -> Result<bool, ReadFailure> {
        let (mut left, mut is_short) = (size, false);
        while left > 0 {
            if self.interrupt.is_set() {
                return Err(Stop::Interrupted.into());
            }
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(buffer) = self.buffer.get_mut(..wanted) else { break };
            let mut length = if is_short { 0 } else { file.read(buffer).map_err(ReadFailure::File)? };
            if length == 0 {
                is_short = true;
                buffer.fill(0);
                length = wanted;
            }
            let read = buffer.get(..length).unwrap_or_default();
            self.out.write_all(read).map_err(Stop::Sink)?;
            left -= length as u64;
        }
        header::write_padding(self.out, size).map_err(Stop::Sink)?;
        Ok(is_short)
    }

    fn keeps_changing(&mut self, path: &Path) {
        let message = format!("{} changed each time it was read; what is stored may be torn", shown(path));
        self.find(
            Finding::new(Level::Failed, "file-kept-changing", shown(path), message)
                .with_hint("stop what writes it while the backup runs, or exclude it if it may be lost"),
        );
    }
}

fn now(file: &File) -> Result<Meta, ReadFailure> {
    rustix::fs::fstat(file).map(Meta::from).map_err(|errno| ReadFailure::File(errno.into()))
}

/// The names in a folder, sorted by their bytes.
fn list(folder: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}
