//! Placing files, trees and quarantine, moving aside, and the fence. Whatever is placed was opened from the vault and
//! checked for its meaning while it lay staged beside its place.

use super::Applier;
use crate::artifact::{ArtifactKind, Toxicity};
use crate::base::fsio::FileError;
use crate::base::ids::ArtifactName;
use crate::base::limits::{EMERGENCY_BYTES_MAX, NOTES_BYTES_MAX};
use crate::base::secret::Secret;
use crate::engine::Error;
use crate::engine::extract::toxic_warning;
use crate::engine::restore::check::is_at;
use crate::engine::restore::expand::databases_of;
use crate::engine::restore::journal::Kept;
use crate::engine::restore::places::{self, QUARANTINE_MODE};
use crate::facts::Facts;
use crate::guard::Cleared;
use crate::plan::{Action, LightningPlace, Owner, Together};
use crate::report::{Finding, Level};
use crate::sources::files::{Content, content};
use crate::sources::{cln, sqlite};
use crate::target::aside::Aside;
use crate::target::fence::{self, Fence, Why};
use crate::target::look::At;
use crate::target::place::{Checked, Wanted};
use crate::target::tree::Unpack;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Mode of the text beside it.
const TEXT_MODE: u32 = 0o444;

/// Where a file goes and whose it becomes.
pub(super) struct Place<'p> {
    pub(super) to: &'p Path,
    pub(super) owner: &'p Owner,
    pub(super) mode: u32,
}

impl<'a> Applier<'a> {
    /// Raises the fence; where the plan moves the database aside, it goes in the same instant.
    pub(super) fn raise(&mut self, lightning: &LightningPlace) -> Result<(), Error> {
        if self.gathered.fences.iter().any(|(place, _)| place == lightning) {
            return Ok(());
        }
        let aside =
            self.moves_wallet(lightning).then(|| self.aside(&lightning.wallet, Together::Database)).transpose()?;
        if aside.is_some() {
            self.mirror_aside(lightning)?;
        }
        let why = Why { command: self.command, snapshot: self.ground.snapshot(), since: self.context.now() };
        let place = fence_place(lightning, self.node_owner());
        // A run that goes on after the cleared database took the fence's place keeps it, and holds the lock.
        let fence = match self.moved_in(lightning)? {
            true => fence::hold(self.root, &place)?,
            false => fence::raise(self.root, &place, &why, aside.as_ref())?,
        };
        self.gathered.fences.push((lightning.clone(), fence));
        if let Some(aside) = aside
            && self.root.at(aside.folder())? != At::Nothing
        {
            self.gathered.keep(Kept::At(self.root.path_of(aside.folder())));
        }
        Ok(())
    }

    /// Moves what goes aside together with the channel database and before it: its mirror.
    fn mirror_aside(&mut self, lightning: &LightningPlace) -> Result<(), Error> {
        let with_wallet = self.plan.actions().find_map(|action| match action {
            Action::MoveAside { paths, together } if paths.contains(&lightning.wallet) => Some((paths, *together)),
            _ => None,
        });
        let Some((paths, together)) = with_wallet else { return Ok(()) };
        let before = databases_of(paths).take_while(|path| **path != lightning.wallet);
        let asides: Vec<Aside> = before.map(|path| self.aside(path, together)).collect::<Result<_, _>>()?;
        let moved = self.root.move_aside(&asides)?;
        moved.to.into_iter().for_each(|path| self.gathered.keep(Kept::At(path)));
        Ok(())
    }

    /// Whether the channel database that the plan places is in its place already, byte for byte.
    fn moved_in(&self, lightning: &LightningPlace) -> Result<bool, Error> {
        let placed = self.plan.actions().find_map(|action| match action {
            Action::PlaceChannelDatabase { artifact, to, .. } if to == &lightning.wallet => Some(artifact.clone()),
            _ => None,
        });
        placed.map_or(Ok(false), |artifact| is_at(self, &artifact, &lightning.wallet))
    }

    /// Whether the plan places a channel database for this node.
    pub(super) fn places_database_of(&self, lightning: &LightningPlace) -> bool {
        let places =
            |action: &Action| matches!(action, Action::PlaceChannelDatabase { to, .. } if to == &lightning.wallet);
        self.plan.actions().any(places)
    }

    fn moves_wallet(&self, lightning: &LightningPlace) -> bool {
        let moves =
            |action: &Action| matches!(action, Action::MoveAside { paths, .. } if paths.contains(&lightning.wallet));
        self.plan.actions().any(moves)
    }

    /// Whose the node's files are: the secret's owner, or ours.
    fn node_owner(&self) -> crate::target::Owner {
        let secret = self.ground.of_kind(ArtifactKind::HsmSecret).next();
        let facts = secret.and_then(|artifact| self.ground.facts(&artifact.name));
        match facts {
            Some(Facts::HsmSecret(facts)) => crate::target::Owner::from(&facts.live),
            _ => crate::target::Owner::ourselves(),
        }
    }

    pub(super) fn lower(&mut self, lightning: &LightningPlace) -> Result<(), Error> {
        if let Some(at) = self.gathered.fences.iter().position(|(place, _)| place == lightning) {
            let (_, fence) = self.gathered.fences.remove(at);
            fence.lower()?;
        }
        Ok(())
    }

    pub(super) fn place_file(
        &mut self,
        name: &ArtifactName,
        kind: ArtifactKind,
        place: &Place<'_>,
    ) -> Result<(), Error> {
        let (_, artifact) = self.artifact(name)?;
        if kind == ArtifactKind::ClnWallet || self.ground.toxicity(artifact) == Toxicity::Toxic {
            return Err(Error::Refused {
                guard: "stale",
                reason: format!("{name} holds channel state, and is no plain file to be placed"),
                hint: "quarantine it; only a planned migration places a channel database".into(),
            });
        }
        let checked = self.stage(name, kind, place)?;
        let placed = checked.publish()?;
        self.gathered.findings.extend(placed.findings);
        Ok(())
    }

    /// Puts the channel database over the fence's text. Takes nothing but a cleared action.
    pub(super) fn place_channel_database(&mut self, action: &Cleared<&Action>) -> Result<(), Error> {
        let Action::PlaceChannelDatabase { artifact, to, owner, mode, .. } = action.get() else { return Ok(()) };
        if is_at(self, artifact, to)? {
            return Ok(());
        }
        let checked = self.stage(artifact, ArtifactKind::ClnWallet, &Place { to, owner, mode: *mode })?;
        let fence: Option<&Fence<'_>> =
            self.gathered.fences.iter().find(|(place, _)| &place.wallet == to).map(|(_, fence)| fence);
        let placed = match fence {
            Some(fence) => fence.publish(checked)?,
            None => {
                return Err(Error::Refused {
                    guard: "running",
                    reason: format!("no fence stands at {}", to.display()),
                    hint: "a scenario that places a channel database raises the fence before".into(),
                });
            }
        };
        self.gathered.findings.extend(placed.findings);
        Ok(())
    }

    fn stage(&self, name: &ArtifactName, kind: ArtifactKind, place: &Place<'_>) -> Result<Checked<'a>, Error> {
        let (opener, artifact) = self.artifact(name)?;
        let owner = place.owner.into();
        let home = self.home(place.to);
        let mut staged = self.root.stage(&Wanted { to: place.to, home: &home, owner: &owner, mode: place.mode })?;
        let to = place.to.display().to_string();
        opener.artifact(artifact, &mut |bytes| staged.write_all(bytes), &to)?;
        let (checked, findings) = staged.check(|file, path| {
            // SQLite databases are asked for their tables by their own check.
            if !matches!(kind, ArtifactKind::ClnWallet | ArtifactKind::Sqlite) {
                refuse_channel_state(name, file)?;
            }
            self.judge(name, kind, file, path)
        })?;
        // A check that was interrupted has found nothing wrong.
        self.context.check()?;
        match findings.into_iter().find(|finding| finding.level >= Level::Failed) {
            Some(bad) => Err(Error::Damaged { thing: name.to_string(), reason: bad.message }),
            None => Ok(checked),
        }
    }

    /// Whether the bytes mean what the notes say they mean.
    fn judge(
        &self,
        name: &ArtifactName,
        kind: ArtifactKind,
        file: &mut File,
        path: &Path,
    ) -> Result<Vec<Finding>, Error> {
        let subject = name.as_str();
        let facts = self.ground.facts(name);
        Ok(match (kind, facts) {
            (ArtifactKind::HsmSecret, Some(Facts::HsmSecret(facts))) => {
                cln::check_secret(subject, &whole(file, path)?, facts)
            }
            (ArtifactKind::EmergencyRecover, Some(Facts::EmergencyRecover(facts))) => {
                let (opener, _) = self.artifact(name)?;
                let secret = match self.ground.chosen {
                    Some((manifest, _)) => opener.sibling_secret(manifest, name)?,
                    None => None,
                };
                cln::check_emergency(subject, whole(file, path)?.expose(), facts, secret.as_ref())
            }
            (ArtifactKind::ClnWallet, Some(Facts::ClnWallet(facts))) => {
                cln::check_wallet(subject, path, facts, self.context.interrupt)
            }
            (ArtifactKind::Sqlite, Some(Facts::Sqlite(facts))) => {
                sqlite::check(subject, path, facts, self.context.interrupt)
            }
            (ArtifactKind::LndChannelBackup, Some(Facts::LndChannelBackup(_))) => Vec::new(),
            _ => vec![Finding::new(Level::Failed, "not-noted", subject, "the notes do not say what it holds")],
        })
    }

    /// The folder of the service that a file belongs to: its folders are made for the file's owner.
    fn home(&self, to: &Path) -> PathBuf {
        let node = self.ground.nodes().find(|node| to.starts_with(&node.place.lightning_dir));
        node.map_or_else(|| super::super::expand::folder(to).to_owned(), |node| node.place.lightning_dir)
    }

    pub(super) fn place_tree(&mut self, name: &ArtifactName, below: &Path) -> Result<(), Error> {
        let (opener, artifact) = self.artifact(name)?;
        let forbidden = self.forbidden();
        let label = self.label();
        let how = Unpack { below, label: &label, forbidden: &forbidden, interrupt: self.context.interrupt };
        let root = self.root;
        let unpacked = opener.through_pipe(artifact, |tar| Ok(root.unpack(tar, &how)?))?;
        unpacked.aside.into_iter().for_each(|path| self.gathered.keep(Kept::At(path)));
        self.gathered.findings.extend(unpacked.findings);
        self.gathered.findings.extend(unpacked.left_out.findings(name.as_str()));
        Ok(())
    }

    /// What no tar may touch.
    pub(in crate::engine::restore) fn forbidden(&self) -> Vec<PathBuf> {
        places::forbidden(self.plan, self.ground.policy, self.gathered.mirror.as_deref())
    }

    pub(super) fn quarantine(&mut self, name: &ArtifactName, to: &Path) -> Result<(), Error> {
        let (opener, artifact) = self.artifact(name)?;
        let ourselves = crate::target::Owner::ourselves();
        let home = self.ground.folder();
        let mut staged = self.root.stage(&Wanted { to, home: &home, owner: &ourselves, mode: QUARANTINE_MODE })?;
        opener.artifact(artifact, &mut |bytes| staged.write_all(bytes), &to.display().to_string())?;
        // Every segment was held against its id, and nothing will start on it: it needs no other check.
        let (checked, ()) = staged.check(|_, _| Ok::<_, Error>(()))?;
        self.gathered.findings.extend(checked.publish()?.findings);
        let mut beside = to.as_os_str().to_owned();
        beside.push(".README.txt");
        let beside = PathBuf::from(beside);
        let snapshot = self.ground.snapshot().map(|snapshot| snapshot.to_string()).unwrap_or_default();
        let text = toxic_warning(&self.root.path_of(to), &snapshot, name);
        self.write_text(&beside, &text, TEXT_MODE)
    }

    /// A text of ours beside what was restored; one of an earlier run is moved aside.
    pub(in crate::engine::restore) fn rewrite(&mut self, to: &Path, text: &str) -> Result<(), Error> {
        match self.root.read_file(to, NOTES_BYTES_MAX)? {
            Some(there) if there.expose() == text.as_bytes() => return Ok(()),
            Some(_) => {
                let label = self.context.now().strftime("%Y%m%dT%H%M%SZ").to_string();
                self.root.move_aside(&[Aside::single(to, &label)?])?;
            }
            None => {}
        }
        self.write_text(to, text, 0o600)
    }

    fn write_text(&mut self, to: &Path, text: &str, mode: u32) -> Result<(), Error> {
        let ourselves = crate::target::Owner::ourselves();
        let home = self.ground.folder();
        let mut staged = self.root.stage(&Wanted { to, home: &home, owner: &ourselves, mode })?;
        staged.write_all(text.as_bytes()).map_err(FileError::io("write", to))?;
        let (checked, ()) = staged.check(|_, _| Ok::<_, Error>(()))?;
        self.gathered.findings.extend(checked.publish()?.findings);
        Ok(())
    }

    pub(super) fn move_aside(&mut self, paths: &[PathBuf], together: Together) -> Result<(), Error> {
        // What the fence took with it lies aside already; what stands in its place is the fence.
        let fenced = |path: &&PathBuf| !self.gathered.fences.iter().any(|(place, _)| &place.wallet == *path);
        let asides: Vec<Aside> =
            databases_of(paths).filter(fenced).map(|path| self.aside(path, together)).collect::<Result<_, _>>()?;
        let moved = self.root.move_aside(&asides)?;
        moved.to.into_iter().for_each(|path| self.gathered.keep(Kept::At(path)));
        Ok(())
    }

    pub(in crate::engine::restore) fn aside(&self, path: &Path, together: Together) -> Result<Aside, Error> {
        let label = self.label();
        Ok(match together {
            Together::Separate => Aside::single(path, &label)?,
            Together::Database => Aside::database(path, &label)?,
        })
    }

    /// What is added to the name of what is moved aside.
    pub(in crate::engine::restore) fn label(&self) -> String {
        self.ground.snapshot().map_or_else(|| self.ground.scenario.name.to_string(), ToString::to_string)
    }
}

/// The places of a node in the adapter's form.
pub(in crate::engine::restore) fn fence_place(lightning: &LightningPlace, owner: crate::target::Owner) -> fence::Place {
    fence::Place {
        lightning_dir: lightning.lightning_dir.clone(),
        wallet: lightning.wallet.clone(),
        pid_file: lightning.pid_file.clone(),
        owner,
    }
}

/// Whatever manifest and notes call it: what holds channel state is no file to be placed.
fn refuse_channel_state(name: &ArtifactName, file: &File) -> Result<(), Error> {
    match content(file) {
        Content::Harmless => Ok(()),
        Content::Toxic(what) | Content::Unclear(what) | Content::TakenBefore(what) => Err(Error::Refused {
            guard: "stale",
            reason: format!("{name} holds no channel state by the snapshot's own word, and is {what}"),
            hint: "take another snapshot, and find out who can sign with the key of this one: it says what is not so"
                .into(),
        }),
    }
}

/// A small file's bytes, wiped afterwards.
fn whole(file: &mut File, path: &Path) -> Result<Secret, Error> {
    let mut bytes = Vec::new();
    file.take(EMERGENCY_BYTES_MAX).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_channel_state_is_no_file_to_be_placed_whatever_it_is_called() {
        let name: ArtifactName = "lnd/channel.backup".parse().unwrap();
        let open = |path: &str| File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let wallet = open("tests/fixtures/cln/node/04-after-25-payments/lightningd.sqlite3");
        let error = refuse_channel_state(&name, &wallet).unwrap_err();
        assert!(matches!(&error, Error::Refused { guard: "stale", .. }), "{error}");
        let harmless = open("tests/fixtures/cln/node/04-after-25-payments/emergency.recover");
        refuse_channel_state(&name, &harmless).unwrap();
    }
}
