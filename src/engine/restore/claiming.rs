//! The claim on a final snapshot: taken after everything else was found in order, and looked at again before anything
//! is placed. A dry run takes none.

use super::journal::{Event, Journal, Starts};
use crate::base::ids::SnapshotId;
use crate::engine::claim::{self, Writer};
use crate::engine::error::chain;
use crate::engine::reading::Reader;
use crate::engine::{Context, Error};
use crate::guard::facts::{Claim, Known};
use crate::plan::{Action, Plan};
use crate::report::{Finding, Level};
use crate::vault::Vault;

/// The snapshot that the plan must claim, when it places a channel database.
fn wanted(plan: &Plan) -> Option<&SnapshotId> {
    plan.actions().find_map(|action| match action {
        Action::PlaceChannelDatabase { claim, .. } => Some(claim),
        _ => None,
    })
}

/// Whether the plan needs a claim.
pub(super) fn is_needed(plan: &Plan) -> bool {
    wanted(plan).is_some()
}

/// Whether this step places a channel database.
pub(super) fn places(plan: &Plan, step: usize) -> bool {
    let is_placing = |action: &Action| matches!(action, Action::PlaceChannelDatabase { .. });
    plan.steps.get(step).is_some_and(|step| step.actions.iter().any(is_placing))
}

/// What a dry run says about it.
pub(super) fn note() -> Finding {
    let message = "a dry run takes no claim on the final snapshot; the run itself takes one and judges again";
    Finding::new(Level::Note, "claim-not-taken", "claim", message)
}

/// Every vault that was asked, or why a claim in them would prove nothing.
fn vaults(reader: &Reader) -> Result<Vec<Vault>, String> {
    if reader.places.len() < reader.asked {
        return Err("not every vault answers, and another claim may lie in one that does not".to_owned());
    }
    Ok(reader.places.iter().map(|place| place.vault.clone()).collect())
}

/// What a claim would come to if it were taken now. Where another one lies there, nothing of ours is put beside it:
/// whoever came first would be held up by it.
pub(super) fn foreseen(reader: &Reader, plan: &Plan, ours: &[String]) -> Known<Claim> {
    let Some(snapshot) = wanted(plan) else { return Known::Is(Claim::NotTaken) };
    let vaults = match vaults(reader) {
        Ok(vaults) => vaults,
        Err(why) => return Known::Unknown(why),
    };
    match claim::foresee(&vaults, &reader.node, snapshot, &randoms(ours)) {
        Ok(claim) => Known::Is(claim),
        Err(error) => Known::Unknown(chain(&error)),
    }
}

/// The random parts of claims, as the journal keeps them.
fn randoms(noted: &[String]) -> Vec<[u8; 16]> {
    noted.iter().filter_map(|text| hex::decode(text).ok()?.try_into().ok()).collect()
}

/// Takes the claim, under a name that is new in every run: whoever goes on from a copy of this journal after us finds
/// one that the copy does not know.
pub(super) fn take(
    context: &Context<'_>,
    reader: &Reader,
    plan: &Plan,
    journal: &mut Journal,
) -> Result<Known<Claim>, Error> {
    let Some(snapshot) = wanted(plan) else { return Ok(Known::Is(Claim::NotTaken)) };
    let vaults = match vaults(reader) {
        Ok(vaults) => vaults,
        Err(why) => return Ok(Known::Unknown(why)),
    };
    let random = match journal.of_this_run {
        Some(random) => random,
        None => add(context, journal, Starts::NotYet)?,
    };
    let who = format!("a restore of {snapshot} on {}", claim::this_machine());
    let writer = Writer { random, who: &who, at: context.now() };
    Ok(match claim::take(&vaults, &reader.node, snapshot, &writer, &randoms(&journal.claims)) {
        Ok(claim) => Known::Is(claim),
        Err(error) => Known::Unknown(chain(&error)),
    })
}

/// Writes into every vault, before the fence is lowered, that the node may start here from now on. Whoever goes on from
/// a journal that does not know of it, a copy or one with lines cut out, takes it for another's claim.
pub(super) fn note_start(
    context: &Context<'_>,
    reader: &Reader,
    plan: &Plan,
    journal: &mut Journal,
) -> Result<(), Error> {
    // By every run that comes this far, whatever an earlier one noted: it may have been cut off before the vaults knew.
    let Some(snapshot) = wanted(plan).filter(|_| !journal.is_start_told) else { return Ok(()) };
    let refused = |reason: String| Error::Refused {
        guard: "twin",
        reason: format!("that the node may start here could not be written beside its claim to {snapshot}: {reason}"),
        hint: "the fence stands; run the same command again when every vault answers".to_owned(),
    };
    let vaults = vaults(reader).map_err(refused)?;
    let random = add(context, journal, Starts::Now)?;
    let who = format!("the node was let start with {snapshot} on {}", claim::this_machine());
    let writer = Writer { random, who: &who, at: context.now() };
    match claim::take(&vaults, &reader.node, snapshot, &writer, &randoms(&journal.claims)) {
        Ok(Claim::OursAlone { .. }) => {
            journal.is_start_told = true;
            Ok(())
        }
        Ok(Claim::Others { who }) => Err(refused(format!("others have laid claim to it: {}", who.join(", ")))),
        Ok(Claim::NotTaken) => Err(refused("it was not taken".to_owned())),
        Err(error) => Err(refused(chain(&error))),
    }
}

/// Notes a new claim in the journal before it is in any vault.
fn add(context: &Context<'_>, journal: &mut Journal, starts: Starts) -> Result<[u8; 16], Error> {
    let random = crate::seal::random()?;
    journal.add(context.now(), Event::Claim { random: hex::encode(random), starts })?;
    if starts == Starts::NotYet {
        journal.of_this_run = Some(random);
    }
    Ok(random)
}
