//! One artifact's plaintext, to a file or a pipe. A toxic one only into quarantine: a file with `TOXIC` in its name,
//! mode 0400, outside any lightning directory, with a text beside it that says why and what to do.

mod look;

use super::opening::Opener;
use super::reading::{Reader, Wanted, open_snapshot};
use super::{Context, Error};
use crate::artifact::channels::FILE_NAMES;
use crate::artifact::{ArtifactKind, Toxicity};
use crate::base::fsio::{self, FileError, folder_of};
use crate::base::ids::ArtifactName;
use crate::facts;
use crate::manifest::Artifact;
use crate::report::Finding;
use crate::seal::identity::Identities;
use look::{Dump, Gate, Shut};
use schemars::JsonSchema;
use serde::Serialize;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where an artifact goes.
pub enum To<'a> {
    /// A file, which must not exist.
    File(&'a Path),
    /// A pipe.
    Pipe(&'a mut dyn Write),
}

/// What `extract` did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExtractReport {
    /// The snapshot.
    pub snapshot: String,
    /// The artifact.
    pub artifact: String,
    /// Whether a guard must clear it before a node may start on it.
    pub toxic: bool,
    /// Its length in bytes.
    pub length: u64,
    /// The file it was written to; none for a pipe.
    pub file: Option<String>,
    /// What was found on the way: a vault that did not answer may hold a newer snapshot.
    pub findings: Vec<Finding>,
}

/// Files whose presence tells a node's directory, beside the databases of channels themselves.
const LIGHTNING_SIGNS: [&str; 10] = [
    "hsm_secret",
    "emergency.recover",
    "lightning-rpc",
    "gossip_store",
    "channel.backup",
    "lnd.conf",
    "eclair.conf",
    "phoenix.conf",
    "keys_seed",
    "monitors",
];

/// Gives one artifact's plaintext.
pub fn extract(
    context: &Context<'_>,
    reader: &Reader,
    wanted: &Wanted,
    name: &ArtifactName,
    identities: &Identities,
    to: To<'_>,
) -> Result<ExtractReport, Error> {
    let (believed, places) = reader.find(wanted)?;
    let manifest = &believed.manifest;
    let artifact = manifest.artifact(name).ok_or_else(|| Error::NoArtifact {
        snapshot: manifest.snapshot.clone(),
        name: name.clone(),
        known: manifest.artifacts.iter().map(|artifact| artifact.name.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    let why = format!("{name} is toxic");
    if artifact.toxic {
        refuse_toxic(&to, name, &why)?;
    }
    let opened = open_snapshot(&places, &reader.node, manifest, identities)?;
    let known = facts::toxicity(artifact.kind, artifact.toxic, opened.notes.facts(name));
    let is_known = known == Some(Toxicity::Toxic);
    if is_known {
        refuse_toxic(&to, name, &why)?;
    }
    let opener = Opener { context, places: &places, node: &reader.node, opened: &opened };
    let (file, toxic) = match to {
        To::Pipe(pipe) => {
            to_pipe(&opener, artifact, pipe)?;
            (None, false)
        }
        To::File(path) => {
            let toxic = to_file(&opener, artifact, path, is_known)?;
            if toxic {
                write_warning(path, manifest.snapshot.as_str(), name)?;
            }
            (Some(path.display().to_string()), toxic)
        }
    };
    Ok(ExtractReport {
        snapshot: manifest.snapshot.to_string(),
        artifact: name.to_string(),
        toxic,
        length: artifact.length,
        file,
        findings: reader.findings.clone(),
    })
}

/// What is held back and may not go stays in memory, and nothing of it is written.
fn to_pipe(opener: &Opener<'_>, artifact: &Artifact, pipe: &mut dyn Write) -> Result<(), Error> {
    let name = &artifact.name;
    let mut gate = Gate::new(pipe);
    let mut shut = None;
    let mut take = |bytes: &[u8]| match gate.push(bytes) {
        Ok(()) => Ok(()),
        Err(Shut::Io(error)) => Err(error),
        Err(other) => {
            shut = Some(other);
            Err(std::io::Error::other("it is held back"))
        }
    };
    let opened = opener.artifact(artifact, &mut take, "the pipe");
    let outcome = match (shut, opened) {
        (Some(shut), _) => Err(shut),
        (None, opened) => opened.map(|()| gate.finish())?,
    };
    outcome.map_err(|shut| match shut {
        Shut::Toxic(what) => refusal(name, format!("{name} holds {what}, and a pipe could end anywhere")),
        Shut::TooLarge => Error::Refused {
            guard: "stale",
            reason: format!("{name} is too large to be looked at as a whole before it goes into a pipe"),
            hint: "extract it to a file, which is looked at there".into(),
        },
        Shut::Io(source) => Error::Output { to: "the pipe".into(), source },
    })
}

/// Writes the file, of mode 0400 for a secret and for what is toxic; gives whether it is that.
fn to_file(opener: &Opener<'_>, artifact: &Artifact, path: &Path, is_known: bool) -> Result<bool, Error> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::Refused {
            guard: "rollback",
            reason: format!("{} exists already", path.display()),
            hint: "name another file; nothing is ever overwritten".into(),
        });
    }
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".relay-backup-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(FileError::io("create a file in", folder))?;
    let mut dump = Dump::new();
    let mut take = |bytes: &[u8]| {
        dump.push(bytes);
        file.write_all(bytes)
    };
    opener.artifact(artifact, &mut take, &path.display().to_string())?;
    let found = look::judge(file.as_file(), &dump);
    if let Some(what) = &found {
        refuse_toxic(&To::File(path), &artifact.name, &format!("{} holds {what}", artifact.name))?;
    }
    let is_toxic = is_known || found.is_some();
    let mode = if is_toxic || artifact.kind == ArtifactKind::HsmSecret { 0o400 } else { 0o600 };
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(FileError::io("set the mode of", path))?;
    file.as_file().sync_all().map_err(FileError::io("sync", path))?;
    file.persist_noclobber(path).map_err(|error| FileError::io("create", path)(error.error))?;
    fsio::sync_folder_of(path)?;
    Ok(is_toxic)
}

fn refusal(name: &ArtifactName, reason: String) -> Error {
    Error::Refused {
        guard: "stale",
        reason,
        hint: format!(
            "an old channel database can lose every channel when a node starts on it; to look at it, extract {name} to a \
             file with TOXIC in its name, outside any lightning directory; to get funds back, use emergency.recover"
        ),
    }
}

fn refuse_toxic(to: &To<'_>, name: &ArtifactName, why: &str) -> Result<(), Error> {
    let To::File(path) = to else { return Err(refusal(name, format!("{why} and a pipe could end anywhere"))) };
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    if !file_name.contains("TOXIC") {
        return Err(refusal(name, format!("{why} and {} does not say TOXIC in its name", path.display())));
    }
    if let Some(folder) = lightning_folder(path) {
        return Err(refusal(name, format!("{why} and {} looks like a lightning directory", folder.display())));
    }
    Ok(())
}

/// How many folders above a file are looked at: a lightning directory, its network's folder, and one inside it.
const FOLDERS_LOOKED_AT: usize = 3;

/// The folder above `path` that a node would use.
fn lightning_folder(path: &Path) -> Option<PathBuf> {
    let folder = std::fs::canonicalize(folder_of(path)).unwrap_or_else(|_| folder_of(path).to_owned());
    let is_lightning = |folder: &Path| {
        let signs = LIGHTNING_SIGNS.iter().chain(&FILE_NAMES).any(|sign| folder.join(sign).symlink_metadata().is_ok());
        let network = ["bitcoin", "testnet", "testnet4", "signet", "regtest"];
        signs || network.iter().any(|name| folder.join(name).join("hsm_secret").symlink_metadata().is_ok())
    };
    folder.ancestors().take(FOLDERS_LOOKED_AT).find(|folder| is_lightning(folder)).map(Path::to_owned)
}

fn write_warning(path: &Path, snapshot: &str, name: &ArtifactName) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".README.txt");
    fsio::write_durably(Path::new(&beside), toxic_warning(path, snapshot, name).as_bytes(), 0o444)?;
    Ok(())
}

/// The text that lies beside a toxic artifact: why it is so, and what to do instead.
pub(super) fn toxic_warning(path: &Path, snapshot: &str, name: &ArtifactName) -> String {
    format!(
        "{} is {name} of snapshot {snapshot}: an old copy of a node's channel database.\n\n\
         NEVER start lightningd or lnd on it. Every payment since it was copied made it out of date, and a node that\n\
         starts on out-of-date channels can lose all the money in them: the other side may take everything.\n\n\
         To get the funds of the channels back, start a node with an EMPTY database, the original hsm_secret and the\n\
         newest emergency.recover, and run `lightning-cli emergencyrecover`; then wait for the peers to close.\n\n\
         What this file is good for: reading it with sqlite3, to see peers, channels and invoices.\n",
        path.display()
    )
}
