//! The road of the planned migration: the database must be a node's last state, and nobody else may hold it.

use super::SAFE_ROAD;
use crate::base::ids::ArtifactName;
use crate::base::limits::HTLC_CLAIM_MARGIN;
use crate::facts::cln::{HtlcDirection, LiveHtlc};
use crate::guard::evidence::lineage::{Relation, Version, relation};
use crate::guard::evidence::{Origin, Piece, Testimony};
use crate::guard::facts::{Candidate, Claim, Facts, Finality, Known, Remembered, Standing, Whose};
use crate::guard::objections::Objections;
use crate::witness::State;
use std::cmp::Ordering;

/// What to do where nobody bears witness.
const WITNESS: &str = "give the line that `relay-backup backup --final` printed, --witness rbw1:…; where it is lost, the \
                       same command on the old host prints it again, and so does the kit; where that host is gone too, \
                       leave the database in quarantine and take the road of emergency.recover (scenario server-loss)";

/// Objects to a database with open channels unless it is final, at the head of every vault, ours alone, of the newest
/// lineage, and free of HTLCs that would go on chain at once.
pub(super) fn judge(
    objections: &mut Objections,
    facts: &Facts,
    candidate: &Candidate,
    (artifact, evidence): (&ArtifactName, &[&Piece]),
) {
    finality(objections, candidate, artifact);
    heads(objections, facts, candidate);
    claim(objections, facts, candidate);
    witness(objections, facts, candidate);
    lineage(objections, evidence, candidate);
    htlcs(objections, facts, candidate, artifact);
}

fn finality(objections: &mut Objections, candidate: &Candidate, artifact: &ArtifactName) {
    let snapshot = &candidate.snapshot;
    let known = objections.need(artifact, "whether its node was stopped for good", candidate.finality.as_ref());
    let message = match known {
        Some(Finality::Ordinary) => format!("the node went on after {snapshot}, so its peers hold newer state"),
        Some(Finality::Revoked) => format!("{snapshot} was final and that was undone, so the node may have gone on"),
        Some(Finality::Final) | None => return,
    };
    objections.add(artifact, message, SAFE_ROAD);
}

fn heads(objections: &mut Objections, facts: &Facts, candidate: &Candidate) {
    let Known::Is(vaults) = &facts.vaults else { return };
    for reading in vaults {
        let Known::Is(head) = &reading.head else { continue };
        if head.as_ref() != Some(&candidate.snapshot) {
            let name = head.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            let message = format!("its newest snapshot is {name}, not {}", candidate.snapshot);
            let hint = "every vault of the policy must end with the final snapshot: bring this one up to date, and if it \
                        holds a newer snapshot, the node has run since";
            objections.add(format!("vault {}", reading.vault), message, hint);
        }
    }
}

fn claim(objections: &mut Objections, facts: &Facts, candidate: &Candidate) {
    let subject = format!("the claim to {}", candidate.snapshot);
    let hint = "find out on which other host this snapshot is being restored; only one of them may ever start. When none \
                does, remove the other claim by hand";
    match objections.need(&subject, "who has it", facts.claim.as_ref()) {
        Some(Claim::OursAlone { snapshot }) if *snapshot == candidate.snapshot => {}
        Some(Claim::OursAlone { snapshot }) => {
            objections.add(&subject, format!("what we hold is a claim to {snapshot}"), "claim the plan's snapshot");
        }
        Some(Claim::NotTaken) => {
            let message = "it has not been taken; a run takes it before it is judged";
            objections.add(&subject, message, "take the claim, then look again");
        }
        Some(Claim::Others { who }) => {
            objections.add(&subject, format!("others have laid claim to it: {}", who.join(", ")), hint);
        }
        None => {}
    }
}

/// Vaults that were set back to the moment of the final snapshot look as if nothing had come after it. So somebody
/// outside of them must say that it is the last, and nobody may know better.
fn witness(objections: &mut Objections, facts: &Facts, candidate: &Candidate) {
    let snapshot = &candidate.snapshot;
    let mut is_borne_out = false;
    for Remembered { whose, says, standing } in &facts.remembered {
        let is_held = *standing == Known::Is(Standing::Held);
        let message = match (says.snapshot.cmp(snapshot), says.state) {
            (Ordering::Greater, _) => format!("it knows of {}: the node went on after {snapshot}", says.snapshot),
            (Ordering::Equal, State::Undone) => format!("it knows that {snapshot} was taken back"),
            (Ordering::Equal, _) if !is_held => format!("it knows another {snapshot} than the one in the vaults"),
            (Ordering::Equal, State::Final) => {
                is_borne_out |= *whose == Whose::Given;
                continue;
            }
            (Ordering::Less | Ordering::Equal, _) => continue,
        };
        objections.add(whose, message, SAFE_ROAD);
    }
    if !is_borne_out {
        let message =
            "nothing outside of the vaults says that it is the last: vaults that were set back would look the same";
        objections.add(snapshot, message, WITNESS);
    }
}

/// Looks for a wallet database that was written to after this one, whatever its channels say.
fn lineage(objections: &mut Objections, evidence: &[&Piece], candidate: &Candidate) {
    let (taken, sequence) = (Some(candidate.taken), Some(candidate.snapshot.sequence()));
    let ours = Version { number: candidate.node.data_version, taken, sequence };
    let is_ours = |piece: &&&Piece| !piece.is_of_another_node(candidate.node.node_id.as_deref());
    for piece in evidence.iter().filter(is_ours) {
        let Known::Is(Testimony::Wallet(node)) = &piece.says else { continue };
        let sequence = match &piece.origin {
            Origin::Snapshot(id) => Some(id.sequence()),
            Origin::Mark(_) | Origin::Target(_) => None,
        };
        let theirs = Version { number: node.data_version, taken: piece.taken, sequence };
        let message = match relation(ours, theirs) {
            Relation::NotNewer => continue,
            Relation::Newer => "a database of this node was written to after this copy was taken",
            Relation::Unknown => "a database without data_version may be newer than this copy",
        };
        objections.add(&piece.origin, message, SAFE_ROAD);
    }
}

/// HTLCs past their deadline make lightningd broadcast its commitment at once, with no peer to stop it.
fn htlcs(objections: &mut Objections, facts: &Facts, candidate: &Candidate, artifact: &ArtifactName) {
    if candidate.node.htlcs.is_empty() {
        return;
    }
    let height = facts.block_height.as_ref();
    let Some(height) = objections.need(artifact, "the chain's height, which its live HTLCs hang on", height) else {
        return;
    };
    for htlc in candidate.node.htlcs.iter().filter(|htlc| is_due(htlc, *height)) {
        let message = format!(
            "channel row {} has an HTLC of {} msat that is due at block {}, and the chain is at {height}: lightningd would \
             broadcast its commitment as soon as it starts",
            htlc.channel_dbid, htlc.msat, htlc.cltv_expiry
        );
        let hint = "undo the final snapshot, let the old host settle the HTLC, and take the final snapshot again; if the \
                    old host is gone, take the road of emergency.recover";
        objections.add(artifact, message, hint);
    }
}

fn is_due(htlc: &LiveHtlc, height: u64) -> bool {
    let margin = match htlc.direction {
        HtlcDirection::Incoming if htlc.has_preimage => HTLC_CLAIM_MARGIN,
        _ => 0,
    };
    htlc.cltv_expiry <= height.saturating_add(margin)
}
