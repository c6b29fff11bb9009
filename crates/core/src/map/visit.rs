//! Names the slots that a map is made of, for the collection of garbage.

use crate::error::Result;
use crate::ids::SlotAddress;
use crate::pack::SlotKind;
use crate::units::{BlockCount, BlockIndex, BlockRange};

use super::extent::Extent;
use super::geometry::Geometry;
use super::path::{load_node, load_page};
use super::{MapReader, MapRoot};

/// Says of a slot of the map whether to look at what is below it.
type Enter<'a> = dyn FnMut(SlotAddress, SlotKind) -> Result<bool> + 'a;

/// Calls `visit` for each page and node that the map reaches, parents first, the full pages under patches too.
///
/// If `visit` says false, the slot is not read and nothing below it is visited: it was seen before. A slot that several
/// maps share is visited for each of them.
pub fn visit_map_slots(
    reader: &dyn MapReader,
    root: MapRoot,
    visit: &mut dyn FnMut(SlotAddress, SlotKind) -> Result<bool>,
) -> Result<()> {
    visit_map_places(reader, root, visit, &mut |_| Ok(()))
}

/// Like [`visit_map_slots`]; also calls `place` for each extent of the pages that are read, in order, zero ones too.
///
/// Extents are not joined across pages. Null subtrees are passed over.
pub fn visit_map_places(
    reader: &dyn MapReader,
    root: MapRoot,
    enter: &mut dyn FnMut(SlotAddress, SlotKind) -> Result<bool>,
    place: &mut dyn FnMut(Extent) -> Result<()>,
) -> Result<()> {
    visit_with_geometry(Geometry::STORED, reader, root, enter, place)
}

pub(crate) fn visit_with_geometry(
    geometry: Geometry,
    reader: &dyn MapReader,
    root: MapRoot,
    enter: &mut Enter<'_>,
    place: &mut dyn FnMut(Extent) -> Result<()>,
) -> Result<()> {
    let Some(address) = root.root else { return Ok(()) };
    let mut visit = Visit { geometry, reader, blocks: root.blocks.0, enter, place };
    visit.subtree(geometry.height(root.blocks.0), 0, address)
}

struct Visit<'a> {
    geometry: Geometry,
    reader: &'a dyn MapReader,
    blocks: u64,
    enter: &'a mut Enter<'a>,
    place: &'a mut dyn FnMut(Extent) -> Result<()>,
}

impl Visit<'_> {
    /// Visits a page or a node and what is below; the depth is that of the map, at most four.
    fn subtree(&mut self, level: u8, index: u64, address: SlotAddress) -> Result<()> {
        if level == 0 {
            return self.page(index, address);
        }
        if !(self.enter)(address, SlotKind::MapNode)? {
            return Ok(());
        }
        let node = load_node(self.reader, self.geometry, self.blocks, level, index, address)?;
        let first_child = index * u64::from(self.geometry.node_pointers);
        for (child, pointer) in (first_child..).zip(node.pointers) {
            if let Some(address) = pointer {
                self.subtree(level - 1, child, address)?;
            }
        }
        Ok(())
    }

    fn page(&mut self, index: u64, address: SlotAddress) -> Result<()> {
        if !(self.enter)(address, SlotKind::MapPage)? {
            return Ok(());
        }
        let loaded = load_page(self.reader, self.geometry, self.blocks, index, address)?;
        if let Some(patch) = &loaded.patch {
            (self.enter)(patch.base, SlotKind::MapPage)?;
        }
        let page_start = BlockIndex(index * u64::from(self.geometry.page_blocks));
        for extent in &loaded.into_page().extents {
            let start = page_start + BlockCount(u64::from(extent.start));
            let blocks = BlockRange { start, count: BlockCount(u64::from(extent.count())) };
            let map_end = BlockRange { start: BlockIndex(0), count: BlockCount(self.blocks) };
            (self.place)(Extent { blocks, place: extent.place }.clip(map_end))?;
        }
        Ok(())
    }
}
