//! The system calls that need `unsafe`: what is in the page cache, and starting to write it out.
//!
//! Everything else goes through rustix and std. Nothing here decides anything.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_uchar, c_uint, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn mincore(address: *mut c_void, length: usize, pages: *mut c_uchar) -> c_int;
    fn sync_file_range(fd: c_int, offset: i64, length: i64, flags: c_uint) -> c_int;
}

/// The number of `cachestat(2)`, Linux 6.5 and newer; the same on all architectures that Rust knows for Linux.
const CACHESTAT: c_long = 451;

const SYNC_FILE_RANGE_WAIT_BEFORE: c_uint = 1;
const SYNC_FILE_RANGE_WRITE: c_uint = 2;
const SYNC_FILE_RANGE_WAIT_AFTER: c_uint = 4;

#[repr(C)]
struct CacheRange {
    offset_bytes: u64,
    length_bytes: u64,
}

#[repr(C)]
#[derive(Default)]
struct CacheCounts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Returns how many pages of these bytes are in the page cache; an error where the kernel does not tell.
pub fn cached_pages(file: &File, offset_bytes: u64, length_bytes: u64) -> io::Result<u64> {
    let range = CacheRange { offset_bytes, length_bytes };
    let mut counts = CacheCounts::default();
    // SAFETY: cachestat(fd, range, counts, flags) reads `range` and writes `counts`, both of which have the kernel's
    // layout (include/uapi/linux/mman.h) and live until the call returns. A kernel without it answers ENOSYS.
    let answer = unsafe {
        syscall(
            CACHESTAT,
            c_long::from(file.as_raw_fd()),
            ptr::from_ref(&range),
            ptr::from_mut(&mut counts),
            c_long::from(0u8),
        )
    };
    if answer == 0 { Ok(counts.cached) } else { Err(io::Error::last_os_error()) }
}

/// Returns for each page of these bytes whether it is in the page cache; `offset_bytes` begins a page.
///
/// For a file that is neither ours nor writable for us the kernel says that all of it is.
pub fn resident_pages(file: &File, offset_bytes: u64, length_bytes: usize) -> io::Result<Vec<bool>> {
    if length_bytes == 0 {
        return Ok(Vec::new());
    }
    let mut pages: Vec<c_uchar> = vec![0; length_bytes.div_ceil(page_size())];
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours, and nobody reads from it.
    let address =
        unsafe { mmap(ptr::null_mut(), length_bytes, ProtFlags::READ, MapFlags::SHARED, file, offset_bytes)? };
    // SAFETY: the range is the mapping just made, and `pages` has one byte for each of its pages.
    let answer = unsafe { mincore(address, length_bytes, pages.as_mut_ptr()) };
    let result = if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: the mapping was made above, and nothing refers to it any more.
    unsafe { munmap(address, length_bytes)? };
    result.map(|()| pages.iter().map(|page| page & 1 == 1).collect())
}

/// Starts writing these bytes from the page cache to the medium and does not wait for it.
pub fn start_writeback(file: &File, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
    sync_range(file, offset_bytes, length_bytes, SYNC_FILE_RANGE_WRITE)
}

/// Writes these bytes from the page cache to the medium; they do not outlive a power cut for that.
pub fn finish_writeback(file: &File, offset_bytes: u64, length_bytes: u64) -> io::Result<()> {
    let flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, offset_bytes, length_bytes, flags)
}

fn sync_range(file: &File, offset_bytes: u64, length_bytes: u64, flags: c_uint) -> io::Result<()> {
    let signed = |bytes: u64| i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (offset, length) = (signed(offset_bytes)?, signed(length_bytes)?);
    // SAFETY: the call takes numbers only, and the file descriptor is open as long as `file` is.
    let answer = unsafe { sync_file_range(file.as_raw_fd(), offset, length, flags) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
