//! What is sent once an export is granted: requests, and replies in any order.
//!
//! ```text
//!  request         magic, flags, command, cookie, offset, length           the data of a write follows
//!  simple reply    magic, error, cookie                                    the data of a read follows
//!  chunk           magic, flags, kind, cookie, length, payload             one to many; the last one has DONE
//! ```

use backy_core::Result;

use super::bytes::Bytes;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Commands.
pub mod command {
    /// Reads.
    pub const READ: u16 = 0;
    /// Writes.
    pub const WRITE: u16 = 1;
    /// Goes away; there is no reply.
    pub const DISCONNECT: u16 = 2;
    /// Makes durable what is written.
    pub const FLUSH: u16 = 3;
    /// Says that bytes are not needed any more.
    pub const TRIM: u16 = 4;
    /// Makes bytes zero.
    pub const WRITE_ZEROES: u16 = 6;
    /// Asks what kind of bytes there are.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of commands.
pub mod command_flags {
    /// The reply comes when what is written is durable.
    pub const FUA: u16 = 1;
    /// Zeros take room.
    pub const NO_HOLE: u16 = 2;
    /// The data of a read comes in one piece.
    pub const DF: u16 = 4;
    /// One range of block status is enough.
    pub const REQ_ONE: u16 = 8;
}

/// Kinds of chunks.
pub mod chunk {
    /// Nothing: the request is done.
    pub const NONE: u16 = 0;
    /// Data, behind its offset.
    pub const OFFSET_DATA: u16 = 1;
    /// An offset and a length of zeros.
    pub const OFFSET_HOLE: u16 = 2;
    /// Ranges, each with what is there.
    pub const BLOCK_STATUS: u16 = 5;
    /// An error of the whole request.
    pub const ERROR: u16 = 0x8001;
    /// The flag of the last chunk of a reply.
    pub const DONE: u16 = 1;
}

/// What bytes can be, in the context `base:allocation`.
pub mod status {
    /// They take no room.
    pub const HOLE: u32 = 1;
    /// They read as zero.
    pub const ZERO: u32 = 2;
}

/// Errors, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// It may not be done: the export is read-only.
    NotPermitted = 1,
    /// It could not be read or written.
    Io = 5,
    /// The request is wrong.
    Invalid = 22,
    /// There is no room, or the disk ends before.
    NoSpace = 28,
    /// It is not done here.
    NotSupported = 95,
}

/// A request without the data of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// See [`command_flags`].
    pub flags: u16,
    /// See [`command`].
    pub command: u16,
    /// What the reply repeats.
    pub cookie: u64,
    /// Where it begins.
    pub offset_bytes: u64,
    /// How many bytes.
    pub length_bytes: u32,
}

impl Request {
    /// How many bytes it takes.
    pub const BYTES: usize = 28;

    /// Returns it as it is sent.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.offset_bytes.to_be_bytes());
        bytes.extend(self.length_bytes.to_be_bytes());
        bytes
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<Request> {
        let mut bytes = Bytes::new(bytes, "an NBD request");
        if bytes.u32()? != REQUEST_MAGIC {
            return Err(bytes.error("begins with other bytes than it should"));
        }
        let (flags, command) = (bytes.u16()?, bytes.u16()?);
        let (cookie, offset_bytes, length_bytes) = (bytes.u64()?, bytes.u64()?, bytes.u32()?);
        bytes.finish()?;
        Ok(Request { flags, command, cookie, offset_bytes, length_bytes })
    }
}

/// A simple reply without the data of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimpleReply {
    /// 0, or an [`Errno`].
    pub error: u32,
    /// That of the request.
    pub cookie: u64,
}

impl SimpleReply {
    /// How many bytes it takes.
    pub const BYTES: usize = 16;

    /// Returns it as it is sent.
    pub fn encode(self) -> Vec<u8> {
        [&SIMPLE_MAGIC.to_be_bytes()[..], &self.error.to_be_bytes(), &self.cookie.to_be_bytes()].concat()
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<SimpleReply> {
        let mut bytes = Bytes::new(bytes, "an NBD reply");
        if bytes.u32()? != SIMPLE_MAGIC {
            return Err(bytes.error("begins with other bytes than it should"));
        }
        let reply = SimpleReply { error: bytes.u32()?, cookie: bytes.u64()? };
        bytes.finish()?;
        Ok(reply)
    }
}

/// What stands before the payload of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// [`chunk::DONE`] or nothing.
    pub flags: u16,
    /// See [`chunk`].
    pub kind: u16,
    /// That of the request.
    pub cookie: u64,
    /// How many bytes follow.
    pub length_bytes: u32,
}

impl ChunkHeader {
    /// How many bytes it takes.
    pub const BYTES: usize = 20;

    /// Returns it as it is sent.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = CHUNK_MAGIC.to_be_bytes().to_vec();
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.length_bytes.to_be_bytes());
        bytes
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<ChunkHeader> {
        let mut bytes = Bytes::new(bytes, "a chunk of an NBD reply");
        if bytes.u32()? != CHUNK_MAGIC {
            return Err(bytes.error("begins with other bytes than it should"));
        }
        let (flags, kind) = (bytes.u16()?, bytes.u16()?);
        let header = ChunkHeader { flags, kind, cookie: bytes.u64()?, length_bytes: bytes.u32()? };
        bytes.finish()?;
        Ok(header)
    }
}

/// A range of block status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// How many bytes.
    pub length_bytes: u32,
    /// See [`status`].
    pub flags: u32,
}

/// Returns the payload of a chunk of block status.
pub fn encode_status(context: u32, ranges: &[StatusRange]) -> Vec<u8> {
    let mut bytes = context.to_be_bytes().to_vec();
    for range in ranges {
        bytes.extend(range.length_bytes.to_be_bytes());
        bytes.extend(range.flags.to_be_bytes());
    }
    bytes
}

/// Reads the payload of a chunk of block status.
pub fn decode_status(payload: &[u8]) -> Result<(u32, Vec<StatusRange>)> {
    let mut bytes = Bytes::new(payload, "an NBD block status");
    let context = bytes.u32()?;
    let mut ranges = Vec::new();
    for _ in 0..payload.len().saturating_sub(4) / 8 {
        ranges.push(StatusRange { length_bytes: bytes.u32()?, flags: bytes.u32()? });
    }
    bytes.finish()?;
    Ok((context, ranges))
}

/// Returns the payload of a chunk that tells of an error.
pub fn encode_error(error: Errno, message: &str) -> Vec<u8> {
    // The length has two bytes, and nobody reads a novel.
    let end = message.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= 1000).last();
    let message = &message.as_bytes()[..end.unwrap_or(0)];
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&(error as u32).to_be_bytes()[..], &length.to_be_bytes(), message].concat()
}

/// Reads the payload of a chunk that tells of an error: its number, and words.
pub fn decode_error(payload: &[u8]) -> Result<(u32, String)> {
    let mut bytes = Bytes::new(payload, "an NBD error");
    let error = bytes.u32()?;
    let length = usize::from(bytes.u16()?);
    let message = String::from_utf8_lossy(bytes.take(length)?).into_owned();
    Ok((error, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let request = Request { flags: 1, command: command::WRITE, cookie: 7, offset_bytes: 1 << 50, length_bytes: 9 };
        assert_eq!(request.encode().len(), Request::BYTES);
        assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        let reply = SimpleReply { error: 5, cookie: 7 };
        assert_eq!(reply.encode().len(), SimpleReply::BYTES);
        assert_eq!(SimpleReply::decode(&reply.encode()).unwrap(), reply);
        let header = ChunkHeader { flags: chunk::DONE, kind: chunk::ERROR, cookie: 7, length_bytes: 9 };
        assert_eq!(header.encode().len(), ChunkHeader::BYTES);
        assert_eq!(ChunkHeader::decode(&header.encode()).unwrap(), header);
        let ranges = vec![StatusRange { length_bytes: 4096, flags: 3 }; 3];
        assert_eq!(decode_status(&encode_status(1, &ranges)).unwrap(), (1, ranges));
        let (error, message) = decode_error(&encode_error(Errno::Io, &"ü".repeat(3000))).unwrap();
        assert_eq!((error, message), (5, "ü".repeat(500)));
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(Request::decode(&[0; Request::BYTES]).is_err());
        assert!(Request::decode(&[]).is_err());
        assert!(decode_status(&[0; 11]).is_err());
        assert!(decode_error(&[0, 0, 0, 5, 0, 9]).is_err());
    }
}
