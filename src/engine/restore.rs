//! The way back. A scenario and a snapshot become a plan; facts are probed; guards judge; only a cleared plan is
//! applied, step by step, under a journal; then what must hold is looked at, and the follow-up list is written. A dry
//! run stops after the judgement and changes nothing.

pub mod apply;
pub mod check;
mod claiming;
pub mod expand;
pub mod followup;
pub mod ground;
pub mod inspect;
pub mod journal;
pub mod probe;
pub mod values;

use super::departure;
use super::opening::Opener;
use super::progress::Event;
use super::reading::{Opened, Place, Reader, Wanted, open_snapshot};
use super::survey::Believed;
use super::{Context, Error};
use crate::base::fsio::FileError;
use crate::base::lock::Lock;
use crate::guard::facts::{Claim, Known};
use crate::guard::{self, Acceptances, Guard, Judged};
use crate::plan::{Action, Owner, Plan, PlannedStep, UnitChange, UnitRole};
use crate::policy::{self, Policy, SourceKind};
use crate::report::Finding;
use crate::scenario::{Assertion, Do, Inspection, Placeholder, Purpose, Scenario, Which};
use crate::seal::identity::Identities;
use crate::target::Root;
use apply::{Applier, Gathered, How, Person};
use check::Outcome;
use ground::{Ground, restore_folder};
use inspect::Inspected;
use journal::{Event as Line, Journal};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};
use values::Values;

/// What a person asked for.
pub struct Request<'a> {
    /// What happened.
    pub scenario: &'a Scenario,
    /// The snapshot; the scenario's own choice when absent.
    pub wanted: Option<Wanted>,
    /// Where to.
    pub root: &'a Root,
    /// Whether anything is changed.
    pub mode: Mode,
    /// Refusals that a person takes upon themselves.
    pub acceptances: &'a Acceptances,
    /// Whose key opens.
    pub identities: Option<&'a Identities>,
    /// Whom to speak to.
    pub person: Person<'a>,
    /// The command to run again after an interruption; nothing secret is in it.
    pub command: &'a str,
}

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is.
    DryRun,
    /// The plan is applied.
    Apply,
}

/// What a restore did, or would do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RestoreReport {
    /// The scenario.
    pub scenario: String,
    /// What it is called on a page.
    pub title: String,
    /// The node.
    pub node: String,
    /// The snapshot it takes from.
    pub snapshot: Option<String>,
    /// The folder it works below, instead of `/`.
    pub root: Option<String>,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether it went on where an earlier run was cut off.
    pub resumed: bool,
    /// The verdict of every guard.
    pub guards: Vec<Judged>,
    /// What a dry run would do, with everything it would touch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The steps, as far as they were done.
    pub steps: Vec<StepReport>,
    /// What was looked at.
    pub inspected: Vec<Inspected>,
    /// What must hold, and whether it does.
    pub must_hold: Vec<Held>,
    /// What is left to do.
    pub followup: Vec<followup::Entry>,
    /// The folder that holds journal, copies, quarantine and follow-up list.
    pub folder: Option<String>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

impl RestoreReport {
    /// Whether a guard refuses: what a dry run finds out.
    pub fn is_refused(&self) -> bool {
        self.guards.iter().any(|judged| matches!(judged.verdict, guard::Verdict::Refused(_)))
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepReport {
    /// Its name.
    pub id: String,
    /// What it does.
    pub title: String,
    /// `done`, or `done-before` by a run that was cut off.
    pub how: &'static str,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Held {
    /// What.
    pub what: String,
    /// `holds`, `fails` or `not-applicable`.
    pub outcome: &'static str,
    /// What was seen.
    pub seen: String,
}

/// A snapshot that was chosen and opened.
struct Chosen<'a> {
    believed: Believed,
    places: Vec<&'a Place>,
    opened: Opened,
}

/// Restores.
pub fn restore(
    context: &Context<'_>,
    policy: Option<&Policy>,
    reader: &Reader,
    request: &Request<'_>,
) -> Result<RestoreReport, Error> {
    if request.scenario.purpose == Purpose::Drill {
        return Err(Error::Usage(format!(
            "the scenario {} breaks things on purpose: it is for drills only and never runs against a host",
            request.scenario.name
        )));
    }
    let chosen = choose(context, reader, request)?;
    let placed = match &chosen {
        Some(chosen) => Some(placing_policy(policy, &chosen.opened)?),
        None => policy.cloned(),
    };
    let values = match &chosen {
        Some(Chosen { believed, opened, .. }) => Values::of_snapshot(
            request.scenario.name.as_str(),
            &believed.manifest,
            &opened.notes,
            placed.as_ref(),
            context.now(),
        ),
        None => Values::without_snapshot(request.scenario.name.as_str(), &reader.node, placed.as_ref()),
    };
    let ground = Ground {
        scenario: request.scenario,
        node: &reader.node,
        chosen: chosen.as_ref().map(|chosen| (&chosen.believed.manifest, &chosen.opened.notes)),
        policy: placed.as_ref(),
        root: (!request.root.is_machine()).then(|| request.root.path_of(Path::new("/"))),
        ourselves: ourselves(),
        values: &values,
    };
    let plan = expand::expand(&ground);
    if let Some(policy) = &placed
        && plan.fences().next().is_some()
    {
        departure::refuse_departed(request.root, policy)?;
    }
    if !request.root.is_machine() {
        refuse_unnamed_servers(policy, &plan)?;
    }
    let run = Run { context, reader, request, chosen: chosen.as_ref(), policy: placed.as_ref(), ground: &ground };
    match request.mode {
        Mode::DryRun => run.dry(plan),
        Mode::Apply => run.apply(plan),
    }
}

/// The snapshot that the scenario works with, opened; none where it takes nothing from one.
fn choose<'a>(context: &Context<'_>, reader: &'a Reader, request: &Request<'_>) -> Result<Option<Chosen<'a>>, Error> {
    let which = request.scenario.steps.iter().find_map(|step| match step.action {
        Do::ChooseSnapshot { which, .. } => Some(which),
        _ => None,
    });
    let Some(which) = which else { return Ok(None) };
    let wanted = match (&request.wanted, which) {
        (Some(wanted), _) => wanted.clone(),
        (None, Which::NewestComplete | Which::Final) => Wanted::Latest,
        (None, Which::Asked) => {
            return Err(Error::Usage(
                "this scenario wants a snapshot from before the disaster: name one with --snapshot (see `relay-backup list`)"
                    .into(),
            ));
        }
    };
    context.tell(Event::Step("choosing the snapshot".into()));
    let (believed, places) = reader.find(&wanted)?;
    let identities = request.identities.ok_or(Error::NoIdentity { what: "restore" })?;
    let opened = open_snapshot(&places, &reader.node, &believed.manifest, identities)?;
    Ok(Some(Chosen { believed, places, opened }))
}

/// The policy that says where things belong: the one in the notes, with the servers that this machine's policy names
/// for the same sources.
fn placing_policy(own: Option<&Policy>, opened: &Opened) -> Result<Policy, Error> {
    let file = PathBuf::from("the policy in the snapshot's notes");
    let mut placing =
        policy::parse(&file, &opened.notes.policy).map_err(|source| Error::NotedPolicy { source: Box::new(source) })?;
    if let Some(own) = own {
        // Whether this very machine wrote a snapshot is told by its own state, not by that of the host that was lost.
        placing.state_dir.clone_from(&own.state_dir);
    }
    for source in &mut placing.sources {
        let here = own.and_then(|own| own.sources.iter().find(|other| other.name == source.name));
        if let (
            SourceKind::Postgres { url, passfile, .. },
            Some(SourceKind::Postgres { url: own_url, passfile: own_passfile, .. }),
        ) = (&mut source.kind, here.map(|here| &here.kind))
        {
            url.clone_from(own_url);
            passfile.clone_from(own_passfile);
        }
    }
    Ok(placing)
}

/// Below another root the server that the lost host used may be this machine's own: it must be named on purpose.
fn refuse_unnamed_servers(own: Option<&Policy>, plan: &Plan) -> Result<(), Error> {
    let named = |server: &crate::plan::ServerUrl| {
        let mut sources = own.into_iter().flat_map(|own| &own.sources);
        sources.any(|source| matches!(&source.kind, SourceKind::Postgres { url, .. } if *url == server.0))
    };
    let unnamed = plan.actions().find_map(|action| match action {
        Action::RestoreRoles { server, .. }
        | Action::RestoreDatabase { server, .. }
        | Action::SwapDatabase { server, .. }
        | Action::Burn { server, .. }
            if !named(server) =>
        {
            Some(server)
        }
        _ => None,
    });
    match unnamed {
        None => Ok(()),
        Some(server) => Err(Error::Refused {
            guard: "rollback",
            reason: format!(
                "the databases would go to {}, which only the lost host's policy names: below another root that may be \
                 this machine's own server",
                server.0
            ),
            hint: "give --policy FILE with a [[source]] of the same name and the url of the server that is meant"
                .into(),
        }),
    }
}

fn ourselves() -> Owner {
    let own = crate::target::Owner::ourselves();
    Owner { user: own.user, uid: own.uid, group: own.group, gid: own.gid }
}

/// One run, dry or not.
struct Run<'a> {
    context: &'a Context<'a>,
    reader: &'a Reader,
    request: &'a Request<'a>,
    chosen: Option<&'a Chosen<'a>>,
    policy: Option<&'a Policy>,
    ground: &'a Ground<'a>,
}

impl<'a> Run<'a> {
    fn dry(&self, plan: Plan) -> Result<RestoreReport, Error> {
        let folder = restore_folder(self.request.scenario.name.as_str(), self.ground.snapshot());
        let run = self.run_of(&self.request.root.path_of(&folder), &plan)?;
        let facts = self.probe(&plan, &run, claiming::foreseen(self.reader, &plan), None)?;
        let judgement = guard::judge(plan, &facts, self.request.acceptances);
        let mut report = self.report();
        if claiming::is_needed(judgement.plan()) {
            report.findings.push(claiming::note());
        }
        report.guards = judgement.verdicts().to_vec();
        report.plan = Some(judgement.plan().clone());
        report.followup = followup::entries(self.request.scenario, self.ground.values);
        Ok(report)
    }

    fn apply(&self, plan: Plan) -> Result<RestoreReport, Error> {
        let folder = restore_folder(self.request.scenario.name.as_str(), self.ground.snapshot());
        let runs = plan.actions().any(|action| matches!(action, Action::Run { .. }));
        let touches = runs || !plan.touches().is_empty();
        let at = self.request.root.path_of(&folder);
        let run = self.run_of(&at, &plan)?;
        let first = self.probe(&plan, &run, claiming::foreseen(self.reader, &plan), None)?;
        // Refused before anything is written, the journal included.
        let judgement = guard::judge(plan.clone(), &first, self.request.acceptances);
        let refusals: Vec<_> = judgement.refusals().cloned().collect();
        if !refusals.is_empty() {
            return Err(guard::Refused { refusals }.into());
        }
        if touches && !(self.request.person.ask)(&format!("{plan}\n\nGo on?"))? {
            return Err(Error::NotConfirmed { question: "whether to go on with this plan".into() });
        }
        if touches {
            journal::make(&at)?;
        }
        let _lock = touches.then(|| Lock::acquire(&at.join("lock"), "restore", self.context.clock)).transpose()?;
        let mut journal = if touches { Journal::open(&at, &plan)? } else { Journal::nowhere() };
        let is_resumed = journal.run.is_some();
        let begun = match journal.sign_of_life {
            Some(sign) => sign,
            None => newest_sign(&first),
        };
        let digest = journal::digest(&plan);
        journal.add(self.context.now(), Line::Begun { run: run.clone(), plan: digest, sign_of_life: begun })?;
        for (guard, why) in self.request.acceptances.given() {
            journal.add(self.context.now(), Line::Accepted { guard: guard.to_string(), why: why.to_owned() })?;
        }
        let claim = claiming::take(self.context, self.reader, &plan, &mut journal)?;
        let facts = self.probe(&plan, &run, claim.clone(), begun)?;
        let judgement = guard::judge(plan, &facts, self.request.acceptances);
        let mut report = self.report();
        report.resumed = is_resumed;
        report.guards = judgement.verdicts().to_vec();
        report.folder = touches.then(|| at.display().to_string());
        let mut cleared = judgement.clear()?;
        let mut applier = self.applier(&run);
        if let Known::Is(claim) = &claim {
            applier.gathered.claim = Some(claim.clone());
        }
        for number in 0..self.request.scenario.steps.len() {
            if claiming::places(cleared.get(), number) {
                // Hours may have passed: the old host may have given a sign of life, or somebody else a claim.
                let claim = claiming::take(self.context, self.reader, cleared.get(), &mut journal)?;
                let fences: Vec<_> =
                    applier.gathered.fences.iter().map(|(place, fence)| (place.clone(), fence)).collect();
                let facts = self.probe_behind(cleared.get(), &run, claim, begun, &fences)?;
                cleared = guard::judge(cleared.get().clone(), &facts, self.request.acceptances).clear()?;
            }
            let Some(step) = cleared.steps().nth(number) else { break };
            if opens_the_way(step.get()) && !journal.done.contains_key(&step.get().id) {
                self.look_before_the_way_is_open(&mut applier, &mut journal, cleared.get(), (&run, begun))?;
            }
            applier.step(&step, &mut journal)?;
        }
        self.conclude(applier, &mut journal, report, &folder)
    }

    /// Before lightningd can start again: what must hold, and whether the old host came back meanwhile.
    fn look_before_the_way_is_open(
        &self,
        applier: &mut Applier<'a>,
        journal: &mut Journal,
        plan: &Plan,
        (run, begun): (&str, Option<jiff::Timestamp>),
    ) -> Result<(), Error> {
        for must in self.request.scenario.must_hold.iter().filter(|must| must.what != Assertion::FenceLowered) {
            if let Outcome::Fails(why) = check::holds(applier, must.what)? {
                journal.add(self.context.now(), Line::NotHeld { what: must.what.as_str().to_owned() })?;
                return Err(Error::DoesNotHold { what: must.what.meaning().to_owned(), why });
            }
        }
        let facts = self.probe(plan, run, Known::Is(Claim::NotTaken), begun)?;
        let judgement = guard::judge(plan.clone(), &facts, self.request.acceptances);
        let twin: Vec<_> = judgement.refusals().filter(|refusal| refusal.guard == Guard::Twin).cloned().collect();
        if twin.is_empty() { Ok(()) } else { Err(guard::Refused { refusals: twin }.into()) }
    }

    /// Looks at what must hold, and writes the follow-up list.
    fn conclude(
        &self,
        mut applier: Applier<'a>,
        journal: &mut Journal,
        mut report: RestoreReport,
        folder: &Path,
    ) -> Result<RestoreReport, Error> {
        self.context.tell(Event::Step("looking at what must hold".into()));
        let mut failed = None;
        for must in &self.request.scenario.must_hold {
            let (outcome, seen) = match check::holds(&applier, must.what)? {
                Outcome::Holds(seen) => ("holds", seen),
                Outcome::NotApplicable(why) => ("not-applicable", why),
                Outcome::Fails(why) => {
                    failed.get_or_insert((must.what.meaning(), why.clone()));
                    ("fails", why)
                }
            };
            report.must_hold.push(Held { what: must.what.as_str().to_owned(), outcome, seen });
        }
        let mut values = self.ground.values.clone();
        if !applier.gathered.moved.is_empty() {
            let moved: Vec<String> = applier.gathered.moved.iter().map(|path| path.display().to_string()).collect();
            values.set(crate::scenario::Placeholder::MovedAside, moved.join("\n"));
        }
        for inspected in &applier.gathered.inspected {
            if let Some(placeholder) = inspect::placeholder(inspected) {
                values.set(placeholder, inspected.lines.join("\n"));
            }
        }
        self.look_for_the_list(&applier, &mut values);
        report.followup = followup::entries(self.request.scenario, &values);
        if report.folder.is_some() {
            self.write_followup(&mut applier, &report, folder)?;
        }
        if let Some((what, why)) = failed {
            journal.add(self.context.now(), Line::NotHeld { what: what.to_owned() })?;
            return Err(Error::DoesNotHold { what: what.to_owned(), why });
        }
        journal.add(self.context.now(), Line::Finished)?;
        let title = |id: &crate::base::ids::StepId| {
            let step = self.request.scenario.steps.iter().find(|step| &step.id == id);
            step.map(|step| step.title.clone()).unwrap_or_default()
        };
        report.steps = applier
            .gathered
            .steps
            .iter()
            .map(|(id, how)| StepReport {
                id: id.to_string(),
                title: title(id),
                how: match how {
                    How::Done => "done",
                    How::DoneBefore => "done-before",
                },
            })
            .collect();
        report.inspected = applier.gathered.inspected;
        for finding in applier.gathered.findings {
            if !report.findings.contains(&finding) {
                report.findings.push(finding);
            }
        }
        Ok(report)
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

    fn write_followup(&self, applier: &mut Applier<'a>, report: &RestoreReport, folder: &Path) -> Result<(), Error> {
        let text = format!(
            "What is left to do after {} ({}), node {}\n\n{}",
            report.scenario,
            report.snapshot.as_deref().unwrap_or("no snapshot"),
            report.node,
            followup::text(&report.followup)
        );
        let json = serde_json::to_string_pretty(&report.followup)
            .map_err(|error| FileError::io("write", folder)(std::io::Error::other(error)))?;
        applier.rewrite(&folder.join("followup.txt"), &text)?;
        applier.rewrite(&folder.join("followup.json"), &json)
    }

    fn probe(
        &self,
        plan: &Plan,
        run: &str,
        claim: Known<Claim>,
        begun: Option<jiff::Timestamp>,
    ) -> Result<guard::facts::Facts, Error> {
        self.probe_behind(plan, run, claim, begun, &[])
    }

    fn probe_behind(
        &self,
        plan: &Plan,
        run: &str,
        claim: Known<Claim>,
        begun: Option<jiff::Timestamp>,
        fences: &[(crate::plan::LightningPlace, &crate::target::fence::Fence<'_>)],
    ) -> Result<guard::facts::Facts, Error> {
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
            begun,
            run,
        };
        self.context.tell(Event::Step("looking at vaults and target".into()));
        probe::probe(&world, plan)
    }

    /// Which restore this is: the one that was cut off, or a new one.
    fn run_of(&self, at: &Path, plan: &Plan) -> Result<String, Error> {
        match Journal::look(at, plan)?.run {
            Some(run) => Ok(run),
            None => Ok(hex::encode(crate::seal::random::<8>()?)),
        }
    }

    fn applier(&self, run: &str) -> Applier<'a> {
        let opener = self.chosen.map(|chosen| Opener {
            context: self.context,
            places: &chosen.places,
            node: &self.reader.node,
            opened: &chosen.opened,
        });
        Applier {
            context: self.context,
            ground: self.ground,
            root: self.request.root,
            opener,
            policy: self.policy,
            person: self.request.person,
            command: self.request.command,
            run: run.to_owned(),
            gathered: Gathered::default(),
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
            findings: self.reader.findings.clone(),
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

fn newest_sign(facts: &guard::facts::Facts) -> Option<jiff::Timestamp> {
    match &facts.twin.last {
        Known::Is(Some(sign)) => Some(sign.at),
        _ => None,
    }
}
