//! Key slots and keyring entries: arbitrary bodies in good envelopes.
#![no_main]

use backy_core::envelope::{RecordKind, plain_record};
use backy_core::ids::{EncryptionVersion, RecordId};
use backy_core::keys::{KeySlot, MasterKey, Unlock, unwrap_data_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = KeySlot::parse(bytes);
    if let Ok(slot) = KeySlot::parse(&plain_record(RecordKind::KeySlot, bytes)) {
        // A passphrase is not tried: the store may ask for a second of Argon2id.
        let id = RecordId::from_bytes([4; 16]);
        for unlock in [Unlock::KeyFile(&[7; 32]), Unlock::Unprotected] {
            let _ = slot.open(backy_fuzz::REPOSITORY, id, &unlock);
        }
    }
    let master = MasterKey::generate(&backy_fuzz::environment());
    let entry = plain_record(RecordKind::KeyringEntry, bytes);
    assert!(unwrap_data_key(&master, backy_fuzz::REPOSITORY, EncryptionVersion(1), &entry).is_err());
});
