//! Cleanup frees what no version needs, nothing else, and may crash at any call of the store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

mod support;

use std::sync::Arc;

use backy_core::ErrorKind;
use backy_core::cancel::Cancel;
use backy_core::map::visit_map_slots;
use backy_core::names;
use backy_core::pack::SlotKind;
use backy_core::records::label::LabelChange;
use backy_core::records::lease::JobKind;
use backy_core::records::manifest::Manifest;
use backy_device::Target;
use backy_engine::cleanup::{self, CleanupReport, CleanupRequest};
use backy_engine::label;
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::leases;
use backy_engine::repository::versions::VersionState;
use backy_engine::scrub::{self, ScrubRequest};
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use backy_testkit::clock::SimulatedClock;
use backy_testkit::device::MemoryDevice;
use backy_testkit::random::environment_with_clock;
use backy_testkit::store::{CrashMoment, Fault, FaultyStore, Operation, Rule, is_crash};
use std::time::Duration;
use support::{Host, all_bytes, new_store, noise, objects, pack_object, seeded, slot_of, spec};

const BLOCK: usize = 4096;

fn everything() -> CleanupRequest {
    CleanupRequest { is_dry_run: false, compact_below_percent: 100.0, time_max: None }
}

fn clean(host: &Host) -> CleanupReport {
    try_clean(host, &everything()).unwrap()
}

fn try_clean(host: &Host, request: &CleanupRequest) -> backy_core::Result<CleanupReport> {
    cleanup::run(&host.repository, request, &Progress::default(), &Cancel::default())
}

fn try_remove(host: &Host, version: &Manifest) -> backy_core::Result<()> {
    let request = RemoveRequest { version: spec(version), young: Duration::ZERO, is_forced: true };
    remove::run(&host.repository, &request).map(drop)
}

fn remove(host: &Host, version: &Manifest) {
    try_remove(host, version).unwrap();
}

/// A host whose leases nobody takes for those of the dead.
fn living(host: Host) -> Host {
    Host { repository: host.repository.on_host(leases::Host::default()), state: host.state }
}

fn pack_bytes(store: &dyn ObjectStore) -> u64 {
    list_all(store, names::PACKS).unwrap().iter().map(|object| object.size_bytes).sum()
}

fn manifests(store: &dyn ObjectStore) -> usize {
    objects(store, names::VERSIONS).iter().filter(|name| name.last_part() == "manifest").count()
}

/// A device, and the same with some blocks changed.
fn changed(device: &MemoryDevice, seed: u64, blocks: std::ops::Range<usize>) -> MemoryDevice {
    let mut bytes = all_bytes(device);
    bytes[blocks.start * BLOCK..blocks.end * BLOCK].copy_from_slice(&noise(seed, blocks.len() * BLOCK));
    MemoryDevice::with_bytes(&bytes)
}

#[test]
fn what_was_removed_is_gone_at_once_where_nobody_is_at_work() {
    let environment = seeded(1);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment);
    let version = host.backup(&MemoryDevice::with_bytes(&noise(1, 300 * BLOCK)), "a").manifest;
    let stored = pack_bytes(&store);
    remove(&host, &version);
    let report = clean(&host);
    assert_eq!(report.deleted_versions, [version.uid].into());
    assert_eq!(report.freed_bytes, stored);
    for prefix in [names::PACKS, names::VERSIONS, names::LABELS, names::LEASES, names::INDEX] {
        assert_eq!(objects(&store, prefix), [], "{prefix}");
    }
    let nothing = clean(&host);
    assert_eq!((nothing.freed_bytes, nothing.deleted_packs.len(), nothing.deleted_versions.len()), (0, 0, 0));
}

#[test]
fn what_a_later_version_shares_stays_and_the_rest_of_its_packs_goes() {
    let environment = seeded(2);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment.clone());
    let first_device = MemoryDevice::with_bytes(&noise(1, 400 * BLOCK));
    let first = host.backup(&first_device, "a").manifest;
    let second_device = changed(&first_device, 2, 50..350);
    let second = host.backup(&second_device, "a").manifest;
    remove(&host, &first);
    let lazy = CleanupRequest { compact_below_percent: 10.0, ..everything() };
    let report = try_clean(&host, &lazy).unwrap();
    assert_eq!((report.rewritten_packs, report.deleted_versions.len()), (0, 1));
    assert!(report.unused_bytes > 200 * BLOCK as u64, "{report:?}");
    let before = pack_bytes(&store);
    let report = clean(&host);
    assert_eq!(report.rewritten_packs, 1);
    assert_eq!(before - pack_bytes(&store), report.freed_bytes);
    assert!(report.freed_bytes > 290 * BLOCK as u64, "{report:?}");
    assert_eq!(host.restore(&second).0, all_bytes(&second_device));
    // A host that knows nothing, and one whose catalog knows the pack as it was.
    assert_eq!(Host::new(store.clone(), environment).restore(&second).0, all_bytes(&second_device));
    assert_eq!(clean(&host).rewritten_packs, 0);
    // And the base of a base works on.
    let third_device = changed(&second_device, 3, 0..10);
    let third = host.backup(&third_device, "a").manifest;
    assert_eq!(third.statistics.new_bytes, 10 * BLOCK as u64);
    assert_eq!(host.restore(&third).0, all_bytes(&third_device));
}

#[test]
fn nothing_goes_while_a_job_that_may_need_it_is_at_work() {
    let environment = seeded(3);
    let store = Arc::new(new_store(&environment));
    let host = living(Host::new(store.clone(), environment.clone()));
    let other = living(Host::new(store.clone(), environment));
    let version = host.backup(&MemoryDevice::with_bytes(&noise(1, 300 * BLOCK)), "a").manifest;
    let lease = other.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    remove(&host, &version);
    for _ in 0..3 {
        let report = clean(&host);
        assert_eq!((report.freed_bytes, report.waiting_for.len()), (0, 1), "{report:?}");
        assert!(report.waiting_bytes > 300 * BLOCK as u64);
    }
    // A job that began after the record was written knows it, so nobody waits for it.
    let late = other.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    drop(lease);
    let report = clean(&host);
    assert!(report.freed_bytes > 300 * BLOCK as u64, "{report:?}");
    drop(late);
}

#[test]
fn a_version_in_use_is_not_removed_and_it_is_said_by_whom() {
    let environment = seeded(4);
    let store = Arc::new(new_store(&environment));
    let host = living(Host::new(store.clone(), environment));
    let version = host.backup(&MemoryDevice::with_bytes(&noise(1, 30 * BLOCK)), "a").manifest;
    let lease = host.repository.begin_job(JobKind::Restore, vec![version.uid]).unwrap();
    let error = try_remove(&host, &version).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("restore"), "{error}");
    drop(lease);
    remove(&host, &version);
}

#[test]
fn leftovers_of_a_crash_go_and_what_can_be_continued_stays() {
    let environment = seeded(5);
    let inner: Arc<dyn ObjectStore> = Arc::new(new_store(&environment));
    let device = MemoryDevice::with_bytes(&noise(1, 300 * BLOCK));
    for call in 1.. {
        let store = FaultyStore::new(inner.clone());
        let host = Host::new(Arc::new(store.clone()), environment.clone());
        store.crash_at_call(call, CrashMoment::After);
        let done = host.try_backup(&support::request(&device, "a"));
        store.restart();
        let host = Host::new(inner.clone(), environment.clone());
        clean(&host);
        let listing = host.repository.versions().unwrap();
        assert!(listing.unreadable.is_empty());
        for entry in &listing.versions {
            if entry.state == VersionState::Incomplete {
                let mut request = support::request(&device, "a");
                request.continued = Some(spec(&entry.manifest));
                let version = host.try_backup(&request).unwrap().manifest;
                assert_eq!(host.restore(&version).0, all_bytes(&device));
                remove(&host, &version);
            } else {
                assert_eq!(host.restore(&entry.manifest).0, all_bytes(&device), "{call}");
                remove(&host, &entry.manifest);
            }
        }
        clean(&host);
        assert_eq!(objects(&inner, names::PACKS), [], "{call}");
        if done.is_ok() {
            break;
        }
    }
}

#[test]
fn a_cleanup_may_crash_before_and_after_any_call_of_the_store() {
    for moment in [CrashMoment::Before, CrashMoment::After] {
        for call in 1.. {
            let environment = seeded(call);
            let inner: Arc<dyn ObjectStore> = Arc::new(new_store(&environment));
            let host = Host::new(inner.clone(), environment.clone());
            let first_device = MemoryDevice::with_bytes(&noise(1, 120 * BLOCK));
            let first = host.backup(&first_device, "a").manifest;
            let second_device = changed(&first_device, 2, 20..90);
            let second = host.backup(&second_device, "a").manifest;
            let other = host.backup(&MemoryDevice::with_bytes(&noise(9, 50 * BLOCK)), "b").manifest;
            remove(&host, &first);
            remove(&host, &other);

            let store = FaultyStore::new(inner.clone());
            let crashing = Host::new(Arc::new(store.clone()), environment.clone());
            store.crash_at_call(call, moment);
            let crashed = try_clean(&crashing, &everything());
            let host = Host::new(inner.clone(), environment);
            assert_eq!(host.restore(&second).0, all_bytes(&second_device), "{call}");
            clean(&host);
            assert_eq!(host.restore(&second).0, all_bytes(&second_device), "{call}");
            // One generation a pack, and little beside what the version is.
            assert!(pack_bytes(&inner) < 125 * BLOCK as u64, "{call}: {}", pack_bytes(&inner));
            assert_eq!(manifests(&inner), 1, "{call}");
            match crashed {
                Ok(_) if !store.is_crashed() => break,
                Ok(_) => {}
                Err(error) => assert!(is_crash(&error), "{error:?}"),
            }
        }
    }
}

/// Some objects cannot be deleted: they are locked, or the disk has an error there. All else goes, the job ends well, what was
/// not deleted stays hidden, and goes as soon as the store lets it.
#[test]
fn what_cannot_be_deleted_keeps_nothing_else_from_it_and_goes_later() {
    for kind in [ErrorKind::Refused, ErrorKind::PermissionDenied, ErrorKind::Io] {
        for prefix in [names::PACKS, names::VERSIONS, names::LABELS, names::INDEX] {
            let environment = seeded(11);
            let inner: Arc<dyn ObjectStore> = Arc::new(new_store(&environment));
            let store = FaultyStore::new(inner.clone());
            let host = Host::new(Arc::new(store.clone()), environment);
            let kept = MemoryDevice::with_bytes(&noise(1, 100 * BLOCK));
            let version = host.backup(&kept, "kept").manifest;
            let before = pack_bytes(&inner);
            for seed in 2..6 {
                let gone = host.backup(&MemoryDevice::with_bytes(&noise(seed, 50 * BLOCK)), "gone").manifest;
                let change = LabelChange { note: Some("a label".to_owned()), ..LabelChange::default() };
                label::run(&host.repository, &spec(&gone), &change).unwrap();
                remove(&host, &gone);
            }
            store.add_rule(Rule { skip: 1, ..Rule::once(Operation::Delete, prefix, Fault::Before(kind)) });
            let report = clean(&host);
            assert_eq!(report.undeletable, 1, "{prefix} {kind:?}");
            // At most the one that was kept, and what it needs.
            assert!(pack_bytes(&inner) < before + 60 * BLOCK as u64, "{prefix} {kind:?}");
            let listed = host.repository.versions().unwrap().versions;
            assert_eq!(listed.iter().map(|entry| entry.manifest.uid).collect::<Vec<_>>(), [version.uid]);
            clean(&host);
            assert_eq!(pack_bytes(&inner), before, "{prefix} {kind:?}");
            assert_eq!(objects(&inner, names::LABELS).len(), 0, "{prefix} {kind:?}");
            assert_eq!(host.restore(&version).0, all_bytes(&kept));
        }
    }
}

#[test]
fn condemned_blocks_are_not_offered_again_not_even_by_a_catalog_that_knew_them() {
    let environment = seeded(7);
    let store = Arc::new(new_store(&environment));
    let host = living(Host::new(store.clone(), environment.clone()));
    let stale = living(Host::new(store.clone(), environment));
    let device = MemoryDevice::with_bytes(&noise(1, 200 * BLOCK));
    let first = host.backup(&device, "a").manifest;
    // The other host learns of the blocks.
    let second = stale.backup(&device, "b").manifest;
    assert_eq!(second.statistics.new_bytes, 0);
    remove(&host, &first);
    remove(&host, &second);
    let lease = host.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    assert_eq!(clean(&host).freed_bytes, 0);
    // Condemned, and still there: nobody may point to them any more.
    let third = stale.backup(&device, "c").manifest;
    assert_eq!(third.statistics.new_bytes, 200 * BLOCK as u64);
    drop(lease);
    assert!(clean(&host).freed_bytes > 200 * BLOCK as u64);
    assert_eq!(host.restore(&third).0, all_bytes(&device));
}

#[test]
fn a_version_that_cannot_be_read_stops_the_deletion_until_it_is_removed() {
    let environment = seeded(8);
    let inner = Arc::new(new_store(&environment));
    let store = FaultyStore::new(inner.clone());
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let device = MemoryDevice::with_bytes(&noise(1, 100 * BLOCK));
    let good = host.backup(&device, "a").manifest;
    let bad = host.backup(&MemoryDevice::with_bytes(&noise(2, 100 * BLOCK)), "b").manifest;
    let gone = host.backup(&MemoryDevice::with_bytes(&noise(3, 100 * BLOCK)), "c").manifest;
    remove(&host, &gone);
    store.flip_bit(&names::manifest(bad.uid), 60).unwrap();
    // A host whose catalog has no copy of the manifest.
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let before = pack_bytes(&inner);
    let error = try_clean(&host, &everything()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains(&bad.uid.to_string()), "{error}");
    assert_eq!(pack_bytes(&inner), before);
    remove(&host, &bad);
    let report = clean(&host);
    assert_eq!(report.deleted_versions, [bad.uid, gone.uid].into());
    assert_eq!(host.restore(&good).0, all_bytes(&device));
    assert_eq!(manifests(&inner), 1);
}

/// The record of a lost pack stayed for ever: no cleanup had deleted that pack. It must stay while a version needs it.
#[test]
fn what_is_known_of_a_lost_pack_goes_when_no_version_needs_it() {
    let environment = seeded(9);
    let store = FaultyStore::new(Arc::new(new_store(&environment)));
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let device = MemoryDevice::with_bytes(&noise(1, 100 * BLOCK));
    let good = host.backup(&device, "a").manifest;
    let bad = host.backup(&MemoryDevice::with_bytes(&noise(2, 100 * BLOCK)), "b").manifest;
    store.lose(&pack_object(&store, bad.map.root.unwrap().pack)).unwrap();
    let versions = vec![bad.clone()];
    let request = ScrubRequest { versions, sample: None, source: None };
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    scrub::run(&host.repository, &request, &Progress::default(), &Cancel::default()).unwrap();
    // What is not there is damage as well.
    assert_eq!(try_clean(&host, &everything()).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(objects(&store, names::DAMAGE).len(), 1);
    remove(&host, &bad);
    clean(&host);
    assert_eq!(objects(&store, names::DAMAGE), []);
    assert_eq!(host.restore(&good).0, all_bytes(&device));
}

/// A full disk: what nobody needs goes before anything is written anew, which has no room yet. The rewriting came first, and
/// nothing ever went.
#[test]
fn where_there_is_no_room_to_write_a_pack_anew_dead_packs_go_all_the_same() {
    let environment = seeded(11);
    let store = FaultyStore::new(Arc::new(new_store(&environment)));
    let host = living(Host::new(Arc::new(store.clone()), environment.clone()));
    let content = noise(1, 100 * BLOCK);
    let half = MemoryDevice::with_bytes(&content[..50 * BLOCK]);
    let whole = host.backup(&MemoryDevice::with_bytes(&content), "a").manifest;
    let kept = host.backup(&half, "b").manifest;
    let dead = host.backup(&MemoryDevice::with_bytes(&noise(2, 100 * BLOCK)), "c").manifest;
    remove(&host, &whole);
    remove(&host, &dead);
    let dead_pack = pack_object(&store, slot_of(&host.repository, &dead, 0).unwrap().pack);
    store.add_rule(Rule::always(Operation::Put, names::PACKS, Fault::Before(ErrorKind::NoSpace)));
    assert_eq!(try_clean(&host, &everything()).unwrap_err().kind(), ErrorKind::NoSpace);
    assert!(!objects(&store, names::PACKS).contains(&dead_pack));
    store.behave();
    clean(&host);
    assert_eq!(host.restore(&kept).0, all_bytes(&half));
}

#[test]
fn a_dry_run_says_what_would_go_and_touches_nothing() {
    let environment = seeded(9);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment);
    let version = host.backup(&MemoryDevice::with_bytes(&noise(1, 100 * BLOCK)), "a").manifest;
    remove(&host, &version);
    let before = objects(&store, "");
    let report = try_clean(&host, &CleanupRequest { is_dry_run: true, ..everything() }).unwrap();
    assert!(report.waiting_bytes >= 100 * BLOCK as u64);
    assert_eq!(objects(&store, ""), before);
}

#[test]
fn a_second_cleanup_steps_back() {
    let environment = seeded(10);
    let store = Arc::new(new_store(&environment));
    let host = living(Host::new(store, environment));
    let _first = host.repository.begin_job(JobKind::Cleanup, Vec::new()).unwrap();
    let error = try_clean(&host, &everything()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
}

#[test]
fn a_log_that_has_grown_long_is_put_together_and_forgets_nothing() {
    let environment = seeded(11);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment.clone());
    let mut longest = 0;
    for number in 0..80 {
        let device = MemoryDevice::with_bytes(&noise(number, 5 * BLOCK));
        let version = host.backup(&device, "a").manifest;
        remove(&host, &version);
        clean(&host);
        longest = longest.max(objects(&store, names::GC).len());
    }
    assert!(longest < 60, "{longest}");
    assert_eq!(objects(&store, names::PACKS), []);
    // The old host goes on, and a new one.
    for host in [host, Host::new(store.clone(), environment)] {
        let device = MemoryDevice::with_bytes(&noise(3, 5 * BLOCK));
        let version = host.backup(&device, "a").manifest;
        assert_eq!(host.restore(&version).0, all_bytes(&device));
    }
}

/// Found by the simulation. A small change is stored as a patch of its base's page. When a host whose clock is behind had
/// made it, its version was marked before its base; the base's page then counted as marked, and the blocks that the patch
/// replaces were deleted, though the base was there.
#[test]
fn a_version_whose_patch_sorts_before_it_keeps_the_blocks_that_the_patch_replaces() {
    let environment = seeded(12);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment);
    let clock = SimulatedClock::default();
    clock.set_now(backy_testkit::clock::START.plus(Duration::from_secs(3600)));
    let ahead = Host::new(store.clone(), environment_with_clock(13, Arc::new(clock)));
    // A page of many extents: one that is not worth writing anew for two blocks.
    let mut bytes = noise(1, 300 * BLOCK);
    bytes.chunks_mut(BLOCK).step_by(2).for_each(|block| block.fill(0));
    let base_device = MemoryDevice::with_bytes(&bytes);
    let base = ahead.backup(&base_device, "a").manifest;
    let device = changed(&base_device, 2, 100..102);
    let version = host.backup(&device, "a").manifest;
    assert!(version.uid < base.uid);
    clean(&host);
    clean(&host);
    assert_eq!(host.restore(&base).0, all_bytes(&base_device));
    assert_eq!(host.restore(&version).0, all_bytes(&device));
}

/// A version whose job had lost its lease shares its map with a good one. A part of the map is damaged, so the void one is
/// taken as far as it goes. What was seen on that way must not count as seen for the good one: below it nothing was marked.
#[test]
fn what_a_void_version_shares_with_a_good_one_is_looked_at_again() {
    let environment = seeded(12);
    let inner = Arc::new(new_store(&environment));
    let store = FaultyStore::new(inner.clone());
    let host = living(Host::new(Arc::new(store.clone()), environment));
    let page_bytes = (BLOCK * 16_384) as u64;
    let device = MemoryDevice::new(3 * page_bytes);
    for page in 0..3 {
        device.write_at(page * page_bytes, &noise(page, 20 * BLOCK)).unwrap();
    }
    let void = host.backup(&device, "a").manifest;
    let good = host.backup(&device, "a").manifest;
    assert_eq!(void.map, good.map);
    host.repository.revoke_lease(void.lease, "test").unwrap();
    inner.delete(&names::checked(void.uid)).unwrap();
    let mut pages = Vec::new();
    visit_map_slots(&host.repository, good.map, &mut |address, kind| {
        pages.extend((kind == SlotKind::MapPage).then_some(address));
        Ok(true)
    })
    .unwrap();
    support::damage_slot(&store, &host.repository, pages[1]);
    let before = pack_bytes(&inner);
    assert_eq!(try_clean(&host, &everything()).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(pack_bytes(&inner), before);
}

#[test]
fn a_success_that_was_reported_is_not_taken_back_by_a_revocation() {
    let environment = seeded(13);
    let store = Arc::new(new_store(&environment));
    let host = living(Host::new(store.clone(), environment));
    let version = host.backup(&MemoryDevice::with_bytes(&noise(1, 30 * BLOCK)), "a").manifest;
    host.repository.revoke_lease(version.lease, "too late").unwrap();
    assert_eq!(support::state_of(&host.repository, &version), VersionState::Valid);
    // Without its mark it is void, until a cleanup has looked at it.
    store.delete(&names::checked(version.uid)).unwrap();
    assert_eq!(support::state_of(&host.repository, &version), VersionState::Invalid);
    assert_eq!(clean(&host).passed_rechecks, [version.uid].into());
    assert_eq!(support::state_of(&host.repository, &version), VersionState::Valid);
}

/// Found by the simulation. A job that does not know yet that its lease was revoked renews it; if it dies then, the object of
/// the lease stayed for ever.
#[test]
fn a_revoked_lease_that_was_renewed_once_more_leaves_nothing_but_its_revocation() {
    let environment = seeded(14);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment);
    let lease = host.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    let object = store.get(&names::lease(lease.id()), 1000).unwrap();
    host.repository.revoke_lease(lease.id(), "a test").unwrap();
    let id = lease.id();
    drop(lease);
    store.put(&names::lease(id), &object).unwrap();
    clean(&host);
    assert_eq!(objects(&store, names::LEASES), [names::revocation(id)]);
}

/// A cleanup puts records of the log together and deletes them. A host that has read them, and not yet the one that replaces
/// them, took that for a store that was put back to an older state, and threw its catalog away.
#[test]
fn a_host_keeps_its_catalog_when_another_has_put_the_log_together() {
    let environment = seeded(15);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment.clone());
    let other = Host::new(store.clone(), environment.clone());
    let mut last = 0;
    for number in 0..80 {
        let version = other.backup(&MemoryDevice::with_bytes(&noise(number, BLOCK)), "a").manifest;
        remove(&other, &version);
        clean(&other);
        let count = objects(&store, names::GC).len();
        if count < last {
            break;
        }
        last = count;
        drop(host.repository.begin_job(JobKind::Restore, Vec::new()).unwrap());
    }
    assert!(objects(&store, names::GC).len() < last, "nothing was put together");
    host.repository.catalog().set_fact("kept", "yes").unwrap();
    let Host { repository, state } = host;
    drop(repository);
    let host = Host::reopen(store, environment, state);
    assert_eq!(host.repository.catalog().fact("kept").unwrap().as_deref(), Some("yes"));
}
