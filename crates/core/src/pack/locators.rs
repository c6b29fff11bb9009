//! The locators of a pack: what every slot is and how long, as columns.
//!
//! ```text
//!  packed                                      columns
//!    codec              1    0 raw, 1 zstd       key method            1
//!    length of columns  4                        length of sealed key  2    0
//!    columns            n    compressed          encryption version    4
//!                                                kinds                 n    kind | codec << 2, or 0xff: gone
//!                                                stored lengths       4n    all lowest bytes, …, all highest bytes
//!                                                plain lengths        4n    likewise
//! ```
//!
//! Slots lie back to back, so offsets are not stored: no two slots overlap whatever the numbers are. Bytes of the
//! same weight stand together because that is what zstd packs best: some two bytes a slot.

use crate::codec::compression::{Codec, Compressor, Decompressor};
use crate::codec::seal::Suite;
use crate::error::{Error, Result};
use crate::ids::EncryptionVersion;
use crate::pack::header::{HEADER_BYTES, KEY_DERIVED, SEALED_KEY_BYTES_MAX, check_key_method};
use crate::pack::{Locator, PLAIN_BYTES_MAX, SLOTS_MAX, SlotKind};
use crate::wire::{Reader, Writer};

const GONE: u8 = 0xff;
const FIXED_BYTES: usize = 7;
const SLOT_BYTES: usize = 9;
const COLUMNS_BYTES_MAX: usize = FIXED_BYTES + SEALED_KEY_BYTES_MAX + SLOT_BYTES * SLOTS_MAX;
const COMPRESSION_LEVEL: i32 = 3;

/// The most bytes of packed locators.
pub(crate) const PACKED_BYTES_MAX: usize = 5 + COLUMNS_BYTES_MAX;

/// The locators of all slots of a pack, in eight bytes each.
#[derive(Clone, Debug)]
pub struct Locators {
    encryption_version: EncryptionVersion,
    /// Where each slot ends; it begins where the one before ends.
    ends: Vec<u32>,
    /// Plain length, then three bits of kind and codec, as [`pack_facts`] puts them.
    facts: Vec<u32>,
}

impl Locators {
    /// Makes locators without any slot.
    pub(crate) fn new(encryption_version: EncryptionVersion) -> Locators {
        Locators { encryption_version, ends: Vec::new(), facts: Vec::new() }
    }

    /// Returns which data key the slots are sealed under.
    pub fn encryption_version(&self) -> EncryptionVersion {
        self.encryption_version
    }

    /// Returns how many slots there are, gone ones too.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Says whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the first byte behind the last slot.
    pub fn end_bytes(&self) -> u32 {
        self.ends.last().copied().unwrap_or(HEADER_BYTES)
    }

    /// Returns where slot number `index` is; `None` if it is gone or never was.
    pub fn get(&self, index: usize) -> Option<Locator> {
        let (end, facts) = (*self.ends.get(index)?, *self.facts.get(index)?);
        let offset_bytes = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => HEADER_BYTES,
        };
        let (plain_length, codec, kind) = unpack_facts(facts)?;
        Some(Locator { offset_bytes, stored_length: end - offset_bytes, plain_length, codec, kind })
    }

    /// Appends a slot behind the last one, or a gone one.
    ///
    /// # Errors
    /// `Damaged` if the numbers cannot be.
    pub(crate) fn push(&mut self, slot: Option<(u32, u32, Codec, SlotKind)>) -> Result<()> {
        let Some((stored_length, plain_length, codec, kind)) = slot else {
            self.ends.push(self.end_bytes());
            self.facts.push(0);
            return Ok(());
        };
        let end = self.end_bytes().checked_add(stored_length);
        let end = end.filter(|_| is_plausible(stored_length, plain_length, codec));
        let Some(end) = end else {
            return Err(Error::damaged(format!(
                "a slot of {plain_length} bytes cannot be stored in {stored_length} ({codec:?})"
            )));
        };
        self.ends.push(end);
        self.facts.push(pack_facts(plain_length, codec, kind));
        Ok(())
    }

    /// Returns the packed form.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::new();
        writer.u8(KEY_DERIVED);
        writer.u16(0);
        writer.u32(self.encryption_version.0);
        let slots = || (0..self.len()).map(|index| self.get(index));
        for slot in slots() {
            writer.u8(slot.map_or(GONE, |slot| slot.kind as u8 | (slot.codec as u8) << 2));
        }
        for shift in [0, 8, 16, 24] {
            slots().for_each(|slot| writer.u8(byte_of(slot.map_or(0, |slot| slot.stored_length), shift)));
        }
        for shift in [0, 8, 16, 24] {
            slots().for_each(|slot| writer.u8(byte_of(slot.map_or(0, |slot| slot.plain_length), shift)));
        }
        let columns = writer.into_bytes();
        let mut body = Vec::new();
        let codec = Compressor::new(COMPRESSION_LEVEL)?.compress(&columns, &mut body)?;
        let length = u32::try_from(columns.len()).map_err(|_| Error::invalid("a pack has too many slots"))?;
        let mut packed = Vec::with_capacity(5 + body.len());
        packed.push(codec as u8);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&body);
        Ok(packed)
    }

    /// Reads the packed form of `slot_count` slots.
    ///
    /// # Errors
    /// `Damaged` if it is anything else; `Unsupported` if the data key is to be found in an unknown way.
    pub fn decode(packed: &[u8], slot_count: usize) -> Result<Locators> {
        let columns = unpack(packed, slot_count)?;
        let mut reader = Reader::new(&columns, "the directory of a pack");
        let (key_method, sealed_key_length) = (reader.u8()?, reader.u16()?);
        check_key_method(key_method, sealed_key_length)?;
        let encryption_version = EncryptionVersion(reader.u32()?);
        let kinds = reader.bytes(slot_count)?;
        let stored_lengths = Planes::read(&mut reader, slot_count)?;
        let plain_lengths = Planes::read(&mut reader, slot_count)?;
        let mut locators = Locators {
            encryption_version,
            ends: Vec::with_capacity(slot_count),
            facts: Vec::with_capacity(slot_count),
        };
        for (index, &kind) in kinds.iter().enumerate() {
            let (stored_length, plain_length) = (stored_lengths.get(index), plain_lengths.get(index));
            match (kind, SlotKind::from_number(kind & 0b11), Codec::from_number(kind >> 2)) {
                (GONE, ..) if (stored_length, plain_length) == (0, 0) => locators.push(None)?,
                (_, Some(kind), Some(codec)) => locators.push(Some((stored_length, plain_length, codec, kind)))?,
                _ => return Err(reader.error(&format!("says of slot {index} what cannot be"))),
            }
        }
        reader.finish()?;
        Ok(locators)
    }
}

/// Numbers of four bytes each, stored byte by byte of the same weight.
struct Planes<'a>([&'a [u8]; 4]);

impl<'a> Planes<'a> {
    fn read(reader: &mut Reader<'a>, count: usize) -> Result<Planes<'a>> {
        Ok(Planes([reader.bytes(count)?, reader.bytes(count)?, reader.bytes(count)?, reader.bytes(count)?]))
    }

    fn get(&self, index: usize) -> u32 {
        u32::from_le_bytes(self.0.map(|plane| plane.get(index).copied().unwrap_or_default()))
    }
}

fn unpack(packed: &[u8], slot_count: usize) -> Result<Vec<u8>> {
    let mut reader = Reader::new(packed, "the directory of a pack");
    if slot_count > SLOTS_MAX {
        return Err(reader.error(&format!("counts {slot_count} slots where {SLOTS_MAX} are the most")));
    }
    let codec = Codec::from_number(reader.u8()?).ok_or_else(|| reader.error("is packed in an unknown way"))?;
    // A sealed key may stand in front: that is then said to be not supported, not to be damaged.
    let least = FIXED_BYTES + SLOT_BYTES * slot_count;
    let length = reader.u32()? as usize;
    if !(least..=least + SEALED_KEY_BYTES_MAX).contains(&length) {
        return Err(reader.error(&format!("has {length} bytes where {slot_count} slots need {least}")));
    }
    let mut columns = vec![0; length];
    Decompressor::new()?.decompress(codec, reader.bytes(reader.remaining())?, &mut columns)?;
    Ok(columns)
}

fn is_plausible(stored_length: u32, plain_length: u32, codec: Codec) -> bool {
    let overheads = [Suite::None, Suite::Aes256Gcm].map(Suite::overhead_bytes);
    let is_stored = match codec {
        Codec::Raw => overheads.iter().any(|&overhead| stored_length as usize == plain_length as usize + overhead),
        Codec::Zstd => {
            let least = Suite::None.overhead_bytes();
            let most = plain_length as usize + Suite::OVERHEAD_BYTES_MAX;
            (least + 1..most).contains(&(stored_length as usize))
        }
    };
    (1..=PLAIN_BYTES_MAX).contains(&plain_length) && is_stored
}

/// Puts a plain length below 2^29, a codec and a kind into one number that is not 0.
fn pack_facts(plain_length: u32, codec: Codec, kind: SlotKind) -> u32 {
    plain_length << 3 | (codec as u32) << 2 | kind as u32
}

fn unpack_facts(facts: u32) -> Option<(u32, Codec, SlotKind)> {
    let [low, ..] = facts.to_le_bytes();
    let (plain_length, codec, kind) =
        (facts >> 3, Codec::from_number(low >> 2 & 1)?, SlotKind::from_number(low & 0b11)?);
    (plain_length > 0).then_some((plain_length, codec, kind))
}

fn byte_of(number: u32, shift: u32) -> u8 {
    (number >> shift & 0xff) as u8
}
