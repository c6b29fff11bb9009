//! Reads what can be read of a map that is damaged.

use crate::error::{Error, ErrorKind, Result};
use crate::ids::SlotAddress;
use crate::units::{BlockCount, BlockIndex, BlockRange};

use super::extent::Extent;
use super::geometry::Geometry;
use super::page::PageBody;
use super::path::{Collected, full_page_of, load_node, load_page, read_page_body, with_sheet};
use super::{MapReader, MapRoot};

/// A part of a map that may be damaged.
#[derive(Debug)]
pub enum MapPart {
    /// Blocks and where they are.
    Extent(Extent),
    /// Blocks of which nobody knows where they are.
    Lost {
        /// All blocks below the page or node, or the node of the sheet.
        blocks: BlockRange,
        /// The page, node or sheet that does not open.
        address: SlotAddress,
        /// What is wrong with it.
        error: Error,
    },
}

/// Calls `visit` for each part of the map, in order, damaged or not. Null subtrees, which are zero, are passed over;
/// extents are not joined across pages.
///
/// # Errors
/// Those of `visit`, and those of the reader that say nothing about what is stored: a store that does not answer.
pub fn salvage_map(reader: &dyn MapReader, root: MapRoot, visit: &mut dyn FnMut(MapPart) -> Result<()>) -> Result<()> {
    salvage_with_geometry(Geometry::STORED, reader, root, visit)
}

pub(crate) fn salvage_with_geometry(
    geometry: Geometry,
    reader: &dyn MapReader,
    root: MapRoot,
    visit: &mut dyn FnMut(MapPart) -> Result<()>,
) -> Result<()> {
    let Some(address) = root.root else { return Ok(()) };
    if root.blocks.0 > geometry.blocks_max() {
        return Err(Error::damaged(format!("a map has {} blocks, which is more than any can have", root.blocks)));
    }
    let mut salvage = Salvage { geometry, reader, blocks: root.blocks, visit };
    salvage.subtree(geometry.height(root.blocks.0), 0, address)
}

struct Salvage<'a> {
    geometry: Geometry,
    reader: &'a dyn MapReader,
    blocks: BlockCount,
    visit: &'a mut dyn FnMut(MapPart) -> Result<()>,
}

impl Salvage<'_> {
    /// Goes through a page or a node and what is below; the depth is that of the map, at most four.
    fn subtree(&mut self, level: u8, index: u64, address: SlotAddress) -> Result<()> {
        if level == 0 {
            return self.page(index, address, Collected::default());
        }
        let node = match load_node(self.reader, self.geometry, self.blocks.0, level, index, address) {
            Ok(node) => node,
            Err(error) => return self.lose(level, index, address, error),
        };
        // Without its sheet nobody knows which blocks below the node are still where the pages say.
        let sheet_address = node.changed.sheet.as_ref().map_or(address, |sheet| sheet.address);
        let loaded = match with_sheet(self.reader, self.geometry, node) {
            Ok(loaded) => loaded,
            Err(error) => return self.lose(level, index, sheet_address, error),
        };
        let first_child = index * u64::from(self.geometry.node_pointers);
        for (offset, pointer) in loaded.node.pointers.iter().enumerate() {
            let child = first_child + offset as u64;
            match *pointer {
                Some(address) if level == 1 => self.page(child, address, loaded.collected(self.geometry, offset))?,
                Some(address) => self.subtree(level - 1, child, address)?,
                None => {}
            }
        }
        Ok(())
    }

    fn page(&mut self, index: u64, address: SlotAddress, collected: Collected) -> Result<()> {
        let loaded = match load_page(self.reader, self.geometry, self.blocks.0, index, address, collected) {
            Ok(loaded) => loaded.into_page(),
            Err(error) => return self.lose(0, index, self.bad_part_of(address), error),
        };
        let page_start = BlockIndex(index * u64::from(self.geometry.page_blocks));
        for extent in &loaded.extents {
            let start = page_start + BlockCount(u64::from(extent.start));
            let blocks = BlockRange { start, count: BlockCount(u64::from(extent.count())) };
            let extent = Extent { blocks, place: extent.place }.clip(self.whole());
            if !extent.blocks.is_empty() {
                (self.visit)(MapPart::Extent(extent))?;
            }
        }
        Ok(())
    }

    /// Returns which part of a page cannot be read: a patch that is good stands on a full page that is not.
    fn bad_part_of(&self, address: SlotAddress) -> SlotAddress {
        match read_page_body(self.reader, self.geometry, address) {
            Ok((PageBody::Patch(patch), _)) if full_page_of(self.reader, self.geometry, address, &patch).is_err() => {
                patch.base
            }
            _ => address,
        }
    }

    fn lose(&mut self, level: u8, index: u64, address: SlotAddress, error: Error) -> Result<()> {
        if !matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unreadable) {
            return Err(error);
        }
        let span = BlockCount(self.geometry.span(level));
        let blocks = BlockRange { start: BlockIndex(index.saturating_mul(span.0)), count: span };
        let blocks = blocks.intersection(self.whole());
        (self.visit)(MapPart::Lost { blocks, address, error })
    }

    fn whole(&self) -> BlockRange {
        BlockRange { start: BlockIndex(0), count: self.blocks }
    }
}
