//! Void versions, revocations and labels: H9, H11, H17, H18.

use std::sync::Arc;

use backy_core::names;
use backy_core::records::label::LabelChange;
use backy_engine::backup::BackupRequest;
use backy_engine::label;
use backy_engine::repository::versions::VersionState;
use backy_testkit::device::MemoryDevice;
use backy_testkit::gate::Waiting;
use backy_testkit::store::{CrashMoment, FaultyStore, Operation};

use crate::stage::{Stage, back_up, clean, new_folder, try_remove};
use crate::support::{noise, objects, request, spec};

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
