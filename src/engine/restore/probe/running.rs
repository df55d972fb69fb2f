//! What runs at the target: the nodes, by lock, socket and unit, and LND. Sessions in databases are asked with the
//! databases.

use super::View;
use crate::artifact::ArtifactKind;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::guard::facts::{Holder, Known, LightningRunning, RunningFacts, UnitState};
use crate::plan::{Action, Plan, UnitRole};
use crate::policy::SourceKind;
use crate::target::holders;
use crate::target::running::{self, Answer, Lnd};
use crate::target::units::{State, UnitError, Units};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where LND's RPC listens unless it is told otherwise.
const LND_RPC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10009);
/// Units of nodes where the plan names none: nix-bitcoin's, and those that packages and guides make.
const CLN_UNITS: [&str; 2] = ["clightning.service", "lightningd.service"];
const LND_UNITS: [&str; 1] = ["lnd.service"];
/// LND's databases that it has open for as long as it runs, below its data folder.
const LND_GRAPH: &str = "channel.db";
const LND_WALLET: &str = "wallet.db";

/// What runs.
pub(super) fn probe(view: &View<'_>) -> Result<RunningFacts, Error> {
    Ok(RunningFacts {
        lightning: lightning(view)?,
        lnd: lnd(view)?,
        units: units(view, Units::find),
        sessions: BTreeMap::new(),
    })
}

fn lightning(view: &View<'_>) -> Result<BTreeMap<PathBuf, LightningRunning>, Error> {
    let root = view.world.root;
    let mut found = BTreeMap::new();
    for place in view.plan.fences() {
        let ours =
            view.world.fences.iter().find(|(fenced, _)| fenced.pid_file == place.pid_file).map(|(_, fence)| *fence);
        let lock = view.settle(root.lock_holders(&place.pid_file, ours))?;
        let socket = view.settle(root.socket_holders(&place.rpc_socket))?;
        found.insert(place.pid_file.clone(), LightningRunning { lock: named(lock), socket: named(socket) });
    }
    Ok(found)
}

fn named(found: Known<Vec<holders::Holder>>) -> Known<Vec<Holder>> {
    let name = |holder: holders::Holder| Holder { what: holder.what, unit: holder.unit };
    found.and(|found| Known::Is(found.into_iter().map(name).collect()))
}

/// The units in which a node of this kind runs: the plan's, or those it usually has.
pub(super) fn node_units(plan: &Plan, wanted: UnitRole) -> Vec<String> {
    let of_plan = plan.actions().filter_map(|action| match action {
        Action::Unit { unit, role, .. } if *role == wanted => Some(unit.clone()),
        _ => None,
    });
    let mut names: Vec<String> = of_plan.collect();
    if names.is_empty() {
        let usual: &[&str] = if wanted == UnitRole::Lnd { &LND_UNITS } else { &CLN_UNITS };
        names = usual.iter().map(|name| (*name).to_owned()).collect();
    }
    names.sort();
    names.dedup();
    names
}

fn units(view: &View<'_>, manager: impl FnOnce() -> Result<Units, UnitError>) -> BTreeMap<String, Known<UnitState>> {
    if view.world.is_below {
        return BTreeMap::new();
    }
    let mut names = Vec::new();
    for (role, is_touched) in [(UnitRole::CoreLightning, touches_cln(view.plan)), (UnitRole::Lnd, takes_lnd(view.plan))]
    {
        if is_touched
            || view.plan.actions().any(|action| matches!(action, Action::Unit { role: its, .. } if *its == role))
        {
            names.extend(node_units(view.plan, role));
        }
    }
    if names.is_empty() {
        return BTreeMap::new();
    }
    let manager = manager();
    let state = |name: &str| match &manager {
        Ok(units) => units.state(name).map_or_else(|error| Known::Unknown(chain(&error)), |state| Known::Is(of(state))),
        Err(error) => Known::Unknown(chain(error)),
    };
    names.into_iter().map(|name| (name.clone(), state(&name))).collect()
}

fn of(state: State) -> UnitState {
    match state {
        State::Absent => UnitState::Absent,
        State::Stopped | State::Failed => UnitState::Inactive,
        State::Running | State::Changing => UnitState::Active,
    }
}

fn touches_cln(plan: &Plan) -> bool {
    use ArtifactKind::{EmergencyRecover, HsmSecret};
    plan.actions().any(|action| {
        matches!(
            action,
            Action::RaiseFence { .. }
                | Action::PlaceChannelDatabase { .. }
                | Action::PlaceFile { kind: HsmSecret | EmergencyRecover, .. }
        )
    })
}

fn takes_lnd(plan: &Plan) -> bool {
    plan.actions().any(|action| matches!(action, Action::PlaceFile { kind: ArtifactKind::LndChannelBackup, .. }))
}

fn lnd(view: &View<'_>) -> Result<Known<Vec<Holder>>, Error> {
    if !takes_lnd(view.plan) {
        return Ok(Known::Unknown("it was not asked, because nothing of LND's is placed".to_owned()));
    }
    let mut found = Vec::new();
    for database in lnd_databases(view) {
        match named(view.settle(view.world.root.bolt_holders(&database))?) {
            Known::Is(holders) => found.extend(holders),
            Known::Unknown(why) => return Ok(Known::Unknown(why)),
        }
    }
    if view.world.is_below {
        return Ok(Known::Is(found));
    }
    match running::lnd(view.world.root, &Lnd { databases: &[], rpc: Some(LND_RPC), unit: None }) {
        Answer::No => Ok(Known::Is(found)),
        Answer::Yes(what) => {
            found.push(Holder { what, unit: None });
            Ok(Known::Is(found))
        }
        Answer::Unknown(why) => Ok(Known::Unknown(why)),
    }
}

/// LND's databases, in both places where its data folder can be: below its folder, or the folder itself.
fn lnd_databases(view: &View<'_>) -> Vec<PathBuf> {
    let sources = view.world.policy.into_iter().flat_map(|policy| &policy.sources);
    let of_source = |lnd_dir: &Path, network: &str| {
        [lnd_dir.join("data"), lnd_dir.to_owned()]
            .into_iter()
            .flat_map(move |data| {
                [
                    data.join("chain/bitcoin").join(network).join(LND_WALLET),
                    data.join("graph").join(network).join(LND_GRAPH),
                ]
            })
            .collect::<Vec<_>>()
    };
    sources
        .flat_map(|source| match &source.kind {
            SourceKind::Lnd { lnd_dir, network, .. } => of_source(lnd_dir, network),
            _ => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlannedStep, Secrecy, UnitChange};

    #[test]
    fn the_plans_own_units_go_before_the_usual_ones() {
        let plan = |units: &[(&str, UnitRole)]| Plan {
            scenario: "server-loss".parse().unwrap(),
            secrecy: Secrecy::Kept,
            node: "shop".parse().unwrap(),
            snapshot: None,
            root: None,
            steps: vec![PlannedStep {
                id: "units".parse().unwrap(),
                title: String::new(),
                actions: units
                    .iter()
                    .map(|(unit, role)| Action::Unit {
                        unit: (*unit).to_owned(),
                        role: *role,
                        change: UnitChange::Stop,
                    })
                    .collect(),
            }],
        };
        assert_eq!(node_units(&plan(&[]), UnitRole::CoreLightning), CLN_UNITS);
        assert_eq!(node_units(&plan(&[]), UnitRole::Lnd), LND_UNITS);
        let named = plan(&[("cln-main.service", UnitRole::CoreLightning), ("lnd2.service", UnitRole::Lnd)]);
        assert_eq!(node_units(&named, UnitRole::CoreLightning), ["cln-main.service"]);
        assert_eq!(node_units(&named, UnitRole::Lnd), ["lnd2.service"]);
    }
}
