//! Refuses, when secrecy was lost, to bring back into service what a thief holds: the node's secret, and API keys,
//! webhook secrets and payout processors of a restored BTCPay.

use super::facts::{Facts, Known, SecretAt};
use super::objections::Objections;
use super::payout::may_be_btcpay;
use super::{Guard, Verdict};
use crate::artifact::ArtifactKind;
use crate::plan::{Action, Burn, Plan, Secrecy, ServerUrl, UnitRole};

/// The scenario that is about lost secrecy, whatever its file says of it.
const SCENARIO: &str = "wallet-compromise";
const BURNS: [Burn; 3] = [Burn::ApiKeys, Burn::Webhooks, Burn::PayoutProcessors];
const NEW_SECRET: &str = "let lightningd make a new secret in an empty directory, attest it as new, and move the funds to \
                          it; the old one is good for nothing but to sweep what is left";

pub(super) fn judge(plan: &Plan, facts: &Facts) -> Verdict {
    if plan.secrecy == Secrecy::Kept && plan.scenario.as_str() != SCENARIO {
        return Verdict::NotApplicable { why: "nobody else has had the secrets, by this scenario".to_owned() };
    }
    let mut objections = Objections::of(Guard::Compromise);
    let mut unburnt: Vec<(&ServerUrl, &str, Burn)> = Vec::new();
    for action in plan.actions() {
        match action {
            Action::PlaceFile { artifact, kind, .. } if opens_a_node(*kind) => {
                objections.add(artifact, "it would come back into service, and a thief may have it", NEW_SECRET);
            }
            Action::PlaceChannelDatabase { artifact, .. } => {
                objections.add(artifact, "it belongs to the secret that a thief may have", NEW_SECRET);
            }
            Action::RestoreDatabase { artifact, server, database, .. } if may_be_btcpay(facts, artifact) => {
                unburnt.extend(BURNS.map(|what| (server, database.as_str(), what)));
            }
            Action::Burn { server, database, what } => unburnt.retain(|of| *of != (server, database.as_str(), *what)),
            Action::Unit { unit, .. } if action.starts_role(UnitRole::Btcpay) => {
                for (_, database, what) in unburnt.drain(..) {
                    still_armed(&mut objections, database, what, &format!("when {unit} is started"));
                }
            }
            Action::Unit { unit, .. } if action.starts_role(UnitRole::CoreLightning) => {
                starts_node(&mut objections, unit, facts);
            }
            _ => {}
        }
    }
    for (_, database, what) in unburnt {
        still_armed(&mut objections, database, what, "when the plan ends");
    }
    objections.verdict("nothing that a thief may hold comes back into service")
}

fn opens_a_node(kind: ArtifactKind) -> bool {
    matches!(kind, ArtifactKind::HsmSecret | ArtifactKind::EmergencyRecover | ArtifactKind::LndChannelBackup)
}

fn still_armed(objections: &mut Objections, database: &str, what: Burn, when: &str) {
    objections.add(
        format!("database {database}"),
        format!("the restored {} would still be good {when}", what.things()),
        "burn API keys, webhooks and payout processors after the restore and before BTCPay is started",
    );
}

/// A node may be started only on a secret that is surely another one.
fn starts_node(objections: &mut Objections, unit: &str, facts: &Facts) {
    if facts.target.secrets.is_empty() {
        objections.need::<SecretAt>(unit, "on which secret it would start", Known::default());
    }
    for (path, at) in &facts.target.secrets {
        match objections.need(path.display(), "whose secret lies there", at.as_ref()) {
            Some(SecretAt::Same) => {
                let message = format!("{unit} would be started on the secret that a thief may have");
                objections.add(path.display(), message, NEW_SECRET);
            }
            Some(SecretAt::Nothing | SecretAt::Other { .. }) | None => {}
        }
    }
}
