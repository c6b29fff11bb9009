//! Reads pieces of the source. Several readers run at once.

use std::sync::{Mutex, PoisonError};

use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use backy_core::{ErrorKind, Result};
use backy_device::Source;
use crossbeam_channel::{Receiver, Sender};
use tracing::warn;

use super::chunks::{Piece, Pieces};
use super::flow::{Chunk, ChunkMemory, Content, Processed};
use super::stop::Stop;

/// What a reader works with.
pub(super) struct Reader<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// The size of its blocks.
    pub block_size: BlockSize,
    /// What there is to do, for all readers.
    pub pieces: &'a Mutex<Pieces<'a>>,
    /// Free memory.
    pub free: Receiver<ChunkMemory>,
    /// Where read pieces go.
    pub chunks: Sender<Chunk>,
    /// Where holes go, past the workers.
    pub processed: Sender<Processed>,
    /// When to stop.
    pub stop: &'a Stop<'a>,
}

impl Reader<'_> {
    /// Reads pieces until there are none, or the job ends.
    pub(super) fn run(self) {
        // Memory first, then the piece: so the oldest piece always has memory, and its successors cannot take it all.
        while let Ok(mut memory) = self.free.recv() {
            loop {
                if self.stop.is_ending() {
                    return;
                }
                let piece = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(Some(piece)) = self.stop.check(piece) else { return };
                if piece.is_hole {
                    let hole = Processed { sequence: piece.sequence, blocks: piece.blocks, content: Content::Hole };
                    if self.processed.send(hole).is_err() {
                        return;
                    }
                    continue;
                }
                let Some(missing) = self.stop.check(self.read(piece, &mut memory)) else {
                    // The packer may hold all other memory and wait for this very piece: it must hear of the failure.
                    let content = Content::Blocks { outcomes: Vec::new(), memory };
                    let _ = self.processed.send(Processed { sequence: piece.sequence, blocks: piece.blocks, content });
                    return;
                };
                let chunk = Chunk { sequence: piece.sequence, blocks: piece.blocks, memory, missing };
                if self.chunks.send(chunk).is_err() {
                    return;
                }
                break;
            }
        }
    }

    /// Reads a piece; returns the blocks that the source cannot give.
    fn read(&self, piece: Piece, memory: &mut ChunkMemory) -> Result<Vec<BlockRange>> {
        let range = self.block_size.byte_range(piece.blocks, self.source.size_bytes());
        memory.plain.resize(usize::try_from(range.length_bytes).unwrap_or(usize::MAX));
        match self.source.read_at(range.offset_bytes, &mut memory.plain) {
            Ok(()) => Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::Unreadable => self.read_block_by_block(piece, memory),
            Err(error) => Err(error),
        }
    }

    /// One bad block is one bad block: the others of its piece are read.
    fn read_block_by_block(&self, piece: Piece, memory: &mut ChunkMemory) -> Result<Vec<BlockRange>> {
        let mut missing = Vec::new();
        let volume_bytes = self.source.size_bytes();
        let mut start = 0;
        for number in 0..piece.blocks.count.0 {
            let block = BlockIndex(piece.blocks.start.0 + number);
            let length = self.block_size.length_bytes(block, volume_bytes) as usize;
            let Some(bytes) = memory.plain.get_mut(start..start + length) else { break };
            match self.source.read_at(self.block_size.offset_bytes(block), bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unreadable => {
                    warn!("block {block} is missing in this version: {error}");
                    missing.push(BlockRange { start: block, count: BlockCount(1) });
                }
                Err(error) => return Err(error),
            }
            start += length;
        }
        Ok(missing)
    }
}
