//! The scenarios of the tests: each as small as the story that it tells.
//!
//! Lease 0 belongs to the past: a job that ended well. Lease 1 is that of job 0, lease 2 that of job 1.

use super::job::JobPlan;
use super::others::Left;
use super::scenario::{Scenario, new_pack, with_pack, with_record, with_version};
use super::store::Store;
use crate::bits::Bits;

/// A job that finds slot 0 in its index and publishes it as `version`.
fn finder(lease: u8, version: u8) -> JobPlan {
    JobPlan { lease, hits: Bits::of(&[0]), version: Some(version), ..JobPlan::default() }
}

/// A job that builds version 1 on version 0, under lease 1.
fn builder() -> JobPlan {
    JobPlan { lease: 1, bases: Bits::of(&[0]), needs_base: true, version: Some(1), ..JobPlan::default() }
}

/// Version 0 points to slot 0, which is condemned in a ripe record: another job found it in its index before it was
/// condemned.
fn live_but_condemned() -> Store {
    let store = with_version(with_pack(Store::default(), &[0]), 0, &[0], 0);
    with_record(with_record(store, &[0]), &[])
}

/// A slot that no version points to, a job that finds it in its index, a cleanup.
pub fn orphan() -> Scenario {
    Scenario {
        start: with_pack(Store::default(), &[0]),
        jobs: vec![finder(1, 0)],
        cleanups: vec![3],
        may_be_revoked: Bits::of(&[1]),
        records_max: 3,
        ..Scenario::default()
    }
}

/// The slot is condemned already, and the catalog of the job may know that from before.
pub fn stale_index() -> Scenario {
    Scenario {
        start: with_record(with_pack(Store::default(), &[0]), &[0]),
        jobs: vec![JobPlan { syncs_before: true, ..finder(1, 0) }],
        cleanups: vec![2],
        may_be_revoked: Bits::of(&[1]),
        records_max: 3,
        ..Scenario::default()
    }
}

/// Two cleanups whose records get the same number; slot 0 is put between them by a job that gives up.
pub fn same_number() -> Scenario {
    let giving_up = JobPlan { lease: 2, pack: Some((1, new_pack(1, &[0]))), may_give_up: true, ..JobPlan::default() };
    Scenario {
        start: with_pack(Store::default(), &[1]),
        jobs: vec![JobPlan { syncs_before: true, version: None, ..finder(1, 0) }, giving_up],
        cleanups: vec![2, 1],
        records_max: 3,
        ..Scenario::default()
    }
}

/// A job builds on a version that may be removed, whose slot is condemned.
pub fn base() -> Scenario {
    Scenario {
        start: live_but_condemned(),
        jobs: vec![builder()],
        cleanups: vec![3],
        may_be_removed: Bits::of(&[0]),
        may_be_revoked: Bits::of(&[1]),
        records_max: 5,
        ..Scenario::default()
    }
}

/// A job goes on from a checkpoint, which is version 0 here, while one cleanup sleeps and another one works.
pub fn continued() -> Scenario {
    Scenario { cleanups: vec![2, 1], cleanups_crash: true, records_max: 4, ..base() }
}

/// A job loses its lease, publishes a void version, which may be rechecked.
pub fn void() -> Scenario {
    Scenario {
        start: with_pack(Store::default(), &[0]),
        jobs: vec![finder(1, 0)],
        cleanups: vec![2, 1],
        may_be_removed: Bits::of(&[0]),
        may_be_revoked: Bits::of(&[1]),
        rare: Left { rechecks: 1, ..Left::default() },
        records_max: 3,
        ..Scenario::default()
    }
}

/// Another job builds on the version of a job that may lose its lease.
pub fn void_base() -> Scenario {
    let second = JobPlan { lease: 2, bases: Bits::of(&[0]), needs_base: true, version: Some(1), ..JobPlan::default() };
    Scenario {
        start: with_pack(Store::default(), &[0]),
        jobs: vec![finder(1, 0), second],
        cleanups: vec![3],
        may_be_revoked: Bits::of(&[1]),
        records_max: 3,
        ..Scenario::default()
    }
}

/// A pack of two slots, one of them condemned; a job finds the other one in its index.
pub fn half_dead_pack() -> Scenario {
    let finder = JobPlan { hits: Bits::of(&[1]), ..finder(1, 0) };
    Scenario {
        start: with_record(with_pack(Store::default(), &[0, 1]), &[0]),
        jobs: vec![finder],
        cleanups: vec![2, 1],
        may_be_revoked: Bits::of(&[1]),
        records_max: 3,
        ..Scenario::default()
    }
}

/// A pack of two slots, one of them condemned and one in use; a copy may come out damaged.
pub fn two_rewriters() -> Scenario {
    let store = with_version(with_pack(Store::default(), &[0, 1]), 0, &[1], 0);
    Scenario {
        start: with_record(store, &[0]),
        cleanups: vec![2, 2],
        cleanups_crash: true,
        rare: Left { faulty_copies: 1, ..Left::default() },
        records_max: 2,
        ..Scenario::default()
    }
}

/// The slot in use is damaged, and is healed while cleanups rewrite the pack.
pub fn healing() -> Scenario {
    let mut scenario = two_rewriters();
    scenario.start.packs[0].damaged = Bits::of(&[1]);
    scenario.rare.heals = 1;
    scenario
}

/// A job of many hours takes a new lease.
pub fn renewal() -> Scenario {
    Scenario {
        start: with_pack(live_but_condemned(), &[1]),
        jobs: vec![JobPlan { next_lease: Some(3), hits: Bits::of(&[1]), ..builder() }],
        cleanups: vec![2],
        may_be_removed: Bits::of(&[0]),
        may_be_revoked: Bits::of(&[1, 3]),
        records_max: 4,
        ..Scenario::default()
    }
}

/// A reader of many hours takes a new lease, and its version anew. The slot of that is condemned; later the version is removed.
pub fn reader_renewal() -> Scenario {
    let reader =
        JobPlan { lease: 1, next_lease: Some(3), bases: Bits::of(&[0]), needs_base: true, ..JobPlan::default() };
    Scenario { jobs: vec![reader], cleanups: vec![4], ..renewal() }
}

/// The same while a cleanup lists leases and versions, and another one works.
pub fn reader_renewal_beside_slow_listings() -> Scenario {
    Scenario { listing_takes_time: true, cleanups: vec![2, 2], ..reader_renewal() }
}

/// Puts that are done twice: manifests and packs come back after they were deleted.
pub fn repeated_puts() -> Scenario {
    Scenario { rare: Left { echoes: 2, ..Left::default() }, ..base() }
}

/// While one cleanup lists the versions, a job publishes and another cleanup deletes what the job built on.
pub fn slow_listing() -> Scenario {
    Scenario { listing_takes_time: true, cleanups_crash: false, may_be_revoked: Bits::NONE, ..continued() }
}

/// A job changes its lease while a cleanup lists leases and versions.
pub fn slow_listing_of_leases() -> Scenario {
    Scenario { listing_takes_time: true, ..renewal() }
}

/// A job seems dead, loses its lease and goes on all the same, while another one goes on from its checkpoint.
pub fn two_continue() -> Scenario {
    let first = JobPlan {
        lease: 1,
        pack: Some((0, new_pack(0, &[0]))),
        version: Some(0),
        checkpoint: Some(2),
        ..JobPlan::default()
    };
    let second = JobPlan {
        lease: 2,
        bases: Bits::of(&[2]),
        needs_base: true,
        pack: Some((1, new_pack(1, &[1]))),
        version: Some(1),
        ..JobPlan::default()
    };
    Scenario {
        jobs: vec![first, second],
        cleanups: vec![2],
        may_be_revoked: Bits::of(&[1]),
        records_max: 2,
        ..Scenario::default()
    }
}

/// A job builds on a version and leaves a checkpoint; another one goes on from that, or builds on what it published.
/// Long.
pub fn two_jobs() -> Scenario {
    let first = JobPlan { checkpoint: Some(2), ..builder() };
    let second =
        JobPlan { lease: 2, bases: Bits::of(&[1, 2]), needs_base: true, version: Some(3), ..JobPlan::default() };
    Scenario {
        start: live_but_condemned(),
        jobs: vec![first, second],
        cleanups: vec![3],
        may_be_removed: Bits::of(&[0, 2]),
        may_be_revoked: Bits::of(&[1]),
        records_max: 5,
        ..Scenario::default()
    }
}

/// A job on a base, which finds a slot in its index too, and two cleanups, which may crash. Long.
pub fn two_cleanups() -> Scenario {
    Scenario {
        start: with_pack(live_but_condemned(), &[1]),
        jobs: vec![JobPlan { hits: Bits::of(&[1]), ..builder() }],
        cleanups: vec![2, 2],
        cleanups_crash: true,
        may_be_removed: Bits::of(&[0]),
        may_be_revoked: Bits::of(&[1]),
        rare: Left { rechecks: 1, ..Left::default() },
        records_max: 4,
        ..Scenario::default()
    }
}

/// Two jobs and two cleanups: one finds a slot in its index, the other one builds on its version. Long.
pub fn two_and_two() -> Scenario {
    Scenario { cleanups: vec![2, 2], rare: Left { rechecks: 1, ..Left::default() }, ..void_base() }
}

/// A job on a pack of three slots, which two cleanups rewrite while it is healed and copies fail. Long.
pub fn rewriting() -> Scenario {
    let store = with_version(with_pack(Store::default(), &[0, 1, 2]), 0, &[0], 0);
    let mut start = with_record(store, &[2]);
    start.packs[0].damaged = Bits::of(&[0]);
    Scenario {
        start,
        jobs: vec![JobPlan { hits: Bits::of(&[1]), ..finder(1, 1) }],
        cleanups: vec![2, 1],
        cleanups_crash: true,
        may_be_removed: Bits::of(&[0]),
        rare: Left { faulty_copies: 1, heals: 1, ..Left::default() },
        records_max: 3,
        ..Scenario::default()
    }
}

/// A job of many hours takes a new lease while two cleanups work. Long.
pub fn long_renewal() -> Scenario {
    Scenario { cleanups: vec![2, 1], ..renewal() }
}

/// While a cleanup lists the versions, a job builds on version 0 and another one on what it published. Long.
pub fn slow_listing_of_a_chain() -> Scenario {
    let second = JobPlan { lease: 2, bases: Bits::of(&[1]), needs_base: true, version: Some(2), ..JobPlan::default() };
    Scenario { jobs: vec![builder(), second], may_be_removed: Bits::of(&[0, 1]), ..slow_listing() }
}

/// Everything at once: two jobs that can do all that a job can do, two cleanups, every rare thing. Far too large to see
/// all of it.
pub fn everything() -> Scenario {
    let start = with_version(with_pack(with_pack(Store::default(), &[0, 3]), &[1]), 0, &[0], 0);
    let first = JobPlan {
        next_lease: Some(3),
        hits: Bits::of(&[1, 3]),
        pack: Some((2, new_pack(2, &[2, 4]))),
        checkpoint: Some(2),
        syncs_before: true,
        may_give_up: true,
        needs_base: false,
        ..builder()
    };
    let second = JobPlan {
        lease: 2,
        next_lease: Some(4),
        bases: Bits::of(&[0, 1, 2]),
        hits: Bits::of(&[1, 2, 3, 4]),
        pack: Some((3, new_pack(3, &[5, 6]))),
        version: Some(3),
        checkpoint: Some(4),
        ..first.clone()
    };
    Scenario {
        start: with_record(with_record(start, &[0]), &[]),
        jobs: vec![first, second],
        cleanups: vec![3, 3],
        cleanups_crash: true,
        listing_takes_time: true,
        may_be_removed: Bits::of(&[0, 1, 2, 3, 4]),
        may_be_revoked: Bits::of(&[1, 2, 3, 4]),
        rare: Left { rechecks: 2, heals: 1, faulty_copies: 1, echoes: 1 },
        records_max: 8,
    }
}
