//! What is put around any kind of store. Each layer is an [`ObjectStore`] itself and keeps its promises.
//!
//! ```text
//!  retry       waits and tries again        outermost: a slot or bytes are asked for anew at each attempt
//!  throttle    bytes per second
//!  limit       requests at the same time
//!  observe     counts                       innermost: what really was asked of the store
//!  <the store>
//! ```
//!
//! [`ObjectStore`]: crate::ObjectStore

pub mod limit;
pub mod observe;
pub mod retry;
pub mod throttle;

pub use limit::Limit;
pub use observe::{Counters, Counts, Observe};
pub use retry::{Retry, RetryPolicy};
pub use throttle::Throttle;

#[cfg(test)]
pub(crate) mod test_environment {
    //! A clock that stands still until somebody sleeps, and random bytes that are always the same.

    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use backy_core::environment::{Clock, Environment, Random, Timestamp};

    #[derive(Default)]
    pub(crate) struct TestClock(Mutex<Duration>);

    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            Timestamp::default().plus(self.elapsed())
        }
        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    struct AlwaysMost;

    impl Random for AlwaysMost {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    pub(crate) fn environment() -> Environment {
        Environment { clock: Arc::new(TestClock::default()), random: Arc::new(AlwaysMost) }
    }
}
