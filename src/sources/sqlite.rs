//! SQLite databases: a copy of a live one by SQLite's online backup API, under a lock budget, checked and read before
//! it counts. Used for Core Lightning's wallet and for any other SQLite file.
//!
//! What SQLite itself does in WAL mode, it does here too: where a log lies beside the database, its index (`-shm`)
//! is made if it is missing. Log and database stay as they are. With [`Scratch::Memory`] the index stays as it is, too.
//!
//! This module never writes to the database, never opens it `immutable` or `nolock`, and never opens it twice in this
//! process while SQLite has it open: closing the other descriptor would drop SQLite's locks.

mod apart;
mod check;
mod content;
mod copy;
mod error;
mod header;
mod target;
#[cfg(test)]
mod tests;

pub use crate::artifact::channels::NodeSoftware;
pub use apart::copy;
pub use check::check;
pub(crate) use check::{differences, open_sound, unreadable};
pub use content::{content, owner_of};
pub use copy::{Copy, LockBudget};
pub use error::SqliteError;

use crate::artifact::{ArtifactKind, ArtifactSpec, Codec, Toxicity};
use crate::base::ids::SourceName;
use crate::base::interrupt::Interrupt;
use crate::facts::Facts;
use crate::facts::sqlite::{LiveFile, SqliteFacts};
use crate::sources::{Sink, SourceError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where a copy lies while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scratch<'a> {
    /// In memory when it is small, else in a file without a name on the database's own filesystem: in this folder of
    /// ours where it lies there, else beside the database.
    Folder(&'a Path),
    /// In memory, however large it is: nothing is written to the database's filesystem.
    Memory,
}

/// How a copy is made: where it lies, how long locks may be held, and who may stop it.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions<'a> {
    /// Where it lies.
    pub scratch: Scratch<'a>,
    /// How long locks may be held.
    pub budget: LockBudget,
    /// Looked at between steps.
    pub interrupt: &'a Interrupt,
}

/// Reads a plain SQLite database as one artifact, `<source>/<file name>`. A node's database is refused: it is toxic and
/// belongs to the `cln` or `lnd` source.
pub fn read(
    path: &Path,
    name: &SourceName,
    codec: Codec,
    options: CopyOptions<'_>,
    sink: &mut dyn Sink,
) -> Result<(), SourceError> {
    let live = live_file(path).map_err(|source| SqliteError::Look { path: path.to_owned(), source })?;
    let mut copy = copy(path, options)?;
    if let Some(owner) = owner_of(copy.connection()).map_err(|source| SqliteError::read(path, source))? {
        return Err(SqliteError::NodeDatabase { path: path.to_owned(), owner }.into());
    }
    let content = content(copy.connection(), options.interrupt).map_err(|source| SqliteError::read(path, source))?;
    let facts = SqliteFacts { content, length: copy.length(), live, copy: copy.statistics().clone() };
    let spec = ArtifactSpec {
        name: artifact_name(name, path)?,
        kind: ArtifactKind::Sqlite,
        codec,
        toxicity: Toxicity::Harmless,
    };
    sink.artifact(spec, &mut |out| {
        copy.write_to(out)?;
        Ok(Facts::Sqlite(facts.clone()))
    })
}

fn artifact_name(source: &SourceName, path: &Path) -> Result<crate::base::ids::ArtifactName, SqliteError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let safe: String =
        file.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let safe = safe.trim_start_matches(['.', '-']);
    let safe = if safe.is_empty() { "database" } else { safe };
    format!("{source}/{safe}").parse().map_err(|source| SqliteError::Name { path: path.to_owned(), source })
}

/// Looks at a file without opening it: owner, mode, length, time.
pub fn live_file(path: &Path) -> std::io::Result<LiveFile> {
    let meta = std::fs::metadata(path)?;
    Ok(LiveFile {
        path: path.to_owned(),
        length: meta.len(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        owner: uzers::get_user_by_uid(meta.uid()).map(|user| user.name().to_string_lossy().into_owned()),
        gid: meta.gid(),
        group: uzers::get_group_by_gid(meta.gid()).map(|group| group.name().to_string_lossy().into_owned()),
        modified: meta.mtime(),
    })
}
