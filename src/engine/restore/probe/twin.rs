//! Whether the old host lives: how old its newest object is in any vault, by that vault's own clock. Objects of this
//! very machine count only where there is none of another.

use super::View;
use crate::base::ids::{InstanceId, SnapshotId};
use crate::base::limits::CLOCK_SLACK;
use crate::engine::Error;
use crate::engine::state::HostState;
use crate::guard::facts::{Finality, Known, LifeKind, LifeSource, SignOfLife, TwinFacts, WhoseClock};
use crate::policy::Via;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A thing in a vault that a host has put there.
struct Sign<'a> {
    at: Timestamp,
    /// Where it was stored last.
    stand: usize,
    /// The snapshot; none for a mark.
    snapshot: Option<&'a SnapshotId>,
}

/// Whether the old host lives.
pub(super) fn probe(view: &View<'_>) -> Result<TwinFacts, Error> {
    let when_begun = view.world.begun;
    let unknown = |why: String| TwinFacts {
        last: Known::Unknown(why.clone()),
        store_now: Known::Unknown(why),
        when_begun,
        clock: WhoseClock::Stores,
    };
    if let Some(why) = view.shelf.gap() {
        return Ok(unknown(format!("{why}, and it may hold a newer sign of life")));
    }
    let signs = match signs(view) {
        Ok(signs) => signs,
        Err(why) => return Ok(unknown(why)),
    };
    let last = last(view, &signs)?;
    let clock = last.as_ref().map_or(0, |(_, stand)| *stand);
    let is_own = view.shelf.stands.get(clock).is_some_and(|stand| stand.place.vault.is_dated_by_this_machine());
    let whose = if is_own { WhoseClock::ThisMachines } else { WhoseClock::Stores };
    Ok(TwinFacts {
        last: Known::Is(last.map(|(sign, _)| sign)),
        store_now: store_now(view, clock)?,
        when_begun,
        clock: whose,
    })
}

/// Everything that a host has put there, newest first. The error says of what it is not known when it was stored.
fn signs<'a>(view: &'a View<'_>) -> Result<Vec<Sign<'a>>, String> {
    let mut snapshots: BTreeMap<&SnapshotId, Vec<(usize, Timestamp)>> = BTreeMap::new();
    let mut found = Vec::new();
    for (number, stand) in view.shelf.stands.iter().enumerate() {
        let undated = |what: &dyn std::fmt::Display| {
            format!("vault {} does not say when {what} was stored", stand.place.vault.name())
        };
        let (Known::Is(entries), Known::Is(marks)) = (&stand.entries, &stand.marks) else {
            return Err(format!("vault {} cannot be listed", stand.place.vault.name()));
        };
        for entry in entries {
            let stored: Option<Vec<Timestamp>> = entry.files.values().map(|(_, stored)| *stored).collect();
            let newest = stored.and_then(|stored| stored.into_iter().max()).ok_or_else(|| undated(&entry.id))?;
            snapshots.entry(&entry.id).or_default().push((number, newest));
        }
        for mark in marks {
            let at = mark.stored.ok_or_else(|| undated(&"a mark"))?;
            found.push(Sign { at, stand: number, snapshot: None });
        }
    }
    for (id, stored) in snapshots {
        // What `sync` copied later is no sign of the host's.
        let is_written = |(stand, _): &&(usize, Timestamp)| {
            view.shelf.stands.get(*stand).is_some_and(|stand| stand.place.via == Via::Backup)
        };
        let by_host = stored.iter().filter(is_written).max_by_key(|(_, at)| *at);
        let newest = by_host.or_else(|| stored.iter().max_by_key(|(_, at)| *at));
        found.extend(newest.map(|(stand, at)| Sign { at: *at, stand: *stand, snapshot: Some(id) }));
    }
    found.sort_by_key(|sign| std::cmp::Reverse(sign.at));
    Ok(found)
}

/// The newest sign of another machine; where there is none, of this one.
fn last(view: &View<'_>, signs: &[Sign<'_>]) -> Result<Option<(SignOfLife, usize)>, Error> {
    let ourselves = this_instance(view);
    let is_final = matches!(super::evidence::finality(view)?, Known::Is(Finality::Final));
    let mut of_this_machine = None;
    for sign in signs {
        view.world.context.check()?;
        let found = (told(view, sign, ourselves.as_ref(), is_final), sign.stand);
        if found.0.source == LifeSource::Other {
            return Ok(Some(found));
        }
        of_this_machine.get_or_insert(found);
    }
    Ok(of_this_machine)
}

/// The installation on this machine, where there is one of this node.
fn this_instance(view: &View<'_>) -> Option<InstanceId> {
    // Below another root this machine may be the very host that still runs the node.
    let policy = view.world.policy.filter(|policy| !view.world.is_below && HostState::exists(policy))?;
    HostState::load(policy).ok().map(|state| state.instance)
}

fn told(view: &View<'_>, sign: &Sign<'_>, ourselves: Option<&InstanceId>, is_final: bool) -> SignOfLife {
    let Some(id) = sign.snapshot else {
        return SignOfLife {
            at: sign.at,
            host: "the host that left a mark".to_owned(),
            source: LifeSource::Other,
            kind: LifeKind::Working,
        };
    };
    let instance = view.shelf.summary(sign.stand, id).ok().map(|summary| summary.instance);
    let chosen = view.world.chosen;
    // One installation has one name, and the chosen snapshot's notes tell it.
    let hostname = chosen
        .filter(|chosen| Some(&chosen.believed.manifest.instance) == instance.as_ref())
        .map(|chosen| chosen.opened.notes.hostname.clone());
    let host = match (hostname, &instance) {
        (Some(name), _) => name,
        (None, Some(instance)) => format!("the installation {instance}"),
        (None, None) => format!("the host that put {id} there"),
    };
    let is_ours = instance.is_some() && instance.as_ref() == ourselves;
    let is_farewell = is_final && chosen.is_some_and(|chosen| chosen.believed.manifest.snapshot == *id);
    SignOfLife {
        at: sign.at,
        host,
        source: if is_ours { LifeSource::ThisMachine } else { LifeSource::Other },
        kind: if is_farewell { LifeKind::Farewell } else { LifeKind::Working },
    }
}

/// The clock of the vault with the last sign. Where the clocks of two vaults differ, nobody can say which sign is the
/// last.
fn store_now(view: &View<'_>, wanted: usize) -> Result<Known<Timestamp>, Error> {
    let mut nows = Vec::new();
    for stand in &view.shelf.stands {
        // The one by which this machine's clock is measured against the store's, which takes no time.
        let before = view.world.context.clock.now();
        match view.settle(stand.place.vault.now(view.world.context.clock))? {
            Known::Is(now) => nows.push((stand.place.vault.name(), now, now.duration_since(before))),
            Known::Unknown(why) => return Ok(Known::Unknown(why)),
        }
    }
    let slack = SignedDuration::try_from(CLOCK_SLACK).unwrap_or(SignedDuration::MAX);
    let fastest = nows.iter().max_by_key(|(_, _, ahead)| *ahead);
    let slowest = nows.iter().min_by_key(|(_, _, ahead)| *ahead);
    if let (Some((fast, _, ahead)), Some((slow, _, behind))) = (fastest, slowest)
        && *ahead - *behind > slack
    {
        let seconds = (*ahead - *behind).as_secs();
        return Ok(Known::Unknown(format!("the clock of vault {fast} is {seconds} s ahead of that of vault {slow}")));
    }
    Ok(match nows.get(wanted) {
        Some((_, now, _)) => Known::Is(*now),
        None => Known::Unknown("no vault answered".to_owned()),
    })
}
