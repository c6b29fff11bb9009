//! Scrub: all damage is found and named, nothing else is called damage, and what is seen again is healed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::environment::Environment;
use backy_core::ids::{PackId, SlotAddress};
use backy_core::map::visit_map_slots;
use backy_core::names::{self, PackName};
use backy_core::pack::{SlotKind, SuffixRead, read_directory};
use backy_core::records::manifest::Manifest;
use backy_core::{ErrorKind, Result};
use backy_device::{Source, Target};
use backy_engine::backup::BackupRequest;
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::versions::VersionState;
use backy_engine::scrub::{self, SampleOrder, ScrubReport, ScrubRequest, ScrubSample, ScrubScope};
use backy_engine::settings::Settings;
use backy_store::ObjectStore;
use backy_testkit::device::{DeviceFaults, MemoryDevice};
use backy_testkit::store::{CrashMoment, Fault, FaultyStore, Operation, Rule, is_crash};
use support::{
    Host, damage_slot, hinted_request, new_store, noise, objects, pack_object, request, seeded, settings, slot_of,
    spec, state_of,
};

const BLOCK: usize = 4096;

struct World {
    store: FaultyStore,
    environment: Environment,
    host: Host,
}

impl World {
    fn new(seed: u64) -> World {
        let environment = seeded(seed);
        let store = FaultyStore::new(Arc::new(new_store(&environment)));
        let host = small_packs(&store, &environment);
        World { store, environment, host }
    }

    /// A host that has nothing in its memory.
    fn new_host(&self) -> Host {
        small_packs(&self.store, &self.environment)
    }

    fn backup(&self, bytes: &[u8], name: &str) -> Manifest {
        self.host.backup(&MemoryDevice::with_bytes(bytes), name).manifest
    }

    fn damage(&self, version: &Manifest, block: u64) -> SlotAddress {
        let address = slot_of(&self.host.repository, version, block).unwrap();
        damage_slot(&self.store, &self.host.repository, address);
        address
    }

    fn state(&self, version: &Manifest) -> VersionState {
        state_of(&self.host.repository, version)
    }
}

fn small_packs(store: &FaultyStore, environment: &Environment) -> Host {
    let settings = Settings { pack_size_bytes: 256 << 10, ..settings() };
    Host::with_settings(Arc::new(store.clone()), environment.clone(), tempfile::TempDir::new().unwrap(), settings)
}

fn whole(versions: &[&Manifest]) -> ScrubRequest<'static> {
    ScrubRequest { versions: versions.iter().map(|version| (*version).clone()).collect(), sample: None, source: None }
}

fn with_source<'a>(version: &Manifest, source: &'a dyn Source) -> ScrubRequest<'a> {
    ScrubRequest { source: Some(source), ..whole(&[version]) }
}

fn share(versions: &[&Manifest], percent: f64, order: SampleOrder) -> ScrubRequest<'static> {
    ScrubRequest { sample: Some(ScrubSample { percent, order }), ..whole(versions) }
}

fn try_scrub(host: &Host, request: &ScrubRequest<'_>) -> Result<ScrubReport> {
    scrub::run(&host.repository, request, &Progress::default(), &Cancel::default())
}

fn scrub(host: &Host, request: &ScrubRequest<'_>) -> ScrubReport {
    try_scrub(host, request).unwrap()
}

/// Returns the damaged blocks of one version.
fn affected(report: &ScrubReport, version: &Manifest) -> Vec<u64> {
    let of_version = report.affected.iter().filter(|affected| affected.manifest.uid == version.uid);
    of_version.flat_map(|affected| &affected.blocks).flat_map(|range| range.start.0..range.end().0).collect()
}

fn different(report: &ScrubReport) -> Vec<u64> {
    report.different.iter().flat_map(|range| range.start.0..range.end().0).collect()
}

#[test]
fn a_good_repository_is_clean_and_each_pack_is_read_once() {
    let world = World::new(1);
    let mut bytes = noise(1, 300 * BLOCK + 100);
    bytes[20 * BLOCK..40 * BLOCK].fill(0);
    let first = world.backup(&bytes, "vm");
    bytes[..4 * BLOCK].copy_from_slice(&noise(2, 4 * BLOCK));
    let second = world.backup(&bytes, "vm");
    let host = world.new_host();
    world.store.clear_log();
    let report = scrub(&host, &whole(&[&first, &second]));
    assert!(report.is_clean(), "{report:?}");
    let packs = report.packs;
    assert_eq!(packs, report.all_packs);
    assert!(packs > 4 && report.slots >= 285 && report.plain_bytes >= 284 * BLOCK as u64);
    // Directories, maps and the slots: about what is stored, not twice as much.
    let read: u64 =
        world.store.log().iter().filter(|call| call.name.starts_with(names::PACKS)).map(|call| call.bytes).sum();
    assert!(report.read_bytes >= 280 * BLOCK as u64 && report.read_bytes < 320 * BLOCK as u64);
    assert!(read < 2 * report.read_bytes + packs * (60 << 10), "{read}");
    assert!(objects(&world.store, names::DAMAGE).is_empty());
}

#[test]
fn damage_is_named_in_all_versions_that_have_it() {
    let world = World::new(2);
    let mut bytes = noise(1, 200 * BLOCK);
    bytes.copy_within(50 * BLOCK..51 * BLOCK, 60 * BLOCK);
    let first = world.backup(&bytes, "vm");
    bytes[..10 * BLOCK].copy_from_slice(&noise(2, 10 * BLOCK));
    let second = world.backup(&bytes, "vm");
    let other = world.backup(&bytes[100 * BLOCK..], "other");
    let unhurt = world.backup(&noise(3, 20 * BLOCK), "unhurt");
    for block in [5, 50, 110, 150] {
        world.damage(&first, block);
    }
    world.damage(&second, 3);
    for host in [&world.new_host(), &world.host] {
        // Whichever version is asked for, what is found is named in all of them.
        let report = scrub(host, &whole(&[&first]));
        assert!(!report.is_clean());
        assert_eq!(report.damaged_slots, 4);
        assert_eq!(affected(&report, &first), [5, 50, 60, 110, 150]);
        assert_eq!(affected(&report, &second), [50, 60, 110, 150]);
        assert_eq!(affected(&report, &other), [10, 50]);
        assert!(affected(&report, &unhurt).is_empty());
        let all = scrub(host, &whole(&[&first, &second, &other, &unhurt]));
        assert_eq!(all.damaged_slots, 5);
        assert_eq!(affected(&all, &second), [3, 50, 60, 110, 150]);
    }
    for version in [&first, &second, &other] {
        assert_eq!(world.state(version), VersionState::Invalid);
    }
    assert_eq!(world.state(&unhurt), VersionState::Valid);
    // What is known is not noted again.
    let records = objects(&world.store, names::DAMAGE);
    scrub(&world.host, &whole(&[&first, &second]));
    assert_eq!(objects(&world.store, names::DAMAGE), records);
}

#[test]
fn damaged_maps_and_lost_packs_are_found_too() {
    for how in ["page", "node", "lost", "cut", "empty"] {
        let world = World::new(3);
        let bytes = noise(1, 200 * BLOCK);
        let version = world.backup(&bytes, "vm");
        let mut parts = Vec::new();
        visit_map_slots(&world.host.repository, version.map, &mut |address, kind| {
            parts.push((address, kind));
            Ok(true)
        })
        .unwrap();
        let part = |wanted| parts.iter().find(|(_, kind)| *kind == wanted).map(|(address, _)| *address);
        let lost: Vec<u64> = match how {
            "page" | "node" => {
                let kind = if how == "page" { SlotKind::MapPage } else { SlotKind::MapNode };
                // A map of one page has no node.
                let Some(address) = part(kind) else { continue };
                damage_slot(&world.store, &world.host.repository, address);
                (0..200).collect()
            }
            how => {
                let pack = slot_of(&world.host.repository, &version, 0).unwrap().pack;
                assert!(parts.iter().all(|(address, _)| address.pack != pack));
                let name = pack_object(&world.store, pack);
                match how {
                    "lost" => world.store.lose(&name).unwrap(),
                    "cut" => world.store.truncate(&name, 100_000).unwrap(),
                    _ => world.store.truncate(&name, 0).unwrap(),
                }
                let is_there = |block: &u64| slot_of(&world.host.repository, &version, *block).unwrap().pack == pack;
                (0..200).filter(is_there).collect()
            }
        };
        let report = scrub(&world.new_host(), &whole(&[&version]));
        assert_eq!(affected(&report, &version), lost, "{how}");
        assert_eq!(world.state(&version), VersionState::Invalid);
        assert_eq!(affected(&scrub(&world.host, &whole(&[&version])), &version), lost, "{how}");
    }
}

#[test]
fn a_slot_that_another_generation_has_good_is_not_damaged() {
    let world = World::new(4);
    let bytes = noise(1, 20 * BLOCK);
    let version = world.backup(&bytes, "vm");
    let address = slot_of(&world.host.repository, &version, 3).unwrap();
    let name = pack_object(&world.store, address.pack);
    let body = world.store.get(&name, u64::MAX).unwrap();
    // The next generation, which lacks a slot; then the slot of one and the other breaks.
    let drop = BTreeSet::from([slot_of(&world.host.repository, &version, 9).unwrap().slot]);
    let lease = world.host.repository.new_lease_id();
    world.host.repository.rewrite_pack(address.pack, &drop, &Default::default(), lease).unwrap();
    damage_slot(&world.store, &world.host.repository, address);
    world.store.put(&name, &body).unwrap();
    for host in [&world.new_host(), &world.host] {
        let report = scrub(host, &whole(&[&version]));
        assert!(report.is_clean(), "{report:?}");
    }
    assert!(objects(&world.store, names::DAMAGE).is_empty());
}

#[test]
fn a_store_that_does_not_answer_is_not_damage() {
    let world = World::new(5);
    let version = world.backup(&noise(1, 200 * BLOCK), "vm");
    let calls = {
        let host = world.new_host();
        let before = world.store.call_count();
        scrub(&host, &whole(&[&version]));
        world.store.call_count() - before
    };
    assert!(calls > 10);
    let mut failures = 0;
    for number in 0..calls {
        for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::Unavailable)] {
            let host = world.new_host();
            let rule = Rule { operation: None, prefix: String::new(), skip: number, times: 1, fault };
            world.store.add_rule(rule);
            let result = try_scrub(&host, &whole(&[&version]));
            world.store.behave();
            // Threads may end before they come to the call.
            if let Err(error) = result {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                failures += 1;
            }
            assert!(objects(&world.store, names::DAMAGE).is_empty());
            assert_eq!(world.state(&version), VersionState::Valid);
        }
    }
    assert!(failures > calls, "{failures} of {calls}");
}

#[test]
fn damage_found_before_the_store_goes_is_noted() {
    let world = World::new(6);
    let version = world.backup(&noise(1, 200 * BLOCK), "vm");
    // Packs are read in the order of their ids.
    let pack_of = |block: &u64| slot_of(&world.host.repository, &version, *block).unwrap().pack;
    let blocks = || (0..200).step_by(20);
    let (first, last) = (blocks().min_by_key(pack_of).unwrap(), blocks().max_by_key(pack_of).unwrap());
    let last = pack_of(&last);
    assert_ne!(world.damage(&version, first).pack, last);
    let settings = Settings {
        simultaneous_reads: std::num::NonZeroUsize::MIN,
        workers: std::num::NonZeroUsize::MIN,
        ..settings()
    };
    let state = tempfile::TempDir::new().unwrap();
    let host = Host::with_settings(Arc::new(world.store.clone()), world.environment.clone(), state, settings);
    let fault = Fault::Before(ErrorKind::Unavailable);
    let rule = Rule::once(Operation::GetRange, &names::pack_prefix(last), fault);
    // The map may be in that pack, and then it is read before.
    for skip in 0..20 {
        world.store.add_rule(Rule { skip, ..rule.clone() });
        let failed = try_scrub(&host, &whole(&[&version])).is_err();
        world.store.behave();
        if failed && world.state(&version) == VersionState::Invalid {
            return;
        }
    }
    panic!("the damage was never noted");
}

#[test]
fn a_share_finds_what_lies_in_it_and_takes_nothing_back() {
    let world = World::new(7);
    let bytes = noise(1, 400 * BLOCK);
    let version = world.backup(&bytes, "vm");
    let name = pack_object(&world.store, slot_of(&world.host.repository, &version, 77).unwrap().pack);
    let good = world.store.get(&name, u64::MAX).unwrap();
    let packs = scrub(&world.host, &whole(&[&version])).all_packs;
    world.damage(&version, 77);
    let mut found = 0;
    for _ in 0..packs {
        world.environment.clock.sleep(Duration::from_secs(60));
        let report = scrub(&world.host, &share(&[&version], 0.1, SampleOrder::OldestFirst));
        assert_eq!(report.packs, 1);
        found += report.damaged_slots;
    }
    assert_eq!(found, 1, "one round over all packs meets it once");
    assert_eq!(world.state(&version), VersionState::Invalid);
    // Somebody puts the good object back. A share that reads it says nothing; a scrub of everything does.
    world.store.put(&name, &good).unwrap();
    for _ in 0..packs {
        let report = scrub(&world.host, &share(&[&version], 0.1, SampleOrder::OldestFirst));
        assert!(report.is_clean() && report.good_again_slots == 0);
    }
    assert_eq!(world.state(&version), VersionState::Invalid);
    assert_eq!(scrub(&world.host, &share(&[&version], 100.0, SampleOrder::Random)).packs, packs);
    assert_eq!(world.state(&version), VersionState::Invalid);
    let report = scrub(&world.host, &whole(&[&version]));
    assert!(report.is_clean() && report.good_again_slots == 1);
    assert_eq!(world.state(&version), VersionState::Valid);
    assert!(objects(&world.store, names::DAMAGE).is_empty());
}

#[test]
fn fingerprints_that_are_not_those_of_the_content_are_damage() {
    let world = World::new(8);
    let bytes = noise(1, 20 * BLOCK);
    let version = world.backup(&bytes, "vm");
    let address = slot_of(&world.host.repository, &version, 3).unwrap();
    rewrite_with_wrong_fingerprint(&world, address);
    let host = world.new_host();
    let report = scrub(&host, &whole(&[&version]));
    assert_eq!(affected(&report, &version), [3]);
    assert_eq!(world.state(&version), VersionState::Invalid);
}

/// Writes a pack anew whose directory tells another fingerprint for one slot: as if memory had failed at the backup.
fn rewrite_with_wrong_fingerprint(world: &World, address: SlotAddress) {
    let name = pack_object(&world.store, address.pack);
    let body = world.store.get(&name, u64::MAX).unwrap();
    let keys = world.host.repository.keys();
    let pack = PackName::parse(&name).unwrap();
    let Ok(SuffixRead::Directory(directory)) = read_directory(keys, pack, None, &body) else { panic!("no directory") };
    let range = directory.fingerprints_range();
    let section = &body[range.offset_bytes as usize..range.end_bytes() as usize];
    let told = backy_core::pack::read_fingerprints(keys, &directory, section).unwrap();
    let next = PackName { generation: backy_core::ids::Generation(1), ..pack };
    let mut writer = backy_core::pack::PackWriter::rewrite(keys, &directory, next, Vec::new()).unwrap();
    for (slot, locator) in directory.slots() {
        let sealed = &body[locator.offset_bytes as usize..(locator.offset_bytes + locator.stored_length) as usize];
        let mut fingerprint = told.iter().find(|(told, _)| *told == slot).map(|(_, fingerprint)| *fingerprint);
        if let (true, Some(fingerprint)) = (slot == address.slot, &mut fingerprint) {
            fingerprint.0[0] ^= 1;
        }
        writer.append_sealed(&directory, sealed, fingerprint).unwrap();
    }
    let written = writer.finish(&world.environment).unwrap();
    world.store.put(&next.object_name(), &written.bytes).unwrap();
    world.store.lose(&name).unwrap();
}

#[test]
fn a_pack_without_readable_fingerprints_loses_nothing_and_is_told() {
    let world = World::new(9);
    let version = world.backup(&noise(1, 20 * BLOCK), "vm");
    let pack = slot_of(&world.host.repository, &version, 3).unwrap().pack;
    let name = pack_object(&world.store, pack);
    let body = world.store.get(&name, u64::MAX).unwrap();
    let keys = world.host.repository.keys();
    let read = read_directory(keys, PackName::parse(&name).unwrap(), None, &body);
    let Ok(SuffixRead::Directory(directory)) = read else { panic!("no directory") };
    world.store.flip_bit(&name, directory.fingerprints_range().offset_bytes as usize + 30).unwrap();
    let report = scrub(&world.new_host(), &whole(&[&version]));
    assert!(!report.is_clean() && report.affected.is_empty());
    assert_eq!(report.without_fingerprints, [pack]);
    assert_eq!(world.state(&version), VersionState::Valid);
}

#[test]
fn the_source_is_compared_zero_blocks_included() {
    let world = World::new(10);
    let size = (16_384 + 500) * BLOCK + 100;
    let source = MemoryDevice::new(size as u64);
    for start in [0, 100, 16_380, 16_800] {
        source.write_at(start * BLOCK as u64, &noise(start + 1, 30 * BLOCK)).unwrap();
    }
    source.write_at((size - 100) as u64, &[7; 100]).unwrap();
    let version = world.host.backup(&source, "vm").manifest;
    let report = scrub(&world.host, &with_source(&version, &source));
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.compared_bytes, size as u64);
    // Data changes, data becomes zero, zeros become data, in pages that are there and in one that is not.
    source.write_at(5 * BLOCK as u64 + 17, &[1]).unwrap();
    source.write_at(105 * BLOCK as u64, &vec![0; BLOCK]).unwrap();
    source.write_at(50 * BLOCK as u64, &[1]).unwrap();
    source.write_at(16_700 * BLOCK as u64 + 4095, &[1]).unwrap();
    source.write_at((size - 1) as u64, &[1]).unwrap();
    let report = scrub(&world.new_host(), &with_source(&version, &source));
    assert_eq!(different(&report), [5, 50, 105, 16_700, 16_884]);
    assert!(report.affected.is_empty());
    assert_eq!(world.state(&version), VersionState::Valid, "what another source says is not damage");
    let error = try_scrub(&world.host, &with_source(&version, &MemoryDevice::new(size as u64 + 1))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let two = ScrubRequest { source: Some(&source), ..whole(&[&version, &version]) };
    assert_eq!(try_scrub(&world.host, &two).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn blocks_that_the_source_cannot_give_are_told_and_no_others() {
    let world = World::new(11);
    let bytes = noise(1, 300 * BLOCK);
    let version = world.backup(&bytes, "vm");
    let source = MemoryDevice::with_bytes(&bytes);
    source.set_faults(DeviceFaults {
        unreadable: vec![backy_core::units::ByteRange { offset_bytes: 20 * BLOCK as u64 + 5, length_bytes: 1 }],
        ..DeviceFaults::default()
    });
    let report = scrub(&world.host, &with_source(&version, &source));
    let unreadable: Vec<u64> = report.unreadable.iter().flat_map(|range| range.start.0..range.end().0).collect();
    assert_eq!((unreadable, different(&report)), (vec![20], vec![]));
}

#[test]
fn a_scrub_with_the_source_heals_what_the_source_still_has() {
    let world = World::new(12);
    let mut bytes = noise(1, 200 * BLOCK);
    bytes.copy_within(50 * BLOCK..51 * BLOCK, 60 * BLOCK);
    let first = world.backup(&bytes, "vm");
    let second = world.backup(&bytes, "vm");
    for block in [5, 50, 110, 150] {
        world.damage(&first, block);
    }
    let mut now = bytes.clone();
    now[110 * BLOCK] ^= 1;
    let source = MemoryDevice::with_bytes(&now);
    let report = scrub(&world.new_host(), &with_source(&first, &source));
    assert_eq!((report.healed_slots, report.damaged_slots), (3, 1));
    assert_eq!(affected(&report, &first), [110]);
    assert_eq!(affected(&report, &second), [110]);
    assert_eq!(different(&report), [110]);
    for version in [&first, &second] {
        assert_eq!(world.state(version), VersionState::Invalid);
        let (restored, lost) = world.new_host().restore(version);
        assert_eq!(support::lost_blocks(&lost), [110]);
        assert!(restored[..110 * BLOCK] == bytes[..110 * BLOCK] && restored[111 * BLOCK..] == bytes[111 * BLOCK..]);
    }
    // The rest, with a source that has it.
    let report = scrub(&world.host, &with_source(&second, &MemoryDevice::with_bytes(&bytes)));
    assert!(report.is_clean() && report.healed_slots == 1, "{report:?}");
    for version in [&first, &second] {
        assert_eq!(world.state(version), VersionState::Valid);
        assert!(world.new_host().restore(version).0 == bytes);
    }
    assert!(objects(&world.store, names::DAMAGE).is_empty());
}

/// A pack is read as a whole when most of it is needed. What is damaged in it and no version has was counted as damage if a
/// source was given, and in no version: an exit code that nothing explained.
#[test]
fn what_is_damaged_and_no_version_has_is_no_finding_with_a_source_either() {
    let world = World::new(20);
    let bytes = noise(1, 8 * BLOCK);
    let first = world.backup(&bytes, "vm");
    let second = world.backup(&bytes[..6 * BLOCK], "other");
    for block in [1, 7] {
        world.damage(&first, block);
    }
    let request = RemoveRequest { version: spec(&first), young: Duration::ZERO, is_forced: true };
    remove::run(&world.host.repository, &request).unwrap();
    let source = MemoryDevice::with_bytes(&bytes[..6 * BLOCK]);
    let report = scrub(&world.new_host(), &with_source(&second, &source));
    assert!(report.is_clean() && report.healed_slots == 1, "{report:?}");
}

#[test]
fn a_backup_that_sees_the_content_again_heals_it() {
    let world = World::new(13);
    let bytes = noise(1, 200 * BLOCK);
    let first = world.backup(&bytes, "vm");
    let damaged: Vec<SlotAddress> = [5, 50, 110].map(|block| world.damage(&first, block)).into();
    assert_eq!(scrub(&world.host, &whole(&[&first])).damaged_slots, 3);
    // Another volume, elsewhere in it, from a host that knows nothing; only two of the three.
    let mut other = noise(2, 100 * BLOCK);
    other[7 * BLOCK..8 * BLOCK].copy_from_slice(&bytes[5 * BLOCK..6 * BLOCK]);
    other[99 * BLOCK..].copy_from_slice(&bytes[50 * BLOCK..51 * BLOCK]);
    let report = world.new_host().backup(&MemoryDevice::with_bytes(&other), "other").manifest;
    assert_eq!(world.state(&report), VersionState::Valid);
    assert_eq!(world.state(&first), VersionState::Invalid);
    assert_eq!(support::lost_blocks(&world.new_host().restore(&first).1), [110]);
    assert!(!damaged.contains(&slot_of(&world.host.repository, &report, 7).unwrap()), "it was stored anew");
    // The last one comes by an incremental backup, which reads damaged blocks of its base whatever the hints say.
    let source = MemoryDevice::with_bytes(&bytes);
    world.host.try_backup(&hinted_request(&source, "vm", &first, Vec::new())).unwrap();
    assert_eq!(world.state(&first), VersionState::Valid);
    assert!(objects(&world.store, names::DAMAGE).is_empty());
    let report = scrub(&world.new_host(), &whole(&[&first]));
    assert!(report.is_clean() && report.healed_slots == 0);
    let packs: Vec<PackId> = damaged.iter().map(|address| address.pack).collect();
    for pack in packs {
        assert_eq!(objects(&world.store, &names::pack_prefix(pack)).len(), 1);
    }
}

#[test]
fn what_another_slot_held_heals_nothing() {
    let world = World::new(14);
    let bytes = noise(1, 100 * BLOCK);
    let first = world.backup(&bytes, "vm");
    world.damage(&first, 5);
    scrub(&world.host, &whole(&[&first]));
    let mut now = bytes.clone();
    now[5 * BLOCK + 1] ^= 1;
    let source = MemoryDevice::with_bytes(&now);
    let before = objects(&world.store, &names::pack_prefix(slot_of(&world.host.repository, &first, 5).unwrap().pack));
    world.host.try_backup(&BackupRequest { ..request(&source, "vm") }).unwrap();
    assert_eq!(world.state(&first), VersionState::Invalid);
    let after = objects(&world.store, &names::pack_prefix(slot_of(&world.host.repository, &first, 5).unwrap().pack));
    assert_eq!(before, after);
}

#[test]
fn a_crash_at_any_call_of_healing_leaves_the_record_or_the_healed_slot() {
    let environment = seeded(15);
    let memory = new_store(&environment);
    let bytes = noise(1, 60 * BLOCK);
    let version = {
        let store = FaultyStore::new(Arc::new(memory.clone()));
        let host = small_packs(&store, &environment);
        let version = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        for block in [5, 6] {
            damage_slot(&store, &host.repository, slot_of(&host.repository, &version, block).unwrap());
        }
        assert_eq!(scrub(&host, &whole(&[&version])).damaged_slots, 2);
        version
    };
    let mut now = bytes.clone();
    now[6 * BLOCK] ^= 1;
    let (source, whole_source) = (MemoryDevice::with_bytes(&now), MemoryDevice::with_bytes(&bytes));
    // Every call where all is healed, some of them where a part is.
    for (healing, lost_at_last, step) in [(&source, &[6][..], 5), (&whole_source, &[], 1)] {
        let mut crashes = 0;
        for (number, moment) in (1..).step_by(step).flat_map(|n| [(n, CrashMoment::Before), (n, CrashMoment::After)]) {
            let store = FaultyStore::new(Arc::new(memory.copy()));
            let host = small_packs(&store, &environment);
            store.crash_at_call(number, moment);
            let done = try_scrub(&host, &with_source(&version, healing));
            store.restart();
            let host = small_packs(&store, &environment);
            let state = state_of(&host.repository, &version);
            let lost = support::lost_blocks(&host.restore(&version).1);
            // While a slot is damaged, its record is there.
            assert!(state == VersionState::Invalid || lost.is_empty(), "call {number}: {lost:?}");
            assert!(lost == lost_at_last || lost == [5, 6], "{lost:?}");
            let report = scrub(&host, &with_source(&version, &whole_source));
            assert!(report.is_clean(), "{report:?}");
            assert_eq!(state_of(&host.repository, &version), VersionState::Valid);
            match done {
                Ok(_) => break,
                Err(error) => assert!(is_crash(&error), "{error}"),
            }
            crashes += 1;
        }
        assert!(crashes > 30 / step, "{crashes}");
    }
}

#[test]
fn versions_are_found_by_name_and_incomplete_ones_are_refused() {
    let world = World::new(16);
    let bytes = noise(1, 100 * BLOCK);
    let versions = [world.backup(&bytes, "a"), world.backup(&bytes, "a"), world.backup(&bytes, "b")];
    let uids = |scope: &ScrubScope| -> Vec<_> {
        let found = scrub::find_versions(&world.host.repository, scope).unwrap();
        found.versions.iter().map(|version| version.uid).collect()
    };
    assert_eq!(uids(&ScrubScope::Name("a".to_owned())), [versions[0].uid, versions[1].uid]);
    assert_eq!(uids(&ScrubScope::All).len(), 3);
    let twice = vec![spec(&versions[1]), spec(&versions[1])];
    assert_eq!(uids(&ScrubScope::Versions(twice)), [versions[1].uid]);
    let none = scrub::find_versions(&world.host.repository, &ScrubScope::Name("c".to_owned()));
    assert_eq!(none.unwrap_err().kind(), ErrorKind::NotFound);
    world.store.crash_after(8);
    let failure = world.host.try_backup(&request(&MemoryDevice::with_bytes(&noise(9, 400 * BLOCK)), "c"));
    world.store.restart();
    if let Some(uid) = failure.unwrap_err().incomplete {
        let scope = ScrubScope::Versions(vec![backy_engine::repository::versions::VersionSpec::Uid(uid.to_string())]);
        let refused = scrub::find_versions(&world.host.repository, &scope);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    }
}
