//! Tests of keys: what opens, what does not, and that stored bytes stay as they are.

use std::collections::BTreeMap;

use proptest::prelude::{ProptestConfig, any, proptest};

use super::*;
use crate::envelope::{self, plain_record};
use crate::environment::{Environment, Timestamp};
use crate::error::ErrorKind;
use crate::fixed::{assert_golden, fixed_environment, read_golden};
use crate::ids::{EncryptionVersion, RecordId, RepositoryId};
use crate::names;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([0xaa; 16]);
const OTHER: RepositoryId = RepositoryId::from_bytes([0xab; 16]);
const ID: RecordId = RecordId::from_bytes([0xbb; 16]);
const CREATED: Timestamp = Timestamp { milliseconds: 1_800_000_000_000 };
const KEY_FILE: [u8; 64] = [0x5a; 64];

fn master() -> MasterKey {
    MasterKey::from_bytes(&[0x11; 32])
}

fn key_set(environment: &Environment, versions: &[u32]) -> KeySet {
    let data = versions.iter().map(|&version| {
        let suite = if version == 0 { Suite::None } else { Suite::Aes256Gcm };
        (EncryptionVersion(version), DataKey::generate(suite, environment))
    });
    KeySet::new(REPOSITORY, master(), data.collect()).unwrap()
}

fn slots(seed: u64) -> [(Vec<u8>, Unlock<'static>); 3] {
    let environment = fixed_environment(seed);
    let passphrase = slot::seal_with_passphrase(
        REPOSITORY,
        ID,
        b"secret",
        ArgonCost::CHEAP,
        "laptop",
        CREATED,
        &master(),
        &environment,
    );
    let key_file = slot::seal_with_key_file(REPOSITORY, ID, &KEY_FILE, "server", CREATED, &master(), &environment);
    let unprotected = slot::seal_unprotected(REPOSITORY, ID, "", CREATED, &master(), &environment);
    [
        (passphrase.unwrap(), Unlock::Passphrase(b"secret")),
        (key_file.unwrap(), Unlock::KeyFile(&KEY_FILE)),
        (unprotected.unwrap(), Unlock::Unprotected),
    ]
}

#[test]
fn key_slots_open_with_their_secret_and_tell_what_they_are() {
    for ((object, unlock), kind, label) in slots(1).into_iter().zip(0..).map(|(slot, index)| {
        let kinds = [KeySlotKind::Passphrase, KeySlotKind::KeyFile, KeySlotKind::Unprotected];
        (slot, kinds[index], ["laptop", "server", ""][index])
    }) {
        let slot = KeySlot::parse(&object).unwrap();
        assert_eq!((slot.kind(), slot.label(), slot.created()), (kind, label, CREATED));
        assert_eq!(slot.open(REPOSITORY, ID, &unlock).unwrap().bytes(), master().bytes());
    }
}

#[test]
fn wrong_secrets_are_wrong_keys() {
    let [(passphrase, _), (key_file, _), (unprotected, _)] = slots(2);
    let tries: [(&[u8], Unlock<'_>); 8] = [
        (&passphrase, Unlock::Passphrase(b"Secret")),
        (&passphrase, Unlock::Passphrase(b"")),
        (&passphrase, Unlock::KeyFile(&KEY_FILE)),
        (&passphrase, Unlock::Unprotected),
        (&key_file, Unlock::KeyFile(&[0x5b; 64])),
        (&key_file, Unlock::KeyFile(&KEY_FILE[1..])),
        (&key_file, Unlock::KeyFile(b"short")),
        (&unprotected, Unlock::Passphrase(b"secret")),
    ];
    for (index, (object, unlock)) in tries.iter().enumerate() {
        let error = KeySlot::parse(object).unwrap().open(REPOSITORY, ID, unlock).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKey, "try {index}: {error}");
    }
}

#[test]
fn key_slots_do_not_open_elsewhere() {
    for (object, unlock) in slots(3) {
        let slot = KeySlot::parse(&object).unwrap();
        assert!(slot.open(OTHER, ID, &unlock).is_err());
        assert!(slot.open(REPOSITORY, RecordId::from_bytes([0xbc; 16]), &unlock).is_err());
    }
}

#[test]
fn nothing_in_a_key_slot_can_be_changed_even_with_a_new_checksum() {
    for (object, unlock) in slots(4) {
        let body = envelope::open_plain_record(RecordKind::KeySlot, &object).unwrap();
        for at in 0..body.len() {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            let object = plain_record(RecordKind::KeySlot, &changed);
            // A cost in bounds but changed must not open it; its gigabyte is not worth trying here.
            let opened = KeySlot::parse(&object).and_then(|slot| match at {
                12..24 => slot.open(REPOSITORY, ID, &Unlock::KeyFile(&KEY_FILE)),
                _ => slot.open(REPOSITORY, ID, &unlock),
            });
            assert!(opened.is_err(), "byte {at}");
        }
    }
}

#[test]
fn costs_of_a_hostile_store_are_refused_before_memory_is_asked_for() {
    let [(object, _), ..] = slots(5);
    let body = envelope::open_plain_record(RecordKind::KeySlot, &object).unwrap();
    for (at, number) in [(12, (1 << 20) + 1), (12, u32::MAX), (12, 7), (16, 0), (16, 21), (20, 0), (20, 17)] {
        let mut changed = body.to_vec();
        changed[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
        let error = KeySlot::parse(&plain_record(RecordKind::KeySlot, &changed)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{number} at {at}");
    }
    for (memory, passes, lanes) in [(0, 1, 1), (31, 1, 4), (1 << 21, 1, 1), (64, 21, 1), (256, 1, 17)] {
        assert_eq!(ArgonCost::new(memory, passes, lanes).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(ArgonCost::new(128 << 10, 3, 4).unwrap(), ArgonCost::DEFAULT);
    assert_eq!(ArgonCost::new(32, 1, 1).unwrap(), ArgonCost::CHEAP);
}

#[test]
fn secrets_and_labels_that_cannot_be_are_refused() {
    let environment = fixed_environment(6);
    let long = vec![b'x'; 4097];
    let passphrase = |secret: &[u8], label: &str| {
        slot::seal_with_passphrase(REPOSITORY, ID, secret, ArgonCost::CHEAP, label, CREATED, &master(), &environment)
    };
    let label_max = "x".repeat(200);
    assert!(passphrase(b"x", &label_max).is_ok());
    for (secret, label) in [(&b""[..], ""), (&long, ""), (b"x", "\u{1b}[2J"), (b"x", &"x".repeat(201))] {
        assert_eq!(passphrase(secret, label).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    for content in [&b"short"[..], &long] {
        let result = slot::seal_with_key_file(REPOSITORY, ID, content, "", CREATED, &master(), &environment);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn records_open_only_where_they_belong() {
    let environment = fixed_environment(7);
    let keys = key_set(&environment, &[1]);
    let (name, other) = (names::damage(ID), names::index(ID));
    let object = keys.seal_record(RecordKind::Damage, &name, b"body", &environment).unwrap();
    assert_eq!(keys.open_record(RecordKind::Damage, &name, &object).unwrap(), b"body");
    let elsewhere =
        KeySet::new(OTHER, master(), BTreeMap::from([(EncryptionVersion(0), data_key(Suite::None))])).unwrap();
    let body = envelope::open_plain_record(RecordKind::Damage, &object).unwrap();
    let as_index = plain_record(RecordKind::Index, body);
    for result in [
        keys.open_record(RecordKind::Damage, &other, &object),
        keys.open_record(RecordKind::Index, &name, &object),
        keys.open_record(RecordKind::Index, &name, &as_index),
        elsewhere.open_record(RecordKind::Damage, &name, &object),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Damaged);
    }
}

#[test]
fn records_are_sealed_without_data_encryption_too() {
    let environment = fixed_environment(8);
    let keys = key_set(&environment, &[0]);
    let object = keys.seal_record(RecordKind::Label, &names::damage(ID), b"plain words", &environment).unwrap();
    assert!(!object.windows(5).any(|window| window == b"plain"));
}

#[test]
fn keyring_entries_survive_and_open_only_for_their_version() {
    let environment = fixed_environment(9);
    let keys = key_set(&environment, &[0, 1]);
    for (version, suite) in [(0, Suite::None), (1, Suite::Aes256Gcm)].map(|(n, suite)| (EncryptionVersion(n), suite)) {
        let key = DataKey::generate(suite, &environment);
        let object = keys.wrap_data_key(version, &key, &environment).unwrap();
        let back = unwrap_data_key(&master(), REPOSITORY, version, &object).unwrap();
        assert_eq!((back.suite(), back.bytes()), (suite, key.bytes()));
        for result in [
            unwrap_data_key(&master(), REPOSITORY, EncryptionVersion(2), &object),
            unwrap_data_key(&master(), OTHER, version, &object),
            unwrap_data_key(&MasterKey::from_bytes(&[0x12; 32]), REPOSITORY, version, &object),
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Damaged);
        }
    }
}

#[test]
fn key_set_takes_the_highest_version_and_no_contradiction() {
    let environment = fixed_environment(10);
    let keys = key_set(&environment, &[0, 3, 1]);
    assert_eq!(keys.current_version(), EncryptionVersion(3));
    assert_eq!(keys.versions().map(|version| version.0).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!(keys.data_suite(EncryptionVersion(0)).unwrap(), Suite::None);
    assert_eq!(keys.data_suite(EncryptionVersion(2)).unwrap_err().kind(), ErrorKind::NotFound);
    let refused = |data| KeySet::new(REPOSITORY, master(), data).unwrap_err().kind();
    assert_eq!(refused(BTreeMap::new()), ErrorKind::InvalidInput);
    assert_eq!(refused(BTreeMap::from([(EncryptionVersion(1), data_key(Suite::None))])), ErrorKind::InvalidInput);
    assert_eq!(refused(BTreeMap::from([(EncryptionVersion(0), data_key(Suite::Aes256Gcm))])), ErrorKind::InvalidInput);
    let wrapped = keys.wrap_data_key(EncryptionVersion(4), &data_key(Suite::None), &environment);
    assert_eq!(wrapped.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn secrets_print_as_stars() {
    let keys = key_set(&fixed_environment(11), &[1]);
    assert_eq!(format!("{:?} {:?}", master(), data_key(Suite::None)), "MasterKey(***) DataKey(None, ***)");
    let printed = format!("{keys:?}");
    assert!(printed.contains("FingerprintKey(***)") && printed.contains("MetadataKey(***)"), "{printed}");
    assert!(!printed.contains('['), "no bytes: {printed}");
}

#[test]
fn stored_bytes_stay_as_they_are() {
    let environment = fixed_environment(12);
    let goldens = ["key_slot_passphrase", "key_slot_key_file", "key_slot_unprotected"];
    for ((object, unlock), name) in slots(13).iter().zip(goldens) {
        assert_golden(name, object);
        let opened = KeySlot::parse(&read_golden(name)).unwrap().open(REPOSITORY, ID, unlock).unwrap();
        assert_eq!(opened.bytes(), master().bytes());
    }
    let keys = key_set(&environment, &[1]);
    let entry = keys.wrap_data_key(EncryptionVersion(1), &data_key(Suite::Aes256Gcm), &environment).unwrap();
    assert_golden("keyring_entry", &entry);
    let back = unwrap_data_key(&master(), REPOSITORY, EncryptionVersion(1), &read_golden("keyring_entry")).unwrap();
    assert_eq!(back.bytes(), &[0x22; 32]);
    let record = keys.seal_record(RecordKind::Damage, &names::damage(ID), b"the body of a record", &environment);
    assert_golden("record", &record.unwrap());
    let body = keys.open_record(RecordKind::Damage, &names::damage(ID), &read_golden("record")).unwrap();
    assert_eq!(body, b"the body of a record");
    // Fingerprints are stored everywhere: their key may never change.
    assert_golden("fingerprint", &keys.fingerprint_key().fingerprint(b"a block").0);
}

fn data_key(suite: Suite) -> DataKey {
    DataKey::from_parts(suite, &[0x22; 32])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn arbitrary_key_slots_and_entries_are_errors(body in any::<Vec<u8>>(), kind in 0u8..5) {
        let mut header = vec![kind, 0, 0, 0];
        header.extend_from_slice(&body);
        for bytes in [&body, &header] {
            // Only what parses by chance is tried, and without Argon2id.
            if let Ok(slot) = KeySlot::parse(&plain_record(RecordKind::KeySlot, bytes)) {
                assert!(slot.open(REPOSITORY, ID, &Unlock::KeyFile(&KEY_FILE)).is_err());
            }
            assert!(KeySlot::parse(bytes).is_err());
            let entry = plain_record(RecordKind::KeyringEntry, bytes);
            assert!(unwrap_data_key(&master(), REPOSITORY, EncryptionVersion(1), &entry).is_err());
        }
    }
}
