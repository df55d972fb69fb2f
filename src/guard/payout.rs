//! Refuses to start BTCPay on a restored database in which payouts wait and processors would pay them by themselves:
//! what was paid after the snapshot would be paid again.

use super::facts::{Facts, Known};
use super::objections::Objections;
use super::{Guard, Verdict};
use crate::base::ids::ArtifactName;
use crate::facts::postgres::Software;
use crate::plan::{Action, Burn, Plan, UnitRole};

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    if !starts_on_restored(plan, facts) {
        let why = "BTCPay is not started on a restored database whose payout processors may be on";
        return Verdict::NotApplicable { why: why.to_owned() };
    }
    let mut objections = Objections::of(Guard::Payout);
    let payout = objections.need("BTCPay", "what it would pay out by itself", facts.payout.as_ref());
    let Some(payout) = payout else { return objections.verdict("") };
    if !payout.processors.is_empty() && payout.pending > 0 {
        let message = format!(
            "{} payouts wait in the restored database and {} would pay them; those paid since the snapshot would be paid \
             twice",
            payout.pending,
            payout.processors.join(", ")
        );
        let hint = "look through the payouts and mark those that were paid, or have the plan switch the processors off \
                    (burn payout-processors) before BTCPay is started; with --accept payout=\"…\" it is your word that \
                    none of them was paid";
        objections.add("BTCPay", message, hint);
    }
    objections.verdict(match payout.pending {
        0 => "no payout waits",
        _ => "no automated payout processor is enabled",
    })
}

/// Whether BTCPay is started after one of its databases was restored and before its processors were switched off.
fn starts_on_restored(plan: &Plan, facts: &Facts) -> bool {
    let mut armed = Vec::new();
    for action in plan.actions() {
        match action {
            Action::RestoreDatabase { artifact, server, database, .. } if may_be_btcpay(facts, artifact) => {
                armed.push((server, database));
            }
            Action::Burn { server, database, what: Burn::PayoutProcessors } => {
                armed.retain(|of| *of != (server, database));
            }
            _ if action.starts_role(UnitRole::Btcpay) && !armed.is_empty() => return true,
            _ => {}
        }
    }
    false
}

/// Whether a dump is BTCPay's, or nobody knows whose it is.
pub(super) fn may_be_btcpay(facts: &Facts, artifact: &ArtifactName) -> bool {
    facts.artifacts.get(artifact).is_none_or(|facts| match facts.software {
        Known::Is(software) => software == Software::Btcpay,
        Known::Unknown(_) => true,
    })
}
