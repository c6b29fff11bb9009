//! What backy2 backs up from and restores to.
//!
//! ```text
//!  device        the seams: Source and Target
//!  open          the one table from URL scheme to implementation
//!  file          regular files and block devices
//!  null          devices for measuring: generated data, and a drain
//!  buffer        memory that direct I/O takes
//!  hints         what others say about a volume: these bytes changed
//!  conformance   what every device must pass
//!  sys           the system calls that need `unsafe`
//! ```

pub mod buffer;
pub mod conformance;
pub mod device;
pub mod file;
pub mod hints;
pub mod null;
pub mod open;
mod sys;

pub use buffer::AlignedBuffer;
pub use device::{Source, Target};
pub use open::{DeviceOptions, TargetRequest, open_source, open_target};
