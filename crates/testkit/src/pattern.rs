//! Blocks of bytes that a seed repeats: zeros, what compresses, what does not.

use backy_core::units::ByteRange;
use backy_device::Target;
use backy_device::null::Pattern;

/// How much is written at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Returns `length_bytes` bytes of `pattern`; other seeds give other bytes.
pub fn bytes(pattern: Pattern, seed: u64, length_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; length_bytes];
    pattern.fill(seed, 0, &mut bytes);
    bytes
}

/// Writes `pattern` to `range` of `target`. The bytes depend on the seed and on where they lie.
pub fn write(target: &dyn Target, range: ByteRange, pattern: Pattern, seed: u64) -> backy_core::Result<()> {
    let mut at_bytes = range.offset_bytes;
    while at_bytes < range.end_bytes() {
        let length_bytes = STEP_BYTES.min(range.end_bytes() - at_bytes);
        let mut piece = vec![0; usize::try_from(length_bytes).unwrap_or(0)];
        pattern.fill(seed, at_bytes, &mut piece);
        target.write_at(at_bytes, &piece)?;
        at_bytes += length_bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use backy_device::Source;

    #[test]
    fn what_is_written_in_parts_reads_as_a_whole() {
        let device = MemoryDevice::new(5 << 20);
        for range in [ByteRange::between(0, 1000), ByteRange::between(1000, 5 << 20)] {
            write(&device, range, Pattern::Half, 4).unwrap();
        }
        let mut found = vec![0; 5 << 20];
        device.read_at(0, &mut found).unwrap();
        assert!(found == bytes(Pattern::Half, 4, 5 << 20));
    }
}
