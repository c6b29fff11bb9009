//! Writing packs: slots are sealed straight into the buffer that becomes the object.

use crate::codec::compression::Codec;
use crate::codec::fingerprint::Fingerprint;
use crate::codec::seal::{SealingKey, Suite};
use crate::envelope::{OBJECT_BYTES_MAX, RecordKind};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{EncryptionVersion, Generation, SlotNumber};
use crate::keys::KeySet;
use crate::names::PackName;
use crate::pack::directory::section_associated;
use crate::pack::header::{FORMAT_VERSION, PackHeader};
use crate::pack::locators::Locators;
use crate::pack::trailer::{TRAILER_BYTES, Trailer};
use crate::pack::{Directory, PACK_BYTES_MAX, PLAIN_BYTES_MAX, SLOTS_MAX, SlotKind, slot_associated};

/// The most bytes that one slot takes in the two sections.
const DIRECTORY_BYTES_PER_SLOT: usize = 9 + 32;
/// The most bytes of the two sections without any slot, and of the trailer.
const DIRECTORY_BYTES_FIXED: usize = 5 + 7 + 2 * Suite::OVERHEAD_BYTES_MAX + TRAILER_BYTES;

/// One slot to be appended.
#[derive(Clone, Copy, Debug)]
pub struct NewSlot<'a> {
    /// What it holds.
    pub kind: SlotKind,
    /// How many plain bytes, 1 to 4 MiB.
    pub plain_length: u32,
    /// How `body` is compressed.
    pub codec: Codec,
    /// The plain bytes, compressed by `codec`.
    pub body: &'a [u8],
    /// The fingerprint of the plain bytes: of data slots, and of them only.
    pub fingerprint: Option<Fingerprint>,
}

/// A pack in the making.
#[derive(Debug)]
pub struct PackWriter {
    keys: KeySet,
    name: PackName,
    /// None if the keyring does not hold the pack's encryption version: then no data slot can be sealed anew.
    data_key: Option<SealingKey>,
    buffer: Vec<u8>,
    locators: Locators,
    fingerprints: Vec<(SlotNumber, Fingerprint)>,
}

/// A pack that is ready to be stored.
#[derive(Debug)]
pub struct FinishedPack {
    /// The name to store it under.
    pub name: PackName,
    /// Which data key its data slots are sealed under.
    pub encryption_version: EncryptionVersion,
    /// The whole object.
    pub bytes: Vec<u8>,
    /// The fingerprints of its data slots, in order.
    pub fingerprints: Vec<(SlotNumber, Fingerprint)>,
    /// How many slots it has, gone ones too.
    pub slot_count: usize,
}

impl PackWriter {
    /// Begins a pack of the current encryption version. `buffer` is memory to be used again; its content is dropped.
    pub fn new(keys: &KeySet, name: PackName, buffer: Vec<u8>) -> Result<PackWriter> {
        let version = keys.current_version();
        let data_key = Some(keys.pack_key(version, name.id)?);
        Ok(PackWriter::begin(keys, name, version, data_key, buffer))
    }

    /// Begins a later generation of the pack of `before`, with its encryption version: sealed slots can be appended
    /// as they are, without the data key.
    ///
    /// # Errors
    /// `InvalidInput` if `name` is no later generation of that pack.
    pub fn rewrite(keys: &KeySet, before: &Directory, name: PackName, buffer: Vec<u8>) -> Result<PackWriter> {
        if name.id != before.name().id || name.generation <= before.name().generation {
            return Err(Error::invalid(format!("pack {name} is no later generation of {}", before.name())));
        }
        let version = before.encryption_version();
        let data_key = match keys.pack_key(version, name.id) {
            Ok(key) => Some(key),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(PackWriter::begin(keys, name, version, data_key, buffer))
    }

    fn begin(
        keys: &KeySet,
        name: PackName,
        encryption_version: EncryptionVersion,
        data_key: Option<SealingKey>,
        mut buffer: Vec<u8>,
    ) -> PackWriter {
        buffer.clear();
        PackHeader { name, encryption_version }.write(&mut buffer);
        let locators = Locators::new(encryption_version);
        PackWriter { keys: keys.clone(), name, data_key, buffer, locators, fingerprints: Vec::new() }
    }

    /// Returns the name to store the pack under.
    pub fn name(&self) -> PackName {
        self.name
    }

    /// Returns how many slots were appended, gone ones too.
    pub fn slot_count(&self) -> usize {
        self.locators.len()
    }

    /// Returns how many bytes the object has at most if it is finished now.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len() + self.slot_count() * DIRECTORY_BYTES_PER_SLOT + DIRECTORY_BYTES_FIXED
    }

    /// Says whether one more slot with a body of `body_bytes` keeps the object within `pack_bytes_max`, and the number
    /// of slots within [`SLOTS_MAX`].
    pub fn would_fit(&self, body_bytes: usize, pack_bytes_max: usize) -> bool {
        let slot_bytes = body_bytes.saturating_add(Suite::OVERHEAD_BYTES_MAX + DIRECTORY_BYTES_PER_SLOT);
        self.slot_count() < SLOTS_MAX && self.size_bytes().saturating_add(slot_bytes) <= pack_bytes_max
    }

    /// Seals a slot behind the last one.
    ///
    /// # Errors
    /// `InvalidInput` if it does not fit, or its facts contradict each other; `NotFound` if the keyring does not hold
    /// the pack's encryption version.
    pub fn append(&mut self, slot: NewSlot<'_>, environment: &Environment) -> Result<SlotNumber> {
        check(&slot)?;
        let number = self.next_slot(slot.body.len())?;
        let (kind, plain_length) = (slot.kind, slot.plain_length);
        let associated = slot_associated(self.keys.repository(), self.name.id, number, kind, plain_length);
        let key = match (kind, &self.data_key) {
            (SlotKind::MapPage | SlotKind::MapNode, _) => self.keys.map_slot_key(),
            (SlotKind::Data, Some(key)) => key,
            (SlotKind::Data, None) => {
                let version = self.locators.encryption_version();
                let message = format!("the keyring holds no key of encryption version {version}");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
        };
        key.seal(&associated, slot.body, environment, &mut self.buffer)?;
        self.note(Some((plain_length, slot.codec, kind)))?;
        self.fingerprints.extend(slot.fingerprint.map(|fingerprint| (number, fingerprint)));
        Ok(number)
    }

    /// Appends the next slot of the earlier generation `before` as it is sealed there; slots keep their number.
    ///
    /// # Errors
    /// `InvalidInput` if `before` does not hold a slot of this number and these bytes, is another pack, or has a data
    /// slot of another encryption version.
    pub fn append_sealed(
        &mut self,
        before: &Directory,
        sealed: &[u8],
        fingerprint: Option<Fingerprint>,
    ) -> Result<SlotNumber> {
        let number = self.next_slot(sealed.len())?;
        let wrong = || Error::invalid(format!("slot {number} of {} cannot be copied to {}", before.name(), self.name));
        let locator = before.locator(number).ok_or_else(wrong)?;
        let is_data = locator.kind == SlotKind::Data;
        let is_whole = sealed.len() as u64 == u64::from(locator.stored_length) && fingerprint.is_some() == is_data;
        let opens = !is_data || before.encryption_version() == self.locators.encryption_version();
        if before.name().id != self.name.id || !is_whole || !opens {
            return Err(wrong());
        }
        self.buffer.extend_from_slice(sealed);
        self.note(Some((locator.plain_length, locator.codec, locator.kind)))?;
        self.fingerprints.extend(fingerprint.map(|fingerprint| (number, fingerprint)));
        Ok(number)
    }

    /// Appends the fact that the next slot is gone.
    ///
    /// # Errors
    /// `InvalidInput` if the pack is full.
    pub fn append_gone(&mut self) -> Result<SlotNumber> {
        let number = self.next_slot(0)?;
        self.note(None)?;
        Ok(number)
    }

    /// Ends the pack: appends its directory and trailer.
    ///
    /// # Errors
    /// `InvalidInput` if nothing was appended.
    pub fn finish(mut self, environment: &Environment) -> Result<FinishedPack> {
        if self.locators.is_empty() {
            return Err(Error::invalid("a pack without slots is not stored"));
        }
        let fingerprints: Vec<u8> = self.fingerprints.iter().flat_map(|(_, fingerprint)| fingerprint.0).collect();
        let (fingerprints_offset, fingerprints_length) =
            self.append_section(RecordKind::PackFingerprints, &fingerprints, environment)?;
        let locators = self.locators.encode()?;
        let (locators_offset, locators_length) =
            self.append_section(RecordKind::PackLocators, &locators, environment)?;
        let trailer = Trailer {
            format_version: FORMAT_VERSION,
            fingerprints_offset,
            fingerprints_length,
            locators_offset,
            locators_length,
            slot_count: number_u32(self.slot_count())?,
            hash: [0; 32],
        };
        trailer.write(&mut self.buffer);
        Ok(FinishedPack {
            name: self.name,
            encryption_version: self.locators.encryption_version(),
            slot_count: self.locators.len(),
            bytes: self.buffer,
            fingerprints: self.fingerprints,
        })
    }

    fn append_section(&mut self, kind: RecordKind, plain: &[u8], environment: &Environment) -> Result<(u32, u32)> {
        let offset = self.buffer.len();
        let slot_count = number_u32(self.slot_count())?;
        let associated = section_associated(self.keys.repository(), kind, self.name, slot_count);
        self.keys.record_key(kind)?.seal(&associated, plain, environment, &mut self.buffer)?;
        Ok((number_u32(offset)?, number_u32(self.buffer.len() - offset)?))
    }

    /// Returns the number of the next slot, if a body of `body_bytes` still fits.
    fn next_slot(&self, body_bytes: usize) -> Result<SlotNumber> {
        // A later generation may grow: healed and sealed anew, it still has to hold every slot.
        let is_first = self.name.generation == Generation(0);
        let bytes_max = if is_first { PACK_BYTES_MAX } else { OBJECT_BYTES_MAX };
        match u16::try_from(self.slot_count()) {
            Ok(number) if self.would_fit(body_bytes, bytes_max) => Ok(SlotNumber(number)),
            _ => Err(Error::invalid(format!("{body_bytes} bytes more do not fit into pack {}", self.name))),
        }
    }

    /// Notes the slot whose sealed bytes were just appended; takes them back if they cannot be noted.
    fn note(&mut self, slot: Option<(u32, Codec, SlotKind)>) -> Result<()> {
        let start = self.locators.end_bytes() as usize;
        let stored_length = number_u32(self.buffer.len() - start)?;
        let slot = slot.map(|(plain_length, codec, kind)| (stored_length, plain_length, codec, kind));
        self.locators.push(slot).map_err(|error| {
            self.buffer.truncate(start);
            error.with_kind(ErrorKind::InvalidInput)
        })
    }
}

fn check(slot: &NewSlot<'_>) -> Result<()> {
    let (body_bytes, plain_bytes) = (slot.body.len() as u64, u64::from(slot.plain_length));
    let is_body_good = match slot.codec {
        Codec::Raw => body_bytes == plain_bytes,
        Codec::Zstd => (1..plain_bytes).contains(&body_bytes),
    };
    if !is_body_good || !(1..=PLAIN_BYTES_MAX).contains(&slot.plain_length) {
        return Err(Error::invalid(format!(
            "a body of {body_bytes} bytes ({:?}) cannot stand for {plain_bytes} plain bytes",
            slot.codec
        )));
    }
    if slot.fingerprint.is_some() == (slot.kind == SlotKind::Data) {
        Ok(())
    } else {
        Err(Error::invalid("a data slot has a fingerprint, others have none"))
    }
}

fn number_u32(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::invalid(format!("{number} is too large for a pack")))
}
