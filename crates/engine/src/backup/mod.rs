//! Backup: from a source to a new version.
//!
//! ```text
//!  prepare     the base, or the version to continue; the draft of the manifest
//!  plan        hints + base + damage -> what to read; audit: are the hints true?
//!  readers     pieces of the source, with holes left out               reader, chunks
//!  workers     zero? known? else compress; what heals damaged slots    worker, deduplicator, healer
//!  packer      order of the volume; seal into packs                    packer
//!  uploaders   packs into the store, fingerprints into the catalog     uploader
//!  assembler   map of what is durable, checkpoints, manifest           assembler
//! ```
//!
//! All queues are bounded: memory is the pieces and packs in flight, whatever the size of the volume.

mod assembler;
mod auditor;
mod chunks;
mod deduplicator;
mod flow;
mod healer;
mod packer;
mod pipeline;
mod prepare;
mod reader;
mod stop;
mod uploader;
mod worker;

use backy_core::cancel::Cancel;
use backy_core::environment::Timestamp;
use backy_core::hint::Hint;
use backy_core::ids::VersionUid;
use backy_core::policy::audit::{AuditPlan, AuditSettings, plan_audit};
use backy_core::policy::read_plan::{BaseFacts, ReadAction, ReadFacts, ReadPlan, plan_reads};
use backy_core::records::label::LabelChange;
use backy_core::records::lease::JobKind;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockIndex, BlockRange, BlockSize};
use backy_core::{Error, ErrorKind, Result};
use backy_device::Source;
use tracing::warn;

use self::auditor::{Claim, Comparison, compare};
use self::healer::Healer;
use self::pipeline::pipeline;
use self::prepare::{Prepared, note_damaged_map, prepare};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::damage::Damage;
use crate::repository::leases::Lease;
use crate::repository::packs::is_about_content;
use crate::repository::versions::VersionSpec;

/// Temporary files of the store are left over when they are older than a day.
const LEFTOVER_MILLISECONDS: u64 = 86_400_000;

/// What to back up, and how.
pub struct BackupRequest<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// The name of the backup.
    pub name: String,
    /// The name of the source's snapshot, or nothing.
    pub snapshot_name: String,
    /// The size of blocks; none: the base's, or the default.
    pub block_size: Option<BlockSize>,
    /// The size of blocks when neither the user nor a base says otherwise.
    pub block_size_default: BlockSize,
    /// What unread blocks are taken from.
    pub base: BaseChoice,
    /// Continue this version instead of beginning one.
    pub continued: Option<VersionSpec>,
    /// What somebody says about the source; none: all of it is read.
    pub hints: Option<Vec<Hint>>,
    /// An empty list of hints without a base is meant: the version is all zero.
    pub may_be_empty: bool,
    /// What the label begins with.
    pub label: LabelChange,
    /// How much is read though the hints call it unchanged.
    pub audit: AuditSettings,
    /// What to do when the hints are wrong.
    pub on_mismatch: OnMismatch,
    /// Percent of the finished version that is compared with the source; 0: nothing.
    pub verify_percent: f64,
    /// The host's name, for the manifest.
    pub host: String,
    /// The program's name and release, for the manifest.
    pub program: String,
}

/// What unread blocks are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseChoice {
    /// The newest complete version of the same name, if there is one.
    Newest,
    /// This version.
    Version(VersionSpec),
    /// Nothing: they are zero.
    None,
}

/// What to do when the hints are wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMismatch {
    /// Read everything and publish that.
    #[default]
    ReadEverything,
    /// Stop; publish nothing.
    Fail,
}

/// What a backup that ended has to say.
#[derive(Debug)]
pub struct BackupReport {
    /// The new version.
    pub manifest: Manifest,
    /// Blocks that the hints had called unchanged, and that were not: some of them.
    pub wrong_hints: Vec<BlockIndex>,
    /// After how many backups like this one the audit has been everywhere; none: there was no audit.
    pub backups_to_full_coverage: Option<u64>,
    /// Blocks of the finished version that differ from the source: some of them, and how many.
    pub verify_differences: (Vec<BlockIndex>, u64),
    /// How many bytes were compared after the backup.
    pub verified_bytes: u64,
    /// Why the comparison did not come to its end; the version is published all the same.
    pub verify_error: Option<Error>,
}

/// A backup that did not end.
#[derive(Debug)]
pub struct BackupFailure {
    /// Why.
    pub error: Error,
    /// The version that can be continued.
    pub incomplete: Option<VersionUid>,
    /// The hints were found wrong, and the user wanted no version then.
    pub are_hints_wrong: bool,
}

impl From<Error> for BackupFailure {
    fn from(error: Error) -> BackupFailure {
        BackupFailure { error, incomplete: None, are_hints_wrong: false }
    }
}

/// Backs up a source.
///
/// When it returns `Ok` the version is in the store for good. A failure, a crash or a full disk leaves at most an
/// incomplete version, and never one that looks complete.
pub fn run(
    repository: &Repository,
    request: &BackupRequest<'_>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<BackupReport, BackupFailure> {
    // Put before anything is looked at, dropped when all is done.
    let lease = repository.begin_job(JobKind::Backup, Vec::new())?;
    let mut left = Left::default();
    let mut done = attempt(repository, &lease, request, progress, cancel, &mut left);
    if let Err(failure) = &done
        && is_about_content(&failure.error)
        && note_damaged_map(repository, request).unwrap_or(false)
    {
        done = attempt(repository, &lease, request, progress, cancel, &mut left);
    }
    let may_come_late = left.has_lost_put || done.as_ref().is_err_and(|failure| may_leave_a_put(failure.error.kind()));
    // A put that has failed may arrive long after: then what it brings must count as written without a lease. A version that
    // was published all the same is marked as good.
    if may_come_late && let Err(error) = repository.revoke_lease(lease.id(), "a put of its job has failed") {
        warn!("the lease of this job could not be revoked, and stays until somebody finds it overdue: {error}");
        lease.leave();
    }
    done
}

/// What a backup that has failed leaves behind.
#[derive(Default)]
struct Left {
    /// A checkpoint that it can be continued from.
    has_checkpoint: bool,
    /// The put of a checkpoint or of a manifest has failed, whatever became of the backup.
    has_lost_put: bool,
}

/// Says whether a failure may have kept somebody from putting a checkpoint, and hide that its put has failed: all but those
/// that come before the first put, or when the user stops the job.
fn may_leave_a_put(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::InvalidInput | ErrorKind::NotFound | ErrorKind::Refused | ErrorKind::Cancelled)
}

fn attempt(
    repository: &Repository,
    lease: &Lease,
    request: &BackupRequest<'_>,
    progress: &Progress,
    cancel: &Cancel,
    left: &mut Left,
) -> Result<BackupReport, BackupFailure> {
    remove_leftovers(repository);
    let damage = repository.damage()?;
    if let Err(error) = repository.catalog().forget_slots(&damage.addresses()) {
        // Without the filter the catalog could offer a damaged slot.
        return Err(error.context("tell the catalog of damaged slots").into());
    }
    if let Err(error) = repository.sync_index() {
        warn!("blocks of other hosts may be stored again: {error}");
    }
    let prepared = prepare(repository, lease, request, &damage)?;
    let planned = plan(repository, request, &prepared, progress, cancel)?;
    let Prepared { mut beginning, .. } = prepared;
    let volume_bytes = request.source.size_bytes();
    let end = BlockIndex(beginning.draft.block_size.count(volume_bytes).0);

    beginning.draft.audit = planned.audit.window;
    if !planned.wrong.different.is_empty() {
        beginning.begin_anew();
    }
    beginning.draft.statistics.audited_bytes += planned.wrong.bytes;
    let uid = beginning.draft.uid;
    let continued = beginning.continued;
    left.has_checkpoint = false;
    let healer = Healer::new(repository, &damage, lease.id());
    let published =
        pipeline(repository, lease, request.source, beginning, planned.reads, end, &healer, progress, cancel, left);
    let manifest = published.map_err(|error| BackupFailure {
        error,
        incomplete: if left.has_checkpoint { Some(uid) } else { continued },
        are_hints_wrong: false,
    })?;

    healer.finish();
    note_late_damage(repository, &manifest, &damage);
    let (verified, verify_error) = match verify(repository, request, &manifest, progress, cancel) {
        Ok(verified) => (verified, None),
        Err(error) => (Comparison::default(), Some(error)),
    };
    let has_audit = manifest.origin.is_hinted && planned.audit.backups_to_full_coverage > 0;
    Ok(BackupReport {
        manifest,
        wrong_hints: planned.wrong.different,
        backups_to_full_coverage: has_audit.then_some(planned.audit.backups_to_full_coverage),
        verify_differences: (verified.different, verified.different_blocks),
        verified_bytes: verified.bytes,
        verify_error,
    })
}

struct Planned {
    reads: ReadPlan,
    audit: AuditPlan,
    wrong: Comparison,
}

/// Plans what to read, and audits the hints; wrong ones are thrown away, and everything is read.
fn plan(
    repository: &Repository,
    request: &BackupRequest<'_>,
    prepared: &Prepared,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Planned, BackupFailure> {
    let draft = &prepared.beginning.draft;
    let volume_bytes = request.source.size_bytes();
    let base = prepared.base_bytes.map(|volume_bytes| BaseFacts { volume_bytes, lost: &prepared.lost });
    let nothing_changed: &[Hint] = &[];
    let hints = match &request.hints {
        _ if prepared.reads_lost_only => Some(nothing_changed),
        // An earlier part of this backup has found the hints wrong.
        _ if draft.origin.hints_were_wrong => None,
        hints => hints.as_deref(),
    };
    let facts =
        ReadFacts { block_size: draft.block_size, volume_bytes, base, hints, position: prepared.beginning.position };
    let mut reads = plan_reads(&facts)?;
    let mut audit = AuditPlan { window: draft.audit, ..AuditPlan::default() };
    let mut wrong = Comparison::default();
    if hints.is_some() {
        let environment = repository.environment();
        audit = plan_audit(request.audit, draft.block_size, volume_bytes, &reads.unread, draft.audit, environment);
        let is_zero = |step: &&backy_core::policy::read_plan::ReadStep| step.action == ReadAction::Zero;
        let zero: Vec<BlockRange> = reads.steps.iter().filter(is_zero).map(|step| step.blocks).collect();
        let claim = Claim {
            source: request.source,
            map: prepared.base_bytes.and(prepared.beginning.map),
            zero: &zero,
            block_size: draft.block_size,
            map_bytes: volume_bytes,
        };
        wrong = compare(repository, claim, &audit.runs, true, progress, cancel)?;
        if wrong.different_blocks > 0 {
            let offset = wrong.different.first().map_or(0, |block| draft.block_size.offset_bytes(*block));
            if request.on_mismatch == OnMismatch::Fail {
                return Err(BackupFailure { error: wrong_hints(offset), incomplete: None, are_hints_wrong: true });
            }
            warn!("the hints are wrong: the block at offset {offset} has changed without their word; all is read");
            // Also what an earlier part of this backup has left out on the word of its hints.
            reads = plan_reads(&ReadFacts { hints: None, position: BlockIndex(0), ..facts })?;
        }
    }
    progress
        .total_bytes
        .set(reads.steps.iter().map(|step| draft.block_size.byte_range(step.blocks, volume_bytes).length_bytes).sum());
    Ok(Planned { reads, audit, wrong })
}

fn wrong_hints(offset: u64) -> Error {
    Error::invalid(format!(
        "the hints are wrong: the block at offset {offset} has changed without their word; nothing was published"
    ))
}

/// Removes the temporary files of puts that were killed: they take room, and nobody misses them.
fn remove_leftovers(repository: &Repository) {
    let now = repository.environment().clock.now();
    let before = Timestamp { milliseconds: now.milliseconds.saturating_sub(LEFTOVER_MILLISECONDS) };
    if let Err(error) = repository.store().remove_stale_temporaries(before) {
        warn!("temporary files of killed backups stay behind: {error}");
    }
}

/// Damage that was noted while the backup ran cannot name the new version: it is noted again.
fn note_late_damage(repository: &Repository, manifest: &Manifest, known: &Damage) {
    let note = || -> Result<()> {
        let late = repository.damage()?;
        if late.addresses() == known.addresses() {
            return Ok(());
        }
        repository.name_in_damage(manifest, &late)
    };
    if let Err(error) = note() {
        warn!("whether the new version shares damage that was found meanwhile is not known: {error}");
    }
}

/// Compares the finished version with its source.
fn verify(
    repository: &Repository,
    request: &BackupRequest<'_>,
    manifest: &Manifest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Comparison> {
    if request.verify_percent <= 0.0 {
        return Ok(Comparison::default());
    }
    let whole = [BlockRange { start: BlockIndex(0), count: manifest.map.blocks }];
    let settings =
        AuditSettings { percent_of_volume: request.verify_percent, bytes_max: u64::MAX, percent_of_changed: 0.0 };
    let sample = plan_audit(
        settings,
        manifest.block_size,
        manifest.size_bytes,
        &whole,
        manifest.audit,
        repository.environment(),
    );
    let claim = Claim {
        source: request.source,
        map: Some(manifest.map),
        zero: &[],
        block_size: manifest.block_size,
        map_bytes: manifest.size_bytes,
    };
    let verified = compare(repository, claim, &sample.runs, false, progress, cancel)?;
    if !verified.damaged.is_empty() {
        repository.record_damage(&verified.damaged, manifest.uid, "it did not open when the backup was verified")?;
    }
    Ok(verified)
}
