//! One pass of a cleanup: steps 1 to 7 of the protocol, in their order.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::cancel::Cancel;
use backy_core::ids::{LeaseId, VersionUid};
use backy_core::names::GcName;
use backy_core::policy::gc::{condemned_versions, ripe};
use backy_core::records::gc::{GcHead, GcRecord};
use backy_core::slots::SlotSets;
use backy_core::{Error, Result};
use tracing::info;

use super::mark::{Look, Marked, Standing, mark, void_versions};
use super::survey::{Log, Survey, survey};
use super::tidy::drop_settled_damage;
use super::{CleanupReport, CleanupRequest, doomed, sweep};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::leases::{Lease, LeaseEntry};
use crate::repository::taken::RecheckOutcome;
use crate::repository::version_objects::VersionObjects;

/// What a pass works with.
pub(super) struct Pass<'a> {
    pub repository: &'a Repository,
    pub lease: &'a Lease,
    pub request: &'a CleanupRequest,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
    /// Says whether the time is over.
    pub is_over: &'a dyn Fn() -> bool,
}

/// What comes after a pass.
pub(super) enum After {
    /// Another pass will find more to do; it need not read again what this one has read.
    Again(Box<Marked>),
    /// That was all for now.
    Done,
}

/// What the log and the leases say: steps 1 and 2.
struct Facts {
    log: BTreeMap<GcName, GcHead>,
    ripe: BTreeSet<GcName>,
    /// Records that condemn something, are not ripe, and that no other one has read: they wait for word of who is there.
    unread: BTreeSet<GcName>,
    slots: Log,
    held: Vec<LeaseEntry>,
}

impl Pass<'_> {
    /// Does one pass. `undeletable` are doomed versions that the store refuses to delete for now.
    pub(super) fn run(
        &self,
        before: Marked,
        undeletable: &mut BTreeSet<VersionUid>,
        report: &mut CleanupReport,
    ) -> Result<After> {
        let facts = self.facts(report)?;
        report.waiting_for = facts.held.iter().map(LeaseEntry::described).collect();
        let condemned = condemned_versions(facts.log.values());
        let ripe_heads = facts.log.iter().filter(|(name, _)| facts.ripe.contains(name)).map(|(_, head)| head);
        let doomed: BTreeSet<VersionUid> = &condemned_versions(ripe_heads) - undeletable;

        let standing = Standing { condemned: &condemned, doomed: &doomed };
        let held: BTreeSet<LeaseId> = facts.held.iter().map(|entry| entry.id).collect();
        let look = Look::new(facts.log.keys().copied().collect(), held.clone());
        let mut marked = mark(self.repository, &standing, look, before, self.cancel)?;
        report.version_count = marked.versions.values().filter(|objects| !objects.is_removed).count() as u64;
        // What a ripe record condemns needs nothing, also where the store does not let it go.
        marked.unreadable.retain(|uid, _| !undeletable.contains(uid));
        if !marked.unreadable.is_empty() {
            return self.condemn_unreadable(&facts, &condemned, marked);
        }
        if !self.request.is_dry_run {
            self.recheck(&marked, report)?;
            self.remove_continued(&marked)?;
        }

        // Thrift: those that have come since are spared too.
        let now = self.repository.held_leases()?.into_iter().map(|entry| entry.id);
        let spared: BTreeSet<LeaseId> = held.iter().copied().chain(now).collect();
        let damage = self.repository.damage()?;
        let found = survey(self, &facts.slots, &marked, &spared, &damage, report)?;
        if self.request.is_dry_run {
            return Ok(After::Done);
        }
        let has_news = self.put_record(&facts, &condemned, &marked, &found)?;

        let refused = doomed::delete(self.repository, &doomed, &marked, report, self.cancel)?;
        if !refused.is_empty() {
            // What the store does not delete can still be read, so what it needs must stay: mark again with it.
            undeletable.extend(refused);
            return Ok(After::Again(Box::new(marked)));
        }
        let mut is_swept = sweep::run(self, found.work, &marked, report)?;
        is_swept &= !report.is_unfinished;
        drop_settled_damage(self.repository, &damage, &facts.slots.ripe, &marked, report, self.cancel)?;
        // With nobody at work all that was condemned is ripe at once.
        let again = has_news && is_swept && held.is_empty();
        Ok(if again { After::Again(Box::new(marked)) } else { After::Done })
    }

    /// Steps 1 and 2: overdue leases go first; then the log is read, and only then are the leases listed.
    fn facts(&self, report: &mut CleanupReport) -> Result<Facts> {
        if !self.request.is_dry_run {
            let revoked = self.repository.revoke_overdue(self.lease)?;
            report.revoked.extend(revoked.iter().map(LeaseEntry::described));
        }
        let records = self.repository.read_gc_log()?;
        let held: Vec<LeaseEntry> = self.repository.held_leases()?.into_iter().filter(LeaseEntry::counts).collect();
        let leases: BTreeSet<LeaseId> = held.iter().map(|entry| entry.id).collect();
        let mut log = BTreeMap::new();
        let mut slots = Vec::new();
        for (name, record) in records {
            log.insert(name, record.head);
            slots.push((name, record.condemned));
        }
        let ripe = ripe(&log, &leases);
        let is_read = |name: &GcName| log.values().any(|head| head.read.contains(name));
        let condemns = |name: &GcName, condemned: &SlotSets| {
            !condemned.is_empty() || log.get(name).is_some_and(|head| !head.versions.is_empty())
        };
        let is_unread = |(name, condemned): &&(GcName, SlotSets)| {
            condemns(name, condemned) && !ripe.contains(name) && !is_read(name)
        };
        let unread: BTreeSet<GcName> = slots.iter().filter(is_unread).map(|(name, _)| *name).collect();
        let mut sets = Log::default();
        for (name, condemned) in slots {
            sets.condemned.add_all(&condemned);
            if ripe.contains(&name) {
                sets.ripe.add_all(&condemned);
            }
        }
        Ok(Facts { log, ripe, unread, slots: sets, held })
    }

    /// Void versions that pass a recheck count from now on.
    fn recheck(&self, marked: &Marked, report: &mut CleanupReport) -> Result<()> {
        for uid in &void_versions(self.repository, &marked.versions, &marked.manifests)? {
            let Some(manifest) = marked.manifests.get(uid) else { continue };
            if report.passed_rechecks.contains(uid) {
                continue;
            }
            self.cancel.check()?;
            match self.repository.recheck(*uid, manifest, self.lease.id())? {
                RecheckOutcome::Passed => report.passed_rechecks.insert(*uid),
                RecheckOutcome::Failed => report.failed_rechecks.insert(*uid),
            };
        }
        Ok(())
    }

    /// Removes incomplete versions that a complete one has gone on from, where its job ended before it could.
    fn remove_continued(&self, marked: &Marked) -> Result<()> {
        for uid in marked.manifests.values().flat_map(|manifest| &manifest.continues) {
            let is_left = |objects: &VersionObjects| !objects.has_manifest && !objects.is_removed;
            if marked.versions.get(uid).is_some_and(is_left) {
                self.repository.remove_incomplete(*uid, self.lease.id())?;
            }
        }
        Ok(())
    }

    /// Step 4: puts a record if there is something to condemn, or if one that is not ripe waits for word of who is there.
    fn put_record(
        &self,
        facts: &Facts,
        condemned: &BTreeSet<VersionUid>,
        marked: &Marked,
        found: &Survey,
    ) -> Result<bool> {
        let versions: BTreeSet<VersionUid> = removed(marked).difference(condemned).copied().collect();
        let has_news = !found.condemn.is_empty() || !versions.is_empty();
        let is_waiting = !facts.unread.is_empty();
        if has_news || is_waiting {
            self.append(facts, versions, found.condemn.clone())?;
        }
        Ok(has_news)
    }

    /// Versions that were removed and cannot be read are condemned, so that they need nothing once nobody can rely on them.
    /// Until then nothing is deleted: what they need is not known.
    fn condemn_unreadable(&self, facts: &Facts, condemned: &BTreeSet<VersionUid>, marked: Marked) -> Result<After> {
        let new: BTreeSet<VersionUid> = removed(&marked).difference(condemned).copied().collect();
        let is_waiting = !facts.unread.is_empty();
        let (uid, error) = match marked.unreadable.iter().next() {
            Some((uid, error)) => (uid, error.to_string()),
            None => return Ok(After::Done),
        };
        if self.request.is_dry_run || (new.is_empty() && !is_waiting) || !facts.held.is_empty() {
            if !self.request.is_dry_run && (!new.is_empty() || is_waiting) {
                self.append(facts, new, SlotSets::default())?;
            }
            return Err(Error::damaged(format!(
                "removed version {uid} cannot be read, so nothing is deleted before all jobs at work have ended: {error}"
            )));
        }
        info!("removed version {uid} cannot be read and is given up: {error}");
        self.append(facts, new, SlotSets::default())?;
        Ok(After::Again(Box::new(marked)))
    }

    fn append(&self, facts: &Facts, versions: BTreeSet<VersionUid>, condemned: SlotSets) -> Result<()> {
        let head = GcHead {
            read: facts.log.keys().copied().collect(),
            replaced: BTreeSet::new(),
            held: facts.held.iter().map(|entry| entry.id).collect(),
            versions,
        };
        let highest = facts.log.keys().next_back().map_or(0, |name| name.number);
        let full = || Error::damaged("the GC log has no number left");
        for (number, record) in (1u32..).zip(GcRecord { head, condemned }.split()) {
            let number = highest.checked_add(number).ok_or_else(full)?;
            self.repository.put_gc_record(GcName { number, author: self.lease.id() }, &record)?;
        }
        Ok(())
    }
}

fn removed(marked: &Marked) -> BTreeSet<VersionUid> {
    marked.versions.iter().filter(|(_, objects)| objects.is_removed).map(|(uid, _)| *uid).collect()
}
