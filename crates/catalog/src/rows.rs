//! The small things in `catalog.sqlite`: objects, packs, facts, seen index records, the history of jobs.

use backy_core::environment::Timestamp;
use backy_core::ids::{EncryptionVersion, Generation, LeaseId, PackId, RecordId};
use backy_core::names::{ObjectName, PackName};
use backy_core::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::database::{failed, id_of, number_of, row_number};

/// How many finished jobs are remembered.
const JOBS_MAX: u32 = 10_000;

/// What is known of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackFact {
    /// Its newest known generation.
    pub name: PackName,
    /// The encryption version of its slots.
    pub encryption_version: EncryptionVersion,
    /// How many slots it has.
    pub slot_count: u32,
    /// The size of the object.
    pub size_bytes: u64,
}

/// A job in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// The lease that it held.
    pub id: LeaseId,
    /// What it was: "backup", "cleanup".
    pub kind: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none while it runs, or if it never came to that.
    pub finished: Option<Timestamp>,
    /// Its statistics and result, as JSON; the catalog does not look into it.
    pub json: String,
}

pub(crate) fn object(connection: &Connection, name: &ObjectName) -> Result<Option<Vec<u8>>> {
    let query = |connection: &Connection| {
        let mut statement = connection.prepare_cached("SELECT body FROM objects WHERE name = ?1")?;
        statement.query_row([name.as_str()], |row| row.get(0)).optional()
    };
    query(connection).map_err(failed("read an object from the catalog"))
}

pub(crate) fn object_names(connection: &Connection, prefix: &str) -> Result<Vec<ObjectName>> {
    let query = |connection: &Connection| {
        // Names are of ASCII letters, so this is behind all that begin with the prefix.
        let end = format!("{prefix}\u{7f}");
        let mut statement =
            connection.prepare_cached("SELECT name FROM objects WHERE name >= ?1 AND name < ?2 ORDER BY name")?;
        statement.query_map([prefix, &end], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    let names = query(connection).map_err(failed("list the objects of the catalog"))?;
    names
        .into_iter()
        .map(|name| ObjectName::new(name).map_err(|_| Error::damaged("the catalog has a bad name")))
        .collect()
}

pub(crate) fn remember_object(connection: &Connection, name: &ObjectName, body: &[u8]) -> Result<()> {
    let sql = "INSERT INTO objects(name, body) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET body = excluded.body";
    let write = || connection.prepare_cached(sql)?.execute(params![name.as_str(), body]);
    write().map(drop).map_err(failed("write an object to the catalog"))
}

pub(crate) fn forget_object(connection: &Connection, name: &ObjectName) -> Result<()> {
    let write = || connection.prepare_cached("DELETE FROM objects WHERE name = ?1")?.execute([name.as_str()]);
    write().map(drop).map_err(failed("remove an object from the catalog"))
}

pub(crate) fn pack(connection: &Connection, id: PackId) -> Result<Option<PackFact>> {
    let query = || {
        let sql = "SELECT generation, lease, encryption_version, slot_count, size_bytes FROM packs WHERE id = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let row = |row: &rusqlite::Row<'_>| {
            let lease: Vec<u8> = row.get(1)?;
            Ok((lease, [row.get::<_, i64>(0)?, row.get(2)?, row.get(3)?, row.get(4)?]))
        };
        statement.query_row([id.bytes()], row).optional()
    };
    let row = query().map_err(failed("read a pack from the catalog"))?;
    let Some((lease, [generation, encryption_version, slot_count, size_bytes])) = row else { return Ok(None) };
    Ok(Some(PackFact {
        name: PackName {
            id,
            generation: Generation(number_of(generation)?),
            lease: LeaseId::from_bytes(id_of(&lease)?),
        },
        encryption_version: EncryptionVersion(number_of(encryption_version)?),
        slot_count: number_of(slot_count)?,
        size_bytes: number_of(size_bytes)?,
    }))
}

/// Writes what is known of a pack, unless a newer generation is known.
pub(crate) fn remember_pack(connection: &Connection, pack: &PackFact) -> Result<()> {
    let size_bytes = row_number(pack.size_bytes)?;
    let write = || {
        let sql = "INSERT INTO packs(id, generation, lease, encryption_version, slot_count, size_bytes)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(id) DO UPDATE SET
            generation = excluded.generation, lease = excluded.lease, encryption_version = excluded.encryption_version,
            slot_count = excluded.slot_count, size_bytes = excluded.size_bytes
            WHERE excluded.generation >= packs.generation";
        connection.prepare_cached(sql)?.execute(params![
            pack.name.id.bytes(),
            pack.name.generation.0,
            pack.name.lease.bytes(),
            pack.encryption_version.0,
            pack.slot_count,
            size_bytes
        ])
    };
    write().map(drop).map_err(failed("write a pack to the catalog"))
}

pub(crate) fn forget_pack(connection: &Connection, id: PackId) -> Result<()> {
    let write = || {
        connection.prepare_cached("DELETE FROM verified WHERE pack = ?1")?.execute([id.bytes()])?;
        connection.prepare_cached("DELETE FROM packs WHERE id = ?1")?.execute([id.bytes()])
    };
    write().map(drop).map_err(failed("remove a pack from the catalog"))
}

pub(crate) fn verified(connection: &Connection, id: PackId) -> Result<Option<Timestamp>> {
    let query = || {
        let mut statement = connection.prepare_cached("SELECT moment FROM verified WHERE pack = ?1")?;
        statement.query_row([id.bytes()], |row| row.get::<_, i64>(0)).optional()
    };
    let moment = query().map_err(failed("read from the catalog when a pack was verified"))?;
    moment.map(|moment| number_of(moment).map(|milliseconds| Timestamp { milliseconds })).transpose()
}

pub(crate) fn set_verified(connection: &Connection, id: PackId, moment: Timestamp) -> Result<()> {
    let sql = "INSERT INTO verified(pack, moment) VALUES (?1, ?2)
        ON CONFLICT(pack) DO UPDATE SET moment = max(moment, excluded.moment)";
    let moment = row_number(moment.milliseconds)?;
    let write = || connection.prepare_cached(sql)?.execute(params![id.bytes(), moment]);
    write().map(drop).map_err(failed("write to the catalog when a pack was verified"))
}

pub(crate) fn fact(connection: &Connection, key: &str) -> Result<Option<String>> {
    let query = || {
        let mut statement = connection.prepare_cached("SELECT value FROM facts WHERE key = ?1")?;
        statement.query_row([key], |row| row.get(0)).optional()
    };
    query().map_err(failed("read a fact from the catalog"))
}

pub(crate) fn set_fact(connection: &Connection, key: &str, value: &str) -> Result<()> {
    let sql = "INSERT INTO facts(key, value) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value";
    let write = || connection.prepare_cached(sql)?.execute([key, value]);
    write().map(drop).map_err(failed("write a fact to the catalog"))
}

pub(crate) fn seen_index(connection: &Connection, id: RecordId) -> Result<bool> {
    let query = || {
        let mut statement = connection.prepare_cached("SELECT 1 FROM seen_index WHERE id = ?1")?;
        statement.exists([id.bytes()])
    };
    query().map_err(failed("read a seen index record from the catalog"))
}

pub(crate) fn set_seen_index(connection: &Connection, id: RecordId) -> Result<()> {
    let write = || connection.prepare_cached("INSERT OR IGNORE INTO seen_index(id) VALUES (?1)")?.execute([id.bytes()]);
    write().map(drop).map_err(failed("write a seen index record to the catalog"))
}

pub(crate) fn record_job(connection: &Connection, job: &JobRecord) -> Result<()> {
    let started = row_number(job.started.milliseconds)?;
    let finished = job.finished.map(|finished| row_number(finished.milliseconds)).transpose()?;
    let write = || {
        let sql = "INSERT OR REPLACE INTO jobs(id, kind, started, finished, json) VALUES (?1, ?2, ?3, ?4, ?5)";
        connection.prepare_cached(sql)?.execute(params![job.id.bytes(), job.kind, started, finished, job.json])?;
        let sql =
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs ORDER BY started DESC, id DESC LIMIT -1 OFFSET ?1)";
        connection.prepare_cached(sql)?.execute([JOBS_MAX])
    };
    write().map(drop).map_err(failed("write a job to the catalog"))
}

pub(crate) fn jobs(connection: &Connection, limit: u32) -> Result<Vec<JobRecord>> {
    type Row = (Vec<u8>, String, i64, Option<i64>, String);
    let query = || -> rusqlite::Result<Vec<Row>> {
        let sql = "SELECT id, kind, started, finished, json FROM jobs ORDER BY started DESC, id DESC LIMIT ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        statement.query_map([limit], row)?.collect()
    };
    let time = |value| number_of(value).map(|milliseconds| Timestamp { milliseconds });
    let mut jobs = Vec::new();
    for (id, kind, started, finished, json) in query().map_err(failed("read the jobs of the catalog"))? {
        let id = LeaseId::from_bytes(id_of(&id)?);
        jobs.push(JobRecord { id, kind, started: time(started)?, finished: finished.map(time).transpose()?, json });
    }
    Ok(jobs)
}
