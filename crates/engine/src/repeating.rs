//! What is done again and again while a job runs, by a thread of its own and the clock of the environment.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use backy_core::environment::Clock;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

/// How often the thread looks at the clock, in real time.
const LOOK_AT_CLOCK: Duration = Duration::from_millis(500);

/// The thread. Dropping it stops it, and waits for what it is doing.
pub(crate) struct Repeating {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Repeating {
    /// Does `work` each time that `interval` has passed, until it breaks off or the value is dropped.
    pub(crate) fn start(
        clock: Arc<dyn Clock>,
        interval: Duration,
        mut work: impl FnMut() -> ControlFlow<()> + Send + 'static,
    ) -> Repeating {
        let (stop, stopped) = bounded::<()>(0);
        let mut done_at = clock.elapsed();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(LOOK_AT_CLOCK) == Err(RecvTimeoutError::Timeout) {
                if clock.elapsed().saturating_sub(done_at) < interval {
                    continue;
                }
                done_at = clock.elapsed();
                if work().is_break() {
                    return;
                }
            }
        });
        Repeating { running: Some((stop, thread)) }
    }
}

impl Drop for Repeating {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // It ends with a panic of the work only, which has been told of.
            let _ = thread.join();
        }
    }
}
