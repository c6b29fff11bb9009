//! The catalog of one repository: the door to all that is cached.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use backy_core::codec::fingerprint::Fingerprint;
use backy_core::environment::Timestamp;
use backy_core::ids::{EncryptionVersion, PackId, RecordId, RepositoryId, SlotAddress, SlotNumber};
use backy_core::names::ObjectName;
use backy_core::slots::SlotSets;
use backy_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::database::{self, failed};
use crate::follow::State;
use crate::forgotten::ForgottenRange;
use crate::index::block::{self, Block, KEYS_PER_BLOCK_MAX};
use crate::index::segment::SEGMENT_KEYS_MAX;
use crate::index::{self, Key, Origin};
use crate::memory::{Memory, find_in_runs};
use crate::rows::{self, JobRecord, PackFact};

/// Recent blocks are flushed at so many even if they have few keys.
const RECENT_BLOCKS_MAX: usize = 1 << 16;

/// Recent keys beyond this many times the flush threshold are not kept in RAM.
const RECENT_OVERFLOW: usize = 4;

/// What the index says about a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is not known; maybe it is stored nevertheless.
    Unknown,
    /// The block is in this slot.
    At(SlotAddress),
    /// It is in this pack, which is known by samples: read the pack's fingerprints, and give them to
    /// [`Catalog::remember_neighbours`].
    InPack(PackId),
}

/// The sizes at which the catalog does what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Recent keys are written to a segment at so many; each costs 29 bytes of RAM.
    pub flush_keys: usize,
    /// Runs are merged when there are more; each costs a lookup one more filter.
    pub run_count_max: usize,
    /// The most keys in a segment file.
    pub segment_keys_max: u64,
    /// Beyond so many keys, one in 64 is kept; each costs 10 bits of RAM and 24 bytes on disk.
    pub index_keys_max: u64,
    /// The most memory for the fingerprints of packs that are known by samples.
    pub neighbours_size_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            flush_keys: 720 << 10,
            run_count_max: 8,
            segment_keys_max: SEGMENT_KEYS_MAX,
            index_keys_max: 64 << 20,
            neighbours_size_bytes_max: 16 << 20,
        }
    }
}

/// What happened when a catalog was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Why the catalog was made anew, if it was.
    pub rebuilt: Option<String>,
    /// Segments of the index that were damaged or missing, and dropped.
    pub segments_dropped: u32,
}

/// The local cache of one repository.
///
/// All methods may be called from several threads. A method that writes has written when it returns, for other processes
/// too; after a power cut the last writes may be gone. An error of kind `Damaged` makes the next opening begin anew.
pub struct Catalog {
    folder: PathBuf,
    segments_folder: PathBuf,
    repository: RepositoryId,
    options: Options,
    report: OpenReport,
    state: Mutex<State>,
    memory: RwLock<Memory>,
    upkeep_lock: Mutex<File>,
}

impl Catalog {
    /// Opens the catalog in `folder`, and makes it if it is not there.
    ///
    /// A catalog that is damaged, of a newer program or of another repository is made anew; see [`Catalog::report`].
    ///
    /// # Errors
    /// Only what the system does not let us do: no room, no permission.
    pub fn open(folder: &Path, repository: RepositoryId) -> Result<Catalog> {
        Catalog::open_with(folder, repository, Options::default())
    }

    /// Opens the catalog with other sizes than the usual ones.
    pub fn open_with(folder: &Path, repository: RepositoryId, options: Options) -> Result<Catalog> {
        let segments_folder = folder.join("segments");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&segments_folder)
            .map_err(|error| Error::io(format!("create the catalog in {}", folder.display()), error))?;
        // Only one process opens at a time, so that two never make it anew at once.
        let opening = lock_file(&folder.join("open.lock"))?;
        opening.lock().map_err(|error| Error::io("lock the catalog to open it", error))?;
        let mut reason = was_damaged(folder).then(|| "it was found damaged before".to_owned());
        if reason.is_none() {
            match Catalog::load(folder, repository, options) {
                Err(error) if is_cured_by_rebuilding(&error) => reason = Some(error.to_string()),
                result => return result,
            }
        }
        remove_all(folder).map_err(|error| Error::io(format!("remove the catalog in {}", folder.display()), error))?;
        let mut catalog = Catalog::load(folder, repository, options)?;
        catalog.report.rebuilt = reason;
        Ok(catalog)
    }

    /// Returns the folder that it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns what happened when it was opened.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Returns a small object as it was in the store.
    ///
    /// What was forgotten before the object was remembered is in effect when this returns, also if another process did it:
    /// so a job may take a known GC record as applied.
    pub fn object(&self, name: &ObjectName) -> Result<Option<Vec<u8>>> {
        self.with_state(|state| {
            let body = rows::object(&state.connection, name)?;
            self.follow(state)?;
            Ok(body)
        })
    }

    /// Returns the names of all remembered objects that begin with `prefix`, sorted.
    pub fn object_names(&self, prefix: &str) -> Result<Vec<ObjectName>> {
        self.with_state(|state| {
            let names = rows::object_names(&state.connection, prefix)?;
            self.follow(state)?;
            Ok(names)
        })
    }

    /// Remembers an object as it is in the store.
    pub fn remember_object(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        self.with_state(|state| rows::remember_object(&state.connection, name, body))
    }

    /// Forgets an object that is gone from the store.
    pub fn forget_object(&self, name: &ObjectName) -> Result<()> {
        self.with_state(|state| rows::forget_object(&state.connection, name))
    }

    /// Returns what is known of a pack: of its newest known generation.
    pub fn pack(&self, id: PackId) -> Result<Option<PackFact>> {
        self.with_state(|state| rows::pack(&state.connection, id))
    }

    /// Remembers packs, all or none; older generations than the known ones are passed over.
    pub fn remember_packs(&self, packs: &[PackFact]) -> Result<()> {
        self.in_transaction("write packs to the catalog", |connection| {
            packs.iter().try_for_each(|pack| rows::remember_pack(connection, pack))
        })
    }

    /// Forgets a pack that is gone from the store, and all its slots for ever.
    pub fn forget_pack(&self, id: PackId) -> Result<()> {
        self.forget(|memory| memory.forgotten.missing_pack(id).into_iter().collect(), Some(id))
    }

    /// Returns when each of `packs` was last verified as a whole; none: never, as far as is known.
    pub fn verified(&self, packs: &[PackId]) -> Result<Vec<Option<Timestamp>>> {
        self.with_state(|state| packs.iter().map(|&pack| rows::verified(&state.connection, pack)).collect())
    }

    /// Notes that `packs` were verified as a whole at `moment`; a later moment that is known stays.
    pub fn set_verified(&self, packs: &[PackId], moment: Timestamp) -> Result<()> {
        self.in_transaction("write to the catalog what was verified", |connection| {
            packs.iter().try_for_each(|&pack| rows::set_verified(connection, pack, moment))
        })
    }

    /// Returns what was noted under `key`; the promise of [`Catalog::object`] holds.
    pub fn fact(&self, key: &str) -> Result<Option<String>> {
        self.with_state(|state| {
            let value = rows::fact(&state.connection, key)?;
            self.follow(state)?;
            Ok(value)
        })
    }

    /// Notes `value` under `key`.
    pub fn set_fact(&self, key: &str, value: &str) -> Result<()> {
        self.with_state(|state| rows::set_fact(&state.connection, key, value))
    }

    /// Returns whether an index record was inserted already.
    pub fn seen_index(&self, id: RecordId) -> Result<bool> {
        self.with_state(|state| rows::seen_index(&state.connection, id))
    }

    /// Writes a job into the history, or what became of it; the last 10,000 are kept.
    pub fn record_job(&self, job: &JobRecord) -> Result<()> {
        self.in_transaction("write a job to the catalog", |connection| rows::record_job(connection, job))
    }

    /// Returns the last jobs, newest first.
    pub fn jobs(&self, limit: u32) -> Result<Vec<JobRecord>> {
        self.with_state(|state| rows::jobs(&state.connection, limit))
    }

    /// Inserts a pack with its fingerprints; to be called once the pack is durable in the store.
    ///
    /// Atomic, and visible to other processes. Now and then it flushes and merges the index, which can take many seconds on
    /// a slow disk. If it fails with an error while doing that, the pack is inserted nevertheless.
    ///
    /// # Errors
    /// `InvalidInput` beyond 8,192 fingerprints.
    pub fn insert_pack(&self, pack: &PackFact, fingerprints: &[(SlotNumber, Fingerprint)]) -> Result<()> {
        let keys: Vec<(SlotNumber, Key)> =
            fingerprints.iter().map(|(slot, fingerprint)| (*slot, index::key_of(fingerprint))).collect();
        self.insert(None, &[(pack, &keys)], false)
    }

    /// Inserts what an index record says: the samples of packs that other hosts wrote.
    ///
    /// Many packs are inserted in several transactions; the last one marks the record as seen.
    ///
    /// # Errors
    /// `InvalidInput` if a pack has more than 8,192 samples.
    #[expect(clippy::type_complexity, reason = "packs with their samples, as an index record has them")]
    pub fn insert_sampled(&self, index: RecordId, packs: &[(PackFact, Vec<(SlotNumber, [u8; 16])>)]) -> Result<()> {
        let packs: Vec<(&PackFact, &[(SlotNumber, Key)])> =
            packs.iter().map(|(pack, keys)| (pack, &keys[..])).collect();
        let mut chunks = packs.chunks(RECENT_BLOCKS_MAX / 4).peekable();
        while let Some(chunk) = chunks.next_if(|chunk| chunk.len() == RECENT_BLOCKS_MAX / 4) {
            self.insert(None, chunk, true)?;
        }
        self.insert(Some(index), chunks.next().unwrap_or_default(), true)
    }

    /// Takes the fingerprints of a pack that a lookup named, for a while.
    ///
    /// Give none if the pack could not be read: then its samples are not offered meanwhile.
    pub fn remember_neighbours(&self, pack: &PackFact, fingerprints: &[(SlotNumber, Fingerprint)]) -> Result<()> {
        let origin = Origin { pack: pack.name.id, encryption_version: pack.encryption_version, is_sampled: false };
        let keys: Vec<(SlotNumber, Key)> =
            fingerprints.iter().map(|(slot, fingerprint)| (*slot, index::key_of(fingerprint))).collect();
        let body = block::encode(keys.iter().map(|(slot, key)| (*slot, key)));
        let make = |sequence| Block::new(sequence, origin, body.into());
        let size_bytes_max = self.options.neighbours_size_bytes_max;
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        if memory.insert_neighbours(make, size_bytes_max) { Ok(()) } else { Err(too_many_keys()) }
    }

    /// Takes over what other processes wrote; a microsecond if there is nothing.
    pub fn refresh(&self) -> Result<()> {
        self.with_state(|state| self.follow(state))
    }

    /// Returns where a block with this fingerprint is stored under this encryption version.
    ///
    /// Of several slots the one that was inserted last. Never a forgotten one, and never one made of damaged bytes: a
    /// damaged or unreadable part of the index answers `Unknown`.
    pub fn lookup(&self, encryption_version: EncryptionVersion, fingerprint: &Fingerprint) -> Result<Lookup> {
        let key = index::key_of(fingerprint);
        let (found, runs) = {
            let memory = self.memory();
            (memory.find(encryption_version, &key), Arc::clone(&memory.runs))
        };
        if matches!(found, Lookup::At(_)) {
            return Ok(found);
        }
        let older = find_in_runs(&runs, &key, |candidate| self.memory().judge(encryption_version, candidate));
        Ok(match (found, older) {
            (Lookup::Unknown, older) | (_, older @ Lookup::At(_)) => older,
            (found, _) => found,
        })
    }

    /// Never offers these slots again, whatever is inserted later.
    pub fn forget_slots(&self, slots: &[SlotAddress]) -> Result<()> {
        self.forget(|memory| memory.forgotten.missing(slots), None)
    }

    /// Never offers what was condemned again, whatever is inserted later: all or nothing.
    pub fn condemn(&self, condemned: &SlotSets) -> Result<()> {
        self.forget(|memory| memory.forgotten.missing_sets(condemned), None)
    }

    /// Says whether a slot is never offered: it was condemned, found damaged, or found gone.
    pub fn is_forgotten(&self, address: SlotAddress) -> Result<bool> {
        self.refresh()?;
        Ok(self.memory().forgotten.contains(address))
    }

    /// Lets the next opening make the catalog anew: what it says does not fit the store.
    pub fn distrust(&self) -> Result<()> {
        File::create(damage_mark(&self.folder))
            .map(drop)
            .map_err(|error| Error::io("mark the catalog to be made anew", error))
    }

    /// Writes the recent keys into a segment now, and merges if that is due.
    ///
    /// Nothing depends on it: recent keys are safe and visible without. Does nothing while another process is at it.
    pub fn flush(&self) -> Result<()> {
        self.keep_up(1)
    }

    pub(crate) fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn repository(&self) -> RepositoryId {
        self.repository
    }

    pub(crate) fn segments_folder(&self) -> &Path {
        &self.segments_folder
    }

    pub(crate) fn upkeep_lock(&self) -> &Mutex<File> {
        &self.upkeep_lock
    }

    /// Works with the database; damage is noted for the next opening.
    pub(crate) fn with_state<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state).inspect_err(|error| {
            if error.kind() == ErrorKind::Damaged {
                // If not even this can be written, the next opening will find the damage itself.
                let _ = File::create(damage_mark(&self.folder));
            }
        })
    }

    /// Reads what is new in the database, and shows it to lookups at once.
    pub(crate) fn take_news(&self, state: &mut State) -> Result<()> {
        self.read_news(state).map(drop)
    }

    fn read_news(&self, state: &mut State) -> Result<u32> {
        let runs = Arc::clone(&self.memory().runs);
        let news = state.read_news(&self.segments_folder, self.repository, &runs)?;
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        news.forgotten.into_iter().for_each(|range| memory.forgotten.insert(range));
        memory.runs = Arc::new(news.runs);
        memory.recents.retain(|block| block.sequence > news.flushed_through);
        for block in news.blocks {
            if memory.recents.key_count() < self.options.flush_keys.saturating_mul(RECENT_OVERFLOW) {
                memory.recents.insert(Arc::new(block));
            }
        }
        Ok(news.dropped_count)
    }

    fn follow(&self, state: &mut State) -> Result<()> {
        if state.is_stale()? { self.take_news(state) } else { Ok(()) }
    }

    fn load(folder: &Path, repository: RepositoryId, options: Options) -> Result<Catalog> {
        let connection = database::open(&folder.join("catalog.sqlite"), repository)?;
        let mut catalog = Catalog {
            folder: folder.to_owned(),
            segments_folder: folder.join("segments"),
            repository,
            options,
            report: OpenReport::default(),
            state: Mutex::new(State::new(connection)),
            memory: RwLock::new(Memory::default()),
            upkeep_lock: Mutex::new(lock_file(&folder.join("upkeep.lock"))?),
        };
        catalog.report.segments_dropped = catalog.with_state(|state| catalog.read_news(state))?;
        catalog.clean()?;
        Ok(catalog)
    }

    fn in_transaction(&self, doing: &'static str, write: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        self.with_state(|state| {
            let behavior = TransactionBehavior::Immediate;
            let transaction = state.connection.transaction_with_behavior(behavior).map_err(failed(doing))?;
            write(&transaction)?;
            transaction.commit().map_err(failed(doing))
        })
    }

    fn insert(
        &self,
        index: Option<RecordId>,
        packs: &[(&PackFact, &[(SlotNumber, Key)])],
        is_sampled: bool,
    ) -> Result<()> {
        if packs.iter().any(|(_, keys)| keys.len() > KEYS_PER_BLOCK_MAX) {
            return Err(too_many_keys());
        }
        self.in_transaction("write fingerprints to the catalog", |connection| {
            for (pack, keys) in packs {
                rows::remember_pack(connection, pack)?;
                if !keys.is_empty() {
                    insert_block(connection, pack, keys, is_sampled)?;
                }
            }
            index.map_or(Ok(()), |index| rows::set_seen_index(connection, index))
        })?;
        self.with_state(|state| self.take_news(state))?;
        let is_due = {
            let recents = &self.memory().recents;
            recents.key_count() >= self.options.flush_keys || recents.blocks().len() >= RECENT_BLOCKS_MAX
        };
        if is_due { self.keep_up(1) } else { Ok(()) }
    }

    fn forget(&self, missing: impl FnOnce(&Memory) -> Vec<ForgottenRange>, gone: Option<PackId>) -> Result<()> {
        self.with_state(|state| {
            self.follow(state)?;
            let ranges = missing(&self.memory());
            if ranges.is_empty() && gone.is_none() {
                return Ok(());
            }
            let doing = failed("write forgotten slots to the catalog");
            let behavior = TransactionBehavior::Immediate;
            let transaction = state.connection.transaction_with_behavior(behavior).map_err(&doing)?;
            for range in &ranges {
                insert_forgotten(&transaction, range)?;
            }
            if let Some(pack) = gone {
                rows::forget_pack(&transaction, pack)?;
            }
            transaction.commit().map_err(&doing)?;
            self.take_news(state)
        })
    }
}

fn insert_block(connection: &Connection, pack: &PackFact, keys: &[(SlotNumber, Key)], is_sampled: bool) -> Result<()> {
    let origin = Origin { pack: pack.name.id, encryption_version: pack.encryption_version, is_sampled };
    let body = block::encode(keys.iter().map(|(slot, key)| (*slot, key)));
    let checksum = block::checksum(&origin, &body);
    let write = || {
        let sql = "INSERT INTO recent_fingerprints(pack, encryption_version, is_sampled, body, checksum)
            VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![origin.pack.bytes(), origin.encryption_version.0, is_sampled, body, checksum];
        connection.prepare_cached(sql)?.execute(values)
    };
    write().map(drop).map_err(failed("write fingerprints to the catalog"))
}

fn insert_forgotten(connection: &Connection, range: &ForgottenRange) -> Result<()> {
    let write = || {
        let sql = "SELECT coalesce(max(sequence), 0) + 1 FROM forgotten";
        let sequence: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        let sql = "INSERT INTO forgotten(sequence, pack, first, last, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![sequence, range.pack.bytes(), range.first, range.last, range.checksum(sequence)];
        connection.prepare_cached(sql)?.execute(values)
    };
    write().map(drop).map_err(failed("write forgotten slots to the catalog"))
}

fn too_many_keys() -> Error {
    Error::invalid(format!("a pack has more than {KEYS_PER_BLOCK_MAX} fingerprints"))
}

fn lock_file(path: &Path) -> Result<File> {
    let open = || File::options().create(true).truncate(false).write(true).open(path);
    open().map_err(|error| Error::io(format!("open {}", path.display()), error))
}

fn damage_mark(folder: &Path) -> PathBuf {
    folder.join("catalog.damaged")
}

fn was_damaged(folder: &Path) -> bool {
    damage_mark(folder).exists()
}

fn is_cured_by_rebuilding(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported)
}

/// Removes everything but the lock files, the mark of damage last.
fn remove_all(folder: &Path) -> std::io::Result<()> {
    let is_gone_is_good = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    for name in ["catalog.sqlite-wal", "catalog.sqlite-shm", "catalog.sqlite"] {
        is_gone_is_good(std::fs::remove_file(folder.join(name)))?;
    }
    for file in std::fs::read_dir(folder.join("segments"))? {
        is_gone_is_good(std::fs::remove_file(file?.path()))?;
    }
    is_gone_is_good(std::fs::remove_file(damage_mark(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backy_core::ids::{Generation, LeaseId};
    use backy_core::names::PackName;

    #[test]
    fn a_full_disk_refuses_a_pack_as_a_whole_and_costs_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let repository = RepositoryId::from_bytes([7; 16]);
        let fingerprints: Vec<_> = (0..8192u16)
            .map(|slot| (SlotNumber(slot), Fingerprint(*blake3::hash(&slot.to_le_bytes()).as_bytes())))
            .collect();
        let pack = |number| PackFact {
            name: PackName {
                id: PackId::from_bytes([number; 16]),
                generation: Generation(0),
                lease: LeaseId::from_bytes([1; 16]),
            },
            encryption_version: EncryptionVersion(1),
            slot_count: 8192,
            size_bytes: 1,
        };
        let lookup = |catalog: &Catalog| catalog.lookup(EncryptionVersion(1), &fingerprints[5].1).unwrap();
        let catalog = Catalog::open(folder.path(), repository).unwrap();
        catalog.insert_pack(&pack(1), &fingerprints[..10]).unwrap();
        let pages = |count: i64| {
            let set = |state: &mut State| {
                state
                    .connection
                    .pragma_update_and_check(None, "max_page_count", count, |_| Ok(()))
                    .map_err(failed("set"))
            };
            catalog.with_state(set).unwrap();
        };
        pages(1);
        let error = catalog.insert_pack(&pack(2), &fingerprints).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(catalog.pack(PackId::from_bytes([2; 16])).unwrap(), None);
        assert_eq!(
            lookup(&catalog),
            Lookup::At(SlotAddress { pack: PackId::from_bytes([1; 16]), slot: SlotNumber(5) })
        );
        assert!(!was_damaged(folder.path()));
        pages(1 << 20);
        catalog.insert_pack(&pack(2), &fingerprints).unwrap();
        assert_eq!(
            lookup(&catalog),
            Lookup::At(SlotAddress { pack: PackId::from_bytes([2; 16]), slot: SlotNumber(5) })
        );
    }
}
