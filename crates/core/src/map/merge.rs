//! Joins neighbours of a row into one, on the fly.

use crate::error::{Error, Result};

/// Something that may absorb its successor.
pub(crate) trait Mergeable: Sized {
    /// Takes `next` in and returns true, or leaves both as they are.
    fn try_extend(&mut self, next: &Self) -> bool;
}

/// Holds the last item back until it is known that its successor does not join it.
///
/// After an error nothing follows; what was complete before comes out first.
#[derive(Debug)]
pub(crate) struct Merging<T> {
    pending: Option<T>,
    failure: Option<Error>,
    is_done: bool,
}

impl<T: Mergeable> Merging<T> {
    pub fn new() -> Merging<T> {
        Merging { pending: None, failure: None, is_done: false }
    }

    /// Returns the next merged item, taking raw ones from `raw` until it says none.
    pub fn next(&mut self, mut raw: impl FnMut() -> Result<Option<T>>) -> Option<Result<T>> {
        while !self.is_done {
            match raw() {
                Ok(Some(item)) => {
                    if self.pending.as_mut().is_some_and(|pending| pending.try_extend(&item)) {
                        continue;
                    }
                    if let Some(complete) = self.pending.replace(item) {
                        return Some(Ok(complete));
                    }
                }
                Ok(None) => self.is_done = true,
                Err(error) => {
                    self.failure = Some(error);
                    self.is_done = true;
                }
            }
        }
        self.pending.take().map(Ok).or_else(|| self.failure.take().map(Err))
    }
}
