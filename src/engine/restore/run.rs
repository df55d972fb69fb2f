//! One run, dry or not: facts are probed and judged, the plan is applied step by step under its journal, what must hold
//! is looked at, and the follow-up list is written.

use super::apply::{Applier, Gathered, How};
use super::check::{self, Outcome};
use super::ground::Ground;
use super::journal::{self, Event as Line, Journal};
use super::missing::{self, Missing};
use super::report::{Held, RestoreReport, StepReport};
use super::values::Values;
use super::{Chosen, Mode, Request, claiming, followup, inspect, probe};
use crate::base::fsio::FileError;
use crate::base::ids::StepId;
use crate::base::limits::CLOCK_SLACK;
use crate::engine::opening::Opener;
use crate::engine::progress::Event;
use crate::engine::reading::Reader;
use crate::engine::{Context, Error};
use crate::guard::facts::{Claim, Facts, Known, TwinFacts};
use crate::guard::{self, Cleared, Guard};
use crate::plan::{Action, LightningPlace, Plan, PlannedStep, UnitChange, UnitRole};
use crate::policy::Policy;
use crate::scenario::{Assertion, Inspection, Placeholder};
use crate::target::fence::Fence;
use inspect::Inspected;
use jiff::Timestamp;

/// What one run works with.
pub(super) struct Run<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) reader: &'a Reader,
    pub(super) request: &'a Request<'a>,
    pub(super) chosen: Option<&'a Chosen<'a>>,
    pub(super) policy: Option<&'a Policy>,
    pub(super) ground: &'a Ground<'a>,
    pub(super) plan: &'a Plan,
    pub(super) missing: &'a [Missing],
}

/// Which restore is at work, and since when.
#[derive(Clone, Debug)]
struct Course {
    /// The same for every run that goes on with it.
    run: String,
    /// A sign of life that is later, by the stores' clocks, came after it had begun.
    begun: Option<Timestamp>,
    /// When the node was let start on the channel database that it placed.
    lowered: Option<Timestamp>,
    /// The random parts of the claims that its runs have laid, as the journal keeps them.
    claims: Vec<String>,
}

impl<'a> Run<'a> {
    /// Says what would be done, and whether a guard refuses.
    pub(super) fn dry(&self) -> Result<RestoreReport, Error> {
        let course = self.course()?;
        let facts = self.probe(&course, claiming::foreseen(self.reader, self.plan, &course.claims), &[])?;
        let judgement = guard::judge(self.plan.clone(), &facts, self.request.acceptances);
        let mut report = self.report();
        if claiming::is_needed(self.plan) {
            report.findings.push(claiming::note());
        }
        let sends = |action: &Action| matches!(action, Action::Inspect { what: Inspection::TestDelivery });
        if self.plan.actions().any(sends) {
            let applier = self.applier(&course, &Journal::nowhere());
            report.inspected.push(inspect::inspect(&applier, Inspection::TestDelivery));
        }
        report.findings.extend(facts.target.left_out);
        report.guards = judgement.verdicts().to_vec();
        report.plan = Some(self.plan.clone());
        report.followup = followup::entries(self.request.scenario, self.ground.values);
        Ok(report)
    }

    /// Applies the plan, or goes on where a run was cut off.
    pub(super) fn apply(&self) -> Result<RestoreReport, Error> {
        let (root, folder, touches) = (self.request.root, self.ground.folder(), self.touches());
        // Another run of this restore is told as that, before its fence is taken for a node that runs.
        if touches {
            journal::refuse_at_work(root, &folder)?;
        }
        let mut course = self.course()?;
        let first = self.probe(&course, claiming::foreseen(self.reader, self.plan, &course.claims), &[])?;
        // Refused before anything is written, the journal included.
        let judgement = guard::judge(self.plan.clone(), &first, self.request.acceptances);
        let refusals: Vec<_> = judgement.refusals().cloned().collect();
        if !refusals.is_empty() {
            return Err(guard::Refused { refusals }.into());
        }
        if touches && !(self.request.person.ask)(&format!("{}\n\nGo on?", self.plan))? {
            return Err(Error::NotConfirmed { question: "whether to go on with this plan".into() });
        }
        // Somebody may have asked to stop instead of answering.
        self.context.check()?;
        if touches {
            journal::make(root, &folder)?;
        }
        let _lock = touches.then(|| journal::lock(root, &folder, self.context.clock)).transpose()?;
        let mut journal = if touches { Journal::open(root, &folder, self.plan)? } else { Journal::nowhere() };
        let is_resumed = journal.run.is_some();
        // While a person was asked, another run may have begun this restore, or gone on with it.
        course.run = journal.run.clone().unwrap_or(course.run);
        course.lowered = journal.lowered;
        course.begun = journal.begun.or_else(|| begun(&first.twin));
        self.begin(&course, &mut journal)?;
        let claim = claiming::take(self.context, self.reader, self.plan, &mut journal)?;
        let facts = self.probe(&course, claim.clone(), &[])?;
        self.learn_the_beginning(&mut course, &facts, &mut journal)?;
        let judgement = guard::judge(self.plan.clone(), &facts, self.request.acceptances);
        let mut report = self.report();
        report.resumed = is_resumed;
        report.guards = judgement.verdicts().to_vec();
        report.folder = touches.then(|| root.path_of(&folder).display().to_string());
        let cleared = judgement.clear()?;
        let mut applier = self.applier(&course, &journal);
        applier.gathered.claim = claim;
        if let Known::Is(mirror) = facts.target.mirror {
            applier.gathered.mirror = mirror;
        }
        self.steps(&mut applier, &mut journal, cleared, &mut course)?;
        self.conclude(applier, &mut journal, report)
    }

    fn begin(&self, course: &Course, journal: &mut Journal) -> Result<(), Error> {
        let plan = journal::digest(self.plan);
        journal.add(self.context.now(), Line::Begun { run: course.run.clone(), plan, begun: course.begun })?;
        for (guard, why) in self.request.acceptances.given() {
            journal.add(self.context.now(), Line::Accepted { guard: guard.to_string(), why: why.to_owned() })?;
        }
        Ok(())
    }

    /// Where the vaults did not say at first which signs of life there were: those that are seen now were before.
    fn learn_the_beginning(&self, course: &mut Course, facts: &Facts, journal: &mut Journal) -> Result<(), Error> {
        if course.begun.is_some() {
            return Ok(());
        }
        course.begun = begun(&facts.twin);
        let (plan, begun) = (journal::digest(self.plan), course.begun);
        if begun.is_some() {
            journal.add(self.context.now(), Line::Begun { run: course.run.clone(), plan, begun })?;
        }
        Ok(())
    }

    fn steps(
        &self,
        applier: &mut Applier<'a>,
        journal: &mut Journal,
        mut cleared: Cleared<Plan>,
        course: &mut Course,
    ) -> Result<(), Error> {
        for number in 0..self.plan.steps.len() {
            if claiming::places(self.plan, number) {
                // Hours may have passed: the old host may have given a sign of life, or somebody else a claim.
                applier.gathered.claim = claiming::take(self.context, self.reader, self.plan, journal)?;
                let claim = applier.gathered.claim.clone();
                let fences: Vec<_> =
                    applier.gathered.fences.iter().map(|(place, fence)| (place.clone(), fence)).collect();
                let facts = self.probe(course, claim, &fences)?;
                self.learn_the_beginning(course, &facts, journal)?;
                cleared = guard::judge(self.plan.clone(), &facts, self.request.acceptances).clear()?;
            }
            let Some(step) = cleared.steps().nth(number) else { break };
            if opens_the_way(step.get()) && !journal.done.contains_key(&step.get().id) {
                self.look_before_the_way_is_open(applier, journal, course)?;
            }
            applier.step(&step, journal)?;
        }
        Ok(())
    }

    /// Before lightningd can start again: what must hold, and whether the old host came back meanwhile.
    fn look_before_the_way_is_open(
        &self,
        applier: &mut Applier<'a>,
        journal: &mut Journal,
        course: &Course,
    ) -> Result<(), Error> {
        applier.gathered.claim = claiming::take(self.context, self.reader, self.plan, journal)?;
        for must in self.request.scenario.must_hold.iter().filter(|must| must.what != Assertion::FenceLowered) {
            if let Outcome::Fails(why) = check::holds(applier, must.what)? {
                journal.add(self.context.now(), Line::NotHeld { what: must.what.as_str().to_owned() })?;
                return Err(Error::DoesNotHold { what: must.what.meaning().to_owned(), why });
            }
        }
        let facts = self.probe(course, Known::Is(Claim::NotTaken), &[])?;
        let judgement = guard::judge(self.plan.clone(), &facts, self.request.acceptances);
        let twin: Vec<_> = judgement.refusals().filter(|refusal| refusal.guard == Guard::Twin).cloned().collect();
        if !twin.is_empty() {
            return Err(guard::Refused { refusals: twin }.into());
        }
        claiming::note_start(self.context, self.reader, self.plan, journal)
    }

    /// Looks at what must hold, and writes the follow-up list.
    fn conclude(
        &self,
        mut applier: Applier<'a>,
        journal: &mut Journal,
        mut report: RestoreReport,
    ) -> Result<RestoreReport, Error> {
        self.context.tell(Event::Step("looking at what must hold".into()));
        applier.gathered.claim = claiming::take(self.context, self.reader, self.plan, journal)?;
        let mut failed = None;
        for must in &self.request.scenario.must_hold {
            let held = self.held(&applier, must.what)?;
            if held.outcome == "fails" {
                failed.get_or_insert((must.what.meaning(), held.seen.clone()));
            }
            report.must_hold.push(held);
        }
        report.followup = followup::entries(self.request.scenario, &self.learned(&applier));
        if report.folder.is_some() {
            self.write_followup(&mut applier, &report)?;
        }
        if let Some((what, why)) = failed {
            journal.add(self.context.now(), Line::NotHeld { what: what.to_owned() })?;
            return Err(Error::DoesNotHold { what: what.to_owned(), why });
        }
        journal.add(self.context.now(), Line::Finished)?;
        report.steps = applier.gathered.steps.iter().map(|(id, how)| self.step_report(id, *how)).collect();
        report.inspected = applier.gathered.inspected;
        for finding in applier.gathered.findings {
            if !report.findings.contains(&finding) {
                report.findings.push(finding);
            }
        }
        Ok(report)
    }

    fn held(&self, applier: &Applier<'a>, what: Assertion) -> Result<Held, Error> {
        let (outcome, seen) = match check::holds(applier, what)? {
            Outcome::Fails(why) => ("fails", why),
            Outcome::Holds(seen) => ("holds", seen),
            Outcome::NotApplicable(why) => ("not-applicable", why),
        };
        let missing: Vec<String> = missing::of_assertion(self.missing, what).map(ToString::to_string).collect();
        let (outcome, seen) = if missing.is_empty() || outcome == "fails" {
            (outcome, seen)
        } else {
            ("incomplete", format!("the snapshot does not hold {}; of the rest: {seen}", missing.join(", ")))
        };
        Ok(Held { what: what.as_str().to_owned(), outcome, seen })
    }

    /// What the follow-up list is filled with once the run has learned it.
    fn learned(&self, applier: &Applier<'a>) -> Values {
        let mut values = self.ground.values.clone();
        if !applier.gathered.kept.is_empty() {
            let kept: Vec<String> = applier.gathered.kept.iter().map(ToString::to_string).collect();
            values.set(Placeholder::MovedAside, kept.join("\n"));
        }
        for inspected in &applier.gathered.inspected {
            if let Some(placeholder) = inspect::placeholder(inspected) {
                values.set(placeholder, inspected.lines.join("\n"));
            }
        }
        self.look_for_the_list(applier, &mut values);
        values
    }

    fn step_report(&self, id: &StepId, how: How) -> StepReport {
        let step = self.request.scenario.steps.iter().find(|step| &step.id == id);
        StepReport {
            id: id.to_string(),
            title: step.map(|step| step.title.clone()).unwrap_or_default(),
            how: match how {
                How::Done => "done",
                How::DoneBefore => "done-before",
            },
        }
    }

    /// Looks at what the follow-up list tells and no step has looked at.
    fn look_for_the_list(&self, applier: &Applier<'a>, values: &mut Values) {
        for (placeholder, what) in
            [(Placeholder::Webhooks, Inspection::Webhooks), (Placeholder::RotateList, Inspection::RotationList)]
        {
            let mut texts = self.request.scenario.followups.iter().map(|entry| &entry.text);
            let is_told = texts.any(|text| text.placeholders().any(|used| used == placeholder));
            let is_seen = |inspected: &Inspected| inspect::placeholder(inspected) == Some(placeholder);
            if is_told && !applier.gathered.inspected.iter().any(is_seen) {
                values.set(placeholder, inspect::inspect(applier, what).lines.join("\n"));
            }
        }
    }

    fn write_followup(&self, applier: &mut Applier<'a>, report: &RestoreReport) -> Result<(), Error> {
        let folder = self.ground.folder();
        let text = format!(
            "What is left to do after {} ({}), node {}\n\n{}",
            report.scenario,
            report.snapshot.as_deref().unwrap_or("no snapshot"),
            report.node,
            followup::text(&report.followup)
        );
        let json = serde_json::to_string_pretty(&report.followup)
            .map_err(|error| FileError::io("write", &folder)(std::io::Error::other(error)))?;
        applier.rewrite(&folder.join("followup.txt"), &text)?;
        applier.rewrite(&folder.join("followup.json"), &json)
    }

    fn probe(
        &self,
        course: &Course,
        claim: Known<Claim>,
        fences: &[(LightningPlace, &Fence<'_>)],
    ) -> Result<Facts, Error> {
        let world = probe::World {
            context: self.context,
            reader: self.reader,
            chosen: self.chosen.map(|chosen| probe::Chosen {
                believed: &chosen.believed,
                places: &chosen.places,
                opened: &chosen.opened,
            }),
            identities: self.request.identities,
            policy: self.policy,
            root: self.request.root,
            is_below: !self.request.root.is_machine(),
            fences,
            claim,
            begun: course.begun,
            lowered: course.lowered,
            is_dry_run: self.request.mode == Mode::DryRun,
            run: &course.run,
        };
        self.context.tell(Event::Step("looking at vaults and target".into()));
        probe::probe(&world, self.plan)
    }

    /// Whether anything is changed, and so a journal kept.
    fn touches(&self) -> bool {
        let runs = self.plan.actions().any(|action| matches!(action, Action::Run { .. }));
        runs || !self.plan.touches().is_empty()
    }

    /// Which restore this is: the one that was cut off, or a new one. Nothing of it has begun in this run.
    fn course(&self) -> Result<Course, Error> {
        let look = || Journal::look(self.request.root, &self.ground.folder(), self.plan);
        let before = if self.touches() { look()? } else { Journal::nowhere() };
        let run = match before.run {
            Some(run) => run,
            None => hex::encode(crate::seal::random::<8>()?),
        };
        Ok(Course { run, begun: None, lowered: before.lowered, claims: before.claims })
    }

    fn applier(&self, course: &Course, journal: &Journal) -> Applier<'a> {
        let opener = self.chosen.map(|chosen| Opener {
            context: self.context,
            places: &chosen.places,
            node: &self.reader.node,
            opened: &chosen.opened,
        });
        Applier {
            context: self.context,
            ground: self.ground,
            plan: self.plan,
            root: self.request.root,
            opener,
            policy: self.policy,
            person: self.request.person,
            command: self.request.command,
            run: course.run.clone(),
            gathered: Gathered::going_on(journal),
        }
    }

    fn report(&self) -> RestoreReport {
        RestoreReport {
            scenario: self.request.scenario.name.to_string(),
            title: self.request.scenario.title.clone(),
            node: self.reader.node.to_string(),
            snapshot: self.ground.snapshot().map(ToString::to_string),
            root: self.ground.root.as_ref().map(|root| root.display().to_string()),
            dry_run: self.request.mode == Mode::DryRun,
            resumed: false,
            guards: Vec::new(),
            plan: None,
            steps: Vec::new(),
            inspected: Vec::new(),
            must_hold: Vec::new(),
            followup: Vec::new(),
            folder: None,
            findings: self
                .reader
                .findings
                .iter()
                .cloned()
                .chain(missing::findings(self.missing))
                .chain(missing::not_whole(self.ground))
                .chain(missing::toxic(self.ground))
                .collect(),
        }
    }
}

/// Whether a step lets a node start again.
fn opens_the_way(step: &PlannedStep) -> bool {
    let opens = |action: &Action| match action {
        Action::LowerFence { .. } => true,
        Action::Unit { role, change, .. } => {
            *change == UnitChange::Start && matches!(role, UnitRole::CoreLightning | UnitRole::Lnd)
        }
        _ => false,
    };
    step.actions.iter().any(opens)
}

/// The moment after which a sign of life, by the stores' clocks, came while this restore was at work: now, less what
/// two clocks may differ by, or the newest sign there is. None while the stores do not say both: a sign that is seen
/// later may then be older than this restore, and would be taken for one that came during it, for ever.
fn begun(twin: &TwinFacts) -> Option<Timestamp> {
    let (Known::Is(now), Known::Is(last)) = (&twin.store_now, &twin.last) else { return None };
    let now = now.checked_sub(CLOCK_SLACK).unwrap_or(*now);
    Some(last.as_ref().map_or(now, |sign| sign.at.max(now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::facts::{LifeKind, LifeSource, SignOfLife};

    #[test]
    fn a_restore_has_begun_only_when_the_vaults_have_said_what_was_before() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let sign = SignOfLife { at: at(9_990), host: "old".into(), source: LifeSource::Other, kind: LifeKind::Working };
        let unknown = || Known::Unknown("the vault does not answer".to_owned());
        let twin = |last, store_now| TwinFacts { last, store_now, ..TwinFacts::default() };
        let known = Known::Is(Some(sign));
        assert_eq!(begun(&twin(Known::Unknown("x".into()), unknown())), None);
        // Whatever is seen once the vault answers again may have been there before.
        assert_eq!(begun(&twin(Known::Unknown("x".into()), Known::Is(at(10_000)))), None);
        assert_eq!(begun(&twin(known.clone(), unknown())), None);
        assert_eq!(begun(&twin(known, Known::Is(at(10_000)))), Some(at(9_990)));
        assert!(begun(&twin(Known::Is(None), Known::Is(at(10_000)))).unwrap() < at(10_000));
    }
}
