//! Fingerprints: keyed BLAKE3-256 of plain blocks.
//!
//! One key per repository: who stores the packs cannot confirm a known content, and fingerprints stay comparable
//! across encryption versions.

use std::fmt;

use zeroize::ZeroizeOnDrop;

/// The key of all fingerprints of a repository; it is wiped when dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct FingerprintKey(pub(crate) [u8; 32]);

/// The fingerprint of a plain block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub [u8; 32]);

impl FingerprintKey {
    /// Takes a key as it is derived.
    pub fn from_bytes(bytes: [u8; 32]) -> FingerprintKey {
        FingerprintKey(bytes)
    }

    /// Returns the fingerprint of `block`.
    pub fn fingerprint(&self, block: &[u8]) -> Fingerprint {
        Fingerprint(*blake3::keyed_hash(&self.0, block).as_bytes())
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_depend_on_content_and_key() {
        let (key, other) = (FingerprintKey::from_bytes([1; 32]), FingerprintKey::from_bytes([2; 32]));
        assert_eq!(key.fingerprint(b"block"), key.fingerprint(b"block"));
        assert_ne!(key.fingerprint(b"block"), key.fingerprint(b"blocK"));
        assert_ne!(key.fingerprint(b"block"), other.fingerprint(b"block"));
        assert_eq!(format!("{key:?}"), "FingerprintKey(***)");
    }
}
