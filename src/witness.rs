//! The witness: one short signed line that says what a host had done last when it was printed. It lies with a person,
//! outside of every vault, so it tells a vault that was set back, which nothing in the vault can. Whoever can write to
//! a vault cannot make one: the host's signing key signs it.
//!
//! `rbw1:<node>:<snapshot>:<state>:<manifest>:<signature>`

use crate::base::ids::{NodeName, Sha256Hex, SnapshotId};
use std::fmt;
use std::str::FromStr;

/// What every witness begins with: the format's name.
pub const MARK: &str = "rbw1:";
/// How many hexadecimal digits of a manifest's SHA-256 stand in it: 128 bits.
const DIGITS: usize = 32;

/// How the newest snapshot stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The node went on.
    Ordinary,
    /// The node was stopped for good.
    Final,
    /// It had been final, and that was undone.
    Undone,
}

/// What a witness says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The protected host.
    pub node: NodeName,
    /// Its newest snapshot.
    pub snapshot: SnapshotId,
    /// How that stood.
    pub state: State,
    /// The first digits of the SHA-256 of its manifest.
    pub manifest: String,
}

/// A witness with its signature, which nobody has looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What it says.
    pub says: Witness,
    /// The signature's text.
    pub signature: String,
}

/// Why a text is no witness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no witness: {why}")]
pub struct BadWitness {
    /// The text, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Final => "final",
            Self::Undone => "undone",
        }
    }
}

impl Witness {
    /// Of a snapshot with this manifest.
    pub fn new(node: &NodeName, snapshot: &SnapshotId, state: State, manifest: &Sha256Hex) -> Self {
        let manifest = manifest.as_str().chars().take(DIGITS).collect();
        Self { node: node.clone(), snapshot: snapshot.clone(), state, manifest }
    }

    /// Whether this is the manifest that it names.
    pub fn names(&self, manifest: &Sha256Hex) -> bool {
        manifest.as_str().starts_with(&self.manifest)
    }

    /// Whether it was printed after the other, by what the two say.
    pub fn is_later_than(&self, other: &Self) -> bool {
        (&self.snapshot, self.state) > (&other.snapshot, other.state)
    }

    /// The bytes that are signed.
    pub fn content(&self) -> String {
        format!("relay-backup witness: {self}\n")
    }

    /// The whole line.
    pub fn line(&self, signature: &str) -> String {
        format!("{self}:{signature}")
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}:{}:{}:{}", self.node, self.snapshot, self.state.as_str(), self.manifest)
    }
}

impl FromStr for Signed {
    type Err = BadWitness;

    fn from_str(text: &str) -> Result<Self, BadWitness> {
        // A line that was typed or scanned may have been broken.
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let bad = |why: &str| BadWitness { text: text.chars().take(60).collect(), why: why.to_owned() };
        let parts: Vec<&str> = text.split(':').collect();
        let [mark, node, snapshot, state, manifest, signature] = parts[..] else {
            return Err(bad("six parts with colons between them were expected"));
        };
        if format!("{mark}:") != MARK {
            return Err(bad("it does not begin with rbw1:"));
        }
        let states = [State::Ordinary, State::Final, State::Undone];
        let state = states.into_iter().find(|known| known.as_str() == state);
        if manifest.len() != DIGITS || !manifest.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad("its fifth part has not 32 hexadecimal digits"));
        }
        let says = Witness {
            node: node.parse().map_err(|error| bad(&format!("{error}")))?,
            snapshot: snapshot.parse().map_err(|error| bad(&format!("{error}")))?,
            state: state.ok_or_else(|| bad("its fourth part is none of ordinary, final, undone"))?,
            manifest: manifest.to_owned(),
        };
        Ok(Self { says, signature: signature.to_owned() })
    }
}

/// Every witness in a text: a line that was copied, or all that several runs printed.
pub fn find(text: &str) -> Result<Vec<Signed>, BadWitness> {
    if text.trim_start().starts_with(MARK) && text.matches(MARK).count() == 1 {
        return Ok(vec![text.parse()?]);
    }
    let words = text.split(|letter: char| letter.is_whitespace() || "\"',".contains(letter));
    let found: Vec<Signed> = words.filter(|word| word.starts_with(MARK)).map(str::parse).collect::<Result<_, _>>()?;
    if found.is_empty() {
        let text = text.chars().take(60).collect();
        return Err(BadWitness { text, why: "nothing in it begins with rbw1:".to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(snapshot: &str, state: State) -> Witness {
        let manifest = Sha256Hex::of(b"a manifest");
        Witness::new(&"shop".parse().unwrap(), &snapshot.parse().unwrap(), state, &manifest)
    }

    #[test]
    fn a_line_says_what_was_put_into_it_also_when_it_was_broken_on_the_way() {
        let told = witness("20261129T080000Z-000008", State::Final);
        let line = told.line("RUabc=.def/+=");
        let wanted = Signed { says: told.clone(), signature: "RUabc=.def/+=".to_owned() };
        assert_eq!(line.parse::<Signed>().unwrap(), wanted);
        let broken = line.replace(":final", "\n   :final");
        assert_eq!(find(&format!("  {broken}\n")).unwrap(), std::slice::from_ref(&wanted));
        let log = format!("Snapshot …\nWitness: {line}\n{{\"witness\": \"{line}\", \"x\": 1}}");
        assert_eq!(find(&log).unwrap(), [wanted.clone(), wanted]);
        assert!(told.names(&Sha256Hex::of(b"a manifest")) && !told.names(&Sha256Hex::of(b"another")));
    }

    #[test]
    fn what_was_cut_or_mistyped_is_no_witness() {
        let line = witness("20261129T080000Z-000008", State::Final).line("RUabc");
        for bad in ["", "nothing", &line[..40], &line.replace("final", "finite"), &line.replace("rbw1", "rbw2")] {
            assert!(find(bad).is_err(), "{bad}");
        }
        assert!(line.replace("000008:", "000008:x:").parse::<Signed>().is_err());
        let digits = &witness("20261129T080000Z-000008", State::Final).manifest;
        assert!(line.replace(digits.as_str(), &digits[1..]).parse::<Signed>().is_err());
    }

    #[test]
    fn later_is_by_the_number_and_then_by_what_was_done_to_it() {
        let eight = |state| witness("20261129T080000Z-000008", state);
        let nine = witness("20200101T000000Z-000009", State::Ordinary);
        assert!(nine.is_later_than(&eight(State::Undone)));
        assert!(eight(State::Undone).is_later_than(&eight(State::Final)));
        assert!(!eight(State::Final).is_later_than(&eight(State::Final)));
    }
}
