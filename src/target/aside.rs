//! What is in the way is moved aside, as one: a database goes with its `-journal`, `-wal` and `-shm` into a folder
//! beside it, under the same names, so that it can be opened there as it was. The database goes first: a journal
//! without its database is inert where it lies, a database without its journal is not. Never removes, never copies,
//! never replaces; a move that was cut off goes on where it stopped.

use super::durable::Durable;
use super::place::{describe, rename_new};
use super::root::{Folder, NewFolder, Root, file, kind_name, kind_of};
use super::{TargetError, steps};
use crate::plan::SIDE_FILES;
use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Mode of the folder that takes what is moved.
const FOLDER_MODE: u32 = 0o700;
/// Longest name of a file, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What is moved aside together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The thing itself.
    main: PathBuf,
    /// What belongs to it and lies beside it, where it is there.
    companions: Vec<PathBuf>,
    /// The folder beside it that takes them.
    into: PathBuf,
}

/// How far a move has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Nothing is there, and nothing was moved.
    Nothing,
    /// Something is there, and nothing was moved.
    There,
    /// The main file was moved, something that belongs to it is still there: the move was cut off.
    HalfWay,
    /// It was moved; nothing of it is left.
    Moved,
    /// It was moved, and something new stands in its place.
    Again,
}

/// What was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The places they were moved to, on this machine, earlier runs included.
    pub to: Vec<PathBuf>,
}

impl Aside {
    /// One file, link or folder. `label` says when or for which snapshot: letters, digits, `.`, `_`, `-`.
    pub fn single(path: &Path, label: &str) -> Result<Self, TargetError> {
        Ok(Self { main: path.to_owned(), companions: Vec::new(), into: beside(path, label)? })
    }

    /// A SQLite database with what SQLite keeps beside it.
    pub fn database(path: &Path, label: &str) -> Result<Self, TargetError> {
        let companions = SIDE_FILES
            .iter()
            .map(|ending| {
                let mut name = path.as_os_str().to_owned();
                name.push(ending);
                PathBuf::from(name)
            })
            .collect();
        Ok(Self { main: path.to_owned(), companions, into: beside(path, label)? })
    }

    /// The folder that takes them, as the restored machine names it.
    pub fn folder(&self) -> &Path {
        &self.into
    }

    /// The thing itself.
    pub fn main(&self) -> &Path {
        &self.main
    }
}

/// `<path>.replaced-<label>`.
fn beside(path: &Path, label: &str) -> Result<PathBuf, TargetError> {
    let bad = |why| TargetError::BadPath { path: path.to_owned(), why };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if label.is_empty() || !label.chars().all(is_plain) {
        return Err(bad("what is added to its name would not be plain"));
    }
    let mut name = path.file_name().ok_or_else(|| bad("it names nothing"))?.to_owned();
    name.push(".replaced-");
    name.push(label);
    if name.len() > NAME_BYTES_MAX {
        return Err(bad("its name is too long to be moved aside"));
    }
    Ok(path.with_file_name(name))
}

impl Root {
    /// How far a move has come. A symbolic link in the place of a database is refused: what SQLite keeps lies beside
    /// the link's end.
    pub fn aside_stand(&self, aside: &Aside) -> Result<Stand, TargetError> {
        let here = self.look(&aside.main)?;
        if let Some(stat) = here.filter(|_| !aside.companions.is_empty())
            && kind_of(&stat) != FileType::RegularFile
        {
            let path = self.path_of(&aside.main);
            if kind_of(&stat) == FileType::Symlink {
                return Err(TargetError::Symlink { path });
            }
            return Err(TargetError::Occupied { path, what: format!("{} and no database", kind_name(&stat)) });
        }
        let name = aside.main.file_name().unwrap_or_default();
        let moved = self.look(&aside.into.join(name))?.is_some();
        let mut left = false;
        for companion in &aside.companions {
            left |= self.look(companion)?.is_some();
        }
        Ok(match (here.is_some(), moved, left) {
            (true, true, _) => Stand::Again,
            (true, false, _) => Stand::There,
            (false, true, true) => Stand::HalfWay,
            (false, true, false) => Stand::Moved,
            // A journal whose database is gone: of no use to anybody, and in the way of a new one.
            (false, false, true) => Stand::There,
            (false, false, false) => Stand::Nothing,
        })
    }

    /// Moves everything aside, each as one, in this order: name a mirror before what it mirrors. What was moved by an
    /// earlier run counts; something new in the place of what was moved is an error.
    pub fn move_aside(&self, asides: &[Aside]) -> Result<Moved, TargetError> {
        let mut moved = Moved::default();
        for aside in asides {
            match self.aside_stand(aside)? {
                Stand::Nothing => {}
                Stand::Again => return Err(self.again(aside)?),
                Stand::There => {
                    let (from, into) = self.open_aside(aside)?;
                    self.move_main(aside, &from, &into)?;
                    self.move_companions(aside, &from, &into, &mut moved)?;
                }
                Stand::HalfWay | Stand::Moved => {
                    let (from, into) = self.open_aside(aside)?;
                    self.move_companions(aside, &from, &into, &mut moved)?;
                }
            }
        }
        Ok(moved)
    }

    /// Exchanges what is in the way for a file of ours, in one instant: there is no moment in which the place is
    /// empty. The file must stand in the folder that takes what is moved, under the name of what it is exchanged for,
    /// so that what comes out of the exchange is aside already. Companions follow.
    pub(super) fn exchange_aside(&self, aside: &Aside) -> Result<Moved, TargetError> {
        let (from, into) = self.open_aside(aside)?;
        let name = aside.main.file_name().unwrap_or_default();
        let path = self.path_of(&aside.main);
        rustix::fs::renameat_with(into.fd(), name, from.fd(), name, RenameFlags::EXCHANGE)
            .map_err(|errno| file("exchange", &path, errno))?;
        steps::reached("exchanged")?;
        into.sync()?;
        from.sync()?;
        self.finish_aside(aside)
    }

    /// Moves what belongs to a database that was moved or exchanged already.
    pub(super) fn finish_aside(&self, aside: &Aside) -> Result<Moved, TargetError> {
        let mut moved = Moved::default();
        let (from, into) = self.open_aside(aside)?;
        self.move_companions(aside, &from, &into, &mut moved)?;
        Ok(moved)
    }

    fn again(&self, aside: &Aside) -> Result<TargetError, TargetError> {
        let (folder, name) = self.parent_of(&aside.main)?;
        let mut what = describe(&folder, &name)?;
        what.push_str("; an earlier one was moved aside before");
        Ok(TargetError::Occupied { path: self.path_of(&aside.main), what })
    }

    /// The folder they lie in, and the one that takes them, made where it is missing.
    pub(super) fn open_aside(&self, aside: &Aside) -> Result<(Folder, Folder), TargetError> {
        let (from, _) = self.parent_of(&aside.main)?;
        let name = aside.into.file_name().unwrap_or_default();
        match from.enter(name) {
            Err(TargetError::Missing { .. }) => {
                from.sweep()?;
                self.make_folder(
                    &from,
                    name,
                    NewFolder { owner: None, mode: FOLDER_MODE, durable: Durable::Now },
                    &mut Vec::new(),
                )?;
                steps::reached("folder for what is moved made")?;
            }
            other => drop(other?),
        }
        let into = from.enter(name)?;
        Ok((from, into))
    }

    fn move_main(&self, aside: &Aside, from: &Folder, into: &Folder) -> Result<(), TargetError> {
        move_one(aside.main.file_name().unwrap_or_default(), from, into)
    }

    fn move_companions(
        &self,
        aside: &Aside,
        from: &Folder,
        into: &Folder,
        moved: &mut Moved,
    ) -> Result<(), TargetError> {
        for companion in &aside.companions {
            move_one(companion.file_name().unwrap_or_default(), from, into)?;
        }
        into.sync()?;
        from.sync()?;
        let mut names: Vec<OsString> = into.names()?;
        names.sort();
        moved.to.extend(names.iter().map(|name| into.path().join(name)));
        Ok(())
    }
}

/// Moves one file if it is there. Both folders are synced one by one, so that a power cut keeps the order.
fn move_one(name: &OsStr, from: &Folder, into: &Folder) -> Result<(), TargetError> {
    let path = from.path().join(name);
    match rename_new(from, name, into, name) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::EXIST) => {
            return Err(TargetError::Occupied { what: describe(into, name)?, path: into.path().join(name) });
        }
        Err(errno) => return Err(file("move", &path, errno)),
    }
    steps::reached("moved")?;
    into.sync()?;
    from.sync()
}

#[cfg(test)]
mod tests {
    use super::super::Owners;
    use super::*;
    use std::os::unix::fs::symlink;

    const LABEL: &str = "20261120T051200Z";

    fn ground() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        for place in ["lightning", "mirror"] {
            std::fs::create_dir(folder.path().join(place)).unwrap();
            for ending in ["", "-journal", "-wal"] {
                std::fs::write(folder.path().join(place).join(format!("db{ending}")), format!("{place}{ending}"))
                    .unwrap();
            }
        }
        let root = Root::below(folder.path(), Owners::Required).unwrap();
        (folder, root)
    }

    fn both() -> [Aside; 2] {
        ["/mirror/db", "/lightning/db"].map(|path| Aside::database(Path::new(path), LABEL).unwrap())
    }

    fn names(folder: PathBuf) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_database_is_moved_with_all_that_is_its_own_wherever_an_earlier_run_was_cut_off() {
        let points = steps::survive(
            ground,
            |(folder, root)| {
                for place in ["lightning", "mirror"] {
                    let at = |name: &str| folder.path().join(place).join(name).exists();
                    assert!(!at("db") || (at("db-journal") && at("db-wal")), "a database without its journal");
                }
                let moved = root.move_aside(&both())?;
                assert_eq!(moved.to.len(), 6);
                Ok(())
            },
            |(folder, root), point| {
                for place in ["lightning", "mirror"] {
                    let here = folder.path().join(place);
                    let aside = format!("db.replaced-{LABEL}");
                    assert_eq!(names(here.clone()), std::slice::from_ref(&aside), "point {point}");
                    assert_eq!(names(here.join(&aside)), ["db", "db-journal", "db-wal"]);
                    assert_eq!(
                        std::fs::read(here.join(&aside).join("db-wal")).unwrap(),
                        format!("{place}-wal").as_bytes()
                    );
                }
                assert_eq!(root.aside_stand(&both()[0]).unwrap(), Stand::Moved);
            },
        );
        assert_eq!(points, 14);
    }

    #[test]
    fn the_database_goes_before_its_journal() {
        let (folder, root) = ground();
        let aside = Aside::database(Path::new("/lightning/db"), LABEL).unwrap();
        assert_eq!(root.aside_stand(&aside).unwrap(), Stand::There);
        let (from, into) = root.open_aside(&aside).unwrap();
        root.move_main(&aside, &from, &into).unwrap();
        assert_eq!(root.aside_stand(&aside).unwrap(), Stand::HalfWay);
        assert!(folder.path().join("lightning/db-journal").exists());
        root.move_aside(std::slice::from_ref(&aside)).unwrap();
        assert_eq!(root.aside_stand(&aside).unwrap(), Stand::Moved);
    }

    #[test]
    fn what_appears_after_a_move_is_not_mixed_with_what_was_moved() {
        let (folder, root) = ground();
        let aside = [Aside::database(Path::new("/lightning/db"), LABEL).unwrap()];
        root.move_aside(&aside).unwrap();
        std::fs::write(folder.path().join("lightning/db"), "new").unwrap();
        assert_eq!(root.aside_stand(&aside[0]).unwrap(), Stand::Again);
        let error = root.move_aside(&aside).unwrap_err();
        assert!(matches!(&error, TargetError::Occupied { what, .. } if what.contains("earlier")), "{error}");
        assert_eq!(std::fs::read(folder.path().join("lightning/db")).unwrap(), b"new");
        let later = [Aside::database(Path::new("/lightning/db"), "later").unwrap()];
        root.move_aside(&later).unwrap();
        assert_eq!(names(folder.path().join("lightning/db.replaced-later")), ["db"]);
    }

    #[test]
    fn links_and_odd_labels_are_refused_and_nothing_there_is_nothing_to_do() {
        let (folder, root) = ground();
        symlink("db", folder.path().join("lightning/link")).unwrap();
        let link = Path::new("/lightning/link");
        let database = Aside::database(link, LABEL).unwrap();
        assert!(matches!(root.move_aside(&[database]), Err(TargetError::Symlink { .. })));
        root.move_aside(&[Aside::single(link, LABEL).unwrap()]).unwrap();
        assert!(folder.path().join(format!("lightning/link.replaced-{LABEL}/link")).is_symlink());
        for label in ["", "a/b", "a b"] {
            assert!(Aside::single(link, label).is_err());
        }
        let nothing = Aside::database(Path::new("/lightning/none"), LABEL).unwrap();
        assert_eq!(root.aside_stand(&nothing).unwrap(), Stand::Nothing);
        assert_eq!(root.move_aside(&[nothing]).unwrap(), Moved::default());
        // A journal without a database would be played into whatever is put there next.
        std::fs::write(folder.path().join("lightning/lone-journal"), "hot").unwrap();
        let lone = Aside::database(Path::new("/lightning/lone"), LABEL).unwrap();
        root.move_aside(std::slice::from_ref(&lone)).unwrap();
        assert_eq!(names(folder.path().join(format!("lightning/lone.replaced-{LABEL}"))), ["lone-journal"]);
        assert_eq!(root.aside_stand(&lone).unwrap(), Stand::Nothing);
    }
}
