//! Manifests, checkpoints and marks, read from the store: a catalog that holds a copy hides no damage.

use std::collections::BTreeMap;

use backy_core::ids::{LeaseId, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::map::MapRoot;
use backy_core::names::{self, ObjectName};
use backy_core::records::manifest::{Checkpoint, Manifest};
use backy_core::records::mark::{Recheck, Tombstone};
use backy_core::units::BlockSize;
use backy_core::{Error, Result};
use backy_store::object_store::list_all;

use super::small::{Small, is_newer};
use super::{CheckReport, Finding, Look};
use crate::repository::packs::is_about_content;
use crate::repository::records::if_found;
use crate::repository::version_objects::{VersionObjects, list_versions};
use crate::repository::versions::{check_checkpoint, check_manifest};

/// A map to look at, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub uid: VersionUid,
    /// The manifest or checkpoint.
    pub object: ObjectName,
    pub map: MapRoot,
    pub block_size: BlockSize,
    /// The size of the volume.
    pub size_bytes: u64,
    /// The lease of the job that wrote it.
    pub lease: LeaseId,
    /// It was written by a job that had lost its lease.
    pub is_void: bool,
    /// It is a checkpoint of an incomplete version.
    pub is_checkpoint: bool,
}

impl Subject {
    fn of(uid: VersionUid, object: ObjectName, manifest: &Manifest, is_checkpoint: bool) -> Subject {
        let Manifest { map, block_size, size_bytes, lease, .. } = *manifest;
        Subject { uid, object, map, block_size, size_bytes, lease, is_void: false, is_checkpoint }
    }
}

/// Reads what there is of all versions; returns the maps of those that were not removed.
pub(super) fn look(look: &Look<'_>, small: &Small, report: &mut CheckReport) -> Result<Vec<Subject>> {
    let versions = list_versions(look.repository)?;
    let condemned = look.repository.condemned_versions();
    let mut subjects = Vec::new();
    for (&uid, objects) in &versions {
        look.cancel.check()?;
        marks(look, uid, objects, report)?;
        if objects.is_removed || condemned.contains(&uid) {
            report.removed_count += 1;
            continue;
        }
        match read(look, uid, objects, report)? {
            Some((_, Some(manifest))) => {
                report.version_count += 1;
                report.unread_count += u64::from(manifest.missing_blocks.0 > 0);
                subjects.push(Subject::of(uid, names::manifest(uid), &manifest, false));
            }
            Some((checkpoints, None)) => {
                report.incomplete_count += u64::from(!checkpoints.is_empty());
                subjects.extend(checkpoints);
            }
            None => {}
        }
    }
    // The manifests first, the revocations second.
    let revoked = look.repository.revoked_leases()?;
    for subject in &mut subjects {
        let is_checked = versions.get(&subject.uid).is_some_and(|objects| objects.is_checked);
        subject.is_void = revoked.contains(&subject.lease) && !is_checked;
        if subject.is_void && !subject.is_checkpoint {
            let problem = "the lease of its job was given up before the job had ended";
            let meaning = "the version counts as invalid until a cleanup has looked at it again";
            report.findings.push(Finding::harmless(&subject.object, problem, meaning).of(subject.uid));
        }
    }
    lost(look, small, &versions, report)?;
    Ok(subjects)
}

type Said = (Vec<Subject>, Option<Manifest>);

/// Reads the manifest, or else the checkpoints; none if they are damaged or gone.
fn read(look: &Look<'_>, uid: VersionUid, objects: &VersionObjects, report: &mut CheckReport) -> Result<Option<Said>> {
    if objects.has_manifest {
        let name = names::manifest(uid);
        let manifest = if_found(look.repository.read_record::<Manifest>(RecordKind::Manifest, &name))
            .and_then(|manifest| manifest.map(|read| check_manifest(uid, &read).map(|()| read)).transpose());
        let meaning = "the version cannot be restored, and no cleanup deletes anything while it is there";
        let Some(manifest) = taken(uid, &name, manifest, meaning, report)? else { return Ok(None) };
        return Ok(Some((Vec::new(), Some(manifest))));
    }
    let mut subjects = Vec::new();
    for &number in &objects.checkpoints {
        let name = names::checkpoint(uid, number);
        let checkpoint = if_found(look.repository.read_record::<Checkpoint>(RecordKind::Checkpoint, &name))
            .and_then(|read| read.map(|read| check_checkpoint(uid, &name, &read).map(|()| read)).transpose());
        let meaning = "the backup cannot be continued from here, and no cleanup deletes anything while it is there";
        let Some(checkpoint) = taken(uid, &name, checkpoint, meaning, report)? else { continue };
        subjects.push(Subject::of(uid, name, &checkpoint.version, true));
    }
    Ok(Some((subjects, None)))
}

/// Takes what was read; what is damaged becomes a finding.
fn taken<T>(
    uid: VersionUid,
    name: &ObjectName,
    read: Result<Option<T>>,
    meaning: &'static str,
    report: &mut CheckReport,
) -> Result<Option<T>> {
    match read {
        Ok(read) => {
            report.object_count += u64::from(read.is_some());
            Ok(read)
        }
        Err(error) if is_about_content(&error) || is_newer(&error) => {
            let remedy = format!("put it back from a copy of the store, or give the version up: `backy2 rm -f {uid}`");
            report.findings.push(Finding::damage(name, error, meaning).of(uid).with_remedy(remedy));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Tombstones and marks of rechecks count by being there; that they cannot be read changes nothing.
fn marks(look: &Look<'_>, uid: VersionUid, objects: &VersionObjects, report: &mut CheckReport) -> Result<()> {
    let mut note = |name: ObjectName, read: Result<bool>, meaning: &'static str| match read {
        Ok(is_there) => {
            report.object_count += u64::from(is_there);
            Ok(())
        }
        Err(error) if is_about_content(&error) || is_newer(&error) => {
            report.findings.push(Finding::damage(name, error, meaning).of(uid));
            Ok(())
        }
        Err(error) => Err(error),
    };
    if objects.is_removed {
        let name = names::removed(uid);
        let tombstone = if_found(look.repository.read_record::<Tombstone>(RecordKind::Tombstone, &name));
        let sound = tombstone.and_then(|read| read.map(|read| read.check(uid)).transpose());
        note(name, sound.map(|read| read.is_some()), "the version stays removed all the same")?;
    }
    if objects.is_checked {
        let name = names::checked(uid);
        let recheck = if_found(look.repository.read_record::<Recheck>(RecordKind::Checked, &name));
        let sound = recheck.and_then(|read| match read {
            Some(recheck) if recheck.uid != uid => Err(Error::damaged(format!("it is of version {}", recheck.uid))),
            read => Ok(read.is_some()),
        });
        note(name, sound, "the version counts all the same")?;
    }
    Ok(())
}

/// Finds versions of which labels and marks are left, but neither a manifest nor a checkpoint. Those that the GC log has
/// condemned were deleted, and somebody wrote a label meanwhile; others were lost.
fn lost(
    look: &Look<'_>,
    small: &Small,
    versions: &BTreeMap<VersionUid, VersionObjects>,
    report: &mut CheckReport,
) -> Result<()> {
    let nothing = VersionObjects::default();
    let is_headless = |uid: &&VersionUid| {
        let objects = versions.get(uid).unwrap_or(&nothing);
        !objects.has_manifest && objects.checkpoints.is_empty() && !objects.is_removed
    };
    let uids = small.labels.keys().chain(versions.keys()).filter(is_headless);
    let headless: std::collections::BTreeSet<VersionUid> = uids.copied().collect();
    if headless.is_empty() {
        return Ok(());
    }
    // Listed first, followed second: what was deleted by then had been condemned before. A damaged log is a finding.
    if let Err(error) = look.repository.follow_gc_log()
        && !is_about_content(&error)
    {
        return Err(error);
    }
    let condemned = look.repository.condemned_versions();
    let used: Vec<VersionUid> = (look.repository.held_leases()?.into_iter())
        .flat_map(|entry| entry.record.map(|record| record.versions).unwrap_or_default())
        .collect();
    for uid in headless {
        let labels = small.labels.get(&uid).map_or(0, Vec::len) as u64;
        if condemned.contains(&uid) {
            report.orphan_labels += labels + u64::from(versions.get(&uid).is_some_and(|objects| objects.is_checked));
            continue;
        }
        // A job may be about to write, and the manifest may have come since.
        let now = list_all(look.repository.store(), &names::version_prefix(uid))?;
        let has_come = now.iter().any(|object| object.name != names::checked(uid));
        if has_come || used.contains(&uid) {
            continue;
        }
        let object = small.labels.get(&uid).and_then(|labels| labels.first().cloned()).unwrap_or(names::checked(uid));
        let problem = "it speaks of a version of which there is neither a manifest nor a checkpoint";
        let meaning = "the version was lost: it was never removed";
        let remedy = format!("put {} back from a copy of the store", names::manifest(uid));
        report.findings.push(Finding::damage(object, problem, meaning).of(uid).with_remedy(remedy));
    }
    Ok(())
}
