//! Holds the vaults against witnesses that a person gave: what was printed outside of them and is not in them was taken
//! away. Needs no state of the host, so it works on any machine.

use super::super::Error;
use super::super::claim;
use super::{Check, Look, Run, Verdict};
use crate::vault::Vault;
use crate::witness::{State, Witness};

const WHAT: &str = "newest snapshot as witnessed";
const HINT: &str = "find out who set the vault back; look for another vault or a copy that holds it. Move no node by what is there \
                    now: its channel database is older than what the node knew";

/// Holds each vault against each witness.
pub(super) fn compare(run: &mut Run<'_>, looks: &[Look<'_>]) -> Result<(), Error> {
    let reader = run.reader;
    for says in &reader.witnesses {
        let is_held_anywhere = looks.iter().any(|look| holds(look, says));
        for look in looks {
            one(run, look, says, is_held_anywhere);
        }
        undone(run, looks, says)?;
    }
    Ok(())
}

fn holds(look: &Look<'_>, says: &Witness) -> bool {
    look.believed.get(&says.snapshot).is_some_and(|believed| says.names(&believed.sha256))
}

fn one(run: &mut Run<'_>, look: &Look<'_>, says: &Witness, is_held_anywhere: bool) {
    let subject = format!("{}: {}", look.name(), says.snapshot);
    let newest = look.believed.keys().next_back();
    let is_of_another = look.believed.contains_key(&says.snapshot);
    // A vault that was behind in honest ways is told as that, and what was removed while others came, by the chain.
    let is_excused = is_held_anywhere || newest.is_some_and(|newest| *newest > says.snapshot);
    let problem = match holds(look, says) {
        true => None,
        false if is_of_another => Some("the manifest there is not the one that the witness names"),
        false if is_excused => None,
        false => {
            Some("the witness names it as the node's newest, and nothing this new is there: the vault was set back")
        }
    };
    let verdict = if problem.is_some() { Verdict::Failed } else { Verdict::Passed };
    run.checks.push(Check::new(WHAT, look.name(), verdict, says.snapshot.to_string()));
    if let Some(problem) = problem {
        run.damage("set-back", subject, problem, HINT);
    }
}

/// A final snapshot that was taken back, and of which the vaults say nothing of the kind.
fn undone(run: &mut Run<'_>, looks: &[Look<'_>], says: &Witness) -> Result<(), Error> {
    if says.state != State::Undone || !looks.iter().any(|look| holds(look, says)) {
        return Ok(());
    }
    let vaults: Vec<Vault> = looks.iter().map(|look| look.place.vault.clone()).collect();
    let marks = claim::look(&vaults, &run.reader.node, &says.snapshot).map_err(|error| match error {
        claim::ClaimError::Vault(error) => Error::Vault(error),
        other => Error::Usage(other.to_string()),
    })?;
    if marks.revocations.is_empty() {
        let problem = "the witness says that this final snapshot was taken back, and no vault says so any more";
        run.damage("set-back", says.snapshot.to_string(), problem, HINT);
    }
    Ok(())
}
