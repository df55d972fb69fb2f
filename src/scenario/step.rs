//! The `[[step]]` tables of a scenario, each read by its verb.

use super::Step;
use super::check::Reader;
use super::text::{self, Template};
use super::verbs::Do;
use super::wire::{
    AssertWire, BurnWire, ChangeRecipientsWire, ChooseSnapshotWire, ClaimWire, DamageWire, FenceWire, GuardWire,
    InspectWire, LoseIdentityWire, LoseVaultWire, MoveAsideWire, PlaceWire, PlayWire, QuarantineWire,
    RecoverByHandWire, RestoreDatabasesWire, RestoreRolesWire, RunWire, StartUnitWire, StopUnitWire, SwapDatabasesWire,
    SyncVaultWire, TellWire, UnfenceWire, VerifyVaultWire, WaitWire,
};
use super::words::{
    Answer, Aside, Assertion, Burn, Condition, Depth, Expected, GuardName, Harm, Inspection, Placed as Thing, Swap,
    UnitRole, Which,
};
use crate::base::ids::StepId;
use crate::base::limits;
use crate::policy::check::name;
use crate::policy::shape::shown;
use crate::policy::values::{self, BadValue, bad};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeValue, Error};

/// A step with its place in the text.
pub(super) struct Placed {
    pub(super) step: Step,
    pub(super) span: Range<usize>,
}

/// Reads all steps. The text's shape was checked before: an error here is one of TOML itself.
pub(super) fn read_all(reader: &mut Reader<'_>, steps: Option<&Spanned<DeValue<'_>>>) -> Result<Vec<Placed>, Error> {
    let mut read = Vec::new();
    let mut ids = HashSet::new();
    let mut count = 0;
    for entry in steps.and_then(|list| list.get_ref().as_array()).into_iter().flatten() {
        let Some(table) = entry.get_ref().as_table() else { continue };
        count += 1;
        if count > limits::SCENARIO_STEPS_MAX {
            let most = limits::SCENARIO_STEPS_MAX;
            reader.add(&entry.span(), "[[step]]", format!("there are more than {most} steps"), "split the scenario");
            break;
        }
        let verb = table.get("do").and_then(|verb| verb.get_ref().as_str()).unwrap_or_default().to_owned();
        let mut table = table.clone();
        table.remove("do");
        let value = Spanned::new(entry.span(), DeValue::Table(table));
        let (head, action) = by_verb(reader, &verb, value)?;
        let span = head.id.span();
        if !ids.insert(head.id.get_ref().clone()) {
            reader.add(&span, "[[step]] id", "this id stands there twice", "give every step a name of its own");
        }
        let id = reader.value("[[step]] id", &head.id, name::<StepId>);
        let title = reader.value("[[step]] title", &head.title, text::title);
        let why = reader.optional("[[step]] why", head.why.as_ref(), Template::parse);
        if let (Some(id), Some(title), Some(action)) = (id, title, action) {
            read.push(Placed { step: Step { id, title, why, action }, span });
        }
    }
    if count == 0 {
        reader.add(&(0..0), "[[step]]", "there is no step", "add at least one [[step]] with id, title and do");
    }
    Ok(read)
}

fn from<'de, T: Deserialize<'de>>(value: Spanned<DeValue<'de>>) -> Result<T, Error> {
    T::deserialize(value.into_deserializer())
}

/// What every step has.
struct Head {
    id: Spanned<String>,
    title: Spanned<String>,
    why: Option<Spanned<String>>,
}

/// The head of a wire step, and the step itself with the rest of it.
macro_rules! head {
    ($wire:ident) => {
        Head { id: $wire.id.clone(), title: $wire.title.clone(), why: $wire.why.clone() }
    };
}

/// Reads a step whose verb has no parameters.
macro_rules! plain {
    ($value:ident, $wire:ty, $action:expr) => {{
        let wire: $wire = from($value)?;
        (head!(wire), Some($action))
    }};
}

/// Reads a step with a function from its wire type to what it does.
macro_rules! with {
    ($reader:ident, $value:ident, $wire:ty, $read:expr) => {{
        let wire: $wire = from($value)?;
        let read: fn(&mut Reader<'_>, &$wire) -> Option<Do> = $read;
        (head!(wire), read($reader, &wire))
    }};
}

fn by_verb(reader: &mut Reader<'_>, verb: &str, value: Spanned<DeValue<'_>>) -> Result<(Head, Option<Do>), Error> {
    Ok(match verb {
        "choose-snapshot" => with!(reader, value, ChooseSnapshotWire, choose_snapshot),
        "guard" => with!(reader, value, GuardWire, guard),
        "fence" => plain!(value, FenceWire, Do::Fence),
        "unfence" => plain!(value, UnfenceWire, Do::Unfence),
        "place" => with!(reader, value, PlaceWire, |reader, wire| {
            Some(Do::Place { what: reader.value("[[step]] what", &wire.what, Thing::read)? })
        }),
        "quarantine" => plain!(value, QuarantineWire, Do::Quarantine),
        "move-aside" => with!(reader, value, MoveAsideWire, |reader, wire| {
            Some(Do::MoveAside { what: reader.value("[[step]] what", &wire.what, Aside::read)? })
        }),
        "restore-roles" => plain!(value, RestoreRolesWire, Do::RestoreRoles),
        "restore-databases" => plain!(value, RestoreDatabasesWire, Do::RestoreDatabases),
        "swap-databases" => with!(reader, value, SwapDatabasesWire, |reader, wire| {
            Some(Do::SwapDatabases { which: defaulted(reader, "which", wire.which.as_ref(), Swap::All, Swap::read)? })
        }),
        "burn" => with!(reader, value, BurnWire, burn),
        "inspect" => with!(reader, value, InspectWire, |reader, wire| {
            Some(Do::Inspect { what: reader.value("[[step]] what", &wire.what, Inspection::read)? })
        }),
        "stop-unit" => with!(reader, value, StopUnitWire, |reader, wire| {
            let (unit, role) = unit_of(reader, &wire.runs, wire.unit.as_ref())?;
            Some(Do::StopUnit { unit, role })
        }),
        "start-unit" => with!(reader, value, StartUnitWire, |reader, wire| {
            let (unit, role) = unit_of(reader, &wire.runs, wire.unit.as_ref())?;
            Some(Do::StartUnit { unit, role })
        }),
        "run" => with!(reader, value, RunWire, run),
        "wait" => with!(reader, value, WaitWire, wait),
        "tell" => with!(reader, value, TellWire, tell),
        "assert" => with!(reader, value, AssertWire, assert),
        "claim" => plain!(value, ClaimWire, Do::Claim),
        other => return drill_verb(reader, other, value),
    })
}

fn drill_verb(reader: &mut Reader<'_>, verb: &str, value: Spanned<DeValue<'_>>) -> Result<(Head, Option<Do>), Error> {
    Ok(match verb {
        "damage" => with!(reader, value, DamageWire, |reader, wire| {
            Some(Do::Damage { what: reader.value("[[step]] what", &wire.what, Harm::read)? })
        }),
        "lose-vault" => plain!(value, LoseVaultWire, Do::LoseVault),
        "sync-vault" => plain!(value, SyncVaultWire, Do::SyncVault),
        "verify-vault" => with!(reader, value, VerifyVaultWire, |reader, wire| {
            let depth = defaulted(reader, "depth", wire.depth.as_ref(), Depth::Opened, Depth::read);
            let expect = reader.value("[[step]] expect", &wire.expect, Expected::read);
            Some(Do::VerifyVault { depth: depth?, expect: expect? })
        }),
        "lose-identity" => plain!(value, LoseIdentityWire, Do::LoseIdentity),
        "change-recipients" => plain!(value, ChangeRecipientsWire, Do::ChangeRecipients),
        "recover-by-hand" => plain!(value, RecoverByHandWire, Do::RecoverByHand),
        _ => with!(reader, value, PlayWire, |reader, wire| {
            Some(Do::Play { scenario: reader.value("[[step]] scenario", &wire.scenario, name)? })
        }),
    })
}

fn defaulted<T>(
    reader: &mut Reader<'_>,
    key: &str,
    text: Option<&Spanned<String>>,
    default: T,
    read: impl FnOnce(&str) -> Result<T, BadValue>,
) -> Option<T> {
    match text {
        None => Some(default),
        Some(text) => reader.value(&format!("[[step]] {key}"), text, read),
    }
}

fn choose_snapshot(reader: &mut Reader<'_>, wire: &ChooseSnapshotWire) -> Option<Do> {
    let which = defaulted(reader, "which", wire.which.as_ref(), Which::NewestComplete, Which::read);
    let depth = defaulted(reader, "depth", wire.depth.as_ref(), Depth::Opened, Depth::read);
    Some(Do::ChooseSnapshot { which: which?, depth: depth? })
}

/// A list of words that must not be empty.
fn some_of<T: Copy + Eq + std::hash::Hash>(
    reader: &mut Reader<'_>,
    key: &str,
    list: (&Spanned<String>, &[Spanned<String>]),
    read: impl Fn(&str) -> Result<T, BadValue>,
) -> Option<Vec<T>> {
    let (id, list) = list;
    let place = format!("[[step]] {key}");
    if list.is_empty() {
        reader.add(
            &id.span(),
            &place,
            "is empty, so the step would do nothing",
            "name at least one, or remove the step",
        );
    }
    let all = reader.set(&place, list, read);
    (!all.is_empty()).then_some(all)
}

fn guard(reader: &mut Reader<'_>, wire: &GuardWire) -> Option<Do> {
    Some(Do::Guard { names: some_of(reader, "names", (&wire.id, &wire.names), GuardName::read)? })
}

fn burn(reader: &mut Reader<'_>, wire: &BurnWire) -> Option<Do> {
    Some(Do::Burn { what: some_of(reader, "what", (&wire.id, &wire.what), Burn::read)? })
}

fn assert(reader: &mut Reader<'_>, wire: &AssertWire) -> Option<Do> {
    Some(Do::Assert { what: some_of(reader, "what", (&wire.id, &wire.what), Assertion::read)? })
}

fn tell(reader: &mut Reader<'_>, wire: &TellWire) -> Option<Do> {
    let text = reader.value("[[step]] text", &wire.text, Template::parse);
    let answer = defaulted(reader, "answer", wire.answer.as_ref(), Answer::None, Answer::read);
    let command = reader.lines("[[step]] command", &wire.command);
    Some(Do::Tell { text: text?, command, answer: answer? })
}

fn wait(reader: &mut Reader<'_>, wire: &WaitWire) -> Option<Do> {
    let condition = reader.value("[[step]] for", &wire.condition, Condition::read);
    let at_most = reader.value("[[step]] at_most", &wire.at_most, longest);
    let named = reader.optional("[[step]] unit", wire.unit.as_ref(), unit);
    let condition = condition?;
    let wants_unit = matches!(condition, Condition::UnitActive | Condition::UnitInactive);
    match (&wire.unit, wants_unit) {
        (None, true) => {
            let what = format!("{condition} needs to know of which unit");
            reader.add(&wire.condition.span(), "[[step]] unit", what, "add unit = \"….service\"");
        }
        (Some(text), false) => {
            let what = format!("{condition} is about no unit");
            reader.add(&text.span(), "[[step]] unit", what, "remove it");
        }
        _ => {}
    }
    Some(Do::Wait { condition, unit: named, at_most: at_most? })
}

fn longest(text: &str) -> Result<Duration, BadValue> {
    let wait = values::duration(text)?;
    if wait > limits::SCENARIO_WAIT_MAX {
        return bad("is longer than two weeks", "let the operator tell when it is so: `tell` with answer = \"done\"");
    }
    Ok(wait)
}

/// The unit that is meant: the one that is named, or the role's own.
fn unit_of(
    reader: &mut Reader<'_>,
    runs: &Spanned<String>,
    named: Option<&Spanned<String>>,
) -> Option<(String, UnitRole)> {
    let role = reader.value("[[step]] runs", runs, UnitRole::read)?;
    match (named, role.default_unit()) {
        (Some(text), _) => Some((reader.value("[[step]] unit", text, unit)?, role)),
        (None, Some(unit)) => Some((unit.to_owned(), role)),
        (None, None) => {
            let what = format!("a unit that runs {role} has no name of its own");
            reader.add(&runs.span(), "[[step]] unit", what, "add unit = \"….service\"");
            None
        }
    }
}

/// A systemd unit: its name and its type.
fn unit(text: &str) -> Result<String, BadValue> {
    const REMEDY: &str = "write the unit as systemctl shows it, with its type: nbxplorer.service";
    const TYPES: [&str; 4] = [".service", ".target", ".timer", ".socket"];
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.@-\\".contains(&b));
    let has_name = TYPES.iter().any(|kind| text.strip_suffix(kind).is_some_and(|name| !name.is_empty()));
    if !is_plain || !has_name || text.starts_with(['-', '.']) || text.len() > limits::UNIT_NAME_BYTES_MAX {
        return bad(format!("{:?} is not the name of a systemd unit", shown(text)), REMEDY);
    }
    Ok(text.to_owned())
}

/// Programs that would read an argument as a script.
const SHELLS: [&str; 12] =
    ["sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox", "env", "sudo", "doas", "xargs"];

fn run(reader: &mut Reader<'_>, wire: &RunWire) -> Option<Do> {
    const PLACE: &str = "[[step]] argv";
    let Some((first, rest)) = wire.argv.split_first() else {
        let remedy = "write argv = [\"/absolute/path/of/program\", \"argument\"]";
        reader.add(&wire.id.span(), PLACE, "is empty, so there is nothing to run", remedy);
        return None;
    };
    let program = reader.value(PLACE, first, program);
    let arguments = reader.lines(PLACE, rest);
    Some(Do::Run { program: program?, arguments })
}

fn program(text: &str) -> Result<PathBuf, BadValue> {
    let path = values::absolute(text)?;
    text::check_characters(text)?;
    let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    if SHELLS.contains(&name) {
        let remedy = "name the program itself and give each argument as a text of its own; the program runs nothing \
                      through a shell";
        return bad(format!("{name} would run something else"), remedy);
    }
    Ok(path)
}
