//! How a refusal speaks of a channel: which one, which numbers, who knows better, and what is at stake.

use super::{SAFE_ROAD, Sighting, Standing};
use crate::guard::Detail;
use crate::guard::evidence::ChannelKnowledge;

/// What is said of a channel that this copy lacks.
pub(super) fn absent(known: &ChannelKnowledge) -> String {
    let who = known.best(|sighting| Some(sighting.standing)).map_or_else(String::new, |(_, origin)| origin.to_string());
    format!("this copy does not have it, and {who} does")
}

/// What is said of a counter that is greater elsewhere.
pub(super) fn behind(
    name: &str,
    ours: Option<u64>,
    known: &ChannelKnowledge,
    counter: impl Fn(&Sighting) -> Option<u64>,
) -> Option<String> {
    let (best, who) = known.best(counter)?;
    let ours = match ours {
        Some(ours) if ours >= best => return None,
        Some(ours) => ours.to_string(),
        None => "unknown".to_owned(),
    };
    Some(format!("{name} is {ours} in this copy and {best} in {who}"))
}

/// What is said of a state that is later elsewhere, or that nobody understands.
pub(super) fn earlier(ours: Standing, known: &ChannelKnowledge) -> Option<String> {
    if !ours.is_known() {
        return Some("its state is one that this program does not know".to_owned());
    }
    let (best, who) = known.best(|sighting| Some(sighting.standing))?;
    best.is_later_than(ours).then(|| format!("its state is {} in this copy and {} in {who}", ours.name(), best.name()))
}

/// The objection to one channel.
pub(super) fn channel(id: &str, known: &ChannelKnowledge, newer: &[String]) -> Detail {
    let subject = match known.short_id() {
        Some(short) => format!("channel {short} ({id})"),
        None => format!("channel {id}"),
    };
    let what = if newer.is_empty() {
        "nothing proves that this copy is its last state, and the peer can punish any earlier one".to_owned()
    } else {
        newer.join("; ")
    };
    let at_stake_sat = known.at_stake_sat();
    let stake = at_stake_sat.map_or("an unknown amount".to_owned(), |sat| format!("{sat} sat"));
    let message = format!("{what}; {stake} at stake");
    Detail { subject, message, hint: SAFE_ROAD.to_owned(), at_stake_sat }
}
