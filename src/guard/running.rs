//! Refuses to work under a program that is running: lightningd (pid file's lock, RPC socket, unit), LND, sessions in a
//! database that is swapped. What the plan itself stops beforehand may run until then: the fence cannot be raised, and
//! the swap fails, while it still does.

use super::facts::{Facts, Holder, Known, UnitState};
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::artifact::ArtifactKind;
use crate::plan::{Action, Plan, UnitRole};

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    let (of_lightning, of_lnd, of_database) = (any(plan, is_lightning), any(plan, is_lnd), any(plan, is_database));
    if !of_lightning && !of_lnd && !of_database {
        return Verdict::NotApplicable { why: "no node's files and no database are changed".to_owned() };
    }
    let mut objections = Objections::of(Guard::Running);
    if of_lightning {
        lightning(&mut objections, plan, facts);
    }
    if of_lnd {
        lnd(&mut objections, plan, facts);
    }
    if of_lightning || of_lnd {
        units(&mut objections, plan, facts);
    }
    databases(&mut objections, plan, facts);
    objections.verdict("nothing uses what would be changed, beyond what the plan stops first")
}

fn any(plan: &Plan, is_subject: fn(&Action) -> bool) -> bool {
    plan.actions().any(is_subject)
}

fn is_lightning(action: &Action) -> bool {
    matches!(action, Action::RaiseFence { .. } | Action::LowerFence { .. }) || places_into_node(action)
}

/// Whether it puts something where a fence must stand meanwhile.
fn places_into_node(action: &Action) -> bool {
    use ArtifactKind::{EmergencyRecover, HsmSecret};
    matches!(action, Action::PlaceChannelDatabase { .. } | Action::PlaceFile { kind: HsmSecret | EmergencyRecover, .. })
}

fn is_lnd(action: &Action) -> bool {
    matches!(action, Action::PlaceFile { kind: ArtifactKind::LndChannelBackup, .. })
}

fn is_database(action: &Action) -> bool {
    matches!(action, Action::RestoreDatabase { .. })
}

fn lightning(objections: &mut Objections, plan: &Plan, facts: &Facts) {
    fenced(objections, plan);
    for place in plan.fences() {
        let subject = place.pid_file.display();
        let Some(running) = facts.running.lightning.get(&place.pid_file) else {
            objections.need::<Holder>(subject, "whether lightningd runs on it", Known::default());
            continue;
        };
        let lock = objections.need(&subject, "whether its lock is held", running.lock.as_ref());
        let until = |action: &Action| matches!(action, Action::RaiseFence { .. });
        let stop = "stop lightningd (`systemctl stop clightning`, or `lightning-cli stop`), then run it again";
        holders(objections, plan, (&subject.to_string(), "its lock is held by", stop), lock, until);
        let subject = place.rpc_socket.display();
        let socket = objections.need(&subject, "whether something answers on it", running.socket.as_ref());
        holders(objections, plan, (&subject.to_string(), "lightningd answers on it, as", stop), socket, until);
    }
}

/// What goes into a node's folders goes there behind its fence.
fn fenced(objections: &mut Objections, plan: &Plan) {
    let mut raised = 0_usize;
    for action in plan.actions() {
        match action {
            Action::RaiseFence { .. } => raised += 1,
            Action::LowerFence { .. } => raised = raised.saturating_sub(1),
            _ if raised == 0 && places_into_node(action) => objections.add(
                action,
                "no fence stands meanwhile, so a node that is started in the middle would run on half a restore",
                "raise the fence before this action and lower it in the last step",
            ),
            _ => {}
        }
    }
}

/// Units of nodes. Below another root the units of this machine say nothing.
fn units(objections: &mut Objections, plan: &Plan, facts: &Facts) {
    if plan.root.is_some() {
        return;
    }
    let until = |action: &Action| is_lightning(action) || is_lnd(action);
    let mut names: Vec<&str> = facts.running.units.keys().map(String::as_str).collect();
    let of_plan = plan.actions().filter_map(|action| match action {
        Action::Unit { unit, role: UnitRole::CoreLightning | UnitRole::Lnd, .. } => Some(unit.as_str()),
        _ => None,
    });
    names.extend(of_plan);
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        objections.need::<UnitState>("the node's unit", "its state", Known::default());
    }
    for name in names {
        let state = Known::found(facts.running.units.get(name));
        let state = objections.need(name, "its state", state);
        if state == Some(&UnitState::Active) && !plan.stops_before(name, until) {
            let hint = format!("stop it (`systemctl stop {name}`), then run it again");
            objections.add(name, "it runs, and the plan does not stop it first", hint);
        }
    }
}

fn lnd(objections: &mut Objections, plan: &Plan, facts: &Facts) {
    let found = objections.need("LND", "whether it runs", facts.running.lnd.as_ref());
    let stop = "stop LND (`systemctl stop lnd`, or `lncli stop`), then run it again";
    holders(objections, plan, ("LND", "its files are used by", stop), found, is_lnd);
}

fn databases(objections: &mut Objections, plan: &Plan, facts: &Facts) {
    for action in plan.actions() {
        let Action::RestoreDatabase { server, database, .. } = action else { continue };
        let sessions = facts.running.sessions.get(&(server.clone(), database.clone()));
        let subject = format!("database {database} on {}", server.0);
        let sessions = objections.need(&subject, "whether it is in use", Known::found(sessions));
        let hint = "stop what is connected to it, then run it again";
        holders(objections, plan, (&subject, "it is in use by", hint), sessions, |other| other == action);
    }
}

/// Objects to each holder that the plan does not stop before it gets there. `said` is subject, message and hint.
fn holders(
    objections: &mut Objections,
    plan: &Plan,
    said: (&str, &str, &str),
    found: Option<&Vec<Holder>>,
    until: impl Fn(&Action) -> bool,
) {
    let is_stopped = |holder: &Holder| {
        plan.root.is_none() && holder.unit.as_ref().is_some_and(|unit| plan.stops_before(unit, &until))
    };
    for holder in found.into_iter().flatten().filter(|holder| !is_stopped(holder)) {
        let (subject, message, hint) = said;
        objections.add(subject, format!("{message} {}", holder.what), hint);
    }
}
