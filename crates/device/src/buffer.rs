//! Memory that direct I/O takes: it begins at a multiple of 4 KiB.
//!
//! Reading into it costs no copy; any other memory works too, through a copy. A buffer is made once and used again and
//! again ([`AlignedBuffer::resize`]). There is no `unsafe` here: a little more memory is asked for than is needed, and
//! used from the first aligned byte on.

use std::ops::{Deref, DerefMut};

/// What the offset, the length and the memory of direct I/O are multiples of, in bytes.
pub const ALIGNMENT_BYTES: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGNMENT_BYTES`] in memory.
pub struct AlignedBuffer {
    /// Never grows after it was made, for that would move it.
    memory: Vec<u8>,
    start: usize,
    length_bytes: usize,
}

impl AlignedBuffer {
    /// Makes a buffer of `length_bytes` zero bytes.
    pub fn new(length_bytes: usize) -> AlignedBuffer {
        let memory = vec![0; length_bytes.saturating_add(ALIGNMENT_BYTES)];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGNMENT_BYTES;
        AlignedBuffer { memory, start, length_bytes }
    }

    /// Changes the length; what the bytes hold afterwards is unspecified. Takes new memory only when it must grow.
    pub fn resize(&mut self, length_bytes: usize) {
        if length_bytes <= self.capacity_bytes() {
            self.length_bytes = length_bytes;
        } else {
            *self = AlignedBuffer::new(length_bytes);
        }
    }

    /// Returns the length up to which [`AlignedBuffer::resize`] takes no new memory.
    pub fn capacity_bytes(&self) -> usize {
        self.memory.len() - self.start
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length_bytes]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length_bytes]
    }
}

/// Says whether direct I/O can use the memory of `buffer` as it is.
pub fn is_aligned(buffer: &[u8]) -> bool {
    buffer.as_ptr().addr().is_multiple_of(ALIGNMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_every_length_are_aligned_and_as_long_as_asked() {
        for length in [0, 1, 511, 4095, 4096, 4097, 1 << 20] {
            let buffer = AlignedBuffer::new(length);
            assert!(is_aligned(&buffer), "{length}");
            assert_eq!(buffer.len(), length);
            assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn resizing_keeps_the_memory_unless_it_must_grow() {
        let mut buffer = AlignedBuffer::new(8192);
        let address = buffer.as_ptr();
        buffer.resize(100);
        assert_eq!((buffer.len(), buffer.as_ptr()), (100, address));
        buffer.resize(8192);
        assert_eq!((buffer.len(), buffer.as_ptr()), (8192, address));
        buffer.resize(1 << 20);
        assert_eq!(buffer.len(), 1 << 20);
        assert!(is_aligned(&buffer));
    }
}
