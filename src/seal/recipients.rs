//! Recipients: the public keys that the protected host holds, and sealing small things to all of them.

use super::SealError;
use age::Recipient;
use age::cli_common::UiCallbacks;
use std::io::Write;

/// What every age plugin recipient's text begins with, before the plugin's name.
const PLUGIN_PREFIX: &str = "age1";

/// The recipients of a policy, ready to be sealed to.
pub struct Recipients {
    texts: Vec<String>,
    keys: Vec<Box<dyn Recipient + Send>>,
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.texts).finish()
    }
}

impl Recipients {
    /// Parses each text: X25519 (`age1…`), `ssh-ed25519 …`, or a plugin's (`age1name1…`, whose program must be in
    /// `PATH`).
    pub fn parse(texts: &[String]) -> Result<Self, SealError> {
        let keys = texts.iter().map(|text| parse_one(text)).collect::<Result<_, _>>()?;
        Ok(Self { texts: texts.to_vec(), keys })
    }

    /// Seals a small secret to all of them.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys = self.keys.iter().map(|key| key.as_ref() as &dyn Recipient);
        encrypt(keys, plaintext, || format!("the recipients {}", self.texts.join(", ")))
    }

    /// The fingerprint of each, in the policy's order.
    pub fn fingerprints(&self) -> Vec<String> {
        self.texts.iter().map(|text| fingerprint(text)).collect()
    }

    /// The recipients as text.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

/// The first 32 hexadecimal digits of the SHA-256 of a recipient's text; an SSH key's comment does not count.
pub fn fingerprint(text: &str) -> String {
    let key = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    crate::base::ids::Sha256Hex::of(key.as_bytes()).as_str()[..32].to_owned()
}

/// Encrypts in memory to these recipients; `whom` names them for an error.
pub(super) fn encrypt<'a>(
    keys: impl Iterator<Item = &'a dyn Recipient>,
    plaintext: &[u8],
    whom: impl FnOnce() -> String,
) -> Result<Vec<u8>, SealError> {
    let encryptor = age::Encryptor::with_recipients(keys)
        .map_err(|source| SealError::Encrypt { to: whom(), source: Box::new(source) })?;
    let sealed = Vec::with_capacity(plaintext.len() + plaintext.len() / 2048 + 1024);
    let mut writer = encryptor.wrap_output(sealed).map_err(SealError::Memory)?;
    writer.write_all(plaintext).map_err(SealError::Memory)?;
    writer.finish().map_err(SealError::Memory)
}

fn parse_one(text: &str) -> Result<Box<dyn Recipient + Send>, SealError> {
    let bad = |reason: &str| SealError::Recipient { text: text.to_owned(), reason: reason.to_owned() };
    if text.starts_with("ssh-") {
        return match text.parse::<age::ssh::Recipient>() {
            Ok(key @ age::ssh::Recipient::SshEd25519(..)) => Ok(Box::new(key)),
            Ok(_) => Err(bad("only ssh-ed25519 keys are used, not other kinds of SSH key")),
            Err(_) => Err(bad("it is not a valid SSH public key")),
        };
    }
    if let Ok(key) = text.parse::<age::x25519::Recipient>() {
        return Ok(Box::new(key));
    }
    if text.starts_with(PLUGIN_PREFIX)
        && let Ok(key) = text.parse::<age::plugin::Recipient>()
    {
        let name = key.plugin().to_owned();
        return match age::plugin::RecipientPluginV1::new(&name, &[key], &[], UiCallbacks) {
            Ok(plugin) => Ok(Box::new(plugin)),
            Err(_) => Err(bad(&format!("its plugin age-plugin-{name} is not in PATH"))),
        };
    }
    Err(bad("it is neither an X25519, an ssh-ed25519 nor a plugin recipient"))
}
