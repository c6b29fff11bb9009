//! Rewriting packs: compacted, healed, merged. Whatever fails, overlaps or comes late, no slot is lost that nobody dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use backy_core::environment::Environment;
use backy_core::ids::{EncryptionVersion, Generation, LeaseId, PackId, SlotAddress, SlotNumber};
use backy_core::keys::{DataKey, Suite};
use backy_core::names::{self, ObjectName, PackName};
use backy_core::pack::{NewSlot, PackWriter, SlotKind, SlotOpener, SuffixRead, read_directory};
use backy_core::{ErrorKind, Result};
use backy_engine::Repository;
use backy_engine::repository::rewrite::{Obstacles, Rewrite, RewriteOutcome};
use backy_store::memory::MemoryStore;
use backy_store::object_store::list_all;
use backy_store::{ObjectInfo, ObjectRange, ObjectStore};
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::{CrashMoment, Fault, FaultyStore, Operation, Rule};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Host, damage_slot, new_store, noise, objects, pack_object, seeded, slot_of};

const BLOCK: usize = 4096;
const BLOCKS: u16 = 12;

/// A repository with one pack, which has the blocks of a volume under their numbers, and the parts of its map.
struct World {
    environment: Environment,
    store: MemoryStore,
    bytes: Vec<u8>,
    pack: PackId,
    original: BTreeMap<SlotNumber, Vec<u8>>,
}

fn slots(numbers: impl IntoIterator<Item = u16>) -> BTreeSet<SlotNumber> {
    numbers.into_iter().map(SlotNumber).collect()
}

/// Reads all good slots of a pack, written without the code that is tested.
fn good_slots(repository: &Repository, store: &dyn ObjectStore, pack: PackId) -> BTreeMap<SlotNumber, Vec<u8>> {
    let mut good = BTreeMap::new();
    let mut opener = SlotOpener::new().unwrap();
    for name in objects(store, &names::pack_prefix(pack)) {
        let object = store.get(&name, u64::MAX).unwrap();
        let read = read_directory(repository.keys(), PackName::parse(&name).unwrap(), None, &object);
        let Ok(SuffixRead::Directory(directory)) = read else { continue };
        for (number, locator) in directory.slots() {
            let start = locator.offset_bytes as usize;
            let mut sealed = object[start..start + locator.stored_length as usize].to_vec();
            let mut content = Vec::new();
            if opener.open(repository.keys(), &directory, number, &mut sealed, &mut content).is_ok() {
                let before = good.insert(number, content.clone());
                assert!(before.is_none_or(|before| before == content), "slot {number} differs between generations");
            }
        }
    }
    good
}

impl World {
    fn new(seed: u64) -> World {
        let environment = seeded(seed);
        let store = new_store(&environment);
        let host = Host::new(Arc::new(store.clone()), environment.clone());
        let bytes = noise(seed, usize::from(BLOCKS) * BLOCK);
        let version = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
        let pack = slot_of(&host.repository, &version, 0).unwrap().pack;
        for block in 0..BLOCKS {
            let expected = SlotAddress { pack, slot: SlotNumber(block) };
            assert_eq!(slot_of(&host.repository, &version, u64::from(block)), Some(expected));
        }
        let original = good_slots(&host.repository, &store, pack);
        assert!(original.len() > usize::from(BLOCKS), "the map is in it, too");
        World { environment, store, bytes, pack, original }
    }

    fn host(&self, store: impl ObjectStore + 'static) -> Host {
        Host::new(Arc::new(store), self.environment.clone())
    }

    fn block(&self, block: u16) -> Vec<u8> {
        self.bytes[usize::from(block) * BLOCK..][..BLOCK].to_vec()
    }

    fn healed(&self, blocks: &[u16]) -> BTreeMap<SlotNumber, Vec<u8>> {
        blocks.iter().map(|&block| (SlotNumber(block), self.block(block))).collect()
    }

    fn faulty(&self) -> FaultyStore {
        FaultyStore::new(Arc::new(self.store.clone()))
    }

    /// Damages a slot in the only object of the pack.
    fn damage(&self, slot: u16) {
        let host = self.host(self.store.clone());
        damage_slot(&self.faulty(), &host.repository, SlotAddress { pack: self.pack, slot: SlotNumber(slot) });
    }

    fn generations(&self, store: &dyn ObjectStore) -> Vec<ObjectName> {
        objects(store, &names::pack_prefix(self.pack))
    }

    fn expected(&self, dropped: &BTreeSet<SlotNumber>) -> BTreeMap<SlotNumber, Vec<u8>> {
        self.original.clone().into_iter().filter(|(number, _)| !dropped.contains(number)).collect()
    }
}

fn rewrite(
    host: &Host,
    pack: PackId,
    drop: &BTreeSet<SlotNumber>,
    healed: &BTreeMap<SlotNumber, Vec<u8>>,
) -> Result<RewriteOutcome> {
    host.repository.rewrite_pack(pack, drop, healed, host.repository.new_lease_id())
}

/// Rewrites what must be rewritten.
fn rewritten(
    host: &Host,
    pack: PackId,
    drop: &BTreeSet<SlotNumber>,
    healed: &BTreeMap<SlotNumber, Vec<u8>>,
) -> Rewrite {
    match rewrite(host, pack, drop, healed).unwrap() {
        RewriteOutcome::Rewritten(rewrite) => rewrite,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_dropped_goes_and_all_else_stays_under_its_number() {
    let world = World::new(1);
    let host = world.host(world.store.clone());
    let before = pack_object(&world.store, world.pack);
    let drop = slots([0, 3, 11]);
    let rewrite = rewritten(&host, world.pack, &drop, &BTreeMap::new());
    let name = rewrite.name.unwrap();
    assert_eq!(name.generation, Generation(1));
    assert_eq!(world.generations(&world.store), [name.object_name()]);
    assert_eq!(rewrite.deleted, [PackName::parse(&before).unwrap()]);
    assert!(rewrite.written_bytes < rewrite.deleted_bytes && rewrite.obstacles == Obstacles::default());
    assert_eq!(good_slots(&host.repository, &world.store, world.pack), world.expected(&drop));
    // Hosts that know only the old generation read the new one.
    let again = rewritten(&host, world.pack, &slots([1]), &BTreeMap::new());
    assert_eq!(again.name.unwrap().generation, Generation(2));
}

#[test]
fn nothing_to_do_writes_and_deletes_nothing() {
    let world = World::new(2);
    let store = world.faulty();
    let host = world.host(store.clone());
    store.clear_log();
    // A slot that never was is no reason to write.
    for drop in [slots([]), slots([8000])] {
        let outcome = rewrite(&host, world.pack, &drop, &world.healed(&[1])).unwrap();
        assert_eq!(outcome, RewriteOutcome::Unchanged);
    }
    let changes = |operation| matches!(operation, Operation::Put | Operation::Delete);
    assert!(!store.log().iter().any(|call| changes(call.operation)));
    let outcome = rewrite(&host, PackId::from_bytes([9; 16]), &slots([1]), &BTreeMap::new()).unwrap();
    assert_eq!(outcome, RewriteOutcome::Absent);
}

#[test]
fn a_pack_of_which_nothing_is_kept_is_deleted() {
    let world = World::new(3);
    let host = world.host(world.store.clone());
    world.damage(4);
    let drop = world.original.keys().copied().collect();
    let rewrite = rewritten(&host, world.pack, &drop, &BTreeMap::new());
    assert_eq!((rewrite.name, rewrite.deleted.len(), rewrite.written_bytes), (None, 1, 0));
    assert!(world.generations(&world.store).is_empty());
}

#[test]
fn a_damaged_slot_stops_the_rewriting_unless_it_is_dropped_or_healed() {
    let world = World::new(4);
    world.damage(5);
    let damaged = || world.store.copy();
    let store = damaged();
    let host = world.host(store.clone());
    let before = world.generations(&store);
    let wrong = BTreeMap::from([(SlotNumber(5), world.block(6))]);
    let short = BTreeMap::from([(SlotNumber(5), world.block(5)[1..].to_vec())]);
    for (drop, healed) in [(slots([]), wrong), (slots([3]), short), (slots([3]), world.healed(&[6]))] {
        let outcome = rewrite(&host, world.pack, &drop, &healed).unwrap();
        let obstacles = Obstacles { damaged: slots([5]), unreadable: Vec::new() };
        assert_eq!(outcome, RewriteOutcome::Stopped(obstacles));
        assert_eq!(world.generations(&store), before);
    }
    for (drop, healed, is_healed) in [
        (slots([5]), world.healed(&[]), false),
        (slots([5]), world.healed(&[5]), false),
        (slots([]), world.healed(&[5]), true),
        (slots([2, 3]), world.healed(&[3, 5, 7]), true),
    ] {
        let store = damaged();
        let host = world.host(store.clone());
        let rewrite = rewritten(&host, world.pack, &drop, &healed);
        assert_eq!(rewrite.healed, if is_healed { slots([5]) } else { slots([]) });
        assert_eq!(world.generations(&store).len(), 1);
        assert_eq!(good_slots(&host.repository, &store, world.pack), world.expected(&drop));
        assert_eq!(rewrite.obstacles, Obstacles::default());
    }
}

#[test]
fn what_cannot_be_healed_yet_keeps_its_generation() {
    let world = World::new(5);
    for slot in [2, 5, 7] {
        world.damage(slot);
    }
    let host = world.host(world.store.clone());
    let original = pack_object(&world.store, world.pack);
    let first = rewritten(&host, world.pack, &slots([]), &world.healed(&[5]));
    assert_eq!(first.obstacles.damaged, slots([2, 7]));
    assert_eq!(world.generations(&world.store), [original.clone(), first.name.unwrap().object_name()]);
    assert_eq!(good_slots(&host.repository, &world.store, world.pack), world.expected(&slots([2, 7])));
    let second = rewritten(&host, world.pack, &slots([]), &world.healed(&[7]));
    assert_eq!(second.deleted, [first.name.unwrap()]);
    assert_eq!(world.generations(&world.store), [original, second.name.unwrap().object_name()]);
    let third = rewritten(&host, world.pack, &slots([]), &world.healed(&[2]));
    assert_eq!(third.deleted.len(), 2);
    assert_eq!(good_slots(&host.repository, &world.store, world.pack), world.original);
}

/// H15 and H16: two rewriters list one generation; one heals, the other is late.
#[test]
fn a_heal_outlives_a_late_rewrite_of_the_generation_before_it() {
    let world = World::new(6);
    world.damage(5);
    let late_store = world.store.copy();
    let late = world.host(late_store.clone());
    // The late one drops the damaged slot, as the sweep list of an old cleanup may say; the healer does not.
    let late_drop = slots([1, 5]);
    let late_rewrite = rewritten(&late, world.pack, &late_drop, &BTreeMap::new());
    let late_name = late_rewrite.name.unwrap().object_name();
    let host = world.host(world.store.clone());
    let healing = rewritten(&host, world.pack, &slots([]), &world.healed(&[5]));
    world.store.put(&late_name, &late_store.get(&late_name, u64::MAX).unwrap()).unwrap();
    for name in late_rewrite.deleted {
        world.store.delete(&name.object_name()).unwrap();
    }
    assert_eq!(world.generations(&world.store).len(), 2);
    assert_eq!(good_slots(&host.repository, &world.store, world.pack), world.original);
    let merged = rewritten(&world.host(world.store.clone()), world.pack, &slots([]), &BTreeMap::new());
    assert_eq!(world.generations(&world.store), [merged.name.unwrap().object_name()]);
    assert!(healing.healed == slots([5]));
    assert_eq!(good_slots(&host.repository, &world.store, world.pack), world.original);
}

#[test]
fn a_good_copy_is_found_in_whatever_generation_it_is() {
    let world = World::new(7);
    let host = world.host(world.store.clone());
    let original = pack_object(&world.store, world.pack);
    let body = world.store.get(&original, u64::MAX).unwrap();
    let next = rewritten(&host, world.pack, &slots([0]), &BTreeMap::new()).name.unwrap();
    // The newer copies of two slots break, and the older copy of another.
    for slot in [3, 4] {
        world.damage(slot);
    }
    let newer = world.store.get(&next.object_name(), u64::MAX).unwrap();
    world.store.delete(&next.object_name()).unwrap();
    world.store.put(&original, &body).unwrap();
    world.damage(8);
    world.store.put(&next.object_name(), &newer).unwrap();
    let merged = rewritten(&host, world.pack, &slots([0]), &BTreeMap::new());
    assert_eq!((merged.deleted.len(), merged.healed.len()), (2, 0));
    assert_eq!(world.generations(&world.store).len(), 1);
    assert_eq!(good_slots(&host.repository, &world.store, world.pack), world.expected(&slots([0])));
}

#[test]
fn a_generation_without_readable_directory_stays_unless_everything_is_dropped() {
    let world = World::new(8);
    let host = world.host(world.store.clone());
    let original = pack_object(&world.store, world.pack);
    let body = world.store.get(&original, u64::MAX).unwrap();
    let next = rewritten(&host, world.pack, &slots([0]), &BTreeMap::new()).name.unwrap();
    world.store.put(&original, &body[..body.len() / 2]).unwrap();
    let unreadable = vec![PackName::parse(&original).unwrap()];
    assert_eq!(rewrite(&host, world.pack, &slots([]), &BTreeMap::new()).unwrap(), RewriteOutcome::Unchanged);
    let again = rewritten(&host, world.pack, &slots([1]), &BTreeMap::new());
    assert_eq!((again.deleted, again.obstacles.unreadable), (vec![next], unreadable.clone()));
    assert_eq!(world.generations(&world.store).len(), 2);
    let all_known = world.original.keys().copied().collect();
    let none_known = rewritten(&host, world.pack, &all_known, &BTreeMap::new());
    assert_eq!((none_known.name, none_known.obstacles.unreadable), (None, unreadable.clone()));
    assert_eq!(world.generations(&world.store), [original]);
    let outcome = rewrite(&host, world.pack, &all_known, &BTreeMap::new()).unwrap();
    assert_eq!(outcome, RewriteOutcome::Stopped(Obstacles { damaged: slots([]), unreadable }));
    rewritten(&host, world.pack, &slots(0..8192), &BTreeMap::new());
    assert!(world.generations(&world.store).is_empty());
}

#[test]
fn an_object_that_is_damaged_beside_its_slots_is_written_anew() {
    let world = World::new(9);
    let host = world.host(world.store.clone());
    let original = pack_object(&world.store, world.pack);
    let body = world.store.get(&original, u64::MAX).unwrap();
    let name = PackName::parse(&original).unwrap();
    let Ok(SuffixRead::Directory(directory)) = read_directory(host.repository.keys(), name, None, &body) else {
        panic!("no directory")
    };
    for offset_bytes in [9, directory.fingerprints_range().offset_bytes as usize + 20] {
        let store = world.store.copy();
        FaultyStore::new(Arc::new(store.clone())).flip_bit(&original, offset_bytes).unwrap();
        let host = world.host(store.clone());
        rewritten(&host, world.pack, &slots([]), &BTreeMap::new());
        assert_eq!(rewrite(&host, world.pack, &slots([]), &BTreeMap::new()).unwrap(), RewriteOutcome::Unchanged);
        assert_eq!(good_slots(&host.repository, &store, world.pack), world.original);
    }
}

#[test]
fn generations_of_two_encryption_versions_become_one_of_the_higher() {
    let world = World::new(10);
    let host = world.host(world.store.clone());
    let key = DataKey::generate(Suite::Aes256Gcm, &world.environment);
    let entry = host.repository.keys().wrap_data_key(EncryptionVersion(2), &key, &world.environment).unwrap();
    world.store.put(&names::keyring_entry(EncryptionVersion(2)), &entry).unwrap();
    let host = world.host(world.store.clone());
    let keys = host.repository.keys();
    assert_eq!(keys.current_version(), EncryptionVersion(2));
    // A migration that had sealed three slots anew.
    let name = PackName { id: world.pack, generation: Generation(1), lease: LeaseId::from_bytes([1; 16]) };
    let mut writer = PackWriter::new(keys, name, Vec::new()).unwrap();
    for block in 0..3 {
        let body = world.block(block);
        let fingerprint = Some(keys.fingerprint_key().fingerprint(&body));
        let (kind, codec) = (SlotKind::Data, backy_core::codec::compression::Codec::Raw);
        let slot = NewSlot { kind, plain_length: BLOCK as u32, codec, body: &body, fingerprint };
        writer.append(slot, &world.environment).unwrap();
    }
    let migrated = writer.finish(&world.environment).unwrap();
    world.store.put(&name.object_name(), &migrated.bytes).unwrap();
    let merged = rewritten(&host, world.pack, &slots([11]), &BTreeMap::new()).name.unwrap();
    let body = world.store.get(&merged.object_name(), u64::MAX).unwrap();
    let Ok(SuffixRead::Directory(directory)) = read_directory(keys, merged, None, &body) else {
        panic!("no directory")
    };
    assert_eq!(directory.encryption_version(), EncryptionVersion(2));
    assert_eq!(world.generations(&world.store), [merged.object_name()]);
    assert_eq!(good_slots(&host.repository, &world.store, world.pack), world.expected(&slots([11])));
}

/// Lets a rewriting of a copy of the world's store go wrong by `set`; returns the copy, and whether it failed.
fn go_wrong(
    world: &World,
    drop: &BTreeSet<SlotNumber>,
    healed: &BTreeMap<SlotNumber, Vec<u8>>,
    set: impl Fn(&FaultyStore),
) -> (MemoryStore, Result<RewriteOutcome>) {
    let store = world.store.copy();
    let faulty = FaultyStore::new(Arc::new(store.clone()));
    let host = world.host(faulty.clone());
    set(&faulty);
    (store, rewrite(&host, world.pack, drop, healed))
}

#[test]
fn after_a_crash_at_any_call_nothing_is_lost_and_the_next_one_ends_it() {
    let mut world = World::new(11);
    world.damage(5);
    let (drop, healed) = (slots([1, 2]), world.healed(&[5]));
    // Also with a leftover of an earlier crash.
    for _ in 0..2 {
        let mut crashes = 0;
        let mut earlier = None;
        for (number, moment) in (1..).flat_map(|n| [(n, CrashMoment::Before), (n, CrashMoment::After)]) {
            let (store, outcome) = go_wrong(&world, &drop, &healed, |faulty| faulty.crash_at_call(number, moment));
            let Err(error) = outcome else {
                assert!(number > 5, "there were too few calls: {number}");
                break;
            };
            crashes += 1;
            assert!(backy_testkit::store::is_crash(&error), "{error}");
            let host = world.host(store.clone());
            let good = good_slots(&host.repository, &store, world.pack);
            let unhealed = slots([1, 2, 5]);
            for (number, content) in world.expected(&unhealed) {
                assert_eq!(good.get(&number), Some(&content), "slot {number} after call {crashes}");
            }
            if world.generations(&store).len() == 2 {
                earlier = Some(store.copy());
            }
            if !matches!(rewrite(&host, world.pack, &drop, &healed).unwrap(), RewriteOutcome::Unchanged) {
                assert_eq!(world.generations(&store).len(), 1);
            }
            assert_eq!(good_slots(&host.repository, &store, world.pack), world.expected(&drop));
        }
        assert!(crashes > 8);
        world.store = earlier.expect("one crash leaves two generations");
    }
}

#[test]
fn after_a_failure_of_any_call_nothing_is_lost() {
    let world = World::new(12);
    world.damage(5);
    let (drop, healed) = (slots([1, 2]), world.healed(&[5]));
    let unavailable = [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::Unavailable), Fault::Torn];
    for fault in unavailable {
        for skip in 0.. {
            let rule = Rule { operation: None, prefix: "packs/".to_owned(), skip, times: 1, fault };
            let (store, outcome) = go_wrong(&world, &drop, &healed, |faulty| faulty.add_rule(rule.clone()));
            let host = world.host(store.clone());
            match outcome {
                Ok(_) => {
                    assert!(skip > 4);
                    break;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            }
            rewrite(&host, world.pack, &drop, &healed).unwrap();
            assert_eq!(world.generations(&store).len(), 1);
            assert_eq!(good_slots(&host.repository, &store, world.pack), world.expected(&drop));
        }
    }
}

#[test]
fn a_store_that_does_not_keep_what_was_put_costs_no_slot() {
    let world = World::new(13);
    let torn = Rule::once(Operation::Put, "packs/", Fault::TornVisible { kept_bytes: 3000 });
    let (store, outcome) = go_wrong(&world, &slots([1]), &BTreeMap::new(), |faulty| faulty.add_rule(torn.clone()));
    outcome.unwrap_err();
    let host = world.host(store.clone());
    assert_eq!(good_slots(&host.repository, &store, world.pack), world.original);
    let rewrite = rewritten(&host, world.pack, &slots([1]), &BTreeMap::new());
    assert_eq!(rewrite.obstacles.unreadable.len(), 1, "it may be anything, so it stays");
    assert_eq!(good_slots(&host.repository, &store, world.pack), world.expected(&slots([1])));
}

type Action = Box<dyn FnOnce() + Send>;

/// A store in which something happens right after a pack was listed: the first of the actions.
#[derive(Clone)]
struct BusyStore {
    inner: MemoryStore,
    after_listing: Arc<Mutex<Vec<Action>>>,
}

impl ObjectStore for BusyStore {
    fn put(&self, name: &ObjectName, body: &[u8]) -> Result<()> {
        self.inner.put(name, body)
    }

    fn get(&self, name: &ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        self.inner.get(name, size_bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range(name, range, buffer)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        let objects = list_all(&self.inner, prefix)?;
        let action = if prefix.starts_with(names::PACKS) { self.after_listing.lock().unwrap().pop() } else { None };
        if let Some(action) = action {
            action();
        }
        objects.into_iter().try_for_each(visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

/// A reader lists a pack, then it is rewritten, then the reader finds the listed object gone, several times. It has to list
/// again, and neither report nor note any damage; a rewriter likewise.
#[test]
fn a_pack_that_is_rewritten_between_listing_and_reading_is_listed_again() {
    for job in ["restore", "rewrite"] {
        let world = World::new(14);
        let pack = world.pack;
        let action = |slot| -> Action {
            let other = world.host(world.store.clone());
            Box::new(move || {
                rewritten(&other, pack, &slots([slot]), &BTreeMap::new());
            })
        };
        let actions = (1..=5).map(action).collect();
        let busy = BusyStore { inner: world.store.clone(), after_listing: Arc::new(Mutex::new(actions)) };
        let host = world.host(busy.clone());
        if job == "restore" {
            let version = host.repository.versions().unwrap().versions.remove(0).manifest;
            let (restored, report) = host.restore(&version);
            assert_eq!(support::lost_blocks(&report), [1, 2, 3, 4, 5]);
            assert!(restored[6 * BLOCK..] == world.bytes[6 * BLOCK..]);
        } else {
            rewritten(&host, pack, &slots([7]), &BTreeMap::new());
            let expected = world.expected(&slots([1, 2, 3, 4, 5, 7]));
            assert_eq!(good_slots(&host.repository, &world.store, pack), expected);
        }
        assert!(busy.after_listing.lock().unwrap().is_empty(), "it has happened");
    }
}

/// A rewriter that has listed and read at one moment, and puts and deletes at others.
struct LateRewriter {
    put: Option<(ObjectName, Vec<u8>)>,
    deleted: Vec<ObjectName>,
}

/// Any number of rewriters overlap in any way. What nobody dropped is there at every moment, and healed slots stay healed.
#[test]
fn rewriters_that_overlap_lose_nothing() {
    let seeds = if std::env::var_os("BACKY2_TEST_LONG").is_some() { 200 } else { 8 };
    for seed in 100..100 + seeds {
        let world = World::new(seed);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bad: BTreeSet<SlotNumber> = slots((0..random.random_range(0..3)).map(|_| random.random_range(0..BLOCKS)));
        bad.iter().for_each(|slot| world.damage(slot.0));
        let mut dropped = BTreeSet::new();
        let mut healed: BTreeSet<SlotNumber> = BTreeSet::new();
        let mut late: Vec<LateRewriter> = Vec::new();
        let reader = world.host(world.store.clone());
        for _ in 0..30 {
            let one = random.random_range(0..late.len().max(1));
            match (random.random_range(0..3), late.get_mut(one)) {
                (0, _) | (_, None) => {
                    let store = world.store.copy();
                    let host = world.host(store.clone());
                    let drop = slots((0..random.random_range(0..3)).map(|_| random.random_range(0..BLOCKS)));
                    let heal: Vec<u16> = bad.iter().filter(|_| random.random_bool(0.4)).map(|slot| slot.0).collect();
                    let outcome = rewrite(&host, world.pack, &drop, &world.healed(&heal)).unwrap();
                    if let RewriteOutcome::Rewritten(rewrite) = outcome {
                        dropped.extend(&drop);
                        let before = world.generations(&world.store);
                        let name = rewrite.name.map(|name| name.object_name());
                        let new = name.filter(|name| !before.contains(name));
                        let put = new.map(|name| (name.clone(), store.get(&name, u64::MAX).unwrap()));
                        let deleted = rewrite.deleted.iter().map(PackName::object_name).collect();
                        late.push(LateRewriter { put, deleted });
                    }
                }
                (1, Some(rewriter)) if rewriter.put.is_some() => {
                    let (name, body) = rewriter.put.take().unwrap();
                    world.store.put(&name, &body).unwrap();
                }
                (_, Some(rewriter)) if rewriter.put.is_none() => {
                    if let Some(name) = rewriter.deleted.pop() {
                        world.store.delete(&name).unwrap();
                    } else {
                        late.remove(one);
                    }
                }
                _ => {}
            }
            let good = good_slots(&reader.repository, &world.store, world.pack);
            for (number, content) in world.expected(&dropped) {
                match good.get(&number) {
                    Some(found) => {
                        assert_eq!(*found, content);
                        healed.insert(number);
                    }
                    None => assert!(bad.contains(&number) && !healed.contains(&number), "slot {number} is lost"),
                }
            }
        }
        for rewriter in late {
            if let Some((name, body)) = rewriter.put {
                world.store.put(&name, &body).unwrap();
            }
            rewriter.deleted.iter().for_each(|name| world.store.delete(name).unwrap());
        }
        let all: Vec<u16> = bad.iter().map(|slot| slot.0).collect();
        rewrite(&reader, world.pack, &dropped, &world.healed(&all)).unwrap();
        assert!(world.generations(&world.store).len() == 1);
        assert_eq!(good_slots(&reader.repository, &world.store, world.pack), world.expected(&dropped));
    }
}
