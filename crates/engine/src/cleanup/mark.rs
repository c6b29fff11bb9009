//! Which slots the versions need: the mark of a cleanup.
//!
//! Every page and node is read once, however many versions share it. Versions that nobody wants any more, but that are
//! not to be deleted yet, are marked after the others: what they add is rarely much.
//!
//! ```text
//!  doomed      condemned by a ripe record: they are deleted in this pass           not marked
//!  leaving     removed or condemned: jobs may still rely on them                   needed
//!  wanted      all others, void and incomplete ones too                            wanted, and so needed
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use backy_core::cancel::Cancel;
use backy_core::ids::{LeaseId, SlotAddress, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::map::{MapPart, MapReader, MapRoot, salvage_map};
use backy_core::names::{self, GcName};
use backy_core::pack::SlotKind;
use backy_core::records::manifest::{Checkpoint, Manifest};
use backy_core::slots::{SlotSet, SlotSets};
use backy_core::{Error, ErrorKind, Result};

use crate::parallel;
use crate::repository::Repository;
use crate::repository::leases::LeaseEntry;
use crate::repository::packs::is_about_content;
use crate::repository::read_ahead::ReadAhead;
use crate::repository::records::if_found;
use crate::repository::taken::{collect_slots, stored_slots};
use crate::repository::version_objects::{VersionObjects, list_versions};

/// How often the versions are listed again because one of them went while it was read.
const ATTEMPTS_MAX: usize = 16;

/// What is marked.
#[derive(Default)]
pub(super) struct Marked {
    /// All versions that were listed.
    pub versions: BTreeMap<VersionUid, VersionObjects>,
    /// The manifests of the wanted ones.
    pub manifests: BTreeMap<VersionUid, Manifest>,
    /// Slots of wanted versions.
    pub wanted: MarkedSlots,
    /// Slots of leaving ones; they may be wanted too.
    pub leaving: MarkedSlots,
    /// Leaving versions that cannot be read: what they need is not known.
    pub unreadable: BTreeMap<VersionUid, Error>,
}

/// Slots, and what they follow from.
#[derive(Default)]
pub(super) struct MarkedSlots {
    roots: Vec<Root>,
    pub slots: SlotSets,
    seen: SlotSets,
}

/// What was there when a cleanup looked: the records of the log, and who was at work.
///
/// A listing is not one moment: what was put and what was deleted while it ran may both be missing in it. Then a record has
/// come, or a lease has gone.
pub(super) struct Look {
    records: BTreeSet<GcName>,
    leases: BTreeSet<LeaseId>,
}

impl Look {
    /// Takes what was read and listed before the versions are listed.
    pub(super) fn new(records: BTreeSet<GcName>, leases: BTreeSet<LeaseId>) -> Look {
        Look { records, leases }
    }

    /// Looks again, and says whether nothing speaks against what was listed in between.
    fn again(&mut self, repository: &Repository) -> Result<bool> {
        let records = repository.list_gc_log()?;
        let held = repository.held_leases()?.into_iter().filter(LeaseEntry::counts);
        let leases: BTreeSet<LeaseId> = held.map(|entry| entry.id).collect();
        let is_settled = records.is_subset(&self.records) && self.leases.is_subset(&leases);
        *self = Look { records, leases };
        Ok(is_settled)
    }
}

/// Which versions count how.
pub(super) struct Standing<'a> {
    /// Condemned by any record.
    pub condemned: &'a BTreeSet<VersionUid>,
    /// Condemned by a ripe one, and to be deleted.
    pub doomed: &'a BTreeSet<VersionUid>,
}

impl Marked {
    /// Returns the slots of a pack that some version needs.
    pub fn needed(&self, pack: backy_core::ids::PackId) -> Option<SlotSet> {
        match (self.wanted.slots.get(pack), self.leaving.slots.get(pack)) {
            (Some(wanted), Some(leaving)) => {
                let mut needed = wanted.clone();
                needed.add(leaving);
                Some(needed)
            }
            (wanted, leaving) => wanted.or(leaving).cloned(),
        }
    }
}

/// Marks. `before` is the mark of an earlier pass: what follows from the same maps is not read again.
///
/// # Errors
/// `Damaged` if what a wanted version needs cannot be read: then nothing may be deleted.
pub(super) fn mark(
    repository: &Repository,
    standing: &Standing<'_>,
    mut look: Look,
    before: Marked,
    cancel: &Cancel,
) -> Result<Marked> {
    let mut wanted_before = before.wanted;
    for _ in 0..ATTEMPTS_MAX {
        match attempt(repository, standing, &mut look, &mut wanted_before, cancel)? {
            Some(marked) => return Ok(marked),
            None => cancel.check()?,
        }
    }
    Err(Error::new(ErrorKind::Busy, "versions and jobs come and go faster than they can be listed; try again"))
}

/// Marks; none if something that was listed was gone when it was read, or the list of versions may have a hole.
fn attempt(
    repository: &Repository,
    standing: &Standing<'_>,
    look: &mut Look,
    wanted_before: &mut MarkedSlots,
    cancel: &Cancel,
) -> Result<Option<Marked>> {
    let mut marked = Marked { versions: list_versions(repository)?, ..Marked::default() };
    if !look.again(repository)? {
        return Ok(None);
    }
    let is_leaving =
        |uid: &VersionUid, objects: &VersionObjects| objects.is_removed || standing.condemned.contains(uid);
    let (leaving, wanted): (Vec<_>, Vec<_>) = marked
        .versions
        .iter()
        .filter(|(uid, _)| !standing.doomed.contains(uid))
        .partition(|(uid, objects)| is_leaving(uid, objects));

    let Some(wanted) = read_roots(repository, &wanted, cancel)? else { return Ok(None) };
    if let Some((uid, error)) = wanted.unreadable.into_iter().next() {
        return Err(unreadable(uid, error));
    }
    let mut walk = Walk { repository, reader: ReadAhead::new(repository)?, versions: &marked.versions, cancel };
    marked.manifests = wanted.manifests;
    marked.wanted = std::mem::take(wanted_before);
    if marked.wanted.roots != wanted.roots {
        marked.wanted = MarkedSlots { roots: wanted.roots, ..MarkedSlots::default() };
        let MarkedSlots { roots, slots, seen } = &mut marked.wanted;
        let lost = walk.all(roots, &SlotSets::default(), slots, seen)?;
        match lost.map(|lost| lost.into_iter().next()) {
            None => return Ok(None),
            Some(None) => {}
            Some(Some((uid, error))) => {
                return Err(unreadable(uid, error));
            }
        }
    }
    let Some(leaving) = read_roots(repository, &leaving, cancel)? else { return Ok(None) };
    marked.leaving.roots = leaving.roots;
    let MarkedSlots { roots, slots, seen } = &mut marked.leaving;
    let Some(lost) = walk.all(roots, &marked.wanted.seen, slots, seen)? else { return Ok(None) };
    marked.unreadable = leaving.unreadable;
    marked.unreadable.extend(lost);
    Ok(Some(marked))
}

/// What is not there is damage, too: the versions need it.
fn unreadable(uid: VersionUid, error: Error) -> Error {
    let context = format!("version {uid} cannot be read, so nothing may be deleted");
    error.with_kind(ErrorKind::Damaged).context(context)
}

/// Goes through maps.
struct Walk<'a> {
    repository: &'a Repository,
    reader: ReadAhead<'a>,
    versions: &'a BTreeMap<VersionUid, VersionObjects>,
    cancel: &'a Cancel,
}

impl Walk<'_> {
    /// Collects the slots of all maps; returns the versions whose maps cannot be read, or none if versions have come or
    /// gone meanwhile.
    fn all(
        &mut self,
        roots: &[Root],
        seen_before: &SlotSets,
        slots: &mut SlotSets,
        seen: &mut SlotSets,
    ) -> Result<Option<BTreeMap<VersionUid, Error>>> {
        let mut lost = BTreeMap::new();
        for root in roots {
            self.cancel.check()?;
            match collect_slots(&self.reader, root.map, seen_before, slots, seen) {
                Err(error) if is_about_content(&error) => {
                    // What lies below parts that were seen on this way is not marked: others must look again.
                    *seen = SlotSets::default();
                    if list_versions(self.repository)? != *self.versions {
                        return Ok(None);
                    }
                    if self.is_void(root)? {
                        collect_readable(self.repository, root.map, slots)?;
                    } else {
                        lost.insert(root.uid, error);
                    }
                }
                collected => collected?,
            }
        }
        Ok(Some(lost))
    }

    fn is_void(&self, root: &Root) -> Result<bool> {
        let is_checked = self.versions.get(&root.uid).is_some_and(|objects| objects.is_checked);
        Ok((root.is_checkpoint || !is_checked) && self.repository.is_revoked(root.lease)?)
    }
}

/// Returns the versions that were published by a job that had lost its lease, and have not passed a recheck.
pub(super) fn void_versions(
    repository: &Repository,
    versions: &BTreeMap<VersionUid, VersionObjects>,
    manifests: &BTreeMap<VersionUid, Manifest>,
) -> Result<BTreeSet<VersionUid>> {
    let revoked = repository.revoked_leases()?;
    let is_checked = |uid: &VersionUid| versions.get(uid).is_some_and(|objects| objects.is_checked);
    let is_void = |(uid, manifest): &(&VersionUid, &Manifest)| revoked.contains(&manifest.lease) && !is_checked(uid);
    Ok(manifests.iter().filter(is_void).map(|(uid, _)| *uid).collect())
}

/// Adds what a void version still points to, and the parts of its map that can be read. Nobody relies on what is gone from
/// one: it was condemned.
fn collect_readable(repository: &Repository, map: MapRoot, slots: &mut SlotSets) -> Result<()> {
    let reader = Noting { repository, read: RefCell::default() };
    salvage_map(&reader, map, &mut |part| {
        if let MapPart::Extent(extent) = part
            && let Some((pack, set)) = stored_slots(&extent)?
        {
            slots.add(pack, &set);
        }
        Ok(())
    })?;
    slots.add_all(&reader.read.into_inner());
    Ok(())
}

/// Notes which parts of maps could be read.
struct Noting<'a> {
    repository: &'a Repository,
    read: RefCell<SlotSets>,
}

impl MapReader for Noting<'_> {
    fn read_map_slot(&self, address: SlotAddress, kind: SlotKind) -> Result<Vec<u8>> {
        let body = self.repository.read_map_slot(address, kind)?;
        self.read.borrow_mut().add_slot(address);
        Ok(body)
    }
}

/// Where the maps of some versions begin.
#[derive(Default)]
struct Roots {
    roots: Vec<Root>,
    manifests: BTreeMap<VersionUid, Manifest>,
    unreadable: BTreeMap<VersionUid, Error>,
}

/// A map, and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Root {
    uid: VersionUid,
    map: MapRoot,
    /// The job; if it had lost its lease, parts of the map may be gone.
    lease: LeaseId,
    /// The recheck that a void version passed speaks for its manifest alone.
    is_checkpoint: bool,
}

/// What one version says: its manifest, or its checkpoints, which count only while there is no manifest.
enum Said {
    Manifest(Box<Manifest>),
    Checkpoints(Vec<Root>),
    Gone,
}

/// Reads the roots of the maps of versions; none if something that was listed is gone.
fn read_roots(
    repository: &Repository,
    versions: &[(&VersionUid, &VersionObjects)],
    cancel: &Cancel,
) -> Result<Option<Roots>> {
    let said: Mutex<BTreeMap<VersionUid, Result<Said>>> = Mutex::default();
    let threads = repository.settings().simultaneous_reads.get();
    parallel::for_each(
        threads,
        versions,
        cancel,
        || Ok(()),
        |(), (uid, objects)| {
            let result = read_version(repository, **uid, objects);
            match result {
                Err(error) if !is_about_content(&error) => return Err(error),
                result => said.lock().unwrap_or_else(PoisonError::into_inner).insert(**uid, result),
            };
            Ok(ControlFlow::Continue(()))
        },
    )?;
    let mut roots = Roots::default();
    for (uid, said) in said.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match said {
            Ok(Said::Gone) => return Ok(None),
            Ok(Said::Manifest(manifest)) => {
                let Manifest { map, lease, .. } = *manifest;
                roots.roots.push(Root { uid, map, lease, is_checkpoint: false });
                roots.manifests.insert(uid, *manifest);
            }
            Ok(Said::Checkpoints(checkpoints)) => roots.roots.extend(checkpoints),
            Err(error) => {
                roots.unreadable.insert(uid, error);
            }
        }
    }
    Ok(Some(roots))
}

fn read_version(repository: &Repository, uid: VersionUid, objects: &VersionObjects) -> Result<Said> {
    if objects.has_manifest {
        let name = names::manifest(uid);
        let manifest = if_found(repository.read_cached_record::<Manifest>(RecordKind::Manifest, &name))?;
        let Some(manifest) = manifest else { return Ok(Said::Gone) };
        crate::repository::versions::check_manifest(uid, &manifest)?;
        return Ok(Said::Manifest(Box::new(manifest)));
    }
    let mut maps = Vec::new();
    for &number in &objects.checkpoints {
        let name = names::checkpoint(uid, number);
        let checkpoint = if_found(repository.read_cached_record::<Checkpoint>(RecordKind::Checkpoint, &name))?;
        let Some(checkpoint) = checkpoint else { return Ok(Said::Gone) };
        crate::repository::versions::check_checkpoint(uid, &name, &checkpoint)?;
        let Manifest { map, lease, .. } = checkpoint.version;
        maps.push(Root { uid, map, lease, is_checkpoint: true });
    }
    Ok(Said::Checkpoints(maps))
}
