//! LND: `channel.backup`, byte for byte, and the files that open the wallet and the API. Never `channel.db` or
//! `channel.sqlite`: an old copy of those can lose every channel, and a new one cannot be had without stopping the
//! node. Writes nothing and talks to no node.

use super::files::{FilesError, LockedBolt, Tree};
use super::sqlite::live_file;
use super::{Sink, SourceError};
use crate::artifact::{ArtifactKind, ArtifactSpec, Codec, Toxicity};
use crate::base::fsio::{self, FileError};
use crate::base::ids::{BadId, SourceName};
use crate::base::interrupt::Interrupt;
use crate::facts::Facts;
use crate::facts::lnd::ChannelBackupFacts;
use crate::facts::sqlite::LiveFile;
use crate::report::{Finding, Level};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A `channel.backup` without a channel: nonce (24), version (1), count (4) and tag (16); LND `chanbackup/multi.go`.
const EMPTY_BYTES: u64 = 45;
/// Largest `channel.backup` that is read, in bytes; a channel takes less than 2 KiB.
const BACKUP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How often a `channel.backup` that changes is read again.
const READS_MAX: usize = 5;
/// Pause before the second look; LND replaces the file by a rename, so that any reading is whole.
const PAUSE: Duration = Duration::from_millis(50);

/// Why an LND source failed.
#[derive(Debug, thiserror::Error)]
pub enum LndError {
    /// The artifact's name would not be valid.
    #[error("cannot name the artifact")]
    Name(#[source] BadId),
    /// There is no `channel.backup` in any of the places where LND keeps it.
    #[error("{} does not exist, nor {}", first.display(), second.display())]
    NoBackup {
        /// Below `data/`, LND's own place.
        first: PathBuf,
        /// Without `data/`, as nix-bitcoin sets it.
        second: PathBuf,
    },
    /// There are two.
    #[error("both {} and {} exist, and only one can be the node's", first.display(), second.display())]
    TwoBackups {
        /// The one below `data/`.
        first: PathBuf,
        /// The one without.
        second: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read LND's channel.backup")]
    Unreadable(#[source] FileError),
    /// It is shorter than one without channels.
    #[error("{} has {length} bytes; even one without a channel has 45", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// It changed each time it was read.
    #[error("{} changed each of {READS_MAX} times it was read", path.display())]
    KeptChanging {
        /// The file.
        path: PathBuf,
    },
}

impl LndError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name(_) => return None,
            Self::NoBackup { .. } => {
                "check lnd_dir and network; LND writes the file at its first start with a wallet, and \
                 its option backupfilepath may put it elsewhere"
                    .to_owned()
            }
            Self::TwoBackups { first, second } => {
                format!(
                    "look which one LND writes ({} or {}) and move the other away",
                    first.display(),
                    second.display()
                )
            }
            Self::Unreadable(error) => return error.hint(),
            Self::TooShort { path, .. } => format!(
                "the file is damaged: look at LND's log and `lncli verifychanbackup --multi_file {}`; earlier snapshots \
                 hold earlier ones",
                path.display()
            ),
            Self::KeptChanging { .. } => "look at LND's log, and run the backup again".to_owned(),
        })
    }
}

/// A source of kind `lnd`.
#[derive(Debug)]
pub struct Lnd<'a> {
    /// Its name.
    pub name: &'a SourceName,
    /// LND's `lnddir`.
    pub lnd_dir: &'a Path,
    /// The folder below `chain/bitcoin`.
    pub network: &'a str,
    /// Further files: absolute paths and globs, each of which must match something.
    pub paths: &'a [String],
    /// The wish to stop.
    pub interrupt: &'a Interrupt,
}

impl Lnd<'_> {
    /// Writes `<name>/channel.backup` and, where there is anything to put into it, `<name>/extras.tar`: TLS pair,
    /// `lnd.conf` and macaroons as far as they exist, and the policy's paths.
    pub fn read(&self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let chain = self.chain_folder()?;
        // Both are tried, so that one's failure does not cost the other.
        let backup = self.read_backup(&chain.join("channel.backup"), sink);
        let extras = self.read_extras(&chain, sink);
        backup.and(extras)
    }

    /// The folder that holds `channel.backup`: below `data/` unless LND's `datadir` is its `lnddir`.
    fn chain_folder(&self) -> Result<PathBuf, LndError> {
        let below = |folder: PathBuf| folder.join("chain/bitcoin").join(self.network);
        let (first, second) = (below(self.lnd_dir.join("data")), below(self.lnd_dir.to_owned()));
        let exists = |folder: &Path| match fs::symlink_metadata(folder.join("channel.backup")) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(LndError::Unreadable(FileError::io("look at", &folder.join("channel.backup"))(error))),
        };
        match (exists(&first)?, exists(&second)?) {
            (true, false) => Ok(first),
            (false, true) => Ok(second),
            (found, _) => {
                let (first, second) = (first.join("channel.backup"), second.join("channel.backup"));
                Err(if found { LndError::TwoBackups { first, second } } else { LndError::NoBackup { first, second } })
            }
        }
    }

    fn read_backup(&self, path: &Path, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let (bytes, live) = self.stable(path)?;
        let length = bytes.len() as u64;
        if length < EMPTY_BYTES {
            return Err(LndError::TooShort { path: path.to_owned(), length }.into());
        }
        let spec = ArtifactSpec {
            name: format!("{}/channel.backup", self.name).parse().map_err(LndError::Name)?,
            kind: ArtifactKind::LndChannelBackup,
            codec: Codec::None,
            toxicity: Toxicity::Harmless,
        };
        let shown = path.display().to_string();
        let is_empty = length == EMPTY_BYTES;
        sink.artifact(spec, &mut |out| {
            out.write_all(&bytes).map_err(SourceError::Sink)?;
            Ok(Facts::LndChannelBackup(ChannelBackupFacts { length, is_empty, live: live.clone() }))
        })?;
        if is_empty {
            let message = format!("{shown} holds no channel");
            sink.finding(Finding::new(Level::Note, "channel-backup-empty", shown, message));
        }
        Ok(())
    }

    /// The file's bytes, the same in two readings one after the other.
    fn stable(&self, path: &Path) -> Result<(Vec<u8>, LiveFile), SourceError> {
        let read = || -> Result<(Vec<u8>, LiveFile), LndError> {
            let live = live_file(path).map_err(FileError::io("look at", path)).map_err(LndError::Unreadable)?;
            let bytes = fsio::read_regular(path, BACKUP_BYTES_MAX).map_err(LndError::Unreadable)?;
            Ok((bytes, live))
        };
        let mut last = read()?;
        for _ in 0..READS_MAX {
            self.interrupt.check().map_err(SourceError::Sink)?;
            thread::sleep(PAUSE);
            let next = read()?;
            if next == last {
                return Ok(next);
            }
            last = next;
        }
        Err(LndError::KeptChanging { path: path.to_owned() }.into())
    }

    fn read_extras(&self, chain: &Path, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let mut paths = self.paths.to_vec();
        let mut add = |path: PathBuf| {
            let text = glob::Pattern::escape(&path.to_string_lossy());
            if fs::symlink_metadata(&path).is_ok() && !paths.contains(&text) {
                paths.push(text);
            }
        };
        for name in ["tls.cert", "tls.key", "lnd.conf"] {
            add(self.lnd_dir.join(name));
        }
        for name in macaroons(chain).map_err(FileError::io("list", chain)).map_err(LndError::Unreadable)? {
            add(name);
        }
        if paths.is_empty() {
            let message = "no TLS pair, macaroon or lnd.conf was found, and the policy names no further file";
            sink.finding(
                Finding::new(Level::Note, "lnd-no-extras", self.name.as_str(), message)
                    .with_hint("name seed and wallet password by paths, or make sure that they are kept elsewhere"),
            );
            return Ok(());
        }
        Tree {
            artifact: format!("{}/extras.tar", self.name).parse().map_err(FilesError::Name)?,
            paths: &paths,
            exclude: &[],
            codec: Codec::Gzip,
            locked_bolt: LockedBolt::TakeIfStable,
            interrupt: self.interrupt,
        }
        .read(sink)
    }
}

/// The macaroon files in a folder.
fn macaroons(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "macaroon") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::flock::Locked;
    use crate::sources::files::tests::{Collected, bolt_file, listed};

    fn node() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let chain = folder.path().join("data/chain/bitcoin/mainnet");
        fs::create_dir_all(&chain).unwrap();
        fs::write(chain.join("channel.backup"), [7; 300]).unwrap();
        (folder, chain)
    }

    fn read(folder: &Path, paths: &[String]) -> (Collected, Result<(), SourceError>) {
        let mut sink = Collected::default();
        let lnd = Lnd {
            name: &"lnd".parse().unwrap(),
            lnd_dir: folder,
            network: "mainnet",
            paths,
            interrupt: &Interrupt::new(),
        };
        let result = lnd.read(&mut sink);
        (sink, result)
    }

    #[test]
    fn the_backup_and_what_opens_the_wallet_are_taken() {
        let (folder, chain) = node();
        fs::write(folder.path().join("tls.cert"), "cert").unwrap();
        fs::write(chain.join("admin.macaroon"), "macaroon").unwrap();
        fs::write(folder.path().join("seed"), "words").unwrap();
        fs::create_dir_all(folder.path().join("data/graph/mainnet")).unwrap();
        bolt_file(&folder.path().join("data/graph/mainnet/channel.db"), &["open-chan-bucket"]);
        let seed = folder.path().join("seed").display().to_string();
        let (sink, result) = read(folder.path(), &[seed]);
        result.unwrap();
        let (bytes, facts) = sink.get("lnd/channel.backup");
        assert_eq!(bytes, [7; 300]);
        assert!(matches!(facts, Facts::LndChannelBackup(facts) if facts.length == 300 && !facts.is_empty));
        let names = listed(&sink.get("lnd/extras.tar").0);
        let ends: Vec<_> = names.iter().map(|name| name.rsplit('/').next().unwrap()).collect();
        assert_eq!(ends, ["admin.macaroon", "seed", "tls.cert"]);
        assert_eq!(sink.artifacts.len(), 2);
    }

    #[test]
    fn nix_bitcoins_place_is_known_and_two_places_are_refused() {
        let (folder, chain) = node();
        let other = folder.path().join("chain/bitcoin/mainnet");
        fs::create_dir_all(&other).unwrap();
        fs::copy(chain.join("channel.backup"), other.join("channel.backup")).unwrap();
        let (_, result) = read(folder.path(), &[]);
        assert!(matches!(result, Err(SourceError::Lnd(LndError::TwoBackups { .. }))));
        fs::remove_file(chain.join("channel.backup")).unwrap();
        let (sink, result) = read(folder.path(), &[]);
        result.unwrap();
        assert_eq!(sink.codes(), ["lnd-no-extras"]);
    }

    #[test]
    fn a_missing_or_short_backup_fails_and_the_extras_are_still_taken() {
        let (folder, chain) = node();
        fs::write(folder.path().join("tls.cert"), "cert").unwrap();
        fs::write(chain.join("channel.backup"), "").unwrap();
        let (sink, result) = read(folder.path(), &[]);
        assert!(matches!(result, Err(SourceError::Lnd(LndError::TooShort { length: 0, .. }))));
        assert_eq!(sink.artifacts.len(), 1);
        fs::write(chain.join("channel.backup"), [0; 45]).unwrap();
        let (sink, result) = read(folder.path(), &[]);
        result.unwrap();
        assert_eq!(sink.codes(), ["channel-backup-empty"]);
        fs::remove_file(chain.join("channel.backup")).unwrap();
        let (_, result) = read(folder.path(), &[]);
        let error = result.unwrap_err();
        assert!(matches!(error, SourceError::Lnd(LndError::NoBackup { .. })));
        assert!(error.hint().unwrap().contains("lnd_dir"));
    }

    #[test]
    fn a_channel_database_is_never_taken_but_an_open_wallet_is() {
        let (folder, chain) = node();
        let (wallet, channels) = (chain.join("wallet.db"), chain.join("innocent"));
        bolt_file(&wallet, &["waddrmgr", "wtxmgr"]);
        let open = fs::File::open(&wallet).unwrap();
        let _lnd = Locked::alone_at_last(open).unwrap();
        let (sink, result) = read(folder.path(), &[wallet.display().to_string()]);
        result.unwrap();
        assert_eq!(listed(&sink.get("lnd/extras.tar").0).len(), 1);
        bolt_file(&channels, &["open-chan-bucket", "closed-chan-bucket"]);
        let (sink, result) = read(folder.path(), &[channels.display().to_string()]);
        assert!(result.unwrap_err().to_string().contains("LND's channel database"));
        assert_eq!(sink.codes(), ["toxic-database"]);
        assert!(!sink.artifacts.contains_key("lnd/extras.tar"));
    }
}
