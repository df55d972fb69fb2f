//! Identities: the secret keys of the recipients, given by a person for verify, extract and restore, never stored;
//! and the epoch's own identity, which they open.

use super::recipients::{Recipients, encrypt};
use super::{SealError, random};
use crate::base::clock;
use crate::base::ids::EpochId;
use crate::base::secret::Secret;
use age::cli_common::UiCallbacks;
use age::secrecy::ExposeSecret;
use jiff::Timestamp;
use std::io::{BufReader, Read};
use zeroize::Zeroizing;

/// Identities that a person gave.
pub struct Identities {
    keys: Vec<Box<dyn age::Identity + Send + Sync>>,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} identities]", self.keys.len())
    }
}

impl Identities {
    /// Parses the content of an identity file: age identities line by line (plugins' too), an OpenSSH private key, or
    /// an age file that holds identities under a passphrase, which is asked for on the terminal when it is needed.
    /// `file` is its name for messages.
    pub fn parse(content: &Secret, file: &str) -> Result<Self, SealError> {
        let bad = |reason: String| SealError::IdentityFile { file: file.to_owned(), reason };
        if is_age_file(content.expose()) {
            return Self::under_passphrase(content, file);
        }
        if content.expose().starts_with(b"-----BEGIN ") {
            let key = age::ssh::Identity::from_buffer(content.expose(), Some(file.to_owned()))
                .map_err(|_| bad("it is not a private key that OpenSSH would read".into()))?;
            if let age::ssh::Identity::Unsupported(_) = key {
                return Err(bad("this kind of SSH key cannot be used; ssh-ed25519 can".into()));
            }
            return Ok(Self { keys: vec![Box::new(SharedSsh(std::sync::Mutex::new(key)))] });
        }
        let parsed = age::IdentityFile::from_buffer(BufReader::new(content.expose()))
            .map_err(|error| bad(format!("{error}")))?
            .with_callbacks(UiCallbacks);
        let keys = parsed.into_identities().map_err(|error| bad(format!("{error}")))?;
        if keys.is_empty() {
            return Err(bad("it holds no identity".into()));
        }
        Ok(Self { keys })
    }

    fn under_passphrase(content: &Secret, file: &str) -> Result<Self, SealError> {
        let bad = |reason: &str| SealError::IdentityFile { file: file.to_owned(), reason: reason.to_owned() };
        let reader = age::armor::ArmoredReader::new(content.expose());
        let decryptor = age::Decryptor::new_buffered(BufReader::new(reader))
            .map_err(|_| bad("it is an age file that cannot be read"))?;
        if !decryptor.is_scrypt() {
            return Err(bad("it is encrypted to a key, not to a passphrase"));
        }
        use age::Callbacks;
        let passphrase = UiCallbacks
            .request_passphrase(&format!("Passphrase for {file}"))
            .ok_or_else(|| bad("no passphrase was given (is there a terminal?)"))?;
        let identity = age::scrypt::Identity::new(passphrase);
        let mut inner = Vec::new();
        decryptor
            .decrypt(std::iter::once(&identity as &dyn age::Identity))
            .map_err(|_| bad("the passphrase does not open it"))?
            .take(16 * 1024 * 1024)
            .read_to_end(&mut inner)
            .map_err(|_| bad("it is damaged"))?;
        let inner = Secret::new(inner);
        if is_age_file(inner.expose()) {
            return Err(bad("it holds another encrypted file"));
        }
        Self::parse(&inner, file)
    }

    /// Opens what was sealed to one of their recipients.
    pub fn open(&self, sealed: &[u8], thing: &str) -> Result<Secret, SealError> {
        decrypt(self.keys.iter().map(|key| key.as_ref() as &dyn age::Identity), sealed, thing).map(Secret::from)
    }
}

/// age's SSH identities are not `Sync` together with their callbacks; a lock makes them shareable.
struct SharedSsh(std::sync::Mutex<age::ssh::Identity>);

impl age::Identity for SharedSsh {
    fn unwrap_stanza(
        &self,
        stanza: &age_core::format::Stanza,
    ) -> Option<Result<age_core::format::FileKey, age::DecryptError>> {
        let key = self.0.lock().ok()?.clone();
        key.with_callbacks(UiCallbacks).unwrap_stanza(stanza)
    }
}

fn is_age_file(content: &[u8]) -> bool {
    content.starts_with(b"age-encryption.org/v1\n") || content.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

fn decrypt<'a>(
    keys: impl Iterator<Item = &'a dyn age::Identity>,
    sealed: &[u8],
    thing: &str,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let wrong = |source| match source {
        age::DecryptError::NoMatchingKeys => SealError::NoMatch { thing: thing.to_owned() },
        source => SealError::Decrypt { thing: thing.to_owned(), source: Box::new(source) },
    };
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(wrong)?;
    let mut reader = decryptor.decrypt(keys).map_err(wrong)?;
    // Longer than what is inside, so that no copy stays behind in a buffer that was outgrown.
    let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plaintext).map_err(|source| SealError::Content { thing: thing.to_owned(), source })?;
    Ok(plaintext)
}

/// A new age identity for a person to keep: `(file content, recipient)`.
pub fn generate(now: Timestamp) -> (Secret, String) {
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    let text = key.to_string();
    let content = format!(
        "# created: {}\n# public key: {recipient}\n{}\n",
        now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        text.expose_secret()
    );
    (Secret::from(content), recipient)
}

/// The public side of an epoch: its name and the recipient that segments and notes are sealed to.
#[derive(Clone)]
pub struct EpochRecipient {
    /// The epoch's name.
    pub id: EpochId,
    key: age::x25519::Recipient,
}

impl EpochRecipient {
    /// From its text, as it stands in `keys/<epoch>.pub`.
    pub fn parse(id: EpochId, text: &str) -> Result<Self, SealError> {
        let key = text
            .trim()
            .parse::<age::x25519::Recipient>()
            .map_err(|reason| SealError::Recipient { text: text.trim().to_owned(), reason: reason.to_owned() })?;
        Ok(Self { id, key })
    }

    /// Its text.
    pub fn to_text(&self) -> String {
        self.key.to_string()
    }

    /// Seals bytes to it.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        encrypt(std::iter::once(&self.key as &dyn age::Recipient), plaintext, || format!("epoch {}", self.id))
    }
}

impl std::fmt::Debug for EpochRecipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.id, self.key)
    }
}

/// A new epoch: its recipient, and its identity already sealed to the policy's recipients. The identity itself
/// existed only in this function's memory and is wiped.
pub fn new_epoch(recipients: &Recipients, now: Timestamp) -> Result<(EpochRecipient, Vec<u8>), SealError> {
    let id = format!("{}-{}", &clock::compact(now)[..8], hex::encode(random::<4>()?)).parse()?;
    let (content, text) = generate(now);
    let sealed = recipients.seal(content.expose())?;
    Ok((EpochRecipient::parse(id, &text)?, sealed))
}

/// An epoch's identity, opened by a person's: it opens every segment and all notes of the epoch.
pub struct EpochIdentity {
    /// The epoch's name.
    pub id: EpochId,
    key: age::x25519::Identity,
}

impl std::fmt::Debug for EpochIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [secret]", self.id)
    }
}

impl EpochIdentity {
    /// Opens the sealed epoch key file.
    pub fn open(id: EpochId, sealed: &[u8], identities: &Identities) -> Result<Self, SealError> {
        let thing = format!("the key of epoch {id}");
        let content = identities.open(sealed, &thing)?;
        let bad = || SealError::Unexpected { thing: thing.clone(), reason: "an age X25519 identity was expected" };
        let text = std::str::from_utf8(content.expose()).map_err(|_| bad())?;
        let line = text.lines().find(|line| !line.is_empty() && !line.starts_with('#')).ok_or_else(bad)?;
        let key = line.trim().parse::<age::x25519::Identity>().map_err(|_| bad())?;
        Ok(Self { id, key })
    }

    /// The recipient that belongs to it, as text.
    pub fn recipient(&self) -> String {
        self.key.to_public().to_string()
    }

    /// Opens bytes that were sealed to the epoch.
    pub fn decrypt(&self, sealed: &[u8], thing: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        decrypt(std::iter::once(&self.key as &dyn age::Identity), sealed, thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T05:12:00Z".parse().unwrap()
    }

    #[test]
    fn any_one_recipient_opens_an_epoch() {
        let (one, one_text) = generate(now());
        let (two, two_text) = generate(now());
        let recipients = Recipients::parse(&[one_text, two_text]).unwrap();
        let (epoch, sealed) = new_epoch(&recipients, now()).unwrap();
        assert!(epoch.id.as_str().starts_with("20261120-"));
        for content in [&one, &two] {
            let identities = Identities::parse(content, "key").unwrap();
            let opened = EpochIdentity::open(epoch.id.clone(), &sealed, &identities).unwrap();
            assert_eq!(opened.recipient(), epoch.to_text());
            let note = epoch.seal(b"a note").unwrap();
            assert_eq!(opened.decrypt(&note, "the note").unwrap().as_slice(), b"a note");
            assert!(matches!(opened.decrypt(&note[..note.len() - 1], "the note"), Err(SealError::Content { .. })));
        }
        let (stranger, _) = generate(now());
        let identities = Identities::parse(&stranger, "key").unwrap();
        let error = EpochIdentity::open(epoch.id, &sealed, &identities).unwrap_err();
        assert!(matches!(error, SealError::NoMatch { .. }), "{error}");
    }

    #[test]
    fn an_ssh_key_opens_what_was_sealed_to_it() {
        // Made for this test with `ssh-keygen -t ed25519 -N ''`; it protects nothing.
        let secret = include_str!("../../tests/fixtures/ssh/id_ed25519");
        let public = include_str!("../../tests/fixtures/ssh/id_ed25519.pub");
        let recipients = Recipients::parse(&[public.trim().to_owned()]).unwrap();
        let sealed = recipients.seal(b"for an SSH key").unwrap();
        let identities = Identities::parse(&Secret::from(secret.to_owned()), "id_ed25519").unwrap();
        assert_eq!(identities.open(&sealed, "it").unwrap().expose(), b"for an SSH key");
    }

    #[test]
    fn a_bad_identity_file_is_never_quoted() {
        for content in ["AGE-SECRET-KEY-1NOTREALLY", "-----BEGIN OPENSSH PRIVATE KEY-----\nhush", "# nothing\n", "hush"]
        {
            let error = Identities::parse(&Secret::from(content.to_owned()), "key.txt").unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("key.txt") && !text.contains("NOTREALLY") && !text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn recipients_that_cannot_be_used_are_named_with_the_reason() {
        for (text, reason) in [
            ("ssh-rsa AAAA", "not a valid SSH"),
            ("age1nonsense", "neither"),
            ("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", "age-plugin-yubikey"),
        ] {
            let error = Recipients::parse(&[text.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
