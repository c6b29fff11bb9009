//! All keys of an open repository, and the sealing of small records.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::codec::fingerprint::FingerprintKey;
use crate::codec::seal::{SealingKey, Suite};
use crate::envelope::{self, BODY_BYTES_MAX, RecordKind};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::ids::{EncryptionVersion, PackId, RepositoryId};
use crate::keys::keyring;
use crate::keys::master::{DataKey, MasterKey, MetadataKey};
use crate::names::ObjectName;

/// All keys of an open repository. Clones share one copy of the secrets, which is wiped with the last of them.
#[derive(Clone, Debug)]
pub struct KeySet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    repository: RepositoryId,
    fingerprint: FingerprintKey,
    metadata: MetadataKey,
    keyring: SealingKey,
    map_slot: SealingKey,
    data: BTreeMap<EncryptionVersion, DataKey>,
    current: EncryptionVersion,
}

impl KeySet {
    /// Derives the keys of `repository`. New packs use the highest version in `data`.
    ///
    /// # Errors
    /// `InvalidInput` if `data` is empty, or a version's suite is not the one its number asks for: version 0 is
    /// [`Suite::None`], all others [`Suite::Aes256Gcm`].
    pub fn new(
        repository: RepositoryId,
        master: MasterKey,
        data: BTreeMap<EncryptionVersion, DataKey>,
    ) -> Result<KeySet> {
        let Some((&current, _)) = data.last_key_value() else {
            return Err(Error::invalid("the keyring holds no data key"));
        };
        for (&version, key) in &data {
            check_suite(version, key.suite())?;
        }
        let metadata = master.metadata_key(repository);
        let inner = Inner {
            repository,
            fingerprint: master.fingerprint_key(repository),
            keyring: master.keyring_key(repository)?,
            map_slot: metadata.record_key(RecordKind::MapSlot)?,
            metadata,
            data,
            current,
        };
        Ok(KeySet { inner: Arc::new(inner) })
    }

    /// Returns which repository the keys are for.
    pub fn repository(&self) -> RepositoryId {
        self.inner.repository
    }

    /// Returns the key of all fingerprints.
    pub fn fingerprint_key(&self) -> &FingerprintKey {
        &self.inner.fingerprint
    }

    /// Returns the encryption version that new packs use: the highest one.
    pub fn current_version(&self) -> EncryptionVersion {
        self.inner.current
    }

    /// Returns all encryption versions in the keyring, in ascending order.
    pub fn versions(&self) -> impl Iterator<Item = EncryptionVersion> {
        self.inner.data.keys().copied()
    }

    /// Returns how data slots of `version` are sealed; `NotFound` if the keyring does not hold it.
    pub fn data_suite(&self, version: EncryptionVersion) -> Result<Suite> {
        self.data_key(version).map(DataKey::suite)
    }

    /// Seals `body` as the object `name` and returns the whole object.
    ///
    /// The seal binds the repository, the kind and the name: elsewhere the object does not open.
    pub fn seal_record(
        &self,
        kind: RecordKind,
        name: &ObjectName,
        body: &[u8],
        environment: &Environment,
    ) -> Result<Vec<u8>> {
        let key = self.inner.metadata.record_key(kind)?;
        seal_into_envelope(&key, self.repository(), kind, name, body, environment)
    }

    /// Opens the object `name`, as [`KeySet::seal_record`] made it, and returns its body.
    ///
    /// # Errors
    /// `Damaged` if it is not what was stored under this name; `Unsupported` if a newer backy2 wrote it.
    pub fn open_record(&self, kind: RecordKind, name: &ObjectName, object: &[u8]) -> Result<Vec<u8>> {
        let key = self.inner.metadata.record_key(kind)?;
        open_from_envelope(&key, self.repository(), kind, name, object)
    }

    /// Wraps a data key with the master key and returns the keyring entry of `version`, a whole object.
    pub fn wrap_data_key(
        &self,
        version: EncryptionVersion,
        key: &DataKey,
        environment: &Environment,
    ) -> Result<Vec<u8>> {
        keyring::wrap_data_key(&self.inner.keyring, self.repository(), version, key, environment)
    }

    /// Returns the key of records of `kind`, for the sections of packs.
    pub(crate) fn record_key(&self, kind: RecordKind) -> Result<SealingKey> {
        self.inner.metadata.record_key(kind)
    }

    /// Returns the key of all map slots.
    pub(crate) fn map_slot_key(&self) -> &SealingKey {
        &self.inner.map_slot
    }

    /// Returns the key of a pack's data slots; `NotFound` if the keyring does not hold `version`.
    pub(crate) fn pack_key(&self, version: EncryptionVersion, pack: PackId) -> Result<SealingKey> {
        self.data_key(version)?.pack_key(pack)
    }

    fn data_key(&self, version: EncryptionVersion) -> Result<&DataKey> {
        self.inner.data.get(&version).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the keyring holds no key of encryption version {version}"))
        })
    }
}

/// Seals `body` under `key` and puts it into an envelope.
pub(crate) fn seal_into_envelope(
    key: &SealingKey,
    repository: RepositoryId,
    kind: RecordKind,
    name: &ObjectName,
    body: &[u8],
    environment: &Environment,
) -> Result<Vec<u8>> {
    let sealed_bytes = body.len().saturating_add(key.suite().overhead_bytes());
    if sealed_bytes > BODY_BYTES_MAX {
        return Err(Error::invalid(format!("{name} would have more than {BODY_BYTES_MAX} bytes")));
    }
    let mut object = envelope::begin(kind, sealed_bytes);
    key.seal(&record_associated(repository, kind, name), body, environment, &mut object)?;
    Ok(envelope::finish(object))
}

/// Opens what [`seal_into_envelope`] made.
pub(crate) fn open_from_envelope(
    key: &SealingKey,
    repository: RepositoryId,
    kind: RecordKind,
    name: &ObjectName,
    object: &[u8],
) -> Result<Vec<u8>> {
    let open = || {
        let mut sealed = Zeroizing::new(envelope::open_plain_record(kind, object)?.to_vec());
        Ok(key.open_in_place(&record_associated(repository, kind, name), &mut sealed)?.to_vec())
    };
    open().context(|| format!("open {name}"))
}

/// Returns what binds a record to its place: repository, kind, name.
pub(crate) fn record_associated(repository: RepositoryId, kind: RecordKind, name: &ObjectName) -> Vec<u8> {
    [repository.bytes(), &kind.number().to_le_bytes()[..], name.as_str().as_bytes()].concat()
}

/// Fails with `InvalidInput` if `version` does not go with `suite`.
pub(crate) fn check_suite(version: EncryptionVersion, suite: Suite) -> Result<()> {
    match (version.0, suite) {
        (0, Suite::None) | (1.., Suite::Aes256Gcm) => Ok(()),
        _ => Err(Error::invalid(format!("encryption version {version} does not go with suite {suite:?}"))),
    }
}
