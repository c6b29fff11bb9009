//! Every kind of store and every layer passes the one suite.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backy_core::environment::{Clock, Environment, Random, Timestamp};
use backy_store::layers::{Counters, Limit, Observe, Retry, RetryPolicy, Throttle};
use backy_store::{DirectoryStore, MemoryStore, OpenHow, StoreOptions, conformance, open};

struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
    fn sleep(&self, _duration: std::time::Duration) {}
}

impl Random for NoTime {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn environment() -> Environment {
    Environment { clock: Arc::new(NoTime), random: Arc::new(NoTime) }
}

/// Makes a new path in `folder` at each call.
fn fresh_paths(folder: PathBuf) -> impl Fn() -> PathBuf {
    let next = AtomicUsize::new(0);
    move || folder.join(next.fetch_add(1, Ordering::Relaxed).to_string())
}

#[test]
fn memory_conforms() {
    conformance::run(&|| Box::new(MemoryStore::new()));
}

#[test]
fn a_directory_on_disk_conforms() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = fresh_paths(folder.path().to_owned());
    conformance::run(&|| Box::new(DirectoryStore::create(&path()).unwrap()));
}

#[test]
fn a_directory_in_memory_conforms() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: needs a tmpfs at /dev/shm");
        return;
    };
    let path = fresh_paths(folder.path().to_owned());
    conformance::run(&|| Box::new(DirectoryStore::create(&path()).unwrap()));
}

#[test]
fn each_layer_conforms() {
    conformance::run(&|| Box::new(Retry::new(MemoryStore::new(), RetryPolicy::default(), environment())));
    conformance::run(&|| {
        Box::new(Throttle::new(MemoryStore::new(), Some(1 << 20), Some(1 << 20), &environment().clock))
    });
    conformance::run(&|| Box::new(Limit::new(MemoryStore::new(), 1, 2)));
    conformance::run(&|| Box::new(Observe::new(MemoryStore::new(), Arc::<Counters>::default())));
}

#[test]
fn what_open_returns_conforms() {
    // In memory if possible, where a sync costs nothing.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = fresh_paths(folder.path().to_owned());
    let options = StoreOptions { read_bytes_per_second: Some(1 << 30), ..StoreOptions::default() };
    conformance::run(&|| {
        Box::new(open(&path().display().to_string(), OpenHow::Create, &options, &environment()).unwrap())
    });
}
