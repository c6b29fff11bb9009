//! Scrub: read what is stored, and find out whether it is what was stored.
//!
//! ```text
//!  collect     versions -> slots they refer to, by pack                                collect
//!  sample      all packs, or a share of them                                           sample
//!  verify      each pack once: open every slot, compare fingerprints                   verify
//!  damage      records, with all versions that are affected                            repository/damage
//!  compare     the source against what the packs tell; zero blocks too                 compare
//!  mend        what the source still has takes the place of what is damaged            mend
//! ```
//!
//! Damage does not stop a scrub. A store that does not answer does: that says nothing about what is stored. A scrub of a
//! share never takes damage back; one of everything does, of slots that it has found good.

mod collect;
mod compare;
mod mend;
mod sample;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use backy_core::cancel::Cancel;
use backy_core::ids::{LeaseId, PackId, SlotNumber, VersionUid};
use backy_core::records::lease::JobKind;
use backy_core::records::manifest::Manifest;
use backy_core::units::BlockRange;
use backy_core::{Error, ErrorKind, Result};
use backy_device::Source;
use tracing::warn;

use self::collect::{Wanted, collect};
use self::compare::{Comparison, check_size, compare};
use self::mend::mend;
use self::sample::{Candidate, sample};
use self::verify::{Depth, Verification, Verified, note_verified, verify};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::damage::{AffectedVersion, Damage, FoundDamage};
use crate::repository::leases::Lease;
use crate::repository::versions::{VersionListing, VersionSpec, VersionState, choose};

pub use self::sample::SampleOrder;

/// Which versions to scrub: complete ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubScope {
    /// These.
    Versions(Vec<VersionSpec>),
    /// All of a name.
    Name(String),
    /// All.
    All,
}

/// A share of what the versions refer to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScrubSample {
    /// Percent of the slots, rounded up to whole packs.
    pub percent: f64,
    /// Which packs come first.
    pub order: SampleOrder,
}

/// What to scrub, and how.
pub struct ScrubRequest<'a> {
    /// The versions.
    pub versions: Vec<Manifest>,
    /// Read only a share; none: everything.
    pub sample: Option<ScrubSample>,
    /// What the only version was made from: it is compared, and heals what is damaged.
    pub source: Option<&'a dyn Source>,
}

/// What a scrub that ended has to say.
#[derive(Debug, Default)]
pub struct ScrubReport {
    /// All versions that have damaged blocks, the ones that were not asked for too, and those blocks.
    pub affected: Vec<AffectedVersion>,
    /// How many damaged slots were found and are damaged still.
    pub damaged_slots: u64,
    /// How many damaged slots were healed from the source.
    pub healed_slots: u64,
    /// How many slots that were noted as damaged were found good, and are not noted any more.
    pub good_again_slots: u64,
    /// How many packs the versions refer to.
    pub all_packs: u64,
    /// How many packs were read.
    pub packs: u64,
    /// How many slots were opened.
    pub slots: u64,
    /// How many stored bytes were read.
    pub read_bytes: u64,
    /// How many plain bytes that were.
    pub plain_bytes: u64,
    /// Packs whose slots are good, but whose fingerprints cannot be read: they lose nothing, and cannot be healed.
    pub without_fingerprints: Vec<PackId>,
    /// How many bytes of the source were compared.
    pub compared_bytes: u64,
    /// Blocks that differ from the source.
    pub different: Vec<BlockRange>,
    /// Blocks that the source could not give.
    pub unreadable: Vec<BlockRange>,
}

impl ScrubReport {
    /// Says whether nothing is wrong now.
    pub fn is_clean(&self) -> bool {
        let is_stored_well = self.damaged_slots == 0 && self.without_fingerprints.is_empty();
        is_stored_well && self.affected.is_empty() && self.different.is_empty() && self.unreadable.is_empty()
    }
}

/// The versions of a scope, and those of which nobody can say whether they belong to it.
#[derive(Debug, Default)]
pub struct ScrubVersions {
    /// The versions, oldest first.
    pub versions: Vec<Manifest>,
    /// Versions that cannot be read, and why.
    pub unreadable: Vec<(VersionUid, Error)>,
}

/// Returns the versions of a scope.
///
/// # Errors
/// `NotFound` if there is none; `Refused` if one that is named is incomplete.
pub fn find_versions(repository: &Repository, scope: &ScrubScope) -> Result<ScrubVersions> {
    let listing = repository.versions()?;
    if let ScrubScope::Versions(specs) = scope {
        return Ok(ScrubVersions { versions: named(listing, specs)?, unreadable: Vec::new() });
    }
    let is_meant = |manifest: &Manifest| match scope {
        ScrubScope::Name(name) => manifest.name == *name,
        ScrubScope::Versions(_) | ScrubScope::All => true,
    };
    let complete = listing.versions.into_iter().filter(|entry| entry.state != VersionState::Incomplete);
    let versions: Vec<Manifest> = complete.map(|entry| entry.manifest).filter(is_meant).collect();
    if let (ScrubScope::Name(name), true) = (scope, versions.is_empty()) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no complete version of {name:?}")));
    }
    Ok(ScrubVersions { versions, unreadable: listing.unreadable })
}

fn named(listing: VersionListing, specs: &[VersionSpec]) -> Result<Vec<Manifest>> {
    let mut unreadable = listing.unreadable;
    let mut versions: BTreeMap<VersionUid, Manifest> = BTreeMap::new();
    for spec in specs {
        let again = VersionListing { versions: listing.versions.clone(), unreadable: std::mem::take(&mut unreadable) };
        let entry = choose(again, spec)?;
        if entry.state == VersionState::Incomplete {
            let uid = entry.manifest.uid;
            let message = format!("version {uid} is incomplete: its backup did not end, so it cannot be scrubbed");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        versions.insert(entry.manifest.uid, entry.manifest);
    }
    Ok(versions.into_values().collect())
}

/// Scrubs versions. When it returns `Ok` all damage that was found is noted in the repository for good.
///
/// # Errors
/// `InvalidInput` if a source is given for other than one version, or has another size. After an error, what was found
/// before is noted if the store allows it.
pub fn run(
    repository: &Repository,
    request: &ScrubRequest<'_>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ScrubReport> {
    let uids: Vec<VersionUid> = request.versions.iter().map(|manifest| manifest.uid).collect();
    let lease = repository.begin_job(JobKind::Scrub, uids)?;
    let versions = take_versions(repository, &lease, request)?;
    let version = match (request.source, versions.as_slice()) {
        (None, _) => None,
        (Some(source), [version]) => {
            check_size(version, source)?;
            Some((source, version))
        }
        (Some(_), _) => return Err(Error::invalid("a source can be compared with one version only")),
    };
    let known = repository.damage()?;
    let wanted = collect(repository, &versions, cancel)?;
    let packs = packs_to_read(repository, &wanted, request.sample)?;
    let plain_bytes: u64 = packs.iter().filter_map(|pack| wanted.get(pack)).map(|pack| pack.plain_bytes).sum();
    progress.total_bytes.set(plain_bytes + version.map_or(0, |(_, version)| version.size_bytes));

    let by_age = request.sample.is_some_and(|sample| sample.order == SampleOrder::OldestFirst);
    let depth = if by_age { Depth::Whole } else { Depth::AsNeeded };
    let verified = Mutex::new(Verified::default());
    let with = Verification { repository, wanted: &wanted, depth, known: &known, progress };
    let done = verify(&with, &packs, &verified, cancel);
    let verified = verified.into_inner().unwrap_or_else(PoisonError::into_inner);
    let affected = note(repository, &verified);
    if let Err(error) = done {
        if let Err(failure) = affected {
            warn!("the damage that was found could not be noted: {failure}");
        }
        return Err(error);
    }
    let affected = affected?;
    if request.sample.is_none() {
        repository.retire_damage(&known, &verified.good_again)?;
    }
    let mut report = report_of(&verified, request.sample.is_some());
    report.all_packs = wanted.len() as u64;
    report.affected = affected;
    drop_unneeded(&mut report);
    if let Some((source, version)) = version {
        let percent = request.sample.map(|sample| sample.percent);
        let Comparison { bytes, different, unreadable } =
            compare(repository, version, source, percent, progress, cancel)?;
        (report.compared_bytes, report.different, report.unreadable) = (bytes, different, unreadable);
        heal(repository, version, source, &verified, lease.id(), &mut report, cancel)?;
    }
    Ok(report)
}

/// Looks at the versions once more, now that the lease is there: what they need stays until it is dropped.
///
/// What is gone from a void version was deleted, not damaged; and one that was removed meanwhile is of no interest, unless
/// it was asked for together with a source.
fn take_versions(repository: &Repository, lease: &Lease, request: &ScrubRequest<'_>) -> Result<Vec<Manifest>> {
    let mut versions = Vec::with_capacity(request.versions.len());
    for listed in &request.versions {
        let uid = listed.uid;
        match repository.take_version(lease, uid) {
            Ok(taken) if !taken.is_void => versions.push(taken.manifest),
            Ok(_) if request.source.is_some() => {
                let message =
                    format!("version {uid} was written by a job that others thought dead; run a cleanup first");
                return Err(Error::new(ErrorKind::Refused, message));
            }
            Ok(_) => warn!("version {uid} was written by a job that others thought dead; a cleanup rechecks it"),
            // The listing had it from the catalog; its blocks can be read all the same.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                warn!("a copy of this host is used: {error}");
                versions.push(listed.clone());
            }
            Err(error) if error.kind() == ErrorKind::NotFound && request.source.is_none() => {
                warn!("version {uid} was removed meanwhile");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(versions)
}

/// Returns the packs to read, by id: those that were written together lie together.
fn packs_to_read(repository: &Repository, wanted: &Wanted, share: Option<ScrubSample>) -> Result<Vec<PackId>> {
    let all: Vec<PackId> = wanted.keys().copied().collect();
    let Some(ScrubSample { percent, order }) = share else { return Ok(all) };
    let verified = repository.catalog().verified(&all).unwrap_or_else(|error| {
        warn!("when packs were verified last is not known: {error}");
        vec![None; all.len()]
    });
    let candidates = wanted.iter().zip(verified).map(|((pack, of_pack), verified)| Candidate {
        pack: *pack,
        slots: of_pack.slots.len(),
        verified,
        chance: repository.environment().random_below(u64::MAX),
    });
    Ok(sample(candidates.collect(), percent, order))
}

/// Notes down all damage; durable when it returns.
fn note(repository: &Repository, verified: &Verified) -> Result<Vec<AffectedVersion>> {
    if verified.damaged.is_empty() {
        return Ok(Vec::new());
    }
    let affected = repository.note_damage(&verified.damaged)?;
    note_verified(repository, &verified.whole_damaged);
    Ok(affected)
}

fn report_of(verified: &Verified, is_sample: bool) -> ScrubReport {
    let count = |slots: &BTreeSet<SlotNumber>| slots.len() as u64;
    ScrubReport {
        damaged_slots: verified.damaged.values().map(|damage| count(&damage.slots)).sum(),
        good_again_slots: if is_sample { 0 } else { verified.good_again.values().map(count).sum() },
        packs: verified.packs,
        slots: verified.slots,
        read_bytes: verified.read_bytes,
        plain_bytes: verified.plain_bytes,
        without_fingerprints: verified.without_fingerprints.clone(),
        ..ScrubReport::default()
    }
}

/// Damaged slots that no version has are no damage: what lies under a change of a map, or was removed meanwhile. A cleanup
/// takes it away.
fn drop_unneeded(report: &mut ScrubReport) {
    if report.affected.is_empty() {
        report.damaged_slots = 0;
    }
}

/// Heals what the source has, and reports what is left.
fn heal(
    repository: &Repository,
    version: &Manifest,
    source: &dyn Source,
    verified: &Verified,
    lease: LeaseId,
    report: &mut ScrubReport,
    cancel: &Cancel,
) -> Result<()> {
    if verified.damaged.is_empty() {
        return Ok(());
    }
    let healed = mend(repository, version, source, &verified.damaged, lease, cancel)?;
    report.healed_slots = healed.values().map(|slots| slots.len() as u64).sum();
    let mut rest: BTreeMap<PackId, FoundDamage> = verified.damaged.clone();
    for (pack, slots) in healed {
        if let Some(found) = rest.get_mut(&pack) {
            found.slots.retain(|slot| !slots.contains(slot));
        }
    }
    rest.retain(|_, found| !found.slots.is_empty());
    report.damaged_slots = rest.values().map(|found| found.slots.len() as u64).sum();
    report.affected = repository.affected_by(&Damage::of(&rest))?;
    drop_unneeded(report);
    Ok(())
}
