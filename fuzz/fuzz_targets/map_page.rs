//! Arbitrary bytes are refused, or are exactly the bytes of one page.
#![no_main]

use backy_core::map::page::PageBody;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(page) = PageBody::decode(body) {
        assert_eq!(page.encode(), body);
    }
});
