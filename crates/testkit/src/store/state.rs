//! The memory of a faulty store, and what it decides of each call.

use std::collections::BTreeSet;

use backy_core::ErrorKind;
use backy_core::names::ObjectName;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::faults::{CrashMoment, Fault, FaultRates, Rule};
use super::log::{Call, Operation};

/// What the clones of a faulty store share.
pub(super) struct State {
    pub random: ChaCha8Rng,
    pub rates: FaultRates,
    pub rules: Vec<Rule>,
    pub unavailable_calls: u64,
    pub room_bytes: Option<u64>,
    pub crash_at: Option<(u64, CrashMoment)>,
    pub is_crashed: bool,
    pub hidden: BTreeSet<ObjectName>,
    /// For how many listings a new object is not shown.
    pub list_delay: u64,
    /// New objects that are not listed yet, and the number of listings that do not show them.
    pub delayed: Vec<(ObjectName, u64)>,
    /// Puts that have not happened yet.
    pub on_the_way: Vec<(ObjectName, Vec<u8>)>,
    pub calls: u64,
    pub log: Vec<Call>,
}

/// What happens to a call.
pub(super) enum Trouble {
    None,
    Crashed,
    CrashAfter,
    CrashLate,
    NoSpace,
    Fault(Fault),
}

impl State {
    /// Returns the state of a store that has not been called yet.
    pub fn new(seed: u64, rates: FaultRates) -> State {
        State {
            random: ChaCha8Rng::seed_from_u64(seed),
            rates,
            rules: Vec::new(),
            unavailable_calls: 0,
            room_bytes: None,
            crash_at: None,
            is_crashed: false,
            hidden: BTreeSet::new(),
            list_delay: 0,
            delayed: Vec::new(),
            on_the_way: Vec::new(),
            calls: 0,
            log: Vec::new(),
        }
    }

    /// Counts a call and decides what happens to it.
    pub fn begin(&mut self, operation: Operation, name: &str, put_bytes: u64) -> (u64, Trouble) {
        self.calls += 1;
        (self.calls, self.decide(operation, name, put_bytes))
    }

    fn decide(&mut self, operation: Operation, name: &str, put_bytes: u64) -> Trouble {
        // Chance is asked at each call, so that what happens later does not hang on what was decided by rule.
        let chance = self.chance(operation);
        if self.is_crashed {
            return Trouble::Crashed;
        }
        if let Some((number, moment)) = self.crash_at
            && self.calls >= number
        {
            self.is_crashed = true;
            return match moment {
                CrashMoment::Before => Trouble::Crashed,
                CrashMoment::After => Trouble::CrashAfter,
                CrashMoment::Late => Trouble::CrashLate,
            };
        }
        if self.unavailable_calls > 0 {
            self.unavailable_calls -= 1;
            return Trouble::Fault(Fault::Before(ErrorKind::Unavailable));
        }
        if let Some(fault) = self.rule(operation, name) {
            return Trouble::Fault(fault);
        }
        if operation == Operation::Put
            && let Some(room_bytes) = self.room_bytes
        {
            match room_bytes.checked_sub(put_bytes) {
                Some(rest_bytes) => self.room_bytes = Some(rest_bytes),
                None => return Trouble::NoSpace,
            }
        }
        chance.map_or(Trouble::None, Trouble::Fault)
    }

    fn rule(&mut self, operation: Operation, name: &str) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| rule.times > 0 && rule.matches(operation, name))?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }

    fn chance(&mut self, operation: Operation) -> Option<Fault> {
        let changes = |permille| if operation.changes_something() { permille } else { 0 };
        let puts = |permille| if operation == Operation::Put { permille } else { 0 };
        let rates = self.rates;
        let ways = [
            (rates.before_permille, Fault::Before(ErrorKind::Unavailable)),
            (rates.after_permille, Fault::After(ErrorKind::Unavailable)),
            (changes(rates.repeated_permille), Fault::Repeated),
            (puts(rates.late_permille), Fault::Late(ErrorKind::Unavailable)),
            (puts(rates.repeated_late_permille), Fault::RepeatedLate),
        ];
        let mut drawn = self.random.random_range(0..1000);
        for (permille, fault) in ways {
            if drawn < permille {
                return Some(fault);
            }
            drawn -= permille;
        }
        None
    }

    /// Returns the objects that a listing does not show.
    pub fn invisible(&mut self) -> BTreeSet<ObjectName> {
        let mut invisible = self.hidden.clone();
        self.delayed.retain_mut(|(name, listings)| {
            let is_delayed = *listings > 0;
            *listings = listings.saturating_sub(1);
            if is_delayed {
                invisible.insert(name.clone());
            }
            is_delayed
        });
        invisible
    }
}
