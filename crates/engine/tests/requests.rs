//! How often the store is asked: on a far store each request costs time, whatever its size.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use backy_core::Result;
use backy_core::environment::Environment;
use backy_core::names::{self, ObjectName};
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::Manifest;
use backy_engine::repository::versions::VersionSpec;
use backy_store::memory::MemoryStore;
use backy_store::object_store::{ObjectInfo, ObjectRange, ObjectStore};
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::{Call, FaultyStore, Operation};
use support::{Host, new_store, noise, seeded, settings, spec};

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

/// A store that answers no read of a manifest before another one is asked for too, or nobody comes for long.
struct Meeting {
    inner: MemoryStore,
    reading: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl ObjectStore for Meeting {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        self.inner.put(name, body)
    }
    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        if name.as_str().starts_with(names::VERSIONS) {
            let mut reading = self.reading.lock().unwrap();
            reading.0 += 1;
            reading.1 = reading.1.max(reading.0);
            self.changed.notify_all();
            let is_alone = |reading: &mut (usize, usize)| reading.1 < settings().simultaneous_reads.get();
            drop(self.changed.wait_timeout_while(reading, Duration::from_secs(20), is_alone).unwrap());
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
        self.inner.delete(name)
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
    let store = Arc::new(Meeting { inner: store, reading: Mutex::default(), changed: Condvar::new() });
    let host = Host::new(store.clone(), environment);
    assert_eq!(host.repository.versions().unwrap().versions.len(), made.len());
    assert_eq!(store.reading.lock().unwrap().1, settings().simultaneous_reads.get());
}
