//! A version as a `Source`: read in any order, by any number of threads.
//!
//! ```text
//!  VersionView     one version that is open: where its blocks are, what will be read next
//!  ViewCache       what all open versions share:
//!    loader          blocks, pages of maps, directories of packs: kept, and loaded once for all who want them
//!    fetchers        the threads that load
//!  shared_cache    what several readers want is loaded once     read_ahead    a guess from what was read
//! ```
//!
//! A read waits for the store for a limited time, then it fails. A block that is damaged fails, and only that one; it is
//! logged the first time. Blocks are cached by where they are stored, so versions share what they have in common.

pub mod view_cache;

mod fetchers;
mod loader;
mod pieces;
mod read_ahead;
mod shared_cache;

use std::sync::{Arc, Mutex, PoisonError};

use backy_core::ids::{SlotAddress, VersionUid};
use backy_core::map::{Extent, Place};
use backy_core::records::manifest::Manifest;
use backy_core::units::{BlockCount, BlockIndex, BlockRange, ByteRange};
use backy_core::{Error, ErrorKind, Result};
use backy_device::Source;
use backy_device::device::check_bounds;
use backy_engine::serve_version::ServedVersion;
use tracing::warn;

use self::loader::{BlockTicket, PAGE_BLOCKS, PageKey};
use self::pieces::{clip_into, part_of, pieces, push_joined, slots_of};
use self::read_ahead::ReadAhead;
use self::shared_cache::{Found, Ticket};
use self::view_cache::{Deadline, ViewCache};

/// As much of one read is under way at once, in bytes, and so in memory beside the caches.
const PART_BYTES_MAX: u64 = 4 << 20;
/// What one thread fetches at once, in plain bytes.
const PIECE_BYTES_MIN: u64 = 256 << 10;
const PIECE_BYTES_MAX: u64 = 2 << 20;
/// A question about more pages than that goes past the cache of pages.
const CACHED_PAGES_MAX: u64 = 64;

/// One version that is open for reading.
pub struct VersionView {
    cache: Arc<ViewCache>,
    version: ServedVersion,
    read_ahead: Mutex<ReadAhead>,
}

impl VersionView {
    /// Opens a version; it is in use until the view is dropped.
    ///
    /// # Errors
    /// `NotFound` if there is no such complete version.
    pub fn open(cache: &Arc<ViewCache>, uid: VersionUid) -> Result<VersionView> {
        let version = ServedVersion::begin(cache.repository().clone(), uid)?;
        // All streams together must not push out what the others have read ahead.
        let window_bytes_max = cache.settings.read_ahead_bytes.min(cache.settings.cache_bytes as u64 / 16);
        Ok(VersionView { cache: cache.clone(), version, read_ahead: Mutex::new(ReadAhead::new(window_bytes_max)) })
    }

    /// Returns the version.
    pub fn manifest(&self) -> &Manifest {
        self.version.manifest()
    }

    fn blocks_of(&self, range: ByteRange) -> BlockRange {
        let size = self.manifest().block_size;
        let end_bytes = range.end_bytes().min(self.manifest().size_bytes);
        BlockRange::between(size.index_of(range.offset_bytes), BlockIndex(size.count(end_bytes).0))
    }

    fn byte_range(&self, blocks: BlockRange) -> ByteRange {
        self.manifest().block_size.byte_range(blocks, self.manifest().size_bytes)
    }

    /// Returns where the blocks of `range` are: extents in order, without gaps, cut at the ends of `range`.
    fn places(&self, range: BlockRange, deadline: Deadline) -> Result<Vec<Extent>> {
        let mut places = Vec::new();
        let mut position = range.start;
        while position < range.end() {
            let page = self.page(position.0 / PAGE_BLOCKS, deadline)?;
            let rest = BlockRange::between(position, range.end());
            clip_into(&page, rest, &mut places);
            position = page.last().map_or(range.end(), |extent| extent.blocks.end());
        }
        Ok(places)
    }

    fn page(&self, index: u64, deadline: Deadline) -> Result<Arc<Vec<Extent>>> {
        let pages = self.cache.loader.pages();
        let key: PageKey = (self.manifest().uid, index);
        let submit = |ticket: Ticket<PageKey, Arc<Vec<Extent>>>, patience| {
            let (loader, map) = (self.cache.loader.clone(), self.manifest().map);
            self.cache.fetchers.submit(Box::new(move |_| loader.load_page(ticket, map)), patience)
        };
        let page = self.cache.obtain(pages, key, pages.find(key), deadline, submit);
        page.map_err(|error| self.complain(BlockIndex(index * PAGE_BLOCKS), &error.context("read the block map")))
    }

    /// Reads a part of at most [`PART_BYTES_MAX`].
    fn read_part(&self, offset_bytes: u64, buffer: &mut [u8], deadline: Deadline) -> Result<()> {
        let range = ByteRange { offset_bytes, length_bytes: buffer.len() as u64 };
        let places = self.places(self.blocks_of(range), deadline)?;
        let mut wanted: Vec<(BlockIndex, SlotAddress)> = Vec::new();
        for extent in places {
            match extent.place {
                Place::Zero => part_of(buffer, range, self.byte_range(extent.blocks)).0.fill(0),
                Place::Missing => {
                    let message = "the source could not be read when the backup was made";
                    return Err(self.complain(extent.blocks.start, &Error::new(ErrorKind::Unreadable, message)));
                }
                Place::Stored { .. } => wanted.extend(slots_of(extent)),
            }
        }
        self.copy_blocks(&wanted, range, buffer, deadline)
    }

    fn copy_blocks(
        &self,
        wanted: &[(BlockIndex, SlotAddress)],
        range: ByteRange,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<()> {
        let blocks = self.cache.loader.blocks();
        let mut absent = Vec::new();
        let mut found = blocks.find_all(wanted.iter().map(|(_, address)| *address));
        for found in &mut found {
            // What is to be loaded is loaded together, and then awaited like what others load.
            if let Found::Absent(ticket) = found {
                let flight = ticket.flight();
                if let Found::Absent(ticket) = std::mem::replace(found, Found::Awaited(flight)) {
                    absent.push(ticket);
                }
            }
        }
        self.fetch(absent, deadline)?;
        self.look_ahead(range);
        for (&(block, address), found) in wanted.iter().zip(found) {
            let submit = |ticket, patience| self.cache.fetchers.submit(self.cache.slots_task(vec![ticket]), patience);
            let plain = self.cache.obtain(blocks, address, found, deadline, submit);
            let block_range = self.byte_range(BlockRange { start: block, count: BlockCount(1) });
            let plain = plain.and_then(|plain| check_length(plain, block_range.length_bytes, address));
            let plain = plain.map_err(|error| self.complain(block, &error))?;
            let (part, skipped) = part_of(buffer, range, block_range);
            let length = part.len();
            part.copy_from_slice(&plain[skipped..skipped + length]);
        }
        Ok(())
    }

    /// Has blocks loaded that somebody waits for, by several threads.
    fn fetch(&self, tickets: Vec<BlockTicket>, deadline: Deadline) -> Result<()> {
        let block_bytes = self.manifest().block_size.bytes_u64();
        let threads = self.cache.repository().settings().simultaneous_reads.get() as u64;
        let piece_bytes = (tickets.len() as u64 * block_bytes / threads).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        for piece in pieces(tickets, piece_bytes / block_bytes) {
            self.cache.fetchers.submit(self.cache.slots_task(piece), self.cache.left(deadline))?;
        }
        Ok(())
    }

    /// Begins to load what will probably be read next. Whatever fails here is found when it is read.
    fn look_ahead(&self, read: ByteRange) {
        let ahead = self.read_ahead.lock().unwrap_or_else(PoisonError::into_inner).note(read);
        let Some(range) = ahead else { return };
        let blocks = self.blocks_of(range);
        let mut wanted = Vec::new();
        let mut position = blocks.start;
        while position < blocks.end() {
            let index = position.0 / PAGE_BLOCKS;
            let Some(page) = self.cache.loader.pages().get((self.manifest().uid, index)) else {
                self.page_ahead(index);
                break;
            };
            let mut places = Vec::new();
            clip_into(&page, BlockRange::between(position, blocks.end()), &mut places);
            wanted.extend(places.into_iter().flat_map(slots_of).map(|(_, address)| address));
            position = page.last().map_or(blocks.end(), |extent| extent.blocks.end());
        }
        let piece_bytes = (range.length_bytes / 4).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let tickets = self.cache.loader.blocks().begin_absent(wanted);
        for piece in pieces(tickets, piece_bytes / self.manifest().block_size.bytes_u64()) {
            self.cache.fetchers.submit_ahead(self.cache.slots_task(piece));
        }
    }

    fn page_ahead(&self, index: u64) {
        for ticket in self.cache.loader.pages().begin_absent([(self.manifest().uid, index)]) {
            let (loader, map) = (self.cache.loader.clone(), self.manifest().map);
            self.cache.fetchers.submit_ahead(Box::new(move |_| loader.load_page(ticket, map)));
        }
    }

    /// Returns what the reader of a block is told, and logs it the first time if the block is bad for good.
    fn complain(&self, block: BlockIndex, error: &Error) -> Error {
        let offset_bytes = self.manifest().block_size.offset_bytes(block);
        let is_bad = is_about_block(error);
        let message = format!("version {} cannot be read at byte {offset_bytes}: {error}", self.manifest().uid);
        if is_bad && self.cache.is_first_complaint(self.manifest().uid, block) {
            warn!("{message}");
        }
        Error::new(if is_bad { ErrorKind::Unreadable } else { error.kind() }, message)
    }
}

impl Source for VersionView {
    fn size_bytes(&self) -> u64 {
        self.manifest().size_bytes
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        let range = ByteRange { offset_bytes, length_bytes: buffer.len() as u64 };
        check_bounds(range, self.size_bytes(), &self.url())?;
        let deadline = self.cache.deadline();
        let part_bytes = usize::try_from(PART_BYTES_MAX).unwrap_or(usize::MAX);
        let mut position_bytes = offset_bytes;
        for part in buffer.chunks_mut(part_bytes) {
            self.read_part(position_bytes, part, deadline)?;
            position_bytes += part.len() as u64;
        }
        Ok(())
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        let range = range.intersection(ByteRange::between(0, self.size_bytes()));
        let blocks = self.blocks_of(range);
        let deadline = self.cache.deadline();
        let mut data = Vec::new();
        let mut position = if range.is_empty() { blocks.end() } else { blocks.start };
        while position < blocks.end() {
            let rest = BlockRange::between(position, blocks.end());
            let mut note = |extent: Extent| {
                position = extent.blocks.end();
                if extent.place != Place::Zero {
                    push_joined(&mut data, self.byte_range(extent.blocks).intersection(range));
                }
            };
            let noted = if rest.count.0 > CACHED_PAGES_MAX * PAGE_BLOCKS {
                self.cache.loader.visit_places(self.manifest().map, rest, &mut note)
            } else {
                let page_end = BlockIndex((rest.start.0 / PAGE_BLOCKS + 1) * PAGE_BLOCKS);
                let in_page = BlockRange::between(rest.start, page_end.min(rest.end()));
                self.places(in_page, deadline).map(|places| places.into_iter().for_each(&mut note))
            };
            match noted {
                Ok(()) => {}
                // What is there cannot be known: reading it will say so.
                Err(error) if is_about_block(&error) => {
                    let page_end = BlockIndex((position.0 / PAGE_BLOCKS + 1) * PAGE_BLOCKS);
                    let lost = BlockRange::between(position, page_end.min(blocks.end()));
                    push_joined(&mut data, self.byte_range(lost).intersection(range));
                    position = lost.end();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(data)
    }

    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    fn url(&self) -> String {
        format!("version://{}", self.manifest().uid)
    }
}

fn check_length(plain: Arc<Vec<u8>>, expected_bytes: u64, address: SlotAddress) -> Result<Arc<Vec<u8>>> {
    if plain.len() as u64 == expected_bytes {
        return Ok(plain);
    }
    let problem = format!("it should have {expected_bytes} bytes, slot {address} has {}", plain.len());
    Err(Error::damaged(problem))
}

/// Says whether an error is about one block, so that the others can still be had.
fn is_about_block(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unreadable)
}
