//! From a plain block to sealed bytes, and back.
//!
//! ```text
//!  plain block -- is_zero? --> fingerprint -- known? --> compress --> seal --> slot of a pack
//!                                                        decompress <-- open <--
//! ```

pub mod compression;
pub mod fingerprint;
pub mod seal;
pub mod zero;
