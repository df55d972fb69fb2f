//! The journal of a restore: what was begun, which steps are done, what a person answered. It lies in the restore's own
//! folder, below the root that is restored to, so that the same command finds it again after a crash. It never holds
//! a clearance: a resumed run probes and judges again.

use super::ground::OURS;
use crate::base::clock::Clock;
use crate::base::fsio::FileError;
use crate::base::ids::{Sha256Hex, StepId};
use crate::base::limits::JOURNAL_BYTES_MAX;
use crate::base::lock::Lock;
use crate::engine::Error;
use crate::plan::Plan;
use crate::report::Finding;
use crate::target::{Root, TargetError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The journal's file name.
pub const FILE: &str = "journal.jsonl";
/// The name of the file whose lock a run holds.
const LOCK: &str = "lock";

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
    /// A claim is about to be put into the vaults.
    Claim {
        /// The random part of its name, hexadecimal.
        random: String,
        /// Whether it says that the node may start.
        #[serde(default)]
        starts: Starts,
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
    /// The fence over a channel database that was placed is about to be lowered: the node may run on it from now on.
    Lowering,
    /// Something was found that keeps the restore from being whole.
    Found {
        /// What.
        finding: Finding,
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

/// Whether a claim says that the node may start on what was placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Starts {
    /// It does not.
    #[default]
    NotYet,
    /// It does.
    Now,
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
    /// The random parts of all claims of all its runs. A restore that is finished keeps them.
    pub claims: Vec<String>,
    /// That of this very run, when it has one.
    pub of_this_run: Option<[u8; 16]>,
    /// Whether this very run has told every vault that the node may start.
    pub is_start_told: bool,
    /// When the node was first let start on the channel database that this restore placed: what it wrote since is in
    /// no snapshot. A restore that is finished keeps it.
    pub lowered: Option<Timestamp>,
    /// Which restore is continued, when one is.
    pub run: Option<String>,
    /// What was moved out of the way.
    pub kept: Vec<Kept>,
    /// API keys that were burnt, by label and database.
    pub burnt: Vec<(String, String)>,
    /// What was found that keeps the restore from being whole.
    pub found: Vec<Finding>,
}

impl Journal {
    /// A journal that is kept nowhere: of a run that changes nothing, on a host whose disk may be full.
    pub fn nowhere() -> Self {
        Self {
            path: PathBuf::new(),
            file: None,
            done: BTreeMap::new(),
            begun: None,
            claims: Vec::new(),
            of_this_run: None,
            is_start_told: false,
            lowered: None,
            run: None,
            kept: Vec::new(),
            burnt: Vec::new(),
            found: Vec::new(),
        }
    }

    /// What an unfinished run left in this folder below the root; opens nothing to write.
    pub fn look(root: &Root, folder: &Path, plan: &Plan) -> Result<Self, TargetError> {
        let path = folder.join(FILE);
        let there = root.read_file(&path, JOURNAL_BYTES_MAX)?;
        let lines = there.map(|bytes| parse(bytes.expose())).unwrap_or_default();
        let mut journal = Self { path: root.path_of(&path), ..Self::nowhere() };
        journal.replay(&lines, &digest(plan));
        Ok(journal)
    }

    /// Opens the journal in this folder below the root, making it where it is missing. What belongs to a run that
    /// finished, or to another plan, is past.
    pub fn open(root: &Root, folder: &Path, plan: &Plan) -> Result<Self, TargetError> {
        let mut journal = Self::look(root, folder, plan)?;
        journal.file = Some(root.open_own_file(&folder.join(FILE))?);
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
                        self.found.clear();
                    }
                    self.run = Some(run.clone());
                    self.begun = self.begun.or(*begun);
                }
                Event::Claim { random, starts } => {
                    self.claims.push(random.clone());
                    if *starts == Starts::Now {
                        self.lowered = self.lowered.or(Some(*at));
                    }
                }
                Event::Lowering => self.lowered = self.lowered.or(Some(*at)),
                Event::Done { step } => {
                    self.done.insert(step.clone(), *at);
                }
                Event::Found { finding } => self.found.push(finding.clone()),
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
                    let (claims, lowered) = (std::mem::take(&mut self.claims), self.lowered);
                    let (path, file) = (std::mem::take(&mut self.path), self.file.take());
                    *self = Self { path, file, claims, lowered, ..Self::nowhere() };
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
            Event::Claim { random, starts } => {
                self.claims.push(random.clone());
                if *starts == Starts::Now {
                    self.lowered = self.lowered.or(Some(at));
                }
            }
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
pub fn make(root: &Root, folder: &Path) -> Result<(), TargetError> {
    root.make_own_folder(folder, Path::new(OURS))
}

/// Refuses where a run of this restore is at work; writes nothing.
pub fn refuse_at_work(root: &Root, folder: &Path) -> Result<(), Error> {
    let path = folder.join(LOCK);
    if root.read_file(&path, JOURNAL_BYTES_MAX)?.is_none() {
        return Ok(());
    }
    Ok(Lock::refuse_held(root.open_own_file(&path)?, &root.path_of(&path))?)
}

/// Takes the lock of the restore in this folder: one run at a time.
pub fn lock(root: &Root, folder: &Path, clock: Clock) -> Result<Lock, Error> {
    let path = folder.join(LOCK);
    let file = root.open_own_file(&path)?;
    Ok(Lock::hold(file, &root.path_of(&path), "restore", clock)?)
}

/// The lines that are whole.
fn parse(bytes: &[u8]) -> Vec<Line> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlannedStep, Secrecy};
    use crate::report::Level;
    use crate::target::Owners;

    /// An empty folder, and the root that it is.
    fn ground() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path(), Owners::WherePossible).unwrap();
        (folder, root)
    }

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

    fn begin(root: &Root, plan: &Plan) -> Journal {
        let mut journal = Journal::open(root, Path::new("/"), plan).unwrap();
        journal
            .add(Timestamp::UNIX_EPOCH, Event::Begun { run: "r".to_owned(), plan: digest(plan), begun: None })
            .unwrap();
        journal
    }

    #[test]
    fn a_run_that_was_cut_off_goes_on_and_a_finished_one_begins_anew() {
        let (folder, root) = ground();
        let step: StepId = "one".parse().unwrap();
        let mut first = begin(&root, &plan("a"));
        assert!(first.run.is_none());
        first.add(Timestamp::UNIX_EPOCH, Event::Done { step: step.clone() }).unwrap();
        // What a power cut leaves of a line.
        std::fs::OpenOptions::new()
            .append(true)
            .open(folder.path().join(FILE))
            .unwrap()
            .write_all(b"{\"at\":\"1970")
            .unwrap();
        let mut second = begin(&root, &plan("a"));
        assert!(second.run.is_some() && second.done.contains_key(&step));
        second.add(Timestamp::UNIX_EPOCH, Event::Finished).unwrap();
        let third = begin(&root, &plan("a"));
        assert!(third.run.is_none() && third.done.is_empty());
    }

    #[test]
    fn what_was_kept_and_burnt_is_remembered_until_the_restore_is_finished() {
        let (_folder, root) = ground();
        let kept = Kept::Database { server: "postgresql:///postgres".into(), name: "old".into() };
        let file = Kept::At("/cln/lightningd.sqlite3.replaced".into());
        let mut first = begin(&root, &plan("a"));
        for kept in [&kept, &file] {
            first.add(Timestamp::UNIX_EPOCH, Event::Kept { kept: kept.clone() }).unwrap();
        }
        let labels = vec!["shop".to_owned(), "till".to_owned()];
        first.add(Timestamp::UNIX_EPOCH, Event::Burning { database: "btcpaydb".into(), labels }).unwrap();
        let finding = Finding::new(Level::Degraded, "owner-not-set", "/etc/x", "not ours to give");
        first.add(Timestamp::UNIX_EPOCH, Event::Found { finding: finding.clone() }).unwrap();
        let mut second = begin(&root, &plan("a"));
        assert_eq!(second.found, [finding]);
        assert_eq!(second.kept, [kept, file]);
        let burnt = [("shop".to_owned(), "btcpaydb".to_owned()), ("till".to_owned(), "btcpaydb".to_owned())];
        assert_eq!(second.burnt, burnt);
        // What was kept and is gone is told once.
        second.add(Timestamp::UNIX_EPOCH, Event::NotHeld { what: "damaged-kept".into() }).unwrap();
        let mut third = begin(&root, &plan("a"));
        assert!(third.kept.is_empty() && third.burnt == burnt);
        third.add(Timestamp::UNIX_EPOCH, Event::Finished).unwrap();
        let fourth = begin(&root, &plan("a"));
        assert!(fourth.burnt.is_empty() && fourth.run.is_none());
    }

    #[test]
    fn a_restore_began_when_its_first_run_did() {
        let (_folder, root) = ground();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let begin_at = |moment| {
            let mut journal = Journal::open(&root, Path::new("/"), &plan("a")).unwrap();
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
    fn that_a_node_was_let_start_is_never_forgotten() {
        let (_folder, root) = ground();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut first = begin(&root, &plan("a"));
        assert_eq!(first.lowered, None);
        first.add(at(7), Event::Lowering).unwrap();
        first.add(at(8), Event::Finished).unwrap();
        let mut other = begin(&root, &plan("b"));
        assert_eq!(other.lowered, Some(at(7)));
        other.add(at(9), Event::Lowering).unwrap();
        other.add(at(9), Event::NotHeld { what: "claim-ours".into() }).unwrap();
        assert_eq!(begin(&root, &plan("b")).lowered, Some(at(7)));
    }

    #[test]
    fn steps_of_another_plan_are_done_again() {
        let (_folder, root) = ground();
        let step: StepId = "one".parse().unwrap();
        begin(&root, &plan("a")).add(Timestamp::UNIX_EPOCH, Event::Done { step }).unwrap();
        // The digest of the plan is compared when the next run has begun.
        begin(&root, &plan("b"));
        assert!(Journal::open(&root, Path::new("/"), &plan("b")).unwrap().done.is_empty());
    }
}
