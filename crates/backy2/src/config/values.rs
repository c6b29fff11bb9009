//! The values of the configuration, with their defaults.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use backy_core::units::BlockSize;
use backy_store::s3::{Addressing, Secret};
use tracing::Level;

/// A value as it stands in a file or in the environment.
#[derive(Clone, Debug, PartialEq)]
pub enum Given<'a> {
    /// Text in a file.
    Text(&'a str),
    /// Text that was typed, or is of the environment: a path in it is of the current folder.
    Typed(&'a str),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// Something that no key takes: a list, a table, a date, true or false.
    Other(&'static str),
}

/// The values in force. The keys of the same names say what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    pub repository: Option<String>,
    pub state_dir: PathBuf,
    pub passphrase_file: Option<PathBuf>,
    pub passphrase_command: Option<String>,
    pub key_file: Option<PathBuf>,
    pub block_size: BlockSize,
    pub compression_level: i32,
    pub simultaneous_reads: NonZeroUsize,
    pub simultaneous_writes: NonZeroUsize,
    /// None: one per core.
    pub workers: Option<NonZeroUsize>,
    pub bandwidth_read: Option<u64>,
    pub bandwidth_write: Option<u64>,
    pub store_patience: Duration,
    pub s3_endpoint: Option<String>,
    pub s3_region: Option<String>,
    pub s3_addressing: Addressing,
    pub s3_ca_file: Option<PathBuf>,
    pub s3_access_key_id: Option<String>,
    pub s3_secret_access_key: Option<Secret>,
    pub s3_session_token: Option<Secret>,
    pub s3_credentials_file: Option<PathBuf>,
    pub s3_profile: Option<String>,
    pub s3_timeout: Duration,
    pub checkpoint_interval: Duration,
    pub audit_percent: f64,
    pub audit_bytes_max: u64,
    pub disallow_rm_when_younger_than_days: f64,
    pub lease_timeout: Duration,
    pub argon_memory_mib: u32,
    pub argon_passes: u32,
    pub log_level: Level,
}

const FOUR: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);
const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

impl Default for Values {
    fn default() -> Values {
        Values {
            repository: None,
            state_dir: PathBuf::from("/var/lib/backy2"),
            passphrase_file: None,
            passphrase_command: None,
            key_file: None,
            block_size: BlockSize::DEFAULT,
            compression_level: 1,
            simultaneous_reads: FOUR,
            simultaneous_writes: TWO,
            workers: None,
            bandwidth_read: None,
            bandwidth_write: None,
            store_patience: Duration::from_secs(600),
            s3_endpoint: None,
            s3_region: None,
            s3_addressing: Addressing::Auto,
            s3_ca_file: None,
            s3_access_key_id: None,
            s3_secret_access_key: None,
            s3_session_token: None,
            s3_credentials_file: None,
            s3_profile: None,
            s3_timeout: Duration::from_secs(60),
            checkpoint_interval: Duration::from_secs(60),
            audit_percent: 0.5,
            audit_bytes_max: 256 << 20,
            disallow_rm_when_younger_than_days: 6.0,
            lease_timeout: Duration::from_secs(3 * 3600),
            argon_memory_mib: 128,
            argon_passes: 3,
            log_level: Level::INFO,
        }
    }
}
