//! What is not opened: with a wrong key, of a wrong kind, by a store that plays tricks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::sync::Arc;

use backy_core::environment::Environment;
use backy_core::ids::EncryptionVersion;
use backy_core::keys::slot::ArgonCost;
use backy_core::keys::{DataKey, KeySet, Suite};
use backy_core::names::{self, ObjectName};
use backy_core::{Error, ErrorKind};
use backy_engine::repository::init::{Protection, init};
use backy_engine::repository::open::{open, read_repository_record};
use backy_engine::repository::unlock::{Secret, SecretSource, unlock};
use backy_store::ObjectStore;
use backy_store::memory::MemoryStore;
use backy_testkit::device::MemoryDevice;
use backy_testkit::store::{Fault, FaultyStore, Operation, Rule};
use support::{FixedKey, Host, KEY, init_store, new_store, noise, objects, seeded, settings};
use tempfile::TempDir;

/// A store as the repository takes it.
type SharedStore = Arc<dyn ObjectStore>;

/// Nothing is configured, and nobody is asked.
struct NoKey;

impl SecretSource for NoKey {
    fn is_configured(&self) -> bool {
        false
    }

    fn secret(&self) -> backy_core::Result<Secret> {
        Err(Error::new(ErrorKind::WrongKey, "there is no key"))
    }
}

struct Phrase(&'static str);

impl SecretSource for Phrase {
    fn is_configured(&self) -> bool {
        true
    }

    fn secret(&self) -> backy_core::Result<Secret> {
        Ok(Secret::Passphrase(self.0.as_bytes().to_vec().into()))
    }
}

fn open_error(store: &SharedStore, secrets: &dyn SecretSource, environment: &Environment) -> Error {
    let before = objects(store.as_ref(), "");
    let state = TempDir::new().unwrap();
    let error = match open(store.clone(), secrets, state.path(), settings(), environment.clone()) {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    };
    assert_eq!(objects(store.as_ref(), ""), before, "something was written");
    error
}

#[test]
fn a_wrong_key_opens_nothing_and_is_not_told_what_is_right() {
    let environment = seeded(1);
    let store: SharedStore = Arc::new(new_store(&environment));
    let mut nearly = KEY;
    nearly[31] ^= 1;
    let wrong: [&dyn SecretSource; 3] = [&FixedKey(nearly), &Phrase("a guess"), &NoKey];
    for secrets in wrong {
        let error = open_error(&store, secrets, &environment);
        assert_eq!(error.kind(), ErrorKind::WrongKey, "{error:?}");
        assert!(!error.to_string().contains("42"), "{error}");
    }
}

#[test]
fn passphrases_open_and_only_the_right_one() {
    let environment = seeded(2);
    let memory = MemoryStore::new();
    let cost = ArgonCost::new(8 << 10, 1, 1).unwrap();
    let Secret::Passphrase(phrase) = Phrase("the right one").secret().unwrap() else { panic!() };
    init(&memory, &Protection::Encrypted { secret: Secret::Passphrase(phrase), cost }, &environment).unwrap();
    let store: SharedStore = Arc::new(memory);
    for wrong in ["", "The right one", "the right one "] {
        assert_eq!(open_error(&store, &Phrase(wrong), &environment).kind(), ErrorKind::WrongKey);
    }
    let state = TempDir::new().unwrap();
    assert!(open(store, &Phrase("the right one"), state.path(), settings(), environment).is_ok());
}

#[test]
fn what_is_not_a_repository_is_said_with_its_address() {
    let environment = seeded(3);
    let empty: SharedStore = Arc::new(MemoryStore::new());
    let error = open_error(&empty, &FixedKey(KEY), &environment);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains(&empty.url()) && error.to_string().contains("not a backy2 repository"),
        "{error}"
    );
    // A store that does not answer is not an empty one.
    let faulty = FaultyStore::new(Arc::new(new_store(&environment)));
    faulty.add_rule(Rule::always(Operation::Get, "repository.json", Fault::Before(ErrorKind::Unavailable)));
    assert_eq!(
        open_error(&(Arc::new(faulty) as SharedStore), &FixedKey(KEY), &environment).kind(),
        ErrorKind::Unavailable
    );
    for prefix in [names::KEYS, names::KEYRING] {
        let faulty = FaultyStore::new(Arc::new(new_store(&environment)));
        faulty.add_rule(Rule::always(Operation::Get, prefix, Fault::Before(ErrorKind::Unavailable)));
        let error = open_error(&(Arc::new(faulty) as SharedStore), &FixedKey(KEY), &environment);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let environment = seeded(4);
    let memory = new_store(&environment);
    let name = names::repository();
    let record = String::from_utf8(memory.get(&name, 1000).unwrap()).unwrap();
    let newer = record.replace("\"format\":1", "\"format\":2");
    assert_ne!(newer, record);
    memory.put(&name, newer.as_bytes()).unwrap();
    let error = open_error(&(Arc::new(memory) as SharedStore), &FixedKey(KEY), &environment);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 2") && error.to_string().contains("format 1"), "{error}");
}

#[test]
fn a_repository_without_encryption_is_refused_when_a_key_is_configured() {
    let environment = seeded(5);
    let memory = MemoryStore::new();
    init(&memory, &Protection::Unencrypted, &environment).unwrap();
    let store: SharedStore = Arc::new(memory);
    for secrets in [&FixedKey(KEY) as &dyn SecretSource, &Phrase("x")] {
        assert_eq!(open_error(&store, secrets, &environment).kind(), ErrorKind::WrongKey);
    }
    // Who has no key uses it, and gets out what he put in.
    let state = TempDir::new().unwrap();
    let repository = open(store, &NoKey, state.path(), settings(), environment).unwrap();
    let host = Host { repository, state };
    let bytes = noise(5, 100_000);
    let version = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    assert_eq!(version.encryption_version, EncryptionVersion(0));
    assert!(host.restore(&version).0 == bytes);
}

#[test]
fn init_refuses_a_store_that_is_not_empty() {
    let environment = seeded(6);
    for name in ["repository.json", "lost", "packs/x/y"] {
        let store = MemoryStore::new();
        store.put(&ObjectName::new(name).unwrap(), b"something").unwrap();
        let error = init(&store, &Protection::Unencrypted, &environment).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(objects(&store, "").len(), 1);
        assert_eq!(store.get(&ObjectName::new(name).unwrap(), 100).unwrap(), b"something");
    }
    let store = new_store(&environment);
    let before = objects(&store, "");
    let error = init(&store, &Protection::Unencrypted, &environment).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(objects(&store, ""), before);
}

#[test]
fn a_crash_of_init_leaves_no_repository_that_opens_by_half() {
    let environment = seeded(7);
    for number in 1.. {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.crash_at_call(number, backy_testkit::store::CrashMoment::After);
        let secret = Secret::KeyFile(KEY.to_vec().into());
        let cost = ArgonCost::new(8 << 10, 1, 1).unwrap();
        let done = init(&store, &Protection::Encrypted { secret, cost }, &environment);
        store.restart();
        let opened = support::try_open(Arc::new(store.clone()), environment.clone());
        match opened {
            Ok(host) => drop(host.backup(&MemoryDevice::with_bytes(&noise(7, 10_000)), "vm")),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
        }
        if done.is_ok() {
            assert!(number > 3);
            break;
        }
    }
}

/// Adds the next encryption version, as a change of keys would.
fn add_encryption_version(store: &dyn ObjectStore, environment: &Environment) -> ObjectName {
    let id = read_repository_record(store).unwrap().id;
    let master = unlock(store, id, &FixedKey(KEY)).unwrap();
    let version = EncryptionVersion(2);
    let key = DataKey::generate(Suite::Aes256Gcm, environment);
    let keys = KeySet::new(id, master, [(version, key.clone())].into()).unwrap();
    let name = names::keyring_entry(version);
    store.put(&name, &keys.wrap_data_key(version, &key, environment).unwrap()).unwrap();
    name
}

#[test]
fn a_store_that_hides_the_newest_keyring_entry_is_refused() {
    let environment = seeded(8);
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    init_store(&store, &environment);
    let bytes = noise(8, 100_000);
    let host = Host::new(Arc::new(store.clone()), environment.clone());
    let old = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    let newest = add_encryption_version(&store, &environment);
    let state = host.state;
    drop(host.repository);

    let host = Host::reopen(Arc::new(store.clone()), environment.clone(), state);
    let new = host.backup(&MemoryDevice::with_bytes(&bytes), "vm").manifest;
    assert_eq!((old.encryption_version, new.encryption_version), (EncryptionVersion(1), EncryptionVersion(2)));
    assert_eq!(new.statistics.new_bytes, bytes.len() as u64, "blocks under an older key are stored again");
    assert!(host.restore(&old).0 == bytes && host.restore(&new).0 == bytes);
    let state = host.state;
    drop(host.repository);

    store.hide(&newest);
    let shared: SharedStore = Arc::new(store.clone());
    let error = match open(shared, &FixedKey(KEY), state.path(), settings(), environment.clone()) {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("keyring"), "{error}");
    // A host that has never seen it can read what is under the older key.
    let other = Host::new(Arc::new(store.clone()), environment.clone());
    assert!(other.restore(&old).0 == bytes);
    store.unhide(&newest);
    let host = Host::reopen(Arc::new(store), environment, state);
    assert!(host.restore(&new).0 == bytes);
}
