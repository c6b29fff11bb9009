//! What a job does, on the real engine, and what it must find.
//!
//! A further kind of job is one more row of [`Job`] and one more arm in [`run`].
//!
//! What is lost of a version must be explained: the version is void, or was removed and the job has lost its lease, or
//! something that it needs was damaged. What is not reported as lost is right, always.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::environment::Environment;
use backy_core::ids::{LeaseId, VersionUid};
use backy_core::names;
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::Manifest;
use backy_core::{Error, ErrorKind, Result};
use backy_engine::Repository;
use backy_engine::backup::{self, BackupRequest, BaseChoice};
use backy_engine::check::{self, CheckRequest};
use backy_engine::cleanup::{self, CleanupRequest};
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::versions::VersionSpec;
use backy_engine::restore::RestoreReport;
use backy_engine::scrub::{self, ScrubRequest, ScrubScope};
use backy_engine::{label, restore};
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use backy_testkit::device::MemoryDevice;

use crate::damage::Damages;
use crate::model::{Content, Model};
use crate::process::Process;
use crate::support::{Host, all_bytes, request, restore_request, spec};

/// One job.
pub enum Job {
    /// Backs up all, without a word on what has changed.
    Backup { name: String, content: Content, is_based: bool },
    /// Backs up what has changed since a version.
    Hinted { base: VersionUid, content: Content },
    /// Goes on with a version that is incomplete, or of which something is missing.
    Continue { uid: VersionUid, is_hinted: bool },
    /// Restores and compares.
    Restore { uid: VersionUid },
    /// Removes.
    Remove { uid: VersionUid },
    /// Adds a tag.
    Label { uid: VersionUid, tag: String },
    /// Protects a version, or takes that back.
    Protect { uid: VersionUid, is_protected: bool },
    /// Frees space.
    Cleanup(CleanupRequest),
    /// Reads all that is stored.
    Scrub,
    /// Compares a version with what it was made from, and heals it.
    Mend { uid: VersionUid },
    /// Looks at everything.
    Check,
}

/// What all jobs share.
pub struct Shared {
    pub model: Mutex<Model>,
    /// The store as it is, without gate and faults.
    pub store: Arc<dyn ObjectStore>,
    pub environment: Environment,
    /// Leases that somebody has revoked.
    pub revoked: Mutex<BTreeSet<LeaseId>>,
    /// What was damaged.
    pub damages: Mutex<Damages>,
}

impl Shared {
    /// Returns a host that sees all, knows nothing yet, and never fails.
    pub fn observer(&self) -> Host {
        Host::new(self.store.clone(), self.environment.clone())
    }

    /// Says whether damage may have reached a version.
    fn is_touched(&self, version: &Manifest) -> bool {
        let damages = self.damages.lock().unwrap();
        !damages.is_empty() && damages.touch(&self.observer().repository, version)
    }
}

/// Names a version by its uid.
pub fn by_uid(uid: VersionUid) -> VersionSpec {
    VersionSpec::Uid(uid.to_string())
}

/// Does a job. An error is what the job says; that something is wrong is a panic.
pub fn run(process: &mut Process, job: &Job, shared: &Shared) -> Result<()> {
    process.open()?;
    if matches!(job, Job::Check) {
        return look_at_all(process, shared);
    }
    let process = &*process;
    let repository = process.repository.as_ref().expect("just opened");
    match job {
        Job::Backup { name, content, is_based } => {
            let base = if *is_based { BaseChoice::Newest } else { BaseChoice::None };
            back_up(repository, shared, BackupRequest { base, ..request(content, name) })
        }
        Job::Hinted { base, content } => {
            let base = repository.find_version(&by_uid(*base))?.manifest;
            let hints = content.hints_since(&shared.model.lock().unwrap().content_of(&base));
            let request = request(content, &base.name);
            let base = BaseChoice::Version(spec(&base));
            back_up(repository, shared, BackupRequest { base, hints: Some(hints), ..request })
        }
        Job::Continue { uid, is_hinted } => go_on(repository, shared, *uid, *is_hinted),
        Job::Restore { uid } => {
            let version = repository.find_version(&by_uid(*uid))?;
            if version.checkpoint.is_some() {
                return Ok(());
            }
            restore(process, shared, &version.manifest)
        }
        Job::Remove { uid } => {
            let is_protected = shared.model.lock().unwrap().begin_removal(*uid);
            let request = RemoveRequest { version: by_uid(*uid), young: Duration::ZERO, is_forced: true };
            let result = remove::run(repository, &request);
            shared.model.lock().unwrap().end_removal(*uid, is_protected, result.is_ok());
            result.map(drop)
        }
        Job::Label { uid, tag } => {
            let change = LabelChange { add_tags: [tag.clone()].into(), ..LabelChange::default() };
            label::run(repository, &by_uid(*uid), &change)?;
            shared.model.lock().unwrap().tags.entry(*uid).or_default().insert(tag.clone());
            Ok(())
        }
        Job::Protect { uid, is_protected } => protect(repository, shared, *uid, *is_protected),
        Job::Scrub => {
            let versions = scrub::find_versions(repository, &ScrubScope::All)?.versions;
            scrub(process, shared, &ScrubRequest { versions, sample: None, source: None })
        }
        Job::Mend { uid } => {
            let versions = scrub::find_versions(repository, &ScrubScope::Versions(vec![by_uid(*uid)]))?.versions;
            let content = shared.model.lock().unwrap().content_of(&versions[0]);
            scrub(process, shared, &ScrubRequest { versions, sample: None, source: Some(&content) })
        }
        Job::Check => unreachable!("it was done above"),
        Job::Cleanup(request) => cleanup::run(repository, request, &Progress::default(), &Cancel::default()).map(drop),
    }
}

fn back_up(repository: &Repository, shared: &Shared, request: BackupRequest<'_>) -> Result<()> {
    match backup::run(repository, &request, &Progress::default(), &Cancel::default()) {
        Ok(report) => {
            assert!(report.wrong_hints.is_empty(), "true hints were called wrong: {:?}", report.wrong_hints);
            let mut model = shared.model.lock().unwrap();
            model.published.insert(report.manifest.uid);
            model.see(report.manifest.uid);
            Ok(())
        }
        Err(failure) => {
            failure.incomplete.into_iter().for_each(|uid| shared.model.lock().unwrap().see(uid));
            Err(failure.error)
        }
    }
}

fn go_on(repository: &Repository, shared: &Shared, uid: VersionUid, is_hinted: bool) -> Result<()> {
    let version = repository.find_version(&by_uid(uid))?.manifest;
    let content = shared.model.lock().unwrap().content_of(&version);
    let hints = match version.base.filter(|_| is_hinted) {
        // The base may be gone by now; what it held is known all the same.
        Some(base) => {
            let base = repository.find_version(&by_uid(base)).map(|entry| entry.manifest);
            base.ok().map(|base| content.hints_since(&shared.model.lock().unwrap().content_of(&base)))
        }
        None => None,
    };
    back_up(
        repository,
        shared,
        BackupRequest { continued: Some(by_uid(uid)), hints, ..request(&content, &version.name) },
    )
}

/// Protects a version, or takes that back.
pub fn protect(repository: &Repository, shared: &Shared, uid: VersionUid, is_protected: bool) -> Result<()> {
    let change = LabelChange { protected: Some(is_protected), ..LabelChange::default() };
    if is_protected {
        let protecting = shared.model.lock().unwrap().begin_protection(uid);
        label::run(repository, &by_uid(uid), &change)?;
        shared.model.lock().unwrap().end_protection(&protecting);
        return Ok(());
    }
    shared.model.lock().unwrap().begin_unprotection(uid);
    let result = label::run(repository, &by_uid(uid), &change);
    shared.model.lock().unwrap().end_unprotection(uid);
    result.map(drop)
}

fn scrub(process: &Process, shared: &Shared, request: &ScrubRequest<'_>) -> Result<()> {
    let repository = process.repository.as_ref().expect("it is open");
    let report = scrub::run(repository, request, &Progress::default(), &Cancel::default())?;
    // Who has lost the lease may find a removed version half deleted.
    if report.is_clean() || has_lost_lease(process, shared) {
        return Ok(());
    }
    assert!(report.different.is_empty() && report.unreadable.is_empty(), "{report:?}");
    assert!(!shared.damages.lock().unwrap().is_empty(), "{report:?}");
    for affected in &report.affected {
        let version = &affected.manifest;
        assert!(is_void(shared, version) || shared.is_touched(version), "{affected:?}");
    }
    Ok(())
}

fn restore(process: &Process, shared: &Shared, version: &Manifest) -> Result<()> {
    let uid = version.uid;
    let target = MemoryDevice::new(version.size_bytes);
    let repository = process.repository.as_ref().expect("it is open");
    let request = restore_request(version, &target);
    let report =
        restore::run(repository, &request, &Progress::default(), &Cancel::default()).map_err(|failure| failure.error);
    let is_removed = shared.model.lock().unwrap().removed.contains(&uid);
    let lost_lease = has_lost_lease(process, shared);
    let report = match report {
        // Gone before the lease was there.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(is_removed || is_void(shared, version), "version {uid} is not there: {error}");
            return Err(error);
        }
        report => report?,
    };
    let expected = shared.model.lock().unwrap().content_of(version).bytes;
    refuse_wrong(version, &report, all_bytes(&target), &expected);
    if !report.lost.is_empty() {
        let may_lose = (is_removed && lost_lease) || is_void(shared, version) || shared.is_touched(version);
        assert!(may_lose, "version {uid} has lost blocks: {:?}", report.lost);
        return Err(Error::damaged("the version has lost blocks"));
    }
    Ok(())
}

/// Whatever is not reported as lost must be right.
pub fn refuse_wrong(version: &Manifest, report: &RestoreReport, restored: Vec<u8>, expected: &[u8]) {
    let mut known = expected.to_vec();
    for lost in &report.lost {
        let range = version.block_size.byte_range(lost.blocks, version.size_bytes);
        known[range.offset_bytes as usize..range.end_bytes() as usize].fill(0);
    }
    assert!(restored == known, "version {} was restored wrong: {:?}", version.uid, report.lost);
}

fn look_at_all(process: &mut Process, shared: &Shared) -> Result<()> {
    let repository = process.repository.as_mut().expect("it is open");
    let request = CheckRequest { repairs: false };
    let report = check::run(repository, &request, &Progress::default(), &Cancel::default())?;
    let may_be_damaged = has_lost_lease(process, shared) || !shared.damages.lock().unwrap().is_empty();
    assert!(!report.is_damaged() || may_be_damaged, "{report:?}");
    Ok(())
}

fn has_lost_lease(process: &Process, shared: &Shared) -> bool {
    !process.leases_put().is_disjoint(&shared.revoked.lock().unwrap())
}

/// Says whether the reader's rule makes a version void now, or its writer may make it so before it has ended.
pub fn is_void(shared: &Shared, version: &Manifest) -> bool {
    if shared.model.lock().unwrap().published.contains(&version.uid) {
        return false;
    }
    let is_there = |name: &names::ObjectName| !list_all(shared.store.as_ref(), name.as_str()).unwrap().is_empty();
    is_there(&names::revocation(version.lease)) && !is_there(&names::checked(version.uid))
}
