//! The GC log, followed by every job: what was condemned, by whichever host.
//!
//! A job lists the whole log after it has put its lease, and reads by name what it has not read before: numbers may come
//! late, names do not lie. The catalog takes condemned slots into its permanent filter, and keeps of each record the head;
//! so a job reads each record once a host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use backy_core::ids::VersionUid;
use backy_core::keys::RecordKind;
use backy_core::names::{self, GcName};
use backy_core::records::gc::{GcHead, GcRecord};
use backy_core::slots::SlotSets;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::Repository;
use super::packs::is_about_content;
use super::records::if_found;
use crate::parallel;

/// How often the log is listed again because a record of it was replaced while it was read.
const ATTEMPTS_MAX: usize = 16;

/// What this process has read of the log.
#[derive(Clone, Default)]
pub(crate) struct GcKnowledge {
    heads: BTreeMap<GcName, GcHead>,
    is_loaded: bool,
}

impl Repository {
    /// Lists the log, reads what is new, and tells the catalog.
    ///
    /// # Errors
    /// `Damaged` if a record cannot be read, or if the store has lost one that this host has seen: then the catalog is made
    /// anew when the repository is opened the next time.
    pub(crate) fn follow_gc_log(&self) -> Result<()> {
        let mut knowledge = self.gc_knowledge();
        self.load_heads(&mut knowledge);
        for _ in 0..ATTEMPTS_MAX {
            let listed = self.list_gc_log()?;
            let new: Vec<GcName> = listed.iter().copied().filter(|name| !knowledge.heads.contains_key(name)).collect();
            let mut is_replaced = false;
            // As many at once as reads of the store: a record may be large.
            let threads = self.settings().simultaneous_reads.get();
            for names in new.chunks(threads) {
                let records = parallel::map(threads, names, |name| self.read_gc_record(*name))?;
                for (name, record) in names.iter().zip(records) {
                    match record {
                        Some(record) => self.apply_gc_record(&mut knowledge, *name, record)?,
                        None => is_replaced = true,
                    }
                }
            }
            if !is_replaced {
                return self.refuse_lost_records(&knowledge, &listed);
            }
        }
        Err(Error::new(ErrorKind::Busy, "the GC log is rewritten faster than it can be read"))
    }

    /// Reads the whole log, and again until two lists of it are the same.
    pub(crate) fn read_gc_log_at_rest(&self) -> Result<BTreeMap<GcName, GcRecord>> {
        for _ in 0..ATTEMPTS_MAX {
            let log = self.read_gc_log()?;
            if self.list_gc_log()?.iter().eq(log.keys()) {
                return Ok(log);
            }
        }
        Err(Error::new(ErrorKind::Busy, "the GC log is rewritten faster than it can be read"))
    }

    /// Returns the versions that were condemned, as far as this process has followed the log.
    pub(crate) fn condemned_versions(&self) -> BTreeSet<VersionUid> {
        backy_core::policy::gc::condemned_versions(self.gc_knowledge().heads.values())
    }

    /// Lists and reads the whole log.
    pub(crate) fn read_gc_log(&self) -> Result<BTreeMap<GcName, GcRecord>> {
        'again: for _ in 0..ATTEMPTS_MAX {
            let mut log = BTreeMap::new();
            for name in self.list_gc_log()? {
                let Some(record) = self.read_gc_record(name)? else { continue 'again };
                log.insert(name, record);
            }
            return Ok(log);
        }
        Err(Error::new(ErrorKind::Busy, "the GC log is rewritten faster than it can be read"))
    }

    /// Puts a record under a name of its own; durable when it returns.
    pub(crate) fn put_gc_record(&self, name: GcName, record: &GcRecord) -> Result<()> {
        self.put_record_body(RecordKind::Gc, &name.object_name(), &record.encode()).context(|| "write the GC log")
    }

    /// Lists the names of the log.
    pub(crate) fn list_gc_log(&self) -> Result<BTreeSet<GcName>> {
        let objects = list_all(self.store(), names::GC).context(|| "list the GC log")?;
        Ok(objects.iter().filter_map(|object| GcName::parse(&object.name).ok()).collect())
    }

    /// Reads a record; none if it is gone, because a later one has replaced it.
    fn read_gc_record(&self, name: GcName) -> Result<Option<GcRecord>> {
        let body = if_found(self.read_record_body(RecordKind::Gc, &name.object_name()))?;
        body.map(|body| GcRecord::decode(&body).context(|| format!("read {}", name.object_name()))).transpose()
    }

    fn apply_gc_record(&self, knowledge: &mut GcKnowledge, name: GcName, record: GcRecord) -> Result<()> {
        // The filter first: without it the catalog could offer a condemned slot.
        self.catalog().condemn(&record.condemned).context(|| "tell the catalog of condemned slots")?;
        let head = GcRecord { head: record.head, condemned: SlotSets::default() };
        let object_name = name.object_name();
        let object = self.keys().seal_record(RecordKind::Gc, &object_name, &head.encode(), self.environment())?;
        if let Err(error) = self.catalog().remember_object(&object_name, &object) {
            warn!("the catalog did not take {object_name}: {error}");
        }
        knowledge.heads.insert(name, head.head);
        Ok(())
    }

    /// Takes the heads of the records that the catalog has applied.
    fn load_heads(&self, knowledge: &mut GcKnowledge) {
        if knowledge.is_loaded {
            return;
        }
        for object_name in self.catalog().object_names(names::GC).unwrap_or_default() {
            let head = GcName::parse(&object_name).and_then(|name| {
                let object = self.catalog().object(&object_name)?.unwrap_or_default();
                let body = self.keys().open_record(RecordKind::Gc, &object_name, &object)?;
                Ok((name, GcRecord::decode(&body)?.head))
            });
            // One that cannot be read is read from the store again.
            if let Ok((name, head)) = head {
                knowledge.heads.insert(name, head);
            }
        }
        knowledge.is_loaded = true;
    }

    /// Returns a record that this host has seen and the store does not have: it was put back to an older state, and what
    /// the catalog says may be gone from it.
    pub(crate) fn lost_gc_record(&self) -> Result<Option<GcName>> {
        let mut knowledge = self.gc_knowledge();
        self.load_heads(&mut knowledge);
        for _ in 0..ATTEMPTS_MAX {
            // Seen first, listed second: what was seen was there before the listing.
            let listed = self.list_gc_log()?;
            if lost_record(&knowledge, &listed).is_none() {
                return Ok(None);
            }
            // It may stand in a record that this host has not read.
            let Some(new) = self.read_heads(&knowledge, &listed)? else { continue };
            let GcKnowledge { mut heads, is_loaded } = knowledge.clone();
            heads.extend(new);
            return Ok(lost_record(&GcKnowledge { heads, is_loaded }, &listed));
        }
        Err(Error::new(ErrorKind::Busy, "the GC log is rewritten faster than it can be read"))
    }

    /// Reads the heads that are listed and not known; none if one was replaced meanwhile. What cannot be read tells nothing.
    fn read_heads(
        &self,
        knowledge: &GcKnowledge,
        listed: &BTreeSet<GcName>,
    ) -> Result<Option<BTreeMap<GcName, GcHead>>> {
        let mut heads = BTreeMap::new();
        for &name in listed.iter().filter(|name| !knowledge.heads.contains_key(name)) {
            match self.read_gc_record(name) {
                Ok(Some(record)) => {
                    heads.insert(name, record.head);
                }
                Ok(None) => return Ok(None),
                Err(error) if is_about_content(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(heads))
    }

    fn refuse_lost_records(&self, knowledge: &GcKnowledge, listed: &BTreeSet<GcName>) -> Result<()> {
        let Some(lost) = lost_record(knowledge, listed) else { return Ok(()) };
        self.catalog().distrust()?;
        Err(Error::damaged(format!(
            "the store does not have {}, which this host has seen: it is an older copy. The local catalog is made anew at \
             the next try",
            lost.object_name()
        )))
    }

    fn gc_knowledge(&self) -> MutexGuard<'_, GcKnowledge> {
        self.gc.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost_record(knowledge: &GcKnowledge, listed: &BTreeSet<GcName>) -> Option<GcName> {
    let replaced: BTreeSet<GcName> = knowledge.heads.values().flat_map(|head| head.replaced.iter().copied()).collect();
    knowledge.heads.keys().copied().find(|name| !listed.contains(name) && !replaced.contains(name))
}
