//! `emergency.recover`: the snapshot's own, and files at the target, opened with whichever secret of the snapshot does.

use super::identity::Secrets;
use super::{View, target};
use crate::artifact::ArtifactKind;
use crate::base::secret::Secret;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::facts::Facts;
use crate::facts::cln::EmergencyContents;
use crate::guard::facts::Known;
use crate::plan::Action;
use crate::sources::cln;
use std::path::Path;

/// What became of opening a file.
pub(super) enum Opened {
    /// What is in it, and the node of the secret that opened it.
    Sound { node_id: Option<String>, contents: EmergencyContents },
    /// It is the snapshot's own, byte for byte; its secret needs a passphrase.
    Same,
    /// No secret of the snapshot opens it.
    Damaged(String),
    /// A secret that may be its own could not be used.
    Unknown(String),
}

/// What the snapshot's file holds that the plan places.
pub(super) fn of_snapshot(view: &View<'_>) -> Known<EmergencyContents> {
    let mut found: Option<&EmergencyContents> = None;
    for action in view.plan.actions() {
        let Action::PlaceFile { artifact, kind: ArtifactKind::EmergencyRecover, .. } = action else { continue };
        let Some(Facts::EmergencyRecover(facts)) = view.notes(artifact) else {
            return Known::Unknown(format!("the snapshot's notes say nothing of {artifact}"));
        };
        let Some(contents) = &facts.contents else {
            return Known::Unknown(format!("{artifact} was backed up without being opened"));
        };
        if found.is_some_and(|other| other != contents) {
            return Known::Unknown("the plan places more than one, and they differ".to_owned());
        }
        found = Some(contents);
    }
    found.cloned().map_or_else(|| Known::Unknown("the plan places none".to_owned()), Known::Is)
}

/// Opens a file that lies at the target. One that cannot be opened may be the one that an interrupted run placed.
pub(super) fn at_target(view: &View<'_>, file: &Secret, secrets: &Secrets, path: &Path) -> Result<Opened, Error> {
    let opened = open(file.expose(), secrets);
    let Opened::Unknown(why) = opened else { return Ok(opened) };
    for action in view.plan.actions() {
        let Action::PlaceFile { artifact, kind: ArtifactKind::EmergencyRecover, to, .. } = action else { continue };
        if to == path
            && let Known::Is(artifact) = view.artifact(artifact)
            && target::same_bytes(view, artifact, path)? == Known::Is(true)
        {
            return Ok(Opened::Same);
        }
    }
    Ok(Opened::Unknown(why))
}

/// Opens a file.
pub(super) fn open(file: &[u8], secrets: &Secrets) -> Opened {
    let all = match secrets {
        Known::Is(all) => all,
        Known::Unknown(why) => return Opened::Unknown(why.clone()),
    };
    let (mut refused, mut unusable) = (Vec::new(), Vec::new());
    for (name, secret) in all {
        let parsed = match secret {
            Known::Unknown(why) => Err(why.clone()),
            Known::Is(secret) => cln::parse_secret(secret.clone()).map_err(|error| chain(&error)),
        };
        let secret = match parsed {
            Ok(secret) => secret,
            Err(why) => {
                unusable.push(format!("{name}: {why}"));
                continue;
            }
        };
        match cln::open_emergency(file, &secret) {
            Ok(Some(contents)) => return Opened::Sound { node_id: secret.node_id(), contents },
            Ok(None) => unusable.push(format!("{name} is {}", secret.format().as_str())),
            Err(error) => refused.push(format!("{name}: {}", chain(&error))),
        }
    }
    match (refused.is_empty(), unusable.is_empty()) {
        (_, false) => Opened::Unknown(format!("it was not opened: {}", unusable.join("; "))),
        (false, true) => Opened::Damaged(refused.join("; ")),
        (true, true) => Opened::Unknown("the snapshot has no secret that could open it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ArtifactName;
    use crate::base::secret::Secret;
    use std::path::Path;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cln");

    fn read(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(FIXTURES).join(name)).unwrap()
    }

    fn named(name: &str, bytes: Vec<u8>) -> (ArtifactName, Known<Secret>) {
        (name.parse().unwrap(), Known::Is(Secret::new(bytes)))
    }

    #[test]
    fn a_file_is_opened_with_whichever_secret_does() {
        let file = read("node/04-after-25-payments/emergency.recover");
        let wrong = named("other/hsm_secret", read("hsm_secret/raw32.hsm_secret"));
        let right = named("cln/hsm_secret", read("node/hsm_secret"));
        let locked = named("locked/hsm_secret", read("hsm_secret/encrypted.hsm_secret"));
        let all = Known::Is(vec![wrong.clone(), locked.clone(), right]);
        let Opened::Sound { node_id, contents } = open(&file, &all) else { panic!("it was not opened") };
        assert!(node_id.unwrap().starts_with("037c0ac3"));
        assert_eq!(contents.channels.len(), 2);
        let Opened::Damaged(why) = open(&file, &Known::Is(vec![wrong.clone()])) else { panic!("not refused") };
        assert!(why.contains("other/hsm_secret: it does not open"), "{why}");
        // It may be the locked one's.
        let Opened::Unknown(why) = open(&file, &Known::Is(vec![wrong, locked])) else { panic!("known") };
        assert!(why.contains("locked/hsm_secret is encrypted"), "{why}");
        assert!(matches!(open(&file, &Known::Is(Vec::new())), Opened::Unknown(_)));
    }
}
