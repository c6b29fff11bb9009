//! Check: looks at the repository as a whole, and says what is damaged, missing or left over.
//!
//! ```text
//!  small       keys, leases, GC log, labels, marks: every object decodes            small
//!  versions    manifests and checkpoints, from the store and not from the catalog   versions
//!  maps        every page and node, once however many versions share it             maps
//!  packs       the directory of every object; the slots that maps point to          packs
//!  left over   labels, records and marks of what is gone                            remnants
//!  repair      what is safe: orphan labels, the catalog                             repair
//! ```
//!
//! Stored blocks are not opened: that is a scrub's part. The job goes on to its end whatever it finds. It holds a lease,
//! so what versions need stays while it looks; what was listed and is gone when it is read is looked at again, and counts
//! only if it should still be there.

mod findings;
mod maps;
mod packs;
mod remnants;
mod repair;
mod small;
mod versions;

use std::collections::BTreeSet;

use backy_core::cancel::Cancel;
use backy_core::ids::LeaseId;
use backy_core::records::lease::JobKind;
use backy_core::{Error, ErrorKind, Result};

pub use self::findings::{Finding, Weight};
use self::small::Small;
use crate::progress::Progress;
use crate::repository::Repository;

/// What to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckRequest {
    /// Make the catalog of this host anew, and drop labels of versions that were deleted.
    pub repairs: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Everything that was found, in the order in which it was looked at.
    pub findings: Vec<Finding>,
    /// Complete versions that were not removed.
    pub version_count: u64,
    /// Incomplete ones.
    pub incomplete_count: u64,
    /// Removed ones that a cleanup has not deleted yet.
    pub removed_count: u64,
    /// Complete versions with blocks that their source could not give.
    pub unread_count: u64,
    /// Packs, and the objects that they are.
    pub pack_count: u64,
    /// See `pack_count`.
    pub pack_object_count: u64,
    /// The bytes of all pack objects.
    pub pack_bytes: u64,
    /// Distinct slots that versions point to.
    pub needed_slots: u64,
    /// Packs of which there are several generations; a cleanup leaves one.
    pub several_generations: u64,
    /// Packs that no version needs, and no job at work has written.
    pub orphans: Orphans,
    /// What versions do not need in packs of which they need a part.
    pub unused: Orphans,
    /// Labels and marks of versions that were deleted.
    pub orphan_labels: u64,
    /// Damage records of packs that are gone.
    pub orphan_damage_records: u64,
    /// Index records of which no pack is left.
    pub orphan_index_records: u64,
    /// Objects whose names are not ours.
    pub foreign_objects: u64,
    /// Small objects that were opened.
    pub object_count: u64,
    /// What was repaired, in sentences.
    pub repaired: Vec<String>,
}

/// What nobody needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// How many packs.
    pub packs: u64,
    /// How many slots.
    pub slots: u64,
    /// How many stored bytes.
    pub bytes: u64,
}

impl CheckReport {
    /// Says whether something is damaged or missing.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.weight == Weight::Damage)
    }
}

/// What the parts of a check work with.
struct Look<'a> {
    repository: &'a Repository,
    /// The lease of the check.
    lease: LeaseId,
    /// The leases that were held when it began: packs of their jobs are in the making.
    held: BTreeSet<LeaseId>,
    cancel: &'a Cancel,
    progress: &'a Progress,
}

/// Checks the repository; what is damaged stands in the report.
///
/// # Errors
/// Only what keeps it from going on: a store that does not answer, a lease that was given up by others.
pub fn run(
    repository: &mut Repository,
    request: &CheckRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    if request.repairs {
        repair::renew_catalog(repository, &mut report)?;
    }
    let repository: &Repository = repository;
    let lease = repository.begin_job(JobKind::Check, Vec::new())?;
    let held = repository.held_leases()?.into_iter().map(|entry| entry.id).collect();
    let look = Look { repository, lease: lease.id(), held, cancel, progress };

    let small = Small::look(&look, &mut report)?;
    let subjects = versions::look(&look, &small, &mut report)?;
    let maps = maps::walk(&look, &subjects)?;
    let packs = packs::look(&look, &maps.needed, &mut report)?;
    if !maps.is_sound || !packs.missing.is_empty() {
        maps::attribute(&look, &subjects, &packs.missing, &mut report)?;
    }
    remnants::look(&look, &small, &maps.needed, &packs.unneeded, &mut report)?;
    if request.repairs {
        repair::drop_orphan_labels(&look, &mut report)?;
    }
    if report.is_damaged() && lease.refuse_revoked().is_err() {
        let message = "the lease of the check was given up by another host, so what it misses may have been deleted \
                       rightly; check again";
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    Ok(report)
}
