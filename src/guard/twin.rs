//! Refuses to bring a node to life while another host may still run it: two live copies of one node lose funds, and two
//! shops pay twice.

use super::facts::{Facts, LifeKind, LifeSource, WhoseClock};
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::artifact::ArtifactKind;
use crate::base::limits::{CLOCK_SLACK, SILENCE_MIN};
use crate::plan::{Action, Plan, UnitRole};
use jiff::SignedDuration;

const HINT: &str = "make sure that the old host is off and stays off (power, network, provider's console); when you \
                    have, wait until it has been silent for 30 minutes or say so with --accept twin=\"…\"";

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    if !plan.actions().any(brings_to_life) {
        return Verdict::NotApplicable { why: "no node is placed and neither a node nor BTCPay is started".to_owned() };
    }
    let facts = &facts.twin;
    let mut objections = Objections::of(Guard::Twin);
    let now = objections.need("the vault", "its clock", facts.store_now.as_ref());
    let last = objections.need("the old host", "its last sign of life", facts.last.as_ref());
    let (Some(now), Some(last)) = (now, last) else { return objections.verdict("") };
    let Some(last) = last else {
        objections.add("the old host", "no sign of life of it was found, not even the snapshot's", HINT);
        return objections.verdict("");
    };
    if last.source == LifeSource::ThisMachine {
        return objections.verdict(format!("the last sign of life, of {}, came from this very machine", last.at));
    }
    if let Some(begun) = facts.when_begun
        && last.at > begun
    {
        let message = format!("it gave a sign of life at {}, after this run had begun: it is alive", last.at);
        objections.forbid(&last.host, message, "stop that host before anything else; nothing more was done here");
        return objections.verdict("");
    }
    if last.kind == LifeKind::Farewell {
        return objections.verdict(format!("the last sign of {}, of {}, is its final snapshot", last.host, last.at));
    }
    let silent = now.duration_since(last.at);
    if silent < SignedDuration::try_from(CLOCK_SLACK).map_or(SignedDuration::MIN, |slack| -slack) {
        let message = format!(
            "its last sign of life, at {}, lies in the future by the vault's clock ({now}): one of the two clocks was or is \
             wrong, so its age tells nothing",
            last.at
        );
        objections.add(&last.host, message, HINT);
    } else if silent < SignedDuration::try_from(SILENCE_MIN).unwrap_or(SignedDuration::MAX) {
        let minutes = silent.as_secs() / 60;
        let message = format!("its last sign of life is {minutes} minutes old (at {}, by the vault's clock)", last.at);
        objections.add(&last.host, message, HINT);
    }
    let clock = match facts.clock {
        WhoseClock::Stores => "",
        WhoseClock::ThisMachines => {
            ", by this machine's own clock, which alone dates that vault; a host that does not reach it any more gives none"
        }
    };
    objections.verdict(format!("{} has given no sign of life since {}{clock}", last.host, last.at))
}

fn brings_to_life(action: &Action) -> bool {
    use ArtifactKind::{EmergencyRecover, HsmSecret, LndChannelBackup};
    matches!(
        action,
        Action::PlaceChannelDatabase { .. }
            | Action::PlaceFile { kind: HsmSecret | EmergencyRecover | LndChannelBackup, .. }
    ) || [UnitRole::CoreLightning, UnitRole::Lnd, UnitRole::Btcpay].into_iter().any(|role| action.starts_role(role))
}
