//! A cleanup up to its record: the steps of the protocol in their order, each one operation of the store.
//!
//! ```text
//!  1 list and read the log    2 list leases    3 list versions, read manifests    4 list packs, put a record
//!  6 and 7: in sweep.rs
//! ```
//!
//! Versions are listed and read in two steps. Reading each alone would not show more: a manifest never changes, so all
//! that reading can find out is that one is gone. No leader is chosen: all cleanups work at once, which is the worst
//! case. Nothing is left out of the record for thrift.

use super::store::{PackObject, Record, Store};
use super::sweep;
use super::trap::Trap;
use crate::bits::Bits;

/// How far a cleanup is: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum CleanerAt {
    /// 1: list and read the log.
    #[default]
    ReadLog,
    /// 2: list the leases.
    ListLeases,
    /// 2: list the first leases last, when that takes time.
    ListFirstLeases,
    /// 3: list the versions.
    ListVersions,
    /// 3: go on listing, when that takes time.
    ListVersionOne,
    /// 3: list the rest of them.
    ListVersionZero,
    /// 3: list log and leases again, to see that nothing moved meanwhile.
    LookAgain,
    /// 3: read them.
    ReadVersions,
    /// 4: list the packs.
    ListPacks,
    /// 4: put the record.
    PutRecord,
    /// 6 and 7: delete, or begin to rewrite.
    Delete,
    /// 7: put the next generation of a pack.
    PutPack,
    /// 7: verify it.
    VerifyPack,
    /// 7: delete the generations that it replaces.
    DeleteOlder,
}

/// What a cleanup remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cleaner {
    /// How far it is.
    pub at: CleanerAt,
    /// How many runs are left to it, this one among them.
    pub runs_left: u8,
    /// The records that it has read.
    pub read: Bits,
    /// The leases that it has listed.
    pub held: Bits,
    /// The log as it was listed last before the versions were; only where listing takes time.
    pub log_before: Bits,
    /// The held leases as they were listed last before the versions were; only where listing takes time.
    pub held_before: Bits,
    /// Whether some record is not ripe.
    pub is_something_unripe: bool,
    /// The slots condemned in ripe records; after the mark, less what is needed: the sweep list.
    pub sweep: Bits,
    /// The versions condemned in ripe records; after the mark, those of them that were listed.
    pub doomed: Bits,
    /// The versions that it has listed.
    pub listed: Bits,
    /// Those of them with a tombstone.
    pub removed: Bits,
    /// What it found in its mark, or is about to condemn: slots that are wanted, then slots to condemn.
    pub slots: Bits,
    /// Versions to delete still.
    pub doomed_left: Bits,
    /// Pack objects to look at still.
    pub packs_left: Bits,
    /// Pack objects of the pack that it rewrites.
    pub older: Bits,
    /// The next generation of that pack, and later its name.
    pub rewritten: PackObject,
    /// The name of that.
    pub newer: u8,
}

/// What a cleanup did: the words, a number, a set of numbers.
pub type Did = (&'static str, Option<u8>, Bits);

/// What a cleanup goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The sentence that is left out.
    pub trap: Option<Trap>,
    /// The most records of the log.
    pub records_max: u8,
    /// Whether listing the versions takes time.
    pub listing_takes_time: bool,
}

impl Rules {
    /// Goes one step on. Returns nothing when it has no run left, or the walk no name for a pack.
    ///
    /// `is_faulty`: if this step copies slots, a copy comes out damaged.
    pub fn advance(&self, store: &mut Store, cleaner: &mut Cleaner, is_faulty: bool) -> Option<Did> {
        let trap = self.trap;
        if cleaner.runs_left == 0 {
            return None;
        }
        let did = match cleaner.at {
            CleanerAt::ReadLog => {
                cleaner.read = store.log();
                let leases_come_later = trap == Some(Trap::LeasesAfterMark);
                cleaner.at = if leases_come_later { CleanerAt::ListVersions } else { CleanerAt::ListLeases };
                ("lists and reads the log", None, cleaner.read)
            }
            CleanerAt::ListLeases if self.listing_takes_time => {
                cleaner.held = store.held() - Bits::below(2);
                cleaner.at = CleanerAt::ListFirstLeases;
                ("begins to list the leases", None, cleaner.held)
            }
            CleanerAt::ListLeases | CleanerAt::ListFirstLeases => {
                cleaner.held |= store.held() & if self.listing_takes_time { Bits::below(2) } else { Bits::below(8) };
                find_ripe(trap, store, cleaner);
                cleaner.at = CleanerAt::ListVersions;
                if trap == Some(Trap::LeasesAfterMark) {
                    mark(trap, store, cleaner);
                }
                ("lists the leases", None, cleaner.held)
            }
            CleanerAt::ListVersions | CleanerAt::ListVersionOne | CleanerAt::ListVersionZero | CleanerAt::LookAgain => {
                self.list_versions(store, cleaner)
            }
            CleanerAt::ReadVersions => read_versions(trap, store, cleaner),
            CleanerAt::ListPacks => list_packs(trap, self.records_max, store, cleaner),
            CleanerAt::PutRecord => {
                let record = put_record(trap, store, cleaner);
                sweep::begin(trap, store, cleaner);
                ("puts record", Some(record), store.record(record).slots)
            }
            CleanerAt::Delete => sweep::delete(trap, store, cleaner),
            CleanerAt::PutPack => sweep::put_pack(trap, store, cleaner, is_faulty)?,
            CleanerAt::VerifyPack => sweep::verify_pack(trap, store, cleaner),
            CleanerAt::DeleteOlder => sweep::delete_older(store, cleaner),
        };
        if cleaner.at == CleanerAt::Delete && cleaner.doomed_left.is_empty() && cleaner.packs_left.is_empty() {
            end_run(cleaner);
        }
        Some(did)
    }

    /// Lists the versions. Where that takes time it counts only if no record came and no held lease went meanwhile.
    fn list_versions(&self, store: &Store, cleaner: &mut Cleaner) -> Did {
        if !self.listing_takes_time {
            cleaner.listed = store.versions_there;
            cleaner.removed = store.removed & cleaner.listed;
            cleaner.at = CleanerAt::ReadVersions;
            return ("lists the versions", None, cleaner.listed);
        }
        let at = cleaner.at;
        let mut list = |part: Bits, next: CleanerAt| {
            let found = store.versions_there & part;
            cleaner.listed |= found;
            cleaner.removed |= store.removed & found;
            cleaner.at = next;
            found
        };
        match at {
            CleanerAt::ListVersions => {
                let found = list(Bits::below(8) - Bits::below(2), CleanerAt::ListVersionOne);
                if cleaner.log_before.is_empty() && cleaner.held_before.is_empty() {
                    (cleaner.log_before, cleaner.held_before) = (cleaner.read, cleaner.held);
                }
                ("begins to list the versions", None, found)
            }
            CleanerAt::ListVersionOne => ("goes on listing", None, list(Bits::one(1), CleanerAt::ListVersionZero)),
            CleanerAt::ListVersionZero if self.trap == Some(Trap::ListingIsOneMoment) => {
                ("ends listing", None, list(Bits::one(0), CleanerAt::ReadVersions))
            }
            CleanerAt::ListVersionZero => ("ends listing", None, list(Bits::one(0), CleanerAt::LookAgain)),
            _ => {
                let is_quiet = store.log() == cleaner.log_before && store.held().covers(cleaner.held_before);
                (cleaner.log_before, cleaner.held_before) = (store.log(), store.held());
                cleaner.at = CleanerAt::ReadVersions;
                if !is_quiet {
                    (cleaner.listed, cleaner.removed) = (Bits::NONE, Bits::NONE);
                    cleaner.at = CleanerAt::ListVersions;
                }
                let what =
                    if is_quiet { "sees that nothing moved meanwhile" } else { "sees that something moved meanwhile" };
                (what, None, Bits::NONE)
            }
        }
    }
}

/// Forgets everything, as after a crash, and has one run less.
pub fn end_run(cleaner: &mut Cleaner) {
    *cleaner = Cleaner { runs_left: cleaner.runs_left - 1, ..Cleaner::default() };
}

/// Returns who may not know `record`, as a cleanup finds that has read `read` and then listed the leases `held`.
pub fn waiting(store: &Store, read: Bits, held: Bits, record: u8) -> Bits {
    let readers = read.iter().map(|reader| store.record(reader)).filter(|reader| reader.read.has(record));
    readers.fold(held, |waiting, reader| waiting & reader.held)
}

fn find_ripe(trap: Option<Trap>, store: &Store, cleaner: &mut Cleaner) {
    let mut ripe = Bits::NONE;
    for record in cleaner.read.iter() {
        let waiting = match trap {
            // There, `held` of a record is who had a lease when it was stamped.
            Some(Trap::OlderByClock) => cleaner.held & store.record(record).held,
            _ => waiting(store, cleaner.read, cleaner.held, record),
        };
        if waiting.is_empty() {
            ripe.add(record);
        }
    }
    cleaner.is_something_unripe = ripe != cleaner.read;
    cleaner.sweep = store.condemned_slots(ripe);
    cleaner.doomed = store.condemned_versions(ripe);
}

fn read_versions(trap: Option<Trap>, store: &Store, cleaner: &mut Cleaner) -> Did {
    if !store.versions_there.covers(cleaner.listed) {
        let gone = cleaner.listed - store.versions_there;
        if trap != Some(Trap::GoneManifestIgnored) {
            (cleaner.listed, cleaner.removed) = (Bits::NONE, Bits::NONE);
            cleaner.at = CleanerAt::ListVersions;
            return ("misses a listed manifest", None, gone);
        }
        cleaner.listed -= gone;
    }
    if trap == Some(Trap::LeasesAfterMark) {
        cleaner.at = CleanerAt::ListLeases;
    } else {
        mark(trap, store, cleaner);
    }
    ("reads the manifests", None, cleaner.listed)
}

/// Computes what is doomed, swept and wanted.
fn mark(trap: Option<Trap>, store: &Store, cleaner: &mut Cleaner) {
    cleaner.doomed = match trap {
        Some(Trap::VersionsNotCondemned) => cleaner.removed,
        _ => cleaner.doomed & cleaner.listed,
    };
    let mut counted = cleaner.listed;
    if trap == Some(Trap::MarkSkipsVoid) {
        counted = counted.iter().filter(|version| !store.is_void(*version)).collect::<Bits>();
    }
    cleaner.sweep -= store.slots_of_versions(counted - cleaner.doomed);
    cleaner.slots = store.slots_of_versions(counted - cleaner.removed - store.condemned_versions(cleaner.read));
    (cleaner.log_before, cleaner.held_before) = (Bits::NONE, Bits::NONE);
    cleaner.at = CleanerAt::ListPacks;
}

fn list_packs(trap: Option<Trap>, records_max: u8, store: &Store, cleaner: &mut Cleaner) -> Did {
    let wanted = cleaner.slots;
    cleaner.packs_left = store.packs_there;
    cleaner.slots = store.slots_there() - wanted - store.condemned_slots(cleaner.read);
    cleaner.removed -= store.condemned_versions(cleaner.read);
    let mut freed = Bits::NONE;
    match trap {
        Some(Trap::OlderByClock) => cleaner.held = store.held(),
        Some(Trap::Uncondemning) => freed = wanted & store.condemned_slots(cleaner.read),
        Some(Trap::VersionsNotCondemned) => cleaner.removed = Bits::NONE,
        _ => {}
    }
    let is_news = !cleaner.slots.is_empty() || !cleaner.removed.is_empty() || !freed.is_empty();
    if (is_news || cleaner.is_something_unripe) && store.record_count < records_max {
        cleaner.rewritten.slots = freed;
        cleaner.at = CleanerAt::PutRecord;
    } else {
        sweep::begin(trap, store, cleaner);
    }
    ("lists the packs", None, store.slots_there())
}

fn put_record(trap: Option<Trap>, store: &mut Store, cleaner: &Cleaner) -> u8 {
    let record = Record {
        slots: cleaner.slots,
        versions: cleaner.removed,
        read: cleaner.read,
        held: cleaner.held,
        freed: cleaner.rewritten.slots,
    };
    store.put_record(record, trap)
}
