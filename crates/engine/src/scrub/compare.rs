//! Compares a version with its source, zero blocks included.
//!
//! The source is read in order, and its fingerprints are compared with those that the packs tell: whether the packs hold
//! what they tell is seen when they are verified. A window of the volume is read before its packs are looked at, so that
//! each pack is asked once a window, however fragmented the map is.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use backy_core::cancel::Cancel;
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::codec::zero::is_zero;
use backy_core::ids::{PackId, SlotAddress, SlotNumber};
use backy_core::map::{Extent, MapPart, Place, salvage_map};
use backy_core::pack::{SlotKind, SlotOpener};
use backy_core::policy::hints::union;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockIndex, BlockRange};
use backy_core::{Error, ErrorKind, Result};
use backy_device::{AlignedBuffer, Source};

use crate::parallel::for_each;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::packs::is_about_content;

/// How many blocks are read before they are compared; each takes some 100 bytes meanwhile.
const WINDOW_BLOCKS: u64 = 1 << 18;
/// How much of the source is read at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// A sample is drawn in parts of ten thousand.
const SAMPLE_PARTS: u64 = 10_000;

/// What a comparison has found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// How many bytes of the source were compared.
    pub bytes: u64,
    /// Blocks that differ.
    pub different: Vec<BlockRange>,
    /// Blocks that the source cannot give.
    pub unreadable: Vec<BlockRange>,
}

/// What a block of the source is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Zero,
    Unreadable,
    Data(Fingerprint),
}

/// A block of the source that should be the content of a slot.
struct Claim {
    pack: PackId,
    slot: SlotNumber,
    block: BlockIndex,
    fingerprint: Fingerprint,
}

/// Fails with `InvalidInput` if the source cannot be what the version was made from.
pub(super) fn check_size(version: &Manifest, source: &dyn Source) -> Result<()> {
    let (have, want) = (source.size_bytes(), version.size_bytes);
    if have == want {
        return Ok(());
    }
    let url = source.url();
    let message = format!("the source {url} has {have} bytes, the version {want}: it is not what was backed up");
    Err(Error::invalid(message))
}

/// Compares all of the version, or `percent` of it by chance, with the source. Blocks that are missing in the version, or
/// whose place is not known because the map is damaged, are not compared.
pub(super) fn compare(
    repository: &Repository,
    version: &Manifest,
    source: &dyn Source,
    percent: Option<f64>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Comparison> {
    let mut comparer = Comparer {
        repository,
        version,
        source,
        percent,
        progress,
        cancel,
        start: BlockIndex(0),
        parts: Vec::new(),
        comparison: Comparison::default(),
    };
    salvage_map(repository, version.map, &mut |part| {
        let (blocks, place) = match part {
            MapPart::Extent(extent) => (extent.blocks, extent.place),
            MapPart::Lost { blocks, .. } => (blocks, Place::Missing),
        };
        comparer.add(Extent { blocks, place })
    })?;
    comparer.compare_up_to(BlockIndex(version.map.blocks.0))?;
    source.check_unchanged()?;
    let Comparison { bytes, different, unreadable } = comparer.comparison;
    Ok(Comparison { bytes, different: union(different), unreadable: union(unreadable) })
}

struct Comparer<'a> {
    repository: &'a Repository,
    version: &'a Manifest,
    source: &'a dyn Source,
    percent: Option<f64>,
    progress: &'a Progress,
    cancel: &'a Cancel,
    /// All blocks before this one are compared.
    start: BlockIndex,
    /// What the map says of the blocks from there on, but for zero ones; in order.
    parts: Vec<Extent>,
    comparison: Comparison,
}

impl Comparer<'_> {
    fn add(&mut self, extent: Extent) -> Result<()> {
        let mut rest = extent.blocks;
        while !rest.is_empty() {
            let window_end = self.start + BlockCount(WINDOW_BLOCKS);
            if rest.start >= window_end {
                self.compare_up_to(rest.start)?;
                continue;
            }
            let now = BlockRange::between(rest.start, rest.end().min(window_end));
            if extent.place != Place::Zero {
                self.parts.push(extent.clip(now));
            }
            rest = BlockRange::between(now.end(), rest.end());
            if now.end() == window_end {
                self.compare_up_to(window_end)?;
            }
        }
        Ok(())
    }

    /// Compares all windows that end before `end`, and what is left before it.
    fn compare_up_to(&mut self, end: BlockIndex) -> Result<()> {
        while self.start < end {
            let window = BlockRange::between(self.start, end.min(self.start + BlockCount(WINDOW_BLOCKS)));
            self.compare_window(window)?;
            self.parts.clear();
            self.start = window.end();
        }
        Ok(())
    }

    fn compare_window(&mut self, window: BlockRange) -> Result<()> {
        let contents = self.read_source(window)?;
        let mut claims = Vec::new();
        let mut parts = self.parts.iter().peekable();
        for (start, contents) in contents {
            for (number, content) in (0..).zip(contents) {
                let block = BlockIndex(start.0 + number);
                while parts.next_if(|part| part.blocks.end() <= block).is_some() {}
                let single = BlockRange { start: block, count: BlockCount(1) };
                let place = match parts.peek() {
                    Some(part) if part.blocks.start <= block => part.clip(single).place,
                    _ => Place::Zero,
                };
                match (place, content) {
                    (Place::Missing, _) | (Place::Zero, Content::Zero) => {}
                    (_, Content::Unreadable) => self.comparison.unreadable.push(single),
                    (Place::Zero, Content::Data(_)) => self.comparison.different.push(single),
                    (Place::Stored { pack, first_slot: slot }, content) => {
                        let fingerprint = match content {
                            Content::Data(fingerprint) => fingerprint,
                            Content::Zero | Content::Unreadable => self.fingerprint_of_zeros(block),
                        };
                        claims.push(Claim { pack, slot, block, fingerprint });
                    }
                }
            }
        }
        claims.sort_unstable_by_key(|claim| (claim.pack, claim.slot));
        let different = self.wrong_claims(&claims)?;
        let blocks = different.into_iter().map(|start| BlockRange { start, count: BlockCount(1) });
        self.comparison.different.extend(blocks);
        // One bad sector is one block, but a wrong source is all of them.
        self.comparison.different = union(std::mem::take(&mut self.comparison.different));
        self.comparison.unreadable = union(std::mem::take(&mut self.comparison.unreadable));
        Ok(())
    }

    fn fingerprint_of_zeros(&self, block: BlockIndex) -> Fingerprint {
        let length = self.version.block_size.length_bytes(block, self.version.size_bytes) as usize;
        self.repository.keys().fingerprint_key().fingerprint(&vec![0; length])
    }

    /// Reads the source in a window, or a sample of it; returns the contents by the block where each piece begins.
    fn read_source(&mut self, window: BlockRange) -> Result<BTreeMap<BlockIndex, Vec<Content>>> {
        let step = (CHUNK_BYTES / self.version.block_size.bytes_u64()).max(1);
        let mut pieces = Vec::new();
        let mut start = window.start;
        while start < window.end() {
            let piece = BlockRange { start, count: BlockCount(step) }.intersection(window);
            start = piece.end();
            if self.is_drawn() {
                pieces.push(piece);
            } else {
                let range = self.version.block_size.byte_range(piece, self.version.size_bytes);
                self.progress.done_bytes.add(range.length_bytes);
            }
        }
        let contents = Mutex::new(BTreeMap::new());
        let threads = self.repository.settings().pack_readers();
        let this = &*self;
        for_each(
            threads,
            &pieces,
            self.cancel,
            || Ok(AlignedBuffer::new(0)),
            |buffer, piece| {
                let of_piece = this.read_piece(*piece, buffer)?;
                contents.lock().unwrap_or_else(PoisonError::into_inner).insert(piece.start, of_piece);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        let bytes = pieces.iter().map(|piece| self.version.block_size.byte_range(*piece, self.version.size_bytes));
        self.comparison.bytes += bytes.map(|range| range.length_bytes).sum::<u64>();
        Ok(contents.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_drawn(&self) -> bool {
        let Some(percent) = self.percent else { return true };
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = self.repository.environment().random_below(SAMPLE_PARTS) as f64;
        share * 100.0 < percent * SAMPLE_PARTS as f64
    }

    fn read_piece(&self, piece: BlockRange, buffer: &mut AlignedBuffer) -> Result<Vec<Content>> {
        let (block_size, volume_bytes) = (self.version.block_size, self.version.size_bytes);
        let range = block_size.byte_range(piece, volume_bytes);
        let count = usize::try_from(piece.count.0).unwrap_or(usize::MAX);
        self.progress.done_bytes.add(range.length_bytes);
        if self.source.data_ranges(range)?.is_empty() {
            return Ok(vec![Content::Zero; count]);
        }
        self.progress.read_bytes.add(range.length_bytes);
        buffer.resize(usize::try_from(range.length_bytes).unwrap_or(usize::MAX));
        match self.source.read_at(range.offset_bytes, buffer) {
            Ok(()) => {
                let block_bytes = usize::try_from(block_size.bytes()).unwrap_or(usize::MAX);
                Ok(buffer.chunks(block_bytes).map(|block| self.content(block)).collect())
            }
            // One bad block is one bad block: the others of its piece are read.
            Err(error) if error.kind() == ErrorKind::Unreadable => {
                let mut contents = Vec::with_capacity(count);
                for number in 0..piece.count.0 {
                    let block = piece.start + BlockCount(number);
                    buffer.resize(block_size.length_bytes(block, volume_bytes) as usize);
                    contents.push(match self.source.read_at(block_size.offset_bytes(block), buffer) {
                        Ok(()) => self.content(buffer),
                        Err(error) if error.kind() == ErrorKind::Unreadable => Content::Unreadable,
                        Err(error) => return Err(error),
                    });
                }
                Ok(contents)
            }
            Err(error) => Err(error),
        }
    }

    fn content(&self, block: &[u8]) -> Content {
        if is_zero(block) {
            Content::Zero
        } else {
            Content::Data(self.repository.keys().fingerprint_key().fingerprint(block))
        }
    }

    /// Returns the blocks that are not what their slots hold. `claims` are sorted by pack.
    fn wrong_claims(&self, claims: &[Claim]) -> Result<Vec<BlockIndex>> {
        let of_packs: Vec<&[Claim]> = claims.chunk_by(|left, right| left.pack == right.pack).collect();
        let wrong = Mutex::new(Vec::new());
        let threads = self.repository.settings().simultaneous_reads.get();
        for_each(threads, &of_packs, self.cancel, SlotOpener::new, |opener, of_pack| {
            let wrong_here = self.wrong_of_pack(of_pack, opener)?;
            wrong.lock().unwrap_or_else(PoisonError::into_inner).extend(wrong_here);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(wrong.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn wrong_of_pack(&self, claims: &[Claim], opener: &mut SlotOpener) -> Result<Vec<BlockIndex>> {
        let Some(first) = claims.first() else { return Ok(Vec::new()) };
        let told = self.repository.told_fingerprints(first.pack)?;
        let mut wrong = Vec::new();
        let mut plain = Vec::new();
        for claim in claims {
            let fingerprint = match told.get(&claim.slot) {
                Some(fingerprint) => *fingerprint,
                None => {
                    let address = SlotAddress { pack: claim.pack, slot: claim.slot };
                    match self.repository.read_slot(address, opener, &mut plain) {
                        Ok(SlotKind::Data) => self.repository.keys().fingerprint_key().fingerprint(&plain),
                        // Nobody knows what it was, so nothing is said against the source.
                        Ok(SlotKind::MapPage | SlotKind::MapNode) => continue,
                        Err(error) if is_about_content(&error) => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            if fingerprint != claim.fingerprint {
                wrong.push(claim.block);
            }
        }
        Ok(wrong)
    }
}
