//! A version that is served for long changes its lease beside cleanups: what it points to stays at every moment, and what
//! was condemned before does not wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backy_core::ErrorKind;
use backy_core::ids::{LeaseId, VersionUid};
use backy_core::map::{MapCursor, Place};
use backy_core::names;
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockIndex, BlockRange};
use backy_engine::Repository;
use backy_engine::repository::leases;
use backy_engine::repository::runs::SlotReader;
use backy_engine::serve_version::{LEASE_AGE_MAX, ServedVersion};
use backy_engine::settings::Settings;
use backy_store::MemoryStore;
use backy_testkit::clock::SimulatedClock;
use backy_testkit::gate::Waiting;
use backy_testkit::random::environment_with_clock;
use backy_testkit::store::{CrashMoment, Fault, FaultyStore, Operation, Rule};

use crate::stage::{Stage, back_up, clean, new_folder, try_remove};
use crate::support::{Host, noise, settings};

const BLOCK: usize = 4096;

fn is_lease(call: &Waiting) -> bool {
    call.operation == Operation::Put && call.name.starts_with(names::LEASES)
}

/// Reads all blocks, each from the store.
fn read_all(version: &ServedVersion) -> backy_core::Result<Vec<u8>> {
    let (repository, manifest) = (version.repository(), version.manifest());
    let count = manifest.size_bytes.div_ceil(u64::from(manifest.block_size.bytes()));
    let blocks = BlockRange { start: BlockIndex(0), count: BlockCount(count) };
    let mut content = Vec::new();
    for extent in MapCursor::new(repository.as_ref(), manifest.map, blocks) {
        let extent = extent?;
        let Place::Stored { pack, first_slot } = extent.place else { panic!("{extent:?}") };
        let slots: Vec<_> = (0..extent.blocks.count.0 as u16)
            .map(|number| backy_core::ids::SlotNumber(first_slot.0 + number))
            .collect();
        let directory = repository.directory(pack)?;
        let mut failure = None;
        repository.read_slots(&directory, &slots, &mut SlotReader::new()?, &mut |_, plain| match plain {
            Ok(plain) => content.extend(plain),
            Err(error) => failure = Some(error),
        });
        failure.map_or(Ok(()), Err)?;
    }
    Ok(content)
}

/// The leases that are held and name a version.
fn leases_of(repository: &Repository, uid: VersionUid) -> Vec<LeaseId> {
    let held = repository.held_leases().unwrap();
    let uses = |entry: &&leases::LeaseEntry| entry.record.as_ref().is_some_and(|record| record.versions.contains(&uid));
    held.iter().filter(uses).map(|entry| entry.id).collect()
}

/// A version whose blocks are condemned: the one that they came from was removed while its job was at work.
fn live_but_condemned(stage: &mut Stage, content: &[u8]) -> Manifest {
    let host = stage.host();
    let oldest = back_up(&host, content, "other");
    let job = stage.begin_backup(&host, content, "a");
    assert!(stage.go_to(&job, |call| call.operation == Operation::Put && call.name.ends_with("/manifest")));
    try_remove(&host, &oldest).unwrap();
    clean(&stage.host());
    let version = stage.finish(job).unwrap();
    assert_eq!(version.statistics.new_bytes, 0, "it uses what was condemned");
    version
}

#[test]
fn what_was_condemned_meanwhile_goes_when_a_served_version_has_changed_its_lease() {
    let mut stage = Stage::new(31);
    let host = stage.host();
    let content = noise(1, 40 * BLOCK);
    let version = back_up(&host, &content, "a");
    let other = back_up(&host, &noise(2, 40 * BLOCK), "b");
    let reader = Arc::new(stage.host().repository);
    let served = ServedVersion::begin(reader, version.uid).unwrap();
    try_remove(&host, &other).unwrap();
    for _ in 0..3 {
        let report = clean(&stage.host());
        assert_eq!((report.freed_bytes, report.waiting_for.len()), (0, 1), "{report:?}");
    }
    let old = served.lease();
    served.change_lease().unwrap();
    assert_eq!(leases_of(&host.repository, version.uid), [served.lease()]);
    assert_ne!(served.lease(), old);
    let report = clean(&stage.host());
    assert!(report.freed_bytes > 40 * BLOCK as u64, "{report:?}");
    assert!(read_all(&served).unwrap() == content);
    // It is in use as before.
    assert_eq!(try_remove(&host, &version).unwrap_err().kind(), ErrorKind::Refused);
    drop(served);
    try_remove(&host, &version).unwrap();
    assert!(clean(&stage.host()).freed_bytes > 40 * BLOCK as u64);
}

/// The change stands before any of its calls while the version is removed, by somebody who looked at the leases long ago,
/// and cleanups do all that they may. The version can be read in whole all the same: under its old lease or its new one.
#[test]
fn a_version_may_be_removed_and_cleaned_up_before_any_call_of_a_change_of_its_lease() {
    for cleanups in 1..=3 {
        let mut outcomes = [0, 0];
        for calls in 0.. {
            let mut stage = Stage::new(32);
            let content = noise(1, 8 * BLOCK);
            let version = live_but_condemned(&mut stage, &content);
            let meant = version.clone();
            let removal = stage.begin(None, move |host: &Host| try_remove(host, &meant));
            let is_tombstone = |call: &Waiting| call.operation == Operation::Put && call.name.ends_with("/removed");
            assert!(stage.go_to(&removal, is_tombstone));
            let uid = version.uid;
            let mut leases_put = 0;
            let job = stage.begin_owned(move |host: Host| {
                let served = ServedVersion::begin(Arc::new(host.repository), uid).unwrap();
                let changed = served.change_lease();
                (changed, read_all(&served))
            });
            assert!(stage.go_to(&job, |call| {
                leases_put += u32::from(is_lease(call));
                leases_put == 2
            }));
            let has_stopped = stage.go(&job, calls);
            stage.finish(removal).unwrap();
            for _ in 0..cleanups {
                clean(&stage.host());
            }
            // And once more between the change and the first read.
            if stage.go_to(&job, |call| call.name.starts_with(names::PACKS)) {
                clean(&stage.host());
                clean(&stage.host());
            }
            let (changed, read) = stage.finish(job);
            assert!(read.unwrap() == content, "{calls}");
            outcomes[usize::from(changed.is_ok())] += 1;
            if let Err(error) = changed {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            }
            if !has_stopped {
                assert!(calls > 5, "{calls}");
                break;
            }
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
    }
}

/// How a store fails at its call of that number from now.
type Way<'a> = &'a dyn Fn(&FaultyStore, u64);

/// Any call of the change fails, or its reply is lost, or the host crashes: a lease that names the version is held, and it
/// is the old one until the new one stands.
#[test]
fn a_change_of_a_lease_that_fails_anywhere_leaves_the_old_lease_or_the_new_one() {
    let fail = |store: &FaultyStore, call, fault| {
        store.add_rule(Rule { operation: None, prefix: String::new(), skip: call, times: 1, fault });
    };
    let ways: [Way<'_>; 4] = [
        &|store, call| fail(store, call, Fault::Before(ErrorKind::Unavailable)),
        &|store, call| fail(store, call, Fault::After(ErrorKind::Unavailable)),
        &|store, call| store.crash_at_call(call + 1, CrashMoment::Before),
        &|store, call| store.crash_at_call(call + 1, CrashMoment::After),
    ];
    for way in ways {
        for call in 0.. {
            let mut stage = Stage::new(33);
            let host = stage.host();
            let content = noise(1, 8 * BLOCK);
            let version = back_up(&host, &content, "a");
            let other = back_up(&host, &noise(2, 8 * BLOCK), "b");
            let store = FaultyStore::new(Arc::new(stage.store.clone()));
            let reader = Arc::new(stage.host_on(store.clone()).unwrap().repository);
            let served = ServedVersion::begin(reader, version.uid).unwrap();
            let old = served.lease();
            try_remove(&host, &other).unwrap();
            clean(&stage.host());
            let before = store.call_count();
            way(&store, call);
            let changed = served.change_lease();
            let calls = store.call_count() - before;
            store.behave();
            let held = leases_of(&host.repository, version.uid);
            assert!(held.contains(&served.lease()), "{call}: {held:?}");
            if changed.is_err() {
                assert_eq!(served.lease(), old);
            }
            for _ in 0..2 {
                clean(&stage.host());
            }
            if !store.is_crashed() {
                assert!(read_all(&served).unwrap() == content, "{call}");
                served.change_lease().unwrap();
            }
            if call >= calls {
                assert!(changed.is_ok() && calls > 5, "{calls}: {changed:?}");
                break;
            }
        }
    }
}

/// A host whose leases are renewed by a clock that the test moves.
fn renewing_host(store: MemoryStore, clock: &Arc<SimulatedClock>) -> Host {
    let settings = Settings { lease_renewal: Some(Duration::from_secs(300)), ..settings() };
    let environment = environment_with_clock(34, clock.clone());
    let host = Host::with_settings(Arc::new(store), environment, new_folder(), settings);
    Host { repository: host.repository.on_host(leases::Host::default()), state: host.state }
}

/// Lets `step` pass, again and again, until `is_done`.
fn wait_until(clock: &SimulatedClock, step: Duration, is_done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(10));
        clock.advance(step);
    }
}

#[test]
fn a_lease_is_changed_by_itself_when_it_is_old_and_when_it_is_lost() {
    let mut stage = Stage::new(34);
    let clock = Arc::new(SimulatedClock::default());
    let version = back_up(&stage.host(), &noise(1, 8 * BLOCK), "a");
    let reader = renewing_host(stage.store.clone(), &clock);
    let served = ServedVersion::begin(Arc::new(reader.repository), version.uid).unwrap();
    let first = served.lease();
    clock.advance(LEASE_AGE_MAX);
    wait_until(&clock, Duration::ZERO, || served.lease() != first);
    let second = served.lease();
    stage.revoke_all();
    wait_until(&clock, Duration::from_secs(1), || served.lease() != second);
    assert_eq!(leases_of(&stage.host().repository, version.uid), [served.lease()]);
    drop(served);
    assert!(leases_of(&stage.host().repository, version.uid).is_empty());
}
