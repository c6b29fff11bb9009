//! The way from the root of a stored map to one of its pages, with what was read last kept at each level.

use crate::error::{Error, Result, ResultExt};
use crate::ids::SlotAddress;
use crate::pack::SlotKind;

use super::geometry::Geometry;
use super::node::Node;
use super::page::{Page, PageBody, PageExtent, Patch};
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
    nodes: Vec<Option<(u64, Node)>>,
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
        let is_loaded = |node: &Option<(u64, Node)>| node.as_ref().is_some_and(|(index, _)| *index == parent);
        if !self.nodes.get(usize::from(level)).is_some_and(is_loaded) {
            let Subtree::At(address) = self.subtree(reader, level + 1, parent)? else { return Ok(Subtree::Null) };
            let node = load_node(reader, self.geometry, blocks, level + 1, parent, address)?;
            if let Some(place) = self.nodes.get_mut(usize::from(level)) {
                *place = Some((parent, node));
            }
        }
        let node = self.nodes.get(usize::from(level)).and_then(Option::as_ref);
        let pointer = node.and_then(|(_, node)| node.pointers.get(offset).copied().flatten());
        Ok(pointer.map_or(Subtree::Null, Subtree::At))
    }

    /// Returns the pointers of the node at `index` of `level`; none if there is no stored node.
    pub fn pointers(
        &mut self,
        reader: &dyn MapReader,
        level: u8,
        index: u64,
    ) -> Result<Option<&[Option<SlotAddress>]>> {
        let first_child = index * u64::from(self.geometry.node_pointers);
        let Subtree::At(_) = self.subtree(reader, level, index)? else { return Ok(None) };
        self.subtree(reader, level - 1, first_child)?;
        let node = self.nodes.get(usize::from(level - 1)).and_then(Option::as_ref);
        Ok(node.filter(|(loaded, _)| *loaded == index).map(|(_, node)| node.pointers.as_slice()))
    }

    /// Returns the page `index`; none if it is all zero.
    pub fn page(&mut self, reader: &dyn MapReader, index: u64) -> Result<Option<&Page>> {
        let Subtree::At(address) = self.subtree(reader, 0, index)? else { return Ok(None) };
        if self.page.as_ref().is_none_or(|page| page.index != index) {
            self.page = None; // two pages at once would be twice the memory
            let page = load_page(reader, self.geometry, self.root.blocks.0, index, address)?.into_page();
            self.page = Some(LoadedPage { index, page });
        }
        Ok(self.page.as_ref().map(|loaded| &loaded.page))
    }

    /// Reads the page `index` as it is stored; none if it is all zero. Keeps no page.
    pub fn stored_page(&mut self, reader: &dyn MapReader, index: u64) -> Result<Option<StoredPage>> {
        let Subtree::At(address) = self.subtree(reader, 0, index)? else { return Ok(None) };
        load_page(reader, self.geometry, self.root.blocks.0, index, address).map(Some)
    }
}

/// The page that was read last.
#[derive(Clone, Debug)]
struct LoadedPage {
    index: u64,
    /// All blocks of the page, the patch applied.
    page: Page,
}

/// A page as it is stored: a full one, and perhaps a patch on top.
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
}

impl StoredPage {
    fn changes(&self) -> &[PageExtent] {
        self.patch.as_ref().map_or(&[], |patch| &patch.changes)
    }

    /// Returns all blocks of the page, the patch applied.
    pub fn into_page(self) -> Page {
        match &self.patch {
            Some(patch) => self.full.patched(&patch.changes),
            None => self.full,
        }
    }
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
    let node = Node::decode_with(geometry, &body).context(doing)?;
    if node.level != level {
        let problem = format!("it is of level {} and not {level}", node.level);
        return Err(Error::damaged(problem)).context(doing);
    }
    let first_child = index * u64::from(geometry.node_pointers);
    let is_beyond = |child: u64| (first_child + child).saturating_mul(geometry.span(level - 1)) >= blocks;
    if (0u64..).zip(&node.pointers).any(|(child, pointer)| pointer.is_some() && is_beyond(child)) {
        return Err(Error::damaged("it points behind the end of the map")).context(doing);
    }
    Ok(node)
}

/// Reads the page `index`, with the full page below if it is a patch, and checks that it fits there.
pub(crate) fn load_page(
    reader: &dyn MapReader,
    geometry: Geometry,
    blocks: u64,
    index: u64,
    address: SlotAddress,
) -> Result<StoredPage> {
    let doing = || format!("read map page {address}");
    let (body, body_bytes) = read_page_body(reader, geometry, address)?;
    let loaded = match body {
        PageBody::Full(full) => StoredPage { address, full, patch: None, full_body_bytes: body_bytes },
        PageBody::Patch(patch) => {
            let (body, full_body_bytes) = read_page_body(reader, geometry, patch.base).context(doing)?;
            let PageBody::Full(full) = body else {
                return Err(Error::damaged("it is a patch of a patch")).context(doing);
            };
            StoredPage { address, full, patch: Some(patch), full_body_bytes }
        }
    };
    let rest = blocks.saturating_sub(index * u64::from(geometry.page_blocks));
    let used = u32::try_from(rest).unwrap_or(u32::MAX);
    if !loaded.full.is_zero_below(loaded.changes(), used, u32::MAX) {
        return Err(Error::damaged("it has blocks behind the end of the map")).context(doing);
    }
    Ok(loaded)
}

fn read_page_body(reader: &dyn MapReader, geometry: Geometry, address: SlotAddress) -> Result<(PageBody, u64)> {
    let body = reader.read_map_slot(address, SlotKind::MapPage)?;
    let page = PageBody::decode_with(geometry, &body).context(|| format!("read map page {address}"))?;
    Ok((page, body.len() as u64))
}
