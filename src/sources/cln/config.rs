//! What lightningd's own configuration says of the wallet: whether the policy names the database lightningd uses, and
//! not the mirror it keeps of it. Only the `wallet` option is looked at, and no credential in it is repeated.

use super::error::ClnError;
use super::settings::{Process, Settings};
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

/// Refuses a database that lightningd does not use, by its configuration, by the command lines that are known of it and
/// by the files that it has open. Where all of them are silent, the policy's word counts.
pub(super) fn check_wallet(
    database: &Path,
    lightning_dir: &Path,
    network: &str,
    commands: &[Vec<String>],
) -> Result<(), ClnError> {
    let process = Process::of(&pid_file_and_socket(lightning_dir, network).0, lightning_dir);
    let mut known = commands.to_vec();
    // What runs counts more than what would be started.
    known.extend(process.iter().map(|process| process.words.clone()));
    let settings = Settings::read(lightning_dir, network, &known)?;
    if let Some(set) = settings.last("wallet") {
        check_option(database, &lightning_dir.join(network), &set.from, &set.value)?;
    }
    match process {
        Some(process) if process.has_open(database) == Some(false) => {
            Err(ClnError::NotOpen { path: database.to_owned(), process: process.id })
        }
        _ => Ok(()),
    }
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

fn check_option(database: &Path, network_dir: &Path, config: &Path, option: &str) -> Result<(), ClnError> {
    let Some(files) = option.strip_prefix(SQLITE) else {
        // Another scheme carries credentials; only its name is repeated.
        let scheme = option.split_once("://").map_or("something else", |(scheme, _)| scheme);
        return Err(elsewhere(database, config, format!("wallet={scheme}://…")));
    };
    // lightningd splits at the first colon, so no path can hold one. It works in the network's folder.
    let (main, mirror) = files.split_once(':').map_or((files, None), |(main, mirror)| (main, Some(mirror)));
    if mirror.is_some_and(|mirror| same_file(&network_dir.join(mirror), database)) {
        return Err(ClnError::Mirror { path: database.to_owned(), main: network_dir.join(main) });
    }
    if !same_file(&network_dir.join(main), database) {
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
        std::fs::write(folder.path().join("config"), text).unwrap();
        check_wallet(Path::new(database), folder.path(), "regtest", &[])
    }

    #[test]
    fn a_wallet_is_found_as_lightningd_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("regtest/more")).unwrap();
        for name in ["regtest/lightningd.sqlite3", "regtest/real.sqlite3"] {
            std::fs::write(at(name), "").unwrap();
        }
        let judge = |command: &[&str]| {
            let commands = [command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()];
            let check = |name: &str| check_wallet(&at(name), folder.path(), "regtest", &commands);
            (check("regtest/lightningd.sqlite3"), check("regtest/real.sqlite3"))
        };
        let is_real = |(old, real): (Result<(), ClnError>, Result<(), ClnError>)| {
            assert!(matches!(old, Err(ClnError::Elsewhere { .. })), "{old:?}");
            real.unwrap();
        };
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        write("config", "wallet=sqlite3://real.sqlite3\n");
        is_real(judge(&[]));
        write("config", "wallet=sqlite3://more/../real.sqlite3\n");
        is_real(judge(&[]));
        write("config", "wallet=sqlite3://lightningd.sqlite3\ninclude regtest/more/one\n");
        write("regtest/more/one", "include two\n");
        write("regtest/more/two", "wallet=sqlite3://real.sqlite3\r\n");
        is_real(judge(&[]));
        write("config", "wallet=sqlite3://lightningd.sqlite3\n");
        write("regtest/config", "wallet=sqlite3://real.sqlite3\n");
        is_real(judge(&[]));
        write("regtest/config", "");
        judge(&[]).0.unwrap();
        is_real(judge(&["lightningd", "--wallet=sqlite3://real.sqlite3"]));
        is_real(judge(&["lightningd", "--daemon", "--wallet", "sqlite3://real.sqlite3"]));
        is_real(judge(&["lightningd", &format!("--conf={}", at("regtest/more/two").display())]));
        for text in ["include gone\n", "include config\n"] {
            write("config", text);
            let (old, real) = judge(&[]);
            assert!(matches!(old, Err(ClnError::Config { .. } | ClnError::Untold { .. })), "{old:?}");
            assert!(real.is_err());
        }
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
