//! `catalog.sqlite`: opening, migrating, and what SQLite's answers mean.
//!
//! Write-ahead logging and `synchronous = NORMAL`: after a power cut the last transactions may be gone, in order, and that
//! costs only what a cache may cost. A database that is damaged, newer than this program or of another repository is not
//! repaired but made anew by the caller.

use std::path::Path;
use std::time::Duration;

use backy_core::ids::RepositoryId;
use backy_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, TransactionBehavior};

/// Marks our databases: "bky2".
const APPLICATION_ID: i64 = 0x626b_7932;

const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// What brings a database from one version to the next; the number of the version is the position after it.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE repository(id BLOB NOT NULL, flushed_through INTEGER NOT NULL);
    CREATE TABLE objects(name TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE packs(
        id BLOB NOT NULL PRIMARY KEY, generation INTEGER NOT NULL, lease BLOB NOT NULL,
        encryption_version INTEGER NOT NULL, slot_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE facts(key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE seen_index(id BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE jobs(
        id BLOB NOT NULL PRIMARY KEY, kind TEXT NOT NULL, started INTEGER NOT NULL, finished INTEGER, json TEXT NOT NULL
    );
    CREATE INDEX jobs_by_start ON jobs(started);
    CREATE TABLE recent_fingerprints(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, pack BLOB NOT NULL, encryption_version INTEGER NOT NULL,
        is_sampled INTEGER NOT NULL, body BLOB NOT NULL, checksum BLOB NOT NULL
    );
    CREATE TABLE forgotten(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, pack BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        checksum BLOB NOT NULL
    );
    CREATE TABLE segment_numbers(number INTEGER PRIMARY KEY AUTOINCREMENT);
    CREATE TABLE segments(
        id INTEGER PRIMARY KEY, run INTEGER NOT NULL, key_count INTEGER NOT NULL, full_key_count INTEGER NOT NULL,
        checksum BLOB NOT NULL
    );
",
    "
    CREATE TABLE verified(pack BLOB NOT NULL PRIMARY KEY, moment INTEGER NOT NULL) WITHOUT ROWID;
",
];

/// Opens the database, makes it if it is not there, and brings it to this program's version.
///
/// # Errors
/// `Damaged` or `Unsupported` when it is to be made anew; anything else concerns the system.
pub(crate) fn open(path: &Path, repository: RepositoryId) -> Result<Connection> {
    let mut connection = Connection::open(path).map_err(failed("open the catalog"))?;
    prepare(&connection).map_err(failed("open the catalog"))?;
    migrate(&mut connection, repository)?;
    check(&connection, repository)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn migrate(connection: &mut Connection, repository: RepositoryId) -> Result<()> {
    let doing = "migrate the catalog";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(doing))?;
    let number = |pragma: &str| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let version = number("user_version").map_err(failed(doing))?;
    let application = number("application_id").map_err(failed(doing))?;
    let version = usize::try_from(version).map_err(|_| Error::damaged("the catalog has no version"))?;
    if version > 0 && application != APPLICATION_ID {
        return Err(Error::damaged("the catalog is a database of something else"));
    }
    let missing = MIGRATIONS.get(version..).ok_or_else(|| {
        let text = format!("the catalog has version {version}, this program knows {}", MIGRATIONS.len());
        Error::new(ErrorKind::Unsupported, text)
    })?;
    for migration in missing {
        transaction.execute_batch(migration).map_err(failed(doing))?;
    }
    if version == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed(doing))?;
        transaction
            .execute("INSERT INTO repository(id, flushed_through) VALUES (?1, 0)", [repository.bytes()])
            .map_err(failed(doing))?;
    }
    transaction.pragma_update(None, "user_version", row_number(MIGRATIONS.len() as u64)?).map_err(failed(doing))?;
    transaction.commit().map_err(failed(doing))
}

fn check(connection: &Connection, repository: RepositoryId) -> Result<()> {
    let doing = "open the catalog";
    let stored: Vec<u8> =
        connection.query_row("SELECT id FROM repository", [], |row| row.get(0)).map_err(failed(doing))?;
    if stored != repository.bytes() {
        return Err(Error::damaged("the catalog is of another repository"));
    }
    for table in ["objects", "packs", "facts", "seen_index", "jobs", "segment_numbers", "verified"] {
        let statement = format!("SELECT count(*) FROM (SELECT * FROM {table} LIMIT 1)");
        connection.query_row(&statement, [], |_| Ok(())).map_err(failed(doing))?;
    }
    Ok(())
}

/// Returns what makes our error of one of SQLite.
pub(crate) fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| Error::with_source(kind_of(&error), doing, error)
}

fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::ErrorCode;
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => ErrorKind::NoSpace,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => ErrorKind::Busy,
            ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied => {
                ErrorKind::PermissionDenied
            }
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory => ErrorKind::Io,
            _ => ErrorKind::Damaged,
        },
        _ => ErrorKind::Damaged,
    }
}

/// Takes an id out of a row.
pub(crate) fn id_of(bytes: &[u8]) -> Result<[u8; 16]> {
    bytes.try_into().map_err(|_| Error::damaged("the catalog has an id of another length"))
}

/// Takes a number out of a row.
pub(crate) fn number_of<T: TryFrom<i64>>(value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| Error::damaged("the catalog has a number that cannot be"))
}

/// Makes a number fit for a row.
pub(crate) fn row_number(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::invalid("the number is too large for the catalog"))
}
