//! What must hold: I1 to I10 of `docs/protocol.md`.
//!
//! I1, I2 and I10 are the promises to the user: what is listed as good restores, what a job relies on stays, and
//! success is not taken back. I9 is the promise that space comes back. The others are why these hold; when one of them
//! breaks, the harm may still be some steps away.

use super::cleaner::{self, Cleaner, CleanerAt, Rules};
use super::job::{Job, JobAt};
use super::store::Record;
use super::{Deletion, State};
use crate::bits::Bits;

/// Which promises a walk looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// I1, I2, I10, and that what was good stays good.
    Harm,
    /// All but I9.
    Reasons,
    /// I1 to I10. I9 lets three cleanups run from every state.
    All,
}

/// Returns what is broken in one state.
pub fn broken_state(model: &Deletion, state: &State) -> Option<String> {
    let harm = version_broken(state).or_else(|| job_broken(state)).or_else(|| success_broken(model, state));
    if harm.is_some() || model.watch == Watch::Harm {
        return harm;
    }
    let reason = state.cleaners.iter().find_map(|cleaner| cleaner_broken(state, cleaner));
    let reason = reason.or_else(|| waiting_broken(state)).or_else(|| base_broken(state));
    if reason.is_some() || model.watch == Watch::Reasons {
        return reason;
    }
    rest_broken(model, state)
}

/// Returns what is broken by one step.
pub fn broken_step(model: &Deletion, before: &State, after: &State) -> Option<String> {
    if let Some(broken) = goodness_broken(model, before, after) {
        return Some(broken);
    }
    if model.watch == Watch::Harm {
        return None;
    }
    let (old, new) = (&before.store, &after.store);
    if !new.condemned_slots(new.log()).covers(old.condemned_slots(old.log())) {
        return Some("I3: a slot is not condemned any more".to_owned());
    }
    let ripe = new.log().iter().filter(|record| ignorant(after, *record).is_empty());
    let ripe = ripe.collect::<Bits>();
    let gone = old.slots_there() - new.slots_there() - new.condemned_slots(ripe);
    if let Some(slot) = gone.first() {
        return Some(format!("I3: slot {slot} is deleted, and no ripe record condemns it"));
    }
    let gone = old.versions_there - new.versions_there - new.condemned_versions(ripe);
    if let Some(version) = gone.first() {
        return Some(format!("I3: version {version} is deleted, and no ripe record condemns it"));
    }
    for record in old.log().iter() {
        if !ignorant(before, record).covers(ignorant(after, record)) {
            return Some(format!("I4: somebody new does not know record {record}"));
        }
    }
    for version in (old.versions_there & new.versions_there).iter() {
        if old.is_void(version) && !new.is_void(version) && !new.checked.has(version) {
            return Some(format!("I8: version {version} is not void any more, without a recheck"));
        }
    }
    None
}

/// I1.
fn version_broken(state: &State) -> Option<String> {
    let store = &state.store;
    let there = store.slots_there();
    // A manifest that came back by a repeated put is condemned for ever, and hidden by its tombstone.
    let published = store.versions_there - (store.versions_deleted & store.removed);
    published.iter().filter(|version| !store.is_void(*version)).find_map(|version| {
        let missing = (store.manifest(version).slots - there).first()?;
        Some(format!("I1: version {version} is not void and points to slot {missing}, which is gone"))
    })
}

/// I2.
fn job_broken(state: &State) -> Option<String> {
    let there = state.store.slots_there();
    protected_jobs(state).find_map(|(number, job)| {
        let missing = (job.taken - there).first()?;
        Some(format!("I2: job {number} holds its lease and has taken slot {missing}, which is gone"))
    })
}

/// I10: a version that was reported as good is not void.
fn success_broken(model: &Deletion, state: &State) -> Option<String> {
    let good = state.jobs.iter().zip(&model.scenario.jobs).filter(|(job, _)| job.is_good);
    let versions = good.filter_map(|(_, plan)| plan.published_as(model.trap));
    let mut void = versions.filter(|version| state.store.versions_there.has(*version) && state.store.is_void(*version));
    void.next().map(|version| format!("I10: version {version} was reported as good and is void"))
}

/// I1 and I2 for slots that are there and do not open: no step damages the last good copy of what is in use.
fn goodness_broken(model: &Deletion, before: &State, after: &State) -> Option<String> {
    let lost = before.store.slots_sound(model.trap) - after.store.slots_sound(model.trap);
    if lost.is_empty() {
        return None;
    }
    let store = &after.store;
    let versions = (store.versions_there - store.versions_deleted).iter().filter(|version| !store.is_void(*version));
    let used = versions.fold(Bits::NONE, |used, version| used | store.manifest(version).slots);
    let used = protected_jobs(after).fold(used, |used, (_, job)| used | job.taken);
    (lost & used).first().map(|slot| format!("I1: slot {slot} is in use and has lost its last good copy"))
}

/// I5 and I6.
fn cleaner_broken(state: &State, cleaner: &Cleaner) -> Option<String> {
    let store = &state.store;
    if matches!(cleaner.at, CleanerAt::ListPacks | CleanerAt::PutRecord | CleanerAt::Delete) {
        let needed = store.slots_of_versions(cleaner.listed - cleaner.doomed);
        if cleaner.sweep.meets(needed) {
            return Some("I6: the sweep list has a slot of a version that was listed".to_owned());
        }
    }
    let has_marked = !matches!(
        cleaner.at,
        CleanerAt::ReadLog
            | CleanerAt::ListLeases
            | CleanerAt::ListFirstLeases
            | CleanerAt::ListVersions
            | CleanerAt::ListVersionOne
            | CleanerAt::ListVersionZero
            | CleanerAt::LookAgain
            | CleanerAt::ReadVersions
    );
    if !has_marked || cleaner.sweep.is_empty() {
        return None;
    }
    for version in (store.versions_there - store.versions_deleted - cleaner.doomed).iter() {
        if !store.is_void(version) && store.manifest(version).slots.meets(cleaner.sweep) {
            return Some(format!("I5: version {version} points to a slot of a sweep list"));
        }
    }
    let taken = protected_jobs(state).find(|(_, job)| job.taken.meets(cleaner.sweep));
    taken.map(|(number, _)| format!("I5: job {number} has taken a slot of a sweep list"))
}

/// I4: who holds a lease and does not know a record is waited for.
fn waiting_broken(state: &State) -> Option<String> {
    let (log, held) = (state.store.log(), state.store.held());
    log.iter().find_map(|record| {
        let waiting = cleaner::waiting(&state.store, log, held, record);
        let left_out = (ignorant(state, record) - waiting).first()?;
        Some(format!("I4: lease {left_out} is held, does not know record {record}, and is not waited for"))
    })
}

/// I7.
fn base_broken(state: &State) -> Option<String> {
    protected_jobs(state).find_map(|(number, job)| {
        let base = job.base.filter(|base| job.is_base_sound && !state.store.versions_there.has(*base))?;
        Some(format!("I7: job {number} builds on version {base}, which is gone"))
    })
}

/// I9: everybody stops, all leases are given up, and three cleanups run alone.
fn rest_broken(model: &Deletion, state: &State) -> Option<String> {
    let mut store = state.store;
    store.revoked |= store.leases;
    // Nobody remembers a name any more, so those of deleted packs may be used again. With no lease held all records
    // are ripe, so one may stand for all. That makes room for what the three put.
    store.packs_named = store.packs_there;
    let log = store.log();
    store.records[0] =
        Record { slots: store.condemned_slots(log), versions: store.condemned_versions(log), ..Record::default() };
    store.record_count = 1;
    let rules = Rules { records_max: u8::MAX, ..model.rules() };
    let mut cleaner = Cleaner { runs_left: 3, ..Cleaner::default() };
    while rules.advance(&mut store, &mut cleaner, false).is_some() {
        store.packs_named = store.packs_there;
    }
    if cleaner.runs_left > 0 {
        // All names of the walk are in use at once: it cannot say how this ends.
        return None;
    }
    let dead_versions = store.versions_there & store.removed;
    if let Some(version) = dead_versions.first() {
        return Some(format!("I9: removed version {version} is left"));
    }
    let dead_slots = store.slots_there() - store.slots_of_versions(store.versions_there);
    for object in store.packs_there.iter() {
        let pack = store.pack(object);
        let brothers = store.packs_there.iter().filter(|other| store.pack(*other).pack == pack.pack).count();
        // A pack with a slot that has no good copy is left as it is until that is healed.
        let is_damaged = !store.slots_sound(None).covers(pack.slots);
        if (brothers > 1 || pack.slots.meets(dead_slots)) && !is_damaged {
            return Some(format!("I9: pack object {object} with slots {} is left", pack.slots));
        }
    }
    None
}

/// The leases under which a job works that has listed the log without seeing `record`.
fn ignorant(state: &State, record: u8) -> Bits {
    let mut leases = Bits::NONE;
    for job in &state.jobs {
        if job.has_listed() && !job.known.has(record) {
            leases.add(job.lease);
        }
        // What it does under its next lease counts even when the first one was revoked meanwhile.
        let has_listed_again = matches!(job.at, JobAt::ReadyAgain | JobAt::BaseReadAgain);
        if let Some(next) = job.next_lease.filter(|_| has_listed_again && !job.next_known.has(record)) {
            leases.add(next);
        }
    }
    leases & state.store.held()
}

fn protected_jobs(state: &State) -> impl Iterator<Item = (u8, &Job)> {
    (0..).zip(&state.jobs).filter(|(_, job)| job.is_protected(&state.store))
}
