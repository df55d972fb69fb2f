//! Texts of the policy turned into values: durations, sizes, paths, public keys. Pure; each error says what is wrong
//! and what to write instead, and none of them quotes what may be a secret.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// What is wrong with a value, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadValue {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// A [`BadValue`].
pub(crate) fn bad<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, BadValue> {
    Err(BadValue { what: what.into(), remedy: remedy.into() })
}

const DURATION_REMEDY: &str = "write a number and a unit (ms, s, m, h, d, w), such as \"26h\", \"30m\" or \"1d12h\"";
const SIZE_REMEDY: &str = "write a number and a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB), such as \"96MiB\"";

/// Splits `1d12h` into (1, "d"), (12, "h").
fn parts(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut rest = text;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        if unit.is_empty() {
            return None;
        }
        found.push((number.parse().ok()?, unit));
        rest = tail;
    }
    (!found.is_empty()).then_some(found)
}

/// A length of time such as `26h`, `30m`, `250ms` or `1d12h`; never zero, at most 100 years.
pub(crate) fn duration(text: &str) -> Result<Duration, BadValue> {
    const UNITS: [(&str, u64); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    const LONGEST_MS: u64 = 100 * 365 * 86_400_000;
    let not_one = || bad(format!("{:?} is not a length of time", super::shape::shown(text)), DURATION_REMEDY);
    let Some(parts) = parts(text) else { return not_one() };
    let mut total: u64 = 0;
    let mut next_unit = 0;
    for (number, unit) in parts {
        let Some(at) = UNITS.iter().position(|(name, _)| *name == unit) else { return not_one() };
        if at < next_unit {
            return bad(format!("{text:?} does not go from the larger unit to the smaller"), DURATION_REMEDY);
        }
        next_unit = at + 1;
        let ms = UNITS.get(at).map_or(0, |(_, ms)| *ms);
        total = total.saturating_add(number.saturating_mul(ms));
    }
    match total {
        0 => bad("is no time at all", DURATION_REMEDY),
        1..=LONGEST_MS => Ok(Duration::from_millis(total)),
        _ => bad("is longer than 100 years", DURATION_REMEDY),
    }
}

/// A number of bytes such as `96MiB`; never zero.
pub(super) fn size(text: &str) -> Result<u64, BadValue> {
    const UNITS: [(&str, u64); 10] = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let not_one = || bad(format!("{:?} is not a number of bytes", super::shape::shown(text)), SIZE_REMEDY);
    let Some(parts) = parts(text) else { return not_one() };
    let [(number, unit)] = parts.as_slice() else { return not_one() };
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| name == unit) else { return not_one() };
    match number.checked_mul(*factor) {
        Some(0) => bad("is no byte at all", SIZE_REMEDY),
        Some(bytes) => Ok(bytes),
        None => bad("is more than can be counted", SIZE_REMEDY),
    }
}

/// Bytes per second such as `2MiB/s`.
pub(super) fn bandwidth(text: &str) -> Result<u64, BadValue> {
    let remedy = "write a size per second, such as \"2MiB/s\"";
    let Some(per_second) = text.strip_suffix("/s") else {
        return bad(format!("{:?} does not end in /s", super::shape::shown(text)), remedy);
    };
    size(per_second).map_err(|error| BadValue { remedy: remedy.to_owned(), ..error })
}

/// An absolute path without `..`, not the root folder itself.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, BadValue> {
    let path = Path::new(text);
    if text.contains('\0') {
        return bad("holds a NUL character", "remove it");
    }
    if !path.is_absolute() {
        let remedy = "write the whole path, beginning with /";
        return bad(format!("{:?} is not an absolute path", super::shape::shown(text)), remedy);
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return bad(format!("{:?} holds a \"..\"", super::shape::shown(text)), "write the path without \"..\"");
    }
    let plain: PathBuf = path.components().collect();
    if plain == Path::new("/") {
        return bad("is the root folder", "name the folder or file that is meant");
    }
    Ok(plain)
}

/// Folders the kernel makes up: nothing in them can be backed up.
const MADE_UP: [&str; 3] = ["/proc", "/sys", "/dev"];

/// An absolute path or glob of a `files` or `lnd` source, written without doubled or trailing slashes.
pub(super) fn path_or_glob(text: &str) -> Result<String, BadValue> {
    let path = absolute(text)?;
    if let Some(made_up) = MADE_UP.iter().find(|folder| path.starts_with(folder)) {
        return bad(format!("lies in {made_up}, which the kernel makes up"), "name files that lie on a disk");
    }
    let plain = path.to_str().unwrap_or(text).to_owned();
    if let Err(error) = glob::Pattern::new(&plain) {
        let remedy = "mend the pattern; to mean a '[', '*' or '?' itself write [[], [*] or [?]";
        return bad(format!("{:?} is not a valid pattern: {}", super::shape::shown(text), error.msg), remedy);
    }
    Ok(plain)
}

/// Checks the form of an age recipient: X25519, `ssh-ed25519` or a plugin's.
pub(super) fn recipient(text: &str) -> Result<(), BadValue> {
    const REMEDY: &str = "paste the public key as `age-keygen -y` or `relay-backup keygen` prints it (age1…), or an ssh-ed25519 public key";
    if is_secret(text) {
        return bad(
            "is a SECRET key; this host must never hold it",
            "remove it here and put its public half (age1…) in its place; treat the secret as seen by this host",
        );
    }
    if let Some(rest) = text.strip_prefix("ssh-ed25519 ") {
        let blob = rest.split_ascii_whitespace().next().and_then(base64);
        let is_whole =
            blob.is_some_and(|blob| blob.len() == 51 && blob.starts_with(b"\0\0\0\x0bssh-ed25519\0\0\0\x20"));
        return if is_whole { Ok(()) } else { bad("is not a whole ssh-ed25519 public key", REMEDY) };
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
        return bad("is an SSH key of a kind that is not supported", "use an ssh-ed25519 key or an age1… recipient");
    }
    if !text.starts_with("age1") {
        return bad("is not an age recipient", REMEDY);
    }
    match bech32(text) {
        Some(("age", 52)) => Ok(()),
        Some(("age", _)) => bad("has the wrong length for an age recipient", REMEDY),
        Some((prefix, _)) if is_plugin(prefix) => Ok(()),
        _ => bad("is damaged: its checksum does not fit", REMEDY),
    }
}

fn is_plugin(prefix: &str) -> bool {
    prefix
        .strip_prefix("age1")
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b)))
}

/// Whether a text holds a secret key of age, of one of its plugins, or of SSH.
pub(crate) fn is_secret(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    ["AGE-SECRET-KEY-", "AGE-PLUGIN-", "PRIVATE KEY-----", "UNTRUSTED COMMENT: MINISIGN ENCRYPTED SECRET"]
        .iter()
        .any(|mark| upper.contains(mark))
}

/// Checks a bech32 text's checksum (BIP 173); gives its prefix and the number of 5-bit digits between prefix and
/// checksum.
fn bech32(text: &str) -> Option<(&str, usize)> {
    const ALPHABET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let (prefix, data) = text.rsplit_once('1')?;
    if prefix.is_empty() || !prefix.bytes().all(|b| (33..=126).contains(&b) && !b.is_ascii_uppercase()) {
        return None;
    }
    let digits: Vec<u8> = data
        .bytes()
        .map(|b| ALPHABET.iter().position(|letter| *letter == b).and_then(|at| u8::try_from(at).ok()))
        .collect::<Option<_>>()?;
    let expanded = prefix.bytes().map(|b| b >> 5).chain([0]).chain(prefix.bytes().map(|b| b & 31));
    let mut sum: u32 = 1;
    for digit in expanded.chain(digits.iter().copied()) {
        let top = sum >> 25;
        sum = ((sum & 0x01ff_ffff) << 5) ^ u32::from(digit);
        for (bit, factor) in GENERATOR.iter().enumerate() {
            if (top >> bit) & 1 == 1 {
                sum ^= factor;
            }
        }
    }
    (sum == 1 && digits.len() >= 6).then(|| (prefix, digits.len().saturating_sub(6)))
}

/// Decodes standard base64 with padding; `None` when it is not.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0_u32);
    for letter in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        held = (held << 6) | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Checks the form of a minisign public key: base64 of `Ed`, an eight-byte id and 32 bytes of key.
pub(super) fn minisign_key(text: &str) -> Result<(), BadValue> {
    if is_secret(text) {
        return bad("is a SECRET key", "put the public key (RW…) here; treat the secret as seen by this host");
    }
    match base64(text) {
        Some(bytes) if bytes.len() == 42 && bytes.starts_with(b"Ed") => Ok(()),
        _ => bad(
            "is not a minisign public key",
            "paste the line of 56 characters that begins with RW, from the .pub file",
        ),
    }
}
