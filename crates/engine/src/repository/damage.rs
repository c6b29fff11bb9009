//! What is known to be broken: damage records, read and written.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::ids::{LeaseId, PackId, RecordId, SlotAddress, SlotNumber, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::map::{Extent, MapBuilder, MapPart, MapRoot, Place, salvage_map};
use backy_core::names;
use backy_core::policy::hints::union;
use backy_core::records::damage::{DamageRecord, DamagedVersion};
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockRange};
use backy_core::{Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::Repository;
use super::map_io::MapPackWriter;
use super::records::if_found;

/// All damage that is known.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    records: Vec<DamageRecord>,
    slots: BTreeMap<PackId, BTreeSet<SlotNumber>>,
}

impl Damage {
    /// Says whether nothing is damaged.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Says whether damage was found in a version.
    pub fn touches(&self, uid: VersionUid) -> bool {
        self.records.iter().flat_map(|record| &record.versions).any(|version| version.uid == uid)
    }

    /// Says whether a slot is damaged.
    pub fn holds(&self, address: SlotAddress) -> bool {
        self.slots.get(&address.pack).is_some_and(|slots| slots.contains(&address.slot))
    }

    /// Returns the damaged slots.
    pub fn addresses(&self) -> Vec<SlotAddress> {
        let of_pack = |(pack, slots): (&PackId, &BTreeSet<SlotNumber>)| {
            let pack = *pack;
            slots.iter().map(move |&slot| SlotAddress { pack, slot }).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(of_pack).collect()
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
        let mut damage = Damage::default();
        for object in list_all(self.store(), names::DAMAGE).context(|| "list the damage records")? {
            let record = if_found(self.read_record::<DamageRecord>(RecordKind::Damage, &object.name));
            match record.and_then(|record| record.map(|record| record.check().map(|()| record)).transpose()) {
                Ok(Some(record)) => {
                    damage.slots.entry(record.pack).or_default().extend(&record.slots);
                    damage.records.push(record);
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
        let mut new = Damage::default();
        for address in found.iter().filter(|address| !known.holds(**address) || !known.touches(found_in)) {
            new.slots.entry(address.pack).or_default().insert(address.slot);
        }
        if new.slots.is_empty() {
            return Ok(());
        }
        let versions = self.versions()?.versions;
        for (pack, slots) in &new.slots {
            let of_pack = Damage { records: Vec::new(), slots: [(*pack, slots.clone())].into() };
            let mut affected = Vec::new();
            for version in &versions {
                let lost = self.damaged_blocks(version.manifest.map, &of_pack)?;
                if !lost.is_empty() {
                    let blocks = lost.iter().map(|range| (range.start, range.count)).collect();
                    affected.push(DamagedVersion { uid: version.manifest.uid, blocks });
                }
            }
            let record = DamageRecord {
                pack: *pack,
                slots: slots.iter().copied().collect(),
                problem: problem.to_owned(),
                found: self.environment().clock.now(),
                versions: affected,
            };
            let name = names::damage(RecordId::generate(self.environment()));
            self.put_record(RecordKind::Damage, &name, &record)?;
        }
        if let Err(error) = self.catalog().forget_slots(&new.addresses()) {
            warn!("the catalog did not take the damaged slots: {error}");
        }
        Ok(())
    }

    /// Notes down that a version has some of the damaged slots too, if it does; durable when it returns.
    pub(crate) fn name_in_damage(&self, manifest: &Manifest, damage: &Damage) -> Result<()> {
        let mut shared = BTreeSet::new();
        for (pack, slots) in &damage.slots {
            let of_pack = Damage { records: Vec::new(), slots: [(*pack, slots.clone())].into() };
            if !self.damaged_blocks(manifest.map, &of_pack)?.is_empty() {
                shared.extend(slots.iter().map(|&slot| SlotAddress { pack: *pack, slot }));
            }
        }
        if shared.is_empty() {
            return Ok(());
        }
        self.record_damage(&shared, manifest.uid, "the damage was found while the version was made")
    }

    fn damaged_blocks(&self, map: MapRoot, damage: &Damage) -> Result<Vec<BlockRange>> {
        let mut lost = Vec::new();
        salvage_map(self, map, &mut |part| {
            match part {
                MapPart::Extent(extent) if extent.place != Place::Missing => lost.extend(damage.lost_of(&extent)),
                MapPart::Lost { blocks, address, .. } if damage.holds(address) => lost.push(blocks),
                _ => {}
            }
            Ok(())
        })?;
        Ok(union(lost))
    }
}
