//! How client and server come to terms: fixed newstyle.
//!
//! ```text
//!  server  greeting      "NBDMAGIC" "IHAVEOPT" flags
//!  client  flags
//!  client  option        "IHAVEOPT" code, length, data                 again and again
//!  server  its replies   magic, code, kind, length, data               none to several, the last is ACK or an error
//!  ...                   until GO (or the older EXPORT_NAME) is granted, or ABORT
//! ```

use backy_core::Result;

use super::NAME_BYTES_MAX;
use super::bytes::{Bytes, put_text};

/// "NBDMAGIC".
const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT".
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// More queries in one option are more than anybody needs.
const QUERIES_MAX: u32 = 64;
const INFORMATION_MAX: u16 = 64;

/// In the greeting and the client's flags: this is the fixed newstyle handshake.
pub const FIXED_NEWSTYLE: u16 = 1;
/// In the greeting and the client's flags: no zeros behind the reply to `EXPORT_NAME`.
pub const NO_ZEROES: u16 = 2;

/// Options: what a client asks for.
pub mod option {
    /// Grants the export and ends the handshake, without a reply that could say no.
    pub const EXPORT_NAME: u32 = 1;
    /// Goes away.
    pub const ABORT: u32 = 2;
    /// Asks for the names of all exports.
    pub const LIST: u32 = 3;
    /// Begins TLS.
    pub const STARTTLS: u32 = 5;
    /// Asks about an export.
    pub const INFO: u32 = 6;
    /// Asks about an export, and ends the handshake if it is granted.
    pub const GO: u32 = 7;
    /// Asks for structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Asks which kinds of block status there are.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Asks for kinds of block status.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Kinds of replies to options.
pub mod reply {
    /// Yes, and that is all.
    pub const ACK: u32 = 1;
    /// The name of an export.
    pub const SERVER: u32 = 2;
    /// Something about an export.
    pub const INFO: u32 = 3;
    /// A kind of block status, and its number.
    pub const META_CONTEXT: u32 = 4;
    /// The option is not known.
    pub const ERROR_UNSUPPORTED: u32 = 0x8000_0001;
    /// The server may not.
    pub const ERROR_POLICY: u32 = 0x8000_0002;
    /// The data of the option is wrong.
    pub const ERROR_INVALID: u32 = 0x8000_0003;
    /// TLS has to begin first.
    pub const ERROR_TLS_REQUIRED: u32 = 0x8000_0005;
    /// There is no such export.
    pub const ERROR_UNKNOWN: u32 = 0x8000_0006;
    /// The data of the option is too long.
    pub const ERROR_TOO_BIG: u32 = 0x8000_0009;
}

/// What can be done with an export.
pub mod export_flags {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1;
    /// Cannot be written.
    pub const READ_ONLY: u16 = 2;
    /// `FLUSH` is known.
    pub const SEND_FLUSH: u16 = 4;
    /// The flag `FUA` is known.
    pub const SEND_FUA: u16 = 8;
    /// `TRIM` is known.
    pub const SEND_TRIM: u16 = 32;
    /// `WRITE_ZEROES` is known.
    pub const SEND_WRITE_ZEROES: u16 = 64;
    /// The flag `DF` is known.
    pub const SEND_DF: u16 = 128;
    /// Several connections see the same, and a flush on one is good for all.
    pub const CAN_MULTI_CONN: u16 = 256;
}

/// What a server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// [`FIXED_NEWSTYLE`], [`NO_ZEROES`].
    pub flags: u16,
}

impl Greeting {
    /// How many bytes it takes.
    pub const BYTES: usize = 18;

    /// Returns it as it is sent.
    pub fn encode(self) -> Vec<u8> {
        [&GREETING_MAGIC.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &self.flags.to_be_bytes()].concat()
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<Greeting> {
        let mut bytes = Bytes::new(bytes, "the greeting of an NBD server");
        bytes.magic(GREETING_MAGIC)?;
        bytes.magic(OPTION_MAGIC)?;
        let greeting = Greeting { flags: bytes.u16()? };
        bytes.finish()?;
        Ok(greeting)
    }
}

/// What stands before the data of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// See [`option`].
    pub code: u32,
    /// How many bytes follow.
    pub length_bytes: u32,
}

impl OptionHeader {
    /// How many bytes it takes.
    pub const BYTES: usize = 16;

    /// Returns it as it is sent.
    pub fn encode(self) -> Vec<u8> {
        [&OPTION_MAGIC.to_be_bytes()[..], &self.code.to_be_bytes(), &self.length_bytes.to_be_bytes()].concat()
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<OptionHeader> {
        let mut bytes = Bytes::new(bytes, "an NBD option");
        bytes.magic(OPTION_MAGIC)?;
        let header = OptionHeader { code: bytes.u32()?, length_bytes: bytes.u32()? };
        bytes.finish()?;
        Ok(header)
    }
}

/// What stands before the data of a reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// The option that it replies to.
    pub code: u32,
    /// See [`reply`].
    pub kind: u32,
    /// How many bytes follow.
    pub length_bytes: u32,
}

impl OptionReplyHeader {
    /// How many bytes it takes.
    pub const BYTES: usize = 20;

    /// Returns it as it is sent.
    pub fn encode(self) -> Vec<u8> {
        let numbers = [self.code, self.kind, self.length_bytes].map(u32::to_be_bytes);
        [&REPLY_MAGIC.to_be_bytes()[..], numbers.as_flattened()].concat()
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<OptionReplyHeader> {
        let mut bytes = Bytes::new(bytes, "an NBD reply to an option");
        bytes.magic(REPLY_MAGIC)?;
        let header = OptionReplyHeader { code: bytes.u32()?, kind: bytes.u32()?, length_bytes: bytes.u32()? };
        bytes.finish()?;
        Ok(header)
    }
}

/// The data of `INFO` and `GO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest {
    /// The name of the export.
    pub name: String,
    /// What the client would like to know, as numbers of [`Information`].
    pub information: Vec<u16>,
}

impl ExportRequest {
    /// Returns it as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_text(&mut bytes, &self.name);
        bytes.extend(u16::try_from(self.information.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.information.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
        bytes
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<ExportRequest> {
        let mut bytes = Bytes::new(bytes, "an NBD question about an export");
        let name = bytes.text(NAME_BYTES_MAX)?;
        let count = bytes.u16()?;
        if count > INFORMATION_MAX {
            return Err(bytes.error("asks for too much"));
        }
        let information = (0..count).map(|_| bytes.u16()).collect::<Result<_>>()?;
        bytes.finish()?;
        Ok(ExportRequest { name, information })
    }
}

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRequest {
    /// The name of the export.
    pub name: String,
    /// Names of kinds of block status, or beginnings of them.
    pub queries: Vec<String>,
}

impl ContextRequest {
    /// Returns it as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_text(&mut bytes, &self.name);
        bytes.extend(u32::try_from(self.queries.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.queries.iter().for_each(|query| put_text(&mut bytes, query));
        bytes
    }

    /// Reads what was sent.
    pub fn decode(bytes: &[u8]) -> Result<ContextRequest> {
        let mut bytes = Bytes::new(bytes, "an NBD question about block status");
        let name = bytes.text(NAME_BYTES_MAX)?;
        let count = bytes.u32()?;
        if count > QUERIES_MAX {
            return Err(bytes.error("asks for too much"));
        }
        let queries = (0..count).map(|_| bytes.text(NAME_BYTES_MAX)).collect::<Result<_>>()?;
        bytes.finish()?;
        Ok(ContextRequest { name, queries })
    }
}

/// Something about an export: the data of a reply `INFO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Information {
    /// Number 0: its size and what can be done with it, see [`export_flags`].
    Export {
        /// The size in bytes.
        size_bytes: u64,
        /// What can be done with it.
        flags: u16,
    },
    /// Number 2: what it is, for people.
    Description(String),
    /// Number 3: the lengths of requests.
    BlockSize {
        /// All offsets and lengths are multiples of it.
        minimum_bytes: u32,
        /// What is fastest.
        preferred_bytes: u32,
        /// The longest request.
        maximum_bytes: u32,
    },
}

impl Information {
    /// Returns it as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Information::Export { size_bytes, flags } => {
                [&0u16.to_be_bytes()[..], &size_bytes.to_be_bytes(), &flags.to_be_bytes()].concat()
            }
            Information::Description(text) => [&2u16.to_be_bytes()[..], text.as_bytes()].concat(),
            Information::BlockSize { minimum_bytes, preferred_bytes, maximum_bytes } => {
                let sizes = [*minimum_bytes, *preferred_bytes, *maximum_bytes].map(u32::to_be_bytes);
                [&3u16.to_be_bytes()[..], sizes.as_flattened()].concat()
            }
        }
    }

    /// Reads what was sent; none if it is about something else.
    pub fn decode(bytes: &[u8]) -> Result<Option<Information>> {
        let mut bytes = Bytes::new(bytes, "an NBD reply about an export");
        let information = match bytes.u16()? {
            0 => Information::Export { size_bytes: bytes.u64()?, flags: bytes.u16()? },
            2 => Information::Description(String::from_utf8_lossy(bytes.rest()).into_owned()),
            3 => Information::BlockSize {
                minimum_bytes: bytes.u32()?,
                preferred_bytes: bytes.u32()?,
                maximum_bytes: bytes.u32()?,
            },
            _ => return Ok(None),
        };
        bytes.finish()?;
        Ok(Some(information))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let greeting = Greeting { flags: 3 };
        assert_eq!(&greeting.encode()[..16], b"NBDMAGICIHAVEOPT");
        assert_eq!(Greeting::decode(&greeting.encode()).unwrap(), greeting);
        let header = OptionHeader { code: 7, length_bytes: 9 };
        assert_eq!(OptionHeader::decode(&header.encode()).unwrap(), header);
        let header = OptionReplyHeader { code: 7, kind: reply::ERROR_UNKNOWN, length_bytes: 9 };
        assert_eq!(OptionReplyHeader::decode(&header.encode()).unwrap(), header);
        let request = ExportRequest { name: "mail@latest".to_owned(), information: vec![3] };
        assert_eq!(ExportRequest::decode(&request.encode()).unwrap(), request);
        let request = ContextRequest { name: String::new(), queries: vec!["base:".to_owned()] };
        assert_eq!(ContextRequest::decode(&request.encode()).unwrap(), request);
        for information in [
            Information::Export { size_bytes: 1 << 40, flags: 3 },
            Information::Description("Monday".to_owned()),
            Information::BlockSize { minimum_bytes: 1, preferred_bytes: 4096, maximum_bytes: 1 << 25 },
        ] {
            assert_eq!(Information::decode(&information.encode()).unwrap(), Some(information));
        }
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let mut bytes = ExportRequest { name: "x".to_owned(), information: vec![] }.encode();
        bytes.push(0);
        assert!(ExportRequest::decode(&bytes).is_err());
        assert!(ExportRequest::decode(&[0, 0, 0, 1, 0xff, 0, 0]).is_err(), "no UTF-8");
        assert!(ExportRequest::decode(&[0xff; 6]).is_err(), "a length of 4 GiB");
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert!(ExportRequest::decode(&ExportRequest { name: long, information: vec![] }.encode()).is_err());
        assert!(ContextRequest::decode(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
