//! Restore: from a version to a target.
//!
//! ```text
//!  windows     64 GiB of the volume at a time; the journal notes those that are done     mod, journal
//!  plan        extents -> tasks: the slots of one pack                                   plan
//!  fetchers    a task -> runs: slots that lie close to each other                        fetch
//!              one read per run; open, verify, write
//!  zeros       a new target has them; an old one is cleared                              fetch
//! ```
//!
//! A block that cannot be had is reported, filled with zero, and the job goes on to its end.

mod fetch;
mod journal;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use backy_core::cancel::Cancel;
use backy_core::ids::{SlotAddress, VersionUid};
use backy_core::map::{Extent, MapCursor, Place};
use backy_core::policy::hints::{subtract, union};
use backy_core::records::lease::JobKind;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockIndex, BlockRange};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_device::{AlignedBuffer, Target};
use tracing::warn;

use self::fetch::{Writing, fetch};
use self::journal::Journal;
use self::plan::tasks;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::blocks::BlockReader;
use crate::repository::damage::{Damage, LostMapPart};
use crate::repository::leases::Lease;
use crate::repository::read_ahead::ReadAhead;

/// How much of the volume is restored before it is made durable and noted in the journal.
const WINDOW_BYTES: u64 = 64 << 30;
/// How many blocks are compared before a journal is believed, and how far each one is looked for, in extents.
const SAMPLES: usize = 32;
const SAMPLE_EXTENTS_MAX: usize = 1000;
/// A window ends early when it has as many extents; each takes 40 bytes.
const WINDOW_EXTENTS_MAX: usize = 1 << 19;

/// What to restore, and how.
pub struct RestoreRequest<'a> {
    /// The version: complete ones only.
    pub version: Manifest,
    /// Where to.
    pub target: &'a dyn Target,
    /// Skip zero blocks: only for a target that is known to be zero.
    pub skips_zeros: bool,
    /// Read the target, and write only blocks that differ.
    pub writes_differences_only: bool,
    /// Where to begin.
    pub start: RestoreStart,
    /// Where to note how far the restore has come; none: nowhere.
    pub journal: Option<PathBuf>,
}

/// Where a restore begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestoreStart {
    /// At the first block.
    #[default]
    Beginning,
    /// At this block: the ones before are done.
    Block(BlockIndex),
    /// Where the journal says; at the first block if it speaks of something else.
    Journal,
}

/// What a restore that ended has to say.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Blocks that could not be restored and are zero on the target, and why: ascending, without overlaps.
    pub lost: Vec<LostBlocks>,
    /// How many bytes were written.
    pub written_bytes: u64,
    /// How many bytes of the target were found right and left alone.
    pub equal_bytes: u64,
    /// How many bytes were left to the target being zero, or made a hole.
    pub zero_bytes: u64,
    /// Where a continued restore began.
    pub started_at: BlockIndex,
}

/// Blocks that could not be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBlocks {
    /// The blocks.
    pub blocks: BlockRange,
    /// Why.
    pub problem: String,
}

/// A restore that did not end.
#[derive(Debug)]
pub struct RestoreFailure {
    /// Why.
    pub error: Error,
    /// All blocks before this one are done: `continue_from` for the next try.
    pub done_before: BlockIndex,
}

/// Restores a version. When it returns `Ok` all that could be had is on the target for good.
pub fn run(
    repository: &Repository,
    request: &RestoreRequest<'_>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<RestoreReport, RestoreFailure> {
    let fail = |done_before| move |error| RestoreFailure { error, done_before };
    let uid = request.version.uid;
    let lease = repository.begin_job(JobKind::Restore, vec![uid]).map_err(fail(BlockIndex(0)))?;
    let is_void = is_void(repository, &lease, &request.version).map_err(fail(BlockIndex(0)))?;
    if is_void {
        warn!("version {uid} was written by a job that others thought dead; some of its blocks may be gone");
    }
    let journal = Journal::new(request);
    let started_at = check(request).and_then(|()| start(repository, request, &journal)).map_err(fail(BlockIndex(0)))?;
    // From here on the target is not what it was: who comes back may know that this restore has begun.
    let lost_before = lost_before(request, &journal, started_at);
    journal.note(started_at, &lost_before).map_err(fail(started_at))?;
    let version = &request.version;
    let end = BlockIndex(version.map.blocks.0);
    let todo = version.block_size.byte_range(BlockRange::between(started_at, end), version.size_bytes);
    progress.total_bytes.set(todo.length_bytes);

    let writing = Writing::new(repository, request, progress, &lost_before);
    let mut done_before = started_at;
    let mut lost_parts = Vec::new();
    while done_before < end {
        let mut window = restore_window(&writing, done_before, &lost_parts, cancel);
        if window.as_ref().is_err_and(is_about_block) && lost_parts.is_empty() {
            // Nothing of the window is done yet: the map is read before any block.
            let lost = repository.lost_blocks(version.map, &Damage::default()).map_err(fail(done_before))?;
            lost_parts = lost.map_parts;
            window = restore_window(&writing, done_before, &lost_parts, cancel);
        }
        let next = window.and_then(|next| {
            request.target.flush()?;
            journal.note(next, &writing.lost_ranges())?;
            Ok(next)
        });
        done_before = next.map_err(fail(done_before))?;
    }
    if version.size_bytes == 0 {
        request.target.flush().map_err(fail(done_before))?;
    }
    journal.remove();
    let (mut report, damaged) = writing.into_report();
    report.started_at = started_at;
    // What is gone from a void version was deleted, not damaged.
    if !is_void {
        note_damage(repository, uid, &damaged);
    }
    Ok(report)
}

/// Looks at the version once more, now that the lease is there.
fn is_void(repository: &Repository, lease: &Lease, version: &Manifest) -> Result<bool> {
    match repository.take_version(lease, version.uid) {
        Ok(taken) => Ok(taken.is_void),
        // The listing had it from the catalog: so it can be restored.
        Err(error) if error.kind() == ErrorKind::Damaged => {
            warn!("a copy of this host is used: {error}");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn check(request: &RestoreRequest<'_>) -> Result<()> {
    let (have, want) = (request.target.size_bytes(), request.version.size_bytes);
    if have < want {
        return Err(Error::invalid(format!(
            "the target {} is too small: it has {have} bytes, the version {want}",
            request.target.url()
        )));
    }
    Ok(())
}

fn start(repository: &Repository, request: &RestoreRequest<'_>, journal: &Journal) -> Result<BlockIndex> {
    let end = BlockIndex(request.version.map.blocks.0);
    match request.start {
        RestoreStart::Beginning => Ok(BlockIndex(0)),
        RestoreStart::Block(block) if block > end => {
            Err(Error::invalid(format!("the version has {end} blocks; it cannot go on at block {block}")))
        }
        RestoreStart::Block(block) => Ok(block),
        // A target that is new has nothing of what the journal says.
        RestoreStart::Journal if request.target.is_known_zero() => Ok(BlockIndex(0)),
        RestoreStart::Journal => {
            let done_before = journal.done_before().unwrap_or_default().min(end);
            if is_still_there(repository, request, done_before, &journal.lost())? {
                return Ok(done_before);
            }
            warn!("the target does not hold what the journal says; the restore begins anew");
            Ok(BlockIndex(0))
        }
    }
}

/// Compares a sample of what a journal calls done with the target: somebody may have made the target anew.
fn is_still_there(
    repository: &Repository,
    request: &RestoreRequest<'_>,
    done_before: BlockIndex,
    lost: &[BlockRange],
) -> Result<bool> {
    let version = &request.version;
    let mut reader = BlockReader::new(repository, version.map, version.block_size, version.size_bytes)?;
    let mut found = AlignedBuffer::new(0);
    for _ in 0..SAMPLES {
        let from = BlockIndex(repository.environment().random_below(done_before.0));
        let mut ahead = MapCursor::new(repository, version.map, BlockRange::between(from, done_before));
        let is_stored = |extent: &Result<Extent>| !extent.as_ref().is_ok_and(|extent| extent.place == Place::Zero);
        let Some(Ok(extent)) = ahead.by_ref().take(SAMPLE_EXTENTS_MAX).find(is_stored) else { continue };
        let block = BlockRange { start: extent.blocks.start, count: BlockCount(1) };
        let Place::Stored { pack, first_slot } = extent.place else { continue };
        if lost.iter().any(|range| !range.intersection(block).is_empty()) {
            continue;
        }
        let range = version.block_size.byte_range(block, version.size_bytes);
        found.resize(usize::try_from(range.length_bytes).unwrap_or(usize::MAX));
        request.target.read_at(range.offset_bytes, &mut found)?;
        match reader.read(block, SlotAddress { pack, slot: first_slot }) {
            Ok(stored) if *stored == *found => {}
            Ok(_) => return Ok(false),
            Err(error) if is_about_block(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// What an earlier part of a continued restore could not restore is reported again: it is zero on the target.
fn lost_before(request: &RestoreRequest<'_>, journal: &Journal, started_at: BlockIndex) -> Vec<BlockRange> {
    if request.start == RestoreStart::Journal && started_at.0 > 0 { journal.lost() } else { Vec::new() }
}

/// Restores from `start` on and returns the first block that is left to do. `lost_parts` are those of the map.
fn restore_window(
    writing: &Writing<'_>,
    start: BlockIndex,
    lost_parts: &[LostMapPart],
    cancel: &Cancel,
) -> Result<BlockIndex> {
    let version = &writing.request().version;
    let window_blocks = BlockCount((WINDOW_BYTES / version.block_size.bytes_u64()).max(1));
    let end = (start + window_blocks).min(BlockIndex(version.map.blocks.0));
    let (mut extents, next) = extents_of(writing, BlockRange::between(start, end), lost_parts, cancel)?;
    for part in lost_parts {
        let blocks = part.blocks.intersection(BlockRange::between(start, next));
        if !blocks.is_empty() {
            writing.lose_map_part(part, blocks)?;
        }
    }
    for extent in &extents {
        cancel.check()?;
        match extent.place {
            Place::Zero => writing.zero(extent.blocks)?,
            Place::Missing => writing.lose(extent.blocks, "the source could not be read when the backup was made")?,
            Place::Stored { .. } => {}
        }
    }
    extents.retain(|extent| matches!(extent.place, Place::Stored { .. }));
    fetch(writing, tasks(extents), cancel)?;
    Ok(next)
}

/// Returns the extents of a window outside the lost parts of the map, and where they end.
fn extents_of(
    writing: &Writing<'_>,
    window: BlockRange,
    lost_parts: &[LostMapPart],
    cancel: &Cancel,
) -> Result<(Vec<Extent>, BlockIndex)> {
    let version = &writing.request().version;
    let lost: Vec<BlockRange> = lost_parts.iter().map(|part| part.blocks).collect();
    let mut extents: Vec<Extent> = Vec::new();
    // Neighbouring pages in one read; its memory is free again before blocks are fetched.
    let map = ReadAhead::new(writing.repository())?;
    for readable in subtract(&[window], &lost) {
        for extent in MapCursor::new(&map, version.map, readable) {
            let extent = extent.context(|| format!("read the block map of version {}", version.uid))?;
            cancel.check()?;
            extents.push(extent);
            if extents.len() >= WINDOW_EXTENTS_MAX {
                return Ok((extents, extent.blocks.end()));
            }
        }
    }
    Ok((extents, window.end()))
}

/// Notes down what was found damaged; that it cannot be noted must not spoil a restore.
fn note_damage(repository: &Repository, version: VersionUid, damaged: &BTreeMap<SlotAddress, String>) {
    if damaged.is_empty() {
        return;
    }
    let slots: BTreeSet<SlotAddress> = damaged.keys().copied().collect();
    let problem = damaged.values().next().map_or("", String::as_str);
    if let Err(error) = repository.record_damage(&slots, version, problem) {
        warn!("the damage could not be noted in the repository: {error}");
    }
}

/// Joins blocks that are lost for the same reason.
fn joined(lost: Vec<LostBlocks>) -> Vec<LostBlocks> {
    let mut by_problem: BTreeMap<String, Vec<BlockRange>> = BTreeMap::new();
    for LostBlocks { blocks, problem } in lost {
        by_problem.entry(problem).or_default().push(blocks);
    }
    let mut joined: Vec<LostBlocks> = Vec::new();
    for (problem, blocks) in by_problem {
        joined.extend(union(blocks).into_iter().map(|blocks| LostBlocks { blocks, problem: problem.clone() }));
    }
    joined.sort_by_key(|lost| lost.blocks.start);
    joined
}

/// Says whether an error is about one block, so that the others can still be had.
fn is_about_block(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unreadable)
}
