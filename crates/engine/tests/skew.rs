//! Hosts whose clocks differ by an hour each way: nobody is given up, the newest version is the last one, nothing is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::names;
use backy_core::records::lease::JobKind;
use backy_engine::cleanup::{self, CleanupReport, CleanupRequest};
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::leases;
use backy_engine::repository::versions::{VersionSpec, VersionState};
use backy_store::memory::MemoryStore;
use backy_testkit::clock::{START, SimulatedClock};
use backy_testkit::device::MemoryDevice;
use backy_testkit::random::environment_with_clock;
use support::{Host, all_bytes, new_store, noise, objects, seeded, spec};

const HOUR_MILLISECONDS: u64 = 3_600_000;
const BLOCK: usize = 4096;

/// Hosts an hour behind, right, and an hour ahead; none knows whether a process of another one is alive.
fn hosts(store: &MemoryStore) -> Vec<(Arc<SimulatedClock>, Host)> {
    let host = |number: u64| {
        let clock = Arc::new(SimulatedClock::default());
        let now = START.milliseconds + number * HOUR_MILLISECONDS - HOUR_MILLISECONDS;
        clock.set_now(backy_core::environment::Timestamp { milliseconds: now });
        let host = Host::new(Arc::new(store.clone()), environment_with_clock(20 + number, clock.clone()));
        (clock, Host { repository: host.repository.on_host(leases::Host::default()), state: host.state })
    };
    (0..3).map(host).collect()
}

fn clean(host: &Host) -> CleanupReport {
    let request = CleanupRequest { is_dry_run: false, compact_below_percent: 100.0, time_max: None };
    cleanup::run(&host.repository, &request, &Progress::default(), &Cancel::default()).unwrap()
}

fn remove(host: &Host, version: &backy_core::records::manifest::Manifest) {
    let request = RemoveRequest { version: spec(version), young: Duration::ZERO, is_forced: true };
    remove::run(&host.repository, &request).unwrap();
}

#[test]
fn the_newest_version_is_the_last_one_whatever_the_clocks_say() {
    let store = new_store(&seeded(1));
    let hosts = hosts(&store);
    let mut bytes = noise(1, 40 * BLOCK);
    // From the one that is ahead to the one that is behind, and on.
    for round in 0..6 {
        let (clock, host) = &hosts[2 - round % 3];
        bytes[round * BLOCK..][..BLOCK].copy_from_slice(&noise(100 + round as u64, BLOCK));
        let version = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        for (_, other) in &hosts {
            let found = other.repository.find_version(&VersionSpec::Latest { name: "vm".to_owned() }).unwrap();
            assert_eq!((found.manifest.uid, found.state), (version.uid, VersionState::Valid), "round {round}");
            assert!(other.restore(&found.manifest).0 == bytes);
        }
        clock.advance(Duration::from_secs(1));
    }
}

#[test]
fn no_job_is_given_up_and_nothing_that_it_relies_on_is_deleted() {
    let store = new_store(&seeded(2));
    let hosts = hosts(&store);
    for (reader, cleaner) in [(0, 2), (2, 0), (1, 2), (1, 0)] {
        let device = MemoryDevice::with_bytes(&noise(7 + reader as u64, 60 * BLOCK));
        let version = hosts[reader].1.backup(&device, "vm").manifest;
        let lease = hosts[reader].1.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
        remove(&hosts[cleaner].1, &version);
        let report = clean(&hosts[cleaner].1);
        assert_eq!((report.revoked.len(), report.deleted_packs.len()), (0, 0), "{reader} {cleaner}");
        assert!(objects(&store, names::VERSIONS).contains(&names::manifest(version.uid)));
        drop(lease);
        assert!(clean(&hosts[cleaner].1).deleted_versions.contains(&version.uid));
    }
    let device = MemoryDevice::with_bytes(&noise(50, 60 * BLOCK));
    let version = hosts[2].1.backup(&device, "kept").manifest;
    for (_, host) in &hosts {
        clean(host);
        assert!(host.restore(&version).0 == all_bytes(&device));
    }
    assert_eq!(objects(&store, names::PACKS).len(), 1);
}
