//! A process of a simulated host: a store that fails at its calls, a clock that is wrong, a state folder.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use backy_core::environment::Environment;
use backy_core::ids::LeaseId;
use backy_core::names::{self, ObjectName};
use backy_core::records::lease::Holder;
use backy_engine::Repository;
use backy_engine::repository::leases;
use backy_engine::repository::open::open;
use backy_engine::settings::Settings;
use backy_store::ObjectStore;
use backy_testkit::clock::SimulatedClock;
use backy_testkit::gate::{Gate, GatedStore};
use backy_testkit::random::environment_with_clock;
use backy_testkit::store::{FaultRates, FaultyStore, Operation};

use crate::support::{FixedKey, KEY, settings};

/// Processes that have died, by their instance.
pub type Dead = Arc<Mutex<BTreeSet<String>>>;

/// A process. It may die and begin anew.
pub struct Process {
    pub host: usize,
    pub faults: FaultyStore,
    pub gated: GatedStore,
    pub repository: Option<Repository>,
    environment: Environment,
    state: PathBuf,
    number: usize,
    life: u32,
    dead: Dead,
}

/// One thread of each kind, small packs, a checkpoint after each.
pub fn one_of_each() -> Settings {
    Settings {
        simultaneous_reads: NonZeroUsize::MIN,
        simultaneous_writes: NonZeroUsize::MIN,
        workers: NonZeroUsize::MIN,
        pack_size_bytes: 48 << 10,
        ..settings()
    }
}

impl Process {
    pub fn new(
        (host, number): (usize, usize),
        (store, gate): (Arc<dyn ObjectStore>, &Gate),
        (seed, rates): (u64, FaultRates),
        clock: Arc<SimulatedClock>,
        state: &Path,
        dead: Dead,
    ) -> Process {
        let faults = FaultyStore::with_seed(store, seed, rates);
        Process {
            host,
            gated: gate.store(Arc::new(faults.clone())),
            faults,
            repository: None,
            environment: environment_with_clock(seed, clock),
            state: state.to_owned(),
            number,
            life: 0,
            dead,
        }
    }

    fn instance(&self) -> String {
        format!("{}-{}-{}", self.host, self.number, self.life)
    }

    /// Opens the repository, if this life has not done so yet.
    pub fn open(&mut self) -> backy_core::Result<&Repository> {
        if self.repository.is_none() {
            let store = Arc::new(self.gated.clone());
            let opened = open(store, &FixedKey(KEY), &self.state, one_of_each(), self.environment.clone())?;
            let holder =
                Holder { host: format!("host{}", self.host), process: self.number as u32, instance: self.instance() };
            let (own_host, dead) = (holder.host.clone(), self.dead.clone());
            let is_gone =
                move |other: &Holder| other.host == own_host && dead.lock().unwrap().contains(&other.instance);
            self.repository = Some(opened.on_host(leases::Host { holder, is_gone: Arc::new(is_gone) }));
        }
        Ok(self.repository.as_ref().expect("just opened"))
    }

    /// Dies; what it does next it does in another life.
    pub fn die(&mut self) {
        self.repository = None;
        self.dead.lock().unwrap().insert(self.instance());
        self.life += 1;
        self.faults.restart();
    }

    /// Returns the leases that the calls since the last look have put.
    pub fn leases_put(&self) -> BTreeSet<LeaseId> {
        let puts = self.faults.log().into_iter().filter(|call| call.operation == Operation::Put);
        puts.filter_map(|call| {
            let name = ObjectName::new(call.name).ok()?;
            names::parse_lease(&name).ok().map(|(id, _)| id)
        })
        .collect()
    }
}
