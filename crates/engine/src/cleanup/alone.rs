//! One cleanup at a time, for thrift: two would do the same work. Nothing depends on it.

use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::records::lease::JobKind;
use backy_core::{Error, ErrorKind, Result};

use super::CleanupReport;
use crate::repository::Repository;
use crate::repository::leases::{Lease, LeaseEntry};

/// How long to wait for another one that sees us and steps back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOKS_MAX: u32 = 20;

/// Returns when no other cleanup is at work.
///
/// The one with the lower id stays, the other steps back. One that began to work before we came has seen nobody, and does
/// not look again: so whoever sees a higher id waits until it is gone.
///
/// # Errors
/// `Busy` if another cleanup is at work.
pub(super) fn wait(repository: &Repository, lease: &Lease, report: &mut CleanupReport, cancel: &Cancel) -> Result<()> {
    let mut looks_left = LOOKS_MAX;
    loop {
        cancel.check()?;
        let revoked = repository.revoke_overdue(lease)?;
        report.revoked.extend(revoked.iter().map(LeaseEntry::described));
        let is_other = |entry: &LeaseEntry| {
            entry.id != lease.id() && entry.record.as_ref().is_some_and(|record| record.kind == JobKind::Cleanup)
        };
        let others: Vec<LeaseEntry> = repository.held_leases()?.into_iter().filter(is_other).collect();
        let Some(other) = others.first() else { return Ok(()) };
        looks_left -= 1;
        if other.id < lease.id() || looks_left == 0 {
            let message = format!("{} is at work already: lease {}", other.described(), other.id);
            return Err(Error::new(ErrorKind::Busy, message));
        }
        repository.environment().clock.sleep(LOOK_AGAIN);
    }
}
