//! How old the snapshot is: whether it is the newest complete one, from which heights blocks must be read again, and
//! which blocks there still are.

use super::{View, chain};
use crate::artifact::ArtifactKind;
use crate::base::ids::SnapshotId;
use crate::engine::Error;
use crate::facts::Facts;
use crate::facts::cln::NodeState;
use crate::facts::postgres::Software;
use crate::guard::facts::{FreshnessFacts, Known};
use crate::plan::Action;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Names under which heights are told.
const LIGHTNINGD: &str = "lightningd";
const NBXPLORER: &str = "NBXplorer";

/// How old the snapshot is.
pub(super) fn probe(view: &View<'_>) -> Result<FreshnessFacts, Error> {
    Ok(FreshnessFacts {
        newest_complete: newest_complete(view)?,
        taken: match view.world.chosen {
            Some(chosen) => Known::Is(chosen.believed.manifest.created),
            None => super::unchosen(),
        },
        newest_mark: newest_mark(view),
        heights: heights(view),
        prune: chain::prune_window(view.bitcoind),
    })
}

/// The newest complete snapshot in any vault that was asked. One that nobody can believe stops the search: it may be
/// newer, and complete.
fn newest_complete(view: &View<'_>) -> Result<Known<Option<SnapshotId>>, Error> {
    if let Some(why) = view.shelf.gap() {
        return Ok(Known::Unknown(format!("{why}, and it may hold a newer one")));
    }
    for id in view.shelf.committed() {
        view.world.context.check()?;
        let mut reasons = Vec::new();
        let mut is_complete = None;
        for (stand, _) in view.shelf.holders(&id) {
            match view.shelf.summary(stand, &id) {
                Ok(summary) => is_complete = Some(is_complete.unwrap_or(false) || summary.is_complete),
                Err(reason) => reasons.push(reason),
            }
        }
        match is_complete {
            Some(true) => return Ok(Known::Is(Some(id))),
            Some(false) => {}
            None => return Ok(Known::Unknown(reasons.join("; "))),
        }
    }
    Ok(Known::Is(None))
}

/// There is none, or it cannot be read: this program reads no marks.
fn newest_mark(view: &View<'_>) -> Known<Option<Timestamp>> {
    if let Some(why) = view.shelf.gap() {
        return Known::Unknown(why);
    }
    for stand in &view.shelf.stands {
        match &stand.marks {
            Known::Unknown(why) => return Known::Unknown(why.clone()),
            Known::Is(marks) if !marks.is_empty() => {
                let name = stand.place.vault.name();
                return Known::Unknown(format!("vault {name} holds marks, which this version cannot read"));
            }
            Known::Is(_) => {}
        }
    }
    Known::Is(None)
}

/// From which height each software that is brought back reads blocks again.
fn heights(view: &View<'_>) -> Known<BTreeMap<String, u64>> {
    let Some(chosen) = view.world.chosen else { return super::unchosen() };
    let mut found = BTreeMap::new();
    let places_database = view.plan.actions().any(|action| matches!(action, Action::PlaceChannelDatabase { .. }));
    for action in view.plan.actions() {
        let (name, height) = match action {
            Action::PlaceFile { kind: ArtifactKind::HsmSecret, .. } | Action::PlaceChannelDatabase { .. } => {
                let nodes = chosen.opened.notes.artifacts.iter().filter_map(|artifact| match &artifact.facts {
                    Facts::ClnWallet(facts) => Some(&facts.node),
                    _ => None,
                });
                let height = nodes.map(|node| of_node(node, places_database)).min_by(least);
                (LIGHTNINGD, height.unwrap_or_else(|| untold("the wallet database's height")))
            }
            Action::RestoreDatabase { artifact, .. } => match view.notes(artifact) {
                Some(Facts::PostgresDump(facts)) if facts.software == Software::Nbxplorer => {
                    let height = facts.marks.nbxplorer.as_ref().and_then(|marks| marks.height);
                    (NBXPLORER, height.map_or_else(|| untold("NBXplorer's height"), Known::Is))
                }
                _ => continue,
            },
            _ => continue,
        };
        match height {
            Known::Is(height) => drop(found.insert(name.to_owned(), height)),
            Known::Unknown(why) => return Known::Unknown(why),
        }
    }
    Known::Is(found)
}

/// With its database lightningd goes on where it was; without it, the wallet's coins are looked for from the oldest one
/// on.
fn of_node(node: &NodeState, with_database: bool) -> Known<u64> {
    let last = node.last_processed_block.and_then(|height| u64::try_from(height).ok()).or(node.block_height);
    let height = if with_database { last } else { node.unspent.oldest_height.or(last) };
    height.map_or_else(|| untold("the wallet database's height"), Known::Is)
}

/// What is unknown comes first.
fn least(left: &Known<u64>, right: &Known<u64>) -> std::cmp::Ordering {
    let rank = |known: &Known<u64>| match known {
        Known::Unknown(_) => None,
        Known::Is(height) => Some(*height),
    };
    rank(left).cmp(&rank(right))
}

fn untold<T>(what: &str) -> Known<T> {
    Known::Unknown(format!("the snapshot's notes do not tell {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::cln::Unspent;

    #[test]
    fn an_empty_database_reads_from_the_oldest_coin_on() {
        let mut node = NodeState { last_processed_block: Some(130), block_height: Some(131), ..NodeState::default() };
        assert_eq!(of_node(&node, true), Known::Is(130));
        assert_eq!(of_node(&node, false), Known::Is(130), "there is no coin to look for");
        node.unspent = Unspent { outputs: 1, sat: 5, oldest_height: Some(102) };
        assert_eq!((of_node(&node, true), of_node(&node, false)), (Known::Is(130), Known::Is(102)));
        node.last_processed_block = None;
        assert_eq!(of_node(&node, true), Known::Is(131));
        assert!(matches!(of_node(&NodeState::default(), true), Known::Unknown(_)));
        assert!(least(&Known::Unknown(String::new()), &Known::Is(0)).is_lt());
    }
}
