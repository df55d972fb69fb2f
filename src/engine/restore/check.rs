//! What must hold, looked at on the machine itself after the steps: never taken from what a step said of its own work.

use super::apply::Applier;
use super::expand::{databases_of, live};
use super::journal::Kept;
use super::places::QUARANTINE_MODE;
use crate::artifact::channels::LND_DATABASES;
use crate::artifact::{ArtifactKind, Toxicity};
use crate::base::fsio::FileError;
use crate::base::ids::ArtifactName;
use crate::base::limits::HSM_SECRET_BYTES_MAX;
use crate::engine::Error;
use crate::facts::Facts;
use crate::guard::facts::{Claim, Known};
use crate::manifest::Artifact;
use crate::plan::{Action, ServerUrl};
use crate::scenario::Assertion;
use crate::sources::cln;
use crate::sources::postgres::restore::{Stand, btcpay};
use crate::target::fence::{self, Found};
use crate::target::look::At;
use crate::target::tree::Unpack;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// What came of looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds; what was seen.
    Holds(String),
    /// It does not; why.
    Fails(String),
    /// There is nothing it could be about.
    NotApplicable(String),
}

use Outcome::{Fails, Holds, NotApplicable};

/// Looks whether it holds.
pub fn holds(applier: &Applier<'_>, what: Assertion) -> Result<Outcome, Error> {
    Ok(match what {
        Assertion::SecretDerivesNodeId => each(applier, ArtifactKind::HsmSecret, secret)?,
        Assertion::EmergencyRecoverPlaced => each(applier, ArtifactKind::EmergencyRecover, in_place)?,
        Assertion::EmergencyRecoverCopied => each(applier, ArtifactKind::EmergencyRecover, copied)?,
        Assertion::ChannelBackupPlaced => each(applier, ArtifactKind::LndChannelBackup, |applier, artifact| {
            Ok(match in_place(applier, artifact)? {
                Holds(_) => copied(applier, artifact)?,
                other => other,
            })
        })?,
        Assertion::ChannelDatabasePlaced => each(applier, ArtifactKind::ClnWallet, in_place)?,
        Assertion::WalletQuarantined => quarantined(applier)?,
        Assertion::NoChannelDatabasePlaced => no_channel_database(applier)?,
        Assertion::DatabasesProved => databases(applier)?,
        Assertion::FilesPlaced => files(applier)?,
        Assertion::DamagedKept => damaged_kept(applier)?,
        Assertion::FenceLowered => fence_lowered(applier)?,
        Assertion::ClaimOurs => claim(applier),
        Assertion::StolenKeysOff => stolen_keys_off(applier)?,
        Assertion::NoStolenSecretPlaced => no_stolen_secret(applier),
        Assertion::NothingTouched => nothing_touched(applier),
        Assertion::DamageNamed
        | Assertion::OlderRestores
        | Assertion::VaultsEqual
        | Assertion::OtherIdentityRestores
        | Assertion::HandRecoveryEqual => NotApplicable("only a drill can show it".into()),
    })
}

/// The first of a kind for which it does not hold decides.
fn each(
    applier: &Applier<'_>,
    kind: ArtifactKind,
    look: impl Fn(&Applier<'_>, &Artifact) -> Result<Outcome, Error>,
) -> Result<Outcome, Error> {
    let mut seen = NotApplicable("the snapshot has none".into());
    for artifact in applier.ground.of_kind(kind) {
        applier.context.check()?;
        seen = look(applier, artifact)?;
        if matches!(seen, Fails(_)) {
            return Ok(seen);
        }
    }
    Ok(seen)
}

fn in_place(applier: &Applier<'_>, artifact: &Artifact) -> Result<Outcome, Error> {
    let Some(live) = applier.ground.facts(&artifact.name).and_then(live) else {
        return Ok(Fails(format!("the notes do not say where {} belongs", artifact.name)));
    };
    same(applier, artifact, &live.path)
}

fn copied(applier: &Applier<'_>, artifact: &Artifact) -> Result<Outcome, Error> {
    same(applier, artifact, &applier.ground.copy_of(&artifact.name))
}

/// Whether the artifact of this name is at a path, byte for byte.
pub(super) fn is_at(applier: &Applier<'_>, name: &ArtifactName, path: &Path) -> Result<bool, Error> {
    let (_, artifact) = applier.artifact(name)?;
    Ok(matches!(same(applier, artifact, path)?, Holds(_)))
}

/// Whether the file at a path is the artifact, byte for byte.
fn same(applier: &Applier<'_>, artifact: &Artifact, path: &Path) -> Result<Outcome, Error> {
    let (opener, artifact) = applier.artifact(&artifact.name)?;
    let at = applier.root.path_of(path);
    let Some(file) = applier.root.open_file(path)? else {
        return Ok(Fails(format!("nothing is at {}", at.display())));
    };
    let mut file = std::io::BufReader::new(file);
    let mut is_same = true;
    let mut compare = |bytes: &[u8]| {
        let mut there = vec![0; bytes.len()];
        is_same &= file.read_exact(&mut there).is_ok() && there == bytes;
        Ok(())
    };
    opener.artifact(artifact, &mut compare, "a comparison")?;
    let ends = file.read(&mut [0; 1]).map_err(FileError::io("read", &at))? == 0;
    Ok(if is_same && ends {
        Holds(format!("{} is {}, byte for byte", at.display(), artifact.name))
    } else {
        Fails(format!("{} is not {}", at.display(), artifact.name))
    })
}

/// The secret in place is the snapshot's, and the node id that follows from it is the database's.
fn secret(applier: &Applier<'_>, artifact: &Artifact) -> Result<Outcome, Error> {
    let Some(Facts::HsmSecret(facts)) = applier.ground.facts(&artifact.name) else {
        return Ok(Fails("the notes do not say whose secret it is".into()));
    };
    let at = applier.root.path_of(&facts.live.path);
    let Some(bytes) = applier.root.read_file(&facts.live.path, HSM_SECRET_BYTES_MAX as u64)? else {
        return Ok(Fails(format!("nothing is at {}", at.display())));
    };
    let findings = cln::check_secret(artifact.name.as_str(), &bytes, facts);
    if let Some(bad) = findings.first() {
        return Ok(Fails(format!("{}: {}", at.display(), bad.message)));
    }
    let of_database =
        applier.ground.of_kind(ArtifactKind::ClnWallet).find_map(|wallet| match applier.ground.facts(&wallet.name) {
            Some(Facts::ClnWallet(wallet)) => wallet.node.node_id.as_deref(),
            _ => None,
        });
    Ok(match (facts.node_id.as_deref(), of_database) {
        (Some(own), Some(other)) if own != other => {
            Fails(format!("the secret's node is {own}, and the database's is {other}"))
        }
        (Some(own), _) => Holds(format!("it is the secret of node {own}")),
        // A passphrase is needed to derive it: that it is the attested one was checked above.
        (None, _) => Holds("it is the attested secret, which needs a passphrase to derive its node".into()),
    })
}

fn quarantined(applier: &Applier<'_>) -> Result<Outcome, Error> {
    let mut seen = NotApplicable("the snapshot has no toxic artifact".into());
    let toxic = |artifact: &&Artifact| applier.ground.toxicity(artifact) == Toxicity::Toxic;
    for artifact in applier.ground.artifacts().filter(toxic) {
        let to = applier.ground.quarantine_of(&artifact.name);
        seen = same(applier, artifact, &to)?;
        if matches!(seen, Fails(_)) {
            return Ok(seen);
        }
        let mode = applier.root.mode_of(&to)?;
        if mode != Some(QUARANTINE_MODE) {
            let at = applier.root.path_of(&to);
            let mode = mode.map_or_else(|| "none".to_owned(), |mode| format!("{mode:04o}"));
            return Ok(Fails(format!("{} has mode {mode} and not {QUARANTINE_MODE:04o}", at.display())));
        }
    }
    Ok(seen)
}

fn no_channel_database(applier: &Applier<'_>) -> Result<Outcome, Error> {
    for node in applier.ground.nodes() {
        let place = super::apply::fence_place(&node.place, crate::target::Owner::ourselves());
        if let Found::Other(what) = fence::find(applier.root, &place)? {
            let at = applier.root.path_of(&node.place.wallet);
            return Ok(Fails(format!("at {} lies {what}", at.display())));
        }
    }
    for folder in applier.ground.lnd_graphs() {
        for name in LND_DATABASES {
            let path = folder.join(name);
            if applier.root.at(&path)? != At::Nothing {
                return Ok(Fails(format!("{} is there", applier.root.path_of(&path).display())));
            }
        }
    }
    Ok(Holds("no channel database lies where a node would start on it".into()))
}

/// A database is in its place with our mark only when it was proved before the swap; one that waits for its swap was
/// proved in this run.
fn databases(applier: &Applier<'_>) -> Result<Outcome, Error> {
    let mut count = 0;
    for (server, database, owner) in restored(applier) {
        let connection = applier.server(&server)?;
        let landing = applier.landing(&connection, &database, &owner)?;
        match landing.stand()? {
            Stand::Swapped => count += 1,
            Stand::Filled if landing.proved_before()?.is_some() => count += 1,
            stand => return Ok(Fails(format!("the database {database} is not restored and proved ({stand:?})"))),
        }
    }
    Ok(if count == 0 {
        NotApplicable("the snapshot has no database".into())
    } else {
        Holds(format!("{count} databases equal the notes row for row"))
    })
}

/// The databases that the plan restores: server, name and owner.
pub(super) fn restored(applier: &Applier<'_>) -> Vec<(crate::plan::ServerUrl, String, String)> {
    let database = |action: &Action| match action {
        Action::RestoreDatabase { server, database, owner_role, .. } => {
            Some((server.clone(), database.clone(), owner_role.clone()))
        }
        _ => None,
    };
    applier.plan.actions().filter_map(database).collect()
}

/// Unpacks once more: nothing may be left to do.
fn files(applier: &Applier<'_>) -> Result<Outcome, Error> {
    let mut entries = 0;
    for action in applier.plan.actions() {
        let Action::PlaceTree { artifact, below, .. } = action else { continue };
        let (opener, artifact) = applier.artifact(artifact)?;
        let forbidden = applier.forbidden();
        let label = applier.label();
        let how = Unpack { below, label: &label, forbidden: &forbidden, interrupt: applier.context.interrupt };
        let root = applier.root;
        let unpacked = opener.through_pipe(artifact, |tar| Ok(root.unpack(tar, &how)?))?;
        if unpacked.placed > 0 {
            return Ok(Fails(format!("{} of {} were not as they should be", unpacked.placed, artifact.name)));
        }
        entries += unpacked.entries;
    }
    Ok(if entries == 0 {
        NotApplicable("the snapshot has no files".into())
    } else {
        Holds(format!("{entries} entries are there, with owners and modes"))
    })
}

/// What this restore moved out of the way, in any of its runs, and what lies where it would have been moved to.
fn damaged_kept(applier: &Applier<'_>) -> Result<Outcome, Error> {
    let mut kept = applier.gathered.kept.clone();
    for action in applier.plan.actions() {
        match action {
            Action::MoveAside { paths, together } => {
                for path in databases_of(paths) {
                    let aside = applier.aside(path, *together)?;
                    kept.push(Kept::At(applier.root.path_of(aside.folder())));
                }
            }
            Action::SwapDatabase { server, database, .. } => {
                let connection = applier.server(server)?;
                let name = applier.landing(&connection, database, "")?.replaced_name();
                kept.push(Kept::Database { server: server.0.clone(), name });
            }
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    for one in &kept {
        let is_there = match one {
            Kept::At(path) => {
                let below = applier.ground.root.as_deref().and_then(|root| path.strip_prefix(root).ok());
                let there = below.map_or_else(|| path.clone(), |below| Path::new("/").join(below));
                applier.root.at(&there)? != At::Nothing
            }
            Kept::Database { server, name } => {
                let connection = applier.server(&ServerUrl(server.clone()))?;
                crate::sources::postgres::restore::is_there(&connection, name)?
            }
        };
        if is_there {
            seen.insert(one.to_string());
        } else if applier.gathered.kept.contains(one) {
            return Ok(Fails(format!("{one} was moved there by this restore and is gone")));
        }
    }
    Ok(if seen.is_empty() {
        NotApplicable("nothing was in the way".into())
    } else {
        Holds(format!("kept: {}", seen.into_iter().collect::<Vec<_>>().join(", ")))
    })
}

fn fence_lowered(applier: &Applier<'_>) -> Result<Outcome, Error> {
    for node in applier.ground.nodes() {
        let place = super::apply::fence_place(&node.place, crate::target::Owner::ourselves());
        if let Found::Fence(_) = fence::find(applier.root, &place)? {
            return Ok(Fails(format!("it still stands at {}", applier.root.path_of(&node.place.wallet).display())));
        }
    }
    Ok(Holds("no fence stands".into()))
}

fn claim(applier: &Applier<'_>) -> Outcome {
    match &applier.gathered.claim {
        Known::Is(Claim::OursAlone { snapshot }) => Holds(format!("{snapshot} is claimed by us alone")),
        Known::Is(Claim::Others { who }) => Fails(format!("claimed by {}", who.join(", "))),
        Known::Is(Claim::NotTaken) => Fails("no claim was taken".into()),
        Known::Unknown(why) => Fails(format!("nobody can say whose it is: {why}")),
    }
}

fn stolen_keys_off(applier: &Applier<'_>) -> Result<Outcome, Error> {
    let mut is_any = false;
    for (server, database, _) in restored(applier) {
        let is_btcpay = applier.dump_of(&server, &database).is_some_and(|(name, _)| applier.ground.is_btcpay(name));
        if !is_btcpay {
            continue;
        }
        is_any = true;
        let connection = applier.restored(&server, &database)?;
        let keys = btcpay::api_keys(&connection)?.len();
        let active = btcpay::webhooks(&connection)?.iter().filter(|hook| hook.is_active || hook.has_secret).count();
        let processors = btcpay::payouts(&connection)?.processors.len();
        if keys + active + processors > 0 {
            return Ok(Fails(format!(
                "{database} still has {keys} API keys, {active} webhooks in force, {processors} payout processors"
            )));
        }
    }
    Ok(if is_any {
        Holds("no API key, no webhook and no payout processor is in force".into())
    } else {
        NotApplicable("the snapshot has no BTCPay Server database".into())
    })
}

fn no_stolen_secret(applier: &Applier<'_>) -> Outcome {
    let places = |action: &&Action| matches!(action, Action::PlaceFile { .. } | Action::PlaceTree { .. });
    match applier.plan.actions().find(places) {
        Some(action) => Fails(action.to_string()),
        None => Holds("nothing of the snapshot but databases was placed".into()),
    }
}

fn nothing_touched(applier: &Applier<'_>) -> Outcome {
    let runs = applier.plan.actions().filter(|action| matches!(action, Action::Run { .. })).count();
    let touched = applier.plan.touches().len() + runs;
    if touched == 0 {
        Holds("the plan touches nothing".into())
    } else {
        Fails(format!("{touched} things were touched"))
    }
}
