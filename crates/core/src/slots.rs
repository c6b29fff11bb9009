//! Sets of slots, for what goes through a whole repository: which slots are needed, condemned, damaged.
//!
//! The slots of one pack are one run, or bits: at most 1 KiB and 32 bytes beside it a pack, 24 bytes where one run says it
//! all, as it does for most packs. A billion slots take some 150 MB at the worst.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::ids::{PackId, SlotAddress, SlotNumber};
use crate::pack::SLOTS_MAX;

const WORDS_MAX: usize = SLOTS_MAX / 64;
/// The last slot that a pack can have.
const LAST: u16 = 8191;

/// Some slots of one pack; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSet {
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// All from the first to the last, both included.
    Run { first: u16, last: u16 },
    /// One bit a slot, as many words as the last slot needs; more than one run.
    Bits(Box<[u64]>),
}

impl SlotSet {
    /// Returns all slots that a pack can have.
    pub const fn whole() -> SlotSet {
        SlotSet { form: Form::Run { first: 0, last: LAST } }
    }

    /// Returns the slots below `count`; none if there are none.
    pub fn below(count: usize) -> Option<SlotSet> {
        let last = u16::try_from(count.min(SLOTS_MAX).checked_sub(1)?).ok()?;
        Some(SlotSet::run(SlotNumber(0), SlotNumber(last)))
    }

    /// Returns the slots from `first` to `last`, both included; what lies behind the last one that packs have is cut off.
    pub fn run(first: SlotNumber, last: SlotNumber) -> SlotSet {
        let last = last.0.min(LAST);
        SlotSet { form: Form::Run { first: first.0.min(last), last } }
    }

    /// Says whether these are all slots that a pack can have.
    pub fn is_whole(&self) -> bool {
        self.form == Form::Run { first: 0, last: LAST }
    }

    /// Says whether a slot is among them.
    pub fn contains(&self, slot: SlotNumber) -> bool {
        match &self.form {
            Form::Run { first, last } => (*first..=*last).contains(&slot.0),
            Form::Bits(words) => word(words, usize::from(slot.0) / 64) >> (slot.0 % 64) & 1 == 1,
        }
    }

    /// Says whether all of `other` are among them.
    pub fn covers(&self, other: &SlotSet) -> bool {
        match (&self.form, &other.form) {
            (Form::Run { first, last }, Form::Run { first: from, last: to }) => first <= from && to <= last,
            _ => other.minus(self).is_none(),
        }
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        match &self.form {
            Form::Run { first, last } => usize::from(last - first) + 1,
            Form::Bits(words) => words.iter().map(|word| word.count_ones() as usize).sum(),
        }
    }

    /// Adds slots.
    pub fn add(&mut self, other: &SlotSet) {
        if let (Form::Run { first, last }, Form::Run { first: from, last: to }) = (&mut self.form, &other.form) {
            let touches = u32::from(*from) <= u32::from(*last) + 1 && u32::from(*first) <= u32::from(*to) + 1;
            if touches {
                (*first, *last) = ((*first).min(*from), (*last).max(*to));
                return;
            }
        }
        if let (Form::Bits(words), Form::Run { first, last }) = (&mut self.form, &other.form)
            && usize::from(*last) < words.len() * 64
        {
            // The usual case of a walk through a map: nothing is copied.
            set_run(words, usize::from(*first), usize::from(*last));
            if let Some(run) = only_run(words) {
                self.form = run;
            }
            return;
        }
        let (mut bits, more) = (self.bits(), other.bits());
        bits.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
        self.form = form_of(&bits).unwrap_or_else(|| self.form.clone());
    }

    /// Returns those that are not in `other`; none if that is all of them.
    pub fn minus(&self, other: &SlotSet) -> Option<SlotSet> {
        let (mut bits, less) = (self.bits(), other.bits());
        bits.iter_mut().zip(less).for_each(|(word, less)| *word &= !less);
        form_of(&bits).map(|form| SlotSet { form })
    }

    /// Returns those that are in `other` too; none if there is none.
    pub fn common(&self, other: &SlotSet) -> Option<SlotSet> {
        let (mut bits, others) = (self.bits(), other.bits());
        bits.iter_mut().zip(others).for_each(|(word, other)| *word &= other);
        form_of(&bits).map(|form| SlotSet { form })
    }

    /// Returns the runs: first and last slot, ascending, never touching.
    pub fn runs(&self) -> Vec<(SlotNumber, SlotNumber)> {
        match &self.form {
            Form::Run { first, last } => vec![(SlotNumber(*first), SlotNumber(*last))],
            Form::Bits(words) => runs_of(words),
        }
    }

    /// Returns the slots, ascending.
    pub fn slots(&self) -> impl Iterator<Item = SlotNumber> {
        self.runs().into_iter().flat_map(|(first, last)| (first.0..=last.0).map(SlotNumber))
    }

    fn bits(&self) -> [u64; WORDS_MAX] {
        let mut bits = [0; WORDS_MAX];
        match &self.form {
            Form::Run { first, last } => set_run(&mut bits, usize::from(*first), usize::from(*last)),
            Form::Bits(words) => bits.iter_mut().zip(words).for_each(|(bit, word)| *bit = *word),
        }
        bits
    }
}

impl FromIterator<SlotNumber> for Option<SlotSet> {
    fn from_iter<I: IntoIterator<Item = SlotNumber>>(slots: I) -> Option<SlotSet> {
        let mut bits = [0u64; WORDS_MAX];
        for slot in slots {
            if let Some(word) = bits.get_mut(usize::from(slot.0) / 64) {
                *word |= 1 << (slot.0 % 64);
            }
        }
        form_of(&bits).map(|form| SlotSet { form })
    }
}

fn word(words: &[u64], index: usize) -> u64 {
    words.get(index).copied().unwrap_or_default()
}

/// Sets the bits from `first` to `last`, both included.
fn set_run(words: &mut [u64], first: usize, last: usize) {
    for (index, word) in words.iter_mut().enumerate().take(last / 64 + 1).skip(first / 64) {
        let from = if index == first / 64 { first % 64 } else { 0 };
        let to = if index == last / 64 { last % 64 } else { 63 };
        *word |= u64::MAX << from & u64::MAX >> (63 - to);
    }
}

fn form_of(bits: &[u64; WORDS_MAX]) -> Option<Form> {
    let used = bits.iter().rposition(|word| *word != 0)? + 1;
    let words = bits.get(..used)?;
    Some(only_run(words).unwrap_or_else(|| Form::Bits(words.into())))
}

/// Returns the run, if the bits are one.
fn only_run(words: &[u64]) -> Option<Form> {
    let starts: u32 = (0..words.len()).map(|index| starts_in(words, index).count_ones()).sum();
    if starts != 1 {
        return None;
    }
    let (first, last) = runs_of(words).first().copied()?;
    Some(Form::Run { first: first.0, last: last.0 })
}

/// Returns the bits of a word at which runs begin.
fn starts_in(words: &[u64], index: usize) -> u64 {
    let before = if index == 0 { 0 } else { word(words, index - 1) >> 63 };
    word(words, index) & !(word(words, index) << 1 | before)
}

fn runs_of(words: &[u64]) -> Vec<(SlotNumber, SlotNumber)> {
    let mut runs: Vec<(SlotNumber, SlotNumber)> = Vec::new();
    for (index, &word) in words.iter().enumerate() {
        let mut rest = word;
        let mut offset = 0u32;
        while rest != 0 {
            let gap = rest.trailing_zeros();
            let length = (rest >> gap).trailing_ones();
            let base = index * 64 + (offset + gap) as usize;
            // At most 8,192 bits: the numbers fit.
            let first = SlotNumber(u16::try_from(base).unwrap_or(LAST));
            let last = SlotNumber(u16::try_from(base + length as usize - 1).unwrap_or(LAST));
            match runs.last_mut() {
                Some(run) if u32::from(run.1.0) + 1 == u32::from(first.0) => run.1 = last,
                _ => runs.push((first, last)),
            }
            offset += gap + length;
            rest = if offset >= 64 { 0 } else { word >> offset };
        }
    }
    runs
}

/// Slots of many packs, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotSets {
    packs: BTreeMap<PackId, SlotSet>,
}

impl SlotSets {
    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Returns of how many packs there are slots.
    pub fn pack_count(&self) -> usize {
        self.packs.len()
    }

    /// Returns how many slots there are; a whole pack counts as 8,192.
    pub fn count(&self) -> u64 {
        self.packs.values().map(|set| set.count() as u64).sum()
    }

    /// Says whether a slot is among them.
    pub fn contains(&self, address: SlotAddress) -> bool {
        self.get(address.pack).is_some_and(|set| set.contains(address.slot))
    }

    /// Returns the slots of a pack, if there are any.
    pub fn get(&self, pack: PackId) -> Option<&SlotSet> {
        self.packs.get(&pack)
    }

    /// Adds slots of a pack.
    pub fn add(&mut self, pack: PackId, slots: &SlotSet) {
        match self.packs.entry(pack) {
            Entry::Vacant(entry) => {
                entry.insert(slots.clone());
            }
            Entry::Occupied(mut entry) => entry.get_mut().add(slots),
        }
    }

    /// Adds a slot, and says whether it is new.
    pub fn add_slot(&mut self, address: SlotAddress) -> bool {
        let is_new = !self.contains(address);
        if is_new {
            self.add(address.pack, &SlotSet::run(address.slot, address.slot));
        }
        is_new
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &SlotSets) {
        other.iter().for_each(|(pack, slots)| self.add(pack, slots));
    }

    /// Returns the packs and their slots, by id.
    pub fn iter(&self) -> impl Iterator<Item = (PackId, &SlotSet)> {
        self.packs.iter().map(|(pack, slots)| (*pack, slots))
    }
}

impl FromIterator<(PackId, SlotSet)> for SlotSets {
    fn from_iter<I: IntoIterator<Item = (PackId, SlotSet)>>(packs: I) -> SlotSets {
        let mut sets = SlotSets::default();
        packs.into_iter().for_each(|(pack, slots)| sets.add(pack, &slots));
        sets
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set_of(model: &BTreeSet<u16>) -> Option<SlotSet> {
        model.iter().map(|&slot| SlotNumber(slot)).collect()
    }

    fn model_of(set: &SlotSet) -> BTreeSet<u16> {
        set.slots().map(|slot| slot.0).collect()
    }

    /// Runs that touch word borders, alone and many.
    fn runs() -> impl Strategy<Value = Vec<(u16, u16)>> {
        let edge = prop_oneof![0u16..200, 8000u16..8192, Just(63), Just(64), Just(127), Just(128), Just(8191)];
        prop::collection::vec((edge.clone(), edge), 1..12)
    }

    fn both(runs: &[(u16, u16)]) -> (SlotSet, BTreeSet<u16>) {
        let mut model = BTreeSet::new();
        let mut set: Option<SlotSet> = None;
        for &(from, to) in runs {
            let (first, last) = (from.min(to), from.max(to).min(from.min(to).saturating_add(300)));
            model.extend(first..=last);
            let run = SlotSet::run(SlotNumber(first), SlotNumber(last));
            match &mut set {
                Some(set) => set.add(&run),
                None => set = Some(run),
            }
        }
        (set.unwrap(), model)
    }

    proptest! {
        #[test]
        fn sets_do_what_a_plain_set_does(left in runs(), right in runs()) {
            let ((left, left_model), (right, right_model)) = (both(&left), both(&right));
            prop_assert_eq!(&model_of(&left), &left_model);
            prop_assert_eq!(Some(left.clone()), set_of(&left_model));
            prop_assert_eq!(left.count(), left_model.len());
            let minus: BTreeSet<u16> = &left_model - &right_model;
            prop_assert_eq!(left.minus(&right), set_of(&minus));
            let common: BTreeSet<u16> = &left_model & &right_model;
            prop_assert_eq!(left.common(&right), set_of(&common));
            prop_assert_eq!(left.covers(&right), right_model.is_subset(&left_model));
            for slot in [0, 1, 62, 63, 64, 65, 100, 8190, 8191] {
                prop_assert_eq!(left.contains(SlotNumber(slot)), left_model.contains(&slot));
            }
            let runs = left.runs();
            prop_assert!(runs.is_sorted_by(|before, after| before.1.0 + 1 < after.0.0));
        }
    }

    #[test]
    fn a_whole_pack_is_one_run_however_it_came_about() {
        let mut set = SlotSet::run(SlotNumber(0), SlotNumber(3000));
        set.add(&SlotSet::run(SlotNumber(5000), SlotNumber(u16::MAX)));
        assert!(!set.is_whole());
        set.add(&SlotSet::run(SlotNumber(2000), SlotNumber(6000)));
        assert!(set.is_whole());
        assert_eq!(set.count(), SLOTS_MAX);
        assert_eq!(SlotSet::below(SLOTS_MAX), Some(SlotSet::whole()));
        assert_eq!(SlotSet::below(0), None);
        assert_eq!(set.minus(&SlotSet::whole()), None);
    }

    #[test]
    fn a_slot_is_new_once() {
        let mut sets = SlotSets::default();
        let address = |slot| SlotAddress { pack: PackId::from_bytes([1; 16]), slot: SlotNumber(slot) };
        assert!(sets.add_slot(address(5)));
        assert!(!sets.add_slot(address(5)));
        assert!(sets.add_slot(address(8191)));
        assert_eq!((sets.count(), sets.pack_count()), (2, 1));
    }
}
