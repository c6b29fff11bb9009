//! What a job does, on the real engine, and what it must find.
//!
//! A further kind of job is one more row of [`Job`] and one more arm in [`run`].

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
use backy_engine::scrub::{self, ScrubRequest, ScrubScope};
use backy_engine::{label, restore};
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use backy_testkit::device::MemoryDevice;

use crate::model::{Content, Model};
use crate::process::Process;
use crate::support::{all_bytes, request, restore_request, spec};

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
    /// Frees space.
    Cleanup(CleanupRequest),
    /// Reads all that is stored. Nothing is ever damaged.
    Scrub,
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
            shared.model.lock().unwrap().removed.insert(*uid);
            let request = RemoveRequest { version: by_uid(*uid), young: Duration::ZERO, is_forced: true };
            remove::run(repository, &request).map(drop)
        }
        Job::Label { uid, tag } => {
            let change = LabelChange { add_tags: [tag.clone()].into(), ..LabelChange::default() };
            label::run(repository, &by_uid(*uid), &change)?;
            shared.model.lock().unwrap().tags.entry(*uid).or_default().insert(tag.clone());
            Ok(())
        }
        Job::Scrub => {
            let versions = scrub::find_versions(repository, &ScrubScope::All)?.versions;
            let request = ScrubRequest { versions, sample: None, source: None };
            let report = scrub::run(repository, &request, &Progress::default(), &Cancel::default())?;
            // Who has lost the lease may find a removed version half deleted.
            assert!(report.is_clean() || has_lost_lease(process, shared), "{report:?}");
            Ok(())
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
    if !report.lost.is_empty() {
        let may_lose = (is_removed && lost_lease) || is_void(shared, version);
        assert!(may_lose, "version {uid} has lost blocks: {:?}", report.lost);
        return Err(Error::damaged("a void version has lost blocks"));
    }
    let expected = shared.model.lock().unwrap().content_of(version).bytes;
    assert!(all_bytes(&target) == *expected, "version {uid} was restored wrong");
    Ok(())
}

fn look_at_all(process: &mut Process, shared: &Shared) -> Result<()> {
    let repository = process.repository.as_mut().expect("it is open");
    let request = CheckRequest { repairs: false };
    let report = check::run(repository, &request, &Progress::default(), &Cancel::default())?;
    assert!(!report.is_damaged() || has_lost_lease(process, shared), "{report:?}");
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
