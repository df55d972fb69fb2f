//! The claim on a final snapshot: taken after everything else was found in order, and looked at again before anything
//! is placed. A dry run takes none.

use super::journal::{Event, Journal};
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
pub(super) fn foreseen(reader: &Reader, plan: &Plan, ours: Option<&str>) -> Known<Claim> {
    let Some(snapshot) = wanted(plan) else { return Known::Is(Claim::NotTaken) };
    let vaults = match vaults(reader) {
        Ok(vaults) => vaults,
        Err(why) => return Known::Unknown(why),
    };
    match claim::foresee(&vaults, &reader.node, snapshot, random_of(ours)) {
        Ok(claim) => Known::Is(claim),
        Err(error) => Known::Unknown(chain(&error)),
    }
}

/// The random part of a claim, as the journal keeps it.
fn random_of(noted: Option<&str>) -> Option<[u8; 16]> {
    hex::decode(noted?).ok()?.try_into().ok()
}

/// Takes the claim, with the name that an interrupted run gave it.
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
    let random: [u8; 16] = match random_of(journal.claim.as_deref()) {
        Some(random) => random,
        None => {
            let random = crate::seal::random()?;
            journal.add(context.now(), Event::Claim { random: hex::encode(random) })?;
            random
        }
    };
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let who = format!("a restore of {snapshot} on {hostname}");
    let writer = Writer { random, who: &who, at: context.now() };
    Ok(match claim::take(&vaults, &reader.node, snapshot, &writer) {
        Ok(claim) => Known::Is(claim),
        Err(error) => Known::Unknown(chain(&error)),
    })
}
