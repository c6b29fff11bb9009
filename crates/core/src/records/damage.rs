//! Damage records: slots that do not open, and which blocks of which versions they were.

use serde::{Deserialize, Serialize};

use crate::environment::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{PackId, SlotNumber, VersionUid};
use crate::pack::SLOTS_MAX;
use crate::records::manifest::VOLUME_BYTES_MAX;
use crate::units::{BlockCount, BlockIndex, BlockRange, BlockSize};

/// Says that slots of one pack are damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageRecord {
    /// The pack.
    pub pack: PackId,
    /// The damaged slots, ascending.
    pub slots: Vec<SlotNumber>,
    /// What was wrong.
    pub problem: String,
    /// When it was found.
    pub found: Timestamp,
    /// The versions in which it was found, and the blocks.
    pub versions: Vec<DamagedVersion>,
}

/// The blocks of one version that damaged slots were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedVersion {
    /// The version.
    pub uid: VersionUid,
    /// Its blocks, ascending: first block and count.
    pub blocks: Vec<(BlockIndex, BlockCount)>,
}

impl DamagedVersion {
    /// Returns the blocks as ranges.
    pub fn ranges(&self) -> impl Iterator<Item = BlockRange> + '_ {
        self.blocks.iter().map(|&(start, count)| BlockRange { start, count })
    }

    fn is_sound(&self) -> bool {
        let blocks_max = BlockSize::MIN.count(VOLUME_BYTES_MAX).0;
        let is_volume = |range: BlockRange| {
            !range.is_empty() && range.start.0.checked_add(range.count.0).is_some_and(|end| end <= blocks_max)
        };
        let is_ascending = self.ranges().zip(self.ranges().skip(1)).all(|(left, right)| left.end() <= right.start);
        is_ascending && self.ranges().all(is_volume)
    }
}

impl DamageRecord {
    /// Checks what a record from a store must keep to: slots that packs have and blocks that volumes have, ascending.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn check(&self) -> Result<()> {
        let are_slots = self.slots.iter().all(|slot| usize::from(slot.0) < SLOTS_MAX);
        if !are_slots || !self.slots.is_sorted_by(|left, right| left < right) {
            return Err(Error::damaged("a damage record names slots that no pack has, or one of them twice"));
        }
        if self.versions.iter().all(DamagedVersion::is_sound) {
            Ok(())
        } else {
            Err(Error::damaged("a damage record names blocks that no volume has, or one of them twice"))
        }
    }
}
