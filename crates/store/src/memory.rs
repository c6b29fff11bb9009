//! A store in memory, for tests and for measuring everything but a store. Nothing of it outlives the process.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use backy_core::names::ObjectName;
use backy_core::{Error, ErrorKind, Result};

use crate::object_store::{ObjectInfo, ObjectRange, ObjectStore};

type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

/// A store in memory. Clones share the content, as hosts share a repository.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<RwLock<Objects>>);

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Returns a store of its own with the same content.
    pub fn copy(&self) -> MemoryStore {
        MemoryStore(Arc::new(RwLock::new(self.read().clone())))
    }

    /// Returns the size of all objects together, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.read().values().map(|body| body.len() as u64).sum()
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self, name: &ObjectName) -> Result<Arc<[u8]>> {
        let missing = || Error::new(ErrorKind::NotFound, format!("read {name}: it is not there"));
        self.read().get(name).cloned().ok_or_else(missing)
    }
}

impl ObjectStore for MemoryStore {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        let body = Arc::from(body);
        self.write().insert(name.clone(), body);
        Ok(())
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        let body = self.body(name)?;
        let size_bytes = body.len() as u64;
        if size_bytes > size_bytes_max {
            return Err(Error::damaged(format!(
                "read {name}: it has {size_bytes} bytes, more than the {size_bytes_max} that are possible"
            )));
        }
        Ok(body.to_vec())
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        let body = self.body(name)?;
        let (offset_bytes, length_bytes) = range.within(name, body.len() as u64)?;
        let part = usize::try_from(offset_bytes)
            .ok()
            .zip(usize::try_from(offset_bytes + length_bytes).ok())
            .and_then(|(start, end)| body.get(start..end));
        buffer.extend_from_slice(part.unwrap_or_default());
        Ok(())
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        let objects: Vec<ObjectInfo> = self
            .read()
            .iter()
            .skip_while(|(name, _)| name.as_str() < prefix)
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, body)| ObjectInfo { name: name.clone(), size_bytes: body.len() as u64 })
            .collect();
        // The lock is free again: `visit` may use the store.
        objects.into_iter().try_for_each(visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.write().remove(name);
        Ok(())
    }

    fn url(&self) -> String {
        "memory:".to_owned()
    }
}
