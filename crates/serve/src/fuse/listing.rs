//! What versions there are, read again when somebody looks and what is known is too old.
//!
//! ```text
//!  fresh  --lifetime-->  old  --somebody looks-->  being read  --> fresh
//! ```
//!
//! One thread reads; those who look meanwhile wait for it, but not long if an older list is known: then that one is good
//! enough, and a store that does not answer does not stop those who work with what is open.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backy_core::ids::VersionUid;
use backy_core::{Error, ErrorKind, Result};
use backy_engine::Repository;
use backy_engine::repository::versions::VersionListing;
use tracing::warn;

use super::node::Indices;
use super::patience::Patience;
use super::tree::Tree;

/// How long is waited for a newer list than the one that is known.
const PATIENCE_WITH_OLD: Duration = Duration::from_secs(2);

/// The list. See the module.
pub(super) struct Listing {
    repository: Arc<Repository>,
    lifetime: Duration,
    patience: Patience,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tree: Option<Arc<Tree>>,
    /// When it was read last, or was tried to be; none: read it now.
    read_at: Option<Duration>,
    error: Option<Arc<Error>>,
    is_being_read: bool,
    /// Somebody has waited in vain for what is being read.
    is_late: bool,
    /// What is being read may miss the newest change.
    is_outdated: bool,
    indices: Indices,
    complaints: BTreeSet<VersionUid>,
}

impl Listing {
    /// Makes a list that knows nothing yet.
    pub(super) fn new(repository: Arc<Repository>, lifetime: Duration, patience: Patience) -> Arc<Listing> {
        Arc::new(Listing { repository, lifetime, patience, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Returns what there is.
    ///
    /// # Errors
    /// If nothing is known and the store cannot be read.
    pub(super) fn tree(self: &Arc<Self>) -> Result<Arc<Tree>> {
        let mut state = self.lock();
        if self.is_old(&state) && !state.is_being_read {
            (state.is_being_read, state.is_late, state.is_outdated) = (true, false, false);
            let listing = self.clone();
            if let Err(error) = self.patience.begin(move || listing.read()) {
                self.end(&mut state, Err(error));
            }
        }
        if state.is_being_read && !(state.is_late && state.tree.is_some()) {
            let limit = self.patience.limit();
            let limit = if state.tree.is_some() { limit.min(PATIENCE_WITH_OLD) } else { limit };
            let waited = self.changed.wait_timeout_while(state, limit, |state| state.is_being_read);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_late = state.is_being_read;
        }
        match (&state.tree, &state.error) {
            (Some(tree), _) => Ok(tree.clone()),
            (None, Some(error)) => Err(Error::new(error.kind(), error.to_string())),
            (None, None) => {
                let seconds = self.patience.limit().as_secs();
                let message = format!("the store has not listed the versions within {seconds} seconds");
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// Has it read again when somebody looks.
    pub(super) fn expire(&self) {
        let mut state = self.lock();
        state.read_at = None;
        state.is_outdated = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_old(&self, state: &State) -> bool {
        let now = self.repository.environment().clock.elapsed();
        state.read_at.is_none_or(|read_at| now.saturating_sub(read_at) >= self.lifetime)
    }

    fn read(&self) {
        let versions = self.repository.versions();
        self.end(&mut self.lock(), versions);
    }

    fn end(&self, state: &mut State, versions: Result<VersionListing>) {
        match versions {
            Ok(listing) => {
                for (uid, error) in &listing.unreadable {
                    if state.complaints.insert(*uid) {
                        warn!("version {uid} cannot be read and is not shown: {error}");
                    }
                }
                state.tree = Some(Arc::new(Tree::new(listing.versions, &mut state.indices)));
                state.error = None;
            }
            Err(error) => {
                if state.error.is_none() {
                    warn!("the versions cannot be listed for now: {error}");
                }
                state.error = Some(Arc::new(error));
            }
        }
        state.is_being_read = false;
        if !state.is_outdated {
            state.read_at = Some(self.repository.environment().clock.elapsed());
        }
        self.changed.notify_all();
    }
}
