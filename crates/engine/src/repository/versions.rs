//! Versions: found in the store, named by the user.

use std::collections::{BTreeMap, BTreeSet};

use backy_core::environment::Timestamp;
use backy_core::ids::{LeaseId, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::names::{self, ObjectName, VersionObject};
use backy_core::records::label::Label;
use backy_core::records::manifest::{Checkpoint, Manifest};
use backy_core::records::mark::Tombstone;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::object_store::list_all;

use super::Repository;
use super::damage::Damage;
use super::records::if_found;
use crate::parallel;

/// How many versions a message about an ambiguous uid names.
const AMBIGUOUS_MAX: usize = 8;

/// How good a version is. It is derived, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VersionState {
    /// Complete, and nothing is known against it.
    Valid,
    /// Complete, but some of its blocks could not be read or are damaged.
    Invalid,
    /// The backup did not end; it can be continued.
    Incomplete,
}

/// A version as it stands in the store.
#[derive(Clone, Debug)]
pub struct VersionEntry {
    /// The manifest; of an incomplete version, what its newest checkpoint says.
    pub manifest: Manifest,
    /// The newest checkpoint of an incomplete version.
    pub checkpoint: Option<Checkpoint>,
    /// What is said of it.
    pub label: Label,
    /// How good it is.
    pub state: VersionState,
    /// It was published by a job that had lost its lease: some of it may be gone. Then it is `Invalid`.
    pub is_void: bool,
}

/// All versions, and those that cannot be read.
#[derive(Debug, Default)]
pub struct VersionListing {
    /// The versions, oldest first.
    pub versions: Vec<VersionEntry>,
    /// Versions of which something cannot be read, and why.
    pub unreadable: Vec<(VersionUid, Error)>,
}

/// How a user names a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSpec {
    /// The beginning or the end of a uid, in hex digits.
    Uid(String),
    /// The newest version of a name.
    Latest {
        /// The name.
        name: String,
    },
    /// The newest version of a name that was made in a span of time: a day, an hour, a second.
    Within {
        /// The name.
        name: String,
        /// The first moment.
        from: Timestamp,
        /// The moment after the last one.
        to: Timestamp,
    },
}

#[derive(Default)]
struct VersionObjects {
    manifest: Option<ObjectName>,
    checkpoints: BTreeMap<u32, ObjectName>,
    is_removed: bool,
    is_checked: bool,
}

/// A version as it is listed, before anything of it is read.
struct ListedVersion {
    uid: VersionUid,
    objects: VersionObjects,
    labels: Vec<ObjectName>,
}

impl Repository {
    /// Lists all versions that were not removed, the incomplete ones too.
    pub fn versions(&self) -> Result<VersionListing> {
        self.read_versions(&self.listed_versions()?, None)
    }

    /// Lists the objects of all versions that were not removed.
    fn listed_versions(&self) -> Result<Vec<ListedVersion>> {
        let mut objects: BTreeMap<VersionUid, VersionObjects> = BTreeMap::new();
        for object in list_all(self.store(), names::VERSIONS).context(|| "list the versions")? {
            let Ok((uid, kind)) = names::parse_version_object(&object.name) else { continue };
            let version = objects.entry(uid).or_default();
            match kind {
                VersionObject::Manifest => version.manifest = Some(object.name),
                VersionObject::Checkpoint(number) => {
                    version.checkpoints.insert(number, object.name);
                }
                VersionObject::Removed => version.is_removed = true,
                VersionObject::Checked => version.is_checked = true,
                VersionObject::Continued => {}
            }
        }
        let mut labels: BTreeMap<VersionUid, Vec<ObjectName>> = BTreeMap::new();
        for object in list_all(self.store(), names::LABELS).context(|| "list the labels")? {
            if let Ok((uid, _, _)) = names::parse_label(&object.name) {
                labels.entry(uid).or_default().push(object.name);
            }
        }
        let condemned = self.condemned_versions();
        let is_there = |(uid, version): &(VersionUid, VersionObjects)| !version.is_removed && !condemned.contains(uid);
        let listed = objects.into_iter().filter(is_there).map(|(uid, objects)| ListedVersion {
            uid,
            objects,
            labels: labels.remove(&uid).unwrap_or_default(),
        });
        Ok(listed.collect())
    }

    /// Reads versions that were listed, several at once. With `name`, only those that have it.
    fn read_versions(&self, listed: &[ListedVersion], name: Option<&str>) -> Result<VersionListing> {
        let damage = self.damage()?;
        let threads = self.settings().simultaneous_reads.get();
        let read = parallel::map(threads, listed, |version| match self.read_version(version, name, &damage) {
            Err(error) if is_temporary(&error) => Err(error),
            read => Ok(read),
        })?;
        let mut listing = VersionListing::default();
        let mut checked = BTreeSet::new();
        for (version, read) in listed.iter().zip(read) {
            if version.objects.is_checked {
                checked.insert(version.uid);
            }
            match read {
                Ok(entry) => listing.versions.extend(entry),
                Err(error) => listing.unreadable.push((version.uid, error)),
            }
        }
        // The manifests first, all of them; the revocations second.
        let revoked = self.revoked_leases()?;
        for entry in listing.versions.iter_mut().filter(|entry| entry.checkpoint.is_none()) {
            entry.is_void = revoked.contains(&entry.manifest.lease) && !checked.contains(&entry.manifest.uid);
            if entry.is_void {
                entry.state = VersionState::Invalid;
            }
        }
        hide_continued(&mut listing.versions);
        listing.versions.sort_by_key(|entry| (entry.manifest.created, entry.manifest.uid));
        Ok(listing)
    }

    /// Removes a version that another one has gone on from, unless it was completed all the same; durable when it returns.
    ///
    /// Its job may be alive. We put the mark and then look for the manifest; it puts the manifest and then looks for the mark:
    /// so at least one of the two sees the other, and what it has reported as good is never removed.
    pub(crate) fn remove_incomplete(&self, uid: VersionUid, lease: LeaseId) -> Result<()> {
        let tombstone = Tombstone { uid, removed: self.environment().clock.now(), lease };
        self.put_record(RecordKind::Tombstone, &names::continued(uid), &tombstone)?;
        if !list_all(self.store(), names::manifest(uid).as_str())?.is_empty() {
            return Ok(());
        }
        self.put_record(RecordKind::Tombstone, &names::removed(uid), &tombstone)
    }

    /// Says whether a version was removed.
    pub(crate) fn is_removed(&self, uid: VersionUid) -> Result<bool> {
        let objects = list_all(self.store(), names::removed(uid).as_str())?;
        Ok(objects.iter().any(|object| object.name == names::removed(uid)))
    }

    /// Finds the one version that the user means. Reads of the others only what it takes to tell them apart.
    ///
    /// # Errors
    /// `NotFound` if there is none, `InvalidInput` if there are several.
    pub fn find_version(&self, spec: &VersionSpec) -> Result<VersionEntry> {
        let mut listed = self.listed_versions()?;
        let name = match spec {
            VersionSpec::Uid(part) => {
                let is_sure =
                    |version: &ListedVersion| !is_meant(version.uid, part) || version.objects.manifest.is_some();
                // Whether an incomplete one was continued is said by the others.
                if listed.iter().all(is_sure) {
                    listed.retain(|version| is_meant(version.uid, part));
                }
                None
            }
            VersionSpec::Latest { name } | VersionSpec::Within { name, .. } => {
                listed.retain(|version| version.objects.manifest.is_some());
                Some(name.as_str())
            }
        };
        let listing = self.read_versions(&listed, name)?;
        let unreadable: Vec<VersionUid> = listing.unreadable.iter().map(|(uid, _)| *uid).collect();
        let entry = choose(listing, spec)?;
        if !matches!(spec, VersionSpec::Uid(_)) {
            warn_of_newer(&entry, &unreadable);
        }
        Ok(entry)
    }

    fn read_version(
        &self,
        version: &ListedVersion,
        wanted: Option<&str>,
        damage: &Damage,
    ) -> Result<Option<VersionEntry>> {
        let ListedVersion { uid, objects, labels } = version;
        let is_wanted = |manifest: &Manifest| wanted.is_none_or(|name| manifest.name == name);
        if let Some(name) = &objects.manifest {
            let Some(manifest) = if_found(self.read_cached_record::<Manifest>(RecordKind::Manifest, name))? else {
                return Ok(None);
            };
            check_manifest(*uid, &manifest)?;
            if !is_wanted(&manifest) {
                return Ok(None);
            }
            let is_whole = manifest.missing_blocks.0 == 0 && !damage.touches(*uid);
            let state = if is_whole { VersionState::Valid } else { VersionState::Invalid };
            let label = self.fold_labels(&manifest.label, labels)?;
            return Ok(Some(VersionEntry { manifest, checkpoint: None, label, state, is_void: false }));
        }
        let checkpoint = self.newest_checkpoint(*uid, objects.checkpoints.values().rev())?;
        let Some(checkpoint) = checkpoint.filter(|checkpoint| is_wanted(&checkpoint.version)) else {
            return Ok(None);
        };
        let label = self.fold_labels(&checkpoint.version.label, labels)?;
        let manifest = checkpoint.version.clone();
        let state = VersionState::Incomplete;
        Ok(Some(VersionEntry { manifest, checkpoint: Some(checkpoint), label, state, is_void: false }))
    }

    /// Reads the newest checkpoint that can be read; the error of the newest if none can.
    fn newest_checkpoint<'a>(
        &self,
        uid: VersionUid,
        newest_first: impl Iterator<Item = &'a ObjectName>,
    ) -> Result<Option<Checkpoint>> {
        let mut first_error = None;
        for name in newest_first {
            let checkpoint = self.read_cached_record::<Checkpoint>(RecordKind::Checkpoint, name);
            match checkpoint.and_then(|checkpoint| check_checkpoint(uid, name, &checkpoint).map(|()| checkpoint)) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) if is_temporary(&error) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }
}

/// An incomplete version that another one has gone on from is that other one now; it is removed when that is complete.
fn hide_continued(versions: &mut Vec<VersionEntry>) {
    let continued: BTreeSet<VersionUid> =
        versions.iter().flat_map(|entry| entry.manifest.continues.iter().copied()).collect();
    versions.retain(|entry| entry.state != VersionState::Incomplete || !continued.contains(&entry.manifest.uid));
}

pub(crate) fn check_manifest(uid: VersionUid, manifest: &Manifest) -> Result<()> {
    if manifest.uid != uid {
        return Err(Error::damaged(format!("the manifest of version {uid} says that it is {}", manifest.uid)));
    }
    manifest.check()
}

pub(crate) fn check_checkpoint(uid: VersionUid, name: &ObjectName, checkpoint: &Checkpoint) -> Result<()> {
    if *name != names::checkpoint(uid, checkpoint.number) || checkpoint.version.uid != uid {
        return Err(Error::damaged(format!("{name} says that it is another checkpoint")));
    }
    checkpoint.check()
}

/// Says whether trying again may help, so that an answer would be wrong now.
fn is_temporary(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::PermissionDenied | ErrorKind::Io)
}

/// Chooses the one version of a listing that the user means.
pub(crate) fn choose(listing: VersionListing, spec: &VersionSpec) -> Result<VersionEntry> {
    match spec {
        VersionSpec::Uid(part) => choose_by_uid(listing, part),
        VersionSpec::Latest { name } => {
            let of_name = |entry: &VersionEntry| entry.manifest.name == *name;
            newest(listing, of_name)
                .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no complete version of {name:?}")))
        }
        VersionSpec::Within { name, from, to } => {
            let is_meant =
                |entry: &VersionEntry| entry.manifest.name == *name && (*from..*to).contains(&entry.manifest.created);
            newest(listing, is_meant).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("there is no complete version of {name:?} of that date"))
            })
        }
    }
}

/// The name of a version that cannot be read is not known: it may be the one that was meant.
fn warn_of_newer(chosen: &VersionEntry, unreadable: &[VersionUid]) {
    for uid in unreadable.iter().filter(|uid| uid.timestamp() >= chosen.manifest.uid.timestamp()) {
        tracing::warn!(
            "version {uid} cannot be read, and may be a newer one of {:?} than {}",
            chosen.manifest.name,
            chosen.manifest.uid
        );
    }
}

fn newest(listing: VersionListing, is_meant: impl Fn(&VersionEntry) -> bool) -> Option<VersionEntry> {
    let is_complete = |entry: &VersionEntry| entry.state != VersionState::Incomplete;
    listing.versions.into_iter().rev().find(|entry| is_complete(entry) && is_meant(entry))
}

/// Says whether the beginning or the end of a uid is `part`.
pub(crate) fn is_meant(uid: VersionUid, part: &str) -> bool {
    let part: String = part.chars().filter(|&c| c != '-').flat_map(char::to_lowercase).collect();
    let text = uid.to_string();
    text.starts_with(&part) || text.ends_with(&part)
}

fn choose_by_uid(listing: VersionListing, part: &str) -> Result<VersionEntry> {
    let is_meant = |uid: VersionUid| is_meant(uid, part);
    let mut found: Vec<VersionEntry> =
        listing.versions.into_iter().filter(|entry| is_meant(entry.manifest.uid)).collect();
    let unreadable: Vec<(VersionUid, Error)> =
        listing.unreadable.into_iter().filter(|(uid, _)| is_meant(*uid)).collect();
    let uids: BTreeSet<VersionUid> =
        found.iter().map(|entry| entry.manifest.uid).chain(unreadable.iter().map(|(uid, _)| *uid)).collect();
    if uids.len() > 1 {
        let list: Vec<String> = uids.iter().take(AMBIGUOUS_MAX).map(VersionUid::to_string).collect();
        let rest = if uids.len() > AMBIGUOUS_MAX { ", ..." } else { "" };
        return Err(Error::invalid(format!("{part:?} fits {} versions: {}{rest}", uids.len(), list.join(", "))));
    }
    if let Some((uid, error)) = unreadable.into_iter().next() {
        return Err(error.context(format!("read version {uid}")));
    }
    found.pop().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no version {part:?}")))
}
