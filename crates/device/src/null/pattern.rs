//! Bytes that are computed from a seed and their offset.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), asked for its
//! n-th number: fast, the same from every offset, and not fit for secrets.

/// What made-up bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// All zero.
    Zero,
    /// Does not compress, and no part appears twice.
    Random,
    /// Every other 512 bytes are zero: compresses to about half, and no block of 1 KiB or more appears twice.
    Half,
}

impl Pattern {
    /// Fills `buffer` with what lies at `offset_bytes`.
    pub fn fill(self, seed: u64, offset_bytes: u64, buffer: &mut [u8]) {
        if self == Pattern::Zero {
            buffer.fill(0);
            return;
        }
        let start = seed.wrapping_mul(0xd134_2543_de82_ef95);
        let skipped = usize::try_from(offset_bytes % 8).unwrap_or(0);
        let (head, body) = buffer.split_at_mut(((8 - skipped) % 8).min(buffer.len()));
        let word = |number: u64| match self {
            Pattern::Half if number & 64 != 0 => [0; 8],
            _ => split_mix(start.wrapping_add(number)).to_le_bytes(),
        };
        if !head.is_empty() {
            let word = word(offset_bytes / 8);
            head.copy_from_slice(&word[skipped..skipped + head.len()]);
        }
        let first = offset_bytes.div_ceil(8);
        let (words, tail) = body.as_chunks_mut::<8>();
        let tail_number = first.wrapping_add(words.len() as u64);
        for (number, bytes) in (first..).zip(words) {
            *bytes = word(number);
        }
        if !tail.is_empty() {
            let word = word(tail_number);
            tail.copy_from_slice(&word[..tail.len()]);
        }
    }
}

/// Returns number `index` of the sequence.
fn split_mix(index: u64) -> u64 {
    let mut state = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_split_mix() {
        // The first numbers for seed 0, as in the paper's reference code.
        assert_eq!([split_mix(0), split_mix(1)], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn any_part_reads_as_it_does_within_the_whole() {
        for pattern in [Pattern::Zero, Pattern::Random, Pattern::Half] {
            let mut whole = vec![0; 5000];
            pattern.fill(9, 0, &mut whole);
            for (start, end) in [(0, 0), (0, 3), (1, 2), (3, 9), (7, 8), (8, 16), (509, 1600), (4993, 5000)] {
                let mut part = vec![1; end - start];
                pattern.fill(9, start as u64, &mut part);
                assert_eq!(part, whole[start..end], "{pattern:?} {start}..{end}");
            }
        }
    }

    #[test]
    fn seeds_give_different_bytes() {
        let mut buffers = [[0; 64]; 2];
        Pattern::Random.fill(1, 0, &mut buffers[0]);
        Pattern::Random.fill(2, 0, &mut buffers[1]);
        assert_ne!(buffers[0], buffers[1]);
    }
}
