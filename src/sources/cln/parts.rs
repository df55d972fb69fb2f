//! The parts of a node as they are read: its secret, its wallet, its `emergency.recover`, and what each says of the
//! others. What is wrong with one is a finding, so that the others are still backed up.

use super::error::ClnError;
use super::hsm_secret::{self, HsmSecret};
use super::{Cln, config, emergency, exposure, failed, judge, wallet};
use crate::base::fsio::{self, FileError};
use crate::base::limits::EMERGENCY_BYTES_MAX;
use crate::base::secret::Secret;
use crate::facts::cln::{Attestation, EmergencyFacts, NodeState, WalletFacts};
use crate::facts::sqlite::LiveFile;
use crate::report::{Finding, Level};
use crate::sources::sqlite::{self, Copy, CopyOptions, SqliteError, live_file};
use crate::sources::{Sink, SourceError};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long a legitimate race may take: lightningd replaces `emergency.recover`, or the plugin lags the database.
const RACE_PAUSE: Duration = Duration::from_millis(700);

/// The live secret, valid or not.
pub(super) struct LiveSecret {
    /// Its bytes.
    pub(super) bytes: Secret,
    /// What they mean, where they are in a valid form.
    pub(super) parsed: Option<HsmSecret>,
    /// The file.
    pub(super) live: LiveFile,
}

/// How the live secret stands to the attested one.
pub(super) enum Standing {
    /// It is the attested one.
    Attested,
    /// None was attested, and nothing speaks against this one.
    First(Attestation),
    /// None was attested, and what could confirm this one was not read or does not fit: it is sealed under its
    /// name, and the next run judges anew.
    Doubtful,
    /// It is another one, or something speaks against it.
    Unattested,
}

/// The copied wallet and what it holds.
pub(super) struct LiveWallet {
    /// The copy.
    pub(super) copy: Copy,
    /// What it holds.
    pub(super) facts: WalletFacts,
}

/// The bytes of `emergency.recover` and what they hold.
pub(super) struct LiveEmergency {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// What they hold.
    pub(super) facts: EmergencyFacts,
}

/// Whether enough was seen to attest a secret: the wallet, and either the same node id in both or an
/// `emergency.recover` that does not refuse it. Without that, the first run of a broken host would make a wrong
/// secret the right one.
pub(super) fn speaks_for(
    secret: Option<&LiveSecret>,
    wallet: Option<&LiveWallet>,
    emergency: Option<&LiveEmergency>,
) -> bool {
    let Some(wallet) = wallet else { return false };
    let Some(secret) = secret.and_then(|secret| secret.parsed.as_ref()) else { return false };
    let is_same_node = wallet.facts.node.node_id.is_some() && wallet.facts.node.node_id == secret.node_id();
    let is_refused =
        secret.emergency_key().is_some() && emergency.is_some_and(|emergency| emergency.facts.contents.is_none());
    is_same_node || !is_refused
}

/// Copies a wallet and reads the copy.
pub(super) fn copy_wallet(database: &Path, options: CopyOptions<'_>) -> Result<LiveWallet, ClnError> {
    let look = |source| SqliteError::Look { path: database.to_owned(), source };
    let live = live_file(database).map_err(look)?;
    let copy = sqlite::copy(database, options)?;
    let node = wallet::node_state(copy.connection(), database)?;
    let content =
        sqlite::content(copy.connection(), options.interrupt).map_err(|error| SqliteError::read(database, error))?;
    let facts = WalletFacts { node, content, length: copy.length(), live, copy: copy.statistics().clone() };
    Ok(LiveWallet { copy, facts })
}

impl Cln<'_> {
    /// Reads the secret. `None` when there is none, which is then a finding.
    pub(super) fn live_secret(&self, sink: &mut dyn Sink) -> Result<Option<LiveSecret>, SourceError> {
        let path = self.network_folder().join("hsm_secret");
        let subject = self.subject("hsm_secret");
        let read = live_file(&path)
            .map_err(FileError::io("look at", &path))
            .and_then(|live| hsm_secret::read(&path).map(|bytes| (live, bytes)));
        let (live, bytes) = match read {
            Ok(read) => read,
            Err(error) if error.is_not_found() => {
                let message = format!("{} is missing", path.display());
                let hint = "do not start lightningd: without the file it makes a new one and becomes another node. \
                            Restore the secret from a snapshot first";
                sink.finding(Finding::new(Level::Failed, "hsm-secret-missing", subject, message).with_hint(hint));
                return Ok(None);
            }
            Err(error) => {
                let hint = error.hint();
                sink.finding(failed("hsm-secret-unreadable", &subject, &error, hint));
                return Ok(None);
            }
        };
        if let Some(finding) = exposure::of_secret(&subject, &path) {
            sink.finding(finding);
        }
        let parsed = match HsmSecret::parse(bytes.clone()) {
            Ok(secret) => Some(secret),
            Err(source) => {
                let error = ClnError::Secret { path, source };
                sink.finding(failed("hsm-secret-invalid", &subject, &error, error.hint()));
                None
            }
        };
        Ok(Some(LiveSecret { bytes, parsed, live }))
    }

    /// Copies and reads the wallet. `None` when that failed, which is then a finding.
    pub(super) fn live_wallet(&self, sink: &mut dyn Sink) -> Result<Option<LiveWallet>, SourceError> {
        let subject = self.subject("lightningd.sqlite3");
        match self.try_wallet() {
            Ok(wallet) => Ok(Some(wallet)),
            Err(error) => {
                self.check_interrupt()?;
                let is_missing = matches!(&error, ClnError::Sqlite(SqliteError::Look { source, .. })
                    if source.kind() == io::ErrorKind::NotFound);
                let code = if is_missing { "wallet-missing" } else { "wallet-not-copied" };
                sink.finding(failed(code, &subject, &error, error.hint()));
                Ok(None)
            }
        }
    }

    fn try_wallet(&self) -> Result<LiveWallet, ClnError> {
        let database = self.wallet_path();
        config::check_wallet(&database, self.lightning_dir, self.network, self.commands)?;
        copy_wallet(&database, self.copy_options())
    }

    /// Judges the live secret by what was attested and by what the wallet says.
    pub(super) fn judge_secret(
        &self,
        secret: Option<&LiveSecret>,
        wallet: Option<&WalletFacts>,
        sink: &mut dyn Sink,
    ) -> Result<Standing, SourceError> {
        let Some(secret) = secret else { return Ok(Standing::Unattested) };
        let subject = self.subject("hsm_secret");
        let node_id = secret.parsed.as_ref().and_then(HsmSecret::node_id);
        let wallet_id = wallet.and_then(|wallet| wallet.node.node_id.as_deref());
        let mut contradicted = false;
        if let (Some(ours), Some(theirs)) = (node_id.as_deref(), wallet_id)
            && ours != theirs
        {
            contradicted = true;
            sink.finding(judge::mismatch(&subject, ours, theirs));
        }
        match (self.attested, &secret.parsed) {
            (Some(attested), _) if attested.matches(secret.bytes.expose()) => Ok(Standing::Attested),
            (Some(attested), _) => {
                sink.finding(self.changed(attested, node_id.as_deref()));
                Ok(Standing::Unattested)
            }
            (None, Some(parsed)) if !contradicted => {
                let path = secret.live.path.clone();
                let made = parsed.attest(self.name).map_err(|source| ClnError::Random { path, source })?;
                Ok(Standing::First(made))
            }
            (None, _) => Ok(Standing::Unattested),
        }
    }

    fn changed(&self, attested: &Attestation, node_id: Option<&str>) -> Finding {
        let name = |id: Option<&str>| id.map_or_else(|| "an unknown node".to_owned(), |id| format!("node {id}"));
        let message = format!(
            "hsm_secret is not the attested one: it was of {} and is now of {}",
            name(attested.node_id.as_deref()),
            name(node_id)
        );
        let hint = format!(
            "if nobody meant this, restore the attested secret from a snapshot before lightningd starts again; if you \
             meant it, run: relay-backup attest {}. The new one is kept as {} meanwhile",
            self.name,
            self.subject("hsm_secret.unattested")
        );
        Finding::new(Level::Failed, "hsm-secret-changed", self.subject("hsm_secret"), message).with_hint(hint)
    }

    /// Reads `emergency.recover`, opens it where the secret allows, and holds it against the wallet. What looks wrong
    /// is looked at once more, with a new copy of the wallet, before it counts. `None` when there is nothing to back
    /// up.
    pub(super) fn live_emergency(
        &self,
        secret: Option<&LiveSecret>,
        wallet: &mut Option<LiveWallet>,
        sink: &mut dyn Sink,
    ) -> Result<Option<LiveEmergency>, SourceError> {
        let secret = secret.and_then(|secret| secret.parsed.as_ref());
        let state = wallet.as_ref().map(|wallet| &wallet.facts.node);
        let mut look = self.look_at_emergency(secret, state);
        if look.finding.as_ref().is_some_and(|finding| finding.level == Level::Failed) {
            std::thread::sleep(RACE_PAUSE);
            self.check_interrupt()?;
            // Either may have been read a moment before the other.
            let differs = |finding: &Finding| ["scb-incomplete", "wallet-behind"].contains(&finding.code.as_str());
            if look.finding.as_ref().is_some_and(differs)
                && let Ok(newer) = self.try_wallet()
            {
                // The same node a moment later; what was judged of it holds.
                *wallet = Some(newer);
            }
            look = self.look_at_emergency(secret, wallet.as_ref().map(|wallet| &wallet.facts.node));
        }
        if let Some(finding) = look.finding {
            sink.finding(finding);
        }
        Ok(look.emergency)
    }

    fn look_at_emergency(&self, secret: Option<&HsmSecret>, state: Option<&NodeState>) -> Look {
        let subject = self.subject("emergency.recover");
        let path = self.network_folder().join("emergency.recover");
        let read = live_file(&path)
            .map_err(FileError::io("look at", &path))
            .and_then(|live| fsio::read_regular(&path, EMERGENCY_BYTES_MAX).map(|bytes| (live, bytes)));
        let (live, bytes) = match read {
            Ok((live, bytes)) if !bytes.is_empty() => (live, bytes),
            Ok(_) => return Look::nothing("scb-empty", &subject, format!("{} is empty", path.display())),
            Err(error) if error.is_not_found() => {
                return Look::nothing("scb-missing", &subject, format!("{} is missing", path.display()));
            }
            Err(error) => {
                let hint = error.hint();
                let finding = Some(failed("scb-unreadable", &subject, &error, hint));
                return Look { emergency: None, finding };
            }
        };
        let key = secret.and_then(HsmSecret::emergency_key);
        let opened = key.map(|key| emergency::open(&bytes, &key)).transpose();
        let (contents, finding) = match opened {
            Ok(Some(contents)) => {
                let missing = state.map(|state| judge::missing_channels(state, &contents)).unwrap_or_default();
                let behind =
                    state.and_then(|state| judge::behind(&self.subject("lightningd.sqlite3"), state, &contents));
                let incomplete = || (!missing.is_empty()).then(|| judge::incomplete(&subject, &missing));
                let finding = behind.or_else(incomplete);
                (Some(contents), finding)
            }
            Ok(None) => (None, Some(not_opened(&subject, secret))),
            Err(error) => {
                let hint = "check that hsm_secret is the node's own, and lightningd's log for the plugin chanbackup";
                let message = format!("{} cannot be used: {error}", path.display());
                (None, Some(Finding::new(Level::Failed, "scb-undecryptable", &subject, message).with_hint(hint)))
            }
        };
        let facts = EmergencyFacts { length: bytes.len() as u64, contents, live };
        Look { emergency: Some(LiveEmergency { bytes, facts }), finding }
    }
}

/// One look at `emergency.recover`: what is to be backed up, and what is wrong with it.
struct Look {
    emergency: Option<LiveEmergency>,
    finding: Option<Finding>,
}

impl Look {
    fn nothing(code: &str, subject: &str, message: String) -> Self {
        let hint = "lightningd's plugin chanbackup writes the file at its first start and at every channel change: \
                    check that it runs, and lightningd's log";
        let finding = Some(Finding::new(Level::Failed, code, subject, message).with_hint(hint));
        Self { emergency: None, finding }
    }
}

fn not_opened(subject: &str, secret: Option<&HsmSecret>) -> Finding {
    let message = match secret {
        Some(secret) => format!(
            "emergency.recover was backed up without being opened: hsm_secret is {} and gives no key without it",
            secret.format().as_str()
        ),
        None => "emergency.recover was backed up without being opened: there is no valid hsm_secret".to_owned(),
    };
    Finding::new(Level::Note, "scb-not-opened", subject, message)
}
