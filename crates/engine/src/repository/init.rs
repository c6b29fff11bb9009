//! Making a new repository.
//!
//! The key slot and the keyring come first and `repository.json` last: a place is a repository when that is there. A
//! crash before leaves a place that `init` refuses as not empty, and that nobody has stored anything in.

use backy_core::environment::{Environment, Timestamp};
use backy_core::ids::{EncryptionVersion, RecordId, RepositoryId};
use backy_core::keys::slot::{ArgonCost, seal_unprotected, seal_with_key_file, seal_with_passphrase};
use backy_core::keys::{DataKey, KeySet, MasterKey, Suite};
use backy_core::names;
use backy_core::records::repository::RepositoryRecord;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use backy_store::probe::probe;

use super::unlock::Secret;

/// What protects a new repository.
#[derive(Debug)]
pub enum Protection {
    /// Encryption version 1; the secret opens it.
    Encrypted {
        /// What opens the repository.
        secret: Secret,
        /// What a passphrase costs to try.
        cost: ArgonCost,
    },
    /// Encryption version 0, by explicit demand.
    Unencrypted,
}

/// Makes a repository in an empty store.
///
/// # Errors
/// `AlreadyExists` if there is anything in the store; `Unsupported` if the store does not keep its promises.
pub fn init(store: &dyn ObjectStore, protection: &Protection, environment: &Environment) -> Result<RepositoryId> {
    refuse_what_is_there(store)?;
    probe(store).context(|| format!("try out the store {}", store.url()))?;

    let id = RepositoryId::generate(environment);
    let master = MasterKey::generate(environment);
    let (version, suite) = match protection {
        Protection::Encrypted { .. } => (EncryptionVersion(1), Suite::Aes256Gcm),
        Protection::Unencrypted => (EncryptionVersion(0), Suite::None),
    };
    let data_key = DataKey::generate(suite, environment);
    let keys = KeySet::new(id, master.clone(), [(version, data_key.clone())].into())?;

    let slot_id = RecordId::generate(environment);
    let created = environment.clock.now();
    let slot = seal_slot(id, slot_id, protection, created, &master, environment)?;
    store.put(&names::key_slot(slot_id), &slot)?;
    // Of two hosts that do this at once at least one sees the other, and nobody has written the keyring yet.
    if list_all(store, names::KEYS)?.len() != 1 {
        store.delete(&names::key_slot(slot_id))?;
        let message = format!("somebody else makes a repository in {} at the same time", store.url());
        return Err(Error::new(ErrorKind::AlreadyExists, message));
    }
    let entry = keys.wrap_data_key(version, &data_key, environment)?;
    store.put(&names::keyring_entry(version), &entry)?;
    store.put(&names::repository(), &RepositoryRecord::new(id).to_bytes()?)?;
    Ok(id)
}

fn refuse_what_is_there(store: &dyn ObjectStore) -> Result<()> {
    let mut first = None;
    let result = store.list("", &mut |object| {
        first = Some(object.name);
        Err(Error::new(ErrorKind::AlreadyExists, "not empty"))
    });
    match (first, result) {
        (Some(name), _) if name == names::repository() => {
            Err(Error::new(ErrorKind::AlreadyExists, format!("{} is a repository already", store.url())))
        }
        (Some(name), _) => {
            let message =
                format!("{} is not empty: there is {name}; a repository wants a place of its own", store.url());
            Err(Error::new(ErrorKind::AlreadyExists, message))
        }
        (None, result) => result,
    }
}

fn seal_slot(
    repository: RepositoryId,
    slot_id: RecordId,
    protection: &Protection,
    created: Timestamp,
    master: &MasterKey,
    environment: &Environment,
) -> Result<Vec<u8>> {
    match protection {
        Protection::Encrypted { secret: Secret::Passphrase(passphrase), cost } => {
            seal_with_passphrase(repository, slot_id, passphrase, *cost, "init", created, master, environment)
        }
        Protection::Encrypted { secret: Secret::KeyFile(key), .. } => {
            seal_with_key_file(repository, slot_id, key, "init", created, master, environment)
        }
        Protection::Unencrypted => seal_unprotected(repository, slot_id, "init", created, master, environment),
    }
}
