//! A disk on top of another that takes everything that is written, so that the one below is never touched.
//!
//! ```text
//!  page_map   which pages (4 KiB) are here; all others are read from below
//!  scratch    the sparse file that holds them
//! ```
//!
//! A page comes here as a whole: of one that is written in part, the rest is copied up first. Pages never go back, so a
//! page that is here may be read and written without asking anybody. What is zeroed or discarded becomes a hole here.
//!
//! Bytes that are written by one and nobody else at the same time are what they were written as, also where several
//! writers share a page.

mod page_map;
mod scratch;

use std::fs::DirBuilder;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use backy_core::ids::VersionUid;
use backy_core::units::ByteRange;
use backy_core::{Error, Result};
use backy_device::device::check_bounds;
use backy_device::{Source, Target};

use self::page_map::PageMap;
use self::scratch::{PAGE_BYTES, Scratch};

/// A writable disk on top of a read-only one.
pub struct Overlay {
    below: Arc<dyn Source>,
    scratch: Scratch,
    map: RwLock<PageMap>,
    /// Held by who makes the map durable: nobody else may say that it is before that.
    flushing: Mutex<()>,
}

impl Overlay {
    /// Makes a folder for what is written, as private as the versions are, with all above it; or finds it there.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn make_folder(folder: &Path) -> Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Error::io(format!("make the folder {}", folder.display()), error))
    }

    /// Makes an overlay that is gone when it is dropped; `folder` has to have room for what is written.
    pub fn unnamed(below: Arc<dyn Source>, folder: &Path) -> Result<Overlay> {
        let scratch = Scratch::unnamed(folder, below.size_bytes())?;
        Ok(Overlay { below, scratch, map: RwLock::default(), flushing: Mutex::default() })
    }

    /// Opens the overlay of the version `uid` in the file `path`, or makes it; it holds what was flushed.
    ///
    /// # Errors
    /// `Refused` if it belongs to another version, `Busy` if somebody uses it.
    pub fn kept(below: Arc<dyn Source>, path: &Path, uid: VersionUid) -> Result<Overlay> {
        let (scratch, map) = Scratch::kept(path, below.size_bytes(), uid)?;
        Ok(Overlay { below, scratch, map: RwLock::new(map), flushing: Mutex::default() })
    }

    fn read_map(&self) -> RwLockReadGuard<'_, PageMap> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_map(&self) -> RwLockWriteGuard<'_, PageMap> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the runs of `range` in order, each with whether it is here.
    fn runs(&self, range: ByteRange) -> Vec<(ByteRange, bool)> {
        let bytes_of = |pages: Range<u64>| {
            ByteRange::between(pages.start * PAGE_BYTES, pages.end * PAGE_BYTES).intersection(range)
        };
        let runs = self.read_map().runs(pages_of(range));
        runs.into_iter().map(|(pages, is_here)| (bytes_of(pages), is_here)).collect()
    }

    /// Makes sure that the page that holds the byte at `offset_bytes` is here.
    fn copy_up(&self, offset_bytes: u64) -> Result<()> {
        let page = offset_bytes / PAGE_BYTES;
        if self.read_map().contains_all(page..page + 1) {
            return Ok(());
        }
        // Without a lock: it may take long.
        let range = ByteRange { offset_bytes: page * PAGE_BYTES, length_bytes: PAGE_BYTES };
        let range = range.intersection(ByteRange::between(0, self.size_bytes()));
        let mut bytes = vec![0; usize::try_from(range.length_bytes).unwrap_or(usize::MAX)];
        self.below.read_at(range.offset_bytes, &mut bytes)?;
        let mut map = self.write_map();
        // Perhaps it was written as a whole since.
        if !map.contains_all(page..page + 1) {
            self.scratch.write_at(range.offset_bytes, &bytes)?;
            map.insert(page..page + 1);
        }
        Ok(())
    }

    /// Changes bytes: the first and the last page are here as a whole before.
    fn change(&self, range: ByteRange, change: impl Fn() -> Result<()>) -> Result<()> {
        let end_bytes = range.end_bytes();
        if !range.offset_bytes.is_multiple_of(PAGE_BYTES) {
            self.copy_up(range.offset_bytes)?;
        }
        if !end_bytes.is_multiple_of(PAGE_BYTES) && end_bytes < self.size_bytes() {
            self.copy_up(end_bytes)?;
        }
        let pages = pages_of(range);
        let map = self.read_map();
        if map.contains_all(pages.clone()) {
            return change();
        }
        drop(map);
        // Nobody may copy up one of these pages between its being written and its being known to be here.
        let mut map = self.write_map();
        change()?;
        map.insert(pages);
        Ok(())
    }
}

impl Source for Overlay {
    fn size_bytes(&self) -> u64 {
        self.below.size_bytes()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        let range = ByteRange { offset_bytes, length_bytes: buffer.len() as u64 };
        check_bounds(range, self.size_bytes(), &self.url())?;
        let mut rest = buffer;
        for (run, is_here) in self.runs(range) {
            let (part, tail) = rest.split_at_mut(usize::try_from(run.length_bytes).unwrap_or(usize::MAX));
            let from: &dyn Fn(u64, &mut [u8]) -> Result<()> = if is_here {
                &|at, part| self.scratch.read_at(at, part)
            } else {
                &|at, part| self.below.read_at(at, part)
            };
            from(run.offset_bytes, part)?;
            rest = tail;
        }
        Ok(())
    }

    fn data_ranges(&self, range: ByteRange) -> Result<Vec<ByteRange>> {
        let range = range.intersection(ByteRange::between(0, self.size_bytes()));
        let mut data: Vec<ByteRange> = Vec::new();
        for (run, is_here) in self.runs(range) {
            let found = if is_here { self.scratch.data_ranges(run)? } else { self.below.data_ranges(run)? };
            for range in found {
                match data.last_mut() {
                    Some(last) if last.end_bytes() == range.offset_bytes => last.length_bytes += range.length_bytes,
                    _ => data.push(range),
                }
            }
        }
        Ok(data)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.below.check_unchanged()
    }

    fn url(&self) -> String {
        format!("overlay+{}", self.below.url())
    }
}

impl Target for Overlay {
    fn write_at(&self, offset_bytes: u64, buffer: &[u8]) -> Result<()> {
        let range = ByteRange { offset_bytes, length_bytes: buffer.len() as u64 };
        check_bounds(range, self.size_bytes(), &self.url())?;
        if range.is_empty() {
            return Ok(());
        }
        self.change(range, || self.scratch.write_at(offset_bytes, buffer))
    }

    fn zero_range(&self, range: ByteRange) -> Result<()> {
        check_bounds(range, self.size_bytes(), &self.url())?;
        if range.is_empty() {
            return Ok(());
        }
        self.change(range, || self.scratch.zero_range(range))
    }

    fn is_known_zero(&self) -> bool {
        false
    }

    /// Of an overlay without a name nothing outlives the program, so there is nothing to do.
    fn flush(&self) -> Result<()> {
        if !self.scratch.is_kept() {
            return Ok(());
        }
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.write_map().take_changed();
        let kept = self.scratch.sync().and_then(|()| {
            if changed.is_empty() {
                return Ok(());
            }
            self.scratch.write_map(&changed)?;
            self.scratch.sync()
        });
        if kept.is_err() {
            self.write_map().note_changed(changed.into_iter().map(|(number, _)| number));
        }
        kept
    }
}

/// Returns the pages that hold bytes of `range`.
fn pages_of(range: ByteRange) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    range.offset_bytes / PAGE_BYTES..range.end_bytes().div_ceil(PAGE_BYTES)
}
