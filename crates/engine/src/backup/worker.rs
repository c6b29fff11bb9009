//! Decides what becomes of each block: zero, known, or new and compressed. One worker runs per core.
//!
//! A block goes through all of it while it is in the core's cache.

use backy_core::Result;
use backy_core::codec::compression::Compressor;
use backy_core::codec::fingerprint::FingerprintKey;
use backy_core::codec::zero::is_zero;
use backy_core::units::{BlockIndex, BlockSize};
use crossbeam_channel::{Receiver, Sender};

use super::deduplicator::Deduplicator;
use super::flow::{Chunk, ChunkMemory, Content, Outcome, Processed};
use super::healer::Healer;
use super::stop::Stop;

/// What a worker works with.
pub(super) struct Worker<'a> {
    /// The size of blocks.
    pub block_size: BlockSize,
    /// The key of fingerprints.
    pub fingerprint_key: &'a FingerprintKey,
    /// Finds what is stored.
    pub deduplicator: &'a Deduplicator<'a>,
    /// Takes what heals.
    pub healer: &'a Healer<'a>,
    /// Compresses new blocks.
    pub compressor: Compressor,
    /// Where pieces come from.
    pub chunks: Receiver<Chunk>,
    /// Where they go.
    pub processed: Sender<Processed>,
    /// When to stop.
    pub stop: &'a Stop<'a>,
}

impl Worker<'_> {
    /// Works until no piece comes.
    pub(super) fn run(mut self) {
        let mut body = Vec::new();
        for mut chunk in self.chunks.clone() {
            // After a failure the memory still goes its way, for readers may wait for it.
            let is_needed = !self.stop.has_failed();
            let outcomes = is_needed.then(|| self.outcomes(&mut chunk, &mut body));
            let outcomes = outcomes.and_then(|outcomes| self.stop.check(outcomes)).unwrap_or_default();
            let content = Content::Blocks { outcomes, memory: chunk.memory };
            if self.processed.send(Processed { sequence: chunk.sequence, blocks: chunk.blocks, content }).is_err() {
                return;
            }
        }
    }

    fn outcomes(&mut self, chunk: &mut Chunk, body: &mut Vec<u8>) -> Result<Vec<Outcome>> {
        let ChunkMemory { plain, bodies } = &mut chunk.memory;
        bodies.clear();
        let mut outcomes = Vec::with_capacity(usize::try_from(chunk.blocks.count.0).unwrap_or_default());
        for (number, block) in plain.chunks(self.block_size.bytes() as usize).enumerate() {
            let index = BlockIndex(chunk.blocks.start.0 + number as u64);
            let is_missing = chunk.missing.iter().any(|range| range.start == index);
            let outcome = if is_missing { Outcome::Missing } else { self.outcome(block, body)? };
            if let Outcome::New { .. } = outcome {
                bodies.extend_from_slice(body);
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Decides about one block; a new one leaves its compressed body in `body`.
    fn outcome(&mut self, block: &[u8], body: &mut Vec<u8>) -> Result<Outcome> {
        if is_zero(block) {
            return Ok(Outcome::Zero);
        }
        let fingerprint = self.fingerprint_key.fingerprint(block);
        self.healer.offer(&fingerprint, block);
        if let Some(found) = self.deduplicator.find(&fingerprint)? {
            return Ok(Outcome::Known(found));
        }
        let codec = self.compressor.compress(block, body)?;
        Ok(Outcome::New { fingerprint, codec, body_length: u32::try_from(body.len()).unwrap_or(u32::MAX) })
    }
}
