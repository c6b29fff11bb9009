//! Where a repository keeps its objects.
//!
//! ```text
//!  object_store          the seam and its promises
//!  directory s3 memory   the kinds
//!  layers                what is put around any kind: retry, throttle, limit, observe
//!  open                  the one table from URL scheme to kind
//!  probe conformance     is a store as it should be? for a user's store at init, for ours in tests
//! ```

pub mod conformance;
pub mod directory;
pub mod layers;
pub mod memory;
pub mod object_store;
pub mod open;
pub mod probe;
pub mod s3;

pub use directory::DirectoryStore;
pub use memory::MemoryStore;
pub use object_store::{ObjectInfo, ObjectRange, ObjectStore};
pub use open::{OpenHow, StoreOptions, open};
pub use probe::probe;
pub use s3::S3Store;
