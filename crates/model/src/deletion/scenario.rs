//! The bounds of a walk: what lies in the store at its beginning, who works on it, and how often.

use super::job::JobPlan;
use super::others::Left;
use super::store::{Manifest, OBJECTS, PackObject, Record, Store};
use crate::bits::Bits;

/// What one walk goes through.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// The store at the beginning.
    pub start: Store,
    /// The jobs, at most two.
    pub jobs: Vec<JobPlan>,
    /// How many runs each of the cleanups may begin, at most two.
    pub cleanups: Vec<u8>,
    /// Whether a cleanup may crash and another begin in its place.
    pub cleanups_crash: bool,
    /// Whether listing takes time: of the versions, 1 and 0 are listed last, after what may have been built on them; of
    /// the leases, the first ones of the jobs are listed last, after those that they may have been changed for.
    pub listing_takes_time: bool,
    /// The versions and checkpoints that may be removed.
    pub may_be_removed: Bits,
    /// The leases that may be revoked, at any moment.
    pub may_be_revoked: Bits,
    /// How often the rare things may happen.
    pub rare: Left,
    /// The most records of the log.
    pub records_max: u8,
}

/// Adds an object with `slots` as the first generation of a pack of its own; its number is that of the pack.
pub fn with_pack(mut store: Store, slots: &[u8]) -> Store {
    let number = (Bits::below(8) - store.packs_named).first().unwrap_or(0);
    store.packs[usize::from(number) % OBJECTS] = new_pack(number, slots);
    store.packs_named.add(number);
    store.packs_there.add(number);
    store
}

/// Returns the first generation of the pack of that number.
pub fn new_pack(number: u8, slots: &[u8]) -> PackObject {
    PackObject { pack: number, slots: Bits::of(slots), ..PackObject::default() }
}

/// Adds a version that `lease` published.
pub fn with_version(mut store: Store, version: u8, slots: &[u8], lease: u8) -> Store {
    store.versions[usize::from(version)] = Manifest { slots: Bits::of(slots), lease };
    store.versions_there.add(version);
    store
}

/// Adds a record, whose author had read all before it while nobody held a lease.
pub fn with_record(mut store: Store, slots: &[u8]) -> Store {
    let read = store.log();
    store.put_record(Record { slots: Bits::of(slots), read, ..Record::default() }, None);
    store
}
