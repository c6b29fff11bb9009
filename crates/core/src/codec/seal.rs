//! Sealing: AES-256-GCM, or a keyed checksum where encryption is off.
//!
//! ```text
//!  Aes256Gcm   nonce (12) | ciphertext | tag (16)      NIST SP 800-38D; the nonce is random
//!  None        body                    | tag (16)      keyed BLAKE3 over (u64 length of associated data | it | body)
//! ```
//!
//! Both find every change of the body and of the associated data, which says where the bytes belong. Without
//! encryption this holds against anybody without the repository's key slots. Nothing here draws random bytes by
//! itself, and nothing is allocated per call but what the caller's output grows by.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::environment::Environment;
use crate::error::{Error, ErrorKind, Result};

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// How data slots are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    /// Plain, with a keyed checksum.
    None = 0,
    /// AES-256-GCM with random nonces.
    Aes256Gcm = 1,
}

impl Suite {
    /// The most bytes that any suite adds.
    pub const OVERHEAD_BYTES_MAX: usize = NONCE_BYTES + TAG_BYTES;

    /// Reads the number that stands for a suite in stored structures.
    pub fn from_number(number: u8) -> Option<Suite> {
        match number {
            0 => Some(Suite::None),
            1 => Some(Suite::Aes256Gcm),
            _ => None,
        }
    }

    /// Returns how many bytes sealing adds.
    pub fn overhead_bytes(self) -> usize {
        match self {
            Suite::None => TAG_BYTES,
            Suite::Aes256Gcm => NONCE_BYTES + TAG_BYTES,
        }
    }
}

/// A key that seals and opens; it is wiped when dropped.
pub struct SealingKey {
    cipher: Cipher,
}

enum Cipher {
    None(Zeroizing<[u8; 32]>),
    Aes256Gcm(LessSafeKey),
}

impl SealingKey {
    /// Makes a key of 32 bytes ready for use with `suite`.
    pub fn new(suite: Suite, key: &[u8; 32]) -> Result<SealingKey> {
        let cipher = match suite {
            Suite::None => Cipher::None(Zeroizing::new(*key)),
            Suite::Aes256Gcm => {
                let key = UnboundKey::new(&AES_256_GCM, key)
                    .map_err(|error| Error::with_source(ErrorKind::Unsupported, "set up AES-256-GCM", error))?;
                Cipher::Aes256Gcm(LessSafeKey::new(key))
            }
        };
        Ok(SealingKey { cipher })
    }

    /// Returns the suite that the key works with.
    pub fn suite(&self) -> Suite {
        match self.cipher {
            Cipher::None(_) => Suite::None,
            Cipher::Aes256Gcm(_) => Suite::Aes256Gcm,
        }
    }

    /// Seals `body` and appends it to `output`, which then is longer by the body and the suite's overhead.
    pub fn seal(&self, associated: &[u8], body: &[u8], environment: &Environment, output: &mut Vec<u8>) -> Result<()> {
        output.reserve(body.len() + self.suite().overhead_bytes());
        match &self.cipher {
            Cipher::None(key) => {
                output.extend_from_slice(body);
                output.extend_from_slice(&checksum(key, associated, body));
                Ok(())
            }
            Cipher::Aes256Gcm(key) => {
                let nonce: [u8; NONCE_BYTES] = environment.random_bytes();
                seal_aes(key, nonce, associated, body, output)
            }
        }
    }

    /// Opens `sealed` where it lies and returns the body in it. After an error `sealed` holds anything.
    ///
    /// # Errors
    /// `Damaged` if it was not sealed by this key with the same associated data.
    pub fn open_in_place<'a>(&self, associated: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        self.try_open(associated, sealed)
            .ok_or_else(|| Error::damaged("it does not open: damaged, or not written with this key"))
    }

    fn try_open<'a>(&self, associated: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (rest, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>()?;
        match &self.cipher {
            Cipher::None(key) => {
                verify_slices_are_equal(&checksum(key, associated, rest), tag).ok()?;
                Some(rest)
            }
            Cipher::Aes256Gcm(key) => {
                let (nonce, body) = rest.split_first_chunk_mut::<NONCE_BYTES>()?;
                let nonce = Nonce::assume_unique_for_key(*nonce);
                key.open_in_place_separate_tag(nonce, Aad::from(associated), tag, body).ok()
            }
        }
    }
}

fn seal_aes(
    key: &LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    associated: &[u8],
    body: &[u8],
    output: &mut Vec<u8>,
) -> Result<()> {
    let start = output.len();
    output.extend_from_slice(&nonce);
    output.extend_from_slice(body);
    let placed = output.get_mut(start + NONCE_BYTES..).unwrap_or_default();
    match key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), placed) {
        Ok(tag) => {
            output.extend_from_slice(tag.as_ref());
            Ok(())
        }
        Err(error) => {
            // Plain bytes must not stay in a buffer that is about to be stored.
            output.truncate(start);
            Err(Error::with_source(ErrorKind::InvalidInput, format!("seal {} bytes", body.len()), error))
        }
    }
}

fn checksum(key: &[u8; 32], associated: &[u8], body: &[u8]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(associated.len() as u64).to_le_bytes()).update(associated).update(body);
    let mut tag = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({:?}, ***)", self.suite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::fixed_environment;

    fn keys() -> [SealingKey; 2] {
        [Suite::None, Suite::Aes256Gcm].map(|suite| SealingKey::new(suite, &[7; 32]).unwrap())
    }

    #[test]
    fn bodies_survive_behind_other_bytes() {
        let environment = fixed_environment(1);
        for key in keys() {
            for length in [0, 1, 15, 16, 17, 16384] {
                let body = vec![5u8; length];
                let mut output = b"before".to_vec();
                key.seal(b"place", &body, &environment, &mut output).unwrap();
                assert_eq!(output.len(), 6 + length + key.suite().overhead_bytes());
                assert_eq!(&output[..6], b"before");
                assert_eq!(key.open_in_place(b"place", &mut output[6..]).unwrap(), body);
            }
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_found() {
        let environment = fixed_environment(2);
        for key in keys() {
            let mut sealed = Vec::new();
            key.seal(b"place", b"body", &environment, &mut sealed).unwrap();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(key.open_in_place(b"place", &mut changed).unwrap_err().kind(), ErrorKind::Damaged);
                assert!(key.open_in_place(b"place", &mut sealed.clone()[..at]).is_err());
                assert!(key.open_in_place(b"place", &mut sealed.clone()[at + 1..]).is_err());
            }
            assert!(key.open_in_place(b"plac", &mut sealed.clone()).is_err());
            assert!(key.open_in_place(b"place", &mut sealed).is_ok());
        }
    }

    #[test]
    fn associated_data_and_body_do_not_run_together() {
        let [none, _] = keys();
        let mut sealed = Vec::new();
        none.seal(b"ab", b"cd", &fixed_environment(3), &mut sealed).unwrap();
        let mut shifted = [b"d".as_slice(), &sealed[2..]].concat();
        assert!(none.open_in_place(b"abc", &mut shifted).is_err());
    }

    #[test]
    fn another_key_or_suite_does_not_open_it() {
        let [none, aes] = keys();
        let other = SealingKey::new(Suite::Aes256Gcm, &[8; 32]).unwrap();
        let mut sealed = Vec::new();
        aes.seal(b"", b"body", &fixed_environment(4), &mut sealed).unwrap();
        assert!(other.open_in_place(b"", &mut sealed.clone()).is_err());
        assert!(none.open_in_place(b"", &mut sealed).is_err());
    }

    #[test]
    fn same_body_is_sealed_differently_each_time() {
        let [_, aes] = keys();
        let environment = fixed_environment(5);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        aes.seal(b"", b"body", &environment, &mut first).unwrap();
        aes.seal(b"", b"body", &environment, &mut second).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn keys_print_as_stars() {
        assert_eq!(format!("{:?}", keys()), "[SealingKey(None, ***), SealingKey(Aes256Gcm, ***)]");
    }
}
