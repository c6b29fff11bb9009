//! Checks hints: reads runs that they call unchanged, and compares them with what the version would say of them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use backy_catalog::Lookup;
use backy_core::cancel::Cancel;
use backy_core::codec::zero::is_zero;
use backy_core::ids::SlotAddress;
use backy_core::map::{MapRoot, Place};
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use backy_core::{ErrorKind, Result};
use backy_device::{AlignedBuffer, Source};

use super::chunks::CHUNK_BYTES;
use crate::parallel::for_each;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::blocks::BlockReader;
use crate::repository::packs::is_about_content;

/// How many differing blocks are kept for the report.
const DIFFERENT_MAX: usize = 1000;
/// About how many damaged slots are kept.
const DAMAGED_MAX: usize = 1 << 16;

/// What is compared with a source.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// The map that says what the source should hold; none: it should be zero.
    pub map: Option<MapRoot>,
    /// Blocks that are zero by the word of the hints, whatever the map says: ascending, without overlaps.
    pub zero: &'a [BlockRange],
    /// The size of the blocks.
    pub block_size: BlockSize,
    /// The size of the map's volume.
    pub map_bytes: u64,
}

/// What a comparison has found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// How many bytes were compared.
    pub bytes: u64,
    /// Blocks that differ: at most a thousand of them.
    pub different: Vec<BlockIndex>,
    /// How many blocks differ.
    pub different_blocks: u64,
    /// Slots that do not open, where a finished version was compared: at most some thousands of them.
    pub damaged: BTreeSet<SlotAddress>,
}

/// Compares `runs` of the source with the claim. Stops early at a difference if `stops_at_first`.
pub(super) fn compare(
    repository: &Repository,
    claim: Claim<'_>,
    runs: &[BlockRange],
    stops_at_first: bool,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Comparison> {
    let pieces = cut(runs, claim.block_size);
    let total = Mutex::new(Comparison::default());
    let tools = || Comparer::new(repository, claim, stops_at_first);
    for_each(repository.settings().workers.get(), &pieces, cancel, tools, |comparer, piece| {
        let different = comparer.compare(*piece)?;
        let bytes = claim.block_size.byte_range(*piece, claim.source.size_bytes()).length_bytes;
        progress.read_bytes.add(bytes);
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.bytes += bytes;
        total.different_blocks += different.len() as u64;
        if total.damaged.len() < DAMAGED_MAX {
            total.damaged.append(&mut comparer.damaged);
        }
        let room = DIFFERENT_MAX.saturating_sub(total.different.len());
        total.different.extend(different.into_iter().take(room));
        let is_enough = stops_at_first && total.different_blocks > 0;
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn cut(runs: &[BlockRange], block_size: BlockSize) -> Vec<BlockRange> {
    let step = (CHUNK_BYTES / block_size.bytes_u64()).max(1);
    let of_run = |run: &BlockRange| {
        let run = *run;
        (0..run.count.0.div_ceil(step)).map(move |number| {
            let start = run.start + BlockCount(number * step);
            BlockRange { start, count: BlockCount(step) }.intersection(run)
        })
    };
    runs.iter().flat_map(of_run).collect()
}

struct Comparer<'a> {
    repository: &'a Repository,
    claim: Claim<'a>,
    buffer: AlignedBuffer,
    reader: Option<BlockReader<'a>>,
    /// The claim is that of hints, and not of a finished version.
    is_audit: bool,
    /// Slots that did not open.
    damaged: BTreeSet<SlotAddress>,
}

impl<'a> Comparer<'a> {
    fn new(repository: &'a Repository, claim: Claim<'a>, is_audit: bool) -> Result<Comparer<'a>> {
        let reader = match claim.map {
            Some(map) => Some(BlockReader::new(repository, map, claim.block_size, claim.map_bytes)?),
            None => None,
        };
        Ok(Comparer { repository, claim, buffer: AlignedBuffer::new(0), reader, is_audit, damaged: BTreeSet::new() })
    }

    /// Returns the blocks of `piece` that differ. Blocks that the source cannot give, or that the version says are
    /// missing or damaged, are not compared.
    fn compare(&mut self, piece: BlockRange) -> Result<Vec<BlockIndex>> {
        let range = self.claim.block_size.byte_range(piece, self.claim.source.size_bytes());
        self.buffer.resize(usize::try_from(range.length_bytes).unwrap_or(usize::MAX));
        match self.claim.source.read_at(range.offset_bytes, &mut self.buffer) {
            Err(error) if error.kind() == ErrorKind::Unreadable => return Ok(Vec::new()),
            other => other?,
        }
        let mut claims = Vec::new();
        match &self.reader {
            Some(reader) => reader.places(piece, &mut |blocks, place| {
                claims.push((blocks, place));
                Ok(())
            })?,
            None => claims.push((piece, Place::Zero)),
        }
        let mut different = Vec::new();
        for (blocks, place) in claims {
            for number in 0..blocks.count.0 {
                let block = BlockRange { start: BlockIndex(blocks.start.0 + number), count: BlockCount(1) };
                if !self.is_as_claimed(piece, block, place)? {
                    different.push(block.start);
                }
            }
        }
        Ok(different)
    }

    fn is_known(&self, bytes: &[u8], address: SlotAddress) -> bool {
        let fingerprint = self.repository.keys().fingerprint_key().fingerprint(bytes);
        let version = self.repository.encryption_version();
        self.repository.catalog().lookup(version, &fingerprint).ok() == Some(Lookup::At(address))
    }

    fn is_as_claimed(&mut self, piece: BlockRange, block: BlockRange, place: Place) -> Result<bool> {
        let start = self.claim.block_size.offset_bytes(BlockIndex((block.start - piece.start).0));
        let length = self.claim.block_size.length_bytes(block.start, self.claim.source.size_bytes()) as usize;
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let Some(bytes) = self.buffer.get(start..start + length) else { return Ok(false) };
        let after = self.claim.zero.partition_point(|range| range.end() <= block.start);
        let is_zero_by_hint = self.claim.zero.get(after).is_some_and(|range| range.start <= block.start);
        match place {
            _ if is_zero_by_hint => Ok(is_zero(bytes)),
            Place::Zero => Ok(is_zero(bytes)),
            Place::Missing => Ok(true),
            Place::Stored { pack, first_slot } => {
                let address = SlotAddress { pack, slot: first_slot };
                // What is known of a slot is enough against hints; a finished version is read as a restore would.
                if self.is_audit && self.is_known(bytes, address) {
                    return Ok(true);
                }
                let Some(reader) = &mut self.reader else { return Ok(false) };
                match reader.read(block, address) {
                    Ok(stored) => Ok(stored == bytes),
                    // Damage says nothing about hints, but all about a finished version.
                    Err(error) if is_about_content(&error) => {
                        self.damaged.insert(address);
                        Ok(self.is_audit)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }
}
