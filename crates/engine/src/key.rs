//! Key slots: what opens the repository.

use std::sync::Arc;

use backy_core::environment::{Environment, Timestamp};
use backy_core::ids::RecordId;
use backy_core::keys::slot::{ArgonCost, KeySlotKind, seal_with_key_file, seal_with_passphrase};
use backy_core::names;
use backy_core::{Error, ErrorKind, Result};
use backy_store::ObjectStore;

use crate::repository::open::read_repository_record;
use crate::repository::unlock::{Secret, SecretSource, read_key_slots, unlock};

/// What may be shown of a key slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySlotInfo {
    /// Its id.
    pub id: RecordId,
    /// What opens it.
    pub kind: KeySlotKind,
    /// What the user called it.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
}

/// Lists the key slots, oldest first. No secret is needed.
pub fn list(store: &dyn ObjectStore) -> Result<Vec<KeySlotInfo>> {
    read_repository_record(store)?;
    let slots = read_key_slots(store)?.into_iter();
    let info = |slot: crate::repository::unlock::NamedKeySlot| KeySlotInfo {
        id: slot.id,
        kind: slot.slot.kind(),
        label: slot.slot.label().to_owned(),
        created: slot.slot.created(),
    };
    let mut infos: Vec<KeySlotInfo> = slots.map(info).collect();
    infos.sort_by_key(|info| (info.created, info.id));
    Ok(infos)
}

/// Adds a key slot that `new` opens; `current` opens the repository now. Durable when it returns.
pub fn add(
    store: &Arc<dyn ObjectStore>,
    current: &dyn SecretSource,
    new: &Secret,
    cost: ArgonCost,
    label: &str,
    environment: &Environment,
) -> Result<RecordId> {
    let repository = read_repository_record(store.as_ref())?.id;
    let master = unlock(store.as_ref(), repository, current)?;
    let id = RecordId::generate(environment);
    let created = environment.clock.now();
    let slot = match new {
        Secret::Passphrase(bytes) => {
            seal_with_passphrase(repository, id, bytes, cost, label, created, &master, environment)?
        }
        Secret::KeyFile(bytes) => seal_with_key_file(repository, id, bytes, label, created, &master, environment)?,
    };
    store.put(&names::key_slot(id), &slot)?;
    Ok(id)
}

/// Removes a key slot, named by the beginning or end of its id.
///
/// The user must hold a key that opens another slot, so that nobody locks himself out.
///
/// # Errors
/// `Refused` if no other slot opens with what `current` gives.
pub fn remove(store: &Arc<dyn ObjectStore>, current: &dyn SecretSource, part: &str) -> Result<RecordId> {
    let repository = read_repository_record(store.as_ref())?.id;
    let slots = read_key_slots(store.as_ref())?;
    let is_meant = |id: RecordId| id.to_string().starts_with(part) || id.to_string().ends_with(part);
    let meant: Vec<RecordId> = slots.iter().map(|slot| slot.id).filter(|id| is_meant(*id)).collect();
    let [id] = meant.as_slice() else {
        let kind = if meant.is_empty() { ErrorKind::NotFound } else { ErrorKind::InvalidInput };
        return Err(Error::new(kind, format!("{part:?} fits {} key slots", meant.len())));
    };
    let others = OthersOnly { store: store.as_ref(), hidden: names::key_slot(*id) };
    unlock(&others, repository, current).map_err(|error| {
        error.context("no other key slot opens with your key, so this one stays").with_kind(ErrorKind::Refused)
    })?;
    store.delete(&names::key_slot(*id))?;
    Ok(*id)
}

/// The store without one object.
struct OthersOnly<'a> {
    store: &'a dyn ObjectStore,
    hidden: names::ObjectName,
}

impl ObjectStore for OthersOnly<'_> {
    fn put(&self, name: &names::ObjectName, body: &[u8]) -> Result<()> {
        self.store.put(name, body)
    }

    fn get(&self, name: &names::ObjectName, size_bytes_max: u64) -> Result<Vec<u8>> {
        self.store.get(name, size_bytes_max)
    }

    fn get_range(&self, name: &names::ObjectName, range: backy_store::ObjectRange, buffer: &mut Vec<u8>) -> Result<()> {
        self.store.get_range(name, range, buffer)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(backy_store::ObjectInfo) -> Result<()>) -> Result<()> {
        self.store.list(prefix, &mut |object| if object.name == self.hidden { Ok(()) } else { visit(object) })
    }

    fn delete(&self, name: &names::ObjectName) -> Result<()> {
        self.store.delete(name)
    }

    fn url(&self) -> String {
        self.store.url()
    }
}
