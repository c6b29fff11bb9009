//! Reads that leave the page cache as they found it.
//!
//! ```text
//!  all of it in the page cache?   -> a plain read, which is the fastest
//!  else, and direct I/O works?    -> read around the page cache
//!  else                           -> a plain read; then drop the pages that were not there before
//! ```
//!
//! Whether it is in the cache is asked with one `cachestat(2)` per read (Linux 6.5 and newer). Asking with
//! `preadv2(RWF_NOWAIT)` would not do: where nothing is cached, the kernel starts reading ahead into the cache. For the same
//! reason the file is marked for random access: nothing is read beyond what was asked for.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use rustix::param::page_size;

use crate::buffer::{ALIGNMENT_BYTES, AlignedBuffer, is_aligned};
use crate::sys;

/// The most that one copying read takes at a time.
const BOUNCE_BYTES_MAX: usize = 1 << 20;

/// Reads one file, from several threads at once.
pub struct Reader {
    /// The same file without the page cache.
    direct: Option<File>,
    is_direct_refused: AtomicBool,
    is_cache_unknown: AtomicBool,
}

impl Reader {
    /// Makes a reader of `file`; `direct` is the same file opened with `O_DIRECT`, where that was possible.
    pub fn new(file: &File, direct: Option<File>) -> Reader {
        // Where the advice is not taken, more may stay in the cache than was there; the bytes are the same.
        let _ = fadvise(file, 0, None, Advice::Random);
        Reader { direct, is_direct_refused: AtomicBool::new(false), is_cache_unknown: AtomicBool::new(false) }
    }

    /// Reads exactly `buffer.len()` bytes of `file`; `UnexpectedEof` if the file ends before.
    pub fn read_exact_at(&self, file: &File, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        if let Some(direct) = self.direct.as_ref().filter(|_| !self.is_direct_refused.load(Ordering::Relaxed)) {
            if self.is_cached(file, offset_bytes, buffer.len() as u64) {
                return file.read_exact_at(buffer, offset_bytes);
            }
            match read_direct(direct, offset_bytes, buffer) {
                // The file system opens it, but does not do it, or wants a larger alignment.
                Err(error) if is_refusal(&error) => self.is_direct_refused.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        read_and_drop(file, offset_bytes, buffer)
    }

    /// Says whether these bytes are in the page cache; no if nobody knows.
    fn is_cached(&self, file: &File, offset_bytes: u64, length_bytes: u64) -> bool {
        if self.is_cache_unknown.load(Ordering::Relaxed) {
            return false;
        }
        let page_bytes = page_size() as u64;
        let first_page = offset_bytes / page_bytes;
        let end_page = offset_bytes.saturating_add(length_bytes).div_ceil(page_bytes);
        match sys::cached_pages(file, offset_bytes, length_bytes) {
            Ok(pages) => pages >= end_page - first_page,
            Err(_) => {
                self.is_cache_unknown.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// Reads around the page cache: aligned memory and offsets without a copy, everything else through an aligned buffer.
fn read_direct(direct: &File, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
    let alignment = ALIGNMENT_BYTES as u64;
    let is_direct = offset_bytes.is_multiple_of(alignment) && is_aligned(buffer);
    let whole_bytes = if is_direct { buffer.len() - buffer.len() % ALIGNMENT_BYTES } else { 0 };
    let (whole, mut rest) = buffer.split_at_mut(whole_bytes);
    if !whole.is_empty() && read_aligned(direct, offset_bytes, whole)? < whole.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if rest.is_empty() {
        return Ok(());
    }
    let mut at_bytes = offset_bytes + whole_bytes as u64;
    let mut bounce = AlignedBuffer::new(bounce_bytes(at_bytes, rest.len()));
    while !rest.is_empty() {
        bounce.resize(bounce_bytes(at_bytes, rest.len()));
        let before_bytes = before_bytes(at_bytes);
        let filled = read_aligned(direct, at_bytes - before_bytes as u64, &mut bounce)?;
        let taken = filled.saturating_sub(before_bytes).min(rest.len());
        if taken == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (now, later) = rest.split_at_mut(taken);
        now.copy_from_slice(&bounce[before_bytes..before_bytes + taken]);
        rest = later;
        at_bytes += taken as u64;
    }
    Ok(())
}

/// Returns how far `at_bytes` lies behind a multiple of the alignment.
fn before_bytes(at_bytes: u64) -> usize {
    usize::try_from(at_bytes % ALIGNMENT_BYTES as u64).unwrap_or(0)
}

/// Returns how many aligned bytes to read for `rest_bytes` at `at_bytes`.
fn bounce_bytes(at_bytes: u64, rest_bytes: usize) -> usize {
    (before_bytes(at_bytes) + rest_bytes).next_multiple_of(ALIGNMENT_BYTES).min(BOUNCE_BYTES_MAX)
}

/// Reads until `buffer` is full or the file ends; offset, length and memory are aligned. Returns how much was read.
fn read_aligned(direct: &File, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut aligned = 0;
    let mut reached = 0;
    loop {
        let read = match direct.read_at(&mut buffer[aligned..], offset_bytes + aligned as u64) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // A short read may end within a page, where the next one cannot begin: ask for the whole page again. Only if
        // that brings nothing new it is the end.
        if aligned + read == buffer.len() || aligned + read <= reached {
            return Ok(reached.max(aligned + read));
        }
        reached = aligned + read;
        aligned = reached - reached % ALIGNMENT_BYTES;
    }
}

/// Reads through the page cache, and drops the pages that were not there before.
fn read_and_drop(file: &File, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
    let page_bytes = page_size() as u64;
    let start_bytes = offset_bytes - offset_bytes % page_bytes;
    let end_bytes = offset_bytes + buffer.len() as u64;
    let span_bytes = usize::try_from(end_bytes - start_bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // A file that cannot be mapped does not tell what is cached: better drop too much of it than let it push out
    // everything else.
    let resident = sys::resident_pages(file, start_bytes, span_bytes)
        .unwrap_or_else(|_| vec![false; span_bytes.div_ceil(page_size())]);
    let result = file.read_exact_at(buffer, offset_bytes);
    let mut at_bytes = start_bytes;
    for run in resident.chunk_by(|one, other| one == other) {
        let run_bytes = run.len() as u64 * page_bytes;
        if run.first() == Some(&false) {
            drop_cached(file, at_bytes, run_bytes);
        }
        at_bytes += run_bytes;
    }
    result
}

/// Drops clean pages from the page cache. It is advice: what is in use stays.
pub fn drop_cached(file: &File, offset_bytes: u64, length_bytes: u64) {
    if let Some(length_bytes) = NonZeroU64::new(length_bytes) {
        let _ = fadvise(file, offset_bytes, Some(length_bytes), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    const SIZE: usize = 8 << 20;

    /// Makes a file, written out and with nothing cached; `None` where the page cache cannot be told or emptied.
    fn uncached_file(folder: &std::path::Path) -> Option<File> {
        let path = folder.join("file");
        let bytes: Vec<u8> = (0..SIZE).map(|number| u8::try_from(number / 4096 % 251).unwrap()).collect();
        std::fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        drop_cached(&file, 0, SIZE as u64);
        if resident(&file).contains(&true) {
            println!("skipped: {} keeps everything in the page cache", path.display());
            return None;
        }
        Some(file)
    }

    fn resident(file: &File) -> Vec<bool> {
        sys::resident_pages(file, 0, SIZE).unwrap()
    }

    fn readers(file: &File, folder: &std::path::Path) -> Vec<(&'static str, Reader)> {
        let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
        let direct = OpenOptions::new().read(true).custom_flags(flags).open(folder.join("file"));
        if direct.is_err() {
            println!("skipped: no direct I/O in {}", folder.display());
        }
        let mut readers = vec![("dropping", Reader::new(file, None))];
        readers.extend(direct.ok().map(|direct| ("direct", Reader::new(file, Some(direct)))));
        readers
    }

    fn read_all(reader: &Reader, file: &File, step: usize) {
        let mut buffer = AlignedBuffer::new(step);
        for offset in (0..SIZE).step_by(step) {
            let length = step.min(SIZE - offset);
            reader.read_exact_at(file, offset as u64, &mut buffer[..length]).unwrap();
            let expected = |index: usize| u8::try_from((offset + index) / 4096 % 251).unwrap();
            assert!(buffer[..length].iter().enumerate().all(|(index, byte)| *byte == expected(index)), "at {offset}");
        }
    }

    #[test]
    fn reading_leaves_the_page_cache_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let Some(file) = uncached_file(folder.path()) else { return };
        for (name, reader) in readers(&file, folder.path()) {
            for step in [1 << 20, 3 << 20, 65536, 100_000] {
                let cached: [&[ByteRange]; 4] =
                    [&[], &[(0, SIZE)], &[(0, SIZE / 2)], &[(4096, 8192), (SIZE / 2, SIZE)]];
                for ranges in cached {
                    drop_cached(&file, 0, SIZE as u64);
                    for (start, end) in ranges {
                        file.read_exact_at(&mut vec![0; end - start], *start as u64).unwrap();
                    }
                    let before = resident(&file);
                    assert_eq!(before.contains(&true), !ranges.is_empty());
                    read_all(&reader, &file, step);
                    let after = resident(&file);
                    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
                    assert_eq!(changed, 0, "{name} reads of {step} with {ranges:?} cached");
                }
            }
        }
    }

    type ByteRange = (usize, usize);

    #[test]
    fn cachestat_and_mincore_agree() {
        let folder = tempfile::tempdir().unwrap();
        let Some(file) = uncached_file(folder.path()) else { return };
        let _ = fadvise(&file, 0, None, Advice::Random);
        file.read_exact_at(&mut [0; 40_000], 1 << 20).unwrap();
        let pages = resident(&file).into_iter().filter(|is_resident| *is_resident).count() as u64;
        match sys::cached_pages(&file, 0, SIZE as u64) {
            Ok(counted) => assert_eq!(counted, pages),
            Err(error) => println!("skipped: no cachestat: {error}"),
        }
    }

    #[test]
    fn a_reader_whose_direct_file_refuses_falls_back() {
        let folder = tempfile::tempdir().unwrap();
        let Some(file) = uncached_file(folder.path()) else { return };
        // What answers reads with EINVAL without any help of a file system: a file of /proc that is only for writing.
        let Ok(refusing) = File::open("/proc/self/clear_refs") else {
            println!("skipped: only root may open /proc/self/clear_refs");
            return;
        };
        let reader = Reader::new(&file, Some(refusing));
        read_all(&reader, &file, 1 << 20);
        assert!(reader.is_direct_refused.load(Ordering::Relaxed));
    }
}
