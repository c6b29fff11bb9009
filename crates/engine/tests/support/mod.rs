//! A repository in memory, for the tests of the engine: one store, any number of hosts with state folders of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::environment::Environment;
use backy_core::hint::Hint;
use backy_core::ids::{PackId, SlotAddress};
use backy_core::map::{MapCursor, Place};
use backy_core::names::{self, ObjectName, PackName};
use backy_core::pack::{SuffixRead, read_directory};
use backy_core::policy::audit::AuditSettings;
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use backy_device::Source;
use backy_engine::Repository;
use backy_engine::backup::{self, BackupFailure, BackupReport, BackupRequest, BaseChoice, OnMismatch};
use backy_engine::progress::Progress;
use backy_engine::repository::init::{Protection, init};
use backy_engine::repository::leases;
use backy_engine::repository::open::open;
use backy_engine::repository::unlock::{Secret, SecretSource};
use backy_engine::repository::versions::{VersionSpec, VersionState};
use backy_engine::restore::{self, RestoreFailure, RestoreReport, RestoreRequest, RestoreStart};
use backy_engine::settings::Settings;
use backy_store::ObjectStore;
use backy_store::memory::MemoryStore;
use backy_store::object_store::list_all;
use backy_testkit::device::MemoryDevice;
use backy_testkit::random::environment;
use backy_testkit::store::FaultyStore;
use tempfile::TempDir;

/// A key file's content, so that no test waits for Argon2.
pub const KEY: [u8; 32] = [42; 32];

/// Gives a fixed key.
pub struct FixedKey(pub [u8; 32]);

impl SecretSource for FixedKey {
    fn is_configured(&self) -> bool {
        true
    }

    fn secret(&self) -> backy_core::Result<Secret> {
        Ok(Secret::KeyFile(self.0.to_vec().into()))
    }
}

/// A host: a state folder of its own on a shared store.
pub struct Host {
    pub repository: Repository,
    pub state: TempDir,
}

/// Makes an encrypted repository in a new memory store.
pub fn new_store(environment: &Environment) -> MemoryStore {
    let store = MemoryStore::new();
    init_store(&store, environment);
    store
}

/// Makes an encrypted repository in `store`.
pub fn init_store(store: &dyn ObjectStore, environment: &Environment) {
    let secret = Secret::KeyFile(KEY.to_vec().into());
    let cost = backy_core::keys::slot::ArgonCost::new(8 << 10, 1, 1).unwrap();
    init(store, &Protection::Encrypted { secret, cost }, environment).unwrap();
}

/// Settings that make small volumes go through all of the pipeline.
pub fn settings() -> Settings {
    Settings {
        simultaneous_reads: NonZeroUsize::new(3).unwrap(),
        simultaneous_writes: NonZeroUsize::new(2).unwrap(),
        workers: NonZeroUsize::new(2).unwrap(),
        compression_level: 1,
        checkpoint_interval: Duration::ZERO,
        pack_size_bytes: 32 << 20,
        lease_renewal: None,
        ..Settings::default()
    }
}

/// A host that takes whoever it meets for dead: what tests of crashes want.
pub fn alone() -> leases::Host {
    leases::Host { is_gone: Arc::new(|_| true), ..leases::Host::default() }
}

/// Opens the repository in `store` with an empty state folder, if that can be done.
pub fn try_open(store: Arc<dyn ObjectStore>, environment: Environment) -> backy_core::Result<Host> {
    let state = TempDir::new().unwrap();
    let repository = open(store, &FixedKey(KEY), state.path(), settings(), environment)?;
    Ok(Host { repository: repository.on_host(alone()), state })
}

impl Host {
    /// Opens the repository in `store` with an empty state folder.
    pub fn new(store: Arc<dyn ObjectStore>, environment: Environment) -> Host {
        Host::reopen(store, environment, TempDir::new().unwrap())
    }

    /// Opens the repository with the state folder of an earlier host.
    pub fn reopen(store: Arc<dyn ObjectStore>, environment: Environment, state: TempDir) -> Host {
        Host::with_settings(store, environment, state, settings())
    }

    /// Opens the repository with a state folder and settings.
    pub fn with_settings(
        store: Arc<dyn ObjectStore>,
        environment: Environment,
        state: TempDir,
        settings: Settings,
    ) -> Host {
        let repository = open(store, &FixedKey(KEY), state.path(), settings, environment).unwrap();
        Host { repository: repository.on_host(alone()), state }
    }

    /// Backs up with the usual options.
    pub fn backup(&self, source: &dyn Source, name: &str) -> BackupReport {
        self.try_backup(&request(source, name)).unwrap()
    }

    /// Backs up.
    pub fn try_backup(&self, request: &BackupRequest<'_>) -> Result<BackupReport, BackupFailure> {
        backup::run(&self.repository, request, &Progress::default(), &Cancel::default())
    }

    /// Restores to a new device and returns its bytes and the report.
    pub fn restore(&self, version: &Manifest) -> (Vec<u8>, RestoreReport) {
        let target = MemoryDevice::new(version.size_bytes);
        let report = self.try_restore(&restore_request(version, &target)).unwrap();
        (all_bytes(&target), report)
    }

    /// Restores.
    pub fn try_restore(&self, request: &RestoreRequest<'_>) -> Result<RestoreReport, RestoreFailure> {
        restore::run(&self.repository, request, &Progress::default(), &Cancel::default())
    }
}

/// The usual options of a backup.
pub fn request<'a>(source: &'a dyn Source, name: &str) -> BackupRequest<'a> {
    BackupRequest {
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
    }
}

/// The options of a hinted backup on `base`.
pub fn hinted_request<'a>(source: &'a dyn Source, name: &str, base: &Manifest, hints: Vec<Hint>) -> BackupRequest<'a> {
    BackupRequest { base: BaseChoice::Version(spec(base)), hints: Some(hints), ..request(source, name) }
}

/// The usual options of a restore.
pub fn restore_request<'a>(version: &Manifest, target: &'a MemoryDevice) -> RestoreRequest<'a> {
    RestoreRequest {
        version: version.clone(),
        target,
        skips_zeros: false,
        writes_differences_only: false,
        start: RestoreStart::Beginning,
        journal: None,
    }
}

/// Bytes that do not compress; no two blocks of any seeds are equal.
pub fn noise(seed: u64, length_bytes: usize) -> Vec<u8> {
    backy_testkit::pattern::bytes(backy_device::null::Pattern::Random, seed, length_bytes)
}

/// Returns the slot of a block, if the block is stored.
pub fn slot_of(repository: &Repository, version: &Manifest, block: u64) -> Option<SlotAddress> {
    let range = BlockRange { start: BlockIndex(block), count: BlockCount(1) };
    let extent = MapCursor::new(repository, version.map, range).next().unwrap().unwrap();
    match extent.place {
        Place::Stored { pack, first_slot } => Some(SlotAddress { pack, slot: first_slot }),
        Place::Zero | Place::Missing => None,
    }
}

/// Returns all objects below a prefix.
pub fn objects(store: &dyn ObjectStore, prefix: &str) -> Vec<ObjectName> {
    list_all(store, prefix).unwrap().into_iter().map(|object| object.name).collect()
}

/// Returns the only object of a pack.
pub fn pack_object(store: &dyn ObjectStore, pack: PackId) -> ObjectName {
    let mut found = objects(store, &names::pack_prefix(pack));
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// *Hostile*: inverts a bit in the middle of a slot.
pub fn damage_slot(store: &FaultyStore, repository: &Repository, address: SlotAddress) {
    let name = pack_object(store, address.pack);
    let object = store.inner().get(&name, u64::MAX).unwrap();
    let pack = PackName::parse(&name).unwrap();
    let read = read_directory(repository.keys(), pack, None, &object).unwrap();
    let SuffixRead::Directory(directory) = read else { panic!("{name} has no directory") };
    let locator = directory.locator(address.slot).unwrap();
    store.flip_bit(&name, (locator.offset_bytes + locator.stored_length / 2) as usize).unwrap();
}

/// Says which blocks a restore has lost.
pub fn lost_blocks(report: &RestoreReport) -> Vec<u64> {
    let of_range = |lost: &restore::LostBlocks| lost.blocks.start.0..lost.blocks.end().0;
    report.lost.iter().flat_map(of_range).collect()
}

/// Returns how a listing calls a version.
pub fn state_of(repository: &Repository, version: &Manifest) -> VersionState {
    repository.find_version(&spec(version)).unwrap().state
}

/// Names a version by its uid.
pub fn spec(version: &Manifest) -> VersionSpec {
    VersionSpec::Uid(version.uid.to_string())
}

/// Returns all bytes of a device.
pub fn all_bytes(device: &MemoryDevice) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(0, &mut bytes).unwrap();
    bytes
}

/// An environment whose seed is printed when the test fails.
pub fn seeded(seed: u64) -> Environment {
    println!("seed {seed}");
    environment(seed)
}
