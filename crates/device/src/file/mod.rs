//! Regular files and block devices.
//!
//! ```text
//!  opened   what was opened: which file, how big, is it still the same, where are its holes
//!  read     reads that leave the page cache as they found it
//!  write    writes that do not fill the page cache
//!  zero     holes, or zeros
//!  source   Source from these
//!  target   Target from these
//! ```

mod opened;
mod read;
mod source;
mod target;
mod write;
mod zero;

pub use source::FileSource;
pub use target::FileTarget;
