//! What keeps a file out of a tar and so fails the source: each with a stable code, a sentence and a remedy.

use crate::report::{Finding, Level};
use std::io;
use std::path::{Path, PathBuf};

/// What stood in the way of one path.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// A path of the policy does not exist.
    #[error("{} does not exist", shown(path))]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A glob of the policy matches nothing.
    #[error("{pattern} matches nothing")]
    NoMatch {
        /// The glob.
        pattern: String,
    },
    /// A path of the policy is left out by one of its excludes.
    #[error("{pattern} is left out as a whole by exclude")]
    Excluded {
        /// The path or glob.
        pattern: String,
    },
    /// A path of the policy leads through a symbolic link that is itself in the tar.
    #[error("{} leads through the symbolic link {}, which is itself in this source", shown(path), shown(link))]
    ThroughLink {
        /// The path.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", shown(path))]
    Unreadable {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Channel state of a Lightning node.
    #[error("{} holds {what}: an old copy of it can lose every channel", shown(path))]
    Toxic {
        /// The file.
        path: PathBuf,
        /// Whose database it is.
        what: &'static str,
    },
    /// A database that is in use, or that only its own tools copy whole.
    #[error("{} is {what}: a plain copy of it may not open again", shown(path))]
    Live {
        /// The file or folder.
        path: PathBuf,
        /// What it is and how that was seen.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// More than can be read back.
    #[error("{} is one entry too many: a source holds at most {limit}", shown(path))]
    TooMany {
        /// The first that is too many.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Folders in folders without end.
    #[error("{} lies more than {limit} folders deep", shown(path))]
    TooDeep {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
}

impl Obstacle {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "path-missing",
            Self::NoMatch { .. } => "glob-matches-nothing",
            Self::Excluded { .. } => "path-excluded",
            Self::ThroughLink { .. } => "path-through-link",
            Self::Unreadable { .. } => "file-unreadable",
            Self::Toxic { .. } => "toxic-database",
            Self::Live { .. } => "live-database",
            Self::TooMany { .. } => "entries-too-many",
            Self::TooDeep { .. } => "folder-too-deep",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path } => {
                Some(format!("create {0}, or remove it from paths if this host does not need it", shown(path)))
            }
            Self::NoMatch { pattern } => Some(format!("mend {pattern}, or remove it from paths")),
            Self::Excluded { pattern } => Some(format!("remove {pattern} from paths, or the exclude that covers it")),
            Self::ThroughLink { link, .. } => Some(format!("name what {} points to instead", shown(link))),
            Self::Unreadable { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("let the agent read {}, or exclude it", shown(path)))
            }
            Self::Unreadable { .. } => None,
            Self::Toxic { path, .. } => Some(format!(
                "back the node up by a source of kind cln or lnd, and add {:?} to exclude here; of another kind of node \
                 keep the seed, and what it gives as a backup of its channels",
                path.to_string_lossy()
            )),
            Self::Live { path, remedy, .. } => {
                Some(format!("{remedy}, and add {:?} to exclude here", path.to_string_lossy()))
            }
            Self::TooMany { .. } => {
                Some("give some of its paths to a second source of kind files, or exclude what may be lost".to_owned())
            }
            Self::TooDeep { path, .. } => Some(format!("exclude {}", shown(path))),
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::NoMatch { pattern } | Self::Excluded { pattern } => pattern.clone(),
            Self::Missing { path }
            | Self::ThroughLink { path, .. }
            | Self::Unreadable { path, .. }
            | Self::Toxic { path, .. }
            | Self::Live { path, .. }
            | Self::TooMany { path, .. }
            | Self::TooDeep { path, .. } => shown(path),
        }
    }

    /// The same as a finding.
    pub(super) fn finding(&self) -> Finding {
        let mut finding = Finding::new(Level::Failed, self.code(), self.subject(), self.to_string());
        finding.hint = self.hint();
        finding
    }
}

/// Several obstacles in one sentence.
pub(super) fn list(obstacles: &[Obstacle], more: usize) -> String {
    let mut text = obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text = format!("{text}; and {more} more");
    }
    text
}

/// Their remedies, one a line, none twice.
pub(super) fn hints(obstacles: &[Obstacle]) -> Option<String> {
    let mut hints: Vec<String> = obstacles.iter().filter_map(Obstacle::hint).collect();
    hints.dedup();
    (!hints.is_empty()).then(|| hints.join("\n"))
}

/// A path for messages: what is not text is replaced, control characters are escaped.
pub(super) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if letter.is_control() {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
    text
}
