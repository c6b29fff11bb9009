//! Runs of slots: what lies close together in a pack is read together.
//!
//! Whoever wants many slots of one pack sorts them, and gets each one opened, or why it cannot be had. A slot that the
//! run does not give good is looked for in the other generations of the pack, as is done for a single slot.

use backy_core::ids::{SlotAddress, SlotNumber};
use backy_core::pack::{Directory, SlotKind, SlotOpener};
use backy_core::units::ByteRange;
use backy_core::{Error, Result};

use super::Repository;
use super::packs::is_about_content;

/// Slots that lie this close to each other, in bytes, are read together.
const GAP_BYTES_MAX: u32 = 256 << 10;
/// The most that is read at once, in bytes.
const RUN_BYTES_MAX: u32 = 4 << 20;

/// What reads slots, with the memory that is used again from run to run.
pub struct SlotReader {
    opener: SlotOpener,
    run: Vec<u8>,
}

impl SlotReader {
    /// Makes a reader.
    pub fn new() -> Result<SlotReader> {
        Ok(SlotReader { opener: SlotOpener::new()?, run: Vec::new() })
    }
}

impl Repository {
    /// Reads and opens the data slots `slots` of one pack: ascending, in few reads of the store.
    ///
    /// Calls `take` exactly once for each of them, in order, with its plain bytes or why they cannot be had. Returns whether
    /// all of them were where `directory` says; if not, the pack may have been written anew: look for its directory again.
    pub fn read_slots(
        &self,
        directory: &Directory,
        slots: &[SlotNumber],
        reader: &mut SlotReader,
        take: &mut dyn FnMut(SlotNumber, Result<Vec<u8>>),
    ) -> bool {
        let mut rest = slots;
        let mut are_there = true;
        while !rest.is_empty() {
            let (run, tail) = rest.split_at(run_length(directory, rest.iter().copied(), RUN_BYTES_MAX));
            are_there &= self.read_run(directory, run, reader, take);
            rest = tail;
        }
        are_there
    }

    fn read_run(
        &self,
        directory: &Directory,
        slots: &[SlotNumber],
        reader: &mut SlotReader,
        take: &mut dyn FnMut(SlotNumber, Result<Vec<u8>>),
    ) -> bool {
        let locators = || slots.iter().filter_map(|slot| directory.locator(*slot));
        let start = locators().map(|locator| locator.offset_bytes).min().unwrap_or_default();
        let end = locators().map(|locator| locator.offset_bytes.saturating_add(locator.stored_length)).max();
        let range = ByteRange::between(u64::from(start), u64::from(end.unwrap_or_default()));
        let mut run = std::mem::take(&mut reader.run);
        let read = self.read_pack_range(directory, range, &mut run);
        let mut are_there = true;
        for slot in slots {
            let opened = match &read {
                Ok(()) => open_of_run(self, directory, *slot, start, &mut run, reader).map(Ok),
                Err(error) if is_about_content(error) => None,
                Err(error) => {
                    let doing = format!("read slot {slot} of pack {}", directory.name());
                    Some(Err(Error::new(error.kind(), error.to_string()).context(doing)))
                }
            };
            are_there &= opened.is_some();
            take(*slot, opened.unwrap_or_else(|| self.read_data_slot(directory, *slot, reader)));
        }
        reader.run = run;
        are_there
    }

    /// Reads one slot from whatever generation has it.
    fn read_data_slot(&self, directory: &Directory, slot: SlotNumber, reader: &mut SlotReader) -> Result<Vec<u8>> {
        let address = SlotAddress { pack: directory.name().id, slot };
        self.forget_directory(address.pack);
        let mut plain = Vec::new();
        match self.read_slot(address, &mut reader.opener, &mut plain)? {
            SlotKind::Data => Ok(plain),
            kind => Err(Error::damaged(format!("slot {address} is a {kind:?} where data should be"))),
        }
    }
}

/// Opens a slot that lies in `run`, which begins at `start` of the pack; none if it is not good there.
fn open_of_run(
    repository: &Repository,
    directory: &Directory,
    slot: SlotNumber,
    start: u32,
    run: &mut [u8],
    reader: &mut SlotReader,
) -> Option<Vec<u8>> {
    let locator = directory.locator(slot).filter(|locator| locator.kind == SlotKind::Data)?;
    let from = (locator.offset_bytes - start) as usize;
    let sealed = run.get_mut(from..from + locator.stored_length as usize)?;
    let mut plain = Vec::new();
    let opened = reader.opener.open(repository.keys(), directory, slot, sealed, &mut plain);
    opened.is_ok().then_some(plain)
}

/// Returns how many of `slots`, which ascend, are read together: close to each other, and not more than `bytes_max`
/// unless one slot is. At least one.
pub(crate) fn run_length(directory: &Directory, slots: impl Iterator<Item = SlotNumber>, bytes_max: u32) -> usize {
    let mut read: Option<(u32, u32)> = None;
    let mut length = 0;
    for slot in slots {
        if let Some(locator) = directory.locator(slot) {
            let slot_end = locator.offset_bytes.saturating_add(locator.stored_length);
            let (start, end) = read.unwrap_or((locator.offset_bytes, locator.offset_bytes));
            let is_far = locator.offset_bytes > end.saturating_add(GAP_BYTES_MAX);
            let is_too_much = slot_end.saturating_sub(start) > bytes_max;
            if length > 0 && read.is_some() && (is_far || is_too_much) {
                return length;
            }
            read = Some((start, end.max(slot_end)));
        }
        length += 1;
    }
    length
}
