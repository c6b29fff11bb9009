//! What lookups read: in RAM all of it but the pages of segments.
//!
//! The order is newest first: the recent blocks, then neighbours that the caller fetched for a sampled hit, then the runs.
//! One reader-writer lock is around it; writers hold it for as long as the keys of a pack take to enter (a millisecond).

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use backy_core::ids::{EncryptionVersion, PackId, SlotAddress};

use crate::catalog::Lookup;
use crate::forgotten::Forgotten;
use crate::index::block::Block;
use crate::index::runs::Runs;
use crate::index::table::Table;
use crate::index::{Candidate, Key};

/// The state behind the lock.
#[derive(Default)]
pub(crate) struct Memory {
    /// Blocks that are in no segment yet.
    pub recents: Table,
    pub forgotten: Forgotten,
    pub runs: Arc<Runs>,
    neighbours: Table,
    neighbour_packs: HashSet<PackId>,
    neighbour_sequence: i64,
}

impl Memory {
    /// Returns the newest acceptable slot among the recent blocks and the neighbours.
    pub fn find(&self, encryption_version: EncryptionVersion, key: &Key) -> Lookup {
        let mut best = (Lookup::Unknown, 0);
        let mut take = |sequence, candidate| {
            let offer = self.judge(encryption_version, candidate);
            if rank(offer, sequence) > rank(best.0, best.1) {
                best = (offer, sequence);
            }
        };
        self.recents.find(key, &mut take);
        // Neighbours count as older than all recent blocks.
        self.neighbours.find(key, |sequence, candidate| take(sequence - i64::MAX, candidate));
        best.0
    }

    /// Returns what a candidate is worth: nothing, its address, or its pack if that is known by samples alone.
    pub fn judge(&self, encryption_version: EncryptionVersion, candidate: Candidate) -> Lookup {
        let address = SlotAddress { pack: candidate.origin.pack, slot: candidate.slot };
        if candidate.origin.encryption_version != encryption_version || self.forgotten.contains(address) {
            Lookup::Unknown
        } else if !candidate.origin.is_sampled {
            Lookup::At(address)
        } else if self.neighbour_packs.contains(&address.pack) {
            // All keys of the pack are among the neighbours; that this one is not there speaks against the sample.
            Lookup::Unknown
        } else {
            Lookup::InPack(address.pack)
        }
    }

    /// Takes all keys of a pack for a while, within `size_bytes_max`; the older half goes when there is no room.
    pub fn insert_neighbours(&mut self, make: impl FnOnce(i64) -> Option<Block>, size_bytes_max: usize) -> bool {
        self.neighbour_sequence += 1;
        let Some(block) = make(self.neighbour_sequence).map(Arc::new) else { return false };
        let pack = block.origin.pack;
        if !self.neighbour_packs.insert(pack) {
            return true;
        }
        if self.neighbours.size_bytes() + block.size_bytes() * 2 > size_bytes_max {
            let blocks = self.neighbours.blocks();
            let oldest_kept = blocks.get(blocks.len().div_ceil(2)).map_or(i64::MAX, |block| block.sequence);
            self.neighbours.retain(|block| block.sequence >= oldest_kept);
            self.neighbour_packs = self.neighbours.blocks().iter().map(|block| block.origin.pack).collect();
            self.neighbour_packs.insert(pack);
        }
        self.neighbours.insert(block)
    }
}

/// Searches the runs; `judge` is asked for each candidate.
pub(crate) fn find_in_runs(runs: &Runs, key: &Key, mut judge: impl FnMut(Candidate) -> Lookup) -> Lookup {
    let mut best = Lookup::Unknown;
    let _ = runs.find(key, &mut |candidate| {
        match judge(candidate) {
            Lookup::Unknown => {}
            Lookup::InPack(pack) if best == Lookup::Unknown => best = Lookup::InPack(pack),
            Lookup::InPack(_) => {}
            Lookup::At(address) => {
                best = Lookup::At(address);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    best
}

/// An address is better than a pack; of equals the newer one, and the lower slot where one pack has a key twice.
fn rank(offer: Lookup, sequence: i64) -> (u8, i64, std::cmp::Reverse<u16>) {
    match offer {
        Lookup::Unknown => (0, i64::MIN, std::cmp::Reverse(0)),
        Lookup::InPack(_) => (1, sequence, std::cmp::Reverse(0)),
        Lookup::At(address) => (2, sequence, std::cmp::Reverse(address.slot.0)),
    }
}
