//! Jobs that stop at any moment: crashes, lost replies, full stores, users who lose patience. What is there afterwards can
//! be listed, restored and continued, and the end is as if nothing had happened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backy_core::cancel::Cancel;
use backy_core::environment::Environment;
use backy_core::hint::{Hint, HintState};
use backy_core::policy::audit::AuditSettings;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockIndex, BlockSize, ByteRange};
use backy_core::{ErrorKind, Result};
use backy_device::{Source, Target};
use backy_engine::backup::{self, BackupFailure, BackupReport, BackupRequest};
use backy_engine::progress::Progress;
use backy_engine::repository::versions::VersionState;
use backy_engine::restore::{self, RestoreRequest, RestoreStart};
use backy_store::memory::MemoryStore;
use backy_testkit::device::{DeviceFaults, MemoryDevice};
use backy_testkit::store::{CrashMoment, Fault, FaultyStore, Rule};
use support::{
    Host, all_bytes, hinted_request, new_store, noise, request, restore_request, seeded, settings, spec, state_of,
};

const BLOCK: usize = 4096;
const PACK_BYTES: usize = 256 << 10;

/// A repository with one version, and a volume that has changed since.
struct World {
    environment: Environment,
    store: MemoryStore,
    first: Manifest,
    before: Vec<u8>,
    now: Vec<u8>,
    hints: Vec<Hint>,
}

fn small_packs(store: Arc<FaultyStore>, environment: &Environment, state: tempfile::TempDir) -> Host {
    let settings = backy_engine::settings::Settings { pack_size_bytes: PACK_BYTES, ..settings() };
    Host::with_settings(store, environment.clone(), state, settings)
}

fn new_state() -> tempfile::TempDir {
    tempfile::TempDir::new().unwrap()
}

impl World {
    fn new(seed: u64) -> World {
        let environment = seeded(seed);
        let store = new_store(&environment);
        let before = noise(seed, 300 * BLOCK);
        let mut now = before.clone();
        now.extend(noise(seed + 1000, 20 * BLOCK + 9));
        let changed = 30 * BLOCK..200 * BLOCK;
        now[changed.clone()].copy_from_slice(&noise(seed + 2000, changed.len()));
        let discarded = 250 * BLOCK..260 * BLOCK;
        now[discarded.clone()].fill(0);
        let hint = |range: std::ops::Range<usize>, state| Hint {
            range: ByteRange::between(range.start as u64, range.end as u64),
            state,
        };
        let hints = vec![hint(changed, HintState::Changed), hint(discarded, HintState::Discarded)];
        let host = Host::new(Arc::new(store.clone()), environment.clone());
        let first = host.backup(&MemoryDevice::with_bytes(&before), "vm").manifest;
        World { environment, store, first, before, now, hints }
    }

    fn request<'a>(&self, source: &'a dyn Source, is_hinted: bool) -> BackupRequest<'a> {
        if is_hinted { hinted_request(source, "vm", &self.first, self.hints.clone()) } else { request(source, "vm") }
    }

    /// Checks all that is there, continues what can be continued, or begins anew, and checks the end.
    fn check_afterwards(&self, host: &Host, is_hinted: bool, incomplete: Option<backy_core::ids::VersionUid>) {
        let source = MemoryDevice::with_bytes(&self.now);
        let listing = host.repository.versions().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        let mut unfinished = None;
        for entry in &listing.versions {
            match entry.state {
                VersionState::Incomplete => unfinished = Some(&entry.manifest),
                _ if entry.manifest.uid == self.first.uid => assert!(host.restore(&entry.manifest).0 == self.before),
                VersionState::Valid => assert!(host.restore(&entry.manifest).0 == self.now, "wrong data"),
                // All is there, but its job has not said so: a cleanup rechecks it.
                VersionState::Invalid if entry.is_void => assert!(host.restore(&entry.manifest).0 == self.now),
                VersionState::Invalid => panic!("version {} is invalid", entry.manifest.uid),
            }
        }
        if let Some(uid) = incomplete {
            assert!(listing.versions.iter().any(|entry| entry.manifest.uid == uid), "what was promised is not there");
        }
        let continued = unfinished.map(spec);
        let was_continued = continued.is_some();
        let report = host.try_backup(&BackupRequest { continued, ..self.request(&source, is_hinted) }).unwrap();
        let statistics = report.manifest.statistics;
        let sum = statistics.read_bytes + statistics.hole_bytes + statistics.unread_bytes;
        assert_eq!(sum, self.now.len() as u64, "{statistics:?}");
        if was_continued {
            // Under a uid of its own; what it went on from is gone.
            let left = host.repository.versions().unwrap().versions;
            assert!(left.iter().all(|entry| entry.state != VersionState::Incomplete), "{left:?}");
        }
        assert!(report.wrong_hints.is_empty());
        assert_eq!(state_of(&host.repository, &report.manifest), VersionState::Valid);
        let (restored, lost) = host.restore(&report.manifest);
        assert!(restored == self.now && lost.lost.is_empty(), "what was continued differs");
    }
}

/// Fails a backup with `set` at each of its calls of the store; `set` gets the number of the call.
fn fail_at_every_call(seed: u64, expected: ErrorKind, set: impl Fn(&FaultyStore, u64)) {
    let world = World::new(seed);
    let mut successes = 0;
    for number in 1.. {
        let is_hinted = (number / 2 + seed).is_multiple_of(2);
        let store = Arc::new(FaultyStore::new(Arc::new(world.store.copy())));
        let host = small_packs(store.clone(), &world.environment, new_state());
        let source = MemoryDevice::with_bytes(&world.now);
        set(&store, number);
        let done = host.try_backup(&world.request(&source, is_hinted));
        store.restart();
        store.behave();
        let incomplete = match done {
            Ok(_) => {
                // What is only nice to have may fail.
                successes += 1;
                None
            }
            Err(failure) => {
                assert_eq!(failure.error.kind(), expected, "call {number}: {:?}", failure.error);
                failure.incomplete
            }
        };
        // Every other time the host has forgotten everything.
        let state = if number % 2 == 0 { new_state() } else { host.state };
        drop(host.repository);
        let host = small_packs(store.clone(), &world.environment, state);
        world.check_afterwards(&host, is_hinted, incomplete);
        if successes > 4 {
            assert!(number > 15, "the backup had too few calls to be worth it: {number}");
            break;
        }
    }
}

#[test]
fn a_crash_before_any_call_of_the_store_leaves_what_can_be_continued() {
    fail_at_every_call(1, ErrorKind::Io, |store, number| store.crash_at_call(number, CrashMoment::Before));
}

#[test]
fn a_crash_after_any_call_of_the_store_leaves_what_can_be_continued() {
    fail_at_every_call(2, ErrorKind::Io, |store, number| store.crash_at_call(number, CrashMoment::After));
}

fn fail_once(store: &FaultyStore, number: u64, fault: Fault) {
    store.add_rule(Rule { operation: None, prefix: String::new(), skip: number - 1, times: 1, fault });
}

#[test]
fn a_failure_at_any_call_of_the_store_leaves_what_can_be_continued() {
    fail_at_every_call(3, ErrorKind::Unavailable, |store, number| {
        fail_once(store, number, Fault::Before(ErrorKind::Unavailable));
    });
}

#[test]
fn a_lost_reply_at_any_call_of_the_store_leaves_what_can_be_continued() {
    fail_at_every_call(4, ErrorKind::Unavailable, |store, number| {
        fail_once(store, number, Fault::After(ErrorKind::Unavailable));
    });
}

#[test]
fn a_full_store_is_said_and_the_backup_continues_when_there_is_room() {
    let world = World::new(5);
    let mut continuable = 0;
    for room_bytes in (0..900 << 10).step_by(70_000) {
        let store = Arc::new(FaultyStore::new(Arc::new(world.store.copy())));
        let host = small_packs(store.clone(), &world.environment, new_state());
        let source = MemoryDevice::with_bytes(&world.now);
        store.no_space_after(room_bytes);
        let failure = match host.try_backup(&world.request(&source, false)) {
            Err(failure) => failure,
            Ok(_) => continue,
        };
        assert_eq!(failure.error.kind(), ErrorKind::NoSpace, "{:?}", failure.error);
        let listing = host.repository.versions().unwrap();
        assert_eq!(listing.versions.iter().filter(|entry| entry.state != VersionState::Incomplete).count(), 1);
        let there = listing.versions.iter().find(|entry| entry.state == VersionState::Incomplete);
        assert_eq!(failure.incomplete, there.map(|entry| entry.manifest.uid));
        continuable += usize::from(there.is_some());
        store.behave();
        world.check_afterwards(&host, false, failure.incomplete);
    }
    assert!(continuable >= 3, "only {continuable} could be continued");
}

/// A source whose user loses patience after some reads.
struct Impatient {
    device: MemoryDevice,
    reads_left: AtomicU64,
    cancel: Cancel,
}

impl Impatient {
    fn new(device: &MemoryDevice, reads: u64) -> Impatient {
        Impatient { device: device.clone(), reads_left: AtomicU64::new(reads), cancel: Cancel::default() }
    }

    fn backup(&self, host: &Host, request: &BackupRequest<'_>) -> std::result::Result<BackupReport, BackupFailure> {
        backup::run(&host.repository, request, &Progress::default(), &self.cancel)
    }
}

impl Source for Impatient {
    fn size_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        if self.reads_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cancel.cancel();
        }
        self.device.read_at(offset_bytes, buffer)
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        self.device.data_ranges(range)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.device.check_unchanged()
    }

    fn url(&self) -> String {
        self.device.url()
    }
}

fn no_audit() -> AuditSettings {
    AuditSettings { percent_of_volume: 0.0, ..AuditSettings::default() }
}

#[test]
fn a_backup_that_is_stopped_again_and_again_comes_to_its_end() {
    let environment = seeded(6);
    let store = Arc::new(FaultyStore::new(Arc::new(new_store(&environment))));
    let mut host = small_packs(store.clone(), &environment, new_state());
    let mut bytes = noise(6, (10 << 20) + 5);
    bytes[2 << 20..4 << 20].fill(0);
    bytes.copy_within(0..1 << 20, 5 << 20);
    let device = MemoryDevice::without_holes(bytes.len() as u64);
    device.write_at(0, &bytes).unwrap();
    let mut continued = None;
    for attempt in 0.. {
        assert!(attempt < 15, "no progress");
        let source = Impatient::new(&device, 1 + attempt % 2);
        let wanted = BackupRequest { continued: continued.clone(), ..request(&source, "vm") };
        match source.backup(&host, &wanted) {
            Ok(report) => {
                assert!(attempt > 3, "it was not stopped often");
                assert!(host.restore(&report.manifest).0 == bytes);
                let statistics = report.manifest.statistics;
                let parts = statistics.zero_bytes + statistics.deduplicated_bytes + statistics.new_bytes;
                assert_eq!((parts, statistics.read_bytes), (bytes.len() as u64, bytes.len() as u64));
                assert_eq!(statistics.zero_bytes, 2 << 20);
                break;
            }
            Err(failure) => {
                assert_eq!(failure.error.kind(), ErrorKind::Cancelled);
                let uid = failure.incomplete.expect("it can be continued");
                assert_eq!(host.repository.versions().unwrap().versions.len(), 1);
                continued = Some(backy_engine::repository::versions::VersionSpec::Uid(uid.to_string()));
            }
        }
        let state = if attempt % 2 == 0 { new_state() } else { host.state };
        host = small_packs(store.clone(), &environment, state);
    }
}

#[test]
fn hints_that_are_found_wrong_when_a_backup_is_continued_are_wrong_from_the_beginning() {
    let environment = seeded(7);
    let store = Arc::new(FaultyStore::new(Arc::new(new_store(&environment))));
    let host = small_packs(store, &environment, new_state());
    let before = noise(7, 12 << 20);
    let first = host.backup(&MemoryDevice::with_bytes(&before), "vm").manifest;
    let mut now = before.clone();
    // Lies in the part that is done before the stop, and in the part behind.
    now[100] ^= 1;
    now[(12 << 20) - 100] ^= 1;
    let device = MemoryDevice::with_bytes(&now);
    let said = vec![Hint { range: ByteRange::between(1 << 20, 10 << 20), state: HintState::Changed }];
    let source = Impatient::new(&device, 2);
    let wanted = BackupRequest { audit: no_audit(), ..hinted_request(&source, "vm", &first, said.clone()) };
    let incomplete = source.backup(&host, &wanted).unwrap_err().incomplete.unwrap().to_string();
    let continued = Some(backy_engine::repository::versions::VersionSpec::Uid(incomplete));
    let audit = AuditSettings { percent_of_volume: 100.0, ..AuditSettings::default() };
    let report =
        host.try_backup(&BackupRequest { continued, audit, ..hinted_request(&device, "vm", &first, said) }).unwrap();
    assert!(report.manifest.origin.hints_were_wrong);
    assert!(host.restore(&report.manifest).0 == now);
    let statistics = report.manifest.statistics;
    assert_eq!(statistics.read_bytes + statistics.hole_bytes, now.len() as u64);
}

#[test]
fn an_incomplete_version_is_continued_from_the_same_volume_only() {
    let environment = seeded(8);
    let store = Arc::new(FaultyStore::new(Arc::new(new_store(&environment))));
    let host = small_packs(store, &environment, new_state());
    let device = MemoryDevice::with_bytes(&noise(8, 6 << 20));
    let source = Impatient::new(&device, 2);
    let uid = source.backup(&host, &request(&source, "vm")).unwrap_err().incomplete.unwrap().to_string();
    let continued = || Some(backy_engine::repository::versions::VersionSpec::Uid(uid.clone()));
    let shorter = MemoryDevice::new(5 << 20);
    for wrong in [
        BackupRequest { continued: continued(), ..request(&device, "other") },
        BackupRequest { continued: continued(), ..request(&shorter, "vm") },
        BackupRequest { continued: continued(), block_size: Some(BlockSize::DEFAULT), ..request(&device, "vm") },
    ] {
        assert_eq!(host.try_backup(&wrong).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    }
    let empty = BackupRequest { continued: continued(), hints: Some(Vec::new()), ..request(&device, "vm") };
    assert_eq!(host.try_backup(&empty).unwrap_err().error.kind(), ErrorKind::Refused, "the rest would be zero");
    // It cannot be a base, either.
    let base = backup::BaseChoice::Version(continued().unwrap());
    let on_it = BackupRequest { base, ..request(&device, "vm") };
    assert_eq!(host.try_backup(&on_it).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    host.try_backup(&BackupRequest { continued: continued(), ..request(&device, "vm") }).unwrap();
}

#[test]
fn a_checkpoint_that_is_damaged_gives_way_to_the_one_before() {
    let environment = seeded(14);
    let store = Arc::new(FaultyStore::new(Arc::new(new_store(&environment))));
    let host = small_packs(store.clone(), &environment, new_state());
    let bytes = noise(14, 6 << 20);
    let device = MemoryDevice::with_bytes(&bytes);
    let source = Impatient::new(&device, 3);
    let uid = source.backup(&host, &request(&source, "vm")).unwrap_err().incomplete.unwrap();
    let checkpoints = support::objects(store.as_ref(), &backy_core::names::version_prefix(uid));
    assert!(checkpoints.len() >= 3, "{checkpoints:?}");
    let at = |host: &Host| host.repository.versions().unwrap().versions[0].checkpoint.clone().unwrap().number as usize;
    assert_eq!(at(&host), checkpoints.len() - 1);
    store.flip_bit(&checkpoints[checkpoints.len() - 1], 100).unwrap();
    store.truncate(&checkpoints[checkpoints.len() - 2], 50).unwrap();
    let host = small_packs(store.clone(), &environment, new_state());
    assert_eq!(at(&host), checkpoints.len() - 3);
    let continued = Some(backy_engine::repository::versions::VersionSpec::Uid(uid.to_string()));
    let report = host.try_backup(&BackupRequest { continued, ..request(&device, "vm") }).unwrap();
    assert!(host.restore(&report.manifest).0 == bytes);
    assert_eq!(state_of(&host.repository, &report.manifest), VersionState::Valid);
}

/// A volume of several restore windows, with data in each, and in all of them on borders.
fn long_volume() -> MemoryDevice {
    let device = MemoryDevice::new((200 << 30) + 999);
    for (number, gibibyte) in [0u64, 1, 63, 64, 65, 127, 128, 130, 199, 200].into_iter().enumerate() {
        let offset_bytes = (gibibyte << 30).saturating_sub(if gibibyte % 64 == 0 { 5000 } else { 0 });
        let data = noise(number as u64 + 1, 20_000.min((device.size_bytes() - offset_bytes) as usize));
        device.write_at(offset_bytes, &data).unwrap();
    }
    device
}

fn assert_equal_devices(left: &MemoryDevice, right: &MemoryDevice) {
    let whole = ByteRange::between(0, left.size_bytes());
    for side in [left, right] {
        for data in side.data_ranges(whole).unwrap() {
            assert!(left.bytes(data) == right.bytes(data), "the devices differ at {}", data.offset_bytes);
        }
    }
}

#[test]
fn a_restore_that_fails_at_any_write_is_continued_where_it_was() {
    let environment = seeded(9);
    let host = Host::new(Arc::new(new_store(&environment)), environment);
    let source = long_volume();
    let wanted = BackupRequest { block_size: None, ..request(&source, "vm") };
    let version = host.try_backup(&wanted).unwrap().manifest;
    let folder = new_state();
    let mut starts = std::collections::BTreeSet::new();
    for writes_max in 0.. {
        // A target with other data on it, on which zeros matter.
        let target = MemoryDevice::new(source.size_bytes());
        for gibibyte in 0..200 {
            target.write_at((gibibyte << 30) + 12_345, &[0xee; 30_000]).unwrap();
        }
        let used = target.counts().writes;
        let path = folder.path().join("journal");
        let journal = Some(path.clone());
        let attempt = |start| RestoreRequest { start, journal: journal.clone(), ..restore_request(&version, &target) };
        target.set_faults(DeviceFaults { writes_max: Some(used + writes_max), ..DeviceFaults::default() });
        let Err(failure) = host.try_restore(&attempt(RestoreStart::Beginning)) else {
            assert!(writes_max > 10);
            assert!(!path.exists(), "the journal of a finished restore stays behind");
            break;
        };
        assert_eq!(failure.error.kind(), ErrorKind::Io);
        target.set_faults(DeviceFaults::default());
        let start = if writes_max % 2 == 0 { RestoreStart::Journal } else { RestoreStart::Block(failure.done_before) };
        let report = host.try_restore(&attempt(start)).unwrap();
        assert_eq!(report.started_at, failure.done_before);
        starts.insert(failure.done_before);
        assert_equal_devices(&source, &target);
    }
    assert!(starts.len() >= 3, "never more than the first windows: {starts:?}");
}

#[test]
fn a_journal_of_something_else_is_not_believed() {
    let environment = seeded(10);
    let host = Host::new(Arc::new(new_store(&environment)), environment);
    let source = long_volume();
    let version = host.try_backup(&BackupRequest { block_size: None, ..request(&source, "vm") }).unwrap().manifest;
    let other = host.try_backup(&BackupRequest { block_size: None, ..request(&source, "vm") }).unwrap().manifest;
    let folder = new_state();
    let path = folder.path().join("journal");
    let journal = Some(path.clone());
    let interrupt = |version: &Manifest| {
        let target = MemoryDevice::new(source.size_bytes());
        target.set_faults(DeviceFaults { writes_max: Some(12), ..DeviceFaults::default() });
        let failure =
            host.try_restore(&RestoreRequest { journal: journal.clone(), ..restore_request(version, &target) });
        assert!(failure.unwrap_err().done_before > BlockIndex(0));
    };
    interrupt(&other);
    let target = MemoryDevice::new(source.size_bytes());
    let continuing =
        RestoreRequest { journal: journal.clone(), start: RestoreStart::Journal, ..restore_request(&version, &target) };
    assert_eq!(host.try_restore(&continuing).unwrap().started_at, BlockIndex(0));
    assert_equal_devices(&source, &target);

    for garbage in [&b""[..], b"{", b"\xff\xff", b"{\"done_before\":7}"] {
        std::fs::write(&path, garbage).unwrap();
        assert_eq!(host.try_restore(&continuing).unwrap().started_at, BlockIndex(0));
    }
    // A target that is new and zero has nothing of what the journal says.
    interrupt(&version);
    let new = MemoryDevice::new(source.size_bytes());
    new.set_known_zero(true);
    let onto_new = RestoreRequest { target: &new, ..continuing };
    assert_eq!(host.try_restore(&onto_new).unwrap().started_at, BlockIndex(0));
    assert_equal_devices(&source, &new);
}

#[test]
fn a_restore_whose_store_fails_is_continued_and_equal() {
    let environment = seeded(11);
    let store = Arc::new(FaultyStore::new(Arc::new(new_store(&environment))));
    let bytes = noise(11, 300 * BLOCK);
    let version =
        small_packs(store.clone(), &environment, new_state()).backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    for number in 1.. {
        let host = small_packs(store.clone(), &environment, new_state());
        let target = MemoryDevice::with_bytes(&vec![0xee; bytes.len()]);
        fail_once(&store, number, Fault::Before(ErrorKind::Unavailable));
        let done = host.try_restore(&restore_request(&version, &target));
        store.behave();
        match done {
            Ok(_) => {
                assert!(all_bytes(&target) == bytes);
                assert!(number > 5);
                break;
            }
            Err(failure) => {
                assert_eq!(failure.error.kind(), ErrorKind::Unavailable, "a store that is away is no damage")
            }
        }
        let start = RestoreStart::Block(BlockIndex(0));
        let report = host.try_restore(&RestoreRequest { start, ..restore_request(&version, &target) }).unwrap();
        assert!(all_bytes(&target) == bytes && report.lost.is_empty());
        assert_eq!(state_of(&host.repository, &version), VersionState::Valid);
    }
}

#[test]
fn a_target_that_is_too_small_or_does_not_flush_is_said() {
    let environment = seeded(12);
    let host = Host::new(Arc::new(new_store(&environment)), environment);
    let version = host.backup(&MemoryDevice::with_bytes(&noise(12, 800 * BLOCK)), "vm").manifest;
    let small = MemoryDevice::new(800 * BLOCK as u64 - 1);
    let failure = host.try_restore(&restore_request(&version, &small)).unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::InvalidInput);
    assert!(failure.error.to_string().contains("3276799") && failure.error.to_string().contains("3276800"));
    assert_eq!((small.counts().writes, small.counts().zeroings), (0, 0));
    let target = MemoryDevice::new(800 * BLOCK as u64);
    target.set_faults(DeviceFaults { flush_fails: true, ..DeviceFaults::default() });
    let failure = host.try_restore(&restore_request(&version, &target)).unwrap_err();
    assert_eq!((failure.error.kind(), failure.done_before), (ErrorKind::Io, BlockIndex(0)));
    let beyond = RestoreRequest { start: RestoreStart::Block(BlockIndex(801)), ..restore_request(&version, &target) };
    let failure = restore::run(&host.repository, &beyond, &Progress::default(), &Cancel::default()).unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::InvalidInput);
}

/// A volume of which no two neighbours belong together: one block of noise, then one block again and again between zeros.
struct Fragmented {
    blocks: u64,
    fails_at: u64,
}

impl Source for Fragmented {
    fn size_bytes(&self) -> u64 {
        self.blocks * BLOCK as u64
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        let first = offset_bytes / BLOCK as u64;
        if first >= self.fails_at {
            return Err(backy_core::Error::new(ErrorKind::Io, "it fails on demand"));
        }
        for (block, bytes) in (first..).zip(buffer.chunks_mut(BLOCK)) {
            bytes.fill(if block == 0 { 1 } else { 2 * u8::from(block % 2 == 1) });
        }
        Ok(())
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        Ok(vec![range])
    }

    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    fn url(&self) -> String {
        "fragmented".to_owned()
    }
}

#[test]
#[ignore = "reads 10 GiB"]
fn a_volume_of_more_extents_than_may_wait_is_backed_up() {
    for fails_at in [u64::MAX, 1_250_000] {
        let environment = seeded(13);
        let host = Host::new(Arc::new(new_store(&environment)), environment);
        let source = Fragmented { blocks: 1_300_000, fails_at };
        let done = host.try_backup(&request(&source, "vm"));
        assert_eq!(done.is_ok(), fails_at == u64::MAX);
    }
}
