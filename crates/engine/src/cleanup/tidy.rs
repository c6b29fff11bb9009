//! Small things that would pile up: index records of packs that are gone, damage of packs that are gone, leftovers of
//! killed puts, and the GC log itself.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::cancel::Cancel;
use backy_core::environment::Timestamp;
use backy_core::ids::{LeaseId, PackId, SlotNumber};
use backy_core::keys::RecordKind;
use backy_core::names::{self, GcName, ObjectName, PackName};
use backy_core::policy::gc::ripe;
use backy_core::records::damage::DamageRecord;
use backy_core::records::gc::{GcHead, GcRecord};
use backy_core::records::index;
use backy_core::slots::{SlotSet, SlotSets};
use backy_core::{Error, Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::CleanupReport;
use super::deletion::delete_all;
use super::mark::Marked;
use crate::repository::Repository;
use crate::repository::damage::Damage;
use crate::repository::leases::{Lease, LeaseEntry};
use crate::repository::packs::is_about_content;

/// With more records than this, those that have had their effect are put together into one.
const GC_RECORDS_MAX: usize = 32;
/// Temporary files of the store are left over when they are older than a day.
const LEFTOVER_MILLISECONDS: u64 = 86_400_000;

/// Tidies up.
pub(super) fn run(repository: &Repository, lease: &Lease, report: &mut CleanupReport, cancel: &Cancel) -> Result<()> {
    let mut superfluous = Vec::new();
    if !report.deleted_packs.is_empty() {
        let packs = packs_that_are_left(repository)?;
        superfluous.extend(index_records(repository, &packs, cancel)?);
    }
    drop_leftovers(repository);
    superfluous.extend(repository.revoked_leases_left()?);
    if !report.is_unfinished {
        superfluous.extend(shorten_log(repository, lease)?);
    }
    delete_all(repository, &superfluous, report, cancel)?;
    Ok(())
}

/// The records are listed after the packs of their jobs were put: so of what is listed here nothing is missing in `packs`
/// that any record read below could name, unless it was deleted.
fn packs_that_are_left(repository: &Repository) -> Result<BTreeSet<PackId>> {
    let mut packs = BTreeSet::new();
    repository.store().list(names::PACKS, &mut |object| {
        if let Ok(name) = PackName::parse(&object.name) {
            packs.insert(name.id);
        }
        Ok(())
    })?;
    Ok(packs)
}

/// Returns the index records of which no pack is left. One too many costs deduplication, so records that are newer than the
/// list of packs may be among them.
fn index_records(repository: &Repository, packs: &BTreeSet<PackId>, cancel: &Cancel) -> Result<Vec<ObjectName>> {
    let mut records = Vec::new();
    for object in list_all(repository.store(), names::INDEX).context(|| "list the index records")? {
        cancel.check()?;
        let body = match repository.read_record_body(RecordKind::Index, &object.name) {
            Err(error) if is_about_content(&error) => continue,
            body => body?,
        };
        let Ok(indexed) = index::decode(&body) else { continue };
        if !indexed.iter().any(|pack| packs.contains(&pack.name.id)) {
            records.push(object.name);
        }
    }
    Ok(records)
}

/// Drops the records of damage that is of no account any more: all that they name may be deleted. So nobody needs it or may
/// come to, and no catalog offers it, as it is condemned; the record of what is only not needed must stay.
pub(super) fn drop_settled_damage(
    repository: &Repository,
    damage: &Damage,
    ripe: &SlotSets,
    marked: &Marked,
    report: &mut CleanupReport,
    cancel: &Cancel,
) -> Result<()> {
    let is_settled = |record: &DamageRecord| {
        let (ripe, needed) = (ripe.get(record.pack), marked.needed(record.pack));
        let is_in = |set: Option<&SlotSet>, slot: SlotNumber| set.is_some_and(|set| set.contains(slot));
        record.slots.iter().all(|&slot| is_in(ripe, slot) && !is_in(needed.as_ref(), slot))
    };
    let records = damage.records().iter().filter(|(_, record)| is_settled(record));
    let settled: Vec<ObjectName> = records.map(|(name, _)| name.clone()).collect();
    delete_all(repository, &settled, report, cancel).map(drop)
}

fn drop_leftovers(repository: &Repository) {
    let now = repository.environment().clock.now();
    let before = Timestamp { milliseconds: now.milliseconds.saturating_sub(LEFTOVER_MILLISECONDS) };
    if let Err(error) = repository.store().remove_stale_temporaries(before) {
        warn!("temporary files of killed jobs stay behind: {error}");
    }
}

/// Keeps the log short, in two steps: one cleanup puts records that are ripe together into a new one, a later one deletes
/// them when the new one is ripe too. So whoever lists the log meanwhile finds one or the other, though a listing is not
/// one moment. Nothing that was condemned is ever forgotten. Returns the records that may go.
fn shorten_log(repository: &Repository, lease: &Lease) -> Result<Vec<ObjectName>> {
    let records = repository.read_gc_log()?;
    let held: BTreeSet<LeaseId> =
        repository.held_leases()?.into_iter().filter(LeaseEntry::counts).map(|entry| entry.id).collect();
    let heads: BTreeMap<GcName, GcHead> = records.iter().map(|(name, record)| (*name, record.head.clone())).collect();
    let ripe = ripe(&heads, &held);
    let replaced: BTreeSet<GcName> = heads.values().flat_map(|head| head.replaced.iter().copied()).collect();
    let mut kept = GcRecord::default();
    for record in records.iter().filter(|(name, _)| ripe.contains(name) && !replaced.contains(name)).map(|(_, r)| r) {
        kept.condemned.add_all(&record.condemned);
        kept.head.versions.extend(&record.head.versions);
    }
    // What is not covered, because a cleanup ended between two parts of a record, is put together again.
    let mut merged = ripe.clone();
    let mut superfluous = Vec::new();
    for (name, old) in records.iter().filter(|(name, _)| replaced.contains(name)) {
        let is_kept = |(pack, slots)| kept.condemned.get(pack).is_some_and(|kept: &SlotSet| kept.covers(slots));
        if old.condemned.iter().all(is_kept) && old.head.versions.is_subset(&kept.head.versions) {
            superfluous.push(name.object_name());
            merged.remove(name);
        }
    }
    if merged.len() <= GC_RECORDS_MAX {
        return Ok(superfluous);
    }
    let mut head = GcHead { read: records.keys().copied().collect(), held, ..GcHead::default() };
    let mut condemned = SlotSets::default();
    for (name, record) in records.iter().filter(|(name, _)| merged.contains(name)) {
        head.replaced.insert(*name);
        head.replaced.extend(&record.head.replaced);
        head.versions.extend(&record.head.versions);
        condemned.add_all(&record.condemned);
    }
    let highest = records.keys().next_back().map_or(0, |name| name.number);
    let full = || Error::damaged("the GC log has no number left");
    for (number, record) in (1u32..).zip(GcRecord { head, condemned }.split()) {
        let number = highest.checked_add(number).ok_or_else(full)?;
        repository.put_gc_record(GcName { number, author: lease.id() }, &record)?;
    }
    Ok(superfluous)
}
