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
mod missing;
pub mod places;
pub mod probe;
pub mod report;
mod run;
pub mod values;

use super::departure;
use super::progress::Event;
use super::reading::{Opened, Place, Reader, Wanted, open_snapshot};
use super::survey::{Believed, from_the_future};
use super::{Context, Error};
use crate::guard::Acceptances;
use crate::plan::{Action, Plan, Swap};
use crate::policy::{self, Policy, SourceKind};
use crate::report::Finding;
use crate::scenario::{Do, Purpose, Scenario, Step, Which};
use crate::seal::identity::Identities;
use crate::target::{Owner, Root};
use apply::Person;
use ground::Ground;
pub use report::{Held, RestoreReport, StepReport};
use run::Run;
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

/// A snapshot that was chosen and opened.
struct Chosen<'a> {
    believed: Believed,
    places: Vec<&'a Place>,
    opened: Opened,
}

/// Plays a scenario: chooses and opens the snapshot, makes the plan, and judges and applies it, or only shows it. An
/// error where it is refused; then nothing is changed, or the same call goes on where a step failed.
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
    let values = values_of(context, reader, request, chosen.as_ref(), placed.as_ref());
    let ground = Ground {
        scenario: request.scenario,
        node: &reader.node,
        chosen: chosen.as_ref().map(|chosen| (&chosen.believed.manifest, &chosen.opened.notes)),
        policy: placed.as_ref(),
        root: (!request.root.is_machine()).then(|| request.root.path_of(Path::new("/"))),
        configured: ground::configured(request.root, placed.as_ref()),
        ourselves: Owner::ourselves().into(),
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
    let missing = missing::refuse_without_the_keys(&ground)?;
    let run = Run {
        context,
        reader,
        request,
        chosen: chosen.as_ref(),
        policy: placed.as_ref(),
        ground: &ground,
        plan: &plan,
        missing: &missing,
    };
    let mut report = match request.mode {
        Mode::DryRun => run.dry(),
        Mode::Apply => run.apply(),
    }?;
    report.findings.extend(dated_ahead(context, reader));
    Ok(report)
}

/// Names snapshots that are dated after this moment. What was restored does not hang on it, so a vault that no longer
/// answers is no matter.
fn dated_ahead(context: &Context<'_>, reader: &Reader) -> Vec<Finding> {
    let now = context.now();
    let held = reader.snapshots().unwrap_or_default();
    held.into_keys().filter(|id| id.is_after(now)).map(|id| from_the_future(id.as_str(), &id)).collect()
}

/// What the scenario's texts are filled with.
fn values_of(
    context: &Context<'_>,
    reader: &Reader,
    request: &Request<'_>,
    chosen: Option<&Chosen<'_>>,
    policy: Option<&Policy>,
) -> Values {
    let scenario = request.scenario.name.as_str();
    match chosen {
        Some(Chosen { believed, opened, .. }) => {
            Values::of_snapshot(scenario, &believed.manifest, &opened.notes, policy, context.now())
        }
        None => Values::without_snapshot(scenario, &reader.node, policy),
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
            return Err(Error::Usage(unnamed(request.scenario)));
        }
    };
    context.tell(Event::Step("choosing the snapshot".into()));
    let (believed, places) = reader.find(&wanted)?;
    let identities = request.identities.ok_or(Error::NoIdentity { what: "restore" })?;
    let opened = open_snapshot(&places, &reader.node, &believed.manifest, identities)?;
    Ok(Some(Chosen { believed, places, opened }))
}

/// What is said where the command line must name the snapshot: also what a person does first, before this program.
fn unnamed(scenario: &Scenario) -> String {
    let mut text = "this scenario wants a snapshot from before the disaster: name one with --snapshot (see \
                    `relay-backup list`)"
        .to_owned();
    let is_choice = |step: &&Step| !matches!(step.action, Do::ChooseSnapshot { .. });
    let before = scenario.steps.iter().take_while(is_choice).filter(|step| matches!(step.action, Do::Tell { .. }));
    let titles: Vec<&str> = before.map(|step| step.title.as_str()).collect();
    if !titles.is_empty() {
        text.push_str(&format!(
            ". What is done by hand comes first, and stands in docs/runbooks/{}.md: {}",
            scenario.name,
            titles.join("; ")
        ));
    }
    text
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

/// Below another root the server that only the lost host's policy names may be this machine's own: databases may be
/// made on it where there are none, which harms nobody, and nothing else.
fn refuse_unnamed_servers(own: Option<&Policy>, plan: &Plan) -> Result<(), Error> {
    let named = |server: &crate::plan::ServerUrl| {
        let mut sources = own.into_iter().flat_map(|own| &own.sources);
        sources.any(|source| matches!(&source.kind, SourceKind::Postgres { url, .. } if *url == server.0))
    };
    let is_made = |server: &crate::plan::ServerUrl, database: &str| {
        plan.actions().any(|action| {
            matches!(action, Action::RestoreDatabase { server: s, database: d, swap: Swap::IntoEmpty, .. }
                if s == server && d == database)
        })
    };
    let unnamed = plan.actions().find_map(|action| match action {
        Action::RestoreDatabase { server, swap: Swap::KeepOld { .. }, .. }
        | Action::SwapDatabase { server, swap: Swap::KeepOld { .. }, .. }
            if !named(server) =>
        {
            Some(server)
        }
        Action::Burn { server, database, .. } if !named(server) && !is_made(server, database) => Some(server),
        _ => None,
    });
    match unnamed {
        None => Ok(()),
        Some(server) => Err(Error::Refused {
            guard: "rollback",
            reason: format!(
                "databases on {} would be replaced, which only the lost host's policy names: below another root that \
                 may be this machine's own server",
                server.0
            ),
            hint: "give --policy FILE with a [[source]] of the same name and the url of the server that is meant"
                .into(),
        }),
    }
}
