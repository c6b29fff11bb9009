//! Limits how many reads and how many writes a store does at the same time.
//!
//! Who waits is served in the order of coming. A deletion counts as a write. A listing counts as nothing: it calls back
//! while it runs, and who is called back may read.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use backy_core::Result;
use backy_core::environment::Timestamp;
use backy_core::names::ObjectName;

use crate::object_store::{ObjectInfo, ObjectRange, ObjectStore};

/// A store that does not do everything at once. See the module.
pub struct Limit<S> {
    inner: S,
    reads: Slots,
    writes: Slots,
}

impl<S: ObjectStore> Limit<S> {
    /// Puts the layer around `inner`; at least one read and one write are let through.
    pub fn new(inner: S, simultaneous_reads: usize, simultaneous_writes: usize) -> Limit<S> {
        Limit { inner, reads: Slots::new(simultaneous_reads), writes: Slots::new(simultaneous_writes) }
    }
}

impl<S: ObjectStore> ObjectStore for Limit<S> {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        let _slot = self.writes.take();
        self.inner.put(name, body)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        let _slot = self.reads.take();
        self.inner.get(name, size_bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        let _slot = self.reads.take();
        self.inner.get_range(name, range, buffer)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let _slot = self.writes.take();
        self.inner.delete(name)
    }

    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        let _slot = self.writes.take();
        self.inner.delete_many(names)
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

/// A number of slots, given out in the order of asking.
struct Slots {
    count: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of the next one who asks.
    next: u64,
    /// How many have given their slot back.
    returned: u64,
}

impl Slots {
    fn new(count: usize) -> Slots {
        Slots { count: (count as u64).max(1), state: Mutex::default(), changed: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        let mut state = self.lock();
        let mine = state.next;
        state.next += 1;
        // The one of number n may begin when all but `count` - 1 of those before are done.
        while mine >= state.returned + self.count {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Slot(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is taken; dropping it gives it back.
struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.lock().returned += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::memory::MemoryStore;
    use crate::object_store::list_all;

    /// A store that counts who is inside at the same time.
    #[derive(Default)]
    struct Crowded {
        inner: MemoryStore,
        inside: AtomicUsize,
        most: AtomicUsize,
    }

    impl Crowded {
        fn stay(&self) {
            let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(inside, Ordering::SeqCst);
            for _ in 0..100 {
                std::thread::yield_now();
            }
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl ObjectStore for Crowded {
        fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
            self.stay();
            self.inner.put(name, body)
        }
        fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
            self.inner.get(name, size_bytes_max)
        }
        fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
            self.inner.get_range(name, range, buffer)
        }
        fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
            self.inner.list(prefix, visit)
        }
        fn delete(&self, name: &ObjectName) -> Result<()> {
            self.stay();
            self.inner.delete(name)
        }
        fn url(&self) -> String {
            self.inner.url()
        }
    }

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    #[test]
    fn no_more_than_the_limit_are_inside() {
        for writes in [1, 3] {
            let store = Limit::new(Crowded::default(), 1, writes);
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let store = &store;
                    scope.spawn(move || {
                        for i in 0..20 {
                            store.put(&name(&format!("{thread}-{i}")), b"").unwrap();
                            store.delete(&name(&format!("{thread}-{i}"))).unwrap();
                        }
                    });
                }
            });
            assert!(store.inner.most.load(Ordering::SeqCst) <= writes);
        }
    }

    #[test]
    fn who_is_called_back_by_a_listing_may_read_and_write() {
        let store = Limit::new(MemoryStore::new(), 0, 0);
        store.put(&name("a"), b"x").unwrap();
        store
            .list("", &mut |object| {
                assert_eq!(store.get(&object.name, 9)?, b"x");
                store.delete(&object.name)
            })
            .unwrap();
        assert!(list_all(&store, "").unwrap().is_empty());
    }

    #[test]
    fn a_request_that_fails_gives_its_slot_back() {
        let store = Limit::new(MemoryStore::new(), 1, 1);
        for _ in 0..3 {
            assert!(store.get(&name("a"), 1).is_err());
        }
    }
}
