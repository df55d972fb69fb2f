//! What must hold between the steps of a scenario, whoever wrote it: guards before what they guard, the fence around
//! everything that touches a lightning directory, nothing started behind a guard's back. Rules over data; the guards
//! that judge facts on the day are another matter, and are asked in any case.

use super::check::Reader;
use super::step::Placed;
use super::verbs::Do;
use super::words::{Aside, Depth, GuardName, Inspection, Need, Placed as Thing, Purpose, Which};
use super::{Scenario, Step};

/// What the steps so far have done.
#[derive(Default)]
struct Before<'a> {
    guards: Vec<GuardName>,
    steps: Vec<&'a Step>,
}

impl Before<'_> {
    fn has(&self, wanted: impl Fn(&Do) -> bool) -> bool {
        self.steps.iter().any(|step| wanted(&step.action))
    }

    /// Whether the fence stands.
    fn is_fenced(&self) -> bool {
        let last = self.steps.iter().rev().find(|step| matches!(step.action, Do::Fence | Do::Unfence));
        last.is_some_and(|step| step.action == Do::Fence)
    }
}

/// Checks everything; what is wrong goes to the reader's findings.
pub(super) fn check(reader: &mut Reader<'_>, scenario: &Scenario, steps: &[Placed]) {
    let mut before = Before::default();
    for placed in steps {
        let place = format!("step {}", placed.step.id);
        for (what, remedy) in judge(scenario, &before, &placed.step) {
            reader.add(&placed.span, &place, what, remedy);
        }
        if let Do::Guard { names } = &placed.step.action {
            before.guards.extend(names);
        }
        before.steps.push(&placed.step);
    }
    if before.is_fenced() {
        let remedy = "add a step that does unfence, behind everything that touches the lightning directory";
        reader.add(&(0..0), "[[step]]", "the fence is never taken away, so lightningd could not start again", remedy);
    }
    if scenario.purpose == Purpose::Restore && scenario.followups.is_empty() {
        let remedy = "add at least one [[followup]]: no disaster is over when the files are back";
        reader.add(&(0..0), "[[followup]]", "the follow-up list is empty", remedy);
    }
}

type Complaint = (String, String);

fn judge(scenario: &Scenario, before: &Before<'_>, step: &Step) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let action = &step.action;
    if scenario.purpose == Purpose::Restore && action.is_for_drills_only() {
        complaints.push((
            format!("{} breaks things on purpose and may stand in drills only", action.verb()),
            "remove the step, or write for = \"drill\"".to_owned(),
        ));
    }
    if scenario.purpose == Purpose::Drill && *action == (Do::Inspect { what: Inspection::TestDelivery }) {
        complaints.push((
            "a test delivery reaches the shops' own servers, and a drill reaches nobody".to_owned(),
            "remove the step, or write for = \"restore\"".to_owned(),
        ));
    }
    complaints.extend(order(before, action));
    complaints.extend(missing_guards(before, action));
    complaints.extend(fence(before, action));
    complaints.extend(compromise(before, action));
    if action.reads_snapshot() && !scenario.needs.contains(&Need::Identity) {
        complaints.push((
            format!("{} opens a snapshot, which needs an identity", action.verb()),
            "add \"identity\" to needs".to_owned(),
        ));
    }
    if before.has(|other| other == action) && !may_stand_twice(action) {
        complaints.push(("does what an earlier step does already".to_owned(), "remove one of the two".to_owned()));
    }
    complaints
}

fn may_stand_twice(action: &Do) -> bool {
    // One of these may be wanted at several moments.
    !action.changes_host() || matches!(action, Do::StopUnit { .. } | Do::StartUnit { .. } | Do::Run { .. })
}

fn needs_before(before: &Before<'_>, verb: &str, wanted: (&str, impl Fn(&Do) -> bool)) -> Option<Complaint> {
    let (name, wanted) = wanted;
    (!before.has(wanted))
        .then(|| (format!("{verb} comes before any {name}"), format!("put a step that does {name} before it")))
}

/// Steps that only make sense behind another.
fn order(before: &Before<'_>, action: &Do) -> Vec<Complaint> {
    let verb = action.verb();
    let mut all = Vec::new();
    if action.reads_snapshot() {
        all.extend(needs_before(before, verb, ("choose-snapshot", |other| matches!(other, Do::ChooseSnapshot { .. }))));
    }
    match action {
        Do::RestoreDatabases => {
            all.extend(needs_before(before, verb, ("restore-roles", |other| *other == Do::RestoreRoles)));
        }
        Do::SwapDatabases { .. } | Do::Burn { .. } => {
            all.extend(needs_before(before, verb, ("restore-databases", |other| *other == Do::RestoreDatabases)));
        }
        Do::ChooseSnapshot { depth: Depth::Meaning, .. } => all.push((
            "no scratch server is made before a restore: databases are proved as they are restored".to_owned(),
            "write depth = \"opened\"".to_owned(),
        )),
        Do::ChooseSnapshot { .. } if before.has(|other| matches!(other, Do::ChooseSnapshot { .. })) => {
            all.push(("a snapshot was chosen already".to_owned(), "remove one of the two steps".to_owned()));
        }
        Do::Claim => all.extend(needs_final(before, verb)),
        Do::Place { what: Thing::ChannelDatabase } => {
            all.extend(needs_final(before, "placing a channel database"));
            all.extend(needs_before(before, "placing a channel database", ("claim", |other| *other == Do::Claim)));
        }
        _ => {}
    }
    if matches!(action, Do::Burn { .. }) && before.has(|other| matches!(other, Do::SwapDatabases { .. })) {
        all.push((
            "the databases went into service before what was stolen is burnt".to_owned(),
            "put it before swap-databases".to_owned(),
        ));
    }
    all
}

fn needs_final(before: &Before<'_>, what: &str) -> Option<Complaint> {
    let is_final = |other: &Do| matches!(other, Do::ChooseSnapshot { which: Which::Final, .. });
    (!before.has(is_final)).then(|| {
        (
            format!("{what} needs a final snapshot: any other may be older than what the peers hold"),
            "write which = \"final\" in the step that does choose-snapshot".to_owned(),
        )
    })
}

/// Guards that must have been judged before a step.
fn wanted_guards(before: &Before<'_>, action: &Do) -> Vec<GuardName> {
    use GuardName::{Freshness, Identity, Payout, Rollback, Running, Space, Stale, Twin};
    match action {
        Do::Fence => vec![Running, Twin],
        Do::Place { what } => match what {
            Thing::HsmSecret => vec![Identity, Running, Rollback, Twin],
            Thing::EmergencyRecover => vec![Identity, Running, Rollback, Twin, Freshness],
            Thing::EmergencyRecoverCopy | Thing::ChannelBackupCopy => vec![Freshness],
            Thing::ChannelBackup => vec![Running, Rollback, Twin, Freshness],
            Thing::Extras | Thing::Files | Thing::Sqlite => vec![Rollback, Space],
            Thing::ChannelDatabase => vec![Identity, Running, Stale, Rollback, Twin, Space],
        },
        Do::Quarantine => vec![Space],
        Do::MoveAside { what: Aside::HsmSecret } => vec![Identity, Running, Rollback],
        Do::MoveAside { .. } => vec![Running],
        Do::RestoreDatabases => vec![Space, Freshness],
        Do::SwapDatabases { .. } => vec![Running, Rollback],
        // Any unit may be the one that pays: names mean nothing.
        Do::StartUnit { .. } if before.has(|other| matches!(other, Do::SwapDatabases { .. })) => vec![Payout],
        Do::Claim => vec![Stale, Twin],
        _ => Vec::new(),
    }
}

fn missing_guards(before: &Before<'_>, action: &Do) -> Option<Complaint> {
    let missing: Vec<&str> = wanted_guards(before, action)
        .into_iter()
        .filter(|guard| !before.guards.contains(guard))
        .map(GuardName::as_str)
        .collect();
    (!missing.is_empty()).then(|| {
        let names = missing.join(", ");
        (
            format!("{} comes before the guard {names} has judged", action.verb()),
            format!("name {names} in a step that does guard, before it"),
        )
    })
}

/// Whether it touches what lightningd would start on.
fn touches_lightning(action: &Do) -> bool {
    match action {
        Do::Place { what } => matches!(what, Thing::HsmSecret | Thing::EmergencyRecover | Thing::ChannelDatabase),
        Do::MoveAside { what } => matches!(what, Aside::ClnWallet | Aside::HsmSecret | Aside::EmergencyRecover),
        _ => false,
    }
}

fn fence(before: &Before<'_>, action: &Do) -> Option<Complaint> {
    let fenced = before.is_fenced();
    match action {
        Do::Fence if fenced => Some(("the fence stands already".to_owned(), "remove the step".to_owned())),
        Do::Unfence if !fenced => {
            Some(("there is no fence to take away".to_owned(), "put a step that does fence before it".to_owned()))
        }
        Do::StartUnit { unit, .. } if fenced => Some((
            format!("{unit} is started while the restore still works on the lightning directory"),
            "put it behind the step that does unfence".to_owned(),
        )),
        action if touches_lightning(action) && !fenced => Some((
            format!("{} touches the lightning directory without a fence", action.verb()),
            "put a step that does fence before it, and unfence behind it".to_owned(),
        )),
        _ => None,
    }
}

/// After a theft nothing that holds a stolen secret may come back.
fn compromise(before: &Before<'_>, action: &Do) -> Option<Complaint> {
    if !before.guards.contains(&GuardName::Compromise) {
        return None;
    }
    match action {
        Do::Place { what } => Some((
            format!("{what} would bring stolen secrets back into service"),
            "remove the step; make new secrets instead".to_owned(),
        )),
        Do::SwapDatabases { .. } if !before.has(|other| matches!(other, Do::Burn { .. })) => Some((
            "the databases would go into service with stolen keys in them".to_owned(),
            "put a step that does burn before it".to_owned(),
        )),
        _ => None,
    }
}
