//! Check finds what is damaged or missing, says what that means, goes on to the end, and finds nothing where nothing is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::ids::VersionUid;
use backy_core::names::{self, ObjectName, PackName};
use backy_core::records::label::LabelChange;
use backy_core::records::lease::JobKind;
use backy_core::records::manifest::Manifest;
use backy_engine::check::{self, CheckReport, CheckRequest, Weight};
use backy_engine::cleanup::{self, CleanupRequest};
use backy_engine::label;
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::leases;
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::FaultyStore;
use support::{Host, all_bytes, new_store, noise, objects, pack_object, seeded, slot_of, spec};

const BLOCK: usize = 4096;

fn check(host: &mut Host) -> CheckReport {
    run(host, false)
}

fn run(host: &mut Host, repairs: bool) -> CheckReport {
    check::run(&mut host.repository, &CheckRequest { repairs }, &Progress::default(), &Cancel::default()).unwrap()
}

fn remove(host: &Host, version: &Manifest) {
    let request = RemoveRequest { version: spec(version), young: Duration::ZERO, is_forced: true };
    remove::run(&host.repository, &request).unwrap();
}

fn clean(host: &Host) {
    let request = CleanupRequest { is_dry_run: false, compact_below_percent: 100.0, time_max: None };
    cleanup::run(&host.repository, &request, &Progress::default(), &Cancel::default()).unwrap();
}

fn living(host: Host) -> Host {
    Host { repository: host.repository.on_host(leases::Host::default()), state: host.state }
}

/// The objects and versions of all findings of damage.
fn damaged(report: &CheckReport) -> Vec<(String, Option<VersionUid>)> {
    let damage = report.findings.iter().filter(|finding| finding.weight == Weight::Damage);
    damage.map(|finding| (finding.object.clone(), finding.version)).collect()
}

/// A repository with two versions that share most of their blocks, and one of another volume.
struct Case {
    store: FaultyStore,
    host: Host,
    first: Manifest,
    second: Manifest,
    other: Manifest,
}

impl Case {
    fn new(seed: u64) -> Case {
        let environment = seeded(seed);
        let store = FaultyStore::new(Arc::new(new_store(&environment)));
        let host = Host::new(Arc::new(store.clone()), environment);
        let first_device = MemoryDevice::with_bytes(&noise(seed, 200 * BLOCK));
        let first = host.backup(&first_device, "a").manifest;
        let mut bytes = all_bytes(&first_device);
        bytes[50 * BLOCK..60 * BLOCK].copy_from_slice(&noise(seed + 1, 10 * BLOCK));
        let second = host.backup(&MemoryDevice::with_bytes(&bytes), "a").manifest;
        let other = host.backup(&MemoryDevice::with_bytes(&noise(seed + 2, 40 * BLOCK)), "b").manifest;
        Case { store, host, first, second, other }
    }

    fn flip(&self, name: &ObjectName, position: usize) {
        self.store.flip_bit(name, position).unwrap();
    }
}

#[test]
fn a_good_repository_is_clean() {
    let mut case = Case::new(1);
    let report = check(&mut case.host);
    assert_eq!(report.findings, []);
    assert_eq!((report.version_count, report.incomplete_count, report.removed_count), (3, 0, 0));
    assert_eq!((report.orphans, report.unused, report.several_generations), Default::default());
    assert_eq!(report.needed_slots, 200 + 10 + 40 + 3);
    assert_eq!(
        report.pack_bytes,
        list_all(&case.store, names::PACKS).unwrap().iter().map(|o| o.size_bytes).sum::<u64>()
    );
    assert_eq!(objects(&case.store, names::LEASES), []);
}

#[test]
fn every_flipped_object_is_found_and_no_other_is_named() {
    let mut case = Case::new(2);
    label::run(&case.host.repository, &spec(&case.first), &LabelChange { protected: Some(true), ..Default::default() })
        .unwrap();
    remove(&case.host, &case.other);
    clean(&case.host);
    let names = objects(&case.store, "").into_iter().filter(|name| {
        // What the repository could not be opened with is tried elsewhere.
        !name.as_str().starts_with(names::KEYRING) && *name != names::repository()
    });
    for name in names.collect::<Vec<_>>() {
        let whole = case.store.get(&name, u64::MAX).unwrap();
        // In the locators of a pack; anywhere in others.
        let position = if name.as_str().starts_with(names::PACKS) { whole.len() - 90 } else { whole.len() / 2 };
        case.flip(&name, position);
        let report = check(&mut case.host);
        assert!(report.is_damaged(), "{name}");
        let found = damaged(&report);
        assert_eq!(found[0].0, name.as_str(), "{found:?}");
        assert!(found.len() == 1 || name.as_str().starts_with(names::PACKS), "{found:?}");
        case.store.put(&name, &whole).unwrap();
        assert_eq!(damaged(&check(&mut case.host)), []);
    }
}

#[test]
fn a_flipped_header_or_format_version_is_found() {
    let mut case = Case::new(3);
    let name = pack_object(&case.store, slot_of(&case.host.repository, &case.first, 0).unwrap().pack);
    let whole = case.store.get(&name, u64::MAX).unwrap();
    for position in [8, 20, whole.len() - 44] {
        case.flip(&name, position);
        let report = check(&mut case.host);
        assert_eq!(damaged(&report), [(name.to_string(), None)], "{position}");
        case.store.put(&name, &whole).unwrap();
    }
}

#[test]
fn a_pack_that_is_gone_is_missed_by_the_versions_that_need_it_and_by_no_other() {
    let mut case = Case::new(4);
    let pack = slot_of(&case.host.repository, &case.second, 55).unwrap().pack;
    let old = slot_of(&case.host.repository, &case.first, 55).unwrap().pack;
    assert_ne!(pack, old);
    // The map of the second version lies in the same pack, so one block pack is taken away that both share.
    let name = pack_object(&case.store, old);
    let whole = case.store.get(&name, u64::MAX).unwrap();
    case.store.delete(&name).unwrap();
    let report = check(&mut case.host);
    let versions: std::collections::BTreeSet<_> = damaged(&report).into_iter().filter_map(|(_, uid)| uid).collect();
    assert_eq!(versions, [case.first.uid, case.second.uid].into(), "{:#?}", report.findings);
    let of = |uid| report.findings.iter().find(|finding| finding.version == Some(uid)).unwrap();
    let lost = |uid| of(uid).extents.iter().map(|range| range.length_bytes).sum::<u64>();
    assert_eq!(lost(case.first.uid), 200 * BLOCK as u64);
    assert_eq!(lost(case.second.uid), 190 * BLOCK as u64);
    case.store.put(&name, &whole).unwrap();
    assert_eq!(check(&mut case.host).findings, []);
}

#[test]
fn a_damaged_map_is_a_finding_of_each_version_that_has_it() {
    let mut case = Case::new(5);
    let root = case.first.map.root.unwrap();
    support::damage_slot(&case.store, &case.host.repository, root);
    let report = check(&mut case.host);
    assert_eq!(damaged(&report), [(names::manifest(case.first.uid).to_string(), Some(case.first.uid))]);
    assert_eq!(report.findings[0].extents.len(), 1);
    assert_eq!(report.findings[0].extents[0].length_bytes, 200 * BLOCK as u64);
}

#[test]
fn a_catalog_with_a_copy_does_not_hide_a_damaged_manifest() {
    let mut case = Case::new(6);
    // The listing fills the catalog.
    assert_eq!(case.host.repository.versions().unwrap().versions.len(), 3);
    case.flip(&names::manifest(case.first.uid), 100);
    let report = check(&mut case.host);
    assert_eq!(damaged(&report), [(names::manifest(case.first.uid).to_string(), Some(case.first.uid))]);
    assert!(report.findings[0].remedy.as_ref().unwrap().contains("backy2 rm -f"));
}

#[test]
fn orphans_are_counted_and_are_no_damage() {
    let mut case = Case::new(7);
    remove(&case.host, &case.other);
    let report = check(&mut case.host);
    assert!(!report.is_damaged());
    assert_eq!((report.removed_count, report.orphans.packs), (1, 1));
    assert_eq!(report.orphans.slots, 41);
    clean(&case.host);
    let report = check(&mut case.host);
    assert_eq!((report.findings.len(), report.removed_count, report.orphans.packs), (0, 0, 0));
}

#[test]
fn what_a_job_at_work_has_stored_is_no_orphan() {
    let case = Case::new(8);
    let environment = seeded(80);
    let mut other = living(Host::new(Arc::new(case.store.clone()), environment));
    let lease = case.host.repository.begin_job(JobKind::Backup, Vec::new()).unwrap();
    let pack = pack_object(&case.store, slot_of(&case.host.repository, &case.other, 0).unwrap().pack);
    let name = PackName { lease: lease.id(), ..PackName::parse(&pack).unwrap() }.object_name();
    remove(&case.host, &case.other);
    let whole = case.store.get(&pack, u64::MAX).unwrap();
    case.store.delete(&pack).unwrap();
    // It does not open under this name, but that is not what this is about.
    case.store.put(&name, &whole).unwrap();
    assert_eq!(check(&mut other).orphans.packs, 0);
    drop(lease);
    assert_eq!(check(&mut other).orphans.packs, 1);
}

#[test]
fn a_version_of_which_only_a_label_is_left_was_lost() {
    let mut case = Case::new(9);
    let change = LabelChange { protected: Some(true), ..Default::default() };
    label::run(&case.host.repository, &spec(&case.other), &change).unwrap();
    case.store.delete(&names::manifest(case.other.uid)).unwrap();
    let labels = objects(&case.store, names::LABELS);
    let report = run(&mut case.host, true);
    assert_eq!(damaged(&report), [(labels[0].to_string(), Some(case.other.uid))]);
    // It may be all that is left: when the manifest comes back from a copy, it is still protected.
    assert_eq!(objects(&case.store, names::LABELS), labels);
    // A job that is about to write the manifest says so.
    let lease = case.host.repository.begin_job(JobKind::Backup, vec![case.other.uid]).unwrap();
    assert_eq!(damaged(&check(&mut case.host)), []);
    drop(lease);
}

#[test]
fn repair_drops_labels_of_condemned_versions_alone() {
    let mut case = Case::new(10);
    let change = LabelChange { protected: Some(true), ..Default::default() };
    for version in [&case.first, &case.other] {
        label::run(&case.host.repository, &spec(version), &change).unwrap();
    }
    let labels = list_all(&case.store, &names::label_prefix(case.other.uid)).unwrap();
    let late = case.store.get(&labels[0].name, u64::MAX).unwrap();
    let unprotect = LabelChange { protected: Some(false), ..Default::default() };
    label::run(&case.host.repository, &spec(&case.other), &unprotect).unwrap();
    remove(&case.host, &case.other);
    clean(&case.host);
    // Somebody protected it while it was deleted.
    case.store.put(&labels[0].name, &late).unwrap();
    let report = check(&mut case.host);
    assert_eq!((report.findings.len(), report.orphan_labels), (0, 1));
    let report = run(&mut case.host, true);
    assert_eq!(report.repaired.len(), 2, "{:?}", report.repaired);
    let left = objects(&case.store, names::LABELS);
    assert!(left.len() == 1 && left[0].as_str().contains(&case.first.uid.to_string()));
    assert_eq!(check(&mut case.host).orphan_labels, 0);
}

#[test]
fn a_catalog_that_is_made_anew_still_knows_what_was_condemned() {
    let mut case = Case::new(11);
    let device = MemoryDevice::with_bytes(&noise(13, 40 * BLOCK));
    remove(&case.host, &case.other);
    // A job at work keeps the slots there, condemned.
    let environment = seeded(110);
    let reader = living(Host::new(Arc::new(case.store.clone()), environment));
    let host = living(case.host);
    let lease = reader.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    clean(&host);
    case.host = host;
    assert_eq!(run(&mut case.host, true).findings, []);
    let again = case.host.backup(&device, "c").manifest;
    assert_eq!(again.statistics.new_bytes, 40 * BLOCK as u64);
    drop(lease);
    clean(&case.host);
    assert_eq!(case.host.restore(&again).0, all_bytes(&device));
}
