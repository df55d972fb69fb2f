//! Nothing is changed under a program that runs.

use super::world::*;
use super::{cleared, not_applicable, refused};
use crate::artifact::ArtifactKind;
use crate::guard::Guard;
use crate::guard::facts::*;
use crate::plan::{Action, Plan, UnitChange, UnitRole};

const RUNNING: Guard = Guard::Running;

fn holder(unit: Option<&str>) -> Known<Vec<Holder>> {
    Known::Is(vec![Holder { what: "lightningd, process 4711".to_owned(), unit: unit.map(str::to_owned) }])
}

fn node_of(facts: &mut Facts) -> &mut LightningRunning {
    facts.running.lightning.values_mut().next().unwrap()
}

fn database() -> (crate::plan::ServerUrl, String) {
    (server(), "btcpaydb".to_owned())
}

#[test]
fn an_idle_target_is_cleared_and_a_plan_without_a_subject_is_none() {
    for (plan, facts) in [server_loss(), migration()] {
        cleared(RUNNING, &plan, &facts, "nothing uses");
    }
    let (_, facts) = migration();
    not_applicable(RUNNING, &plan("integration-outage", vec![start_btcpay()]), &facts);
}

#[test]
fn a_held_lock_or_a_socket_that_answers_is_refused() {
    let (plan, mut facts) = migration();
    node_of(&mut facts).lock = holder(None);
    refused(RUNNING, &plan, &facts, "its lock is held by lightningd, process 4711");
    node_of(&mut facts).lock = Known::default();
    refused(RUNNING, &plan, &facts, "whether its lock is held is not known");
    node_of(&mut facts).lock = Known::Is(Vec::new());
    node_of(&mut facts).socket = holder(None);
    refused(RUNNING, &plan, &facts, "lightningd answers on it");
    node_of(&mut facts).socket = Known::default();
    refused(RUNNING, &plan, &facts, "whether something answers on it is not known");
    facts.running.lightning.clear();
    refused(RUNNING, &plan, &facts, "whether lightningd runs on it is not known");
}

#[test]
fn what_the_plan_stops_first_may_run_until_then() {
    let (plan, mut facts) = server_loss();
    node_of(&mut facts).lock = holder(Some(NODE_UNIT));
    node_of(&mut facts).socket = holder(Some(NODE_UNIT));
    facts.running.units.insert(NODE_UNIT.to_owned(), Known::Is(UnitState::Active));
    cleared(RUNNING, &plan, &facts, "beyond what the plan stops first");
    node_of(&mut facts).lock = holder(Some("other.service"));
    refused(RUNNING, &plan, &facts, "its lock is held by");
    node_of(&mut facts).lock = holder(None);
    refused(RUNNING, &plan, &facts, "its lock is held by");
    // A plan that does not stop it, or stops it too late.
    let (mut plan, _) = server_loss();
    node_of(&mut facts).lock = holder(Some(NODE_UNIT));
    let stop = plan.steps[0].actions.remove(0);
    refused(RUNNING, &plan, &facts, "it runs, and the plan does not stop it first");
    refused(RUNNING, &plan, &facts, "its lock is held by");
    plan.steps[0].actions.insert(1, stop);
    refused(RUNNING, &plan, &facts, "it runs, and the plan does not stop it first");
    refused(RUNNING, &plan, &facts, "its lock is held by");
}

#[test]
fn below_another_root_units_say_nothing_and_stop_nothing() {
    let (mut plan, mut facts) = server_loss();
    plan.root = Some("/mnt".into());
    facts.running.units.insert(NODE_UNIT.to_owned(), Known::Is(UnitState::Active));
    cleared(RUNNING, &plan, &facts, "nothing uses");
    node_of(&mut facts).lock = holder(Some(NODE_UNIT));
    refused(RUNNING, &plan, &facts, "its lock is held by");
}

#[test]
fn the_state_of_every_node_unit_must_be_known() {
    let (plan, mut facts) = migration();
    facts.running.units.insert(NODE_UNIT.to_owned(), Known::default());
    refused(RUNNING, &plan, &facts, "clightning.service: its state is not known");
    facts.running.units.clear();
    refused(RUNNING, &plan, &facts, "the node's unit: its state is not known");
    let (plan, _) = server_loss();
    refused(RUNNING, &plan, &facts, "clightning.service: its state is not known");
    for state in [UnitState::Inactive, UnitState::Absent] {
        facts.running.units.insert(NODE_UNIT.to_owned(), Known::Is(state));
        cleared(RUNNING, &plan, &facts, "nothing uses");
    }
}

#[test]
fn a_database_in_use_is_not_swapped() {
    let (plan, mut facts) = server_loss();
    let name = "database btcpaydb on postgresql:///postgres";
    facts.running.sessions.insert(database(), holder(None));
    refused(RUNNING, &plan, &facts, &format!("{name}: it is in use by"));
    facts.running.sessions.insert(database(), Known::default());
    refused(RUNNING, &plan, &facts, &format!("{name}: whether it is in use is not known"));
    facts.running.sessions.clear();
    refused(RUNNING, &plan, &facts, &format!("{name}: whether it is in use is not known"));
}

#[test]
fn a_database_is_a_subject_by_itself() {
    let (_, mut facts) = server_loss();
    let alone = plan("postgres-corruption", vec![restore("btcpay/btcpaydb.dump", "btcpaydb")]);
    cleared(RUNNING, &alone, &facts, "nothing uses");
    facts.running.sessions.insert(database(), holder(None));
    refused(RUNNING, &alone, &facts, "it is in use by");
}

#[test]
fn sessions_of_a_unit_that_is_stopped_before_do_not_count() {
    let (mut plan, mut facts) = server_loss();
    facts.running.sessions.insert(database(), holder(Some("btcpayserver.service")));
    refused(RUNNING, &plan, &facts, "it is in use by");
    let stop = unit("btcpayserver.service", UnitRole::Btcpay, UnitChange::Stop);
    plan.steps[0].actions.insert(0, stop);
    cleared(RUNNING, &plan, &facts, "nothing uses");
}

#[test]
fn lnd_is_not_changed_while_it_runs() {
    let backup = place("lnd/channel.backup", ArtifactKind::LndChannelBackup, "/lnd/channel.backup");
    let stop = unit("lnd.service", UnitRole::Lnd, UnitChange::Stop);
    let (_, mut facts) = migration();
    facts.running.units.insert("lnd.service".to_owned(), Known::Is(UnitState::Active));
    let bare = plan("lnd-server-loss", vec![backup.clone()]);
    let stopped = plan("lnd-server-loss", vec![stop, backup]);
    cleared(RUNNING, &stopped, &facts, "nothing uses");
    refused(RUNNING, &bare, &facts, "lnd.service: it runs");
    facts.running.lnd = holder(Some("lnd.service"));
    cleared(RUNNING, &stopped, &facts, "nothing uses");
    facts.running.lnd = holder(None);
    refused(RUNNING, &stopped, &facts, "LND: its files are used by");
    facts.running.lnd = Known::default();
    refused(RUNNING, &stopped, &facts, "LND: whether it runs is not known");
}

#[test]
fn what_goes_into_a_nodes_folder_goes_there_behind_its_fence() {
    let without = |(mut plan, facts): (Plan, Facts)| {
        plan.steps[0].actions.retain(|action| !matches!(action, Action::RaiseFence { .. }));
        (plan, facts)
    };
    for world in [migration(), server_loss()] {
        let (plan, facts) = without(world);
        refused(RUNNING, &plan, &facts, "no fence stands meanwhile");
    }
    let (mut plan, facts) = migration();
    let lower = plan.steps[0].actions.pop().unwrap();
    plan.steps[0].actions.insert(1, lower);
    refused(RUNNING, &plan, &facts, "no fence stands meanwhile");
}
