//! The main model: jobs, cleanups and all that may happen between them.
//!
//! ```text
//!  store       what lies in the store: leases, log, versions, packs
//!  trap        the sentences that can be left out
//!  scenario    the bounds of a walk
//!  job  cleaner  sweep  others     who works on it; each step is one operation of the store
//!  invariant   what must hold, I1 to I9
//!  cases       the scenarios of the tests
//! ```

pub mod cases;
pub mod cleaner;
pub mod invariant;
pub mod job;
pub mod others;
pub mod scenario;
pub mod store;
pub mod sweep;
pub mod trap;

use crate::bits::Bits;
use crate::checker::Model;
use cleaner::{Cleaner, CleanerAt, Rules};
use invariant::Watch;
use job::{Job, JobAt};
use others::{Healer, Left, Recheck};
use scenario::Scenario;
use std::fmt;
use store::Store;
use trap::Trap;

/// The protocol, or the protocol with a sentence left out, within the bounds of a scenario.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// The bounds.
    pub scenario: Scenario,
    /// The sentence that is left out.
    pub trap: Option<Trap>,
    /// Which promises are looked at.
    pub watch: Watch,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct State {
    /// The store.
    pub store: Store,
    /// The jobs.
    pub jobs: [Job; 2],
    /// The cleanups.
    pub cleaners: [Cleaner; 2],
    /// A recheck at work.
    pub recheck: Recheck,
    /// A healing at work.
    pub healer: Healer,
    /// How often the rare things may still happen.
    pub left: Left,
}

/// Who does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A job.
    Job(u8),
    /// A cleanup.
    Cleanup(u8),
    /// Anybody else.
    Anybody,
}

/// What was done, for people to read.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// By whom.
    pub actor: Actor,
    /// What, in words that the number ends.
    pub what: &'static str,
    /// The number of the object.
    pub object: Option<u8>,
    /// What was in it, if that is worth a word.
    pub set: Bits,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.actor {
            Actor::Job(number) => write!(out, "job {number}: {}", self.what)?,
            Actor::Cleanup(number) => write!(out, "cleanup {number}: {}", self.what)?,
            Actor::Anybody => write!(out, "somebody: {}", self.what)?,
        }
        if let Some(object) = self.object {
            write!(out, " {object}")?;
        }
        if !self.set.is_empty() {
            write!(out, " {}", self.set)?;
        }
        Ok(())
    }
}

impl Model for Deletion {
    type State = State;
    type Step = Step;

    fn beginnings(&self) -> Vec<State> {
        let mut state = State { store: self.scenario.start, left: self.scenario.rare, ..State::default() };
        for job in &mut state.jobs[self.scenario.jobs.len()..] {
            job.at = JobAt::Done;
        }
        for (cleaner, runs) in state.cleaners.iter_mut().zip(&self.scenario.cleanups) {
            cleaner.runs_left = *runs;
        }
        vec![state]
    }

    fn steps(&self, state: &State, out: &mut Vec<(Step, State)>) {
        for (number, plan) in (0..).zip(&self.scenario.jobs) {
            job::steps(plan, self.trap, state, number, out);
        }
        for number in 0..2 {
            self.cleaner_steps(state, number, out);
        }
        others::steps(&self.scenario, self.trap, state, out);
    }

    fn broken_state(&self, state: &State) -> Option<String> {
        invariant::broken_state(self, state)
    }

    fn broken_step(&self, before: &State, after: &State) -> Option<String> {
        invariant::broken_step(self, before, after)
    }

    fn canonical(&self, state: &State) -> State {
        let mut state = *state;
        state.cleaners.sort_unstable();
        state
    }
}

impl Deletion {
    /// Returns what a cleanup goes by.
    fn rules(&self) -> Rules {
        Rules {
            trap: self.trap,
            records_max: self.scenario.records_max,
            listing_takes_time: self.scenario.listing_takes_time,
        }
    }

    fn cleaner_steps(&self, state: &State, number: u8, out: &mut Vec<(Step, State)>) {
        let place = usize::from(number);
        let cleaner = &state.cleaners[place];
        let may_fail = cleaner.at == CleanerAt::PutPack && state.left.faulty_copies > 0;
        for is_faulty in [false, true] {
            if is_faulty && !may_fail {
                continue;
            }
            let mut after = *state;
            after.left.faulty_copies -= u8::from(is_faulty);
            let cleaner = &mut after.cleaners[place];
            if let Some(did) = self.rules().advance(&mut after.store, cleaner, is_faulty) {
                let (what, object, set) = did;
                out.push((Step { actor: Actor::Cleanup(number), what, object, set }, after));
            }
        }
        if self.scenario.cleanups_crash && cleaner.runs_left > 1 && cleaner.at != CleanerAt::ReadLog {
            let mut after = *state;
            cleaner::end_run(&mut after.cleaners[place]);
            let step = Step { actor: Actor::Cleanup(number), what: "crashes", object: None, set: Bits::NONE };
            out.push((step, after));
        }
    }
}
