//! Reading disk images: data ranges of sparse files, and many threads over the pieces of them.

use crate::Result;
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Opens a file for reading, and returns its size in bytes as well.
pub fn open(path: &str) -> Result<(File, u64)> {
    let file = File::open(path).map_err(|error| format!("open {path}: {error}"))?;
    let size_bytes = seek(&file, SeekFrom::End(0))?;
    Ok((file, size_bytes))
}

/// Makes or empties a file for writing.
pub fn create(path: &str) -> Result<File> {
    Ok(File::create(path).map_err(|error| format!("create {path}: {error}"))?)
}

/// Returns the ranges in bytes that are not holes, in order.
pub fn data_ranges(file: &File, size_bytes: u64) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size_bytes {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = seek(file, SeekFrom::Hole(start))?.min(size_bytes);
        ranges.push(start..at);
    }
    Ok(ranges)
}

/// Cuts ranges at multiples of `piece_bytes`.
pub fn pieces(ranges: &[Range<u64>], piece_bytes: u64) -> Vec<Range<u64>> {
    let mut pieces = Vec::new();
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min((start / piece_bytes + 1) * piece_bytes);
            pieces.push(start..end);
            start = end;
        }
    }
    pieces
}

/// Reads a range into the front of `buffer`, which must be large enough, and returns that front.
pub fn read<'a>(file: &File, range: &Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    buffer.resize(usize::try_from(range.end - range.start)?, 0);
    file.read_exact_at(buffer, range.start).map_err(|error| format!("read at {}: {error}", range.start))?;
    Ok(buffer)
}

/// Returns whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| ZEROS.starts_with(chunk))
}

/// Runs `work` on every item, on all cores; each thread has a state of its own. Returns the states, or the first error.
pub fn on_all_cores<I: Sync, S: Send>(
    items: &[I],
    make_state: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, &I) -> Result<()> + Sync,
) -> Result<Vec<S>> {
    let next = AtomicUsize::new(0);
    let one_core = || -> Result<S> {
        let mut state = make_state()?;
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(&mut state, item)?;
        }
        Ok(state)
    };
    let core_count = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..core_count).map(|_| scope.spawn(one_core)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_ranges_and_stop_at_the_grid() {
        assert_eq!(pieces(&[5..25, 30..31], 10), [5..10, 10..20, 20..25, 30..31]);
    }

    #[test]
    fn data_ranges_leave_out_holes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        let ranges = data_ranges(&file, 4 << 20).unwrap();
        assert!(ranges.iter().any(|range| range.contains(&(1 << 20))), "{ranges:?}");
        assert!(data_ranges(&file, 0).unwrap().is_empty());
    }

    #[test]
    fn one_bit_makes_it_not_zero() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes));
        bytes[9_999] = 1;
        assert!(!is_zero(&bytes));
    }

    #[test]
    fn an_error_on_one_core_is_the_answer() {
        let found = on_all_cores(&[1, 2, 3], || Ok(0), |_, item| if *item == 2 { Err("two".into()) } else { Ok(()) });
        assert_eq!(found.unwrap_err().to_string(), "two");
    }
}
