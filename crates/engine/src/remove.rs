//! Removes a version: it is hidden at once; its space is freed by a cleanup.

use std::time::Duration;

use backy_core::keys::RecordKind;
use backy_core::names;
use backy_core::policy::removal::{RemovalFacts, may_remove};
use backy_core::records::mark::Tombstone;
use backy_core::{Result, ResultExt};

use crate::repository::Repository;
use crate::repository::versions::{VersionEntry, VersionSpec, VersionState};

/// What to remove, and against which rules.
#[derive(Clone, Debug)]
pub struct RemoveRequest {
    /// The version.
    pub version: VersionSpec,
    /// Versions younger than this stay; incomplete ones may go at any age.
    pub young: Duration,
    /// Remove a young version too. A protected one stays all the same.
    pub is_forced: bool,
}

/// Removes a version and returns what it was; durable when it returns.
///
/// # Errors
/// `Refused` if the version is protected, or young and not forced.
pub fn run(repository: &Repository, request: &RemoveRequest) -> Result<VersionEntry> {
    let entry = repository.find_version(&request.version)?;
    let uid = entry.manifest.uid;
    let now = repository.environment().clock.now();
    let young = if entry.state == VersionState::Incomplete { Duration::ZERO } else { request.young };
    let facts = RemovalFacts {
        is_protected: entry.label.is_protected,
        created: entry.manifest.created,
        now,
        young,
        is_forced: request.is_forced,
    };
    may_remove(facts).context(|| format!("remove version {uid}"))?;
    let tombstone = Tombstone { uid, removed: now, lease: repository.new_lease_id() };
    repository.put_record(RecordKind::Tombstone, &names::removed(uid), &tombstone)?;
    Ok(entry)
}
