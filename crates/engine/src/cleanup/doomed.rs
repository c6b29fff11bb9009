//! Deletes the objects of doomed versions: all of them, before any slot.
//!
//! In three steps, each for all versions at once, because one request deletes many objects, in no order: manifests and
//! checkpoints; what is said of those that are gone; their tombstones. So whatever a crash leaves is hidden.

use std::collections::BTreeSet;

use backy_core::cancel::Cancel;
use backy_core::ids::VersionUid;
use backy_core::names::{self, ObjectName};
use backy_core::{Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::CleanupReport;
use super::deletion::delete_all;
use super::mark::{Marked, void_versions};
use crate::repository::Repository;
use crate::repository::version_objects::VersionObjects;

/// Deletes doomed versions, and checkpoints that a complete version has made superfluous. Returns the versions that the
/// store does not delete for now.
pub(super) fn delete(
    repository: &Repository,
    doomed: &BTreeSet<VersionUid>,
    marked: &Marked,
    report: &mut CleanupReport,
    cancel: &Cancel,
) -> Result<BTreeSet<VersionUid>> {
    let there: Vec<(VersionUid, &VersionObjects)> =
        doomed.iter().filter_map(|uid| Some((*uid, marked.versions.get(uid)?))).collect();
    let mut step = |names: Vec<ObjectName>| -> Result<BTreeSet<VersionUid>> {
        let kept = delete_and_forget(repository, &names, report, cancel).context(|| "delete removed versions")?;
        Ok(kept.iter().filter_map(version_of).collect())
    };
    let mut refused = step(there.iter().flat_map(|(uid, objects)| maps_of(*uid, objects)).collect())?;
    let gone = |refused: &BTreeSet<VersionUid>| -> Vec<(VersionUid, &VersionObjects)> {
        there.iter().filter(|(uid, _)| !refused.contains(uid)).copied().collect()
    };
    let mut said: Vec<ObjectName> = gone(&refused).iter().flat_map(|(uid, objects)| marks_of(*uid, objects)).collect();
    let is_gone = |uid: &VersionUid| doomed.contains(uid) && !refused.contains(uid);
    if !doomed.is_empty() {
        // Also those that came when all else of their versions was deleted: their puts were on the way for long.
        let labels = list_all(repository.store(), names::LABELS)?.into_iter().map(|object| object.name);
        said.extend(labels.filter(|name| names::parse_label(name).is_ok_and(|(uid, _, _)| is_gone(&uid))));
    }
    refused.extend(step(said)?);
    let tombstones = gone(&refused).into_iter().filter(|(_, objects)| objects.is_removed);
    refused.extend(step(tombstones.map(|(uid, _)| names::removed(uid)).collect())?);
    report.deleted_versions.extend(gone(&refused).iter().map(|(uid, _)| *uid));

    let void = void_versions(repository, &marked.versions, &marked.manifests)?;
    let complete = marked.manifests.keys().filter(|uid| !void.contains(uid));
    let complete = complete.filter_map(|uid| Some((*uid, marked.versions.get(uid)?)));
    let superfluous: Vec<ObjectName> = complete.flat_map(|(uid, objects)| checkpoints_of(uid, objects)).collect();
    delete_and_forget(repository, &superfluous, report, cancel).context(|| "delete checkpoints")?;
    Ok(refused)
}

/// Returns what slots follow from.
fn maps_of(uid: VersionUid, objects: &VersionObjects) -> Vec<ObjectName> {
    let manifest = objects.has_manifest.then(|| names::manifest(uid));
    checkpoints_of(uid, objects).chain(manifest).collect()
}

fn checkpoints_of(uid: VersionUid, objects: &VersionObjects) -> impl Iterator<Item = ObjectName> + use<'_> {
    objects.checkpoints.iter().map(move |&number| names::checkpoint(uid, number))
}

fn marks_of(uid: VersionUid, objects: &VersionObjects) -> impl Iterator<Item = ObjectName> + use<> {
    let checked = objects.is_checked.then(|| names::checked(uid));
    let continued = objects.is_continued.then(|| names::continued(uid));
    checked.into_iter().chain(continued)
}

fn version_of(name: &ObjectName) -> Option<VersionUid> {
    let of_label = names::parse_label(name).map(|(uid, _, _)| uid);
    names::parse_version_object(name).map(|(uid, _)| uid).or(of_label).ok()
}

/// Deletes objects, and lets the catalog forget those that are gone; returns the others.
fn delete_and_forget(
    repository: &Repository,
    names: &[ObjectName],
    report: &mut CleanupReport,
    cancel: &Cancel,
) -> Result<BTreeSet<ObjectName>> {
    let kept = delete_all(repository, names, report, cancel)?;
    for name in names.iter().filter(|name| !kept.contains(name)) {
        if let Err(error) = repository.catalog().forget_object(name) {
            warn!("the catalog did not forget {name}: {error}");
        }
    }
    Ok(kept)
}
