//! Block maps: what they need, and which blocks are lost when something of it is not there.
//!
//! The first walk reads each page and node once, however many versions share it, and keeps sets of slots. Only if
//! something is missing or damaged, a second one goes through the whole map of each version and says which blocks that is.
//! Overlaps, and extents behind the end, are refused by what reads pages: there is no page with any.

use backy_core::ids::SlotAddress;
use backy_core::map::{Extent, MapPart, salvage_map, visit_map_places};
use backy_core::names;
use backy_core::policy::hints::union;
use backy_core::slots::SlotSets;
use backy_core::units::{BlockCount, BlockRange};
use backy_core::{Error, Result};
use backy_store::object_store::list_all;

use super::versions::Subject;
use super::{CheckReport, Finding, Look};
use crate::repository::packs::is_about_content;
use crate::repository::read_ahead::ReadAhead;
use crate::repository::taken::stored_slots;

/// More ranges than this are joined, so that a finding stays small.
const RANGES_MAX: usize = 10_000;

/// What maps point to.
#[derive(Default)]
pub(super) struct Needed {
    /// Blocks.
    pub data: SlotSets,
    /// Pages and nodes.
    pub map: SlotSets,
}

/// What the first walk found.
pub(super) struct Walked {
    pub needed: Needed,
    /// Everything could be read.
    pub is_sound: bool,
}

/// Walks through all maps.
pub(super) fn walk(look: &Look<'_>, subjects: &[Subject]) -> Result<Walked> {
    let reader = ReadAhead::new(look.repository)?;
    let mut walked = Walked { needed: Needed::default(), is_sound: true };
    for subject in subjects {
        look.cancel.check()?;
        let Needed { data, map } = &mut walked.needed;
        let mut take = |extent: Extent| {
            if let Some((pack, set)) = stored_slots(&extent)? {
                data.add(pack, &set);
            }
            Ok(())
        };
        let visited = visit_map_places(&reader, subject.map, &mut |address, _| Ok(map.add_slot(address)), &mut take);
        match visited {
            Err(error) if is_about_content(&error) => {
                walked.is_sound = false;
                // Behind what is damaged there is more, and others who share it do not look at it again.
                salvage_map(look.repository, subject.map, &mut |part| match part {
                    MapPart::Extent(extent) => take(extent).or_else(|error| content_only(error).map(drop)),
                    MapPart::Lost { .. } => Ok(()),
                })?;
            }
            visited => visited?,
        }
    }
    Ok(walked)
}

/// Lets errors about what is stored pass.
fn content_only(error: Error) -> Result<Error> {
    if is_about_content(&error) { Ok(error) } else { Err(error) }
}

/// What one version has lost.
#[derive(Default)]
struct Lost {
    blocks: Vec<BlockRange>,
    /// Pages and nodes that cannot be read, with the blocks below them.
    parts: Vec<(SlotAddress, BlockRange, String)>,
    /// The first slot of each run that is not there.
    slots: Vec<SlotAddress>,
    /// Extents that no pack can have.
    senseless: Vec<String>,
    /// Something is gone that was never condemned, so no cleanup has deleted it.
    has_uncondemned: bool,
}

/// Says which blocks of which versions are lost.
pub(super) fn attribute(
    look: &Look<'_>,
    subjects: &[Subject],
    missing: &SlotSets,
    report: &mut CheckReport,
) -> Result<()> {
    let is_given_up = |subject: &Subject| subject.is_void && subject.is_checkpoint;
    let condemned = match subjects.iter().any(is_given_up) {
        true => look.repository.condemned_slots()?,
        false => SlotSets::default(),
    };
    for subject in subjects {
        look.cancel.check()?;
        let mut lost = Lost::default();
        salvage_map(look.repository, subject.map, &mut |part| {
            match part {
                MapPart::Extent(extent) => lost.take(&extent, missing, &condemned)?,
                MapPart::Lost { blocks, address, error } => {
                    lost.has_uncondemned |= !condemned.contains(address);
                    lost.blocks.push(blocks);
                    lost.parts.push((address, blocks, error.to_string()));
                }
            }
            lost.join();
            Ok(())
        })?;
        if (!lost.blocks.is_empty() || !lost.senseless.is_empty()) && is_still_there(look, subject)? {
            report.findings.push(lost.into_finding(subject));
        }
    }
    Ok(())
}

/// Says whether a version is neither removed nor gone by now.
fn is_still_there(look: &Look<'_>, subject: &Subject) -> Result<bool> {
    let objects = list_all(look.repository.store(), &names::version_prefix(subject.uid))?;
    let has = |name: names::ObjectName| objects.iter().any(|object| object.name == name);
    let is_there = objects.iter().any(|object| object.name == subject.object);
    Ok(is_there && !has(names::removed(subject.uid)))
}

impl Lost {
    fn take(&mut self, extent: &Extent, missing: &SlotSets, condemned: &SlotSets) -> Result<()> {
        let stored = match stored_slots(extent) {
            Err(error) => {
                self.blocks.push(extent.blocks);
                self.has_uncondemned = true;
                self.senseless.push(content_only(error)?.to_string());
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Ok(Some(stored)) => stored,
        };
        let (pack, slots) = stored;
        let Some(gone) = missing.get(pack).and_then(|missing| missing.common(&slots)) else { return Ok(()) };
        self.has_uncondemned |= !condemned.get(pack).is_some_and(|condemned| condemned.covers(&gone));
        let Some(first_slot) = slots.runs().first().map(|(first, _)| first.0) else { return Ok(()) };
        for (first, last) in gone.runs() {
            let start = extent.blocks.start + BlockCount(u64::from(first.0 - first_slot));
            self.blocks.push(BlockRange { start, count: BlockCount(u64::from(last.0 - first.0) + 1) });
            let address = SlotAddress { pack, slot: first };
            if !self.slots.iter().rev().take(64).any(|slot| slot.pack == pack) {
                self.slots.push(address);
            }
        }
        Ok(())
    }

    /// Keeps the memory bounded in a version of which nearly all is lost.
    fn join(&mut self) {
        if self.blocks.len() < 2 * RANGES_MAX {
            return;
        }
        self.blocks = union(std::mem::take(&mut self.blocks));
        if self.blocks.len() > RANGES_MAX {
            let pairs = self.blocks.chunks(2).map(|pair| match pair {
                [left, right] => BlockRange { start: left.start, count: BlockCount(right.end().0 - left.start.0) },
                [one] => *one,
                _ => BlockRange { start: Default::default(), count: BlockCount(0) },
            });
            self.blocks = pairs.collect();
        }
        self.slots.truncate(RANGES_MAX);
        self.parts.truncate(RANGES_MAX);
        self.senseless.truncate(RANGES_MAX);
    }

    fn into_finding(self, subject: &Subject) -> Finding {
        let blocks = union(self.blocks);
        let count: u64 = blocks.iter().map(|range| range.count.0).sum();
        let meaning = if subject.is_void {
            "the version was published by a job whose lease had been given up, and some of its blocks were deleted \
             meanwhile; back up again, and remove it"
        } else {
            "these blocks cannot be restored; the next backup of the source without hints stores them again"
        };
        let mut problems: Vec<String> = Vec::new();
        if let Some((address, _, problem)) = self.parts.first() {
            problems.push(format!(
                "{} parts of its map cannot be read, the first is {address}: {problem}",
                self.parts.len()
            ));
        }
        if let Some(slot) = self.slots.first() {
            problems.push(format!("blocks that it points to are not there, the first is {slot}"));
        }
        problems.extend(self.senseless.into_iter().take(1));
        let problem = format!("{count} of its blocks are lost: {}", problems.join("; "));
        let finding = if subject.is_void && subject.is_checkpoint && !self.has_uncondemned {
            let meaning = "its job's lease had been given up, and a cleanup has deleted some of its blocks; continue the \
                           backup, which stores them again, or begin a new one";
            Finding::harmless(&subject.object, problem, meaning)
        } else {
            Finding::damage(&subject.object, problem, meaning)
        };
        let finding = finding.of(subject.uid);
        let extents =
            blocks.into_iter().map(|range| subject.block_size.byte_range(range, subject.size_bytes)).collect();
        Finding { extents, ..finding }
    }
}
