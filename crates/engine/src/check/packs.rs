//! Packs: header, trailer and locators of every object, and whether the slots are there that maps point to.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use backy_core::ids::{LeaseId, PackId, SlotNumber};
use backy_core::names::{self, PackName};
use backy_core::pack::header::{FORMAT_VERSION, HEADER_BYTES, PackHeader};
use backy_core::pack::{Directory, SlotKind};
use backy_core::slots::{SlotSet, SlotSets};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::object_store::list_all;
use backy_store::{ObjectInfo, ObjectRange};

use super::maps::Needed;
use super::small::is_newer;
use super::{CheckReport, Finding, Look};
use crate::parallel;
use crate::repository::packs::is_about_content;

/// How many packs are looked at together.
const BATCH_PACKS: usize = 1024;
/// How often a pack is listed again because an object of it went while it was read.
const ATTEMPTS_MAX: usize = 16;

/// What packs do not have, or have too much.
#[derive(Default)]
pub(super) struct Looked {
    /// Slots that maps point to and no generation has.
    pub missing: SlotSets,
    /// Packs that are there and that nobody needs.
    pub unneeded: BTreeSet<PackId>,
}

/// Looks at all packs.
pub(super) fn look(look: &Look<'_>, needed: &Needed, report: &mut CheckReport) -> Result<Looked> {
    look.progress.total_bytes.set(total_bytes(look, report)?);
    report.needed_slots = needed.data.count() + needed.map.count();
    let surveyor = Surveyor { look, needed, state: Mutex::new(State { report, looked: Looked::default() }) };
    let mut listed = BTreeSet::new();
    let mut batch: Vec<Group> = Vec::new();
    let mut visit = |object: ObjectInfo| -> Result<()> {
        let Ok(name) = PackName::parse(&object.name) else { return Ok(()) };
        match batch.last_mut().filter(|group| group.pack == name.id) {
            Some(group) => group.objects.push((name, object.size_bytes)),
            None => {
                if batch.len() >= BATCH_PACKS {
                    surveyor.look_at_all(&std::mem::take(&mut batch))?;
                }
                batch.push(Group { pack: name.id, objects: vec![(name, object.size_bytes)] });
                if needed.has(name.id) {
                    listed.insert(name.id);
                }
            }
        }
        Ok(())
    };
    look.repository.store().list(names::PACKS, &mut visit).context(|| "list the packs")?;
    surveyor.look_at_all(&batch)?;
    // Needed, and not listed: looked for by name.
    let packs: BTreeSet<PackId> = needed.data.iter().map(|(pack, _)| pack).collect();
    let absent: Vec<Group> = packs.difference(&listed).map(|&pack| Group { pack, objects: Vec::new() }).collect();
    for batch in absent.chunks(BATCH_PACKS) {
        surveyor.look_at_all(batch)?;
    }
    Ok(surveyor.state.into_inner().unwrap_or_else(PoisonError::into_inner).looked)
}

impl Needed {
    fn has(&self, pack: PackId) -> bool {
        self.data.get(pack).is_some() || self.map.get(pack).is_some()
    }

    fn of(&self, pack: PackId) -> Option<SlotSet> {
        match (self.data.get(pack), self.map.get(pack)) {
            (Some(data), Some(map)) => {
                let mut all = data.clone();
                all.add(map);
                Some(all)
            }
            (data, map) => data.or(map).cloned(),
        }
    }
}

/// For the progress: how much there is.
fn total_bytes(look: &Look<'_>, report: &mut CheckReport) -> Result<u64> {
    let mut bytes = 0;
    look.repository.store().list(names::PACKS, &mut |object| {
        if PackName::parse(&object.name).is_ok() {
            bytes += object.size_bytes;
        } else {
            report.foreign_objects += 1;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// The objects of a pack, as listed, with their sizes in bytes.
struct Group {
    pack: PackId,
    objects: Vec<(PackName, u64)>,
}

struct Surveyor<'a> {
    look: &'a Look<'a>,
    needed: &'a Needed,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    report: &'a mut CheckReport,
    looked: Looked,
}

/// What all generations of a pack have together.
#[derive(Default)]
struct Content {
    data: BTreeSet<SlotNumber>,
    all: BTreeSet<SlotNumber>,
    /// Stored bytes of slots that nobody needs.
    unused_bytes: u64,
    findings: Vec<Finding>,
}

impl Surveyor<'_> {
    fn look_at_all(&self, groups: &[Group]) -> Result<()> {
        let threads = self.look.repository.settings().simultaneous_reads.get();
        parallel::for_each(
            threads,
            groups,
            self.look.cancel,
            || Ok(()),
            |(), group| {
                self.look_at(group)?;
                self.look.progress.done_bytes.add(group.objects.iter().map(|(_, bytes)| bytes).sum());
                Ok(ControlFlow::Continue(()))
            },
        )
    }

    /// Looks at a pack. What was listed long ago need not be there any more: another generation may have come, and this
    /// one gone. So a pack that lacks something is listed again, and what is then read is what it had at that moment.
    fn look_at(&self, group: &Group) -> Result<()> {
        let mut objects = group.objects.clone();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                objects = self.list(group.pack)?;
            }
            let Some(content) = self.read(group.pack, &objects)? else { continue };
            if attempt > 0 || self.missing(group.pack, &content).is_none() {
                self.note(group.pack, &objects, content);
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("pack {} is written anew faster than it can be read", group.pack)))
    }

    fn list(&self, pack: PackId) -> Result<Vec<(PackName, u64)>> {
        let objects = list_all(self.look.repository.store(), &names::pack_prefix(pack))?;
        let name = |object: &ObjectInfo| Some((PackName::parse(&object.name).ok()?, object.size_bytes));
        Ok(objects.iter().filter_map(name).collect())
    }

    /// Reads the directories of all objects of a pack; none if one of them is gone.
    fn read(&self, pack: PackId, objects: &[(PackName, u64)]) -> Result<Option<Content>> {
        let needed = self.needed.of(pack);
        let mut content = Content::default();
        for &(name, size_bytes) in objects {
            let directory = match self.read_object(name, size_bytes) {
                Ok(directory) => directory,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) if is_about_content(&error) || is_newer(&error) => {
                    let meaning = "what no other generation of the pack has cannot be restored; see the versions below, \
                                   if any has it";
                    content.findings.push(Finding::damage(name.object_name(), error, meaning));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(problem) = self.header_problem(&directory)? {
                let meaning =
                    "readers do not rely on it; a cleanup or a healing that writes the pack anew makes it good";
                content.findings.push(Finding::damage(name.object_name(), problem, meaning));
            }
            if self.look.repository.keys().data_suite(directory.encryption_version()).is_err() {
                let problem =
                    format!("the keyring holds no key of encryption version {}", directory.encryption_version());
                let meaning = "its blocks cannot be opened";
                content.findings.push(Finding::damage(name.object_name(), problem, meaning));
            }
            for (slot, locator) in directory.slots() {
                content.all.insert(slot);
                if locator.kind == SlotKind::Data {
                    content.data.insert(slot);
                }
                if needed.as_ref().is_none_or(|needed| !needed.contains(slot)) {
                    content.unused_bytes += u64::from(locator.stored_length);
                }
            }
        }
        Ok(Some(content))
    }

    fn read_object(&self, name: PackName, size_bytes: u64) -> Result<Directory> {
        let repository = self.look.repository;
        let directory = repository.read_object_directory(name)?;
        if directory.object_bytes() != size_bytes {
            let told = directory.object_bytes();
            return Err(Error::damaged(format!("it has {size_bytes} bytes, its trailer tells of {told}")));
        }
        Ok(directory)
    }

    /// Says what is wrong with the header of an object whose directory is right, or with the format version in its trailer.
    fn header_problem(&self, directory: &Directory) -> Result<Option<Error>> {
        let name = directory.name();
        let told = directory.told_format_version();
        if told != FORMAT_VERSION {
            return Ok(Some(Error::damaged(format!("its trailer says that it has format version {told}"))));
        }
        let mut header = Vec::new();
        let range = ObjectRange::Exact { offset_bytes: 0, length_bytes: u64::from(HEADER_BYTES) };
        let read = self.look.repository.store().get_range(&name.object_name(), range, &mut header);
        match read.and_then(|()| PackHeader::parse(&header)) {
            Ok(header) if header.name != name || header.encryption_version != directory.encryption_version() => {
                Ok(Some(Error::damaged(format!("its header says that it is {}", header.name))))
            }
            Ok(_) => Ok(None),
            // It was there a moment ago: another generation has taken its place.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if is_about_content(&error) || is_newer(&error) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Returns the blocks that maps point to and the pack does not have.
    fn missing(&self, pack: PackId, content: &Content) -> Option<SlotSet> {
        let needed = self.needed.data.get(pack)?;
        match content.data.iter().copied().collect::<Option<SlotSet>>() {
            Some(data) => needed.minus(&data),
            None => Some(needed.clone()),
        }
    }

    fn note(&self, pack: PackId, objects: &[(PackName, u64)], content: Content) {
        let missing = self.missing(pack, &content);
        let needed = self.needed.of(pack);
        let is_orphan = needed.is_none() && !objects.is_empty() && !self.is_in_the_making(objects);
        let bytes: u64 = objects.iter().map(|(_, bytes)| bytes).sum();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { report, looked } = &mut *state;
        report.pack_count += u64::from(!objects.is_empty());
        report.pack_object_count += objects.len() as u64;
        report.pack_bytes += bytes;
        report.several_generations += u64::from(objects.len() > 1);
        if let Some(missing) = missing {
            if objects.is_empty() {
                let meaning = "no generation of the pack is there; see the versions below";
                let problem = "versions point to this pack, and it is not there";
                report.findings.push(Finding::damage(names::pack_prefix(pack), problem, meaning));
            }
            looked.missing.add(pack, &missing);
        }
        match needed {
            None if !objects.is_empty() => {
                looked.unneeded.insert(pack);
                if is_orphan {
                    report.orphans.packs += 1;
                    report.orphans.slots += content.all.len() as u64;
                    report.orphans.bytes += bytes;
                }
            }
            Some(needed) => {
                let unused = content.all.iter().filter(|slot| !needed.contains(**slot)).count() as u64;
                report.unused.packs += u64::from(unused > 0);
                report.unused.slots += unused;
                report.unused.bytes += content.unused_bytes;
            }
            None => {}
        }
        report.findings.extend(content.findings);
    }

    /// Says whether the job that wrote a pack was at work when the check began, or has begun since.
    fn is_in_the_making(&self, objects: &[(PackName, u64)]) -> bool {
        let Look { lease: own, held, .. } = self.look;
        let is_later = |lease: LeaseId| lease.timestamp() > own.timestamp();
        objects.iter().any(|(name, _)| held.contains(&name.lease) || is_later(name.lease))
    }
}
