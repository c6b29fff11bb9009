//! Deletes many objects with few requests; one that the store keeps for now keeps no other one from going.

use std::collections::BTreeSet;

use backy_core::cancel::Cancel;
use backy_core::names::ObjectName;
use backy_core::{ErrorKind, Result, ResultExt};
use tracing::warn;

use super::CleanupReport;
use crate::repository::Repository;

/// How many objects are deleted with one call of the store, so that the user can stop it in between.
pub(super) const AT_ONCE: usize = 1000;

/// Deletes objects, in no order that anything may rely on. Returns those that are still there; the next cleanup tries again.
///
/// # Errors
/// Only if the store cannot be reached, or the user stops it.
pub(super) fn delete_all(
    repository: &Repository,
    names: &[ObjectName],
    report: &mut CleanupReport,
    cancel: &Cancel,
) -> Result<BTreeSet<ObjectName>> {
    let mut kept = BTreeSet::new();
    for names in names.chunks(AT_ONCE) {
        cancel.check()?;
        for (name, outcome) in names.iter().zip(repository.store().delete_many(names)) {
            match outcome {
                Ok(()) => {}
                Err(error) if stays_for_now(error.kind()) => {
                    warn!("{name} stays for now: {error}");
                    report.undeletable += 1;
                    kept.insert(name.clone());
                }
                Err(error) => return Err(error).context(|| format!("delete {name}")),
            }
        }
    }
    Ok(kept)
}

/// Says whether a failed deletion is about that object: a locked one, one that we may not touch, a folder that is not
/// writable. Then others may go, and this one another day.
fn stays_for_now(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused | ErrorKind::PermissionDenied | ErrorKind::Io)
}
