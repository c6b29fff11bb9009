//! Blocks: the keys of one pack as a job left them, one row of `recent_fingerprints` each.
//!
//! The body is, for each key, 16 bytes of key and 2 bytes of slot number, little-endian. SQLite does not verify its pages,
//! so a row has a checksum of its own.

use backy_core::ids::SlotNumber;

use super::{Key, Origin};

/// The size of one key with its slot.
pub(crate) const RECENT_SIZE_BYTES: usize = 18;

/// The most keys in a block: the most slots in a pack.
pub(crate) const KEYS_PER_BLOCK_MAX: usize = 8192;

/// The keys of one pack.
#[derive(Debug)]
pub(crate) struct Block {
    /// Its place in the order of all blocks; higher is newer.
    pub sequence: i64,
    pub origin: Origin,
    body: Box<[u8]>,
}

impl Block {
    /// Takes a body as [`encode`] made it; one that cannot be is refused.
    pub fn new(sequence: i64, origin: Origin, body: Box<[u8]>) -> Option<Block> {
        let is_sound =
            body.len().is_multiple_of(RECENT_SIZE_BYTES) && body.len() / RECENT_SIZE_BYTES <= KEYS_PER_BLOCK_MAX;
        is_sound.then_some(Block { sequence, origin, body })
    }

    /// Returns how many keys it has.
    pub fn len(&self) -> usize {
        self.body.len() / RECENT_SIZE_BYTES
    }

    /// Returns how much memory it takes, about.
    pub fn size_bytes(&self) -> usize {
        self.body.len() + size_of::<Block>() + 32
    }

    /// Returns the key and slot at `position`.
    pub fn get(&self, position: usize) -> Option<(&Key, SlotNumber)> {
        let bytes = self.body.get(position * RECENT_SIZE_BYTES..)?;
        let (key, rest) = bytes.split_first_chunk()?;
        let (slot, _) = rest.split_first_chunk()?;
        Some((key, SlotNumber(u16::from_le_bytes(*slot))))
    }
}

/// Returns the body of a block.
pub(crate) fn encode<'a>(keys: impl IntoIterator<Item = (SlotNumber, &'a Key)>) -> Vec<u8> {
    let mut body = Vec::new();
    for (slot, key) in keys {
        body.extend_from_slice(key);
        body.extend_from_slice(&slot.0.to_le_bytes());
    }
    body
}

/// Returns the checksum of a row.
pub(crate) fn checksum(origin: &Origin, body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("backy2 catalog recent fingerprints 1");
    hasher.update(origin.pack.bytes());
    hasher.update(&origin.encryption_version.0.to_le_bytes());
    hasher.update(&[u8::from(origin.is_sampled)]);
    hasher.update(body);
    let mut checksum = [0; 16];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    checksum
}
