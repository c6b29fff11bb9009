//! From extents to tasks: what is wanted of a pack.

use backy_core::ids::{PackId, SlotNumber};
use backy_core::map::{Extent, Place};
use backy_core::pack::SLOTS_MAX;
use backy_core::units::{BlockCount, BlockIndex, BlockRange};

/// About how many blocks a task has: all of a pack, unless one slot of it is many blocks.
const TASK_SLOTS: usize = SLOTS_MAX;

/// Slots of one pack and the blocks that they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// The pack.
    pub pack: PackId,
    /// The slots, ascending, and the block each one is. A slot that is several blocks is there several times.
    parts: Vec<Part>,
}

/// Consecutive slots that are consecutive blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    pack: PackId,
    first_slot: u16,
    count: u16,
    start: BlockIndex,
}

impl Task {
    /// Returns the slots and their blocks, ascending by slot.
    pub(super) fn items(&self) -> Vec<(SlotNumber, BlockIndex)> {
        let of_part = |part: &Part| {
            let part = *part;
            (0..part.count)
                .map(move |number| (SlotNumber(part.first_slot + number), part.start + BlockCount(u64::from(number))))
        };
        let mut items: Vec<(SlotNumber, BlockIndex)> = self.parts.iter().flat_map(of_part).collect();
        items.sort_unstable();
        items
    }

    /// Returns all blocks of the task.
    pub(super) fn blocks(&self) -> Vec<BlockRange> {
        let range = |part: &Part| BlockRange { start: part.start, count: BlockCount(u64::from(part.count)) };
        self.parts.iter().map(range).collect()
    }
}

/// Sorts stored extents by pack and slot, and cuts them into tasks.
pub(super) fn tasks(extents: Vec<Extent>) -> Vec<Task> {
    let mut parts: Vec<Part> = extents.iter().flat_map(parts_of).collect();
    drop(extents);
    parts.sort_unstable();
    let mut tasks: Vec<Task> = Vec::new();
    let mut slots = 0;
    for part in parts {
        match tasks.last_mut() {
            Some(task) if task.pack == part.pack && slots < TASK_SLOTS => task.parts.push(part),
            _ => {
                slots = 0;
                tasks.push(Task { pack: part.pack, parts: vec![part] });
            }
        }
        slots += usize::from(part.count);
    }
    tasks
}

/// Cuts an extent into parts of at most a task's size.
fn parts_of(extent: &Extent) -> impl Iterator<Item = Part> + use<> {
    let Extent { blocks, place } = *extent;
    let stored = match place {
        Place::Stored { pack, first_slot } => Some((pack, first_slot.0)),
        Place::Zero | Place::Missing => None,
    };
    let cut = move |(pack, first_slot): (PackId, u16)| {
        (0..blocks.count.0).step_by(TASK_SLOTS).map(move |done| Part {
            pack,
            first_slot: first_slot.saturating_add(u16::try_from(done).unwrap_or(u16::MAX)),
            count: u16::try_from((blocks.count.0 - done).min(TASK_SLOTS as u64)).unwrap_or_default(),
            start: blocks.start + BlockCount(done),
        })
    };
    stored.into_iter().flat_map(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(pack: u8, first_slot: u16, start: u64, count: u64) -> Extent {
        let blocks = BlockRange { start: BlockIndex(start), count: BlockCount(count) };
        Extent {
            blocks,
            place: Place::Stored { pack: PackId::from_bytes([pack; 16]), first_slot: SlotNumber(first_slot) },
        }
    }

    #[test]
    fn tasks_hold_neighbours_of_one_pack() {
        let tasks =
            tasks(vec![stored(2, 5, 0, 2), stored(1, 0, 2, 1200), stored(2, 0, 1202, 5), stored(2, 5, 1207, 1)]);
        let packs: Vec<u8> = tasks.iter().map(|task| task.pack.bytes()[0]).collect();
        assert_eq!(packs, [1, 2]);
        let items = tasks[1].items();
        assert_eq!(items.len(), 8);
        assert!(items.is_sorted());
        let of_slot_5: Vec<u64> = items.iter().filter(|(slot, _)| slot.0 == 5).map(|(_, block)| block.0).collect();
        assert_eq!(of_slot_5, [0, 1207]);
        let total: usize = tasks.iter().map(|task| task.items().len()).sum();
        assert_eq!(total, 1208);
    }

    #[test]
    fn a_slot_that_is_many_blocks_makes_no_endless_task() {
        let extents = (0..3 * TASK_SLOTS as u64).map(|block| stored(1, 7, block, 1)).collect();
        let lengths: Vec<usize> = tasks(extents).iter().map(|task| task.items().len()).collect();
        assert_eq!(lengths, [TASK_SLOTS; 3]);
    }
}
