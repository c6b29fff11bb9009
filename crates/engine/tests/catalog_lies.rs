//! A catalog that is wrong, or broken: it costs time and deduplication, and never data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use backy_core::environment::Environment;
use backy_core::names;
use backy_engine::backup::BackupRequest;
use backy_engine::backup::BaseChoice;
use backy_engine::repository::versions::VersionState;
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::FaultyStore;
use support::{Host, new_store, noise, objects, request, seeded, state_of};
use tempfile::TempDir;

const BLOCK: usize = 4096;

fn reopen(store: &FaultyStore, environment: &Environment, state: TempDir) -> Host {
    Host::reopen(Arc::new(store.clone()), environment.clone(), state)
}

#[test]
fn blocks_of_packs_that_are_gone_are_stored_again() {
    for is_reopened in [false, true] {
        let environment = seeded(1);
        let store = FaultyStore::new(Arc::new(new_store(&environment)));
        let bytes = noise(1, 200 * BLOCK);
        let source = MemoryDevice::with_bytes(&bytes);
        let mut host = Host::new(Arc::new(store.clone()), environment.clone());
        let first = host.backup(&source, "vm").manifest;
        for pack in objects(&store, names::PACKS) {
            store.lose(&pack).unwrap();
        }
        if is_reopened {
            drop(host.repository);
            host = reopen(&store, &environment, host.state);
        }
        let without_base = BackupRequest { base: BaseChoice::None, ..request(&source, "vm") };
        let second = host.try_backup(&without_base).unwrap().manifest;
        assert_eq!(second.statistics.new_bytes, bytes.len() as u64);
        let (restored, report) = Host::new(Arc::new(store.clone()), environment.clone()).restore(&second);
        assert!(restored == bytes && report.lost.is_empty());
        // The base is whole as far as anybody knows; all of it is read and stored all the same.
        let third = host.backup(&source, "vm").manifest;
        assert!(host.restore(&third).0 == bytes);
        assert_eq!(state_of(&host.repository, &third), VersionState::Valid);
        assert_eq!(host.restore(&first).1.lost.len(), 1, "all of the first is lost");
        assert_eq!(state_of(&host.repository, &first), VersionState::Invalid);
    }
}

#[test]
fn a_pack_that_is_gone_does_not_stand_in_for_one_that_is_there() {
    // Some packs are gone, others are not: exactly the blocks of the former are stored again.
    let environment = seeded(2);
    let store = FaultyStore::new(Arc::new(new_store(&environment)));
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let parts: Vec<Vec<u8>> = (0..4).map(|seed| noise(seed + 10, 50 * BLOCK)).collect();
    for (number, part) in parts.iter().enumerate() {
        host.backup(&MemoryDevice::with_bytes(part), &format!("part{number}"));
    }
    let packs = objects(&store, names::PACKS);
    assert_eq!(packs.len(), 4);
    store.lose(&packs[1]).unwrap();
    let bytes = parts.concat();
    let version = host.backup(&MemoryDevice::with_bytes(&bytes), "all").manifest;
    assert_eq!(version.statistics.new_bytes, 50 * BLOCK as u64);
    let (restored, report) = host.restore(&version);
    assert!(restored == bytes && report.lost.is_empty());
}

/// All files of a catalog.
fn files(state: &TempDir) -> Vec<PathBuf> {
    let mut folders = vec![state.path().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn a_damaged_catalog_stops_no_backup_and_no_restore() {
    let environment = seeded(3);
    let store = FaultyStore::new(Arc::new(new_store(&environment)));
    let mut bytes = noise(3, 100 * BLOCK);
    let mut host = Host::new(Arc::new(store.clone()), environment.clone());
    host.backup(&MemoryDevice::with_bytes(&bytes), "vm");
    let harms: [fn(&mut Vec<u8>); 4] = [
        |file| file.clear(),
        |file| file.truncate(file.len() / 2),
        |file| file.iter_mut().step_by(37).for_each(|byte| *byte = byte.wrapping_add(1)),
        |file| *file = b"garbage".repeat(1000),
    ];
    let names: Vec<String> =
        files(&host.state).iter().map(|path| path.file_name().unwrap().display().to_string()).collect();
    assert!(!names.is_empty());
    for name in names {
        for (number, harm) in harms.iter().enumerate() {
            let Host { repository, state } = host;
            drop(repository);
            if let Some(path) = files(&state).into_iter().find(|path| path.file_name().unwrap().to_str() == Some(&name))
            {
                let mut file = std::fs::read(&path).unwrap();
                harm(&mut file);
                std::fs::write(&path, file).unwrap();
            }
            host = reopen(&store, &environment, state);
            bytes[number * 5 * BLOCK..][..BLOCK].copy_from_slice(&noise(number as u64 + 50, BLOCK));
            let version = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
            let (restored, report) = host.restore(&version);
            assert!(restored == bytes && report.lost.is_empty(), "{name} with harm {number}");
        }
    }
    let listing = host.repository.versions().unwrap();
    assert!(listing.unreadable.is_empty());
    for entry in &listing.versions {
        assert!(host.restore(&entry.manifest).1.lost.is_empty());
    }
}
