//! Cleanups that overlap, because one has lost its lease and does not know: H4, H5, H6, H7, H14, H15, H16.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backy_core::cancel::Cancel;
use backy_core::names::{self, GcName, PackName};
use backy_core::records::lease::JobKind;
use backy_engine::progress::Progress;
use backy_engine::scrub::{self, ScrubRequest};
use backy_testkit::store::{FaultyStore, Operation};

use crate::stage::{Stage, back_up, clean, try_remove};
use crate::support::{damage_slot, noise, objects, slot_of};

const BLOCK: usize = 4096;

/// H4, H5, H14, H15: a cleanup stands before any of its calls, and has lost its lease. Another one runs to its end, and a
/// backup beside it stores again, or finds, what was removed; then the first goes on. Manifests that it has listed are gone
/// when it reads them; both have condemned, both are leaders, both write the next generation of one pack.
#[test]
fn h4_h5_h14_h15_a_second_cleanup_may_run_before_any_call_of_the_first() {
    for calls in 0.. {
        let mut stage = Stage::new(20);
        let host = stage.host();
        let content = noise(1, 12 * BLOCK);
        let first = back_up(&host, &content, "a");
        let half = content[..6 * BLOCK].to_vec();
        let kept = back_up(&host, &half, "b");
        try_remove(&host, &first).unwrap();
        let late = stage.begin_cleanup();
        let has_stopped = stage.go(&late, calls);
        stage.revoke_all();
        let before = back_up(&host, &content[3 * BLOCK..], "c");
        clean(&stage.host());
        let after = back_up(&host, &content[BLOCK..], "d");
        stage.finish(late).unwrap();
        stage.check(&[(&kept, &half), (&before, &content[3 * BLOCK..]), (&after, &content[BLOCK..])]);
        let packs: Vec<PackName> =
            objects(&stage.store, names::PACKS).iter().map(|name| PackName::parse(name).unwrap()).collect();
        let ids: BTreeSet<_> = packs.iter().map(|pack| pack.id).collect();
        assert_eq!(ids.len(), packs.len(), "generations were not put together: {packs:?}");
        if !has_stopped {
            assert!(calls > 20, "{calls}");
            break;
        }
    }
}

/// H6 and H7: two cleanups write records of one number; the later one tells of blocks that the other does not, and arrives
/// when a host has read the first. That host must read it all the same, and not use those blocks.
#[test]
fn h6_h7_a_record_that_comes_late_under_the_same_number_is_read() {
    let mut stage = Stage::new(21);
    let host = stage.host();
    let content = noise(1, 8 * BLOCK);
    let version = back_up(&host, &content, "a");
    let other = back_up(&host, &noise(2, 4 * BLOCK), "b");
    try_remove(&host, &other).unwrap();
    let is_record = |call: &backy_testkit::gate::Waiting| call.is(Operation::Put, names::GC);
    let first = stage.begin_cleanup();
    assert!(stage.go_to(&first, is_record));
    stage.revoke_all();
    try_remove(&host, &version).unwrap();
    let late = stage.begin_cleanup();
    assert!(stage.go_to(&late, is_record));
    // The job keeps the blocks in the store.
    let reader = host.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    assert!(stage.go(&first, 1));
    host.repository.begin_job(JobKind::Restore, Vec::new()).unwrap();
    assert!(stage.go(&late, 1));
    let records = objects(&stage.store, names::GC);
    let numbers: Vec<u32> = records.iter().map(|name| GcName::parse(name).unwrap().number).collect();
    assert_eq!(numbers, [1, 1]);
    let again = back_up(&host, &content, "c");
    assert_eq!(again.statistics.new_bytes, content.len() as u64, "it uses what the late record has condemned");
    stage.finish(first).unwrap();
    stage.finish(late).unwrap();
    drop(reader);
    stage.check(&[(&again, &content)]);
}

/// H16: two blocks of a pack are damaged. One rewriter heals the first and stands before any of its calls; another heals the
/// second; then the first goes on. Both must be healed then.
#[test]
fn h16_a_heal_is_not_undone_by_a_rewriter_that_comes_late() {
    for calls in 0.. {
        let mut stage = Stage::new(22);
        let host = stage.host();
        let content = noise(1, 8 * BLOCK);
        let version = back_up(&host, &content, "a");
        let faulty = FaultyStore::new(Arc::new(stage.store.clone()));
        let slots = [2usize, 5].map(|block| slot_of(&host.repository, &version, block as u64).unwrap());
        slots.iter().for_each(|slot| damage_slot(&faulty, &host.repository, *slot));
        let healed = |number: usize| {
            let block = [2, 5][number];
            BTreeMap::from([(slots[number].slot, content[block * BLOCK..(block + 1) * BLOCK].to_vec())])
        };
        let (pack, first_healed) = (slots[0].pack, healed(0));
        let late = stage.begin(None, move |host| {
            let lease = host.repository.begin_job(JobKind::Scrub, Vec::new()).unwrap();
            host.repository.rewrite_pack(pack, &BTreeSet::new(), &first_healed, lease.id())
        });
        let has_stopped = stage.go(&late, calls);
        let lease = host.repository.begin_job(JobKind::Scrub, Vec::new()).unwrap();
        host.repository.rewrite_pack(pack, &BTreeSet::new(), &healed(1), lease.id()).unwrap();
        drop(lease);
        stage.finish(late).unwrap();
        stage.check(&[(&version, &content)]);
        if !has_stopped {
            assert!(calls > 5, "{calls}");
            break;
        }
    }
}

/// A block is damaged, and the map of its version, which is removed. So a cleanup first condemns the version, and then, when it
/// has seen that nobody is at work, the block. Now a backup begins on a host that has the block in its catalog and has never
/// heard of the damage; it has read the log, and the cleanup goes on to its end. The record of the damage must still be there,
/// or the backup points to what is damaged.
#[test]
fn damage_is_not_forgotten_before_everybody_knows_that_the_slot_is_condemned() {
    let mut stage = Stage::new(24);
    let host = stage.host();
    let content = noise(1, 12 * BLOCK);
    let version = back_up(&host, &content, "a");
    let faulty = FaultyStore::new(Arc::new(stage.store.clone()));
    damage_slot(&faulty, &host.repository, slot_of(&host.repository, &version, 5).unwrap());
    let finder = stage.host();
    let request = ScrubRequest { versions: vec![version.clone()], sample: None, source: None };
    scrub::run(&finder.repository, &request, &Progress::default(), &Cancel::default()).unwrap();
    assert_eq!(objects(&stage.store, names::DAMAGE).len(), 1);
    damage_slot(&faulty, &host.repository, version.map.root.unwrap());
    try_remove(&finder, &version).unwrap();

    let cleanup = stage.begin_cleanup();
    let mut records = 0;
    assert!(stage.go_to(&cleanup, |call| {
        records += u32::from(call.is(Operation::Put, names::GC));
        records == 2
    }));
    let job = stage.begin_backup(&host, &content, "b");
    assert!(stage.go_to(&job, |call| call.is(Operation::List, names::DAMAGE)));
    stage.finish(cleanup).unwrap();
    let again = stage.finish(job).unwrap();
    assert!(again.statistics.new_bytes < content.len() as u64, "most blocks are there");
    stage.check(&[(&again, &content)]);
    assert_eq!(objects(&stage.store, names::DAMAGE), []);
}
