//! A job: a backup, fresh or on a base, a continuing one, a reader. A reader is one that never publishes.
//!
//! ```text
//!  Idle -put lease-> Leased -list log-> Ready -read base-> BaseRead -look: revoked?-> BaseRevoked -look: checked?-.
//!                                         `--------------------------- no base ------------------------> Working <-'
//!                                                        hits, packs, a checkpoint, the next lease: here   |
//!  Done <-drop lease- Marked <-put mark- Confirmed <-look again- Published <-put manifest------------------'
//! ```
//!
//! Before it puts its manifest, the job looks for its own revocation only to save work: between that look and the put the
//! revocation can come anyhow. So it is left out here, which reaches every state that a job which looks can reach.

use super::store::{PackObject, Store};
use super::trap::Trap;
use super::{Actor, State, Step};
use crate::bits::Bits;

/// What a job of a walk may do.
#[derive(Clone, Debug, Default)]
pub struct JobPlan {
    /// Its lease.
    pub lease: u8,
    /// A lease that it may take later in place of the first.
    pub next_lease: Option<u8>,
    /// The versions and checkpoints that it may take as its base.
    pub bases: Bits,
    /// Whether it must have a base.
    pub needs_base: bool,
    /// The slots that its stale index may offer.
    pub hits: Bits,
    /// The pack that it puts, by number of the object; what it holds.
    pub pack: Option<(u8, PackObject)>,
    /// The version that it publishes; a reader has none.
    pub version: Option<u8>,
    /// The checkpoint that it puts before.
    pub checkpoint: Option<u8>,
    /// Whether it brings its catalog up to date before it puts its lease, too.
    pub syncs_before: bool,
    /// Whether it may end without publishing and drop its lease.
    pub may_give_up: bool,
}

impl JobPlan {
    /// Tells whether all that it points to comes from one version, for good.
    fn only_reads(&self) -> bool {
        self.version.is_none() && self.needs_base && self.hits.is_empty() && self.pack.is_none()
    }

    /// Returns the version that it publishes. In the trap H21 all jobs go on with version 0.
    pub fn published_as(&self, trap: Option<Trap>) -> Option<u8> {
        self.version.map(|version| if trap == Some(Trap::ManifestNameShared) { 0 } else { version })
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum JobAt {
    /// Not begun.
    #[default]
    Idle,
    /// Has put its lease.
    Leased,
    /// Has read the log.
    Ready,
    /// Has looked for a revocation before it read the manifest; only in the trap H12.
    LookedFirst,
    /// Has read the manifest of its base.
    BaseRead,
    /// Has seen that the lease of its base is revoked.
    BaseRevoked,
    /// Collects pointers.
    Working,
    /// Has put its next lease.
    LeasedAgain,
    /// Has read the log under its next lease.
    ReadyAgain,
    /// A reader that has read the manifest of its version again, under its next lease.
    BaseReadAgain,
    /// Has put its manifest.
    Published,
    /// Has looked again, and its lease was not revoked.
    Confirmed,
    /// Has put the mark that its version is good.
    Marked,
    /// Has looked again, and its lease was revoked.
    Refused,
    /// Has dropped its lease.
    Done,
}

/// What a job remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Job {
    /// How far it is.
    pub at: JobAt,
    /// The lease that it works under.
    pub lease: u8,
    /// The lease that it is about to go on under.
    pub next_lease: Option<u8>,
    /// The records that it has read.
    pub known: Bits,
    /// Those of them whose slots it does not take.
    pub filter: Bits,
    /// Its base.
    pub base: Option<u8>,
    /// Whether it has seen that its base is not void.
    pub is_base_sound: bool,
    /// The records that it has read under its next lease.
    pub next_known: Bits,
    /// The slots that it points to.
    pub taken: Bits,
    /// Whether its pack is put.
    pub has_put_pack: bool,
    /// Whether its checkpoint is put.
    pub has_put_checkpoint: bool,
    /// Whether its next lease was put.
    pub has_leased_again: bool,
    /// Whether it ended and told its user that the version is good.
    pub is_good: bool,
}

impl Job {
    /// Tells whether its lease protects it now.
    pub fn is_protected(&self, store: &Store) -> bool {
        !matches!(self.at, JobAt::Idle | JobAt::Done) && store.held().has(self.lease)
    }

    /// Tells whether it has read the log under its lease.
    pub fn has_listed(&self) -> bool {
        !matches!(self.at, JobAt::Idle | JobAt::Leased | JobAt::Done)
    }

    fn read_log(&mut self, store: &Store, trap: Option<Trap>) {
        let seen = self.known.iter().map(|record| store.record(record).number()).max();
        let is_read = |record: &u8| match (trap, seen) {
            (Some(Trap::NumberCursor), Some(seen)) => store.record(*record).number() > seen,
            _ => true,
        };
        let read = store.log().iter().filter(is_read).collect::<Bits>();
        self.filter = if trap == Some(Trap::DroppedOnce) { read - self.known } else { self.known | read };
        self.known |= read;
    }

    fn take_base(&mut self, store: &Store, version: u8, is_sound: bool) {
        let slots = store.manifest(version).slots;
        self.is_base_sound = is_sound;
        self.taken |= if is_sound { slots } else { slots - store.condemned_slots(self.filter) };
        self.at = JobAt::Working;
    }
}

/// Appends what the job of that number can do.
pub fn steps(plan: &JobPlan, trap: Option<Trap>, state: &State, number: u8, out: &mut Vec<(Step, State)>) {
    let job = &state.jobs[usize::from(number)];
    let mut step = |what: &'static str, object: Option<u8>, change: &dyn Fn(&mut Store, &mut Job)| {
        let mut after = *state;
        change(&mut after.store, &mut after.jobs[usize::from(number)]);
        if after != *state {
            out.push((Step { actor: Actor::Job(number), what, object, set: Bits::NONE }, after));
        }
    };
    let log = state.store.log();
    match job.at {
        JobAt::Idle => {
            if plan.syncs_before && job.known != log {
                step("brings its catalog up to date", None, &|store, job| job.read_log(store, trap));
            }
            if trap == Some(Trap::BaseFromBeforeLease) && job.base.is_none() {
                for version in (plan.bases & state.store.versions_there).iter() {
                    step("keeps the map of version", Some(version), &|store, job| {
                        job.base = Some(version);
                        job.take_base(store, version, true);
                        job.at = JobAt::Idle;
                    });
                }
            }
            step("puts lease", Some(plan.lease), &|store, job| {
                store.leases.add(plan.lease);
                job.lease = plan.lease;
                job.at = JobAt::Leased;
            });
        }
        JobAt::Leased => step("lists and reads the log", None, &|store, job| {
            job.read_log(store, trap);
            job.at = if job.base.is_some() { JobAt::Working } else { JobAt::Ready };
        }),
        JobAt::Ready => choose_base(plan, trap, state, job, &mut step),
        JobAt::LookedFirst => {
            let base = job.base.filter(|base| state.store.versions_there.has(*base));
            if let Some(base) = base.filter(|base| !state.store.condemned_versions(job.filter).has(*base)) {
                step("reads the manifest of its base", Some(base), &|store, job| job.take_base(store, base, true));
            }
        }
        JobAt::BaseRead | JobAt::BaseRevoked => look_at_base(&state.store, job, &mut step),
        JobAt::Working => work(plan, trap, state, job, &mut step),
        JobAt::LeasedAgain => step("lists and reads the log", None, &|store, job| {
            job.next_known = job.known | store.log();
            job.at = JobAt::ReadyAgain;
        }),
        JobAt::ReadyAgain if plan.only_reads() => read_base_again(trap, &state.store, job, &mut step),
        JobAt::ReadyAgain => {
            let is_condemned = state.store.condemned_slots(job.next_known).meets(job.taken);
            change_lease(job, is_condemned && trap != Some(Trap::ChangeWithoutLook), false, &mut step);
        }
        JobAt::BaseReadAgain => {
            let is_void = job.base.is_none_or(|base| state.store.is_void(base));
            change_lease(job, is_void, true, &mut step);
        }
        JobAt::Published if state.store.revoked.has(job.lease) && trap != Some(Trap::MarkWithoutLook) => {
            step("sees the revocation of its lease", Some(job.lease), &|_, job| job.at = JobAt::Refused);
        }
        JobAt::Published => step("sees no revocation of its lease", Some(job.lease), &|_, job| {
            job.at = if trap == Some(Trap::NoMarkByTheJob) { JobAt::Marked } else { JobAt::Confirmed };
        }),
        JobAt::Confirmed => {
            let version = plan.published_as(trap);
            step("puts the mark of version", version, &|store, job| {
                version.iter().for_each(|version| store.checked.add(*version));
                job.at = JobAt::Marked;
            });
        }
        JobAt::Marked => step("reports success and drops its lease", Some(job.lease), &|store, job| {
            end(store, job);
            job.is_good = true;
        }),
        JobAt::Refused => step("reports a void version and drops its lease", Some(job.lease), &end),
        JobAt::Done => {}
    }
    let may_give_up = plan.may_give_up && matches!(job.at, JobAt::Ready | JobAt::Working);
    if may_give_up {
        step("gives up and drops its lease", Some(job.lease), &end);
    }
}

type Doing<'a> = dyn FnMut(&'static str, Option<u8>, &dyn Fn(&mut Store, &mut Job)) + 'a;

/// Drops the lease. What the job remembers does not matter any more.
fn end(store: &mut Store, job: &mut Job) {
    store.leases.remove(job.lease);
    *job = Job { at: JobAt::Done, lease: job.lease, ..Job::default() };
}

/// A reader takes its version again as a new one would: it is there, and not condemned. Its slots may be, all the same.
fn read_base_again(trap: Option<Trap>, store: &Store, job: &Job, step: &mut Doing<'_>) {
    let is_there = |base: &u8| store.versions_there.has(*base) && !store.condemned_versions(job.next_known).has(*base);
    match job.base.filter(|base| trap == Some(Trap::ChangeWithoutLook) || is_there(base)) {
        Some(base) => step("reads the manifest of its version again", Some(base), &|_, job| {
            job.at = JobAt::BaseReadAgain;
        }),
        None => change_lease(job, true, true, step),
    }
}

/// Drops the old lease, or the new one if the job must keep the old one.
fn change_lease(job: &Job, keeps_old: bool, keeps_base: bool, step: &mut Doing<'_>) {
    let Some(next) = job.next_lease else { return };
    let goes_on = |job: &mut Job| {
        (job.known, job.filter) = (job.next_known, job.next_known);
        (job.next_lease, job.next_known) = (None, Bits::NONE);
        job.at = JobAt::Working;
    };
    if keeps_old {
        step("keeps its lease and drops lease", Some(next), &|store, job| {
            store.leases.remove(next);
            goes_on(job);
        });
    } else {
        step("goes on under its next lease and drops lease", Some(job.lease), &|store, job| {
            store.leases.remove(job.lease);
            job.lease = next;
            if !keeps_base {
                (job.base, job.is_base_sound) = (None, false);
            }
            goes_on(job);
        });
    }
}

fn choose_base(plan: &JobPlan, trap: Option<Trap>, state: &State, job: &Job, step: &mut Doing<'_>) {
    let store = &state.store;
    if !plan.needs_base {
        work(plan, trap, state, job, step);
    }
    if trap == Some(Trap::RevocationBeforeManifest) {
        for version in plan.bases.iter().filter(|version| !store.revoked.has(store.manifest(*version).lease)) {
            step("finds no revocation for version", Some(version), &|_, job| {
                job.base = Some(version);
                job.at = JobAt::LookedFirst;
            });
        }
        return;
    }
    let is_refused = |version: &u8| match trap {
        Some(Trap::CondemnedBase | Trap::VersionsNotCondemned) => false,
        _ => store.condemned_versions(job.filter).has(*version),
    };
    for version in (plan.bases & store.versions_there).iter().filter(|version| !is_refused(version)) {
        step("reads the manifest of its base", Some(version), &|_, job| {
            job.base = Some(version);
            job.at = JobAt::BaseRead;
        });
    }
}

fn look_at_base(store: &Store, job: &Job, step: &mut Doing<'_>) {
    let Some(base) = job.base else { return };
    let lease = store.manifest(base).lease;
    if job.at == JobAt::BaseRead && store.revoked.has(lease) {
        step("sees a revocation of lease", Some(lease), &|_, job| job.at = JobAt::BaseRevoked);
    } else if job.at == JobAt::BaseRead {
        step("sees no revocation of lease", Some(lease), &|store, job| job.take_base(store, base, true));
    } else if store.checked.has(base) {
        step("sees a passed recheck of version", Some(base), &|store, job| job.take_base(store, base, true));
    } else {
        step("takes what is not condemned of void version", Some(base), &|store, job| {
            job.take_base(store, base, false)
        });
    }
}

fn work(plan: &JobPlan, trap: Option<Trap>, state: &State, job: &Job, step: &mut Doing<'_>) {
    let store = &state.store;
    let offered = (plan.hits & store.slots_ever()) - store.condemned_slots(job.filter) - job.taken;
    for slot in offered.iter() {
        step("finds in its index slot", Some(slot), &|_, job| {
            job.taken.add(slot);
            job.at = JobAt::Working;
        });
    }
    if let Some((object, pack)) = plan.pack.filter(|_| !job.has_put_pack) {
        step("puts pack", Some(object), &|store, job| {
            store.packs[usize::from(object)] = pack;
            store.packs_named.add(object);
            store.packs_there.add(object);
            job.taken |= pack.slots;
            job.has_put_pack = true;
            job.at = JobAt::Working;
        });
    }
    let put = |version: u8, store: &mut Store, job: &Job| {
        let manifest = &mut store.versions[usize::from(version)];
        (manifest.slots, manifest.lease) = (job.taken, job.lease);
        store.versions_there.add(version);
    };
    if let Some(checkpoint) = plan.checkpoint.filter(|_| !job.has_put_checkpoint && !job.taken.is_empty()) {
        step("puts checkpoint", Some(checkpoint), &|store, job| {
            put(checkpoint, store, job);
            job.has_put_checkpoint = true;
        });
    }
    if let Some(version) = plan.published_as(trap).filter(|_| !job.taken.is_empty()) {
        step("puts the manifest of version", Some(version), &|store, job| {
            put(version, store, job);
            job.at = JobAt::Published;
        });
    }
    // No lease is put twice: one that was given back is not offered again.
    if let Some(next) = plan.next_lease.filter(|_| !job.has_leased_again) {
        step("puts its next lease", Some(next), &|store, job| {
            store.leases.add(next);
            (job.next_lease, job.has_leased_again) = (Some(next), true);
            job.at = JobAt::LeasedAgain;
            if trap == Some(Trap::OldLeaseDroppedFirst) {
                store.leases.remove(job.lease);
                job.lease = next;
            }
        });
    }
}
