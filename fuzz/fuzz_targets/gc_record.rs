//! Records of the GC log: arbitrary bytes are refused, or are exactly the bytes of one record.
#![no_main]

use backy_core::records::gc::GcRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(record) = GcRecord::decode(body) {
        assert_eq!(record.encode(), body);
    }
});
