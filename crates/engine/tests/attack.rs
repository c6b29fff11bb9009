//! What somebody tries who wishes the data ill, or is merely unlucky.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use backy_core::environment::Timestamp;
use backy_core::ids::RecordId;
use backy_core::keys::{MasterKey, slot::seal_unprotected};
use backy_core::names::{self, ObjectName};
use backy_core::units::{BlockIndex, BlockRange, BlockSize, ByteRange};
use backy_core::{Error, ErrorKind, Result};
use backy_device::{Source, Target};
use backy_engine::repository::init::{Protection, init};
use backy_engine::repository::open::{open, read_repository_record};
use backy_engine::repository::unlock::{Secret, SecretSource};
use backy_engine::repository::versions::VersionSpec;
use backy_engine::restore::RestoreStart;
use backy_store::memory::MemoryStore;
use backy_store::object_store::list_all;
use backy_store::{ObjectInfo, ObjectRange, ObjectStore};
use backy_testkit::clock::SimulatedClock;
use backy_testkit::device::{DeviceFaults, MemoryDevice};
use backy_testkit::random::environment_with_clock;
use backy_testkit::store::FaultyStore;
use tempfile::TempDir;

use support::*;

const BLOCK: usize = 4096;

/// A source that does something before each read.
struct Troubled<'a> {
    inner: &'a MemoryDevice,
    before_read: &'a (dyn Fn(u64) -> Result<()> + Sync),
}

impl Source for Troubled<'_> {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        (self.before_read)(offset_bytes)?;
        self.inner.read_at(offset_bytes, buffer)
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        self.inner.data_ranges(range)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.inner.check_unchanged()
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

fn data(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| (at / BLOCK).to_le_bytes()[at % 4] | 1).collect()
}

#[test]
fn a_backup_ends_when_the_oldest_read_fails_after_all_others_are_done() {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let environment = seeded(1);
        let host = Host::new(Arc::new(new_store(&environment)), environment);
        let device = MemoryDevice::without_holes(64 << 20);
        let before_read = |offset_bytes: u64| {
            if offset_bytes > 0 {
                return Ok(());
            }
            // The others read on meanwhile, until no memory is left.
            std::thread::sleep(Duration::from_millis(500));
            Err(Error::new(ErrorKind::Io, "the disk is gone"))
        };
        let source = Troubled { inner: &device, before_read: &before_read };
        sender.send(host.try_backup(&request(&source, "vm")).unwrap_err().error.kind()).unwrap();
    });
    let kind = receiver.recv_timeout(Duration::from_secs(30)).expect("the backup hangs");
    assert_eq!(kind, ErrorKind::Io);
}

#[test]
fn a_version_that_was_removed_while_it_was_written_is_no_success() {
    let environment = seeded(2);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment.clone());
    let other = Host::new(store.clone(), environment);
    let device = MemoryDevice::with_bytes(&data(5000));
    // Another host has seen the running backup as incomplete, thought it dead, and removed it.
    let remove = |_: u64| {
        for lease in other.repository.held_leases()? {
            for uid in lease.record.map(|record| record.versions).unwrap_or_default() {
                store.put(&names::removed(uid), b"whatever stands in it")?;
            }
        }
        Ok(())
    };
    let source = Troubled { inner: &device, before_read: &remove };
    let failure = host.try_backup(&request(&source, "vm")).unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Refused);
}

/// Found by killing real processes: the first job of a version was alive, and completed it when another one, which had
/// gone on from it, was about to remove it.
#[test]
fn what_its_first_job_completes_after_all_is_not_removed_by_the_one_that_continued_it() {
    let environment = seeded(3);
    let store = Arc::new(new_store(&environment));
    let host = Host::new(store.clone(), environment);
    let device = MemoryDevice::with_bytes(&data(5000));
    let first = interrupted(&host, &device);
    let uid: backy_core::ids::VersionUid = first.parse().unwrap();
    let complete = |_: u64| store.put(&names::manifest(uid), b"whatever stands in it");
    let source = Troubled { inner: &device, before_read: &complete };
    let mut again = request(&source, "vm");
    again.continued = Some(VersionSpec::Uid(first));
    host.try_backup(&again).unwrap();
    let is_there = |name: &ObjectName| !objects(store.as_ref(), name.as_str()).is_empty();
    assert!(is_there(&names::continued(uid)), "its first job must be able to see that it was continued");
    assert!(!is_there(&names::removed(uid)), "what may have been reported as good was removed");
}

/// Leaves an incomplete version of `device` and returns its uid.
fn interrupted(host: &Host, device: &MemoryDevice) -> String {
    let cancel = backy_core::cancel::Cancel::default();
    let source = Troubled {
        inner: device,
        before_read: &|_| {
            cancel.cancel();
            Ok(())
        },
    };
    let mut first = request(&source, "vm");
    first.snapshot_name = "monday".to_owned();
    let progress = backy_engine::progress::Progress::default();
    let failure = backy_engine::backup::run(&host.repository, &first, &progress, &cancel).unwrap_err();
    failure.incomplete.unwrap().to_string()
}

#[test]
fn a_backup_of_one_snapshot_is_not_continued_from_another() {
    let environment = seeded(3);
    let host = Host::new(Arc::new(new_store(&environment)), environment);
    let device = MemoryDevice::with_bytes(&data(10));
    let uid = interrupted(&host, &device);
    let mut again = request(&device, "vm");
    again.continued = Some(VersionSpec::Uid(uid));
    again.snapshot_name = "tuesday".to_owned();
    assert_eq!(host.try_backup(&again).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    again.snapshot_name = "monday".to_owned();
    assert!(host.try_backup(&again).is_ok());
}

#[test]
fn the_newest_version_is_the_last_one_made_whatever_the_clock_says() {
    let clock = Arc::new(SimulatedClock::new(Timestamp { milliseconds: 1_800_000_000_000 }));
    let environment = environment_with_clock(4, clock.clone());
    let host = Host::new(Arc::new(new_store(&environment)), environment);
    for (year_shift, blocks) in [(0, 10), (100_000_000_000, 11), (0, 12), (-900_000_000_000_i64, 13)] {
        clock.set_now(Timestamp { milliseconds: 1_800_000_000_000_u64.saturating_add_signed(year_shift) });
        let made = host.backup(&MemoryDevice::with_bytes(&data(blocks)), "vm").manifest;
        let newest = host.repository.find_version(&VersionSpec::Latest { name: "vm".to_owned() }).unwrap();
        assert_eq!(newest.manifest.uid, made.uid);
    }
}

#[test]
fn a_continued_restore_reports_what_was_lost_before() {
    let environment = seeded(5);
    let store = Arc::new(FaultyStore::new(Arc::new(new_store(&environment))));
    let host = Host::new(store.clone(), environment);
    let source = MemoryDevice::new(66 << 30);
    source.write_at(0, &data(3)).unwrap();
    source.write_at(65 << 30, &data(5)).unwrap();
    let mut backup = request(&source, "vm");
    backup.block_size = Some(BlockSize::MAX);
    let version = host.try_backup(&backup).unwrap().manifest;
    for pack in list_all(store.as_ref(), names::PACKS).unwrap() {
        store.flip_bit(&pack.name, 80).unwrap();
    }

    let folder = TempDir::new().unwrap();
    let target = MemoryDevice::new(version.size_bytes);
    target.set_known_zero(true);
    target.set_faults(DeviceFaults { writes_max: Some(0), ..DeviceFaults::default() });
    let mut restore = restore_request(&version, &target);
    restore.journal = Some(folder.path().join("journal.json"));
    let failure = host.try_restore(&restore).unwrap_err();
    assert!(failure.done_before.0 > 0);

    target.set_known_zero(false);
    target.set_faults(DeviceFaults::default());
    restore.start = RestoreStart::Journal;
    let report = host.try_restore(&restore).unwrap();
    assert_eq!(report.started_at, failure.done_before);
    let lost: Vec<BlockRange> = report.lost.iter().map(|lost| lost.blocks).collect();
    assert_eq!(lost, [BlockRange::between(BlockIndex(0), BlockIndex(1))]);
}

/// Nobody has told where a secret is: a user at a terminal would be asked.
struct Nothing;

impl SecretSource for Nothing {
    fn is_configured(&self) -> bool {
        false
    }

    fn secret(&self) -> Result<Secret> {
        Err(Error::new(ErrorKind::WrongKey, "asked"))
    }
}

#[test]
fn a_key_slot_without_a_secret_does_not_open_an_encrypted_repository() {
    let environment = seeded(6);
    let store = Arc::new(new_store(&environment));
    let repository = read_repository_record(store.as_ref()).unwrap().id;
    let id = RecordId::generate(&environment);
    let foreign = MasterKey::generate(&environment);
    let slot = seal_unprotected(repository, id, "", Timestamp::default(), &foreign, &environment).unwrap();
    store.put(&names::key_slot(id), &slot).unwrap();
    let state = TempDir::new().unwrap();
    let error = open(store, &Nothing, state.path(), settings(), environment).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    assert!(error.to_string().contains("without a secret"), "{error}");
}

/// A store in which another host begins a repository at the same moment.
struct Race(MemoryStore);

impl ObjectStore for Race {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        if name.as_str().starts_with(names::KEYS) {
            self.0.put(&names::key_slot(RecordId::from_bytes([1; 16])), b"of the other host")?;
        }
        self.0.put(name, body)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        self.0.get(name, size_bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        self.0.get_range(name, range, buffer)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        self.0.list(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.0.delete(name)
    }

    fn url(&self) -> String {
        self.0.url()
    }
}

#[test]
fn two_hosts_that_make_a_repository_at_once_do_not_overwrite_each_others_keys() {
    let store = Race(MemoryStore::new());
    let error = init(&store, &Protection::Unencrypted, &seeded(7)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let names: Vec<ObjectName> = list_all(&store, "").unwrap().into_iter().map(|object| object.name).collect();
    assert_eq!(names, [names::key_slot(RecordId::from_bytes([1; 16]))]);
}
