//! Void versions, revocations and labels: H9, H11, H17, H18.

use std::sync::Arc;

use backy_core::names;
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::Manifest;
use backy_engine::backup::BackupRequest;
use backy_engine::label;
use backy_engine::repository::versions::VersionState;
use backy_testkit::device::MemoryDevice;
use backy_testkit::gate::Waiting;
use backy_testkit::store::{CrashMoment, FaultyStore, Operation};

use crate::stage::{Stage, back_up, clean, new_folder, try_remove};
use crate::support::{Host, noise, objects, request, spec};

const BLOCK: usize = 4096;

fn is_manifest(call: &Waiting) -> bool {
    call.operation == Operation::Put && call.name.ends_with("/manifest")
}

/// H9 and H11: a job has lost its lease and publishes while a cleanup stands before deleting what the job uses. It is all
/// there, and yet the recheck must fail; and what tells that the version is void stays for ever.
#[test]
fn h9_h11_a_recheck_does_not_trust_in_what_somebody_is_about_to_delete() {
    let mut stage = Stage::new(40);
    let host = stage.host();
    let content = noise(1, 8 * BLOCK);
    let removed = back_up(&host, &content, "other");
    let job = stage.begin_backup(&host, &content, "a");
    assert!(stage.go_to(&job, is_manifest));
    try_remove(&host, &removed).unwrap();
    let lease = host.repository.held_leases().unwrap()[0].id;
    stage.revoke_all();
    let cleanup = stage.begin_cleanup();
    assert!(stage.go_to(&cleanup, |call| call.is(Operation::Delete, names::PACKS)));
    stage.finish(job).expect_err("its blocks are being deleted");
    stage.finish(cleanup).unwrap();
    for _ in 0..3 {
        clean(&stage.host());
        let version = stage.host().repository.versions().unwrap().versions.remove(0);
        assert!(version.is_void && version.state == VersionState::Invalid);
        assert!(objects(&stage.store, names::LEASES).contains(&names::revocation(lease)));
    }
    // Who builds on it reads again what is gone.
    let next = back_up(&host, &content, "a");
    stage.check(&[(&next, &content)]);
}

/// H17: a version has a label before it has a manifest. A cleanup in between leaves the label.
#[test]
fn h17_a_label_that_comes_before_its_manifest_stays() {
    let mut stage = Stage::new(41);
    let device = MemoryDevice::with_bytes(&noise(1, 300 * BLOCK));
    let mut calls = 0;
    let incomplete = loop {
        calls += 1;
        let store = FaultyStore::new(Arc::new(stage.store.clone()));
        let host = stage.open(Arc::new(store.clone()), 0, new_folder());
        store.crash_at_call(calls, CrashMoment::Before);
        host.try_backup(&request(&device, "a")).unwrap_err();
        let listed = stage.host().repository.versions().unwrap().versions;
        if let Some(entry) = listed.into_iter().find(|entry| entry.checkpoint.is_some()) {
            break entry.manifest;
        }
    };
    let change = LabelChange { protected: Some(true), ..LabelChange::default() };
    label::run(&stage.host().repository, &spec(&incomplete), &change).unwrap();
    clean(&stage.host());
    stage.revoke_all();
    clean(&stage.host());
    let continued = Some(spec(&incomplete));
    let host = stage.host();
    let version = host.try_backup(&BackupRequest { continued, ..request(&device, "a") }).unwrap().manifest;
    clean(&stage.host());
    assert!(stage.host().repository.find_version(&spec(&version)).unwrap().label.is_protected);
}

/// H18: two hosts say something of one version at once: neither word is lost, and where they contradict each other the
/// version is protected.
#[test]
fn h18_of_two_labels_at_once_none_is_lost_and_protection_wins() {
    for (first, second) in [(true, false), (false, true)] {
        let mut stage = Stage::new(42);
        let host = stage.host();
        let version = back_up(&host, &noise(1, BLOCK), "a");
        let change = |is_protected, tag: &str| LabelChange {
            protected: Some(is_protected),
            add_tags: [tag.to_owned()].into(),
            ..LabelChange::default()
        };
        let (late_change, uid) = (change(first, "late"), spec(&version));
        let late = stage.begin(None, move |host| label::run(&host.repository, &uid, &late_change).map(drop));
        assert!(stage.go_to(&late, |call| call.is(Operation::Put, names::LABELS)));
        label::run(&host.repository, &spec(&version), &change(second, "soon")).unwrap();
        stage.finish(late).unwrap();
        let label = stage.host().repository.find_version(&spec(&version)).unwrap().label;
        assert!(label.is_protected);
        assert_eq!(label.tags, ["late".to_owned(), "soon".to_owned()].into());
        try_remove(&host, &version).unwrap_err();
    }
}

fn is_checkpoint(call: &Waiting) -> bool {
    call.operation == Operation::Put && call.name.contains("/checkpoint-")
}

/// Backs up to the first checkpoint, with blocks of a version that is removed and deleted before the checkpoint is put, for
/// the lease is revoked; then fails. Returns the version that can be continued.
fn void_checkpoint(stage: &mut Stage, host: &Host, content: &[u8], shared: &[u8]) -> Manifest {
    let removed = back_up(host, shared, "other");
    let job = stage.begin_backup(host, content, "a");
    assert!(stage.go_to(&job, is_checkpoint));
    try_remove(host, &removed).unwrap();
    stage.revoke_all();
    clean(&stage.host());
    stage.finish(job).expect_err("its lease is revoked");
    let listed = stage.host().repository.versions().unwrap().versions;
    listed.into_iter().find(|entry| entry.checkpoint.is_some()).unwrap().manifest
}

/// A checkpoint of a job that had lost its lease points to blocks that are deleted. They lie before the position at which
/// the backup is continued: they were kept, and the version was published as good without them.
#[test]
fn what_is_gone_from_a_void_checkpoint_is_read_again_when_it_is_continued() {
    let mut stage = Stage::new(50);
    let host = stage.host();
    let content = noise(1, 100 * BLOCK);
    let incomplete = void_checkpoint(&mut stage, &host, &content, &content[..8 * BLOCK]);
    let device = MemoryDevice::with_bytes(&content);
    let continued = Some(spec(&incomplete));
    let version = host.try_backup(&BackupRequest { continued, ..request(&device, "a") }).unwrap().manifest;
    stage.check(&[(&version, &content)]);
}

/// The same, but whoever continues fails too, after a checkpoint of its own: that one is not void, and has the same holes.
#[test]
fn what_is_gone_from_a_void_checkpoint_is_read_again_by_whoever_continues_the_next_one() {
    for calls in 0.. {
        let mut stage = Stage::new(51);
        let host = stage.host();
        let content = noise(1, 100 * BLOCK);
        let incomplete = void_checkpoint(&mut stage, &host, &content, &content[..8 * BLOCK]);
        let device = MemoryDevice::with_bytes(&content);
        let store = FaultyStore::new(Arc::new(stage.store.clone()));
        store.crash_at_call(calls + 1, CrashMoment::After);
        let crashing = stage.host_on(store.clone());
        let request = |version: &Manifest| BackupRequest { continued: Some(spec(version)), ..request(&device, "a") };
        let crashed = crashing.and_then(|host| host.try_backup(&request(&incomplete)).map_err(|failure| failure.error));
        if !store.is_crashed() {
            crashed.unwrap();
            break;
        }
        stage.revoke_all();
        clean(&stage.host());
        let host = stage.host();
        let listed = host.repository.versions().unwrap().versions;
        let version = match listed.into_iter().find(|entry| entry.checkpoint.is_some()) {
            Some(entry) => host.try_backup(&request(&entry.manifest)).unwrap().manifest,
            None => host.repository.versions().unwrap().versions.pop().unwrap().manifest,
        };
        stage.check(&[(&version, &content)]);
    }
}

/// A job has lost its lease and does not know it; another one continues its version, and publishes. Then the first puts its
/// manifest too: under the same name it would replace the good one by a void one, of which blocks are deleted.
#[test]
fn a_version_that_another_has_continued_is_not_replaced_by_its_first_writer() {
    for calls in 0..40 {
        let mut stage = Stage::new(52);
        let host = stage.host();
        let content = noise(1, 100 * BLOCK);
        let first = stage.begin_backup(&host, &content, "a");
        assert!(stage.go_to(&first, is_checkpoint));
        assert!(stage.go(&first, 1));
        let has_stopped = stage.go(&first, calls);
        stage.revoke_all();
        let host = stage.host();
        let Some(incomplete) = host.repository.versions().unwrap().versions.pop() else {
            panic!("it has a checkpoint")
        };
        if incomplete.checkpoint.is_none() || !has_stopped {
            break;
        }
        let device = MemoryDevice::with_bytes(&content);
        let continued = Some(spec(&incomplete.manifest));
        let version = host.try_backup(&BackupRequest { continued, ..request(&device, "a") }).unwrap().manifest;
        clean(&stage.host());
        stage.finish(first).unwrap_err();
        stage.check(&[(&version, &content)]);
    }
}
