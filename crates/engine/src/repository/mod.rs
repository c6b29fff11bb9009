//! The repository: a store, its keys and its catalog, and what all jobs do with them.
//!
//! ```text
//!  init open unlock     from a store to a repository
//!  leases gc_log        who is at work; what was condemned
//!  records              small sealed objects
//!  versions labels      manifests, checkpoints, tombstones, labels -> versions
//!  taken                versions as a job under a lease may rely on them
//!  packs runs rewrite   slots, from whatever generation has them: one, or many at once; the next generation
//!  map_io blocks        block maps and blocks, read and written through packs
//!  read_ahead           whole block maps, read in large pieces
//!  damage heal index    what is broken, and made good again; what other hosts stored
//! ```

pub mod blocks;
pub mod damage;
mod gc_log;
pub(crate) mod heal;
pub mod index;
pub mod init;
pub mod labels;
pub mod leases;
pub mod map_io;
pub mod open;
pub mod packs;
pub(crate) mod read_ahead;
pub mod records;
pub mod rewrite;
pub mod runs;
pub(crate) mod taken;
pub mod unlock;
pub(crate) mod version_objects;
pub mod versions;

#[cfg(test)]
mod fragmented;
#[cfg(test)]
mod many_slots;

use std::sync::{Arc, Mutex};

use backy_catalog::Catalog;
use backy_core::environment::Environment;
use backy_core::ids::{LeaseId, RepositoryId};
use backy_core::keys::KeySet;
use backy_core::pack::SlotOpener;
use backy_store::ObjectStore;

use crate::repository::gc_log::GcKnowledge;
use crate::repository::leases::Host;
use crate::repository::packs::{DirectoryCache, Neighbours};
use crate::settings::Settings;

/// An open repository.
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    keys: KeySet,
    catalog: Catalog,
    environment: Environment,
    settings: Settings,
    host: Host,
    gc: Mutex<GcKnowledge>,
    directories: DirectoryCache,
    neighbours: Neighbours,
    /// What opens slots of block maps, as many as were ever needed at once: making one takes longer than using it.
    openers: Mutex<Vec<SlotOpener>>,
}

impl Repository {
    /// Returns the id of the repository.
    pub fn id(&self) -> RepositoryId {
        self.keys.repository()
    }

    /// Returns the store.
    pub fn store(&self) -> &dyn ObjectStore {
        self.store.as_ref()
    }

    /// Returns the keys.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Returns the local cache.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns time and randomness.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns how jobs use the machine.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Says where this process runs, for its leases.
    pub fn on_host(self, host: Host) -> Repository {
        Repository { host, ..self }
    }

    /// Returns the id of a new job.
    pub fn new_lease_id(&self) -> LeaseId {
        LeaseId::generate(&self.environment)
    }
}
