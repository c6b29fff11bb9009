//! The blocks of a version, read in any order: slow and sure, for what compares a few of them.
//!
//! Restore, which reads all of them, has a way of its own.

use backy_core::ids::{SlotAddress, SlotNumber};
use backy_core::map::{MapCursor, MapRoot, Place};
use backy_core::pack::{SlotKind, SlotOpener};
use backy_core::units::{BlockRange, BlockSize};
use backy_core::{Error, ErrorKind, Result};

use super::Repository;

/// Reads the blocks of one version.
pub(crate) struct BlockReader<'a> {
    repository: &'a Repository,
    map: MapRoot,
    block_size: BlockSize,
    volume_bytes: u64,
    opener: SlotOpener,
    body: Vec<u8>,
}

impl<'a> BlockReader<'a> {
    /// Makes a reader of the version that `map` belongs to.
    pub(crate) fn new(
        repository: &'a Repository,
        map: MapRoot,
        block_size: BlockSize,
        volume_bytes: u64,
    ) -> Result<BlockReader<'a>> {
        Ok(BlockReader { repository, map, block_size, volume_bytes, opener: SlotOpener::new()?, body: Vec::new() })
    }

    /// Calls `visit` for each block of `blocks` with where it is, in order.
    pub(crate) fn places(
        &self,
        blocks: BlockRange,
        visit: &mut dyn FnMut(BlockRange, Place) -> Result<()>,
    ) -> Result<()> {
        for extent in MapCursor::new(self.repository, self.map, blocks) {
            let extent = extent?;
            match extent.place {
                Place::Stored { pack, first_slot } => {
                    for number in 0..extent.blocks.count.0 {
                        let slot = SlotNumber(first_slot.0 + u16::try_from(number).unwrap_or(u16::MAX - first_slot.0));
                        let start = backy_core::units::BlockIndex(extent.blocks.start.0 + number);
                        let block = BlockRange { start, count: backy_core::units::BlockCount(1) };
                        visit(block, Place::Stored { pack, first_slot: slot })?;
                    }
                }
                place => visit(extent.blocks, place)?,
            }
        }
        Ok(())
    }

    /// Reads one stored block and returns its plain bytes.
    pub(crate) fn read(&mut self, block: BlockRange, address: SlotAddress) -> Result<&[u8]> {
        let kind = self.repository.read_slot(address, &mut self.opener, &mut self.body)?;
        let expected = self.block_size.length_bytes(block.start, self.volume_bytes);
        if kind != SlotKind::Data || self.body.len() != expected as usize {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("block {} should have {expected} bytes, slot {address} has {}", block.start, self.body.len()),
            ));
        }
        Ok(&self.body)
    }
}
