//! Fetches slots and writes blocks. Several fetchers run at once; each looks up what is wanted of a pack, or reads a run of it
//! and writes its blocks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use backy_catalog::Lookup;
use backy_core::cancel::Cancel;
use backy_core::codec::zero::is_zero;
use backy_core::ids::{SlotAddress, SlotNumber};
use backy_core::pack::{Directory, SlotKind, SlotOpener};
use backy_core::policy::hints::union;
use backy_core::units::{BlockCount, BlockIndex, BlockRange, ByteRange};
use backy_core::{Error, Result};
use backy_device::AlignedBuffer;

use super::plan::Task;
use super::{LostBlocks, RestoreReport, RestoreRequest, is_about_block, joined};
use crate::parallel::work_off;
use crate::progress::{Counter, Progress};
use crate::repository::Repository;
use crate::repository::damage::LostMapPart;
use crate::repository::runs::run_length;

/// How much all fetchers together hold of packs, in bytes, unless they are very many.
const RUNS_BYTES_MAX: usize = 128 << 20;
/// The least that is worth reading at once, in bytes.
const RUN_BYTES_MIN: usize = 4 << 20;
/// The most that is written at once.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// As many lost blocks are kept for the report, each with its reason.
const LOST_MAX: usize = 1 << 20;

/// Why blocks are lost that an earlier part of the same restore could not restore.
const LOST_BEFORE: &str = "it could not be restored before this restore was continued";

/// Where restored blocks go, and what is said of them.
pub(super) struct Writing<'a> {
    repository: &'a Repository,
    request: &'a RestoreRequest<'a>,
    progress: &'a Progress,
    written_bytes: Counter,
    equal_bytes: Counter,
    zero_bytes: Counter,
    lost: Mutex<Vec<LostBlocks>>,
    damaged: Mutex<BTreeMap<SlotAddress, String>>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        request: &'a RestoreRequest<'a>,
        progress: &'a Progress,
        lost_before: &[BlockRange],
    ) -> Writing<'a> {
        let lost_block = |blocks: &BlockRange| LostBlocks { blocks: *blocks, problem: LOST_BEFORE.to_owned() };
        let lost_blocks = lost_before.iter().map(lost_block).collect();
        Writing {
            repository,
            request,
            progress,
            written_bytes: Counter::default(),
            equal_bytes: Counter::default(),
            zero_bytes: Counter::default(),
            lost: Mutex::new(lost_blocks),
            damaged: Mutex::default(),
        }
    }

    pub(super) fn repository(&self) -> &'a Repository {
        self.repository
    }

    pub(super) fn request(&self) -> &'a RestoreRequest<'a> {
        self.request
    }

    /// Makes blocks of the target zero.
    pub(super) fn zero(&self, blocks: BlockRange) -> Result<()> {
        let range = self.byte_range(blocks);
        let is_zero_already = self.request.skips_zeros || self.request.target.is_known_zero();
        if !is_zero_already {
            self.request.target.zero_range(range)?;
        }
        self.zero_bytes.add(range.length_bytes);
        self.progress.zero_bytes.add(range.length_bytes);
        self.progress.done_bytes.add(range.length_bytes);
        Ok(())
    }

    /// Reports blocks that cannot be had, and makes them zero, whatever the user said of zeros.
    pub(super) fn lose(&self, blocks: BlockRange, problem: &str) -> Result<()> {
        let range = self.byte_range(blocks);
        if !self.request.target.is_known_zero() {
            self.request.target.zero_range(range)?;
        }
        self.progress.bad_bytes.add(range.length_bytes);
        self.progress.done_bytes.add(range.length_bytes);
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        // Where so much is lost, the reasons are left out, so that the blocks can be joined.
        let problem = if lost.len() < LOST_MAX / 2 { problem } else { "much is damaged" };
        lost.push(LostBlocks { blocks, problem: problem.to_owned() });
        // At powers of two only: where they do not join, trying again each time would take for ever.
        if lost.len() >= LOST_MAX && lost.len().is_power_of_two() {
            *lost = joined(std::mem::take(&mut *lost));
        }
        Ok(())
    }

    /// Reports blocks of which the map says nothing any more, and makes them zero.
    pub(super) fn lose_map_part(&self, part: &LostMapPart, blocks: BlockRange) -> Result<()> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.insert(part.address, part.problem.clone());
        drop(damaged);
        self.lose(blocks, &part.problem)
    }

    /// Returns the blocks that were lost so far.
    pub(super) fn lost_ranges(&self) -> Vec<BlockRange> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        union(lost.iter().map(|lost| lost.blocks).collect())
    }

    /// Returns what is to be reported, and the damaged slots with what was wrong.
    pub(super) fn into_report(self) -> (RestoreReport, BTreeMap<SlotAddress, String>) {
        let report = RestoreReport {
            lost: joined(self.lost.into_inner().unwrap_or_else(PoisonError::into_inner)),
            written_bytes: self.written_bytes.get(),
            equal_bytes: self.equal_bytes.get(),
            zero_bytes: self.zero_bytes.get(),
            started_at: BlockIndex(0),
        };
        (report, self.damaged.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn byte_range(&self, blocks: BlockRange) -> ByteRange {
        self.request.version.block_size.byte_range(blocks, self.request.version.size_bytes)
    }

    fn note_damaged(&self, address: SlotAddress, error: &Error) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < LOST_MAX {
            damaged.insert(address, error.to_string());
        }
    }
}

/// Restores all blocks of `tasks`. One lost block does not stop it; a store or target that fails does.
pub(super) fn fetch(writing: &Writing<'_>, tasks: Vec<Task>, cancel: &Cancel) -> Result<()> {
    let threads = writing.repository.settings().pack_readers();
    let tasks = tasks.into_iter().map(Step::Look).collect();
    work_off(
        threads,
        tasks,
        cancel,
        || Fetcher::new(writing),
        |fetcher, step| match step {
            Step::Look(task) => fetcher.look(&task),
            Step::Restore(run) => fetcher.restore(&run).map(|()| Vec::new()),
        },
    )
}

/// Returns how many bytes of a pack are read at once at most.
fn run_bytes_max(repository: &Repository) -> u32 {
    let share = (RUNS_BYTES_MAX / repository.settings().pack_readers()).max(RUN_BYTES_MIN);
    repository.store().piece_bytes().min(u32::try_from(share).unwrap_or(u32::MAX))
}

/// What a fetcher does next: find out where the slots of a pack are, which makes runs of them; or restore a run.
enum Step {
    Look(Task),
    Restore(Run),
}

/// Slots that are read together, and the block each one is.
struct Run {
    directory: Arc<Directory>,
    items: Vec<(SlotNumber, BlockIndex)>,
}

struct Fetcher<'a> {
    writing: &'a Writing<'a>,
    opener: SlotOpener,
    run: Vec<u8>,
    /// A slot that was not in the run.
    plain: Vec<u8>,
    /// Blocks that are ready to be written, one after the other, in the first `ready_bytes`.
    ready: AlignedBuffer,
    ready_bytes: usize,
    ready_blocks: BlockRange,
    compared: AlignedBuffer,
}

impl<'a> Fetcher<'a> {
    fn new(writing: &'a Writing<'a>) -> Result<Fetcher<'a>> {
        let block_bytes = writing.request.version.block_size.bytes() as usize;
        Ok(Fetcher {
            writing,
            opener: SlotOpener::new()?,
            run: Vec::new(),
            plain: Vec::new(),
            ready: AlignedBuffer::new(WRITE_BYTES_MAX.max(block_bytes)),
            ready_bytes: 0,
            ready_blocks: BlockRange::between(BlockIndex(0), BlockIndex(0)),
            compared: AlignedBuffer::new(0),
        })
    }

    /// Finds out what is to be read of a pack; returns a step for each run.
    fn look(&mut self, task: &Task) -> Result<Vec<Step>> {
        let mut items = task.items();
        if self.writing.request.writes_differences_only {
            self.drop_what_is_there(task, &mut items)?;
        }
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let directory = match self.writing.repository.directory(task.pack) {
            Ok(directory) => directory,
            Err(error) if is_about_block(&error) => {
                // No generation has a directory, so no slot can be found.
                for (slot, _) in &items {
                    self.writing.note_damaged(SlotAddress { pack: task.pack, slot: *slot }, &error);
                }
                let mut lost: Vec<BlockIndex> = items.iter().map(|(_, block)| *block).collect();
                lost.sort_unstable();
                lost.into_iter().try_for_each(|block| {
                    self.writing.lose(BlockRange { start: block, count: BlockCount(1) }, &error.to_string())
                })?;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let bytes_max = run_bytes_max(self.writing.repository);
        let mut steps = Vec::new();
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let slots = rest.iter().map(|(slot, _)| *slot);
            let (run, tail) = rest.split_at(run_length(&directory, slots, bytes_max));
            steps.push(Step::Restore(Run { directory: directory.clone(), items: run.to_vec() }));
            rest = tail;
        }
        Ok(steps)
    }

    /// Restores a run: one read.
    fn restore(&mut self, run: &Run) -> Result<()> {
        let Run { directory, items } = run;
        let locators: Vec<_> = items.iter().map(|(slot, _)| directory.locator(*slot)).collect();
        let start = locators.iter().flatten().map(|locator| locator.offset_bytes).min().unwrap_or_default();
        let end = locators
            .iter()
            .flatten()
            .map(|locator| locator.offset_bytes.saturating_add(locator.stored_length))
            .max()
            .unwrap_or_default();
        let range = ByteRange::between(u64::from(start), u64::from(end));
        let mut run = std::mem::take(&mut self.run);
        let has_run = match self.writing.repository.read_pack_range(directory, range, &mut run) {
            Ok(()) => true,
            Err(error) if is_about_block(&error) => false,
            Err(error) => return Err(error),
        };
        self.writing.progress.read_bytes.add(run.len() as u64);
        // Which slot is open, and where in the ready bytes: several blocks may be the same slot.
        let mut open: Option<(SlotNumber, Range<usize>)> = None;
        for ((slot, block), locator) in items.iter().zip(&locators) {
            let place = self.room_for(*block)?;
            let opened = match &open {
                Some((slot_open, bytes)) if slot_open == slot && bytes.len() == place.len() => {
                    self.ready.copy_within(bytes.clone(), place.start);
                    Ok(())
                }
                _ => {
                    let sealed = locator.filter(|_| has_run).and_then(|locator| {
                        let from = (locator.offset_bytes - start) as usize;
                        run.get_mut(from..from + locator.stored_length as usize)
                    });
                    let address = SlotAddress { pack: directory.name().id, slot: *slot };
                    self.open(directory, address, sealed, *block, place.clone())
                }
            };
            match opened {
                Ok(()) => {
                    self.ready_bytes = place.end;
                    self.ready_blocks = BlockRange::between(self.ready_blocks.start, *block + BlockCount(1));
                    open = Some((*slot, place));
                }
                Err(error) if is_about_block(&error) => {
                    self.writing.note_damaged(SlotAddress { pack: directory.name().id, slot: *slot }, &error);
                    self.writing.lose(BlockRange { start: *block, count: BlockCount(1) }, &error.to_string())?;
                    open = None;
                }
                Err(error) => return Err(error),
            }
        }
        self.run = run;
        self.write_ready()
    }

    /// Opens a slot into `place` of the ready bytes: from the run that was read, else from whatever generation has it.
    fn open(
        &mut self,
        directory: &Directory,
        address: SlotAddress,
        sealed: Option<&mut [u8]>,
        block: BlockIndex,
        place: Range<usize>,
    ) -> Result<()> {
        let repository = self.writing.repository;
        let is_data = directory.locator(address.slot).is_some_and(|locator| locator.kind == SlotKind::Data);
        let output = &mut self.ready[place];
        let first = match sealed {
            Some(sealed) if is_data => {
                self.opener.open_into(repository.keys(), directory, address.slot, sealed, output)
            }
            _ => Err(Error::damaged(format!("slot {address} is not readable"))),
        };
        match first {
            Err(error) if is_about_block(&error) => {}
            other => return other,
        }
        repository.forget_directory(address.pack);
        let kind = repository.read_slot(address, &mut self.opener, &mut self.plain)?;
        if kind != SlotKind::Data {
            return Err(Error::damaged(format!("slot {address} holds no data")));
        }
        if self.plain.len() != output.len() {
            let (is, should) = (self.plain.len(), output.len());
            return Err(Error::damaged(format!("block {block} has {should} bytes, but slot {address} has {is}")));
        }
        output.copy_from_slice(&self.plain);
        Ok(())
    }

    /// Returns where in the ready bytes `block` goes: behind those that are ready, or first when it does not follow
    /// them; then they are written.
    fn room_for(&mut self, block: BlockIndex) -> Result<Range<usize>> {
        let version = &self.writing.request.version;
        let length = version.block_size.length_bytes(block, version.size_bytes) as usize;
        let follows = self.ready_blocks.end() == block && self.ready_bytes + length <= self.ready.len();
        if !follows || self.ready_bytes >= WRITE_BYTES_MAX {
            self.write_ready()?;
            self.ready_blocks = BlockRange::between(block, block);
        }
        Ok(self.ready_bytes..self.ready_bytes + length)
    }

    fn write_ready(&mut self) -> Result<()> {
        let blocks = self.ready_blocks;
        if blocks.is_empty() {
            return Ok(());
        }
        let range = self.writing.byte_range(blocks);
        if self.writing.request.writes_differences_only {
            self.write_differences(range)?;
        } else {
            self.writing.request.target.write_at(range.offset_bytes, &self.ready[..self.ready_bytes])?;
            self.writing.written_bytes.add(range.length_bytes);
            self.writing.progress.written_bytes.add(range.length_bytes);
        }
        self.writing.progress.done_bytes.add(range.length_bytes);
        self.ready_bytes = 0;
        self.ready_blocks = BlockRange::between(blocks.end(), blocks.end());
        Ok(())
    }

    /// Writes those of the ready blocks that differ from the target.
    fn write_differences(&mut self, range: ByteRange) -> Result<()> {
        let block_bytes = self.writing.request.version.block_size.bytes() as usize;
        self.compared.resize(self.ready_bytes);
        self.writing.request.target.read_at(range.offset_bytes, &mut self.compared)?;
        let mut offset_bytes = range.offset_bytes;
        for (new, old) in self.ready[..self.ready_bytes].chunks(block_bytes).zip(self.compared.chunks(block_bytes)) {
            let length = new.len() as u64;
            if new == old {
                self.writing.equal_bytes.add(length);
            } else {
                self.writing.request.target.write_at(offset_bytes, new)?;
                self.writing.written_bytes.add(length);
                self.writing.progress.written_bytes.add(length);
            }
            offset_bytes += length;
        }
        Ok(())
    }

    /// Drops items whose block is on the target already, as far as the catalog knows: they need not be fetched.
    fn drop_what_is_there(&mut self, task: &Task, items: &mut Vec<(SlotNumber, BlockIndex)>) -> Result<()> {
        let version = &self.writing.request.version;
        let mut there: Vec<BlockIndex> = Vec::new();
        for blocks in task.blocks().into_iter().flat_map(|blocks| pieces(blocks, version.block_size.bytes() as usize)) {
            let range = self.writing.byte_range(blocks);
            self.compared.resize(usize::try_from(range.length_bytes).unwrap_or(usize::MAX));
            if self.writing.request.target.read_at(range.offset_bytes, &mut self.compared).is_err() {
                continue;
            }
            for (number, bytes) in self.compared.chunks(version.block_size.bytes() as usize).enumerate() {
                let block = BlockIndex(blocks.start.0 + number as u64);
                if !is_zero(bytes) && self.is_stored_at(bytes, task, items, block) {
                    self.writing.equal_bytes.add(bytes.len() as u64);
                    self.writing.progress.done_bytes.add(bytes.len() as u64);
                    there.push(block);
                }
            }
        }
        there.sort_unstable();
        items.retain(|(_, block)| there.binary_search(block).is_err());
        Ok(())
    }

    fn is_stored_at(&self, bytes: &[u8], task: &Task, items: &[(SlotNumber, BlockIndex)], block: BlockIndex) -> bool {
        let repository = self.writing.repository;
        let fingerprint = repository.keys().fingerprint_key().fingerprint(bytes);
        let found = repository.catalog().lookup(repository.encryption_version(), &fingerprint);
        let Ok(Lookup::At(address)) = found else { return false };
        address.pack == task.pack && items.binary_search(&(address.slot, block)).is_ok()
    }
}

/// Cuts blocks into pieces of at most 1 MiB, or one block.
fn pieces(blocks: BlockRange, block_bytes: usize) -> impl Iterator<Item = BlockRange> {
    let step = (WRITE_BYTES_MAX / block_bytes).max(1) as u64;
    (0..blocks.count.0.div_ceil(step)).map(move |number| {
        let start = blocks.start + BlockCount(number * step);
        BlockRange { start, count: BlockCount(step) }.intersection(blocks)
    })
}
