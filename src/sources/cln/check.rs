//! Whether a node's restored files are what was backed up and would serve: the secret still stands for the node, the
//! `emergency.recover` opens with it, the wallet is sound and equal row for row. For `verify --depth meaning` and
//! drills.

use super::hsm_secret::HsmSecret;
use super::{emergency, wallet};
use crate::base::ids::Sha256Hex;
use crate::base::interrupt::Interrupt;
use crate::base::limits::{ARTIFACTS_MAX, NODE_FILE_BYTES_MAX};
use crate::base::secret::Secret;
use crate::facts::cln::{EmergencyFacts, ExtrasFacts, SecretFacts, WalletFacts};
use crate::report::{Finding, Level};
use crate::sources::files::TarReader;
use crate::sources::sqlite;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// Checks a restored `hsm_secret` against what the notes say of it. No finding means that it is good.
pub fn check_secret(subject: &str, bytes: &Secret, facts: &SecretFacts) -> Vec<Finding> {
    let damage = |code, message: String| vec![Finding::new(Level::Damage, code, subject, message)];
    match HsmSecret::parse(bytes.clone()) {
        Err(_) if facts.format.is_none() => Vec::new(),
        Err(error) => damage("hsm-secret-invalid", format!("the restored hsm_secret is not valid: {error}")),
        Ok(secret) if Some(secret.format()) != facts.format => damage(
            "hsm-secret-differs",
            format!("the restored hsm_secret is {}, and another form was backed up", secret.format().as_str()),
        ),
        Ok(secret) if secret.node_id() != facts.node_id => {
            let name = |id: Option<String>| id.unwrap_or_else(|| "an unknown node".to_owned());
            let (found, noted) = (name(secret.node_id()), name(facts.node_id.clone()));
            damage("hsm-secret-differs", format!("the restored hsm_secret is of {found}, and {noted} was backed up"))
        }
        Ok(_) => Vec::new(),
    }
}

/// Checks a restored `emergency.recover`: it opens with the secret and lists the channels the notes tell. Without a
/// secret that opens it, only its length can be judged, and a note says so.
pub fn check_emergency(
    subject: &str,
    bytes: &[u8],
    facts: &EmergencyFacts,
    secret: Option<&HsmSecret>,
) -> Vec<Finding> {
    if bytes.len() as u64 != facts.length {
        let message = format!("the restored emergency.recover has {} bytes, not {}", bytes.len(), facts.length);
        return vec![Finding::new(Level::Damage, "scb-differs", subject, message)];
    }
    let Some(noted) = &facts.contents else {
        let message = "emergency.recover was backed up without being opened, so its content cannot be checked";
        return vec![Finding::new(Level::Note, "scb-not-opened", subject, message)];
    };
    let Some(key) = secret.and_then(HsmSecret::emergency_key) else {
        let message = "there is no hsm_secret that opens emergency.recover, although it was opened when backed up";
        return vec![Finding::new(Level::Damage, "scb-undecryptable", subject, message)];
    };
    match emergency::open(bytes, &key) {
        Ok(found) if found == *noted => Vec::new(),
        Ok(found) => {
            let message = format!(
                "the restored emergency.recover lists {} channels that are not those {} that were backed up",
                found.channels.len(),
                noted.channels.len()
            );
            vec![Finding::new(Level::Damage, "scb-differs", subject, message)]
        }
        Err(error) => {
            let message = format!("the restored emergency.recover cannot be used: {error}");
            vec![Finding::new(Level::Damage, "scb-undecryptable", subject, message)]
        }
    }
}

/// Checks a restored wallet, a private file: sound by SQLite's own check, and equal to the notes in state and rows.
pub fn check_wallet(subject: &str, file: &Path, facts: &WalletFacts, interrupt: &Interrupt) -> Vec<Finding> {
    let connection = match sqlite::open_sound(subject, file) {
        Ok(connection) => connection,
        Err(finding) => return vec![finding],
    };
    let mut findings = match sqlite::content(&connection, interrupt) {
        Ok(found) => sqlite::differences(subject, &facts.content, &found),
        Err(error) => return vec![sqlite::unreadable(subject, &error)],
    };
    match wallet::node_state(&connection, file) {
        Ok(found) if found == facts.node => {}
        Ok(_) => findings.push(Finding::new(
            Level::Damage,
            "node-state-differs",
            subject,
            "the restored wallet tells another state of the node than the notes",
        )),
        Err(error) => {
            findings.push(Finding::new(Level::Damage, "wallet-not-cln", subject, error.to_string()));
        }
    }
    findings
}

/// Checks a restored tar of small files: the same names and the same bytes.
pub fn check_extras(subject: &str, tar: &mut dyn Read, facts: &ExtrasFacts) -> Vec<Finding> {
    let found = match digests(tar) {
        Ok(found) => found,
        Err(error) => {
            let message = format!("the restored tar cannot be read: {error}");
            return vec![Finding::new(Level::Damage, "tar-unreadable", subject, message)];
        }
    };
    let noted: Vec<_> = facts.files.iter().map(|file| (file.name.clone(), file.sha256.clone())).collect();
    if found == noted {
        return Vec::new();
    }
    let names: Vec<&str> = noted.iter().filter(|file| !found.contains(file)).map(|(name, _)| name.as_str()).collect();
    let message = format!(
        "the restored tar has {} files, {} were backed up; missing or different: {}",
        found.len(),
        noted.len(),
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    );
    vec![Finding::new(Level::Damage, "tar-differs", subject, message)]
}

fn digests(tar: &mut dyn Read) -> std::io::Result<Vec<(String, Sha256Hex)>> {
    let mut found = Vec::new();
    let mut tar = TarReader::new(tar);
    while let Some(head) = tar.next_entry().map_err(std::io::Error::other)? {
        if found.len() >= ARTIFACTS_MAX {
            return Err(std::io::Error::other("it holds more files than can be"));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        (&mut tar).take(NODE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        found.push((String::from_utf8_lossy(&head.name).into_owned(), Sha256Hex::of(&bytes)));
    }
    Ok(found)
}
