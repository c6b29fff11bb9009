//! The end of a run: all leases given up, three lone cleanups. What must be there then, and what must be gone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::ids::SlotNumber;
use backy_core::ids::VersionUid;
use backy_core::map::{Place, visit_map_places};
use backy_core::names::{self, PackName};
use backy_core::pack::{SuffixRead, read_directory};
use backy_core::records::manifest::Manifest;
use backy_core::slots::{SlotSet, SlotSets};
use backy_engine::Repository;
use backy_engine::check::{self, CheckRequest};
use backy_engine::cleanup::{self, CleanupRequest};
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::versions::VersionState;
use backy_engine::restore;
use backy_engine::scrub::{self, ScrubRequest, ScrubScope};
use backy_store::object_store::list_all;
use backy_testkit::device::MemoryDevice;

use crate::jobs::{Shared, by_uid};
use crate::process::Process;
use crate::support::{Host, all_bytes, objects, restore_request};

/// Checks the end; returns how many versions were restored and compared.
pub fn check(shared: &Shared, processes: &mut [Process]) -> u64 {
    let observer = || Host::new(shared.store.clone(), shared.environment.clone());
    let host = observer();
    let mut checked = check_versions(&host.repository, shared);
    for lease in host.repository.held_leases().unwrap() {
        host.repository.revoke_lease(lease.id, "all leases are given up").unwrap();
    }
    clean(&host.repository);
    checked += check_versions(&observer().repository, shared);
    remove_unowed(&host.repository, shared);
    for _ in 0..3 {
        clean(&host.repository);
    }
    // Also where the catalog is what the last job has left, or an old copy of that.
    for process in processes {
        match process.open() {
            Ok(repository) => checked += check_versions(repository, shared),
            Err(error) => panic!("a host cannot open the repository any more: {error}"),
        }
    }
    let host = observer();
    checked += check_versions(&host.repository, shared);
    check_nothing_dead(&host.repository, shared);
    check_whole(host);
    checked
}

/// What looks at all of a repository finds nothing.
fn check_whole(mut host: Host) {
    let repository = &mut host.repository;
    let (progress, cancel) = (Progress::default(), Cancel::default());
    let report = check::run(repository, &CheckRequest { repairs: false }, &progress, &cancel).unwrap();
    assert!(!report.is_damaged(), "{report:?}");
    assert_eq!((report.orphans.packs, report.unused.packs, report.several_generations), (0, 0, 0), "{report:?}");
    let versions = scrub::find_versions(repository, &ScrubScope::All).unwrap().versions;
    let request = ScrubRequest { versions, sample: None, source: None };
    let report = scrub::run(repository, &request, &progress, &cancel).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

fn clean(repository: &Repository) {
    let request = CleanupRequest { is_dry_run: false, compact_below_percent: 100.0, time_max: None };
    let report = cleanup::run(repository, &request, &Progress::default(), &Cancel::default()).unwrap();
    assert!(report.skipped_packs.is_empty(), "{report:?}");
    assert_eq!(report.undeletable, 0);
}

/// Restores every version: what was said to be published and not removed, and what is listed as valid, is as it was.
fn check_versions(repository: &Repository, shared: &Shared) -> u64 {
    let listing = repository.versions().unwrap();
    assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
    let listed: BTreeSet<VersionUid> = listing.versions.iter().map(|entry| entry.manifest.uid).collect();
    let model = shared.model.lock().unwrap();
    for uid in model.published.difference(&model.removed) {
        assert!(listed.contains(uid), "version {uid} was published, not removed, and is gone");
    }
    let mut checked = 0;
    for entry in listing.versions.iter().filter(|entry| entry.checkpoint.is_none()) {
        let uid = entry.manifest.uid;
        let is_owed = model.published.contains(&uid) || entry.state == VersionState::Valid;
        let target = MemoryDevice::new(entry.manifest.size_bytes);
        let request = restore_request(&entry.manifest, &target);
        let report = restore::run(repository, &request, &Progress::default(), &Cancel::default()).unwrap();
        let manifest = &entry.manifest;
        assert!(!is_owed || report.lost.is_empty(), "{manifest:?} has lost blocks: {:?}", report.lost);
        if report.lost.is_empty() {
            assert!(all_bytes(&target) == *model.content_of(&entry.manifest).bytes, "version {uid} is wrong");
        }
        let tags = model.tags.get(&uid).into_iter().flatten();
        tags.for_each(|tag| assert!(entry.label.tags.contains(tag), "version {uid} has lost its tag {tag}"));
        checked += 1;
    }
    checked
}

/// Removes what nobody was promised: incomplete versions, and void ones that have not passed.
fn remove_unowed(repository: &Repository, shared: &Shared) {
    for entry in repository.versions().unwrap().versions {
        let uid = entry.manifest.uid;
        let mut model = shared.model.lock().unwrap();
        if entry.state != VersionState::Valid && !model.published.contains(&uid) {
            model.removed.insert(uid);
            let request = RemoveRequest { version: by_uid(uid), young: Duration::ZERO, is_forced: true };
            remove::run(repository, &request).unwrap();
        }
    }
}

/// Every object is needed: one generation of each pack with nothing but needed slots, and nothing of removed versions.
fn check_nothing_dead(repository: &Repository, shared: &Shared) {
    let store = shared.store.as_ref();
    let listing = repository.versions().unwrap();
    let mut needed = SlotSets::default();
    let mut uids = BTreeSet::new();
    for entry in &listing.versions {
        assert!(entry.checkpoint.is_none());
        uids.insert(entry.manifest.uid);
        collect(repository, &entry.manifest, &mut needed);
    }
    let mut packs = BTreeSet::new();
    for name in objects(store, names::PACKS) {
        let pack = PackName::parse(&name).unwrap();
        assert!(packs.insert(pack.id), "{name} is one of several generations");
        let object = store.get(&name, u64::MAX).unwrap();
        let SuffixRead::Directory(directory) = read_directory(repository.keys(), pack, None, &object).unwrap() else {
            panic!("{name} has no directory");
        };
        for (slot, _) in directory.slots() {
            let is_needed = needed.get(pack.id).is_some_and(|slots| slots.contains(slot));
            assert!(is_needed, "slot {slot} of {name} is dead");
        }
        assert!(directory.slots().next().is_some(), "{name} is empty");
    }
    for name in objects(store, names::VERSIONS) {
        let (uid, kind) = names::parse_version_object(&name).unwrap();
        assert!(uids.contains(&uid), "{name} is dead");
        assert!(kind != names::VersionObject::Removed, "{name} is of a version that is listed");
    }
    for name in objects(store, names::LABELS) {
        let (uid, _, _) = names::parse_label(&name).unwrap();
        assert!(uids.contains(&uid), "{name} is dead");
    }
    assert_eq!(objects(store, names::DAMAGE), [], "nothing was ever damaged");
    let leases = list_all(store, names::LEASES).unwrap();
    let held = leases.iter().filter(|lease| !names::parse_lease(&lease.name).unwrap().1);
    assert_eq!(held.count(), 0);
}

fn collect(repository: &Repository, version: &Manifest, needed: &mut SlotSets) {
    let slots = RefCell::new(needed);
    visit_map_places(
        repository,
        version.map,
        &mut |address, _| {
            slots.borrow_mut().add_slot(address);
            Ok(true)
        },
        &mut |extent| {
            if let Place::Stored { pack, first_slot } = extent.place {
                let last = SlotNumber(first_slot.0 + (extent.blocks.count.0 - 1) as u16);
                slots.borrow_mut().add(pack, &SlotSet::run(first_slot, last));
            }
            Ok(())
        },
    )
    .unwrap();
}
