//! The foundation of backy2: its words, formats and decisions.
//!
//! Everything here computes on values that it was given. There is no file, no socket, no thread, no clock and no
//! source of randomness; where time or random bytes are needed, they come in through [`environment`].
//!
//! ```text
//!  units ids names error environment      the words
//!  codec keys                             bytes -> sealed bytes
//!  pack map records slots                 the formats (docs/format.md has every byte)
//!  policy                                 the decisions
//! ```

pub mod cancel;
pub mod codec;
pub mod envelope;
pub mod environment;
pub mod error;
#[cfg(test)]
mod fixed;
pub mod hint;
pub mod ids;
pub mod keys;
pub mod map;
pub mod names;
pub mod pack;
pub mod policy;
pub mod records;
pub mod slots;
pub mod units;
pub mod wire;

pub use error::{Error, ErrorKind, Result, ResultExt};
