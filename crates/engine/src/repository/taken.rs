//! Versions as a job may rely on them: read from the store after the job has put its lease.
//!
//! A **void** version was published by a job that had lost its lease: what it points to may have been condemned without its
//! knowledge. It is read as far as it goes; nobody relies on its condemned slots. A **recheck** that finds none of them
//! condemned makes it a version like others. See `docs/protocol.md`.

use std::cell::RefCell;

use backy_core::ids::{LeaseId, SlotAddress, SlotNumber, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::map::{Extent, MapPart, MapReader, MapRoot, Place, salvage_map, visit_map_places, visit_map_slots};
use backy_core::names;
use backy_core::pack::Directory;
use backy_core::records::manifest::{Checkpoint, Manifest};
use backy_core::records::mark::Recheck;
use backy_core::slots::{SlotSet, SlotSets};
use backy_core::units::{BlockCount, BlockRange};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::object_store::list_all;

use super::Repository;
use super::leases::Lease;
use super::packs::is_about_content;

/// A version that a job under a lease may use.
#[derive(Clone, Debug)]
pub(crate) struct TakenVersion {
    /// What it is.
    pub manifest: Manifest,
    /// Whether only what is not condemned may be relied on.
    pub is_void: bool,
}

/// What a recheck of a void version found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecheckOutcome {
    /// Nothing is condemned, and everything is there: the version counts from now on.
    Passed,
    /// Something is condemned or gone: the blocks must be stored again, under a new version.
    Failed,
}

impl Repository {
    /// Reads a complete version from the store now. The caller holds `_lease`, and has read the GC log after it was put.
    ///
    /// # Errors
    /// `NotFound` if the version is gone or condemned.
    pub(crate) fn take_version(&self, _lease: &Lease, uid: VersionUid) -> Result<TakenVersion> {
        self.refuse_condemned(uid)?;
        let name = names::manifest(uid);
        let manifest: Manifest =
            self.read_record(RecordKind::Manifest, &name).context(|| format!("read version {uid}"))?;
        super::versions::check_manifest(uid, &manifest)?;
        // The manifest first, the revocation second.
        let is_void = self.is_void(uid, manifest.lease)?;
        Ok(TakenVersion { manifest, is_void })
    }

    /// Reads a checkpoint from the store now, as [`Repository::take_version`] does; also says whether it is void.
    pub(crate) fn take_checkpoint(&self, _lease: &Lease, uid: VersionUid, number: u32) -> Result<(Checkpoint, bool)> {
        self.refuse_condemned(uid)?;
        let is_complete = !list_all(self.store(), names::manifest(uid).as_str())?.is_empty();
        if is_complete {
            let message = format!("version {uid} was completed in the meantime");
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let name = names::checkpoint(uid, number);
        let checkpoint: Checkpoint = self.read_record(RecordKind::Checkpoint, &name)?;
        super::versions::check_checkpoint(uid, &name, &checkpoint)?;
        let is_void = self.is_revoked(checkpoint.version.lease)?;
        Ok((checkpoint, is_void))
    }

    fn refuse_condemned(&self, uid: VersionUid) -> Result<()> {
        if !self.condemned_versions().contains(&uid) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("version {uid} was removed, and is being deleted")))
    }

    /// Says whether a version whose manifest was read is void. `writer` is the lease that the manifest names.
    pub(crate) fn is_void(&self, uid: VersionUid, writer: LeaseId) -> Result<bool> {
        let is_checked = || list_all(self.store(), names::checked(uid).as_str()).map(|found| !found.is_empty());
        Ok(self.is_revoked(writer)? && !is_checked()?)
    }

    /// Returns the blocks of a map that were condemned, and one of its own slots that was, if any.
    pub(crate) fn condemned_blocks(&self, map: MapRoot) -> Result<(Vec<BlockRange>, Option<SlotAddress>)> {
        let condemned = self.condemned_slots()?;
        let mut blocks = Vec::new();
        salvage_map(self, map, &mut |part| {
            let MapPart::Extent(extent) = part else { return Ok(()) };
            for (block, address) in slots_of(&extent) {
                if condemned.contains(address) {
                    blocks.push(block);
                }
            }
            Ok(())
        })?;
        let mut bad = None;
        let walked = visit_map_slots(self, map, &mut |address, _| {
            if bad.is_none() && condemned.contains(address) {
                bad = Some(address);
            }
            Ok(bad.is_none())
        });
        match walked {
            Err(error) if is_about_content(&error) => bad = bad.or(map.root),
            walked => walked?,
        }
        Ok((backy_core::policy::hints::union(blocks), bad))
    }

    /// Rechecks a void version: reads its map, then lists the log; passes it if nothing is condemned and all packs are there.
    pub(crate) fn recheck(&self, uid: VersionUid, manifest: &Manifest, lease: LeaseId) -> Result<RecheckOutcome> {
        let (mut slots, mut seen) = (SlotSets::default(), SlotSets::default());
        match collect_slots(self, manifest.map, &SlotSets::default(), &mut slots, &mut seen) {
            Err(error) if is_about_content(&error) => return Ok(RecheckOutcome::Failed),
            collected => collected?,
        }
        // The map first, the log second.
        let condemned = self.condemned_slots()?;
        for (pack, set) in slots.iter() {
            if condemned.get(pack).is_some_and(|condemned| condemned.common(set).is_some()) {
                return Ok(RecheckOutcome::Failed);
            }
            let has_all = |directory: &Directory| set.slots().all(|slot| directory.locator(slot).is_some());
            // Not from memory: the pack must be there now.
            self.forget_directory(pack);
            match self.directory(pack) {
                Ok(directory) if has_all(&directory) => {}
                Ok(_) => return Ok(RecheckOutcome::Failed),
                Err(error) if is_about_content(&error) => return Ok(RecheckOutcome::Failed),
                Err(error) => return Err(error),
            }
        }
        self.put_checked(uid, lease)?;
        Ok(RecheckOutcome::Passed)
    }

    /// Returns all slots that any record of the log condemns. The log is listed until two lists agree: who asks may have no
    /// lease that counts, and records may be put together meanwhile.
    pub(crate) fn condemned_slots(&self) -> Result<SlotSets> {
        let mut condemned = SlotSets::default();
        for record in self.read_gc_log_at_rest()?.values() {
            condemned.add_all(&record.condemned);
        }
        Ok(condemned)
    }

    /// Marks a version as one that is good whatever becomes of the lease that it names; durable when it returns.
    ///
    /// Only after a recheck, or by the job that has put the manifest, and has looked for a revocation after that.
    pub(crate) fn put_checked(&self, uid: VersionUid, lease: LeaseId) -> Result<()> {
        let record = Recheck { uid, checked: self.environment().clock.now(), lease };
        self.put_record(RecordKind::Checked, &names::checked(uid), &record)
    }
}

/// Adds to `slots` all slots that a map is made of and points to.
///
/// Parts of the map that are in `seen` or `seen_before` are not read again; those that are read come into `seen`. What is
/// in there may only have been put there by this function, and what it points to must be in the set that goes with it.
pub(crate) fn collect_slots(
    reader: &dyn MapReader,
    map: MapRoot,
    seen_before: &SlotSets,
    slots: &mut SlotSets,
    seen: &mut SlotSets,
) -> Result<()> {
    let slots = RefCell::new(slots);
    visit_map_places(
        reader,
        map,
        &mut |address, _| {
            if seen_before.contains(address) {
                return Ok(false);
            }
            slots.borrow_mut().add_slot(address);
            Ok(seen.add_slot(address))
        },
        &mut |extent| {
            if let Some((pack, set)) = stored_slots(&extent)? {
                slots.borrow_mut().add(pack, &set);
            }
            Ok(())
        },
    )
}

/// Returns the slots that an extent points to.
pub(crate) fn stored_slots(extent: &Extent) -> Result<Option<(backy_core::ids::PackId, SlotSet)>> {
    let Place::Stored { pack, first_slot } = extent.place else { return Ok(None) };
    let last = u64::from(first_slot.0) + extent.blocks.count.0.saturating_sub(1);
    let last =
        u16::try_from(last).map_err(|_| Error::damaged(format!("an extent goes beyond the end of pack {pack}")))?;
    Ok(Some((pack, SlotSet::run(first_slot, SlotNumber(last)))))
}

fn slots_of(extent: &Extent) -> impl Iterator<Item = (BlockRange, SlotAddress)> + use<> {
    let Extent { blocks, place } = *extent;
    let (pack, first, count) = match place {
        Place::Stored { pack, first_slot } => (pack, first_slot.0, blocks.count.0),
        Place::Zero | Place::Missing => (backy_core::ids::PackId::from_bytes([0; 16]), 0, 0),
    };
    (0..count).map(move |number| {
        let block = BlockRange { start: blocks.start + BlockCount(number), count: BlockCount(1) };
        let slot = SlotNumber(first.saturating_add(u16::try_from(number).unwrap_or(u16::MAX)));
        (block, SlotAddress { pack, slot })
    })
}
