//! Upkeep of the segment files: flush, merge, thin, clean.
//!
//! One process of the host does it at a time, whoever has the lock on `upkeep.lock`; who does not get it goes on without.
//! New files are complete, durable and verified before one transaction makes them known and takes back what they replace;
//! only then the replaced files go. So a kill at any point leaves at most files that nobody knows, and the next opening
//! removes those. A process that still reads a removed file keeps it open.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, TryLockError as MutexBusy};

use backy_core::ids::SlotAddress;
use backy_core::{Error, Result};
use rusqlite::{Transaction, TransactionBehavior, params};

use crate::catalog::Catalog;
use crate::database::{failed, row_number};
use crate::follow::{read_segments, unregister};
use crate::index::Candidate;
use crate::index::merge::{self, Merged, RunWriter};
use crate::index::runs::Run;
use crate::index::segment::{self, Segment, SegmentFact};

/// Merges and dropped segments in one upkeep: a limit, not a number that is ever reached.
const ROUNDS_MAX: usize = 100;

impl Catalog {
    /// Flushes if there are at least `keys_min` recent keys, then merges what is due.
    ///
    /// Does nothing if somebody else is at it.
    pub(crate) fn keep_up(&self, keys_min: usize) -> Result<()> {
        self.with_upkeep_lock(|| {
            self.drop_bad_segments()?;
            if self.memory().recents.key_count() >= keys_min.max(1) {
                self.write_recents()?;
            }
            for _ in 0..ROUNDS_MAX {
                if !self.merge_once()? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Removes files that the database does not know, unless somebody is writing some.
    pub(crate) fn clean(&self) -> Result<()> {
        self.with_upkeep_lock(|| {
            let facts = self.with_state(|state| read_segments(&state.connection))?;
            let folder = self.segments_folder();
            let known: HashSet<PathBuf> = facts.iter().map(|fact| segment::path(folder, fact.id)).collect();
            let doing = || format!("clean {}", folder.display());
            for file in std::fs::read_dir(folder).map_err(|error| Error::io(doing(), error))? {
                let path = file.map_err(|error| Error::io(doing(), error))?.path();
                if !known.contains(&path) {
                    // It is in nobody's way: what cannot be removed stays.
                    let _ = std::fs::remove_file(path);
                }
            }
            Ok(())
        })
    }

    fn with_upkeep_lock(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let file: std::sync::MutexGuard<'_, File> = match self.upkeep_lock().try_lock() {
            Ok(file) => file,
            Err(MutexBusy::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(MutexBusy::WouldBlock) => return Ok(()),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock the catalog for upkeep", error)),
        }
        let result = work();
        let unlocked = file.unlock().map_err(|error| Error::io("unlock the catalog after upkeep", error));
        result.and(unlocked)
    }

    fn drop_bad_segments(&self) -> Result<()> {
        let bad: Vec<i64> =
            self.memory().runs.segments().filter(|segment| segment.is_bad()).map(|segment| segment.fact.id).collect();
        self.with_state(|state| {
            for &id in &bad {
                unregister(&state.connection, id)?;
            }
            self.take_news(state)
        })?;
        for id in bad {
            let _ = std::fs::remove_file(segment::path(self.segments_folder(), id));
        }
        Ok(())
    }

    fn write_recents(&self) -> Result<()> {
        // Blocks are numbered in the order of their commits: all up to `through` have been seen, and none comes later.
        let through = self.with_state(|state| Ok(state.recent_sequence))?;
        let mut blocks = self.memory().recents.blocks().to_vec();
        blocks.retain(|block| block.sequence <= through);
        let mut next_id = || self.next_segment_id();
        let writer = self.run_writer(through, &mut next_id);
        let facts = merge::write_blocks(&blocks, |candidate| self.keeps(candidate), writer)?;
        drop(blocks);
        self.publish(&facts, |transaction| {
            transaction.execute("DELETE FROM recent_fingerprints WHERE sequence <= ?1", [through])?;
            transaction.execute("UPDATE repository SET flushed_through = ?1", [through])
        })
    }

    /// Merges some runs if that is due, and returns whether there may be more to do.
    fn merge_once(&self) -> Result<bool> {
        let runs = Arc::clone(&self.memory().runs);
        let options = self.options();
        let sizes: Vec<u64> = runs.newest_first().iter().map(Run::key_count).collect();
        let full_key_count: u64 = runs.segments().map(|segment| segment.fact.full_key_count).sum();
        let key_count: u64 = sizes.iter().sum();
        let thins = key_count > options.index_keys_max && full_key_count * 2 >= key_count;
        let count = if thins { Some(sizes.len()) } else { merge::plan(&sizes, options.run_count_max) };
        let Some((inputs, newest)) =
            count.and_then(|count| runs.newest_first().get(..count)).and_then(|inputs| Some((inputs, inputs.first()?)))
        else {
            return Ok(false);
        };
        let mut next_id = || self.next_segment_id();
        let writer = self.run_writer(newest.number, &mut next_id);
        let facts = match merge::merge_runs(inputs, thins, |candidate| self.keeps(candidate), writer)? {
            Merged::Done(facts) => facts,
            Merged::BadInput(segment) => {
                segment.mark_bad();
                self.drop_bad_segments()?;
                return Ok(true);
            }
        };
        let replaced: Vec<SegmentFact> =
            inputs.iter().flat_map(|run| &run.segments).map(|segment| segment.fact.clone()).collect();
        self.publish(&facts, |transaction| {
            let mut statement = transaction.prepare_cached("DELETE FROM segments WHERE id = ?1")?;
            replaced.iter().try_fold(0, |count, fact| Ok(count + statement.execute([fact.id])?))
        })?;
        merge::remove_segments(self.segments_folder(), &replaced);
        Ok(true)
    }

    /// Makes new segments known, together with what `replace` takes back.
    fn publish(
        &self,
        facts: &[SegmentFact],
        replace: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize>,
    ) -> Result<()> {
        let folder = self.segments_folder();
        let verify = || facts.iter().try_for_each(|fact| Segment::open(folder, self.repository(), fact).map(drop));
        let register = || {
            self.with_state(|state| {
                let doing = failed("write the list of segments");
                let transaction =
                    state.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&doing)?;
                replace(&transaction).map_err(&doing)?;
                for fact in facts {
                    insert_segment(&transaction, fact)?;
                }
                transaction.commit().map_err(&doing)
            })
        };
        if let Err(error) = verify().and_then(|()| register()) {
            merge::remove_segments(folder, facts);
            return Err(error);
        }
        self.with_state(|state| self.take_news(state))
    }

    fn next_segment_id(&self) -> Result<i64> {
        self.with_state(|state| {
            let doing = failed("number a segment");
            state.connection.execute("INSERT INTO segment_numbers DEFAULT VALUES", []).map_err(&doing)?;
            let id = state.connection.last_insert_rowid();
            state.connection.execute("DELETE FROM segment_numbers WHERE number < ?1", [id]).map_err(&doing)?;
            Ok(id)
        })
    }

    fn run_writer<'a>(&'a self, run: i64, next_id: &'a mut dyn FnMut() -> Result<i64>) -> RunWriter<'a> {
        let folder: &Path = self.segments_folder();
        RunWriter::new(folder, self.repository(), run, self.options().segment_keys_max, next_id)
    }

    fn keeps(&self, candidate: &Candidate) -> bool {
        let address = SlotAddress { pack: candidate.origin.pack, slot: candidate.slot };
        !self.memory().forgotten.contains(address)
    }
}

fn insert_segment(transaction: &Transaction<'_>, fact: &SegmentFact) -> Result<()> {
    let (key_count, full_key_count) = (row_number(fact.key_count)?, row_number(fact.full_key_count)?);
    let sql = "INSERT INTO segments(id, run, key_count, full_key_count, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";
    let write = || {
        let mut statement = transaction.prepare_cached(sql)?;
        statement.execute(params![fact.id, fact.run, key_count, full_key_count, fact.checksum])
    };
    write().map(drop).map_err(failed("write the list of segments"))
}
