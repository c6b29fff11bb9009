//! A job beside a cleanup: H1, H2, H3, H8, H10, H12, H13.

use std::sync::Arc;

use backy_core::ErrorKind;
use backy_core::hint::{Hint, HintState};
use backy_core::names;
use backy_core::policy::audit::AuditSettings;
use backy_core::records::lease::JobKind;
use backy_core::units::ByteRange;
use backy_engine::backup::BackupRequest;
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::{Fault, FaultyStore, Operation, Rule};

use crate::stage::{Stage, back_up, clean, new_folder, try_clean, try_remove};
use crate::support::{Host, hinted_request, noise, objects, request};

const BLOCK: usize = 4096;

fn is_manifest(call: &backy_testkit::gate::Waiting) -> bool {
    call.operation == Operation::Put && call.name.ends_with("/manifest")
}

/// A host that knows blocks which are in the store, and which no version has: its backup has failed at the last step.
fn orphan(stage: &mut Stage, skew_seconds: i64, content: &[u8]) -> Host {
    let store = FaultyStore::new(Arc::new(stage.store.clone()));
    store.add_rule(Rule::once(Operation::Put, names::VERSIONS, Fault::Before(ErrorKind::Unavailable)));
    let host = stage.open(Arc::new(store), skew_seconds, new_folder());
    let device = MemoryDevice::with_bytes(content);
    host.try_backup(&request(&device, "a")).unwrap_err();
    host
}

/// H1 and H2: a job uses a block that was condemned after it began. It publishes and drops its lease while a cleanup stands
/// before any of its calls: the cleanup must have seen the lease, or see the version. Whatever the clocks say.
#[test]
fn h1_h2_a_job_may_publish_and_leave_before_any_call_of_a_cleanup() {
    for (seed, skew_seconds) in [(1, 0), (2, -5400), (3, 5400)] {
        for calls in 0.. {
            let mut stage = Stage::new(seed);
            let content = noise(1, 8 * BLOCK);
            let host = orphan(&mut stage, skew_seconds, &content);
            let job = stage.begin_backup_at(skew_seconds, &host, &content, "b");
            assert!(stage.go_to(&job, is_manifest));
            // Condemns the blocks; the job keeps them.
            clean(&stage.host());
            let cleanup = stage.begin_cleanup();
            let has_stopped = stage.go(&cleanup, calls);
            let version = stage.finish(job).unwrap();
            assert_eq!(version.statistics.new_bytes, 0, "it uses what was condemned");
            stage.finish(cleanup).unwrap();
            stage.check(&[(&version, &content)]);
            if !has_stopped {
                assert!(calls > 10, "{calls}");
                break;
            }
        }
    }
}

/// H3 and H13: a version that is live and has condemned blocks is removed, and cleaned up twice, before any call of a job
/// that takes it as its base.
#[test]
fn h3_h13_a_base_may_be_removed_before_any_call_of_the_job_that_takes_it() {
    let mut published = 0;
    for calls in 0.. {
        let mut stage = Stage::new(4);
        let host = stage.host();
        let content = noise(1, 8 * BLOCK);
        let oldest = back_up(&host, &content, "other");
        let job = stage.begin_backup(&host, &content, "a");
        assert!(stage.go_to(&job, is_manifest));
        try_remove(&host, &oldest).unwrap();
        clean(&stage.host());
        // Live, with blocks that are condemned.
        let base = stage.finish(job).unwrap();

        let mut changed = content.clone();
        changed[..BLOCK].copy_from_slice(&noise(2, BLOCK));
        let job = stage.begin_backup(&host, &changed, "a");
        let has_stopped = stage.go(&job, calls);
        let removal = try_remove(&stage.host(), &base);
        clean(&stage.host());
        clean(&stage.host());
        match stage.finish(job) {
            Ok(version) => {
                published += 1;
                stage.check(&[(&version, &changed)]);
            }
            Err(failure) => assert_eq!(failure.error.kind(), ErrorKind::NotFound, "{:?}", failure.error),
        }
        if let Err(error) = removal {
            assert_eq!(error.kind(), ErrorKind::Refused);
            stage.check(&[(&base, &content)]);
        }
        if !has_stopped {
            break;
        }
    }
    assert!(published > 10, "{published}");
}

/// H8: blocks that are condemned but still there are offered by no catalog: not by one that is made anew from the index
/// objects, not by one that has known them, and not the second time either.
#[test]
fn h8_a_catalog_that_is_made_anew_does_not_offer_what_was_condemned() {
    let mut stage = Stage::new(5);
    let host = stage.host();
    let content = noise(1, 8 * BLOCK);
    let removed = back_up(&host, &content, "a");
    let reader = host.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    try_remove(&host, &removed).unwrap();
    clean(&stage.host());
    assert!(!objects(&stage.store, names::PACKS).is_empty());
    let new = stage.host();
    let mut versions = Vec::new();
    for (number, (host, name)) in [(&new, "b"), (&host, "c"), (&stage.host(), "d")].into_iter().enumerate() {
        let version = back_up(host, &content, name);
        let is_stored_again = version.statistics.new_bytes == content.len() as u64;
        assert!(is_stored_again || number > 0, "{:?}", version.statistics);
        versions.push(version);
    }
    drop(reader);
    clean(&stage.host());
    let expected: Vec<_> = versions.iter().map(|version| (version, content.as_slice())).collect();
    stage.check(&expected);
}

/// H10: a pack is written anew while one of its blocks is condemned, but used by a job at work: it must come along.
#[test]
fn h10_what_a_job_uses_comes_along_when_its_pack_is_written_anew() {
    let mut stage = Stage::new(6);
    let host = stage.host();
    let content = noise(1, 12 * BLOCK);
    let (live, used) = (&content[..4 * BLOCK], &content[4 * BLOCK..8 * BLOCK]);
    let all = back_up(&host, &content, "all");
    let most = back_up(&host, &content[..8 * BLOCK], "most");
    let kept = back_up(&host, live, "live");
    // The last third is condemned, and everybody who begins from now on knows it; but the pack stays as it is for now.
    try_remove(&host, &all).unwrap();
    try_clean(&stage.host(), 0.0).unwrap();
    let reader = host.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    try_clean(&stage.host(), 0.0).unwrap();
    drop(reader);
    let job = stage.begin_backup(&host, used, "used");
    assert!(stage.go_to(&job, is_manifest));
    try_remove(&host, &most).unwrap();
    assert!(clean(&stage.host()).rewritten_packs > 0);
    let version = stage.finish(job).unwrap();
    assert_eq!(version.statistics.new_bytes, 0);
    stage.check(&[(&version, used), (&kept, live)]);
}

/// H12: a job is about to publish a version with a block that is condemned; its lease is revoked, the block deleted, and the
/// manifest put, before any call of another job that builds on the newest version.
#[test]
fn h12_a_version_may_become_void_before_any_call_of_a_job_that_builds_on_it() {
    for calls in 0.. {
        let mut stage = Stage::new(7);
        let host = stage.host();
        let content = noise(1, 8 * BLOCK);
        let removed = back_up(&host, &content, "other");
        let doomed = stage.begin_backup(&host, &content, "a");
        assert!(stage.go_to(&doomed, is_manifest));
        try_remove(&host, &removed).unwrap();
        let mut changed = content.clone();
        changed[..BLOCK].copy_from_slice(&noise(2, BLOCK));
        let job = stage.begin_backup(&host, &changed, "a");
        let has_stopped = stage.go(&job, calls);
        let of_doomed = host.repository.held_leases().unwrap()[0].id;
        host.repository.revoke_lease(of_doomed, "a trap").unwrap();
        clean(&stage.host());
        stage.finish(doomed).ok();
        let version = stage.finish(job).unwrap();
        stage.check(&[(&version, &changed)]);
        if !has_stopped {
            assert!(calls > 10, "{calls}");
            break;
        }
    }
}

/// H12 and H13: a version is void and some of its blocks are gone, its map is not. A job that takes them over on the word of
/// hints must read them again.
#[test]
fn h12_h13_what_is_gone_from_a_void_base_is_read_again_whatever_the_hints_say() {
    let mut stage = Stage::new(8);
    let content = noise(1, 8 * BLOCK);
    let host = orphan(&mut stage, 0, &content);
    let doomed = stage.begin_backup(&host, &content, "a");
    assert!(stage.go_to(&doomed, is_manifest));
    clean(&stage.host());
    stage.revoke_all();
    let cleanup = stage.begin_cleanup();
    assert!(stage.go_to(&cleanup, |call| call.is(Operation::Delete, names::PACKS)));
    assert!(stage.go(&cleanup, 1));
    stage.finish(doomed).expect_err("its blocks are gone");
    let void = stage.host().repository.versions().unwrap().versions.pop().unwrap();
    assert!(void.is_void);
    let mut changed = content.clone();
    changed[..BLOCK].copy_from_slice(&noise(2, BLOCK));
    let device = MemoryDevice::with_bytes(&changed);
    let hint = Hint { range: ByteRange::between(0, BLOCK as u64), state: HintState::Changed };
    let audit = AuditSettings { percent_of_volume: 0.0, bytes_max: 0, percent_of_changed: 0.0 };
    let request = BackupRequest { audit, ..hinted_request(&device, "a", &void.manifest, vec![hint]) };
    let version = stage.host().try_backup(&request).unwrap().manifest;
    stage.finish(cleanup).unwrap();
    stage.check(&[(&version, &changed)]);
}
