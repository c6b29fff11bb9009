//! The hall of backy2: the repository, and the jobs on it.
//!
//! ```text
//!  repository    objects -> versions, maps, slots; what jobs share
//!  backup        source  -> new version
//!  restore       version -> target
//!  cleanup       what no version needs -> free space
//!  scrub         versions -> damage, healed if a source is there
//!  serve_version version -> whoever mounts it
//!  check         the repository as a whole -> what is damaged, missing, left over
//!  list remove label statistics key       the short jobs
//!  settings progress                      what the front door turns and watches
//! ```
//!
//! A job never imports another job. Nothing here knows terminals, configuration files or exit codes.

pub mod backup;
pub mod check;
pub mod cleanup;
pub mod key;
pub mod label;
pub mod list;
mod parallel;
pub mod progress;
pub mod remove;
mod repeating;
pub mod repository;
pub mod restore;
pub mod scrub;
pub mod serve_version;
pub mod settings;

pub use repository::Repository;
