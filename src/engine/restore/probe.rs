//! The facts that guards judge by: the only place where a restore looks at the world before it acts. What was not
//! learned is said to be unknown, with the reason; nothing is assumed, and nothing is changed.

mod chain;
mod emergency;
mod evidence;
mod freshness;
mod identity;
mod memory;
mod mirror;
mod payout;
mod running;
mod servers;
mod shelf;
mod space;
mod target;
mod twin;

use super::super::error::chain;
use super::super::opening::Opener;
use super::super::reading::{Opened, Place, Reader};
use super::super::survey::Believed;
use super::super::{Context, Error};
use super::places;
use crate::artifact::Toxicity;
use crate::base::ids::{ArtifactName, SourceName};
use crate::facts;
use crate::facts::postgres::Software;
use crate::guard::facts::{ArtifactFacts, Claim, Facts, Known};
use crate::manifest::Artifact;
use crate::plan::{Action, LightningPlace, Plan};
use crate::policy::Policy;
use crate::seal::identity::Identities;
use crate::target::Root;
use crate::target::fence::Fence;
use chain::Bitcoind;
use jiff::Timestamp;
use shelf::Shelf;

/// What probing works with.
pub struct World<'a> {
    /// The flow's context.
    pub context: &'a Context<'a>,
    /// The vaults that answered, and what is said of those that did not.
    pub reader: &'a Reader,
    /// The snapshot that is restored from.
    pub chosen: Option<Chosen<'a>>,
    /// What opens every other snapshot's notes.
    pub identities: Option<&'a Identities>,
    /// The policy of this machine, or the one in the snapshot's notes.
    pub policy: Option<&'a Policy>,
    /// Where the restore goes.
    pub root: &'a Root,
    /// Whether that is not the machine itself: its units and programs then say nothing.
    pub is_below: bool,
    /// Our own fences that stand already.
    pub fences: &'a [(LightningPlace, &'a Fence<'a>)],
    /// Whose the final snapshot is.
    pub claim: Known<Claim>,
    /// When this restore began, by the stores' clocks; none before it has.
    pub begun: Option<Timestamp>,
    /// When this restore let the node start on the channel database that it had placed; none where it has not.
    pub lowered: Option<Timestamp>,
    /// Whether nothing comes of it: then tars are read although nothing is in their way, to tell what of them would be
    /// left out.
    pub is_dry_run: bool,
    /// Which restore this is, interruptions included.
    pub run: &'a str,
}

/// The snapshot that is restored from.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    /// Its manifest.
    pub believed: &'a Believed,
    /// The vaults that hold it.
    pub places: &'a [&'a Place],
    /// Its keys and notes.
    pub opened: &'a Opened,
}

/// Collects the facts that judging this plan needs. An error only when somebody asked to stop.
pub fn probe(world: &World<'_>, plan: &Plan) -> Result<Facts, Error> {
    let shelf = Shelf::look(world)?;
    let bitcoind = chain::look(world);
    let view = View { world, plan, shelf: &shelf, bitcoind: &bitcoind };
    let secrets = identity::secrets(&view)?;
    let mut facts = Facts {
        artifacts: artifacts(&view),
        candidates: evidence::candidates(&view)?,
        claim: world.claim.clone(),
        lowered: Known::Is(world.lowered),
        block_height: chain::height(&bitcoind),
        identity: identity::probe(&view, &secrets)?,
        running: running::probe(&view)?,
        emergency: emergency::of_snapshot(&view),
        twin: twin::probe(&view)?,
        freshness: freshness::probe(&view)?,
        remembered: memory::probe(&view)?,
        ..Facts::default()
    };
    let (target, written) = target::probe(&view, &secrets)?;
    facts.target = target;
    servers::probe(&view, &mut facts)?;
    facts.payout = payout::probe(&view, &facts.target.databases)?;
    facts.space = space::probe(&view, &facts.target.files, &written)?;
    let evidence = evidence::probe(&view, &secrets)?;
    facts.evidence = evidence.pieces;
    facts.vaults = evidence.vaults;
    Ok(facts)
}

/// What the parts look at together.
struct View<'a> {
    world: &'a World<'a>,
    plan: &'a Plan,
    shelf: &'a Shelf<'a>,
    bitcoind: &'a Known<Bitcoind>,
}

impl<'a> View<'a> {
    /// The artifact of this name in the snapshot that is restored from.
    fn artifact(&self, name: &ArtifactName) -> Known<&'a Artifact> {
        let Some(chosen) = self.world.chosen else { return unchosen() };
        match chosen.believed.manifest.artifact(name) {
            Some(artifact) => Known::Is(artifact),
            None => Known::Unknown(format!("{} has no artifact {name}", chosen.believed.manifest.snapshot)),
        }
    }

    /// What the notes of that snapshot say of it.
    fn notes(&self, name: &ArtifactName) -> Option<&'a facts::Facts> {
        self.world.chosen?.opened.notes.facts(name)
    }

    /// What opens the snapshot's artifacts.
    fn opener(&self) -> Known<Opener<'a>> {
        let Some(chosen) = self.world.chosen else { return unchosen() };
        let (context, node) = (self.world.context, &self.world.reader.node);
        Known::Is(Opener { context, places: chosen.places, node, opened: chosen.opened })
    }

    /// Where the Core Lightning nodes are that the plan or the policy names, each once.
    fn nodes(&self) -> Vec<LightningPlace> {
        places::nodes(self.plan, self.world.policy)
    }

    /// The fact, or in one sentence why there is none. An error only when somebody asked to stop.
    fn settle<T, E: std::error::Error>(&self, result: Result<T, E>) -> Result<Known<T>, Error> {
        settle(self.world.context, result)
    }
}

fn settle<T, E: std::error::Error>(context: &Context<'_>, result: Result<T, E>) -> Result<Known<T>, Error> {
    match result {
        Ok(fact) => Ok(Known::Is(fact)),
        Err(error) => {
            context.check()?;
            Ok(Known::Unknown(chain(&error)))
        }
    }
}

fn unchosen<T>() -> Known<T> {
    Known::Unknown("no snapshot was chosen".to_owned())
}

impl<T> Known<T> {
    /// The fact that follows from it.
    fn and<U>(self, next: impl FnOnce(T) -> Known<U>) -> Known<U> {
        match self {
            Self::Is(fact) => next(fact),
            Self::Unknown(why) => Known::Unknown(why),
        }
    }
}

/// The source that an artifact comes from.
fn source_of(name: &ArtifactName) -> Option<SourceName> {
    name.as_str().split('/').next()?.parse().ok()
}

/// What each artifact is that the plan takes.
fn artifacts(view: &View<'_>) -> std::collections::BTreeMap<ArtifactName, ArtifactFacts> {
    let names = view.plan.actions().filter_map(Action::artifact);
    names
        .map(|name| (name.clone(), ArtifactFacts { toxicity: toxicity(view, name), software: software(view, name) }))
        .collect()
}

/// What the manifest says and what was seen in it: one yes is a yes.
fn toxicity(view: &View<'_>, name: &ArtifactName) -> Known<Toxicity> {
    view.artifact(name).and(|artifact| match facts::toxicity(artifact.kind, artifact.toxic, view.notes(name)) {
        Some(toxicity) => Known::Is(toxicity),
        None => Known::Unknown(format!("the snapshot's notes say nothing of {name}")),
    })
}

fn software(view: &View<'_>, name: &ArtifactName) -> Known<Software> {
    view.artifact(name).and(|_| match view.notes(name) {
        Some(facts::Facts::PostgresDump(facts)) => Known::Is(facts.software),
        Some(_) => Known::Unknown(format!("{name} is no dump of a database")),
        None => Known::Unknown(format!("the snapshot's notes say nothing of {name}")),
    })
}
