//! Which of several cleanups goes on: thrift, so that two do not do the same work twice.
//!
//! Each puts a lease, then lists. It withdraws when it sees a lower id, waits and lists again when it sees a higher
//! one, and acts only when it is alone. Ids come from clocks that nobody trusts, so leases are put in any order of
//! their ids. The promise holds as long as no lease is revoked; safety does not rest on it (the model of deletion
//! chooses no leader at all).

use crate::bits::Bits;
use crate::checker::Model;

/// How many cleanups there are.
const CLEANUPS: usize = 3;

/// The choice of a leader.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    /// H14: the lowest id acts, though others are there.
    pub lowest_wins: bool,
}

/// How far a cleanup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum At {
    /// Not begun.
    #[default]
    Idle,
    /// Has put its lease, lists, perhaps again.
    Waiting,
    /// Cleans.
    Acting,
    /// Has acted.
    Finished,
    /// Has made way for another one.
    Withdrawn,
}

/// Everything at one moment; the place of a cleanup is its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct State {
    cleanups: [At; CLEANUPS],
    leases: Bits,
}

impl Model for Leader {
    type State = State;
    type Step = String;

    fn beginnings(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn steps(&self, state: &State, out: &mut Vec<(String, State)>) {
        for (id, at) in (0_u8..).zip(state.cleanups) {
            let others = state.leases - Bits::one(id);
            let (next, has_lease, what) = match at {
                At::Idle => (At::Waiting, true, "puts its lease"),
                At::Waiting if others.meets(Bits::below(id)) => (At::Withdrawn, false, "sees a lower id, withdraws"),
                At::Waiting if others.is_empty() => (At::Acting, true, "is alone, acts"),
                At::Waiting if self.lowest_wins => (At::Acting, true, "is the lowest, acts"),
                At::Waiting => continue,
                At::Acting => (At::Finished, false, "ends, drops its lease"),
                At::Finished | At::Withdrawn => continue,
            };
            let mut after = *state;
            after.cleanups[usize::from(id)] = next;
            if has_lease {
                after.leases.add(id);
            } else {
                after.leases.remove(id);
            }
            out.push((format!("cleanup {id}: {what}"), after));
        }
    }

    fn broken_state(&self, state: &State) -> Option<String> {
        let acting = state.cleanups.iter().filter(|at| **at == At::Acting).count();
        let is_over = state.cleanups.iter().all(|at| matches!(at, At::Finished | At::Withdrawn));
        if acting > 1 {
            Some(format!("{acting} cleanups act at once"))
        } else if is_over && !state.cleanups.contains(&At::Finished) {
            Some("all withdrew, nobody acted".to_owned())
        } else {
            None
        }
    }
}
