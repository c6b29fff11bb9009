//! A damaged, foreign or half-written cache costs time, never data: it never answers wrongly and never stops a job.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::path::{Path, PathBuf};

use backy_catalog::{Catalog, JobRecord, Lookup, Options, PackFact};
use backy_core::ErrorKind;
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::environment::Timestamp;
use backy_core::ids::{
    EncryptionVersion, Generation, LeaseId, PackId, RecordId, RepositoryId, SlotAddress, SlotNumber,
};
use backy_core::names::{self, PackName};
use backy_core::records::index::is_sampled;

const VERSION: EncryptionVersion = EncryptionVersion(1);

fn repository() -> RepositoryId {
    RepositoryId::from_bytes([7; 16])
}

fn pack_fact(pack: u8) -> PackFact {
    PackFact {
        name: PackName {
            id: PackId::from_bytes([pack; 16]),
            generation: Generation(0),
            lease: LeaseId::from_bytes([1; 16]),
        },
        encryption_version: VERSION,
        slot_count: 8192,
        size_bytes: 1000,
    }
}

fn fingerprint(pack: u8, slot: u16) -> Fingerprint {
    Fingerprint(*blake3::hash(&[&[pack][..], &slot.to_le_bytes()].concat()).as_bytes())
}

fn fingerprints(pack: u8, count: u16) -> Vec<(SlotNumber, Fingerprint)> {
    (0..count).map(|slot| (SlotNumber(slot), fingerprint(pack, slot))).collect()
}

fn at(pack: u8, slot: u16) -> Lookup {
    Lookup::At(SlotAddress { pack: PackId::from_bytes([pack; 16]), slot: SlotNumber(slot) })
}

fn open(folder: &Path) -> Catalog {
    Catalog::open(folder, repository()).unwrap()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder.join("segments")).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Every answer must be right or missing; returns how many are missing.
fn count_missing(catalog: &Catalog, pack: u8, count: u16) -> u16 {
    let mut missing = 0;
    for slot in 0..count {
        match catalog.lookup(VERSION, &fingerprint(pack, slot)).unwrap() {
            Lookup::Unknown => missing += 1,
            found => assert_eq!(found, at(pack, slot)),
        }
    }
    missing
}

#[test]
fn a_flipped_byte_anywhere_in_a_segment_never_gives_a_wrong_slot() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path());
    catalog.insert_pack(&pack_fact(1), &fingerprints(1, 400)).unwrap();
    catalog.flush().unwrap();
    drop(catalog);
    let path = segments(folder.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let database = fs::read(folder.path().join("catalog.sqlite")).unwrap();
    let pages_end = 3 * 4096;
    let mut dropped = 0;
    for position in (0..good.len()).step_by(61).chain(good.len() - 45..good.len()) {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        let catalog = open(folder.path());
        let missing = count_missing(&catalog, 1, 400);
        if position >= pages_end {
            assert_eq!((missing, catalog.report().segments_dropped), (400, 1), "position {position}");
        }
        // A flush takes the segment out for good.
        dropped += usize::from(missing > 0);
        if missing > 0 && dropped % 20 == 0 {
            catalog.flush().unwrap();
            assert!(!path.exists());
        }
        drop(catalog);
        for log in ["catalog.sqlite-wal", "catalog.sqlite-shm"] {
            let _ = fs::remove_file(folder.path().join(log));
        }
        fs::write(folder.path().join("catalog.sqlite"), &database).unwrap();
    }
    assert!(dropped > 50);
    fs::write(&path, &good).unwrap();
    assert_eq!(count_missing(&open(folder.path()), 1, 400), 0);
}

#[test]
fn short_missing_and_exchanged_segments_are_dropped() {
    for kind in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let catalog = open(folder.path());
        for pack in [1, 2] {
            catalog.insert_pack(&pack_fact(pack), &fingerprints(pack, 300)).unwrap();
            catalog.flush().unwrap();
        }
        drop(catalog);
        let paths = segments(folder.path());
        let bytes = fs::read(&paths[0]).unwrap();
        match kind {
            0 => fs::remove_file(&paths[0]).unwrap(),
            1 => fs::write(&paths[0], &bytes[..bytes.len() - 1]).unwrap(),
            2 => fs::write(&paths[0], b"").unwrap(),
            _ => fs::write(&paths[0], fs::read(&paths[1]).unwrap()).unwrap(),
        }
        let catalog = open(folder.path());
        assert_eq!(catalog.report().segments_dropped, 1);
        assert_eq!(catalog.report().rebuilt, None);
        assert_eq!(count_missing(&catalog, 1, 300), 300);
        assert_eq!(count_missing(&catalog, 2, 300), 0);
        drop(catalog);
        assert_eq!(open(folder.path()).report().segments_dropped, 0);
    }
}

#[test]
fn a_segment_that_goes_bad_while_in_use_is_taken_out_by_the_next_upkeep() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { run_count_max: 1, ..Options::default() };
    let catalog = Catalog::open_with(folder.path(), repository(), options).unwrap();
    catalog.insert_pack(&pack_fact(1), &fingerprints(1, 300)).unwrap();
    catalog.flush().unwrap();
    let path = segments(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096] ^= 1;
    fs::write(&path, bytes).unwrap();
    catalog.insert_pack(&pack_fact(2), &fingerprints(2, 300)).unwrap();
    catalog.flush().unwrap();
    assert_eq!(count_missing(&catalog, 2, 300), 0);
    assert_eq!(count_missing(&catalog, 1, 300), 300);
    assert!(!path.exists());
    assert_eq!(open(folder.path()).report().segments_dropped, 0);
}

#[test]
fn leftovers_of_a_killed_flush_are_removed_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path());
    catalog.insert_pack(&pack_fact(1), &fingerprints(1, 300)).unwrap();
    drop(catalog);
    for name in ["0000000001.new", "0000000009.segment"] {
        fs::write(folder.path().join("segments").join(name), b"half").unwrap();
    }
    let catalog = open(folder.path());
    assert_eq!(segments(folder.path()), Vec::<PathBuf>::new());
    assert_eq!(count_missing(&catalog, 1, 300), 0);
    catalog.flush().unwrap();
    assert_eq!(count_missing(&catalog, 1, 300), 0);
    assert_eq!(segments(folder.path()).len(), 1);
}

#[test]
fn a_useless_database_is_made_anew_and_says_so() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("garbage", |path| fs::write(path, vec![0xaa; 20_000]).unwrap()),
        ("cut", |path| fs::write(path, &fs::read(path).unwrap()[..5000]).unwrap()),
        ("newer", |path| sql(path, "PRAGMA user_version = 99")),
        ("foreign", |path| sql(path, "PRAGMA application_id = 5")),
        ("other repository", |path| sql(path, "UPDATE repository SET id = x'00'")),
        ("a table is missing", |path| sql(path, "DROP TABLE objects")),
    ];
    for (name, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        let catalog = open(folder.path());
        assert_eq!(*catalog.report(), Default::default());
        catalog.insert_pack(&pack_fact(1), &fingerprints(1, 300)).unwrap();
        catalog.flush().unwrap();
        drop(catalog);
        harm(&folder.path().join("catalog.sqlite"));
        let catalog = open(folder.path());
        assert!(catalog.report().rebuilt.is_some(), "{name}");
        assert_eq!(count_missing(&catalog, 1, 300), 300, "{name}");
        assert_eq!(segments(folder.path()).len(), 0);
        catalog.insert_pack(&pack_fact(1), &fingerprints(1, 300)).unwrap();
        drop(catalog);
        let catalog = open(folder.path());
        assert_eq!(catalog.report().rebuilt, None, "{name}");
        assert_eq!(count_missing(&catalog, 1, 300), 0, "{name}");
    }
}

fn sql(path: &Path, statement: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap();
}

#[test]
fn a_changed_or_lost_forgotten_slot_makes_the_catalog_anew() {
    for harm in [
        "UPDATE forgotten SET last = last - 1 WHERE sequence = 1",
        "UPDATE forgotten SET pack = x'09090909090909090909090909090909' WHERE sequence = 2",
        "DELETE FROM forgotten WHERE sequence = 1",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let catalog = open(folder.path());
        catalog.insert_pack(&pack_fact(1), &fingerprints(1, 300)).unwrap();
        let slots: Vec<_> = (4..9).map(|slot| address(1, slot)).collect();
        catalog.forget_slots(&slots).unwrap();
        catalog.forget_pack(PackId::from_bytes([2; 16])).unwrap();
        drop(catalog);
        sql(&folder.path().join("catalog.sqlite"), harm);
        let catalog = open(folder.path());
        assert!(catalog.report().rebuilt.is_some(), "{harm}");
        assert_eq!(count_missing(&catalog, 1, 300), 300);
    }
}

fn address(pack: u8, slot: u16) -> SlotAddress {
    SlotAddress { pack: PackId::from_bytes([pack; 16]), slot: SlotNumber(slot) }
}

#[test]
fn damaged_recent_fingerprints_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path());
    catalog.insert_pack(&pack_fact(1), &fingerprints(1, 300)).unwrap();
    catalog.insert_pack(&pack_fact(2), &fingerprints(2, 300)).unwrap();
    drop(catalog);
    sql(
        &folder.path().join("catalog.sqlite"),
        "UPDATE recent_fingerprints SET pack = x'03030303030303030303030303030303' WHERE sequence = 1",
    );
    let catalog = open(folder.path());
    assert_eq!(count_missing(&catalog, 1, 300), 300);
    assert_eq!(count_missing(&catalog, 2, 300), 0);
}

#[test]
fn damage_that_is_met_while_working_is_cured_by_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path());
    sql(&folder.path().join("catalog.sqlite"), "DROP TABLE facts");
    assert_eq!(catalog.fact("gc").unwrap_err().kind(), ErrorKind::Damaged);
    drop(catalog);
    let catalog = open(folder.path());
    assert!(catalog.report().rebuilt.is_some());
    assert_eq!(catalog.fact("gc").unwrap(), None);
}

#[test]
fn a_failed_flush_keeps_what_was_inserted() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { flush_keys: 100, ..Options::default() };
    let catalog = Catalog::open_with(folder.path(), repository(), options).unwrap();
    fs::remove_dir(folder.path().join("segments")).unwrap();
    assert!(catalog.insert_pack(&pack_fact(1), &fingerprints(1, 150)).is_err());
    assert_eq!(count_missing(&catalog, 1, 150), 0);
    fs::create_dir(folder.path().join("segments")).unwrap();
    catalog.insert_pack(&pack_fact(2), &fingerprints(2, 10)).unwrap();
    assert_eq!(segments(folder.path()).len(), 1);
    assert_eq!(count_missing(&catalog, 1, 150), 0);
    assert_eq!(count_missing(&catalog, 2, 10), 0);
}

#[test]
fn the_folder_can_be_deleted_whenever_it_is_closed() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("state/0707");
    for _ in 0..2 {
        let catalog = open(&folder);
        assert_eq!(*catalog.report(), Default::default());
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(count_missing(&catalog, 1, 300), 300);
        catalog.insert_pack(&pack_fact(1), &fingerprints(1, 300)).unwrap();
        catalog.flush().unwrap();
        drop(catalog);
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn small_things_are_kept_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(folder.path()), open(folder.path()));
    let uid = backy_core::ids::VersionUid::from_bytes([3; 16]);
    one.remember_object(&names::manifest(uid), b"sealed").unwrap();
    one.remember_object(&names::repository(), b"{}").unwrap();
    assert_eq!(other.object(&names::manifest(uid)).unwrap().as_deref(), Some(&b"sealed"[..]));
    assert_eq!(other.object_names(names::VERSIONS).unwrap(), [names::manifest(uid)]);
    other.forget_object(&names::manifest(uid)).unwrap();
    assert_eq!(one.object(&names::manifest(uid)).unwrap(), None);

    let newer = PackFact { name: PackName { generation: Generation(2), ..pack_fact(1).name }, ..pack_fact(1) };
    one.remember_packs(&[newer, pack_fact(1), pack_fact(2)]).unwrap();
    assert_eq!(other.pack(PackId::from_bytes([1; 16])).unwrap(), Some(newer));
    one.set_fact("a", "1").unwrap();
    one.set_fact("a", "2").unwrap();
    assert_eq!(other.fact("a").unwrap().as_deref(), Some("2"));
    assert_eq!(other.fact("b").unwrap(), None);

    let job = |id: u8, finished| JobRecord {
        id: LeaseId::from_bytes([id; 16]),
        kind: "backup".to_owned(),
        started: Timestamp { milliseconds: u64::from(id) },
        finished,
        json: "{}".to_owned(),
    };
    one.record_job(&job(1, None)).unwrap();
    one.record_job(&job(2, None)).unwrap();
    let finished = job(1, Some(Timestamp { milliseconds: 9 }));
    one.record_job(&finished).unwrap();
    assert_eq!(other.jobs(10).unwrap(), [job(2, None), finished]);
    assert_eq!(other.jobs(1).unwrap(), [job(2, None)]);
}

#[test]
fn when_packs_were_verified_is_kept_until_they_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let moment = |milliseconds| Timestamp { milliseconds };
    let packs = [1, 2, 3].map(|pack| PackId::from_bytes([pack; 16]));
    {
        let (one, other) = (open(folder.path()), open(folder.path()));
        one.set_verified(&packs[..2], moment(5)).unwrap();
        other.set_verified(&packs[1..2], moment(4)).unwrap();
        assert_eq!(other.verified(&packs).unwrap(), [Some(moment(5)), Some(moment(5)), None]);
        one.remember_packs(&[PackFact { name: PackName { id: packs[0], ..pack_fact(1).name }, ..pack_fact(1) }])
            .unwrap();
        one.forget_pack(packs[1]).unwrap();
        assert_eq!(one.verified(&packs).unwrap(), [Some(moment(5)), None, None]);
    }
    // A catalog of a program that did not keep it is taken over as it is.
    sql(&folder.path().join("catalog.sqlite"), "DROP TABLE verified; PRAGMA user_version = 1");
    let catalog = open(folder.path());
    assert_eq!(catalog.report().rebuilt, None);
    assert_eq!(catalog.verified(&packs).unwrap(), [None, None, None]);
    assert!(catalog.pack(packs[0]).unwrap().is_some());
}

#[test]
fn what_a_known_object_forbids_is_in_effect_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(folder.path()), open(folder.path()));
    one.insert_pack(&pack_fact(1), &fingerprints(1, 10)).unwrap();
    other.refresh().unwrap();
    assert_eq!(other.lookup(VERSION, &fingerprint(1, 3)).unwrap(), at(1, 3));
    one.forget_slots(&[address(1, 3)]).unwrap();
    one.remember_object(&names::GcName { number: 1, author: LeaseId::from_bytes([1; 16]) }.object_name(), b"sealed")
        .unwrap();
    assert!(
        other
            .object(&names::GcName { number: 1, author: LeaseId::from_bytes([1; 16]) }.object_name())
            .unwrap()
            .is_some()
    );
    assert_eq!(other.lookup(VERSION, &fingerprint(1, 3)).unwrap(), Lookup::Unknown);
    assert_eq!(other.lookup(VERSION, &fingerprint(1, 4)).unwrap(), at(1, 4));
}

#[test]
fn samples_lead_to_their_pack_and_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path());
    let all = fingerprints(1, 1000);
    let key = |fingerprint: &Fingerprint| -> [u8; 16] { fingerprint.0[..16].try_into().unwrap() };
    let (samples, others): (Vec<_>, Vec<_>) = all.iter().partition(|(_, fingerprint)| is_sampled(&key(fingerprint)));
    assert!((5..40).contains(&samples.len()));
    let record = RecordId::from_bytes([4; 16]);
    assert!(!catalog.seen_index(record).unwrap());
    let sampled = samples.iter().map(|(slot, fingerprint)| (*slot, key(fingerprint))).collect();
    catalog.insert_sampled(record, &[(pack_fact(1), sampled)]).unwrap();
    assert!(catalog.seen_index(record).unwrap());
    let in_pack = Lookup::InPack(PackId::from_bytes([1; 16]));
    for _ in 0..2 {
        assert_eq!(catalog.lookup(VERSION, &samples[0].1).unwrap(), in_pack);
        assert_eq!(catalog.lookup(VERSION, &others[0].1).unwrap(), Lookup::Unknown);
        assert_eq!(catalog.lookup(EncryptionVersion(2), &samples[0].1).unwrap(), Lookup::Unknown);
        catalog.flush().unwrap();
    }
    catalog.remember_neighbours(&pack_fact(1), &all).unwrap();
    assert_eq!(count_missing(&catalog, 1, 1000), 0);
    catalog.forget_slots(&[address(1, 5)]).unwrap();
    assert_eq!(catalog.lookup(VERSION, &fingerprint(1, 5)).unwrap(), Lookup::Unknown);

    // A pack that could not be read is not offered.
    let catalog = open(folder.path());
    catalog.remember_neighbours(&pack_fact(1), &[]).unwrap();
    assert_eq!(catalog.lookup(VERSION, &samples[0].1).unwrap(), Lookup::Unknown);
}

#[test]
fn neighbours_stay_within_their_memory() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { neighbours_size_bytes_max: 200_000, ..Options::default() };
    let catalog = Catalog::open_with(folder.path(), repository(), options).unwrap();
    for pack in 0..40 {
        catalog.remember_neighbours(&pack_fact(pack), &fingerprints(pack, 1000)).unwrap();
        assert_eq!(count_missing(&catalog, pack, 1000), 0);
    }
    assert_eq!(count_missing(&catalog, 0, 1000), 1000);
    assert_eq!(count_missing(&catalog, 38, 1000), 0);
}

#[test]
fn a_full_index_keeps_samples_of_old_packs() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { flush_keys: 2000, index_keys_max: 7000, ..Options::default() };
    let catalog = Catalog::open_with(folder.path(), repository(), options).unwrap();
    for pack in 0..8 {
        catalog.insert_pack(&pack_fact(pack), &fingerprints(pack, 1000)).unwrap();
    }
    let mut counts = [0; 3];
    for (pack, slot) in (0..8).flat_map(|pack| (0..1000).map(move |slot| (pack, slot))) {
        match catalog.lookup(VERSION, &fingerprint(pack, slot)).unwrap() {
            Lookup::Unknown => counts[0] += 1,
            Lookup::InPack(found) => {
                assert_eq!(found, PackId::from_bytes([pack; 16]));
                counts[1] += 1;
            }
            found => panic!("{found:?}"),
        }
    }
    assert!(counts[1] > 60 && counts[1] < 200, "{counts:?}");
    catalog.insert_pack(&pack_fact(9), &fingerprints(9, 1000)).unwrap();
    assert_eq!(count_missing(&catalog, 9, 1000), 0);
}

#[test]
fn a_pack_has_at_most_8192_fingerprints() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path());
    let error = catalog.insert_pack(&pack_fact(1), &fingerprints(1, 8193)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    catalog.insert_pack(&pack_fact(1), &fingerprints(1, 8192)).unwrap();
    catalog.insert_pack(&pack_fact(2), &[]).unwrap();
    assert_eq!(count_missing(&catalog, 1, 8192), 0);
    assert_eq!(catalog.pack(PackId::from_bytes([2; 16])).unwrap(), Some(pack_fact(2)));
}
