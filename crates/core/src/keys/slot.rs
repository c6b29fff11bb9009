//! Key slots: what a passphrase or a key file unlocks, the master key.
//!
//! ```text
//!  envelope of kind KeySlot
//!    header    kind 1 | reserved 3 | created 8 | memory 4 | passes 4 | lanes 4 | salt 32 | label length 2 | label
//!    sealed    nonce 12 | master key 32 | tag 16
//! ```
//!
//! The header is plain, so that slots can be listed without any secret, and bound as associated data together with
//! the repository and the object's name. The sealing key comes from Argon2id (RFC 9106) over a passphrase, from
//! BLAKE3 over the content of a key file, or - in a repository without encryption - from nothing at all. Costs that
//! come from a store are bounded before any memory is asked for.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::codec::seal::{SealingKey, Suite};
use crate::envelope::{self, RecordKind};
use crate::environment::{Environment, Timestamp};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::ids::{RecordId, RepositoryId};
use crate::keys::master::{MasterKey, derive};
use crate::keys::set::record_associated;
use crate::names;
use crate::wire::{Reader, Writer};

const KEY_FILE_CONTEXT: &str = "backy2 2026 key slot of a key file";
const UNPROTECTED_CONTEXT: &str = "backy2 2026 unprotected key slot";
const SALT_BYTES: usize = 32;
const SEALED_BYTES: usize = Suite::OVERHEAD_BYTES_MAX + 32;

/// The longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 200;
/// The longest passphrase, in bytes.
pub const PASSPHRASE_BYTES_MAX: usize = 4096;
/// The shortest key file, in bytes.
pub const KEY_FILE_BYTES_MIN: usize = 32;
/// The longest key file, in bytes.
pub const KEY_FILE_BYTES_MAX: usize = 4096;

/// What opens a key slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KeySlotKind {
    /// A passphrase.
    Passphrase = 1,
    /// The content of a key file.
    KeyFile = 2,
    /// Nothing: who reads the store has the master key. For repositories without encryption.
    Unprotected = 3,
}

/// The secret that opens a key slot.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// A passphrase, as the user typed it.
    Passphrase(&'a [u8]),
    /// The content of a key file.
    KeyFile(&'a [u8]),
    /// No secret.
    Unprotected,
}

/// What one try of a passphrase costs: the parameters of Argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgonCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl ArgonCost {
    /// The cost of new slots: 128 MiB, 3 passes, 4 lanes; about half a second.
    pub const DEFAULT: ArgonCost = ArgonCost { memory_kib: 128 << 10, passes: 3, lanes: 4 };
    /// Next to no cost, and so no protection: for tests.
    pub const CHEAP: ArgonCost = ArgonCost { memory_kib: 32, passes: 1, lanes: 1 };

    /// Checks the bounds: memory up to 1 GiB and at least 8 KiB a lane, 1 to 20 passes, 1 to 16 lanes.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<ArgonCost> {
        let is_good = (1..=16).contains(&lanes) && (1..=20).contains(&passes) && memory_kib <= 1 << 20;
        if is_good && memory_kib >= 8 * lanes {
            Ok(ArgonCost { memory_kib, passes, lanes })
        } else {
            Err(Error::invalid(format!(
                "Argon2id takes up to 1 GiB, at least 8 KiB a lane, 1 to 20 passes and 1 to 16 lanes, not \
                 {memory_kib} KiB, {passes} passes, {lanes} lanes"
            )))
        }
    }
}

/// A key slot as it is stored; nothing in it is secret without what opens it.
#[derive(Clone, Debug)]
pub struct KeySlot {
    kind: KeySlotKind,
    created: Timestamp,
    label: String,
    cost: Option<ArgonCost>,
    salt: [u8; SALT_BYTES],
    header: Vec<u8>,
    sealed: [u8; SEALED_BYTES],
}

/// Makes the key slot `id` that opens with a passphrase of 1 to 4,096 bytes. Returns the whole object.
#[expect(clippy::too_many_arguments, reason = "each is a fact of its own, and there is no order to confuse")]
pub fn seal_with_passphrase(
    repository: RepositoryId,
    id: RecordId,
    passphrase: &[u8],
    cost: ArgonCost,
    label: &str,
    created: Timestamp,
    master: &MasterKey,
    environment: &Environment,
) -> Result<Vec<u8>> {
    let salt = environment.random_bytes();
    let key = passphrase_key(passphrase, cost, &salt)?;
    let header = encode_header(KeySlotKind::Passphrase, created, Some(cost), &salt, label)?;
    seal(repository, id, &key, header, master, environment)
}

/// Makes the key slot `id` that opens with a key file of 32 to 4,096 bytes. Returns the whole object.
///
/// The content must be random: unlike a passphrase it is not made costly to guess.
pub fn seal_with_key_file(
    repository: RepositoryId,
    id: RecordId,
    key: &[u8],
    label: &str,
    created: Timestamp,
    master: &MasterKey,
    environment: &Environment,
) -> Result<Vec<u8>> {
    let salt = environment.random_bytes();
    let key = key_file_key(key, &salt)?;
    let header = encode_header(KeySlotKind::KeyFile, created, None, &salt, label)?;
    seal(repository, id, &key, header, master, environment)
}

/// Makes the key slot `id` that anybody opens: for repositories without encryption. Returns the whole object.
pub fn seal_unprotected(
    repository: RepositoryId,
    id: RecordId,
    label: &str,
    created: Timestamp,
    master: &MasterKey,
    environment: &Environment,
) -> Result<Vec<u8>> {
    let header = encode_header(KeySlotKind::Unprotected, created, None, &[0; SALT_BYTES], label)?;
    seal(repository, id, &unprotected_key(), header, master, environment)
}

impl KeySlot {
    /// Reads a key slot. That it is genuine is only known once it was opened.
    ///
    /// # Errors
    /// `Damaged` if it is no key slot, or its cost is out of bounds; `Unsupported` if its kind is not known.
    pub fn parse(object: &[u8]) -> Result<KeySlot> {
        let body = envelope::open_plain_record(RecordKind::KeySlot, object)?;
        let mut reader = Reader::new(body, "a key slot");
        let kind = parse_kind(reader.u8()?)?;
        let reserved: [u8; 3] = reader.array()?;
        let created = Timestamp { milliseconds: reader.u64()? };
        let (memory_kib, passes, lanes) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let salt: [u8; SALT_BYTES] = reader.array()?;
        let label_bytes = usize::from(reader.u16()?);
        let label = reader.bytes(label_bytes)?;
        let sealed = reader.array()?;
        let header = body.get(..body.len() - reader.remaining() - SEALED_BYTES).unwrap_or_default().to_vec();
        let label = std::str::from_utf8(label).ok().filter(|label| check_label(label).is_ok());
        let label = label.ok_or_else(|| reader.error("has a label that is no plain text"))?.to_owned();
        let cost = match kind {
            KeySlotKind::Passphrase => {
                let cost = ArgonCost::new(memory_kib, passes, lanes);
                Some(cost.map_err(|error| error.with_kind(ErrorKind::Damaged))?)
            }
            KeySlotKind::KeyFile | KeySlotKind::Unprotected => None,
        };
        let is_salted = kind != KeySlotKind::Unprotected;
        let is_clean = (cost.is_some() || (memory_kib, passes, lanes) == (0, 0, 0)) && reserved == [0; 3];
        if !is_clean || (!is_salted && salt != [0; SALT_BYTES]) {
            return Err(reader.error("has reserved bytes that are not zero"));
        }
        reader.finish()?;
        Ok(KeySlot { kind, created, label, cost, salt, header, sealed })
    }

    /// Returns what opens the slot.
    pub fn kind(&self) -> KeySlotKind {
        self.kind
    }

    /// Returns the label that the slot was given.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns when the slot was made, by the clock of the host that made it.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Opens the slot `id` of `repository`.
    ///
    /// # Errors
    /// `WrongKey` if the secret does not open it, or is not of the slot's kind; `Damaged` if an unprotected slot does
    /// not open.
    pub fn open(&self, repository: RepositoryId, id: RecordId, unlock: &Unlock<'_>) -> Result<MasterKey> {
        let key = match (self.kind, unlock, self.cost) {
            (KeySlotKind::Passphrase, Unlock::Passphrase(passphrase), Some(cost)) => {
                passphrase_key(passphrase, cost, &self.salt).map_err(wrong_if_invalid)
            }
            (KeySlotKind::KeyFile, Unlock::KeyFile(key), _) => key_file_key(key, &self.salt).map_err(wrong_if_invalid),
            (KeySlotKind::Unprotected, Unlock::Unprotected, _) => Ok(unprotected_key()),
            (kind, ..) => Err(Error::new(ErrorKind::WrongKey, format!("it opens with {}", kind.secret()))),
        };
        let key = key.context(|| format!("open key slot {id}"))?;
        let mut sealed = Zeroizing::new(self.sealed);
        let sealing_key = SealingKey::new(Suite::Aes256Gcm, &key)?;
        let body = sealing_key.open_in_place(&associated(repository, id, &self.header), &mut *sealed);
        match body.ok().and_then(|body| <&[u8; 32]>::try_from(&*body).ok()) {
            Some(master) => Ok(MasterKey::from_bytes(master)),
            None if self.kind == KeySlotKind::Unprotected => {
                Err(Error::damaged(format!("key slot {id} does not open: damaged, or of another repository")))
            }
            None => {
                let message = format!("key slot {id} opens with {}, and this is not it", self.kind.secret());
                Err(Error::new(ErrorKind::WrongKey, message))
            }
        }
    }
}

impl KeySlotKind {
    fn secret(self) -> &'static str {
        match self {
            KeySlotKind::Passphrase => "a passphrase",
            KeySlotKind::KeyFile => "a key file",
            KeySlotKind::Unprotected => "no secret at all",
        }
    }
}

fn seal(
    repository: RepositoryId,
    id: RecordId,
    key: &[u8; 32],
    header: Vec<u8>,
    master: &MasterKey,
    environment: &Environment,
) -> Result<Vec<u8>> {
    let mut object = envelope::begin(RecordKind::KeySlot, header.len() + SEALED_BYTES);
    object.extend_from_slice(&header);
    let key = SealingKey::new(Suite::Aes256Gcm, key)?;
    key.seal(&associated(repository, id, &header), master.bytes(), environment, &mut object)?;
    Ok(envelope::finish(object))
}

fn encode_header(
    kind: KeySlotKind,
    created: Timestamp,
    cost: Option<ArgonCost>,
    salt: &[u8; SALT_BYTES],
    label: &str,
) -> Result<Vec<u8>> {
    let label_bytes = check_label(label)?;
    let mut writer = Writer::new();
    writer.u8(kind as u8);
    writer.bytes(&[0; 3]);
    writer.u64(created.milliseconds);
    writer.u32(cost.map_or(0, |cost| cost.memory_kib));
    writer.u32(cost.map_or(0, |cost| cost.passes));
    writer.u32(cost.map_or(0, |cost| cost.lanes));
    writer.bytes(salt);
    writer.u16(label_bytes);
    writer.bytes(label.as_bytes());
    Ok(writer.into_bytes())
}

fn parse_kind(number: u8) -> Result<KeySlotKind> {
    match number {
        1 => Ok(KeySlotKind::Passphrase),
        2 => Ok(KeySlotKind::KeyFile),
        3 => Ok(KeySlotKind::Unprotected),
        other => {
            let message = format!("key slots of kind {other} are not known to this backy2: update backy2");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

fn check_label(label: &str) -> Result<u16> {
    let length = u16::try_from(label.len()).ok().filter(|&length| usize::from(length) <= LABEL_BYTES_MAX);
    match length {
        Some(length) if !label.chars().any(char::is_control) => Ok(length),
        _ => Err(Error::invalid(format!(
            "the label of a key slot has at most {LABEL_BYTES_MAX} bytes and no control characters"
        ))),
    }
}

fn associated(repository: RepositoryId, id: RecordId, header: &[u8]) -> Vec<u8> {
    // The name of a key slot has a fixed length, so the header behind it cannot run into it.
    [&record_associated(repository, RecordKind::KeySlot, &names::key_slot(id))[..], header].concat()
}

fn passphrase_key(passphrase: &[u8], cost: ArgonCost, salt: &[u8; SALT_BYTES]) -> Result<Zeroizing<[u8; 32]>> {
    if passphrase.is_empty() || passphrase.len() > PASSPHRASE_BYTES_MAX {
        return Err(Error::invalid(format!("a passphrase has 1 to {PASSPHRASE_BYTES_MAX} bytes")));
    }
    let mut key = Zeroizing::new([0; 32]);
    Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len()))
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        .and_then(|argon| argon.hash_password_into(passphrase, salt, &mut *key))
        .map_err(|error| {
            let message = format!("run Argon2id with {} KiB of memory: {error}", cost.memory_kib);
            Error::new(ErrorKind::Unsupported, message)
        })?;
    Ok(key)
}

fn key_file_key(content: &[u8], salt: &[u8; SALT_BYTES]) -> Result<Zeroizing<[u8; 32]>> {
    if (KEY_FILE_BYTES_MIN..=KEY_FILE_BYTES_MAX).contains(&content.len()) {
        Ok(derive(KEY_FILE_CONTEXT, salt, content))
    } else {
        Err(Error::invalid(format!(
            "a key file has {KEY_FILE_BYTES_MIN} to {KEY_FILE_BYTES_MAX} bytes, not {}",
            content.len()
        )))
    }
}

fn unprotected_key() -> Zeroizing<[u8; 32]> {
    derive(UNPROTECTED_CONTEXT, &[], &[])
}

fn wrong_if_invalid(error: Error) -> Error {
    if error.kind() == ErrorKind::InvalidInput { error.with_kind(ErrorKind::WrongKey) } else { error }
}
