//! Small sealed objects: written once, read whole, cached as they lie in the store.

use backy_core::keys::RecordKind;
use backy_core::names::ObjectName;
use backy_core::records::{LARGE_RECORD_BYTES_MAX, RECORD_BYTES_MAX, from_body, to_body};
use backy_core::{ErrorKind, Result, ResultExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::Repository;

impl Repository {
    /// Reads a record from the store.
    pub(crate) fn read_record<T: DeserializeOwned>(&self, kind: RecordKind, name: &ObjectName) -> Result<T> {
        let object = self.store.get(name, record_bytes_max(kind))?;
        self.decode_record(kind, name, &object)
    }

    /// Reads a record, from the catalog if it has it. Only for objects that never change.
    ///
    /// A record that the catalog has but cannot be opened is read from the store.
    pub(crate) fn read_cached_record<T: DeserializeOwned>(&self, kind: RecordKind, name: &ObjectName) -> Result<T> {
        if let Some(object) = self.catalog.object(name).unwrap_or_default()
            && let Ok(record) = self.decode_record(kind, name, &object)
        {
            return Ok(record);
        }
        let object = self.store.get(name, record_bytes_max(kind))?;
        let record = self.decode_record(kind, name, &object)?;
        if let Err(error) = self.catalog.remember_object(name, &object) {
            warn!("the catalog did not take {name}: {error}");
        }
        Ok(record)
    }

    /// Seals a record and puts it into the store; durable when it returns.
    pub(crate) fn put_record<T: Serialize>(&self, kind: RecordKind, name: &ObjectName, record: &T) -> Result<()> {
        self.put_record_body(kind, name, &to_body(record)?)
    }

    /// Seals the body of a record and puts it into the store; durable when it returns.
    pub(crate) fn put_record_body(&self, kind: RecordKind, name: &ObjectName, body: &[u8]) -> Result<()> {
        let object = self.keys.seal_record(kind, name, body, &self.environment)?;
        self.store.put(name, &object)
    }

    /// Reads the body of a record from the store.
    pub(crate) fn read_record_body(&self, kind: RecordKind, name: &ObjectName) -> Result<Vec<u8>> {
        let object = self.store.get(name, record_bytes_max(kind))?;
        self.keys.open_record(kind, name, &object).context(|| format!("open {name}"))
    }

    fn decode_record<T: DeserializeOwned>(&self, kind: RecordKind, name: &ObjectName, object: &[u8]) -> Result<T> {
        let body = self.keys.open_record(kind, name, object).context(|| format!("open {name}"))?;
        from_body(&body).context(|| format!("read {name}"))
    }
}

fn record_bytes_max(kind: RecordKind) -> u64 {
    match kind {
        RecordKind::Damage | RecordKind::Index | RecordKind::Gc => LARGE_RECORD_BYTES_MAX,
        _ => RECORD_BYTES_MAX,
    }
}

/// Turns "it is not there" into none.
pub(crate) fn if_found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
