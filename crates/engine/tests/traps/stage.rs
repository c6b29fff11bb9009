//! A stage for fixed schedules: hosts on one store, whose jobs go on to an exact call and stop there.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::environment::Timestamp;
use backy_core::records::manifest::Manifest;
use backy_device::Source;
use backy_engine::backup::BackupFailure;
use backy_engine::cleanup::{self, CleanupReport, CleanupRequest};
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::leases;
use backy_engine::settings::Settings;
use backy_store::{MemoryStore, ObjectStore};
use backy_testkit::clock::{START, SimulatedClock};
use backy_testkit::gate::{Actor, Gate, Waiting};
use backy_testkit::random::environment_with_clock;
use backy_testkit::store::FaultyStore;
use tempfile::TempDir;

use crate::support::{Host, all_bytes, new_store, request, seeded, settings, spec};

/// One store and its hosts.
pub struct Stage {
    pub store: MemoryStore,
    gate: Gate,
    hosts: u64,
}

/// A job that was begun, and stands before one of its calls.
pub struct Running<T> {
    actor: Actor,
    thread: JoinHandle<T>,
}

impl Stage {
    pub fn new(seed: u64) -> Stage {
        Stage { store: new_store(&seeded(seed)), gate: Gate::default(), hosts: seed * 1000 }
    }

    /// A host with an empty state folder whose calls do not wait.
    pub fn host(&mut self) -> Host {
        self.host_at(0)
    }

    /// A host whose clock goes wrong by so many seconds.
    pub fn host_at(&mut self, skew_seconds: i64) -> Host {
        self.open(Arc::new(self.store.clone()), skew_seconds, new_folder())
    }

    /// A host on a store that fails, if it can open the repository.
    pub fn host_on(&mut self, store: FaultyStore) -> backy_core::Result<Host> {
        let opened =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.open(Arc::new(store), 0, new_folder())));
        opened.map_err(|_| backy_core::Error::new(backy_core::ErrorKind::Io, "it did not open"))
    }

    /// A host on `store` with a state folder.
    pub fn open(&mut self, store: Arc<dyn ObjectStore>, skew_seconds: i64, state: TempDir) -> Host {
        self.hosts += 1;
        let clock = SimulatedClock::default();
        // Everybody comes a little later than the one before.
        let now = START.milliseconds as i64 + skew_seconds * 1000 + (self.hosts % 1000) as i64 * 5;
        clock.set_now(Timestamp { milliseconds: now as u64 });
        let environment = environment_with_clock(self.hosts, Arc::new(clock));
        let one = std::num::NonZeroUsize::MIN;
        let settings = Settings {
            simultaneous_reads: one,
            simultaneous_writes: one,
            workers: one,
            pack_size_bytes: 64 << 10,
            ..settings()
        };
        let host = Host::with_settings(store, environment, state, settings);
        // Nobody takes a living job for a dead one.
        Host { repository: host.repository.on_host(leases::Host::default()), state: host.state }
    }

    /// Begins a job on a host that knows what `like` knows, or nothing. It stands before its first call.
    pub fn begin<T: Send + 'static>(
        &mut self,
        like: Option<&Host>,
        job: impl FnOnce(&Host) -> T + Send + 'static,
    ) -> Running<T> {
        self.begin_at(0, like, move |host| job(&host))
    }

    /// Begins a job that keeps its host, which knows nothing. It stands before its first call.
    pub fn begin_owned<T: Send + 'static>(&mut self, job: impl FnOnce(Host) -> T + Send + 'static) -> Running<T> {
        self.begin_at(0, None, job)
    }

    fn begin_at<T: Send + 'static>(
        &mut self,
        skew_seconds: i64,
        like: Option<&Host>,
        job: impl FnOnce(Host) -> T + Send + 'static,
    ) -> Running<T> {
        let state = new_folder();
        if let Some(like) = like {
            copy_all(like.state.path(), state.path());
        }
        let gated = self.gate.store(Arc::new(self.store.clone()));
        let host = self.open(Arc::new(gated.clone()), skew_seconds, state);
        let presence = self.gate.enter();
        let actor = presence.actor();
        gated.act_for(Some(actor));
        let thread = std::thread::spawn(move || {
            let result = job(host);
            gated.act_for(None);
            drop(presence);
            result
        });
        Running { actor, thread }
    }

    /// Begins a backup of `content`.
    pub fn begin_backup(
        &mut self,
        like: &Host,
        content: &[u8],
        name: &'static str,
    ) -> Running<Result<Manifest, BackupFailure>> {
        self.begin_backup_at(0, like, content, name)
    }

    /// Begins a backup on a host whose clock goes wrong by so many seconds.
    pub fn begin_backup_at(
        &mut self,
        skew_seconds: i64,
        like: &Host,
        content: &[u8],
        name: &'static str,
    ) -> Running<Result<Manifest, BackupFailure>> {
        let device = backy_testkit::device::MemoryDevice::with_bytes(content);
        let job = move |host: Host| host.try_backup(&request(&device, name)).map(|report| report.manifest);
        self.begin_at(skew_seconds, Some(like), job)
    }

    /// Begins a cleanup.
    pub fn begin_cleanup(&mut self) -> Running<backy_core::Result<CleanupReport>> {
        self.begin(None, |host: &Host| try_clean(host, 100.0))
    }

    /// Lets the job go on until it stands before a call that is meant. Says whether there was one; else it has ended.
    pub fn go_to<T>(&self, job: &Running<T>, mut is_meant: impl FnMut(&Waiting) -> bool) -> bool {
        loop {
            let waiting = self.gate.waiting();
            let Some(call) = waiting.iter().find(|call| call.actor == job.actor) else { return false };
            if is_meant(call) {
                return true;
            }
            self.gate.let_pass(job.actor);
        }
    }

    /// Lets so many calls of the job pass. Says whether it had as many.
    pub fn go<T>(&self, job: &Running<T>, mut calls: u64) -> bool {
        self.go_to(job, |_| {
            calls = calls.wrapping_sub(1);
            calls == u64::MAX
        })
    }

    /// Lets the job go on to its end.
    pub fn finish<T>(&self, job: Running<T>) -> T {
        self.go_to(&job, |_| false);
        job.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Revokes all leases, those of living jobs too.
    pub fn revoke_all(&mut self) {
        let host = self.host();
        for entry in host.repository.held_leases().unwrap() {
            host.repository.revoke_lease(entry.id, "a trap").unwrap();
        }
    }

    /// Checks that versions restore on a host that knows nothing, now and after lone cleanups.
    pub fn check(&mut self, expected: &[(&Manifest, &[u8])]) {
        for round in 0..3 {
            let host = self.host();
            for (version, content) in expected {
                let (restored, report) = host.restore(version);
                assert!(report.lost.is_empty(), "round {round}: {:?}", report.lost);
                assert!(restored == *content, "round {round}");
            }
            clean(&self.host());
        }
    }
}

pub fn clean(host: &Host) -> CleanupReport {
    try_clean(host, 100.0).unwrap()
}

pub fn try_clean(host: &Host, compact_below_percent: f64) -> backy_core::Result<CleanupReport> {
    let request = CleanupRequest { is_dry_run: false, compact_below_percent, time_max: None };
    cleanup::run(&host.repository, &request, &Progress::default(), &Cancel::default())
}

pub fn try_remove(host: &Host, version: &Manifest) -> backy_core::Result<()> {
    let request = RemoveRequest { version: spec(version), young: Duration::ZERO, is_forced: true };
    remove::run(&host.repository, &request).map(drop)
}

pub fn back_up(host: &Host, content: &[u8], name: &str) -> Manifest {
    let device = backy_testkit::device::MemoryDevice::with_bytes(content);
    let version = host.backup(&device, name).manifest;
    assert_eq!(all_bytes(&device).len() as u64, device.size_bytes());
    version
}

/// A state folder in memory, where that can be had.
pub fn new_folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { TempDir::new_in(in_memory).unwrap() } else { TempDir::new().unwrap() }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
