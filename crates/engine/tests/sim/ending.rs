//! The end of a run: all leases given up, all late puts landed, damage found and healed, three lone cleanups. What must be
//! there then, and what must be gone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use backy_core::ErrorKind;
use backy_core::cancel::Cancel;
use backy_core::ids::SlotNumber;
use backy_core::ids::VersionUid;
use backy_core::map::{Place, visit_map_places};
use backy_core::names::{self, PackName};
use backy_core::pack::{SuffixRead, read_directory};
use backy_core::records::manifest::Manifest;
use backy_core::slots::{SlotSet, SlotSets};
use backy_device::Source;
use backy_engine::Repository;
use backy_engine::check::{self, CheckReport, CheckRequest, Weight};
use backy_engine::cleanup::{self, CleanupRequest};
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::versions::{VersionEntry, VersionState};
use backy_engine::restore;
use backy_engine::scrub::{self, ScrubReport, ScrubRequest, ScrubScope};
use backy_store::object_store::list_all;
use backy_testkit::device::MemoryDevice;

use crate::damage::{Health, Truth};
use crate::jobs::{Shared, by_uid, protect, refuse_wrong};
use crate::late::LatePuts;
use crate::process::Process;
use crate::support::{Host, all_bytes, objects, restore_request};

/// Checks the end; returns how many versions were restored and compared.
pub fn check(shared: &Shared, processes: &mut [Process], late: &mut LatePuts) -> u64 {
    let host = shared.observer();
    let mut checked = check_versions(&host.repository, shared);
    give_up_all(&host.repository);
    clean(&host.repository, shared, true);
    late.land_half();
    checked += check_versions(&shared.observer().repository, shared);
    remove_unowed(&host.repository, shared);
    clean(&host.repository, shared, true);
    late.land_all();
    give_up_all(&host.repository);
    // Void versions that came late are rechecked, before it is said how good they are.
    clean(&host.repository, shared, true);
    if !shared.damages.lock().unwrap().is_empty() {
        find_and_heal(shared);
    }
    remove_unowed(&host.repository, shared);
    // What is damaged still is in no version, and lies in packs of which others need a part, or under a change of a map.
    if !shared.damages.lock().unwrap().is_empty() {
        shared.damages.lock().unwrap().undo(shared.store.as_ref());
        scrub(&host.repository, None);
    }
    for _ in 0..3 {
        clean(&host.repository, shared, false);
    }
    // Also where the catalog is what the last job has left, or an old copy of that.
    for process in processes {
        match process.open() {
            Ok(repository) => checked += check_versions(repository, shared),
            Err(error) => panic!("a host cannot open the repository any more: {error}"),
        }
    }
    let host = shared.observer();
    checked += check_versions(&host.repository, shared);
    check_protected(&host.repository, shared);
    check_nothing_dead(&host.repository, shared);
    check_whole(host);
    checked
}

fn give_up_all(repository: &Repository) {
    for lease in repository.held_leases().unwrap() {
        repository.revoke_lease(lease.id, "all leases are given up").unwrap();
    }
}

/// What looks at all of a repository finds nothing.
fn check_whole(mut host: Host) {
    let report = look_at_all(&mut host);
    assert!(!report.is_damaged(), "{report:?}");
    assert_eq!((report.orphans.packs, report.unused.packs, report.several_generations), (0, 0, 0), "{report:?}");
    let report = scrub(&host.repository, None);
    assert!(report.is_clean(), "{report:?}");
}

fn look_at_all(host: &mut Host) -> CheckReport {
    let request = CheckRequest { repairs: false };
    check::run(&mut host.repository, &request, &Progress::default(), &Cancel::default()).unwrap()
}

/// Scrubs all versions, or one with what it was made from.
fn scrub(repository: &Repository, one: Option<(&Manifest, &dyn Source)>) -> ScrubReport {
    let versions = match one {
        Some((version, _)) => vec![version.clone()],
        None => scrub::find_versions(repository, &ScrubScope::All).unwrap().versions,
    };
    let request = ScrubRequest { versions, sample: None, source: one.map(|(_, source)| source) };
    scrub::run(repository, &request, &Progress::default(), &Cancel::default()).unwrap()
}

/// Where a map is damaged a cleanup deletes nothing and says so: `may_stop`.
fn clean(repository: &Repository, shared: &Shared, may_stop: bool) {
    let request = CleanupRequest { is_dry_run: false, compact_below_percent: 100.0, time_max: None };
    let may_stop = may_stop && !shared.damages.lock().unwrap().is_empty();
    match cleanup::run(repository, &request, &Progress::default(), &Cancel::default()) {
        Err(error) if may_stop && error.kind() == ErrorKind::Damaged => {}
        report => {
            let report = report.unwrap();
            assert!(report.skipped_packs.is_empty() || may_stop, "{report:?}");
            assert_eq!(report.undeletable, 0);
        }
    }
}

/// A scrub finds all damage and no other; a check says so; what the source still has is healed. Then what cannot be healed
/// is removed, by whoever wants a cleanup again.
fn find_and_heal(shared: &Shared) {
    let host = shared.observer();
    scrub(&host.repository, None);
    check_states(shared, "after a scrub");
    let listing = host.repository.versions().unwrap();
    for entry in listing.versions.iter().filter(|entry| entry.checkpoint.is_none() && !entry.is_void) {
        let host = shared.observer();
        let version = &entry.manifest;
        let health = Truth::look(&host.repository, shared.store.as_ref()).of(&host.repository, version);
        let content = shared.model.lock().unwrap().content_of(version);
        let report = scrub(&host.repository, Some((version, &content)));
        let host = shared.observer();
        let healed = Truth::look(&host.repository, shared.store.as_ref()).of(&host.repository, version);
        // Others may have damage in the same packs.
        let is_affected = report.affected.iter().any(|affected| affected.manifest.uid == version.uid);
        let is_as_told = match health {
            Health::Whole | Health::Healable => healed == Health::Whole && !is_affected,
            Health::Broken => healed == Health::Broken && is_affected,
        };
        assert!(is_as_told && report.different.is_empty(), "{}: {health:?}, then {healed:?}: {report:?}", version.uid);
    }
    check_states(shared, "after healing");
    let host = shared.observer();
    for entry in host.repository.versions().unwrap().versions {
        if entry.state != VersionState::Valid {
            remove(&host.repository, shared, &entry);
        }
    }
}

/// What is listed as valid is what is whole; a check names the others, and nothing that is good.
fn check_states(shared: &Shared, when: &str) {
    let mut host = shared.observer();
    let truth = Truth::look(&host.repository, shared.store.as_ref());
    let report = look_at_all(&mut host);
    let damaged = || report.findings.iter().filter(|finding| finding.weight == Weight::Damage);
    let damage = host.repository.damage().unwrap();
    let listing = host.repository.versions().unwrap();
    for entry in listing.versions.iter().filter(|entry| entry.checkpoint.is_none() && !entry.is_void) {
        let uid = entry.manifest.uid;
        let health = truth.of(&host.repository, &entry.manifest);
        let is_whole = health == Health::Whole && entry.manifest.missing_blocks.0 == 0;
        let is_valid = entry.state == VersionState::Valid;
        assert!(
            is_whole == is_valid,
            "{when} version {uid} is {health:?}, and listed as {:?}: {damage:?}",
            entry.state
        );
        let text = uid.to_string();
        let is_named = damaged().any(|finding| finding.version == Some(uid) || finding.problem.contains(&text));
        assert!(is_named == (health != Health::Whole), "{when} version {uid} is {health:?}: {report:?}");
    }
    for finding in damaged().filter(|finding| finding.object.starts_with(names::PACKS)) {
        let is_bad = truth.bad_objects.iter().any(|name| name.as_str() == finding.object);
        let is_lost = objects(shared.store.as_ref(), &finding.object).is_empty();
        assert!(is_bad || is_lost, "{when}: {finding:?}");
    }
}

/// Restores every version: what was said to be published and not removed, and what is listed as valid, is as it was, but
/// for what is damaged; and that is said.
fn check_versions(repository: &Repository, shared: &Shared) -> u64 {
    let listing = repository.versions().unwrap();
    assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
    let listed: BTreeSet<VersionUid> = listing.versions.iter().map(|entry| entry.manifest.uid).collect();
    let observer = shared.observer();
    let is_damaged = !shared.damages.lock().unwrap().is_empty();
    let truth = is_damaged.then(|| Truth::look(repository, shared.store.as_ref()));
    let model = shared.model.lock().unwrap();
    for uid in model.published.difference(&model.removed) {
        assert!(listed.contains(uid), "version {uid} was published, not removed, and is gone");
    }
    let back = model.gone.intersection(&listed).next();
    assert!(back.is_none(), "version {back:?} was removed, and is listed again");
    let mut checked = 0;
    for entry in listing.versions.iter().filter(|entry| entry.checkpoint.is_none()) {
        let manifest = &entry.manifest;
        let uid = manifest.uid;
        let is_owed = model.published.contains(&uid) || entry.state == VersionState::Valid;
        let is_whole = truth.as_ref().is_none_or(|truth| truth.of(&observer.repository, manifest) == Health::Whole);
        let target = MemoryDevice::new(manifest.size_bytes);
        let request = restore_request(manifest, &target);
        let report = restore::run(repository, &request, &Progress::default(), &Cancel::default()).unwrap();
        let lost = &report.lost;
        assert!(!is_owed || !is_whole || lost.is_empty(), "{manifest:?} has lost blocks: {lost:?}");
        assert!(is_whole || !lost.is_empty(), "{manifest:?} is damaged, and nothing was said");
        refuse_wrong(manifest, &report, all_bytes(&target), &model.content_of(manifest).bytes);
        let tags = model.tags.get(&uid).into_iter().flatten();
        tags.for_each(|tag| assert!(entry.label.tags.contains(tag), "version {uid} has lost its tag {tag}"));
        let is_protected = entry.label.is_protected || !model.protected.contains(&uid);
        assert!(is_protected, "version {uid} is not protected any more");
        checked += 1;
    }
    checked
}

/// Nobody removes what is protected.
fn check_protected(repository: &Repository, shared: &Shared) {
    let protected = shared.model.lock().unwrap().protected.clone();
    for uid in protected {
        let request = RemoveRequest { version: by_uid(uid), young: Duration::ZERO, is_forced: true };
        let error = remove::run(repository, &request).expect_err("it is protected");
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
}

/// Removes what nobody was promised: incomplete versions, and void ones that have not passed.
fn remove_unowed(repository: &Repository, shared: &Shared) {
    for entry in repository.versions().unwrap().versions {
        let is_owed = shared.model.lock().unwrap().published.contains(&entry.manifest.uid);
        if entry.state != VersionState::Valid && !is_owed {
            remove(repository, shared, &entry);
        }
    }
}

fn remove(repository: &Repository, shared: &Shared, entry: &VersionEntry) {
    let uid = entry.manifest.uid;
    if entry.label.is_protected {
        protect(repository, shared, uid, false).unwrap();
    }
    shared.model.lock().unwrap().removed.insert(uid);
    let request = RemoveRequest { version: by_uid(uid), young: Duration::ZERO, is_forced: true };
    remove::run(repository, &request).unwrap();
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
    assert_eq!(objects(store, names::DAMAGE), [], "nothing is damaged any more: {:#?}", repository.damage().unwrap());
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
