//! The content of a version as a file: what is written lies on top of it, and is seen by everybody.
//!
//! A disk that was written stays until the mount ends, with its writes; another one ends with its last handle, and is
//! opened again when it is needed. As long as a disk is open, its version is in use.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use backy_core::environment::Timestamp;
use backy_core::units::ByteRange;
use backy_core::{Result, ResultExt};
use backy_device::{Source, Target};

use super::Scratch;
use super::node::Index;
use crate::{Overlay, VersionView};

/// The first window in which is looked for data or a hole; windows grow over holes.
const WINDOW_BYTES_MIN: u64 = 1 << 30;
/// The largest window. It bounds what the answer takes in memory.
const WINDOW_BYTES_MAX: u64 = 64 << 30;

/// A version that is open.
pub(super) struct Disk {
    index: Index,
    view: Arc<VersionView>,
    overlay: RwLock<Option<Arc<Overlay>>>,
    scratch: Scratch,
    /// When it was written last, in milliseconds since 1970; 0: never.
    written: AtomicU64,
}

impl Disk {
    /// Makes a disk of an open version.
    pub(super) fn new(index: Index, view: VersionView, scratch: Scratch) -> Disk {
        Disk { index, view: Arc::new(view), overlay: RwLock::default(), scratch, written: AtomicU64::default() }
    }

    /// Puts on top of the version what an earlier mount has kept of it; nothing is read or written before.
    pub(super) fn take_up_kept(&self) -> Result<()> {
        if self.kept_path().is_some_and(|path| path.exists()) {
            self.overlay()?;
        }
        Ok(())
    }

    /// Returns the index of the version.
    pub(super) fn index(&self) -> Index {
        self.index
    }

    /// Returns the size, which does not change.
    pub(super) fn size_bytes(&self) -> u64 {
        self.view.size_bytes()
    }

    /// Returns when the content was changed last: when the version was made, or written to.
    pub(super) fn changed(&self) -> Timestamp {
        let written = Timestamp { milliseconds: self.written.load(Ordering::Relaxed) };
        written.max(self.view.manifest().created)
    }

    /// Says whether there is something on top of the version.
    pub(super) fn has_overlay(&self) -> bool {
        self.read_overlay().is_some()
    }

    /// Reads what lies before the end.
    pub(super) fn read(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<()> {
        match self.read_overlay() {
            Some(overlay) => overlay.read_at(offset_bytes, buffer),
            None => self.view.read_at(offset_bytes, buffer),
        }
    }

    /// Writes what lies before the end.
    pub(super) fn write(&self, offset_bytes: u64, bytes: &[u8], now: Timestamp) -> Result<()> {
        self.overlay()?.write_at(offset_bytes, bytes)?;
        self.written.fetch_max(now.milliseconds, Ordering::Relaxed);
        Ok(())
    }

    /// Makes what lies before the end read as zero.
    pub(super) fn zero(&self, range: ByteRange, now: Timestamp) -> Result<()> {
        self.overlay()?.zero_range(range)?;
        self.written.fetch_max(now.milliseconds, Ordering::Relaxed);
        Ok(())
    }

    /// Makes durable what was written.
    pub(super) fn flush(&self) -> Result<()> {
        self.read_overlay().map_or(Ok(()), |overlay| overlay.flush())
    }

    /// Returns where the next data is, at or behind `offset_bytes`; none if there is none before the end.
    pub(super) fn next_data(&self, offset_bytes: u64) -> Result<Option<u64>> {
        let mut at_bytes = offset_bytes;
        let mut window_bytes = WINDOW_BYTES_MIN;
        while at_bytes < self.size_bytes() {
            let window = self.window(at_bytes, window_bytes);
            if let Some(data) = self.data_ranges(window)?.first() {
                return Ok(Some(data.offset_bytes));
            }
            at_bytes = window.end_bytes();
            window_bytes = (window_bytes * 2).min(WINDOW_BYTES_MAX);
        }
        Ok(None)
    }

    /// Returns where the next hole is, at or behind `offset_bytes`: at the end, if nowhere before.
    pub(super) fn next_hole(&self, offset_bytes: u64) -> Result<u64> {
        let mut at_bytes = offset_bytes;
        while at_bytes < self.size_bytes() {
            let window = self.window(at_bytes, WINDOW_BYTES_MIN);
            let data = self.data_ranges(window)?;
            match data.first() {
                Some(data) if data.offset_bytes == at_bytes => at_bytes = data.end_bytes(),
                _ => return Ok(at_bytes),
            }
        }
        Ok(at_bytes)
    }

    fn window(&self, at_bytes: u64, window_bytes: u64) -> ByteRange {
        ByteRange::between(at_bytes, at_bytes.saturating_add(window_bytes).min(self.size_bytes()))
    }

    fn data_ranges(&self, window: ByteRange) -> Result<Vec<ByteRange>> {
        match self.read_overlay() {
            Some(overlay) => overlay.data_ranges(window),
            None => self.view.data_ranges(window),
        }
    }

    fn read_overlay(&self) -> Option<Arc<Overlay>> {
        self.overlay.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what lies on top of the version; makes it if there is nothing yet.
    fn overlay(&self) -> Result<Arc<Overlay>> {
        if let Some(overlay) = self.read_overlay() {
            return Ok(overlay);
        }
        let mut place = self.overlay.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(overlay) = place.as_ref() {
            return Ok(overlay.clone());
        }
        let overlay = match &self.scratch {
            Scratch::Unnamed(folder) | Scratch::Kept(folder) => {
                Overlay::make_folder(folder)?;
                match self.kept_path() {
                    Some(path) => Overlay::kept(self.view.clone(), &path, self.view.manifest().uid),
                    None => Overlay::unnamed(self.view.clone(), folder),
                }
            }
        };
        let overlay = overlay.context(|| format!("make room for writes to version {}", self.view.manifest().uid))?;
        Ok(place.insert(Arc::new(overlay)).clone())
    }

    fn kept_path(&self) -> Option<PathBuf> {
        match &self.scratch {
            Scratch::Unnamed(_) => None,
            Scratch::Kept(folder) => Some(folder.join(format!("{}.overlay", self.view.manifest().uid))),
        }
    }
}
