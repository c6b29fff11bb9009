//! Arbitrary bytes are refused, or are exactly the bytes of one node or sheet.
#![no_main]

use backy_core::map::node::NodeBody;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(node) = NodeBody::decode(body) {
        assert_eq!(node.encode(), body);
    }
});
