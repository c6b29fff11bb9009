//! Removes a version: it is hidden at once; its space is freed by a cleanup.

use std::time::Duration;

use backy_core::ids::VersionUid;
use backy_core::keys::RecordKind;
use backy_core::names;
use backy_core::policy::removal::{RemovalFacts, may_remove};
use backy_core::records::mark::Tombstone;
use backy_core::{Error, ErrorKind, Result, ResultExt};

use crate::repository::Repository;
use crate::repository::versions::{VersionSpec, VersionState, is_meant};

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

/// What was removed.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The version.
    pub uid: VersionUid,
    /// Its name; none if that cannot be read.
    pub name: Option<String>,
}

/// Removes a version and returns what it was; durable when it returns. One that cannot be read can be removed by force.
///
/// # Errors
/// `Refused` if the version is protected, in use, or young or unreadable and not forced.
pub fn run(repository: &Repository, request: &RemoveRequest) -> Result<Removed> {
    let now = repository.environment().clock.now();
    let mut continued = Vec::new();
    let removed = match repository.find_version(&request.version) {
        Ok(entry) => {
            let uid = entry.manifest.uid;
            let young = if entry.state == VersionState::Incomplete { Duration::ZERO } else { request.young };
            let facts = RemovalFacts {
                is_protected: entry.label.is_protected,
                created: entry.manifest.created,
                now,
                young,
                is_forced: request.is_forced,
            };
            may_remove(facts).context(|| format!("remove version {uid}"))?;
            if entry.state == VersionState::Incomplete {
                // What it has gone on from is not listed beside it, and nobody wants to see it again.
                continued.clone_from(&entry.manifest.continues);
            }
            Removed { uid, name: Some(entry.manifest.name) }
        }
        Err(error) => unreadable(repository, request, error)?,
    };
    refuse_used(repository, removed.uid)?;
    let lease = repository.new_lease_id();
    for uid in continued {
        repository.remove_incomplete(uid, lease)?;
    }
    let tombstone = Tombstone { uid: removed.uid, removed: now, lease };
    repository.put_record(RecordKind::Tombstone, &names::removed(removed.uid), &tombstone)?;
    Ok(removed)
}

/// Takes a version that cannot be read, by force: as long as it is there, a cleanup cannot know what it needs.
fn unreadable(repository: &Repository, request: &RemoveRequest, error: Error) -> Result<Removed> {
    if error.kind() != ErrorKind::Damaged {
        return Err(error);
    }
    let VersionSpec::Uid(part) = &request.version else { return Err(error) };
    let unreadable = repository.versions()?.unreadable;
    let mut meant = unreadable.into_iter().map(|(uid, _)| uid).filter(|uid| is_meant(*uid, part));
    match (meant.next(), meant.next()) {
        (Some(uid), None) if request.is_forced => Ok(Removed { uid, name: None }),
        (Some(_), None) => Err(error.with_kind(ErrorKind::Refused)),
        _ => Err(error),
    }
}

/// Courtesy: who uses the version would be surprised, though nothing that it relies on is deleted.
fn refuse_used(repository: &Repository, uid: VersionUid) -> Result<()> {
    for entry in repository.held_leases()? {
        let uses = entry.record.as_ref().is_some_and(|record| record.versions.contains(&uid));
        if uses && !repository.is_gone(&entry) {
            let message = format!("version {uid} is in use by {}: lease {}", entry.described(), entry.id);
            return Err(Error::new(ErrorKind::Refused, message));
        }
    }
    Ok(())
}
