//! Deletes the objects of doomed versions: all of them, before any slot.

use std::collections::BTreeSet;

use backy_core::ids::VersionUid;
use backy_core::names::{self, ObjectName};
use backy_core::{ErrorKind, Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::CleanupReport;
use super::mark::{Marked, void_versions};
use crate::repository::Repository;
use crate::repository::version_objects::VersionObjects;

/// Deletes doomed versions, and checkpoints that a complete version has made superfluous. Returns the versions that the
/// store refuses to delete for now.
pub(super) fn delete(
    repository: &Repository,
    doomed: &BTreeSet<VersionUid>,
    marked: &Marked,
    report: &mut CleanupReport,
) -> Result<BTreeSet<VersionUid>> {
    let mut refused = BTreeSet::new();
    for uid in doomed {
        let Some(objects) = marked.versions.get(uid) else { continue };
        match delete_version(repository, *uid, objects).context(|| format!("delete version {uid}")) {
            Ok(()) => {
                report.deleted_versions.insert(*uid);
            }
            Err(error) if is_refused_for_now(error.kind()) => {
                warn!("version {uid} stays for now: {error}");
                report.undeletable += 1;
                refused.insert(*uid);
            }
            Err(error) => return Err(error),
        }
    }
    let void = void_versions(repository, &marked.versions, &marked.manifests)?;
    for uid in marked.manifests.keys().filter(|uid| !void.contains(uid)) {
        if let Some(objects) = marked.versions.get(uid) {
            delete_checkpoints(repository, *uid, objects)?;
        }
    }
    Ok(refused)
}

/// Says whether the store may delete an object later: a locked one, or one that we may not touch.
pub(super) fn is_refused_for_now(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused | ErrorKind::PermissionDenied)
}

/// The tombstone goes last: until then it hides what is left.
fn delete_version(repository: &Repository, uid: VersionUid, objects: &VersionObjects) -> Result<()> {
    delete_checkpoints(repository, uid, objects)?;
    let manifest = names::manifest(uid);
    if objects.has_manifest {
        repository.store().delete(&manifest)?;
    }
    forget(repository, &manifest);
    if objects.is_checked {
        repository.store().delete(&names::checked(uid))?;
    }
    if objects.is_continued {
        repository.store().delete(&names::continued(uid))?;
    }
    for label in list_all(repository.store(), &names::label_prefix(uid))? {
        repository.store().delete(&label.name)?;
        forget(repository, &label.name);
    }
    if objects.is_removed {
        repository.store().delete(&names::removed(uid))?;
    }
    Ok(())
}

fn delete_checkpoints(repository: &Repository, uid: VersionUid, objects: &VersionObjects) -> Result<()> {
    for &number in &objects.checkpoints {
        let name = names::checkpoint(uid, number);
        repository.store().delete(&name)?;
        forget(repository, &name);
    }
    Ok(())
}

fn forget(repository: &Repository, name: &ObjectName) {
    if let Err(error) = repository.catalog().forget_object(name) {
        warn!("the catalog did not forget {name}: {error}");
    }
}
