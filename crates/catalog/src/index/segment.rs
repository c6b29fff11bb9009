//! Segments: sorted entries in a file that is written once and never changed.
//!
//! ```text
//!  0                pages of 4,096 bytes: 8 sectors each (see `sector`), the last one filled up with empty sectors
//!  pages x 4096     footer:
//!                     magic "backy2 segment", format u16, repository 16, id u64
//!                     keys u64, pages u32, packs u32
//!                     packs x (pack id 16, encryption version u32, is sampled u8)
//!                     pages x fence u64: the first eight bytes of the page's first key
//!                     groups x filter: one for every 744 pages
//!  end - 40         length of the footer u64, BLAKE3 of footer and length 32
//! ```
//!
//! The footer stays in RAM (9.4 bits a key for the filters, 0.4 for the fences) and is verified when the file is opened,
//! against the checksum in the database too. Pages are read with one `pread` when a filter says so; a sector is verified
//! before anything in it is believed. The first bad byte takes the whole segment out of use.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use backy_core::ids::{EncryptionVersion, PackId, RepositoryId, SlotNumber};
use backy_core::wire::{Reader, Writer};
use backy_core::{Error, Result};

use super::filter::Filter;
use super::sector::{self, ENTRIES_PER_PAGE, PAGE_SIZE_BYTES, SECTOR_SIZE_BYTES, SECTORS_PER_PAGE, SectorKey};
use super::{Candidate, Key, Origin, prefix_of};

/// Pages that share a filter.
pub(crate) const PAGES_PER_GROUP: usize = 744;

/// The most keys in a segment.
pub(crate) const SEGMENT_KEYS_MAX: u64 = 8 << 20;

const MAGIC: &[u8; 14] = b"backy2 segment";
const FORMAT: u16 = 1;
const TRAILER_SIZE_BYTES: usize = 40;
const FOOTER_SIZE_BYTES_MAX: u64 = 1 << 28;

/// What the database knows about a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFact {
    /// Its number; used once.
    pub id: i64,
    /// The run that it is part of; higher is newer.
    pub run: i64,
    pub key_count: u64,
    /// How many of the keys are of packs that are known completely.
    pub full_key_count: u64,
    pub checksum: [u8; 32],
}

/// The parts of a footer.
pub(crate) struct Footer {
    pub key_count: u64,
    pub packs: Vec<Origin>,
    pub fences: Vec<u64>,
    pub filters: Vec<Filter>,
}

/// A segment that lookups read.
pub(crate) struct Segment {
    pub fact: SegmentFact,
    file: File,
    key: SectorKey,
    footer: Footer,
    is_bad: AtomicBool,
}

/// Returns the path of a segment.
pub(crate) fn path(folder: &Path, id: i64) -> PathBuf {
    folder.join(format!("{id:010}.segment"))
}

/// Returns the key of the checksums in a segment.
pub(crate) fn sector_key(repository: RepositoryId, id: i64) -> SectorKey {
    let mut hasher = blake3::Hasher::new_derive_key("backy2 catalog segment 1");
    hasher.update(repository.bytes());
    hasher.update(&id.to_le_bytes());
    SectorKey(*hasher.finalize().as_bytes())
}

impl Footer {
    /// Returns the footer with its length and checksum, and the checksum.
    pub fn encode(&self, repository: RepositoryId, id: i64) -> (Vec<u8>, [u8; 32]) {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut writer = Writer::new();
        writer.bytes(MAGIC);
        writer.u16(FORMAT);
        writer.bytes(repository.bytes());
        writer.u64(id.cast_unsigned());
        writer.u64(self.key_count);
        writer.u32(count(self.fences.len()));
        writer.u32(count(self.packs.len()));
        for origin in &self.packs {
            writer.bytes(origin.pack.bytes());
            writer.u32(origin.encryption_version.0);
            writer.u8(u8::from(origin.is_sampled));
        }
        self.fences.iter().for_each(|&fence| writer.u64(fence));
        self.filters.iter().for_each(|filter| filter.encode(&mut writer));
        writer.u64(writer.len() as u64);
        let mut bytes = writer.into_bytes();
        let checksum = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&checksum);
        (bytes, checksum)
    }

    /// Reads a footer without its length and checksum.
    pub fn decode(bytes: &[u8], repository: RepositoryId, id: i64) -> Result<Footer> {
        let mut reader = Reader::new(bytes, "a segment");
        if reader.bytes(MAGIC.len())? != MAGIC || reader.u16()? != FORMAT {
            return Err(reader.error("has another format"));
        }
        if reader.bytes(16)? != repository.bytes() || reader.u64()? != id.cast_unsigned() {
            return Err(reader.error("belongs elsewhere"));
        }
        let key_count = reader.u64()?;
        let page_count = reader.u32()? as usize;
        let pack_count = reader.u32()? as usize;
        if reader.remaining() / 8 < page_count || reader.remaining() / 21 < pack_count {
            return Err(reader.error("counts more than it holds"));
        }
        if key_count.div_ceil(ENTRIES_PER_PAGE as u64) != page_count as u64 {
            return Err(reader.error("has another number of pages than its keys need"));
        }
        let mut packs = Vec::with_capacity(pack_count);
        for _ in 0..pack_count {
            packs.push(Origin {
                pack: PackId::from_bytes(reader.array()?),
                encryption_version: EncryptionVersion(reader.u32()?),
                is_sampled: reader.u8()? != 0,
            });
        }
        let mut fences = Vec::with_capacity(page_count);
        for _ in 0..page_count {
            fences.push(reader.u64()?);
        }
        if !fences.is_sorted() {
            return Err(reader.error("is not sorted"));
        }
        let mut filters = Vec::new();
        for _ in 0..page_count.div_ceil(PAGES_PER_GROUP) {
            filters.push(Filter::decode(&mut reader)?);
        }
        reader.finish()?;
        Ok(Footer { key_count, packs, fences, filters })
    }
}

impl Segment {
    /// Opens a segment and verifies its footer.
    ///
    /// # Errors
    /// `NotFound` if the file is gone; `Damaged` if it is not the one that the database means.
    pub fn open(folder: &Path, repository: RepositoryId, fact: &SegmentFact) -> Result<Segment> {
        let path = path(folder, fact.id);
        let doing = || format!("read {}", path.display());
        let file = File::open(&path).map_err(|error| Error::io(doing(), error))?;
        let size = file.metadata().map_err(|error| Error::io(doing(), error))?.len();
        let damaged = || Error::damaged(format!("{} is not what was written", path.display()));
        let trailer_offset = size.checked_sub(TRAILER_SIZE_BYTES as u64).ok_or_else(damaged)?;
        let mut trailer = [0; TRAILER_SIZE_BYTES];
        file.read_exact_at(&mut trailer, trailer_offset).map_err(|error| Error::io(doing(), error))?;
        let mut reader = Reader::new(&trailer, "a segment");
        let (length, written_checksum) = (reader.u64()?, reader.array::<32>()?);
        let footer_offset = trailer_offset.checked_sub(length).ok_or_else(damaged)?;
        if length > FOOTER_SIZE_BYTES_MAX {
            return Err(damaged());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        file.read_exact_at(&mut bytes, footer_offset).map_err(|error| Error::io(doing(), error))?;
        let checksum = *blake3::Hasher::new().update(&bytes).update(&length.to_le_bytes()).finalize().as_bytes();
        if checksum != fact.checksum || checksum != written_checksum {
            return Err(damaged());
        }
        let footer = Footer::decode(&bytes, repository, fact.id)?;
        let pages_size = footer.fences.len() as u64 * PAGE_SIZE_BYTES as u64;
        if pages_size != footer_offset || footer.key_count != fact.key_count {
            return Err(damaged());
        }
        let key = sector_key(repository, fact.id);
        Ok(Segment { fact: fact.clone(), file, key, footer, is_bad: AtomicBool::new(false) })
    }

    /// Returns whether bytes of it turned out to be damaged.
    pub fn is_bad(&self) -> bool {
        self.is_bad.load(Ordering::Relaxed)
    }

    /// Takes it out of use.
    pub fn mark_bad(&self) {
        self.is_bad.store(true, Ordering::Relaxed);
    }

    /// Returns the first eight bytes of its first key.
    pub fn first_prefix(&self) -> u64 {
        self.footer.fences.first().copied().unwrap_or(u64::MAX)
    }

    /// Returns how many pages it has.
    pub fn page_count(&self) -> usize {
        self.footer.fences.len()
    }

    /// Returns the pack of a number in its entries.
    pub fn origin(&self, pack_number: u32) -> Option<Origin> {
        self.footer.packs.get(pack_number as usize).copied()
    }

    /// Calls `visit` with the slots of `key`, newest first, until it breaks.
    ///
    /// Damaged bytes end the search and take the segment out of use.
    pub fn find(&self, key: &Key, visit: &mut impl FnMut(Candidate) -> ControlFlow<()>) -> ControlFlow<()> {
        if self.is_bad() {
            return ControlFlow::Continue(());
        }
        let prefix = prefix_of(key);
        // The key may begin at the end of the page before the first one that starts with its prefix or a higher one.
        let fences = &self.footer.fences;
        let first = fences.partition_point(|&fence| fence < prefix).saturating_sub(1);
        let mut group_before = None;
        for page in (first..fences.len()).take_while(|&page| page == first || fences[page] <= prefix) {
            let group = page / PAGES_PER_GROUP;
            if group_before.replace(group) != Some(group) && !self.may_contain(group, prefix) {
                group_before = None;
                continue;
            }
            match self.find_in_page(page, key, visit) {
                Ok(flow) => flow?,
                Err(_) => {
                    self.mark_bad();
                    return ControlFlow::Continue(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Reads pages from `page` on into `bytes`, and returns how many bytes there are.
    pub fn read_pages(&self, page: usize, bytes: &mut [u8]) -> Result<usize> {
        let left = self.page_count().saturating_sub(page).saturating_mul(PAGE_SIZE_BYTES);
        let length = bytes.len().min(left);
        let offset = page as u64 * PAGE_SIZE_BYTES as u64;
        let doing = || format!("read segment {} at {offset}", self.fact.id);
        self.file.read_exact_at(&mut bytes[..length], offset).map_err(|error| Error::io(doing(), error))?;
        Ok(length)
    }

    /// Fails unless the sector is what was written there.
    pub fn verify(&self, page: usize, sector_in_page: usize, bytes: &[u8]) -> Result<()> {
        let number = page * SECTORS_PER_PAGE + sector_in_page;
        let is_intact = u32::try_from(number).is_ok_and(|number| sector::is_intact(&self.key, number, bytes));
        if is_intact {
            Ok(())
        } else {
            Err(Error::damaged(format!("segment {} has a bad sector {number}", self.fact.id)))
        }
    }

    fn may_contain(&self, group: usize, prefix: u64) -> bool {
        self.footer.filters.get(group).is_none_or(|filter| filter.may_contain(prefix))
    }

    fn find_in_page(
        &self,
        page: usize,
        key: &Key,
        visit: &mut impl FnMut(Candidate) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut bytes = [0; PAGE_SIZE_BYTES];
        self.read_pages(page, &mut bytes)?;
        for (number, bytes) in bytes.chunks_exact(SECTOR_SIZE_BYTES).enumerate() {
            // Unverified bytes may hide the key, which is a miss, but not make one up.
            if sector::last_key(bytes).is_none_or(|last| last < key) {
                continue;
            }
            if sector::first_key(bytes).is_some_and(|first| first > key) {
                break;
            }
            let mut is_verified = false;
            for entry in sector::entries(bytes).filter(|entry| entry.key == *key) {
                if !is_verified {
                    self.verify(page, number, bytes)?;
                    is_verified = true;
                }
                let origin = self.origin(entry.pack_number).ok_or_else(|| Error::damaged("a segment lacks a pack"))?;
                let flow = visit(Candidate { origin, slot: SlotNumber(entry.slot) });
                if flow.is_break() {
                    return Ok(flow);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
