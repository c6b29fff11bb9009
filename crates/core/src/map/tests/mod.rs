//! Tests of the block map as a whole; a map in memory, and what makes extents quickly.

mod bodies;
mod collect;
mod model;
mod rules;
mod salvage;
mod size;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::ids::{PackId, SlotNumber};
use crate::pack::SLOTS_MAX;
use crate::units::{BlockIndex, BlockRange};

/// Map slots in memory; a clone sees the same slots.
#[derive(Clone)]
pub(super) struct Slots {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    bodies: HashMap<SlotAddress, (SlotKind, Vec<u8>)>,
    next: SlotAddress,
    pack_slots: u16,
    reads: usize,
    writes: usize,
    /// When it gets to 0, reads and writes fail.
    calls_left: usize,
}

impl Slots {
    /// Starts with the first slot of map pack `pack`; each pack takes `pack_slots`.
    pub fn new(pack_slots: u16) -> Slots {
        let next = SlotAddress { pack: map_pack(0), slot: SlotNumber(0) };
        let inner = Inner { bodies: HashMap::new(), next, pack_slots, reads: 0, writes: 0, calls_left: usize::MAX };
        Slots { inner: Rc::new(RefCell::new(inner)) }
    }

    pub fn reads(&self) -> usize {
        self.inner.borrow().reads
    }

    pub fn writes(&self) -> usize {
        self.inner.borrow().writes
    }

    pub fn fail_after(&self, calls: usize) {
        self.inner.borrow_mut().calls_left = calls;
    }

    pub fn put(&self, address: SlotAddress, kind: SlotKind, body: Vec<u8>) {
        self.inner.borrow_mut().bodies.insert(address, (kind, body));
    }

    pub fn body(&self, address: SlotAddress) -> Vec<u8> {
        self.inner.borrow().bodies[&address].1.clone()
    }

    /// Ends the current map pack.
    pub fn start_pack(&self) {
        let mut inner = self.inner.borrow_mut();
        let next = u128::from_be_bytes(*inner.next.pack.bytes()) + 1;
        inner.next = SlotAddress { pack: PackId::from_bytes(next.to_be_bytes()), slot: SlotNumber(0) };
    }

    /// Drops all slots but those that `keep` says.
    pub fn retain(&self, keep: impl Fn(SlotAddress) -> bool) {
        self.inner.borrow_mut().bodies.retain(|address, _| keep(*address));
    }

    fn call(&self) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        if inner.calls_left == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "no calls left"));
        }
        inner.calls_left -= 1;
        Ok(())
    }
}

impl MapReader for Slots {
    fn read_map_slot(&self, address: SlotAddress, kind: SlotKind) -> Result<Vec<u8>> {
        self.call()?;
        self.inner.borrow_mut().reads += 1;
        match self.inner.borrow().bodies.get(&address) {
            Some((stored, body)) if *stored == kind => Ok(body.clone()),
            Some(_) => Err(Error::damaged(format!("slot {address} is of another kind"))),
            None => Err(Error::new(ErrorKind::NotFound, format!("slot {address} is not there"))),
        }
    }
}

impl MapWriter for Slots {
    fn write_map_slot(&mut self, kind: SlotKind, body: &[u8]) -> Result<SlotAddress> {
        self.call()?;
        let address = self.inner.borrow().next;
        self.put(address, kind, body.to_vec());
        let mut inner = self.inner.borrow_mut();
        inner.writes += 1;
        inner.next.slot.0 += 1;
        if inner.next.slot.0 == inner.pack_slots {
            drop(inner);
            self.start_pack();
        }
        Ok(address)
    }
}

/// The id of a pack of data.
pub(super) fn data_pack(number: u32) -> PackId {
    pack_id(0x0100_0000_0000 + u64::from(number))
}

/// The id of a pack of map slots; those of [`Slots`] go on from 0.
pub(super) fn map_pack(number: u32) -> PackId {
    pack_id(0x0200_0000_0000 + u64::from(number))
}

fn pack_id(number: u64) -> PackId {
    PackId::from_bytes(u128::from(number).to_be_bytes())
}

pub(super) fn stored(pack: u32, first_slot: u16) -> Place {
    Place::Stored { pack: data_pack(pack), first_slot: SlotNumber(first_slot) }
}

pub(super) fn range(start: u64, end: u64) -> BlockRange {
    BlockRange::between(BlockIndex(start), BlockIndex(end))
}

pub(super) fn extent(start: u64, end: u64, place: Place) -> Extent {
    Extent { blocks: range(start, end), place }
}
