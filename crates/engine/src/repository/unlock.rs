//! From key slots and a secret to the master key.

use backy_core::ids::{RecordId, RepositoryId};
use backy_core::keys::MasterKey;
use backy_core::keys::slot::{KeySlot, KeySlotKind, Unlock};
use backy_core::names;
use backy_core::records::RECORD_BYTES_MAX;
use backy_core::{Error, ErrorKind, Result, ResultExt};
use backy_store::ObjectStore;
use backy_store::object_store::list_all;
use tracing::warn;
use zeroize::Zeroizing;

/// What opens a key slot. It prints as `***` and is wiped.
#[derive(Clone)]
pub enum Secret {
    /// A passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The content of a key file.
    KeyFile(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where secrets come from when a repository asks for one.
pub trait SecretSource {
    /// Says whether the user has named a secret, so that a repository that asks for none must be a wrong one.
    fn is_configured(&self) -> bool;

    /// Returns the secret; asks the user if nothing is configured.
    fn secret(&self) -> Result<Secret>;
}

/// A key slot and its id.
pub struct NamedKeySlot {
    /// The id in the object's name.
    pub id: RecordId,
    /// The slot.
    pub slot: KeySlot,
}

/// Reads all key slots of a repository; damaged ones are reported and passed over.
pub fn read_key_slots(store: &dyn ObjectStore) -> Result<Vec<NamedKeySlot>> {
    let mut slots = Vec::new();
    for object in list_all(store, names::KEYS).context(|| "list the key slots")? {
        let parsed = names::parse_record_id(&object.name)
            .and_then(|id| Ok(NamedKeySlot { id, slot: KeySlot::parse(&store.get(&object.name, RECORD_BYTES_MAX)?)? }));
        match parsed {
            Ok(slot) => slots.push(slot),
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error.context("read the key slots")),
            Err(error) => warn!("{} is not usable: {error}", object.name),
        }
    }
    Ok(slots)
}

/// A repository that is encrypted has no slot that opens with nothing: somebody who wants to read along has put it there.
fn refuse_encrypted(store: &dyn ObjectStore) -> Result<()> {
    let keyring = list_all(store, names::KEYRING).context(|| "list the keyring")?;
    let is_encrypted = |name| names::parse_keyring_entry(name).is_ok_and(|version| version.0 > 0);
    if keyring.iter().any(|entry| is_encrypted(&entry.name)) {
        let message = "the repository is encrypted, but has a key slot that opens without a secret; do not use it";
        return Err(Error::new(ErrorKind::WrongKey, message));
    }
    Ok(())
}

/// Opens one of the key slots and returns the master key.
///
/// # Errors
/// `WrongKey` if no slot opens, and if a secret is configured for a repository that asks for none: somebody may have put
/// another repository in its place.
pub fn unlock(store: &dyn ObjectStore, repository: RepositoryId, secrets: &dyn SecretSource) -> Result<MasterKey> {
    let slots = read_key_slots(store)?;
    if slots.is_empty() {
        return Err(Error::damaged("the repository has no usable key slot; restore its keys/ folder from a copy"));
    }
    if let Some(open) = slots.iter().find(|slot| slot.slot.kind() == KeySlotKind::Unprotected) {
        if secrets.is_configured() {
            return Err(Error::new(
                ErrorKind::WrongKey,
                "a key is configured, but this repository is not encrypted; it may not be the one you mean",
            ));
        }
        refuse_encrypted(store)?;
        return open.slot.open(repository, open.id, &Unlock::Unprotected);
    }
    let secret = secrets.secret()?;
    let (unlock, kind) = match &secret {
        Secret::Passphrase(bytes) => (Unlock::Passphrase(bytes), KeySlotKind::Passphrase),
        Secret::KeyFile(bytes) => (Unlock::KeyFile(bytes), KeySlotKind::KeyFile),
    };
    for candidate in slots.iter().filter(|slot| slot.slot.kind() == kind) {
        match candidate.slot.open(repository, candidate.id, &unlock) {
            Err(error) if error.kind() == ErrorKind::WrongKey => {}
            other => return other,
        }
    }
    let what = if kind == KeySlotKind::Passphrase { "passphrase" } else { "key file" };
    Err(Error::new(ErrorKind::WrongKey, format!("this {what} opens none of the key slots of the repository")))
}
