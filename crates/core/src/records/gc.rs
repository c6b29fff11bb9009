//! Records of the GC log: what was condemned, and what its author knew when it wrote.
//!
//! Condemned slots are never offered again by anybody who has read the record, and may be deleted once everybody who may
//! not have read it is gone. The rules are in `docs/protocol.md`.
//!
//! ```text
//! read        count varint, then per record: number u32, author 16      the records that the author had read
//! replaced    the same                                                  records whose condemnations stand here again
//! held        count varint, then per lease: id 16                       the leases listed after that
//! versions    count varint, then per version: uid 16                    condemned versions
//! packs       count varint, then per pack: id 16, runs varint           condemned slots; 0 runs: the whole pack
//!             per run: gap varint, length varint                        gap since the end of the run before
//! ```
//!
//! All lists ascend; runs never touch. So there is one body for a content, and any other is refused.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::ids::{LeaseId, PackId, SlotNumber, VersionUid};
use crate::names::GcName;
use crate::pack::SLOTS_MAX;
use crate::slots::{SlotSet, SlotSets};
use crate::wire::{Reader, Writer};

/// A body is cut into several records before it grows beyond this, in bytes.
pub const GC_BODY_BYTES_SOFT: usize = 32 << 20;

/// What a record of the GC log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcRecord {
    /// What its author knew.
    pub head: GcHead,
    /// The condemned slots.
    pub condemned: SlotSets,
}

/// All of a record but the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcHead {
    /// The records that its author had read.
    pub read: BTreeSet<GcName>,
    /// Records that this one replaces: what they condemned is condemned here.
    pub replaced: BTreeSet<GcName>,
    /// The leases that were held after that, those of cleanups aside.
    pub held: BTreeSet<LeaseId>,
    /// The condemned versions.
    pub versions: BTreeSet<VersionUid>,
}

impl GcRecord {
    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for names in [&self.head.read, &self.head.replaced] {
            writer.varint(names.len() as u64);
            for name in names {
                writer.u32(name.number);
                writer.bytes(name.author.bytes());
            }
        }
        writer.varint(self.head.held.len() as u64);
        self.head.held.iter().for_each(|lease| writer.bytes(lease.bytes()));
        writer.varint(self.head.versions.len() as u64);
        self.head.versions.iter().for_each(|uid| writer.bytes(uid.bytes()));
        writer.varint(self.condemned.pack_count() as u64);
        for (pack, slots) in self.condemned.iter() {
            writer.bytes(pack.bytes());
            encode_slots(&mut writer, slots);
        }
        writer.into_bytes()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// `Damaged` if it is not what [`GcRecord::encode`] writes.
    pub fn decode(body: &[u8]) -> Result<GcRecord> {
        let mut reader = Reader::new(body, "the GC record");
        let head = GcHead {
            read: decode_list(&mut reader, 20, decode_name)?,
            replaced: decode_list(&mut reader, 20, decode_name)?,
            held: decode_list(&mut reader, 16, |reader| reader.array().map(LeaseId::from_bytes))?,
            versions: decode_list(&mut reader, 16, |reader| reader.array().map(VersionUid::from_bytes))?,
        };
        let count = reader.count(reader.remaining() / 17)?;
        let mut condemned = SlotSets::default();
        let mut previous = None;
        for _ in 0..count {
            let pack = PackId::from_bytes(reader.array()?);
            if previous.is_some_and(|previous| previous >= pack) {
                return Err(reader.error("does not name its packs in order"));
            }
            previous = Some(pack);
            condemned.add(pack, &decode_slots(&mut reader)?);
        }
        reader.finish()?;
        Ok(GcRecord { head, condemned })
    }

    /// Cuts a record into as many as its slots need; all of them know the same, the first one has the versions.
    pub fn split(self) -> Vec<GcRecord> {
        let mut records = Vec::new();
        let mut head = self.head;
        let mut condemned = SlotSets::default();
        let mut body_bytes = 0;
        for (pack, slots) in self.condemned.iter() {
            if body_bytes > GC_BODY_BYTES_SOFT {
                records.push(GcRecord { head: head.clone(), condemned: std::mem::take(&mut condemned) });
                head.versions.clear();
                body_bytes = 0;
            }
            body_bytes += 17 + 4 * slots.runs().len();
            condemned.add(pack, slots);
        }
        records.push(GcRecord { head, condemned });
        records
    }
}

fn encode_slots(writer: &mut Writer, slots: &SlotSet) {
    if slots.is_whole() {
        return writer.varint(0);
    }
    let runs = slots.runs();
    writer.varint(runs.len() as u64);
    let mut end = 0;
    for (first, last) in runs {
        writer.varint(u64::from(first.0 - end));
        writer.varint(u64::from(last.0 - first.0) + 1);
        end = last.0 + 1;
    }
}

fn decode_slots(reader: &mut Reader<'_>) -> Result<SlotSet> {
    let run_count = reader.count(SLOTS_MAX / 2)?;
    if run_count == 0 {
        return Ok(SlotSet::whole());
    }
    let mut slots: Option<SlotSet> = None;
    let mut end = 0u16;
    for index in 0..run_count {
        let gap = reader.count(SLOTS_MAX)?;
        let length = reader.count(SLOTS_MAX)?;
        let first = usize::from(end) + gap;
        let last = (first + length).checked_sub(1).filter(|&last| length > 0 && last < SLOTS_MAX);
        let (Some(last), true) = (last, index == 0 || gap > 0) else {
            return Err(reader.error("names slots that no pack has, or runs that touch"));
        };
        // Both are below 8,192.
        let number = |slot: usize| SlotNumber(u16::try_from(slot).unwrap_or(u16::MAX));
        let run = SlotSet::run(number(first), number(last));
        match &mut slots {
            Some(slots) => slots.add(&run),
            None => slots = Some(run),
        }
        end = number(last).0 + 1;
    }
    match slots {
        Some(slots) if !slots.is_whole() => Ok(slots),
        _ => Err(reader.error("names a whole pack by a run")),
    }
}

fn decode_name(reader: &mut Reader<'_>) -> Result<GcName> {
    Ok(GcName { number: reader.u32()?, author: LeaseId::from_bytes(reader.array()?) })
}

fn decode_list<T: Ord>(
    reader: &mut Reader<'_>,
    item_bytes: usize,
    mut decode: impl FnMut(&mut Reader<'_>) -> Result<T>,
) -> Result<BTreeSet<T>> {
    let count = reader.count(reader.remaining() / item_bytes)?;
    let mut items = BTreeSet::new();
    for _ in 0..count {
        let item = decode(reader)?;
        if items.last().is_some_and(|last| *last >= item) {
            return Err(reader.error("has a list that does not ascend"));
        }
        items.insert(item);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;
    use crate::fixed::{assert_golden, read_golden};

    fn name(number: u32) -> GcName {
        GcName { number, author: LeaseId::from_bytes([0x44; 16]) }
    }

    fn record() -> GcRecord {
        let mut slots = SlotSet::run(SlotNumber(3), SlotNumber(5));
        slots.add(&SlotSet::run(SlotNumber(100), SlotNumber(8191)));
        GcRecord {
            head: GcHead {
                read: [name(1), name(2)].into(),
                replaced: [name(0)].into(),
                held: [LeaseId::from_bytes([0x55; 16])].into(),
                versions: [VersionUid::from_bytes([0x11; 16])].into(),
            },
            condemned: [
                (PackId::from_bytes([1; 16]), SlotSet::whole()),
                (PackId::from_bytes([2; 16]), slots),
                (PackId::from_bytes([3; 16]), SlotSet::run(SlotNumber(0), SlotNumber(0))),
            ]
            .into_iter()
            .collect(),
        }
    }

    #[test]
    fn records_are_stored_as_they_always_were() {
        assert_golden("gc", &record().encode());
        assert_eq!(GcRecord::decode(&read_golden("gc")).unwrap(), record());
        assert_eq!(GcRecord::decode(&GcRecord::default().encode()).unwrap(), GcRecord::default());
    }

    #[test]
    fn a_cut_record_is_damage() {
        let golden = read_golden("gc");
        for length in 0..golden.len() {
            assert_eq!(GcRecord::decode(&golden[..length]).unwrap_err().kind(), ErrorKind::Damaged, "{length}");
        }
        // Counts that the body cannot hold take no memory.
        assert!(GcRecord::decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err());
    }

    #[test]
    fn splitting_loses_nothing_and_says_the_versions_once() {
        let pack = |number: u32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            PackId::from_bytes(bytes)
        };
        let condemned: SlotSets = (0..2_100_000).map(|number| (pack(number), SlotSet::whole())).collect();
        let whole = GcRecord { condemned: condemned.clone(), ..record() };
        let parts = whole.clone().split();
        assert_eq!(parts.len(), 2);
        let mut together = SlotSets::default();
        for part in &parts {
            assert!(part.encode().len() < GC_BODY_BYTES_SOFT + (1 << 20));
            assert_eq!((&part.head.read, &part.head.held), (&whole.head.read, &whole.head.held));
            together.add_all(&part.condemned);
        }
        assert!(together == condemned);
        assert_eq!(parts[0].head.versions, whole.head.versions);
        assert!(parts[1].head.versions.is_empty());
        assert_eq!(record().split(), vec![record()]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error_or_one_record(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = GcRecord::decode(&body) {
                prop_assert_eq!(record.encode(), body);
            }
        }

        #[test]
        fn damaged_records_are_an_error_or_another_record(flip in any::<prop::sample::Index>(), bits in 1u8..=255) {
            let mut body = record().encode();
            let flip = flip.index(body.len());
            body[flip] ^= bits;
            if let Ok(other) = GcRecord::decode(&body) {
                prop_assert_eq!(other.encode(), body);
            }
        }
    }
}
