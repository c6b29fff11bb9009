//! Units: what is counted in blocks, what in bytes.
//!
//! A block index and a block count are types of their own, so that neither is taken for the other or for bytes.
//! Bytes are a plain `u64` whose name ends in `_bytes`.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The size of a block in bytes: a power of two from 4 KiB to 4 MiB, fixed per version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct BlockSize(u32);

impl BlockSize {
    /// The smallest block size, 4 KiB.
    pub const MIN: BlockSize = BlockSize(4 << 10);
    /// The block size when nobody says otherwise, 16 KiB.
    pub const DEFAULT: BlockSize = BlockSize(16 << 10);
    /// The largest block size, 4 MiB.
    pub const MAX: BlockSize = BlockSize(4 << 20);

    /// Checks that `size_bytes` is a power of two from 4 KiB to 4 MiB.
    pub fn new(size_bytes: u32) -> Result<BlockSize> {
        let is_in_range = (Self::MIN.0..=Self::MAX.0).contains(&size_bytes);
        if size_bytes.is_power_of_two() && is_in_range {
            Ok(BlockSize(size_bytes))
        } else {
            Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a block size is a power of two from 4 KiB to 4 MiB, not {size_bytes} bytes"),
            ))
        }
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// Returns the size in bytes as the type that offsets are counted in.
    pub fn bytes_u64(self) -> u64 {
        u64::from(self.0)
    }

    /// Returns how many blocks a volume of `volume_bytes` has; the last one may be short.
    pub fn count(self, volume_bytes: u64) -> BlockCount {
        BlockCount(volume_bytes.div_ceil(self.bytes_u64()))
    }

    /// Returns the index of the block that holds the byte at `offset_bytes`.
    pub fn index_of(self, offset_bytes: u64) -> BlockIndex {
        BlockIndex(offset_bytes / self.bytes_u64())
    }

    /// Returns where `block` begins in the volume.
    pub fn offset_bytes(self, block: BlockIndex) -> u64 {
        block.0.saturating_mul(self.bytes_u64())
    }

    /// Returns how many bytes `block` has in a volume of `volume_bytes`: 0 beyond the end.
    pub fn length_bytes(self, block: BlockIndex, volume_bytes: u64) -> u32 {
        let rest_bytes = volume_bytes.saturating_sub(self.offset_bytes(block));
        u32::try_from(rest_bytes).map_or(self.0, |rest| rest.min(self.0))
    }

    /// Returns the bytes that `blocks` cover in a volume of `volume_bytes`, cut at its end.
    pub fn byte_range(self, blocks: BlockRange, volume_bytes: u64) -> ByteRange {
        let start_bytes = self.offset_bytes(blocks.start).min(volume_bytes);
        let end_bytes = self.offset_bytes(blocks.end()).min(volume_bytes);
        ByteRange { offset_bytes: start_bytes, length_bytes: end_bytes - start_bytes }
    }
}

impl TryFrom<u32> for BlockSize {
    type Error = Error;

    fn try_from(size_bytes: u32) -> Result<BlockSize> {
        BlockSize::new(size_bytes)
    }
}

impl From<BlockSize> for u32 {
    fn from(size: BlockSize) -> u32 {
        size.0
    }
}

/// The number of a block in its volume, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockIndex(pub u64);

/// A number of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockCount(pub u64);

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BlockCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Add<BlockCount> for BlockIndex {
    type Output = BlockIndex;

    fn add(self, count: BlockCount) -> BlockIndex {
        BlockIndex(self.0.saturating_add(count.0))
    }
}

impl AddAssign<BlockCount> for BlockIndex {
    fn add_assign(&mut self, count: BlockCount) {
        *self = *self + count;
    }
}

/// The distance from `other` up to `self`; 0 if `other` is behind.
impl Sub<BlockIndex> for BlockIndex {
    type Output = BlockCount;

    fn sub(self, other: BlockIndex) -> BlockCount {
        BlockCount(self.0.saturating_sub(other.0))
    }
}

impl Add for BlockCount {
    type Output = BlockCount;

    fn add(self, other: BlockCount) -> BlockCount {
        BlockCount(self.0.saturating_add(other.0))
    }
}

impl AddAssign for BlockCount {
    fn add_assign(&mut self, other: BlockCount) {
        *self = *self + other;
    }
}

impl Sub for BlockCount {
    type Output = BlockCount;

    fn sub(self, other: BlockCount) -> BlockCount {
        BlockCount(self.0.saturating_sub(other.0))
    }
}

/// Consecutive blocks of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRange {
    /// The first block.
    pub start: BlockIndex,
    /// How many blocks.
    pub count: BlockCount,
}

impl BlockRange {
    /// Returns the blocks from `start` up to, not including, `end`; empty if `end` is not behind `start`.
    pub fn between(start: BlockIndex, end: BlockIndex) -> BlockRange {
        BlockRange { start, count: end - start }
    }

    /// Returns the first block after the range.
    pub fn end(self) -> BlockIndex {
        self.start + self.count
    }

    /// Says whether the range holds no block.
    pub fn is_empty(self) -> bool {
        self.count.0 == 0
    }

    /// Returns the blocks that both ranges hold.
    pub fn intersection(self, other: BlockRange) -> BlockRange {
        BlockRange::between(self.start.max(other.start), self.end().min(other.end()))
    }
}

/// Consecutive bytes of a volume or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// Where the range begins.
    pub offset_bytes: u64,
    /// How many bytes.
    pub length_bytes: u64,
}

impl ByteRange {
    /// Returns the bytes from `start_bytes` up to, not including, `end_bytes`; empty if the end is not behind the start.
    pub fn between(start_bytes: u64, end_bytes: u64) -> ByteRange {
        ByteRange { offset_bytes: start_bytes, length_bytes: end_bytes.saturating_sub(start_bytes) }
    }

    /// Returns the offset of the first byte after the range.
    pub fn end_bytes(self) -> u64 {
        self.offset_bytes.saturating_add(self.length_bytes)
    }

    /// Says whether the range holds no byte.
    pub fn is_empty(self) -> bool {
        self.length_bytes == 0
    }

    /// Returns the bytes that both ranges hold.
    pub fn intersection(self, other: ByteRange) -> ByteRange {
        ByteRange::between(self.offset_bytes.max(other.offset_bytes), self.end_bytes().min(other.end_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_size_refuses_what_is_not_a_power_of_two_in_range() {
        for bad in [0, 1, 2048, 4095, 12288, 8 << 20, u32::MAX] {
            assert_eq!(BlockSize::new(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
        for good in [4096, 16384, 4 << 20] {
            assert_eq!(BlockSize::new(good).unwrap().bytes(), good);
        }
    }

    #[test]
    fn last_block_may_be_short() {
        let size = BlockSize::DEFAULT;
        assert_eq!(size.count(0), BlockCount(0));
        assert_eq!(size.count(16385), BlockCount(2));
        assert_eq!(size.length_bytes(BlockIndex(0), 16385), 16384);
        assert_eq!(size.length_bytes(BlockIndex(1), 16385), 1);
        assert_eq!(size.length_bytes(BlockIndex(2), 16385), 0);
    }

    #[test]
    fn ranges_intersect() {
        let range = |start, end| BlockRange::between(BlockIndex(start), BlockIndex(end));
        assert_eq!(range(0, 10).intersection(range(5, 20)), range(5, 10));
        assert!(range(0, 5).intersection(range(5, 20)).is_empty());
    }
}
