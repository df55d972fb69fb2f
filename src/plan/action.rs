//! The actions of a plan: a closed set, each with everything it touches.

use super::{Answer, Burn, Condition, LightningPlace, Owner, ServerUrl, Swap, Together, UnitChange, UnitRole};
use crate::artifact::ArtifactKind;
use crate::base::ids::{ArtifactName, SnapshotId};
use crate::scenario::{Assertion, Inspection};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Opens every segment of the snapshot before anything is taken from it.
    VerifySnapshot {
        /// Which.
        #[schemars(with = "String")]
        snapshot: SnapshotId,
    },
    /// Takes the pid file's lock and lets a text file stand at the place of the channel database.
    RaiseFence {
        /// The node.
        lightning: LightningPlace,
    },
    /// Removes the text file and gives the lock back.
    LowerFence {
        /// The node.
        lightning: LightningPlace,
    },
    /// Puts one file in its place.
    PlaceFile {
        /// What is placed.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// What it holds.
        kind: ArtifactKind,
        /// Where.
        to: PathBuf,
        /// Whose it will be.
        owner: Owner,
        /// Permission bits.
        #[serde(serialize_with = "octal")]
        #[schemars(with = "String")]
        mode: u32,
        /// Length in bytes.
        length: u64,
    },
    /// Unpacks a tar, with the owners and modes it names.
    PlaceTree {
        /// What is unpacked.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// The folder its paths begin at.
        below: PathBuf,
        /// Length in bytes.
        length: u64,
    },
    /// Puts a channel database where a node starts on it. Only a planned migration does.
    PlaceChannelDatabase {
        /// What is placed.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// Where.
        to: PathBuf,
        /// Whose it will be.
        owner: Owner,
        /// Permission bits.
        #[serde(serialize_with = "octal")]
        #[schemars(with = "String")]
        mode: u32,
        /// Length in bytes.
        length: u64,
        /// The final snapshot that is claimed for it.
        #[schemars(with = "String")]
        claim: SnapshotId,
    },
    /// Puts a toxic artifact where nothing starts on it, with a text beside it that says why.
    Quarantine {
        /// What is put there.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// Where; its name holds `TOXIC`.
        to: PathBuf,
        /// Length in bytes.
        length: u64,
    },
    /// Moves what lies at the target aside; never deletes.
    MoveAside {
        /// What is moved where it is there, in this order.
        paths: Vec<PathBuf>,
        /// What the paths are to each other.
        together: Together,
    },
    /// Makes the roles that the databases need.
    RestoreRoles {
        /// Where they are listed.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// The server.
        server: ServerUrl,
    },
    /// Restores a database into a fresh one and proves it row for row.
    RestoreDatabase {
        /// The dump.
        #[schemars(with = "String")]
        artifact: ArtifactName,
        /// The server.
        server: ServerUrl,
        /// The name under which it will be used.
        database: String,
        /// The role that will own everything in it.
        owner_role: String,
        /// Length of the dump in bytes.
        length: u64,
        /// What becomes of a database of that name.
        swap: Swap,
    },
    /// Puts a restored and proved database into service under its name.
    SwapDatabase {
        /// The server.
        server: ServerUrl,
        /// Its name.
        database: String,
        /// What becomes of the one that has the name.
        swap: Swap,
        /// Whether a person is asked for this one.
        answer: Answer,
    },
    /// Stops or starts a unit.
    Unit {
        /// Its full name.
        unit: String,
        /// What runs in it.
        role: UnitRole,
        /// What is done.
        change: UnitChange,
    },
    /// Runs a command of the operator's, without a shell.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Waits until something holds.
    Wait {
        /// What must hold.
        #[serde(rename = "for")]
        for_: Condition,
        /// How long at most, in seconds.
        #[serde(rename = "at_most_s", serialize_with = "whole_seconds")]
        #[schemars(with = "u64")]
        at_most: Duration,
    },
    /// Tells a person to do something.
    Tell {
        /// What they read.
        text: String,
        /// What they answer.
        answer: Answer,
    },
    /// Makes what was stolen useless, in one transaction.
    Burn {
        /// The server.
        server: ServerUrl,
        /// The database.
        database: String,
        /// What is burnt.
        what: Burn,
    },
    /// Looks, and adds what it finds to the follow-up list.
    Inspect {
        /// At what.
        what: Inspection,
    },
    /// Fails unless something holds.
    Assert {
        /// What must hold.
        what: Assertion,
    },
}

/// The thing that an action changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch<'a> {
    /// A file or a folder.
    Path(&'a Path),
    /// A PostgreSQL server's roles.
    Server(&'a ServerUrl),
    /// A database.
    Database(&'a ServerUrl, &'a str),
    /// A systemd unit.
    Unit(&'a str),
}

impl Action {
    /// What it changes.
    pub fn touches(&self) -> Vec<Touch<'_>> {
        match self {
            Self::RaiseFence { lightning } | Self::LowerFence { lightning } => {
                vec![Touch::Path(&lightning.wallet), Touch::Path(&lightning.pid_file)]
            }
            Self::PlaceFile { to, .. } | Self::PlaceChannelDatabase { to, .. } | Self::Quarantine { to, .. } => {
                vec![Touch::Path(to)]
            }
            Self::PlaceTree { below, .. } => vec![Touch::Path(below)],
            Self::MoveAside { paths, .. } => paths.iter().map(|path| Touch::Path(path)).collect(),
            Self::RestoreRoles { server, .. } => vec![Touch::Server(server)],
            Self::RestoreDatabase { server, database, swap, .. }
            | Self::SwapDatabase { server, database, swap, .. } => match swap {
                Swap::IntoEmpty => vec![Touch::Database(server, database)],
                Swap::KeepOld { aside } => vec![Touch::Database(server, database), Touch::Database(server, aside)],
            },
            Self::Burn { server, database, .. } => vec![Touch::Database(server, database)],
            Self::Unit { unit, .. } => vec![Touch::Unit(unit)],
            Self::VerifySnapshot { .. }
            | Self::Run { .. }
            | Self::Wait { .. }
            | Self::Tell { .. }
            | Self::Inspect { .. }
            | Self::Assert { .. } => Vec::new(),
        }
    }

    /// The artifact it takes from the snapshot.
    pub fn artifact(&self) -> Option<&ArtifactName> {
        match self {
            Self::PlaceFile { artifact, .. }
            | Self::PlaceTree { artifact, .. }
            | Self::PlaceChannelDatabase { artifact, .. }
            | Self::Quarantine { artifact, .. }
            | Self::RestoreRoles { artifact, .. }
            | Self::RestoreDatabase { artifact, .. } => Some(artifact),
            _ => None,
        }
    }

    /// Bytes that it writes.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::PlaceFile { length, .. }
            | Self::PlaceTree { length, .. }
            | Self::PlaceChannelDatabase { length, .. }
            | Self::Quarantine { length, .. }
            | Self::RestoreDatabase { length, .. } => Some(*length),
            _ => None,
        }
    }

    /// Whether it starts the unit of this name.
    pub fn starts(&self, name: &str) -> bool {
        matches!(self, Self::Unit { unit, change: UnitChange::Start, .. } if unit == name)
    }

    /// Whether it starts a unit in which this runs.
    pub fn starts_role(&self, wanted: UnitRole) -> bool {
        matches!(self, Self::Unit { role, change: UnitChange::Start, .. } if *role == wanted)
    }
}

fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn whole_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}
