//! What lies in the store: leases, records of the log, versions, packs.
//!
//! All of it is small numbers. An object that was deleted leaves its contents here: nobody can read them, but a put
//! that was sent twice brings them back.

use super::trap::Trap;
use crate::bits::Bits;

/// The most pack objects of a walk.
pub const OBJECTS: usize = 8;
/// The most versions, checkpoints among them.
pub const VERSIONS: usize = 5;
/// The most records of the log.
pub const RECORDS: usize = 8;

/// One generation of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PackObject {
    /// Which pack.
    pub pack: u8,
    /// Which generation of it.
    pub generation: u8,
    /// The slots that it has, sound or not.
    pub slots: Bits,
    /// Those that do not open.
    pub damaged: Bits,
}

/// A manifest, or a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Manifest {
    /// The slots that it points to.
    pub slots: Bits,
    /// The lease that it names.
    pub lease: u8,
}

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Record {
    /// The slots that it condemns.
    pub slots: Bits,
    /// The versions that it condemns.
    pub versions: Bits,
    /// The records that its author had read.
    pub read: Bits,
    /// The leases that were held after that.
    pub held: Bits,
    /// The slots that it takes off the list again; only in the trap H5.
    pub freed: Bits,
}

impl Record {
    /// Returns its number, which is for sorting: one more than the author had read.
    pub fn number(&self) -> u32 {
        self.read.len()
    }
}

/// The store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Store {
    /// The pack objects, by a number that stands for their name.
    pub packs: [PackObject; OBJECTS],
    /// Names of pack objects that were put at some time.
    pub packs_named: Bits,
    /// Pack objects that are there.
    pub packs_there: Bits,
    /// The manifests and checkpoints.
    pub versions: [Manifest; VERSIONS],
    /// Manifests that are there.
    pub versions_there: Bits,
    /// Manifests that were deleted at some time.
    pub versions_deleted: Bits,
    /// Versions with a tombstone.
    pub removed: Bits,
    /// Versions that passed a recheck.
    pub checked: Bits,
    /// Lease objects that are there.
    pub leases: Bits,
    /// Leases with a revocation.
    pub revoked: Bits,
    /// The log.
    pub records: [Record; RECORDS],
    /// How many records there are.
    pub record_count: u8,
}

impl Store {
    /// Returns the leases that are held.
    pub fn held(&self) -> Bits {
        self.leases - self.revoked
    }

    /// Returns all records.
    pub fn log(&self) -> Bits {
        Bits::below(self.record_count)
    }

    /// Returns the record of that number.
    pub fn record(&self, record: u8) -> &Record {
        &self.records[usize::from(record)]
    }

    /// Returns the slots that a reader of `records` takes for condemned.
    pub fn condemned_slots(&self, records: Bits) -> Bits {
        let (mut slots, mut freed) = (Bits::NONE, Bits::NONE);
        for record in records.iter() {
            slots |= self.record(record).slots;
            freed |= self.record(record).freed;
        }
        slots - freed
    }

    /// Returns the versions that `records` condemn.
    pub fn condemned_versions(&self, records: Bits) -> Bits {
        records.iter().fold(Bits::NONE, |versions, record| versions | self.record(record).versions)
    }

    /// Returns the manifest of `version`, whether it is there or not.
    pub fn manifest(&self, version: u8) -> &Manifest {
        &self.versions[usize::from(version)]
    }

    /// Tells whether `version` is void.
    pub fn is_void(&self, version: u8) -> bool {
        self.revoked.has(self.manifest(version).lease) && !self.checked.has(version)
    }

    /// Returns all slots that `versions` point to.
    pub fn slots_of_versions(&self, versions: Bits) -> Bits {
        versions.iter().fold(Bits::NONE, |slots, version| slots | self.manifest(version).slots)
    }

    /// Returns the pack object of that number.
    pub fn pack(&self, object: u8) -> &PackObject {
        &self.packs[usize::from(object)]
    }

    /// Returns the slots that `objects` have.
    pub fn slots_of_packs(&self, objects: Bits) -> Bits {
        objects.iter().fold(Bits::NONE, |slots, object| slots | self.pack(object).slots)
    }

    /// Returns the slots that are there in some generation.
    pub fn slots_there(&self) -> Bits {
        self.slots_of_packs(self.packs_there)
    }

    /// Returns the slots that were put at some time: what a stale index may offer.
    pub fn slots_ever(&self) -> Bits {
        self.slots_of_packs(self.packs_named)
    }

    /// Returns the slots that open when generations are tried from the highest down.
    pub fn slots_sound(&self, trap: Option<Trap>) -> Bits {
        let mut sound = Bits::NONE;
        for object in self.packs_there.iter() {
            let pack = self.pack(object);
            let is_highest = || {
                self.packs_there.iter().all(|other| {
                    let other_pack = self.pack(other);
                    other_pack.pack != pack.pack || (other_pack.generation, other) <= (pack.generation, object)
                })
            };
            if trap != Some(Trap::HighestGenerationAlone) || is_highest() {
                sound |= pack.slots - pack.damaged;
            }
        }
        sound
    }

    /// Puts a record; two that share a name overwrite each other in the trap H6.
    pub fn put_record(&mut self, record: Record, trap: Option<Trap>) -> u8 {
        let name = match trap {
            Some(Trap::RecordNameShared) => record.read.last().map_or(0, |last| last + 1),
            _ => self.record_count,
        };
        self.records[usize::from(name)] = record;
        self.record_count = self.record_count.max(name + 1);
        name
    }

    /// Puts a rewritten pack under a name of its own, or, in the trap H15, under that of its generation.
    ///
    /// Returns nothing when the walk has no name left.
    pub fn put_generation(&mut self, pack: PackObject, trap: Option<Trap>) -> Option<u8> {
        let same = self.packs_named.iter().find(|object| {
            let named = self.pack(*object);
            (named.pack, named.generation) == (pack.pack, pack.generation)
        });
        let free = (Bits::below(8) - self.packs_named).first();
        let name = if trap == Some(Trap::GenerationNameShared) { same.or(free) } else { free }?;
        self.packs[usize::from(name)] = pack;
        self.packs_named.add(name);
        self.packs_there.add(name);
        Some(name)
    }
}
