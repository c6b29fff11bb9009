//! Puts that come late: their caller was told that they have failed, and what they rely on is deleted before they land.

use std::sync::Arc;

use backy_core::ErrorKind;
use backy_core::cancel::Cancel;
use backy_core::names;
use backy_core::records::label::LabelChange;
use backy_engine::backup::BackupRequest;
use backy_engine::check::{self, CheckRequest, Finding, Weight};
use backy_engine::label;
use backy_engine::progress::Progress;
use backy_engine::repository::versions::VersionState;
use backy_store::ObjectStore;
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::{Fault, FaultyStore, Operation, Rule};

use crate::stage::{Stage, back_up, clean, new_folder, try_remove};
use crate::support::{noise, objects, request, spec};

const BLOCK: usize = 4096;

/// Any one put of a backup fails and comes later, after its job has ended and a cleanup has deleted what nobody needed then.
/// What is listed as valid must be whole, and what is left can be continued. `is_mute`: the job cannot even say that its
/// lease is to be revoked; it dropped the lease all the same, so that a manifest which came later counted as good.
#[test]
fn whatever_put_of_a_backup_comes_late_nothing_is_listed_as_good_that_is_not() {
    // Whatever the store says at last: the put was under way before.
    let kinds = [ErrorKind::Unavailable, ErrorKind::NotFound, ErrorKind::InvalidInput];
    for (kind, is_mute) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        for skip in 0.. {
            let mut stage = Stage::new(60);
            let host = stage.host();
            let content = noise(1, 60 * BLOCK);
            let shared = &content[..20 * BLOCK];
            let removed = back_up(&host, shared, "other");
            let store = FaultyStore::new(Arc::new(stage.store.clone()));
            store.add_rule(Rule::once(Operation::Put, "", Fault::Late(kind)).after(skip));
            if is_mute {
                store.add_rule(Rule::always(Operation::Put, names::LEASES, Fault::Before(ErrorKind::Unavailable)));
            }
            let device = MemoryDevice::with_bytes(&content);
            let done = stage.open(Arc::new(store.clone()), 0, new_folder()).try_backup(&request(&device, "a"));
            if store.late_puts() == 0 {
                done.unwrap();
                assert!(skip > 8, "{skip}");
                break;
            }
            try_remove(&host, &removed).unwrap();
            clean(&stage.host());
            store.land(0).unwrap();
            for round in 0..2 {
                let mut host = stage.host();
                let all = CheckRequest { repairs: false };
                let report = check::run(&mut host.repository, &all, &Progress::default(), &Cancel::default()).unwrap();
                let damaged = report.findings.iter().filter(|finding| finding.weight == Weight::Damage);
                let damaged: Vec<&Finding> = damaged.filter(|finding| !finding.object.ends_with("/manifest")).collect();
                assert!(damaged.is_empty(), "{kind:?} {is_mute} {skip}: {damaged:#?}");
                for entry in host.repository.versions().unwrap().versions {
                    if entry.state == VersionState::Valid {
                        let (restored, report) = host.restore(&entry.manifest);
                        assert!(
                            report.lost.is_empty() && restored == content,
                            "{kind:?} {is_mute} {skip}: {:?}",
                            report.lost
                        );
                    }
                    if entry.state == VersionState::Incomplete && round > 0 {
                        let continued = Some(spec(&entry.manifest));
                        let request = BackupRequest { continued, ..request(&device, "a") };
                        let version = host.try_backup(&request).unwrap().manifest;
                        stage.check(&[(&version, &content)]);
                    }
                }
                stage.revoke_all();
                clean(&stage.host());
            }
        }
    }
}

/// A label comes when its version was removed and deleted: nothing told a cleanup of it any more, and it stayed for ever.
#[test]
fn a_label_that_comes_after_its_version_was_deleted_goes_with_the_next_cleanup() {
    let mut stage = Stage::new(61);
    let host = stage.host();
    let version = back_up(&host, &noise(1, BLOCK), "a");
    let store = FaultyStore::new(Arc::new(stage.store.clone()));
    store.add_rule(Rule::once(Operation::Put, names::LABELS, Fault::Late(ErrorKind::Unavailable)));
    let change = LabelChange { add_tags: ["late".to_owned()].into(), ..LabelChange::default() };
    let late = stage.open(Arc::new(store.clone()), 0, new_folder());
    label::run(&late.repository, &spec(&version), &change).unwrap_err();
    try_remove(&host, &version).unwrap();
    clean(&stage.host());
    store.land(0).unwrap();
    assert_eq!(objects(&stage.store, names::LABELS).len(), 1);
    clean(&stage.host());
    assert_eq!(objects(&stage.store, names::LABELS), []);
}

/// A backup fails, gives its lease up, and leaves a checkpoint; then its packs are lost. No cleanup has deleted them, so that is
/// damage, though the checkpoint is void.
#[test]
fn what_a_checkpoint_lacks_that_was_given_up_is_damage_unless_a_cleanup_has_deleted_it() {
    let mut stage = Stage::new(62);
    let store = FaultyStore::new(Arc::new(stage.store.clone()));
    // The checkpoint passes, the manifest does not.
    store.add_rule(Rule::always(Operation::Put, names::VERSIONS, Fault::Before(ErrorKind::Unavailable)).after(1));
    let device = MemoryDevice::with_bytes(&noise(1, 60 * BLOCK));
    stage.open(Arc::new(store), 0, new_folder()).try_backup(&request(&device, "a")).unwrap_err();
    let mut host = stage.host();
    let all = CheckRequest { repairs: false };
    let mut look = || check::run(&mut host.repository, &all, &Progress::default(), &Cancel::default()).unwrap();
    let before = look();
    assert_eq!((before.incomplete_count, before.is_damaged()), (1, false), "{before:?}");
    objects(&stage.store, names::PACKS).iter().for_each(|pack| stage.store.delete(pack).unwrap());
    assert!(look().is_damaged());
}
