//! Merges runs: which ones is decided by their sizes, then all are read once in order.
//!
//! Memory is one read buffer of 128 KiB for each run, and the writer's. Every sector is verified on the way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use backy_core::ids::{RepositoryId, SlotNumber};
use backy_core::{Error, Result};

use super::block::Block;
use super::runs::Run;
use super::sector::{self, PAGE_SIZE_BYTES, SECTOR_SIZE_BYTES};
use super::segment::{self, Segment, SegmentFact};
use super::writer::SegmentWriter;
use backy_core::records::index::is_sampled;

use super::{Candidate, Key, SLOTS_PER_KEY_MAX, prefix_of};

const READ_PAGES: usize = 32;

/// Returns how many of the newest runs are to be merged; sizes are in keys, newest first.
///
/// Nothing as long as there are at most `run_count_max`. Then the newest two, and on to older ones while these are not
/// larger than twice what is merged already: so a key is rewritten a number of times that grows with the logarithm.
pub(crate) fn plan(sizes: &[u64], run_count_max: usize) -> Option<usize> {
    if sizes.len() <= run_count_max.max(1) {
        return None;
    }
    let mut sum = 0u64;
    let count = sizes.iter().enumerate().take_while(|&(position, &size)| {
        let joins = position < 2 || size <= sum.saturating_mul(2);
        sum = sum.saturating_add(size);
        joins
    });
    Some(count.count())
}

/// Writes entries that come in order into segments of one run.
pub(crate) struct RunWriter<'a> {
    folder: &'a Path,
    repository: RepositoryId,
    run: i64,
    segment_keys_max: u64,
    next_id: &'a mut dyn FnMut() -> Result<i64>,
    segment: Option<SegmentWriter>,
    finished: Vec<SegmentFact>,
}

impl<'a> RunWriter<'a> {
    /// Begins a run; `next_id` gives a number for each segment.
    pub fn new(
        folder: &'a Path,
        repository: RepositoryId,
        run: i64,
        segment_keys_max: u64,
        next_id: &'a mut dyn FnMut() -> Result<i64>,
    ) -> RunWriter<'a> {
        RunWriter { folder, repository, run, segment_keys_max, next_id, segment: None, finished: Vec::new() }
    }

    /// Appends an entry.
    pub fn push(&mut self, key: &Key, candidate: Candidate) -> Result<()> {
        if let Some(segment) = self.segment.take_if(|segment| segment.key_count() >= self.segment_keys_max) {
            self.finished.push(segment.finish()?);
        }
        let segment = match &mut self.segment {
            Some(segment) => segment,
            none => {
                let id = (self.next_id)()?;
                none.insert(SegmentWriter::create(self.folder, self.repository, id, self.run)?)
            }
        };
        segment.push(key, candidate.origin, candidate.slot)
    }

    /// Completes the last segment; all are durable then.
    pub fn finish(mut self) -> Result<Vec<SegmentFact>> {
        if let Some(segment) = self.segment.take() {
            self.finished.push(segment.finish()?);
        }
        Ok(std::mem::take(&mut self.finished))
    }
}

impl Drop for RunWriter<'_> {
    fn drop(&mut self) {
        remove_segments(self.folder, &self.finished);
    }
}

/// Removes files that no database knows; what fails is left to the next opening.
pub(crate) fn remove_segments(folder: &Path, facts: &[SegmentFact]) {
    for fact in facts {
        let _ = std::fs::remove_file(segment::path(folder, fact.id));
    }
}

/// Writes the keys of blocks, newest first where keys are equal.
pub(crate) fn write_blocks(
    blocks: &[Arc<Block>],
    keeps: impl Fn(&Candidate) -> bool,
    mut writer: RunWriter<'_>,
) -> Result<Vec<SegmentFact>> {
    let mut order: Vec<(u64, u32)> = Vec::with_capacity(blocks.iter().map(|block| block.len()).sum());
    for (number, block) in blocks.iter().enumerate() {
        for position in 0..block.len() {
            let Some((key, _)) = block.get(position) else { break };
            let reference = u32::try_from(number << 13 | position).map_err(|_| Error::invalid("too many blocks"))?;
            order.push((prefix_of(key), reference));
        }
    }
    let resolve = |reference: u32| {
        let block = blocks.get((reference >> 13) as usize)?;
        let (key, slot) = block.get((reference & 0x1fff) as usize)?;
        Some((key, Reverse(block.sequence), Candidate { origin: block.origin, slot }))
    };
    order.sort_unstable_by(|a, b| {
        let rest = |reference| resolve(reference).map(|(key, sequence, candidate)| (key, sequence, candidate.slot));
        a.0.cmp(&b.0).then_with(|| rest(a.1).cmp(&rest(b.1)))
    });
    let mut slots = SlotsOfKey::default();
    for (key, _, candidate) in order.into_iter().filter_map(|(_, reference)| resolve(reference)) {
        if keeps(&candidate) && slots.admit(key, candidate) {
            writer.push(key, candidate)?;
        }
    }
    writer.finish()
}

/// What a merge made, or what stopped it.
pub(crate) enum Merged {
    Done(Vec<SegmentFact>),
    /// This input is damaged; nothing was made.
    BadInput(Arc<Segment>),
}

/// Merges runs, newest first; with `thins`, complete packs become sampled ones.
pub(crate) fn merge_runs(
    runs: &[Run],
    thins: bool,
    keeps: impl Fn(&Candidate) -> bool,
    mut writer: RunWriter<'_>,
) -> Result<Merged> {
    let mut cursors: Vec<Cursor> = runs.iter().map(Cursor::new).collect();
    let mut heap = BinaryHeap::new();
    let mut slots = SlotsOfKey::default();
    for (number, cursor) in cursors.iter_mut().enumerate() {
        match cursor.next() {
            Ok(entry) => heap.extend(entry.map(|(key, candidate)| Reverse((key, number, Held(candidate))))),
            Err(segment) => return Ok(Merged::BadInput(segment)),
        }
    }
    while let Some(Reverse((key, number, Held(mut candidate)))) = heap.pop() {
        if let Some(cursor) = cursors.get_mut(number) {
            match cursor.next() {
                Ok(entry) => heap.extend(entry.map(|(key, candidate)| Reverse((key, number, Held(candidate))))),
                Err(segment) => return Ok(Merged::BadInput(segment)),
            }
        }
        if thins && !candidate.origin.is_sampled {
            if !is_sampled(&key) {
                continue;
            }
            candidate.origin.is_sampled = true;
        }
        if keeps(&candidate) && slots.admit(&key, candidate) {
            writer.push(&key, candidate)?;
        }
    }
    writer.finish().map(Merged::Done)
}

/// A candidate that rides along in the heap; the order is of key and run alone.
struct Held(Candidate);

impl PartialEq for Held {
    fn eq(&self, _: &Held) -> bool {
        true
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, _: &Held) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// The slots already written of the present key: none twice, and not too many.
#[derive(Default)]
struct SlotsOfKey {
    key: Key,
    slots: Vec<Candidate>,
}

impl SlotsOfKey {
    fn admit(&mut self, key: &Key, candidate: Candidate) -> bool {
        if self.key != *key {
            self.key = *key;
            self.slots.clear();
        }
        if self.slots.len() >= SLOTS_PER_KEY_MAX || self.slots.contains(&candidate) {
            return false;
        }
        self.slots.push(candidate);
        true
    }
}

/// Reads a run from its first to its last entry.
struct Cursor {
    segments: VecDeque<Arc<Segment>>,
    page: usize,
    bytes: Vec<u8>,
    entries: VecDeque<(Key, Candidate)>,
    sector: usize,
}

impl Cursor {
    fn new(run: &Run) -> Cursor {
        Cursor {
            segments: run.segments.iter().cloned().collect(),
            page: 0,
            bytes: Vec::new(),
            entries: VecDeque::new(),
            sector: 0,
        }
    }

    /// Returns the next entry, or the segment that is damaged.
    fn next(&mut self) -> Result<Option<(Key, Candidate)>, Arc<Segment>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Ok(Some(entry));
            }
            let Some(segment) = self.segments.front().cloned() else { return Ok(None) };
            if self.sector * SECTOR_SIZE_BYTES < self.bytes.len() {
                self.take_sector(&segment).ok_or(segment)?;
            } else if self.page + self.bytes.len() / PAGE_SIZE_BYTES < segment.page_count() {
                self.read(&segment).map_err(|_| segment)?;
            } else {
                self.segments.pop_front();
                self.page = 0;
                self.bytes.clear();
                self.sector = 0;
            }
        }
    }

    fn read(&mut self, segment: &Segment) -> Result<()> {
        self.page += self.bytes.len() / PAGE_SIZE_BYTES;
        self.bytes.resize(READ_PAGES * PAGE_SIZE_BYTES, 0);
        let length = segment.read_pages(self.page, &mut self.bytes)?;
        self.bytes.truncate(length);
        self.sector = 0;
        Ok(())
    }

    fn take_sector(&mut self, segment: &Segment) -> Option<()> {
        let bytes = self.bytes.get(self.sector * SECTOR_SIZE_BYTES..(self.sector + 1) * SECTOR_SIZE_BYTES)?;
        segment.verify(self.page, self.sector, bytes).ok()?;
        for entry in sector::entries(bytes) {
            let origin = segment.origin(entry.pack_number)?;
            self.entries.push_back((entry.key, Candidate { origin, slot: SlotNumber(entry.slot) }));
        }
        self.sector += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_new_runs_are_merged_and_large_old_ones_left_alone() {
        assert_eq!(plan(&[1, 1, 1], 3), None);
        assert_eq!(plan(&[1, 1, 1, 1], 3), Some(4));
        assert_eq!(plan(&[1, 1, 1, 100], 3), Some(3));
        assert_eq!(plan(&[1, 9, 30, 100], 3), Some(2));
        assert_eq!(plan(&[1, 9, 20, 60], 3), Some(4));
        assert_eq!(plan(&[], 0), None);
        assert_eq!(plan(&[5], 0), None);
    }
}
