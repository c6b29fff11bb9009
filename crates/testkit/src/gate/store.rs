//! A store whose calls wait at a gate.

use std::sync::{Arc, Mutex, PoisonError};

use backy_core::Result;
use backy_core::environment::Timestamp;
use backy_core::names::ObjectName;
use backy_store::object_store::list_all;
use backy_store::{ObjectInfo, ObjectRange, ObjectStore};

use super::{Actor, Gate, Turn};
use crate::store::{Operation, delete_backwards};

/// A store behind a gate. Clones are the same store, on behalf of the same actor.
#[derive(Clone)]
pub struct GatedStore {
    gate: Gate,
    inner: Arc<dyn ObjectStore>,
    actor: Arc<Mutex<Option<Actor>>>,
}

impl GatedStore {
    pub(super) fn new(gate: Gate, inner: Arc<dyn ObjectStore>) -> GatedStore {
        GatedStore { gate, inner, actor: Arc::default() }
    }

    /// Says on whose behalf calls are made from now on; none: on nobody's, and they do not wait.
    pub fn act_for(&self, actor: Option<Actor>) {
        *self.actor.lock().unwrap_or_else(PoisonError::into_inner) = actor;
    }

    fn pass(&self, operation: Operation, name: &str) -> Option<Turn<'_>> {
        let actor = *self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        actor.map(|actor| self.gate.pass(actor, operation, name))
    }
}

impl ObjectStore for GatedStore {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        let _turn = self.pass(Operation::Put, name.as_str());
        self.inner.put(name, body)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        let _turn = self.pass(Operation::Get, name.as_str());
        self.inner.get(name, size_bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        let _turn = self.pass(Operation::GetRange, name.as_str());
        self.inner.get_range(name, range, buffer)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        // The turn ends before `visit` runs: it may use the store.
        let turn = self.pass(Operation::List, prefix);
        let objects = list_all(self.inner.as_ref(), prefix);
        drop(turn);
        objects?.into_iter().try_for_each(visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let _turn = self.pass(Operation::Delete, name.as_str());
        self.inner.delete(name)
    }

    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        // One call each, so that others come in between.
        delete_backwards(self, names)
    }

    fn piece_bytes(&self) -> u32 {
        self.inner.piece_bytes()
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn remove_stale_temporaries(&self, before: Timestamp) -> Result<u64> {
        self.inner.remove_stale_temporaries(before)
    }
}
