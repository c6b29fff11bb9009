//! Packs: many sealed slots in one object that is never changed.
//!
//! ```text
//!  header        id, generation, lease, encryption version, how the data key is found    plain    header
//!  slot 0, 1, …  back to back, each sealed by itself                                     sealed   slots, opener
//!  fingerprints  32 bytes per data slot                                                  sealed   directory
//!  locators      where each slot is, how long, how compressed                            sealed   locators
//!  trailer       where the two sections are, BLAKE3 of all before it                     plain    trailer
//! ```
//!
//! A slot keeps its number for ever. When a pack is compacted or healed, its next generation holds the same slots
//! under the same numbers, and its locators say which of them are gone. A slot's seal binds repository, pack, number,
//! kind and plain length, but not the generation: compaction copies sealed slots as they are. [`writer`] makes packs,
//! [`directory`] reads where things are from the end of the object, [`verify`] checks a pack without any key.

pub mod directory;
pub mod header;
pub mod locators;
pub mod opener;
pub mod trailer;
pub mod verify;
pub mod writer;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the packs of tests are small")]
mod tests;

pub use directory::{Directory, SuffixRead, read_directory, read_fingerprints};
pub use opener::SlotOpener;
pub use verify::verify_pack_bytes;
pub use writer::{FinishedPack, NewSlot, PackWriter};

use crate::codec::compression::Codec;
use crate::ids::{PackId, RepositoryId, SlotNumber};

/// The most slots in a pack.
pub const SLOTS_MAX: usize = 8192;
/// The largest pack, in bytes.
pub const PACK_BYTES_MAX: usize = 32 << 20;
/// The largest pack that holds only parts of block maps, in bytes.
pub const MAP_PACK_BYTES_MAX: usize = 8 << 20;
/// How many bytes from the end of a pack to read for its directory; nearly always enough.
pub const SUFFIX_BYTES: u64 = 48 << 10;
/// The most plain bytes in a slot.
pub const PLAIN_BYTES_MAX: u32 = 4 << 20;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    /// A block of a volume; sealed under the pack's data key.
    Data = 0,
    /// A page of a block map; sealed under the metadata key.
    MapPage = 1,
    /// A node of a page table; sealed under the metadata key.
    MapNode = 2,
}

impl SlotKind {
    /// Reads the number that stands for a kind in stored structures.
    pub fn from_number(number: u8) -> Option<SlotKind> {
        match number {
            0 => Some(SlotKind::Data),
            1 => Some(SlotKind::MapPage),
            2 => Some(SlotKind::MapNode),
            _ => None,
        }
    }
}

/// Where a slot is in its object, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Where its sealed bytes begin.
    pub offset_bytes: u32,
    /// How many sealed bytes it has.
    pub stored_length: u32,
    /// How many bytes it has when opened.
    pub plain_length: u32,
    /// How it is compressed.
    pub codec: Codec,
    /// What it holds.
    pub kind: SlotKind,
}

/// Returns what binds a slot to its place; the generation is not part of it.
fn slot_associated(
    repository: RepositoryId,
    pack: PackId,
    slot: SlotNumber,
    kind: SlotKind,
    plain_length: u32,
) -> [u8; 39] {
    let mut bytes = [0; 39];
    bytes[..16].copy_from_slice(repository.bytes());
    bytes[16..32].copy_from_slice(pack.bytes());
    bytes[32..34].copy_from_slice(&slot.0.to_le_bytes());
    bytes[34] = kind as u8;
    bytes[35..].copy_from_slice(&plain_length.to_le_bytes());
    bytes
}
