//! Marks beside a version: it was removed; it was void, and passed its recheck.

use serde::{Deserialize, Serialize};

use crate::environment::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{LeaseId, VersionUid};

/// Says that a version was removed. It is never withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The version.
    pub uid: VersionUid,
    /// When.
    pub removed: Timestamp,
    /// By which job.
    pub lease: LeaseId,
}

impl Tombstone {
    /// Checks that this is the tombstone of `uid`.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn check(&self, uid: VersionUid) -> Result<()> {
        if self.uid == uid {
            Ok(())
        } else {
            Err(Error::damaged(format!("the tombstone of version {uid} says that it is of {}", self.uid)))
        }
    }
}

/// Says that a void version passed its recheck: nothing that it points to was condemned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recheck {
    /// The version.
    pub uid: VersionUid,
    /// When.
    pub checked: Timestamp,
    /// By which job.
    pub lease: LeaseId,
}
