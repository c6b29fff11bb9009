//! Damage in the store: found, named, reported with its extents, never restored as good, and healed by the next backup.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::Arc;

use backy_core::ErrorKind;
use backy_core::environment::Environment;
use backy_core::ids::SlotAddress;
use backy_core::map::visit_map_slots;
use backy_core::names;
use backy_core::pack::SlotKind;
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::Manifest;
use backy_engine::backup::BackupRequest;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::open::read_repository_record;
use backy_engine::repository::unlock::unlock;
use backy_engine::repository::versions::VersionState;
use backy_engine::{key, label};
use backy_store::ObjectStore;
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::FaultyStore;
use support::{
    Host, all_bytes, damage_slot, hinted_request, lost_blocks, new_store, noise, objects, pack_object, request,
    restore_request, seeded, slot_of, spec, state_of,
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
        let host = Host::new(Arc::new(store.clone()), environment.clone());
        World { store, environment, host }
    }

    /// A host that has nothing in its memory.
    fn new_host(&self) -> Host {
        Host::new(Arc::new(self.store.clone()), self.environment.clone())
    }

    /// Restores over dirt, so that what is not written is found out.
    fn restore(&self, host: &Host, version: &Manifest) -> (Vec<u8>, Vec<u64>) {
        let dirt_bytes = version.size_bytes.min(8 << 20);
        let target = MemoryDevice::new(version.size_bytes);
        backy_device::Target::write_at(&target, 0, &vec![0xee; dirt_bytes as usize]).unwrap();
        let report = host.try_restore(&restore_request(version, &target)).unwrap();
        (all_bytes(&target), lost_blocks(&report))
    }

    /// Checks that a version restores right but for `lost`, which are zero.
    fn check_lost(&self, host: &Host, version: &Manifest, bytes: &[u8], lost: &[u64]) {
        let (restored, reported) = self.restore(host, version);
        assert_eq!(reported, lost);
        let mut expected = bytes.to_vec();
        for block in lost {
            let start = *block as usize * BLOCK;
            let end = (start + BLOCK).min(expected.len());
            expected[start..end].fill(0);
        }
        assert!(restored == expected, "other blocks are not right");
    }

    /// Checks that the version is known to be bad, and that backups with and without hints make good ones, on any host. The
    /// version itself is healed if the pack tells what its damaged slots were: `becomes` says so.
    fn check_healing(&self, version: &Manifest, bytes: &[u8], becomes: VersionState) {
        assert_eq!(state_of(&self.host.repository, version), VersionState::Invalid);
        assert!(!objects(&self.store, names::DAMAGE).is_empty());
        let source = MemoryDevice::with_bytes(bytes);
        for host in [&self.host, &self.new_host()] {
            let wanted = [
                BackupRequest { continued: Some(spec(version)), ..request(&source, "vm") },
                hinted_request(&source, "vm", version, Vec::new()),
                request(&source, "vm"),
            ];
            for wanted in wanted {
                if wanted.continued.is_some() && state_of(&host.repository, version) == VersionState::Valid {
                    continue;
                }
                let report = host.try_backup(&wanted).unwrap();
                assert_eq!(state_of(&host.repository, &report.manifest), VersionState::Valid);
                self.check_lost(&self.new_host(), &report.manifest, bytes, &[]);
                assert_eq!(state_of(&host.repository, version), becomes);
            }
        }
        if becomes == VersionState::Valid {
            self.check_lost(&self.new_host(), version, bytes, &[]);
        }
    }
}

/// A volume of blocks that differ, with some zero ones and one that is there twice.
fn volume() -> Vec<u8> {
    let mut bytes = noise(1, 300 * BLOCK + 100);
    bytes[20 * BLOCK..40 * BLOCK].fill(0);
    bytes.copy_within(50 * BLOCK..51 * BLOCK, 60 * BLOCK);
    bytes
}

#[test]
fn one_bad_slot_loses_its_blocks_and_no_others() {
    for block in [0, 50, 299, 300] {
        let world = World::new(1);
        let bytes = volume();
        let first = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        damage_slot(&world.store, &world.host.repository, slot_of(&world.host.repository, &first, block).unwrap());
        let lost = if block == 50 { vec![50, 60] } else { vec![block] };
        assert_eq!(state_of(&world.host.repository, &first), VersionState::Valid, "nobody knows yet");
        world.check_lost(&world.new_host(), &first, &bytes, &lost);
        world.check_lost(&world.host, &first, &bytes, &lost);
        world.check_healing(&first, &bytes, VersionState::Valid);
    }
}

#[test]
fn a_version_that_took_over_a_slot_before_it_was_known_to_be_bad_becomes_invalid_too() {
    let world = World::new(2);
    let bytes = volume();
    let source = MemoryDevice::with_bytes(&bytes);
    let first = world.host.backup(&source, "vm").manifest;
    let second = world.host.try_backup(&hinted_request(&source, "vm", &first, Vec::new())).unwrap().manifest;
    damage_slot(&world.store, &world.host.repository, slot_of(&world.host.repository, &first, 7).unwrap());
    world.check_lost(&world.host, &first, &bytes, &[7]);
    for version in [&first, &second] {
        assert_eq!(state_of(&world.host.repository, version), VersionState::Invalid);
    }
    // A version that is not in the record, as one that was being made at that moment.
    let names = objects(&world.store, names::DAMAGE);
    let record = world.store.get(&names[0], u64::MAX).unwrap();
    world.store.lose(&names[0]).unwrap();
    let third = world.host.try_backup(&hinted_request(&source, "vm", &second, Vec::new())).unwrap().manifest;
    world.store.put(&names[0], &record).unwrap();
    world.check_lost(&world.host, &third, &bytes, &[7]);
    assert_eq!(state_of(&world.host.repository, &third), VersionState::Invalid);
    world.check_healing(&third, &bytes, VersionState::Valid);
}

#[test]
fn a_damaged_slot_is_never_found_by_deduplication() {
    let world = World::new(3);
    let bytes = noise(3, 100 * BLOCK);
    let first = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    let bad = slot_of(&world.host.repository, &first, 31).unwrap();
    damage_slot(&world.store, &world.host.repository, bad);
    world.check_lost(&world.host, &first, &bytes, &[31]);
    // Also when the catalog is new and hears of the pack by its index record only, and loads its neighbours.
    for host in [&world.host, &world.new_host()] {
        for name in ["vm", "other"] {
            let report = host.backup(&MemoryDevice::with_bytes(&bytes), name).manifest;
            assert_ne!(slot_of(&host.repository, &report, 31).unwrap(), bad);
            assert!(report.statistics.deduplicated_bytes >= 90 * BLOCK as u64, "{:?}", report.statistics);
            // The backup has healed it: once more.
            damage_slot(&world.store, &world.host.repository, bad);
            world.check_lost(&world.host, &first, &bytes, &[31]);
        }
    }
}

/// What may happen to an object.
const HARMS: [&str; 4] = ["truncated", "flipped", "missing", "empty"];

fn harm(store: &FaultyStore, name: &names::ObjectName, how: &str) {
    let length = store.get(name, u64::MAX).unwrap().len();
    match how {
        "truncated" => store.truncate(name, length / 2).unwrap(),
        "flipped" => store.flip_bit(name, length / 2).unwrap(),
        "empty" => store.truncate(name, 0).unwrap(),
        _ => store.lose(name).unwrap(),
    }
}

#[test]
fn a_pack_that_is_truncated_missing_or_swapped_loses_its_blocks_and_no_others() {
    for how in ["truncated", "missing", "empty", "swapped"] {
        let world = World::new(4);
        let mut bytes = noise(4, 100 * BLOCK);
        let first = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        bytes[10 * BLOCK..20 * BLOCK].copy_from_slice(&noise(5, 10 * BLOCK));
        let second = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        // The pack of the first version has its map, too, so only the second one can tell.
        let old = pack_object(&world.store, slot_of(&world.host.repository, &second, 0).unwrap().pack);
        let new = pack_object(&world.store, slot_of(&world.host.repository, &second, 10).unwrap().pack);
        assert_ne!(old, new);
        match how {
            "swapped" => {
                let other = world.host.backup(&MemoryDevice::with_bytes(&noise(6, 100 * BLOCK)), "other").manifest;
                let other = pack_object(&world.store, slot_of(&world.host.repository, &other, 0).unwrap().pack);
                world.store.swap(&old, &other).unwrap();
            }
            how => harm(&world.store, &old, how),
        }
        let lost: Vec<u64> = (0..10).chain(20..100).collect();
        world.check_lost(&world.new_host(), &second, &bytes, &lost);
        world.check_lost(&world.host, &second, &bytes, &lost);
        let (_, all) = world.restore(&world.new_host(), &first);
        assert_eq!(all, (0..100).collect::<Vec<u64>>(), "{how}: its map was in that pack");
        world.check_healing(&second, &bytes, VersionState::Invalid);
    }
}

#[test]
fn no_flipped_bit_of_a_pack_is_restored_as_good() {
    let world = World::new(5);
    let bytes = noise(7, 12 * BLOCK);
    let version = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    let name = objects(&world.store, names::PACKS).remove(0);
    let good = world.store.get(&name, u64::MAX).unwrap();
    let step = good.len() / 25;
    let tail = good.len() - 300..good.len();
    for offset in (0..good.len()).step_by(step).chain(tail.step_by(19)) {
        world.store.flip_bit(&name, offset).unwrap();
        let (restored, lost) = world.restore(&world.new_host(), &version);
        for (block, (restored, expected)) in restored.chunks(BLOCK).zip(bytes.chunks(BLOCK)).enumerate() {
            let is_lost = lost.contains(&(block as u64));
            assert!(
                if is_lost { restored.iter().all(|byte| *byte == 0) } else { restored == expected },
                "byte {offset}"
            );
        }
        world.store.put(&name, &good).unwrap();
    }
}

/// Returns the pages, or the nodes, of a version's map.
fn map_slots(host: &Host, version: &Manifest, kind: SlotKind) -> Vec<SlotAddress> {
    let mut found = Vec::new();
    let mut visit = |address, slot_kind| {
        if slot_kind == kind {
            found.push(address);
        }
        Ok(true)
    };
    visit_map_slots(&host.repository, version.map, &mut visit).unwrap();
    found
}

/// A volume of two map pages, one of 64 MiB and one that is short; little of it is data.
fn long_volume() -> MemoryDevice {
    let device = MemoryDevice::new((16_384 + 100) * BLOCK as u64);
    for block in [0, 1, 2, 16_000, 16_384, 16_390, 16_483] {
        backy_device::Target::write_at(&device, block * BLOCK as u64, &noise(block + 1, BLOCK)).unwrap();
    }
    device
}

#[test]
fn a_bad_map_page_loses_the_blocks_below_it_and_no_others() {
    let world = World::new(6);
    let source = long_volume();
    let bytes = all_bytes(&source);
    let version = world.host.backup(&source, "vm").manifest;
    let pages = map_slots(&world.host, &version, SlotKind::MapPage);
    assert_eq!(pages.len(), 2);
    damage_slot(&world.store, &world.host.repository, pages[1]);
    let lost: Vec<u64> = (16_384..16_484).collect();
    world.check_lost(&world.new_host(), &version, &bytes, &lost);
    world.check_lost(&world.host, &version, &bytes, &lost);
    world.check_healing(&version, &bytes, VersionState::Invalid);
    damage_slot(&world.store, &world.host.repository, pages[0]);
    world.check_lost(&world.new_host(), &version, &bytes, &(0..16_484).collect::<Vec<u64>>());
}

#[test]
fn a_bad_map_node_loses_the_blocks_below_it() {
    let world = World::new(7);
    let source = long_volume();
    let bytes = all_bytes(&source);
    let version = world.host.backup(&source, "vm").manifest;
    let nodes = map_slots(&world.host, &version, SlotKind::MapNode);
    assert_eq!(nodes.len(), 1);
    damage_slot(&world.store, &world.host.repository, nodes[0]);
    let lost: Vec<u64> = (0..version.map.blocks.0).collect();
    world.check_lost(&world.new_host(), &version, &bytes, &lost);
    world.check_healing(&version, &bytes, VersionState::Invalid);
}

#[test]
fn a_bad_sheet_loses_the_blocks_below_its_node() {
    let world = World::new(9);
    let source = long_volume();
    let mut version = world.host.backup(&source, "vm").manifest;
    // Lone changes collect in the node, until they are worth a sheet.
    for block in (100..).step_by(1000).take(4) {
        backy_device::Target::write_at(&source, block * BLOCK as u64, &noise(block, BLOCK)).unwrap();
        version = world.host.backup(&source, "vm").manifest;
        if map_slots(&world.host, &version, SlotKind::MapNode).len() == 2 {
            break;
        }
    }
    let bytes = all_bytes(&source);
    let [_, sheet] = map_slots(&world.host, &version, SlotKind::MapNode)[..] else { panic!("no sheet was written") };
    world.check_lost(&world.new_host(), &version, &bytes, &[]);
    damage_slot(&world.store, &world.host.repository, sheet);
    let lost: Vec<u64> = (0..version.map.blocks.0).collect();
    world.check_lost(&world.new_host(), &version, &bytes, &lost);
    world.check_healing(&version, &bytes, VersionState::Invalid);
}

#[test]
fn a_backup_finds_by_itself_that_the_map_of_its_base_is_bad() {
    for is_hinted in [true, false] {
        let world = World::new(8);
        let source = long_volume();
        let version = world.host.backup(&source, "vm").manifest;
        let pages = map_slots(&world.host, &version, SlotKind::MapPage);
        damage_slot(&world.store, &world.host.repository, pages[1]);
        // A change in that page: the rest of the page must not be lost.
        let offset_bytes = 16_390 * BLOCK as u64;
        backy_device::Target::write_at(&source, offset_bytes, &noise(99, BLOCK)).unwrap();
        let host = world.new_host();
        let report = if is_hinted {
            let range = backy_core::units::ByteRange { offset_bytes, length_bytes: 1 };
            let hint = backy_core::hint::Hint { range, state: backy_core::hint::HintState::Changed };
            host.try_backup(&hinted_request(&source, "vm", &version, vec![hint])).unwrap()
        } else {
            host.backup(&source, "vm")
        };
        assert_eq!(state_of(&host.repository, &report.manifest), VersionState::Valid);
        world.check_lost(&world.new_host(), &report.manifest, &all_bytes(&source), &[]);
        if is_hinted {
            assert_eq!(state_of(&host.repository, &version), VersionState::Invalid);
        }
    }
}

#[test]
fn a_manifest_that_cannot_be_read_is_named_and_hides_no_other_version() {
    for how in HARMS.into_iter().chain(["swapped"]) {
        let world = World::new(9);
        let bytes = volume();
        let source = MemoryDevice::with_bytes(&bytes);
        let versions: Vec<Manifest> = (0..3).map(|_| world.host.backup(&source, "vm").manifest).collect();
        let name = names::manifest(versions[1].uid);
        match how {
            "swapped" => {
                // The one that takes part in the exchange is bad as well.
                world.store.swap(&name, &names::manifest(versions[2].uid)).unwrap();
            }
            how => harm(&world.store, &name, how),
        }
        let host = world.new_host();
        let listing = host.repository.versions().unwrap();
        let bad = match how {
            "missing" => 0,
            "swapped" => 2,
            _ => 1,
        };
        assert_eq!(listing.unreadable.len(), bad, "{how}");
        if how == "missing" {
            // Its checkpoint is left, if it had one.
            assert!(listing.versions.len() >= 2);
        } else {
            assert_eq!(listing.versions.len(), 3 - bad, "{how}");
            let (_, error) = listing.unreadable.iter().find(|(uid, _)| *uid == versions[1].uid).unwrap();
            assert!(error.to_string().contains(name.as_str()), "{error}");
            let error = host.repository.find_version(&spec(&versions[1])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(error.to_string().contains(name.as_str()), "{error}");
        }
        world.check_lost(&host, &versions[0], &bytes, &[]);
    }
}

#[test]
fn hints_are_not_put_on_an_older_base_when_the_newest_version_cannot_be_read() {
    let world = World::new(10);
    let mut bytes = volume();
    let first = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    bytes[..BLOCK].fill(7);
    let second = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    world.store.truncate(&names::manifest(second.uid), 10).unwrap();
    let host = world.new_host();
    let source = MemoryDevice::with_bytes(&bytes);
    let hinted = BackupRequest { hints: Some(Vec::new()), ..request(&source, "vm") };
    let failure = host.try_backup(&hinted).unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Damaged);
    assert!(failure.error.to_string().contains(&second.uid.to_string()), "{:?}", failure.error);
    // Whoever names the base knows what he does, and without hints nothing can go wrong.
    host.try_backup(&hinted_request(&MemoryDevice::with_bytes(&volume()), "vm", &first, Vec::new())).unwrap();
    let report = host.backup(&source, "vm");
    world.check_lost(&host, &report.manifest, &bytes, &[]);
}

#[test]
fn a_version_with_a_damaged_label_can_be_restored_and_counts_as_protected() {
    for how in ["truncated", "flipped", "empty", "swapped"] {
        let world = World::new(11);
        let bytes = volume();
        let version = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        for note in ["one", "two"] {
            let change = LabelChange { note: Some(note.to_owned()), ..LabelChange::default() };
            label::run(&world.host.repository, &spec(&version), &change).unwrap();
        }
        let labels = objects(&world.store, names::LABELS);
        match how {
            "swapped" => world.store.swap(&labels[0], &labels[1]).unwrap(),
            how => harm(&world.store, &labels[1], how),
        }
        let host = world.new_host();
        let entry = host.repository.find_version(&spec(&version)).unwrap();
        assert!(entry.label.is_protected, "{how}");
        assert_eq!(entry.state, VersionState::Valid);
        let removal = RemoveRequest { version: spec(&version), young: std::time::Duration::ZERO, is_forced: true };
        assert_eq!(remove::run(&host.repository, &removal).unwrap_err().kind(), ErrorKind::Refused);
        world.check_lost(&host, &version, &bytes, &[]);
    }
}

#[test]
fn records_of_damage_and_of_the_index_that_are_damaged_stop_nothing() {
    for how in HARMS {
        let world = World::new(12);
        let bytes = volume();
        let version = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        damage_slot(&world.store, &world.host.repository, slot_of(&world.host.repository, &version, 3).unwrap());
        world.check_lost(&world.host, &version, &bytes, &[3]);
        for name in objects(&world.store, names::DAMAGE).iter().chain(&objects(&world.store, names::INDEX)) {
            harm(&world.store, name, how);
        }
        let host = world.new_host();
        world.check_lost(&host, &version, &bytes, &[3]);
        world.check_healing(&version, &bytes, VersionState::Valid);
    }
}

#[test]
fn what_opens_the_repository_is_named_when_it_is_damaged() {
    for (prefix, kinds) in [
        // Another id is not known to be one; but then no key fits.
        (
            "repository.json",
            &[ErrorKind::Damaged, ErrorKind::NotFound, ErrorKind::Unsupported, ErrorKind::WrongKey][..],
        ),
        (names::KEYRING, &[ErrorKind::Damaged, ErrorKind::Unsupported]),
        (names::KEYS, &[ErrorKind::Damaged, ErrorKind::WrongKey]),
    ] {
        let environment = seeded(13);
        let good = new_store(&environment);
        let name = objects(&good, prefix).remove(0);
        let length = good.get(&name, u64::MAX).unwrap().len();
        let damages: Vec<(usize, &str)> =
            (0..length).flat_map(|at| [(at, "flip"), (at, "cut")]).chain([(0, "lose")]).collect();
        for (at, how) in damages {
            let store = FaultyStore::new(Arc::new(good.copy()));
            match how {
                "flip" => store.flip_bit(&name, at).unwrap(),
                "cut" => store.truncate(&name, at).unwrap(),
                _ => store.lose(&name).unwrap(),
            }
            let before = objects(&store, "");
            match support::try_open(Arc::new(store.clone()), environment.clone()) {
                // Something that says nothing, as the end of the last line.
                Ok(host) => drop(host.repository.versions().unwrap()),
                Err(error) => {
                    assert!(kinds.contains(&error.kind()), "{name} {how} at {at}: {error:?}");
                    let says = error.to_string();
                    let folder = prefix.trim_end_matches('/');
                    assert!(says.contains(folder) || says.contains("key slot"), "{name} {how} at {at}: {says}");
                }
            }
            assert_eq!(objects(&store, ""), before, "nothing is written");
        }
    }
}

#[test]
fn a_damaged_key_slot_does_not_keep_another_one_from_opening() {
    let environment = seeded(14);
    let good = new_store(&environment);
    let store: Arc<dyn ObjectStore> = Arc::new(good.clone());
    let cost = backy_core::keys::slot::ArgonCost::new(8 << 10, 1, 1).unwrap();
    let secret = backy_engine::repository::unlock::Secret::KeyFile(support::KEY.to_vec().into());
    key::add(&store, &support::FixedKey(support::KEY), &secret, cost, "second", &environment).unwrap();
    let repository = read_repository_record(store.as_ref()).unwrap().id;
    // Either of them may be tried first.
    for damaged in objects(&good, names::KEYS) {
        for at in 0..good.get(&damaged, u64::MAX).unwrap().len() {
            let store = FaultyStore::new(Arc::new(good.copy()));
            store.flip_bit(&damaged, at).unwrap();
            let opened = unlock(&store, repository, &support::FixedKey(support::KEY));
            assert!(opened.is_ok(), "byte {at}: {:?}", opened.err());
        }
    }
}

#[test]
fn objects_that_are_not_ours_are_passed_over() {
    let world = World::new(15);
    let bytes = volume();
    let version = world.host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    for name in [
        "lost",
        "keys/readme",
        "keyring/readme",
        "packs/readme",
        "versions/readme",
        "labels/x/y",
        "damage/x",
        "index/x",
    ] {
        world.store.put(&names::ObjectName::new(name).unwrap(), b"something").unwrap();
    }
    let shard = pack_object(&world.store, slot_of(&world.host.repository, &version, 0).unwrap().pack);
    world.store.put(&names::ObjectName::new(format!("{shard}x")).unwrap(), b"something").unwrap();
    let host = world.new_host();
    world.check_lost(&host, &version, &bytes, &[]);
    let report = host.backup(&MemoryDevice::with_bytes(&bytes), "vm");
    assert_eq!(report.manifest.statistics.new_bytes, 0);
    assert!(host.repository.versions().unwrap().unreadable.is_empty());
}
