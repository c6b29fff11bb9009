//! A store that fails on demand: by rule, by seed, or for good at a chosen call.
//!
//! [`FaultyStore`] goes around any store, usually a [`MemoryStore`] that several of them share, one for each simulated
//! host. Five kinds of trouble:
//!
//! - *rules* fail chosen calls in a chosen way, in the order in which they were added;
//! - *rates* fail any call by chance, repeatably from a seed as long as one thread uses the store;
//! - a *late* put has failed for its caller, or has happened once already, and happens when the test lets it land;
//! - a *crash* ends everything: from then on each call fails with [`CRASH_MARKER`] and nothing changes any more;
//! - *hostile* changes damage objects behind the back of who uses the store: [`FaultyStore::damage`] and its like.
//!
//! Only torn puts that are visible, objects hidden from listings, and damage break the promises of a store; all else is
//! what a good store may do on a bad day. Each call is written down.
//!
//! [`MemoryStore`]: backy_store::MemoryStore

mod faults;
mod hostile;
mod log;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backy_core::environment::Timestamp;
use backy_core::names::ObjectName;
use backy_core::{Error, ErrorKind, Result};
use backy_store::object_store::list_all;
use backy_store::{ObjectInfo, ObjectRange, ObjectStore};

use state::{State, Trouble};

pub use faults::{CrashMoment, Fault, FaultRates, Rule};
pub use log::{Call, Operation};

/// Stands in the text of each error that a crashed store gives.
pub const CRASH_MARKER: &str = "the simulated host has crashed";

/// Says whether an error comes from a simulated crash.
pub fn is_crash(error: &Error) -> bool {
    error.to_string().contains(CRASH_MARKER)
}

/// A store that fails on demand. Clones share everything. See the module.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

impl FaultyStore {
    /// Makes a store that does not fail until it is told to.
    pub fn new(inner: Arc<dyn ObjectStore>) -> FaultyStore {
        FaultyStore::with_seed(inner, 0, FaultRates::default())
    }

    /// Makes a store that fails by chance, the same way for the same seed and calls.
    pub fn with_seed(inner: Arc<dyn ObjectStore>, seed: u64, rates: FaultRates) -> FaultyStore {
        let state = State::new(seed, rates);
        FaultyStore { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Returns the store inside, which does not fail.
    pub fn inner(&self) -> Arc<dyn ObjectStore> {
        self.inner.clone()
    }

    /// Adds a rule. The first one that matches a call and is not used up decides.
    pub fn add_rule(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Forgets all rules, rates and limits. A crash stays, and so does what is hidden.
    pub fn behave(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.rates = FaultRates::default();
        state.unavailable_calls = 0;
        state.room_bytes = None;
        state.crash_at = None;
        state.list_delay = 0;
        state.delayed.clear();
    }

    /// Lets the next `calls` calls fail with `Unavailable`.
    pub fn unavailable_for(&self, calls: u64) {
        self.lock().unavailable_calls = calls;
    }

    /// Lets puts fail with `NoSpace` once `bytes` more have been put; deletions give nothing back.
    pub fn no_space_after(&self, bytes: u64) {
        self.lock().room_bytes = Some(bytes);
    }

    /// Crashes at the call of that number, counted from now, the next one being 1.
    pub fn crash_at_call(&self, number: u64, moment: CrashMoment) {
        let mut state = self.lock();
        state.crash_at = Some((state.calls.saturating_add(number), moment));
    }

    /// Lets `calls` more calls happen; then it crashes.
    pub fn crash_after(&self, calls: u64) {
        self.crash_at_call(calls.saturating_add(1), CrashMoment::Before);
    }

    /// Says whether it has crashed.
    pub fn is_crashed(&self) -> bool {
        self.lock().is_crashed
    }

    /// Starts again after a crash, with what was stored.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.is_crashed = false;
        state.crash_at = None;
    }

    /// Returns how many puts are on their way.
    pub fn late_puts(&self) -> usize {
        self.lock().on_the_way.len()
    }

    /// Lets the put of that number that is on its way happen, and returns its name. Whoever sent it may have crashed.
    pub fn land(&self, number: usize) -> Result<ObjectName> {
        let (name, body) = self.lock().on_the_way.remove(number);
        self.inner.put(&name, &body)?;
        Ok(name)
    }

    /// Returns all calls up to now.
    pub fn log(&self) -> Vec<Call> {
        self.lock().log.clone()
    }

    /// Returns how many calls there were.
    pub fn call_count(&self) -> u64 {
        self.lock().calls
    }

    /// Forgets the calls up to now; their numbers go on.
    pub fn clear_log(&self) {
        self.lock().log.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one call with its trouble: `act` does it, and returns its answer and how many bytes there were.
    fn call<T>(
        &self,
        operation: Operation,
        name: &str,
        put_bytes: u64,
        mut act: impl FnMut(Effect) -> Result<(T, u64)>,
    ) -> Result<T> {
        let (number, trouble) = self.lock().begin(operation, name, put_bytes);
        let doing = format!("{operation:?} {name}");
        let fail = |kind| Err(Error::new(kind, format!("{doing}: simulated failure")));
        let outcome = match trouble {
            Trouble::None => act(Effect::Whole),
            Trouble::Crashed => Err(crash(&doing)),
            Trouble::CrashAfter => {
                let _ = act(Effect::Whole);
                Err(crash(&doing))
            }
            Trouble::CrashLate => {
                if operation == Operation::Put {
                    let _ = act(Effect::Late);
                }
                Err(crash(&doing))
            }
            Trouble::NoSpace => fail(ErrorKind::NoSpace),
            Trouble::Fault(Fault::Before(kind)) => fail(kind),
            Trouble::Fault(Fault::After(kind)) => act(Effect::Whole).and_then(|_| fail(kind)),
            Trouble::Fault(Fault::Torn) => fail(ErrorKind::Unavailable),
            Trouble::Fault(Fault::TornVisible { kept_bytes }) => {
                act(Effect::Torn { kept_bytes }).and_then(|_| fail(ErrorKind::Unavailable))
            }
            Trouble::Fault(Fault::Repeated) => act(Effect::Whole).and_then(|_| act(Effect::Whole)),
            Trouble::Fault(Fault::Late(_) | Fault::RepeatedLate) if operation != Operation::Put => act(Effect::Whole),
            Trouble::Fault(Fault::Late(kind)) => act(Effect::Late).and_then(|_| fail(kind)),
            Trouble::Fault(Fault::RepeatedLate) => act(Effect::Late).and_then(|_| act(Effect::Whole)),
        };
        let bytes = outcome.as_ref().map_or(put_bytes, |(_, bytes)| *bytes);
        let failure = outcome.as_ref().err().map(Error::kind);
        self.lock().log.push(Call { number, operation, name: name.to_owned(), bytes, failure });
        outcome.map(|(answer, _)| answer)
    }
}

/// What a call does to the store inside. Only puts can do something else than the whole.
#[derive(Clone, Copy)]
enum Effect {
    Whole,
    Torn { kept_bytes: usize },
    Late,
}

fn crash(doing: &str) -> Error {
    Error::new(ErrorKind::Io, format!("{doing}: {CRASH_MARKER}"))
}

/// Deletes one object after the other, the last one first: a batch promises no order.
pub(crate) fn delete_backwards(store: &dyn ObjectStore, names: &[ObjectName]) -> Vec<Result<()>> {
    let mut outcomes: Vec<Result<()>> = names.iter().rev().map(|name| store.delete(name)).collect();
    outcomes.reverse();
    outcomes
}

impl ObjectStore for FaultyStore {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        let bytes = body.len() as u64;
        self.call(Operation::Put, name.as_str(), bytes, |effect| {
            match effect {
                Effect::Whole => self.inner.put(name, body)?,
                Effect::Torn { kept_bytes } => self.inner.put(name, body.get(..kept_bytes).unwrap_or(body))?,
                Effect::Late => {
                    self.lock().on_the_way.push((name.clone(), body.to_vec()));
                    return Ok(((), bytes));
                }
            }
            let mut state = self.lock();
            if state.list_delay > 0 {
                let delay = state.list_delay;
                state.delayed.push((name.clone(), delay));
            }
            Ok(((), bytes))
        })
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        self.call(Operation::Get, name.as_str(), 0, |_| {
            let body = self.inner.get(name, size_bytes_max)?;
            let bytes = body.len() as u64;
            Ok((body, bytes))
        })
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        self.call(Operation::GetRange, name.as_str(), 0, |_| {
            self.inner.get_range(name, range, buffer)?;
            Ok(((), buffer.len() as u64))
        })
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        // Nothing is locked while `visit` runs: it may use the store.
        let mut objects = self.call(Operation::List, prefix, 0, |_| {
            let objects = list_all(&*self.inner, prefix)?;
            let count = objects.len() as u64;
            Ok((objects, count))
        })?;
        let invisible = self.lock().invisible();
        objects.retain(|object| !invisible.contains(&object.name));
        objects.into_iter().try_for_each(visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.call(Operation::Delete, name.as_str(), 0, |_| Ok((self.inner.delete(name)?, 0)))
    }

    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        delete_backwards(self, names)
    }

    fn piece_bytes(&self) -> u32 {
        self.inner.piece_bytes()
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn remove_stale_temporaries(&self, before: Timestamp) -> Result<u64> {
        if self.is_crashed() {
            Err(crash("remove stale temporaries"))
        } else {
            self.inner.remove_stale_temporaries(before)
        }
    }
}
