//! Names the slots that a map is made of, for the collection of garbage.

use crate::error::Result;
use crate::ids::SlotAddress;
use crate::pack::SlotKind;
use crate::units::{BlockCount, BlockIndex, BlockRange};

use super::extent::Extent;
use super::geometry::Geometry;
use super::page::{PageBody, PageExtent};
use super::path::{full_page_of, load_node, load_sheet, read_page_body};
use super::{MapReader, MapRoot};

/// Says of a slot of the map whether to look at what is below it.
type Enter<'a> = dyn FnMut(SlotAddress, SlotKind) -> Result<bool> + 'a;

/// Calls `visit` for each page, node and sheet that the map reaches, parents first, the full pages under patches too.
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

/// Like [`visit_map_slots`]; also calls `place` for each extent that a slot names which is read, zero ones too.
///
/// What a slot names follows from the slot alone, and each one is read once: whoever says false for slots that were seen
/// hears of all places that a set of maps refers to, and reads nothing twice. This is what keeps data in the
/// repository, and it is more than the versions read: extents of a full page come as they are, even where a patch, a
/// sheet or a node overrides them, even behind the end of the map, and those of a sheet even for hidden pages. So extents
/// overlap and come in no order, and none says what the version has there: for that there is
/// [`MapCursor`](super::MapCursor). Of each page, a patch and the changes in the node cover at most an eighth of the
/// blocks each; a sheet names at most 65,536 extents.
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
        let node_start = index.saturating_mul(self.geometry.span(level));
        if let Some(sheet) = &node.changed.sheet
            && (self.enter)(sheet.address, SlotKind::MapNode)?
        {
            self.places(node_start, &load_sheet(self.reader, self.geometry, sheet)?)?;
        }
        self.places(node_start, &node.changed.changes)?;
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
        let page_start = index.saturating_mul(u64::from(self.geometry.page_blocks));
        let full = match read_page_body(self.reader, self.geometry, address)? {
            (PageBody::Full(full), _) => full,
            (PageBody::Patch(patch), _) => {
                self.places(page_start, &patch.changes)?;
                if !(self.enter)(patch.base, SlotKind::MapPage)? {
                    return Ok(());
                }
                full_page_of(self.reader, self.geometry, address, &patch)?.0
            }
        };
        self.places(page_start, &full.extents)
    }

    fn places(&mut self, start: u64, extents: &[PageExtent]) -> Result<()> {
        // Not cut at the end of this map: a larger map may share the slot and not read it again.
        for extent in extents {
            let blocks = BlockRange {
                start: BlockIndex(start.saturating_add(u64::from(extent.start))),
                count: BlockCount(u64::from(extent.count())),
            };
            (self.place)(Extent { blocks, place: extent.place })?;
        }
        Ok(())
    }
}
