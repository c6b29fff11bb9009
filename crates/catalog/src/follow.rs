//! Takes over what other processes wrote into the same folder.
//!
//! `PRAGMA data_version` tells in a microsecond that somebody committed. Then, in one read transaction: the forgotten slots
//! and the recent fingerprints behind the last ones seen, and the list of segments. All of it becomes visible to lookups
//! at once. Own writes take the same way, so there is one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use backy_core::ids::{EncryptionVersion, PackId, RepositoryId};
use backy_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::database::{failed, id_of, number_of};
use crate::forgotten::ForgottenRange;
use crate::index::Origin;
use crate::index::block::{self, Block};
use crate::index::runs::Runs;
use crate::index::segment::{Segment, SegmentFact};

/// How often a list of segments is read again because files of it were merged away meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// The database, and how far it has been read.
pub(crate) struct State {
    pub connection: Connection,
    pub data_version: Option<i64>,
    /// The last recent block that was seen.
    pub recent_sequence: i64,
    pub forgotten_sequence: i64,
}

/// What was new.
pub(crate) struct News {
    pub forgotten: Vec<ForgottenRange>,
    pub blocks: Vec<Block>,
    /// Blocks up to this one are in segments.
    pub flushed_through: i64,
    pub runs: Runs,
    /// Segments that had to be dropped.
    pub dropped_count: u32,
}

impl State {
    /// Begins with a database of which nothing was read.
    pub fn new(connection: Connection) -> State {
        State { connection, data_version: None, recent_sequence: 0, forgotten_sequence: 0 }
    }

    /// Returns whether another process committed since the last reading.
    pub fn is_stale(&self) -> Result<bool> {
        let query = || self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0));
        Ok(self.data_version != Some(query().map_err(failed("read the catalog"))?))
    }

    /// Reads what is new; `open` are the segments that are open already.
    ///
    /// # Errors
    /// `Damaged` if a forgotten slot cannot be read: then nothing that the catalog offers can be trusted.
    pub fn read_news(&mut self, folder: &Path, repository: RepositoryId, open: &Runs) -> Result<News> {
        let mut open: HashMap<i64, Arc<Segment>> =
            open.segments().map(|segment| (segment.fact.id, Arc::clone(segment))).collect();
        let mut dropped_count = 0;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let rows = self.read_rows()?;
            let mut is_list_old = false;
            let mut segments = Vec::new();
            for fact in &rows.segments {
                if let Some(segment) = open.get(&fact.id).filter(|segment| segment.fact == *fact && !segment.is_bad()) {
                    segments.push(Arc::clone(segment));
                    continue;
                }
                match Segment::open(folder, repository, fact).map(Arc::new) {
                    Ok(segment) => {
                        open.insert(fact.id, Arc::clone(&segment));
                        segments.push(segment);
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                        let was_registered = unregister(&self.connection, fact.id)?;
                        is_list_old |= !was_registered;
                        dropped_count += u32::from(was_registered);
                    }
                    // Not readable for now, by us: it stays for others and for later.
                    Err(_) => {}
                }
            }
            if is_list_old && attempt < ATTEMPTS_MAX {
                continue;
            }
            self.data_version = Some(rows.data_version);
            self.recent_sequence = rows.recent_sequence;
            self.forgotten_sequence = rows.forgotten_sequence;
            return Ok(News {
                forgotten: rows.forgotten,
                blocks: rows.blocks,
                flushed_through: rows.flushed_through,
                runs: Runs::new(segments),
                dropped_count,
            });
        }
    }

    fn read_rows(&mut self) -> Result<Rows> {
        let doing = "read the catalog";
        let (recent_before, forgotten_before) = (self.recent_sequence, self.forgotten_sequence);
        // Read before the transaction: a commit in between is read twice rather than never.
        let data_version =
            self.connection.query_row("PRAGMA data_version", [], |row| row.get(0)).map_err(failed(doing))?;
        let transaction = self.connection.transaction().map_err(failed(doing))?;
        let flushed_through = transaction
            .prepare_cached("SELECT flushed_through FROM repository")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(failed(doing))?;
        let (forgotten, forgotten_sequence) = read_forgotten(&transaction, forgotten_before)?;
        let (blocks, recent_sequence) = read_blocks(&transaction, recent_before)?;
        let segments = read_segments(&transaction)?;
        transaction.commit().map_err(failed(doing))?;
        Ok(Rows { data_version, forgotten, forgotten_sequence, blocks, recent_sequence, flushed_through, segments })
    }
}

struct Rows {
    data_version: i64,
    forgotten: Vec<ForgottenRange>,
    forgotten_sequence: i64,
    blocks: Vec<Block>,
    recent_sequence: i64,
    flushed_through: i64,
    segments: Vec<SegmentFact>,
}

/// Reads forgotten ranges; they are numbered without gaps, so that a lost row is noticed.
fn read_forgotten(connection: &Connection, after: i64) -> Result<(Vec<ForgottenRange>, i64)> {
    let doing = failed("read the forgotten slots");
    let sql = "SELECT sequence, pack, first, last, checksum FROM forgotten WHERE sequence > ?1 ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql).map_err(&doing)?;
    let mut rows = statement.query([after]).map_err(&doing)?;
    let mut sequence = after;
    let mut forgotten = Vec::new();
    while let Some(row) = rows.next().map_err(&doing)? {
        let column = |index: usize| row.get::<_, i64>(index).map_err(&doing);
        let blob = |index: usize| row.get::<_, Vec<u8>>(index).map_err(&doing);
        let pack = PackId::from_bytes(id_of(&blob(1)?)?);
        let range = ForgottenRange { pack, first: number_of(column(2)?)?, last: number_of(column(3)?)? };
        sequence += 1;
        if column(0)? != sequence || blob(4)? != range.checksum(sequence) {
            return Err(Error::damaged(format!("forgotten slots {sequence} of the catalog are not what was written")));
        }
        forgotten.push(range);
    }
    Ok((forgotten, sequence))
}

/// Reads recent blocks; one that is damaged is left out, which costs deduplication only.
fn read_blocks(connection: &Connection, after: i64) -> Result<(Vec<Block>, i64)> {
    let doing = failed("read the recent fingerprints");
    let sql = "SELECT sequence, pack, encryption_version, is_sampled, body, checksum FROM recent_fingerprints
        WHERE sequence > ?1 ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql).map_err(&doing)?;
    let mut rows = statement.query([after]).map_err(&doing)?;
    let mut sequence = after;
    let mut blocks = Vec::new();
    while let Some(row) = rows.next().map_err(&doing)? {
        sequence = row.get(0).map_err(&doing)?;
        let blob = |index: usize| row.get::<_, Vec<u8>>(index);
        let read = || Ok::<_, rusqlite::Error>((blob(1)?, row.get(2)?, row.get::<_, i64>(3)?, blob(4)?, blob(5)?));
        let Ok((pack, encryption_version, is_sampled, body, checksum)) = read() else { continue };
        let (Ok(pack), Ok(encryption_version)) = (id_of(&pack), number_of::<u32>(encryption_version)) else { continue };
        let origin = Origin {
            pack: PackId::from_bytes(pack),
            encryption_version: EncryptionVersion(encryption_version),
            is_sampled: is_sampled != 0,
        };
        if block::checksum(&origin, &body) == checksum[..] {
            blocks.extend(Block::new(sequence, origin, body.into()));
        }
    }
    Ok((blocks, sequence))
}

/// Reads the list of segments; a row that cannot be is as good as none.
pub(crate) fn read_segments(connection: &Connection) -> Result<Vec<SegmentFact>> {
    let doing = failed("list the segments of the catalog");
    let sql = "SELECT id, run, key_count, full_key_count, checksum FROM segments ORDER BY id";
    let mut statement = connection.prepare_cached(sql).map_err(&doing)?;
    let mut rows = statement.query([]).map_err(&doing)?;
    let mut facts = Vec::new();
    while let Some(row) = rows.next().map_err(&doing)? {
        let read = || -> rusqlite::Result<([i64; 4], Vec<u8>)> {
            Ok(([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?], row.get(4)?))
        };
        let ([id, run, key_count, full_key_count], checksum) = read().map_err(&doing)?;
        let checksum = checksum[..].try_into().map_err(|_| Error::damaged("a segment has no checksum"))?;
        facts.push(SegmentFact {
            id,
            run,
            key_count: number_of(key_count)?,
            full_key_count: number_of(full_key_count)?,
            checksum,
        });
    }
    Ok(facts)
}

/// Removes a segment from the list; false if it was not there.
pub(crate) fn unregister(connection: &Connection, id: i64) -> Result<bool> {
    let sql = "DELETE FROM segments WHERE id = ?1 RETURNING id";
    let query = || connection.prepare_cached(sql)?.query_row(params![id], |_| Ok(())).optional();
    Ok(query().map_err(failed("drop a segment of the catalog"))?.is_some())
}
