//! Opening slots.

use crate::codec::compression::Decompressor;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::ids::SlotNumber;
use crate::keys::KeySet;
use crate::pack::{Directory, SlotKind, slot_associated};

/// Opens slots; it holds what is reused from one to the next.
#[derive(Debug)]
pub struct SlotOpener {
    decompressor: Decompressor,
}

impl SlotOpener {
    /// Makes an opener.
    pub fn new() -> Result<SlotOpener> {
        Ok(SlotOpener { decompressor: Decompressor::new()? })
    }

    /// Opens the stored bytes of `slot` into `output`, which then is as long as the plain bytes.
    ///
    /// `sealed` is opened where it lies and holds anything afterwards. After an error `output` is empty.
    ///
    /// # Errors
    /// `NotFound` if this generation does not have the slot any more, or the keyring does not hold its encryption
    /// version; `Damaged` if the bytes are not what was stored in this slot.
    pub fn open(
        &mut self,
        keys: &KeySet,
        directory: &Directory,
        slot: SlotNumber,
        sealed: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Result<()> {
        // Growing zeroes only what is new; everything is overwritten.
        output.resize(directory.locator(slot).map_or(0, |locator| locator.plain_length as usize), 0);
        let result = self.open_into(keys, directory, slot, sealed, output);
        if result.is_err() {
            output.clear();
        }
        result
    }

    /// Like [`SlotOpener::open`], but fills `output`, exactly: the plain bytes are where they are needed, without a copy.
    ///
    /// After an error `output` holds anything.
    ///
    /// # Errors
    /// Also `Damaged` if the slot has another number of plain bytes.
    pub fn open_into(
        &mut self,
        keys: &KeySet,
        directory: &Directory,
        slot: SlotNumber,
        sealed: &mut [u8],
        output: &mut [u8],
    ) -> Result<()> {
        self.try_open(keys, directory, slot, sealed, output)
            .context(|| format!("open slot {slot} of pack {}", directory.name()))
    }

    fn try_open(
        &mut self,
        keys: &KeySet,
        directory: &Directory,
        slot: SlotNumber,
        sealed: &mut [u8],
        output: &mut [u8],
    ) -> Result<()> {
        let Some(locator) = directory.locator(slot) else {
            return Err(Error::new(ErrorKind::NotFound, "it is gone in this generation"));
        };
        if sealed.len() as u64 != u64::from(locator.stored_length) {
            let (is, should) = (sealed.len(), locator.stored_length);
            return Err(Error::damaged(format!("it has {is} bytes where {should} were stored")));
        }
        if output.len() as u64 != u64::from(locator.plain_length) {
            let (is, should) = (locator.plain_length, output.len());
            return Err(Error::damaged(format!("it has {is} plain bytes where {should} are expected")));
        }
        let key = match locator.kind {
            SlotKind::Data => directory.data_key()?,
            SlotKind::MapPage | SlotKind::MapNode => keys.map_slot_key(),
        };
        let pack = directory.name().id;
        let associated = slot_associated(keys.repository(), pack, slot, locator.kind, locator.plain_length);
        let body = key.open_in_place(&associated, sealed)?;
        self.decompressor.decompress(locator.codec, body, output)
    }
}
