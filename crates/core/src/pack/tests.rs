//! Tests of packs: round trips, every damage found, later generations, and that stored bytes stay as they are.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;

use super::*;
use crate::codec::compression::Compressor;
use crate::environment::Environment;
use crate::error::ErrorKind;
use crate::fixed::{assert_golden, fixed_environment, read_golden};
use crate::ids::{EncryptionVersion, Generation, LeaseId};
use crate::keys::{DataKey, KeySet, MasterKey, Suite};
use crate::names::PackName;
use crate::pack::locators::Locators;

const NAME: PackName =
    PackName { id: PackId::from_bytes([1; 16]), generation: Generation(0), lease: LeaseId::from_bytes([2; 16]) };

/// A plain slot, as a test wants it stored.
#[derive(Clone, Debug)]
struct Plain {
    kind: SlotKind,
    bytes: Vec<u8>,
}

fn keys_of(versions: &[u32]) -> KeySet {
    let key = |version| match version {
        0 => (EncryptionVersion(0), DataKey::from_parts(Suite::None, &[0x20; 32])),
        n => (EncryptionVersion(n), DataKey::from_parts(Suite::Aes256Gcm, &[0x20 + n as u8; 32])),
    };
    let data: BTreeMap<_, _> = versions.iter().copied().map(key).collect();
    KeySet::new(RepositoryId::from_bytes([9; 16]), MasterKey::from_bytes(&[0x11; 32]), data).unwrap()
}

fn later(generation: u32) -> PackName {
    PackName { generation: Generation(generation), lease: LeaseId::from_bytes([3; 16]), ..NAME }
}

fn append(writer: &mut PackWriter, keys: &KeySet, plain: &Plain, environment: &Environment) -> SlotNumber {
    let mut body = Vec::new();
    let codec = Compressor::new(1).unwrap().compress(&plain.bytes, &mut body).unwrap();
    let is_data = plain.kind == SlotKind::Data;
    let fingerprint = is_data.then(|| keys.fingerprint_key().fingerprint(&plain.bytes));
    let plain_length = plain.bytes.len() as u32;
    let slot = NewSlot { kind: plain.kind, plain_length, codec, body: &body, fingerprint };
    writer.append(slot, environment).unwrap()
}

fn write(keys: &KeySet, name: PackName, slots: &[Plain]) -> FinishedPack {
    let environment = fixed_environment(77);
    let mut writer = PackWriter::new(keys, name, vec![0xee; 100]).unwrap();
    for (index, plain) in slots.iter().enumerate() {
        assert_eq!(usize::from(append(&mut writer, keys, plain, &environment).0), index);
    }
    let size_bytes_max = writer.size_bytes();
    let pack = writer.finish(&environment).unwrap();
    assert!(pack.bytes.len() <= size_bytes_max, "{} > {size_bytes_max}", pack.bytes.len());
    pack
}

fn directory(keys: &KeySet, name: PackName, bytes: &[u8]) -> crate::Result<Directory> {
    let suffix = &bytes[bytes.len().saturating_sub(SUFFIX_BYTES as usize)..];
    match read_directory(keys, name, Some(bytes.len() as u64), suffix)? {
        SuffixRead::Directory(directory) => Ok(directory),
        SuffixRead::NeedMore { suffix_bytes } => panic!("{suffix_bytes} bytes"),
    }
}

fn stored<'a>(directory: &Directory, bytes: &'a [u8], slot: SlotNumber) -> &'a [u8] {
    let locator = directory.locator(slot).unwrap();
    &bytes[locator.offset_bytes as usize..][..locator.stored_length as usize]
}

fn open(keys: &KeySet, directory: &Directory, bytes: &[u8], slot: SlotNumber) -> crate::Result<Vec<u8>> {
    let mut output = vec![7; 3];
    let mut sealed = stored(directory, bytes, slot).to_vec();
    let result = SlotOpener::new()?.open(keys, directory, slot, &mut sealed, &mut output);
    assert!(result.is_ok() || output.is_empty());
    result.map(|()| output)
}

fn samples() -> Vec<Plain> {
    let mut noise = vec![0; 700];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    [(SlotKind::Data, b"text ".repeat(100)), (SlotKind::MapPage, vec![3; 300]), (SlotKind::Data, noise.clone())]
        .into_iter()
        .chain([(SlotKind::MapNode, noise), (SlotKind::Data, vec![1])])
        .map(|(kind, bytes)| Plain { kind, bytes })
        .collect()
}

fn slot_strategy() -> impl Strategy<Value = Plain> {
    let kind = prop_oneof![4 => Just(SlotKind::Data), 1 => Just(SlotKind::MapPage), 1 => Just(SlotKind::MapNode)];
    let bytes = prop_oneof![vec(any::<u8>(), 1..600), (any::<u8>(), 1usize..20_000).prop_map(|(b, n)| vec![b; n])];
    (kind, bytes).prop_map(|(kind, bytes)| Plain { kind, bytes })
}

fn fingerprints(
    keys: &KeySet,
    directory: &Directory,
    bytes: &[u8],
) -> crate::Result<Vec<(SlotNumber, crate::codec::fingerprint::Fingerprint)>> {
    let range = directory.fingerprints_range();
    read_fingerprints(keys, directory, &bytes[range.offset_bytes as usize..range.end_bytes() as usize])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn slots_survive(slots in vec(slot_strategy(), 1..40), version in 0u32..3) {
        let keys = keys_of(&[version]);
        let pack = write(&keys, NAME, &slots);
        assert_eq!(verify_pack_bytes(&pack.bytes).unwrap().name, NAME);
        let directory = directory(&keys, NAME, &pack.bytes).unwrap();
        assert_eq!((directory.name(), directory.slot_count()), (NAME, slots.len()));
        assert_eq!(directory.encryption_version(), EncryptionVersion(version));
        assert_eq!(directory.slots().count(), slots.len());
        assert_eq!(directory.object_bytes(), pack.bytes.len() as u64);
        for (number, plain) in (0u16..).map(SlotNumber).zip(&slots) {
            assert_eq!(directory.locator(number).unwrap().kind, plain.kind);
            assert_eq!(&open(&keys, &directory, &pack.bytes, number).unwrap(), &plain.bytes);
        }
        assert_eq!(directory.locator(SlotNumber(slots.len() as u16)), None);
        assert_eq!(fingerprints(&keys, &directory, &pack.bytes).unwrap(), pack.fingerprints);
        let data_slots = slots.iter().filter(|slot| slot.kind == SlotKind::Data).count();
        assert_eq!(pack.fingerprints.len(), data_slots);
    }

    #[test]
    fn a_changed_byte_is_found(
        version in 0u32..2,
        at in any::<Index>(),
        bit in 0u32..8,
        slots in vec(slot_strategy(), 1..6),
    ) {
        let keys = keys_of(&[version]);
        let pack = write(&keys, NAME, &slots);
        let good = directory(&keys, NAME, &pack.bytes).unwrap();
        let mut changed = pack.bytes.clone();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        assert!(verify_pack_bytes(&changed).is_err());
        // With keys: the slot, the fingerprints or the directory that hold the byte do not open.
        let hit = good.slots().find(|(_, slot)| {
            (slot.offset_bytes..slot.offset_bytes + slot.stored_length).contains(&(at as u32))
        });
        let range = good.fingerprints_range();
        if let Some((number, _)) = hit {
            assert_eq!(open(&keys, &good, &changed, number).unwrap_err().kind(), ErrorKind::Damaged);
        } else if (range.offset_bytes..range.end_bytes()).contains(&(at as u64)) {
            assert_eq!(fingerprints(&keys, &good, &changed).unwrap_err().kind(), ErrorKind::Damaged);
        } else if at as u64 >= range.end_bytes() && !is_hash(at, changed.len()) && !is_version(at, changed.len()) {
            assert!(directory(&keys, NAME, &changed).is_err());
        }
    }

    #[test]
    fn a_cut_pack_is_found(cut in any::<Index>(), from_front in any::<bool>()) {
        let keys = keys_of(&[1]);
        let pack = write(&keys, NAME, &samples());
        let cut = cut.index(pack.bytes.len());
        let rest = if from_front { &pack.bytes[cut + 1..] } else { &pack.bytes[..cut] };
        assert!(verify_pack_bytes(rest).is_err());
        assert!(read_directory(&keys, NAME, Some(rest.len() as u64), rest).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_an_error(bytes in vec(any::<u8>(), 0..400), keep in 0usize..200) {
        let keys = keys_of(&[1]);
        let pack = write(&keys, NAME, &samples());
        let tail = &pack.bytes[pack.bytes.len() - keep..];
        for object in [bytes.clone(), [&pack.bytes[..keep], &bytes].concat(), [&bytes, tail].concat()] {
            assert!(verify_pack_bytes(&object).is_err());
            let read = read_directory(&keys, NAME, Some(object.len() as u64), &object);
            assert!(!matches!(read, Ok(SuffixRead::Directory(_))));
            let _ = Locators::decode(&object, keep);
        }
    }

    #[test]
    fn locators_of_arbitrary_columns_stay_in_bounds(columns in vec(any::<u8>(), 9 * 5), count in 1usize..6) {
        let mut packed = vec![0];
        packed.extend_from_slice(&(7 + 9 * count as u32).to_le_bytes());
        packed.extend_from_slice(&[0; 7]);
        packed.extend_from_slice(&columns[..9 * count]);
        if let Ok(locators) = Locators::decode(&packed, count) {
            let slots: Vec<_> = (0..count).filter_map(|index| locators.get(index)).collect();
            let mut end = 64;
            for slot in slots {
                assert!(slot.offset_bytes == end && slot.plain_length <= PLAIN_BYTES_MAX);
                end += slot.stored_length;
            }
            assert_eq!(end, locators.end_bytes());
        }
    }
}

/// The format version in the trailer, which no tag covers.
fn is_version(at: usize, length: usize) -> bool {
    (length - 44..length - 42).contains(&at)
}

fn is_hash(at: usize, object_bytes: usize) -> bool {
    // Whoever has the keys needs no plain hash: readers of single slots do not even fetch what it covers.
    (object_bytes - 40..object_bytes - 8).contains(&at)
}

#[test]
fn swapped_slots_and_packs_are_found() {
    for version in [0, 1] {
        let keys = keys_of(&[version]);
        let same = Plain { kind: SlotKind::Data, bytes: vec![5; 500] };
        let slots = [same.clone(), same.clone(), Plain { kind: SlotKind::MapPage, ..same }];
        let pack = write(&keys, NAME, &slots);
        let other_name = PackName { id: PackId::from_bytes([4; 16]), ..NAME };
        let other = write(&keys, other_name, &slots);
        let (mine, theirs) =
            (directory(&keys, NAME, &pack.bytes).unwrap(), directory(&keys, other_name, &other.bytes).unwrap());
        let mut opener = SlotOpener::new().unwrap();
        let mut open = |directory: &Directory, slot: u16, bytes: &[u8]| {
            opener
                .open(&keys, directory, SlotNumber(slot), &mut bytes.to_vec(), &mut Vec::new())
                .map_err(|error| error.kind())
        };
        let bytes_of = |slot| stored(&mine, &pack.bytes, SlotNumber(slot));
        assert_eq!(open(&mine, 0, bytes_of(0)), Ok(()));
        assert_eq!(open(&mine, 0, bytes_of(1)), Err(ErrorKind::Damaged));
        assert_eq!(open(&mine, 0, bytes_of(2)), Err(ErrorKind::Damaged));
        assert_eq!(open(&theirs, 0, bytes_of(0)), Err(ErrorKind::Damaged));
        assert_eq!(open(&theirs, 2, bytes_of(2)), Err(ErrorKind::Damaged));
        // A whole object under another name: another pack, another generation, another job.
        for name in [other_name, later(1), PackName { lease: LeaseId::from_bytes([3; 16]), ..NAME }] {
            assert_eq!(directory(&keys, name, &pack.bytes).unwrap_err().kind(), ErrorKind::Damaged);
        }
        // Another repository.
        let foreign = KeySet::new(
            RepositoryId::from_bytes([8; 16]),
            MasterKey::from_bytes(&[0x11; 32]),
            BTreeMap::from([(EncryptionVersion(0), DataKey::from_parts(Suite::None, &[0x20; 32]))]),
        );
        assert!(directory(&foreign.unwrap(), NAME, &pack.bytes).is_err());
    }
}

#[test]
fn a_slot_fills_exactly_its_place_or_is_damaged() {
    let keys = keys_of(&[1]);
    let pack = write(&keys, later(0), &samples());
    let directory = directory(&keys, later(0), &pack.bytes).unwrap();
    let slot = SlotNumber(0);
    let plain = open(&keys, &directory, &pack.bytes, slot).unwrap();
    for length in [plain.len(), plain.len() - 1, plain.len() + 1, 0] {
        let mut sealed = stored(&directory, &pack.bytes, slot).to_vec();
        let mut output = vec![0xee; length];
        let opened = SlotOpener::new().unwrap().open_into(&keys, &directory, slot, &mut sealed, &mut output);
        match opened {
            Ok(()) => assert_eq!(output, plain),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged);
                assert_ne!(length, plain.len());
            }
        }
    }
}

#[test]
fn later_generation_copies_heals_and_drops_slots_under_their_numbers() {
    let environment = fixed_environment(5);
    let keys = keys_of(&[1]);
    let slots = samples();
    let pack = write(&keys, NAME, &slots);
    let before = directory(&keys, NAME, &pack.bytes).unwrap();
    // The data key is not needed to copy, only to heal.
    let without = keys_of(&[2]);
    let before_without = directory(&without, NAME, &pack.bytes).unwrap();
    let mut copier = PackWriter::rewrite(&without, &before_without, later(1), Vec::new()).unwrap();
    let mut healer = PackWriter::rewrite(&keys, &before, later(1), Vec::new()).unwrap();
    for (number, plain) in (0u16..).zip(&slots) {
        let sealed = stored(&before, &pack.bytes, SlotNumber(number));
        let fingerprint =
            pack.fingerprints.iter().find(|(slot, _)| slot.0 == number).map(|&(_, fingerprint)| fingerprint);
        match number {
            1 => assert_eq!(healer.append_gone().unwrap().0, 1),
            2 => assert_eq!(append(&mut healer, &keys, plain, &environment).0, 2),
            _ => assert_eq!(healer.append_sealed(&before, sealed, fingerprint).unwrap().0, number),
        }
        copier.append_sealed(&before_without, sealed, fingerprint).unwrap();
    }
    let healed = healer.finish(&environment).unwrap();
    let after = directory(&keys, later(1), &healed.bytes).unwrap();
    assert_eq!((after.slot_count(), after.locator(SlotNumber(1))), (slots.len(), None));
    for (number, plain) in (0u16..).map(SlotNumber).zip(&slots).filter(|(number, _)| number.0 != 1) {
        assert_eq!(open(&keys, &after, &healed.bytes, number).unwrap(), plain.bytes);
    }
    let gone = SlotOpener::new().unwrap().open(&keys, &after, SlotNumber(1), &mut [], &mut Vec::new());
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fingerprints(&keys, &after, &healed.bytes).unwrap(), pack.fingerprints);

    let copied = copier.finish(&environment).unwrap();
    assert_eq!(copied.encryption_version, EncryptionVersion(1));
    let copy = directory(&keys, later(1), &copied.bytes).unwrap();
    assert_eq!(open(&keys, &copy, &copied.bytes, SlotNumber(0)).unwrap(), slots[0].bytes);
    let copy_without = directory(&without, later(1), &copied.bytes).unwrap();
    assert_eq!(open(&without, &copy_without, &copied.bytes, SlotNumber(1)).unwrap(), slots[1].bytes);
    assert_eq!(open(&without, &copy_without, &copied.bytes, SlotNumber(0)).unwrap_err().kind(), ErrorKind::WrongKey);
}

#[test]
fn sealed_slots_are_not_copied_to_where_they_would_not_open() {
    let (keys, newer) = (keys_of(&[1]), keys_of(&[1, 2]));
    let slots = samples();
    let pack = write(&keys, NAME, &slots);
    let before = directory(&keys, NAME, &pack.bytes).unwrap();
    let sealed = stored(&before, &pack.bytes, SlotNumber(0));
    let fingerprint = Some(pack.fingerprints[0].1);
    let refused = |writer: &mut PackWriter, sealed: &[u8], fingerprint| {
        assert_eq!(writer.append_sealed(&before, sealed, fingerprint).unwrap_err().kind(), ErrorKind::InvalidInput);
    };
    let other_pack = PackName { id: PackId::from_bytes([4; 16]), ..NAME };
    refused(&mut PackWriter::new(&newer, later(1), Vec::new()).unwrap(), sealed, fingerprint);
    refused(&mut PackWriter::new(&keys, other_pack, Vec::new()).unwrap(), sealed, fingerprint);
    let mut writer = PackWriter::rewrite(&keys, &before, later(1), Vec::new()).unwrap();
    refused(&mut writer, &sealed[1..], fingerprint);
    refused(&mut writer, sealed, None);
    writer.append_sealed(&before, sealed, fingerprint).unwrap();
    for name in [NAME, other_pack] {
        assert_eq!(PackWriter::rewrite(&keys, &before, name, Vec::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn slots_that_contradict_themselves_are_refused() {
    let environment = fixed_environment(6);
    let keys = keys_of(&[1]);
    let mut writer = PackWriter::new(&keys, NAME, Vec::new()).unwrap();
    let fingerprint = Some(keys.fingerprint_key().fingerprint(b""));
    let (data, page) = (SlotKind::Data, SlotKind::MapPage);
    let large = vec![0; PLAIN_BYTES_MAX as usize + 1];
    for (kind, plain_length, codec, body, fingerprint) in [
        (data, 4, Codec::Raw, &b"five!"[..], fingerprint),
        (data, 5, Codec::Zstd, b"five!", fingerprint),
        (data, 5, Codec::Zstd, b"", fingerprint),
        (data, 0, Codec::Raw, b"", fingerprint),
        (data, 5, Codec::Raw, b"five!", None),
        (page, 5, Codec::Raw, b"five!", fingerprint),
        (data, PLAIN_BYTES_MAX + 1, Codec::Raw, &large, fingerprint),
    ] {
        let slot = NewSlot { kind, plain_length, codec, body, fingerprint };
        assert_eq!(writer.append(slot, &environment).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(writer.slot_count(), 0);
    assert_eq!(writer.finish(&environment).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn full_packs_take_no_more() {
    let environment = fixed_environment(7);
    let keys = keys_of(&[1]);
    let fingerprint = Some(keys.fingerprint_key().fingerprint(b"x"));
    let slot = |body| NewSlot { kind: SlotKind::Data, plain_length: 9000, codec: Codec::Zstd, body, fingerprint };
    let mut writer = PackWriter::new(&keys, NAME, Vec::new()).unwrap();
    let noise: Vec<u8> = (0..2000u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
    for index in 0..SLOTS_MAX {
        assert!(writer.would_fit(3000, PACK_BYTES_MAX));
        writer.append(slot(&noise[..2000 + index % 2000]), &environment).unwrap();
    }
    assert!(!writer.would_fit(1, PACK_BYTES_MAX) && writer.size_bytes() <= PACK_BYTES_MAX);
    assert_eq!(writer.append(slot(b"x"), &environment).unwrap_err().kind(), ErrorKind::InvalidInput);
    let pack = writer.finish(&environment).unwrap();
    let directory = directory(&keys, NAME, &pack.bytes).unwrap();
    assert_eq!(directory.slot_count(), SLOTS_MAX);

    let mut writer = PackWriter::new(&keys, NAME, pack.bytes).unwrap();
    let large = vec![0; PLAIN_BYTES_MAX as usize];
    let slot = NewSlot { plain_length: PLAIN_BYTES_MAX, codec: Codec::Raw, ..slot(&large) };
    let count = (0..).take_while(|_| writer.append(slot, &environment).is_ok()).count();
    assert_eq!(count, 7);
    assert!(writer.finish(&environment).unwrap().bytes.len() <= PACK_BYTES_MAX);
}

#[test]
fn long_directory_asks_for_more_once() {
    let keys = keys_of(&[1]);
    let pack = write(&keys, NAME, &samples());
    let size = pack.bytes.len();
    let SuffixRead::NeedMore { suffix_bytes } = read_directory(&keys, NAME, None, &pack.bytes[size - 64..]).unwrap()
    else {
        panic!("64 bytes hold no directory");
    };
    assert!((suffix_bytes as usize) < size);
    let suffix = &pack.bytes[size - suffix_bytes as usize..];
    assert!(matches!(read_directory(&keys, NAME, None, suffix).unwrap(), SuffixRead::Directory(_)));
    assert_eq!(read_directory(&keys, NAME, Some(size as u64 + 1), suffix).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn stored_bytes_stay_as_they_are() {
    for (version, golden) in [(0, "pack_plain"), (1, "pack_aes256gcm")] {
        let keys = keys_of(&[version]);
        let slots = samples();
        // The compressed bytes depend on the release of zstd: if only that changed, the old file must still be read.
        assert_golden(golden, &write(&keys, NAME, &slots).bytes);
        let bytes = read_golden(golden);
        verify_pack_bytes(&bytes).unwrap();
        let directory = directory(&keys, NAME, &bytes).unwrap();
        for (number, plain) in (0u16..).map(SlotNumber).zip(&slots) {
            assert_eq!(open(&keys, &directory, &bytes, number).unwrap(), plain.bytes);
        }
    }
}

#[test]
fn newer_formats_and_sealed_keys_ask_for_an_update() {
    let keys = keys_of(&[1]);
    let pack = write(&keys, NAME, &samples());
    let size = pack.bytes.len();
    let mut columns = vec![0; 5];
    columns[1..].copy_from_slice(&(7 + 9 + 3u32).to_le_bytes());
    columns.extend_from_slice(&[1, 3, 0]);
    columns.resize(5 + 7 + 9 + 3, 0);
    assert_eq!(Locators::decode(&columns, 1).unwrap_err().kind(), ErrorKind::Unsupported);
    for changes in [vec![(8, 2), (size - 44, 2)], vec![(10, 1)], vec![(10, 9)]] {
        let mut newer = pack.bytes.clone();
        changes.iter().for_each(|&(at, value)| newer[at] = value);
        let hash = blake3::hash(&newer[..size - 40]);
        newer[size - 40..size - 8].copy_from_slice(hash.as_bytes());
        let error = verify_pack_bytes(&newer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{changes:?}: {error}");
        assert!(error.to_string().contains("update backy2"), "{error}");
    }
}

#[test]
fn a_bit_that_flips_in_a_format_version_is_damage_and_keeps_nobody_from_reading() {
    let keys = keys_of(&[1]);
    let pack = write(&keys, NAME, &samples());
    let size = pack.bytes.len();
    for at in [8, 9, 10, size - 44, size - 43] {
        for bit in 0..8 {
            let mut flipped = pack.bytes.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(verify_pack_bytes(&flipped).unwrap_err().kind(), ErrorKind::Damaged, "{at} {bit}");
            let directory = directory(&keys, NAME, &flipped).unwrap();
            assert_eq!(directory.told_format_version() == 1, at < size - 44, "{at} {bit}");
            for (number, plain) in (0u16..).map(SlotNumber).zip(&samples()) {
                assert_eq!(open(&keys, &directory, &flipped, number).unwrap(), plain.bytes);
            }
        }
    }
    // What was cut has no version at all.
    for length in [size - 1, size - 20, size - 64, size / 2] {
        let cut = &pack.bytes[..length];
        assert_eq!(read_directory(&keys, NAME, None, cut).unwrap_err().kind(), ErrorKind::Damaged, "{length}");
        assert_eq!(verify_pack_bytes(cut).unwrap_err().kind(), ErrorKind::Damaged, "{length}");
    }
    // What does not open as ours is of a newer backy2.
    let mut newer = pack.bytes;
    newer[size - 44] = 2;
    newer[size - 70] ^= 1;
    assert_eq!(directory(&keys, NAME, &newer).unwrap_err().kind(), ErrorKind::Unsupported);
}
