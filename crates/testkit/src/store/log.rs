//! What a faulty store writes down of each call.

use backy_core::ErrorKind;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `put`.
    Put,
    /// `get`.
    Get,
    /// `get_range`.
    GetRange,
    /// `list`.
    List,
    /// `delete`.
    Delete,
}

impl Operation {
    pub(super) fn changes_something(self) -> bool {
        matches!(self, Operation::Put | Operation::Delete)
    }
}

/// One call, as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number, from 1.
    pub number: u64,
    /// What was asked.
    pub operation: Operation,
    /// The name of the object, or the prefix of a listing.
    pub name: String,
    /// Bytes put or read; for a listing, the objects shown.
    pub bytes: u64,
    /// What it failed with, if it did.
    pub failure: Option<ErrorKind>,
}
