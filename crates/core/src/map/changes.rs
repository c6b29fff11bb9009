//! Changes: blocks that lie elsewhere than what is below says.
//!
//! ```text
//! changes   count | gaps | lengths | places
//! ```
//!
//! Numbers are varints; `gaps` and `lengths` have `count` of them, `places` are three columns (`columns.rs`). Each gap is
//! what lies unchanged before its extent. No extent reaches from one page into the next. Patches of pages, nodes and
//! sheets have changes.

use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

use super::columns::{read_places, write_places};
use super::page::PageExtent;

/// Appends `changes`, which are in order.
pub(crate) fn write_changes(writer: &mut Writer, changes: &[PageExtent]) {
    writer.varint(changes.len() as u64);
    let mut position = 0;
    for change in changes {
        writer.varint(u64::from(change.start - position));
        position = change.end;
    }
    write_lengths_and_places(writer, changes);
}

/// Appends the lengths and the places of `extents`.
pub(crate) fn write_lengths_and_places(writer: &mut Writer, extents: &[PageExtent]) {
    extents.iter().for_each(|extent| writer.varint(u64::from(extent.count())));
    write_places(writer, extents.iter().map(|extent| (extent.place, extent.count())));
}

/// What a row of extents may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtentLimits {
    /// How many blocks there are.
    pub blocks: u32,
    /// How many of them a page has.
    pub page_blocks: u32,
    /// The most extents.
    pub count: usize,
}

/// Takes changes within `limits`.
pub(crate) fn read_changes(reader: &mut Reader<'_>, limits: ExtentLimits) -> Result<Vec<PageExtent>> {
    let count = reader.count(limits.count)?;
    let gaps = read_numbers(reader, count, limits.blocks)?;
    read_extents(reader, count, &gaps, limits)
}

/// Takes lengths and places of `count` extents with `gaps` before them, or none; refuses what is empty, too long or not
/// merged.
pub(crate) fn read_extents(
    reader: &mut Reader<'_>,
    count: usize,
    gaps: &[u32],
    limits: ExtentLimits,
) -> Result<Vec<PageExtent>> {
    let lengths = read_numbers(reader, count, limits.page_blocks)?;
    let mut extents: Vec<PageExtent> = Vec::with_capacity(count);
    let mut gaps = gaps.iter().copied().chain(std::iter::repeat(0));
    let mut next_lengths = lengths.iter().copied();
    let mut position = 0u32;
    read_places(reader, &lengths, |place| {
        // The position and both numbers are at most 2^24, so this and the next cannot overflow.
        let start = position + gaps.next().unwrap_or_default();
        let extent = PageExtent { start, end: start + next_lengths.next().unwrap_or_default(), place };
        let rest_of_page = limits.page_blocks - extent.start % limits.page_blocks;
        if extent.start >= extent.end || extent.end > limits.blocks || extent.count() > rest_of_page {
            return Err(Error::damaged("a block map has an extent that is empty or too long"));
        }
        let begins_page = rest_of_page == limits.page_blocks;
        if extents.last().is_some_and(|last| !begins_page && last.joins(&extent)) {
            return Err(Error::damaged("a block map has extents that are not merged"));
        }
        position = extent.end;
        extents.push(extent);
        Ok(())
    })?;
    Ok(extents)
}

fn read_numbers(reader: &mut Reader<'_>, count: usize, max: u32) -> Result<Vec<u32>> {
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        let number = reader.count(max as usize)?;
        numbers.push(u32::try_from(number).map_err(|_| reader.error("has a number that is too large"))?);
    }
    Ok(numbers)
}

/// Returns those of the changes of a node that lie in the page `offset`.
pub(crate) fn of_page(changes: &[PageExtent], page_blocks: u32, offset: u32) -> &[PageExtent] {
    let start = offset.saturating_mul(page_blocks);
    let end = start.saturating_add(page_blocks);
    let first = changes.partition_point(|change| change.start < start);
    let rest = changes.get(first..).unwrap_or_default();
    rest.get(..rest.partition_point(|change| change.start < end)).unwrap_or_default()
}

/// Returns changes of the page `offset`, counted from the page's first block, as those of a node are counted.
pub(crate) fn in_node(changes: &[PageExtent], page_blocks: u32, offset: u32) -> impl Iterator<Item = PageExtent> {
    let start = offset.saturating_mul(page_blocks);
    changes.iter().map(move |change| PageExtent { start: change.start + start, end: change.end + start, ..*change })
}

/// Returns changes of a node that lie in the page `offset`, counted from the page's first block.
pub(crate) fn in_page(changes: &[PageExtent], page_blocks: u32, offset: u32) -> Vec<PageExtent> {
    let start = offset.saturating_mul(page_blocks);
    let shift = |change: &PageExtent| PageExtent { start: change.start - start, end: change.end - start, ..*change };
    of_page(changes, page_blocks, offset).iter().map(shift).collect()
}

/// Returns how many blocks the changes cover.
pub(crate) fn covered_blocks(changes: &[PageExtent]) -> u64 {
    changes.iter().map(|change| u64::from(change.count())).sum()
}
