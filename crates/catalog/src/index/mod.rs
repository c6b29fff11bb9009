//! The fingerprint index: from the first 16 bytes of a fingerprint to a slot.
//!
//! ```text
//!   table    the newest keys, in RAM                         recent blocks of catalog.sqlite
//!   runs     sorted runs, newest first                       each: files that divide the keys among them
//!   segment    one file: pages of sectors, fences, filters   written once by `writer`, never changed
//!   sector       22 entries and a checksum
//!   merge    many runs -> one
//! ```
//!
//! A key may have several slots: two hosts stored the same block, or an older encryption version has it too. The newest
//! comes first everywhere. Nothing here knows which slots are forgotten: the caller says what it accepts.

pub(crate) mod block;
pub(crate) mod filter;
pub(crate) mod merge;
pub(crate) mod runs;
pub(crate) mod sector;
pub(crate) mod segment;
pub(crate) mod table;
pub(crate) mod writer;

use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{EncryptionVersion, PackId, SlotNumber};

/// The part of a fingerprint that the index keeps.
pub(crate) type Key = [u8; 16];

/// How many slots of one key are kept when runs are merged; beyond it the oldest are dropped.
pub(crate) const SLOTS_PER_KEY_MAX: usize = 8;

/// The pack that an entry points into, as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub pack: PackId,
    pub encryption_version: EncryptionVersion,
    /// Only one key in 64 of the pack is here.
    pub is_sampled: bool,
}

/// A slot that the index offers for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub origin: Origin,
    pub slot: SlotNumber,
}

/// Returns the key of a fingerprint.
pub(crate) fn key_of(fingerprint: &Fingerprint) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&fingerprint.0[..16]);
    key
}

/// Returns the first eight bytes of a key, as a number of the same order.
pub(crate) fn prefix_of(key: &Key) -> u64 {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&key[..8]);
    u64::from_be_bytes(prefix)
}
