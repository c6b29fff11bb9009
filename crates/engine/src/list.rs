//! Lists versions.

use backy_core::Result;
use backy_core::environment::Timestamp;

use crate::repository::Repository;
use crate::repository::versions::VersionListing;

/// Which versions to list; what is none does not limit.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Only versions of this name.
    pub name: Option<String>,
    /// Only versions with this snapshot name.
    pub snapshot_name: Option<String>,
    /// Only versions with this tag.
    pub tag: Option<String>,
    /// Only versions that had expired at this moment.
    pub expired_at: Option<Timestamp>,
}

/// Returns the versions that pass the filter, by name and then by date, and those that cannot be read.
pub fn run(repository: &Repository, filter: &ListFilter) -> Result<VersionListing> {
    let mut listing = repository.versions()?;
    listing.versions.retain(|entry| {
        let has = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let is_expired = |moment| entry.label.expire.is_some_and(|expire| expire < moment);
        has(&filter.name, &entry.manifest.name)
            && has(&filter.snapshot_name, &entry.manifest.snapshot_name)
            && filter.tag.as_ref().is_none_or(|tag| entry.label.tags.contains(tag))
            && filter.expired_at.is_none_or(is_expired)
    });
    listing.versions.sort_by(|left, right| {
        let key = |entry: &crate::repository::versions::VersionEntry| (entry.manifest.created, entry.manifest.uid);
        left.manifest.name.cmp(&right.manifest.name).then_with(|| key(left).cmp(&key(right)))
    });
    Ok(listing)
}
