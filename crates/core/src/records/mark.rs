//! Tombstones: a version was removed, or a checkpoint is no longer needed.

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
