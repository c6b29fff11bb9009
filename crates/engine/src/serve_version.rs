//! A version held open for reading: what the doors of backy2 serve.
//!
//! The job of serving a version begins in [`ServedVersion::begin`] and ends when the value is dropped. Between the two
//! the version may be read by any number of threads: its map through the repository, which is a `MapReader`, and its
//! slots through [`Repository::read_slots`]. What is kept in memory is the door's affair.

use std::sync::Arc;

use backy_core::ids::VersionUid;
use backy_core::records::manifest::Manifest;
use backy_core::{Error, ErrorKind, Result, ResultExt};

use crate::repository::Repository;

/// A version that is being served.
pub struct ServedVersion {
    repository: Arc<Repository>,
    manifest: Manifest,
}

impl ServedVersion {
    /// Begins to serve a version; its manifest is read from the store now.
    ///
    /// # Errors
    /// `NotFound` if there is no such complete version, or it was removed.
    pub fn begin(repository: Arc<Repository>, uid: VersionUid) -> Result<ServedVersion> {
        if repository.is_removed(uid)? {
            return Err(Error::new(ErrorKind::NotFound, format!("version {uid} was removed")));
        }
        let manifest = repository.read_manifest(uid).context(|| format!("open version {uid}"))?;
        Ok(ServedVersion { repository, manifest })
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
