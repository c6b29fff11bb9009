//! The master key, the data keys, and how keys follow from keys.
//!
//! All derivation is BLAKE3's `derive_key` mode (BLAKE3 paper, section 6.2): a fixed context string per purpose, then
//! the secret of 32 bytes, then what the key is for. No two purposes share a context, so no key serves two of them.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::fingerprint::FingerprintKey;
use crate::codec::seal::{SealingKey, Suite};
use crate::envelope::RecordKind;
use crate::environment::Environment;
use crate::error::Result;
use crate::ids::{PackId, RepositoryId};

const FINGERPRINT_CONTEXT: &str = "backy2 2026 fingerprint key";
const METADATA_CONTEXT: &str = "backy2 2026 metadata key";
const RECORD_CONTEXT: &str = "backy2 2026 record key";
const KEYRING_CONTEXT: &str = "backy2 2026 keyring key";
const PACK_CONTEXT: &str = "backy2 2026 pack data key";

/// The key from which all others of a repository follow.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Makes a new master key of random bytes.
    pub fn generate(environment: &Environment) -> MasterKey {
        MasterKey(environment.random_bytes())
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> MasterKey {
        MasterKey(*bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn fingerprint_key(&self, repository: RepositoryId) -> FingerprintKey {
        FingerprintKey::from_bytes(*derive(FINGERPRINT_CONTEXT, &self.0, repository.bytes()))
    }

    pub(crate) fn metadata_key(&self, repository: RepositoryId) -> MetadataKey {
        MetadataKey(*derive(METADATA_CONTEXT, &self.0, repository.bytes()))
    }

    pub(crate) fn keyring_key(&self, repository: RepositoryId) -> Result<SealingKey> {
        SealingKey::new(Suite::Aes256Gcm, &derive(KEYRING_CONTEXT, &self.0, repository.bytes()))
    }
}

/// The key of everything but data: records, directories and map slots.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct MetadataKey([u8; 32]);

impl MetadataKey {
    /// Returns the key of all records of `kind`; always AES-256-GCM, so that there is one path for all repositories.
    pub(crate) fn record_key(&self, kind: RecordKind) -> Result<SealingKey> {
        SealingKey::new(Suite::Aes256Gcm, &derive(RECORD_CONTEXT, &self.0, &kind.number().to_le_bytes()))
    }
}

/// The data key of one encryption version.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey {
    #[zeroize(skip)]
    suite: Suite,
    key: [u8; 32],
}

impl DataKey {
    /// Makes a new data key of random bytes.
    pub fn generate(suite: Suite, environment: &Environment) -> DataKey {
        DataKey { suite, key: environment.random_bytes() }
    }

    /// Returns how slots are sealed with this key.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub(crate) fn from_parts(suite: Suite, key: &[u8; 32]) -> DataKey {
        DataKey { suite, key: *key }
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.key
    }

    /// Returns the key of the data slots of `pack`.
    pub(crate) fn pack_key(&self, pack: PackId) -> Result<SealingKey> {
        SealingKey::new(self.suite, &derive(PACK_CONTEXT, &self.key, pack.bytes()))
    }
}

/// Derives the key for the purpose `context` from `secret` and what it is for.
pub(crate) fn derive(context: &str, secret: &[u8], what_for: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(secret).update(what_for);
    let mut derived = hasher.finalize();
    let key = Zeroizing::new(*derived.as_bytes());
    // The hasher still holds what it has read of the secret.
    hasher.zeroize();
    derived.zeroize();
    key
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

impl fmt::Debug for MetadataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetadataKey(***)")
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({:?}, ***)", self.suite)
    }
}
