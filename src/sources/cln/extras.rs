//! A node's small files in one tar: TLS keys and certificates, configuration, the rune of an admin. Names in the
//! tar are relative to the lightning directory. Only files named here are taken, so that no database, secret or
//! socket is.

use super::error::ClnError;
use crate::base::fsio::{self, FileError};
use crate::base::ids::Sha256Hex;
use crate::base::limits::NODE_FILE_BYTES_MAX;
use crate::facts::cln::{ExtraFile, ExtrasFacts};
use crate::sources::SourceError;
use crate::sources::readable;
use crate::sources::sqlite::live_file;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Names taken in the lightning directory and in the network's folder, besides `*.pem` in the latter.
const NAMES: [&str; 3] = ["config", "config.setconfig", "admin-rune"];

/// The files there are, sorted, as paths relative to the lightning directory; then those that are links to what their
/// owner may not read himself.
pub(super) fn list(lightning_dir: &Path, network: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ClnError> {
    let network = Path::new(network);
    let mut files: Vec<PathBuf> = NAMES.iter().flat_map(|name| [PathBuf::from(name), network.join(name)]).collect();
    let folder = lightning_dir.join(network);
    let entries = std::fs::read_dir(&folder).map_err(FileError::io("list", &folder)).map_err(ClnError::File)?;
    for entry in entries {
        let name = entry.map_err(FileError::io("list", &folder)).map_err(ClnError::File)?.file_name();
        if Path::new(&name).extension().is_some_and(|ending| ending == "pem") {
            files.push(network.join(name));
        }
    }
    files.retain(|file| std::fs::metadata(lightning_dir.join(file)).is_ok_and(|meta| meta.is_file()));
    files.sort();
    // What cannot be opened at all fails when it is read.
    let (files, others) =
        files.into_iter().partition(|file| !matches!(readable::open(&lightning_dir.join(file)), Ok(None)));
    Ok((files, others))
}

/// Writes the tar and tells what is in it. A file that vanished since it was listed is an error.
pub(super) fn write(lightning_dir: &Path, files: &[PathBuf], out: &mut dyn Write) -> Result<ExtrasFacts, SourceError> {
    let mut tar = tar::Builder::new(out);
    let mut facts = ExtrasFacts { lightning_dir: lightning_dir.to_owned(), files: Vec::new() };
    for file in files {
        let path = lightning_dir.join(file);
        let live = live_file(&path).map_err(FileError::io("look at", &path)).map_err(ClnError::File)?;
        let bytes = Zeroizing::new(read(&path).map_err(ClnError::File)?);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(live.mode);
        header.set_uid(u64::from(live.uid));
        header.set_gid(u64::from(live.gid));
        header.set_mtime(u64::try_from(live.modified).unwrap_or(0));
        set_names(&mut header, live.owner.as_deref(), live.group.as_deref()).map_err(SourceError::Sink)?;
        tar.append_data(&mut header, file, bytes.as_slice()).map_err(SourceError::Sink)?;
        let name = file.to_string_lossy().into_owned();
        facts.files.push(ExtraFile { name, sha256: Sha256Hex::of(&bytes), live });
    }
    tar.finish().map_err(SourceError::Sink)?;
    Ok(facts)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let refused = |why| FileError::io("read", path)(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let opened = readable::open(path).map_err(FileError::io("open", path))?;
    let file = opened.ok_or_else(|| refused("it is a link to what its owner may not read"))?;
    if !file.metadata().map_err(FileError::io("look at", path))?.is_file() {
        return Err(refused("it is not a regular file"));
    }
    fsio::read_open(&file, path, NODE_FILE_BYTES_MAX)
}

fn set_names(header: &mut tar::Header, owner: Option<&str>, group: Option<&str>) -> io::Result<()> {
    if let Some(owner) = owner.filter(|name| name.len() < 32) {
        header.set_username(owner)?;
    }
    if let Some(group) = group.filter(|name| name.len() < 32) {
        header.set_groupname(group)?;
    }
    Ok(())
}
