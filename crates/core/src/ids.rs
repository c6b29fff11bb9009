//! Ids: 128 bits that sort by the time they were made.
//!
//! An id is a UUID of version 7 (RFC 9562): 48 bits of milliseconds since 1970, then random bits with the version and
//! variant in their places. Its text is 32 lower-case hex digits; hyphens are accepted on input. The first six digits
//! change every 4.7 hours and serve as the folder of packs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::environment::{Environment, Timestamp};
use crate::error::{Error, Result};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// Makes a new id of this moment.
            pub fn generate(environment: &Environment) -> $name {
                $name(uuid_v7(environment.clock.now(), environment.random_bytes()))
            }

            /// Takes an id as it is stored.
            pub const fn from_bytes(bytes: [u8; 16]) -> $name {
                $name(bytes)
            }

            /// Returns the id as it is stored.
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Returns when the id was made, by the clock of the host that made it.
            pub fn timestamp(&self) -> Timestamp {
                timestamp_of(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<$name> {
                parse_hex(text).map($name).ok_or_else(|| {
                    Error::invalid(format!("{} is 32 hex digits, not {text:?}", $what))
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<$name> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

id!(
    /// Names a repository.
    RepositoryId, "a repository id"
);
id!(
    /// Names a pack in all its generations.
    PackId, "a pack id"
);
id!(
    /// Names a version.
    VersionUid, "a version uid"
);
id!(
    /// Names a lease, and with it the job that holds it.
    LeaseId, "a lease id"
);
id!(
    /// Names any other object: a key slot, a label, a damage or index record.
    RecordId, "a record id"
);

impl PackId {
    /// Returns the folder of the pack: the first six hex digits of its id.
    pub fn shard(&self) -> String {
        self.to_string()[..6].to_owned()
    }
}

/// The number of a slot in its pack, from 0; a pack has at most 8,192.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotNumber(pub u16);

impl fmt::Display for SlotNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a slot is: for ever, whatever generation of the pack holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotAddress {
    /// The pack.
    pub pack: PackId,
    /// The slot in it.
    pub slot: SlotNumber,
}

impl fmt::Display for SlotAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.pack, self.slot)
    }
}

impl fmt::Debug for SlotAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The generation of a pack: 0 when first written, one more with each rewrite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an encryption version: 0 is no encryption, each higher one a data key of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncryptionVersion(pub u32);

impl fmt::Display for EncryptionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn uuid_v7(now: Timestamp, random: [u8; 16]) -> [u8; 16] {
    let mut bytes = random;
    bytes[..6].copy_from_slice(&now.milliseconds.to_be_bytes()[2..]);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    bytes
}

fn timestamp_of(bytes: &[u8; 16]) -> Timestamp {
    let mut milliseconds = [0; 8];
    milliseconds[2..].copy_from_slice(&bytes[..6]);
    Timestamp { milliseconds: u64::from_be_bytes(milliseconds) }
}

fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.pad(&format!("{:032x}", u128::from_be_bytes(*bytes)))
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|&c| c != '-').collect();
    let is_hex = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = if is_hex { u128::from_str_radix(&digits, 16).ok()? } else { return None };
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_time_and_survive_text() {
        let bytes = uuid_v7(Timestamp { milliseconds: 0x0193_5a00_1234 }, [0xff; 16]);
        let id = PackId::from_bytes(bytes);
        assert_eq!(id.to_string(), "01935a0012347fffbfffffffffffffff");
        assert_eq!(id.shard(), "01935a");
        assert_eq!(id.timestamp().milliseconds, 0x0193_5a00_1234);
        assert_eq!(id.to_string().parse::<PackId>().unwrap(), id);
        assert_eq!("01935a00-1234-7fff-bfff-ffffffffffff".parse::<PackId>().unwrap(), id);
        assert!("01935a00".parse::<PackId>().is_err());
        assert!("+1935a0012347fffbfffffffffffffff".parse::<PackId>().is_err());
    }
}
