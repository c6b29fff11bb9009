//! From a store and a secret to an open repository.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use backy_catalog::Catalog;
use backy_core::environment::Environment;
use backy_core::ids::{EncryptionVersion, RepositoryId};
use backy_core::keys::{DataKey, KeySet, MasterKey, unwrap_data_key};
use backy_core::names;
use backy_core::records::RECORD_BYTES_MAX;
use backy_core::records::repository::RepositoryRecord;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use tracing::{debug, warn};

use super::Repository;
use super::leases::Host;
use super::packs::{DirectoryCache, Neighbours};
use super::unlock::{SecretSource, unlock};
use crate::settings::Settings;

/// The catalog's fact that remembers the highest encryption version seen.
const HIGHEST_VERSION: &str = "encryption_version_highest";

/// Opens the repository in `store`. Its catalog is in a folder of `state_folder`.
pub fn open(
    store: Arc<dyn ObjectStore>,
    secrets: &dyn SecretSource,
    state_folder: &Path,
    settings: Settings,
    environment: Environment,
) -> Result<Repository> {
    let id = read_repository_record(store.as_ref())?.id;
    let master = unlock(store.as_ref(), id, secrets).context(|| format!("unlock {}", store.url()))?;
    let keys = KeySet::new(id, master.clone(), read_keyring(store.as_ref(), id, &master)?)?;
    let folder = state_folder.join(id.to_string());
    let catalog = Catalog::open(&folder, id)?;
    refuse_older_encryption(&catalog, keys.current_version())?;
    let mut repository = Repository {
        store,
        keys,
        catalog,
        environment,
        settings,
        host: Host::default(),
        gc: Mutex::default(),
        directories: DirectoryCache::default(),
        neighbours: Neighbours::default(),
        openers: Mutex::default(),
    };
    if let Some(record) = repository.lost_gc_record()? {
        let name = record.object_name();
        warn!(
            "the store does not have {name}, which this host has seen: it is an older copy; the catalog is made anew"
        );
        repository.renew_catalog()?;
    }
    if let Err(error) = repository.follow_gc_log() {
        debug!("jobs that need the GC log will fail: {error}");
    }
    Ok(repository)
}

impl Repository {
    /// Throws the local cache away and begins it anew; the GC log is to be followed next.
    pub(crate) fn renew_catalog(&mut self) -> Result<()> {
        self.catalog.distrust()?;
        self.catalog = Catalog::open(self.catalog.folder(), self.id())?;
        self.gc = Mutex::default();
        self.directories = DirectoryCache::default();
        self.neighbours = Neighbours::default();
        refuse_older_encryption(&self.catalog, self.keys.current_version())
    }
}

/// Reads `repository.json`.
///
/// # Errors
/// `NotFound` with words that say so if this is no repository.
pub fn read_repository_record(store: &dyn ObjectStore) -> Result<RepositoryRecord> {
    match store.get(&names::repository(), RECORD_BYTES_MAX) {
        Ok(bytes) => RepositoryRecord::from_bytes(&bytes).context(|| format!("open {}: repository.json", store.url())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!("{} is not a backy2 repository: it has no repository.json", store.url());
            Err(Error::with_source(ErrorKind::NotFound, message, error))
        }
        Err(error) => Err(error.context(format!("open {}", store.url()))),
    }
}

fn read_keyring(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    master: &MasterKey,
) -> Result<BTreeMap<EncryptionVersion, DataKey>> {
    let mut keyring = BTreeMap::new();
    for object in list_all(store, names::KEYRING).context(|| "list the keyring")? {
        // What is not ours is no entry; a real one under another name would not open.
        let Ok(version) = names::parse_keyring_entry(&object.name) else { continue };
        let entry = store.get(&object.name, RECORD_BYTES_MAX)?;
        let key = unwrap_data_key(master, repository, version, &entry)?;
        keyring.insert(version, key);
    }
    if keyring.is_empty() {
        return Err(Error::damaged("the keyring is empty; restore the keyring/ folder from a copy"));
    }
    Ok(keyring)
}

/// A store that hides the newest keyring entry would make us write under an older key, or none.
fn refuse_older_encryption(catalog: &Catalog, current: EncryptionVersion) -> Result<()> {
    let seen: u32 = catalog.fact(HIGHEST_VERSION)?.and_then(|text| text.parse().ok()).unwrap_or_default();
    if current.0 < seen {
        return Err(Error::damaged(format!(
            "this host has used encryption version {seen}, but the newest in the keyring is {current}; \
             a keyring entry was lost or withheld"
        )));
    }
    if current.0 > seen
        && let Err(error) = catalog.set_fact(HIGHEST_VERSION, &current.to_string())
    {
        warn!("the catalog did not take the encryption version: {error}");
    }
    Ok(())
}
