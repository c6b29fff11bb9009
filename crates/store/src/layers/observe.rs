//! Counts what is asked of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backy_core::environment::Timestamp;
use backy_core::names::ObjectName;
use backy_core::{ErrorKind, Result};

use crate::object_store::{ObjectInfo, ObjectRange, ObjectStore};

/// Counters that go up while a store is used; shared with who wants to look.
#[derive(Debug, Default)]
pub struct Counters {
    puts: AtomicU64,
    put_bytes: AtomicU64,
    gets: AtomicU64,
    range_gets: AtomicU64,
    read_bytes: AtomicU64,
    lists: AtomicU64,
    listed_objects: AtomicU64,
    deletes: AtomicU64,
    failures: AtomicU64,
}

/// What was counted up to a moment. Requests that failed are counted too, their bytes are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects put.
    pub puts: u64,
    /// Bytes put.
    pub put_bytes: u64,
    /// Objects read in full.
    pub gets: u64,
    /// Parts of objects read.
    pub range_gets: u64,
    /// Bytes read, in full and in parts.
    pub read_bytes: u64,
    /// Listings.
    pub lists: u64,
    /// Objects that listings showed.
    pub listed_objects: u64,
    /// Objects whose deletion was asked for, alone or with others in one request.
    pub deletes: u64,
    /// Requests that failed, without those that found nothing.
    pub failures: u64,
}

impl Counters {
    /// Returns what was counted up to now.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            puts: read(&self.puts),
            put_bytes: read(&self.put_bytes),
            gets: read(&self.gets),
            range_gets: read(&self.range_gets),
            read_bytes: read(&self.read_bytes),
            lists: read(&self.lists),
            listed_objects: read(&self.listed_objects),
            deletes: read(&self.deletes),
            failures: read(&self.failures),
        }
    }
}

/// A store whose requests are counted.
pub struct Observe<S> {
    inner: S,
    counters: Arc<Counters>,
}

impl<S: ObjectStore> Observe<S> {
    /// Puts the layer around `inner`; it counts in `counters`.
    pub fn new(inner: S, counters: Arc<Counters>) -> Observe<S> {
        Observe { inner, counters }
    }

    fn count<T>(&self, requests: &AtomicU64, outcome: Result<T>) -> Result<T> {
        add(requests, 1);
        outcome.inspect_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                add(&self.counters.failures, 1);
            }
        })
    }
}

impl<S: ObjectStore> ObjectStore for Observe<S> {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        self.count(&self.counters.puts, self.inner.put(name, body))?;
        add(&self.counters.put_bytes, body.len() as u64);
        Ok(())
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        let body = self.count(&self.counters.gets, self.inner.get(name, size_bytes_max))?;
        add(&self.counters.read_bytes, body.len() as u64);
        Ok(body)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        self.count(&self.counters.range_gets, self.inner.get_range(name, range, buffer))?;
        add(&self.counters.read_bytes, buffer.len() as u64);
        Ok(())
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        let listed = self.inner.list(prefix, &mut |object| {
            add(&self.counters.listed_objects, 1);
            visit(object)
        });
        self.count(&self.counters.lists, listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.count(&self.counters.deletes, self.inner.delete(name))
    }

    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        let outcomes = self.inner.delete_many(names);
        outcomes.into_iter().map(|outcome| self.count(&self.counters.deletes, outcome)).collect()
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

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::object_store::list_all;

    #[test]
    fn requests_and_bytes_are_counted() {
        let counters = Arc::new(Counters::default());
        let store = Observe::new(MemoryStore::new(), counters.clone());
        let name = ObjectName::new("a").unwrap();
        store.put(&name, b"12345").unwrap();
        store.get(&name, 5).unwrap();
        store.get_range(&name, ObjectRange::Suffix { length_bytes: 2 }, &mut Vec::new()).unwrap();
        assert!(store.get(&name, 4).is_err());
        list_all(&store, "").unwrap();
        store.delete(&name).unwrap();
        assert!(store.get(&name, 5).is_err());
        let expected = Counts {
            puts: 1,
            put_bytes: 5,
            gets: 3,
            range_gets: 1,
            read_bytes: 7,
            lists: 1,
            listed_objects: 1,
            deletes: 1,
            failures: 1,
        };
        assert_eq!(counters.counts(), expected);
    }
}
