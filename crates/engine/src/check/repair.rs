//! What may be repaired unasked, because nothing can be lost by it.
//!
//! The catalog is a cache. A label is dropped only if the GC log has condemned its version: that is for ever, and nobody
//! takes such a version even if its manifest should come late. A label whose version is merely not there is kept: it may be
//! all that is left of a version that was lost, and its manifest may come back from a copy.

use backy_core::names;
use backy_core::{Result, ResultExt};
use backy_store::object_store::list_all;
use tracing::warn;

use super::{CheckReport, Look};
use crate::repository::Repository;
use crate::repository::packs::is_about_content;

/// Makes the catalog anew, and reads into it what other hosts have left for it.
pub(super) fn renew_catalog(repository: &mut Repository, report: &mut CheckReport) -> Result<()> {
    repository.renew_catalog()?;
    match repository.follow_gc_log() {
        // Then it is a finding.
        Err(error) if is_about_content(&error) => warn!("what was condemned is not known: {error}"),
        followed => followed?,
    }
    repository.sync_index()?;
    report.repaired.push("The catalog of this host was made anew.".to_owned());
    Ok(())
}

/// Drops labels and marks of versions that were condemned and are gone.
pub(super) fn drop_orphan_labels(look: &Look<'_>, report: &mut CheckReport) -> Result<()> {
    let repository = look.repository;
    let mut dropped = 0u64;
    let mut deleted = repository.condemned_versions();
    for object in list_all(repository.store(), names::VERSIONS).context(|| "list the versions")? {
        let Ok((uid, kind)) = names::parse_version_object(&object.name) else { continue };
        // A cleanup is about to delete it, with its labels.
        if kind != names::VersionObject::Checked {
            deleted.remove(&uid);
        }
    }
    let mut drop_object = |name: &names::ObjectName| -> Result<()> {
        repository.store().delete(name).context(|| format!("delete {name}"))?;
        if let Err(error) = repository.catalog().forget_object(name) {
            warn!("the catalog did not forget {name}: {error}");
        }
        dropped += 1;
        Ok(())
    };
    for object in list_all(repository.store(), names::LABELS).context(|| "list the labels")? {
        look.cancel.check()?;
        if names::parse_label(&object.name).is_ok_and(|(uid, ..)| deleted.contains(&uid)) {
            drop_object(&object.name)?;
        }
    }
    for object in list_all(repository.store(), names::VERSIONS).context(|| "list the versions")? {
        let parsed = names::parse_version_object(&object.name);
        if parsed.is_ok_and(|(uid, kind)| kind == names::VersionObject::Checked && deleted.contains(&uid)) {
            drop_object(&object.name)?;
        }
    }
    if dropped > 0 {
        report.repaired.push(format!("{dropped} labels of versions that were deleted are dropped."));
    }
    Ok(())
}
