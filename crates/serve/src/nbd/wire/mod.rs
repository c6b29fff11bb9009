//! The messages of the NBD protocol as values: what is sent, without who sends it.
//!
//! ```text
//!  bytes          numbers, the highest byte first
//!  handshake      greeting, options, replies to options           (fixed newstyle)
//!  transmission   requests, simple replies, chunks of structured replies
//! ```
//!
//! The protocol is described in doc/proto.md of <https://github.com/NetworkBlockDevice/nbd>; the names here are its names,
//! in our spelling. Each value is encoded and decoded, so that a server and a client can use it. Decoders survive any
//! bytes, and everything that has a length has a limit. Nothing here reads or writes.

pub mod bytes;
pub mod handshake;
pub mod transmission;

/// The most bytes that one request reads or writes: what the protocol says that everybody may expect.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;
/// The longest name of an export, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;
/// The most data that comes with an option, in bytes.
pub const OPTION_BYTES_MAX: u32 = 64 << 10;

/// Returns what a server of ours can do with a disk that can be written or not.
pub fn export_flags_of_disk(is_writable: bool) -> u16 {
    use handshake::export_flags as flag;
    let always = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_DF | flag::CAN_MULTI_CONN;
    let by_kind =
        if is_writable { flag::SEND_FUA | flag::SEND_TRIM | flag::SEND_WRITE_ZEROES } else { flag::READ_ONLY };
    always | by_kind
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::handshake::{ContextRequest, ExportRequest, Information, OptionHeader};
    use super::transmission::{Request, decode_error, decode_status, encode_status};

    proptest! {
        /// The fuzz target `nbd_wire` tries the same for longer.
        #[test]
        fn decoders_survive_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64), shortens in any::<bool>()) {
            // Lengths are usually absurd; these are not.
            let mut bytes = bytes;
            if shortens && bytes.len() > 8 {
                bytes[..3].fill(0);
            }
            if let Ok(request) = ExportRequest::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            if let Ok(request) = ContextRequest::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            if let Ok((context, ranges)) = decode_status(&bytes) {
                prop_assert_eq!(encode_status(context, &ranges), bytes.clone());
            }
            let _ = (OptionHeader::decode(&bytes), Request::decode(&bytes), Information::decode(&bytes), decode_error(&bytes));
        }
    }
}
