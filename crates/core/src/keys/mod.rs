//! Keys: the master key, what is derived from it, what unlocks it.
//!
//! ```text
//!  passphrase, key file, nothing
//!     | opens a key slot                     slot     keys/<id>
//!  master key                                master
//!     |-- fingerprint key
//!     |-- metadata key -- one key per kind of record
//!     '-- keyring key -- wraps data key n    keyring  keyring/<n>
//!                           '-- one key per pack
//! ```
//!
//! Every arrow is BLAKE3's key derivation with a context string of its own (see [`master`]), and [`set`] holds what
//! an open repository works with. Secrets print as `***` and are wiped when dropped. What derives and seals here asks
//! for random bytes through the environment only.

pub mod keyring;
pub mod master;
pub mod set;
pub mod slot;

#[cfg(test)]
mod tests;

pub use crate::codec::seal::Suite;
pub use crate::envelope::RecordKind;
pub use keyring::unwrap_data_key;
pub use master::{DataKey, MasterKey};
pub use set::KeySet;
pub use slot::{ArgonCost, KeySlot, KeySlotKind, Unlock};
