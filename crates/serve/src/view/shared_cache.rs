//! What several readers want is loaded once, and kept while there is room.
//!
//! ```text
//!             find                 finish(value)
//!  absent  ---------->  loading  ---------------->  kept  --> forgotten when others need the room
//!    ^                     |
//!    +---------------------+
//!      finish(error), or the ticket is dropped
//! ```
//!
//! Who finds nothing gets a [`Ticket`] and must load; who comes later waits for that. Errors are told to those who wait
//! and not kept. The kept values are in two halves: what is used moves into the young one; when that is full, the old one
//! is forgotten and the young one becomes it. So room is bounded, and finding costs the same whatever is kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backy_core::{Error, Result};

/// Values by key. See the module.
pub(crate) struct SharedCache<K, V> {
    state: Mutex<State<K, V>>,
    half_bytes_max: usize,
    weigh: fn(&V) -> usize,
}

struct State<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_bytes: usize,
    loading: HashMap<K, Arc<Flight<V>>>,
}

/// What is known of a value.
pub(crate) enum Found<K: Copy + Eq + Hash, V: Clone> {
    /// Here it is.
    Kept(V),
    /// Somebody loads it.
    Awaited(Arc<Flight<V>>),
    /// Load it.
    Absent(Ticket<K, V>),
}

/// A value that somebody loads.
pub(crate) struct Flight<V> {
    landed: Mutex<Option<Landed<V>>>,
    changed: Condvar,
}

/// How loading a value ended.
#[derive(Clone)]
pub(crate) enum Landed<V> {
    /// Here it is.
    Value(V),
    /// It could not be had.
    Failed(Arc<Error>),
    /// Nobody has tried.
    Abandoned,
}

/// The duty to load a value. When it is dropped, those who wait are told that nobody has tried.
pub(crate) struct Ticket<K: Copy + Eq + Hash, V: Clone> {
    cache: Arc<SharedCache<K, V>>,
    key: K,
    flight: Arc<Flight<V>>,
}

impl<K: Copy + Eq + Hash, V: Clone> SharedCache<K, V> {
    /// Makes a cache that keeps about `bytes_max` bytes, as `weigh` counts them.
    pub(crate) fn new(bytes_max: usize, weigh: fn(&V) -> usize) -> SharedCache<K, V> {
        let state = State { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, loading: HashMap::new() };
        SharedCache { state: Mutex::new(state), half_bytes_max: bytes_max / 2, weigh }
    }

    /// Returns what is known of each of `keys`, in their order.
    pub(crate) fn find_all(self: &Arc<Self>, keys: impl IntoIterator<Item = K>) -> Vec<Found<K, V>> {
        let mut state = self.lock();
        keys.into_iter().map(|key| self.find_in(&mut state, key)).collect()
    }

    /// Returns what is known of one key.
    pub(crate) fn find(self: &Arc<Self>, key: K) -> Found<K, V> {
        self.find_in(&mut self.lock(), key)
    }

    /// Returns a ticket for each of `keys` that is neither kept nor being loaded.
    pub(crate) fn begin_absent(self: &Arc<Self>, keys: impl IntoIterator<Item = K>) -> Vec<Ticket<K, V>> {
        let mut state = self.lock();
        let mut tickets = Vec::new();
        for key in keys {
            let is_known =
                state.young.contains_key(&key) || state.old.contains_key(&key) || state.loading.contains_key(&key);
            if !is_known {
                tickets.push(self.begin(&mut state, key));
            }
        }
        tickets
    }

    /// Returns the value if it is kept.
    pub(crate) fn get(&self, key: K) -> Option<V> {
        self.kept(&mut self.lock(), key)
    }

    /// Keeps a value.
    pub(crate) fn insert(&self, key: K, value: V) {
        self.keep(&mut self.lock(), key, value);
    }

    /// Forgets a value that has turned out to be wrong.
    pub(crate) fn forget(&self, key: K) {
        let mut state = self.lock();
        if let Some(value) = state.young.remove(&key) {
            state.young_bytes = state.young_bytes.saturating_sub((self.weigh)(&value));
        }
        state.old.remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_in(self: &Arc<Self>, state: &mut State<K, V>, key: K) -> Found<K, V> {
        if let Some(value) = self.kept(state, key) {
            return Found::Kept(value);
        }
        match state.loading.get(&key) {
            Some(flight) => Found::Awaited(flight.clone()),
            None => Found::Absent(self.begin(state, key)),
        }
    }

    fn kept(&self, state: &mut State<K, V>, key: K) -> Option<V> {
        if let Some(value) = state.young.get(&key) {
            return Some(value.clone());
        }
        let value = state.old.remove(&key)?;
        self.keep(state, key, value.clone());
        Some(value)
    }

    fn keep(&self, state: &mut State<K, V>, key: K, value: V) {
        let bytes = (self.weigh)(&value);
        if state.young_bytes + bytes > self.half_bytes_max {
            state.old = std::mem::take(&mut state.young);
            state.young_bytes = 0;
        }
        // What is too large for a half would push out everything else.
        if bytes <= self.half_bytes_max {
            state.young_bytes += bytes;
            if let Some(before) = state.young.insert(key, value) {
                state.young_bytes = state.young_bytes.saturating_sub((self.weigh)(&before));
            }
        }
    }

    fn begin(self: &Arc<Self>, state: &mut State<K, V>, key: K) -> Ticket<K, V> {
        let flight = Arc::new(Flight { landed: Mutex::new(None), changed: Condvar::new() });
        state.loading.insert(key, flight.clone());
        Ticket { cache: self.clone(), key, flight }
    }
}

impl<V: Clone> Flight<V> {
    /// Waits until the value is loaded, for `patience` at most; none if it is not.
    pub(crate) fn wait(&self, patience: Duration) -> Option<Landed<V>> {
        let landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(landed, patience, |landed| landed.is_none());
        let (landed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        landed.clone()
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Ticket<K, V> {
    /// Returns what is to be loaded.
    pub(crate) fn key(&self) -> K {
        self.key
    }

    /// Returns what others wait for.
    pub(crate) fn flight(&self) -> Arc<Flight<V>> {
        self.flight.clone()
    }

    /// Tells everybody who waits; a value is kept.
    pub(crate) fn finish(self, result: Result<V>) {
        match result {
            Ok(value) => self.land(Landed::Value(value)),
            Err(error) => self.land(Landed::Failed(Arc::new(error))),
        }
    }

    fn land(&self, how: Landed<V>) {
        let mut landed = self.flight.landed.lock().unwrap_or_else(PoisonError::into_inner);
        if landed.is_some() {
            return;
        }
        let mut state = self.cache.lock();
        state.loading.remove(&self.key);
        if let Landed::Value(value) = &how {
            self.cache.keep(&mut state, self.key, value.clone());
        }
        drop(state);
        *landed = Some(how);
        self.flight.changed.notify_all();
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Drop for Ticket<K, V> {
    fn drop(&mut self) {
        self.land(Landed::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(bytes_max: usize) -> Arc<SharedCache<u32, usize>> {
        Arc::new(SharedCache::new(bytes_max, |value| *value))
    }

    #[test]
    fn the_first_loads_and_the_others_wait() {
        let cache = cache(100);
        let Found::Absent(ticket) = cache.find(1) else { panic!("it is there") };
        let Found::Awaited(flight) = cache.find(1) else { panic!("it is not awaited") };
        assert!(flight.wait(Duration::ZERO).is_none());
        assert!(cache.begin_absent([1]).is_empty());
        let waiter = std::thread::spawn(move || flight.wait(Duration::from_secs(60)));
        ticket.finish(Ok(7));
        assert!(matches!(waiter.join().unwrap(), Some(Landed::Value(7))));
        assert!(matches!(cache.find(1), Found::Kept(7)));
    }

    #[test]
    fn failures_are_told_and_tried_again() {
        let cache = cache(100);
        let Found::Absent(ticket) = cache.find(1) else { panic!("it is there") };
        let Found::Awaited(flight) = cache.find(1) else { panic!("it is not awaited") };
        ticket.finish(Err(Error::damaged("broken")));
        assert!(matches!(flight.wait(Duration::ZERO), Some(Landed::Failed(_))));
        let Found::Absent(ticket) = cache.find(1) else { panic!("a failure is kept") };
        let Found::Awaited(flight) = cache.find(1) else { panic!("it is not awaited") };
        drop(ticket);
        assert!(matches!(flight.wait(Duration::ZERO), Some(Landed::Abandoned)));
        assert!(matches!(cache.find(1), Found::Absent(_)));
    }

    #[test]
    fn room_is_bounded_and_what_is_used_stays() {
        let cache = cache(100);
        for key in 0..1000 {
            cache.insert(key, 10);
            assert!(key == 0 || cache.get(0).is_some(), "what is used is forgotten at {key}");
            let state = cache.lock();
            assert!(state.young.len() + state.old.len() <= 10);
            assert_eq!(state.young_bytes, 10 * state.young.len());
        }
        cache.insert(5000, 51);
        assert!(cache.get(5000).is_none(), "it is larger than a half");
        cache.insert(6000, 10);
        cache.forget(6000);
        assert!(cache.get(6000).is_none());
    }
}
