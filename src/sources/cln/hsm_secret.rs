//! Core Lightning's `hsm_secret`: which of its four forms it has, the node id it stands for, and whether it is still
//! the one that was attested. Everything derived from it is wiped. Nothing here writes, and no error carries a word of
//! the mnemonic.

use crate::base::fsio::{self, FileError};
use crate::base::ids::{Sha256Hex, SourceName};
use crate::base::limits::HSM_SECRET_BYTES_MAX;
use crate::base::secret::Secret;
use crate::facts::cln::{Attestation, SecretFormat};
use hkdf::Hkdf;
use k256::elliptic_curve::sec1::ToSec1Point;
use sha2::Sha256;
use std::io::{self, Read};
use std::path::Path;
use zeroize::Zeroizing;

const RAW_BYTES: usize = 32;
const ENCRYPTED_BYTES: usize = 73;
const PREFIX_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

/// Why a file is not a valid `hsm_secret`. None of these tells anything of its content.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// Shorter than the shortest form.
    #[error("it has {length} bytes, and the shortest form has 32")]
    TooShort {
        /// Its length in bytes.
        length: usize,
    },
    /// 32 zero bytes: a wiped or never written file.
    #[error("it holds nothing but zero bytes")]
    Zero,
    /// What follows the prefix is no text.
    #[error("what follows its first 32 bytes is not text, so it is not a mnemonic")]
    NotText,
    /// White space that lightningd would take for a part of the words.
    #[error(
        "its mnemonic has a line break or other white space that is not one space between words; lightningd takes every byte as part of the mnemonic"
    )]
    WhiteSpace,
    /// A number of words that BIP39 does not know.
    #[error("its mnemonic has {words} words, which BIP39 does not know")]
    WordCount {
        /// How many words.
        words: usize,
    },
    /// A word that is not on the English list.
    #[error("word {position} of its mnemonic is not on the English word list")]
    UnknownWord {
        /// Which word, counted from 1.
        position: usize,
    },
    /// The words do not belong together.
    #[error("the checksum of its mnemonic is wrong: a word was changed or swapped")]
    Checksum,
}

/// An `hsm_secret` in a valid form, with what can be derived from it without a passphrase.
#[derive(Debug)]
pub struct HsmSecret {
    bytes: Secret,
    format: SecretFormat,
    /// 32 bytes of a raw secret or 64 of a mnemonic's seed.
    root: Option<Secret>,
}

impl HsmSecret {
    /// Tells the form by the length first and then by the first 32 bytes, as lightningd does.
    pub fn parse(bytes: Secret) -> Result<Self, SecretError> {
        let raw = bytes.expose();
        let length = raw.len();
        if length < RAW_BYTES {
            return Err(SecretError::TooShort { length });
        }
        if raw.iter().all(|byte| *byte == 0) {
            return Err(SecretError::Zero);
        }
        let (format, root) = match length {
            RAW_BYTES => (SecretFormat::Raw, Some(bytes.clone())),
            ENCRYPTED_BYTES => (SecretFormat::Encrypted, None),
            _ => {
                let mnemonic = mnemonic(&raw[PREFIX_BYTES..])?;
                if raw[..PREFIX_BYTES].iter().all(|byte| *byte == 0) {
                    let seed = Zeroizing::new(mnemonic.to_seed_normalized(""));
                    (SecretFormat::Mnemonic, Some(Secret::new(seed.to_vec())))
                } else {
                    (SecretFormat::MnemonicWithPassphrase, None)
                }
            }
        };
        Ok(Self { bytes, format, root })
    }

    /// How it lies on disk.
    pub fn format(&self) -> SecretFormat {
        self.format
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// The node id, in hexadecimal; `None` where a passphrase would be needed.
    pub fn node_id(&self) -> Option<String> {
        node_id(self.root.as_ref()?.expose())
    }

    /// The key of `emergency.recover`; `None` where a passphrase would be needed.
    pub fn emergency_key(&self) -> Option<Zeroizing<[u8; 32]>> {
        self.make_secret(b"scb secret")
    }

    /// What lightningd's `makesecret` derives for this text: it starts from the whole 32 or 64 bytes, unlike the node
    /// id.
    fn make_secret(&self, info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let derived = hkdf(&[], self.root.as_ref()?.expose(), b"derived secrets")?;
        hkdf(&[], derived.as_slice(), info)
    }

    /// What later runs compare with. The salt makes the digest of a guessable file worthless to others.
    pub fn attest(&self, source: &SourceName) -> Result<Attestation, io::Error> {
        let mut salt = [0u8; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        Ok(Attestation {
            source: source.clone(),
            salt: hex::encode(salt),
            sha256: salted(&salt, self.bytes()),
            format: self.format,
            node_id: self.node_id(),
        })
    }
}

impl Attestation {
    /// Whether these bytes are the attested secret. An attestation whose salt cannot be read matches nothing.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        hex::decode(&self.salt).is_ok_and(|salt| salted(&salt, bytes) == self.sha256)
    }
}

/// Reads a live secret into memory that is wiped, without leaving copies in freed memory. An empty file reads as empty.
pub(super) fn read(path: &Path) -> Result<Secret, FileError> {
    let mut file = fsio::open_regular(path)?;
    let mut buffer = Zeroizing::new([0u8; HSM_SECRET_BYTES_MAX + 1]);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::io("read", path)(error)),
        }
    }
    if filled > HSM_SECRET_BYTES_MAX {
        let (length, limit) = (filled as u64, HSM_SECRET_BYTES_MAX as u64);
        return Err(FileError::TooLarge { path: path.to_owned(), length, limit });
    }
    Ok(Secret::new(buffer[..filled].to_vec()))
}

fn salted(salt: &[u8], bytes: &[u8]) -> Sha256Hex {
    let mut both = Zeroizing::new(Vec::with_capacity(salt.len() + bytes.len()));
    both.extend_from_slice(salt);
    both.extend_from_slice(bytes);
    Sha256Hex::of(&both)
}

fn mnemonic(bytes: &[u8]) -> Result<bip39::Mnemonic, SecretError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NotText)?;
    // The text itself is what the seed is made of, so a space or line break too many makes another node.
    let plain = !text.starts_with(' ') && !text.ends_with(' ') && !text.contains("  ");
    if !plain || text.contains(|c: char| c != ' ' && c.is_whitespace()) {
        return Err(SecretError::WhiteSpace);
    }
    bip39::Mnemonic::parse_in_normalized(bip39::Language::English, text).map_err(|error| match error {
        bip39::Error::BadWordCount(words) => SecretError::WordCount { words },
        bip39::Error::UnknownWord(index) => SecretError::UnknownWord { position: index + 1 },
        _ => SecretError::Checksum,
    })
}

/// The node id of a raw secret or of a mnemonic's seed; of the seed, only the first 32 bytes count.
fn node_id(root: &[u8]) -> Option<String> {
    let material = root.get(..32)?;
    // A derived number that is no valid key is skipped. That never happens in practice; the bound only ends the loop.
    (0u32..16).find_map(|counter| {
        let key = hkdf(&counter.to_ne_bytes(), material, b"nodeid")?;
        let key = k256::SecretKey::from_slice(key.as_slice()).ok()?;
        Some(hex::encode(key.public_key().to_sec1_point(true).as_bytes()))
    })
}

fn hkdf(salt: &[u8], material: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0u8; 32]);
    Hkdf::<Sha256>::new(Some(salt), material).expand(info, key.as_mut_slice()).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Digest;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cln");

    fn mnemonic_file(words: &str) -> Vec<u8> {
        [&[0u8; 32][..], words.as_bytes()].concat()
    }

    fn parse(bytes: Vec<u8>) -> Result<HsmSecret, SecretError> {
        HsmSecret::parse(Secret::new(bytes))
    }

    fn padded(text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(32, 0);
        bytes
    }

    #[test]
    fn the_vendors_fixtures_derive_their_node_ids() {
        let expected = std::fs::read(format!("{FIXTURES}/hsm_secret/expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let files = expected["files"].as_object().unwrap();
        assert_eq!(files.len(), 4);
        for (name, entry) in files {
            let secret = parse(std::fs::read(format!("{FIXTURES}/hsm_secret/{name}")).unwrap()).unwrap();
            let format = match name.as_str() {
                "raw32.hsm_secret" => SecretFormat::Raw,
                "encrypted.hsm_secret" => SecretFormat::Encrypted,
                "mnemonic.hsm_secret" => SecretFormat::Mnemonic,
                _ => SecretFormat::MnemonicWithPassphrase,
            };
            assert_eq!(secret.format(), format, "{name}");
            match entry["passphrase"].as_str() {
                None => assert_eq!(secret.node_id().as_deref(), entry["node_id"].as_str(), "{name}"),
                Some(passphrase) => {
                    assert_eq!(secret.node_id(), None, "{name}");
                    assert!(secret.emergency_key().is_none(), "{name}");
                    if format == SecretFormat::MnemonicWithPassphrase {
                        let words = mnemonic(&secret.bytes()[32..]).unwrap();
                        let seed = words.to_seed_normalized(passphrase);
                        assert_eq!(Sha256::digest(seed).as_slice(), &secret.bytes()[..32]);
                        assert_eq!(node_id(&seed).as_deref(), entry["node_id"].as_str(), "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn raw_vectors() {
        for (text, id) in [
            ("lightning-1", "0266e4598d1d3c415f572a8488830b60f7e744ed9235eb0b1ba93283b315c03518"),
            ("lightning-2", "022d223620a359a47ff7f7ac447c85c46c923da53389221a0054c11c1e3ca31d59"),
            ("lightning-3", "035d2b1192dfba134e10e540875d366ebc8bc353d5aa766b80c090b39c3a5d885d"),
        ] {
            assert_eq!(parse(padded(text)).unwrap().node_id().unwrap(), id);
        }
        let key = parse(padded("lightning-1")).unwrap().emergency_key().unwrap();
        assert_eq!(hex::encode(key.as_slice()), "a9a2e742405c28f059349132923a99337ae7f71168b7485496e3365f5bc664ed");
    }

    #[test]
    fn mnemonic_vectors() {
        let abandon = format!("{}about", "abandon ".repeat(11));
        let secret = parse(mnemonic_file(&abandon)).unwrap();
        assert_eq!(secret.node_id().unwrap(), "03653e90c1ce4660fd8505dd6d643356e93cfe202af109d382787639dd5890e87d");
        let hockey = "hockey enroll sure trip track rescue original plate abandon abandon abandon account";
        let secret = parse(mnemonic_file(hockey)).unwrap();
        assert_eq!(secret.node_id().unwrap(), "038194b5f32bdf0aa59812c86c4ef7ad2f294104fa027d1ace9b469bb6f88cf37b");
        assert_eq!(
            hex::encode(secret.emergency_key().unwrap().as_slice()),
            "498a16a6c6b82b7280de7f5b0afa0478b29d3a1cbe52c376249cf46abb6c03da"
        );
    }

    #[test]
    fn passphrase_vectors() {
        let ritual = "ritual idle hat sunny universe pluck key alpha wing cake have wedding";
        let seed = mnemonic(ritual.as_bytes()).unwrap().to_seed_normalized("test_passphrase");
        assert_eq!(node_id(&seed).unwrap(), "039020371fb803cd4ce1e9a909b502d7b0a9e0f10cccc35c3e9be959c52d3ba6bd");
        let prefix = Sha256::digest(seed);
        assert_eq!(hex::encode(prefix), "61ce9e277eb9894701400a422e43ba27c7d9d10b72bad52c16a411d2dbaf82f1");
        let file = [prefix.as_slice(), ritual.as_bytes()].concat();
        let secret = parse(file).unwrap();
        assert_eq!(secret.format(), SecretFormat::MnemonicWithPassphrase);
        assert_eq!(secret.node_id(), None);
        let blame = "blame expire peanut sell door zoo bundle motor truth outside artist siren";
        let words = mnemonic(blame.as_bytes()).unwrap();
        assert_eq!(
            hex::encode(&words.to_seed_normalized("")[..32]),
            "31bb58d1180831868fd5f562bb74659dca1e9673d034af635df53d677b9e5f03"
        );
        assert_eq!(
            hex::encode(&words.to_seed_normalized("passphrase")[..32]),
            "161d740bcfd3c5e2a1769159bee86868ab35e7544e83e825042a43b929ad950c"
        );
    }

    #[test]
    fn what_lightningd_would_not_take_is_refused() {
        let abandon = format!("{}about", "abandon ".repeat(11));
        let wrong = |bytes: Vec<u8>| parse(bytes).unwrap_err();
        assert_eq!(wrong(Vec::new()), SecretError::TooShort { length: 0 });
        assert_eq!(wrong(vec![1; 31]), SecretError::TooShort { length: 31 });
        assert_eq!(wrong(vec![0; 32]), SecretError::Zero);
        assert_eq!(wrong(vec![0; 512]), SecretError::Zero);
        assert_eq!(wrong(mnemonic_file(&format!("{abandon}\n"))), SecretError::WhiteSpace);
        assert_eq!(wrong(mnemonic_file(&format!(" {abandon}"))), SecretError::WhiteSpace);
        assert_eq!(wrong(mnemonic_file(&abandon.replacen(' ', "  ", 1))), SecretError::WhiteSpace);
        assert_eq!(wrong(mnemonic_file(&"abandon ".repeat(12)[..95])), SecretError::Checksum);
        assert_eq!(wrong(mnemonic_file("abandon about")), SecretError::WordCount { words: 2 });
        let spanish = format!("{}\u{e1}baco", "abandon ".repeat(11));
        assert_eq!(wrong(mnemonic_file(&spanish)), SecretError::UnknownWord { position: 12 });
        assert_eq!(wrong([vec![0; 32], vec![0xff; 60]].concat()), SecretError::NotText);
        // A raw secret to which an editor has added a line break.
        assert_eq!(wrong([vec![7; 32], b"\n".to_vec()].concat()), SecretError::WhiteSpace);
    }

    #[test]
    fn an_attestation_matches_its_secret_only_and_tells_nothing() {
        let bytes = std::fs::read(format!("{FIXTURES}/node/hsm_secret")).unwrap();
        let secret = parse(bytes.clone()).unwrap();
        let attestation = secret.attest(&"cln".parse().unwrap()).unwrap();
        assert!(attestation.matches(&bytes));
        let mut other = bytes.clone();
        other[40] ^= 1;
        assert!(!attestation.matches(&other));
        assert!(!attestation.matches(&bytes[..bytes.len() - 1]));
        assert_ne!(attestation.sha256, secret.attest(&"cln".parse().unwrap()).unwrap().sha256, "the salt is random");
        let text = format!("{attestation:?} {secret:?} {}", serde_json::to_string(&attestation).unwrap());
        let words = std::str::from_utf8(&bytes[32..]).unwrap();
        for word in words.split(' ') {
            assert!(!text.contains(&format!(" {word} ")), "a word of the mnemonic is shown");
        }
        assert!(!text.contains(Sha256Hex::of(&bytes).as_str()), "an unsalted digest is shown");
    }
}
