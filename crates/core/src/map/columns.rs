//! Places as columns: the encoding that pages and nodes share.
//!
//! Three columns, one after the other; what repeats lies side by side, which suits zstd:
//!
//! ```text
//! symbols   a varint each: 0 zero, 1 missing, 2 + i stored in the pack of row i of the table
//! packs     the table: 16-byte ids, distinct, in the order of their first use; as many as the symbols name
//! slots     a zigzag varint per stored place: its first slot less the one that was expected
//! ```
//!
//! Expected is the slot behind the previous place in the same pack, and 0 at first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::error::Result;
use crate::ids::{PackId, SlotNumber};
use crate::pack::SLOTS_MAX;
use crate::wire::{Reader, Writer};

use super::extent::Place;

const ZERO: u64 = 0;
const MISSING: u64 = 1;
const FIRST_PACK: u64 = 2;

/// Appends the columns of `places`, each with its number of blocks.
pub(crate) fn write_places(writer: &mut Writer, places: impl Iterator<Item = (Place, u32)>) {
    let mut rows: HashMap<PackId, u64> = HashMap::new();
    let mut expected: Vec<i64> = Vec::new();
    let mut packs = Writer::new();
    let mut slots = Writer::new();
    let mut last: Option<(PackId, u64)> = None;
    for (place, count) in places {
        let (pack, first_slot) = match place {
            Place::Zero => {
                writer.varint(ZERO);
                continue;
            }
            Place::Missing => {
                writer.varint(MISSING);
                continue;
            }
            Place::Stored { pack, first_slot } => (pack, i64::from(first_slot.0)),
        };
        let row = match last {
            Some((last_pack, row)) if last_pack == pack => row,
            _ => {
                let next = rows.len() as u64;
                match rows.entry(pack) {
                    Entry::Occupied(row) => *row.get(),
                    Entry::Vacant(row) => {
                        packs.bytes(pack.bytes());
                        expected.push(0);
                        *row.insert(next)
                    }
                }
            }
        };
        last = Some((pack, row));
        writer.varint(FIRST_PACK + row);
        if let Some(expected) = usize::try_from(row).ok().and_then(|row| expected.get_mut(row)) {
            slots.signed_varint(first_slot - *expected);
            *expected = first_slot + i64::from(count);
        }
    }
    writer.bytes(&packs.into_bytes());
    writer.bytes(&slots.into_bytes());
}

/// Takes the columns of as many places as there are `counts`, the number of blocks of each, and hands them to `take`.
pub(crate) fn read_places(
    reader: &mut Reader<'_>,
    counts: &[u32],
    mut take: impl FnMut(Place) -> Result<()>,
) -> Result<()> {
    let mut symbols: Vec<usize> = Vec::with_capacity(counts.len());
    let mut pack_count = 0;
    for _ in counts {
        let symbol = reader.count(pack_count + 2)?;
        if symbol == pack_count + 2 {
            pack_count += 1;
        }
        symbols.push(symbol);
    }

    let mut packs: Vec<(PackId, i64)> = Vec::with_capacity(pack_count);
    for _ in 0..pack_count {
        packs.push((PackId::from_bytes(reader.array()?), 0));
    }
    let mut sorted: Vec<PackId> = packs.iter().map(|(pack, _)| *pack).collect();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != packs.len() {
        return Err(reader.error("names a pack twice"));
    }

    for (&symbol, &count) in symbols.iter().zip(counts) {
        take(match symbol {
            0 => Place::Zero,
            1 => Place::Missing,
            _ => {
                let delta = reader.signed_varint()?;
                let (pack, expected) =
                    packs.get_mut(symbol - 2).ok_or_else(|| reader.error("names a pack that is not in its table"))?;
                let first_slot = checked_slot(expected.checked_add(delta), count)
                    .ok_or_else(|| reader.error("names a slot that no pack has"))?;
                *expected = i64::from(first_slot.0) + i64::from(count);
                Place::Stored { pack: *pack, first_slot }
            }
        })?;
    }
    Ok(())
}

/// Returns the slot if `count` slots from it fit in a pack.
fn checked_slot(first_slot: Option<i64>, count: u32) -> Option<SlotNumber> {
    let first_slot = u16::try_from(first_slot?).ok()?;
    let end = u64::from(first_slot) + u64::from(count);
    (end <= SLOTS_MAX as u64).then_some(SlotNumber(first_slot))
}
