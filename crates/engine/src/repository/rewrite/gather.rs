//! Reads all that the generations of one pack have good.
//!
//! A slot is tried in the generations from the highest down and taken from the first one that has it good: it opens under
//! its seal, and its content has the fingerprint that the same object tells for it. So a damaged copy is never preferred to
//! a good one, wherever they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use backy_core::codec::fingerprint::Fingerprint;
use backy_core::envelope::OBJECT_BYTES_MAX;
use backy_core::ids::{EncryptionVersion, SlotNumber};
use backy_core::names::PackName;
use backy_core::pack::{Directory, Locator, SlotKind, SlotOpener, read_fingerprints, verify_pack_bytes};
use backy_core::units::ByteRange;
use backy_core::{Error, ErrorKind, Result};

use crate::Repository;
use crate::repository::packs::is_about_content;

/// What the generations of one pack have.
#[derive(Default)]
pub(super) struct Gathered {
    /// The generations whose directory can be read, the highest first.
    pub generations: Vec<GenerationRead>,
    /// The others.
    pub unreadable: Vec<PackName>,
    /// Every wanted slot of any generation.
    pub slots: BTreeMap<SlotNumber, GatheredSlot>,
    /// How many bytes were read.
    pub read_bytes: u64,
    sealed: Vec<u8>,
}

/// One generation.
pub(super) struct GenerationRead {
    /// Where its slots are.
    pub directory: Directory,
    /// Whether the whole object is byte by byte what was written.
    pub is_sound: bool,
}

/// One slot.
#[derive(Default)]
pub(super) struct GatheredSlot {
    /// The good copy; none if no generation has one.
    pub copy: Option<SlotCopy>,
    /// What the content must be, if a generation tells.
    pub expected: Option<Expected>,
}

/// A good copy of a slot, as it is sealed.
pub(super) struct SlotCopy {
    /// Which of the generations has it.
    pub generation: usize,
    /// The fingerprint of a data slot.
    pub fingerprint: Option<Fingerprint>,
    range: Range<usize>,
}

/// What is known of the content of a slot that may be damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// How many bytes it has.
    pub plain_length: u32,
}

impl Gathered {
    /// Returns the sealed bytes of a copy.
    pub fn sealed(&self, copy: &SlotCopy) -> &[u8] {
        self.sealed.get(copy.range.clone()).unwrap_or_default()
    }

    /// Returns the highest encryption version of all generations, and the generation that has it.
    pub fn newest_encryption(&self) -> Option<&Directory> {
        let of = |generation: &&GenerationRead| generation.directory.encryption_version();
        // Of equal ones the last is taken; any will do.
        self.generations.iter().max_by_key(of).map(|generation| &generation.directory)
    }

    /// Returns the slots that some generation has good.
    pub fn good_slots(&self) -> BTreeSet<SlotNumber> {
        self.slots.iter().filter(|(_, slot)| slot.copy.is_some()).map(|(&number, _)| number).collect()
    }

    /// Returns the slots that no generation has good.
    pub fn bad_slots(&self) -> BTreeSet<SlotNumber> {
        self.slots.iter().filter(|(_, slot)| slot.copy.is_none()).map(|(&number, _)| number).collect()
    }

    /// Says whether a copy of a data slot has to be sealed anew to go into a pack of `version`.
    pub fn needs_new_seal(&self, copy: &SlotCopy, version: EncryptionVersion) -> bool {
        let is_other = |generation: &GenerationRead| generation.directory.encryption_version() != version;
        copy.fingerprint.is_some() && self.generations.get(copy.generation).is_none_or(is_other)
    }
}

/// Reads those slots of the generations `names`, the highest first, that are wanted.
///
/// # Errors
/// `NotFound` if one of them is gone: list again. `WrongKey` if the keyring does not hold a data key that is needed.
pub(super) fn gather(
    repository: &Repository,
    names: &[PackName],
    is_wanted: &dyn Fn(SlotNumber) -> bool,
) -> Result<Gathered> {
    let opener = SlotOpener::new()?;
    let mut gathering = Gathering {
        repository,
        is_wanted,
        opener,
        scratch: Vec::new(),
        plain: Vec::new(),
        gathered: Gathered::default(),
    };
    for &name in names {
        match repository.read_object_directory(name) {
            Ok(directory) => gathering.read_generation(directory)?,
            Err(error) if is_damage(&error) => gathering.gathered.unreadable.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(gathering.gathered)
}

struct Gathering<'a> {
    repository: &'a Repository,
    is_wanted: &'a dyn Fn(SlotNumber) -> bool,
    opener: SlotOpener,
    scratch: Vec<u8>,
    plain: Vec<u8>,
    gathered: Gathered,
}

impl Gathering<'_> {
    fn read_generation(&mut self, directory: Directory) -> Result<()> {
        let mut needed = Vec::new();
        for (number, locator) in directory.slots().filter(|&(number, _)| (self.is_wanted)(number)) {
            if self.gathered.slots.entry(number).or_default().copy.is_none() {
                needed.push((number, locator));
            }
        }
        let mut object = PackObject {
            repository: self.repository,
            directory: &directory,
            whole: None,
            part: Vec::new(),
            read_bytes: 0,
        };
        let mut is_sound = false;
        if !needed.is_empty() {
            object.read_whole()?;
            let fingerprints = object.fingerprints()?;
            is_sound = object.is_sound() && fingerprints.is_some();
            let fingerprints = fingerprints.unwrap_or_default();
            for (number, locator) in needed {
                let told = fingerprints.get(&number).copied();
                match self.try_slot(&mut object, number, locator, told) {
                    Err(error) if is_damage(&error) => {}
                    other => other?,
                }
            }
        }
        self.gathered.read_bytes += object.read_bytes;
        self.gathered.generations.push(GenerationRead { directory, is_sound });
        Ok(())
    }

    /// Takes the slot over if this generation has it good; fails with `Damaged` if not.
    fn try_slot(
        &mut self,
        object: &mut PackObject<'_>,
        number: SlotNumber,
        locator: Locator,
        told: Option<Fingerprint>,
    ) -> Result<()> {
        let gathered = &mut self.gathered;
        let slot = gathered.slots.entry(number).or_default();
        if let Some(fingerprint) = told {
            slot.expected.get_or_insert(Expected { fingerprint, plain_length: locator.plain_length });
        }
        let sealed = object.slot(locator)?;
        self.scratch.clear();
        self.scratch.extend_from_slice(sealed);
        let start = gathered.sealed.len();
        gathered.sealed.extend_from_slice(sealed);
        let keys = self.repository.keys();
        let opened = self.opener.open(keys, object.directory, number, &mut self.scratch, &mut self.plain);
        let is_data = locator.kind == SlotKind::Data;
        let fingerprint = is_data.then(|| keys.fingerprint_key().fingerprint(&self.plain));
        let is_told = told.is_none() || told == fingerprint;
        if opened.is_err() || !is_told {
            gathered.sealed.truncate(start);
            opened?;
            return Err(Error::damaged(format!("slot {number} has another fingerprint than its pack tells")));
        }
        let range = start..gathered.sealed.len();
        slot.copy = Some(SlotCopy { generation: gathered.generations.len(), fingerprint, range });
        Ok(())
    }
}

/// The bytes of one pack object: read at once, or piece by piece where that does not work.
struct PackObject<'a> {
    repository: &'a Repository,
    directory: &'a Directory,
    whole: Option<Vec<u8>>,
    part: Vec<u8>,
    read_bytes: u64,
}

impl PackObject<'_> {
    fn read_whole(&mut self) -> Result<()> {
        match self.repository.store().get(&self.directory.name().object_name(), OBJECT_BYTES_MAX as u64) {
            Ok(whole) => {
                self.read_bytes += whole.len() as u64;
                self.whole = Some(whole);
                Ok(())
            }
            Err(error) if is_damage(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says whether every byte is as it was written.
    fn is_sound(&self) -> bool {
        let verify =
            |whole: &Vec<u8>| verify_pack_bytes(whole).is_ok_and(|header| header.name == self.directory.name());
        self.whole.as_ref().is_some_and(verify)
    }

    /// Returns the fingerprints of the data slots; none if they are damaged.
    fn fingerprints(&mut self) -> Result<Option<BTreeMap<SlotNumber, Fingerprint>>> {
        let directory = self.directory;
        let range = directory.fingerprints_range();
        let keys = self.repository.keys();
        match self.range(range).and_then(|section| read_fingerprints(keys, directory, section)) {
            Ok(fingerprints) => Ok(Some(fingerprints.into_iter().collect())),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn slot(&mut self, locator: Locator) -> Result<&[u8]> {
        let (offset_bytes, length_bytes) = (u64::from(locator.offset_bytes), u64::from(locator.stored_length));
        self.range(ByteRange { offset_bytes, length_bytes })
    }

    fn range(&mut self, range: ByteRange) -> Result<&[u8]> {
        if let Some(whole) = &self.whole {
            let start = usize::try_from(range.offset_bytes).unwrap_or(usize::MAX);
            let length = usize::try_from(range.length_bytes).unwrap_or(usize::MAX);
            let bytes = whole.get(start..start.saturating_add(length));
            return bytes.ok_or_else(|| Error::damaged(format!("{} ends too early", self.directory.name())));
        }
        self.repository.read_pack_range(self.directory, range, &mut self.part)?;
        self.read_bytes += range.length_bytes;
        Ok(&self.part)
    }
}

/// Says whether an error means that the object is there, but not as it was stored.
fn is_damage(error: &Error) -> bool {
    is_about_content(error) && error.kind() != ErrorKind::NotFound
}
