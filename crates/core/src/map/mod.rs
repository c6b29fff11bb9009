//! The block map: where each block of a version is.
//!
//! ```text
//!             MapRoot { blocks, root }               in manifests and checkpoints
//!                        |
//!                      node            1,024 pointers          height 2
//!                    /   |   \
//!                node   null  node     null = all below is zero height 1
//!               /    \         |  \
//!            page    page    page  sheet                       height 0
//!              |             16,384 blocks
//!          full page                   under a patch page only
//! ```
//!
//! A page holds the extents of 16,384 consecutive blocks, a node points to 1,024 pages or nodes. The height follows from
//! the number of blocks: a map of one page has the page as its root. Pages and nodes are slots of packs, written once;
//! a new map shares those of its base that no change touches. Blocks and pointers behind the end of the map are zero.
//! Small changes do not lead to new pages: a node of level 1 collects them, and a sheet what the node has collected.
//!
//! [`MapCursor`] reads a map in order, [`MapBuilder`] writes one on top of another, [`difference`] compares two, and
//! [`visit_map_slots`] names the slots that a map is made of; [`salvage_map`] reads what a damaged one still says. All of
//! them hold one page, one node per level and one sheet in memory, whatever the size of the volume. Compressing, sealing and storing the slots is the caller's part.

pub mod extent;
mod geometry;

mod columns;
pub mod node;
pub mod page;

mod builder;
mod changes;
mod collect;
mod cursor;
mod difference;
mod merge;
mod patch;
mod path;
mod salvage;
mod visit;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ids::SlotAddress;
use crate::pack::SlotKind;
use crate::units::BlockCount;

pub use builder::MapBuilder;
pub use cursor::MapCursor;
pub use difference::{Differences, MapDifference, difference};
pub use extent::{Extent, Place};
pub use salvage::{MapPart, salvage_map};
pub use visit::{visit_map_places, visit_map_slots};

/// How a map is found: in manifests and checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRoot {
    /// How many blocks the map has.
    pub blocks: BlockCount,
    /// The root of the page table; none if all blocks are zero. The field must be there: an absent one is no zero.
    #[serde(deserialize_with = "Option::deserialize")]
    pub root: Option<SlotAddress>,
}

/// Where maps are read from.
pub trait MapReader {
    /// Returns the plain body of a page or node; `Damaged` if the slot is of another kind or is not what was stored.
    fn read_map_slot(&self, address: SlotAddress, kind: SlotKind) -> Result<Vec<u8>>;
}

/// Where maps are written to.
pub trait MapWriter {
    /// Takes the plain body of a page or node and says where it will be.
    ///
    /// It need not be durable on return, but before a manifest or checkpoint points to it. From now on a
    /// [`MapReader`] of the same job can read it.
    fn write_map_slot(&mut self, kind: SlotKind, body: &[u8]) -> Result<SlotAddress>;
}
