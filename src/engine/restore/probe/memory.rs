//! What is known of the node's newest snapshot outside of the vaults: by witnesses that a person gave, and by this
//! machine's own state and catalog where it is the protected host. Vaults that were set back do not show it themselves.
//! A state that cannot be read says nothing: it may be what the disaster broke.

use super::View;
use crate::catalog::Catalog;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::engine::state::{HostState, StateFolder};
use crate::guard::facts::{Known, Remembered, Standing, Whose};
use crate::witness::{State, Witness};

/// Everything that is remembered, held against the vaults.
pub(super) fn probe(view: &View<'_>) -> Result<Vec<Remembered>, Error> {
    let given = view.world.reader.witnesses.iter().map(|says| (Whose::Given, says.clone()));
    let own = of_this_host(view).unwrap_or_else(|error| {
        tracing::warn!(error = %chain(&error), "this host's own state cannot be asked");
        Vec::new()
    });
    let mut found = Vec::new();
    for (whose, says) in given.chain(own.into_iter().map(|says| (Whose::ThisHost, says))) {
        view.world.context.check()?;
        let standing = standing(view, &says);
        found.push(Remembered { whose, says, standing });
    }
    Ok(found)
}

fn of_this_host(view: &View<'_>) -> Result<Vec<Witness>, Error> {
    let node = &view.world.reader.node;
    let Some(policy) = view.world.policy.filter(|policy| policy.node == *node && HostState::exists(policy)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let file = StateFolder::of(policy).catalog();
    if file.exists()
        && let Some(head) = Catalog::open(&file)?.0.newest_head()?
    {
        found.push(Witness::new(node, &head.snapshot, State::Ordinary, &head.manifest_sha256));
    }
    found.extend(HostState::load(policy)?.witness()?.map(|(says, _)| says));
    Ok(found)
}

/// How what is remembered stands against what the vaults hold.
fn standing(view: &View<'_>, says: &Witness) -> Known<Standing> {
    if let Some(why) = view.shelf.gap() {
        return Known::Unknown(format!("{why}, and it may hold {}", says.snapshot));
    }
    let holders: Vec<usize> = view.shelf.holders(&says.snapshot).map(|(number, _)| number).collect();
    if holders.is_empty() {
        let newest = view.shelf.committed().into_iter().next();
        let is_newer = newest.is_none_or(|newest| says.snapshot > newest);
        return Known::Is(if is_newer { Standing::Missing } else { Standing::Gone });
    }
    let mut reasons = Vec::new();
    for number in holders {
        match view.shelf.manifest(number, &says.snapshot) {
            Ok(believed) if says.names(&believed.sha256) => return Known::Is(Standing::Held),
            Ok(_) => return Known::Is(Standing::Other),
            Err(why) => reasons.push(why),
        }
    }
    Known::Unknown(reasons.join("; "))
}
