//! The trailer of a pack: its last 64 bytes, which say where the two sections are.
//!
//! ```text
//!  0   offset of the fingerprints    4
//!  4   length of the fingerprints    4      sealed
//!  8   offset of the locators        4
//! 12   length of the locators        4      sealed
//! 16   slots                         4
//! 20   format version, 1             2
//! 22   reserved, zero                2
//! 24   BLAKE3-256                   32      of all before these 32 bytes
//! 56   magic "BACKY2E\n"             8
//! ```
//!
//! The fingerprints follow the last slot, the locators follow the fingerprints, the trailer follows the locators.

use crate::codec::seal::Suite;
use crate::envelope::OBJECT_BYTES_MAX;
use crate::error::{Error, Result};
use crate::pack::SLOTS_MAX;
use crate::pack::header::HEADER_BYTES;
use crate::pack::locators;
use crate::wire::Reader;

const MAGIC: [u8; 8] = *b"BACKY2E\n";
const HASH_BYTES: usize = 32;

/// Where the format version is.
const VERSION_AT: usize = 20;

/// The bytes of a trailer.
pub(crate) const TRAILER_BYTES: usize = 64;
/// The last bytes of an object, which its hash does not cover.
pub(crate) const UNHASHED_BYTES: usize = HASH_BYTES + MAGIC.len();
/// The most bytes of the sealed fingerprints.
pub(crate) const FINGERPRINTS_BYTES_MAX: usize = SLOTS_MAX * 32 + Suite::OVERHEAD_BYTES_MAX;
/// The most bytes of the sealed locators.
pub(crate) const LOCATORS_BYTES_MAX: usize = locators::PACKED_BYTES_MAX + Suite::OVERHEAD_BYTES_MAX;

/// What a trailer says; the sections are known to lie in order and without gaps between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub fingerprints_offset: u32,
    pub fingerprints_length: u32,
    pub locators_offset: u32,
    pub locators_length: u32,
    pub slot_count: u32,
    /// May be that of a newer backy2: then nothing else here need mean anything.
    pub format_version: u16,
    pub hash: [u8; 32],
}

impl Trailer {
    /// Reads the trailer from the last bytes of a pack, whatever its format version.
    pub(crate) fn parse(suffix: &[u8]) -> Result<Trailer> {
        let Some(bytes) = suffix.last_chunk::<TRAILER_BYTES>() else {
            return Err(Error::damaged("it is too short for a pack"));
        };
        let mut reader = Reader::new(bytes, "the trailer of a pack");
        let (fingerprints_offset, fingerprints_length) = (reader.u32()?, reader.u32()?);
        let (locators_offset, locators_length) = (reader.u32()?, reader.u32()?);
        let (slot_count, format_version, reserved) = (reader.u32()?, reader.u16()?, reader.u16()?);
        let hash = reader.array()?;
        if reader.array()? != MAGIC {
            return Err(reader.error("does not end like one"));
        }
        let trailer = Trailer {
            fingerprints_offset,
            fingerprints_length,
            locators_offset,
            locators_length,
            slot_count,
            format_version,
            hash,
        };
        if reserved != 0 || !trailer.is_in_bounds() {
            return Err(reader.error("is out of bounds"));
        }
        Ok(trailer)
    }

    /// Returns the format version that the last bytes of a pack tell of, also where the rest means nothing to us; none if
    /// they are not the end of a pack.
    pub(crate) fn told_version(suffix: &[u8]) -> Option<u16> {
        let bytes = suffix.last_chunk::<TRAILER_BYTES>().filter(|bytes| bytes.ends_with(&MAGIC))?;
        bytes.get(VERSION_AT..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn is_in_bounds(&self) -> bool {
        let at_most = |value: u32, max: usize| usize::try_from(value).is_ok_and(|value| value <= max);
        let fingerprints_end = u64::from(self.fingerprints_offset) + u64::from(self.fingerprints_length);
        self.fingerprints_offset >= HEADER_BYTES
            && fingerprints_end == u64::from(self.locators_offset)
            && at_most(self.fingerprints_length, FINGERPRINTS_BYTES_MAX)
            && at_most(self.locators_length, LOCATORS_BYTES_MAX)
            && (1..=SLOTS_MAX as u64).contains(&u64::from(self.slot_count))
            && self.object_bytes() <= OBJECT_BYTES_MAX as u64
    }

    /// Returns how many bytes the whole object has.
    pub(crate) fn object_bytes(&self) -> u64 {
        u64::from(self.locators_offset) + u64::from(self.locators_length) + TRAILER_BYTES as u64
    }

    /// Appends the trailer to the object in `output`, with the hash of all before it.
    pub(crate) fn write(&self, output: &mut Vec<u8>) {
        for number in [
            self.fingerprints_offset,
            self.fingerprints_length,
            self.locators_offset,
            self.locators_length,
            self.slot_count,
        ] {
            output.extend_from_slice(&number.to_le_bytes());
        }
        output.extend_from_slice(&self.format_version.to_le_bytes());
        output.extend_from_slice(&[0; 2]);
        let hash = blake3::hash(output);
        output.extend_from_slice(hash.as_bytes());
        output.extend_from_slice(&MAGIC);
    }
}
