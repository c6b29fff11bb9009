//! What a backup does with each block of its volume.
//!
//! The plan is a list of steps in volume order. Blocks that no step names keep what the base has, or are zero if there
//! is no base.

use crate::error::Result;
use crate::hint::Hint;
use crate::policy::hints::{HintedBlocks, blocks_of_hints, subtract, union};
use crate::units::{BlockCount, BlockIndex, BlockRange, BlockSize};

/// What is known before a backup reads its source.
#[derive(Clone, Debug)]
pub struct ReadFacts<'a> {
    /// The block size of the new version.
    pub block_size: BlockSize,
    /// The size of the volume in bytes.
    pub volume_bytes: u64,
    /// The version to start from.
    pub base: Option<BaseFacts<'a>>,
    /// What somebody says about the volume; none: all of it is read.
    pub hints: Option<&'a [Hint]>,
    /// The blocks before this one are stored already, by the backup that is continued.
    pub position: BlockIndex,
}

/// What is known of the base.
#[derive(Clone, Copy, Debug)]
pub struct BaseFacts<'a> {
    /// The size of the base's volume in bytes.
    pub volume_bytes: u64,
    /// Blocks of the base that are damaged or missing: ascending, without overlaps.
    pub lost: &'a [BlockRange],
}

/// What to do with some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAction {
    /// Read them from the source.
    Read,
    /// Take them for zero without reading.
    Zero,
}

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadStep {
    /// The blocks.
    pub blocks: BlockRange,
    /// What to do with them.
    pub action: ReadAction,
}

/// What a backup does: the steps in volume order; all other blocks are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPlan {
    /// The steps, ascending and without overlaps.
    pub steps: Vec<ReadStep>,
    /// Blocks that the plan keeps on the word of the hints, and that an audit may check: ascending, without overlaps.
    pub unread: Vec<BlockRange>,
}

impl ReadPlan {
    /// Returns how many blocks the plan reads.
    pub fn blocks_to_read(&self) -> BlockCount {
        let of_step = |step: &ReadStep| if step.action == ReadAction::Read { step.blocks.count.0 } else { 0 };
        BlockCount(self.steps.iter().map(of_step).sum())
    }
}

/// Decides what is read.
///
/// # Errors
/// `InvalidInput` if a hint reaches beyond the end of the volume.
pub fn plan_reads(facts: &ReadFacts<'_>) -> Result<ReadPlan> {
    let end = BlockIndex(facts.block_size.count(facts.volume_bytes).0);
    let whole = BlockRange::between(BlockIndex(0), end);
    let todo = BlockRange::between(facts.position.min(end), end);
    let hinted = match facts.hints {
        None => HintedBlocks { read: vec![whole], zero: Vec::new() },
        Some(hints) => blocks_of_hints(hints, facts.block_size, facts.volume_bytes)?,
    };

    let mut read = hinted.read;
    if let Some(base) = facts.base {
        read.extend(base.lost.iter().map(|range| range.intersection(whole)));
        read.push(unknown_to_base(base, facts.block_size, facts.volume_bytes));
    }
    let read = union(read);
    let zero = subtract(&hinted.zero, &read);
    let named = union(read.iter().chain(&zero).copied().collect());
    let unread = clip(&union(subtract(&[whole], &named).into_iter().chain(zero.iter().copied()).collect()), todo);

    let mut steps: Vec<ReadStep> = Vec::with_capacity(read.len() + zero.len());
    let step = |action| move |blocks: BlockRange| ReadStep { blocks, action };
    steps.extend(clip(&read, todo).into_iter().map(step(ReadAction::Read)));
    steps.extend(clip(&zero, todo).into_iter().map(step(ReadAction::Zero)));
    steps.sort_unstable_by_key(|step| step.blocks.start);
    Ok(ReadPlan { steps, unread })
}

/// The blocks that the base cannot speak for because the volume has another size now.
///
/// These are the blocks behind the base's end, and the block at the smaller of both ends if either end lies inside it.
fn unknown_to_base(base: BaseFacts<'_>, block_size: BlockSize, volume_bytes: u64) -> BlockRange {
    let end = BlockIndex(block_size.count(volume_bytes).0);
    if base.volume_bytes == volume_bytes {
        return BlockRange::between(end, end);
    }
    let shorter_bytes = base.volume_bytes.min(volume_bytes);
    let first_unknown = block_size.index_of(shorter_bytes);
    let last_unknown =
        if base.volume_bytes < volume_bytes { end } else { BlockIndex(block_size.count(volume_bytes).0) };
    BlockRange::between(first_unknown, last_unknown)
}

fn clip(ranges: &[BlockRange], to: BlockRange) -> Vec<BlockRange> {
    ranges.iter().map(|range| range.intersection(to)).filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::HintState;
    use crate::units::ByteRange;

    const SIZE: BlockSize = BlockSize::MIN;

    fn blocks(start: u64, end: u64) -> BlockRange {
        BlockRange::between(BlockIndex(start), BlockIndex(end))
    }

    fn read(start: u64, end: u64) -> ReadStep {
        ReadStep { blocks: blocks(start, end), action: ReadAction::Read }
    }

    fn zero(start: u64, end: u64) -> ReadStep {
        ReadStep { blocks: blocks(start, end), action: ReadAction::Zero }
    }

    fn facts<'a>(volume_blocks: u64, base: Option<BaseFacts<'a>>, hints: Option<&'a [Hint]>) -> ReadFacts<'a> {
        ReadFacts { block_size: SIZE, volume_bytes: volume_blocks * 4096, base, hints, position: BlockIndex(0) }
    }

    fn changed(offset_bytes: u64, length_bytes: u64) -> Hint {
        Hint { range: ByteRange { offset_bytes, length_bytes }, state: HintState::Changed }
    }

    #[test]
    fn without_hints_everything_is_read() {
        let plan = plan_reads(&facts(10, None, None)).unwrap();
        assert_eq!(plan.steps, [read(0, 10)]);
        assert!(plan.unread.is_empty());
    }

    #[test]
    fn hints_limit_what_is_read_and_lost_blocks_are_read_again() {
        let base = BaseFacts { volume_bytes: 10 * 4096, lost: &[blocks(7, 8)] };
        let discard = Hint { state: HintState::Discarded, ..changed(4 * 4096, 4 * 4096) };
        let hints = [changed(4096, 1), discard];
        let plan = plan_reads(&facts(10, Some(base), Some(&hints))).unwrap();
        assert_eq!(plan.steps, [read(1, 2), zero(4, 7), read(7, 8)]);
        assert_eq!(plan.unread, [blocks(0, 1), blocks(2, 7), blocks(8, 10)]);
    }

    #[test]
    fn the_tail_of_a_grown_volume_is_read_without_hints() {
        let base = BaseFacts { volume_bytes: 4 * 4096 + 1, lost: &[] };
        let plan = plan_reads(&facts(10, Some(base), Some(&[]))).unwrap();
        assert_eq!(plan.steps, [read(4, 10)]);
        let aligned = BaseFacts { volume_bytes: 4 * 4096, lost: &[] };
        assert_eq!(plan_reads(&facts(10, Some(aligned), Some(&[]))).unwrap().steps, [read(4, 10)]);
    }

    #[test]
    fn the_new_last_block_of_a_shrunk_volume_is_read() {
        let base = BaseFacts { volume_bytes: 10 * 4096, lost: &[blocks(9, 10)] };
        let mut facts = facts(5, Some(base), Some(&[]));
        assert_eq!(plan_reads(&facts).unwrap().steps, []);
        facts.volume_bytes = 4 * 4096 + 7;
        assert_eq!(plan_reads(&facts).unwrap().steps, [read(4, 5)]);
    }

    #[test]
    fn continuing_skips_what_is_stored() {
        let mut facts = facts(10, None, None);
        facts.position = BlockIndex(6);
        assert_eq!(plan_reads(&facts).unwrap().steps, [read(6, 10)]);
    }
}
