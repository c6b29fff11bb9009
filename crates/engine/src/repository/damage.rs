//! What is known to be broken: damage records, read, written, and taken back.
//!
//! A record goes only after every slot that it names was read and found good; what is left of one that is partly healed is
//! noted anew before.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::ids::{LeaseId, PackId, RecordId, SlotAddress, SlotNumber, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::map::{Extent, MapBuilder, MapPart, MapRoot, Place, salvage_map};
use backy_core::names::{self, ObjectName};
use backy_core::policy::hints::union;
use backy_core::records::damage::{DamageRecord, DamagedVersion};
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockIndex, BlockRange};
use backy_core::{Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::Repository;
use super::map_io::MapPackWriter;
use super::records::if_found;
use crate::parallel;

/// All damage that is known.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    records: Vec<(ObjectName, DamageRecord)>,
    slots: BTreeMap<PackId, BTreeSet<SlotNumber>>,
}

impl Damage {
    /// Takes damage that is not noted yet.
    pub(crate) fn of(found: &BTreeMap<PackId, FoundDamage>) -> Damage {
        let slots = found.iter().map(|(pack, found)| (*pack, found.slots.clone())).collect();
        Damage { records: Vec::new(), slots }
    }

    /// Says whether nothing is damaged.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Says whether damage was found in a version.
    pub fn touches(&self, uid: VersionUid) -> bool {
        self.records.iter().flat_map(|(_, record)| &record.versions).any(|version| version.uid == uid)
    }

    /// Says whether a slot is damaged.
    pub fn holds(&self, address: SlotAddress) -> bool {
        self.slots.get(&address.pack).is_some_and(|slots| slots.contains(&address.slot))
    }

    /// Returns the records that could be read.
    pub(crate) fn records(&self) -> &[(ObjectName, DamageRecord)] {
        &self.records
    }

    /// Returns the damaged slots, by pack.
    pub(crate) fn slots(&self) -> &BTreeMap<PackId, BTreeSet<SlotNumber>> {
        &self.slots
    }

    /// Returns the damaged slots.
    pub fn addresses(&self) -> Vec<SlotAddress> {
        let of_pack = |(pack, slots): (&PackId, &BTreeSet<SlotNumber>)| {
            let pack = *pack;
            slots.iter().map(move |&slot| SlotAddress { pack, slot }).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(of_pack).collect()
    }

    /// Says whether all this is known already.
    fn says(&self, pack: PackId, slots: &[SlotNumber], versions: &[DamagedVersion]) -> bool {
        let of_pack = || self.records.iter().map(|(_, record)| record).filter(|record| record.pack == pack);
        let is_named = |version: &DamagedVersion| {
            of_pack().flat_map(|record| &record.versions).any(|named| named.uid == version.uid)
        };
        slots.iter().all(|&slot| self.holds(SlotAddress { pack, slot })) && versions.iter().all(is_named)
    }

    /// Returns the blocks of `extent` that are missing or damaged.
    fn lost_of(&self, extent: &Extent) -> Vec<BlockRange> {
        match extent.place {
            Place::Zero => Vec::new(),
            Place::Missing => vec![extent.blocks],
            Place::Stored { pack, first_slot } => {
                let Some(slots) = self.slots.get(&pack) else { return Vec::new() };
                let last =
                    SlotNumber(first_slot.0.saturating_add(u16::try_from(extent.blocks.count.0).unwrap_or(u16::MAX)));
                let block_of = |slot: SlotNumber| extent.blocks.start + BlockCount(u64::from(slot.0 - first_slot.0));
                let damaged = slots.range(first_slot..last);
                damaged.map(|&slot| BlockRange { start: block_of(slot), count: BlockCount(1) }).collect()
            }
        }
    }
}

/// Damaged slots of one pack.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoundDamage {
    /// The slots that no generation has good.
    pub slots: BTreeSet<SlotNumber>,
    /// Those of them that no generation has at all.
    pub absent: BTreeSet<SlotNumber>,
    /// What was wrong.
    pub problem: String,
}

/// The versions that have damaged slots of each pack.
type DamagedVersions = BTreeMap<PackId, Vec<DamagedVersion>>;

/// A version that has damaged slots.
#[derive(Clone, Debug)]
pub struct AffectedVersion {
    /// The version; of an incomplete one, what its newest checkpoint says.
    pub manifest: Manifest,
    /// Its damaged blocks: ascending, without overlaps.
    pub blocks: Vec<BlockRange>,
}

/// What is missing or damaged in a map.
#[derive(Debug, Default)]
pub(crate) struct LostBlocks {
    /// All such blocks: ascending, without overlaps.
    pub blocks: Vec<BlockRange>,
    /// Parts of the map itself that cannot be read.
    pub map_parts: Vec<LostMapPart>,
}

/// A part of a map that cannot be read.
#[derive(Debug)]
pub(crate) struct LostMapPart {
    /// The blocks that it would speak of.
    pub blocks: BlockRange,
    /// The page or node.
    pub address: SlotAddress,
    /// What is wrong with it.
    pub problem: String,
}

impl Repository {
    /// Reads all damage records. One that cannot be read is reported and passed over.
    pub fn damage(&self) -> Result<Damage> {
        let objects = list_all(self.store(), names::DAMAGE).context(|| "list the damage records")?;
        let read = parallel::map(self.settings().simultaneous_reads.get(), &objects, |object| {
            let record = if_found(self.read_record::<DamageRecord>(RecordKind::Damage, &object.name));
            Ok(record.and_then(|record| record.map(|record| record.check().map(|()| record)).transpose()))
        })?;
        let mut damage = Damage::default();
        for (object, record) in objects.into_iter().zip(read) {
            match record {
                Ok(Some(record)) => {
                    damage.slots.entry(record.pack).or_default().extend(&record.slots);
                    damage.records.push((object.name, record));
                }
                Ok(None) => {}
                Err(error) => warn!("{error}"),
            }
        }
        Ok(damage)
    }

    /// Returns what is missing or damaged in a map, going through all of it.
    pub(crate) fn lost_blocks(&self, map: MapRoot, damage: &Damage) -> Result<LostBlocks> {
        let mut lost = LostBlocks::default();
        salvage_map(self, map, &mut |part| {
            match part {
                MapPart::Extent(extent) => lost.blocks.extend(damage.lost_of(&extent)),
                MapPart::Lost { blocks, address, error } => {
                    lost.blocks.push(blocks);
                    lost.map_parts.push(LostMapPart { blocks, address, problem: error.to_string() });
                }
            }
            Ok(())
        })?;
        lost.blocks = union(lost.blocks);
        Ok(lost)
    }

    /// Writes a map that says what can still be read of a damaged one; the rest is missing. Durable when it returns.
    pub(crate) fn salvaged_map(&self, map: MapRoot, lease: LeaseId) -> Result<MapRoot> {
        let mut writer = MapPackWriter::new(self, lease)?;
        let mut builder = MapBuilder::new(None, map.blocks);
        salvage_map(self, map, &mut |part| {
            let extent = match part {
                MapPart::Extent(extent) => extent,
                MapPart::Lost { blocks, .. } => Extent { blocks, place: Place::Missing },
            };
            builder.set(self, &mut writer, extent)
        })?;
        let salvaged = builder.finish(self, &mut writer)?;
        for stored in writer.flush()? {
            self.index_pack(&stored.pack, stored.size_bytes);
        }
        Ok(salvaged)
    }

    /// Notes down damaged slots with all versions that have them; durable when it returns.
    ///
    /// `found_in` is where they were found. Slots that are known to be damaged already are not noted again, unless nothing
    /// is known of damage in that version.
    pub(crate) fn record_damage(
        &self,
        found: &BTreeSet<SlotAddress>,
        found_in: VersionUid,
        problem: &str,
    ) -> Result<()> {
        let known = self.damage()?;
        let mut new: BTreeMap<PackId, FoundDamage> = BTreeMap::new();
        for address in found.iter().filter(|address| !known.holds(**address) || !known.touches(found_in)) {
            let of_pack = new.entry(address.pack).or_default();
            of_pack.slots.insert(address.slot);
            problem.clone_into(&mut of_pack.problem);
        }
        if new.is_empty() { Ok(()) } else { self.note_damage(&new).map(drop) }
    }

    /// Notes down damaged slots with all versions that have them, but for what is known already; durable when it returns.
    ///
    /// Returns the damaged blocks of all versions that have any of these slots.
    pub(crate) fn note_damage(&self, found: &BTreeMap<PackId, FoundDamage>) -> Result<Vec<AffectedVersion>> {
        let known = self.damage()?;
        let (affected, mut of_packs) = self.affected_versions(&Damage::of(found))?;
        let mut new = Vec::new();
        for (pack, FoundDamage { slots, absent, problem }) in found {
            let versions = of_packs.remove(pack).unwrap_or_default();
            // A slot that is not there and that no version has was swept: that is no damage.
            let is_swept = |slot: &SlotNumber| versions.is_empty() && absent.contains(slot);
            let slots: Vec<SlotNumber> = slots.iter().filter(|slot| !is_swept(slot)).copied().collect();
            if !slots.is_empty() && !known.says(*pack, &slots, &versions) {
                self.put_damage(*pack, slots.clone(), problem, versions)?;
            }
            new.extend(slots.into_iter().map(|slot| SlotAddress { pack: *pack, slot }));
        }
        if let Err(error) = self.catalog().forget_slots(&new) {
            warn!("the catalog did not take the damaged slots: {error}");
        }
        Ok(affected)
    }

    /// Returns the versions that have damaged slots, and those blocks.
    pub(crate) fn affected_by(&self, damage: &Damage) -> Result<Vec<AffectedVersion>> {
        if damage.slots.is_empty() { Ok(Vec::new()) } else { Ok(self.affected_versions(damage)?.0) }
    }

    /// Takes back what the records of `known` say of slots that were read and found good since. Returns how many records
    /// went.
    ///
    /// Versions become valid with it as far as nothing else is wrong with them.
    pub(crate) fn retire_damage(&self, known: &Damage, good: &BTreeMap<PackId, BTreeSet<SlotNumber>>) -> Result<u64> {
        let mut retired = 0;
        for (name, record) in &known.records {
            let Some(good) = good.get(&record.pack) else { continue };
            let rest: BTreeSet<SlotNumber> = record.slots.iter().filter(|slot| !good.contains(slot)).copied().collect();
            if rest.len() == record.slots.len() {
                continue;
            }
            if !rest.is_empty() {
                let rest_only = Damage { records: Vec::new(), slots: [(record.pack, rest.clone())].into() };
                let (_, mut of_packs) = self.affected_versions(&rest_only)?;
                let versions = of_packs.remove(&record.pack).unwrap_or_default();
                self.put_damage(record.pack, rest.into_iter().collect(), &record.problem, versions)?;
            }
            self.store().delete(name).context(|| format!("delete {name}"))?;
            retired += 1;
        }
        Ok(retired)
    }

    fn put_damage(
        &self,
        pack: PackId,
        slots: Vec<SlotNumber>,
        problem: &str,
        versions: Vec<DamagedVersion>,
    ) -> Result<()> {
        let found = self.environment().clock.now();
        let record = DamageRecord { pack, slots, problem: problem.to_owned(), found, versions };
        let name = names::damage(RecordId::generate(self.environment()));
        self.put_record(RecordKind::Damage, &name, &record)
    }

    /// Returns the versions that have any of these slots and what they lose by it: all together, and by pack.
    fn affected_versions(&self, damage: &Damage) -> Result<(Vec<AffectedVersion>, DamagedVersions)> {
        let mut affected = Vec::new();
        let mut of_packs = DamagedVersions::new();
        for version in self.versions()?.versions {
            let manifest = version.manifest;
            let lost = self.damaged_blocks(manifest.map, damage)?;
            if lost.is_empty() {
                continue;
            }
            let mut blocks = Vec::new();
            for (pack, lost) in lost {
                blocks.extend_from_slice(&lost);
                let blocks = lost.iter().map(|range| (range.start, range.count)).collect();
                of_packs.entry(pack).or_default().push(DamagedVersion { uid: manifest.uid, blocks });
            }
            affected.push(AffectedVersion { manifest, blocks: union(blocks) });
        }
        Ok((affected, of_packs))
    }

    /// Notes down that a version has some of the damaged slots too, if it does; durable when it returns.
    pub(crate) fn name_in_damage(&self, manifest: &Manifest, damage: &Damage) -> Result<()> {
        let mut shared = BTreeSet::new();
        for pack in self.damaged_blocks(manifest.map, damage)?.into_keys() {
            let slots = damage.slots.get(&pack).into_iter().flatten();
            shared.extend(slots.map(|&slot| SlotAddress { pack, slot }));
        }
        if shared.is_empty() {
            return Ok(());
        }
        self.record_damage(&shared, manifest.uid, "the damage was found while the version was made")
    }

    /// Returns the first block of a map that each of the damaged slots is.
    pub(crate) fn blocks_of_slots(&self, map: MapRoot, damage: &Damage) -> Result<BTreeMap<SlotAddress, BlockIndex>> {
        let mut blocks = BTreeMap::new();
        salvage_map(self, map, &mut |part| {
            let MapPart::Extent(extent) = part else { return Ok(()) };
            let Place::Stored { pack, .. } = extent.place else { return Ok(()) };
            for lost in damage.lost_of(&extent) {
                if let Place::Stored { first_slot: slot, .. } = extent.clip(lost).place {
                    blocks.entry(SlotAddress { pack, slot }).or_insert(lost.start);
                }
            }
            Ok(())
        })?;
        Ok(blocks)
    }

    /// Returns what the damaged slots are in a map, by the pack of the slots.
    fn damaged_blocks(&self, map: MapRoot, damage: &Damage) -> Result<BTreeMap<PackId, Vec<BlockRange>>> {
        let mut lost: BTreeMap<PackId, Vec<BlockRange>> = BTreeMap::new();
        salvage_map(self, map, &mut |part| {
            match part {
                MapPart::Extent(extent) => {
                    if let Place::Stored { pack, .. } = extent.place {
                        let blocks = damage.lost_of(&extent);
                        if !blocks.is_empty() {
                            lost.entry(pack).or_default().extend(blocks);
                        }
                    }
                }
                MapPart::Lost { blocks, address, .. } if damage.holds(address) => {
                    lost.entry(address.pack).or_default().push(blocks);
                }
                MapPart::Lost { .. } => {}
            }
            Ok(())
        })?;
        Ok(lost.into_iter().map(|(pack, blocks)| (pack, union(blocks))).collect())
    }
}
