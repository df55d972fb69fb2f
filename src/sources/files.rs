//! Files: paths and globs into one tar with owners, modes, times, extended attributes, symbolic and hard links, in an
//! order that depends on names only. Every file is judged by its content: a channel database, a database in use or a
//! PostgreSQL data folder fails the source, because a plain copy of it is dangerous or worthless. Never follows a
//! symbolic link, never writes, never changes an access time where the system allows that, and never takes a lock
//! but a shared one that is given back at once. Must not run beside a source that holds SQLite locks in the same
//! process: closing a file drops the process's own locks on it.

mod bolt;
mod collect;
mod expand;
mod header;
mod inspect;
mod meta;
mod no_database;
mod obstacle;
mod phrase;
mod reader;
pub mod rules;
mod screen;
mod sqlite_schema;
mod state;
mod tar_error;
#[cfg(test)]
pub(super) mod tests;

pub use inspect::{Inspected, check, inspect};
pub use no_database::placed_content;
pub use obstacle::Obstacle;
pub use reader::{Head, Kind, TarReader};
pub use screen::{Content, content};
pub use tar_error::TarError;

use crate::artifact::{ArtifactKind, ArtifactSpec, Codec, Toxicity};
use crate::base::ids::{ArtifactName, BadId, SourceName};
use crate::base::interrupt::Interrupt;
use crate::facts::Facts;
use crate::report::{Finding, Level};
use crate::sources::{Sink, SourceError};
use collect::{Collector, Stop};
pub(super) use screen::LockedBolt;
use std::io;
use tar_error::ELSEWHERE;

/// Why a source of files failed, or a tar could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The artifact's name would not be valid.
    #[error("cannot name the artifact")]
    Name(#[source] BadId),
    /// Something that should be in the tar cannot be; nothing of the tar counts.
    #[error("{artifact} is not whole: {}", obstacle::list(obstacles, *more))]
    Refused {
        /// Which tar.
        artifact: ArtifactName,
        /// What stood in the way, at most 20.
        obstacles: Vec<Obstacle>,
        /// How many more there were.
        more: usize,
    },
    /// Somebody asked to stop.
    #[error("interrupted while {artifact} was written")]
    Interrupted {
        /// Which tar.
        artifact: ArtifactName,
    },
    /// A tar is none of ours, or damaged.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A tar does not hold what was noted when it was written.
    #[error("the tar holds {found} {what}, but {expected} were written")]
    Differs {
        /// What was counted.
        what: &'static str,
        /// When it was written.
        expected: u64,
        /// Now.
        found: u64,
    },
}

impl FilesError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { obstacles, .. } => obstacle::hints(obstacles),
            Self::Tar(error) => Some(error.hint()),
            Self::Differs { .. } => Some(ELSEWHERE.to_owned()),
            Self::Name(_) | Self::Interrupted { .. } => None,
        }
    }
}

/// A source of kind `files`.
#[derive(Debug)]
pub struct Files<'a> {
    /// Its name.
    pub name: &'a SourceName,
    /// Absolute paths and globs; each must match something.
    pub paths: &'a [String],
    /// Absolute paths and globs that are left out.
    pub exclude: &'a [String],
    /// How the tar's segments are compressed; gzip unless the policy says otherwise.
    pub codec: Codec,
    /// The wish to stop.
    pub interrupt: &'a Interrupt,
}

impl Files<'_> {
    /// Writes `<name>/files.tar`. Fails when a path is missing, a file unreadable, or a database caught; what does
    /// not stop it goes to the sink as findings.
    pub fn read(&self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        Tree {
            artifact: format!("{}/files.tar", self.name).parse().map_err(FilesError::Name)?,
            paths: self.paths,
            exclude: self.exclude,
            codec: self.codec,
            locked_bolt: LockedBolt::Refuse,
            interrupt: self.interrupt,
        }
        .read(sink)
    }
}

/// One tar that is to be written; what `files` and `lnd` share.
pub(super) struct Tree<'a> {
    pub(super) artifact: ArtifactName,
    pub(super) paths: &'a [String],
    pub(super) exclude: &'a [String],
    pub(super) codec: Codec,
    pub(super) locked_bolt: LockedBolt,
    pub(super) interrupt: &'a Interrupt,
}

impl Tree<'_> {
    pub(super) fn read(&self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let mut plan = expand::expand(self.paths, self.exclude);
        let mut findings = std::mem::take(&mut plan.findings);
        let result = if plan.obstacles.is_empty() {
            let spec = ArtifactSpec {
                name: self.artifact.clone(),
                kind: ArtifactKind::Tar,
                codec: self.codec,
                toxicity: Toxicity::Harmless,
            };
            let mut plan = Some(plan);
            sink.artifact(spec, &mut |out| {
                let plan = plan.take().unwrap_or_default();
                self.write(Collector::new(out, plan, self.locked_bolt, self.interrupt), &mut findings)
            })
        } else {
            // Nothing can come of it any more; the walk only finds what else stands in the way.
            let mut nowhere = io::sink();
            let collector = Collector::new(&mut nowhere, plan, self.locked_bolt, self.interrupt).counting_only();
            self.write(collector, &mut findings).map(drop)
        };
        if let Err(SourceError::Files(FilesError::Refused { obstacles, .. })) = &result {
            findings.extend(obstacles.iter().map(Obstacle::finding));
        }
        for finding in findings {
            sink.finding(finding);
        }
        result
    }

    fn write(&self, mut collector: Collector<'_>, findings: &mut Vec<Finding>) -> Result<Facts, SourceError> {
        let walked = collector.run();
        let (mut facts, obstacles, more) = collector.finish(findings);
        match walked {
            Err(Stop::Sink(error)) => return Err(SourceError::Sink(error)),
            Err(Stop::Interrupted) => {
                return Err(FilesError::Interrupted { artifact: self.artifact.clone() }.into());
            }
            Ok(()) => {}
        }
        if !obstacles.is_empty() {
            return Err(FilesError::Refused { artifact: self.artifact.clone(), obstacles, more }.into());
        }
        facts.roots = self.paths.to_vec();
        facts.notes =
            findings.iter().filter(|found| found.level <= Level::Degraded).map(|f| f.message.clone()).collect();
        Ok(Facts::Tar(facts))
    }
}
