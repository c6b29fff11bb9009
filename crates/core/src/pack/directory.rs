//! The directory of a pack: its locators, and where its fingerprints are.
//!
//! A reader gets the end of the object, [`SUFFIX_BYTES`](crate::pack::SUFFIX_BYTES) of it, and from that alone knows
//! every slot; the fingerprints, which are larger, are read only by whoever needs them. Both sections are sealed under
//! keys of their own and bound to the repository, the object's name - thus generation and lease - and the slot count.

use std::fmt;

use crate::codec::fingerprint::Fingerprint;
use crate::codec::seal::SealingKey;
use crate::envelope::{RecordKind, check_format_version};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::ids::{EncryptionVersion, RepositoryId, SlotNumber};
use crate::keys::KeySet;
use crate::names::PackName;
use crate::pack::locators::Locators;
use crate::pack::trailer::{TRAILER_BYTES, Trailer};
use crate::pack::{Locator, SlotKind};
use crate::units::ByteRange;

/// What a reader knows of one pack object: some eight bytes a slot, and the key of its data slots.
pub struct Directory {
    name: PackName,
    locators: Locators,
    trailer: Trailer,
    /// None if the keyring does not hold the pack's encryption version.
    data_key: Option<SealingKey>,
}

/// What a reader learns from the end of a pack object.
#[derive(Debug)]
pub enum SuffixRead {
    /// The directory.
    Directory(Directory),
    /// The directory is longer than what was read: read this many bytes from the end.
    NeedMore {
        /// How many bytes from the end of the object to read.
        suffix_bytes: u64,
    },
}

impl Directory {
    /// Returns which object it is the directory of.
    pub fn name(&self) -> PackName {
        self.name
    }

    /// Returns the format version that the trailer tells of: another one than we know is a bit that has flipped.
    pub fn told_format_version(&self) -> u16 {
        self.trailer.format_version
    }

    /// Returns which data key the data slots are sealed under.
    pub fn encryption_version(&self) -> EncryptionVersion {
        self.locators.encryption_version()
    }

    /// Returns where a slot is; `None` if this generation does not have it any more, or it never was.
    pub fn locator(&self, slot: SlotNumber) -> Option<Locator> {
        self.locators.get(usize::from(slot.0))
    }

    /// Returns all slots that are not gone, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotNumber, Locator)> {
        (0u16..).take(self.locators.len()).filter_map(|number| {
            let slot = SlotNumber(number);
            Some((slot, self.locator(slot)?))
        })
    }

    /// Returns how many slots the pack ever had, gone ones too.
    pub fn slot_count(&self) -> usize {
        self.locators.len()
    }

    /// Returns how many bytes the object has.
    pub fn object_bytes(&self) -> u64 {
        self.trailer.object_bytes()
    }

    /// Returns where in the object the fingerprints are, for [`read_fingerprints`].
    pub fn fingerprints_range(&self) -> ByteRange {
        ByteRange {
            offset_bytes: u64::from(self.trailer.fingerprints_offset),
            length_bytes: u64::from(self.trailer.fingerprints_length),
        }
    }

    pub(crate) fn data_key(&self) -> Result<&SealingKey> {
        self.data_key.as_ref().ok_or_else(|| {
            let version = self.encryption_version();
            Error::new(ErrorKind::WrongKey, format!("the keyring holds no key of encryption version {version}"))
        })
    }
}

/// Reads the directory of the pack object `name` from its last bytes, or all of them.
///
/// Give the last [`SUFFIX_BYTES`](crate::pack::SUFFIX_BYTES), or the whole object if it is shorter. Who was told
/// `NeedMore` and gets no more bytes than before has found a cut object.
///
/// # Errors
/// `Damaged` if it is not what was stored under this name, or `object_size` is not its size; `Unsupported` if a newer
/// backy2 wrote it.
pub fn read_directory(keys: &KeySet, name: PackName, object_size: Option<u64>, suffix: &[u8]) -> Result<SuffixRead> {
    let known = Trailer::told_version(suffix).map_or(Ok(()), check_format_version);
    // A version that is not known may be a bit that has flipped: no tag covers it. What opens is not of a newer backy2, whose
    // locators are sealed with other associated data (docs/format.md).
    match (read(keys, name, object_size, suffix), known) {
        (Err(_), Err(newer)) if newer.kind() == ErrorKind::Unsupported => Err(newer),
        (read, _) => read,
    }
    .context(|| format!("read the directory of pack {name}"))
}

fn read(keys: &KeySet, name: PackName, object_size: Option<u64>, suffix: &[u8]) -> Result<SuffixRead> {
    let trailer = Trailer::parse(suffix)?;
    let object_bytes = trailer.object_bytes();
    if object_size.is_some_and(|size| size != object_bytes) || suffix.len() as u64 > object_bytes {
        return Err(Error::damaged(format!("its trailer tells of {object_bytes} bytes, which are not what is stored")));
    }
    let needed_bytes = trailer.locators_length as usize + TRAILER_BYTES;
    let Some(start) = suffix.len().checked_sub(needed_bytes) else {
        return Ok(SuffixRead::NeedMore { suffix_bytes: needed_bytes as u64 });
    };
    let mut sealed = suffix.get(start..suffix.len() - TRAILER_BYTES).unwrap_or_default().to_vec();
    let associated = section_associated(keys.repository(), RecordKind::PackLocators, name, trailer.slot_count);
    let packed = keys.record_key(RecordKind::PackLocators)?.open_in_place(&associated, &mut sealed)?;
    let locators = Locators::decode(packed, trailer.slot_count as usize)?;
    if locators.end_bytes() != trailer.fingerprints_offset {
        return Err(Error::damaged("its slots do not end where its fingerprints begin"));
    }
    let data_key = match keys.pack_key(locators.encryption_version(), name.id) {
        Ok(key) => Some(key),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(SuffixRead::Directory(Directory { name, locators, trailer, data_key }))
}

/// Reads the fingerprints of all data slots that are not gone; `section` are the bytes of
/// [`Directory::fingerprints_range`].
///
/// # Errors
/// `Damaged` if the section is not what was stored in this object.
pub fn read_fingerprints(
    keys: &KeySet,
    directory: &Directory,
    section: &[u8],
) -> Result<Vec<(SlotNumber, Fingerprint)>> {
    let open = || {
        let (name, slot_count) = (directory.name, directory.trailer.slot_count);
        let associated = section_associated(keys.repository(), RecordKind::PackFingerprints, name, slot_count);
        let mut sealed = section.to_vec();
        let plain = keys.record_key(RecordKind::PackFingerprints)?.open_in_place(&associated, &mut sealed)?;
        let (fingerprints, rest) = plain.as_chunks::<32>();
        let slots = || directory.slots().filter(|(_, locator)| locator.kind == SlotKind::Data);
        if !rest.is_empty() || fingerprints.len() != slots().count() {
            return Err(Error::damaged("there is not one fingerprint per data slot"));
        }
        Ok(slots().zip(fingerprints).map(|((slot, _), &bytes)| (slot, Fingerprint(bytes))).collect())
    };
    open().context(|| format!("read the fingerprints of pack {}", directory.name))
}

/// Returns what binds a section to its object: repository, section kind, slot count, name.
pub(crate) fn section_associated(
    repository: RepositoryId,
    kind: RecordKind,
    name: PackName,
    slot_count: u32,
) -> Vec<u8> {
    let name = name.object_name();
    [repository.bytes(), &kind.number().to_le_bytes()[..], &slot_count.to_le_bytes(), name.as_str().as_bytes()].concat()
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({}, {} slots)", self.name, self.slot_count())
    }
}
