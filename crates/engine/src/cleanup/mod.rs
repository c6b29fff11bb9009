//! Cleanup: frees what no version needs, beside all other jobs, on whatever host.
//!
//! ```text
//!  alone     thrift: of two cleanups one steps back                              alone
//!  pass      1 revoke overdue leases, read the GC log      2 list the leases     pass
//!            3 mark what the versions need                                       mark
//!            4 condemn what is there and not wanted: a record of the log         survey
//!            5 what ripe records condemned and nobody needs may go
//!            6 delete doomed versions                                            doomed
//!            7 delete packs, or write their next generation                      sweep
//!  again     while nobody is at work and there is something new to sweep
//!  tidy      index records, damage records, the log itself                       tidy
//!  many objects with one request, and what the store keeps for now               deletion
//! ```
//!
//! Nothing is resumed from a record: a cleanup that was killed left facts that stay true, and the next one begins at 1. Why
//! each step stands where it does: `docs/protocol.md`. The decisions are in `backy_core::policy::gc`.

mod alone;
mod deletion;
mod doomed;
mod mark;
mod pass;
mod survey;
mod sweep;
mod tidy;

use std::collections::BTreeSet;
use std::time::Duration;

use backy_core::Result;
use backy_core::cancel::Cancel;
use backy_core::ids::{PackId, VersionUid};
use backy_core::records::lease::JobKind;

use self::mark::Marked;
use self::pass::{After, Pass};
use crate::progress::Progress;
use crate::repository::Repository;

/// How often a cleanup goes around at most: condemn, sweep, sweep what that set free, and once more.
const PASSES_MAX: usize = 6;

/// What to clean up, and how long.
#[derive(Clone, Debug)]
pub struct CleanupRequest {
    /// Say what would be done; change nothing.
    pub is_dry_run: bool,
    /// Packs of which less than so many percent are needed are written anew; 0: none, 100: all with anything to drop.
    pub compact_below_percent: f64,
    /// Stop after this time; what is left is done by the next cleanup.
    pub time_max: Option<Duration>,
}

/// What a cleanup did, or would do.
#[derive(Clone, Debug, Default)]
pub struct CleanupReport {
    /// How many versions there are that were not removed, incomplete ones included.
    pub version_count: u64,
    /// How many packs there are.
    pub pack_count: u64,
    /// How many bytes all packs had in the beginning.
    pub pack_bytes: u64,
    /// Versions that were deleted for good.
    pub deleted_versions: BTreeSet<VersionUid>,
    /// The packs that were deleted as a whole.
    pub deleted_packs: BTreeSet<PackId>,
    /// How many packs were written anew without what nobody needs.
    pub rewritten_packs: u64,
    /// By how many bytes the store has become smaller.
    pub freed_bytes: u64,
    /// How many bytes were read from packs and written into them.
    pub read_bytes: u64,
    /// See `read_bytes`.
    pub written_bytes: u64,
    /// How many bytes of packs nobody needs any more, but some job may still rely on; about.
    pub waiting_bytes: u64,
    /// The jobs that deletion waits for, in words.
    pub waiting_for: Vec<String>,
    /// How many bytes lie unused in packs that are mostly needed; about.
    pub unused_bytes: u64,
    /// Leases that were given up, in words.
    pub revoked: Vec<String>,
    /// Void versions that passed their recheck.
    pub passed_rechecks: BTreeSet<VersionUid>,
    /// Void versions that did not: some of their blocks were deleted.
    pub failed_rechecks: BTreeSet<VersionUid>,
    /// Packs that could not be cleaned, and why.
    pub skipped_packs: Vec<(PackId, String)>,
    /// How many objects the store refused to delete for now, such as locked ones.
    pub undeletable: u64,
    /// It stopped because its time was over.
    pub is_unfinished: bool,
}

/// Frees what no version needs.
///
/// # Errors
/// `Busy` if another cleanup is at work; `Damaged` if what a version needs cannot be read: then nothing was deleted.
pub fn run(
    repository: &Repository,
    request: &CleanupRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<CleanupReport> {
    let mut report = CleanupReport::default();
    let lease = repository.begin_job(JobKind::Cleanup, Vec::new())?;
    if !request.is_dry_run {
        alone::wait(repository, &lease, &mut report, cancel)?;
    }
    let clock = repository.environment().clock.clone();
    let started = clock.elapsed();
    let is_over = || request.time_max.is_some_and(|time_max| clock.elapsed().saturating_sub(started) >= time_max);
    let mut marked = Marked::default();
    let mut undeletable = BTreeSet::new();
    for number in 0..PASSES_MAX {
        let pass = Pass { repository, lease: &lease, request, progress, cancel, is_over: &is_over };
        let after = pass.run(marked, &mut undeletable, &mut report)?;
        match after {
            After::Again(mark) if number + 1 < PASSES_MAX && !is_over() => marked = *mark,
            After::Again(_) | After::Done => break,
        }
    }
    if !request.is_dry_run {
        tidy::run(repository, &lease, &mut report, cancel)?;
    }
    Ok(report)
}
