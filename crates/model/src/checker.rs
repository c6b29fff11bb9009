//! Walks breadth first through every state that a model can reach.
//!
//! Of a state that was seen only 64 bits are kept, and those of the state before it. Two states of the same 64 bits
//! would be taken for one; among a hundred million states the odds that it happens at all are 1 to 4,000. The first
//! broken promise ends the walk; its way is found again from the kept bits and is as short as any.
//!
//! An actor that crashes is one that never moves again. As every interleaving is walked, so is the one where it does
//! not. A model that is too large for that can be wandered through at random.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

/// What the checker walks through.
pub trait Model {
    /// Everything there is at one moment.
    type State: Copy + Eq + Hash;
    /// What one actor did, for people to read.
    type Step: fmt::Display;

    /// Returns the states to begin with.
    fn beginnings(&self) -> Vec<Self::State>;

    /// Appends every step that is possible in `state`, with the state that it leads to.
    fn steps(&self, state: &Self::State, out: &mut Vec<(Self::Step, Self::State)>);

    /// Returns what is broken in `state`, looked at once for each state.
    fn broken_state(&self, state: &Self::State) -> Option<String>;

    /// Returns what is broken by going from one state to the next.
    fn broken_step(&self, _before: &Self::State, _after: &Self::State) -> Option<String> {
        None
    }

    /// Returns one state for all that differ in the names of like actors only.
    fn canonical(&self, state: &Self::State) -> Self::State {
        *state
    }
}

/// What a walk found.
#[derive(Debug)]
pub struct Outcome {
    /// How many different states were reached.
    pub states: usize,
    /// How many steps were tried.
    pub steps: usize,
    /// How many steps the state farthest from the beginning is away.
    pub depth: usize,
    /// Whether every state was reached; false when the limit or a broken promise ended the walk.
    pub is_complete: bool,
    /// The first broken promise.
    pub counterexample: Option<Counterexample>,
}

/// The shortest way to a broken promise.
#[derive(Debug)]
pub struct Counterexample {
    /// Which promise, and how.
    pub broken: String,
    /// The steps from the beginning.
    pub steps: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(out, "{:3}  {step}", index + 1)?;
        }
        write!(out, "  => {}", self.broken)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_complete { "all" } else { "not all" };
        write!(out, "{} states ({end}), {} steps, depth {}", self.states, self.steps, self.depth)?;
        match &self.counterexample {
            Some(counterexample) => write!(out, "\n{counterexample}"),
            None => write!(out, ", nothing broken"),
        }
    }
}

/// What identifies a state in the memory of the walk.
type Print = u64;

/// Prints are evenly spread already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The prints seen, each with the one before it; a beginning has its own.
type Seen = HashMap<Print, Print, BuildHasherDefault<AsItIs>>;

/// Walks through `model`, at most to `states_max` states.
pub fn walk<M: Model>(model: &M, states_max: usize) -> Outcome {
    let mut seen = Seen::default();
    let mut outcome = Outcome { states: 0, steps: 0, depth: 0, is_complete: false, counterexample: None };
    let mut level = Vec::new();
    for state in model.beginnings() {
        let print = print_of(model, &state);
        if seen.insert(print, print).is_some() {
            continue;
        }
        if let Some(broken) = model.broken_state(&state) {
            outcome.counterexample = Some(Counterexample { broken, steps: Vec::new() });
            return outcome;
        }
        level.push((print, state));
    }
    let mut steps = Vec::new();
    while !level.is_empty() {
        let mut next = Vec::new();
        for (print, state) in &level {
            model.steps(state, &mut steps);
            outcome.steps += steps.len();
            for (step, after) in steps.drain(..) {
                let after_print = print_of(model, &after);
                let is_new = match seen.entry(after_print) {
                    Entry::Occupied(_) => false,
                    Entry::Vacant(place) => {
                        place.insert(*print);
                        true
                    }
                };
                let broken_state = if is_new { model.broken_state(&after) } else { None };
                if let Some(broken) = model.broken_step(state, &after).or(broken_state) {
                    drop(step);
                    let steps = way_to(model, &seen, *print, after_print);
                    outcome.counterexample = Some(Counterexample { broken, steps });
                    outcome.states = seen.len();
                    return outcome;
                }
                if is_new {
                    next.push((after_print, after));
                }
            }
            if seen.len() > states_max {
                outcome.states = seen.len();
                return outcome;
            }
        }
        if !next.is_empty() {
            outcome.depth += 1;
        }
        level = next;
    }
    outcome.states = seen.len();
    outcome.is_complete = true;
    outcome
}

/// Wanders `walks` times through a model that has too many states to see them all, by steps that `seed` chooses.
///
/// Each walk ends where no step is possible, or after `steps_max` steps. `states` of the outcome counts those that were
/// looked at.
pub fn wander<M: Model>(model: &M, seed: u64, walks: usize, steps_max: usize) -> Outcome {
    let mut outcome = Outcome { states: 0, steps: 0, depth: 0, is_complete: false, counterexample: None };
    let mut chance = seed;
    let mut steps = Vec::new();
    for _ in 0..walks {
        let mut way = Vec::new();
        let beginnings = model.beginnings();
        let Some(mut state) = pick(&mut chance, beginnings) else { break };
        while way.len() < steps_max {
            model.steps(&state, &mut steps);
            let Some((step, after)) = pick(&mut chance, std::mem::take(&mut steps)) else { break };
            way.push(step);
            outcome.states += 1;
            outcome.depth = outcome.depth.max(way.len());
            if let Some(broken) = model.broken_step(&state, &after).or_else(|| model.broken_state(&after)) {
                let steps = way.iter().map(ToString::to_string).collect();
                outcome.counterexample = Some(Counterexample { broken, steps });
                return outcome;
            }
            state = after;
        }
        outcome.steps += way.len();
    }
    outcome
}

/// Takes one of `choices`, by the next number of a splitmix64 sequence.
fn pick<T>(chance: &mut u64, mut choices: Vec<T>) -> Option<T> {
    *chance = chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*chance ^ (*chance >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let count = u64::try_from(choices.len()).ok().filter(|count| *count > 0)?;
    let chosen = usize::try_from((mixed ^ (mixed >> 31)) % count).ok()?;
    Some(choices.swap_remove(chosen))
}

fn print_of<M: Model>(model: &M, state: &M::State) -> Print {
    let mut gathered = Gathered { bytes: [0; 256], length: 0, hasher: DefaultHasher::new() };
    model.canonical(state).hash(&mut gathered);
    gathered.finish()
}

/// Hands the bytes of a state to the hasher in large pieces; one by one they cost half the time of a walk.
struct Gathered {
    bytes: [u8; 256],
    length: usize,
    hasher: DefaultHasher,
}

impl Hasher for Gathered {
    #[inline]
    fn write_u8(&mut self, byte: u8) {
        if self.length == self.bytes.len() {
            self.hasher.write(&self.bytes);
            self.length = 0;
        }
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn finish(&self) -> u64 {
        let mut hasher = self.hasher.clone();
        hasher.write(&self.bytes[..self.length]);
        hasher.finish()
    }
}

/// The steps from a beginning to the state of `before` and on to that of `last`, found by going the kept prints once
/// more.
fn way_to<M: Model>(model: &M, seen: &Seen, before: Print, last: Print) -> Vec<String> {
    let mut prints = vec![last, before];
    let mut at = before;
    while let Some(before) = seen.get(&at).filter(|before| **before != at) {
        prints.push(*before);
        at = *before;
    }
    prints.reverse();
    let mut way = Vec::new();
    let Some(mut state) = model.beginnings().into_iter().find(|state| print_of(model, state) == prints[0]) else {
        return way;
    };
    let mut steps = Vec::new();
    for wanted in &prints[1..] {
        steps.clear();
        model.steps(&state, &mut steps);
        let Some((step, after)) = steps.drain(..).find(|(_, after)| print_of(model, after) == *wanted) else { break };
        way.push(step.to_string());
        state = after;
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters that are read and written in two steps, and so lose an increment.
    struct Counters;

    #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
    struct Counting {
        total: u8,
        has_read: [Option<u8>; 2],
        is_done: [bool; 2],
    }

    impl Model for Counters {
        type State = Counting;
        type Step = String;

        fn beginnings(&self) -> Vec<Counting> {
            vec![Counting::default()]
        }

        fn steps(&self, state: &Counting, out: &mut Vec<(String, Counting)>) {
            for actor in 0..2 {
                let mut after = *state;
                match (state.is_done[actor], state.has_read[actor]) {
                    (true, _) => {}
                    (false, None) => {
                        after.has_read[actor] = Some(state.total);
                        out.push((format!("{actor} reads"), after));
                    }
                    (false, Some(total)) => {
                        after.total = total + 1;
                        after.is_done[actor] = true;
                        out.push((format!("{actor} writes"), after));
                    }
                }
            }
        }

        fn broken_state(&self, state: &Counting) -> Option<String> {
            (state.is_done == [true, true] && state.total != 2).then(|| "an increment is lost".to_owned())
        }
    }

    #[test]
    fn the_shortest_way_to_a_broken_promise_is_told() {
        let outcome = walk(&Counters, 1000);
        let counterexample = outcome.counterexample.expect("two counters must collide");
        assert_eq!(counterexample.broken, "an increment is lost");
        assert_eq!(counterexample.steps, ["0 reads", "1 reads", "0 writes", "1 writes"]);
    }

    #[test]
    fn who_wanders_long_enough_finds_it_too() {
        let outcome = wander(&Counters, 1, 100, 10);
        let counterexample = outcome.counterexample.expect("two counters must collide");
        assert_eq!(counterexample.broken, "an increment is lost");
        assert_eq!(counterexample.steps.len(), 4);
    }

    #[test]
    fn a_walk_that_meets_its_limit_says_that_it_is_not_complete() {
        let outcome = walk(&Counters, 2);
        assert!(!outcome.is_complete && outcome.counterexample.is_none());
    }
}
