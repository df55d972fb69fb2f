//! Why a flow could not do its work. Says what, on which thing, why; knows what to do about it. The exit code that
//! belongs to each kind is chosen in one place, at the edge.

use crate::base::fsio::{self, FileError};
use crate::base::ids::{ArtifactName, BadId, NodeName, SnapshotId};
use crate::base::lock::LockError;
use crate::catalog::CatalogError;
use crate::manifest::ManifestError;
use crate::notes::NotesError;
use crate::sandbox::cluster::ClusterError;
use crate::seal::SealError;
use crate::sources::SourceError;
use crate::sources::postgres::PostgresError;
use crate::sources::postgres::restore::RestoreError;
use crate::target::tree::TreeError;
use crate::target::units::UnitError;
use crate::vault::VaultError;
use std::path::PathBuf;

/// What every step that failed is mended with in the end.
const AGAIN: &str = "run the same command again";

/// Why a flow could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// This host has not been set up.
    #[error("this host is not set up: {} holds no state", folder.display())]
    NotInitialised {
        /// The state folder.
        folder: PathBuf,
    },
    /// The state belongs to another node.
    #[error("the state in {} belongs to node {found}, and the policy says {wanted}", folder.display())]
    OtherNode {
        /// The state folder.
        folder: PathBuf,
        /// The node it belongs to.
        found: NodeName,
        /// The policy's node.
        wanted: NodeName,
    },
    /// A file of the state folder is damaged.
    #[error("{} is damaged", file.display())]
    State {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A file of ours cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another run is at work.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// A vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no vault at this place.
    #[error("there is no vault at {place}")]
    NoVault {
        /// Where.
        place: String,
    },
    /// No vault of the policy can be used.
    #[error("no vault can be used: {reasons}")]
    NoVaultAnswers {
        /// Vault by vault.
        reasons: String,
        /// What to do about the first.
        hint: Option<String>,
    },
    /// Keys, sealing, opening.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The scratch PostgreSQL server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The pipeline.
    #[error(transparent)]
    Pipeline(#[from] super::pipeline::PipelineError),
    /// A source.
    #[error("the source {name} failed")]
    Source {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// Named on the command line, absent in the policy.
    #[error("the policy has no {what} {name:?} (it has {known})")]
    Unknown {
        /// `source` or `vault`.
        what: &'static str,
        /// The name.
        name: String,
        /// The names it has.
        known: String,
    },
    /// There is no such snapshot, or none at all.
    #[error("there is no {wanted} snapshot of node {node} in {place}")]
    NoSnapshot {
        /// The id, or `complete`.
        wanted: String,
        /// The node.
        node: NodeName,
        /// The vaults looked at.
        place: String,
    },
    /// The snapshot has no such artifact.
    #[error("{snapshot} has no artifact {name} (it has {known})")]
    NoArtifact {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The artifact.
        name: ArtifactName,
        /// The names it has.
        known: String,
    },
    /// A manifest that cannot be believed.
    #[error("the manifest of {snapshot} in {place} cannot be believed: {reason}")]
    Forged {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The vault.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A manifest this program cannot read.
    #[error("the manifest of {snapshot} in {place} cannot be read")]
    Manifest {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The vault.
        place: String,
        /// Why not.
        #[source]
        source: ManifestError,
    },
    /// Notes that cannot be read.
    #[error("the notes of {snapshot} cannot be read")]
    Notes {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Why not.
        #[source]
        source: NotesError,
    },
    /// An object that is missing or damaged in every vault looked at.
    #[error("{thing} is damaged: {reason}")]
    Damaged {
        /// Artifact, segment and object.
        thing: String,
        /// What is wrong, vault by vault.
        reason: String,
    },
    /// A thing that no vault gave, though none said that it is damaged.
    #[error("{thing} could not be read, so nothing is known of it: {reason}")]
    Unread {
        /// Artifact, segment and object, or a file of a snapshot.
        thing: String,
        /// Why not, vault by vault.
        reason: String,
        /// What to do about the first.
        hint: Option<String>,
    },
    /// A guard refused.
    #[error("refused by the guard {guard}: {reason}")]
    Refused {
        /// The guard.
        guard: &'static str,
        /// Why.
        reason: String,
        /// The safe road.
        hint: String,
    },
    /// Guards refused a plan.
    #[error(transparent)]
    Guards(#[from] crate::guard::Refused),
    /// The policy in a snapshot's notes cannot be read by this version.
    #[error("the policy in the snapshot's notes cannot be read, so it is not known where things belong")]
    NotedPolicy {
        /// Why.
        #[source]
        source: Box<crate::policy::PolicyError>,
    },
    /// A step of a restore failed.
    #[error("the step {step} failed")]
    Step {
        /// The step.
        step: crate::base::ids::StepId,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// What must hold after a step or at the end does not.
    #[error("it does not hold that {what}: {why}")]
    DoesNotHold {
        /// What must.
        what: String,
        /// What was seen instead.
        why: String,
    },
    /// A person had to answer, and nobody did, or with no.
    #[error("not confirmed: {question}")]
    NotConfirmed {
        /// What was asked.
        question: String,
    },
    /// The machine that is restored to.
    #[error(transparent)]
    Target(#[from] crate::target::TargetError),
    /// The fence.
    #[error(transparent)]
    Fence(#[from] crate::target::fence::FenceError),
    /// Unpacking a tar.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A unit.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Restoring a database.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A PostgreSQL server.
    #[error(transparent)]
    Postgres(#[from] crate::sources::postgres::PostgresError),
    /// A program.
    #[error(transparent)]
    Program(#[from] crate::base::exec::ExecError),
    /// A scenario.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::ScenarioError),
    /// The node left this host with a final snapshot.
    #[error("this host's node left it with the final snapshot {snapshot}: a fence stands at {}", wallet.display())]
    Departed {
        /// Where the database belongs.
        wallet: PathBuf,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A restore is at work, or was cut off.
    #[error("a restore is at work here or was cut off: its fence stands at {}", wallet.display())]
    Restoring {
        /// Where the database belongs.
        wallet: PathBuf,
    },
    /// Whose a final snapshot is cannot be told.
    #[error(transparent)]
    Claim(#[from] super::claim::ClaimError),
    /// An identity is needed and none was given.
    #[error("{what} needs an identity, and none was given")]
    NoIdentity {
        /// What was asked for.
        what: &'static str,
    },
    /// A name is malformed.
    #[error(transparent)]
    Id(#[from] BadId),
    /// What was read could not be written to its destination.
    #[error("cannot write to {to}")]
    Output {
        /// The destination.
        to: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A request that makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Whether somebody asked to stop, whoever noticed it.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted
            | Self::Unit(UnitError::Interrupted { .. })
            | Self::Tree(TreeError::Interrupted { .. })
            | Self::Cluster(ClusterError::Interrupted)
            | Self::Postgres(PostgresError::Interrupted { .. }) => true,
            Self::Restore(error) | Self::Cluster(ClusterError::Restore(error)) => error.is_interruption(),
            Self::Step { source, .. } => source.is_interruption(),
            _ => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotInitialised { .. } => Some("run `relay-backup init` once on this host".into()),
            Self::OtherNode { .. } => Some("set `node` or `state_dir` in the policy to what they were".into()),
            Self::State { .. } => Some(
                "put the file back from a copy, or move the state folder aside and run `relay-backup init`: old \
                 snapshots stay readable, new ones begin a new epoch"
                    .into(),
            ),
            Self::NoVault { .. } => Some(
                "mount the disk that holds the vault, or mend its url (in the policy, or after --vault); only where \
                     there never was one does `relay-backup init` belong, which makes a new and empty vault"
                    .into(),
            ),
            Self::NoVaultAnswers { hint, .. } | Self::Unread { hint, .. } => hint.clone(),
            Self::NoIdentity { .. } => {
                Some("give --identity FILE, or set RELAY_BACKUP_IDENTITY_FILE to the file's path".into())
            }
            Self::Forged { .. } => Some(
                "somebody else can write to this vault, or the signing key is missing from [[keys.trusted]]; do not \
                 restore from this snapshot before you know which"
                    .into(),
            ),
            Self::Damaged { .. } => Some("`relay-backup verify --snapshot all` names what still restores".into()),
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::Guards(refused) => refused.hint(),
            Self::Step { source, .. } => Some(match source.hint() {
                _ if source.is_interruption() => format!("{AGAIN}: it goes on where it was"),
                Some(hint) if hint.ends_with(AGAIN) => format!("{hint}: it goes on where it was"),
                Some(hint) => format!("{hint}; then {AGAIN}: it goes on where it was"),
                None => format!("{AGAIN}: it goes on where it was"),
            }),
            Self::DoesNotHold { .. } => Some(
                "do not start anything on what was restored; look at it, then run the same command again, which checks \
                 everything once more"
                    .into(),
            ),
            Self::NotConfirmed { .. } => Some("run the same command again when it is so, and answer yes".into()),
            Self::Target(error) => error.hint(),
            Self::Fence(error) => error.hint(),
            Self::Tree(error) => error.hint(),
            Self::Unit(error) => error.hint(),
            Self::Restore(error) => error.hint(),
            Self::Postgres(error) => error.hint(),
            Self::Scenario(error) => error.hint(),
            Self::Departed { .. } => Some(
                "nothing is backed up here any more, because a newer snapshot would bar the way of the final one; \
                    if the run \
                 that made it was cut off, finish it with `relay-backup backup --final`; if the node is to stay here, \
                 `relay-backup undo-final`"
                    .into(),
            ),
            Self::Restoring { wallet } => Some(format!(
                "finish the restore first: {} says which command to run again",
                wallet.display()
            )),
            Self::Claim(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Output { to, source } => fsio::room_hint(source, to),
            Self::Locked(error) => error.hint(),
            Self::Vault(error) => error.hint(),
            Self::Seal(error) => error.hint(),
            Self::Cluster(error) => error.hint(),
            Self::Source { source, .. } => source.hint(),
            Self::Manifest { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// An error with its causes in one line: `what: why: because`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}
