//! How many blocks a page holds and how many pointers a node: two numbers, and what follows from them.
//!
//! Stored maps know [`Geometry::STORED`] only; tests use smaller pages and nodes to reach tall trees with few blocks.

/// The highest level of a node. With 16,384 blocks a page, four levels reach 2^54 blocks: more than 2^64 bytes.
pub(crate) const LEVEL_MAX: u8 = 4;

/// The shape of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// How many blocks a page holds.
    pub page_blocks: u32,
    /// How many pointers a node holds.
    pub node_pointers: u32,
    /// A patch, or changes of a page in a node, are used only if the full page is at least this many times as large.
    pub patch_factor: u64,
    /// Neither covers more than one in so many blocks of the page.
    pub cover_factor: u64,
    /// The most changes that a node and its sheet may have together.
    pub changes_max: usize,
}

impl Geometry {
    /// The geometry of stored maps.
    pub const STORED: Geometry =
        Geometry { page_blocks: 16_384, node_pointers: 1_024, patch_factor: 4, cover_factor: 8, changes_max: 65_536 };

    /// Returns how many blocks lie below a node of `level`; level 0 is a page.
    pub fn span(self, level: u8) -> u64 {
        (0..level).fold(u64::from(self.page_blocks), |span, _| span.saturating_mul(u64::from(self.node_pointers)))
    }

    /// Returns the largest number of blocks a map can have.
    pub fn blocks_max(self) -> u64 {
        self.span(LEVEL_MAX)
    }

    /// Returns the level of the root of a map of `blocks`, at most [`LEVEL_MAX`].
    pub fn height(self, blocks: u64) -> u8 {
        (0..LEVEL_MAX).find(|&level| blocks <= self.span(level)).unwrap_or(LEVEL_MAX)
    }

    /// Returns which page holds `block`, and where in it.
    pub fn page_of(self, block: u64) -> (u64, u32) {
        let page_blocks = u64::from(self.page_blocks);
        let offset = u32::try_from(block % page_blocks).unwrap_or(u32::MAX); // below page_blocks, so it fits
        (block / page_blocks, offset)
    }

    /// Returns which node of the level above holds the node or page `index`, and where in it.
    pub fn parent_of(self, index: u64) -> (u64, usize) {
        let pointers = u64::from(self.node_pointers);
        let offset = usize::try_from(index % pointers).unwrap_or(usize::MAX); // below node_pointers, so it fits
        (index / pointers, offset)
    }
}
