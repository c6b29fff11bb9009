//! What an operator may turn.

use std::num::NonZeroUsize;
use std::time::Duration;

use backy_core::pack::PACK_BYTES_MAX;

/// How jobs use the machine. Memory follows from it: chunks and packs in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many reads of the source are under way at once.
    pub simultaneous_reads: NonZeroUsize,
    /// How many packs are uploaded at once.
    pub simultaneous_writes: NonZeroUsize,
    /// How many threads compress, encrypt and compare.
    pub workers: NonZeroUsize,
    /// The level of zstd, -7 to 19.
    pub compression_level: i32,
    /// How often a backup notes down how far it has come.
    pub checkpoint_interval: Duration,
    /// How large a pack grows before it is stored, in bytes: at most 32 MiB, which is also the default. Small packs make
    /// the store slow, and many; large ones take memory, and more is lost when one is.
    pub pack_size_bytes: usize,
    /// How often a job says that it is alive; none: never, so that others give it up after the timeout.
    pub lease_renewal: Option<Duration>,
    /// After how long without a word the lease of another job is given up. It must be much longer than the clocks of hosts
    /// differ: a job whose lease was given up cannot publish.
    pub lease_timeout: Duration,
}

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            simultaneous_reads: TWO.saturating_add(2),
            simultaneous_writes: TWO,
            workers: std::thread::available_parallelism().unwrap_or(TWO),
            compression_level: 1,
            checkpoint_interval: Duration::from_secs(60),
            pack_size_bytes: PACK_BYTES_MAX,
            lease_renewal: Some(Duration::from_secs(300)),
            lease_timeout: Duration::from_secs(3 * 3600),
        }
    }
}

impl Settings {
    /// Returns how many pieces of the source are in memory at once.
    pub(crate) fn chunks_in_flight(&self) -> usize {
        self.simultaneous_reads.get() + 2 * self.workers.get() + 2
    }

    /// Returns how many threads read packs and open what is in them: more than there are cores, so that they have something
    /// to do while a store lets others wait.
    pub(crate) fn pack_readers(&self) -> usize {
        self.simultaneous_reads.max(self.workers).get()
    }

    /// Returns how many packs are in memory at once: one that is filled, and those that are uploaded.
    pub(crate) fn packs_in_flight(&self) -> usize {
        self.simultaneous_writes.get() + 1
    }
}
