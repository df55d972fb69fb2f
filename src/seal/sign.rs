//! Signatures: minisign (Ed25519 over a BLAKE2b digest), so that stock `minisign -V` checks them. age says who can
//! read; only this says who wrote.

use super::SealError;
use crate::base::fsio;
use crate::base::ids::SigningKeyId;
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::base::secret::Secret;
use std::io::Cursor;
use std::path::Path;

/// This machine's signing key.
pub struct SigningKey {
    secret: minisign::SecretKey,
    public: VerifyingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [secret]", self.public.id)
    }
}

impl SigningKey {
    /// A new key: the key and the content of its secret file (minisign's own format, without a passphrase: the
    /// program signs unattended).
    pub fn generate() -> Result<(Self, Secret), SealError> {
        let bad = |error: minisign::PError| SealError::Signature {
            thing: "a new signing key".into(),
            reason: error.to_string(),
        };
        let pair = minisign::KeyPair::generate_unencrypted_keypair().map_err(bad)?;
        let content = pair.sk.to_box(Some("relay-backup signing key")).map_err(bad)?.into_string();
        Ok((Self { public: VerifyingKey::new(pair.pk), secret: pair.sk }, Secret::from(content)))
    }

    /// Reads the secret file, which only its owner may read.
    pub fn read(file: &Path) -> Result<Self, SealError> {
        let bad = |reason: &str| SealError::Signature { thing: file.display().to_string(), reason: reason.to_owned() };
        let content = fsio::read_private(file, SMALL_OBJECT_BYTES_MAX)?;
        let text = std::str::from_utf8(content.expose()).map_err(|_| bad("it is not text"))?;
        let secret = minisign::SecretKeyBox::from_string(text)
            .and_then(minisign::SecretKeyBox::into_unencrypted_secret_key)
            .map_err(|_| bad("it is not a minisign secret key without a passphrase"))?;
        let public = minisign::PublicKey::from_secret_key(&secret).map_err(|_| bad("it has no public side"))?;
        Ok(Self { public: VerifyingKey::new(public), secret })
    }

    /// The public side.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs these bytes; gives the content of the `.minisig` file. `comment` is signed too.
    pub fn sign(&self, content: &[u8], comment: &str) -> Result<String, SealError> {
        minisign::sign(
            Some(&self.public.key),
            &self.secret,
            Cursor::new(content),
            Some(comment),
            Some("signature of a relay-backup file"),
        )
        .map(minisign::SignatureBox::into_string)
        .map_err(|error| SealError::Signature { thing: comment.to_owned(), reason: format!("{error}") })
    }
}

/// The trusted comment of a short signature, which is signed too.
const SHORT: &str = "relay-backup";

impl SigningKey {
    /// Signs a line of text that carries its signature: gives what [`Trusted::judge_short`] takes.
    pub fn sign_short(&self, content: &str) -> Result<String, SealError> {
        let text = self.sign(content.as_bytes(), SHORT)?;
        let lines: Vec<&str> = text.lines().collect();
        let [_, signature, _, global] = lines[..] else {
            return Err(SealError::Signature { thing: SHORT.to_owned(), reason: "it has not four lines".to_owned() });
        };
        Ok(format!("{signature}.{global}"))
    }
}

/// A public signing key.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    id: SigningKeyId,
    key: minisign::PublicKey,
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.to_base64() == other.to_base64()
    }
}

impl VerifyingKey {
    fn new(key: minisign::PublicKey) -> Self {
        Self { id: key_id(key.keynum()), key }
    }

    /// From its base64 form (`RW…`), or from the content of a `.pub` file.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        minisign::PublicKey::from_base64(line).map(Self::new).map_err(|_| SealError::Signature {
            thing: format!("the signing key {:?}", line.chars().take(80).collect::<String>()),
            reason: "a minisign public key (RW…) was expected".into(),
        })
    }

    /// Its id, as `minisign` prints it.
    pub fn id(&self) -> &SigningKeyId {
        &self.id
    }

    /// Its base64 form.
    pub fn to_base64(&self) -> String {
        self.key.to_base64()
    }

    /// The content of its `.pub` file.
    pub fn to_file(&self) -> String {
        format!("untrusted comment: minisign public key {}\n{}\n", self.id, self.to_base64())
    }
}

/// Keys whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    keys: Vec<VerifyingKey>,
}

/// What a signature turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Made by this trusted key.
    Good(SigningKeyId),
    /// Made by a key that nobody pinned.
    Untrusted(SigningKeyId),
    /// Made by nobody: the content was changed, or the signature is malformed.
    Bad(&'static str),
}

impl Trusted {
    /// These keys.
    pub fn new(keys: Vec<VerifyingKey>) -> Self {
        Self { keys }
    }

    /// The keys.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// Judges a short signature over a line of text.
    pub fn judge_short(&self, content: &str, signature: &str) -> Verdict {
        let Some((signature, global)) = signature.split_once('.') else {
            return Verdict::Bad("the signature is malformed");
        };
        let file = format!("untrusted comment: -\n{signature}\ntrusted comment: {SHORT}\n{global}\n");
        self.judge(content.as_bytes(), file.as_bytes())
    }

    /// Judges a signature over these bytes.
    pub fn judge(&self, content: &[u8], signature: &[u8]) -> Verdict {
        let text = std::str::from_utf8(signature).ok().filter(|text| has_whole_last_line(text));
        let Some(signature) = text.and_then(|text| minisign::SignatureBox::from_string(text).ok()) else {
            return Verdict::Bad("the signature file is malformed");
        };
        let id = key_id(signature.keynum());
        let mut candidates = self.keys.iter().filter(|key| key.id == id).peekable();
        if candidates.peek().is_none() {
            return Verdict::Untrusted(id);
        }
        let good = candidates
            .any(|key| minisign::verify(&key.key, &signature, Cursor::new(content), true, false, false).is_ok());
        if good { Verdict::Good(id) } else { Verdict::Bad("the content is not what was signed") }
    }
}

/// Whether the last of the four lines can be a signature of 64 bytes, in base64. minisign reads a shorter one as well
/// and then stops the program, so whoever can write to a vault could keep everybody from reading it.
fn has_whole_last_line(text: &str) -> bool {
    text.lines().nth(3).is_some_and(|line| line.trim().len() == 88 && line.trim().ends_with("=="))
}

fn key_id(keynum: &[u8]) -> SigningKeyId {
    // minisign keeps the id in little-endian order and prints it as one number.
    let digits: String = keynum.iter().rev().map(|byte| format!("{byte:02X}")).collect();
    match digits.parse() {
        Ok(id) => id,
        Err(error) => unreachable!("a key id has eight bytes: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_untrusted_or_bad() {
        let (key, file) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let signature = key.sign(b"content", "a comment").unwrap();
        let trusted = Trusted::new(vec![key.public().clone()]);
        assert_eq!(trusted.judge(b"content", signature.as_bytes()), Verdict::Good(key.public().id().clone()));
        assert!(matches!(trusted.judge(b"contens", signature.as_bytes()), Verdict::Bad(_)));
        let short = key.sign_short("a line").unwrap();
        assert_eq!(trusted.judge_short("a line", &short), Verdict::Good(key.public().id().clone()));
        assert!(matches!(trusted.judge_short("b line", &short), Verdict::Bad(_)));
        for length in 0..short.len() {
            assert!(
                matches!(trusted.judge_short("a line", &short[..length]), Verdict::Bad(_)),
                "{length} letters of it"
            );
        }
        let of_other = other.sign_short("a line").unwrap();
        assert_eq!(trusted.judge_short("a line", &of_other), Verdict::Untrusted(other.public().id().clone()));
        assert!(matches!(trusted.judge(b"content", b"nonsense"), Verdict::Bad(_)));
        let forged = other.sign(b"content", "a comment").unwrap();
        assert_eq!(trusted.judge(b"content", forged.as_bytes()), Verdict::Untrusted(other.public().id().clone()));
        let changed = signature.replace("a comment", "b comment");
        assert!(matches!(trusted.judge(b"content", changed.as_bytes()), Verdict::Bad(_)));
        for length in 0..signature.trim_end().len() {
            let cut = &signature.as_bytes()[..length];
            assert!(matches!(trusted.judge(b"content", cut), Verdict::Bad(_)), "{length} bytes of it");
        }
        assert_eq!(&VerifyingKey::parse(&key.public().to_file()).unwrap(), key.public());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        fsio::create_durably(&path, file.expose(), 0o600).unwrap();
        assert_eq!(SigningKey::read(&path).unwrap().public(), key.public());
        assert!(!format!("{key:?}").contains(std::str::from_utf8(&file.expose()[40..60]).unwrap()));
    }
}
