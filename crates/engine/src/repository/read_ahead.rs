//! Reads block maps in large pieces: pages that were written together lie together.

use std::cell::RefCell;
use std::collections::VecDeque;

use backy_core::Result;
use backy_core::ids::SlotAddress;
use backy_core::map::MapReader;
use backy_core::names::PackName;
use backy_core::pack::{Directory, SlotKind, SlotOpener};
use backy_core::units::ByteRange;

use super::Repository;
use super::packs::is_about_content;

/// How much is read at one time, in bytes.
const PIECE_BYTES: u64 = 1 << 20;
/// How many pieces are kept.
const PIECES_MAX: usize = 16;

/// Reads slots of maps through pieces of packs that it keeps: at most 16 MiB.
pub(crate) struct ReadAhead<'a> {
    repository: &'a Repository,
    state: RefCell<State>,
}

struct State {
    opener: SlotOpener,
    pieces: VecDeque<Piece>,
}

struct Piece {
    pack: PackName,
    offset_bytes: u64,
    bytes: Vec<u8>,
}

impl<'a> ReadAhead<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Result<ReadAhead<'a>> {
        let state = State { opener: SlotOpener::new()?, pieces: VecDeque::new() };
        Ok(ReadAhead { repository, state: RefCell::new(state) })
    }

    fn read(&self, address: SlotAddress, kind: SlotKind) -> Result<Option<Vec<u8>>> {
        let directory = self.repository.directory(address.pack)?;
        let Some(locator) = directory.locator(address.slot).filter(|locator| locator.kind == kind) else {
            return Ok(None);
        };
        let mut state = self.state.borrow_mut();
        let (offset_bytes, length_bytes) = (u64::from(locator.offset_bytes), u64::from(locator.stored_length));
        let piece = state.pieces.iter().position(|piece| piece.holds(directory.name(), offset_bytes, length_bytes));
        let piece = match piece.and_then(|position| state.pieces.remove(position)) {
            Some(piece) => piece,
            None => self.fetch(&directory, offset_bytes, length_bytes)?,
        };
        let mut sealed = piece.bytes_at(offset_bytes, length_bytes).to_vec();
        state.pieces.push_back(piece);
        if state.pieces.len() > PIECES_MAX {
            state.pieces.pop_front();
        }
        let mut body = Vec::new();
        state.opener.open(self.repository.keys(), &directory, address.slot, &mut sealed, &mut body)?;
        Ok(Some(body))
    }

    fn fetch(&self, directory: &Directory, offset_bytes: u64, length_bytes: u64) -> Result<Piece> {
        let slots_end = directory.fingerprints_range().offset_bytes;
        let end = (offset_bytes + PIECE_BYTES.max(length_bytes)).min(slots_end.max(offset_bytes + length_bytes));
        let mut bytes = Vec::new();
        let range = ByteRange { offset_bytes, length_bytes: end - offset_bytes };
        self.repository.read_pack_range(directory, range, &mut bytes)?;
        Ok(Piece { pack: directory.name(), offset_bytes, bytes })
    }
}

impl Piece {
    fn holds(&self, pack: PackName, offset_bytes: u64, length_bytes: u64) -> bool {
        let end = self.offset_bytes + self.bytes.len() as u64;
        self.pack == pack && self.offset_bytes <= offset_bytes && offset_bytes + length_bytes <= end
    }

    fn bytes_at(&self, offset_bytes: u64, length_bytes: u64) -> &[u8] {
        let start = usize::try_from(offset_bytes - self.offset_bytes).unwrap_or(usize::MAX);
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        self.bytes.get(start..start.saturating_add(length)).unwrap_or_default()
    }
}

impl MapReader for ReadAhead<'_> {
    fn read_map_slot(&self, address: SlotAddress, kind: SlotKind) -> Result<Vec<u8>> {
        match self.read(address, kind) {
            Ok(Some(body)) => Ok(body),
            Err(error) if !is_about_content(&error) => Err(error),
            // The slow way knows all generations, and says best what is wrong.
            _ => self.repository.read_map_slot(address, kind),
        }
    }
}
