//! From the plan to pieces: what a reader does next.

use std::collections::VecDeque;

use backy_core::Result;
use backy_core::policy::read_plan::{ReadAction, ReadStep};
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize, ByteRange};
use backy_device::Source;

/// How much of the source is read at once.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;
/// For how much of the source holes are asked for at once.
const HOLE_WINDOW_BYTES: u64 = 4 << 30;
/// Steps smaller than this are read as they are: to ask for holes may cost more than to read them.
const ASK_FOR_HOLES_BYTES: u64 = 16 << 20;

/// One thing for a reader to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The place in the order of the volume, without gaps.
    pub sequence: u64,
    /// The blocks.
    pub blocks: BlockRange,
    /// They are zero and need not be read.
    pub is_hole: bool,
}

/// The pieces of a plan, in the order of the volume.
pub(super) struct Pieces<'a> {
    source: &'a dyn Source,
    block_size: BlockSize,
    steps: std::vec::IntoIter<ReadStep>,
    /// The rest of the step that is being cut.
    rest: BlockRange,
    /// Ranges of the current window that are ready to be handed out.
    ready: VecDeque<(BlockRange, bool)>,
    sequence: u64,
}

impl<'a> Pieces<'a> {
    /// Cuts `steps` into pieces.
    pub(super) fn new(source: &'a dyn Source, block_size: BlockSize, steps: Vec<ReadStep>) -> Pieces<'a> {
        let none = BlockRange::between(BlockIndex(0), BlockIndex(0));
        Pieces { source, block_size, steps: steps.into_iter(), rest: none, ready: VecDeque::new(), sequence: 0 }
    }

    /// Returns the next piece: a hole of any size, or at most 1 MiB (or one block) to read.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        while self.ready.is_empty() {
            if self.rest.is_empty() {
                let Some(step) = self.steps.next() else { return Ok(None) };
                match step.action {
                    ReadAction::Zero => self.ready.push_back((step.blocks, true)),
                    ReadAction::Read
                        if step.blocks.count.0.saturating_mul(self.block_size.bytes_u64()) < ASK_FOR_HOLES_BYTES =>
                    {
                        self.ready.push_back((step.blocks, false));
                    }
                    ReadAction::Read => self.rest = step.blocks,
                }
            } else {
                self.look_for_holes()?;
            }
        }
        let Some((blocks, is_hole)) = self.ready.pop_front() else { return Ok(None) };
        let count = if is_hole { blocks.count } else { blocks.count.min(self.chunk_blocks(blocks.start)) };
        let piece = BlockRange { start: blocks.start, count };
        let rest = BlockRange::between(piece.end(), blocks.end());
        if !rest.is_empty() {
            self.ready.push_front((rest, is_hole));
        }
        let sequence = self.sequence;
        self.sequence += 1;
        Ok(Some(Piece { sequence, blocks: piece, is_hole }))
    }

    /// How many blocks a piece has that begins at `start`: up to the next multiple of the chunk size, so that pieces keep
    /// their borders whatever was cut before.
    fn chunk_blocks(&self, start: BlockIndex) -> BlockCount {
        let per_chunk = (CHUNK_BYTES / self.block_size.bytes_u64()).max(1);
        BlockCount(per_chunk - start.0 % per_chunk)
    }

    /// Asks the source for the holes of the next window of the current step.
    fn look_for_holes(&mut self) -> Result<()> {
        let window_blocks = BlockCount(HOLE_WINDOW_BYTES / self.block_size.bytes_u64());
        let window = BlockRange { start: self.rest.start, count: self.rest.count.min(window_blocks) };
        self.rest = BlockRange::between(window.end(), self.rest.end());
        let bytes = self.block_size.byte_range(window, self.source.size_bytes());
        let mut at = window.start;
        for data in self.source.data_ranges(bytes)? {
            let blocks = self.outward(data).intersection(window);
            let blocks = BlockRange::between(blocks.start.max(at), blocks.end());
            if blocks.is_empty() {
                continue;
            }
            self.make_ready(BlockRange::between(at, blocks.start), true);
            self.make_ready(blocks, false);
            at = blocks.end();
        }
        self.make_ready(BlockRange::between(at, window.end()), true);
        Ok(())
    }

    fn make_ready(&mut self, blocks: BlockRange, is_hole: bool) {
        match self.ready.back_mut() {
            _ if blocks.is_empty() => {}
            Some((last, was_hole)) if *was_hole == is_hole && last.end() == blocks.start => {
                *last = BlockRange::between(last.start, blocks.end());
            }
            _ => self.ready.push_back((blocks, is_hole)),
        }
    }

    fn outward(&self, range: ByteRange) -> BlockRange {
        let end = BlockIndex(self.block_size.count(range.end_bytes()).0);
        BlockRange::between(self.block_size.index_of(range.offset_bytes), end)
    }
}
