//! The envelope around every small object: what it is, how long, and a checksum that needs no key.
//!
//! ```text
//!  0   magic "BACKY2R\n"      8
//!  8   format version, 1      2
//! 10   record kind            2
//! 12   reserved, zero         4
//! 16   length of the body     8
//! 24   body                   n      sealed, except in leases
//!      checksum              16      BLAKE3-256 of all before it, cut to 16 bytes
//! ```
//!
//! The checksum finds accidents, so that a host without keys can check a store. That an object is genuine and where
//! it belongs is the seal's matter: see [`keys`](crate::keys).

use crate::error::{Error, ErrorKind, Result};
use crate::wire::Reader;

const MAGIC: [u8; 8] = *b"BACKY2R\n";
const FORMAT_VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 16;

/// The largest object of any kind, in bytes.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;
/// The largest body of an envelope, in bytes.
pub const BODY_BYTES_MAX: usize = OBJECT_BYTES_MAX - HEADER_BYTES - CHECKSUM_BYTES;

/// What an object, or a section of a pack, is. Each kind is sealed under a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum RecordKind {
    /// A complete version.
    Manifest = 1,
    /// An incomplete version to go on from.
    Checkpoint = 2,
    /// A change of a version's labels.
    Label = 3,
    /// A record of the GC log.
    Gc = 4,
    /// Slots that do not hold what they should.
    Damage = 5,
    /// Sampled fingerprints of a job's packs.
    Index = 6,
    /// The mark that a version was removed.
    Tombstone = 7,
    /// The mark that a void version passed its recheck.
    Checked = 8,
    /// The locators of a pack.
    PackLocators = 9,
    /// The fingerprints of a pack.
    PackFingerprints = 10,
    /// A slot of a pack that holds a part of a block map.
    MapSlot = 11,
    /// A lease or its revocation; plain.
    Lease = 12,
    /// What a passphrase or a key file unlocks.
    KeySlot = 13,
    /// The data key of an encryption version.
    KeyringEntry = 14,
}

impl RecordKind {
    /// Returns the number that stands for the kind in stored structures.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// Puts `body` into an envelope without sealing it, for leases. `body` has at most [`BODY_BYTES_MAX`] bytes.
pub fn plain_record(kind: RecordKind, body: &[u8]) -> Vec<u8> {
    let mut object = begin(kind, body.len());
    object.extend_from_slice(body);
    finish(object)
}

/// Takes the body out of an envelope of `kind`; whatever is sealed in it is still sealed.
///
/// # Errors
/// `Damaged` if the object is not what was stored or of another kind; `Unsupported` if a newer backy2 wrote it.
pub fn open_plain_record(kind: RecordKind, object: &[u8]) -> Result<&[u8]> {
    if object.len() > OBJECT_BYTES_MAX {
        return Err(Error::damaged(format!(
            "a record has at most {OBJECT_BYTES_MAX} bytes, this one {}",
            object.len()
        )));
    }
    let mut reader = Reader::new(object, "a record");
    if reader.array()? != MAGIC {
        return Err(reader.error("does not begin like one"));
    }
    check_format_version(reader.u16()?)?;
    let (stored_kind, reserved, length) = (reader.u16()?, reader.u32()?, reader.u64()?);
    let body = match usize::try_from(length) {
        Ok(length) => reader.bytes(length)?,
        Err(_) => return Err(reader.error("ends too early")),
    };
    let stored_checksum: [u8; CHECKSUM_BYTES] = reader.array()?;
    let covered = object.get(..HEADER_BYTES + body.len()).unwrap_or_default();
    if checksum(covered) != stored_checksum {
        return Err(reader.error("is damaged: its checksum does not match"));
    }
    if reserved != 0 {
        return Err(reader.error("has reserved bytes that are not zero"));
    }
    if stored_kind != kind.number() {
        return Err(reader.error(&format!("is of kind {stored_kind}, not {} ({kind:?})", kind.number())));
    }
    reader.finish()?;
    Ok(body)
}

/// Begins an envelope for a body of `body_bytes`, with room for all of it.
pub(crate) fn begin(kind: RecordKind, body_bytes: usize) -> Vec<u8> {
    let mut object = Vec::with_capacity(HEADER_BYTES + body_bytes + CHECKSUM_BYTES);
    object.extend_from_slice(&MAGIC);
    object.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    object.extend_from_slice(&kind.number().to_le_bytes());
    object.extend_from_slice(&[0; 4]);
    object.extend_from_slice(&(body_bytes as u64).to_le_bytes());
    object
}

/// Ends an envelope whose body was appended.
pub(crate) fn finish(mut object: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(&object);
    object.extend_from_slice(&checksum);
    object
}

/// Fails with `Unsupported` if a newer backy2 wrote the structure.
pub(crate) fn check_format_version(version: u16) -> Result<()> {
    match version {
        FORMAT_VERSION => Ok(()),
        0 => Err(Error::damaged("format version 0 does not exist")),
        newer => Err(Error::new(
            ErrorKind::Unsupported,
            format!("it has format version {newer}, this backy2 knows {FORMAT_VERSION}: update backy2"),
        )),
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut checksum);
    checksum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;
    use crate::fixed::assert_golden;

    #[test]
    fn bodies_survive() {
        for body in [&b""[..], b"x", &[9; 5000]] {
            let object = plain_record(RecordKind::Lease, body);
            assert_eq!(object.len(), 40 + body.len());
            assert_eq!(open_plain_record(RecordKind::Lease, &object).unwrap(), body);
        }
    }

    #[test]
    fn stored_bytes_stay_as_they_are() {
        assert_golden("envelope", &plain_record(RecordKind::Lease, b"the body of a lease"));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_found() {
        let object = plain_record(RecordKind::Lease, b"body");
        for at in 0..object.len() {
            let mut changed = object.clone();
            changed[at] ^= 0x10;
            let kind = open_plain_record(RecordKind::Lease, &changed).unwrap_err().kind();
            let expected = if (8..10).contains(&at) { ErrorKind::Unsupported } else { ErrorKind::Damaged };
            assert_eq!(kind, expected, "byte {at}");
            assert!(open_plain_record(RecordKind::Lease, &object[..at]).is_err());
        }
        let longer = [&object[..], b"x"].concat();
        assert!(open_plain_record(RecordKind::Lease, &longer).is_err());
    }

    #[test]
    fn another_kind_is_refused() {
        let object = plain_record(RecordKind::Lease, b"body");
        assert_eq!(open_plain_record(RecordKind::Gc, &object).unwrap_err().kind(), ErrorKind::Damaged);
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        let mut object = plain_record(RecordKind::Lease, b"body");
        object.truncate(object.len() - CHECKSUM_BYTES);
        object[13] = 1;
        let error = open_plain_record(RecordKind::Lease, &finish(object)).unwrap_err();
        assert!(error.to_string().contains("reserved"), "{error}");
    }

    #[test]
    fn newer_format_asks_for_an_update() {
        let mut object = plain_record(RecordKind::Lease, b"body");
        object[8] = 2;
        let error = open_plain_record(RecordKind::Lease, &object).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("update backy2"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn arbitrary_bytes_are_an_error(bytes in any::<Vec<u8>>(), keep in 0usize..40) {
            let mut object = plain_record(RecordKind::Lease, b"0123456789");
            object.truncate(keep);
            object.extend_from_slice(&bytes);
            assert!(open_plain_record(RecordKind::Lease, &object).is_err());
        }
    }
}
