//! A version held open for reading: what the doors of backy2 serve.
//!
//! The job of serving a version begins in [`ServedVersion::begin`] and ends when the value is dropped; in between a lease
//! keeps what the version needs. It may be read by any number of threads: its map through the repository, which is a
//! `MapReader`, and its slots through [`Repository::read_slots`]. What is kept in memory is the door's affair.

use std::sync::Arc;

use backy_core::ids::VersionUid;
use backy_core::records::lease::JobKind;
use backy_core::records::manifest::Manifest;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use tracing::warn;

use crate::repository::Repository;
use crate::repository::leases::Lease;

/// A version that is being served.
pub struct ServedVersion {
    repository: Arc<Repository>,
    manifest: Manifest,
    /// Dropped with the version, and not before.
    _lease: Lease,
}

impl ServedVersion {
    /// Begins to serve a version; its manifest is read from the store now.
    ///
    /// # Errors
    /// `NotFound` if there is no such complete version, or it was removed.
    pub fn begin(repository: Arc<Repository>, uid: VersionUid) -> Result<ServedVersion> {
        let lease = repository.begin_job(JobKind::Serve, vec![uid])?;
        if repository.is_removed(uid)? {
            return Err(Error::new(ErrorKind::NotFound, format!("version {uid} was removed")));
        }
        let taken = repository.take_version(&lease, uid).context(|| format!("open version {uid}"))?;
        if taken.is_void {
            warn!("version {uid} was written by a job that others thought dead; some of its blocks may be gone");
        }
        Ok(ServedVersion { repository, manifest: taken.manifest, _lease: lease })
    }

    /// Returns the repository that the version is in.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Returns the version.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}
