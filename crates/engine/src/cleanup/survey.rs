//! Looks at every pack: what of it is to be condemned, what may be swept. Changes nothing.

use std::collections::BTreeSet;

use backy_core::ids::{LeaseId, PackId, SlotNumber};
use backy_core::names::{self, PackName};
use backy_core::policy::gc::{PackFacts, judge};
use backy_core::slots::{SlotSet, SlotSets};
use backy_core::{Result, ResultExt};
use backy_store::ObjectInfo;

use super::CleanupReport;
use super::mark::Marked;
use super::pass::Pass;
use crate::repository::damage::Damage;
use crate::repository::packs::is_about_content;

/// What the records of the log have condemned.
#[derive(Default)]
pub(super) struct Log {
    /// Any of them.
    pub condemned: SlotSets,
    /// Those that are ripe.
    pub ripe: SlotSets,
}

/// What was found.
#[derive(Default)]
pub(super) struct Survey {
    /// Slots to condemn.
    pub condemn: SlotSets,
    /// Packs to be deleted or written anew.
    pub work: Vec<Work>,
}

/// A pack to be deleted or written anew.
pub(super) struct Work {
    pub pack: PackId,
    /// Its generations, as listed, with their sizes in bytes.
    pub generations: Vec<(PackName, u64)>,
    /// Slots that may go.
    pub sweep: Option<SlotSet>,
    /// How many slots the pack ever had, if that had to be found out.
    pub slot_count: Option<usize>,
}

impl Work {
    /// Returns how many bytes all generations have.
    pub(super) fn bytes(&self) -> u64 {
        self.generations.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Looks at all packs, in the order of their ids.
pub(super) fn survey(
    pass: &Pass<'_>,
    log: &Log,
    marked: &Marked,
    held: &BTreeSet<LeaseId>,
    damage: &Damage,
    report: &mut CleanupReport,
) -> Result<Survey> {
    let mut surveyor = Surveyor { pass, log, marked, held, report, found: Survey::default() };
    (surveyor.report.pack_count, surveyor.report.waiting_bytes, surveyor.report.unused_bytes) = (0, 0, 0);
    let mut pack_bytes = 0;
    let mut group: Vec<(PackName, u64)> = Vec::new();
    let mut visit = |object: ObjectInfo| -> Result<()> {
        // What is not ours is passed over.
        let Ok(name) = PackName::parse(&object.name) else { return Ok(()) };
        pack_bytes += object.size_bytes;
        if group.first().is_some_and(|(first, _)| first.id != name.id) {
            surveyor.look_at(std::mem::take(&mut group))?;
        }
        group.push((name, object.size_bytes));
        Ok(())
    };
    pass.repository.store().list(names::PACKS, &mut visit).context(|| "list the packs")?;
    surveyor.look_at(group)?;
    surveyor.condemn_damaged(damage);
    if surveyor.report.pack_bytes == 0 {
        surveyor.report.pack_bytes = pack_bytes;
    }
    Ok(surveyor.found)
}

struct Surveyor<'a, 'b> {
    pass: &'a Pass<'b>,
    log: &'a Log,
    marked: &'a Marked,
    held: &'a BTreeSet<LeaseId>,
    report: &'a mut CleanupReport,
    found: Survey,
}

impl Surveyor<'_, '_> {
    fn look_at(&mut self, generations: Vec<(PackName, u64)>) -> Result<()> {
        let Some((first, _)) = generations.first() else { return Ok(()) };
        self.pass.cancel.check()?;
        self.report.pack_count += 1;
        let pack = first.id;
        let bytes: u64 = generations.iter().map(|(_, bytes)| bytes).sum();
        let needed = self.marked.needed(pack);
        let slot_count = match self.slot_count(pack, &generations, needed.is_some()) {
            Ok(slot_count) => slot_count,
            Err(error) if is_about_content(&error) => {
                self.report.skipped_packs.push((pack, error.to_string()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let present = slot_count.and_then(SlotSet::below).unwrap_or(SlotSet::whole());
        let verdict = judge(PackFacts {
            present: &present,
            wanted: self.marked.wanted.slots.get(pack),
            needed: needed.as_ref(),
            condemned: self.log.condemned.get(pack),
            ripe: self.log.ripe.get(pack),
        });
        if let Some(condemn) = &verdict.condemn
            && !self.is_in_the_making(&generations)
        {
            self.found.condemn.add(pack, condemn);
        }
        self.count_waste(pack, &present, verdict.sweep.as_ref(), bytes);
        if verdict.sweep.is_some() || generations.len() > 1 {
            self.found.work.push(Work { pack, generations, sweep: verdict.sweep, slot_count });
        }
        Ok(())
    }

    /// Condemns damaged slots that nobody wants, also of packs that are lost or cannot be read: what is known of the damage
    /// goes one day, and a catalog that has never heard of it must not offer them then.
    fn condemn_damaged(&mut self, damage: &Damage) {
        for (&pack, slots) in damage.slots() {
            let sets = [self.marked.wanted.slots.get(pack), self.log.condemned.get(pack), self.found.condemn.get(pack)];
            let is_in_one = |slot: &SlotNumber| sets.iter().flatten().any(|set| set.contains(*slot));
            let condemn: Option<SlotSet> = slots.iter().copied().filter(|slot| !is_in_one(slot)).collect();
            if let Some(condemn) = condemn {
                self.found.condemn.add(pack, &condemn);
            }
        }
    }

    /// Returns how many slots the pack ever had; none where it does not matter, because nobody needs any of them, and all
    /// that a pack can have are condemned together.
    fn slot_count(&self, pack: PackId, generations: &[(PackName, u64)], is_needed: bool) -> Result<Option<usize>> {
        if is_needed {
            // A wrong number in the catalog could do no harm here: what is needed is not deleted.
            let known = self.pass.repository.catalog().pack(pack).unwrap_or_default();
            if let Some(fact) = known.filter(|fact| generations.iter().any(|(name, _)| *name == fact.name)) {
                return Ok(usize::try_from(fact.slot_count).ok());
            }
            return self.pass.repository.directory(pack).map(|directory| Some(directory.slot_count()));
        }
        if self.log.condemned.get(pack).is_none_or(SlotSet::is_whole) {
            return Ok(None);
        }
        match self.pass.repository.directory(pack) {
            // Nobody needs it: then it may go whatever it was, once all of it is condemned.
            Err(error) if is_about_content(&error) => Ok(None),
            directory => directory.map(|directory| Some(directory.slot_count())),
        }
    }

    /// Packs of jobs at work are left out for thrift: most of them will be needed.
    fn is_in_the_making(&self, generations: &[(PackName, u64)]) -> bool {
        generations.iter().any(|(name, _)| name.generation.0 == 0 && self.held.contains(&name.lease))
    }

    fn count_waste(&mut self, pack: PackId, present: &SlotSet, sweep: Option<&SlotSet>, bytes: u64) {
        let wanted = self.marked.wanted.slots.get(pack);
        let idle = wanted.map_or_else(|| Some(present.clone()), |wanted| present.minus(wanted));
        let Some(idle) = idle else { return };
        let waiting = sweep.map_or_else(|| Some(idle.clone()), |sweep| idle.minus(sweep));
        let share = |slots: Option<SlotSet>| {
            let count = slots.map_or(0, |slots| slots.count()) as u64;
            u64::try_from(u128::from(bytes) * u128::from(count) / (present.count() as u128).max(1)).unwrap_or(u64::MAX)
        };
        self.report.waiting_bytes += share(waiting);
        if wanted.is_some() {
            self.report.unused_bytes += share(sweep.cloned());
        }
    }
}
