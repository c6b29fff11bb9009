//! The other doors of backy2: versions as disks.
//!
//! ```text
//!  view       a version as a Source: caches, read-ahead, threads that fetch
//!  overlay    a writable disk on top of a read-only one
//!  nbd        disks for everything that speaks the NBD protocol
//!  fuse       all versions as files of a mounted file system
//! ```
//!
//! Everything that is served is a `Source` or a `Target`, so that each door serves anything. Nothing here knows the
//! command line.

pub mod fuse;
pub mod nbd;
pub mod overlay;
pub mod view;

pub use overlay::Overlay;
pub use view::VersionView;
pub use view::view_cache::{ViewCache, ViewSettings};
