//! Cutting: extents into blocks, buffers into what each block fills, what is to be loaded into tasks.

use backy_core::ids::SlotAddress;
use backy_core::map::{Extent, Place};
use backy_core::units::{BlockCount, BlockIndex, BlockRange, ByteRange};

use super::loader::BlockTicket;
use super::shared_cache::Ticket;

/// Puts those parts of a page's extents that lie in `range` behind `places`.
pub(super) fn clip_into(page: &[Extent], range: BlockRange, places: &mut Vec<Extent>) {
    let first = page.partition_point(|extent| extent.blocks.end() <= range.start);
    let extents = page[first..].iter().map(|extent| extent.clip(range));
    places.extend(extents.take_while(|extent| !extent.blocks.is_empty()));
}

/// Returns the blocks of a stored extent with their slots.
pub(super) fn slots_of(extent: Extent) -> impl Iterator<Item = (BlockIndex, SlotAddress)> {
    let count = if matches!(extent.place, Place::Stored { .. }) { extent.blocks.count.0 } else { 0 };
    (0..count).filter_map(move |number| match extent.place.after(number) {
        Place::Stored { pack, first_slot } => {
            Some((extent.blocks.start + BlockCount(number), SlotAddress { pack, slot: first_slot }))
        }
        Place::Zero | Place::Missing => None,
    })
}

/// Returns the part of `buffer`, which holds `range`, that holds `wanted`, and how much of `wanted` lies before it.
pub(super) fn part_of(buffer: &mut [u8], range: ByteRange, wanted: ByteRange) -> (&mut [u8], usize) {
    let common = range.intersection(wanted);
    let index = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let from = index(common.offset_bytes.saturating_sub(range.offset_bytes)).min(buffer.len());
    let to = (from + index(common.length_bytes)).min(buffer.len());
    (&mut buffer[from..to], index(common.offset_bytes.saturating_sub(wanted.offset_bytes)))
}

/// Sorts what is to be loaded by pack and slot, and cuts it into pieces of one pack and `slots_max` slots at most.
pub(super) fn pieces(mut tickets: Vec<BlockTicket>, slots_max: u64) -> Vec<Vec<BlockTicket>> {
    tickets.sort_unstable_by_key(Ticket::key);
    let slots_max = usize::try_from(slots_max).unwrap_or(usize::MAX).max(1);
    let mut pieces: Vec<Vec<BlockTicket>> = Vec::new();
    for ticket in tickets {
        let pack = ticket.key().pack;
        match pieces.last_mut() {
            Some(piece) if piece.len() < slots_max && piece.first().is_some_and(|first| first.key().pack == pack) => {
                piece.push(ticket);
            }
            _ => pieces.push(vec![ticket]),
        }
    }
    pieces
}

pub(super) fn push_joined(ranges: &mut Vec<ByteRange>, range: ByteRange) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end_bytes() == range.offset_bytes => last.length_bytes += range.length_bytes,
        _ => ranges.push(range),
    }
}
