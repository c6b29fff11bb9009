//! A version held open for reading: what the doors of backy2 serve.
//!
//! The job of serving a version begins in [`ServedVersion::begin`] and ends when the value is dropped; in between a lease
//! keeps what the version needs. It may be read by any number of threads: its map through the repository, which is a
//! `MapReader`, and its slots through [`Repository::read_slots`]. What is kept in memory is the door's affair.
//!
//! A mount may last for weeks, and an old lease holds up all that was condemned since. So the lease is changed now and then,
//! while the version is read on:
//!
//! ```text
//!  old lease --put a new one--> both --read the log, take the version anew, drop the old one--> new lease
//!      ^                         |
//!      '-- drop the new one -----'   the version is removed or void, or the store fails
//! ```

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backy_core::ids::{LeaseId, VersionUid};
use backy_core::records::lease::JobKind;
use backy_core::records::manifest::Manifest;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use tracing::{info, warn};

use crate::repeating::Repeating;
use crate::repository::Repository;
use crate::repository::leases::Lease;
use crate::repository::taken::TakenVersion;

/// How old a lease becomes before it is changed.
pub const LEASE_AGE_MAX: Duration = Duration::from_secs(3600);

/// A version that is being served.
pub struct ServedVersion {
    /// Ends before the lease is dropped.
    _changing: Option<Repeating>,
    held: Arc<Held>,
}

/// A version and the lease that keeps it.
struct Held {
    repository: Arc<Repository>,
    manifest: Manifest,
    lease: Mutex<Lease>,
}

impl ServedVersion {
    /// Begins to serve a version; its manifest is read from the store now.
    ///
    /// # Errors
    /// `NotFound` if there is no such complete version, or it was removed.
    pub fn begin(repository: Arc<Repository>, uid: VersionUid) -> Result<ServedVersion> {
        let lease = repository.begin_job(JobKind::Serve, vec![uid])?;
        let taken = take(&repository, &lease, uid)?;
        if taken.is_void {
            warn!("version {uid} was written by a job that others thought dead; some of its blocks may be gone");
        }
        let held = Arc::new(Held { repository, manifest: taken.manifest, lease: Mutex::new(lease) });
        Ok(ServedVersion { _changing: start_changing(&held), held })
    }

    /// Returns the repository that the version is in.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.held.repository
    }

    /// Returns the version.
    pub fn manifest(&self) -> &Manifest {
        &self.held.manifest
    }

    /// Returns the lease that keeps the version now.
    pub fn lease(&self) -> LeaseId {
        self.held.lease().id()
    }

    /// Changes the lease for a new one, as is done by itself when it is [`LEASE_AGE_MAX`] old. Reads may go on meanwhile.
    ///
    /// # Errors
    /// If the version was removed or is void, or the store fails. Then the old lease is kept.
    pub fn change_lease(&self) -> Result<()> {
        self.held.change_lease()
    }
}

impl Held {
    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_lease(&self) -> Result<()> {
        let uid = self.manifest.uid;
        // Whatever fails from here on drops the next lease, and not this one.
        let next = self.repository.begin_again(JobKind::Serve, vec![uid])?;
        let taken = take(&self.repository, &next, uid)?;
        if taken.is_void {
            // Some of what it points to may be condemned: nobody who begins now may rely on it.
            return Err(Error::new(ErrorKind::Refused, format!("version {uid} is void")));
        }
        if taken.manifest != self.manifest {
            return Err(Error::damaged(format!("version {uid} is not what it was when it was opened")));
        }
        let old = std::mem::replace(&mut *self.lease(), next);
        drop(old);
        Ok(())
    }

    /// Says whether it is time for another lease: this one is old, or lost, so that nothing keeps the version.
    fn is_due(&self, age: Duration) -> bool {
        age >= LEASE_AGE_MAX || self.lease().is_lost()
    }
}

/// Takes a version as every reader does: it is there, and neither removed nor condemned.
fn take(repository: &Repository, lease: &Lease, uid: VersionUid) -> Result<TakenVersion> {
    if repository.is_removed(uid)? {
        return Err(Error::new(ErrorKind::NotFound, format!("version {uid} was removed")));
    }
    repository.take_version(lease, uid).context(|| format!("open version {uid}"))
}

/// Looks as often as leases are renewed whether it is time for another one.
fn start_changing(held: &Arc<Held>) -> Option<Repeating> {
    let interval = held.repository.settings().lease_renewal?;
    let clock = held.repository.environment().clock.clone();
    let (held, mut changed_at, mut is_failing) = (held.clone(), clock.elapsed(), false);
    Some(Repeating::start(clock.clone(), interval, move || {
        let now = clock.elapsed();
        if !held.is_due(now.saturating_sub(changed_at)) {
            return ControlFlow::Continue(());
        }
        match held.change_lease() {
            Ok(()) => (changed_at, is_failing) = (now, false),
            // It is tried again soon, and told of once.
            Err(error) if is_failing => info!("the old lease is kept: {error}"),
            Err(error) => {
                is_failing = true;
                warn!(
                    "version {} is served on under its old lease, which holds up cleanups: {error}",
                    held.manifest.uid
                );
            }
        }
        ControlFlow::Continue(())
    }))
}
