//! One run of one seed: starts jobs, chooses whose call of the store comes next, revokes leases, moves clocks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use backy_core::environment::Clock;
use backy_core::ids::VersionUid;
use backy_engine::cleanup::CleanupRequest;
use backy_store::ObjectStore;
use backy_store::memory::MemoryStore;
use backy_testkit::clock::{START, SimulatedClock};
use backy_testkit::gate::{Actor, Gate, Waiting};
use backy_testkit::random::environment_with_clock;
use backy_testkit::store::{CrashMoment, FaultRates};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::ending;
use crate::jobs::{Job, Shared, run as run_job};
use crate::late::LatePuts;
use crate::model::Model;
use crate::process::{Dead, Process};
use crate::support::{Host, init_store};

const HOSTS: usize = 3;
const PROCESSES_PER_HOST: usize = 2;
const NAMES: usize = 3;

/// What happened.
#[derive(Default)]
pub struct Counts {
    jobs: BTreeMap<&'static str, (u64, u64)>,
    crashes: u64,
    revocations: u64,
    forgotten: u64,
    calls: u64,
    failed_calls: u64,
    late: u64,
    damages: u64,
    versions_checked: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (done, failed)) in &self.jobs {
            write!(f, "{kind} {done}+{failed} failed, ")?;
        }
        write!(
            f,
            "{} calls, {} of them failed, {} puts that came late, {} crashes, {} revocations, {} damages, {} catalogs lost or \
             put back, {} versions checked",
            self.calls,
            self.failed_calls,
            self.late,
            self.crashes,
            self.revocations,
            self.damages,
            self.forgotten,
            self.versions_checked
        )
    }
}

type Ended = (Process, backy_core::Result<()>);

struct Driver {
    random: ChaCha8Rng,
    gate: Gate,
    shared: Arc<Shared>,
    clocks: Vec<Arc<SimulatedClock>>,
    states: Vec<TempDir>,
    /// Copies of state folders, to be put back later.
    copies: Vec<Option<TempDir>>,
    idle: Vec<Process>,
    running: BTreeMap<Actor, (&'static str, JoinHandle<Ended>)>,
    /// Sees all, and never fails.
    observer: Host,
    counts: Counts,
    rates: FaultRates,
    /// How likely it is that whoever has called last calls next, in percent.
    inertia: u32,
    jobs_at_once: usize,
    /// How likely it is after each call that a lease is revoked.
    revocations: f64,
    late: LatePuts,
    /// How likely it is after each call that a late put lands.
    landings: f64,
    /// How likely it is after each call that a pack is damaged.
    damages: f64,
    /// Prints every call: `BACKY2_SIM_TRACE=1`.
    is_traced: bool,
}

/// Runs a seed with so many jobs on a repository in memory; panics if anything is wrong.
pub fn run(seed: u64, jobs: u64) -> Counts {
    run_in(seed, jobs, Arc::new(MemoryStore::new()))
}

/// Runs a seed with so many jobs on a new repository in `store`, which is empty.
pub fn run_in(seed: u64, jobs: u64, store: Arc<dyn ObjectStore>) -> Counts {
    let mut driver = Driver::new(seed, store);
    let mut started = 0;
    let mut last = None;
    loop {
        let waiting = driver.gate.waiting();
        driver.collect(&waiting);
        let may_start = driver.running.len() < driver.jobs_at_once && !driver.idle.is_empty();
        if started < jobs && may_start && (driver.running.is_empty() || driver.random.random_bool(0.05)) {
            started += 1;
            driver.start();
            continue;
        }
        if waiting.is_empty() {
            break;
        }
        let stays = driver.random.random_range(0..100) < driver.inertia;
        let next = match waiting.iter().find(|call| stays && Some(call.actor) == last) {
            Some(call) => call.actor,
            None => waiting[driver.random.random_range(0..waiting.len())].actor,
        };
        last = Some(next);
        if driver.is_traced {
            let kind = driver.running.get(&next).map_or("", |(kind, _)| kind);
            let call = waiting.iter().find(|call| call.actor == next);
            call.inspect(|call| println!("{} {kind}: {:?} {}", call.actor.0, call.operation, call.name));
        }
        driver.gate.let_pass(next);
        driver.disturb();
    }
    driver.end()
}

impl Driver {
    fn new(seed: u64, store: Arc<dyn ObjectStore>) -> Driver {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let clocks: Vec<Arc<SimulatedClock>> = (0..HOSTS).map(|_| Arc::new(SimulatedClock::default())).collect();
        for clock in &clocks[1..] {
            // Up to an hour and a half behind, or ahead.
            let skew = Duration::from_secs(random.random_range(0..10_800));
            clock.set_now(
                backy_core::environment::Timestamp { milliseconds: START.milliseconds - 5_400_000 }.plus(skew),
            );
        }
        let environment = environment_with_clock(seed ^ 1, clocks[0].clone());
        init_store(&store, &environment);
        let observer = Host::new(store.clone(), environment.clone());
        let (gate, dead) = (Gate::default(), Dead::default());
        let states: Vec<TempDir> = (0..HOSTS).map(|_| new_folder()).collect();
        let permille = if random.random_bool(0.5) { 0 } else { random.random_range(1..8) };
        // Where many puts come late most backups fail, and many a manifest is on its way when its job is long over.
        let late_permille = [0, 0, 4, 12, 40][random.random_range(0..5)];
        let rates = FaultRates {
            before_permille: permille,
            after_permille: permille,
            repeated_permille: 2 * permille,
            late_permille,
            repeated_late_permille: 2 * late_permille,
        };
        let mut idle = Vec::new();
        for host in 0..HOSTS {
            for number in 0..PROCESSES_PER_HOST {
                let seed = random.random();
                idle.push(Process::new(
                    (host, number),
                    (store.clone(), &gate),
                    (seed, rates),
                    clocks[host].clone(),
                    states[host].path(),
                    dead.clone(),
                ));
            }
        }
        let revoked = Mutex::default();
        let model = Mutex::new(Model::default());
        let shared = Arc::new(Shared { model, store, environment, revoked, damages: Mutex::default() });
        let stores = idle.iter().map(|process: &Process| process.faults.clone()).collect();
        let late = LatePuts { stores, random: ChaCha8Rng::seed_from_u64(random.random()) };
        Driver {
            gate,
            shared,
            clocks,
            states,
            copies: (0..HOSTS).map(|_| None).collect(),
            idle,
            running: BTreeMap::new(),
            observer,
            counts: Counts::default(),
            rates,
            inertia: random.random_range(0..98),
            jobs_at_once: random.random_range(1..=HOSTS * PROCESSES_PER_HOST),
            revocations: [0.0005, 0.004, 0.02][random.random_range(0..3)],
            late,
            landings: [0.2, 0.01, 0.0005][random.random_range(0..3)],
            damages: [0.0, 0.0, 0.0004, 0.003][random.random_range(0..4)],
            random,
            is_traced: std::env::var_os("BACKY2_SIM_TRACE").is_some(),
        }
    }

    /// Starts a job in a process that is idle.
    fn start(&mut self) {
        let mut process = self.idle.swap_remove(self.random.random_range(0..self.idle.len()));
        let (kind, job) = self.choose_job();
        process.faults.clear_log();
        if self.random.random_bool(0.12) {
            let moments = [CrashMoment::Before, CrashMoment::After, CrashMoment::Late];
            // Without late puts it is a crash before the call.
            let moment = moments[self.random.random_range(0..if self.rates.late_permille > 0 { 3 } else { 2 })];
            process.faults.crash_at_call(self.random.random_range(1..90), moment);
        }
        let presence = self.gate.enter();
        let actor = presence.actor();
        process.gated.act_for(Some(actor));
        let shared = self.shared.clone();
        let job = move || {
            let result = run_job(&mut process, &job, &shared);
            process.gated.act_for(None);
            drop(presence);
            (process, result)
        };
        self.running.insert(actor, (kind, std::thread::spawn(job)));
    }

    fn choose_job(&mut self) -> (&'static str, Job) {
        let name = format!("vm{}", self.random.random_range(0..NAMES));
        let uid = self.choose_version(false);
        let unfinished = self.choose_version(true);
        let mut model = self.shared.model.lock().unwrap();
        match (self.random.random_range(0..100), uid) {
            (0..14, Some(uid)) => ("remove", Job::Remove { uid }),
            (14..30, Some(uid)) => ("restore", Job::Restore { uid }),
            (30..44, _) if unfinished.is_some() => {
                let is_hinted = self.random.random_bool(0.5);
                ("continue", Job::Continue { uid: unfinished.expect("it is some"), is_hinted })
            }
            (44..48, Some(uid)) => {
                ("label", Job::Label { uid, tag: format!("tag{}", self.random.random_range(0..1000)) })
            }
            (48..62, Some(base)) => {
                let base_name = self.observer.repository.find_version(&crate::jobs::by_uid(base));
                let name = base_name.map_or(name, |entry| entry.manifest.name);
                ("hinted backup", Job::Hinted { base, content: model.next_content(&name, &mut self.random) })
            }
            (62..78, _) => {
                let compact_below_percent = if self.random.random_bool(0.7) { 100.0 } else { 40.0 };
                let is_dry_run = self.random.random_bool(0.05);
                ("cleanup", Job::Cleanup(CleanupRequest { is_dry_run, compact_below_percent, time_max: None }))
            }
            (78..80, _) => ("scrub", Job::Scrub),
            (80..82, _) => ("check", Job::Check),
            (82..84, Some(uid)) => ("mend", Job::Mend { uid }),
            (84..87, Some(uid)) => ("protect", Job::Protect { uid, is_protected: self.random.random_bool(0.6) }),
            _ => {
                let content = model.next_content(&name, &mut self.random);
                ("backup", Job::Backup { name, content, is_based: self.random.random_bool(0.8) })
            }
        }
    }

    /// Chooses a version, rather a young one. Those that a dead job has published are among them. `is_unfinished`: one of
    /// which nobody has said that it is published.
    fn choose_version(&mut self, is_unfinished: bool) -> Option<VersionUid> {
        if self.random.random_bool(0.2) {
            let listed = self.observer.repository.versions().unwrap();
            assert!(listed.unreadable.is_empty(), "{:?}", listed.unreadable);
            let mut model = self.shared.model.lock().unwrap();
            listed.versions.iter().for_each(|entry| model.see(entry.manifest.uid));
        }
        let model = self.shared.model.lock().unwrap();
        // What was published may be damaged: then it can be continued, too.
        let is_any = !is_unfinished || self.random.random_bool(0.1);
        let is_meant = |uid: &&VersionUid| is_any || !model.published.contains(*uid);
        let back = self.random.random_range(0..if is_unfinished { 4 } else { 12 });
        let young: Vec<VersionUid> = model.known.iter().rev().filter(is_meant).take(back + 1).copied().collect();
        young.last().copied()
    }

    /// Takes up what has ended: what has no call that waits.
    fn collect(&mut self, waiting: &[Waiting]) {
        let is_waiting = |actor: &Actor| waiting.iter().any(|call| call.actor == *actor);
        let ended: Vec<Actor> = self.running.keys().copied().filter(|actor| !is_waiting(actor)).collect();
        for actor in ended {
            let (kind, thread) = self.running.remove(&actor).expect("it was just there");
            let (mut process, result) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let count = self.counts.jobs.entry(kind).or_default();
            if result.is_ok() {
                count.0 += 1
            } else {
                count.1 += 1
            }
            if self.is_traced {
                println!("{} {kind}: {result:?}", actor.0);
            }
            let log = process.faults.log();
            self.counts.calls += log.len() as u64;
            self.counts.failed_calls += log.iter().filter(|call| call.failure.is_some()).count() as u64;
            if process.faults.is_crashed() {
                self.counts.crashes += 1;
                process.die();
            } else if self.random.random_bool(0.3) {
                process.die();
            } else {
                process.faults.restart();
            }
            self.idle.push(process);
        }
    }

    /// What happens beside the jobs.
    fn disturb(&mut self) {
        // Ids sort by time, so that what sorts by ids does not hang on chance.
        self.clocks.iter().for_each(|clock| clock.advance(Duration::from_millis(2)));
        if self.random.random_bool(0.02) {
            let time = Duration::from_secs(self.random.random_range(0..600));
            self.clocks.iter().for_each(|clock| clock.advance(time));
        }
        if self.random.random_bool(0.001) {
            // A leap that makes every living job overdue.
            self.clocks.iter().for_each(|clock| clock.sleep(Duration::from_secs(4 * 3600)));
        }
        if self.random.random_bool(self.revocations) {
            self.revoke();
        }
        if self.random.random_bool(0.003) {
            self.forget();
        }
        if self.random.random_bool(self.landings)
            && let Some(name) = self.late.land_one()
        {
            self.counts.late += 1;
            self.trace(|| format!("came late: {name}"));
        }
        if self.random.random_bool(self.damages) {
            let mut damages = self.shared.damages.lock().unwrap();
            let done = damages.strike(self.shared.store.as_ref(), &mut self.random);
            drop(damages);
            self.trace(|| done.unwrap_or_default());
        }
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{}", what());
        }
    }

    /// Revokes some lease, mostly of a living job.
    fn revoke(&mut self) {
        let held = self.observer.repository.held_leases().unwrap();
        if held.is_empty() {
            return;
        }
        let id = held[self.random.random_range(0..held.len())].id;
        if self.is_traced {
            println!("revoked {id}");
        }
        self.shared.revoked.lock().unwrap().insert(id);
        self.observer.repository.revoke_lease(id, "the simulation wants it").unwrap();
        self.counts.revocations += 1;
    }

    /// Deletes the state folder of a host that is idle, copies it, or puts an old copy back.
    fn forget(&mut self) {
        let host = self.random.random_range(0..HOSTS);
        if self.idle.iter().filter(|process| process.host == host).count() < PROCESSES_PER_HOST {
            return;
        }
        self.idle.iter_mut().filter(|process| process.host == host).for_each(|process| process.repository = None);
        let folder = self.states[host].path().to_owned();
        match (self.random.random_range(0..3), &self.copies[host]) {
            (0, _) => empty(&folder),
            (1, Some(copy)) => {
                empty(&folder);
                copy_all(copy.path(), &folder);
            }
            _ => {
                let copy = new_folder();
                copy_all(&folder, copy.path());
                self.copies[host] = Some(copy);
                return;
            }
        }
        self.counts.forgotten += 1;
    }

    fn end(mut self) -> Counts {
        println!(
            "{:?}, inertia {} %, {} jobs at once, revocations {}, landings {}, damages {}",
            self.rates, self.inertia, self.jobs_at_once, self.revocations, self.landings, self.damages
        );
        for process in &mut self.idle {
            process.faults.behave();
            process.faults.restart();
        }
        let at_the_end = self.late.stores.iter().map(|store| store.late_puts() as u64).sum::<u64>();
        self.counts.late += at_the_end;
        self.counts.damages = self.shared.damages.lock().unwrap().count;
        self.counts.versions_checked = ending::check(&self.shared, &mut self.idle, &mut self.late);
        self.counts
    }
}

fn new_folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { TempDir::new_in(in_memory).unwrap() } else { TempDir::new().unwrap() }
}

fn empty(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
