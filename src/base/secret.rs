//! Bytes that must not be seen: printed as `[secret]`, wiped when dropped, compared in constant time.

use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Secret bytes. `Debug` prints `[secret]`, there is no `Display`, and the memory is wiped on drop.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller's vector is moved, not copied.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for as long as the borrow lasts. Do not copy them anywhere that is not wiped.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares without an early exit, so that the time taken tells nothing about the place of a difference.
    pub fn is_same(&self, other: &[u8]) -> bool {
        let mut difference = u8::from(self.0.len() != other.len());
        for (left, right) in self.0.iter().zip(other) {
            difference |= left ^ right;
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_of_itself() {
        let secret = Secret::new(b"correct horse".to_vec());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert!(secret.is_same(b"correct horse"));
        assert!(!secret.is_same(b"correct horsf"));
        assert!(!secret.is_same(b"correct"));
    }
}
