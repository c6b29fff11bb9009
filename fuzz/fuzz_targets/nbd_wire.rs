//! Messages of the NBD protocol: arbitrary bytes are refused, or say what encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::handshake::{ContextRequest, ExportRequest, Greeting, Information, OptionHeader, OptionReplyHeader};
use wire::transmission::{ChunkHeader, Request, SimpleReply, decode_error, decode_status, encode_status};

// The messages alone: the crate that they are in would bring a database, TLS and a client of S3 along.
#[allow(dead_code, reason = "a target uses a part of it")]
#[path = "../../crates/serve/src/nbd/wire/mod.rs"]
mod wire;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    let again = match kind % 10 {
        0 => Greeting::decode(bytes).map(Greeting::encode),
        1 => OptionHeader::decode(bytes).map(OptionHeader::encode),
        2 => OptionReplyHeader::decode(bytes).map(OptionReplyHeader::encode),
        3 => ExportRequest::decode(bytes).map(|request| request.encode()),
        4 => ContextRequest::decode(bytes).map(|request| request.encode()),
        5 => Request::decode(bytes).map(Request::encode),
        6 => SimpleReply::decode(bytes).map(SimpleReply::encode),
        7 => ChunkHeader::decode(bytes).map(ChunkHeader::encode),
        8 => decode_status(bytes).map(|(context, ranges)| encode_status(context, &ranges)),
        // These hold text for people, which is made readable.
        _ => {
            let _ = (Information::decode(bytes), decode_error(bytes));
            return;
        }
    };
    if let Ok(again) = again {
        assert_eq!(again, bytes);
    }
});
