//! From hints in bytes to whole blocks.
//!
//! Ranges that changed are rounded outward. Ranges that were discarded are rounded *inward*, and the blocks that they
//! cover in part are read: to take such a block for zero would lose its other part. Where both claim a byte, it changed.

use crate::error::{Error, Result};
use crate::hint::{Hint, HintState};
use crate::units::{BlockIndex, BlockRange, BlockSize, ByteRange};

/// What hints say, in blocks: ascending, without overlaps, neighbours joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintedBlocks {
    /// Blocks that must be read.
    pub read: Vec<BlockRange>,
    /// Blocks that are zero; none of them is in `read`.
    pub zero: Vec<BlockRange>,
}

/// Turns `hints` on a volume of `volume_bytes` into blocks.
///
/// # Errors
/// `InvalidInput` if a hint reaches beyond the end of the volume.
pub fn blocks_of_hints(hints: &[Hint], block_size: BlockSize, volume_bytes: u64) -> Result<HintedBlocks> {
    if let Some(hint) = hints.iter().find(|hint| hint.range.end_bytes() > volume_bytes) {
        return Err(Error::invalid(format!(
            "the hints speak of {} bytes at offset {}, but the volume ends at {volume_bytes}",
            hint.range.length_bytes, hint.range.offset_bytes
        )));
    }
    let of_state = |state| joined(hints.iter().filter(|hint| hint.state == state).map(|hint| hint.range));
    let changed = of_state(HintState::Changed);
    let discarded = of_state(HintState::Discarded);

    let mut read: Vec<BlockRange> = changed.iter().map(|range| outward(*range, block_size)).collect();
    let mut zero = Vec::new();
    for range in discarded {
        let inner = inward(range, block_size, volume_bytes);
        let outer = outward(range, block_size);
        if inner.is_empty() {
            read.push(outer);
        } else {
            read.push(BlockRange::between(outer.start, inner.start));
            read.push(BlockRange::between(inner.end(), outer.end()));
            zero.push(inner);
        }
    }
    let read = union(read);
    let zero = subtract(&union(zero), &read);
    Ok(HintedBlocks { read, zero })
}

/// Sorts `ranges` and joins those that overlap or touch; empty ones go.
pub fn union(mut ranges: Vec<BlockRange>) -> Vec<BlockRange> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable();
    let mut joined: Vec<BlockRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end() => {
                *last = BlockRange::between(last.start, last.end().max(range.end()))
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Returns the blocks of `from` that are not in `without`; both ascending and without overlaps.
pub fn subtract(from: &[BlockRange], without: &[BlockRange]) -> Vec<BlockRange> {
    let mut left = Vec::with_capacity(from.len());
    let mut without = without.iter().copied().peekable();
    for range in from {
        let mut start = range.start;
        while let Some(hole) = without.peek().copied().filter(|hole| hole.start < range.end()) {
            left.push(BlockRange::between(start, hole.start.max(start)));
            start = start.max(hole.end());
            if hole.end() > range.end() {
                break;
            }
            without.next();
        }
        left.push(BlockRange::between(start, range.end()));
    }
    left.retain(|range| !range.is_empty());
    left
}

fn joined(ranges: impl Iterator<Item = ByteRange>) -> Vec<ByteRange> {
    let mut ranges: Vec<ByteRange> = ranges.filter(|range| !range.is_empty()).collect();
    ranges.sort_unstable();
    let mut joined: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.offset_bytes <= last.end_bytes() => {
                *last = ByteRange::between(last.offset_bytes, last.end_bytes().max(range.end_bytes()));
            }
            _ => joined.push(range),
        }
    }
    joined
}

fn outward(range: ByteRange, block_size: BlockSize) -> BlockRange {
    BlockRange::between(block_size.index_of(range.offset_bytes), BlockIndex(block_size.count(range.end_bytes()).0))
}

/// The blocks that `range` covers whole; the last block of the volume is whole when its bytes are, however few.
fn inward(range: ByteRange, block_size: BlockSize, volume_bytes: u64) -> BlockRange {
    let start = BlockIndex(block_size.count(range.offset_bytes).0);
    let end = if range.end_bytes() == volume_bytes {
        BlockIndex(block_size.count(volume_bytes).0)
    } else {
        block_size.index_of(range.end_bytes())
    };
    BlockRange::between(start, end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: BlockSize = BlockSize::MIN;

    fn hint(offset_bytes: u64, length_bytes: u64, state: HintState) -> Hint {
        Hint { range: ByteRange { offset_bytes, length_bytes }, state }
    }

    fn blocks(start: u64, end: u64) -> BlockRange {
        BlockRange::between(BlockIndex(start), BlockIndex(end))
    }

    #[test]
    fn blocks_discarded_in_part_are_read() {
        let hints = [hint(100, 4096 * 3, HintState::Discarded)];
        let hinted = blocks_of_hints(&hints, SIZE, 1 << 20).unwrap();
        assert_eq!(hinted.read, [blocks(0, 1), blocks(3, 4)]);
        assert_eq!(hinted.zero, [blocks(1, 3)]);
    }

    #[test]
    fn a_discard_inside_one_block_reads_it() {
        let hinted = blocks_of_hints(&[hint(4096 + 5, 10, HintState::Discarded)], SIZE, 1 << 20).unwrap();
        assert_eq!(hinted, HintedBlocks { read: vec![blocks(1, 2)], zero: vec![] });
    }

    #[test]
    fn short_last_block_is_zero_when_all_its_bytes_are() {
        let hinted = blocks_of_hints(&[hint(4096, 10, HintState::Discarded)], SIZE, 4106).unwrap();
        assert_eq!(hinted, HintedBlocks { read: vec![], zero: vec![blocks(1, 2)] });
    }

    #[test]
    fn two_discards_that_meet_inside_a_block_make_it_zero() {
        let hints = [hint(0, 4000, HintState::Discarded), hint(4000, 4192, HintState::Discarded)];
        let hinted = blocks_of_hints(&hints, SIZE, 1 << 20).unwrap();
        assert_eq!(hinted, HintedBlocks { read: vec![], zero: vec![blocks(0, 2)] });
    }

    #[test]
    fn hints_beyond_the_end_are_refused() {
        let error = blocks_of_hints(&[hint(4096, 4097, HintState::Changed)], SIZE, 8192).unwrap_err();
        assert!(error.to_string().contains("ends at 8192"), "{error}");
        assert!(blocks_of_hints(&[hint(u64::MAX, 2, HintState::Changed)], SIZE, 8192).is_err());
    }

    proptest! {
        #[test]
        fn no_byte_that_may_hold_data_is_called_zero(
            claims in proptest::collection::vec((0u64..40_000, 0u64..20_000, any::<bool>()), 0..12),
            volume_bytes in 60_000u64..70_000,
        ) {
            let hints: Vec<Hint> = claims.iter().map(|&(offset, length, is_changed)| {
                hint(offset, length, if is_changed { HintState::Changed } else { HintState::Discarded })
            }).collect();
            let hinted = blocks_of_hints(&hints, SIZE, volume_bytes).unwrap();
            let mut model = vec![None; usize::try_from(volume_bytes).unwrap()];
            for state in [HintState::Discarded, HintState::Changed] {
                for hint in hints.iter().filter(|hint| hint.state == state) {
                    for offset in hint.range.offset_bytes..hint.range.end_bytes() {
                        model[usize::try_from(offset).unwrap()] = Some(state);
                    }
                }
            }
            let holds = |list: &[BlockRange], block: BlockIndex| list.iter().any(|r| r.start <= block && block < r.end());
            for index in 0..SIZE.count(volume_bytes).0 {
                let block = BlockIndex(index);
                let range = SIZE.byte_range(BlockRange { start: block, count: crate::units::BlockCount(1) }, volume_bytes);
                let bytes = &model[usize::try_from(range.offset_bytes).unwrap()..usize::try_from(range.end_bytes()).unwrap()];
                let is_zero = bytes.iter().all(|state| *state == Some(HintState::Discarded));
                let is_touched = bytes.iter().any(|state| state.is_some());
                prop_assert_eq!(holds(&hinted.zero, block), is_zero);
                prop_assert_eq!(holds(&hinted.read, block), is_touched && !is_zero);
            }
        }
    }
}
