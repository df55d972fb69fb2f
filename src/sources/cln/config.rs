//! What lightningd's own configuration says of the wallet: whether the policy names the database lightningd uses, and
//! not the mirror it keeps of it. Only the `wallet` option is looked at, and no credential in it is repeated.

use super::error::ClnError;
use crate::base::fsio;
use crate::base::limits::NODE_FILE_BYTES_MAX;
use std::path::{Component, Path, PathBuf};

const SQLITE: &str = "sqlite3://";

/// What a configuration says of a mirror of the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// It says nothing of the wallet.
    NotTold,
    /// There is none.
    None,
    /// It lies here; relative to the network's folder where it is not absolute.
    At(PathBuf),
    /// It takes in another file, which may say more.
    Elsewhere,
}

/// What a configuration's text says of a mirror of the wallet.
pub fn mirror(text: &str) -> Mirror {
    if text.lines().any(|line| line.split_whitespace().next() == Some("include")) {
        return Mirror::Elsewhere;
    }
    let Some(option) = wallet_option(text) else { return Mirror::NotTold };
    let files = option.strip_prefix(SQLITE).unwrap_or_default();
    files.split_once(':').map_or(Mirror::None, |(_, mirror)| Mirror::At(PathBuf::from(mirror)))
}

/// Refuses a database that lightningd's configuration contradicts. A configuration that is not there, cannot be read
/// or does not name a wallet contradicts nothing.
pub(super) fn check_wallet(database: &Path, configs: &[PathBuf]) -> Result<(), ClnError> {
    for config in configs {
        let Ok(bytes) = fsio::read_regular(config, NODE_FILE_BYTES_MAX) else { continue };
        if let Some(option) = wallet_option(&String::from_utf8_lossy(&bytes)) {
            check_option(database, config, &option)?;
        }
    }
    Ok(())
}

/// The last `wallet=` of a configuration, which is the one that counts.
fn wallet_option(text: &str) -> Option<String> {
    option(text, "wallet")
}

/// The last setting of an option in a configuration's text.
fn option(text: &str, wanted: &str) -> Option<String> {
    let value = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        (name.trim() == wanted).then(|| value.trim().to_owned())
    };
    text.lines().filter_map(value).next_back()
}

/// The pid file and the RPC socket of a node of this machine, where its configuration puts them. A configuration that
/// is not there or cannot be read leaves them at their usual places.
pub fn pid_file_and_socket(lightning_dir: &Path, network: &str) -> (PathBuf, PathBuf) {
    pid_file_and_socket_by(lightning_dir, network, |config| fsio::read_regular(config, NODE_FILE_BYTES_MAX).ok())
}

/// The same where configurations are read in another way.
pub fn pid_file_and_socket_by(
    lightning_dir: &Path,
    network: &str,
    read: impl Fn(&Path) -> Option<Vec<u8>>,
) -> (PathBuf, PathBuf) {
    let folder = lightning_dir.join(network);
    let (mut pid_file, mut socket) =
        (lightning_dir.join(format!("lightningd-{network}.pid")), folder.join("lightning-rpc"));
    for config in [lightning_dir.join("config"), folder.join("config")] {
        let Some(bytes) = read(&config) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        // lightningd takes both relative to the network's folder, where it works (`options.c`).
        if let Some(path) = option(&text, "pid-file") {
            pid_file = without_steps_up(&folder.join(path));
        }
        if let Some(path) = option(&text, "rpc-file") {
            socket = without_steps_up(&folder.join(path));
        }
    }
    (pid_file, socket)
}

/// A path without `..`: each takes the folder before it away.
fn without_steps_up(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            found.pop();
        } else {
            found.push(part);
        }
    }
    found
}

fn check_option(database: &Path, config: &Path, option: &str) -> Result<(), ClnError> {
    let Some(files) = option.strip_prefix(SQLITE) else {
        // Another scheme carries credentials; only its name is repeated.
        let scheme = option.split_once("://").map_or("something else", |(scheme, _)| scheme);
        return Err(elsewhere(database, config, format!("wallet={scheme}://…")));
    };
    // lightningd splits at the first colon, so no path can hold one.
    let (main, mirror) = files.split_once(':').map_or((files, None), |(main, mirror)| (main, Some(mirror)));
    if mirror.is_some_and(|mirror| same_file(Path::new(mirror), database)) {
        return Err(ClnError::Mirror { path: database.to_owned(), main: PathBuf::from(main) });
    }
    if Path::new(main).is_absolute() && !same_file(Path::new(main), database) {
        return Err(elsewhere(database, config, format!("wallet={SQLITE}{files}")));
    }
    Ok(())
}

fn elsewhere(database: &Path, config: &Path, configured: String) -> ClnError {
    ClnError::Elsewhere { path: database.to_owned(), config: config.to_owned(), configured }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (std::fs::canonicalize(one), std::fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, database: &str) -> Result<(), ClnError> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        std::fs::write(&config, text).unwrap();
        check_wallet(Path::new(database), &[folder.path().join("missing"), config])
    }

    #[test]
    fn the_mirror_and_an_abandoned_database_are_refused() {
        let text = "# wallet=sqlite3:///old\nalias=shop\nwallet = sqlite3:///a/main.sqlite3:/b/mirror.sqlite3\n";
        judge(text, "/a/main.sqlite3").unwrap();
        assert!(matches!(judge(text, "/b/mirror.sqlite3"), Err(ClnError::Mirror { .. })));
        assert!(matches!(judge(text, "/c/other.sqlite3"), Err(ClnError::Elsewhere { .. })));
        judge("alias=shop\n", "/c/other.sqlite3").unwrap();
    }

    #[test]
    fn a_mirror_is_found_and_what_may_name_one_elsewhere_is_told() {
        let at = |path: &str| Mirror::At(PathBuf::from(path));
        assert_eq!(mirror("wallet=sqlite3:///a/main.sqlite3:/b/mirror.sqlite3\n"), at("/b/mirror.sqlite3"));
        assert_eq!(mirror("wallet=sqlite3:///a:/b\nwallet=sqlite3:///a\n"), Mirror::None, "the last one counts");
        assert_eq!(mirror("wallet=postgres://cln:hush@localhost/cln\n"), Mirror::None);
        assert_eq!(mirror("alias=shop\n# include x\n"), Mirror::NotTold);
        assert_eq!(mirror("include /etc/lightning/more\n"), Mirror::Elsewhere);
    }

    #[test]
    fn pid_file_and_socket_lie_where_the_configuration_says() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("regtest")).unwrap();
        let usual = (at("lightningd-regtest.pid"), at("regtest/lightning-rpc"));
        assert_eq!(pid_file_and_socket(folder.path(), "regtest"), usual);
        std::fs::write(at("config"), "rpc-file=/run/first\nrpc-file = /run/cln/rpc\n#pid-file=/no\n").unwrap();
        std::fs::write(at("regtest/config"), "pid-file=../my.pid\n").unwrap();
        let said = (at("my.pid"), PathBuf::from("/run/cln/rpc"));
        assert_eq!(pid_file_and_socket(folder.path(), "regtest"), said);
    }

    #[test]
    fn a_password_in_the_option_is_not_repeated() {
        let error = judge("wallet=postgres://cln:hunter2@localhost/cln\n", "/c/db").unwrap_err();
        assert!(error.to_string().contains("wallet=postgres://…"), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
