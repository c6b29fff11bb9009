//! What anybody may do at any time: `rm`, giving up a lease, a recheck, healing a pack; and what the store may do:
//! finish a put for the second time, long after.

use super::job::JobAt;
use super::scenario::Scenario;
use super::store::{PackObject, Store};
use super::trap::Trap;
use super::{Actor, State, Step};
use crate::bits::Bits;

/// A recheck of a void version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Recheck {
    /// Not begun, or ended.
    #[default]
    Idle,
    /// Has read the manifest and pages of the version.
    HasRead(u8),
    /// Has seen that none of its slots is condemned.
    HasSeenLog(u8),
    /// Has seen that all its slots are there and good.
    HasSeenSlots(u8),
}

/// Who puts damaged slots anew: a backup that sees the same content, or a scrub with the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Healer {
    /// Not begun, or ended.
    #[default]
    Idle,
    /// Has read what there is of the pack.
    HasRead(PackObject),
}

/// How often the rare things may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Left {
    /// Rechecks.
    pub rechecks: u8,
    /// Healings.
    pub heals: u8,
    /// Copies of slots that come out damaged.
    pub faulty_copies: u8,
    /// Puts that are done twice.
    pub echoes: u8,
}

/// Appends what anybody can do.
pub fn steps(scenario: &Scenario, trap: Option<Trap>, state: &State, out: &mut Vec<(Step, State)>) {
    let store = &state.store;
    let mut step = |what: &'static str, object: u8, change: &dyn Fn(&mut State)| {
        let mut after = *state;
        change(&mut after);
        out.push((Step { actor: Actor::Anybody, what, object: Some(object), set: Bits::NONE }, after));
    };
    for version in ((scenario.may_be_removed & store.versions_there) - store.removed).iter() {
        step("removes version", version, &|after| after.store.removed.add(version));
    }
    // A lease that was dropped meanwhile may get its revocation, too. One that nothing names any more is left alone.
    for lease in (scenario.may_be_revoked - store.revoked).iter().filter(|lease| is_worth_revoking(store, *lease)) {
        step("revokes lease", lease, &|after| after.store.revoked.add(lease));
    }
    if trap == Some(Trap::RevocationTidied) {
        for lease in (store.revoked - scenario.start.revoked).iter() {
            step("tidies away the revocation of lease", lease, &|after| after.store.revoked.remove(lease));
        }
    }
    recheck(trap, state, &mut step);
    heal(trap, state, &mut step);
    if state.left.echoes > 0 {
        let dropped = state.jobs.iter().filter(|job| job.at == JobAt::Done && job.lease > 0);
        for lease in (dropped.map(|job| job.lease).collect::<Bits>() - store.leases).iter() {
            step("gets a repeated put of lease", lease, &|after| {
                after.store.leases.add(lease);
                after.left.echoes -= 1;
            });
        }
        for version in store.versions_deleted.iter().filter(|version| !store.versions_there.has(*version)) {
            step("gets a repeated put of version", version, &|after| {
                after.store.versions_there.add(version);
                after.left.echoes -= 1;
            });
        }
        for object in (store.packs_named - store.packs_there).iter() {
            step("gets a repeated put of pack", object, &|after| {
                after.store.packs_there.add(object);
                after.left.echoes -= 1;
            });
        }
    }
}

type Doing<'a> = dyn FnMut(&'static str, u8, &dyn Fn(&mut State)) + 'a;

fn is_worth_revoking(store: &Store, lease: u8) -> bool {
    let is_named = store.versions_there.iter().any(|version| store.manifest(version).lease == lease);
    store.leases.has(lease) || is_named
}

fn recheck(trap: Option<Trap>, state: &State, step: &mut Doing<'_>) {
    let store = &state.store;
    match state.recheck {
        Recheck::Idle if state.left.rechecks > 0 => {
            for version in store.versions_there.iter().filter(|version| store.is_void(*version)) {
                step("begins a recheck of version", version, &|after| {
                    after.left.rechecks -= 1;
                    after.recheck = Recheck::HasRead(version);
                });
            }
        }
        Recheck::Idle => {}
        Recheck::HasRead(version) => {
            let slots = store.manifest(version).slots;
            let fails = store.condemned_slots(store.log()).meets(slots) && trap != Some(Trap::RecheckWithoutLog);
            let next = if fails { Recheck::Idle } else { Recheck::HasSeenLog(version) };
            let what =
                if fails { "finds a condemned slot, ends the recheck of version" } else { "lists the log for version" };
            step(what, version, &|after| after.recheck = next);
        }
        Recheck::HasSeenLog(version) => {
            let passes = store.slots_sound(trap).covers(store.manifest(version).slots);
            let next = if passes { Recheck::HasSeenSlots(version) } else { Recheck::Idle };
            let what = if passes { "finds every slot of version" } else { "misses a slot of version" };
            step(what, version, &|after| after.recheck = next);
        }
        Recheck::HasSeenSlots(version) => step("puts the mark of a passed recheck of version", version, &|after| {
            after.store.checked.add(version);
            after.recheck = Recheck::Idle;
        }),
    }
}

fn heal(trap: Option<Trap>, state: &State, step: &mut Doing<'_>) {
    let store = &state.store;
    match state.healer {
        Healer::Idle if state.left.heals > 0 => {
            let damaged = store.packs_there.iter().filter(|object| !store.pack(*object).damaged.is_empty());
            for object in damaged {
                let number = store.pack(object).pack;
                let all = store.packs_there.iter().filter(|other| store.pack(*other).pack == number);
                let all = all.collect::<Bits>();
                let generation = all.iter().map(|other| store.pack(other).generation).max().unwrap_or(0) + 1;
                let slots = store.slots_of_packs(all);
                step("reads, to heal it, pack", object, &|after| {
                    after.left.heals -= 1;
                    after.healer = Healer::HasRead(PackObject { pack: number, generation, slots, damaged: Bits::NONE });
                });
            }
        }
        Healer::Idle => {}
        Healer::HasRead(pack) => step("puts a healed generation of pack", pack.pack, &|after| {
            after.store.put_generation(pack, trap);
            after.healer = Healer::Idle;
        }),
    }
}
