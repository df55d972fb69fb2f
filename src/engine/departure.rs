//! A node leaves this host: it stands still under its own lock while its last state is read, and behind a fence before
//! that state is committed as final. So there is no moment, whatever is cut off, at which a final snapshot lies in a
//! vault and lightningd could start here. Taking it back goes the other way round: first every vault says that the
//! snapshot counts no more, then the database returns.

mod home;
mod undo;

pub(super) use home::commands;
pub use undo::{Returned, UndoReport, undo};
pub(super) use undo::{all_vaults, put_back_all, take_back};

use super::error::chain;
use super::state::HostState;
use super::{Context, Error};
use crate::base::ids::SnapshotId;
use crate::policy::{Policy, SourceKind};
use crate::report::{Finding, Level};
use crate::target::Root;
use crate::target::aside::Aside;
use crate::target::fence::{Fence, Why};
use crate::vault::Vault;
use home::{Home, Stamp};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

/// The command that is told to be run again.
pub(super) const COMMAND: &str = "relay-backup backup --final";

/// A database that a final snapshot put behind a fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftRow {
    /// The source it belongs to.
    pub source: String,
    /// Where lightningd looks for it; a fence stands there now.
    pub place: PathBuf,
    /// The folder it lies in now, with what belongs to it.
    pub lies_in: PathBuf,
}

/// How the nodes of this host stand.
#[derive(Debug)]
pub(super) enum Standing {
    /// They are here: no fence of a final snapshot.
    Here,
    /// Some or all are behind the fence of these snapshots.
    Away(Vec<SnapshotId>),
}

/// Refuses an ordinary backup while a fence stands in a node's place. A snapshot taken then would be newer than the
/// final one, or than the one that is being restored, and nothing would be cleared to go on from those.
pub(super) fn refuse_behind_fence(root: &Root, policy: &Policy) -> Result<(), Error> {
    for source in policy.sources.iter().filter(|source| matches!(source.kind, SourceKind::Cln { .. })) {
        // A place that cannot be looked at is the source's own failure, which it will tell itself.
        let Ok(Some(home)) = Home::of(source) else { continue };
        match home.standing(root) {
            Ok(home::Standing::Away(snapshot)) => {
                return Err(Error::Departed { wallet: home.wallet().to_owned(), snapshot });
            }
            Ok(home::Standing::Restoring) => return Err(Error::Restoring { wallet: home.wallet().to_owned() }),
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a restore over a node that left this machine with a final snapshot: its fence is not the restore's to lower.
pub(super) fn refuse_departed(root: &Root, policy: &Policy) -> Result<(), Error> {
    for source in &policy.sources {
        if let Some((wallet, home::Standing::Away(snapshot))) = home::standing_at(root, source)? {
            return Err(Error::Refused {
                guard: "twin",
                reason: format!(
                    "the node left this machine with the final snapshot {snapshot}: the text at {} keeps it from starting \
                     here, and it may be running elsewhere",
                    root.path_of(&wallet).display()
                ),
                hint: "if it was not moved after all, run `relay-backup undo-final` here; else leave this machine off"
                    .into(),
            });
        }
    }
    Ok(())
}

/// How the nodes of the policy stand. An error where a restore's fence stands, or where none can be moved.
pub(super) fn standing(root: &Root, policy: &Policy) -> Result<Standing, Error> {
    let mut away = Vec::new();
    for home in home::all(policy)? {
        match home.standing(root)? {
            home::Standing::Away(snapshot) => away.push(snapshot),
            home::Standing::Restoring => return Err(Error::Restoring { wallet: home.wallet().to_owned() }),
            home::Standing::Here => {}
        }
    }
    away.sort_unstable();
    away.dedup();
    Ok(if away.is_empty() { Standing::Here } else { Standing::Away(away) })
}

/// The databases that lie behind the fence of this snapshot; none unless every node of the policy is behind it.
pub(super) fn left_by(root: &Root, policy: &Policy, snapshot: &SnapshotId) -> Result<Option<Vec<LeftRow>>, Error> {
    let mut rows = Vec::new();
    for home in home::all(policy)? {
        match home.standing(root)? {
            home::Standing::Away(found) if &found == snapshot => {
                let aside = home.aside(snapshot)?;
                // What belongs to the database may not have followed it before the run was cut off.
                home.hold(root)?.raise_for_good(&why(snapshot, jiff::Timestamp::UNIX_EPOCH), &aside)?.release()?;
                rows.push(home.row(&aside));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(rows))
}

fn why(snapshot: &SnapshotId, since: jiff::Timestamp) -> Why<'_> {
    Why { command: COMMAND, snapshot: Some(snapshot), since }
}

/// Nodes that stand still: none of them runs or can start for as long as this lives. Nothing was changed yet.
#[derive(Debug)]
pub(super) struct Departure<'a> {
    root: &'a Root,
    homes: Vec<(Home, Fence<'a>, Stamp)>,
}

/// Nodes behind their fences.
#[derive(Debug)]
pub(super) struct Gone<'a> {
    snapshot: SnapshotId,
    homes: Vec<(Home, Fence<'a>, Aside)>,
}

/// Takes the lock of every node of the policy, after asking in every other way whether one runs.
pub(super) fn begin<'a>(root: &'a Root, policy: &Policy) -> Result<Departure<'a>, Error> {
    let mut homes = Vec::new();
    for home in home::all(policy)? {
        home.refuse_running(root, None)?;
        let held = home.hold(root)?;
        let stamp = home.stamp()?;
        homes.push((home, held, stamp));
    }
    if homes.is_empty() {
        return Err(Error::Usage(
            "--final is for a Core Lightning node's channel database, and the policy has no source of the kind cln; an LND \
             node moves by moving its whole folder with lnd stopped"
                .to_owned(),
        ));
    }
    Ok(Departure { root, homes })
}

impl<'a> Departure<'a> {
    /// Puts every database behind its fence and looks once more. Wherever this fails, all are back in place.
    pub(super) fn raise(
        self,
        context: &Context<'_>,
        state: &HostState,
        snapshot: &SnapshotId,
    ) -> Result<Gone<'a>, Error> {
        state.record_final(snapshot, context.now())?;
        let mut gone = Gone { snapshot: snapshot.clone(), homes: Vec::new() };
        for (home, held, stamp) in self.homes {
            let raised = home.aside(snapshot).and_then(|aside| {
                let fence = held.raise_for_good(&why(snapshot, context.now()), &aside)?;
                Ok((fence, aside))
            });
            let (fence, aside) = match raised {
                Ok(raised) => raised,
                Err(error) => {
                    gone.put_back()?;
                    return Err(error);
                }
            };
            let quiet = home.refuse_running(self.root, Some(&fence)).and_then(|()| home.refuse_changed(&stamp, &aside));
            gone.homes.push((home, fence, aside));
            if let Err(error) = quiet {
                gone.put_back()?;
                state.forget_final()?;
                return Err(error);
            }
        }
        Ok(gone)
    }
}

impl Departure<'_> {
    /// Gives the locks back; nothing was changed.
    pub(super) fn stand_down(self) -> Result<(), Error> {
        self.homes.into_iter().try_for_each(|(_, held, _)| Ok(held.release()?))
    }
}

impl Gone<'_> {
    /// Leaves the fences where they are and gives the locks back.
    pub(super) fn leave(self) -> Result<Vec<LeftRow>, Error> {
        let mut rows = Vec::new();
        for (home, fence, aside) in self.homes {
            rows.push(home.row(&aside));
            fence.release()?;
        }
        Ok(rows)
    }

    /// Puts every database back in its place and gives the locks back.
    pub(super) fn put_back(self) -> Result<(), Error> {
        for (_, fence, aside) in self.homes {
            fence.put_back(&aside)?;
        }
        Ok(())
    }

    /// The snapshot they wait for.
    pub(super) fn snapshot(&self) -> &SnapshotId {
        &self.snapshot
    }
}

/// What is worth saying when a node of this host is back although a final snapshot of it was never taken back here, or
/// was claimed elsewhere. Looks into the vaults only where this host remembers a final snapshot.
pub(super) fn back_by_hand(policy: &Policy, state: &HostState, vaults: &[Vault]) -> Result<Option<Finding>, Error> {
    let Some(snapshot) = state.final_on_record()? else { return Ok(None) };
    let subject = snapshot.to_string();
    let file = state.final_file();
    let marks = match super::claim::look(vaults, &policy.node, &snapshot) {
        Ok(marks) => marks,
        Err(error) => {
            let message = format!("whether somebody has claimed it cannot be told: {}", chain(&error));
            return Ok(Some(Finding::new(Level::Degraded, "final-unknown", subject, message)));
        }
    };
    if !marks.claims.is_empty() {
        let message = format!(
            "the channel database of this final snapshot was claimed by {}, and a database lies in its place here: two copies \
             of this node may be running",
            marks.claimants()
        );
        let hint = format!(
            "stop lightningd on all machines but one, now; if this is the machine that it was moved to, remove {}",
            file.display()
        );
        return Ok(Some(Finding::new(Level::Failed, "final-claimed", subject, message).with_hint(hint)));
    }
    if !marks.revocations.is_empty() {
        state.forget_final()?;
        return Ok(None);
    }
    let message = "this host's node left with it, and is here again without the snapshot being taken back: it still says \
                   that its channel database may be started elsewhere";
    let hint = "run `relay-backup undo-final` if the node is to stay here; if it is to move, stop lightningd and run \
                `relay-backup backup --final`";
    Ok(Some(Finding::new(Level::Degraded, "final-not-undone", subject, message).with_hint(hint)))
}

/// What a final snapshot of a policy with other nodes does not hold.
pub(super) fn not_moved(policy: &Policy) -> Option<Finding> {
    let source = policy.sources.iter().find(|source| matches!(source.kind, SourceKind::Lnd { .. }))?;
    let message = "LND's channel state is in no snapshot, so it does not move with this one: a restore from it closes all \
                   channels of LND";
    let hint = "stop lnd, move its whole folder to the new machine, and never start it here again; what is restored from \
                channel.backup is for a host that is lost";
    Some(Finding::new(Level::Degraded, "lnd-not-final", source.name.as_str(), message).with_hint(hint))
}
