//! Core Lightning: the secret, `emergency.recover`, the wallet database and the small files of one node, read while
//! lightningd runs and held against each other before they count.
//!
//! One part that fails does not keep the others from being backed up: it becomes a finding of level `Failed`. Nothing
//! here writes to the node's files, and a secret that is not the attested one never takes the attested one's name.

mod check;
mod config;
mod emergency;
mod error;
mod exposure;
mod extras;
mod hsm_secret;
mod judge;
mod parts;
mod settings;
#[cfg(test)]
mod tests;
mod version;
mod wallet;

pub use check::{check_emergency, check_extras, check_secret, check_wallet};
pub use config::{Mirror, mirror, pid_file_and_socket, pid_file_and_socket_by};
pub use emergency::EmergencyError;
pub use error::ClnError;
pub use hsm_secret::{HsmSecret, SecretError};
pub use version::newest_schema;
pub use wallet::first_block;

use crate::artifact::{ArtifactKind, ArtifactSpec, Codec, Toxicity};
use crate::base::ids::SourceName;
use crate::base::interrupt::Interrupt;
use crate::base::secret::Secret;
use crate::facts::Facts;
use crate::facts::cln::{Attestation, EmergencyContents, SecretFacts, WalletFacts};
use crate::report::{Finding, Level};
use crate::sources::sqlite::{CopyOptions, LockBudget, Scratch};
use crate::sources::{Body, Sink, SourceError};
use parts::{LiveSecret, Standing};
use std::error::Error;
use std::path::{Path, PathBuf};

/// One Core Lightning node to be backed up.
#[derive(Clone, Copy, Debug)]
pub struct Cln<'a> {
    /// The source's name: the first part of its artifacts' names.
    pub name: &'a SourceName,
    /// lightningd's base folder.
    pub lightning_dir: &'a Path,
    /// The network: the name of the folder in it.
    pub network: &'a str,
    /// Where lightningd's `wallet` option puts the database elsewhere.
    pub wallet: Option<&'a Path>,
    /// The command lines by which units of this host start lightningd, as far as they are known.
    pub commands: &'a [Vec<String>],
    /// What was attested for this source; `None` on the first run.
    pub attested: Option<&'a Attestation>,
    /// How long the wallet's lock may be held.
    pub budget: LockBudget,
    /// A folder of ours for the scratch copy of a large wallet.
    pub scratch_folder: &'a Path,
    /// Looked at between steps.
    pub interrupt: &'a Interrupt,
}

/// What a run leaves to be remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClnReport {
    /// A new attestation, made on the first run when nothing contradicted it.
    pub attestation: Option<Attestation>,
}

impl Cln<'_> {
    /// Reads the node's files and hands them to the sink. Whatever is wrong with one part is a finding; an error means
    /// that nothing sensible could be done, that the sink failed, or that somebody asked to stop.
    pub fn read(&self, sink: &mut dyn Sink) -> Result<ClnReport, SourceError> {
        let folder = self.network_folder();
        let is_folder = std::fs::metadata(&folder)
            .and_then(|meta| if meta.is_dir() { Ok(()) } else { Err(std::io::ErrorKind::NotADirectory.into()) });
        is_folder.map_err(|source| ClnError::Folder { path: folder, network: self.network.to_owned(), source })?;
        for finding in exposure::leavings(self.name.as_str(), &self.network_folder()) {
            sink.finding(finding);
        }
        let secret = self.live_secret(sink)?;
        let mut wallet = self.live_wallet(sink)?;
        if let Some(wallet) = &wallet {
            for finding in judge::wallet(&self.subject("lightningd.sqlite3"), &wallet.facts.node, self.network) {
                sink.finding(finding);
            }
        }
        let standing = self.judge_secret(secret.as_ref(), wallet.as_ref().map(|wallet| &wallet.facts), sink)?;
        let emergency = self.live_emergency(secret.as_ref(), &mut wallet, sink)?;

        let standing = match standing {
            Standing::First(made) if parts::speaks_for(secret.as_ref(), wallet.as_ref(), emergency.as_ref()) => {
                Standing::First(made)
            }
            Standing::First(_) => Standing::Doubtful,
            other => other,
        };
        let attestation = self.seal_secret(secret.as_ref(), standing, sink)?;
        if let Some(emergency) = emergency {
            let spec = self.spec("emergency.recover", ArtifactKind::EmergencyRecover, Codec::None)?;
            self.deliver(sink, spec, &mut |out| {
                out.write_all(&emergency.bytes).map_err(SourceError::Sink)?;
                Ok(Facts::EmergencyRecover(emergency.facts.clone()))
            })?;
        }
        if let Some(mut wallet) = wallet {
            let mut spec = self.spec("lightningd.sqlite3", ArtifactKind::ClnWallet, Codec::Zstd)?;
            spec.toxicity = Toxicity::Toxic;
            self.deliver(sink, spec, &mut |out| {
                wallet.copy.write_to(out)?;
                Ok(Facts::ClnWallet(Box::new(wallet.facts.clone())))
            })?;
        }
        self.seal_extras(sink)?;
        Ok(ClnReport { attestation })
    }

    fn seal_secret(
        &self,
        secret: Option<&LiveSecret>,
        standing: Standing,
        sink: &mut dyn Sink,
    ) -> Result<Option<Attestation>, SourceError> {
        let Some(secret) = secret.filter(|secret| !secret.bytes.is_empty()) else { return Ok(None) };
        let name = if matches!(standing, Standing::Unattested) { "hsm_secret.unattested" } else { "hsm_secret" };
        let facts = SecretFacts {
            format: secret.parsed.as_ref().map(HsmSecret::format),
            length: secret.bytes.len() as u64,
            node_id: secret.parsed.as_ref().and_then(HsmSecret::node_id),
            attested: matches!(standing, Standing::Attested | Standing::First(_)),
            live: secret.live.clone(),
        };
        let spec = self.spec(name, ArtifactKind::HsmSecret, Codec::None)?;
        let delivered = self.deliver(sink, spec, &mut |out| {
            out.write_all(secret.bytes.expose()).map_err(SourceError::Sink)?;
            Ok(Facts::HsmSecret(facts.clone()))
        })?;
        Ok(match standing {
            Standing::First(attestation) if delivered => Some(attestation),
            _ => None,
        })
    }

    fn seal_extras(&self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let files = match extras::list(self.lightning_dir, self.network) {
            Ok((files, others)) => {
                for path in others {
                    let path = self.lightning_dir.join(path).display().to_string();
                    let message = format!("{path} leads to what the owner of the link may not read, and is left out");
                    sink.finding(
                        Finding::new(Level::Degraded, "not-for-its-owner", path, message).with_hint(
                            "look who made the link and why; put the file itself there if the node needs it",
                        ),
                    );
                }
                if files.is_empty() {
                    return Ok(());
                }
                files
            }
            Err(error) => {
                sink.finding(failed("extras-not-read", &self.subject("extras.tar"), &error, error.hint()));
                return Ok(());
            }
        };
        let spec = self.spec("extras.tar", ArtifactKind::Tar, Codec::Gzip)?;
        self.deliver(sink, spec, &mut |out| extras::write(self.lightning_dir, &files, out).map(Facts::ClnExtras))?;
        Ok(())
    }

    /// Hands one artifact on. `false` when reading it failed, which is then a finding.
    fn deliver(&self, sink: &mut dyn Sink, spec: ArtifactSpec, body: Body<'_>) -> Result<bool, SourceError> {
        self.check_interrupt()?;
        let subject = spec.name.to_string();
        match sink.artifact(spec, body) {
            Ok(()) => Ok(true),
            Err(error @ SourceError::Sink(_)) => Err(error),
            Err(error) => {
                self.check_interrupt()?;
                sink.finding(failed("artifact-not-read", &subject, &error, error.hint()));
                Ok(false)
            }
        }
    }

    fn spec(&self, what: &str, kind: ArtifactKind, codec: Codec) -> Result<ArtifactSpec, SourceError> {
        let name = self.subject(what).parse().map_err(ClnError::Name)?;
        Ok(ArtifactSpec { name, kind, codec, toxicity: Toxicity::Harmless })
    }

    fn subject(&self, what: &str) -> String {
        format!("{}/{what}", self.name)
    }

    fn network_folder(&self) -> PathBuf {
        self.lightning_dir.join(self.network)
    }

    fn wallet_path(&self) -> PathBuf {
        self.wallet.map_or_else(|| self.network_folder().join("lightningd.sqlite3"), Path::to_owned)
    }

    fn copy_options(&self) -> CopyOptions<'_> {
        CopyOptions { scratch: Scratch::Folder(self.scratch_folder), budget: self.budget, interrupt: self.interrupt }
    }

    fn check_interrupt(&self) -> Result<(), ClnError> {
        if self.interrupt.is_set() { Err(ClnError::Interrupted) } else { Ok(()) }
    }
}

/// Reads the live secret and makes what later runs compare with; for `attest`, by which a person accepts a new one.
pub fn attest(name: &SourceName, lightning_dir: &Path, network: &str) -> Result<Attestation, ClnError> {
    let path = lightning_dir.join(network).join("hsm_secret");
    let bytes = hsm_secret::read(&path).map_err(ClnError::File)?;
    let secret = HsmSecret::parse(bytes).map_err(|source| ClnError::Secret { path: path.clone(), source })?;
    secret.attest(name).map_err(|source| ClnError::Random { path, source })
}

/// Whether the live secret is still the attested one; an error when it cannot be read.
pub fn is_attested(attested: &Attestation, lightning_dir: &Path, network: &str) -> Result<bool, ClnError> {
    let path = lightning_dir.join(network).join("hsm_secret");
    let bytes = hsm_secret::read(&path).map_err(ClnError::File)?;
    Ok(attested.matches(bytes.expose()))
}

/// What a wallet database holds, learned from a copy of it: for guards that must know what lies at a target.
pub fn probe_wallet(database: &Path, options: CopyOptions<'_>) -> Result<WalletFacts, ClnError> {
    parts::copy_wallet(database, options).map(|wallet| wallet.facts)
}

/// Opens an `emergency.recover` with the bytes of an `hsm_secret`; `Ok(None)` when that secret needs a passphrase.
pub fn open_emergency(file: &[u8], secret: &HsmSecret) -> Result<Option<EmergencyContents>, EmergencyError> {
    secret.emergency_key().map(|key| emergency::open(file, &key)).transpose()
}

/// Parses the bytes of an `hsm_secret`; they are wiped when the value is dropped.
pub fn parse_secret(bytes: Secret) -> Result<HsmSecret, SecretError> {
    HsmSecret::parse(bytes)
}

/// An error as a finding that makes the source count as failed, with all its causes.
fn failed(code: &str, subject: &str, error: &dyn Error, hint: Option<String>) -> Finding {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !message.ends_with(&text) {
            message = format!("{message}: {text}");
        }
        cause = next.source();
    }
    let finding = Finding::new(Level::Failed, code, subject, message);
    match hint {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    }
}
