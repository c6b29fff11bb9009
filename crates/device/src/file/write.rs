//! Writes that do not fill the page cache.
//!
//! Data goes through the page cache, so that any offset and length will do, and is pushed out behind the writer: when a
//! window is full, the kernel begins to write it, and the writer waits for the window before and drops it.
//!
//! ```text
//!  written, dropped | being written by the kernel | being filled |
//!                   '---------- window ----------'-- window ----'
//! ```
//!
//! So at most about two windows (and one for each thread that waits) are dirty at any time, and the final flush is short.
//! Direct I/O was not faster on ext4 and tmpfs, and cannot be mixed with this: where the two meet in a page, the kernel
//! may report an I/O error although all is well.

use std::fs::File;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backy_core::units::ByteRange;
use rustix::io::Errno;

use super::read::drop_cached;
use crate::sys;

/// How much is written before the kernel is told to begin.
const WINDOW_BYTES: u64 = 16 << 20;

/// How many of the latest ranges a write is compared with, to be joined with one that ends where it begins.
const NEIGHBOURS: usize = 16;

/// Remembers what was written to one file, and pushes it out.
#[derive(Default)]
pub struct WriteBehind {
    windows: Mutex<Windows>,
    /// The kernel reports a failed write once. We remember it until the end.
    has_failed: AtomicBool,
}

#[derive(Default)]
struct Windows {
    filling: Vec<ByteRange>,
    filled_bytes: u64,
    writing: Vec<ByteRange>,
}

impl WriteBehind {
    /// Notes that `range` of `file` was written, and pushes out when a window is full.
    pub fn wrote(&self, file: &File, range: ByteRange) -> io::Result<()> {
        let mut windows = self.lock();
        windows.note(range);
        if windows.filled_bytes < WINDOW_BYTES {
            return Ok(());
        }
        let window = joined(windows.take_filling());
        let before = mem::replace(&mut windows.writing, window.clone());
        drop(windows);
        self.remember(start(file, &window).and_then(|()| finish(file, &before)))
    }

    /// Writes all of `file` out so that it outlives a power cut, and drops from the page cache what was written.
    ///
    /// Fails if any earlier write came to nothing, even if that was reported before.
    pub fn flush(&self, file: &File) -> io::Result<()> {
        let mut windows = self.lock();
        let mut ranges = windows.take_filling();
        ranges.append(&mut windows.writing);
        drop(windows);
        self.remember(file.sync_all())?;
        for range in joined(ranges) {
            drop_cached(file, range.offset_bytes, range.length_bytes);
        }
        match self.has_failed.load(Ordering::SeqCst) {
            true => Err(io::Error::other("an earlier write has failed")),
            false => Ok(()),
        }
    }

    fn remember(&self, result: io::Result<()>) -> io::Result<()> {
        if result.is_err() {
            self.has_failed.store(true, Ordering::SeqCst);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Windows {
    fn note(&mut self, range: ByteRange) {
        self.filled_bytes += range.length_bytes;
        let neighbour =
            self.filling.iter_mut().rev().take(NEIGHBOURS).find(|one| one.end_bytes() == range.offset_bytes);
        match neighbour {
            Some(neighbour) => neighbour.length_bytes += range.length_bytes,
            None => self.filling.push(range),
        }
    }

    fn take_filling(&mut self) -> Vec<ByteRange> {
        self.filled_bytes = 0;
        mem::take(&mut self.filling)
    }
}

fn start(file: &File, window: &[ByteRange]) -> io::Result<()> {
    window.iter().try_for_each(|range| {
        let result = sys::start_writeback(file, range.offset_bytes, range.length_bytes);
        // Where the kernel cannot begin early, it is written when the window is finished.
        if result.as_ref().is_err_and(is_refusal) { Ok(()) } else { result }
    })
}

fn finish(file: &File, window: &[ByteRange]) -> io::Result<()> {
    for range in window {
        match sys::finish_writeback(file, range.offset_bytes, range.length_bytes) {
            Err(error) if is_refusal(&error) => file.sync_data()?,
            result => result?,
        }
        drop_cached(file, range.offset_bytes, range.length_bytes);
    }
    Ok(())
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::SPIPE | Errno::OPNOTSUPP))
}

/// Returns the ranges in order, those that touch or overlap as one.
fn joined(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_unstable_by_key(|range| range.offset_bytes);
    let mut found: Vec<ByteRange> = Vec::new();
    for range in ranges {
        match found.last_mut() {
            Some(last) if last.end_bytes() >= range.offset_bytes => {
                *last = ByteRange::between(last.offset_bytes, last.end_bytes().max(range.end_bytes()));
            }
            _ => found.push(range),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::between(start, end)
    }

    #[test]
    fn touching_writes_become_one_range() {
        let mut windows = Windows::default();
        for one in [range(0, 4), range(100, 104), range(4, 8), range(104, 108), range(50, 51)] {
            windows.note(one);
        }
        assert_eq!(windows.filled_bytes, 17);
        assert_eq!(windows.take_filling(), [range(0, 8), range(100, 108), range(50, 51)]);
        assert_eq!(joined(vec![range(5, 9), range(0, 5), range(1, 2), range(10, 11)]), [range(0, 9), range(10, 11)]);
    }

    #[test]
    fn a_failure_is_remembered_until_the_flush() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("file")).unwrap();
        let behind = WriteBehind::default();
        assert!(behind.flush(&file).is_ok());
        let failure = Err(io::Error::from_raw_os_error(Errno::IO.raw_os_error()));
        assert!(behind.remember(failure).is_err());
        for _ in 0..2 {
            assert!(behind.flush(&file).is_err());
        }
    }
}
