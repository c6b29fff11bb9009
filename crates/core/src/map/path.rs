//! The way from the root of a stored map to one of its pages, with what was read last kept at each level.

use crate::error::{Error, Result, ResultExt};
use crate::ids::SlotAddress;
use crate::pack::SlotKind;

use super::changes::{in_page, of_page};
use super::geometry::Geometry;
use super::node::{Node, NodeBody, SheetPointer};
use super::page::{Page, PageBody, PageExtent, Patch, overlay};
use super::{MapReader, MapRoot};

/// What is at a place of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subtree {
    /// Nothing: all zero.
    Null,
    /// A page (level 0) or a node.
    At(SlotAddress),
    /// The tree is lower than that, and all of it lies below here. Look further down.
    Above,
}

/// A stored map, and the page and the nodes of it that were read last.
#[derive(Clone, Debug)]
pub(crate) struct MapPath {
    pub geometry: Geometry,
    pub root: MapRoot,
    pub height: u8,
    nodes: Vec<Option<(u64, LoadedNode)>>,
    page: Option<LoadedPage>,
}

impl MapPath {
    pub fn new(geometry: Geometry, root: MapRoot) -> MapPath {
        let height = geometry.height(root.blocks.0);
        MapPath { geometry, root, height, nodes: vec![None; usize::from(height)], page: None }
    }

    /// Returns what is at `index` of `level`; reads at most one node per level, and none that was read just before.
    pub fn subtree(&mut self, reader: &dyn MapReader, level: u8, index: u64) -> Result<Subtree> {
        let blocks = self.root.blocks.0;
        if blocks > self.geometry.blocks_max() {
            return Err(Error::damaged(format!("a map has {blocks} blocks, which is more than any can have")));
        }
        let Some(root) = self.root.root else { return Ok(Subtree::Null) };
        if index.saturating_mul(self.geometry.span(level)) >= blocks {
            return Ok(Subtree::Null);
        }
        if level >= self.height {
            return Ok(if level == self.height { Subtree::At(root) } else { Subtree::Above });
        }
        let (parent, offset) = self.geometry.parent_of(index);
        let is_loaded = |node: &Option<(u64, LoadedNode)>| node.as_ref().is_some_and(|(index, _)| *index == parent);
        if !self.nodes.get(usize::from(level)).is_some_and(is_loaded) {
            let Subtree::At(address) = self.subtree(reader, level + 1, parent)? else { return Ok(Subtree::Null) };
            let node = load_node_and_sheet(reader, self.geometry, blocks, level + 1, parent, address)?;
            if let Some(place) = self.nodes.get_mut(usize::from(level)) {
                *place = Some((parent, node));
            }
        }
        let node = self.nodes.get(usize::from(level)).and_then(Option::as_ref);
        let pointer = node.and_then(|(_, loaded)| loaded.node.pointers.get(offset).copied().flatten());
        Ok(pointer.map_or(Subtree::Null, Subtree::At))
    }

    /// Returns the node at `index` of `level`, 1 or higher; none if there is no stored node.
    pub fn node(&mut self, reader: &dyn MapReader, level: u8, index: u64) -> Result<Option<&LoadedNode>> {
        let first_child = index * u64::from(self.geometry.node_pointers);
        let Subtree::At(_) = self.subtree(reader, level, index)? else { return Ok(None) };
        self.subtree(reader, level - 1, first_child)?;
        let node = self.nodes.get(usize::from(level - 1)).and_then(Option::as_ref);
        Ok(node.filter(|(loaded, _)| *loaded == index).map(|(_, node)| node))
    }

    /// Returns what changed in the page `index` since it was written.
    pub fn collected(&mut self, reader: &dyn MapReader, index: u64) -> Result<Collected> {
        let geometry = self.geometry;
        let (parent, offset) = geometry.parent_of(index);
        let node = self.node(reader, 1, parent)?;
        Ok(node.map(|node| node.collected(geometry, offset)).unwrap_or_default())
    }

    /// Returns the page `index`; none if it is all zero.
    pub fn page(&mut self, reader: &dyn MapReader, index: u64) -> Result<Option<&Page>> {
        if self.page.as_ref().is_none_or(|page| page.index != index) {
            self.page = None; // two pages at once would be twice the memory
            let Some(page) = self.stored_page(reader, index)? else { return Ok(None) };
            self.page = Some(LoadedPage { index, page: page.into_page() });
        }
        Ok(self.page.as_ref().map(|loaded| &loaded.page))
    }

    /// Reads the page `index` as it is stored; none if it is all zero. Keeps no page.
    pub fn stored_page(&mut self, reader: &dyn MapReader, index: u64) -> Result<Option<StoredPage>> {
        let Subtree::At(address) = self.subtree(reader, 0, index)? else { return Ok(None) };
        let collected = self.collected(reader, index)?;
        load_page(reader, self.geometry, self.root.blocks.0, index, address, collected).map(Some)
    }
}

/// The page that was read last.
#[derive(Clone, Debug)]
struct LoadedPage {
    index: u64,
    /// All blocks of the page, everything applied.
    page: Page,
}

/// What changed in a page since it was written, in the order of the age; the blocks count from the page's first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// What the sheet of the node says.
    pub sheet: Vec<PageExtent>,
    /// What the node says itself.
    pub own: Vec<PageExtent>,
}

impl Collected {
    /// Returns all of it, in order.
    pub fn all(&self) -> Vec<PageExtent> {
        overlay(&self.sheet, &self.own)
    }
}

/// A node as it is stored, with its sheet.
#[derive(Clone, Debug)]
pub(crate) struct LoadedNode {
    pub node: Node,
    /// What the sheet says about pages that are not hidden.
    pub sheet: Vec<PageExtent>,
    /// How many changes the sheet has, those of hidden pages too.
    pub sheet_count: usize,
}

impl LoadedNode {
    /// Returns what changed in the page `offset` since it was written.
    pub fn collected(&self, geometry: Geometry, offset: usize) -> Collected {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let of_page = |changes| in_page(changes, geometry.page_blocks, offset);
        Collected { sheet: of_page(&self.sheet), own: of_page(&self.node.changed.changes) }
    }
}

/// A page as it is stored: a full one, perhaps a patch on top, and perhaps changes in the node.
#[derive(Clone, Debug)]
pub(crate) struct StoredPage {
    /// Where the page is: the patch, if there is one.
    pub address: SlotAddress,
    /// The full page.
    pub full: Page,
    /// What differs from the full page.
    pub patch: Option<Patch>,
    /// How many bytes the plain body of the full page has.
    pub full_body_bytes: u64,
    /// What changed since the page, or the patch, was written.
    pub collected: Collected,
}

impl StoredPage {
    /// Returns all blocks of the page, the patch and what changed later applied.
    pub fn into_page(self) -> Page {
        let changes = overlay(self.patch_changes(), &self.collected.all());
        if changes.is_empty() { self.full } else { self.full.patched(&changes) }
    }

    /// Returns what the patch changes.
    pub fn patch_changes(&self) -> &[PageExtent] {
        self.patch.as_ref().map_or(&[], |patch| &patch.changes)
    }
}

/// Reads the node at `index` of `level`, with its sheet, and checks that both fit there.
pub(crate) fn load_node_and_sheet(
    reader: &dyn MapReader,
    geometry: Geometry,
    blocks: u64,
    level: u8,
    index: u64,
    address: SlotAddress,
) -> Result<LoadedNode> {
    load_node(reader, geometry, blocks, level, index, address).and_then(|node| with_sheet(reader, geometry, node))
}

/// Reads the sheet of a node and checks that it fits there.
pub(crate) fn with_sheet(reader: &dyn MapReader, geometry: Geometry, node: Node) -> Result<LoadedNode> {
    let Some(pointer) = &node.changed.sheet else { return Ok(LoadedNode { node, sheet: Vec::new(), sheet_count: 0 }) };
    let mut sheet = load_sheet(reader, geometry, pointer)?;
    let sheet_count = sheet.len();
    let is_hidden = |change: &PageExtent| pointer.hidden.binary_search(&(change.start / geometry.page_blocks)).is_ok();
    sheet.retain(|change| !is_hidden(change));
    check_above_pages(geometry, &node, &sheet).context(|| format!("read sheet {}", pointer.address))?;
    Ok(LoadedNode { node, sheet, sheet_count })
}

/// Reads all changes of a sheet, those of hidden pages too.
pub(crate) fn load_sheet(
    reader: &dyn MapReader,
    geometry: Geometry,
    pointer: &SheetPointer,
) -> Result<Vec<PageExtent>> {
    let doing = || format!("read sheet {}", pointer.address);
    let body = reader.read_map_slot(pointer.address, SlotKind::MapNode)?;
    match NodeBody::decode_with(geometry, &body).context(doing)? {
        NodeBody::Sheet(sheet) => Ok(sheet.changes),
        NodeBody::Node(_) => Err(Error::damaged("it is a node")).context(doing),
    }
}

/// Zeros are not changed in a node: a null pointer is all zero.
fn check_above_pages(geometry: Geometry, node: &Node, changes: &[PageExtent]) -> Result<()> {
    let mut rest = changes;
    while let Some(first) = rest.first() {
        let offset = first.start / geometry.page_blocks;
        if node.pointers.get(offset as usize).is_none_or(Option::is_none) {
            return Err(Error::damaged("it changes a page that is not there"));
        }
        let count = of_page(rest, geometry.page_blocks, offset).len();
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Reads the node at `index` of `level` and checks that it fits there.
pub(crate) fn load_node(
    reader: &dyn MapReader,
    geometry: Geometry,
    blocks: u64,
    level: u8,
    index: u64,
    address: SlotAddress,
) -> Result<Node> {
    let doing = || format!("read map node {address}");
    let body = reader.read_map_slot(address, SlotKind::MapNode)?;
    let NodeBody::Node(node) = NodeBody::decode_with(geometry, &body).context(doing)? else {
        return Err(Error::damaged("it is a sheet and no node")).context(doing);
    };
    if node.level != level {
        let problem = format!("it is of level {} and not {level}", node.level);
        return Err(Error::damaged(problem)).context(doing);
    }
    let first_child = index * u64::from(geometry.node_pointers);
    let is_beyond = |child: u64| (first_child + child).saturating_mul(geometry.span(level - 1)) >= blocks;
    if (0u64..).zip(&node.pointers).any(|(child, pointer)| pointer.is_some() && is_beyond(child)) {
        return Err(Error::damaged("it points behind the end of the map")).context(doing);
    }
    check_above_pages(geometry, &node, &node.changed.changes).context(doing)?;
    Ok(node)
}

/// Reads the page `index`, with the full page below if it is a patch, and checks that it fits there.
pub(crate) fn load_page(
    reader: &dyn MapReader,
    geometry: Geometry,
    blocks: u64,
    index: u64,
    address: SlotAddress,
    collected: Collected,
) -> Result<StoredPage> {
    let doing = || format!("read map page {address}");
    let (body, body_bytes) = read_page_body(reader, geometry, address)?;
    let loaded = match body {
        PageBody::Full(full) => StoredPage { address, full, patch: None, full_body_bytes: body_bytes, collected },
        PageBody::Patch(patch) => {
            let (full, full_body_bytes) = full_page_of(reader, geometry, address, &patch)?;
            StoredPage { address, full, patch: Some(patch), full_body_bytes, collected }
        }
    };
    let rest = blocks.saturating_sub(index * u64::from(geometry.page_blocks));
    let used = u32::try_from(rest).unwrap_or(u32::MAX);
    let changes = overlay(loaded.patch_changes(), &loaded.collected.all());
    if !loaded.full.is_zero_below(&changes, used, u32::MAX) {
        return Err(Error::damaged("it has blocks behind the end of the map")).context(doing);
    }
    Ok(loaded)
}

/// Reads the full page below the patch at `address`, and says how many bytes its plain body has.
pub(crate) fn full_page_of(
    reader: &dyn MapReader,
    geometry: Geometry,
    address: SlotAddress,
    patch: &Patch,
) -> Result<(Page, u64)> {
    let doing = || format!("read map page {address}");
    match read_page_body(reader, geometry, patch.base).context(doing)? {
        (PageBody::Full(full), body_bytes) => Ok((full, body_bytes)),
        (PageBody::Patch(_), _) => Err(Error::damaged("it is a patch of a patch")).context(doing),
    }
}

/// Reads a page slot, and says how many bytes its plain body has.
pub(crate) fn read_page_body(
    reader: &dyn MapReader,
    geometry: Geometry,
    address: SlotAddress,
) -> Result<(PageBody, u64)> {
    let body = reader.read_map_slot(address, SlotKind::MapPage)?;
    let page = PageBody::decode_with(geometry, &body).context(|| format!("read map page {address}"))?;
    Ok((page, body.len() as u64))
}
