//! What an NBD server offers: disks under names.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backy_core::{Error, ErrorKind, Result};
use backy_device::{Source, Target};
use tracing::warn;

use super::wire::export_flags_of_disk;
use super::wire::transmission::Errno;

/// Where exports come from.
pub trait Exports: Send + Sync {
    /// Returns the names of all exports.
    fn names(&self) -> Result<Vec<String>>;

    /// Returns the export of that name, the same for all who have it open at once; `NotFound` if there is none.
    fn open(&self, name: &str) -> Result<Arc<Export>>;
}

/// A disk that is offered.
#[derive(Clone)]
pub enum Disk {
    /// Can be read.
    ReadOnly(Arc<dyn Source>),
    /// Can be written too.
    Writable(Arc<dyn Target>),
}

/// An export: a disk, and what is said of it.
pub struct Export {
    disk: Disk,
    description: String,
    preferred_bytes: u32,
    is_failing: AtomicBool,
}

impl Disk {
    /// Returns the disk for those who read.
    pub fn source(&self) -> &dyn Source {
        match self {
            Disk::ReadOnly(source) => source.as_ref(),
            Disk::Writable(target) => target.as_ref(),
        }
    }

    /// Returns the disk for those who write, if they may.
    pub fn target(&self) -> Option<&dyn Target> {
        match self {
            Disk::ReadOnly(_) => None,
            Disk::Writable(target) => Some(target.as_ref()),
        }
    }
}

impl Export {
    /// Offers `disk`; requests of `preferred_bytes`, a power of two, are served best.
    pub fn new(disk: Disk, description: String, preferred_bytes: u32) -> Export {
        Export { disk, description, preferred_bytes, is_failing: AtomicBool::new(false) }
    }

    /// Returns the disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Returns what it is, for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the length of requests that are served best, in bytes.
    pub fn preferred_bytes(&self) -> u32 {
        self.preferred_bytes
    }

    /// Returns what can be done with it, as the protocol says it.
    pub fn flags(&self) -> u16 {
        export_flags_of_disk(self.disk.target().is_some())
    }

    /// Notes how a request ended; a disk that begins to fail as a whole is logged once, until it works again.
    pub(crate) fn note<T>(&self, outcome: &Result<T>) {
        match outcome {
            Ok(_) => self.is_failing.store(false, Ordering::Relaxed),
            // Bad blocks are logged where they are found; wrong requests are the client's own affair.
            Err(error) if matches!(error.kind(), ErrorKind::Unreadable | ErrorKind::InvalidInput) => {}
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    let why = error.source().map_or_else(String::new, |source| format!(": {source}"));
                    warn!("{}: {error}{why}", self.description);
                }
            }
        }
    }
}

/// Returns what a client is told of an error.
pub(crate) fn errno(error: &Error) -> Errno {
    match error.kind() {
        ErrorKind::InvalidInput => Errno::Invalid,
        ErrorKind::NoSpace => Errno::NoSpace,
        _ => Errno::Io,
    }
}
