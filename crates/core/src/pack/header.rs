//! The header of a pack: what it is, for hosts without keys and for salvage.
//!
//! ```text
//!  0   magic "BACKY2P\n"       8
//!  8   format version, 1       2
//! 10   key method              1      0: the data key is derived from (data key n, pack id)
//! 11   reserved, zero          1      1: it is sealed to a public key (HPKE, RFC 9180); for later
//! 12   generation              4
//! 16   pack id                16
//! 32   lease id               16
//! 48   encryption version      4
//! 52   length of sealed key    2      0 with key method 0; at most 1,024
//! 54   reserved, zero         10
//! 64   sealed key              n
//! ```
//!
//! Readers do not rely on it: what they need of it stands in the sealed locators again.

use crate::envelope::check_format_version;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{EncryptionVersion, Generation, LeaseId, PackId};
use crate::names::PackName;
use crate::wire::Reader;

pub(crate) const MAGIC: [u8; 8] = *b"BACKY2P\n";
/// The format version of packs that this program writes, and the only one that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// The bytes of a header without the sealed key.
pub const HEADER_BYTES: u32 = 64;
/// The longest sealed key, in bytes.
pub const SEALED_KEY_BYTES_MAX: usize = 1024;

/// What the header of a pack says. It is plain: nothing vouches for it but the checksum at the end of the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackHeader {
    /// The name that the object was written under.
    pub name: PackName,
    /// Which data key its slots are sealed under.
    pub encryption_version: EncryptionVersion,
}

impl PackHeader {
    /// Reads a header from the first bytes of a pack.
    ///
    /// # Errors
    /// `Damaged` if it is none; `Unsupported` if a newer backy2 wrote it or its key method is not known.
    pub fn parse(object: &[u8]) -> Result<PackHeader> {
        let mut reader = Reader::new(object, "the header of a pack");
        if reader.array()? != MAGIC {
            return Err(reader.error("does not begin like one"));
        }
        check_format_version(reader.u16()?)?;
        let (key_method, reserved_byte, generation) = (reader.u8()?, reader.u8()?, reader.u32()?);
        let (id, lease): ([u8; 16], [u8; 16]) = (reader.array()?, reader.array()?);
        let (encryption_version, sealed_key_length) = (reader.u32()?, reader.u16()?);
        let reserved: [u8; 10] = reader.array()?;
        if reserved_byte != 0 || reserved != [0; 10] {
            return Err(reader.error("has reserved bytes that are not zero"));
        }
        check_key_method(key_method, sealed_key_length)?;
        let name = PackName {
            id: PackId::from_bytes(id),
            generation: Generation(generation),
            lease: LeaseId::from_bytes(lease),
        };
        Ok(PackHeader { name, encryption_version: EncryptionVersion(encryption_version) })
    }

    /// Returns the format version that the first bytes of a pack tell of.
    pub(crate) fn told_version(object: &[u8]) -> Option<u16> {
        object.get(MAGIC.len()..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(crate) fn write(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&MAGIC);
        output.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        output.extend_from_slice(&[KEY_DERIVED, 0]);
        output.extend_from_slice(&self.name.generation.0.to_le_bytes());
        output.extend_from_slice(self.name.id.bytes());
        output.extend_from_slice(self.name.lease.bytes());
        output.extend_from_slice(&self.encryption_version.0.to_le_bytes());
        output.extend_from_slice(&0u16.to_le_bytes());
        output.extend_from_slice(&[0; 10]);
    }
}

/// The key method of a derived data key.
pub(crate) const KEY_DERIVED: u8 = 0;
const KEY_SEALED: u8 = 1;

/// Fails unless the data key is derived, with no sealed key.
pub(crate) fn check_key_method(key_method: u8, sealed_key_length: u16) -> Result<()> {
    match (key_method, sealed_key_length) {
        (KEY_DERIVED, 0) => Ok(()),
        (_, length) if usize::from(length) > SEALED_KEY_BYTES_MAX => {
            Err(Error::damaged(format!("a sealed key has at most {SEALED_KEY_BYTES_MAX} bytes, not {length}")))
        }
        (KEY_DERIVED, length) => {
            Err(Error::damaged(format!("a pack with a derived key has {length} bytes of sealed key")))
        }
        (KEY_SEALED, _) => Err(Error::new(
            ErrorKind::Unsupported,
            "the pack's key is sealed to a public key, which this backy2 cannot open: update backy2",
        )),
        (other, _) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("the pack has the unknown key method {other}: update backy2"),
        )),
    }
}
