//! The seams to what is backed up and restored.
//!
//! A [`Source`] can be read, a [`Target`] also written; both are a row of bytes of a fixed size. Several threads use one
//! device at once. A version served over FUSE or NBD is a `Source` too, so that everything that reads a disk reads a
//! backup as well.

use backy_core::units::ByteRange;
use backy_core::{Error, Result};

/// A block device that can be read.
pub trait Source: Send + Sync {
    /// Returns the size of the device in bytes; it does not change while the device is open.
    fn size_bytes(&self) -> u64;

    /// Reads exactly `buffer.len()` bytes at `offset_bytes`.
    ///
    /// Fails with `Unreadable` if the medium cannot give these bytes (others may be fine), with `SourceChanged` if the
    /// device has become shorter, with `InvalidInput` beyond the end. What `buffer` holds after an error is unspecified.
    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()>;

    /// Returns the parts of `range` that may hold data, in order, without touching each other; the rest reads as zero.
    ///
    /// A device that does not know says that all of it is data. What lies beyond the end is left out.
    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>>;

    /// Fails with `SourceChanged` if the device has another size than when it was opened, or was replaced.
    fn check_unchanged(&self) -> Result<()>;

    /// Returns what the device is called, as a URL.
    fn url(&self) -> String;
}

/// A block device that can also be written.
pub trait Target: Source {
    /// Writes all of `buffer` at `offset_bytes`; beyond the end it fails with `InvalidInput` and writes nothing.
    fn write_at(&self, offset_bytes: u64, buffer: &[u8]) -> Result<()>;

    /// Makes `range` read as zero: by a hole or discard where that is known to read as zero, else by writing zeros.
    ///
    /// Beyond the end it fails with `InvalidInput` and changes nothing.
    fn zero_range(&self, range: ByteRange) -> Result<()>;

    /// Says whether everything that was not written since the device was opened reads as zero for certain: a new
    /// sparse file. The answer does not change while the device is open.
    fn is_known_zero(&self) -> bool;

    /// Returns when all that was written outlives a power cut.
    ///
    /// Also reports what went wrong with earlier writes that had seemed to succeed.
    fn flush(&self) -> Result<()>;
}

/// Fails with `InvalidInput` unless `range` lies within the `size_bytes` of the device called `url`.
pub fn check_bounds(range: ByteRange, size_bytes: u64, url: &str) -> Result<()> {
    match range.offset_bytes.checked_add(range.length_bytes) {
        Some(end_bytes) if end_bytes <= size_bytes => Ok(()),
        _ => Err(Error::invalid(format!(
            "{} bytes at {} reach beyond the end of {url} at {size_bytes}",
            range.length_bytes, range.offset_bytes
        ))),
    }
}
