//! An overlay takes all that is written, and the version below stays what it was.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;

use backy_core::ErrorKind;
use backy_core::environment::Environment;
use backy_core::ids::VersionUid;
use backy_core::units::ByteRange;
use backy_device::conformance::{check_source, check_target};
use backy_device::{Source, Target};
use backy_serve::{Overlay, ViewSettings};
use backy_testkit::device::{DeviceFaults, MemoryDevice};
use support::{BLOCK, Scene, noise};

const UID: VersionUid = VersionUid::from_bytes([7; 16]);

/// A version with data, zeros and a short end, and its bytes.
fn scene(seed: u64, length: usize) -> (Scene, Arc<dyn Source>, Vec<u8>) {
    let mut scene = Scene::new(seed);
    let mut bytes = noise(seed, length);
    let (third, two_thirds) = (length / 3 / BLOCK * BLOCK, length * 2 / 3 / BLOCK * BLOCK);
    bytes[third..two_thirds].fill(0);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let settings = ViewSettings { cache_bytes: 256 << 10, ..ViewSettings::default() };
    let view = scene.view(&version, settings);
    (scene, Arc::new(view), bytes)
}

#[test]
fn an_overlay_is_a_target_like_any_other_and_leaves_the_version_alone() {
    let (_scene, view, bytes) = scene(1, 3_000_001);
    let folder = tempfile::tempdir().unwrap();
    check_target(&Overlay::unnamed(view.clone(), folder.path()).unwrap());
    check_target(&Overlay::kept(view.clone(), &folder.path().join("o"), UID).unwrap());
    check_source(view.as_ref(), &bytes);
    check_source(&Overlay::unnamed(view, folder.path()).unwrap(), &bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the unnamed ones are gone");
}

/// One random step on the disk and on the bytes that it should hold.
fn step(disk: &Overlay, model: &mut [u8], environment: &Environment, number: u64) {
    let below = |bound: u64| environment.random_below(bound);
    let size = model.len() as u64;
    let start = if below(4) == 0 { below(size / 4096 + 1) * 4096 } else { below(size) }.min(size);
    let length = [below(16), below(6000), (1 + below(8)) * 4096, below(200_000)][below(4) as usize].min(size - start);
    let range = ByteRange { offset_bytes: start, length_bytes: length };
    let part = start as usize..(start + length) as usize;
    match below(8) {
        0..3 => {
            let data = noise(number + 1, length as usize);
            disk.write_at(start, &data).unwrap();
            model[part].copy_from_slice(&data);
        }
        3 => {
            disk.zero_range(range).unwrap();
            model[part].fill(0);
        }
        4 => {
            let mut behind = start;
            for data in disk.data_ranges(range).unwrap() {
                assert!(data.offset_bytes >= behind && data.end_bytes() <= range.end_bytes());
                assert!(model[behind as usize..data.offset_bytes as usize].iter().all(|byte| *byte == 0));
                behind = data.end_bytes();
            }
            assert!(model[behind as usize..part.end].iter().all(|byte| *byte == 0), "step {number}: no hole");
        }
        5 if below(8) == 0 => disk.flush().unwrap(),
        _ => {
            let mut read = vec![0xee; length as usize];
            disk.read_at(start, &mut read).unwrap();
            assert!(read == model[part], "step {number}: {range:?} reads wrong");
        }
    }
}

/// What fsx does to a file: random reads, writes, holes and reopenings against a plain vector.
#[test]
fn random_steps_leave_what_a_plain_vector_holds() {
    let seeds = if std::env::var_os("BACKY2_TEST_LONG").is_some() { 100 } else { 3 };
    for seed in 100..100 + seeds {
        let (scene, view, bytes) = scene(seed, 1_500_000 + seed as usize);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overlay");
        let mut model = bytes.clone();
        let mut disk = Overlay::kept(view.clone(), &path, UID).unwrap();
        for number in 0..600 {
            step(&disk, &mut model, &scene.environment, number);
            if number % 150 == 149 {
                disk.flush().unwrap();
                drop(disk);
                disk = Overlay::kept(view.clone(), &path, UID).unwrap();
            }
        }
        check_source(&disk, &model);
        check_source(view.as_ref(), &bytes);
    }
}

#[test]
fn what_was_flushed_is_there_again_and_the_rest_is_old_or_new() {
    let (_scene, view, bytes) = scene(2, 1 << 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overlay");
    let disk = Overlay::kept(view.clone(), &path, UID).unwrap();
    disk.write_at(5000, &[1; 10_000]).unwrap();
    disk.flush().unwrap();
    disk.write_at(100_000, &[2; 4096]).unwrap();
    // The program ends here without a flush.
    drop(disk);
    let disk = Overlay::kept(view, &path, UID).unwrap();
    let mut read = vec![0; 1 << 20];
    disk.read_at(0, &mut read).unwrap();
    let mut expected = bytes;
    expected[5000..15_000].fill(1);
    for (page, (read, old)) in read.chunks(4096).zip(expected.chunks(4096)).enumerate() {
        let is_page_of_loss = (24..=25).contains(&page);
        assert!(read == old || is_page_of_loss, "page {page}");
    }
}

#[test]
fn an_overlay_of_another_version_or_another_kind_is_refused() {
    let (_scene, view, _) = scene(3, 100_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overlay");
    let kind = |path: &Path, uid: VersionUid| Overlay::kept(view.clone(), path, uid).err().unwrap().kind();
    let disk = Overlay::kept(view.clone(), &path, UID).unwrap();
    assert_eq!(kind(&path, UID), ErrorKind::Busy);
    drop(disk);
    assert_eq!(kind(&path, VersionUid::from_bytes([8; 16])), ErrorKind::Refused);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(kind(&path, UID), ErrorKind::Damaged);
    std::fs::write(&path, b"a letter to somebody").unwrap();
    assert_eq!(kind(&path, UID), ErrorKind::InvalidInput);
    assert_eq!(std::fs::read(&path).unwrap(), b"a letter to somebody");
}

#[test]
fn what_cannot_be_read_below_can_be_written_over() {
    let below = MemoryDevice::new(1 << 20);
    let bad = ByteRange { offset_bytes: 8192, length_bytes: 4096 };
    below.set_faults(DeviceFaults { unreadable: vec![bad], ..DeviceFaults::default() });
    let folder = tempfile::tempdir().unwrap();
    let disk = Overlay::unnamed(Arc::new(below), folder.path()).unwrap();
    assert_eq!(disk.write_at(8192, &[1; 10]).unwrap_err().kind(), ErrorKind::Unreadable, "the rest is not known");
    disk.write_at(8192, &[1; 4096]).unwrap();
    disk.write_at(8200, &[2; 10]).unwrap();
    let mut read = vec![0; 4096];
    disk.read_at(8192, &mut read).unwrap();
    assert_eq!((read[0], read[8], read[18]), (1, 2, 1));
}
