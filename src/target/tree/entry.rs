//! One entry of a tar as it is placed: whose it becomes, where it goes, and whether it may go there.

use super::super::accounts::Owner;
use super::{TreeError, Unpack, hostile};
use crate::report::Level;
use crate::sources::files::rules::{self, COMPANIONS, Fault, LeftOut};
use crate::sources::files::{Head, Kind};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The owner of an entry.
pub(super) fn owner_of(head: &Head) -> Owner {
    Owner { user: head.user.clone(), uid: head.uid, group: head.group.clone(), gid: head.gid }
}

/// Where an entry goes, as the restored machine names it; nowhere when it is left out, which is then told. An error for
/// what no tar of ours holds.
pub(super) fn place_of(how: &Unpack<'_>, head: &Head, left_out: &mut LeftOut) -> Result<Option<PathBuf>, TreeError> {
    match rules::judge(head) {
        Ok(()) => {}
        Err(Fault::Hostile(why)) => return Err(hostile(&head.name, why)),
        Err(Fault::LeftOut(why)) => {
            left_out.add(&head.name, Level::Degraded, why);
            return Ok(None);
        }
    }
    let path = how.below.join(OsStr::from_bytes(&head.name));
    if let Some((level, why)) = forbidden(how, head, &path) {
        left_out.add(&head.name, level, why);
        return Ok(None);
    }
    if let Kind::Symlink(target) = &head.kind
        && !stays_below(target, &path, how.below)
    {
        return Err(hostile(&head.name, "is a symbolic link that leads out of where the tar belongs"));
    }
    Ok(Some(path))
}

/// Why an entry would come where this tar has no business.
fn forbidden(how: &Unpack<'_>, head: &Head, path: &Path) -> Option<(Level, &'static str)> {
    how.forbidden.iter().find_map(|forbidden| {
        let its_own = path.as_os_str().as_bytes().strip_prefix(forbidden.as_os_str().as_bytes());
        if its_own.is_some_and(|end| COMPANIONS.contains(&end)) {
            return Some((Level::Note, "would be put where this tar must leave things alone"));
        }
        let hides = head.kind != Kind::Folder && forbidden.starts_with(path);
        let level = if hides { Level::Degraded } else { Level::Note };
        let why = "would move aside what this tar must leave alone";
        (hides || path.starts_with(forbidden)).then_some((level, why))
    })
}

/// Whether a symbolic link stays in the folder the tar belongs to, as the restored machine will see it. It is never
/// followed here.
fn stays_below(target: &[u8], path: &Path, below: &Path) -> bool {
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
    end.starts_with(below)
}
