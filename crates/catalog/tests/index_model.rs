//! The index against a plain map: two catalogs on one folder, as two processes of a host would have them.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use backy_catalog::{Catalog, Lookup, Options, PackFact};
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{EncryptionVersion, Generation, LeaseId, PackId, RepositoryId, SlotAddress, SlotNumber};
use backy_core::names::PackName;
use proptest::prelude::*;

const OPTIONS: Options = Options {
    flush_keys: 150,
    run_count_max: 2,
    segment_keys_max: 150,
    index_keys_max: 1 << 40,
    neighbours_size_bytes_max: 1 << 16,
};

#[derive(Clone, Debug)]
enum Step {
    Insert { who: usize, pack: u8, encryption_version: u32, seeds: Vec<u16> },
    ForgetSlots { who: usize, slots: Vec<(u8, u16)> },
    ForgetPack { who: usize, pack: u8 },
    Flush { who: usize },
    Reopen { who: usize },
    Refresh { who: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..2usize;
    prop_oneof![
        8 => (who.clone(), 0..30u8, 1..3u32, prop::collection::vec(0..400u16, 0..60))
            .prop_map(|(who, pack, encryption_version, seeds)| Step::Insert { who, pack, encryption_version, seeds }),
        2 => (who.clone(), prop::collection::vec((0..30u8, 0..60u16), 0..30))
            .prop_map(|(who, slots)| Step::ForgetSlots { who, slots }),
        1 => (who.clone(), 0..30u8).prop_map(|(who, pack)| Step::ForgetPack { who, pack }),
        2 => who.clone().prop_map(|who| Step::Flush { who }),
        1 => who.clone().prop_map(|who| Step::Reopen { who }),
        1 => who.prop_map(|who| Step::Refresh { who }),
    ]
}

fn pack_fact(pack: u8, encryption_version: u32) -> PackFact {
    PackFact {
        name: PackName {
            id: PackId::from_bytes([pack; 16]),
            generation: Generation(0),
            lease: LeaseId::from_bytes([1; 16]),
        },
        encryption_version: EncryptionVersion(encryption_version),
        slot_count: 60,
        size_bytes: 1000,
    }
}

fn fingerprint(seed: u16) -> Fingerprint {
    // Some begin alike, so that prefixes collide.
    let mut bytes = *blake3::hash(&(seed / 3).to_le_bytes()).as_bytes();
    bytes[12..14].copy_from_slice(&seed.to_le_bytes());
    Fingerprint(bytes)
}

fn address(pack: u8, slot: u16) -> SlotAddress {
    SlotAddress { pack: PackId::from_bytes([pack; 16]), slot: SlotNumber(slot) }
}

fn open(folder: &Path) -> Catalog {
    let catalog = Catalog::open_with(folder, RepositoryId::from_bytes([7; 16]), OPTIONS).unwrap();
    assert_eq!(*catalog.report(), Default::default());
    catalog
}

#[derive(Default)]
struct Model {
    /// For each key and encryption version the slots, oldest first.
    slots: BTreeMap<(u16, u32), Vec<SlotAddress>>,
    /// Seeds with so many different slots that merges may have dropped the oldest.
    crowded: HashSet<u16>,
    forgotten: HashSet<SlotAddress>,
    forgotten_packs: HashSet<PackId>,
}

impl Model {
    fn insert(&mut self, pack: u8, encryption_version: u32, seeds: &[u16]) {
        for (slot, &seed) in seeds.iter().enumerate().rev() {
            let slots = self.slots.entry((seed, encryption_version)).or_default();
            let address = address(pack, u16::try_from(slot).unwrap());
            slots.retain(|&known| known != address);
            slots.push(address);
            let count = [1, 2].iter().filter_map(|&v| self.slots.get(&(seed, v))).map(Vec::len).sum::<usize>();
            if count > 8 {
                self.crowded.insert(seed);
            }
        }
    }

    fn check(&self, catalog: &Catalog) {
        for seed in 0..420 {
            for encryption_version in 0..3 {
                let found = catalog.lookup(EncryptionVersion(encryption_version), &fingerprint(seed)).unwrap();
                let slots = self.slots.get(&(seed, encryption_version)).map_or(&[][..], |slots| slots);
                let is_offered =
                    |a: &&SlotAddress| !self.forgotten.contains(a) && !self.forgotten_packs.contains(&a.pack);
                let offered: Vec<&SlotAddress> = slots.iter().filter(is_offered).collect();
                match found {
                    Lookup::At(address) if self.crowded.contains(&seed) => assert!(offered.contains(&&address)),
                    Lookup::Unknown if self.crowded.contains(&seed) => {}
                    found => {
                        let newest = offered.last().map_or(Lookup::Unknown, |&&address| Lookup::At(address));
                        assert_eq!(found, newest, "seed {seed} version {encryption_version}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn two_catalogs_on_one_folder_answer_like_one_map(steps in prop::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut catalogs = [Some(open(folder.path())), Some(open(folder.path()))];
        let mut model = Model::default();
        for step in steps {
            let on = |who: usize| catalogs[who].as_ref().unwrap();
            match step {
                Step::Insert { who, pack, encryption_version, seeds } => {
                    let slots: Vec<_> = (0..).map(SlotNumber).zip(seeds.iter().map(|&seed| fingerprint(seed))).collect();
                    on(who).insert_pack(&pack_fact(pack, encryption_version), &slots).unwrap();
                    model.insert(pack, encryption_version, &seeds);
                    model.check_own(on(who), encryption_version, &seeds);
                }
                Step::ForgetSlots { who, slots } => {
                    let slots: Vec<_> = slots.iter().map(|&(pack, slot)| address(pack, slot)).collect();
                    on(who).forget_slots(&slots).unwrap();
                    model.forgotten.extend(slots);
                }
                Step::ForgetPack { who, pack } => {
                    on(who).forget_pack(PackId::from_bytes([pack; 16])).unwrap();
                    model.forgotten_packs.insert(PackId::from_bytes([pack; 16]));
                    prop_assert_eq!(on(who).pack(PackId::from_bytes([pack; 16])).unwrap(), None);
                }
                Step::Flush { who } => on(who).flush().unwrap(),
                Step::Reopen { who } => {
                    catalogs[who] = None;
                    catalogs[who] = Some(open(folder.path()));
                    model.check(catalogs[who].as_ref().unwrap());
                }
                Step::Refresh { who } => {
                    on(who).refresh().unwrap();
                    model.check(on(who));
                }
            }
        }
        for catalog in catalogs.iter().flatten() {
            catalog.refresh().unwrap();
            model.check(catalog);
            catalog.flush().unwrap();
            model.check(catalog);
        }
    }
}

impl Model {
    /// What a catalog inserted itself it offers without a refresh.
    fn check_own(&self, catalog: &Catalog, encryption_version: u32, seeds: &[u16]) {
        for &seed in seeds {
            let slots = &self.slots[&(seed, encryption_version)];
            if let Lookup::At(address) =
                catalog.lookup(EncryptionVersion(encryption_version), &fingerprint(seed)).unwrap()
            {
                assert!(slots.contains(&address));
            }
        }
    }
}
