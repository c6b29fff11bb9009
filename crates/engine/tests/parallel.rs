//! Several backups at once into one repository: each is right, and finds afterwards what the others have stored.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::Arc;

use backy_core::environment::Environment;
use backy_core::records::manifest::Manifest;
use backy_engine::repository::versions::VersionState;
use backy_engine::settings::Settings;
use backy_store::memory::MemoryStore;
use backy_testkit::device::MemoryDevice;
use support::{Host, new_store, noise, seeded, settings, state_of};
use tempfile::TempDir;

const BLOCK: usize = 4096;
const VOLUME_BYTES: usize = 6 << 20;

fn open(store: &MemoryStore, environment: &Environment, state: TempDir) -> Host {
    let settings = Settings { pack_size_bytes: 1 << 20, ..settings() };
    Host::with_settings(Arc::new(store.clone()), environment.clone(), state, settings)
}

fn new_host(store: &MemoryStore, environment: &Environment) -> Host {
    open(store, environment, TempDir::new().unwrap())
}

/// Volumes of which each has half in common with the one before.
fn volumes(count: usize) -> Vec<Vec<u8>> {
    let all = noise(1, VOLUME_BYTES * (count + 1) / 2);
    (0..count).map(|number| all[number * VOLUME_BYTES / 2..][..VOLUME_BYTES].to_vec()).collect()
}

/// Backs up `volumes` at once, each with one of `hosts`, and checks that they restore right on all of them.
fn backup_at_once(hosts: &[Host], volumes: &[Vec<u8>]) -> Vec<Manifest> {
    let versions: Vec<Manifest> = std::thread::scope(|scope| {
        let backup = |(number, (host, volume)): (usize, (&'_ Host, &'_ Vec<u8>))| {
            host.backup(&MemoryDevice::with_bytes(volume), &format!("vm{number}")).manifest
        };
        let jobs: Vec<_> = hosts.iter().zip(volumes).enumerate().map(|job| scope.spawn(move || backup(job))).collect();
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    });
    for host in hosts {
        for (version, volume) in versions.iter().zip(volumes) {
            let (restored, report) = host.restore(version);
            assert!(restored == *volume && report.lost.is_empty());
            assert_eq!(state_of(&host.repository, version), VersionState::Valid);
        }
    }
    versions
}

/// Checks that nearly all of a volume is found in the repository.
fn check_deduplicated(host: &Host, volume: &[u8], name: &str) {
    let version = host.backup(&MemoryDevice::with_bytes(volume), name).manifest;
    let new = version.statistics.new_bytes;
    assert!(new <= volume.len() as u64 / 50, "{new} of {} bytes are stored again", volume.len());
    assert!(host.restore(&version).0 == volume);
}

#[test]
fn backups_of_two_hosts_at_once_are_right_and_each_finds_what_the_other_stored() {
    let environment = seeded(1);
    let store = new_store(&environment);
    let hosts = [new_host(&store, &environment), new_host(&store, &environment)];
    let volumes = volumes(2);
    backup_at_once(&hosts, &volumes);
    // Each takes up the other's volume, under a name that has no base.
    check_deduplicated(&hosts[0], &volumes[1], "second of the other");
    check_deduplicated(&hosts[1], &volumes[0], "first of the other");
    // And so does a host that knows nothing.
    let third = new_host(&store, &environment);
    for volume in &volumes {
        check_deduplicated(&third, volume, "of a third");
    }
}

#[test]
fn backups_of_one_host_at_once_share_its_catalog() {
    let environment = seeded(2);
    let store = new_store(&environment);
    let state = TempDir::new().unwrap();
    let link = |state: &TempDir| {
        // Two processes with one state folder; the folder itself belongs to the test.
        let folder = TempDir::new().unwrap();
        std::fs::remove_dir(folder.path()).unwrap();
        std::os::unix::fs::symlink(state.path(), folder.path()).unwrap();
        folder
    };
    let hosts: Vec<Host> = (0..3).map(|_| open(&store, &environment, link(&state))).collect();
    let volumes = volumes(3);
    backup_at_once(&hosts, &volumes);
    for (host, volume) in hosts.iter().zip(volumes.iter().rev()) {
        check_deduplicated(host, volume, "again");
    }
    for Host { repository, state } in hosts {
        drop(repository);
        std::fs::remove_file(state.path()).unwrap();
        let _ = state.keep();
    }
}

#[test]
fn what_was_stored_is_found_again_after_the_catalog_is_gone() {
    let environment = seeded(3);
    let store = new_store(&environment);
    let volume = noise(3, VOLUME_BYTES);
    let host = new_host(&store, &environment);
    let first = host.backup(&MemoryDevice::with_bytes(&volume), "vm").manifest;
    assert_eq!(first.statistics.new_bytes, volume.len() as u64);
    let Host { repository, state } = host;
    drop(repository);
    std::fs::remove_dir_all(state.path()).unwrap();
    std::fs::create_dir(state.path()).unwrap();
    let host = open(&store, &environment, state);
    check_deduplicated(&host, &volume, "other");
    assert!(host.restore(&first).0 == volume);
}

#[test]
fn a_volume_that_shares_few_scattered_blocks_finds_those_that_a_sample_leads_to() {
    let environment = seeded(4);
    let store = new_store(&environment);
    let volume = noise(4, VOLUME_BYTES);
    new_host(&store, &environment).backup(&MemoryDevice::with_bytes(&volume), "vm");
    // Runs of 512 blocks in another order, with a new block between them.
    let mut other = Vec::new();
    for (number, run) in volume.chunks(512 * BLOCK).enumerate().collect::<Vec<_>>().into_iter().rev() {
        other.extend_from_slice(run);
        other.extend_from_slice(&noise(100 + number as u64, BLOCK));
    }
    let host = new_host(&store, &environment);
    let version = host.backup(&MemoryDevice::with_bytes(&other), "other").manifest;
    let found = version.statistics.deduplicated_bytes;
    assert!(found > volume.len() as u64 * 8 / 10, "{found} of {} found", volume.len());
    assert!(host.restore(&version).0 == other);
}
