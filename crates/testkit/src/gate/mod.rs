//! A gate before a shared store: one call at a time, and the test says whose.
//!
//! ```text
//!  actor 1: threads of a job --call--> | waits |
//!  actor 2: threads of a job --call--> | waits |   Gate   --the one that was chosen--> store
//!  actor 3: threads of a job --call--> | waits |
//! ```
//!
//! An *actor* is one job with all its threads. [`Gate::waiting`] returns when every actor has a call that waits, or has
//! ended; [`Gate::let_pass`] lets the oldest call of one actor pass and returns when the store has answered. So between
//! two decisions of the test exactly one call happens, and a list of decisions is a schedule.
//!
//! How far a schedule repeats: the order of calls *between* actors is what the test decides. *Inside* an actor several
//! threads may call; which of them comes first is the system's choice, so give a job one thread of each kind. An actor
//! that waits for something else than the store (a lock that another actor holds) would never come: then the gate panics
//! after a minute, in real time, and says who was missing.

mod store;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backy_store::ObjectStore;

use crate::store::Operation;

pub use store::GatedStore;

/// How long an actor may compute between two calls before the gate gives up on it, in real time.
const PATIENCE: Duration = Duration::from_secs(60);

/// One job, with all its threads. Numbered from 0 in the order in which they entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(pub u64);

/// A call that waits at the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whose call it is.
    pub actor: Actor,
    /// What is asked.
    pub operation: Operation,
    /// The name of the object, or the prefix of a listing.
    pub name: String,
}

impl Waiting {
    /// Says whether it is `operation` on names that begin with `prefix`.
    pub fn is(&self, operation: Operation, prefix: &str) -> bool {
        self.operation == operation && self.name.starts_with(prefix)
    }
}

/// The gate. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entered: u64,
    tickets: u64,
    /// The calls that wait, of those who have not ended; the oldest first.
    queues: BTreeMap<Actor, VecDeque<(u64, Waiting)>>,
    /// The call that may pass, or is at work.
    passing: Option<u64>,
    passed: u64,
}

/// Is inside until it is dropped: as long as it is there, the gate waits for the actor's next call.
pub struct Presence {
    actor: Actor,
    gate: Gate,
}

impl Presence {
    /// Returns who it is.
    pub fn actor(&self) -> Actor {
        self.actor
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.gate.lock().queues.remove(&self.actor);
        self.gate.shared.changed.notify_all();
    }
}

impl Gate {
    /// Lets a new actor enter. Its calls come through [`Gate::store`].
    pub fn enter(&self) -> Presence {
        let mut state = self.lock();
        let actor = Actor(state.entered);
        state.entered += 1;
        state.queues.insert(actor, VecDeque::new());
        Presence { actor, gate: self.clone() }
    }

    /// Returns `inner` behind the gate. Its calls wait while there is an actor on whose behalf they are made.
    pub fn store(&self, inner: Arc<dyn ObjectStore>) -> GatedStore {
        GatedStore::new(self.clone(), inner)
    }

    /// Returns the oldest call of each actor, when all have one or have ended; nothing when all have ended.
    ///
    /// # Panics
    /// If an actor neither calls nor ends for a minute.
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut state = self.lock();
        while state.passing.is_some() || state.queues.values().any(VecDeque::is_empty) {
            let (next, timeout) =
                self.shared.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            let late: Vec<Actor> =
                state.queues.iter().filter(|(_, queue)| queue.is_empty()).map(|(actor, _)| *actor).collect();
            assert!(!timeout.timed_out() || late.is_empty(), "{late:?} neither call the store nor end");
        }
        state.queues.values().filter_map(|queue| queue.front().map(|(_, waiting)| waiting.clone())).collect()
    }

    /// Lets the oldest call of an actor pass; returns when the store has answered it.
    pub fn let_pass(&self, actor: Actor) {
        let mut state = self.lock();
        let Some((ticket, _)) = state.queues.get_mut(&actor).and_then(VecDeque::pop_front) else { return };
        state.passing = Some(ticket);
        self.shared.changed.notify_all();
        while state.passing.is_some() {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns how many calls have passed.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    /// Waits for its turn.
    fn pass(&self, actor: Actor, operation: Operation, name: &str) -> Turn<'_> {
        let mut state = self.lock();
        let ticket = state.tickets;
        let Some(queue) = state.queues.get_mut(&actor) else { return Turn { gate: self, ticket: None } };
        queue.push_back((ticket, Waiting { actor, operation, name: name.to_owned() }));
        state.tickets += 1;
        self.shared.changed.notify_all();
        while state.passing != Some(ticket) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.passed += 1;
        Turn { gate: self, ticket: Some(ticket) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call; ends when it is dropped.
struct Turn<'a> {
    gate: &'a Gate,
    ticket: Option<u64>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.gate.lock().passing = None;
            self.gate.shared.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backy_core::names;
    use backy_store::MemoryStore;
    use backy_store::object_store::list_all;

    #[test]
    fn one_call_at_a_time_passes_and_it_is_the_chosen_one() {
        let gate = Gate::default();
        let inner = MemoryStore::new();
        let stores: Vec<GatedStore> = (0..2).map(|_| gate.store(Arc::new(inner.clone()))).collect();
        std::thread::scope(|scope| {
            for (number, store) in (0u8..).zip(&stores) {
                let presence = gate.enter();
                store.act_for(Some(presence.actor()));
                scope.spawn(move || {
                    store.put(&names::repository(), &[number]).unwrap();
                    // A visitor may call the store again.
                    let again = &mut |object: backy_store::ObjectInfo| store.get(&object.name, 9).map(drop);
                    store.list("", again).unwrap();
                    drop(presence);
                });
            }
            let waiting = gate.waiting();
            assert_eq!(waiting.iter().map(|call| call.actor).collect::<Vec<_>>(), [Actor(0), Actor(1)]);
            assert!(waiting.iter().all(|call| call.is(Operation::Put, "repository")));
            assert!(list_all(&inner, "").unwrap().is_empty(), "nobody has passed");
            gate.let_pass(Actor(1));
            assert!(gate.waiting()[1].is(Operation::List, ""));
            assert_eq!(inner.get(&names::repository(), 9).unwrap(), [1]);
            gate.let_pass(Actor(0));
            assert_eq!(inner.get(&names::repository(), 9).unwrap(), [0]);
            while let Some(call) = gate.waiting().last() {
                gate.let_pass(call.actor);
            }
        });
        assert_eq!(gate.passed(), 6);
        // Outside of any actor calls pass freely.
        stores[0].act_for(None);
        stores[0].get(&names::repository(), 9).unwrap();
        assert_eq!(gate.passed(), 6);
    }
}
