//! How often the store is asked: on a far store each request costs time, whatever its size.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use backy_core::Result;
use backy_core::cancel::Cancel;
use backy_core::environment::Environment;
use backy_core::names::{self, ObjectName};
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::Manifest;
use backy_device::Target;
use backy_engine::backup::BackupRequest;
use backy_engine::cleanup::{self, CleanupRequest};
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::versions::VersionSpec;
use backy_engine::restore::RestoreRequest;
use backy_store::memory::MemoryStore;
use backy_store::object_store::{ObjectInfo, ObjectRange, ObjectStore};
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::{Call, FaultyStore, Operation};
use support::{Host, all_bytes, new_store, noise, objects, request, restore_request, seeded, settings, spec};

/// A store that is asked through a log, and a host without any state on it.
fn fresh(store: &MemoryStore, environment: &Environment) -> (Arc<FaultyStore>, Host) {
    let log = Arc::new(FaultyStore::new(Arc::new(store.clone())));
    let host = Host::new(log.clone(), environment.clone());
    log.clear_log();
    (log, host)
}

fn is_of(call: &Call, operation: Operation, prefix: &str) -> bool {
    call.operation == operation && call.name.starts_with(prefix)
}

fn count(log: &FaultyStore, operation: Operation, prefix: &str) -> usize {
    log.log().iter().filter(|call| is_of(call, operation, prefix)).count()
}

/// Makes versions with a label each, in turn of two names.
fn versions(store: &MemoryStore, environment: &Environment, number: usize) -> Vec<Manifest> {
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let volume = noise(1, 64 << 10);
    let source = MemoryDevice::with_bytes(&volume);
    let made = (0..number).map(|number| host.backup(&source, ["vm", "db"][number % 2]).manifest);
    let made: Vec<Manifest> = made.collect();
    for version in &made {
        let change = LabelChange { note: Some("kept".to_owned()), ..LabelChange::default() };
        backy_engine::label::run(&host.repository, &spec(version), &change).unwrap();
    }
    made
}

#[test]
fn a_version_that_is_named_is_found_without_reading_the_others() {
    let environment = seeded(1);
    let store = new_store(&environment);
    let made = versions(&store, &environment, 10);

    let (log, host) = fresh(&store, &environment);
    let found = host.repository.find_version(&spec(&made[3])).unwrap();
    assert_eq!((found.manifest.uid, found.label.note.as_str()), (made[3].uid, "kept"));
    assert_eq!(count(&log, Operation::Get, names::VERSIONS), 1);
    assert_eq!(count(&log, Operation::Get, names::LABELS), 1);

    // By name the manifests are needed to know the names; no more than those.
    let (log, host) = fresh(&store, &environment);
    let found = host.repository.find_version(&VersionSpec::Latest { name: "vm".to_owned() }).unwrap();
    assert_eq!((found.manifest.uid, found.label.note.as_str()), (made[8].uid, "kept"));
    assert_eq!(count(&log, Operation::Get, names::VERSIONS), 10);
    assert_eq!(count(&log, Operation::Get, names::LABELS), 5);
}

/// A store that likes large requests, and answers no read of a manifest before `together` are asked for at once, or nobody
/// comes for long.
struct Far {
    inner: MemoryStore,
    together: usize,
    /// How many are read now, and at most until now.
    reading: Mutex<(usize, usize)>,
    changed: Condvar,
    /// How many requests have deleted something.
    deletions: AtomicUsize,
}

impl Far {
    fn new(inner: &MemoryStore, together: usize) -> Far {
        Far {
            inner: inner.clone(),
            together,
            reading: Mutex::default(),
            changed: Condvar::new(),
            deletions: AtomicUsize::new(0),
        }
    }
}

impl ObjectStore for Far {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        self.inner.put(name, body)
    }
    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        if name.as_str().starts_with(names::VERSIONS) {
            let mut reading = self.reading.lock().unwrap();
            reading.0 += 1;
            reading.1 = reading.1.max(reading.0);
            self.changed.notify_all();
            let is_alone = |reading: &mut (usize, usize)| reading.1 < self.together;
            drop(self.changed.wait_timeout_while(reading, Duration::from_secs(5), is_alone).unwrap());
            self.reading.lock().unwrap().0 -= 1;
        }
        self.inner.get(name, size_bytes_max)
    }
    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range(name, range, buffer)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.deletions.fetch_add(1, Ordering::SeqCst);
        self.inner.delete(name)
    }
    fn delete_many(&self, names: &[ObjectName]) -> Vec<Result<()>> {
        self.deletions.fetch_add(1, Ordering::SeqCst);
        self.inner.delete_many(names)
    }
    fn piece_bytes(&self) -> u32 {
        16 << 20
    }
    fn url(&self) -> String {
        self.inner.url()
    }
}

#[test]
fn a_host_without_state_reads_as_many_manifests_at_once_as_it_may() {
    let environment = seeded(2);
    let store = new_store(&environment);
    let made = versions(&store, &environment, 9);
    let together = settings().simultaneous_reads.get();
    let store = Arc::new(Far::new(&store, together));
    let host = Host::new(store.clone(), environment);
    assert_eq!(host.repository.versions().unwrap().versions.len(), made.len());
    assert_eq!(store.reading.lock().unwrap().1, together);
}

#[test]
fn a_restore_from_a_far_store_takes_few_large_requests() {
    let environment = seeded(3);
    let store = new_store(&environment);
    let mut volume = noise(3, 160 << 20);
    for block in volume.chunks_mut(16 << 10) {
        block[8 << 10..].fill(0x55);
    }
    let source = MemoryDevice::with_bytes(&volume);
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let request = BackupRequest { block_size: None, ..request(&source, "vm") };
    let version = host.try_backup(&request).unwrap().manifest;

    let log = Arc::new(FaultyStore::new(Arc::new(Far::new(&store, 1))));
    let host = Host::new(log.clone(), environment);
    log.clear_log();
    assert!(host.restore(&version).0 == volume);
    let (packs, stored_bytes) = (objects(&store, names::PACKS).len(), store.size_bytes());
    assert!(packs >= 3, "{packs} packs");
    // A directory and two halves of each pack, and the map.
    assert!(count(&log, Operation::GetRange, names::PACKS) <= 3 * packs + 2, "{packs} packs, {:#?}", log.log());
    assert_eq!(count(&log, Operation::List, names::PACKS), 1);
    let read_bytes: u64 = log.log().iter().filter(|call| call.operation == Operation::GetRange).map(|c| c.bytes).sum();
    assert!(read_bytes < stored_bytes + packs as u64 * (64 << 10), "{read_bytes} of {stored_bytes}");
}

#[test]
fn a_restore_of_what_differs_reads_no_more_than_that() {
    let environment = seeded(4);
    let store = new_store(&environment);
    let volume = noise(4, 64 << 20);
    let source = MemoryDevice::with_bytes(&volume);
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let version = host.backup(&source, "vm").manifest;

    let log = Arc::new(FaultyStore::new(Arc::new(Far::new(&store, 1))));
    let host = Host::reopen(log.clone(), environment, host.state);
    let target = MemoryDevice::with_bytes(&volume);
    // In two places far from each other, two blocks with something between them.
    for offset in [10 << 20, (10 << 20) + (64 << 10), 50 << 20] {
        target.write_at(offset, &[0xaa; 4096]).unwrap();
    }
    log.clear_log();
    let request = RestoreRequest { writes_differences_only: true, ..restore_request(&version, &target) };
    let report = host.try_restore(&request).unwrap();
    assert!(all_bytes(&target) == volume);
    assert_eq!(report.written_bytes, 3 * 4096);
    let reads: Vec<Call> = log.log().into_iter().filter(|call| call.operation == Operation::GetRange).collect();
    let read_bytes: u64 = reads.iter().map(|call| call.bytes).sum();
    assert!(read_bytes < 1 << 20, "{reads:#?}");
}

#[test]
fn a_cleanup_deletes_many_objects_with_each_request() {
    let environment = seeded(5);
    let store = new_store(&environment);
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    for number in 0..12 {
        let source = MemoryDevice::with_bytes(&noise(10 + number, 1 << 20));
        let version = host.backup(&source, &format!("vm{number}")).manifest;
        let change = LabelChange { note: Some("gone soon".to_owned()), ..LabelChange::default() };
        backy_engine::label::run(&host.repository, &spec(&version), &change).unwrap();
        let removal = RemoveRequest { version: spec(&version), young: Duration::ZERO, is_forced: true };
        remove::run(&host.repository, &removal).unwrap();
    }
    let far = Arc::new(Far::new(&store, 1));
    let host = Host::new(far.clone(), environment);
    let everything = CleanupRequest { is_dry_run: false, compact_below_percent: 100.0, time_max: None };
    let report = cleanup::run(&host.repository, &everything, &Progress::default(), &Cancel::default()).unwrap();
    assert_eq!((report.deleted_versions.len(), report.deleted_packs.len()), (12, 12));
    for prefix in [names::PACKS, names::VERSIONS, names::LABELS, names::INDEX] {
        assert!(objects(&store, prefix).is_empty(), "{prefix}: {:?}", objects(&store, prefix));
    }
    // Manifests, labels, tombstones, packs, index records, the own lease.
    let requests = far.deletions.load(Ordering::SeqCst);
    assert!(requests <= 8, "{requests} requests to delete what 12 versions have left");
}
