//! What all open versions of a repository share, and how long a read waits for it.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backy_core::ids::VersionUid;
use backy_core::units::BlockIndex;
use backy_core::{Error, ErrorKind, Result};
use backy_engine::Repository;

use super::fetchers::{Fetchers, Task};
use super::loader::{BlockTicket, Loader};
use super::shared_cache::{Found, Landed, SharedCache, Ticket};

/// As many bad blocks are logged.
const COMPLAINTS_MAX: usize = 10_000;

/// How open versions use the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewSettings {
    /// How many plain bytes of blocks are kept in memory.
    pub cache_bytes: usize,
    /// How far is read ahead of a sequential reader at most, in bytes.
    pub read_ahead_bytes: u64,
    /// How long a read waits for the store before it fails.
    pub patience: Duration,
}

impl Default for ViewSettings {
    fn default() -> ViewSettings {
        ViewSettings { cache_bytes: 128 << 20, read_ahead_bytes: 8 << 20, patience: Duration::from_secs(60) }
    }
}

/// What the open versions of a repository share.
pub struct ViewCache {
    pub(super) loader: Arc<Loader>,
    pub(super) fetchers: Fetchers,
    pub(super) settings: ViewSettings,
    /// Bad blocks that were logged.
    complaints: Mutex<BTreeSet<(VersionUid, BlockIndex)>>,
}

impl ViewCache {
    /// Makes an empty cache, and starts the threads that fill it.
    pub fn new(repository: Arc<Repository>, settings: ViewSettings) -> Result<Arc<ViewCache>> {
        let threads = repository.settings().simultaneous_reads.max(NonZeroUsize::MIN);
        let loader = Arc::new(Loader::new(repository, settings.cache_bytes));
        let fetchers = Fetchers::start(threads)?;
        Ok(Arc::new(ViewCache { loader, fetchers, settings, complaints: Mutex::default() }))
    }

    /// Returns the repository that the versions are in.
    pub fn repository(&self) -> &Arc<Repository> {
        self.loader.repository()
    }

    /// Returns how long a read waits for the store.
    pub fn patience(&self) -> Duration {
        self.settings.patience
    }

    /// Waits for what somebody loads, or has it loaded with `submit`.
    pub(super) fn obtain<K: Copy + Eq + Hash, V: Clone>(
        &self,
        cache: &Arc<SharedCache<K, V>>,
        key: K,
        mut found: Found<K, V>,
        deadline: Deadline,
        submit: impl Fn(Ticket<K, V>, Duration) -> Result<()>,
    ) -> Result<V> {
        loop {
            let flight = match found {
                Found::Kept(value) => return Ok(value),
                Found::Awaited(flight) => flight,
                Found::Absent(ticket) => {
                    let flight = ticket.flight();
                    submit(ticket, self.left(deadline))?;
                    flight
                }
            };
            match flight.wait(self.left(deadline)) {
                Some(Landed::Value(value)) => return Ok(value),
                Some(Landed::Failed(error)) => return Err(Error::new(error.kind(), error.to_string())),
                Some(Landed::Abandoned) => found = cache.find(key),
                None => {
                    let seconds = self.settings.patience.as_secs();
                    let message = format!("the store has not answered within {seconds} seconds");
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
        }
    }

    /// Says whether nobody has complained of this block yet, and notes that somebody does.
    pub(super) fn is_first_complaint(&self, uid: VersionUid, block: BlockIndex) -> bool {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.len() < COMPLAINTS_MAX && complaints.insert((uid, block))
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline(self.repository().environment().clock.elapsed().saturating_add(self.settings.patience))
    }

    pub(super) fn left(&self, deadline: Deadline) -> Duration {
        deadline.0.saturating_sub(self.repository().environment().clock.elapsed())
    }

    pub(super) fn slots_task(&self, tickets: Vec<BlockTicket>) -> Task {
        let loader = self.loader.clone();
        Box::new(move |reader| loader.load_slots(tickets, reader))
    }
}

/// When a read has waited long enough.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Duration);
