//! All versions of a repository as files, through FUSE.
//!
//! ```text
//!  session        a mount while it lives      mountpoint   may it be mounted there
//!  filesystem     the kernel's questions  ->  mounted      the answers
//!  listing        versions, read now and then -> tree      folders, files, links: node, names, infos, attributes
//!  handles        what is open: disk          a version, with what is written on top of it
//!  patience       a limited wait for the store             errno    from errors to numbers
//! ```
//!
//! The version is never touched: what is written to `data` lies in an overlay. A block that is damaged answers EIO, and
//! only that one; a store that does not answer, EIO after a limited time, while what is in memory is served on.

pub mod session;

mod attributes;
mod disk;
mod errno;
mod filesystem;
mod handles;
mod infos;
mod listing;
mod mounted;
mod mountpoint;
mod names;
mod node;
mod patience;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backy_core::Result;

use self::attributes::Owner;
use self::errno::Complaints;
use self::handles::Handles;
use self::listing::Listing;
use self::mounted::MountedVersions;
use self::patience::Patience;
use self::session::Mounted;
use crate::ViewCache;

/// How versions are mounted.
#[derive(Clone, Debug)]
pub struct MountSettings {
    /// Other users may read everything, and write to `data`.
    pub allows_others: bool,
    /// How long a list of versions is good: so late a new one appears at most.
    pub listing_lifetime: Duration,
    /// Where goes what is written.
    pub scratch: Scratch,
}

/// Where goes what is written.
#[derive(Clone, Debug)]
pub enum Scratch {
    /// To files without a name in this folder; they are gone when the mount ends.
    Unnamed(PathBuf),
    /// To a file for each version in this folder, called by its uid; a later mount finds it again.
    Kept(PathBuf),
}

/// Mounts all versions on an empty folder; they can be used when it returns, until the value is dropped.
///
/// # Errors
/// `NotFound`, `InvalidInput` or `Refused` if the folder is not as it should be, `Unsupported` or `PermissionDenied` if the
/// system does not let us, and those of listing the versions.
pub fn mount(cache: Arc<ViewCache>, mountpoint: &Path, settings: MountSettings) -> Result<Mounted> {
    let mountpoint = mountpoint::check(mountpoint)?;
    let patience = Patience::new(cache.patience());
    let listing = Listing::new(cache.repository().clone(), settings.listing_lifetime, patience.clone());
    listing.tree()?;
    let owner = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        allows_others: settings.allows_others,
    };
    let versions = MountedVersions {
        cache,
        listing,
        handles: Handles::default(),
        patience,
        owner,
        scratch: settings.scratch,
        complaints: Complaints::default(),
    };
    Mounted::begin(versions, mountpoint)
}
