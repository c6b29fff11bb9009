//! Writes a map on top of another one, copy on write.
//!
//! The builder goes through the volume once, from the first block to the last, and hands finished pages and nodes up:
//!
//! ```text
//!   kept:  whole subtrees of the base, as large as fit    -> their pointer, unread
//!   zero:  whole subtrees                                 -> null
//!   else:  a page is filled, block by block               -> null, the base's pointer if it says the same or the node
//!                                                           collects the changes (`collect.rs`), or written
//!   a node whose pointers are complete                    -> likewise, perhaps with a new sheet
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::ids::SlotAddress;
use crate::pack::{SLOTS_MAX, SlotKind};
use crate::units::BlockCount;

use super::collect::{Collecting, PagePlan, new_sheet};
use super::extent::{Extent, Place};
use super::geometry::Geometry;
use super::node::{Changed, Node, SheetPointer};
use super::page::{Page, PageExtent, overlay, push_merged};
use super::patch::{ChangedPage, change_page};
use super::path::{Collected, MapPath, Subtree};
use super::{MapReader, MapRoot, MapWriter};

/// A map in the making.
///
/// Blocks that are not [`set`](MapBuilder::set) stay where the base has them; behind the end of the base they are
/// zero. Pages and nodes that say what those of the base say are not written again. After an error of the reader or
/// the writer the builder is of no use any more and refuses everything.
#[derive(Clone)]
pub struct MapBuilder {
    geometry: Geometry,
    base: MapPath,
    blocks: BlockCount,
    height: u8,
    /// All blocks before this one are done.
    position: u64,
    /// What was set in the page that holds `position`, unless nothing of the page is done; the rest is as in the base.
    page: Option<Vec<PageExtent>>,
    /// The pointers of the node of level 1, 2, ... that holds `position`, as far as they are done.
    nodes: Vec<Vec<Option<SlotAddress>>>,
    /// The changes of the node of level 1 that holds `position`, as far as they are done.
    collecting: Collecting,
    /// The pointer to the root, when it is done.
    root: Option<Option<SlotAddress>>,
    has_failed: bool,
}

impl MapBuilder {
    /// Begins a map of `blocks` on top of `base`, or of zeros.
    pub fn new(base: Option<MapRoot>, blocks: BlockCount) -> MapBuilder {
        MapBuilder::with_geometry(Geometry::STORED, base, blocks)
    }

    pub(crate) fn with_geometry(geometry: Geometry, base: Option<MapRoot>, blocks: BlockCount) -> MapBuilder {
        let base = base.unwrap_or(MapRoot { blocks: BlockCount(0), root: None });
        let height = geometry.height(blocks.0);
        MapBuilder {
            geometry,
            base: MapPath::new(geometry, base),
            blocks,
            height,
            position: 0,
            page: None,
            nodes: vec![Vec::new(); usize::from(height)],
            collecting: Collecting::default(),
            root: None,
            has_failed: false,
        }
    }

    /// Sets the place of the blocks of `extent`, which lie behind all that were set before.
    ///
    /// `InvalidInput` if they do not, if they lie behind the end of the map or in slots that no pack has; the builder
    /// is as it was then.
    pub fn set(&mut self, reader: &dyn MapReader, writer: &mut dyn MapWriter, extent: Extent) -> Result<()> {
        self.check(extent)?;
        self.has_failed = true;
        self.keep(reader, writer, extent.blocks.start.0)?;
        self.fill(reader, writer, extent.place, extent.blocks.end().0)?;
        self.has_failed = false;
        Ok(())
    }

    /// Returns the root of a map with all that was set so far, and the base's blocks behind.
    ///
    /// The builder goes on afterwards as if nothing had happened; the page and the nodes that are not complete yet are
    /// written a second time later.
    pub fn checkpoint(&mut self, reader: &dyn MapReader, writer: &mut dyn MapWriter) -> Result<MapRoot> {
        self.clone().finish(reader, writer)
    }

    /// Returns the root of the finished map.
    pub fn finish(mut self, reader: &dyn MapReader, writer: &mut dyn MapWriter) -> Result<MapRoot> {
        self.check_usable()?;
        let capacity = self.geometry.span(self.height);
        if self.base.root.blocks > self.blocks {
            self.keep(reader, writer, self.blocks.0)?;
            self.fill(reader, writer, Place::Zero, capacity)?;
        } else {
            self.keep(reader, writer, capacity)?;
        }
        let root = self.root.ok_or_else(|| Error::invalid("the map was not complete at its end"))?;
        Ok(MapRoot { blocks: self.blocks, root })
    }

    fn check_usable(&self) -> Result<()> {
        if self.has_failed {
            return Err(Error::invalid("the map could not be written before and cannot be gone on with"));
        }
        if self.blocks.0 > self.geometry.blocks_max() {
            return Err(Error::invalid(format!("a map cannot have {} blocks", self.blocks)));
        }
        Ok(())
    }

    fn check(&self, extent: Extent) -> Result<()> {
        self.check_usable()?;
        let Extent { blocks, place } = extent;
        if blocks.start.0 < self.position {
            return Err(Error::invalid(format!("block {} of the map was set already", blocks.start)));
        }
        if blocks.start.0.checked_add(blocks.count.0).is_none_or(|end| end > self.blocks.0) {
            let problem =
                format!("{} blocks from {} are too many: the map has {}", blocks.count, blocks.start, self.blocks);
            return Err(Error::invalid(problem));
        }
        let slots = SLOTS_MAX as u64;
        match place {
            Place::Stored { first_slot, .. } if u64::from(first_slot.0).saturating_add(blocks.count.0) > slots => {
                Err(Error::invalid(format!("{} slots from {first_slot} are more than a pack has", blocks.count)))
            }
            _ => Ok(()),
        }
    }

    /// Keeps what the base has, up to `end`.
    fn keep(&mut self, reader: &dyn MapReader, writer: &mut dyn MapWriter, end: u64) -> Result<()> {
        while self.position < end {
            match self.base_subtree(reader, end)? {
                Some((level, pointer)) => self.hand_up(reader, writer, level, pointer)?,
                None => {
                    let (_, start) = self.geometry.page_of(self.position);
                    self.page.get_or_insert_default();
                    self.advance_in_page(reader, writer, self.stop_in_page(end) - start)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the largest subtree of the base that begins at the position and ends by `end`.
    fn base_subtree(&mut self, reader: &dyn MapReader, end: u64) -> Result<Option<(u8, Option<SlotAddress>)>> {
        for level in (0..=self.height).rev().filter(|&level| self.fits(level, end)).collect::<Vec<u8>>() {
            let index = self.position / self.geometry.span(level);
            // A map without nodes has nothing to collect changes in.
            if self.height == 0 && self.base.collected(reader, index)? != Collected::default() {
                return Ok(None);
            }
            match self.base.subtree(reader, level, index)? {
                Subtree::Null => return Ok(Some((level, None))),
                Subtree::At(address) => return Ok(Some((level, Some(address)))),
                Subtree::Above => {}
            }
        }
        Ok(None)
    }

    /// Says whether a subtree of `level` begins at the position and ends by `end`.
    fn fits(&self, level: u8, end: u64) -> bool {
        let span = self.geometry.span(level);
        self.page.is_none() && self.position.is_multiple_of(span) && end - self.position >= span
    }

    /// Puts the blocks up to `end` in `place`, which is that of the block at the position.
    fn fill(&mut self, reader: &dyn MapReader, writer: &mut dyn MapWriter, place: Place, end: u64) -> Result<()> {
        let first = self.position;
        while self.position < end {
            let level = (0..=self.height).rev().find(|&level| place == Place::Zero && self.fits(level, end));
            if let Some(level) = level {
                self.hand_up(reader, writer, level, None)?;
                continue;
            }
            let (_, start) = self.geometry.page_of(self.position);
            let stop = self.stop_in_page(end);
            let place = place.after(self.position - first);
            push_merged(self.page.get_or_insert_default(), PageExtent { start, end: stop, place });
            self.advance_in_page(reader, writer, stop - start)?;
        }
        Ok(())
    }

    /// Returns where in the page of the position to stop, to be at `end` or at the end of the page.
    fn stop_in_page(&self, end: u64) -> u32 {
        let (index, _) = self.geometry.page_of(self.position);
        let page_start = index * u64::from(self.geometry.page_blocks);
        let rest = u32::try_from(end - page_start).unwrap_or(u32::MAX);
        rest.min(self.geometry.page_blocks)
    }

    fn advance_in_page(&mut self, reader: &dyn MapReader, writer: &mut dyn MapWriter, count: u32) -> Result<()> {
        let (index, _) = self.geometry.page_of(self.position);
        self.position += u64::from(count);
        if !self.position.is_multiple_of(u64::from(self.geometry.page_blocks)) {
            return Ok(());
        }
        let set = self.page.take().unwrap_or_default();
        let stored = self.store_page(reader, writer, index, &set)?;
        self.place_page(reader, writer, index, stored)
    }

    fn store_page(
        &mut self,
        reader: &dyn MapReader,
        writer: &mut dyn MapWriter,
        index: u64,
        set: &[PageExtent],
    ) -> Result<NewPage> {
        // A page that is set throughout needs nothing of the base's, which may be damaged.
        let stored = self.base.stored_page(reader, index);
        let set_blocks: u32 = set.iter().map(|extent| extent.end - extent.start).sum();
        let page_start = index * u64::from(self.geometry.page_blocks);
        let map_blocks = (self.blocks.0 - page_start).min(u64::from(self.geometry.page_blocks));
        let stored = if u64::from(set_blocks) >= map_blocks { if_readable(stored)? } else { stored? };
        let Some(stored) = stored else {
            let page = Page::zero(self.geometry.page_blocks).patched(set);
            return if page.is_zero() { Ok(NewPage::ZERO) } else { write_page(writer, &page.encode()) };
        };
        let (parent, offset) = self.geometry.parent_of(index);
        let set = match self.base.node(reader, 1, parent)? {
            None => set.to_vec(),
            // A map without nodes has nothing to collect changes in.
            Some(_) if self.height == 0 => overlay(&stored.collected.all(), set),
            Some(node) => match self.collecting.plan(self.geometry, node, to_u32(offset), &stored, set) {
                PagePlan::Keep(own) => return Ok(NewPage { pointer: Some(stored.address), own: Some(own) }),
                PagePlan::Write(set) => set,
            },
        };
        match change_page(self.geometry, &stored, &set) {
            ChangedPage::Zero => Ok(NewPage::ZERO),
            ChangedPage::At(address) => Ok(NewPage { pointer: Some(address), own: None }),
            ChangedPage::Write(body) => write_page(writer, &body),
        }
    }

    /// Moves on behind a whole subtree at the position.
    fn hand_up(
        &mut self,
        reader: &dyn MapReader,
        writer: &mut dyn MapWriter,
        level: u8,
        pointer: Option<SlotAddress>,
    ) -> Result<()> {
        let span = self.geometry.span(level);
        let index = self.position / span;
        self.position += span;
        if level > 0 || self.height == 0 {
            return self.place_pointer(reader, writer, level, index, pointer);
        }
        let own = match pointer {
            Some(_) => Some(self.base.collected(reader, index)?.own),
            None => None,
        };
        self.place_page(reader, writer, index, NewPage { pointer, own })
    }

    /// Puts a page in the node above.
    fn place_page(
        &mut self,
        reader: &dyn MapReader,
        writer: &mut dyn MapWriter,
        index: u64,
        page: NewPage,
    ) -> Result<()> {
        let (parent, offset) = self.geometry.parent_of(index);
        match &page.own {
            Some(own) => {
                if let Some(node) = self.base.node(reader, 1, parent)? {
                    self.collecting.keep(self.geometry, node, to_u32(offset), own);
                }
            }
            None => self.collecting.drop_page(to_u32(offset)),
        }
        self.place_pointer(reader, writer, 0, index, page.pointer)
    }

    /// Puts a pointer in the node above, and that node in the one above if it is complete by that.
    fn place_pointer(
        &mut self,
        reader: &dyn MapReader,
        writer: &mut dyn MapWriter,
        mut level: u8,
        mut index: u64,
        mut pointer: Option<SlotAddress>,
    ) -> Result<()> {
        while let Some(node) = self.nodes.get_mut(usize::from(level)) {
            node.push(pointer);
            if node.len() < self.geometry.node_pointers as usize {
                return Ok(());
            }
            let pointers = std::mem::take(node);
            level += 1;
            index = self.geometry.parent_of(index).0;
            pointer = self.store_node(reader, writer, index, Node { level, pointers, changed: Changed::default() })?;
        }
        self.root = Some(pointer);
        Ok(())
    }

    fn store_node(
        &mut self,
        reader: &dyn MapReader,
        writer: &mut dyn MapWriter,
        index: u64,
        mut node: Node,
    ) -> Result<Option<SlotAddress>> {
        let collecting = if node.level == 1 { std::mem::take(&mut self.collecting) } else { Collecting::default() };
        if node.is_null() {
            return Ok(None);
        }
        let same = if_readable(self.base.subtree(reader, node.level, index).map(Some))?;
        let base = self.base.node(reader, node.level, index);
        let base = if collecting.has_any() { base? } else { if_readable(base)? };
        if node.level == 1 {
            node.changed = collecting.finish(self.geometry, base);
        }
        if let (Some(Subtree::At(address)), Some(base)) = (same, base)
            && base.node == node
        {
            return Ok(Some(address));
        }
        if let Some(sheet) = new_sheet(self.geometry, base, &mut node.changed) {
            let address = writer.write_map_slot(SlotKind::MapNode, &sheet.encode())?;
            let sheet = Some(SheetPointer { address, hidden: Vec::new() });
            node.changed = Changed { sheet, spent_bytes: 0, changes: Vec::new() };
        }
        writer.write_map_slot(SlotKind::MapNode, &node.encode()).map(Some)
    }
}

/// A page that is done.
struct NewPage {
    pointer: Option<SlotAddress>,
    /// What the node says of it after the sheet; none if the node says nothing at all.
    own: Option<Vec<PageExtent>>,
}

impl NewPage {
    const ZERO: NewPage = NewPage { pointer: None, own: None };
}

fn write_page(writer: &mut dyn MapWriter, body: &[u8]) -> Result<NewPage> {
    Ok(NewPage { pointer: Some(writer.write_map_slot(SlotKind::MapPage, body)?), own: None })
}

fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX) // which of a node's pointers: at most 1,024
}

/// Turns "it is damaged" into none, where what is new is known in full and the base would only spare writing it.
fn if_readable<T>(result: Result<Option<T>>) -> Result<Option<T>> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unreadable) => {
            Ok(None)
        }
        other => other,
    }
}

impl std::fmt::Debug for MapBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MapBuilder at {} of {}, failed: {}", self.position, self.blocks, self.has_failed)
    }
}
