//! What lightningd's own configuration says of the wallet: whether the policy names the database lightningd uses, and
//! not the mirror it keeps of it. Only the `wallet` option is looked at, and no credential in it is repeated.

use super::error::ClnError;
use crate::base::fsio;
use crate::base::limits::NODE_FILE_BYTES_MAX;
use std::path::{Path, PathBuf};

const SQLITE: &str = "sqlite3://";

/// Refuses a database that lightningd's configuration contradicts. A configuration that is not there, cannot be read
/// or does not name a wallet contradicts nothing.
pub(super) fn check_wallet(database: &Path, configs: &[PathBuf]) -> Result<(), ClnError> {
    for config in configs {
        let Ok(bytes) = fsio::read(config, NODE_FILE_BYTES_MAX) else { continue };
        if let Some(option) = wallet_option(&String::from_utf8_lossy(&bytes)) {
            check_option(database, config, &option)?;
        }
    }
    Ok(())
}

/// The last `wallet=` of a configuration, which is the one that counts.
fn wallet_option(text: &str) -> Option<String> {
    let value = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        (name.trim() == "wallet").then(|| value.trim().to_owned())
    };
    text.lines().filter_map(value).next_back()
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
    fn a_password_in_the_option_is_not_repeated() {
        let error = judge("wallet=postgres://cln:hunter2@localhost/cln\n", "/c/db").unwrap_err();
        assert!(error.to_string().contains("wallet=postgres://…"), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
