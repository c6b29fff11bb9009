//! The RAM table: all keys of some blocks, in open addressing.
//!
//! An entry is 8 bytes: 32 bits of the key, and where the rest stands (block and position). The keys stay in their blocks,
//! 18 bytes each, so a key costs 29 bytes when the table is three quarters full, 40 right after it grew. Entries are never
//! removed one by one: dropping blocks builds the table anew from those that stay.

use std::sync::Arc;

use super::block::Block;
use super::{Candidate, Key, prefix_of};

const EMPTY: u64 = u64::MAX;
const POSITION_BITS: u32 = 13;
const REFERENCE_MASK: u64 = 0xffff_ffff;
const CAPACITY_MIN: usize = 1 << 10;

/// The most blocks in a table: what a reference can tell apart, but one.
pub(crate) const BLOCKS_MAX: usize = (1 << (32 - POSITION_BITS)) - 1;

/// A hash table over the keys of blocks.
#[derive(Default)]
pub(crate) struct Table {
    blocks: Vec<Arc<Block>>,
    entries: Vec<u64>,
    key_count: usize,
    blocks_size_bytes: usize,
}

impl Table {
    /// Returns how many keys it has.
    pub fn key_count(&self) -> usize {
        self.key_count
    }

    /// Returns its blocks in the order they came.
    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    /// Returns how much memory it takes, about.
    pub fn size_bytes(&self) -> usize {
        self.blocks_size_bytes + self.entries.len() * 8 + self.blocks.len() * 8
    }

    /// Adds a block; false if the table has no number left for it.
    pub fn insert(&mut self, block: Arc<Block>) -> bool {
        if self.blocks.len() >= BLOCKS_MAX {
            return false;
        }
        let key_count = self.key_count + block.len();
        if key_count * 4 > self.entries.len() * 3 {
            self.grow(key_count);
        }
        self.blocks_size_bytes += block.size_bytes();
        self.key_count = key_count;
        self.blocks.push(block);
        self.enter(self.blocks.len() - 1);
        true
    }

    /// Drops the blocks that `keep` refuses.
    pub fn retain(&mut self, keep: impl Fn(&Block) -> bool) {
        if self.blocks.iter().all(|block| keep(block)) {
            return;
        }
        let blocks = std::mem::take(self).blocks;
        for block in blocks.into_iter().filter(|block| keep(block)) {
            self.insert(block);
        }
    }

    /// Calls `visit` with the sequence and slot of every block that has `key`, in no order.
    pub fn find(&self, key: &Key, mut visit: impl FnMut(i64, Candidate)) {
        if self.entries.is_empty() {
            return;
        }
        let mask = self.entries.len() - 1;
        let prefix = prefix_of(key);
        let mut index = self.home(prefix);
        while let Some(&entry) = self.entries.get(index) {
            if entry == EMPTY {
                return;
            }
            if entry >> 32 == prefix & REFERENCE_MASK {
                let (block, position) = place(entry);
                if let Some(block) = self.blocks.get(block)
                    && let Some((found, slot)) = block.get(position)
                    && found == key
                {
                    visit(block.sequence, Candidate { origin: block.origin, slot });
                }
            }
            index = (index + 1) & mask;
        }
    }

    fn home(&self, prefix: u64) -> usize {
        // The high bits of the prefix choose the place, the low ones are the tag. The length is a power of two.
        let bits = self.entries.len().trailing_zeros();
        usize::try_from(prefix >> (64 - bits)).unwrap_or(0)
    }

    fn grow(&mut self, key_count: usize) {
        let capacity = (key_count * 4).div_ceil(3).next_power_of_two().max(CAPACITY_MIN);
        self.entries = vec![EMPTY; capacity];
        for number in 0..self.blocks.len() {
            self.enter(number);
        }
    }

    fn enter(&mut self, number: usize) {
        let Some(block) = self.blocks.get(number).map(Arc::clone) else { return };
        let mask = self.entries.len().saturating_sub(1);
        for position in 0..block.len() {
            let Some((key, _)) = block.get(position) else { return };
            let prefix = prefix_of(key);
            let mut index = self.home(prefix);
            while self.entries.get(index).is_some_and(|&entry| entry != EMPTY) {
                index = (index + 1) & mask;
            }
            if let Some(entry) = self.entries.get_mut(index) {
                *entry = prefix << 32 | reference(number, position);
            }
        }
    }
}

fn reference(block: usize, position: usize) -> u64 {
    (block as u64) << POSITION_BITS | position as u64
}

fn place(entry: u64) -> (usize, usize) {
    let reference = entry & REFERENCE_MASK;
    ((reference >> POSITION_BITS) as usize, (reference & ((1 << POSITION_BITS) - 1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, block};
    use super::*;
    use backy_core::ids::{EncryptionVersion, PackId, SlotNumber};

    fn block_of(sequence: i64, seeds: std::ops::Range<u16>) -> Arc<Block> {
        let pack = PackId::from_bytes([u8::try_from(sequence).unwrap(); 16]);
        let origin = Origin { pack, encryption_version: EncryptionVersion(1), is_sampled: false };
        let keys: Vec<Key> = seeds.clone().map(key).collect();
        let body = block::encode(seeds.map(SlotNumber).zip(&keys));
        Arc::new(Block::new(sequence, origin, body.into()).unwrap())
    }

    fn key(seed: u16) -> Key {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(&seed.to_le_bytes()).as_bytes()[..16]);
        key
    }

    fn found(table: &Table, seed: u16) -> Vec<i64> {
        let mut found = Vec::new();
        table.find(&key(seed), |sequence, candidate| {
            assert_eq!(candidate.slot.0, seed);
            found.push(sequence);
        });
        found.sort_unstable();
        found
    }

    #[test]
    fn every_block_that_has_a_key_is_found() {
        let mut table = Table::default();
        assert!(found(&table, 1).is_empty());
        for (sequence, seeds) in [(1, 0..3000), (2, 2000..5000), (3, 0..0), (4, 4999..5001)] {
            assert!(table.insert(block_of(sequence, seeds)));
        }
        assert_eq!(table.key_count(), 6002);
        assert_eq!(found(&table, 100), [1]);
        assert_eq!(found(&table, 2500), [1, 2]);
        assert_eq!(found(&table, 4999), [2, 4]);
        assert!(found(&table, 5001).is_empty());
        table.retain(|block| block.sequence != 2);
        assert_eq!(found(&table, 2500), [1]);
        assert_eq!(found(&table, 4999), [4]);
        assert_eq!(table.key_count(), 3002);
    }

    #[test]
    fn keys_that_begin_alike_do_not_hide_each_other() {
        let origin =
            Origin { pack: PackId::from_bytes([1; 16]), encryption_version: EncryptionVersion(1), is_sampled: false };
        let keys: Vec<Key> = (0..=255)
            .map(|last| {
                let mut key = [0xff; 16];
                key[15] = last;
                key
            })
            .collect();
        let body = block::encode((0..).map(SlotNumber).zip(&keys));
        let mut table = Table::default();
        table.insert(Arc::new(Block::new(1, origin, body.into()).unwrap()));
        for (slot, key) in keys.iter().enumerate() {
            let mut slots = Vec::new();
            table.find(key, |_, candidate| slots.push(usize::from(candidate.slot.0)));
            assert_eq!(slots, [slot]);
        }
    }
}
