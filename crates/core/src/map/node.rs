//! Nodes: 1,024 pointers to pages or to nodes of the level below; and what changed in the pages since they were written.
//!
//! ```text
//! node             0 | level (1) | places
//! changed node     1 | level (1) | places | spent bytes | sheet | changes
//!                  sheet: 0, or 1 | pack (16) | slot (2) | count | gaps, of hidden pages
//! sheet            2 | changes
//! ```
//!
//! The pointers are stored as places of one block each (`columns.rs`); zero is the null pointer: all below it is zero.
//! Level 1 points to pages. A node has all of its pointers always; a node of null pointers only is not stored.
//!
//! A changed node is of level 1. What its pages say is overridden by the sheet, and that by the node's own changes
//! (`changes.rs`). A hidden page was written after the sheet, which says nothing about it any more.

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{PackId, SlotAddress, SlotNumber};
use crate::pack::SLOTS_MAX;
use crate::wire::{Reader, Writer};

use super::changes::{ExtentLimits, read_changes, write_changes};
use super::columns::{read_places, write_places};
use super::extent::Place;
use super::geometry::{Geometry, LEVEL_MAX};
use super::page::PageExtent;

/// The largest body of a node in bytes. 1,024 pointers to different packs have 22,000, 65,536 changes in different packs
/// 1,800,000.
pub const NODE_BODY_BYTES_MAX: usize = 2 << 20;

const KIND_PLAIN: u8 = 0;
const KIND_CHANGED: u8 = 1;
const KIND_SHEET: u8 = 2;

/// The pointers of a node, and what changed below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 1 above pages, one more with each level.
    pub(crate) level: u8,
    /// All pointers of the node, null ones too.
    pub(crate) pointers: Vec<Option<SlotAddress>>,
    /// What changed in the pages since they were written.
    pub(crate) changed: Changed,
}

/// What changed in the pages below a node since they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Changes that are kept in a slot of their own.
    pub sheet: Option<SheetPointer>,
    /// What the node's own changes cost since the sheet was written (`collect.rs`).
    pub spent_bytes: u64,
    /// Changes after those of the sheet; they count from the first block below the node.
    pub changes: Vec<PageExtent>,
}

/// Where the sheet of a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SheetPointer {
    pub address: SlotAddress,
    /// Which pages, counted from the node's first one, the sheet says nothing about any more; ascending.
    pub hidden: Vec<u32>,
}

/// Changes of pages below a node, in order; they count from the first block below the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    pub(crate) changes: Vec<PageExtent>,
}

/// What the body of a node slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeBody {
    /// A node.
    Node(Node),
    /// Changes of pages below one.
    Sheet(Sheet),
}

impl NodeBody {
    /// Reads the body of a node slot; `Damaged` if it is anything that is never written, `Unsupported` if its kind is
    /// new.
    pub fn decode(body: &[u8]) -> Result<NodeBody> {
        NodeBody::decode_with(Geometry::STORED, body)
    }

    /// Returns the body; exactly the bytes that it was read from.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            NodeBody::Node(node) => node.encode(),
            NodeBody::Sheet(sheet) => sheet.encode(),
        }
    }

    pub(crate) fn decode_with(geometry: Geometry, body: &[u8]) -> Result<NodeBody> {
        let mut reader = Reader::new(body, "a map node");
        if body.len() > NODE_BODY_BYTES_MAX {
            return Err(reader.error(&format!("has {} bytes", body.len())));
        }
        let body = match reader.u8()? {
            kind @ (KIND_PLAIN | KIND_CHANGED) => {
                NodeBody::Node(read_node(geometry, &mut reader, kind == KIND_CHANGED)?)
            }
            KIND_SHEET => {
                let changes = read_changes(&mut reader, limits(geometry))?;
                if changes.is_empty() {
                    return Err(reader.error("changes nothing"));
                }
                NodeBody::Sheet(Sheet { changes })
            }
            kind => {
                return Err(Error::new(ErrorKind::Unsupported, format!("a map node is of the unknown kind {kind}")));
            }
        };
        reader.finish()?;
        Ok(body)
    }
}

impl Node {
    /// Returns the node as it is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(if self.changed.is_none() { KIND_PLAIN } else { KIND_CHANGED });
        writer.u8(self.level);
        write_places(&mut writer, self.pointers.iter().map(|pointer| (place_of(*pointer), 1)));
        if !self.changed.is_none() {
            self.changed.write(&mut writer);
        }
        writer.into_bytes()
    }

    pub(crate) fn is_null(&self) -> bool {
        self.pointers.iter().all(Option::is_none)
    }
}

impl Changed {
    pub fn is_none(&self) -> bool {
        self.sheet.is_none() && self.changes.is_empty()
    }

    fn write(&self, writer: &mut Writer) {
        writer.varint(self.spent_bytes);
        match &self.sheet {
            None => writer.u8(0),
            Some(sheet) => {
                writer.u8(1);
                writer.bytes(sheet.address.pack.bytes());
                writer.u16(sheet.address.slot.0);
                writer.varint(sheet.hidden.len() as u64);
                let mut next = 0;
                for page in &sheet.hidden {
                    writer.varint(u64::from(page - next));
                    next = page + 1;
                }
            }
        }
        write_changes(writer, &self.changes);
    }
}

impl Sheet {
    /// Returns the sheet as it is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(KIND_SHEET);
        write_changes(&mut writer, &self.changes);
        writer.into_bytes()
    }
}

fn read_node(geometry: Geometry, reader: &mut Reader<'_>, is_changed: bool) -> Result<Node> {
    let level = reader.u8()?;
    if level == 0 || level > LEVEL_MAX || (is_changed && level > 1) {
        return Err(reader.error(&format!("is of level {level}")));
    }
    let mut pointers = Vec::with_capacity(geometry.node_pointers as usize);
    read_places(reader, &vec![1; geometry.node_pointers as usize], |place| {
        pointers.push(match place {
            Place::Zero => None,
            Place::Stored { pack, first_slot } => Some(SlotAddress { pack, slot: first_slot }),
            Place::Missing => return Err(Error::damaged("a map node has a pointer that is missing")),
        });
        Ok(())
    })?;
    let changed = if is_changed { read_changed(geometry, reader)? } else { Changed::default() };
    let node = Node { level, pointers, changed };
    if node.is_null() {
        return Err(reader.error("has no pointers"));
    }
    Ok(node)
}

fn read_changed(geometry: Geometry, reader: &mut Reader<'_>) -> Result<Changed> {
    let spent_bytes = reader.varint()?;
    let sheet = match reader.u8()? {
        0 => None,
        1 => Some(read_sheet_pointer(geometry, reader)?),
        _ => return Err(reader.error("has neither a sheet nor none")),
    };
    let changed = Changed { sheet, spent_bytes, changes: read_changes(reader, limits(geometry))? };
    if changed.is_none() {
        return Err(reader.error("changes nothing"));
    }
    Ok(changed)
}

fn read_sheet_pointer(geometry: Geometry, reader: &mut Reader<'_>) -> Result<SheetPointer> {
    let address = SlotAddress { pack: PackId::from_bytes(reader.array()?), slot: SlotNumber(reader.u16()?) };
    if usize::from(address.slot.0) >= SLOTS_MAX {
        return Err(reader.error("has its sheet in a slot that no pack has"));
    }
    let pages = geometry.node_pointers;
    let count = reader.count(pages as usize)?;
    let mut hidden = Vec::with_capacity(count);
    let mut next = 0u32;
    for _ in 0..count {
        // Both are at most the number of pointers, so this cannot overflow.
        let page = next + u32::try_from(reader.count(pages as usize)?).unwrap_or(pages);
        if page >= pages {
            return Err(reader.error("hides a page that it does not have"));
        }
        hidden.push(page);
        next = page + 1;
    }
    Ok(SheetPointer { address, hidden })
}

fn limits(geometry: Geometry) -> ExtentLimits {
    let blocks = u32::try_from(geometry.span(1)).unwrap_or(u32::MAX);
    ExtentLimits { blocks, page_blocks: geometry.page_blocks, count: geometry.changes_max }
}

fn place_of(pointer: Option<SlotAddress>) -> Place {
    pointer.map_or(Place::Zero, |address| Place::Stored { pack: address.pack, first_slot: address.slot })
}
