//! Tries again what failed because the store was busy or did not answer.
//!
//! Only `Busy` and `Unavailable` are retried, a bounded number of times, with growing pauses of which a random half is
//! left out, so that hosts that failed together do not come back together ("equal jitter", M. Brooker, Exponential
//! Backoff And Jitter, AWS 2015). All requests of a store may be repeated: a put stores the same again, a deletion of
//! what is gone succeeds.
//!
//! A store that has answered before is worth waiting for: a network that fails for minutes must not end a job of
//! hours. So there the attempts go on for as long as the policy's patience lasts. One that never answered is more
//! likely misspelt than down, and gets the bounded number alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backy_core::environment::{Environment, Timestamp};
use backy_core::names::ObjectName;
use backy_core::{Error, ErrorKind, Result};
use tracing::{debug, warn};

use crate::object_store::{ObjectInfo, ObjectRange, ObjectStore};

/// How often and how fast to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is made at most; 1 means that nothing is tried again.
    pub attempts_max: u32,
    /// How long a request to a store that has answered before is tried again, however often; zero means as any other.
    pub patience: Duration,
    /// The longest first pause; each further one is twice as long.
    pub pause_first: Duration,
    /// The longest pause of all.
    pub pause_max: Duration,
}

/// Eight attempts within one to two minutes, and no more patience than that.
impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            attempts_max: 8,
            patience: Duration::ZERO,
            pause_first: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
        }
    }
}

/// How many attempts fail before the user hears of it.
const ATTEMPTS_SILENT: u32 = 3;

/// A store whose requests are tried again. See the module.
pub struct Retry<S> {
    inner: S,
    policy: RetryPolicy,
    environment: Environment,
    has_answered: AtomicBool,
    /// Whether the user was told that the store does not answer, and not yet that it does again.
    is_told: AtomicBool,
}

impl<S: ObjectStore> Retry<S> {
    /// Puts the layer around `inner`.
    pub fn new(inner: S, policy: RetryPolicy, environment: Environment) -> Retry<S> {
        Retry { inner, policy, environment, has_answered: AtomicBool::new(false), is_told: AtomicBool::new(false) }
    }

    fn retry<T>(&self, mut request: impl FnMut() -> Result<T>) -> Result<T> {
        let mut failing_since = None;
        let mut attempt = 1;
        loop {
            match request() {
                Err(error) if is_passing(&error) && self.goes_on(attempt, &mut failing_since) => {
                    self.tell(attempt, &error);
                    self.environment.clock.sleep(self.pause(attempt));
                    attempt = attempt.saturating_add(1);
                }
                Err(error) => {
                    // An answer that we do not like is an answer.
                    if !is_passing(&error) {
                        self.note_answer();
                    }
                    let is_first = attempt == 1;
                    return Err(if is_first { error } else { error.context(format!("after {attempt} attempts")) });
                }
                Ok(value) => {
                    self.note_answer();
                    return Ok(value);
                }
            }
        }
    }

    /// Says whether a request that has failed `attempt` times is tried again; notes the first failure.
    fn goes_on(&self, attempt: u32, failing_since: &mut Option<Duration>) -> bool {
        let now = self.environment.clock.elapsed();
        let waited = now.saturating_sub(*failing_since.get_or_insert(now));
        if self.has_answered.load(Ordering::Relaxed) && !self.policy.patience.is_zero() {
            return waited < self.policy.patience;
        }
        attempt < self.policy.attempts_max
    }

    /// Tells the user once that the store does not answer, however many threads find out.
    fn tell(&self, attempt: u32, error: &Error) {
        if attempt == ATTEMPTS_SILENT && !self.is_told.swap(true, Ordering::Relaxed) {
            warn!("{error}. It is tried again for some time; nothing is lost if it stays so.");
        } else {
            debug!("attempt {attempt}: {error}");
        }
    }

    fn note_answer(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        if self.is_told.swap(false, Ordering::Relaxed) {
            warn!("{} answers again.", self.inner.url());
        }
    }

    /// Returns how long to wait after the attempt of that number, from 1.
    fn pause(&self, attempt: u32) -> Duration {
        let doubled = self.policy.pause_first.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let half = doubled.min(self.policy.pause_max) / 2;
        let half_microseconds = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.environment.random_below(half_microseconds.saturating_add(1)))
    }
}

fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unavailable)
}

impl<S: ObjectStore> ObjectStore for Retry<S> {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        self.retry(|| self.inner.put(name, body))
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        self.retry(|| self.inner.get(name, size_bytes_max))
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        self.retry(|| self.inner.get_range(name, range, buffer))
    }

    /// A listing that broke off is begun again, but goes on where it was: nothing is visited twice.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        let mut last: Option<ObjectName> = None;
        let mut refused = None;
        let listed = self.retry(|| {
            let mut is_refused = false;
            let listed = self.inner.list(prefix, &mut |object| {
                if last.as_ref().is_some_and(|last| object.name <= *last) {
                    return Ok(());
                }
                last = Some(object.name.clone());
                visit(object).inspect_err(|_| is_refused = true)
            });
            // What the visitor answers is not ours to retry.
            match listed {
                Err(error) if is_refused => {
                    refused = Some(error);
                    Ok(())
                }
                listed => listed,
            }
        });
        refused.map_or(listed, Err)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.retry(|| self.inner.delete(name))
    }

    /// Only those whose deletion failed for now are tried again.
    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        let mut outcomes = self.inner.delete_many(names);
        for (name, outcome) in names.iter().zip(&mut outcomes) {
            if outcome.as_ref().is_err_and(is_passing) {
                *outcome = self.delete(name);
                if outcome.as_ref().is_err_and(is_passing) {
                    // The store is away for longer than we have patience: not once more for each of the others.
                    break;
                }
            }
        }
        outcomes
    }

    fn piece_bytes(&self) -> u32 {
        self.inner.piece_bytes()
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn remove_stale_temporaries(&self, before: Timestamp) -> Result<u64> {
        self.retry(|| self.inner.remove_stale_temporaries(before))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::layers::test_environment::environment;
    use crate::memory::MemoryStore;
    use crate::object_store::list_all;

    /// A store that fails a number of times before it works; a listing fails in its middle.
    struct Failing {
        inner: MemoryStore,
        kind: ErrorKind,
        failures_left: AtomicU32,
        calls: AtomicU32,
    }

    impl Failing {
        fn new(kind: ErrorKind, failures: u32) -> Failing {
            Failing {
                inner: MemoryStore::new(),
                kind,
                failures_left: AtomicU32::new(failures),
                calls: AtomicU32::new(0),
            }
        }

        fn pass(&self) -> Result<()> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let left = self.failures_left.load(Ordering::SeqCst);
            self.failures_left.store(left.saturating_sub(1), Ordering::SeqCst);
            if left == 0 { Ok(()) } else { Err(Error::new(self.kind, "not now")) }
        }
    }

    impl ObjectStore for Failing {
        fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
            self.pass()?;
            self.inner.put(name, body)
        }
        fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
            self.pass()?;
            self.inner.get(name, size_bytes_max)
        }
        fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
            self.pass()?;
            self.inner.get_range(name, range, buffer)
        }
        fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
            for (i, object) in list_all(&self.inner, prefix)?.into_iter().enumerate() {
                if i == 2 {
                    self.pass()?;
                }
                visit(object)?;
            }
            Ok(())
        }
        fn delete(&self, name: &ObjectName) -> Result<()> {
            self.pass()?;
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
    fn what_passes_is_tried_again_with_growing_pauses() {
        for kind in [ErrorKind::Busy, ErrorKind::Unavailable] {
            let environment = environment();
            let store = Retry::new(Failing::new(kind, 3), RetryPolicy::default(), environment.clone());
            store.put(&name("a"), b"x").unwrap();
            assert_eq!(store.inner.calls.load(Ordering::SeqCst), 4);
            let waited = environment.clock.elapsed();
            assert!(waited >= Duration::from_millis(1750) && waited <= Duration::from_millis(3500), "{waited:?}");
        }
    }

    #[test]
    fn attempts_and_pauses_are_bounded() {
        let environment = environment();
        let policy = RetryPolicy { attempts_max: 50, ..RetryPolicy::default() };
        let store = Retry::new(Failing::new(ErrorKind::Busy, u32::MAX), policy, environment.clone());
        let error = store.delete(&name("a")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("50 attempts"), "{error}");
        assert!(environment.clock.elapsed() <= Duration::from_secs(50 * 30));
    }

    #[test]
    fn a_store_that_has_answered_is_waited_for_as_long_as_the_patience_lasts() {
        let environment = environment();
        let policy = RetryPolicy { patience: Duration::from_secs(600), ..RetryPolicy::default() };
        let store = Retry::new(Failing::new(ErrorKind::Unavailable, 0), policy, environment.clone());
        store.put(&name("a"), b"x").unwrap();
        store.inner.failures_left.store(25, Ordering::SeqCst);
        store.put(&name("a"), b"x").unwrap();
        let waited = environment.clock.elapsed();
        assert!(waited > Duration::from_secs(300), "{waited:?}");
        store.inner.failures_left.store(u32::MAX, Ordering::SeqCst);
        assert_eq!(store.delete(&name("a")).unwrap_err().kind(), ErrorKind::Unavailable);
        let waited = environment.clock.elapsed() - waited;
        assert!(waited >= Duration::from_secs(600) && waited <= Duration::from_secs(630), "{waited:?}");
    }

    #[test]
    fn a_store_that_never_answered_is_not_waited_for() {
        let environment = environment();
        let policy = RetryPolicy { patience: Duration::from_secs(86_400), ..RetryPolicy::default() };
        let store = Retry::new(Failing::new(ErrorKind::Unavailable, u32::MAX), policy, environment.clone());
        store.put(&name("a"), b"x").unwrap_err();
        assert_eq!(store.inner.calls.load(Ordering::SeqCst), 8);
        assert!(environment.clock.elapsed() < Duration::from_secs(120));
    }

    #[test]
    fn of_many_deletions_those_that_failed_are_tried_again() {
        let store = Retry::new(Failing::new(ErrorKind::Busy, 2), RetryPolicy::default(), environment());
        for text in ["a", "b", "c"] {
            store.inner.inner.put(&name(text), b"").unwrap();
        }
        let outcomes = store.delete_many(&["a", "b", "c"].map(name));
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(store.inner.calls.load(Ordering::SeqCst), 5);
        assert!(list_all(&store, "").unwrap().is_empty());
    }

    #[test]
    fn a_store_that_is_away_is_waited_for_once_and_not_for_each_of_many_deletions() {
        let store = Retry::new(Failing::new(ErrorKind::Unavailable, u32::MAX), RetryPolicy::default(), environment());
        let outcomes = store.delete_many(&["a", "b", "c"].map(name));
        assert!(outcomes.iter().all(Result::is_err));
        assert_eq!(store.inner.calls.load(Ordering::SeqCst), 3 + 8);
    }

    #[test]
    fn other_errors_are_not_tried_again() {
        for kind in [ErrorKind::NotFound, ErrorKind::Damaged, ErrorKind::NoSpace, ErrorKind::Io] {
            let store = Retry::new(Failing::new(kind, 1), RetryPolicy::default(), environment());
            assert_eq!(store.get(&name("a"), 1).unwrap_err().kind(), kind);
            assert_eq!(store.inner.calls.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn a_listing_that_broke_off_goes_on_where_it_was() {
        let store = Retry::new(Failing::new(ErrorKind::Unavailable, 2), RetryPolicy::default(), environment());
        for text in ["a", "b", "c", "d"] {
            store.inner.inner.put(&name(text), b"").unwrap();
        }
        let names: Vec<_> = list_all(&store, "").unwrap().into_iter().map(|o| o.name.to_string()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }

    #[test]
    fn what_the_visitor_of_a_listing_answers_is_passed_on_at_once() {
        let store = Retry::new(Failing::new(ErrorKind::Unavailable, 0), RetryPolicy::default(), environment());
        store.put(&name("a"), b"").unwrap();
        let mut visits = 0;
        let error = store.list("", &mut |_| {
            visits += 1;
            Err(Error::new(ErrorKind::Busy, "mine"))
        });
        assert_eq!((visits, error.unwrap_err().to_string()), (1, "mine".to_owned()));
    }
}
