//! How far a job has come: counters that the job moves and anybody reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a running job, all in plain bytes if not said otherwise.
#[derive(Debug, Default)]
pub struct Progress {
    /// What there is to do; 0 while it is not known.
    pub total_bytes: Counter,
    /// What is done, in whatever way.
    pub done_bytes: Counter,
    /// Read from the source, or from the repository.
    pub read_bytes: Counter,
    /// Found in the repository already.
    pub deduplicated_bytes: Counter,
    /// Found to be zero, or known to be.
    pub zero_bytes: Counter,
    /// Written: stored bytes of a backup, plain bytes of a restore.
    pub written_bytes: Counter,
    /// Could not be read.
    pub bad_bytes: Counter,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets the counter.
    pub fn set(&self, amount: u64) {
        self.0.store(amount, Ordering::Relaxed);
    }

    /// Returns the counter.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
