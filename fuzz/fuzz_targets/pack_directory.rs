//! Directories of packs: arbitrary objects, and arbitrary locators as if their seal had opened.
#![no_main]

use std::sync::LazyLock;

use backy_core::keys::{KeySet, Suite};
use backy_core::pack::locators::Locators;
use backy_core::pack::{PLAIN_BYTES_MAX, read_directory, verify_pack_bytes};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<KeySet> = LazyLock::new(|| backy_fuzz::keys(Suite::Aes256Gcm));

fuzz_target!(|bytes: &[u8]| {
    let _ = verify_pack_bytes(bytes);
    let _ = read_directory(&KEYS, backy_fuzz::PACK, None, bytes);
    let Some((count, packed)) = bytes.split_first_chunk::<2>() else { return };
    let slot_count = usize::from(u16::from_le_bytes(*count));
    if let Ok(locators) = Locators::decode(packed, slot_count) {
        assert_eq!(locators.len(), slot_count);
        let mut end_bytes = 64;
        for locator in (0..slot_count).filter_map(|index| locators.get(index)) {
            assert_eq!(locator.offset_bytes, end_bytes);
            assert!(locator.plain_length <= PLAIN_BYTES_MAX);
            end_bytes += locator.stored_length;
        }
        assert_eq!(locators.end_bytes(), end_bytes);
    }
});
