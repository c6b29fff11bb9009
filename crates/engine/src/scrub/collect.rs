//! Which slots the versions refer to, by pack: blocks, and the pages and nodes of the maps.
//!
//! A page or node that several versions share is read once. Takes at most one KiB of memory for each pack.

use std::collections::BTreeMap;

use backy_core::Result;
use backy_core::cancel::Cancel;
use backy_core::ids::{PackId, SlotNumber};
use backy_core::map::{Extent, MapPart, Place, salvage_map, visit_map_places};
use backy_core::pack::SLOTS_MAX;
use backy_core::records::manifest::Manifest;

use crate::repository::Repository;
use crate::repository::packs::is_about_content;

const WORD_BITS: usize = 64;

/// A set of slots of one pack: a bit for each, up to the highest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotSet(Vec<u64>);

impl SlotSet {
    /// Adds a slot; says whether it is new.
    pub fn insert(&mut self, slot: SlotNumber) -> bool {
        let (word, bit) = (usize::from(slot.0) / WORD_BITS, usize::from(slot.0) % WORD_BITS);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else { return false };
        let is_new = *word & (1 << bit) == 0;
        *word |= 1 << bit;
        is_new
    }

    /// Says whether it has the slot.
    pub fn contains(&self, slot: SlotNumber) -> bool {
        let (word, bit) = (usize::from(slot.0) / WORD_BITS, usize::from(slot.0) % WORD_BITS);
        self.0.get(word).is_some_and(|word| word & (1 << bit) != 0)
    }

    /// Returns how many there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns all of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = SlotNumber> + '_ {
        (0u16..).take(self.0.len() * WORD_BITS).map(SlotNumber).filter(|&slot| self.contains(slot))
    }
}

/// What the versions refer to in one pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WantedPack {
    /// The slots.
    pub slots: SlotSet,
    /// About how many plain bytes of blocks they are.
    pub plain_bytes: u64,
}

/// What the versions refer to.
pub(super) type Wanted = BTreeMap<PackId, WantedPack>;

/// Goes through the maps of all `versions`. What lies below damaged parts of a map cannot be known and is left out.
pub(super) fn collect(repository: &Repository, versions: &[Manifest], cancel: &Cancel) -> Result<Wanted> {
    let mut wanted = Wanted::new();
    for version in versions {
        let collected = collect_version(repository, version, &mut wanted, cancel);
        match collected {
            Err(error) if is_about_content(&error) => salvage_version(repository, version, &mut wanted, cancel)?,
            other => other?,
        }
    }
    Ok(wanted)
}

fn collect_version(repository: &Repository, version: &Manifest, wanted: &mut Wanted, cancel: &Cancel) -> Result<()> {
    let wanted = std::cell::RefCell::new(wanted);
    visit_map_places(
        repository,
        version.map,
        &mut |address, _| {
            cancel.check()?;
            Ok(wanted.borrow_mut().entry(address.pack).or_default().slots.insert(address.slot))
        },
        &mut |extent| {
            add(&mut wanted.borrow_mut(), version, extent);
            Ok(())
        },
    )
}

/// Collects what can be read of a damaged map, without passing over what was seen before.
fn salvage_version(repository: &Repository, version: &Manifest, wanted: &mut Wanted, cancel: &Cancel) -> Result<()> {
    salvage_map(repository, version.map, &mut |part| {
        cancel.check()?;
        match part {
            MapPart::Extent(extent) => add(wanted, version, extent),
            MapPart::Lost { address, .. } => {
                wanted.entry(address.pack).or_default().slots.insert(address.slot);
            }
        }
        Ok(())
    })
}

fn add(wanted: &mut Wanted, version: &Manifest, extent: Extent) {
    let Place::Stored { pack, first_slot } = extent.place else { return };
    let of_pack = wanted.entry(pack).or_default();
    let end = u64::from(first_slot.0).saturating_add(extent.blocks.count.0).min(SLOTS_MAX as u64);
    for slot in first_slot.0..u16::try_from(end).unwrap_or(u16::MAX) {
        if of_pack.slots.insert(SlotNumber(slot)) {
            of_pack.plain_bytes += version.block_size.bytes_u64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let mut set = SlotSet::default();
        let slots = [0, 1, 63, 64, 700, 8191].map(SlotNumber);
        for slot in slots {
            assert!(set.insert(slot) && !set.insert(slot));
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), slots);
        assert_eq!(set.len(), 6);
        assert!(!set.contains(SlotNumber(65)) && set.contains(SlotNumber(700)));
    }
}
