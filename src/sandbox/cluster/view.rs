//! What a scratch server sees of this machine: the system's programs, libraries and locales, where PostgreSQL lies,
//! five devices, and its own folders where they lie outside. No home, no `/etc` but what names its user, no `/run`, no
//! `/var`, no `/proc`: PostgreSQL needs none of them. Makes the folders that they are shown at.

use super::libraries;
use crate::base::confinement::{Cell, How, ROOT, Shown};
use crate::base::fsio::FileError;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Folders of the system: the first, and others that are links into it on most machines.
const TOP: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What else programs and libraries may lead to.
const FURTHER: [&str; 3] = ["/etc/alternatives", "/nix/store", "/run/current-system"];
/// What lies beside the folder of PostgreSQL's programs and is PostgreSQL's too. Not what else is there: it might be
/// somebody's home.
const BESIDE: [&str; 3] = ["lib", "lib64", "share"];
/// What is run of PostgreSQL's programs.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Files of `/etc` that are copied: where libraries are and what locales are also called.
const COPIED: [&str; 2] = ["ld.so.cache", "locale.alias"];

/// Files of `/etc` that a server needs that sees the machine's.
const NAMES: [&str; 4] = ["passwd", "group", "nsswitch.conf", "hosts"];

/// Sets a stage on which a server runs that has its programs in `bin` and may write to `own`, as this user and group.
pub(super) fn set(stage: &Path, bin: &Path, own: &[PathBuf], user: (u32, u32)) -> Result<Cell, FileError> {
    folder(stage)?;
    // The stage itself first, so that it is a mount of its own and nobody writes to it.
    let closed = Shown { from: stage.to_owned(), at: stage.to_owned(), how: How::Read };
    let mut view = View { root: stage.join(ROOT), shown: vec![closed] };
    folder(&view.root)?;
    for path in TOP.into_iter().chain(FURTHER) {
        view.show_if_there(Path::new(path))?;
    }
    if !view.is_shown(bin) {
        let beside = bin.parent().into_iter().flat_map(|prefix| BESIDE.map(|name| prefix.join(name)));
        let libraries = libraries::of(&PROGRAMS.map(|program| bin.join(program)));
        for path in std::iter::once(bin.to_owned()).chain(beside).chain(libraries) {
            view.show_if_there(&path)?;
        }
    }
    for device in DEVICES {
        view.show_file(&Path::new("/dev").join(device), How::Device)?;
    }
    view.write_names(user)?;
    for path in own {
        view.show(path, How::Write)?;
    }
    Ok(Cell { stage: stage.to_owned(), shown: view.shown })
}

/// What a server sees at its own place that has no stage.
pub(super) fn without_stage(cell: &Cell) -> Vec<Shown> {
    let names = NAMES.into_iter().chain(COPIED).map(|name| Path::new("/etc").join(name));
    let names = names.map(|path| Shown { from: path.clone(), at: path, how: How::Read });
    cell.shown.iter().filter(|shown| shown.from != cell.stage).cloned().chain(names).collect()
}

struct View {
    root: PathBuf,
    shown: Vec<Shown>,
}

impl View {
    /// Where a path of this machine is on the stage.
    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether it is seen already.
    fn is_shown(&self, path: &Path) -> bool {
        self.shown.iter().any(|shown| shown.how == How::Read && path.starts_with(&shown.from))
    }

    /// Shows a folder or file at its own place; a link there is a link here, and what it leads to is shown.
    fn show_if_there(&mut self, path: &Path) -> Result<(), FileError> {
        match fs::symlink_metadata(path) {
            _ if self.is_shown(path) => Ok(()),
            Ok(meta) if meta.is_symlink() => {
                let target = fs::read_link(path).map_err(FileError::io("read", path))?;
                self.folders_to(path)?;
                is_done(symlink(target, self.at(path))).map_err(FileError::io("make a link like", path))?;
                fs::canonicalize(path).map_or(Ok(()), |real| self.show_if_there(&real))
            }
            Ok(meta) if meta.is_dir() => self.show(path, How::Read),
            Ok(meta) if meta.is_file() => self.show_file(path, How::Read),
            _ => Ok(()),
        }
    }

    fn show(&mut self, path: &Path, how: How) -> Result<(), FileError> {
        let at = self.at(path);
        // What lies in a folder that is shown is there when its turn comes.
        if !self.is_shown(path) {
            self.folders_to(path)?;
            folder(&at)?;
        }
        self.shown.push(Shown { from: path.to_owned(), at, how });
        Ok(())
    }

    fn show_file(&mut self, path: &Path, how: How) -> Result<(), FileError> {
        let at = self.at(path);
        self.folders_to(path)?;
        write(&at, b"")?;
        self.shown.push(Shown { from: path.to_owned(), at, how });
        Ok(())
    }

    /// The few files of `/etc`: `initdb` asks for the name of its user, and versions before 15 for `localhost`.
    fn write_names(&self, (uid, gid): (u32, u32)) -> Result<(), FileError> {
        let etc = Path::new("/etc");
        self.folders_to(&etc.join("passwd"))?;
        let own = [
            ("passwd", format!("scratch:x:{uid}:{gid}::/:/bin/false\n")),
            ("group", format!("scratch:x:{gid}:\n")),
            ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
            ("hosts", "127.0.0.1 localhost\n".to_owned()),
        ];
        for (name, text) in own {
            write(&self.at(&etc.join(name)), text.as_bytes())?;
        }
        for name in COPIED {
            match fs::read(etc.join(name)) {
                Ok(bytes) => write(&self.at(&etc.join(name)), &bytes)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FileError::io("read", &etc.join(name))(error)),
            }
        }
        Ok(())
    }

    /// Makes the folders that lead to a path.
    fn folders_to(&self, path: &Path) -> Result<(), FileError> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        above.into_iter().try_for_each(|above| folder(&self.at(above)))
    }
}

/// Makes a folder that everybody can walk through, if it is not there.
fn folder(path: &Path) -> Result<(), FileError> {
    is_done(fs::create_dir(path)).map_err(FileError::io("create", path))?;
    // Whatever the umask says.
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(FileError::io("open", path))
}

/// What is there already was made before.
fn is_done(made: io::Result<()>) -> io::Result<()> {
    made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fs::write(path, bytes).map_err(FileError::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(FileError::io("open", path))
}
