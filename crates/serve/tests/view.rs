//! A version read as a disk: right in every way, once for all readers, and bad only where it is bad.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use backy_core::ErrorKind;
use backy_core::map::visit_map_slots;
use backy_core::pack::SlotKind;
use backy_core::units::ByteRange;
use backy_device::Source;
use backy_device::conformance::check_source;
use backy_serve::{VersionView, ViewCache, ViewSettings};
use backy_store::ObjectStore;
use backy_testkit::device::{DeviceFaults, MemoryDevice};
use backy_testkit::store::{FaultyStore, Operation};
use support::{BLOCK, Gate, Scene, damage_slot, noise, read, slot_of};

/// A volume with data, zeros, repeated blocks and a short end.
fn volume(seed: u64, blocks: usize) -> Vec<u8> {
    let mut bytes = noise(seed, blocks * BLOCK + 777);
    bytes[20 * BLOCK..60 * BLOCK].fill(0);
    let first = bytes[..3 * BLOCK].to_vec();
    bytes[100 * BLOCK..103 * BLOCK].copy_from_slice(&first);
    bytes
}

fn pack_reads(store: &FaultyStore) -> usize {
    let is_read =
        |call: &&backy_testkit::store::Call| call.operation == Operation::GetRange && call.name.starts_with("packs/");
    store.log().iter().filter(is_read).count()
}

#[test]
fn a_version_is_a_source_like_any_other() {
    let mut scene = Scene::new(1);
    let bytes = volume(1, 900);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    for cache_bytes in [0, 256 << 10, 64 << 20] {
        let settings = ViewSettings { cache_bytes, ..ViewSettings::default() };
        check_source(&scene.view(&version, settings), &bytes);
    }
}

#[test]
fn an_empty_version_is_served() {
    let mut scene = Scene::new(2);
    let version = scene.backup(&MemoryDevice::new(0), "v");
    check_source(&scene.view(&version, ViewSettings::default()), &[]);
    let version = scene.backup(&MemoryDevice::new(1 << 30), "w");
    let view = scene.view(&version, ViewSettings::default());
    assert_eq!(view.data_ranges(ByteRange::between(0, 1 << 30)).unwrap(), []);
    assert_eq!(read(&view, (1 << 30) - 5, 5), [0; 5]);
}

#[test]
fn many_readers_of_one_block_have_it_fetched_once() {
    let mut scene = Scene::new(3);
    let bytes = volume(3, 300);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let view = scene.view(&version, ViewSettings::default());
    // Another block first, so that map and directory are known.
    read(&view, 200 * BLOCK as u64, 1);
    let before = pack_reads(&scene.store);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(read(&view, 5 * BLOCK as u64, BLOCK) == bytes[5 * BLOCK..6 * BLOCK]));
        }
    });
    assert_eq!(pack_reads(&scene.store), before + 1);
}

#[test]
fn versions_share_the_blocks_that_they_have_in_common() {
    let mut scene = Scene::new(4);
    let mut bytes = volume(4, 300);
    let first = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    bytes[7 * BLOCK] ^= 1;
    let second = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let settings = ViewSettings { read_ahead_bytes: 0, ..ViewSettings::default() };
    let cache = ViewCache::new(scene.repository(), settings).unwrap();
    let (first, second) =
        (VersionView::open(&cache, first.uid).unwrap(), VersionView::open(&cache, second.uid).unwrap());
    read(&second, 0, BLOCK);
    read(&first, 0, 20 * BLOCK);
    let before = pack_reads(&scene.store);
    assert!(read(&second, 0, 7 * BLOCK) == bytes[..7 * BLOCK]);
    assert_eq!(pack_reads(&scene.store), before);
    assert!(read(&second, 0, 20 * BLOCK) == bytes[..20 * BLOCK]);
    assert_eq!(pack_reads(&scene.store), before + 1, "only the block that differs");
}

#[test]
fn who_reads_on_finds_it_there() {
    let mut scene = Scene::new(5);
    let bytes = noise(5, 2000 * BLOCK);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let view = scene.view(&version, ViewSettings::default());
    for block in 0..2000 {
        assert!(read(&view, (block * BLOCK) as u64, BLOCK) == bytes[block * BLOCK..(block + 1) * BLOCK], "{block}");
    }
    let reads = pack_reads(&scene.store);
    assert!(reads < 100, "2000 blocks took {reads} reads of the store");
}

#[test]
fn a_damaged_block_fails_and_its_neighbours_do_not() {
    let mut scene = Scene::new(6);
    let bytes = volume(6, 300);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let repository = scene.repository();
    damage_slot(&scene.store, &repository, slot_of(&repository, &version, 70));
    let view = scene.view(&version, ViewSettings::default());
    for block in (0..300).filter(|block| *block != 70) {
        assert!(read(&view, (block * BLOCK) as u64, BLOCK) == bytes[block * BLOCK..(block + 1) * BLOCK], "{block}");
    }
    for _ in 0..2 {
        let error = view.read_at(70 * BLOCK as u64 + 5, &mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreadable);
        assert!(error.to_string().contains(&(70 * BLOCK).to_string()), "{error}");
    }
    let error = view.read_at(0, &mut vec![0; 300 * BLOCK]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
}

#[test]
fn blocks_that_the_backup_could_not_read_fail() {
    let mut scene = Scene::new(7);
    let bytes = volume(7, 300);
    let source = MemoryDevice::with_bytes(&bytes);
    let bad = ByteRange { offset_bytes: 30 * BLOCK as u64, length_bytes: 1 };
    source.set_faults(DeviceFaults { unreadable: vec![bad], ..DeviceFaults::default() });
    let version = scene.backup(&source, "v");
    let view = scene.view(&version, ViewSettings::default());
    assert_eq!(view.read_at(30 * BLOCK as u64, &mut [0; 10]).unwrap_err().kind(), ErrorKind::Unreadable);
    assert_eq!(read(&view, 31 * BLOCK as u64, BLOCK), vec![0; BLOCK]);
    let around = ByteRange { offset_bytes: 29 * BLOCK as u64, length_bytes: 3 * BLOCK as u64 };
    let itself = ByteRange { offset_bytes: 30 * BLOCK as u64, length_bytes: BLOCK as u64 };
    assert_eq!(view.data_ranges(around).unwrap(), [itself], "it is not known to be zero");
}

#[test]
fn a_lost_page_of_the_map_is_lost_alone() {
    let mut scene = Scene::new(8);
    // Three pages; data near the beginning of each.
    let page_bytes = 16_384 * BLOCK as u64;
    let source = MemoryDevice::new(3 * page_bytes);
    let data_of = |page: u64| ByteRange { offset_bytes: page * page_bytes + 8192, length_bytes: 8 * BLOCK as u64 };
    for page in 0..3 {
        backy_testkit::pattern::write(&source, data_of(page), backy_device::null::Pattern::Random, page).unwrap();
    }
    let version = scene.backup(&source, "v");
    let repository = scene.repository();
    let mut pages = Vec::new();
    visit_map_slots(repository.as_ref(), version.map, &mut |address, kind| {
        pages.extend((kind == SlotKind::MapPage).then_some(address));
        Ok(true)
    })
    .unwrap();
    damage_slot(&scene.store, &repository, pages[1]);
    let view = scene.view(&version, ViewSettings::default());
    for page in [0, 2] {
        assert!(read(&view, data_of(page).offset_bytes, 8 * BLOCK) == source.bytes(data_of(page)));
    }
    assert_eq!(view.read_at(page_bytes, &mut [0; 10]).unwrap_err().kind(), ErrorKind::Unreadable);
    let data = view.data_ranges(ByteRange::between(0, 3 * page_bytes)).unwrap();
    assert_eq!(data.len(), 3, "{data:?}");
    assert_eq!(data[1], ByteRange { offset_bytes: page_bytes, length_bytes: page_bytes }, "nobody knows");
}

#[test]
fn a_store_that_fails_fails_the_read_and_may_come_back() {
    let mut scene = Scene::new(9);
    let bytes = volume(9, 300);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let view = scene.view(&version, ViewSettings::default());
    scene.store.unavailable_for(u64::MAX);
    for _ in 0..3 {
        assert_eq!(view.read_at(0, &mut [0; 10]).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    scene.store.behave();
    assert!(read(&view, 0, 10 * BLOCK) == bytes[..10 * BLOCK]);
}

#[test]
fn a_store_that_hangs_fails_the_read_when_patience_ends() {
    let mut scene = Scene::new(10);
    let bytes = volume(10, 300);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let gate = Arc::new(Gate::closed(scene.store.clone()));
    let settings = ViewSettings { patience: Duration::from_millis(20), ..ViewSettings::default() };
    let cache = ViewCache::new(scene.repository_in(gate.clone()), settings).unwrap();
    let view = VersionView::open(&cache, version.uid).unwrap();
    for _ in 0..10 {
        assert_eq!(view.read_at(0, &mut [0; 10]).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    gate.set_open(true);
    let mut read = vec![0; 10 * BLOCK];
    let mut tries = 0;
    while let Err(error) = view.read_at(0, &mut read) {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        tries += 1;
        assert!(tries < 10_000, "it never came back");
    }
    assert!(read == bytes[..10 * BLOCK]);
}

#[test]
fn what_is_not_a_complete_version_is_not_opened() {
    let mut scene = Scene::new(11);
    let version = scene.backup(&MemoryDevice::with_bytes(&noise(11, 10 * BLOCK)), "v");
    let cache = ViewCache::new(scene.repository(), ViewSettings::default()).unwrap();
    let absent = backy_core::ids::VersionUid::from_bytes([7; 16]);
    assert_eq!(VersionView::open(&cache, absent).err().unwrap().kind(), ErrorKind::NotFound);
    scene.store.put(&backy_core::names::removed(version.uid), b"").unwrap();
    assert_eq!(VersionView::open(&cache, version.uid).err().unwrap().kind(), ErrorKind::NotFound);
}
