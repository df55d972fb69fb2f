//! The way back without this program: the script and the page that lie in every vault, and the printed kit.

use super::Error;
use super::state::HostState;
use crate::base::ids::Sha256Hex;
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::policy::{Policy, VaultUrl};
use crate::report::{Finding, Level};
use crate::seal::recipients::fingerprint;
use crate::vault::layout::ObjectKey;
use crate::vault::{Vault, VaultError};

/// The script that rebuilds every artifact with stock tools.
pub const SCRIPT: &str = include_str!("recovery/recover.sh");
/// The page for somebody who has never seen this program.
pub const PAGE: &str = include_str!("recovery/RECOVERY.md");
/// The kit's frame: style and steps; `{…}` are filled in.
const FRAME: &str = include_str!("recovery/kit.html");

/// Puts this version's script and page into a vault. Gives a finding where another script was there: an older
/// version's, or one that somebody put in its place; either way the printed kit no longer fits.
pub fn put(vault: &Vault) -> Result<Option<Finding>, VaultError> {
    let mut replaced = None;
    let files = [(ObjectKey::recovery_text(), PAGE), (ObjectKey::recover_script(), SCRIPT)];
    for (key, content) in files {
        match vault.get(&key, SMALL_OBJECT_BYTES_MAX) {
            Ok(found) if found == content.as_bytes() => continue,
            Ok(_) if content == SCRIPT => {
                let message = "its recover.sh was not this version's and was replaced";
                replaced = Some(
                    Finding::new(Level::Note, "recovery-script-replaced", vault.name().as_str(), message)
                        .with_hint("print the kit again: relay-backup kit --out kit.html"),
                );
            }
            Ok(_) | Err(VaultError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        vault.put(&key, content.as_bytes())?;
    }
    Ok(replaced)
}

/// The recovery kit: one self-contained HTML page for paper. Holds public keys and addresses only.
pub fn kit(policy: &Policy, now: jiff::Timestamp) -> Result<String, Error> {
    let state = HostState::load(policy)?;
    let mut vaults = String::new();
    for vault in &policy.vaults {
        let offsite = if vault.offsite { " (offsite)" } else { "" };
        let place: Vec<String> = address(&vault.url).iter().map(|part| whole(part)).collect();
        vaults.push_str(&format!(
            "<tr><td>{}{offsite}</td><td>{}</td></tr>\n",
            escape(vault.name.as_str()),
            place.join(", ")
        ));
    }
    let mut recipients = String::new();
    for recipient in &state.recipients {
        let (recipient, id) = (escape(recipient), &fingerprint(recipient)[..8]);
        recipients
            .push_str(&format!("<tr><td class=\"hex\">{recipient}</td><td class=\"hex\">{id}</td><td></td></tr>\n"));
    }
    let key = state.signing.public();
    let witness =
        state.witness()?.map_or("none yet: print this page again after a backup".to_owned(), |(_, line)| line);
    let filled = [
        ("{node}", escape(policy.node.as_str())),
        ("{printed}", now.strftime("%Y-%m-%d").to_string()),
        ("{key}", escape(&key.to_base64())),
        ("{witness}", escape(&witness)),
        ("{key_id}", key.id().to_string()),
        ("{script_sha256}", Sha256Hex::of(SCRIPT.as_bytes()).to_string()),
        ("{vaults}", vaults),
        ("{recipients}", recipients),
        ("{version}", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut page = FRAME.to_owned();
    for (mark, text) in filled {
        page = page.replace(mark, &text);
    }
    Ok(page)
}

/// Where a vault is, in parts, without anything that only this host needs.
fn address(url: &VaultUrl) -> Vec<String> {
    match url {
        VaultUrl::Fs(folder) => vec![format!("folder {}", folder.display())],
        VaultUrl::S3 { bucket, prefix, endpoint, region } => {
            in_store(format!("bucket {bucket}"), prefix, endpoint.as_deref(), region.as_deref())
        }
        VaultUrl::Service(url) => {
            let place = format!("{} {}", url.service.as_str(), url.place);
            in_store(place, &url.prefix, url.endpoint.as_deref(), None)
        }
    }
}

fn in_store(place: String, prefix: &str, endpoint: Option<&str>, region: Option<&str>) -> Vec<String> {
    let mut parts = vec![place];
    for (word, value) in [("prefix", Some(prefix)), ("endpoint", endpoint), ("region", region)] {
        parts.extend(value.filter(|value| !value.is_empty()).map(|value| format!("{word} {value}")));
    }
    parts
}

/// A text that is broken at a line's end only where it is longer than a line: a hyphen there would look like ours.
fn whole(text: &str) -> String {
    format!("<span class=\"whole\">{}</span>", escape(text))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
