//! The local cache of a repository: known objects, packs and fingerprints.
//!
//! Everything in here can be fetched from the store again, so the folder can be deleted at any time: that costs time,
//! never data. Several processes of a host share one folder; what one of them learns, the others see after
//! [`Catalog::refresh`]. `docs/catalog.md` has the files and the costs.
//!
//! ```text
//!  catalog    the door: what a job asks and tells
//!    | database   catalog.sqlite: small things, and the newest fingerprints
//!    | rows       objects, packs, facts, jobs in it
//!    | forgotten  slots that are never offered again
//!    + memory     what lookups read: see there for the order of newest and oldest
//!    | follow     takes over what other processes wrote
//!    | upkeep     flushes, merges and cleans the segment files
//!    + index      fingerprint -> slot: RAM table, then sorted segment files
//! ```
//!
//! The one promise that data depends on: [`Catalog::lookup`] never makes an address up. Damaged bytes of the cache lead
//! to a miss, and what was forgotten stays forgotten.

mod catalog;
mod database;
mod follow;
mod forgotten;
mod index;
mod memory;
mod rows;
mod upkeep;

pub use catalog::{Catalog, Lookup, OpenReport, Options};
pub use rows::{JobRecord, PackFact};
