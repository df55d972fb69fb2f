//! What the policy in the notes promises, this scenario would take, and an incomplete snapshot does not hold. Each
//! piece is named before anything is done and again at the end: a restore that left something out is not whole.

use super::ground::Ground;
use crate::artifact::{ArtifactKind, Toxicity};
use crate::engine::Error;
use crate::facts::Facts;
use crate::facts::postgres::Software;
use crate::manifest::Artifact;
use crate::policy::{SourceKind, SourcePolicy};
use crate::report::{Finding, Level};
use crate::scenario::{Assertion, Do, Placed};
use std::fmt;

/// One artifact that should be in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// What it would hold.
    pub(super) kind: ArtifactKind,
    /// The source that should have yielded it.
    source: String,
    /// The database, of a dump.
    database: Option<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        match (self.kind, &self.database) {
            (ArtifactKind::HsmSecret, _) => write!(f, "{source}/hsm_secret"),
            (ArtifactKind::EmergencyRecover, _) => write!(f, "{source}/emergency.recover"),
            (ArtifactKind::ClnWallet, _) => write!(f, "the channel database of {source}"),
            (ArtifactKind::LndChannelBackup, _) => write!(f, "{source}/channel.backup"),
            (ArtifactKind::Sqlite, _) => write!(f, "the database of {source}"),
            (ArtifactKind::Tar, _) => write!(f, "the files of {source}"),
            (ArtifactKind::PostgresDump, Some(database)) => write!(f, "the database {database} of {source}"),
            (ArtifactKind::PostgresDump, None) => write!(f, "the databases of {source}"),
            (ArtifactKind::PostgresGlobals, _) => write!(f, "the roles of {source}"),
        }
    }
}

/// What is missing. A scenario that would place a node's keys is refused without them: a node that starts without its
/// secret makes a new one, and one that starts without its static backup forgets its channels.
pub(super) fn refuse_without_the_keys(ground: &Ground<'_>) -> Result<Vec<Missing>, Error> {
    let missing = missing(ground);
    let is_key = |missing: &&Missing| {
        use ArtifactKind::{EmergencyRecover, HsmSecret, LndChannelBackup};
        matches!(missing.kind, HsmSecret | EmergencyRecover | LndChannelBackup)
    };
    match missing.iter().find(is_key) {
        None => Ok(missing),
        Some(key) => Err(Error::Refused {
            guard: "identity",
            reason: format!("the snapshot is incomplete and does not hold {key}"),
            hint: "choose with --snapshot one that has it (`relay-backup show SNAPSHOT`); single databases and files of this \
                   one can be had with `relay-backup extract`"
                .into(),
        }),
    }
}

fn missing(ground: &Ground<'_>) -> Vec<Missing> {
    // Of a complete snapshot every source has given all it has.
    let Some((manifest, _)) = ground.chosen.filter(|(manifest, _)| !manifest.complete) else { return Vec::new() };
    let sources = ground.policy.into_iter().flat_map(|policy| &policy.sources);
    let promised = sources.flat_map(|source| promised(ground, source)).filter(|one| is_taken(ground, one.kind));
    let is_there = |one: &Missing| manifest.artifacts.iter().any(|artifact| is_it(ground, artifact, one));
    promised.filter(|one| !is_there(one)).collect()
}

/// Whether an artifact is what was promised.
fn is_it(ground: &Ground<'_>, artifact: &Artifact, one: &Missing) -> bool {
    let is_of_source = artifact.name.as_str().split_once('/').is_some_and(|(source, _)| source == one.source);
    let is_of_database = match (&one.database, ground.facts(&artifact.name)) {
        (None, _) => true,
        // A database's name can hold what no artifact's name may.
        (Some(database), Some(Facts::PostgresDump(facts))) => facts.name == *database,
        (Some(_), _) => false,
    };
    artifact.kind == one.kind && is_of_source && is_of_database
}

/// What a source yields on every host that has it.
fn promised(ground: &Ground<'_>, source: &SourcePolicy) -> Vec<Missing> {
    let one = |kind| Missing { kind, source: source.name.to_string(), database: None };
    match &source.kind {
        SourceKind::Cln { .. } => {
            let mut all = vec![one(ArtifactKind::HsmSecret), one(ArtifactKind::EmergencyRecover)];
            // A node on PostgreSQL has no file.
            let is_in_postgres = ground.of_kind(ArtifactKind::PostgresDump).any(|dump| {
                matches!(ground.facts(&dump.name), Some(Facts::PostgresDump(facts)) if facts.software == Software::Cln)
            });
            if !is_in_postgres {
                all.push(one(ArtifactKind::ClnWallet));
            }
            all
        }
        SourceKind::Lnd { .. } => vec![one(ArtifactKind::LndChannelBackup)],
        SourceKind::Postgres { databases, .. } => {
            let dump =
                |database: &String| Missing { database: Some(database.clone()), ..one(ArtifactKind::PostgresDump) };
            databases.iter().map(dump).chain([one(ArtifactKind::PostgresGlobals)]).collect()
        }
        SourceKind::Sqlite { .. } => vec![one(ArtifactKind::Sqlite)],
        SourceKind::Files { .. } => vec![one(ArtifactKind::Tar)],
    }
}

/// Whether the scenario takes things of a kind out of the snapshot.
fn is_taken(ground: &Ground<'_>, kind: ArtifactKind) -> bool {
    let places = |action: &Do, wanted: &[Placed]| matches!(action, Do::Place { what } if wanted.contains(what));
    let takes = |action: &Do| match kind {
        ArtifactKind::HsmSecret => places(action, &[Placed::HsmSecret]),
        ArtifactKind::EmergencyRecover => places(action, &[Placed::EmergencyRecover, Placed::EmergencyRecoverCopy]),
        ArtifactKind::LndChannelBackup => places(action, &[Placed::ChannelBackup, Placed::ChannelBackupCopy]),
        ArtifactKind::ClnWallet => *action == Do::Quarantine || places(action, &[Placed::ChannelDatabase]),
        ArtifactKind::Sqlite => places(action, &[Placed::Sqlite]),
        ArtifactKind::Tar => places(action, &[Placed::Files]),
        ArtifactKind::PostgresGlobals => *action == Do::RestoreRoles,
        ArtifactKind::PostgresDump => *action == Do::RestoreDatabases,
    };
    ground.scenario.steps.iter().any(|step| takes(&step.action))
}

/// What the report says of each.
pub(super) fn findings(missing: &[Missing]) -> impl Iterator<Item = Finding> {
    missing.iter().map(|one| {
        let message = "the snapshot is incomplete and does not hold it: it is not restored";
        let hint = "take it from another snapshot with `relay-backup extract` before what needs it is started";
        Finding::new(Level::Degraded, "artifact-missing", one.to_string(), message).with_hint(hint)
    })
}

/// What of an incomplete snapshot is there and lacks something: what its own backup said went wrong.
pub(super) fn not_whole(ground: &Ground<'_>) -> Vec<Finding> {
    let Some((_, notes)) = ground.chosen.filter(|(manifest, _)| !manifest.complete) else { return Vec::new() };
    let failed = notes.findings.iter().filter(|finding| finding.level >= Level::Failed);
    let told = |finding: &Finding| {
        let message = format!("the snapshot is incomplete, its own backup said: {}", finding.message);
        let hint = "see what is lacking before what needs it is started; another snapshot may have it";
        Finding::new(Level::Degraded, "artifact-not-whole", finding.subject.clone(), message).with_hint(hint)
    };
    failed.map(told).collect()
}

/// What the scenario takes of its kind and leaves because it is toxic. Said again even where it lies in quarantine:
/// nobody must look for it in its place.
pub(super) fn toxic(ground: &Ground<'_>) -> Vec<Finding> {
    let is_quarantined = ground.scenario.steps.iter().any(|step| step.action == Do::Quarantine);
    let is_left = |artifact: &&Artifact| {
        let is_told = artifact.kind != ArtifactKind::ClnWallet && is_taken(ground, artifact.kind);
        is_told && ground.toxicity(artifact) == Toxicity::Toxic
    };
    let told = |artifact: &Artifact| {
        let (level, message) = if is_quarantined {
            (Level::Note, "it holds or may hold a node's channel state: it is put into quarantine and not restored")
        } else {
            (Level::Degraded, "it holds or may hold a node's channel state: it is not restored")
        };
        let hint = format!(
            "an old copy can lose every channel; to look at it, `relay-backup extract --artifact {}` to a file with \
             TOXIC in its name",
            artifact.name
        );
        Finding::new(level, "artifact-toxic", artifact.name.to_string(), message).with_hint(hint)
    };
    ground.artifacts().filter(is_left).map(told).collect()
}

/// What is missing of the things that an assertion speaks of.
pub(super) fn of_assertion(missing: &[Missing], what: Assertion) -> impl Iterator<Item = &Missing> {
    let speaks_of = move |kind: ArtifactKind| match what {
        Assertion::DatabasesProved => kind == ArtifactKind::PostgresDump,
        Assertion::FilesPlaced => kind == ArtifactKind::Tar,
        Assertion::WalletQuarantined | Assertion::ChannelDatabasePlaced => kind == ArtifactKind::ClnWallet,
        _ => false,
    };
    missing.iter().filter(move |one| speaks_of(one.kind))
}
