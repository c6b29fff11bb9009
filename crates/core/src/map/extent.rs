//! Extents: consecutive blocks, and where they are.

use crate::ids::{PackId, SlotNumber};
use crate::units::{BlockCount, BlockRange};

use super::merge::Mergeable;

/// Where consecutive blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nowhere: they hold zeros.
    Zero,
    /// In consecutive slots of a pack.
    Stored {
        /// The pack.
        pack: PackId,
        /// The slot of the first block.
        first_slot: SlotNumber,
    },
    /// Unknown: the source could not be read there, or they were damaged when imported.
    Missing,
}

impl Place {
    /// Returns the place of the block `count` blocks behind the one at this place.
    pub fn after(self, count: u64) -> Place {
        match self {
            Place::Stored { pack, first_slot } => {
                let count = u16::try_from(count).unwrap_or(u16::MAX);
                Place::Stored { pack, first_slot: SlotNumber(first_slot.0.saturating_add(count)) }
            }
            Place::Zero | Place::Missing => self,
        }
    }
}

/// Consecutive blocks in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The blocks.
    pub blocks: BlockRange,
    /// Where the first block is; the others follow.
    pub place: Place,
}

impl Extent {
    /// Returns the part of the extent that lies in `range`; it may be empty.
    pub fn clip(self, range: BlockRange) -> Extent {
        let blocks = self.blocks.intersection(range);
        let skipped: BlockCount = blocks.start - self.blocks.start;
        Extent { blocks, place: self.place.after(skipped.0) }
    }
}

impl Mergeable for Extent {
    fn try_extend(&mut self, next: &Extent) -> bool {
        let follows = self.blocks.end() == next.blocks.start && self.place.after(self.blocks.count.0) == next.place;
        if follows {
            self.blocks.count += next.blocks.count;
        }
        follows
    }
}
