//! Puts the pieces back in the order of the volume, seals new blocks into packs, and says where every block is.
//!
//! There is one packer. A block that two workers found new at once is stored once: the packer looks again.

use std::collections::BTreeMap;

use backy_core::Result;
use backy_core::ids::{LeaseId, SlotAddress};
use backy_core::map::{Extent, Place};
use backy_core::pack::{NewSlot, PACK_BYTES_MAX, PackWriter, SlotKind};
use backy_core::records::manifest::Statistics;
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use crossbeam_channel::{Receiver, Sender};

use super::deduplicator::Deduplicator;
use super::flow::{ChunkMemory, Content, Found, OpenPack, Outcome, PackJob, PackNumber, Processed, Update};
use super::stop::Stop;
use crate::progress::Progress;
use crate::repository::Repository;

/// After this many extents a pack is cut though it is not full: extents wait for their pack, and waiting takes memory.
const EXTENTS_PER_PACK_MAX: u64 = 1 << 18;

/// What the packer works with.
pub(super) struct Packer<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The job.
    pub lease: LeaseId,
    /// The size of blocks.
    pub block_size: BlockSize,
    /// The size of the volume.
    pub volume_bytes: u64,
    /// Finds what is stored.
    pub deduplicator: &'a Deduplicator<'a>,
    /// Where pieces come from.
    pub processed: Receiver<Processed>,
    /// Where used memory goes.
    pub free: Sender<ChunkMemory>,
    /// Free memory for packs.
    pub free_packs: Receiver<Vec<u8>>,
    /// Where full packs go.
    pub packs: Sender<PackJob>,
    /// Where extents go.
    pub updates: Sender<Update>,
    /// How far the job is.
    pub progress: &'a Progress,
    /// When to stop.
    pub stop: &'a Stop<'a>,
}

/// What changes while the packer runs.
struct State {
    statistics: Statistics,
    open: Option<PackJob>,
    next_number: PackNumber,
    extents_since_cut: u64,
    /// The extent that may still grow.
    last: Option<(Extent, Option<PackNumber>)>,
}

impl Packer<'_> {
    /// Packs until no piece comes; returns the pack that is not full. `statistics` is what earlier parts of this backup did.
    pub(super) fn run(self, statistics: Statistics) -> OpenPack {
        let mut state = State { statistics, open: None, next_number: PackNumber(0), extents_since_cut: 0, last: None };
        let mut waiting: BTreeMap<u64, Processed> = BTreeMap::new();
        let mut expected = 0;
        for processed in &self.processed {
            waiting.insert(processed.sequence, processed);
            while let Some(processed) = waiting.remove(&expected) {
                expected += 1;
                self.stop.check(self.pack(&mut state, processed));
            }
            if self.stop.has_failed() {
                self.give_back(std::mem::take(&mut waiting));
            }
        }
        if self.stop.has_failed() {
            return None;
        }
        match state.open {
            // A pack with more room than this is taken over for map slots.
            Some(job) if job.writer.size_bytes() > self.pack_size_bytes() / 4 * 3 => {
                // The uploaders end when this sender is gone; a failed send is theirs to report.
                let _ = self.packs.send(job);
                None
            }
            open => open,
        }
    }

    /// Gives back the memory of pieces that nobody needs after a failure, for readers may wait for it.
    fn give_back(&self, waiting: BTreeMap<u64, Processed>) {
        for processed in waiting.into_values() {
            if let Content::Blocks { memory, .. } = processed.content {
                let _ = self.free.send(memory);
            }
        }
    }

    fn pack(&self, state: &mut State, processed: Processed) -> Result<()> {
        if self.stop.has_failed() {
            self.give_back([(processed.sequence, processed)].into());
            return Ok(());
        }
        let bytes = self.block_size.byte_range(processed.blocks, self.volume_bytes).length_bytes;
        match processed.content {
            Content::Hole => {
                state.statistics.hole_bytes += bytes;
                self.progress.zero_bytes.add(bytes);
                self.place(state, processed.blocks, Place::Zero, None);
            }
            Content::Blocks { outcomes, memory } => {
                state.statistics.read_bytes += bytes;
                self.progress.read_bytes.add(bytes);
                let packed = self.pack_blocks(state, processed.blocks.start, &outcomes, &memory.bodies);
                // Nobody waits for memory any more when the readers have ended.
                let _ = self.free.send(memory);
                packed?;
            }
        }
        self.flush_extent(state);
        let statistics = Update::Statistics(Box::new(state.statistics));
        let _ = self.updates.send(statistics);
        self.progress.done_bytes.add(bytes);
        Ok(())
    }

    fn pack_blocks(&self, state: &mut State, first: BlockIndex, outcomes: &[Outcome], bodies: &[u8]) -> Result<()> {
        let mut rest = bodies;
        for (number, outcome) in outcomes.iter().enumerate() {
            let block = BlockRange { start: BlockIndex(first.0 + number as u64), count: BlockCount(1) };
            let length = u64::from(self.block_size.length_bytes(block.start, self.volume_bytes));
            match *outcome {
                Outcome::Zero => {
                    state.statistics.zero_bytes += length;
                    self.progress.zero_bytes.add(length);
                    self.place(state, block, Place::Zero, None);
                }
                Outcome::Missing => {
                    state.statistics.missing_bytes += length;
                    self.progress.bad_bytes.add(length);
                    self.place(state, block, Place::Missing, None);
                }
                Outcome::Known(found) => self.place_known(state, block, length, found),
                Outcome::New { fingerprint, codec, body_length } => {
                    let (body, tail) = rest.split_at_checked(body_length as usize).unwrap_or((rest, &[]));
                    rest = tail;
                    if let Some(found) = self.deduplicator.find(&fingerprint)? {
                        self.place_known(state, block, length, found);
                        continue;
                    }
                    let plain_length = u32::try_from(length).unwrap_or(u32::MAX);
                    let slot =
                        NewSlot { kind: SlotKind::Data, plain_length, codec, body, fingerprint: Some(fingerprint) };
                    let found = self.store(state, slot)?;
                    if let Some(number) = found.waits_for {
                        self.deduplicator.add_pending(&fingerprint, found.address, number);
                    }
                    state.statistics.new_bytes += length;
                    self.place_stored(state, block, found);
                }
            }
        }
        Ok(())
    }

    fn place_known(&self, state: &mut State, block: BlockRange, length: u64, found: Found) {
        state.statistics.deduplicated_bytes += length;
        self.progress.deduplicated_bytes.add(length);
        self.place_stored(state, block, found);
    }

    fn place_stored(&self, state: &mut State, block: BlockRange, found: Found) {
        let place = Place::Stored { pack: found.address.pack, first_slot: found.address.slot };
        self.place(state, block, place, found.waits_for);
    }

    /// Seals a new block into the open pack.
    fn store(&self, state: &mut State, slot: NewSlot<'_>) -> Result<Found> {
        let is_full = |job: &PackJob| !job.writer.would_fit(slot.body.len(), self.pack_size_bytes());
        if state.open.as_ref().is_some_and(is_full) {
            self.cut(state);
        }
        let mut job = match state.open.take() {
            Some(job) => job,
            None => self.new_pack(state)?,
        };
        let number = job.number;
        let slot_number = job.writer.append(slot, self.repository.environment())?;
        let address = SlotAddress { pack: job.writer.name().id, slot: slot_number };
        state.open = Some(job);
        Ok(Found { address, waits_for: Some(number) })
    }

    /// Sends the open pack on its way.
    fn cut(&self, state: &mut State) {
        if let Some(job) = state.open.take() {
            // A failed send is for the uploaders to report.
            let _ = self.packs.send(job);
        }
    }

    fn pack_size_bytes(&self) -> usize {
        self.repository.settings().pack_size_bytes.min(PACK_BYTES_MAX)
    }

    fn new_pack(&self, state: &mut State) -> Result<PackJob> {
        // If all uploaders are gone there is no memory to wait for, and nothing to keep within bounds.
        let buffer = self.free_packs.recv().unwrap_or_default();
        let name = self.repository.new_pack_name(self.lease);
        let writer = PackWriter::new(self.repository.keys(), name, buffer)?;
        let number = state.next_number;
        state.next_number = PackNumber(number.0 + 1);
        state.extents_since_cut = 0;
        Ok(PackJob { number, writer })
    }

    /// Says where some blocks are; joins them to the ones before if they follow.
    fn place(&self, state: &mut State, blocks: BlockRange, place: Place, waits_for: Option<PackNumber>) {
        if let Some((last, last_waits_for)) = &mut state.last
            && last.blocks.end() == blocks.start
            && *last_waits_for == waits_for
            && follows(last, place)
        {
            last.blocks = BlockRange::between(last.blocks.start, blocks.end());
            return;
        }
        self.flush_extent(state);
        state.last = Some((Extent { blocks, place }, waits_for));
    }

    fn flush_extent(&self, state: &mut State) {
        if let Some((extent, waits_for)) = state.last.take() {
            state.extents_since_cut += 1;
            let _ = self.updates.send(Update::Extent { extent, waits_for });
            // Also when nothing new comes: what follows a block of the open pack waits for that pack.
            if state.extents_since_cut >= EXTENTS_PER_PACK_MAX {
                self.cut(state);
                state.extents_since_cut = 0;
            }
        }
    }
}

/// Says whether `place` goes on where `last` ends.
fn follows(last: &Extent, place: Place) -> bool {
    match (last.place, place) {
        (Place::Zero, Place::Zero) | (Place::Missing, Place::Missing) => true,
        (Place::Stored { pack, first_slot }, Place::Stored { pack: next_pack, first_slot: next_slot }) => {
            pack == next_pack && u64::from(first_slot.0) + last.blocks.count.0 == u64::from(next_slot.0)
        }
        _ => false,
    }
}
