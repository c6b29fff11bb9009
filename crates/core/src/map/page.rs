//! Pages: the extents of 16,384 consecutive blocks.
//!
//! ```text
//! full page   0 | count | lengths | places
//! patch page  1 | pack of the full page (16) | its slot (2) | spent bytes | changes
//! ```
//!
//! Numbers are varints, `lengths` has `count` of them, `places` are three columns (`columns.rs`), `changes` the blocks
//! that differ from those of the full page (`changes.rs`). A full page covers all of its blocks. What can be merged is
//! merged, so equal pages have equal bytes; the decoder refuses anything else. An all-zero page is not stored: the
//! pointer to it is null.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{PackId, SlotAddress, SlotNumber};
use crate::pack::SLOTS_MAX;
use crate::wire::{Reader, Writer};

use super::changes::{ExtentLimits, read_changes, read_extents, write_changes, write_lengths_and_places};
use super::extent::Place;
use super::geometry::Geometry;

/// The largest body of a page in bytes; one with 16,384 extents, each in a pack of its own, has 360,000.
pub const PAGE_BODY_BYTES_MAX: usize = 512 << 10;

const KIND_FULL: u8 = 0;
const KIND_PATCH: u8 = 1;

/// Consecutive blocks of a page in one place; `start` and `end` count from the page's first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageExtent {
    pub start: u32,
    pub end: u32,
    pub place: Place,
}

impl PageExtent {
    pub fn count(&self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Returns the part from `start` to `end`; it may be empty.
    pub fn clip(&self, start: u32, end: u32) -> PageExtent {
        let start = start.max(self.start);
        let place = self.place.after(u64::from(start - self.start));
        PageExtent { start, end: end.min(self.end), place }
    }

    pub fn joins(&self, next: &PageExtent) -> bool {
        self.end == next.start && self.place.after(u64::from(self.count())) == next.place
    }
}

/// Appends `next`, joined with the last one where that is possible; nothing if it is empty.
pub(crate) fn push_merged(extents: &mut Vec<PageExtent>, next: PageExtent) {
    if next.start >= next.end {
        return;
    }
    match extents.last_mut() {
        Some(last) if last.joins(&next) => last.end = next.end,
        _ => extents.push(next),
    }
}

/// Returns the parts of `extents`, which are in order, from `start` to `end`.
fn slice(extents: &[PageExtent], start: u32, end: u32) -> impl Iterator<Item = PageExtent> {
    let first = extents.partition_point(|extent| extent.end <= start);
    let extents = extents.get(first..).unwrap_or_default();
    extents.iter().take_while(move |extent| extent.start.max(start) < end).map(move |extent| extent.clip(start, end))
}

/// Returns the extents `below` with those `above` on top; both are in order, and so is the result, merged.
pub(crate) fn overlay(below: &[PageExtent], above: &[PageExtent]) -> Vec<PageExtent> {
    let mut extents = Vec::with_capacity(below.len() + 2 * above.len());
    let mut position = 0;
    for extent in above {
        slice(below, position, extent.start).for_each(|extent| push_merged(&mut extents, extent));
        push_merged(&mut extents, *extent);
        position = extent.end;
    }
    slice(below, position, u32::MAX).for_each(|extent| push_merged(&mut extents, extent));
    extents
}

/// All blocks of a page: extents without gaps, merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub(crate) extents: Vec<PageExtent>,
}

impl Page {
    /// Makes a page of zeros.
    pub(crate) fn zero(page_blocks: u32) -> Page {
        Page { extents: vec![PageExtent { start: 0, end: page_blocks, place: Place::Zero }] }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.extents.iter().all(|extent| extent.place == Place::Zero)
    }

    /// Returns the extents of the blocks from `start` to `end`, cut at both.
    pub(crate) fn slice(&self, start: u32, end: u32) -> impl Iterator<Item = PageExtent> {
        slice(&self.extents, start, end)
    }

    /// Says whether the blocks from `start` to `end` are all zero when `changes`, which are in order, are on top.
    pub(crate) fn is_zero_below(&self, changes: &[PageExtent], start: u32, end: u32) -> bool {
        let is_zero = |extent: PageExtent| extent.place == Place::Zero;
        let mut position = start;
        for change in slice(changes, start, end) {
            if !is_zero(change) || !self.slice(position, change.start).all(is_zero) {
                return false;
            }
            position = change.end;
        }
        self.slice(position, end).all(is_zero)
    }

    /// Calls `visit` for each range of blocks, in order, with where they are on both sides.
    pub(crate) fn compare(left: &Page, right: &Page, mut visit: impl FnMut(PageExtent, PageExtent)) {
        let (mut lefts, mut rights) = (left.extents.iter(), right.extents.iter());
        let (mut next_left, mut next_right) = (lefts.next(), rights.next());
        let mut start = 0;
        while let (Some(left), Some(right)) = (next_left, next_right) {
            let end = left.end.min(right.end);
            visit(left.clip(start, end), right.clip(start, end));
            start = end;
            if left.end == end {
                next_left = lefts.next();
            }
            if right.end == end {
                next_right = rights.next();
            }
        }
    }

    /// Returns the parts of `extents`, which are in order, that are not what this page has, merged.
    pub(crate) fn differing(&self, extents: &[PageExtent]) -> Vec<PageExtent> {
        let mut changes = Vec::new();
        for extent in extents {
            for old in self.slice(extent.start, extent.end) {
                let new = extent.clip(old.start, old.end);
                if new.place != old.place {
                    push_merged(&mut changes, new);
                }
            }
        }
        changes
    }

    /// Returns this page with `changes`, which are in order, on top.
    pub(crate) fn patched(&self, changes: &[PageExtent]) -> Page {
        Page { extents: overlay(&self.extents, changes) }
    }

    /// Like [`Page::patched`], without a copy where nothing changes.
    pub(crate) fn with(&self, changes: &[PageExtent]) -> Cow<'_, Page> {
        if changes.is_empty() { Cow::Borrowed(self) } else { Cow::Owned(self.patched(changes)) }
    }

    /// Returns the page as it is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(KIND_FULL);
        writer.varint(self.extents.len() as u64);
        write_lengths_and_places(&mut writer, &self.extents);
        writer.into_bytes()
    }
}

/// What differs from a full page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where the full page is.
    pub(crate) base: SlotAddress,
    /// What the patches since the full page cost, this one included (`patch.rs`).
    pub(crate) spent_bytes: u64,
    /// The changed blocks, in order, merged.
    pub(crate) changes: Vec<PageExtent>,
}

impl Patch {
    /// Returns the patch as it is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(KIND_PATCH);
        writer.bytes(self.base.pack.bytes());
        writer.u16(self.base.slot.0);
        writer.varint(self.spent_bytes);
        write_changes(&mut writer, &self.changes);
        writer.into_bytes()
    }
}

/// What the body of a page slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageBody {
    /// All blocks of a page.
    Full(Page),
    /// A full page, and what differs from it.
    Patch(Patch),
}

impl PageBody {
    /// Reads the body of a page; `Damaged` if it is anything that is never written, `Unsupported` if its kind is new.
    pub fn decode(body: &[u8]) -> Result<PageBody> {
        PageBody::decode_with(Geometry::STORED, body)
    }

    /// Returns the body; exactly the bytes that it was read from.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            PageBody::Full(page) => page.encode(),
            PageBody::Patch(patch) => patch.encode(),
        }
    }

    pub(crate) fn decode_with(geometry: Geometry, body: &[u8]) -> Result<PageBody> {
        let mut reader = Reader::new(body, "a map page");
        if body.len() > PAGE_BODY_BYTES_MAX {
            return Err(reader.error(&format!("has {} bytes", body.len())));
        }
        let page = match reader.u8()? {
            KIND_FULL => PageBody::Full(read_full(geometry, &mut reader)?),
            KIND_PATCH => PageBody::Patch(read_patch(geometry, &mut reader)?),
            kind => {
                return Err(Error::new(ErrorKind::Unsupported, format!("a map page is of the unknown kind {kind}")));
            }
        };
        reader.finish()?;
        Ok(page)
    }
}

fn read_full(geometry: Geometry, reader: &mut Reader<'_>) -> Result<Page> {
    let count = reader.count(geometry.page_blocks as usize)?;
    let page = Page { extents: read_extents(reader, count, &[], limits(geometry))? };
    if page.extents.last().is_none_or(|last| last.end != geometry.page_blocks) {
        return Err(reader.error("does not cover all of its blocks"));
    }
    if page.is_zero() {
        return Err(reader.error("holds only zeros"));
    }
    Ok(page)
}

fn read_patch(geometry: Geometry, reader: &mut Reader<'_>) -> Result<Patch> {
    let base = SlotAddress { pack: PackId::from_bytes(reader.array()?), slot: SlotNumber(reader.u16()?) };
    if usize::from(base.slot.0) >= SLOTS_MAX {
        return Err(reader.error("points to a slot that no pack has"));
    }
    let spent_bytes = reader.varint()?;
    let changes = read_changes(reader, limits(geometry))?;
    if changes.is_empty() {
        return Err(reader.error("changes nothing"));
    }
    Ok(Patch { base, spent_bytes, changes })
}

fn limits(geometry: Geometry) -> ExtentLimits {
    let page_blocks = geometry.page_blocks;
    ExtentLimits { blocks: page_blocks, page_blocks, count: page_blocks as usize }
}
