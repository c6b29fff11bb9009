//! Limits the bandwidth of reads and of writes, in bytes per second, over all threads together.
//!
//! A token bucket that holds one second: who was idle may send that much at once. A request may be larger than the
//! bucket: it begins as soon as the debts of those before it are paid, and the next one waits for it in turn. So a pack
//! of 32 MiB passes at any rate, and requests begin in the order in which they came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backy_core::Result;
use backy_core::environment::{Clock, Timestamp};
use backy_core::names::ObjectName;

use crate::object_store::{ObjectInfo, ObjectRange, ObjectStore};

/// How much may be sent at once after a pause, as time.
const CAPACITY: Duration = Duration::from_secs(1);

/// A store whose reads and writes keep to a bandwidth. See the module.
pub struct Throttle<S> {
    inner: S,
    reads: Option<Bucket>,
    writes: Option<Bucket>,
}

impl<S: ObjectStore> Throttle<S> {
    /// Puts the layer around `inner`; no limit where none is given, and none below one byte per second.
    pub fn new(
        inner: S,
        read_bytes_per_second: Option<u64>,
        write_bytes_per_second: Option<u64>,
        clock: &Arc<dyn Clock>,
    ) -> Throttle<S> {
        let bucket = |rate: Option<u64>| rate.map(|rate| Bucket::new(rate, clock.clone()));
        Throttle { inner, reads: bucket(read_bytes_per_second), writes: bucket(write_bytes_per_second) }
    }
}

impl<S: ObjectStore> ObjectStore for Throttle<S> {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        if let Some(writes) = &self.writes {
            writes.take(body.len() as u64);
        }
        self.inner.put(name, body)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        let Some(reads) = &self.reads else { return self.inner.get(name, size_bytes_max) };
        reads.take(0);
        let body = self.inner.get(name, size_bytes_max)?;
        reads.charge(body.len() as u64);
        Ok(body)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        let Some(reads) = &self.reads else { return self.inner.get_range(name, range, buffer) };
        if let ObjectRange::Exact { length_bytes, .. } = range {
            reads.take(length_bytes);
            return self.inner.get_range(name, range, buffer);
        }
        reads.take(0);
        self.inner.get_range(name, range, buffer)?;
        reads.charge(buffer.len() as u64);
        Ok(())
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
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

/// The account of one direction.
struct Bucket {
    bytes_per_second: u64,
    clock: Arc<dyn Clock>,
    /// When all debts are paid, on the clock that never goes backwards.
    paid_at: Mutex<Duration>,
}

impl Bucket {
    fn new(bytes_per_second: u64, clock: Arc<dyn Clock>) -> Bucket {
        Bucket { bytes_per_second: bytes_per_second.max(1), clock, paid_at: Mutex::default() }
    }

    /// Waits until the debts of all who came before are paid; `length_bytes` are the debt for those who come after.
    fn take(&self, length_bytes: u64) {
        let now = self.clock.elapsed();
        let begin_at = self.owe(now, length_bytes);
        if begin_at > now {
            self.clock.sleep(begin_at - now);
        }
    }

    /// Adds a debt whose size was not known before.
    fn charge(&self, length_bytes: u64) {
        self.owe(self.clock.elapsed(), length_bytes);
    }

    /// Adds a debt, and returns when those before it are paid.
    fn owe(&self, now: Duration, length_bytes: u64) -> Duration {
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin_at = paid_at.max(now.saturating_sub(CAPACITY));
        *paid_at = begin_at.saturating_add(self.cost(length_bytes));
        begin_at
    }

    fn cost(&self, length_bytes: u64) -> Duration {
        let nanoseconds = u128::from(length_bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::test_environment::environment;
    use crate::memory::MemoryStore;

    const MIB: usize = 1 << 20;

    fn throttled(read: Option<u64>, write: Option<u64>) -> (Throttle<MemoryStore>, Arc<dyn Clock>) {
        let clock = environment().clock;
        (Throttle::new(MemoryStore::new(), read, write, &clock), clock)
    }

    fn name() -> ObjectName {
        ObjectName::new("a").unwrap()
    }

    #[test]
    fn a_pack_larger_than_the_bucket_passes_and_the_next_one_waits_for_it() {
        let (store, clock) = throttled(None, Some(MIB as u64));
        let pack = vec![0; 32 * MIB];
        store.put(&name(), &pack).unwrap();
        assert_eq!(clock.elapsed(), Duration::ZERO);
        store.put(&name(), &pack).unwrap();
        assert_eq!(clock.elapsed(), Duration::from_secs(32));
        store.put(&name(), b"x").unwrap();
        assert_eq!(clock.elapsed(), Duration::from_secs(64));
    }

    #[test]
    fn a_pause_saves_up_one_second_and_not_more() {
        let (store, clock) = throttled(None, Some(MIB as u64));
        clock.sleep(Duration::from_secs(1000));
        for _ in 0..3 {
            store.put(&name(), &vec![0; MIB]).unwrap();
        }
        assert_eq!(clock.elapsed(), Duration::from_secs(1001));
    }

    #[test]
    fn reads_keep_to_their_own_rate() {
        let (store, clock) = throttled(Some(2 * MIB as u64), None);
        store.put(&name(), &vec![7; 8 * MIB]).unwrap();
        let mut buffer = Vec::new();
        for _ in 0..2 {
            assert_eq!(store.get(&name(), u64::MAX).unwrap().len(), 8 * MIB);
            store.get_range(&name(), ObjectRange::Suffix { length_bytes: u64::MAX }, &mut buffer).unwrap();
            let range = ObjectRange::Exact { offset_bytes: 0, length_bytes: 4 * MIB as u64 };
            store.get_range(&name(), range, &mut buffer).unwrap();
        }
        assert_eq!(clock.elapsed(), Duration::from_secs(18));
        store.get_range(&name(), ObjectRange::Suffix { length_bytes: 1 }, &mut buffer).unwrap();
        assert_eq!(clock.elapsed(), Duration::from_secs(20));
    }

    #[test]
    fn threads_share_one_rate() {
        let (store, clock) = throttled(None, Some(MIB as u64));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| store.put(&name(), &vec![0; 2 * MIB]).unwrap());
            }
        });
        store.put(&name(), b"").unwrap();
        // The test's clock lets sleeps add up, so that threads which wait side by side wait longer.
        assert!(clock.elapsed() >= Duration::from_secs(8), "{:?}", clock.elapsed());
    }

    #[test]
    fn impossible_rates_do_not_overflow() {
        let (store, clock) = throttled(Some(0), Some(u64::MAX));
        store.put(&name(), b"x").unwrap();
        for _ in 0..3 {
            let range = ObjectRange::Exact { offset_bytes: 0, length_bytes: u64::MAX };
            assert!(store.get_range(&name(), range, &mut Vec::new()).is_err());
        }
        assert!(clock.elapsed() > Duration::from_secs(1));
    }
}
