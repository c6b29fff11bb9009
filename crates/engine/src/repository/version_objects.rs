//! Which objects there are of each version, as the store lists them.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::ids::VersionUid;
use backy_core::names::{self, VersionObject};
use backy_core::{Result, ResultExt};
use backy_store::object_store::list_all;

use super::Repository;

/// The objects of one version, as listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VersionObjects {
    pub has_manifest: bool,
    pub checkpoints: BTreeSet<u32>,
    pub is_removed: bool,
    pub is_checked: bool,
    /// Another one has gone on from it.
    pub is_continued: bool,
}

/// Lists all versions with their objects.
pub(crate) fn list_versions(repository: &Repository) -> Result<BTreeMap<VersionUid, VersionObjects>> {
    let mut versions: BTreeMap<VersionUid, VersionObjects> = BTreeMap::new();
    for object in list_all(repository.store(), names::VERSIONS).context(|| "list the versions")? {
        let Ok((uid, kind)) = names::parse_version_object(&object.name) else { continue };
        let objects = versions.entry(uid).or_default();
        match kind {
            VersionObject::Manifest => objects.has_manifest = true,
            VersionObject::Checkpoint(number) => {
                objects.checkpoints.insert(number);
            }
            VersionObject::Removed => objects.is_removed = true,
            VersionObject::Checked => objects.is_checked = true,
            VersionObject::Continued => objects.is_continued = true,
        }
    }
    Ok(versions)
}
