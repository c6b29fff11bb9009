//! How the content of a file is written and read so that the page cache ends as it was found.
//!
//! Backups touch much more data than fits into memory, and each byte once; left alone, they push everything else out
//! of the page cache. So contents of [`UNCACHED_SIZE_MIN`] and more are written past it with `O_DIRECT`, through a buffer
//! of our own that is aligned. They are read the same way in large pieces, and in small pieces with `RWF_DONTCACHE`
//! (preadv2(2), Linux 6.14), which takes from the cache what is there and leaves it there. Where the file system can do
//! neither, the range is dropped from the cache after use. Smaller contents are cached as usual.
//!
//! `RWF_NOWAIT` is no way to ask what is cached: Linux then begins to read it into the cache.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

/// From this size on, in bytes, a content does not stay in the page cache.
pub(super) const UNCACHED_SIZE_MIN: usize = 64 << 10;

/// From this length on, in bytes, a read goes past the page cache even if it could take from it: one large request
/// keeps the disk busier, which was worth a factor of 1.4 to 2.4 for packs.
const DIRECT_READ_MIN: usize = 256 << 10;

/// Not in rustix yet; from linux/fs.h.
const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// What addresses, offsets and lengths of direct I/O are multiples of; larger than any disk's sector.
const ALIGNMENT: usize = 4096;

/// The size of the aligned buffer in bytes, and so of one direct read or write.
const BOUNCE_SIZE: usize = 4 << 20;

/// Writes `body` to the new, empty `file`; durable when it returns, but for the file's name.
pub(super) fn write(file: &OwnedFd, body: &[u8]) -> Result<(), Errno> {
    if body.len() < UNCACHED_SIZE_MIN {
        write_all_at(file, body, 0)?;
        return sync(file);
    }
    reserve(file, body.len())?;
    let whole_bytes = body.len() - body.len() % ALIGNMENT;
    let (whole, _) = body.split_at(whole_bytes);
    let written_bytes = write_direct(file, whole)?;
    let (_, rest) = body.split_at(written_bytes);
    write_all_at(file, rest, written_bytes as u64)?;
    sync(file)?;
    forget(file, written_bytes as u64, rest.len());
    Ok(())
}

/// Reads at `offset_bytes` until `buffer` is full, from a file of `file_size_bytes`.
///
/// Returns how many bytes there were: fewer than asked for only if the file is shorter.
pub(super) fn read(file: &OwnedFd, file_size_bytes: u64, offset_bytes: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    if file_size_bytes < UNCACHED_SIZE_MIN as u64 {
        return read_full_at(file, buffer, offset_bytes);
    }
    // Without this, the kernel would read ahead into the cache what nobody asked for.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
    let ways = if buffer.len() < DIRECT_READ_MIN { [read_uncached, read_direct] } else { [read_direct, read_uncached] };
    for way in ways {
        match way(file, buffer, offset_bytes) {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            outcome => return outcome,
        }
    }
    let read_bytes = read_full_at(file, buffer, offset_bytes)?;
    forget(file, offset_bytes, read_bytes);
    Ok(read_bytes)
}

/// Takes the room for the whole file at once, so that a full disk says so at the beginning.
fn reserve(file: &OwnedFd, length_bytes: usize) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length_bytes as u64)) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO)) => Err(errno),
        // Not every file system can; then the writes will tell.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes as much of `body` as can be written past the page cache; returns how many bytes.
fn write_direct(file: &OwnedFd, body: &[u8]) -> Result<usize, Errno> {
    if set_direct(file, true).is_err() {
        return Ok(0);
    }
    let mut bounce = Bounce::new(body.len());
    let mut written_bytes = 0;
    for chunk in body.chunks(BOUNCE_SIZE) {
        let aligned = bounce.first(chunk.len());
        aligned.copy_from_slice(chunk);
        match write_all_at(file, aligned, written_bytes as u64) {
            Ok(()) => written_bytes += chunk.len(),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => break,
            Err(errno) => return Err(errno),
        }
    }
    set_direct(file, false)?;
    Ok(written_bytes)
}

/// Reads through the page cache, where only what was there before stays.
fn read_uncached(file: &OwnedFd, buffer: &mut [u8], offset_bytes: u64) -> Result<usize, Errno> {
    read_full(buffer, offset_bytes, |rest, at_bytes| {
        rustix::io::preadv2(file, &mut [IoSliceMut::new(rest)], at_bytes, RWF_DONTCACHE)
    })
}

/// Reads past the page cache.
fn read_direct(file: &OwnedFd, buffer: &mut [u8], offset_bytes: u64) -> Result<usize, Errno> {
    set_direct(file, true)?;
    let outcome = read_aligned(file, buffer, offset_bytes);
    set_direct(file, false)?;
    outcome
}

fn read_aligned(file: &OwnedFd, buffer: &mut [u8], offset_bytes: u64) -> Result<usize, Errno> {
    let mut bounce = Bounce::new(buffer.len() + 2 * ALIGNMENT);
    let mut done_bytes = 0;
    while done_bytes < buffer.len() {
        let wanted_at_bytes = offset_bytes + done_bytes as u64;
        let skip_bytes = usize::try_from(wanted_at_bytes % ALIGNMENT as u64).unwrap_or_default();
        let (_, wanted) = buffer.split_at_mut(done_bytes);
        let length_bytes = (skip_bytes + wanted.len()).next_multiple_of(ALIGNMENT).min(BOUNCE_SIZE);
        let aligned = bounce.first(length_bytes);
        let read_bytes = retry_on_intr(|| rustix::io::pread(file, &mut *aligned, wanted_at_bytes - skip_bytes as u64))?;
        let found = aligned.get(skip_bytes..read_bytes).unwrap_or_default();
        let usable_bytes = found.len().min(wanted.len());
        if usable_bytes == 0 {
            break;
        }
        wanted.split_at_mut(usable_bytes).0.copy_from_slice(found.split_at(usable_bytes).0);
        done_bytes += usable_bytes;
    }
    Ok(done_bytes)
}

fn read_full_at(file: &OwnedFd, buffer: &mut [u8], offset_bytes: u64) -> Result<usize, Errno> {
    read_full(buffer, offset_bytes, |rest, at_bytes| rustix::io::pread(file, rest, at_bytes))
}

/// Calls `read` until `buffer` is full or the file ends.
fn read_full(
    buffer: &mut [u8],
    offset_bytes: u64,
    read: impl Fn(&mut [u8], u64) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let mut done_bytes = 0;
    while done_bytes < buffer.len() {
        let (_, rest) = buffer.split_at_mut(done_bytes);
        match retry_on_intr(|| read(&mut *rest, offset_bytes + done_bytes as u64))? {
            0 => break,
            read_bytes => done_bytes += read_bytes,
        }
    }
    Ok(done_bytes)
}

fn write_all_at(file: &OwnedFd, mut bytes: &[u8], mut offset_bytes: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written_bytes = retry_on_intr(|| rustix::io::pwrite(file, bytes, offset_bytes))?;
        if written_bytes == 0 {
            return Err(Errno::IO);
        }
        (_, bytes) = bytes.split_at(written_bytes.min(bytes.len()));
        offset_bytes += written_bytes as u64;
    }
    Ok(())
}

fn sync(file: &OwnedFd) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::fdatasync(file))
}

fn set_direct(file: &OwnedFd, is_direct: bool) -> Result<(), Errno> {
    rustix::fs::fcntl_setfl(file, if is_direct { OFlags::DIRECT } else { OFlags::empty() })
}

/// Drops the pages of a range from the cache, also those that the range begins or ends in. Only a wish.
fn forget(file: &OwnedFd, offset_bytes: u64, length_bytes: usize) {
    let start_bytes = offset_bytes - offset_bytes % ALIGNMENT as u64;
    let end_bytes = (offset_bytes + length_bytes as u64).next_multiple_of(ALIGNMENT as u64);
    if let Some(length_bytes) = NonZeroU64::new(end_bytes - start_bytes) {
        let _ = rustix::fs::fadvise(file, start_bytes, Some(length_bytes), Advice::DontNeed);
    }
}

/// A buffer that begins at a multiple of [`ALIGNMENT`].
struct Bounce {
    bytes: Vec<u8>,
    start: usize,
}

impl Bounce {
    /// Makes a buffer for `length_bytes`, or for [`BOUNCE_SIZE`] if that is less.
    fn new(length_bytes: usize) -> Bounce {
        let bytes = vec![0; length_bytes.min(BOUNCE_SIZE) + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Bounce { bytes, start }
    }

    /// Returns the first `length_bytes` of it, or all of it if it is shorter.
    fn first(&mut self, length_bytes: usize) -> &mut [u8] {
        let (_, aligned) = self.bytes.split_at_mut(self.start);
        let length_bytes = length_bytes.min(aligned.len());
        aligned.split_at_mut(length_bytes).0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
    }

    #[test]
    fn every_way_of_reading_gives_the_same_bytes() {
        let body = pattern(2 * BOUNCE_SIZE + 5000);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&body, 0).unwrap();
        let file = OwnedFd::from(file);
        let starts = [0, 1, 4095, 4096, BOUNCE_SIZE - 1, BOUNCE_SIZE, body.len() - 1, body.len(), body.len() + 9000];
        let lengths = [0, 1, 4096, 70_000, BOUNCE_SIZE, BOUNCE_SIZE + 1, body.len()];
        for (name, way) in [
            ("uncached", read_uncached as fn(&OwnedFd, &mut [u8], u64) -> _),
            ("direct", read_direct),
            ("full", read_full_at),
        ] {
            for (start, length) in starts.into_iter().flat_map(|start| lengths.map(|length| (start, length))) {
                let mut buffer = vec![0; length];
                let read_bytes = match way(&file, &mut buffer, start as u64) {
                    Ok(read_bytes) => read_bytes,
                    Err(errno) => {
                        eprintln!("skipped: no {name} reads on this file system: {errno}");
                        break;
                    }
                };
                let expected = &body[start.min(body.len())..(start + length).min(body.len())];
                assert!(buffer[..read_bytes] == *expected, "{name}: {length} bytes at {start}");
            }
        }
    }

    #[test]
    fn contents_are_written_to_a_file_system_without_a_disk() {
        // On tmpfs, which before Linux 6.6 does not know O_DIRECT.
        let body = pattern(300_001);
        let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
        let file = OwnedFd::from(file);
        write(&file, &body).unwrap();
        let mut buffer = vec![0; body.len() + 1];
        assert_eq!(read(&file, body.len() as u64, 0, &mut buffer).unwrap(), body.len());
        assert!(buffer[..body.len()] == body);
    }
}
