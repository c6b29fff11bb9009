//! Records as they are stored: golden bytes, fields that come and go, values that nobody should believe.

use std::fmt::Debug;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::damage::{DamageRecord, DamagedVersion};
use super::index::{self, IndexedPack};
use super::label::{Expiry, LabelChange};
use super::manifest::{Checkpoint, Manifest, NAME_BYTES_MAX, Origin, Statistics, VOLUME_BYTES_MAX};
use super::mark::Tombstone;
use super::repository::RepositoryRecord;
use super::{from_body, to_body};
use crate::environment::Timestamp;
use crate::error::{ErrorKind, Result};
use crate::fixed::{assert_golden, read_golden};
use crate::ids::{EncryptionVersion, Generation, LeaseId, PackId, RepositoryId, SlotAddress, SlotNumber, VersionUid};
use crate::map::MapRoot;
use crate::names::PackName;
use crate::policy::audit::AuditWindow;
use crate::units::{BlockCount, BlockIndex, BlockRange, BlockSize};

const UID: VersionUid = VersionUid::from_bytes([0x11; 16]);

fn tags(names: &[&str]) -> std::collections::BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn label() -> LabelChange {
    LabelChange {
        add_tags: tags(&["daily", "ö"]),
        remove_tags: tags(&["weekly"]),
        protected: Some(true),
        expire: Some(Expiry::At(Timestamp { milliseconds: 1_800_000_000_000 })),
        note: Some("before the \"move\"".to_owned()),
    }
}

fn manifest() -> Manifest {
    let root = SlotAddress { pack: PackId::from_bytes([0x22; 16]), slot: SlotNumber(8191) };
    Manifest {
        uid: UID,
        name: "mail".to_owned(),
        snapshot_name: "mail@2027".to_owned(),
        created: Timestamp { milliseconds: 1_795_000_000_000 },
        size_bytes: 100_000,
        block_size: BlockSize::DEFAULT,
        base: Some(VersionUid::from_bytes([0x33; 16])),
        base_bytes: Some(90_000),
        lease: LeaseId::from_bytes([0x44; 16]),
        encryption_version: EncryptionVersion(1),
        map: MapRoot { blocks: BlockCount(7), root: Some(root) },
        missing_blocks: BlockCount(1),
        origin: Origin {
            source_url: "file:///dev/vg0/mail".to_owned(),
            host: "alpha".to_owned(),
            program: "backy2 3.0.0".to_owned(),
            is_hinted: true,
            hints_were_wrong: false,
        },
        statistics: Statistics {
            read_bytes: 70_000,
            hole_bytes: 20_000,
            unread_bytes: 10_000,
            zero_bytes: 4096,
            deduplicated_bytes: 16_384,
            new_bytes: 33_136,
            missing_bytes: 16_384,
            audited_bytes: 8192,
            stored_bytes: 12_345,
            packs: 2,
            duration_milliseconds: 678,
        },
        audit: AuditWindow { next_offset_bytes: 65_536 },
        label: LabelChange { expire: Some(Expiry::Never), ..label() },
        continues: Vec::new(),
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint { number: 3, position: BlockIndex(5), version: manifest() }
}

fn tombstone() -> Tombstone {
    Tombstone {
        uid: UID,
        removed: Timestamp { milliseconds: 1_796_000_000_000 },
        lease: LeaseId::from_bytes([0x44; 16]),
    }
}

fn damage() -> DamageRecord {
    DamageRecord {
        pack: PackId::from_bytes([0x22; 16]),
        slots: vec![SlotNumber(0), SlotNumber(7), SlotNumber(8191)],
        problem: "the seal does not open".to_owned(),
        found: Timestamp { milliseconds: 1_797_000_000_000 },
        versions: vec![DamagedVersion {
            uid: UID,
            blocks: vec![(BlockIndex(0), BlockCount(2)), (BlockIndex(2), BlockCount(1))],
        }],
    }
}

fn index() -> Vec<IndexedPack> {
    let pack = |seed: u8, slot_count, samples: &[u16]| IndexedPack {
        name: PackName {
            id: PackId::from_bytes([seed; 16]),
            generation: Generation(u32::from(seed)),
            lease: LeaseId::from_bytes([0x44; 16]),
        },
        encryption_version: EncryptionVersion(1),
        slot_count,
        size_bytes: 33_554_432,
        samples: samples.iter().map(|&slot| (SlotNumber(slot), [0x55; 16])).collect(),
    };
    vec![pack(1, 8192, &[0, 1, 200, 8191]), pack(2, 1, &[])]
}

/// Reads a body as each of the JSON records, and uses whatever comes of it as later code would.
fn read_as_all(body: &[u8]) {
    let _ = RepositoryRecord::from_bytes(body);
    let versions = [from_body::<Manifest>(body), from_body::<Checkpoint>(body).map(|checkpoint| checkpoint.version)];
    for manifest in versions.into_iter().flatten().filter(|manifest| manifest.check().is_ok()) {
        let whole = BlockRange { start: BlockIndex(0), count: manifest.map.blocks };
        let bytes = manifest.block_size.byte_range(whole, manifest.size_bytes);
        assert_eq!((bytes.offset_bytes, bytes.length_bytes), (0, manifest.size_bytes));
        let statistics = manifest.statistics;
        assert!(statistics.read_bytes.checked_add(statistics.hole_bytes).is_some());
    }
    let _ = from_body::<Checkpoint>(body).and_then(|checkpoint| checkpoint.check());
    let _ = from_body::<LabelChange>(body).and_then(|change| change.check_stored());
    let _ = from_body::<Tombstone>(body).and_then(|tombstone| tombstone.check(UID));
    if let Ok(record) = from_body::<DamageRecord>(body)
        && record.check().is_ok()
    {
        for range in record.versions.iter().flat_map(DamagedVersion::ranges) {
            assert_eq!(range.end().0 - range.start.0, range.count.0);
        }
    }
}

fn assert_golden_record<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, record: &T) {
    assert_golden(name, &to_body(record).unwrap());
    assert_eq!(&from_body::<T>(&read_golden(name)).unwrap(), record, "{name}");
}

#[test]
fn records_are_what_they_always_were() {
    let repository = RepositoryRecord::new(RepositoryId::from_bytes([0x66; 16]));
    assert_golden("repository.json", &repository.to_bytes().unwrap());
    assert_eq!(RepositoryRecord::from_bytes(&read_golden("repository.json")).unwrap(), repository);
    assert_golden_record("manifest.json", &manifest());
    manifest().check().unwrap();
    assert_golden_record("checkpoint.json", &checkpoint());
    checkpoint().check().unwrap();
    assert_golden_record("label.json", &label());
    label().check().unwrap();
    assert_golden_record("tombstone.json", &tombstone());
    tombstone().check(UID).unwrap();
    assert_golden_record("damage.json", &damage());
    damage().check().unwrap();
    assert_golden("index", &index::encode(&index()));
    assert_eq!(index::decode(&read_golden("index")).unwrap(), index());
}

/// Puts a field that nobody knows into each object of `value`; what chooses among variants is no object.
fn add_unknown_fields(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(add_unknown_fields),
        Value::Object(fields) if !fields.contains_key("at") => {
            fields.values_mut().for_each(add_unknown_fields);
            fields.insert("of_a_later_release".to_owned(), json!([{ "deep": null }, 1.5]));
        }
        _ => {}
    }
}

#[test]
fn unknown_fields_are_passed_over() {
    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: &T) {
        let mut value = serde_json::to_value(record).unwrap();
        add_unknown_fields(&mut value);
        assert!(value.get("of_a_later_release").is_some());
        assert_eq!(&from_body::<T>(&to_body(&value).unwrap()).unwrap(), record);
    }
    check(&RepositoryRecord::new(RepositoryId::from_bytes([0x66; 16])));
    check(&manifest());
    check(&checkpoint());
    check(&label());
    check(&tombstone());
    check(&damage());
}

#[test]
fn only_what_a_restore_can_do_without_has_a_default() {
    let without = |path: &[&str]| {
        let mut value = serde_json::to_value(manifest()).unwrap();
        let (last, parents) = path.split_last().unwrap();
        let parent = parents.iter().fold(&mut value, |value, key| &mut value[*key]);
        assert!(parent.as_object_mut().unwrap().remove(*last).is_some(), "{path:?}");
        from_body::<Manifest>(&to_body(&value).unwrap())
    };
    // Above all: a map without a root would be a volume of zeros, and so would what an absent base is to fill.
    for needed in ["uid", "name", "snapshot_name", "created", "size_bytes", "block_size", "base", "lease", "map"] {
        assert_eq!(without(&[needed]).unwrap_err().kind(), ErrorKind::Damaged, "{needed}");
    }
    for needed in [&["map", "root"][..], &["map", "blocks"], &["missing_blocks"], &["label"], &["encryption_version"]] {
        assert_eq!(without(needed).unwrap_err().kind(), ErrorKind::Damaged, "{needed:?}");
    }
    for spare in [&["origin"][..], &["origin", "host"], &["statistics"], &["statistics", "packs"], &["audit"]] {
        without(spare).unwrap().check().unwrap();
    }
}

/// Calls `visit` with `value` once for each place in it, with `bad` in that place.
fn replace_each(value: &Value, bad: &Value, visit: &mut dyn FnMut(Value)) {
    visit(bad.clone());
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                replace_each(item, bad, &mut |new| {
                    let mut items = items.clone();
                    items[index] = new;
                    visit(Value::Array(items));
                });
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                replace_each(item, bad, &mut |new| {
                    let mut fields = fields.clone();
                    fields.insert(key.clone(), new);
                    visit(Value::Object(fields));
                });
            }
        }
        _ => {}
    }
}

#[test]
fn values_of_wrong_shapes_do_no_harm() {
    let bad_values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(4_294_967_296_u64),
        json!(""),
        json!("\u{0}\u{1b}[2J\n"),
        json!("x".repeat(100_000)),
        json!([]),
        json!([[u64::MAX, u64::MAX], [u64::MAX, u64::MAX]]),
        json!({}),
        json!({ "at": u64::MAX }),
    ];
    let records = [
        serde_json::to_value(RepositoryRecord::new(RepositoryId::from_bytes([0x66; 16]))).unwrap(),
        serde_json::to_value(manifest()).unwrap(),
        serde_json::to_value(checkpoint()).unwrap(),
        serde_json::to_value(label()).unwrap(),
        serde_json::to_value(tombstone()).unwrap(),
        serde_json::to_value(damage()).unwrap(),
    ];
    let mut count = 0;
    for (record, bad) in records.iter().flat_map(|record| bad_values.iter().map(move |bad| (record, bad))) {
        replace_each(record, bad, &mut |value| {
            read_as_all(&to_body(&value).unwrap());
            count += 1;
        });
    }
    assert!(count > 1000, "{count}");
}

#[test]
fn numbers_beyond_all_types_and_deep_nesting_are_damage() {
    let text = String::from_utf8(to_body(&manifest()).unwrap()).unwrap();
    for number in ["18446744073709551616", "-1", "1e999", "1.0", &"9".repeat(5000)] {
        let body = text.replace("100000", number);
        assert_ne!(body, text);
        assert_eq!(from_body::<Manifest>(body.as_bytes()).unwrap_err().kind(), ErrorKind::Damaged, "{number:.20}");
    }
    // What is passed over is never held, so its depth costs nothing.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let unknown = format!("{},\"later\":{deep}}}", &text[..text.len() - 1]);
    assert_eq!(from_body::<Manifest>(unknown.as_bytes()).unwrap(), manifest());
    let known = text.replace("100000", &deep);
    assert_eq!(from_body::<Manifest>(known.as_bytes()).unwrap_err().kind(), ErrorKind::Damaged);
    read_as_all("{\"magic\":".repeat(100_000).as_bytes());
    read_as_all(&[b'['; 100_000]);
}

#[test]
fn manifests_that_cannot_be_are_damage() {
    let root = |slot| Some(SlotAddress { pack: PackId::from_bytes([1; 16]), slot: SlotNumber(slot) });
    let statistics = Statistics { read_bytes: u64::MAX, hole_bytes: u64::MAX, ..Statistics::default() };
    let huge = MapRoot { blocks: BlockSize::DEFAULT.count(u64::MAX), root: None };
    for bad in [
        Manifest { name: String::new(), ..manifest() },
        Manifest { name: "a\u{1b}[31m".to_owned(), ..manifest() },
        Manifest { snapshot_name: "s".repeat(NAME_BYTES_MAX + 1), ..manifest() },
        Manifest { size_bytes: u64::MAX, map: huge, ..manifest() },
        Manifest { map: MapRoot { blocks: BlockCount(u64::MAX), ..manifest().map }, ..manifest() },
        Manifest { map: MapRoot { blocks: BlockCount(6), ..manifest().map }, ..manifest() },
        Manifest { map: MapRoot { root: root(8192), ..manifest().map }, ..manifest() },
        Manifest { base: None, ..manifest() },
        Manifest { base_bytes: None, ..manifest() },
        Manifest { base_bytes: Some(u64::MAX), ..manifest() },
        Manifest { base: Some(UID), ..manifest() },
        Manifest { statistics, ..manifest() },
        Manifest { label: LabelChange { add_tags: tags(&["a\nb"]), ..LabelChange::default() }, ..manifest() },
    ] {
        assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Damaged, "{bad:?}");
    }
    let largest = MapRoot { blocks: BlockSize::DEFAULT.count(VOLUME_BYTES_MAX), root: None };
    Manifest { size_bytes: VOLUME_BYTES_MAX, map: largest, ..manifest() }.check().unwrap();
    let empty = MapRoot { blocks: BlockCount(0), root: None };
    Manifest { size_bytes: 0, map: empty, ..manifest() }.check().unwrap();
    // A clock that is wrong makes a version look odd, never unreadable.
    Manifest { created: Timestamp { milliseconds: u64::MAX }, ..manifest() }.check().unwrap();
    Checkpoint { position: BlockIndex(7), ..checkpoint() }.check().unwrap();
    assert!(Checkpoint { position: BlockIndex(8), ..checkpoint() }.check().is_err());
}

#[test]
fn label_changes_that_cannot_be_are_refused() {
    let adding = |names: &[&str]| LabelChange { add_tags: tags(names), ..LabelChange::default() };
    for bad in ["", "a,b", "a\u{7}", &"t".repeat(65)] {
        assert!(adding(&[bad]).check_stored().is_err(), "{bad:?}");
        let removing = LabelChange { remove_tags: tags(&[bad]), ..LabelChange::default() };
        assert!(removing.check_stored().is_err(), "{bad:?}");
    }
    assert!(LabelChange { note: Some("n".repeat(1025)), ..LabelChange::default() }.check_stored().is_err());
    let many: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(adding(&many).check().unwrap_err().kind(), ErrorKind::InvalidInput);
    adding(&many).check_stored().unwrap();
    let last = Expiry::At(Timestamp { milliseconds: u64::MAX });
    LabelChange { expire: Some(last), ..LabelChange::default() }.check_stored().unwrap();
}

#[test]
fn damage_that_cannot_be_is_refused() {
    let with_blocks = |blocks: &[(u64, u64)]| {
        let blocks = blocks.iter().map(|&(start, count)| (BlockIndex(start), BlockCount(count))).collect();
        DamageRecord { versions: vec![DamagedVersion { uid: UID, blocks }], ..damage() }.check()
    };
    let with_slots = |slots: &[u16]| {
        DamageRecord { slots: slots.iter().map(|&slot| SlotNumber(slot)).collect(), ..damage() }.check()
    };
    let is_damage = |result: Result<()>| result.unwrap_err().kind() == ErrorKind::Damaged;
    for bad in [&[(u64::MAX, u64::MAX)][..], &[(0, u64::MAX)], &[(1, 0)], &[(0, 2), (1, 1)], &[(5, 1), (0, 1)]] {
        assert!(is_damage(with_blocks(bad)), "{bad:?}");
    }
    for bad in [&[8192][..], &[u16::MAX], &[1, 1], &[2, 1]] {
        assert!(is_damage(with_slots(bad)), "{bad:?}");
    }
    with_blocks(&[(0, 1), (1, 1), (1 << 50, 1 << 50)]).unwrap();
}

#[test]
fn tombstones_of_other_versions_are_damage() {
    assert_eq!(tombstone().check(VersionUid::from_bytes([1; 16])).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn index_records_that_cannot_be_are_damage() {
    let change = |change: &dyn Fn(&mut IndexedPack)| {
        let mut packs = index();
        change(&mut packs[0]);
        index::decode(&index::encode(&packs))
    };
    let bad: [&dyn Fn(&mut IndexedPack); 4] =
        [&|pack| pack.slot_count = 8193, &|pack| pack.slot_count = 8191, &|pack| pack.size_bytes = u64::MAX, &|pack| {
            pack.samples[1].0 = SlotNumber(0)
        }];
    for bad in bad {
        assert_eq!(change(bad).unwrap_err().kind(), ErrorKind::Damaged);
    }
    // A count that the body cannot hold takes no memory.
    assert!(index::decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err());
    let golden = read_golden("index");
    for length in 0..golden.len() {
        assert_eq!(index::decode(&golden[..length]).unwrap_err().kind(), ErrorKind::Damaged, "{length}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_or_a_record(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_as_all(&body);
    }

    #[test]
    fn damaged_bodies_do_no_harm(at in any::<prop::sample::Index>(), bits in 1u8..=255, which in 0usize..4) {
        let mut body = [
            to_body(&checkpoint()).unwrap(),
            to_body(&manifest()).unwrap(),
            to_body(&damage()).unwrap(),
            to_body(&label()).unwrap(),
        ][which].clone();
        let at = at.index(body.len());
        body[at] ^= bits;
        read_as_all(&body);
    }
}
