//! Keyring entries: the data key of one encryption version, wrapped by the master key.
//!
//! ```text
//!  envelope of kind KeyringEntry
//!    sealed, AES-256-GCM under the keyring key, bound to (repository, kind, name keyring/<n>):
//!      suite      1      0 none, 1 AES-256-GCM
//!      reserved   3      zero
//!      data key  32
//! ```
//!
//! Without encryption (version 0) there is an entry all the same: its key is that of the slots' checksums.

use zeroize::Zeroizing;

use crate::codec::seal::{SealingKey, Suite};
use crate::envelope::RecordKind;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{EncryptionVersion, RepositoryId};
use crate::keys::master::{DataKey, MasterKey};
use crate::keys::set::{check_suite, open_from_envelope, seal_into_envelope};
use crate::names;
use crate::wire::Reader;

const BODY_BYTES: usize = 36;

/// Opens the keyring entry of `version`.
///
/// # Errors
/// `Damaged` if the object is not what was stored under this name for this master key; `Unsupported` if its suite is
/// not known.
pub fn unwrap_data_key(
    master: &MasterKey,
    repository: RepositoryId,
    version: EncryptionVersion,
    object: &[u8],
) -> Result<DataKey> {
    let name = names::keyring_entry(version);
    let key = master.keyring_key(repository)?;
    let body = Zeroizing::new(open_from_envelope(&key, repository, RecordKind::KeyringEntry, &name, object)?);
    let mut reader = Reader::new(&body, "a keyring entry");
    let suite = reader.u8()?;
    if reader.array()? != [0; 3] {
        return Err(reader.error("has reserved bytes that are not zero"));
    }
    let suite = Suite::from_number(suite).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("{name} uses the unknown encryption suite {suite}: update backy2"))
    })?;
    check_suite(version, suite).map_err(|error| error.with_kind(ErrorKind::Damaged))?;
    let secret = Zeroizing::new(reader.array()?);
    reader.finish()?;
    Ok(DataKey::from_parts(suite, &secret))
}

/// Wraps `key` and returns the keyring entry of `version`, a whole object.
pub(crate) fn wrap_data_key(
    keyring_key: &SealingKey,
    repository: RepositoryId,
    version: EncryptionVersion,
    key: &DataKey,
    environment: &Environment,
) -> Result<Vec<u8>> {
    check_suite(version, key.suite())?;
    let mut body = Zeroizing::new([0; BODY_BYTES]);
    let (head, secret) = body.split_at_mut(BODY_BYTES - key.bytes().len());
    head[0] = key.suite() as u8;
    secret.copy_from_slice(key.bytes());
    let name = names::keyring_entry(version);
    seal_into_envelope(keyring_key, repository, RecordKind::KeyringEntry, &name, &*body, environment)
}
