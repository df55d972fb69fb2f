//! Channel state that lies in no database: what LDK's store writes (`manager`, `monitors/…`, `monitor_updates/…`) and
//! Electrum's wallet files, told by how they begin and by what is in them, never by their names. Formats: LDK
//! `ln/channelmanager.rs`, `chain/channelmonitor.rs`, `util/persist.rs`; Electrum `wallet_db.py`, `json_db.py`,
//! `storage.py`.

use crate::artifact::channels::{CHAINS, NodeSoftware};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// How much of the beginning tells LDK's files.
const HEAD_BYTES: usize = 128;
/// How much of a wallet is searched at once, in bytes.
const WINDOW_BYTES: usize = 1024 * 1024;
/// How much of it is searched again with what follows: more than any name that is looked for.
const OVERLAP_BYTES: usize = 256;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A node's channel state.
    State(NodeSoftware),
    /// What may be that, and cannot be read.
    Unclear(&'static str),
}

/// Looks at a file that is no database.
pub(super) fn look(file: &File) -> Option<Found> {
    let mut head = [0; HEAD_BYTES];
    let length = read_some(file, &mut head, 0)?;
    let head = head.get(..length)?;
    if is_ldk(head) {
        return Some(Found::State(NodeSoftware::Ldk));
    }
    if is_encrypted_electrum(head) {
        return Some(Found::Unclear("an encrypted Electrum wallet"));
    }
    let is_object = head.trim_ascii_start().strip_prefix(b"{").is_some_and(|rest| begins_with(rest, b"\""));
    (is_object && has_electrum_channels(file)).then_some(Found::State(NodeSoftware::Electrum))
}

/// Fills as much of the buffer as the file gives.
fn read_some(file: &File, buffer: &mut [u8], at: u64) -> Option<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(buffer.get_mut(length..)?, at + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(length)
}

fn begins_with(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(wanted)
}

/// LDK writes the version and the oldest version that can read it, then what it is.
fn is_ldk(head: &[u8]) -> bool {
    // The sign of a monitor that is kept together with its updates.
    let plain = head.strip_prefix(&[0xff, 0xff]).unwrap_or(head);
    let Some((&[version, least], body)) = plain.split_first_chunk::<2>() else { return false };
    if least == 0 || version < least || version > 4 {
        return false;
    }
    is_monitor(body).or_else(|| is_manager(body)).or_else(|| is_update(body)).unwrap_or(false)
}

/// `None` where it is not; every reader below says so.
fn is_monitor(body: &[u8]) -> Option<bool> {
    let (id, rest) = body.split_first_chunk::<8>()?;
    let (_obscured, rest) = rest.split_first_chunk::<6>()?;
    let (length, script) = rest.split_first_chunk::<2>()?;
    let script = script.get(..usize::from(u16::from_be_bytes(*length)) + 1)?;
    let (after, script) = script.split_last()?;
    let is_script = match script.len() {
        22 => script.starts_with(&[0x00, 0x14]),
        23 => script.starts_with(&[0xa9, 0x14]),
        25 => script.starts_with(&[0x76, 0xa9, 0x14]),
        34 => script.starts_with(&[0x00, 0x20]) || script.starts_with(&[0x51, 0x20]),
        _ => false,
    };
    (is_update_id(*id) && is_script && *after <= 1).then_some(true)
}

/// Which it counts up from zero; a closed channel's last one was the largest there is.
fn is_update_id(id: [u8; 8]) -> bool {
    let id = u64::from_be_bytes(id);
    id < 1 << 40 || id == u64::MAX
}

/// The chain, then the best block's height and hash. A network graph begins with the chain too, and goes on with how
/// many channels it has, as eight bytes.
fn is_manager(body: &[u8]) -> Option<bool> {
    let (chain, rest) = body.split_first_chunk::<32>()?;
    let known = hex::encode(chain);
    if !CHAINS.iter().any(|(hash, _)| *hash == known) {
        return None;
    }
    let (height, rest) = rest.split_first_chunk::<4>()?;
    let is_at_its_first_block = rest.starts_with(chain);
    (*height != [0; 4] || is_at_its_first_block).then_some(true)
}

/// Its number, how many steps it has, and the first of them: a small number, and how long it is.
fn is_update(body: &[u8]) -> Option<bool> {
    const STEPS_MAX: u64 = 10_000;
    const KINDS_MAX: u8 = 32;
    let (id, rest) = body.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let (kind, length) = rest.split_first_chunk::<1>()?;
    let count = u64::from_be_bytes(*count);
    let is_it = is_update_id(*id) && (1..=STEPS_MAX).contains(&count) && kind[0] <= KINDS_MAX && length.len() >= 2;
    is_it.then_some(true)
}

/// base64 of what begins with `BIE1` or `BIE2`.
fn is_encrypted_electrum(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"QklFM") else { return false };
    // The sixth digit's first two bits end the magic's last byte.
    let is_magic = matches!(rest.first(), Some(b'Q'..=b'Z' | b'a'..=b'v'));
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte);
    is_magic && head.iter().all(is_digit)
}

/// A wallet with a channel in it: `"channels"` that is not empty, or a later line that adds one.
fn has_electrum_channels(file: &File) -> bool {
    let mut window = zeroize::Zeroizing::new(vec![0; OVERLAP_BYTES + WINDOW_BYTES]);
    let (mut at, mut kept) = (0, 0);
    let (mut is_wallet, mut has_channels) = (false, false);
    loop {
        let Some(count) = window.get_mut(kept..).and_then(|free| read_some(file, free, at)) else { return false };
        let filled = window.get(..kept + count).unwrap_or_default();
        is_wallet |= memchr::memmem::find(filled, b"\"seed_version\"").is_some();
        has_channels |= has_a_channel(filled);
        if is_wallet && has_channels {
            return true;
        }
        if count == 0 {
            return false;
        }
        at += count as u64;
        let next = filled.len().min(OVERLAP_BYTES);
        let from = filled.len() - next;
        window.copy_within(from..from + next, 0);
        kept = next;
    }
}

fn has_a_channel(bytes: &[u8]) -> bool {
    let is_filled = |at: usize| {
        let value = bytes.get(at..).unwrap_or_default().trim_ascii_start().strip_prefix(b":");
        let inside = value.map(<[u8]>::trim_ascii_start).and_then(|value| value.strip_prefix(b"{"));
        inside.is_some_and(|inside| begins_with(inside, b"\""))
    };
    const NAME: &[u8] = b"\"channels\"";
    memchr::memmem::find(bytes, b"\"/channels/").is_some()
        || memchr::memmem::find_iter(bytes, NAME).any(|at| is_filled(at + NAME.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn found(bytes: &[u8]) -> Option<Found> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        look(&file)
    }

    fn regtest() -> Vec<u8> {
        hex::decode(CHAINS.iter().find(|(_, name)| *name == "regtest").unwrap().0).unwrap()
    }

    #[test]
    fn what_ldk_stores_is_told_by_how_it_begins() {
        let script = [&[0, 22, 0x00, 0x14][..], &[7; 20]].concat();
        let monitor = |id: u64| [&[1, 1][..], &id.to_be_bytes(), &[9; 6], &script, &[0, 0, 34]].concat();
        let ldk = Some(Found::State(NodeSoftware::Ldk));
        assert_eq!(found(&monitor(3)), ldk);
        assert_eq!(found(&monitor(u64::MAX)), ldk);
        assert_eq!(found(&[&[0xff, 0xff][..], &monitor(3)].concat()), ldk);
        assert_eq!(found(&monitor(1 << 50)), None);
        let update =
            |count: u64| [&[1, 1][..], &12_u64.to_be_bytes(), &count.to_be_bytes(), &[0, 90, 1, 2, 3]].concat();
        assert_eq!(found(&update(1)), ldk);
        assert_eq!((found(&update(0)), found(&update(1 << 33))), (None, None));
        let manager = [&[1, 1][..], &regtest(), &101_u32.to_be_bytes(), &[8; 32]].concat();
        assert_eq!(found(&manager), ldk);
        assert_eq!(found(&[&[1, 1][..], &regtest(), &[0; 4], &regtest()].concat()), ldk);
        let graph = [&[1, 1][..], &regtest(), &500_u64.to_be_bytes(), &[8; 32]].concat();
        assert_eq!(found(&graph), None);
        let foreign = [&[1, 1][..], &[0xab; 32], &101_u32.to_be_bytes(), &[8; 32]].concat();
        assert_eq!(found(&foreign), None);
        for harmless in [&b""[..], &[1], &[1, 1], &[1, 1, 0, 0], b"notes", &[0; 200]] {
            assert_eq!(found(harmless), None, "{harmless:?}");
        }
    }

    #[test]
    fn an_electrum_wallet_counts_where_it_has_channels() {
        let electrum = Some(Found::State(NodeSoftware::Electrum));
        let wallet = |channels: &str| {
            format!("{{\n    \"channels\": {channels},\n    \"keystore\": {{}},\n    \"seed_version\": 59\n}}")
        };
        assert_eq!(found(wallet("{\n \"00ab\": {\"state\": \"OPEN\"}}").as_bytes()), electrum);
        assert_eq!(found(wallet("{}").as_bytes()), None);
        let patch = ",\n{\"op\": \"add\", \"path\": \"/channels/00ab\", \"value\": {}}";
        assert_eq!(found((wallet("{}") + patch).as_bytes()), electrum);
        // Another program's file with such a word, and a wallet whose parts lie far from each other.
        assert_eq!(found(b"{\"channels\": {\"general\": 1}}"), None);
        let far = wallet("{\"00ab\": 1}").replace("{}", &format!("\"{}\"", "x".repeat(3 * WINDOW_BYTES)));
        assert_eq!(found(far.as_bytes()), electrum);
        for padding in (WINDOW_BYTES - 80)..(WINDOW_BYTES + 20) {
            let text =
                format!("{{\"seed_version\": 59, \"a\": \"{}\", \"channels\": {{\"x\": 1}}}}", "y".repeat(padding));
            if padding % 7 == 0 {
                assert_eq!(found(text.as_bytes()), electrum, "{padding}");
            }
        }
    }

    #[test]
    fn an_encrypted_electrum_wallet_could_be_anything() {
        let unclear = Some(Found::Unclear("an encrypted Electrum wallet"));
        for encrypted in [&b"QklFMQKxyz0123456789+/=="[..], b"QklFMgKxyz0123456789+/==\n"] {
            assert_eq!(found(encrypted), unclear);
        }
        for harmless in [&b"QklFMwKxyz"[..], b"QklFMQ is a word", b"QklFM"] {
            assert_eq!(found(harmless), None);
        }
    }
}
