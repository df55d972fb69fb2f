//! The way back: a database that a fence was exchanged for returns to its place, with what belongs to it. Under the
//! lock only; wherever it is cut off, the same call goes on, and at no point does a database stand in its place without
//! its journal.

use super::{Fence, FenceError, Found, found_in, remove};
use crate::target::aside::Aside;
use crate::target::place::{describe, rename_new};
use crate::target::root::{Folder, Root, file};
use crate::target::{TargetError, steps};
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::path::Path;

/// What a folder's name has between the database's name and the label of a move aside.
const INFIX: &str = ".replaced-";

/// The labels under which a database of this name was moved aside and still lies there. Only labels with this
/// beginning; a folder that holds nothing but a fence's text does not count.
pub fn labels_aside(root: &Root, wallet: &Path, beginning: &str) -> Result<Vec<String>, TargetError> {
    let (folder, name) = match root.parent_of(wallet) {
        Err(TargetError::Missing { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let Some(stem) = name.to_str().map(|name| format!("{name}{INFIX}")) else { return Ok(Vec::new()) };
    let mut labels = Vec::new();
    for entry in folder.names()? {
        let Some(label) = entry.to_str().and_then(|entry| entry.strip_prefix(&stem)) else { continue };
        if label.starts_with(beginning)
            && let Found::Other(_) = found_in(&folder.enter(&entry)?, &name)?
        {
            labels.push(label.to_owned());
        }
    }
    labels.sort_unstable();
    Ok(labels)
}

impl Fence<'_> {
    /// Puts a database back in the place that a fence keeps for it, and gives the lock back. What belongs to the
    /// database goes first: beside a text it does nothing, but a database without it is an older one.
    pub fn put_back(self, aside: &Aside) -> Result<(), FenceError> {
        let path = self.root.path_of(&self.place.wallet);
        let (from, name) = self.root.parent_of(aside.main())?;
        let Some(into_name) = aside.folder().file_name() else { return Err(gone(path, "nothing")) };
        let into = match from.enter(into_name) {
            // An earlier run came to the end and was cut off before it gave the lock back.
            Err(TargetError::Missing { .. }) if matches!(found_in(&from, &name)?, Found::Other(_)) => {
                return Ok(self.release()?);
            }
            other => other?,
        };
        match (found_in(&from, &name)?, found_in(&into, &name)?) {
            (Found::Fence(_), Found::Other(_)) => {
                into.sweep()?;
                move_companions(&into, &from, &name)?;
                rustix::fs::renameat_with(into.fd(), &name, from.fd(), &name, RenameFlags::EXCHANGE)
                    .map_err(|errno| file("exchange", &path, errno))?;
                steps::reached("exchanged back")?;
                from.sync()?;
                into.sync()?;
                remove(&into, &name)?;
            }
            // Cut off after the exchange.
            (Found::Other(_), Found::Fence(_)) => {
                from.sync()?;
                remove(&into, &name)?;
            }
            (Found::Other(_), Found::Nothing) => {}
            (Found::Other(what), Found::Other(_)) => return Err(gone(path, &what)),
            (Found::Nothing, _) => return Err(gone(path, "nothing")),
            (Found::Fence(_), _) => return Err(gone(into.path().join(&name), "no database")),
        }
        steps::reached("text removed")?;
        match rustix::fs::unlinkat(from.fd(), into_name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => from.sync()?,
            Err(errno) => return Err(file("remove", into.path(), errno).into()),
        }
        Ok(self.release()?)
    }
}

fn gone(path: std::path::PathBuf, what: &str) -> FenceError {
    FenceError::Gone { path, what: what.to_owned() }
}

/// Moves everything but the database itself.
fn move_companions(into: &Folder, from: &Folder, name: &OsStr) -> Result<(), TargetError> {
    let mut names = into.names()?;
    names.sort();
    for companion in names.iter().filter(|companion| companion.as_os_str() != name) {
        match rename_new(into, companion, from, companion) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let path = from.path().join(companion);
                return Err(TargetError::Occupied { what: describe(from, companion)?, path });
            }
            Err(errno) => return Err(file("move", &into.path().join(companion), errno)),
        }
        steps::reached("moved back")?;
    }
    from.sync()?;
    into.sync()
}
