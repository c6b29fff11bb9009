//! What somebody says about a volume: these bytes changed, those are gone.
//!
//! Hints come from `rbd diff`, thin_delta, dirty bitmaps; `device` parses them, `policy` turns them into blocks.

use crate::units::ByteRange;

/// One statement about a range of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The bytes that are spoken of.
    pub range: ByteRange,
    /// What is said of them.
    pub state: HintState,
}

/// What a hint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintState {
    /// The bytes may have changed and must be read.
    Changed,
    /// The bytes were discarded and read as zero.
    Discarded,
}
