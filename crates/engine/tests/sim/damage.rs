//! Damage at rest: a bit of a stored pack flips, or a pack object is lost. What that makes of versions, told by opening
//! every slot of every object, without a word of what the engine thinks.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::ids::{PackId, SlotAddress, SlotNumber};
use backy_core::map::{MapPart, Place, salvage_map, visit_map_slots};
use backy_core::names::{self, ObjectName, PackName};
use backy_core::pack::header::{FORMAT_VERSION, PackHeader};
use backy_core::pack::{SlotOpener, SuffixRead, read_directory, read_fingerprints};
use backy_core::records::manifest::Manifest;
use backy_core::slots::{SlotSet, SlotSets};
use backy_engine::Repository;
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::support::objects;

/// What was damaged.
#[derive(Default)]
pub struct Damages {
    /// What the objects were before.
    pristine: BTreeMap<ObjectName, Vec<u8>>,
    /// The packs of which some object was ever damaged or lost.
    packs: BTreeSet<PackId>,
    pub count: u64,
}

impl Damages {
    /// Says whether nothing was ever damaged.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Damages any pack object; returns what was done, if there is one.
    pub fn strike(&mut self, store: &dyn ObjectStore, random: &mut ChaCha8Rng) -> Option<String> {
        let packs = objects(store, names::PACKS);
        let name = packs.get(random.random_range(0..packs.len().max(1)))?;
        let mut body = store.get(name, u64::MAX).unwrap();
        self.pristine.entry(name.clone()).or_insert_with(|| body.clone());
        self.packs.insert(PackName::parse(name).unwrap().id);
        self.count += 1;
        if random.random_bool(0.15) {
            store.delete(name).unwrap();
            return Some(format!("lost {name}"));
        }
        let at = random.random_range(0..body.len());
        body[at] ^= 1 << random.random_range(0..8);
        store.put(name, &body).unwrap();
        Some(format!("flipped a bit at {at} of {name}"))
    }

    /// Gives damaged objects that are still there their old bytes back, and puts those back of whose packs nothing is left.
    /// Of the latter a cleanup may have deleted some: it must do so again.
    pub fn undo(&self, store: &dyn ObjectStore) {
        let there = objects(store, names::PACKS);
        for (name, body) in &self.pristine {
            let pack = PackName::parse(name).unwrap().id;
            let has_others = there.iter().any(|other| PackName::parse(other).unwrap().id == pack);
            if there.contains(name) || !has_others {
                store.put(name, body).unwrap();
            }
        }
    }

    /// Says whether anything that a version needs lies in a pack that was ever damaged, or lies below what does.
    pub fn touch(&self, repository: &Repository, version: &Manifest) -> bool {
        let mut is_touched = false;
        salvage_map(repository, version.map, &mut |part| {
            is_touched |= match part {
                MapPart::Extent(extent) => match extent.place {
                    Place::Stored { pack, .. } => self.packs.contains(&pack),
                    // From a base that was damaged.
                    Place::Missing => !self.is_empty(),
                    Place::Zero => false,
                },
                MapPart::Lost { address, .. } => self.packs.contains(&address.pack),
            };
            Ok(())
        })
        .unwrap();
        let mut map = SlotSets::default();
        let walked = visit_map_slots(repository, version.map, &mut |address, _| {
            map.add_slot(address);
            Ok(true)
        });
        is_touched || walked.is_err() || map.iter().any(|(pack, _)| self.packs.contains(&pack))
    }
}

/// What is good in the store now.
#[derive(Default)]
pub struct Truth {
    /// Slots that some generation has good.
    good: SlotSets,
    /// Blocks whose fingerprints can be read: they can be healed.
    told: SlotSets,
    /// Objects with anything wrong.
    pub bad_objects: BTreeSet<ObjectName>,
}

impl Truth {
    /// Opens everything.
    pub fn look(repository: &Repository, store: &dyn ObjectStore) -> Truth {
        let mut truth = Truth::default();
        let mut opener = SlotOpener::new().unwrap();
        for object in list_all(store, names::PACKS).unwrap() {
            let pack = PackName::parse(&object.name).unwrap();
            let bytes = store.get(&object.name, u64::MAX).unwrap();
            let Ok(SuffixRead::Directory(directory)) = read_directory(repository.keys(), pack, None, &bytes) else {
                truth.bad_objects.insert(object.name);
                continue;
            };
            let is_right =
                |header: PackHeader| header.name == pack && header.encryption_version == directory.encryption_version();
            let mut is_good =
                directory.told_format_version() == FORMAT_VERSION && PackHeader::parse(&bytes).is_ok_and(is_right);
            for (slot, locator) in directory.slots() {
                let start = locator.offset_bytes as usize;
                let mut sealed = bytes[start..start + locator.stored_length as usize].to_vec();
                if opener.open(repository.keys(), &directory, slot, &mut sealed, &mut Vec::new()).is_ok() {
                    truth.good.add_slot(SlotAddress { pack: pack.id, slot });
                } else {
                    is_good = false;
                }
            }
            let range = directory.fingerprints_range();
            let section = &bytes[range.offset_bytes as usize..range.end_bytes() as usize];
            match read_fingerprints(repository.keys(), &directory, section) {
                Ok(told) => {
                    for (slot, _) in told {
                        truth.told.add_slot(SlotAddress { pack: pack.id, slot });
                    }
                }
                Err(_) => is_good = false,
            }
            if !is_good {
                truth.bad_objects.insert(object.name);
            }
        }
        truth
    }

    /// Says how good a version is.
    pub fn of(&self, repository: &Repository, version: &Manifest) -> Health {
        let (mut map, mut data) = (SlotSets::default(), SlotSets::default());
        let walked = visit_map_slots(repository, version.map, &mut |address, _| {
            map.add_slot(address);
            Ok(true)
        });
        // Not what lies under a change of the map: the version does not have it.
        salvage_map(repository, version.map, &mut |part| {
            if let MapPart::Extent(extent) = part
                && let Place::Stored { pack, first_slot } = extent.place
            {
                let last = SlotNumber(first_slot.0 + (extent.blocks.count.0 - 1) as u16);
                data.add(pack, &SlotSet::run(first_slot, last));
            }
            Ok(())
        })
        .unwrap();
        let lacks = |needed: &SlotSets, there: &SlotSets| {
            needed.iter().any(|(pack, slots)| !there.get(pack).is_some_and(|there| there.covers(slots)))
        };
        if walked.is_err() || lacks(&map, &self.good) {
            return Health::Broken;
        }
        let mut bad = SlotSets::default();
        for (pack, slots) in data.iter() {
            let rest = match self.good.get(pack) {
                Some(good) => slots.minus(good),
                None => Some(slots.clone()),
            };
            if let Some(rest) = rest {
                bad.add(pack, &rest);
            }
        }
        match bad.is_empty() {
            true => Health::Whole,
            false if lacks(&bad, &self.told) => Health::Broken,
            false => Health::Healable,
        }
    }
}

/// How good a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything that it needs is there and good.
    Whole,
    /// Some of its blocks are damaged, and their packs say what they were.
    Healable,
    /// Some of its map, or of its blocks, is gone for good.
    Broken,
}
