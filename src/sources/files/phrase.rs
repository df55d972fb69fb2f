//! Finds a BIP39 phrase in a text, so that the operator hears of a seed lying about. The words themselves never leave
//! this file.

use std::collections::HashSet;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Largest text that is searched, in bytes.
pub(super) const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// Numbers of words a phrase may have.
const LENGTHS: [usize; 5] = [12, 15, 18, 21, 24];

static WORDS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| bip39::Language::English.word_list().iter().copied().collect());

/// Whether the text holds 12 to 24 consecutive English words of BIP39 whose checksum is right. Numbers, commas and
/// line ends between the words do not matter.
pub(super) fn is_in(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut run: Vec<Zeroizing<String>> = Vec::new();
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        let word = Zeroizing::new(word.to_lowercase());
        if WORDS.contains(word.as_str()) {
            run.push(word);
            if LENGTHS.iter().any(|length| ends_with_phrase(&run, *length)) {
                return true;
            }
        } else {
            run.clear();
        }
    }
    false
}

fn ends_with_phrase(run: &[Zeroizing<String>], length: usize) -> bool {
    let Some(words) = run.len().checked_sub(length).and_then(|start| run.get(start..)) else { return false };
    let mut phrase = Zeroizing::new(String::with_capacity(length * 9));
    for word in words {
        phrase.push_str(word);
        phrase.push(' ');
    }
    bip39::Mnemonic::parse_in_normalized(bip39::Language::English, phrase.trim_end()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHRASE: &str =
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

    #[test]
    fn a_phrase_is_found_however_it_is_written_down() {
        assert!(is_in(PHRASE.as_bytes()));
        assert!(is_in(PHRASE.to_uppercase().as_bytes()));
        let numbered: String = PHRASE.split(' ').enumerate().map(|(n, word)| format!("{}. {word}\n", n + 1)).collect();
        assert!(is_in(format!("My wallet, do not lose\n{numbered}end").as_bytes()));
        let all = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote";
        assert!(is_in(all.as_bytes()));
    }

    #[test]
    fn other_texts_are_not_taken_for_one() {
        assert!(!is_in(PHRASE.replace("about", "abandon").as_bytes()), "the checksum is wrong");
        assert!(!is_in(PHRASE.replacen("abandon", "notaword", 6).as_bytes()));
        assert!(!is_in(b"\xff\xfe abandon"));
        assert!(!is_in(b""));
    }
}
