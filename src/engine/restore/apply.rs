//! Applies a cleared plan, step by step and action by action, with a journal: what an interrupted run has done is not
//! done again, and every primitive below can be called again. No function here takes a channel database's place but
//! through [`Cleared`].

mod databases;
mod files;

pub(super) use files::fence_place;

use super::check::{self, Outcome};
use super::ground::Ground;
use super::inspect::{self, Inspected};
use super::journal::{Event as Line, Journal, Kept};
use crate::base::exec::Exec;
use crate::base::ids::{ArtifactName, StepId};
use crate::engine::opening::Opener;
use crate::engine::progress::Event;
use crate::engine::{Context, Error};
use crate::guard::Cleared;
use crate::guard::facts::{Claim, Known};
use crate::manifest::Artifact;
use crate::plan::{Action, Answer, Condition, LightningPlace, Plan, PlannedStep, ServerUrl, UnitChange};
use crate::policy::Policy;
use crate::report::{Finding, Level};
use crate::scenario::{Assertion, Inspection};
use crate::sources::postgres::Server;
use crate::sources::postgres::restore::Proved;
use crate::target::Root;
use crate::target::fence::Fence;
use crate::target::units::{State, Units};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a unit may take to stop or to start: nix-bitcoin gives bitcoind half an hour.
const UNIT_WAIT: Duration = Duration::from_secs(35 * 60);
/// How often a condition is looked at.
const WAIT_LOOK: Duration = Duration::from_secs(1);
/// The longest part of a question that the journal keeps, in characters.
const QUESTION_CHARS: usize = 200;

/// Who is spoken to while a restore runs.
#[derive(Clone, Copy)]
pub struct Person<'a> {
    /// Shows a text.
    pub tell: &'a dyn Fn(&str),
    /// Asks whether it is so.
    pub ask: &'a dyn Fn(&str) -> Result<bool, Error>,
}

/// How one step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Now.
    Done,
    /// By an earlier run.
    DoneBefore,
}

/// Everything that applying works with, and what it gathers.
pub struct Applier<'a> {
    /// The flow's context.
    pub context: &'a Context<'a>,
    /// What the plan was made from.
    pub ground: &'a Ground<'a>,
    /// The plan; what is applied of it comes cleared.
    pub plan: &'a Plan,
    /// The machine that is restored to.
    pub root: &'a Root,
    /// Opens the snapshot; none where nothing is taken from one.
    pub opener: Option<Opener<'a>>,
    /// Where passfiles and servers are found.
    pub policy: Option<&'a Policy>,
    /// Whom to speak to.
    pub person: Person<'a>,
    /// The command that goes on after an interruption, for the fence's text.
    pub command: &'a str,
    /// Which restore this is, interruptions included.
    pub run: String,
    /// What it gathers on the way.
    pub gathered: Gathered<'a>,
}

/// What a run holds and has learned.
#[derive(Default)]
pub struct Gathered<'a> {
    /// Fences that stand.
    pub fences: Vec<(LightningPlace, Fence<'a>)>,
    /// Databases that were proved and not yet swapped.
    proved: BTreeMap<(ServerUrl, String), Proved>,
    /// How each step ended.
    pub steps: Vec<(StepId, How)>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// Where things lie that were moved out of the way.
    pub kept: Vec<Kept>,
    /// How many of these the journal knows.
    noted: usize,
    /// How many of the findings the journal knows.
    told: usize,
    /// What was looked at.
    pub inspected: Vec<Inspected>,
    /// API keys that were burnt, by label and database.
    pub burnt_keys: Vec<(String, String)>,
    /// Whose the final snapshot is, as it was looked at last.
    pub claim: Known<Claim>,
    /// The mirror that lightningd keeps of its database, as probed before the first step.
    pub mirror: Option<PathBuf>,
}

impl Gathered<'_> {
    /// What earlier runs of the same restore have learned.
    pub fn going_on(journal: &Journal) -> Self {
        let kept = journal.kept.clone();
        let findings = journal.found.clone();
        Self {
            noted: kept.len(),
            kept,
            told: findings.len(),
            findings,
            burnt_keys: journal.burnt.clone(),
            ..Self::default()
        }
    }

    /// Adds what was moved out of the way, once.
    fn keep(&mut self, kept: Kept) {
        if !self.kept.contains(&kept) {
            self.kept.push(kept);
        }
    }
}

impl<'a> Applier<'a> {
    /// Applies one step, unless an earlier run has.
    pub fn step(&mut self, step: &Cleared<&PlannedStep>, journal: &mut Journal) -> Result<(), Error> {
        let planned = step.get();
        let failed = |source: Error| match source {
            Error::Interrupted => Error::Interrupted,
            source => Error::Step { step: planned.id.clone(), source: Box::new(source) },
        };
        self.context.check()?;
        if journal.done.contains_key(&planned.id) {
            self.again(step, journal).map_err(failed)?;
            self.note(journal)?;
            self.gathered.steps.push((planned.id.clone(), How::DoneBefore));
            return Ok(());
        }
        self.context.tell(Event::Step(planned.title.clone()));
        for action in step.actions() {
            self.context.check()?;
            let applied = self.action(&action, &planned.id, journal);
            self.note(journal)?;
            applied.map_err(failed)?;
        }
        let noted = journal.add(self.context.now(), Line::Done { step: planned.id.clone() });
        noted.map_err(|error| failed(error.into()))?;
        self.gathered.steps.push((planned.id.clone(), How::Done));
        Ok(())
    }

    /// Writes down what the run that goes on after an interruption must know.
    fn note(&mut self, journal: &mut Journal) -> Result<(), Error> {
        for finding in self.gathered.findings.iter().skip(self.gathered.told) {
            if finding.level > Level::Note {
                journal.add(self.context.now(), Line::Found { finding: finding.clone() })?;
            }
        }
        self.gathered.told = self.gathered.findings.len();
        for kept in self.gathered.kept.iter().skip(self.gathered.noted) {
            journal.add(self.context.now(), Line::Kept { kept: kept.clone() })?;
        }
        self.gathered.noted = self.gathered.kept.len();
        Ok(())
    }

    /// What even a step that is done needs again: locks end with the process that held them.
    fn again(&mut self, step: &Cleared<&PlannedStep>, journal: &Journal) -> Result<(), Error> {
        for action in step.actions() {
            match action.get() {
                Action::RaiseFence { lightning } if !self.is_lowered(lightning, journal) => self.raise(lightning)?,
                // A machine that started again in between has started it again.
                Action::Unit { unit, change: UnitChange::Stop, .. } if !self.is_started_later(unit, journal) => {
                    self.unit(unit, UnitChange::Stop)?;
                }
                // What was sent is not sent again.
                Action::Inspect { what: Inspection::TestDelivery } => {}
                Action::Inspect { what } => {
                    let inspected = inspect::inspect(self, *what);
                    self.gathered.inspected.push(inspected);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_started_later(&self, unit: &str, journal: &Journal) -> bool {
        let starts = |step: &&PlannedStep| step.actions.iter().any(|action| action.starts(unit));
        self.plan.steps.iter().filter(starts).any(|step| journal.done.contains_key(&step.id))
    }

    fn is_lowered(&self, lightning: &LightningPlace, journal: &Journal) -> bool {
        let lowers = |step: &&PlannedStep| {
            step.actions.iter().any(|action| matches!(action, Action::LowerFence { lightning: l } if l == lightning))
        };
        // The plan is the same as the one that was begun: a step that is done in the journal is this one.
        self.plan.steps.iter().filter(lowers).any(|step| journal.done.contains_key(&step.id))
    }

    fn action(&mut self, action: &Cleared<&Action>, step: &StepId, journal: &mut Journal) -> Result<(), Error> {
        match action.get() {
            Action::VerifySnapshot { .. } => self.verify_snapshot(),
            Action::RaiseFence { lightning } => self.raise(lightning),
            Action::LowerFence { lightning } => {
                if self.places_database_of(lightning) {
                    journal.add(self.context.now(), Line::Lowering)?;
                }
                self.lower(lightning)
            }
            Action::PlaceFile { artifact, kind, to, owner, mode, .. } => {
                let place = files::Place { to, owner, mode: *mode };
                self.place_file(artifact, *kind, &place)
            }
            Action::PlaceTree { artifact, below, .. } => self.place_tree(artifact, below),
            Action::PlaceChannelDatabase { .. } => self.place_channel_database(action),
            Action::Quarantine { artifact, to, .. } => self.quarantine(artifact, to),
            Action::MoveAside { paths, together } => self.move_aside(paths, *together),
            Action::RestoreRoles { artifact, server } => self.restore_roles(artifact, server),
            Action::RestoreDatabase { artifact, server, database, owner_role, .. } => {
                self.restore_database(artifact, server, database, owner_role)
            }
            Action::SwapDatabase { server, database, answer, .. } => {
                let question = format!("Put the restored database {database} into service?");
                let is_asked = *answer == Answer::Done && !self.is_in_service(server, database)?;
                if is_asked && !self.agrees(&question, step, journal)? {
                    return self.leave_beside(server, database);
                }
                self.swap_database(server, database)
            }
            Action::Burn { server, database, what } => self.burn(server, database, *what, journal),
            Action::Unit { unit, change, .. } => self.unit(unit, *change),
            Action::Run { argv } => self.run(argv),
            Action::Wait { for_, at_most } => self.wait(for_, *at_most),
            Action::Tell { text, answer } => {
                (self.person.tell)(text);
                if *answer == Answer::Done { self.ask("Is that done?", step, journal) } else { Ok(()) }
            }
            Action::Inspect { what } => {
                let inspected = match what {
                    Inspection::TestDelivery => {
                        inspect::test_delivery(self, |question| self.agrees(question, step, journal))?
                    }
                    what => inspect::inspect(self, *what),
                };
                (self.person.tell)(&format!("{}:\n  {}", inspected.title, inspected.lines.join("\n  ")));
                self.gathered.inspected.push(inspected);
                Ok(())
            }
            Action::Assert { what } => self.demand(*what),
        }
    }

    /// Opens every segment of the snapshot and keeps nothing of it: damage ends the run before anything is changed.
    fn verify_snapshot(&self) -> Result<(), Error> {
        for artifact in self.ground.artifacts() {
            self.context.tell(Event::Step(format!("verifying {}", artifact.name)));
            let (opener, artifact) = self.artifact(&artifact.name)?;
            opener.artifact(artifact, &mut |_| Ok(()), "nowhere")?;
        }
        Ok(())
    }

    /// Fails unless something holds.
    pub fn demand(&mut self, what: Assertion) -> Result<(), Error> {
        match check::holds(self, what)? {
            Outcome::Holds(_) => Ok(()),
            Outcome::NotApplicable(why) => {
                let message = format!("not checked, because it does not apply: {why}");
                self.gathered.findings.push(Finding::new(Level::Note, "not-applicable", what.as_str(), message));
                Ok(())
            }
            Outcome::Fails(why) => Err(Error::DoesNotHold { what: what.meaning().to_owned(), why }),
        }
    }

    fn ask(&self, question: &str, step: &StepId, journal: &mut Journal) -> Result<(), Error> {
        if !self.agrees(question, step, journal)? {
            return Err(Error::NotConfirmed { question: question.to_owned() });
        }
        Ok(())
    }

    /// Whether a person says yes; that they did is written down.
    fn agrees(&self, question: &str, step: &StepId, journal: &mut Journal) -> Result<bool, Error> {
        let is_yes = (self.person.ask)(question)?;
        if is_yes {
            let question = question.chars().take(QUESTION_CHARS).collect();
            journal.add(self.context.now(), Line::Answered { step: step.clone(), question })?;
        }
        Ok(is_yes)
    }

    fn unit(&mut self, unit: &str, change: UnitChange) -> Result<(), Error> {
        if !self.root.is_machine() {
            let message = "units are left alone below another root";
            self.gathered.findings.push(Finding::new(Level::Note, "unit-left-alone", unit, message));
            return Ok(());
        }
        let units = Units::find()?;
        match change {
            UnitChange::Stop => units.stop(unit, UNIT_WAIT, self.context.interrupt).map(drop)?,
            UnitChange::Start => units.start(unit, UNIT_WAIT, self.context.interrupt)?,
        }
        Ok(())
    }

    fn run(&mut self, argv: &[String]) -> Result<(), Error> {
        let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
        if !self.root.is_machine() {
            let message = "programs of the scenario are not run below another root";
            self.gathered.findings.push(Finding::new(Level::Note, "program-not-run", program, message));
            return Ok(());
        }
        let output = Exec::new(program).args(arguments).run(b"")?;
        let said = String::from_utf8_lossy(&output);
        if !said.trim().is_empty() {
            (self.person.tell)(said.trim_end());
        }
        Ok(())
    }

    fn wait(&mut self, condition: &Condition, at_most: Duration) -> Result<(), Error> {
        if let Condition::UnitActive { unit } | Condition::UnitInactive { unit } = condition
            && !self.root.is_machine()
        {
            let message = "a unit is not waited for below another root";
            self.gathered.findings.push(Finding::new(Level::Note, "unit-left-alone", unit, message));
            return Ok(());
        }
        let begin = Instant::now();
        while !self.is_met(condition)? {
            self.context.check()?;
            if begin.elapsed() > at_most {
                let why = format!("not after {} s", at_most.as_secs());
                return Err(Error::DoesNotHold { what: condition.to_string(), why });
            }
            std::thread::sleep(WAIT_LOOK);
        }
        Ok(())
    }

    fn is_met(&self, condition: &Condition) -> Result<bool, Error> {
        Ok(match condition {
            Condition::UnitActive { unit } => Units::find()?.state(unit)? == State::Running,
            Condition::UnitInactive { unit } => {
                matches!(Units::find()?.state(unit)?, State::Stopped | State::Failed | State::Absent)
            }
            Condition::PostgresAnswers { server } => self.server(server)?.connect().is_ok(),
        })
    }

    /// A server of the plan.
    pub(super) fn server(&self, url: &ServerUrl) -> Result<Server, Error> {
        let server = Server::parse(&url.0, super::ground::passfile(self.policy, url))?;
        Ok(server.stopping_at(self.context.interrupt))
    }

    /// The snapshot's opener and one artifact.
    pub(super) fn artifact(&self, name: &ArtifactName) -> Result<(&Opener<'a>, &'a Artifact), Error> {
        let (manifest, _) = self.ground.chosen.ok_or_else(|| Error::Usage("no snapshot was chosen".into()))?;
        let artifact = manifest.artifact(name).ok_or_else(|| Error::NoArtifact {
            snapshot: manifest.snapshot.clone(),
            name: name.clone(),
            known: manifest.artifacts.iter().map(|artifact| artifact.name.as_str()).collect::<Vec<_>>().join(", "),
        })?;
        let opener = self.opener.as_ref().ok_or(Error::NoIdentity { what: "restore" })?;
        Ok((opener, artifact))
    }
}
