//! Making a range of a file or block device read as zero.
//!
//! The system is asked for the cheapest way first: a hole (on a block device: unmap, but only where that is certain to
//! read as zero), then allocated zeros that the file system or the device makes, then plain writing. All three promise
//! zeros; a mere discard does not, and is not used. Offset and length are multiples of 4 KiB for the first two.

use std::fs::File;
use std::io;

use backy_core::units::ByteRange;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::buffer::ALIGNMENT_BYTES;

/// How much is asked for at a time, so that no single call lasts for minutes.
const STEP_BYTES: u64 = 1 << 30;

/// How much is written at a time.
const WRITE_BYTES: usize = 256 << 10;

static ZEROS: [u8; WRITE_BYTES] = [0; WRITE_BYTES];

/// Makes `range` of `file` read as zero; `write` writes bytes at an offset, for what the system cannot do.
pub fn zero(file: &File, range: ByteRange, write: impl Fn(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let alignment = ALIGNMENT_BYTES as u64;
    let inner_start = range.offset_bytes.next_multiple_of(alignment).min(range.end_bytes());
    let inner_end = (range.end_bytes() - range.end_bytes() % alignment).max(inner_start);
    write_zeros(ByteRange::between(range.offset_bytes, inner_start), &write)?;
    let mut at_bytes = inner_start;
    while at_bytes < inner_end {
        let step = ByteRange::between(at_bytes, inner_end.min(at_bytes.saturating_add(STEP_BYTES)));
        if !allocate(file, step, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)?
            && !allocate(file, step, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE)?
        {
            write_zeros(step, &write)?;
        }
        at_bytes = step.end_bytes();
    }
    write_zeros(ByteRange::between(inner_end, range.end_bytes()), &write)
}

/// Asks the system to make zeros; says whether it could.
fn allocate(file: &File, range: ByteRange, flags: FallocateFlags) -> io::Result<bool> {
    loop {
        match fallocate(file, flags, range.offset_bytes, range.length_bytes) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_zeros(range: ByteRange, write: impl Fn(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut at_bytes = range.offset_bytes;
    while at_bytes < range.end_bytes() {
        let rest_bytes = usize::try_from(range.end_bytes() - at_bytes).unwrap_or(WRITE_BYTES);
        let piece = &ZEROS[..rest_bytes.min(WRITE_BYTES)];
        write(at_bytes, piece)?;
        at_bytes += piece.len() as u64;
    }
    Ok(())
}
