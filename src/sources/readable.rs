//! What is read for whom. The agent may read more than the people whose files it reads, and a symbolic link leads where
//! whoever made it wanted: so a way through somebody's link is gone only as far as he may go himself, and what he may
//! not read is not read for him. Links of root's and of the agent's own lead anywhere. Access lists are not looked at:
//! who has a right by one alone has none here, and that is told.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Most links on one way; the system's own limit.
const LINKS_MAX: usize = 40;
/// The permission bits, as they stand for others.
const READ: u32 = 4;
const SEARCH: u32 = 1;

/// Somebody who chose where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    uid: u32,
    groups: Vec<u32>,
}

impl Person {
    fn of(uid: u32) -> Self {
        let groups = uzers::get_user_by_uid(uid).and_then(|user| {
            let all = uzers::get_user_groups(user.name(), user.primary_group_id())?;
            Some(all.iter().map(uzers::Group::gid).chain([user.primary_group_id()]).collect())
        });
        Self { uid, groups: groups.unwrap_or_default() }
    }

    /// Whether he may read a file, or list and walk a folder, of this owner and mode.
    pub(super) fn may_read(&self, uid: u32, gid: u32, mode: u32, is_folder: bool) -> bool {
        self.may(uid, gid, mode, if is_folder { READ | SEARCH } else { READ })
    }

    fn may(&self, uid: u32, gid: u32, mode: u32, wanted: u32) -> bool {
        let shift = match (uid == self.uid, self.groups.contains(&gid)) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        (mode >> shift) & wanted == wanted
    }
}

/// A path without a link in it, and the people whose links led there.
#[derive(Debug)]
pub(super) struct Way {
    /// Where it leads.
    pub(super) path: PathBuf,
    /// Those whose links are on it, but for root and the agent.
    pub(super) people: Vec<Person>,
}

impl Way {
    /// Follows a path, its last part included.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut ahead: VecDeque<OsString> = path.components().map(|part| part.as_os_str().to_owned()).collect();
        let (mut here, mut links, mut people) = (PathBuf::from("/"), 0, BTreeSet::new());
        while let Some(part) = ahead.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => here = PathBuf::from("/"),
                Some(Component::ParentDir) => drop(here.pop()),
                Some(Component::Normal(name)) => {
                    let next = here.join(name);
                    let meta = fs::symlink_metadata(&next)?;
                    if !meta.is_symlink() {
                        here = next;
                        continue;
                    }
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    // Whoever owns the folder can put another link in its place.
                    people.extend([meta.uid(), fs::symlink_metadata(&here)?.uid()]);
                    let target = fs::read_link(&next)?;
                    target.components().rev().for_each(|part| ahead.push_front(part.as_os_str().to_owned()));
                }
                _ => {}
            }
        }
        let trusted = [0, uzers::get_effective_uid()];
        let people = people.into_iter().filter(|uid| !trusted.contains(uid)).map(Person::of).collect();
        Ok(Self { path: here, people })
    }

    /// Whether all of them may walk the folders above its end.
    pub(super) fn is_open_to_all(&self) -> io::Result<bool> {
        for folder in self.path.ancestors().skip(1) {
            let meta = fs::symlink_metadata(folder)?;
            if !self.people.iter().all(|person| person.may(meta.uid(), meta.gid(), meta.mode(), SEARCH)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens its end, and no link on the way there, be it that one was put there since.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut here = rustix::fs::openat(CWD, "/", folder, Mode::empty())?;
        let mut parts = self.path.components().skip(1).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() { flags | OFlags::NOFOLLOW | OFlags::CLOEXEC } else { folder };
            here = rustix::fs::openat(&here, part.as_os_str(), flags, Mode::empty())?;
        }
        Ok(here)
    }
}

/// Opens a file for reading; nothing when somebody whose link leads there may not read it himself.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    let way = Way::of(path)?;
    let file = File::from(way.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
    let meta = file.metadata()?;
    let may = |person: &Person| person.may_read(meta.uid(), meta.gid(), meta.mode(), false);
    Ok((way.people.iter().all(may) && way.is_open_to_all()?).then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    #[test]
    fn what_somebody_may_not_read_is_not_read_through_his_link() {
        if !rustix::process::geteuid().is_root() {
            // Only root can make links that are somebody else's.
            return;
        }
        let ground = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(ground.path(), 0o755);
        let (his, ours) = (ground.path().join("his"), ground.path().join("ours"));
        for folder in [&his, &ours] {
            fs::create_dir(folder).unwrap();
        }
        lchown(&his, Some(64_321), Some(64_321)).unwrap();
        let link = |name: &str, to: &Path| {
            symlink(to, his.join(name)).unwrap();
            lchown(his.join(name), Some(64_321), Some(64_321)).unwrap();
            his.join(name)
        };
        let secret = ours.join("secret");
        fs::write(&secret, "secret").unwrap();
        mode(&secret, 0o600);
        let (direct, round) = (link("direct", &secret), link("way", &ours).join("secret"));
        let twice = link("twice", &direct);
        for path in [&direct, &round, &twice] {
            assert!(open(path).unwrap().is_none(), "{}", path.display());
        }
        assert!(open(&secret).unwrap().is_some(), "no link of his leads there");
        mode(&secret, 0o644);
        for path in [&direct, &round, &twice] {
            assert!(open(path).unwrap().is_some(), "{}: he may read it", path.display());
        }
        mode(&ours, 0o700);
        for path in [&direct, &round, &twice] {
            assert!(open(path).unwrap().is_none(), "{}: he may not go there", path.display());
        }
        let by_root = ground.path().join("by-root");
        symlink(&secret, &by_root).unwrap();
        assert!(open(&by_root).unwrap().is_some());
    }
}
