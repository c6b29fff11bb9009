//! Index records: arbitrary bytes are refused, or are exactly the bytes of one record.
#![no_main]

use backy_core::records::index;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(packs) = index::decode(body) {
        assert_eq!(index::encode(&packs), body);
        assert!(packs.iter().all(|pack| pack.samples.is_sorted_by(|left, right| left.0 < right.0)));
    }
});
