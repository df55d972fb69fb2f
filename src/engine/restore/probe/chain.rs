//! What bitcoind says of the chain: which one, how high, and which blocks it still has. It is asked through
//! `bitcoin-cli`, because where it listens and how to speak to it is in bitcoind's own configuration.

use super::World;
use crate::base::exec::{self, Exec, ExecError};
use crate::engine::error::chain;
use crate::guard::facts::{Known, PruneWindow};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where nix-bitcoin and most packages keep bitcoind's files, with its configuration in them.
const FOLDER: &str = "/var/lib/bitcoind";
/// Where programs are on NixOS when `PATH` does not say.
const PROGRAMS: &str = "/run/current-system/sw/bin";
/// How long bitcoind may take to answer, in seconds.
const WAIT: &str = "-rpcclienttimeout=30";

/// What is known of bitcoind.
pub(super) enum Bitcoind {
    /// It is not at the target, or the target is not this machine.
    NotHere,
    /// It answered.
    Answers(Chain),
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its chain, by lightningd's name.
    pub(super) network: String,
    /// The hash of the chain's first block.
    pub(super) genesis: String,
    /// The height of the newest block it knows of.
    pub(super) height: u64,
    /// Whether it is still catching up, so that the height says nothing.
    pub(super) is_syncing: bool,
    /// The blocks that it has; `None` where it does not say.
    pub(super) prune: Option<PruneWindow>,
}

/// Why nothing could be learned.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChainError {
    /// The program failed: bitcoind does not run, or may not be asked.
    #[error("bitcoind does not answer")]
    Program(#[from] ExecError),
    /// The answer is not understood.
    #[error("bitcoind's answer to {asked} is not understood")]
    Answer {
        /// What was asked.
        asked: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A chain that lightningd has no name for.
    #[error("bitcoind is on a chain named {name:?}, which lightningd does not know")]
    Unknown {
        /// bitcoind's name of it.
        name: String,
    },
}

#[derive(Deserialize)]
struct Info {
    chain: String,
    blocks: u64,
    headers: u64,
    #[serde(rename = "initialblockdownload")]
    is_syncing: bool,
    pruned: bool,
    pruneheight: Option<u64>,
}

/// Asks bitcoind where it is of this machine.
pub(super) fn look(world: &World<'_>) -> Known<Bitcoind> {
    if world.is_below {
        return Known::Is(Bitcoind::NotHere);
    }
    match exec::find("bitcoin-cli", &[PathBuf::from(PROGRAMS)]) {
        Err(_) => Known::Is(Bitcoind::NotHere),
        Ok(program) => match ask(&program, Path::new(FOLDER)) {
            Ok(chain) => Known::Is(Bitcoind::Answers(chain)),
            Err(error) => Known::Unknown(chain(&error)),
        },
    }
}

/// Asks through this program; the folder is told where it is there.
fn ask(program: &Path, folder: &Path) -> Result<Chain, ChainError> {
    let run = |arguments: &[&str]| {
        let mut command = Exec::new(program).arg(WAIT);
        if folder.join("bitcoin.conf").exists() {
            command = command.arg(format!("-datadir={}", folder.display()));
        }
        command.args(arguments).run(b"")
    };
    let info: Info = serde_json::from_slice(&run(&["getblockchaininfo"])?)
        .map_err(|source| ChainError::Answer { asked: "getblockchaininfo", source })?;
    let genesis = String::from_utf8_lossy(&run(&["getblockhash", "0"])?).trim().to_owned();
    let network = match info.chain.as_str() {
        "main" => "bitcoin",
        "test" => "testnet",
        name @ ("testnet4" | "signet" | "regtest") => name,
        _ => return Err(ChainError::Unknown { name: info.chain }),
    };
    let prune = match (info.pruned, info.pruneheight) {
        (false, _) => Some(PruneWindow::Whole),
        (true, lowest) => lowest.map(PruneWindow::From),
    };
    Ok(Chain {
        network: network.to_owned(),
        genesis,
        // Blocks that are still fetched are there already: what is due, is due by them.
        height: info.blocks.max(info.headers),
        is_syncing: info.is_syncing,
        prune,
    })
}

/// The chain's height now.
pub(super) fn height(bitcoind: &Known<Bitcoind>) -> Known<u64> {
    match bitcoind {
        Known::Unknown(why) => Known::Unknown(why.clone()),
        Known::Is(Bitcoind::NotHere) => Known::Unknown("there is no bitcoind to ask".to_owned()),
        Known::Is(Bitcoind::Answers(chain)) if chain.is_syncing => {
            Known::Unknown("bitcoind is still catching up".to_owned())
        }
        Known::Is(Bitcoind::Answers(chain)) => Known::Is(chain.height),
    }
}

/// The blocks that bitcoind still has.
pub(super) fn prune_window(bitcoind: &Known<Bitcoind>) -> Known<PruneWindow> {
    match bitcoind {
        Known::Unknown(why) => Known::Unknown(why.clone()),
        Known::Is(Bitcoind::NotHere) => Known::Is(PruneWindow::NotHere),
        Known::Is(Bitcoind::Answers(chain)) => match &chain.prune {
            Some(window) => Known::Is(window.clone()),
            None => Known::Unknown("bitcoind prunes and does not say from which block on".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const GENESIS: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";

    /// A `bitcoin-cli` that gives this answer, and fails unless it is told the folder.
    fn fake(info: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bitcoin.conf"), "").unwrap();
        let program = folder.path().join("bitcoin-cli");
        let script = format!(
            "#!/bin/sh\ntest \"$2\" = \"-datadir={}\" || {{ echo 'could not locate RPC credentials' >&2; exit 1; }}\n\
             case \"$3\" in\ngetblockchaininfo) echo '{info}' ;;\ngetblockhash) echo {GENESIS} ;;\nesac\n",
            folder.path().display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, program)
    }

    fn asked(info: &str) -> Result<Chain, ChainError> {
        let (folder, program) = fake(info);
        ask(&program, folder.path())
    }

    fn info(chain: &str, more: &str) -> String {
        format!("{{\"chain\":\"{chain}\",\"blocks\":800,\"headers\":803,\"initialblockdownload\":false,{more}}}")
    }

    #[test]
    fn a_pruned_bitcoind_says_from_which_block_on() {
        let chain = asked(&info("main", "\"pruned\":true,\"pruneheight\":612")).unwrap();
        assert_eq!((chain.network.as_str(), chain.genesis.as_str(), chain.height), ("bitcoin", GENESIS, 803));
        let known = Known::Is(Bitcoind::Answers(chain));
        assert_eq!(prune_window(&known), Known::Is(PruneWindow::From(612)));
        assert_eq!(height(&known), Known::Is(803));
    }

    #[test]
    fn what_bitcoind_does_not_say_is_unknown() {
        let whole = asked(&info("signet", "\"pruned\":false")).unwrap();
        assert_eq!((whole.network.as_str(), whole.prune), ("signet", Some(PruneWindow::Whole)));
        let known = Known::Is(Bitcoind::Answers(asked(&info("test", "\"pruned\":true")).unwrap()));
        assert!(matches!(prune_window(&known), Known::Unknown(_)));
        let syncing = info("main", "\"pruned\":false").replace("false,\"pruned\"", "true,\"pruned\"");
        assert!(matches!(height(&Known::Is(Bitcoind::Answers(asked(&syncing).unwrap()))), Known::Unknown(_)));
        assert!(matches!(asked(&info("dogecoin", "\"pruned\":false")), Err(ChainError::Unknown { .. })));
        assert!(matches!(asked("no JSON"), Err(ChainError::Answer { .. })));
        let (_folder, program) = fake("{}");
        let elsewhere = tempfile::tempdir().unwrap();
        let error = ask(&program, elsewhere.path()).unwrap_err();
        assert!(chain(&error).contains("could not locate RPC credentials"), "{}", chain(&error));
    }
}
