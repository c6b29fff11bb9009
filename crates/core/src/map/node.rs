//! Nodes: 1,024 pointers to pages or to nodes of the level below.
//!
//! ```text
//! node   0 | level (1) | places
//! ```
//!
//! The pointers are stored as places of one block each (`columns.rs`); zero is the null pointer: all below it is zero.
//! Level 1 points to pages. A node has all of its pointers always; a node of null pointers only is not stored.

use crate::error::{Error, ErrorKind, Result};
use crate::ids::SlotAddress;
use crate::wire::{Reader, Writer};

use super::columns::{read_places, write_places};
use super::extent::Place;
use super::geometry::{Geometry, LEVEL_MAX};

/// The largest body of a node in bytes; one whose pointers all go to different packs has 22,000.
pub const NODE_BODY_BYTES_MAX: usize = 32 << 10;

const KIND: u8 = 0;

/// The pointers of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 1 above pages, one more with each level.
    pub(crate) level: u8,
    /// All pointers of the node, null ones too.
    pub(crate) pointers: Vec<Option<SlotAddress>>,
}

impl Node {
    /// Reads the body of a node; `Damaged` if it is anything that is never written, `Unsupported` if its kind is new.
    pub fn decode(body: &[u8]) -> Result<Node> {
        Node::decode_with(Geometry::STORED, body)
    }

    /// Returns the node as it is stored; exactly the bytes that it was read from.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(KIND);
        writer.u8(self.level);
        write_places(&mut writer, self.pointers.iter().map(|pointer| (place_of(*pointer), 1)));
        writer.into_bytes()
    }

    pub(crate) fn decode_with(geometry: Geometry, body: &[u8]) -> Result<Node> {
        let mut reader = Reader::new(body, "a map node");
        if body.len() > NODE_BODY_BYTES_MAX {
            return Err(reader.error(&format!("has {} bytes", body.len())));
        }
        let kind = reader.u8()?;
        if kind != KIND {
            return Err(Error::new(ErrorKind::Unsupported, format!("a map node is of the unknown kind {kind}")));
        }
        let level = reader.u8()?;
        if level == 0 || level > LEVEL_MAX {
            return Err(reader.error(&format!("is of level {level}")));
        }
        let mut pointers = Vec::with_capacity(geometry.node_pointers as usize);
        read_places(&mut reader, &vec![1; geometry.node_pointers as usize], |place| {
            pointers.push(match place {
                Place::Zero => None,
                Place::Stored { pack, first_slot } => Some(SlotAddress { pack, slot: first_slot }),
                Place::Missing => return Err(Error::damaged("a map node has a pointer that is missing")),
            });
            Ok(())
        })?;
        reader.finish()?;
        let node = Node { level, pointers };
        if node.is_null() {
            return Err(Error::damaged("a map node has no pointers"));
        }
        Ok(node)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.pointers.iter().all(Option::is_none)
    }
}

fn place_of(pointer: Option<SlotAddress>) -> Place {
    pointer.map_or(Place::Zero, |address| Place::Stored { pack: address.pack, first_slot: address.slot })
}
