//! A clock that moves only when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backy_core::environment::{Clock, Timestamp};

/// The time that a simulated clock starts at: 2024-01-01 00:00:00 UTC.
pub const START: Timestamp = Timestamp { milliseconds: 1_704_067_200_000 };

/// A clock that stands still until somebody sleeps or moves it.
#[derive(Debug)]
pub struct SimulatedClock {
    elapsed_nanoseconds: AtomicU64,
    now_milliseconds: AtomicU64,
}

impl SimulatedClock {
    /// Makes a clock that shows `now`.
    pub fn new(now: Timestamp) -> SimulatedClock {
        SimulatedClock { elapsed_nanoseconds: AtomicU64::new(0), now_milliseconds: AtomicU64::new(now.milliseconds) }
    }

    /// Lets `duration` pass.
    pub fn advance(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_nanoseconds.fetch_add(nanoseconds, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an administrator would, forwards or backwards; the time that has passed is not touched.
    pub fn set_now(&self, now: Timestamp) {
        let elapsed_milliseconds = self.elapsed_nanoseconds.load(Ordering::SeqCst) / 1_000_000;
        self.now_milliseconds.store(now.milliseconds.wrapping_sub(elapsed_milliseconds), Ordering::SeqCst);
    }
}

impl Default for SimulatedClock {
    fn default() -> SimulatedClock {
        SimulatedClock::new(START)
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let elapsed_milliseconds = self.elapsed_nanoseconds.load(Ordering::SeqCst) / 1_000_000;
        let base_milliseconds = self.now_milliseconds.load(Ordering::SeqCst);
        Timestamp { milliseconds: base_milliseconds.wrapping_add(elapsed_milliseconds) }
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanoseconds.load(Ordering::SeqCst))
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_moves_both_times_and_setting_moves_one() {
        let clock = SimulatedClock::default();
        clock.sleep(Duration::from_micros(2_000_500));
        assert_eq!(clock.now(), START.plus(Duration::from_secs(2)));
        assert_eq!(clock.elapsed(), Duration::from_micros(2_000_500));
        let earlier = Timestamp { milliseconds: 1000 };
        clock.set_now(earlier);
        assert_eq!(clock.now(), earlier);
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), earlier.plus(Duration::from_secs(1)));
        assert_eq!(clock.elapsed(), Duration::from_micros(3_000_500));
    }
}
