//! A cleanup after its record: manifests first, then packs.
//!
//! ```text
//!  6 delete the doomed manifests
//!  7 delete packs that lie wholly on the sweep list; others: read, put the next generation, verify, delete the older
//! ```
//!
//! An object is deleted by its name; one that is gone already does not matter.

use super::cleaner::{Cleaner, CleanerAt, Did};
use super::store::{PackObject, Store};
use super::trap::Trap;
use crate::bits::Bits;

/// Keeps of the packs those with something to delete, or in more than one generation, and forgets what is not needed
/// any more.
pub fn begin(trap: Option<Trap>, store: &Store, cleaner: &mut Cleaner) {
    let listed = cleaner.packs_left;
    let is_work = |object: &u8| {
        let pack = store.pack(*object);
        let has_brothers = listed.iter().any(|other| other != *object && store.pack(other).pack == pack.pack);
        store.pack(*object).slots.meets(cleaner.sweep) || has_brothers
    };
    let work = listed.iter().filter(is_work).collect::<Bits>();
    *cleaner = Cleaner {
        at: CleanerAt::Delete,
        runs_left: cleaner.runs_left,
        sweep: cleaner.sweep,
        doomed: cleaner.doomed,
        listed: cleaner.listed,
        doomed_left: cleaner.doomed,
        packs_left: work,
        slots: if trap == Some(Trap::RewriteTheLive) { store.slots_of_versions(cleaner.listed) } else { Bits::NONE },
        ..Cleaner::default()
    };
}

/// Deletes one doomed manifest, or else one pack, or else reads a pack to rewrite it.
pub fn delete(trap: Option<Trap>, store: &mut Store, cleaner: &mut Cleaner) -> Did {
    let waits = trap == Some(Trap::SlotsBeforeManifests) && !cleaner.packs_left.is_empty();
    if let Some(version) = cleaner.doomed_left.first().filter(|_| !waits) {
        cleaner.doomed_left.remove(version);
        store.versions_there.remove(version);
        store.versions_deleted.add(version);
        if trap == Some(Trap::TombstoneTidied) {
            store.removed.remove(version);
        }
        return ("deletes the manifest of version", Some(version), Bits::NONE);
    }
    let whole = cleaner.packs_left.iter().find(|object| cleaner.sweep.covers(store.pack(*object).slots));
    if let Some(object) = whole {
        cleaner.packs_left.remove(object);
        store.packs_there.remove(object);
        return ("deletes pack", Some(object), store.pack(object).slots);
    }
    let Some(first) = cleaner.packs_left.first() else { return ("finds nothing to delete", None, Bits::NONE) };
    let number = store.pack(first).pack;
    let brothers = cleaner.packs_left.iter().filter(|object| store.pack(*object).pack == number);
    let older = brothers.collect::<Bits>();
    cleaner.packs_left -= older;
    read_pack(trap, store, cleaner, number, older);
    ("reads pack", Some(first), store.slots_of_packs(older & store.packs_there))
}

/// Decides what the next generation of a pack holds; a pack with a damaged slot, or one that changes meanwhile, is
/// left.
fn read_pack(trap: Option<Trap>, store: &Store, cleaner: &mut Cleaner, number: u8, older: Bits) {
    let kept = match trap {
        Some(Trap::RewriteTheLive) => store.slots_of_packs(older) & cleaner.slots,
        _ => store.slots_of_packs(older) - cleaner.sweep,
    };
    let sound =
        older.iter().fold(Bits::NONE, |all, object| all | (store.pack(object).slots - store.pack(object).damaged));
    if !store.packs_there.covers(older)
        || !sound.covers(kept)
        || (older.len() == 1 && store.slots_of_packs(older) == kept)
    {
        return;
    }
    let generation = older.iter().map(|object| store.pack(object).generation).max().unwrap_or(0) + 1;
    cleaner.rewritten = PackObject { pack: number, generation, slots: kept, damaged: Bits::NONE };
    cleaner.older = older;
    cleaner.at = CleanerAt::PutPack;
}

/// Puts the next generation. Returns nothing when the walk has no name left.
pub fn put_pack(trap: Option<Trap>, store: &mut Store, cleaner: &mut Cleaner, is_faulty: bool) -> Option<Did> {
    let mut pack = cleaner.rewritten;
    if is_faulty {
        pack.damaged |= pack.slots;
    }
    let name = store.put_generation(pack, trap)?;
    cleaner.newer = name;
    cleaner.at = CleanerAt::VerifyPack;
    let what = if is_faulty { "puts a damaged next generation" } else { "puts the next generation" };
    Some((what, Some(name), pack.slots))
}

/// Reads the next generation back. One that is not as it should be is left lying, and the older ones stay.
pub fn verify_pack(trap: Option<Trap>, store: &Store, cleaner: &mut Cleaner) -> Did {
    let pack = store.pack(cleaner.newer);
    let is_whole = store.packs_there.has(cleaner.newer) && pack.slots == cleaner.rewritten.slots;
    let is_good = is_whole && pack.damaged.is_empty();
    let did = (if is_good { "verifies" } else { "finds damage in" }, Some(cleaner.newer), pack.slots);
    if is_good || trap == Some(Trap::NotVerified) {
        cleaner.at = CleanerAt::DeleteOlder;
    } else {
        cleaner.at = CleanerAt::Delete;
        forget_rewriting(cleaner);
    }
    did
}

/// Deletes one of the generations that were read.
pub fn delete_older(store: &mut Store, cleaner: &mut Cleaner) -> Did {
    let older = cleaner.older.first();
    for older in older.iter() {
        store.packs_there.remove(*older);
        cleaner.older.remove(*older);
    }
    if cleaner.older.is_empty() {
        cleaner.at = CleanerAt::Delete;
        forget_rewriting(cleaner);
    }
    ("deletes the older generation", older, older.map_or(Bits::NONE, |older| store.pack(older).slots))
}

fn forget_rewriting(cleaner: &mut Cleaner) {
    (cleaner.older, cleaner.rewritten, cleaner.newer) = (Bits::NONE, PackObject::default(), 0);
}
