//! Envelopes: arbitrary objects, and arbitrary bodies in good envelopes.
#![no_main]

use std::sync::LazyLock;

use backy_core::envelope::{RecordKind, open_plain_record, plain_record};
use backy_core::ids::RecordId;
use backy_core::keys::{KeySet, Suite};
use backy_core::names;
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<KeySet> = LazyLock::new(|| backy_fuzz::keys(Suite::Aes256Gcm));

fuzz_target!(|bytes: &[u8]| {
    let _ = open_plain_record(RecordKind::Lease, bytes);
    let object = plain_record(RecordKind::Damage, bytes);
    assert_eq!(open_plain_record(RecordKind::Damage, &object).unwrap(), bytes);
    let name = names::damage(RecordId::from_bytes([4; 16]));
    assert!(KEYS.open_record(RecordKind::Damage, &name, &object).is_err());
});
