//! The journal of a restore: what was begun, which steps are done, what a person answered. It lies in the restore's own
//! folder, below the root that is restored to, so that the same command finds it again after a crash. It never holds
//! a clearance: a resumed run probes and judges again.

use crate::base::fsio::{self, FileError};
use crate::base::ids::{Sha256Hex, StepId};
use crate::base::limits::JOURNAL_BYTES_MAX;
use crate::plan::Plan;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The journal's file name.
pub const FILE: &str = "journal.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run began, or went on.
    Begun {
        /// Which restore it is: the same for every run that goes on with it.
        run: String,
        /// The digest of its plan.
        plan: Sha256Hex,
        /// When the first of its runs began, by the stores' clocks: a later sign of life came while it was at work.
        begun: Option<Timestamp>,
    },
    /// The random part of the claim's name.
    Claim {
        /// Hexadecimal.
        random: String,
    },
    /// A person accepted a guard's refusal.
    Accepted {
        /// The guard.
        guard: String,
        /// Their words.
        why: String,
    },
    /// A person answered.
    Answered {
        /// The step.
        step: StepId,
        /// What they were asked, shortened.
        question: String,
    },
    /// Something was moved out of the way.
    Kept {
        /// What, and where it lies now.
        kept: Kept,
    },
    /// API keys are about to be burnt; afterwards nobody could say which there were.
    Burning {
        /// The database.
        database: String,
        /// What their owners called them.
        labels: Vec<String>,
    },
    /// A step is done.
    Done {
        /// The step.
        step: StepId,
    },
    /// Something that must hold did not: every step is looked at again by the next run.
    NotHeld {
        /// What.
        what: String,
    },
    /// Everything is done and holds.
    Finished,
}

/// Where something lies that was moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// A file or folder of this machine.
    At(PathBuf),
    /// A database, under another name.
    Database {
        /// Its server's url.
        server: String,
        /// That name.
        name: String,
    },
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(path) => write!(f, "{}", path.display()),
            Self::Database { server, name } => write!(f, "the database {name} on {server}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// What earlier runs left, and the file that this one adds to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// Steps that are done, each with the moment.
    pub done: BTreeMap<StepId, Timestamp>,
    /// When the first unfinished run began, by the stores' clocks.
    pub begun: Option<Timestamp>,
    /// The claim's random part, when one was chosen.
    pub claim: Option<String>,
    /// Which restore is continued, when one is.
    pub run: Option<String>,
    /// What was moved out of the way.
    pub kept: Vec<Kept>,
    /// API keys that were burnt, by label and database.
    pub burnt: Vec<(String, String)>,
}

impl Journal {
    /// A journal that is kept nowhere: of a run that changes nothing, on a host whose disk may be full.
    pub fn nowhere() -> Self {
        Self {
            path: PathBuf::new(),
            file: None,
            done: BTreeMap::new(),
            begun: None,
            claim: None,
            run: None,
            kept: Vec::new(),
            burnt: Vec::new(),
        }
    }

    /// What an unfinished run left in this folder; opens nothing to write.
    pub fn look(folder: &Path, plan: &Plan) -> Result<Self, FileError> {
        let path = folder.join(FILE);
        let lines = match fsio::read(&path, JOURNAL_BYTES_MAX) {
            Ok(bytes) => parse(&bytes),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut journal = Self { path, ..Self::nowhere() };
        journal.replay(&lines, &digest(plan));
        Ok(journal)
    }

    /// Opens the journal in this folder of this machine, making it where it is missing. What belongs to a run that
    /// finished, or to another plan, is past.
    pub fn open(folder: &Path, plan: &Plan) -> Result<Self, FileError> {
        let mut journal = Self::look(folder, plan)?;
        let path = &journal.path;
        let file =
            OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(FileError::io("open", path))?;
        fsio::sync_folder_of(path)?;
        journal.file = Some(file);
        // A line that a power cut tore stays alone on its line.
        journal.write(b"\n")?;
        Ok(journal)
    }

    fn replay(&mut self, lines: &[Line], plan: &Sha256Hex) {
        let mut current = None;
        for Line { at, event } in lines {
            match event {
                Event::Begun { run, plan: found, begun } => {
                    if current.replace(found) != Some(found) {
                        self.done.clear();
                    }
                    self.run = Some(run.clone());
                    self.begun = self.begun.or(*begun);
                }
                Event::Claim { random } => self.claim = Some(random.clone()),
                Event::Done { step } => {
                    self.done.insert(step.clone(), *at);
                }
                Event::Kept { kept } => self.kept.push(kept.clone()),
                Event::Burning { database, labels } => {
                    self.burnt.extend(labels.iter().map(|label| (label.clone(), database.clone())));
                }
                Event::NotHeld { .. } => {
                    self.done.clear();
                    // Whoever removed what was kept has been told; the next run looks anew.
                    self.kept.clear();
                }
                Event::Finished => {
                    let claim = self.claim.take();
                    let (path, file) = (std::mem::take(&mut self.path), self.file.take());
                    *self = Self { path, file, claim, ..Self::nowhere() };
                }
                Event::Accepted { .. } | Event::Answered { .. } => {}
            }
        }
        if current != Some(plan) {
            self.done.clear();
        }
    }

    /// Adds a line, durably.
    pub fn add(&mut self, at: Timestamp, event: Event) -> Result<(), FileError> {
        match &event {
            Event::Done { step } => drop(self.done.insert(step.clone(), at)),
            Event::Claim { random } => self.claim = Some(random.clone()),
            _ => {}
        }
        let mut text = serde_json::to_vec(&Line { at, event })
            .map_err(|error| FileError::io("write to", &self.path)(std::io::Error::other(error)))?;
        text.push(b'\n');
        self.write(&text)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).and_then(|()| file.sync_data()).map_err(FileError::io("write to", &self.path))
    }
}

/// The digest that tells whether a plan is the one that was begun.
pub fn digest(plan: &Plan) -> Sha256Hex {
    // A plan is plain data: it always has a text.
    Sha256Hex::of(&serde_json::to_vec(plan).unwrap_or_default())
}

/// Makes the folder of a restore, for nobody else to read.
pub fn make(folder: &Path) -> Result<(), FileError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(FileError::io("create", folder))?;
    fsio::sync_folder_of(folder)
}

/// The lines that are whole.
fn parse(bytes: &[u8]) -> Vec<Line> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlannedStep, Secrecy};

    fn plan(title: &str) -> Plan {
        Plan {
            scenario: "server-loss".parse().unwrap(),
            secrecy: Secrecy::Kept,
            node: "shop".parse().unwrap(),
            snapshot: None,
            root: None,
            steps: vec![PlannedStep { id: "one".parse().unwrap(), title: title.to_owned(), actions: Vec::new() }],
        }
    }

    fn begin(folder: &Path, plan: &Plan) -> Journal {
        let mut journal = Journal::open(folder, plan).unwrap();
        journal
            .add(Timestamp::UNIX_EPOCH, Event::Begun { run: "r".to_owned(), plan: digest(plan), begun: None })
            .unwrap();
        journal
    }

    #[test]
    fn a_run_that_was_cut_off_goes_on_and_a_finished_one_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let step: StepId = "one".parse().unwrap();
        let mut first = begin(folder.path(), &plan("a"));
        assert!(first.run.is_none());
        first.add(Timestamp::UNIX_EPOCH, Event::Done { step: step.clone() }).unwrap();
        // What a power cut leaves of a line.
        std::fs::OpenOptions::new()
            .append(true)
            .open(folder.path().join(FILE))
            .unwrap()
            .write_all(b"{\"at\":\"1970")
            .unwrap();
        let mut second = begin(folder.path(), &plan("a"));
        assert!(second.run.is_some() && second.done.contains_key(&step));
        second.add(Timestamp::UNIX_EPOCH, Event::Finished).unwrap();
        let third = begin(folder.path(), &plan("a"));
        assert!(third.run.is_none() && third.done.is_empty());
    }

    #[test]
    fn what_was_kept_and_burnt_is_remembered_until_the_restore_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::Database { server: "postgresql:///postgres".into(), name: "old".into() };
        let file = Kept::At("/cln/lightningd.sqlite3.replaced".into());
        let mut first = begin(folder.path(), &plan("a"));
        for kept in [&kept, &file] {
            first.add(Timestamp::UNIX_EPOCH, Event::Kept { kept: kept.clone() }).unwrap();
        }
        let labels = vec!["shop".to_owned(), "till".to_owned()];
        first.add(Timestamp::UNIX_EPOCH, Event::Burning { database: "btcpaydb".into(), labels }).unwrap();
        let mut second = begin(folder.path(), &plan("a"));
        assert_eq!(second.kept, [kept, file]);
        let burnt = [("shop".to_owned(), "btcpaydb".to_owned()), ("till".to_owned(), "btcpaydb".to_owned())];
        assert_eq!(second.burnt, burnt);
        // What was kept and is gone is told once.
        second.add(Timestamp::UNIX_EPOCH, Event::NotHeld { what: "damaged-kept".into() }).unwrap();
        let mut third = begin(folder.path(), &plan("a"));
        assert!(third.kept.is_empty() && third.burnt == burnt);
        third.add(Timestamp::UNIX_EPOCH, Event::Finished).unwrap();
        let fourth = begin(folder.path(), &plan("a"));
        assert!(fourth.burnt.is_empty() && fourth.run.is_none());
    }

    #[test]
    fn a_restore_began_when_its_first_run_did() {
        let folder = tempfile::tempdir().unwrap();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let begin_at = |moment| {
            let mut journal = Journal::open(folder.path(), &plan("a")).unwrap();
            let begun = journal.begun;
            let event = Event::Begun { run: "r".to_owned(), plan: digest(&plan("a")), begun: moment };
            journal.add(Timestamp::UNIX_EPOCH, event).unwrap();
            begun
        };
        assert_eq!(begin_at(at(1)), None);
        assert_eq!(begin_at(at(2)), at(1));
        assert_eq!(begin_at(at(3)), at(1));
    }

    #[test]
    fn steps_of_another_plan_are_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let step: StepId = "one".parse().unwrap();
        begin(folder.path(), &plan("a")).add(Timestamp::UNIX_EPOCH, Event::Done { step }).unwrap();
        // The digest of the plan is compared when the next run has begun.
        begin(folder.path(), &plan("b"));
        assert!(Journal::open(folder.path(), &plan("b")).unwrap().done.is_empty());
    }
}
