//! Forgotten slots: the permanent filter over everything the index offers.
//!
//! Condemned, damaged and vanished slots come in here and never leave, whatever is inserted, merged or listed later. Whole
//! packs take 16 bytes (about 35 in the set), parts of packs 4 bytes a range.

use std::collections::{BTreeMap, HashMap, HashSet};

use backy_core::ids::{PackId, SlotAddress};
use backy_core::slots::SlotSets;

/// A range of slots of one pack, both ends included; a row of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForgottenRange {
    pub pack: PackId,
    pub first: u16,
    pub last: u16,
}

impl ForgottenRange {
    /// Returns the range of all slots that a pack can have.
    pub fn whole(pack: PackId) -> ForgottenRange {
        ForgottenRange { pack, first: 0, last: u16::MAX }
    }

    /// Returns the checksum of its row; SQLite does not verify its pages.
    pub fn checksum(&self, sequence: i64) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_derive_key("backy2 catalog forgotten slots 1");
        hasher.update(&sequence.to_le_bytes());
        hasher.update(self.pack.bytes());
        hasher.update(&self.first.to_le_bytes());
        hasher.update(&self.last.to_le_bytes());
        let mut checksum = [0; 16];
        checksum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        checksum
    }
}

/// The set of forgotten slots.
#[derive(Default)]
pub(crate) struct Forgotten {
    packs: HashSet<PackId>,
    /// Sorted ranges that neither touch nor overlap.
    ranges: HashMap<PackId, Box<[(u16, u16)]>>,
}

impl Forgotten {
    /// Returns whether the slot may not be offered.
    pub fn contains(&self, address: SlotAddress) -> bool {
        if self.packs.contains(&address.pack) {
            return true;
        }
        self.ranges.get(&address.pack).is_some_and(|ranges| {
            let after = ranges.partition_point(|&(first, _)| first <= address.slot.0);
            after > 0 && ranges.get(after - 1).is_some_and(|&(_, last)| address.slot.0 <= last)
        })
    }

    /// Adds a range.
    pub fn insert(&mut self, range: ForgottenRange) {
        if self.packs.contains(&range.pack) {
            return;
        }
        if range.first == 0 && range.last == u16::MAX {
            self.packs.insert(range.pack);
            self.ranges.remove(&range.pack);
            return;
        }
        let ranges = self.ranges.entry(range.pack).or_default();
        let mut sorted: Vec<(u16, u16)> = ranges.to_vec();
        sorted.push((range.first, range.last));
        sorted.sort_unstable();
        *ranges = join(&sorted).into();
    }

    /// Returns the range of the whole pack, unless it is in the set.
    pub fn missing_pack(&self, pack: PackId) -> Option<ForgottenRange> {
        (!self.packs.contains(&pack)).then(|| ForgottenRange::whole(pack))
    }

    /// Returns ranges for those of `slots` that are not in the set yet, in whole runs.
    pub fn missing_sets(&self, slots: &SlotSets) -> Vec<ForgottenRange> {
        let mut missing = Vec::new();
        for (pack, slots) in slots.iter().filter(|(pack, _)| !self.packs.contains(pack)) {
            if slots.is_whole() {
                missing.push(ForgottenRange::whole(pack));
                continue;
            }
            let known = self.ranges.get(&pack).map(|ranges| &ranges[..]).unwrap_or_default();
            let is_known = |first: u16, last: u16| known.iter().any(|&(from, to)| from <= first && last <= to);
            for (first, last) in slots.runs().into_iter().filter(|(first, last)| !is_known(first.0, last.0)) {
                missing.push(ForgottenRange { pack, first: first.0, last: last.0 });
            }
        }
        missing
    }

    /// Returns ranges for those of `slots` that are not in the set yet.
    pub fn missing(&self, slots: &[SlotAddress]) -> Vec<ForgottenRange> {
        let mut packs: BTreeMap<PackId, Vec<(u16, u16)>> = BTreeMap::new();
        for address in slots.iter().filter(|&&address| !self.contains(address)) {
            packs.entry(address.pack).or_default().push((address.slot.0, address.slot.0));
        }
        let mut missing = Vec::new();
        for (pack, mut ranges) in packs {
            ranges.sort_unstable();
            missing.extend(join(&ranges).into_iter().map(|(first, last)| ForgottenRange { pack, first, last }));
        }
        missing
    }
}

fn join(sorted: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for &(first, last) in sorted {
        match joined.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use backy_core::ids::SlotNumber;
    use backy_core::slots::SlotSet;
    use proptest::prelude::*;

    fn address(pack: u8, slot: u16) -> SlotAddress {
        SlotAddress { pack: PackId::from_bytes([pack; 16]), slot: SlotNumber(slot) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn exactly_what_was_forgotten_is_contained(
            rounds in prop::collection::vec(prop::collection::vec((0u8..3, 0u16..40), 0..20), 0..6),
            runs in prop::collection::vec(prop::collection::vec((0u8..3, 0u16..40, 0u16..9), 0..5), 0..4),
            whole in prop::option::of(0u8..3),
        ) {
            let mut forgotten = Forgotten::default();
            let mut model = HashSet::new();
            for round in rounds {
                let slots: Vec<SlotAddress> = round.iter().map(|&(pack, slot)| address(pack, slot)).collect();
                forgotten.missing(&slots).into_iter().for_each(|range| forgotten.insert(range));
                prop_assert!(forgotten.missing(&slots).is_empty());
                model.extend(slots);
            }
            for round in runs {
                let of_pack = |&(pack, first, length): &(u8, u16, u16)| {
                    (PackId::from_bytes([pack; 16]), SlotSet::run(SlotNumber(first), SlotNumber(first + length)))
                };
                let sets: SlotSets = round.iter().map(of_pack).collect();
                forgotten.missing_sets(&sets).into_iter().for_each(|range| forgotten.insert(range));
                prop_assert!(forgotten.missing_sets(&sets).is_empty());
                model.extend(round.iter().flat_map(|&(pack, first, length)| {
                    (first..=first + length).map(move |slot| address(pack, slot))
                }));
            }
            if let Some(pack) = whole {
                forgotten.insert(ForgottenRange::whole(PackId::from_bytes([pack; 16])));
                model.extend((0..50).map(|slot| address(pack, slot)));
            }
            for pack in 0..4 {
                for slot in 0..50 {
                    prop_assert_eq!(forgotten.contains(address(pack, slot)), model.contains(&address(pack, slot)));
                }
            }
        }
    }
}
