//! Builds the block map of what is durable, notes down checkpoints, and publishes the version.
//!
//! An extent goes into the map only when its pack is in the store for good. So a checkpoint never points to anything
//! that could still be lost, and neither does a manifest.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use backy_core::ids::VersionUid;
use backy_core::keys::RecordKind;
use backy_core::map::{Extent, MapBuilder, MapRoot, MapWriter, Place};
use backy_core::names::{self, ObjectName};
use backy_core::records::index::IndexedPack;
use backy_core::records::manifest::{Checkpoint, Manifest, Statistics};
use backy_core::units::{BlockCount, BlockIndex};
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::object_store::list_all;
use crossbeam_channel::{Receiver, never, select};
use serde::Serialize;

use super::flow::{Durable, OpenPack, PackNumber, Update, indexed};
use super::stop::Stop;
use crate::repository::Repository;
use crate::repository::leases::Lease;
use crate::repository::map_io::{MapPackWriter, StoredPack};
use crate::repository::taken::RecheckOutcome;

/// As many extents may wait for their packs before no more are taken; each takes some 60 bytes.
const WAITING_MAX: usize = 1 << 20;

/// How long to wait for packs before looking whether something has failed.
const LOOK_FOR_FAILURE: Duration = Duration::from_millis(500);

/// Turns what the packer says into a map, checkpoints and a manifest.
pub(super) struct Assembler<'a> {
    repository: &'a Repository,
    lease: &'a Lease,
    /// What is known of the version so far.
    draft: Manifest,
    builder: MapBuilder,
    maps: MapPackWriter<'a>,
    waiting: VecDeque<Update>,
    durable: DurablePacks,
    indexed: Vec<IndexedPack>,
    stored_packs: u64,
    stored_bytes: u64,
    position: BlockIndex,
    missing_blocks: BlockCount,
    next_checkpoint: u32,
    continued: Option<VersionUid>,
    last_checkpoint: Option<Duration>,
    has_new_packs: bool,
    has_lost_put: bool,
}

/// Which packs of this job are durable: all below one number, and some above.
#[derive(Default)]
struct DurablePacks {
    below: u64,
    above: BTreeSet<u64>,
}

impl DurablePacks {
    fn add(&mut self, number: PackNumber) {
        self.above.insert(number.0);
        while self.above.remove(&self.below) {
            self.below += 1;
        }
    }

    fn holds(&self, number: PackNumber) -> bool {
        number.0 < self.below || self.above.contains(&number.0)
    }
}

/// Where a backup begins: at the start, or where the one that it continues left off.
pub(super) struct Beginning {
    /// What is known of the version so far.
    pub draft: Manifest,
    /// The map to start from: the base's, or the checkpoint's.
    pub map: Option<MapRoot>,
    /// The blocks before this one are in the map.
    pub position: BlockIndex,
    /// The incomplete version that this one goes on from.
    pub continued: Option<VersionUid>,
}

impl Beginning {
    /// Throws away what an earlier part of this backup has found, because the hints were wrong: everything is read.
    pub(super) fn begin_anew(&mut self) {
        self.draft.origin.hints_were_wrong = true;
        self.go_back_to(BlockIndex(0));
    }

    /// Goes back to a block before which nothing is missing.
    pub(super) fn go_back_to(&mut self, position: BlockIndex) {
        self.position = position;
        self.draft.missing_blocks = BlockCount(0);
        let Statistics { stored_bytes, packs, audited_bytes, .. } = self.draft.statistics;
        self.draft.statistics = Statistics { stored_bytes, packs, audited_bytes, ..Statistics::default() };
    }
}

impl<'a> Assembler<'a> {
    pub(super) fn new(repository: &'a Repository, lease: &'a Lease, beginning: Beginning) -> Result<Assembler<'a>> {
        let Beginning { draft, map, position, continued } = beginning;
        Ok(Assembler {
            repository,
            lease,
            builder: MapBuilder::new(map, draft.block_size.count(draft.size_bytes)),
            maps: MapPackWriter::new(repository, draft.lease)?,
            waiting: VecDeque::new(),
            durable: DurablePacks::default(),
            indexed: Vec::new(),
            stored_packs: draft.statistics.packs,
            stored_bytes: draft.statistics.stored_bytes,
            position,
            missing_blocks: draft.missing_blocks,
            next_checkpoint: 0,
            continued,
            last_checkpoint: None,
            has_new_packs: false,
            has_lost_put: false,
            draft,
        })
    }

    /// Takes all updates until the packer and the uploaders have ended.
    pub(super) fn run(&mut self, updates: &Receiver<Update>, durable: &Receiver<Durable>, stop: &Stop<'_>) {
        let nothing = never();
        let mut has_updates = true;
        let mut has_durable = true;
        while has_updates || has_durable {
            let has_failed = stop.has_failed();
            let may_take = has_updates && (self.waiting.len() < WAITING_MAX || !has_durable || has_failed);
            let from = if may_take { updates } else { &nothing };
            let packs = if has_durable { durable.clone() } else { never() };
            select! {
                recv(from) -> update => match update {
                    // After a failure nothing is added, but taken all the same: the packer must come to its end.
                    Ok(_) if has_failed => {}
                    Ok(update) => self.waiting.push_back(update),
                    Err(_) => has_updates = false,
                },
                recv(packs) -> pack => match pack {
                    Ok(pack) => self.note_durable(pack.number, pack.indexed),
                    Err(_) => has_durable = false,
                },
                // Nobody sends word of a failure; then updates must be taken again, so look now and then.
                default(LOOK_FOR_FAILURE) => {}
            }
            if stop.has_failed() {
                // What was durable before the failure may still go into the last checkpoint; nothing new is waited for.
                continue;
            }
            let done = self.apply_durable().and_then(|()| self.checkpoint_if_due());
            stop.check(done);
        }
    }

    /// Says whether there is a checkpoint that the backup can be continued from.
    pub(super) fn has_checkpoint(&self) -> bool {
        self.last_checkpoint.is_some()
    }

    /// Says whether the put of a checkpoint or of the manifest has failed: it may arrive all the same, long after.
    pub(super) fn has_lost_put(&self) -> bool {
        self.has_lost_put
    }

    /// Puts a checkpoint or the manifest; durable when it returns.
    fn put<R: Serialize>(&mut self, kind: RecordKind, name: &ObjectName, record: &R) -> Result<()> {
        let put = self.repository.put_record(kind, name, record);
        self.has_lost_put |= put.is_err();
        put
    }

    /// Publishes the version: durable when it returns.
    pub(super) fn publish(&mut self, open: OpenPack, end: BlockIndex) -> Result<Manifest> {
        self.adopt(open)?;
        self.apply_durable()?;
        if !self.waiting.is_empty() {
            return Err(Error::damaged("the backup ended while blocks still waited for their packs"));
        }
        self.position = end;
        let builder = std::mem::replace(&mut self.builder, MapBuilder::new(None, BlockCount(0)));
        let map = builder.finish(self.repository, &mut self.maps).context(|| "write the block map")?;
        self.flush_maps()?;
        let manifest = self.described(map);
        manifest.check().context(|| "publish the version")?;
        let name = names::manifest(manifest.uid);
        self.put_index();
        self.lease.refuse_revoked().context(|| "publish the version")?;
        self.put(RecordKind::Manifest, &name, &manifest).context(|| "publish the version")?;
        self.confirm(&manifest)?;
        self.refuse_removed(manifest.uid)?;
        self.remove_continued()?;
        Ok(manifest)
    }

    /// Removes the incomplete versions that this one has gone on from. Their jobs may be alive all the same: what one of
    /// them has completed meanwhile stays.
    fn remove_continued(&self) -> Result<()> {
        for &uid in &self.draft.continues {
            self.repository.remove_incomplete(uid, self.lease.id())?;
        }
        Ok(())
    }

    /// Marks the version as good. One whose job lost its lease while it was published is void, unless it passes a recheck.
    fn confirm(&self, manifest: &Manifest) -> Result<()> {
        if !self.lease.is_revoked()? {
            // Should the lease be revoked in a moment, the version stays good.
            return self.repository.put_checked(manifest.uid, self.lease.id());
        }
        match self.repository.recheck(manifest.uid, manifest, self.lease.id())? {
            RecheckOutcome::Passed => Ok(()),
            RecheckOutcome::Failed => {
                let problem = format!(
                    "the lease of this job was revoked, and blocks of version {} were condemned; continue it to store them again",
                    manifest.uid
                );
                Err(Error::new(ErrorKind::Busy, problem))
            }
        }
    }

    /// A version that was removed while it was written (it was listed as incomplete) is hidden, and one that another job has
    /// gone on from, thinking us dead, may be removed at once: that is no success.
    fn refuse_removed(&self, uid: VersionUid) -> Result<()> {
        for (mark, what) in [(names::removed(uid), "removed"), (names::continued(uid), "continued as another version")]
        {
            if !list_all(self.repository.store(), mark.as_str())?.is_empty() {
                let problem = format!("version {uid} was {what} by somebody while it was written");
                return Err(Error::new(ErrorKind::Refused, problem));
            }
        }
        Ok(())
    }

    /// Notes down how far the backup has come, so that it can be continued.
    pub(super) fn give_up(&mut self, open: OpenPack) -> Result<()> {
        self.adopt(open)?;
        self.apply_durable()?;
        let is_first = self.last_checkpoint.is_none() && self.position.0 > 0 && self.continued.is_none();
        if self.has_new_packs || is_first {
            self.checkpoint()?;
        }
        self.put_index();
        Ok(())
    }

    fn note_durable(&mut self, number: PackNumber, pack: IndexedPack) {
        self.durable.add(number);
        self.stored_packs += 1;
        self.stored_bytes += pack.size_bytes;
        self.indexed.push(pack);
        self.has_new_packs = true;
    }

    /// Takes over the pack that was not full: what is in it is durable together with the map that follows.
    fn adopt(&mut self, open: OpenPack) -> Result<()> {
        if let Some(job) = open {
            self.durable.add(job.number);
            self.has_new_packs = true;
            self.maps.adopt(job.writer)?;
        }
        Ok(())
    }

    /// Puts the extents into the map that wait for nothing.
    fn apply_durable(&mut self) -> Result<()> {
        while let Some(update) = self.waiting.front() {
            match update {
                Update::Extent { waits_for: Some(number), .. } if !self.durable.holds(*number) => break,
                Update::Extent { extent, .. } => {
                    let extent = *extent;
                    self.apply(extent)?;
                }
                Update::Statistics(statistics) => self.draft.statistics = **statistics,
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn apply(&mut self, extent: Extent) -> Result<()> {
        let writer: &mut dyn MapWriter = &mut self.maps;
        self.builder.set(self.repository, writer, extent).context(|| "build the block map")?;
        self.position = extent.blocks.end();
        if extent.place == Place::Missing {
            self.missing_blocks += extent.blocks.count;
        }
        Ok(())
    }

    fn checkpoint_if_due(&mut self) -> Result<()> {
        let now = self.repository.environment().clock.elapsed();
        let interval = self.repository.settings().checkpoint_interval;
        self.lease.refuse_lost()?;
        let is_due = self.last_checkpoint.is_none_or(|last| now.saturating_sub(last) >= interval);
        if is_due && self.has_new_packs { self.checkpoint() } else { Ok(()) }
    }

    /// Writes a checkpoint; durable when it returns.
    fn checkpoint(&mut self) -> Result<()> {
        // Nobody protects any more what it would point to.
        self.lease.refuse_revoked().context(|| "write a checkpoint")?;
        let map = self.builder.checkpoint(self.repository, &mut self.maps).context(|| "write the block map")?;
        self.flush_maps()?;
        // Taken before the put: one that fails may come later, and no name is ever used twice.
        let number = self.next_checkpoint;
        self.next_checkpoint += 1;
        let checkpoint = Checkpoint { number, position: self.position, version: self.described(map) };
        checkpoint.check().context(|| "write a checkpoint")?;
        let name = names::checkpoint(self.draft.uid, number);
        self.put(RecordKind::Checkpoint, &name, &checkpoint).context(|| "write a checkpoint")?;
        self.last_checkpoint = Some(self.repository.environment().clock.elapsed());
        self.has_new_packs = false;
        Ok(())
    }

    fn flush_maps(&mut self) -> Result<()> {
        for StoredPack { pack, size_bytes } in self.maps.flush()? {
            self.repository.index_pack(&pack, size_bytes);
            self.indexed.push(indexed(&pack, size_bytes));
            self.stored_packs += 1;
            self.stored_bytes += size_bytes;
        }
        Ok(())
    }

    /// Leaves word for other hosts; if that fails they only deduplicate less.
    fn put_index(&mut self) {
        let packs = std::mem::take(&mut self.indexed);
        if let Err(error) = self.repository.put_index(&packs) {
            tracing::warn!("other hosts will not find the new blocks: {error}");
        }
    }

    fn described(&self, map: MapRoot) -> Manifest {
        let earlier: Statistics = self.draft.statistics;
        let now = self.repository.environment().clock.now();
        let mut manifest = self.draft.clone();
        manifest.map = map;
        manifest.missing_blocks = self.missing_blocks;
        manifest.statistics = Statistics {
            stored_bytes: self.stored_bytes,
            packs: self.stored_packs,
            unread_bytes: self.draft.size_bytes.saturating_sub(earlier.read_bytes + earlier.hole_bytes),
            duration_milliseconds: u64::try_from(now.since(self.draft.created).as_millis()).unwrap_or(u64::MAX),
            ..earlier
        };
        manifest
    }
}
