//! How the threads of a backup stop together: at the first failure, or when the user says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use backy_core::cancel::Cancel;
use backy_core::{Error, Result};

/// The first failure, and the user's wish.
pub(super) struct Stop<'a> {
    cancel: &'a Cancel,
    has_failed: AtomicBool,
    first: Mutex<Option<Error>>,
}

impl<'a> Stop<'a> {
    pub(super) fn new(cancel: &'a Cancel) -> Stop<'a> {
        Stop { cancel, has_failed: AtomicBool::new(false), first: Mutex::new(None) }
    }

    /// Notes a failure; the first one counts. All threads go on to drain what they are given, and do nothing with it.
    pub(super) fn fail(&self, error: Error) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.has_failed.store(true, Ordering::SeqCst);
    }

    /// Notes the failure of a result.
    pub(super) fn check<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.fail(error)).ok()
    }

    /// Says whether something has failed, so that nothing more is done.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    /// Says whether no new piece should be begun; what was begun is brought to its end.
    pub(super) fn is_ending(&self) -> bool {
        self.has_failed() || self.cancel.is_cancelled()
    }

    /// Returns the first failure, or that the user stopped the job.
    pub(super) fn into_result(self) -> Result<()> {
        match self.first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => self.cancel.check(),
        }
    }
}
