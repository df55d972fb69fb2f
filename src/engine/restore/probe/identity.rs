//! Whose secret, database and chain these are. The node id of a secret is derived from its bytes, the snapshot's or the
//! target's, and never taken on trust.

use super::chain::Bitcoind;
use super::{View, source_of};
use crate::artifact::ArtifactKind;
use crate::base::exec::{self, Exec, ExecError};
use crate::base::ids::{ArtifactName, SourceName};
use crate::base::limits::HSM_SECRET_BYTES_MAX;
use crate::base::secret::Secret;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::engine::restore::ground::node;
use crate::facts::Facts;
use crate::facts::cln::NodeState;
use crate::guard::facts::{IdentityFacts, Known};
use crate::manifest::Artifact;
use crate::plan::{Action, LightningPlace, UnitRole};
use crate::sources::cln;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where programs are on NixOS when `PATH` does not say.
const PROGRAMS: &str = "/run/current-system/sw/bin";
/// Under which name lightningd keeps its secret.
pub(super) const SECRET: &str = "hsm_secret";

/// The secrets of the snapshot, each by its artifact's name.
pub(super) type Secrets = Known<Vec<(ArtifactName, Known<Secret>)>>;

/// Opens the snapshot's secrets: what lies at the target is held against them, and they open `emergency.recover`.
pub(super) fn secrets(view: &View<'_>) -> Result<Secrets, Error> {
    let (chosen, opener) = match (view.world.chosen, view.opener()) {
        (Some(chosen), Known::Is(opener)) => (chosen, opener),
        (_, Known::Unknown(why)) => return Ok(Known::Unknown(why)),
        (None, _) => return Ok(super::unchosen()),
    };
    let mut found = Vec::new();
    for artifact in chosen.believed.manifest.artifacts.iter().filter(|one| one.kind == ArtifactKind::HsmSecret) {
        let secret = if artifact.length > HSM_SECRET_BYTES_MAX as u64 {
            Known::Unknown(format!("{} has {} bytes, which is no secret's length", artifact.name, artifact.length))
        } else {
            view.settle(opener.to_memory(artifact))?
        };
        found.push((artifact.name.clone(), secret));
    }
    Ok(Known::Is(found))
}

/// The secret of this name.
pub(super) fn secret_named<'s>(secrets: &'s Secrets, name: &ArtifactName) -> Known<&'s Secret> {
    secrets.as_ref().and(|all| match all.iter().find(|(known, _)| known == name) {
        Some((_, secret)) => secret.as_ref(),
        None => Known::Unknown(format!("the snapshot has no {name}")),
    })
}

/// Whose secret and database these are.
pub(super) fn probe(view: &View<'_>, secrets: &Secrets) -> Result<IdentityFacts, Error> {
    let placed = |action: &&Action| {
        matches!(
            action,
            Action::PlaceChannelDatabase { .. }
                | Action::PlaceFile { kind: ArtifactKind::HsmSecret | ArtifactKind::EmergencyRecover, .. }
        )
    };
    let names = view.plan.actions().filter(placed).filter_map(Action::artifact);
    let sources: BTreeSet<SourceName> = names.filter_map(source_of).collect();
    let mut sources = sources.into_iter();
    let source = match (sources.next(), sources.next()) {
        (Some(source), None) => source,
        (None, _) => return Ok(IdentityFacts::default()),
        (Some(one), Some(other)) => {
            return Ok(all_unknown(&format!(
                "the plan places files of several nodes ({one}, {other}), and it must be one"
            )));
        }
    };
    let state = node_state(view, &source);
    let place = place_of(view, &source);
    let (target_network, target_genesis) = chain_of_target(view, place.as_ref());
    Ok(IdentityFacts {
        secret_node_id: secret_node_id(view, secrets, &source, place.as_ref())?,
        database_node_id: told(&state, "the node id", |node| node.node_id.clone()),
        database_network: told(&state, "a chain that lightningd has a name for", |node| node.network.clone()),
        database_genesis: told(&state, "the chain's first block", |node| node.genesis_hash.clone()),
        database_schema: told(&state, "its schema", |node| Some(node.schema_version)),
        target_network,
        target_genesis,
        lightningd_schema: lightningd_schema(view),
    })
}

fn all_unknown(why: &str) -> IdentityFacts {
    let text = || Known::Unknown(why.to_owned());
    IdentityFacts {
        secret_node_id: text(),
        database_node_id: text(),
        database_network: text(),
        target_network: text(),
        database_genesis: text(),
        target_genesis: text(),
        database_schema: Known::Unknown(why.to_owned()),
        lightningd_schema: Known::Unknown(why.to_owned()),
    }
}

/// What the snapshot's wallet of a source told when it was read.
fn node_state<'a>(view: &View<'a>, source: &SourceName) -> Known<&'a NodeState> {
    let Some(chosen) = view.world.chosen else { return super::unchosen() };
    let is_wallet = |artifact: &&Artifact| {
        artifact.kind == ArtifactKind::ClnWallet && source_of(&artifact.name).as_ref() == Some(source)
    };
    let Some(wallet) = chosen.believed.manifest.artifacts.iter().find(is_wallet) else {
        return Known::Unknown(format!("the snapshot has no wallet database of {source}"));
    };
    match chosen.opened.notes.facts(&wallet.name) {
        Some(Facts::ClnWallet(facts)) => Known::Is(&facts.node),
        _ => Known::Unknown(format!("the snapshot's notes say nothing of {}", wallet.name)),
    }
}

fn told<T>(state: &Known<&NodeState>, what: &str, get: impl FnOnce(&NodeState) -> Option<T>) -> Known<T> {
    state.as_ref().and(|node| match get(node) {
        Some(fact) => Known::Is(fact),
        None => Known::Unknown(format!("the snapshot's wallet database does not tell {what}")),
    })
}

/// Where the files of a source's node go.
fn place_of(view: &View<'_>, source: &SourceName) -> Option<LightningPlace> {
    let sources = view.world.policy.into_iter().flat_map(|policy| &policy.sources);
    let of_policy = sources.filter(|policy| policy.name == *source).find_map(node).map(|node| node.place);
    let mut fences = view.plan.fences();
    match (fences.next(), fences.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => of_policy,
    }
}

/// The secret that is placed; where none is, the one that lies at the target.
fn secret_node_id(
    view: &View<'_>,
    secrets: &Secrets,
    source: &SourceName,
    place: Option<&LightningPlace>,
) -> Result<Known<String>, Error> {
    let is_placed = |action: &Action| match action {
        Action::PlaceFile { artifact, kind: ArtifactKind::HsmSecret, .. }
            if source_of(artifact).as_ref() == Some(source) =>
        {
            Some(artifact.clone())
        }
        _ => None,
    };
    if let Some(name) = view.plan.actions().find_map(is_placed) {
        return Ok(secret_named(secrets, &name).and(|secret| node_of(view, source, &name, (secret, secret))));
    }
    let saved = view.world.chosen.and_then(|chosen| {
        let is_secret = |artifact: &&Artifact| {
            artifact.kind == ArtifactKind::HsmSecret && source_of(&artifact.name).as_ref() == Some(source)
        };
        chosen.believed.manifest.artifacts.iter().find(is_secret).map(|artifact| artifact.name.clone())
    });
    let Some(place) = place else { return Ok(Known::Unknown("nobody knows where the node's secret lies".to_owned())) };
    let path = place.network_dir.join(SECRET);
    let read = view.settle(view.world.root.read_file(&path, HSM_SECRET_BYTES_MAX as u64))?;
    Ok(read.and(|secret| match secret {
        Some(secret) => match saved.as_ref().map(|name| (name, secret_named(secrets, name))) {
            Some((name, Known::Is(known))) => node_of(view, source, name, (&secret, known)),
            _ => node_id(&secret, &path.display().to_string()),
        },
        None => Known::Unknown(format!("no secret is placed and {} is not there", path.display())),
    }))
}

/// The node that a secret makes; of one under a passphrase the node of the wallet that lay beside it, when it is byte
/// for byte the snapshot's and that was the attested one: lightningd starts on no other.
fn node_of(
    view: &View<'_>,
    source: &SourceName,
    name: &ArtifactName,
    (secret, saved): (&Secret, &Secret),
) -> Known<String> {
    let derived = node_id(secret, name.as_str());
    let facts = view.world.chosen.and_then(|chosen| chosen.opened.notes.facts(name));
    match facts {
        Some(Facts::HsmSecret(facts))
            if facts.attested
                && facts.format.is_some()
                && facts.node_id.is_none()
                && secret.expose() == saved.expose() =>
        {
            told(&node_state(view, source), "the node id", |node| node.node_id.clone())
        }
        _ => derived,
    }
}

/// The node that a secret makes.
pub(super) fn node_id(secret: &Secret, name: &str) -> Known<String> {
    match cln::parse_secret(secret.clone()) {
        Err(error) => Known::Unknown(format!("{name} is no valid hsm_secret: {}", chain(&error))),
        Ok(secret) => secret.node_id().map_or_else(
            || Known::Unknown(format!("{name} is {}, which derives no node id without it", secret.format().as_str())),
            Known::Is,
        ),
    }
}

/// The chain of the target, and its first block: bitcoind's where it answers, which must be the one that lightningd's
/// folder is named after.
fn chain_of_target(view: &View<'_>, place: Option<&LightningPlace>) -> (Known<String>, Known<String>) {
    let both = |why: String| (Known::Unknown(why.clone()), Known::Unknown(why));
    let network = place.and_then(|place| place.network_dir.file_name()).map(|name| name.to_string_lossy().into_owned());
    let Some(network) = network else { return both("nobody knows in which folder the node's files belong".to_owned()) };
    match view.bitcoind {
        Known::Is(Bitcoind::Answers(chain)) if chain.network != network => {
            both(format!("bitcoind is on {} and the node's folder is named {network}", chain.network))
        }
        Known::Is(Bitcoind::Answers(chain)) => (Known::Is(network), Known::Is(chain.genesis.clone())),
        // Nothing runs there yet: the chain is the one that lightningd will be told.
        _ => match cln::first_block(&network) {
            Some(genesis) => (Known::Is(network), Known::Is(genesis)),
            None => both(format!("{network} is no chain of lightningd's")),
        },
    }
}

/// The newest schema that the target's lightningd knows; asked only where a database is placed. Below another root the
/// one on this machine's `PATH` is asked: should an older one run there, it refuses the database and leaves it alone.
fn lightningd_schema(view: &View<'_>) -> Known<i64> {
    if !view.plan.actions().any(|action| matches!(action, Action::PlaceChannelDatabase { .. })) {
        return Known::Unknown("it was not asked, because no channel database is placed".to_owned());
    }
    let on_path = exec::find("lightningd", &[PathBuf::from(PROGRAMS)]).ok();
    let program = if view.world.is_below { on_path } else { on_path.or_else(|| of_unit(view)) };
    let Some(program) = program else {
        return Known::Unknown("lightningd is neither on PATH nor in the node's unit".to_owned());
    };
    schema_of(&program)
}

fn schema_of(program: &Path) -> Known<i64> {
    match version(program) {
        Err(error) => Known::Unknown(format!("lightningd does not say its version: {}", chain(&error))),
        Ok(version) => cln::newest_schema(&version)
            .map_or_else(|| Known::Unknown(format!("nobody knows the schema of lightningd {version:?}")), Known::Is),
    }
}

fn version(program: &Path) -> Result<String, ExecError> {
    let said = Exec::new(program).arg("--version").run(b"")?;
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().chars().take(80).collect())
}

/// The program that the node's unit starts.
fn of_unit(view: &View<'_>) -> Option<PathBuf> {
    let units = super::running::node_units(view.plan, UnitRole::CoreLightning);
    let systemctl = exec::find("systemctl", &[PathBuf::from(PROGRAMS)]).ok()?;
    units.into_iter().find_map(|unit| {
        let shown = Exec::new(&systemctl).args(["show", "--property=ExecStart", "--", &unit]).run(b"").ok()?;
        started(&String::from_utf8_lossy(&shown))
    })
}

/// The program in what `systemctl show` prints of `ExecStart`.
fn started(shown: &str) -> Option<PathBuf> {
    let path = shown.split_once("path=")?.1.split(" ;").next()?.trim();
    let is_lightningd = Path::new(path).file_name().is_some_and(|name| name == "lightningd");
    is_lightningd.then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cln");

    #[test]
    fn a_node_id_is_derived_or_unknown() {
        let read = |name: &str| Secret::new(std::fs::read(format!("{FIXTURES}/{name}")).unwrap());
        let known = node_id(&read("node/hsm_secret"), "it");
        assert_eq!(known, Known::Is("037c0ac3be7b74b0d720936d0db9f51db75c05604a578e676515973a877d2e2ba7".to_owned()));
        let why = |name: &str| match node_id(&read(name), "it") {
            Known::Unknown(why) => why,
            Known::Is(id) => panic!("{id}"),
        };
        assert!(why("hsm_secret/encrypted.hsm_secret").contains("passphrase"));
        assert!(why("node/getinfo.json").contains("no valid hsm_secret"));
    }

    #[test]
    fn lightningd_is_found_in_its_unit() {
        let shown = "ExecStart={ path=/nix/store/x-clightning-25.12/bin/lightningd ; argv[]=/nix/store/x/bin/lightningd \
                     --lightning-dir=/var/lib/clightning ; ignore_errors=no }\n";
        assert_eq!(started(shown), Some("/nix/store/x-clightning-25.12/bin/lightningd".into()));
        assert_eq!(started("ExecStart={ path=/bin/sh ; argv[]=/bin/sh -c lightningd ; }"), None);
        assert_eq!(started("ExecStart=\n"), None);
    }

    #[test]
    fn its_schema_is_told_by_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("lightningd");
        let says = |text: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            schema_of(&program)
        };
        assert_eq!(says("test \"$1\" = --version && echo v25.12.1"), Known::Is(280));
        assert!(matches!(says("echo nothing"), Known::Unknown(_)));
        assert!(matches!(says("exit 1"), Known::Unknown(_)));
    }
}
