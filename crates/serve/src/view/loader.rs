//! What open versions share: kept blocks, pages of maps and directories of packs, and how each of them is loaded.
//!
//! Loading blocks the caller until the store answers, so it is the fetchers' work. No loading waits for another that may
//! still be in a queue: directories are asked for by threads that load them at once.

use std::sync::Arc;
use std::time::Duration;

use backy_core::ids::{PackId, SlotAddress, SlotNumber, VersionUid};
use backy_core::map::{Extent, MapCursor, MapReader, MapRoot};
use backy_core::pack::{Directory, SlotKind};
use backy_core::units::{BlockCount, BlockIndex, BlockRange};
use backy_core::{Error, ErrorKind, Result};
use backy_engine::Repository;
use backy_engine::repository::runs::SlotReader;

use super::shared_cache::{Found, Landed, SharedCache, Ticket};

/// How many blocks a cached page of a map speaks of: as many as a stored one.
pub(crate) const PAGE_BLOCKS: u64 = 16_384;

/// How many bytes of map pages, as extents, are kept: 4 GiB of a volume in the worst case, usually terabytes.
const PAGES_BYTES_MAX: usize = 16 << 20;
/// How many bytes of stored map slots are kept, for the nodes above the pages.
const MAP_SLOTS_BYTES_MAX: usize = 4 << 20;
/// How many bytes of directories are kept: those of 500 packs, at 8 bytes a slot.
const DIRECTORIES_BYTES_MAX: usize = 32 << 20;
/// How long one thread waits for another that reads a directory; then it reads it itself.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(60);

/// Which page of a version's map.
pub(crate) type PageKey = (VersionUid, u64);
/// The duty to load a block.
pub(crate) type BlockTicket = Ticket<SlotAddress, Arc<Vec<u8>>>;

/// The caches. See the module.
pub(crate) struct Loader {
    repository: Arc<Repository>,
    blocks: Arc<SharedCache<SlotAddress, Arc<Vec<u8>>>>,
    pages: Arc<SharedCache<PageKey, Arc<Vec<Extent>>>>,
    directories: Arc<SharedCache<PackId, Arc<Directory>>>,
    map_slots: SharedCache<SlotAddress, (SlotKind, Arc<Vec<u8>>)>,
}

impl Loader {
    /// Makes empty caches, that of the blocks for `blocks_bytes_max` bytes.
    pub(crate) fn new(repository: Arc<Repository>, blocks_bytes_max: usize) -> Loader {
        Loader {
            repository,
            blocks: Arc::new(SharedCache::new(blocks_bytes_max, |plain| plain.len() + 128)),
            pages: Arc::new(SharedCache::new(PAGES_BYTES_MAX, |page| size_of_val(page.as_slice()) + 128)),
            directories: Arc::new(SharedCache::new(DIRECTORIES_BYTES_MAX, |directory| {
                8 * directory.slot_count() + 512
            })),
            map_slots: SharedCache::new(MAP_SLOTS_BYTES_MAX, |(_, body)| body.len() + 128),
        }
    }

    pub(crate) fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    pub(crate) fn blocks(&self) -> &Arc<SharedCache<SlotAddress, Arc<Vec<u8>>>> {
        &self.blocks
    }

    pub(crate) fn pages(&self) -> &Arc<SharedCache<PageKey, Arc<Vec<Extent>>>> {
        &self.pages
    }

    /// Loads blocks of one pack, sorted by slot.
    pub(crate) fn load_slots(&self, tickets: Vec<BlockTicket>, reader: &mut SlotReader) {
        let Some(pack) = tickets.first().map(|ticket| ticket.key().pack) else { return };
        let directory = match self.directory(pack) {
            Ok(directory) => directory,
            Err(error) => {
                for ticket in tickets {
                    ticket.finish(Err(Error::new(error.kind(), error.to_string())));
                }
                return;
            }
        };
        let slots: Vec<SlotNumber> = tickets.iter().map(|ticket| ticket.key().slot).collect();
        let mut tickets = tickets.into_iter();
        let are_there = self.repository.read_slots(&directory, &slots, reader, &mut |slot, plain| {
            if let Some(ticket) = tickets.next() {
                assert_eq!(ticket.key().slot, slot, "slots come in order");
                ticket.finish(plain.map(Arc::new));
            }
        });
        if !are_there {
            self.directories.forget(pack);
        }
    }

    /// Loads a page of the map `map`.
    pub(crate) fn load_page(&self, ticket: Ticket<PageKey, Arc<Vec<Extent>>>, map: MapRoot) {
        let (_, index) = ticket.key();
        let blocks = BlockRange { start: BlockIndex(index * PAGE_BLOCKS), count: BlockCount(PAGE_BLOCKS) };
        let mut page = Vec::new();
        let loaded = self.visit_places(map, blocks, &mut |extent| page.push(extent));
        ticket.finish(loaded.map(|()| Arc::new(page)));
    }

    /// Calls `visit` for each extent of `blocks`, in order. Waits for the store.
    pub(crate) fn visit_places(&self, map: MapRoot, blocks: BlockRange, visit: &mut dyn FnMut(Extent)) -> Result<()> {
        MapCursor::new(self, map, blocks).try_for_each(|extent| extent.map(&mut *visit))
    }

    fn directory(&self, pack: PackId) -> Result<Arc<Directory>> {
        loop {
            match self.directories.find(pack) {
                Found::Kept(directory) => return Ok(directory),
                Found::Absent(ticket) => {
                    let directory = self.repository.directory(pack);
                    ticket.finish(match &directory {
                        Ok(directory) => Ok(directory.clone()),
                        Err(error) => Err(Error::new(error.kind(), error.to_string())),
                    });
                    return directory;
                }
                Found::Awaited(flight) => match flight.wait(DIRECTORY_PATIENCE) {
                    Some(Landed::Value(directory)) => return Ok(directory),
                    Some(Landed::Failed(error)) => return Err(Error::new(error.kind(), error.to_string())),
                    Some(Landed::Abandoned) => {}
                    None => return Err(Error::new(ErrorKind::Unavailable, "the store does not answer")),
                },
            }
        }
    }
}

/// Map slots, kept: the nodes of a map are read for each of its pages.
impl MapReader for Loader {
    fn read_map_slot(&self, address: SlotAddress, kind: SlotKind) -> Result<Vec<u8>> {
        if let Some((kept, body)) = self.map_slots.get(address)
            && kept == kind
        {
            return Ok(body.to_vec());
        }
        let body = self.repository.read_map_slot(address, kind)?;
        self.map_slots.insert(address, (kind, Arc::new(body.clone())));
        Ok(body)
    }
}
