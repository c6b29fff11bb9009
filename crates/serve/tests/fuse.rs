//! Versions through the kernel's FUSE: what is seen, what is written, and what goes wrong.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backy_core::ErrorKind;
use backy_core::environment::Environment;
use backy_core::records::manifest::Manifest;
use backy_device::Source;
use backy_device::conformance::check_source;
use backy_engine::Repository;
use backy_serve::fuse::session::Mounted;
use backy_serve::fuse::{MountSettings, Scratch, mount};
use backy_serve::{ViewCache, ViewSettings};
use backy_store::ObjectStore;
use backy_testkit::device::MemoryDevice;
use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise, fallocate, seek};
use rustix::io::Errno;
use support::{BLOCK, Gate, Scene, damage_slot, noise, slot_of};
use tempfile::TempDir;

/// Says why nothing can be mounted here, if so.
fn is_impossible() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = &device {
        println!("skipped: /dev/fuse: {error}");
    } else if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may mount here");
    }
    device.is_err() || !rustix::process::geteuid().is_root()
}

/// A mounted repository. Fields are dropped in this order.
struct Mount {
    mounted: Option<Mounted>,
    folder: TempDir,
}

impl Mount {
    fn new(repository: Arc<Repository>, patience: Duration) -> Mount {
        let cache = ViewCache::new(repository, ViewSettings { patience, ..ViewSettings::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::Unnamed(folder.path().join("scratch"));
        Mount::with(cache, folder, scratch)
    }

    fn with(cache: Arc<ViewCache>, folder: TempDir, scratch: Scratch) -> Mount {
        let mountpoint = folder.path().join("mnt");
        fs::create_dir_all(&mountpoint).unwrap();
        let settings = MountSettings { allows_others: false, listing_lifetime: Duration::ZERO, scratch };
        Mount { mounted: Some(mount(cache, &mountpoint, settings).unwrap()), folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("mnt").join(path)
    }

    fn file(&self, version: &Manifest, name: &str) -> PathBuf {
        self.path(&format!("by_version_uid/{}/{name}", version.uid))
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Much longer than anything takes.
const PATIENT: Duration = Duration::from_secs(600);

fn errno(result: std::io::Result<impl Sized>) -> Option<Errno> {
    Errno::from_io_error(&result.err()?)
}

#[test]
fn versions_are_files_with_what_is_known_of_them() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(1);
    let bytes = noise(1, 100_001);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "pool/vm%1");
    let mount = Mount::new(scene.repository(), PATIENT);
    assert_eq!(mount.names(""), ["by_name", "by_version", "by_version_uid"]);
    assert_eq!(mount.names("by_name"), ["pool%2Fvm%251"]);
    assert_eq!(mount.names("by_name/pool%2Fvm%251"), ["2024-01-01T00:00:00Z", "latest"]);
    assert_eq!(mount.names("by_version"), ["pool%2Fvm%251@2024-01-01T00:00:00Z"]);
    assert_eq!(mount.names("by_version_uid"), [version.uid.to_string()]);
    for path in ["by_name/pool%2Fvm%251/latest/data", "by_version/pool%2Fvm%251@2024-01-01T00:00:00Z/data"] {
        assert!(fs::read(mount.path(path)).unwrap() == bytes, "{path}");
    }
    let text = |name: &str| fs::read_to_string(mount.file(&version, name)).unwrap();
    assert_eq!((text("name"), text("size"), text("valid")), ("pool/vm%1\n".into(), "100001\n".into(), "1\n".into()));
    assert_eq!((text("tags"), text("expire"), text("protected")), ("".into(), "".into(), "0\n".into()));
    let data = fs::metadata(mount.file(&version, "data")).unwrap();
    assert_eq!((data.len(), data.mode() & 0o7777, data.mtime()), (100_001, 0o600, 1_704_067_200));
    assert!(data.blocks() * 512 < data.len(), "tools look for holes only then");
    assert_eq!(fs::metadata(mount.file(&version, "name")).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(fs::metadata(mount.path("by_version_uid")).unwrap().permissions().mode() & 0o7777, 0o500);
    assert_eq!(fs::metadata(mount.path("by_name/absent")).unwrap_err().kind(), IoKind::NotFound);
    assert_eq!(errno(File::create(mount.path("new"))), Some(Errno::PERM));
    assert_eq!(errno(fs::remove_dir(mount.file(&version, ""))), Some(Errno::PERM));
}

/// Whatever a version is called: its name leads to it and to nothing else, and stays inside the mount.
#[test]
fn hostile_names_lead_to_their_own_version_each() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(14);
    let (long, other) = (format!("{}1", "x".repeat(511)), format!("{}2", "x".repeat(511)));
    let names = [
        "..",
        ".",
        "/",
        "../../etc",
        "%2E.",
        "%2F",
        "latest",
        "-rf",
        " ",
        "a@2024-01-01T00:00:00Z",
        "a",
        &"ü".repeat(256),
        &"/".repeat(512),
        &long,
        &other,
        "data\u{2028}\u{fffd}",
    ];
    let versions = names.map(|name| (name, scene.backup(&MemoryDevice::with_bytes(name.as_bytes()), name)));
    // One name and one second.
    let again = scene.backup(&MemoryDevice::with_bytes(b"again"), "a");
    let mount = Mount::new(scene.repository(), PATIENT);
    let shown = mount.names("by_name");
    assert_eq!(shown.len(), names.len(), "{shown:?}");
    let mut seen = std::collections::BTreeSet::new();
    for link in mount.names("by_version").iter().map(|name| mount.path("by_version").join(name)) {
        let folder = fs::canonicalize(&link).unwrap();
        assert!(folder.starts_with(fs::canonicalize(mount.path("by_version_uid")).unwrap()), "{link:?}");
        let uid = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if let Some((name, _)) = versions.iter().find(|(_, version)| version.uid.to_string() == uid) {
            assert_eq!(fs::read(link.join("data")).unwrap(), name.as_bytes());
            assert_eq!(fs::read_to_string(link.join("name")).unwrap(), format!("{name}\n"));
        }
        assert!(seen.insert(uid), "{link:?}");
    }
    assert!(seen.contains(&again.uid.to_string()) && seen.len() == names.len() + 1);
}

#[test]
fn new_versions_appear_and_removed_ones_vanish() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(2);
    let old = scene.backup(&MemoryDevice::with_bytes(&noise(2, 50_000)), "v");
    let mount = Mount::new(scene.repository(), PATIENT);
    let open = File::open(mount.file(&old, "data")).unwrap();
    let new = scene.backup(&MemoryDevice::with_bytes(&noise(3, 50_000)), "v");
    let mut both = [old.uid.to_string(), new.uid.to_string()];
    both.sort();
    assert_eq!(mount.names("by_version_uid"), both);
    assert_eq!(mount.names("by_version").len(), 2, "of one second, and yet two");
    assert!(fs::read(mount.path("by_name/v/latest/data")).unwrap() == noise(3, 50_000));
    scene.store.put(&backy_core::names::removed(old.uid), b"").unwrap();
    assert_eq!(mount.names("by_version_uid"), [new.uid.to_string()]);
    assert_eq!(mount.names("by_version"), ["v@2024-01-01T00:00:00Z"]);
    let mut bytes = vec![0; 50_000];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == noise(2, 50_000), "what is open stays");
    assert_eq!(open.metadata().unwrap().len(), 50_000);
}

#[test]
fn labels_change_by_what_is_written() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(3);
    let version = scene.backup(&MemoryDevice::with_bytes(&noise(3, 5000)), "v");
    let repository = scene.repository();
    let mount = Mount::new(repository.clone(), PATIENT);
    let write = |name: &str, text: &str| fs::write(mount.file(&version, name), text);
    write("tags", "daily, keep\n").unwrap();
    write("protected", "1\n").unwrap();
    write("expire", "2026-11-23\n").unwrap();
    let label = || repository.versions().unwrap().versions.remove(0).label;
    assert_eq!(label().tags, ["daily", "keep"].map(str::to_owned).into());
    assert!(label().is_protected);
    assert_eq!(label().expire.unwrap().milliseconds, 1_795_392_000_000);
    let mut appended = OpenOptions::new().append(true).open(mount.file(&version, "tags")).unwrap();
    appended.write_all(b"more\n").unwrap();
    assert_eq!(fs::read_to_string(mount.file(&version, "tags")).unwrap(), "daily,keep,more\n");
    assert_eq!(fs::read_to_string(mount.file(&version, "expire")).unwrap(), "2026-11-23T00:00:00Z\n");
    for (name, text) in [("expire", "soon"), ("protected", "maybe")] {
        assert_eq!(errno(write(name, text)), Some(Errno::INVAL));
    }
    assert_eq!(errno(write("name", "other")), Some(Errno::ACCESS));
    write("tags", "\n").unwrap();
    write("expire", "never").unwrap();
    write("protected", "0").unwrap();
    assert_eq!(label(), backy_core::records::label::Label::default());
}

/// A file through the mount, and the bytes that it should hold.
struct Pair {
    path: PathBuf,
    file: File,
    model: Vec<u8>,
}

impl Pair {
    fn open(path: PathBuf, model: Vec<u8>) -> Pair {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Pair { path, file, model }
    }

    /// One random step on both.
    fn step(&mut self, environment: &Environment, number: u64) {
        let below = |bound: u64| environment.random_below(bound);
        let size = self.model.len() as u64;
        let start = if below(3) == 0 { below(size / 4096 + 1) * 4096 } else { below(size) }.min(size);
        let length =
            [below(16), below(6000), (1 + below(8)) * 4096, below(300_000)][below(4) as usize].min(size - start);
        let part = start as usize..(start + length) as usize;
        let zeroes = [
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE,
        ];
        match below(10) {
            0..3 => {
                let data = noise(number + 1, length as usize);
                self.file.write_all_at(&data, start).unwrap();
                self.model[part].copy_from_slice(&data);
            }
            3..5 if length > 0 => {
                fallocate(&self.file, zeroes[below(3) as usize], start, length).unwrap();
                self.model[part].fill(0);
            }
            5 => self.check_holes(start),
            6 if below(4) == 0 => self.file.sync_all().unwrap(),
            7 if below(4) == 0 => {
                let file = OpenOptions::new().read(true).write(true).open(&self.path).unwrap();
                self.file = file;
            }
            8 if below(4) == 0 => {
                assert_eq!(errno(self.file.set_len(start)), (start != size).then_some(Errno::PERM));
                assert_eq!(errno(self.file.write_all_at(b"x", size)), Some(Errno::NOSPC));
            }
            _ => {
                let mut read = vec![0xee; length as usize + 10];
                let count = self.file.read_at(&mut read, start).unwrap();
                let expected = &self.model[part.start..(part.end + 10).min(self.model.len())];
                assert!(read[..count] == expected[..count] && count >= length as usize, "step {number}: {part:?}");
            }
        }
    }

    fn check_holes(&self, start: u64) {
        let size = self.model.len() as u64;
        let data = match seek(&self.file, SeekFrom::Data(start)) {
            Ok(data) => data,
            Err(error) => {
                assert_eq!(error, Errno::NXIO);
                size
            }
        };
        assert!(data >= start && self.model[start as usize..data as usize].iter().all(|byte| *byte == 0));
        if data < size {
            let hole = seek(&self.file, SeekFrom::Hole(data)).unwrap();
            assert!(hole > data && hole <= size, "{data} {hole}");
        }
    }
}

/// What fsx does: random reads, writes, holes, questions and reopenings against a plain vector.
#[test]
fn random_steps_leave_what_a_plain_vector_holds() {
    if is_impossible() {
        return;
    }
    let seeds = if std::env::var_os("BACKY2_TEST_LONG").is_some() { 50 } else { 2 };
    for seed in 100..100 + seeds {
        let mut scene = Scene::new(seed);
        let mut bytes = noise(seed, 3_000_000 + seed as usize);
        bytes[1_000_000..2_000_000].fill(0);
        let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
        let mount = Mount::new(scene.repository(), PATIENT);
        let mut pair = Pair::open(mount.file(&version, "data"), bytes.clone());
        for number in 0..1500 {
            pair.step(&scene.environment, number);
        }
        assert!(fs::read(&pair.path).unwrap() == pair.model);
        // The kernel's pages are not all that there is to it.
        fadvise(&pair.file, 0, None, Advice::DontNeed).unwrap();
        assert!(fs::read(&pair.path).unwrap() == pair.model, "seed {seed}");
        check_source(&scene.view(&version, ViewSettings::default()), &bytes);
    }
}

#[test]
fn several_threads_read_and_write_at_once() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(5);
    let bytes = noise(5, 8 << 20);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let mount = Mount::new(scene.repository(), PATIENT);
    let path = mount.file(&version, "data");
    let share = bytes.len() / 8;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (path, bytes) = (&path, &bytes);
            scope.spawn(move || {
                let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
                let start = thread * share;
                let mut model = bytes[start..start + share].to_vec();
                let mut read = vec![0; share];
                file.read_exact_at(&mut read, start as u64).unwrap();
                assert!(read == model);
                for place in (0..share - 5000).step_by(50_001) {
                    let data = noise((thread * share + place) as u64, 5000);
                    file.write_all_at(&data, (start + place) as u64).unwrap();
                    model[place..place + 5000].copy_from_slice(&data);
                }
                file.read_exact_at(&mut read, start as u64).unwrap();
                assert!(read == model);
            });
        }
    });
    check_source(&scene.view(&version, ViewSettings::default()), &bytes);
}

#[test]
fn a_damaged_block_answers_eio_and_only_that_one() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(6);
    let bytes = noise(6, 64 * BLOCK);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let repository = scene.repository();
    let bad = slot_of(&repository, &version, 20);
    damage_slot(&scene.store, &repository, bad);
    let mount = Mount::new(scene.repository(), PATIENT);
    let file = OpenOptions::new().read(true).write(true).open(mount.file(&version, "data")).unwrap();
    for block in 0..64 {
        let mut read = vec![0; BLOCK];
        let result = file.read_exact_at(&mut read, (block * BLOCK) as u64);
        if block == 20 {
            assert_eq!(errno(result), Some(Errno::IO));
        } else {
            result.unwrap();
            assert!(read == bytes[block * BLOCK..(block + 1) * BLOCK], "{block}");
        }
    }
    let new = noise(7, BLOCK);
    file.write_all_at(&new, 20 * BLOCK as u64).unwrap();
    let mut read = vec![0; 64 * BLOCK];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read[20 * BLOCK..21 * BLOCK] == new && read[..20 * BLOCK] == bytes[..20 * BLOCK]);
}

#[test]
fn a_store_that_hangs_answers_eio_and_what_is_known_is_served_on() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(8);
    let bytes = noise(8, 64 * BLOCK);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let gate = Arc::new(Gate::closed(scene.store.clone()));
    let mount = Mount::new(scene.repository_in(gate.clone()), Duration::from_millis(50));
    let path = mount.file(&version, "data");
    let file = File::open(&path).unwrap();
    assert_eq!(errno(file.read_exact_at(&mut [0; 10], 0)), Some(Errno::IO));
    scene.store.unavailable_for(u64::MAX);
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64);
    assert_eq!(mount.names("by_version_uid"), [version.uid.to_string()]);
    scene.store.behave();
    gate.set_open(true);
    let mut read = vec![0; bytes.len()];
    let mut tries = 0;
    while file.read_exact_at(&mut read, 0).is_err() {
        tries += 1;
        assert!(tries < 10_000, "it never came back");
    }
    assert!(read == bytes);
}

#[test]
fn what_is_open_is_served_until_it_is_closed() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(9);
    let bytes = noise(9, 1 << 20);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let mut mount = Mount::new(scene.repository(), PATIENT);
    let file = File::open(mount.file(&version, "data")).unwrap();
    let cancel = backy_core::cancel::Cancel::default();
    cancel.cancel();
    let mounted = mount.mounted.take().unwrap();
    let waiting = std::thread::spawn(move || mounted.wait(&cancel));
    while mount.path("by_name").exists() {
        std::thread::yield_now();
    }
    let mut read = vec![0; 1 << 20];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
    drop(file);
    waiting.join().unwrap().unwrap();
}

#[test]
fn two_mounts_at_once_have_writes_of_their_own() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(10);
    let bytes = noise(10, 1 << 20);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let (one, two) = (Mount::new(scene.repository(), PATIENT), Mount::new(scene.repository(), PATIENT));
    let write = |mount: &Mount| OpenOptions::new().write(true).open(mount.file(&version, "data")).unwrap();
    write(&one).write_all_at(b"one", 0).unwrap();
    assert!(fs::read(one.file(&version, "data")).unwrap()[..3] == *b"one", "writes stay though nobody has it open");
    assert!(fs::read(two.file(&version, "data")).unwrap() == bytes);
    let scratch = Scratch::Unnamed(one.folder.path().join("scratch"));
    let settings = MountSettings { allows_others: false, listing_lifetime: Duration::ZERO, scratch };
    let cache = ViewCache::new(scene.repository(), ViewSettings::default()).unwrap();
    let again = mount(cache, &one.path(""), settings);
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Refused, "the same folder");
}

#[test]
fn kept_writes_are_there_again_in_the_next_mount() {
    if is_impossible() {
        return;
    }
    let mut scene = Scene::new(11);
    let bytes = noise(11, 1 << 20);
    let version = scene.backup(&MemoryDevice::with_bytes(&bytes), "v");
    let kept = tempfile::tempdir().unwrap();
    let mut expected = bytes.clone();
    for round in 0..3 {
        let cache = ViewCache::new(scene.repository(), ViewSettings::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Mount::with(cache, folder, Scratch::Kept(kept.path().to_owned()));
        let path = mount.file(&version, "data");
        assert!(fs::read(&path).unwrap() == expected, "round {round}");
        let data = noise(100 + round, 10_000);
        let start = 1000 + round as usize * 7000;
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&data, start as u64).unwrap();
        expected[start..start + 10_000].copy_from_slice(&data);
        let cancel = backy_core::cancel::Cancel::default();
        cancel.cancel();
        mount.mounted.take().unwrap().wait(&cancel).unwrap();
    }
    let view = scene.view(&version, ViewSettings::default());
    assert_eq!(view.size_bytes(), bytes.len() as u64);
    check_source(&view, &bytes);
}
