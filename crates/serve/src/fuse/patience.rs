//! Waits for the store for a limited time.
//!
//! What may hang goes to a thread of its own. Who waits too long is told so, and goes on; what the thread brings in the
//! end is dropped. While too many such threads hang, nothing new is begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::Builder;
use std::time::Duration;

use backy_core::{Error, ErrorKind, Result};

/// As many threads wait for the store at once.
const THREADS_MAX: usize = 64;

/// How long, and how many wait already.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    limit: Duration,
    running: Arc<AtomicUsize>,
}

impl Patience {
    /// Waits for each thing at most `limit`.
    pub(super) fn new(limit: Duration) -> Patience {
        Patience { limit, running: Arc::default() }
    }

    /// Returns how long each thing is waited for.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Does `work` on another thread, and returns what comes of it.
    ///
    /// # Errors
    /// `Unavailable` if it takes too long; it goes on then, and nobody sees what comes of it.
    pub(super) fn wait_for<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        self.begin(move || {
            // It fails if nobody waits any more.
            let _ = sender.send(work());
        })?;
        let too_long = |_| {
            let message = format!("the store has not answered within {} seconds", self.limit.as_secs());
            Error::new(ErrorKind::Unavailable, message)
        };
        receiver.recv_timeout(self.limit).map_err(too_long)?
    }

    /// Does `work` on another thread, without waiting for it.
    pub(super) fn begin(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        if self.running.fetch_add(1, Ordering::SeqCst) >= THREADS_MAX {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Unavailable, "too many wait for the store already"));
        }
        let running = Running(self.running.clone());
        let thread = Builder::new().name("fuse-store".to_owned()).spawn(move || {
            let _running = running;
            work();
        });
        thread.map(|_| ()).map_err(|error| Error::io("start a thread that waits for the store", error))
    }
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_hangs_is_given_up_and_only_so_much_may_hang() {
        let patience = Patience::new(Duration::ZERO);
        let (release, held) = channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        for _ in 0..THREADS_MAX {
            let held = held.clone();
            let waited = patience.wait_for(move || {
                let _ = held.lock().unwrap().recv();
                Ok(())
            });
            assert_eq!(waited.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        let refused = patience.begin(|| {});
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        drop(release);
        while patience.running.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
        patience.begin(|| {}).unwrap();
    }

    #[test]
    fn what_comes_in_time_is_returned() {
        let patience = Patience::new(Duration::from_secs(60));
        assert_eq!(patience.wait_for(|| Ok(7)).unwrap(), 7);
        let failed = patience.wait_for(|| Err::<(), _>(Error::damaged("broken")));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Damaged);
    }
}
