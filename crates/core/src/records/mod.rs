//! The small records of a repository: what their bodies say.
//!
//! A body is JSON, so that it can be read, and grow: unknown fields are passed over, and what a version could be restored
//! without has a default. Each record has a `check` for right before writing and right after reading. A body lies in an envelope (see `keys`), which gives it magic, format, length and checksum, and seals it. The index record
//! alone is binary: it is large.

pub mod damage;
pub mod gc;
pub mod index;
pub mod label;
pub mod lease;
pub mod manifest;
pub mod mark;
pub mod repository;

#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// The most bytes that a record of JSON may have, 1 MiB; damage and index records may have 64 MiB.
pub const RECORD_BYTES_MAX: u64 = 1 << 20;
/// The most bytes that a damage or index record may have, 64 MiB.
pub const LARGE_RECORD_BYTES_MAX: u64 = 64 << 20;

/// Turns a record into its body.
pub fn to_body<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|error| Error::with_source(ErrorKind::InvalidInput, "write a record", error))
}

/// Reads a record from its body.
pub fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|error| Error::with_source(ErrorKind::Damaged, "the record is not what this program writes", error))
}
