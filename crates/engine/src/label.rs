//! Changes what is said of a version: tags, protection, expiry, note.

use backy_core::Result;
use backy_core::ids::VersionUid;
use backy_core::records::label::{Label, LabelChange};

use crate::repository::Repository;
use crate::repository::versions::VersionSpec;

/// Appends a change to a version's label; durable when it returns. Returns the version and its label afterwards.
pub fn run(repository: &Repository, spec: &VersionSpec, change: &LabelChange) -> Result<(VersionUid, Label)> {
    let entry = repository.find_version(spec)?;
    let uid = entry.manifest.uid;
    repository.append_label(uid, change)?;
    Ok((uid, repository.read_label(uid, &entry.manifest.label)?))
}
