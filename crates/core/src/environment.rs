//! Time and randomness, as arguments.
//!
//! Below the command line nobody asks the system for the time or for random bytes: a job gets an [`Environment`].
//! So a test replays a day of jobs, faults and crashes from one seed.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment of wall-clock time: milliseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp {
    /// Milliseconds since 1970-01-01 00:00:00 UTC.
    pub milliseconds: u64,
}

impl Timestamp {
    /// Returns the moment `duration` later.
    pub fn plus(self, duration: Duration) -> Timestamp {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp { milliseconds: self.milliseconds.saturating_add(milliseconds) }
    }

    /// Returns how much time has passed since `earlier`; none if it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.milliseconds.saturating_sub(earlier.milliseconds))
    }
}

/// What tells the time.
pub trait Clock: Send + Sync {
    /// Returns the wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns the time since some fixed moment; it never goes backwards.
    fn elapsed(&self) -> Duration;

    /// Waits for `duration`; a simulated clock returns at once and moves on.
    fn sleep(&self, duration: Duration);
}

/// What gives random bytes, fit for keys and nonces.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Time and randomness for a job.
#[derive(Clone)]
pub struct Environment {
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// What gives random bytes.
    pub random: Arc<dyn Random>,
}

impl Environment {
    /// Returns `N` random bytes.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    /// Returns a random number below `bound`; 0 if `bound` is 0. The bias is below 2^-32 for bounds below 2^32.
    pub fn random_below(&self, bound: u64) -> u64 {
        let random = u64::from_le_bytes(self.random_bytes());
        if bound == 0 { 0 } else { random % bound }
    }
}
