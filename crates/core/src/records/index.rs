//! Index records: what a job leaves for the catalogs of other hosts.
//!
//! For each pack that the job wrote: its name and facts, and a sample of its fingerprints - the first one and about one
//! in 64, by their own low bits. A host that meets a sampled fingerprint reads the pack's fingerprints. A missing record
//! costs deduplication only.
//!
//! ```text
//! count of packs                              varint
//! per pack: id 16, generation u32, lease 16, encryption version u32,
//!           slots varint, size varint, samples varint,
//!           per sample: slot varint (distance to the one before), first 16 bytes of the fingerprint
//! ```

use crate::codec::fingerprint::Fingerprint;
use crate::envelope::OBJECT_BYTES_MAX;
use crate::error::Result;
use crate::ids::{EncryptionVersion, Generation, LeaseId, PackId, SlotNumber};
use crate::names::PackName;
use crate::pack::SLOTS_MAX;
use crate::wire::{Reader, Writer};

/// About one fingerprint in this many is sampled.
pub const SAMPLE_EVERY: u8 = 64;

const PACK_BYTES_MIN: usize = 16 + 4 + 16 + 4 + 3;

/// What an index record says of one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedPack {
    /// The object.
    pub name: PackName,
    /// The encryption version of its data.
    pub encryption_version: EncryptionVersion,
    /// How many slots it has.
    pub slot_count: u32,
    /// The size of the object in bytes.
    pub size_bytes: u64,
    /// Some of its fingerprints: the first 16 bytes of each, ascending by slot.
    pub samples: Vec<(SlotNumber, [u8; 16])>,
}

/// Chooses the sample of a pack's fingerprints.
pub fn sample(fingerprints: &[(SlotNumber, Fingerprint)]) -> Vec<(SlotNumber, [u8; 16])> {
    let is_chosen = |index: usize, fingerprint: &Fingerprint| index == 0 || is_sampled(&short(fingerprint));
    let chosen = fingerprints.iter().enumerate().filter(|(index, (_, fingerprint))| is_chosen(*index, fingerprint));
    chosen.map(|(_, (slot, fingerprint))| (*slot, short(fingerprint))).collect()
}

/// Says whether a fingerprint, of which these are the first 16 bytes, is one of those that are sampled.
pub fn is_sampled(short: &[u8; 16]) -> bool {
    short[15].is_multiple_of(SAMPLE_EVERY)
}

/// Returns the first 16 bytes of a fingerprint.
pub fn short(fingerprint: &Fingerprint) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&fingerprint.0[..16]);
    short
}

/// Writes the body of an index record; the samples ascend.
pub fn encode(packs: &[IndexedPack]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.varint(packs.len() as u64);
    for pack in packs {
        writer.bytes(pack.name.id.bytes());
        writer.u32(pack.name.generation.0);
        writer.bytes(pack.name.lease.bytes());
        writer.u32(pack.encryption_version.0);
        writer.varint(u64::from(pack.slot_count));
        writer.varint(pack.size_bytes);
        writer.varint(pack.samples.len() as u64);
        let mut previous = 0;
        for (slot, fingerprint) in &pack.samples {
            writer.varint(u64::from(slot.0.saturating_sub(previous)));
            writer.bytes(fingerprint);
            previous = slot.0;
        }
    }
    writer.into_bytes()
}

/// Reads the body of an index record.
///
/// # Errors
/// `Damaged` if a pack has more slots, bytes or samples than packs have, or names a slot twice.
pub fn decode(body: &[u8]) -> Result<Vec<IndexedPack>> {
    let mut reader = Reader::new(body, "the index record");
    let count = reader.count(body.len() / PACK_BYTES_MIN)?;
    let mut packs = Vec::with_capacity(count);
    for _ in 0..count {
        packs.push(decode_pack(&mut reader)?);
    }
    reader.finish()?;
    Ok(packs)
}

fn decode_pack(reader: &mut Reader<'_>) -> Result<IndexedPack> {
    let name = PackName {
        id: PackId::from_bytes(reader.array()?),
        generation: Generation(reader.u32()?),
        lease: LeaseId::from_bytes(reader.array()?),
    };
    let encryption_version = EncryptionVersion(reader.u32()?);
    let slot_count = u32::try_from(reader.count(SLOTS_MAX)?).unwrap_or(u32::MAX);
    let size_bytes = reader.varint()?;
    if size_bytes > OBJECT_BYTES_MAX as u64 {
        return Err(reader.error("names a pack larger than any object"));
    }
    let sample_count = reader.count(SLOTS_MAX)?;
    let mut samples = Vec::with_capacity(sample_count.min(reader.remaining() / 17));
    let mut previous = 0u64;
    for index in 0..sample_count {
        let distance = reader.varint()?;
        if index > 0 && distance == 0 {
            return Err(reader.error("names a slot twice"));
        }
        previous = previous.saturating_add(distance);
        let slot = u16::try_from(previous).ok().filter(|&slot| u32::from(slot) < slot_count);
        let slot = slot.ok_or_else(|| reader.error("names a slot that its pack does not have"))?;
        samples.push((SlotNumber(slot), reader.array()?));
    }
    Ok(IndexedPack { name, encryption_version, slot_count, size_bytes, samples })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(seed: u8, slots: u16) -> IndexedPack {
        let fingerprints: Vec<(SlotNumber, Fingerprint)> = (0..slots)
            .map(|slot| (SlotNumber(slot), Fingerprint(*blake3::hash(&[seed, (slot % 251) as u8]).as_bytes())))
            .collect();
        IndexedPack {
            name: PackName {
                id: PackId::from_bytes([seed; 16]),
                generation: Generation(1),
                lease: LeaseId::from_bytes([seed + 1; 16]),
            },
            encryption_version: EncryptionVersion(1),
            slot_count: u32::from(slots),
            size_bytes: 77,
            samples: sample(&fingerprints),
        }
    }

    #[test]
    fn index_records_survive_and_sample_the_first_slot() {
        let packs = vec![pack(1, 1), pack(2, 8192), pack(3, 0)];
        assert_eq!(packs[0].samples.len(), 1);
        assert!((40..400).contains(&packs[1].samples.len()), "{}", packs[1].samples.len());
        assert_eq!(decode(&encode(&packs)).unwrap(), packs);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error_or_a_record(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }

        #[test]
        fn damaged_records_do_not_panic(flip in 0usize..200, bits in 1u8..=255) {
            let mut body = encode(&[pack(1, 300)]);
            let flip = flip % body.len();
            body[flip] ^= bits;
            let _ = decode(&body);
        }
    }
}
