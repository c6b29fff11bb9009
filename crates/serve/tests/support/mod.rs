//! A repository in memory with versions of known content, for the tests of the doors.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::environment::Environment;
use backy_core::ids::SlotAddress;
use backy_core::map::{MapCursor, Place};
use backy_core::names::{self, ObjectName, PackName};
use backy_core::pack::{SuffixRead, read_directory};
use backy_core::policy::audit::AuditSettings;
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use backy_device::Source;
use backy_engine::Repository;
use backy_engine::backup::{self, BackupRequest, BaseChoice, OnMismatch};
use backy_engine::progress::Progress;
use backy_engine::repository::init::{Protection, init};
use backy_engine::repository::open::open;
use backy_engine::repository::unlock::{Secret, SecretSource};
use backy_engine::repository::versions::VersionSpec;
use backy_engine::settings::Settings;
use backy_serve::{VersionView, ViewCache, ViewSettings};
use backy_store::memory::MemoryStore;
use backy_store::object_store::list_all;
use backy_store::{ObjectInfo, ObjectRange, ObjectStore};
use backy_testkit::random::environment;
use backy_testkit::store::FaultyStore;
use tempfile::TempDir;

/// The block size of all versions here.
pub const BLOCK: usize = 4096;

const KEY: [u8; 32] = [42; 32];

struct FixedKey;

impl SecretSource for FixedKey {
    fn is_configured(&self) -> bool {
        true
    }

    fn secret(&self) -> backy_core::Result<Secret> {
        Ok(Secret::KeyFile(KEY.to_vec().into()))
    }
}

/// A store with a repository, and hosts that use it.
pub struct Scene {
    pub store: FaultyStore,
    pub environment: Environment,
    folders: Vec<TempDir>,
}

impl Scene {
    /// Makes a repository in a new memory store.
    pub fn new(seed: u64) -> Scene {
        println!("seed {seed}");
        let environment = environment(seed);
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        let secret = Secret::KeyFile(KEY.to_vec().into());
        let cost = backy_core::keys::slot::ArgonCost::new(8 << 10, 1, 1).unwrap();
        init(&store, &Protection::Encrypted { secret, cost }, &environment).unwrap();
        Scene { store, environment, folders: Vec::new() }
    }

    /// Opens the repository as a host without any state.
    pub fn repository(&mut self) -> Arc<Repository> {
        let store = Arc::new(self.store.clone());
        self.repository_in(store)
    }

    /// Opens the repository through another store.
    pub fn repository_in(&mut self, store: Arc<dyn ObjectStore>) -> Arc<Repository> {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            simultaneous_reads: NonZeroUsize::new(3).unwrap(),
            checkpoint_interval: Duration::ZERO,
            ..Settings::default()
        };
        let repository = open(store, &FixedKey, folder.path(), settings, self.environment.clone()).unwrap();
        self.folders.push(folder);
        Arc::new(repository)
    }

    /// Backs a source up and returns the version.
    pub fn backup(&mut self, source: &dyn Source, name: &str) -> Manifest {
        let repository = self.repository();
        let request = BackupRequest {
            source,
            name: name.to_owned(),
            snapshot_name: String::new(),
            block_size: Some(BlockSize::MIN),
            block_size_default: BlockSize::DEFAULT,
            base: BaseChoice::Newest,
            continued: None,
            hints: None,
            may_be_empty: false,
            label: LabelChange::default(),
            audit: AuditSettings::default(),
            on_mismatch: OnMismatch::ReadEverything,
            verify_percent: 0.0,
            host: "test".to_owned(),
            program: "test".to_owned(),
        };
        let report = backup::run(&repository, &request, &Progress::default(), &Cancel::default()).unwrap();
        repository.find_version(&VersionSpec::Uid(report.manifest.uid.to_string())).unwrap().manifest
    }

    /// Opens a version on a host without any state.
    pub fn view(&mut self, version: &Manifest, settings: ViewSettings) -> VersionView {
        let cache = ViewCache::new(self.repository(), settings).unwrap();
        VersionView::open(&cache, version.uid).unwrap()
    }
}

/// Bytes that do not compress; no two blocks of any seeds are equal.
pub fn noise(seed: u64, length_bytes: usize) -> Vec<u8> {
    backy_testkit::pattern::bytes(backy_device::null::Pattern::Random, seed, length_bytes)
}

/// Returns the slot of a block.
pub fn slot_of(repository: &Repository, version: &Manifest, block: u64) -> SlotAddress {
    let range = BlockRange { start: BlockIndex(block), count: BlockCount(1) };
    let extent = MapCursor::new(repository, version.map, range).next().unwrap().unwrap();
    match extent.place {
        Place::Stored { pack, first_slot } => SlotAddress { pack, slot: first_slot },
        place => panic!("block {block} is {place:?}"),
    }
}

/// *Hostile*: inverts a bit in the middle of a slot.
pub fn damage_slot(store: &FaultyStore, repository: &Repository, address: SlotAddress) {
    let objects = list_all(store, &names::pack_prefix(address.pack)).unwrap();
    let name: ObjectName = objects[0].name.clone();
    let object = store.inner().get(&name, u64::MAX).unwrap();
    let pack = PackName::parse(&name).unwrap();
    let read = read_directory(repository.keys(), pack, None, &object).unwrap();
    let SuffixRead::Directory(directory) = read else { panic!("{name} has no directory") };
    let locator = directory.locator(address.slot).unwrap();
    store.flip_bit(&name, (locator.offset_bytes + locator.stored_length / 2) as usize).unwrap();
}

/// Reads bytes that must be readable.
pub fn read(source: &dyn Source, offset_bytes: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    source.read_at(offset_bytes, &mut bytes).unwrap();
    bytes
}

/// A store whose reads of packs wait until somebody opens the gate.
pub struct Gate {
    inner: FaultyStore,
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Puts a closed gate in front of a store.
    pub fn closed(inner: FaultyStore) -> Gate {
        Gate { inner, is_open: Mutex::new(false), changed: Condvar::new() }
    }

    /// Opens or closes the gate.
    pub fn set_open(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.changed.notify_all();
    }
}

impl ObjectStore for Gate {
    fn put(&self, name: &ObjectName, body: &[u8]) -> backy_core::Result<()> {
        self.inner.put(name, body)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> backy_core::Result<Vec<u8>> {
        self.inner.get(name, size_bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> backy_core::Result<()> {
        let is_open = self.is_open.lock().unwrap();
        drop(self.changed.wait_while(is_open, |is_open| !*is_open).unwrap());
        self.inner.get_range(name, range, buffer)
    }

    fn list(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectInfo) -> backy_core::Result<()>,
    ) -> backy_core::Result<()> {
        self.inner.list(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> backy_core::Result<()> {
        self.inner.delete(name)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
