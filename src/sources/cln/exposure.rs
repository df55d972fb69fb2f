//! Who can read a node's secret: a finding when others can, with the chmod that mends it; and leavings of other tools
//! that hold a secret nobody thinks of.

use crate::report::{Finding, Level};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A finding when any user of the host can read the secret: its mode lets others read, and so does every folder above.
pub(super) fn of_secret(subject: &str, path: &Path) -> Option<Finding> {
    let mode = |path: &Path| std::fs::metadata(path).map(|meta| meta.permissions().mode() & 0o7777).ok();
    let own = mode(path)?;
    let is_open =
        own & 0o004 != 0 && path.ancestors().skip(1).all(|folder| mode(folder).is_none_or(|m| m & 0o001 != 0));
    is_open.then(|| {
        Finding::new(
            Level::Degraded,
            "hsm-secret-exposed",
            subject,
            format!("every user of this host can read {} (mode {own:04o})", path.display()),
        )
        .with_hint(format!("chmod 0400 {}", path.display()))
    })
}

/// Notes about files that other tools left behind.
pub(super) fn leavings(subject: &str, network_folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names = match names_in(network_folder) {
        Ok(names) => names,
        Err(error) => {
            let message = format!("cannot list {}: {error}", network_folder.display());
            return vec![Finding::new(Level::Degraded, "folder-unreadable", subject, message)];
        }
    };
    for name in names {
        let path = network_folder.join(&name);
        if name.starts_with("lightning.pre-recover.") {
            let message = format!(
                "{} was left by lightningd's recover command and holds an older hsm_secret; it is not backed up",
                path.display()
            );
            let hint = "find out whose secret it is, keep it safe while funds may be on it, then remove the folder";
            findings.push(Finding::new(Level::Note, "pre-recover-left-behind", subject, message).with_hint(hint));
        } else if name == "hsm_secret.backup" {
            let message = format!(
                "{} was left by a passphrase being set or removed; it holds the secret and is not backed up",
                path.display()
            );
            let hint = "make sure that hsm_secret itself opens, then remove the copy";
            findings.push(Finding::new(Level::Note, "hsm-secret-backup-left-behind", subject, message).with_hint(hint));
        }
    }
    findings
}

fn names_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
