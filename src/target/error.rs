//! Why the machine could not be looked at or changed, on which thing, and what to do about it.

use crate::base::fsio::{self, FileError};
use std::io;
use std::path::PathBuf;

/// Why a step on the machine that is restored to failed. Nothing that was there before is gone.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A path that a restore cannot use.
    #[error("{} is no path for a restore: {why}", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file, or a folder on the way to it, is a symbolic link.
    #[error("{} is a symbolic link; a restore follows none, because it could lead anywhere", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Something on the way is no folder.
    #[error("{} is not a folder", path.display())]
    NotFolder {
        /// What is there.
        path: PathBuf,
    },
    /// Something is there already that would be overwritten.
    #[error("{} is there already ({what}) and is not what would be put there", path.display())]
    Occupied {
        /// The place.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// The place is empty where something must be.
    #[error("{} is not there", path.display())]
    Missing {
        /// The place.
        path: PathBuf,
    },
    /// The owner is unknown here, and its number is another's.
    #[error("this machine knows no {kind} {name}, and its number {number} belongs to {other} here")]
    UnknownOwner {
        /// `user` or `group`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its number on the machine it comes from.
        number: u32,
        /// Whose number that is here.
        other: String,
    },
    /// The list of users or groups cannot be read.
    #[error("the users and groups of the restored system cannot be read")]
    Accounts(#[source] FileError),
    /// Owner, mode, times or an attribute could not be set.
    #[error("cannot set {what} of {}", path.display())]
    Attribute {
        /// `owner 990:990`, `mode 0400`, `attribute user.x`, `times`.
        what: String,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What was staged is no longer there or was exchanged.
    #[error("the staged file for {} was changed by somebody else while it was checked", path.display())]
    Exchanged {
        /// The place it was meant for.
        path: PathBuf,
    },
    /// A file could not be read, written, renamed, …
    #[error(transparent)]
    File(#[from] FileError),
}

impl TargetError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Symlink { path } => Some(format!(
                "give the place that {} leads to (`readlink -f`), or put a mount or the file itself in the link's place; \
                 then run the same command again",
                path.display()
            )),
            Self::Occupied { path, .. } => {
                Some(format!("move {} aside, then run the same command again", path.display()))
            }
            Self::UnknownOwner { kind, name, .. } => Some(format!(
                "make the {kind} {name} first: deploy the system's configuration, or `{kind}add --system {name}`"
            )),
            Self::Attribute { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run the restore as root".to_owned())
            }
            Self::Attribute { source, .. } if source.kind() == io::ErrorKind::Unsupported => Some(
                "the filesystem cannot keep it: restore to one that can, or leave the file out and set it up by hand"
                    .to_owned(),
            ),
            Self::Attribute { path, source, .. } => fsio::room_hint(source, path.display()),
            Self::Exchanged { .. } => {
                Some("stop the service that owns the folder, then run the same command again".to_owned())
            }
            Self::Accounts(error) | Self::File(error) => error.hint(),
            Self::NotFolder { path } => Some(format!("move {} aside", path.display())),
            _ => None,
        }
    }
}
