//! Telling all-zero blocks, which are never stored.
//!
//! The loop is plain words that the compiler turns into vector instructions: it runs at the speed of memory, and a
//! block with data in its first bytes is told at once.

/// Says whether all bytes of `block` are zero; an empty block is.
pub fn is_zero(block: &[u8]) -> bool {
    let (chunks, rest) = block.as_chunks::<128>();
    chunks.iter().all(is_zero_chunk) && rest.iter().all(|&byte| byte == 0)
}

fn is_zero_chunk(chunk: &[u8; 128]) -> bool {
    let (words, _) = chunk.as_chunks::<8>();
    words.iter().fold(0, |bits, &word| bits | u64::from_ne_bytes(word)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_seen() {
        for length in [1, 7, 127, 128, 129, 4096, 5000] {
            let mut block = vec![0u8; length];
            assert!(is_zero(&block), "{length}");
            for place in 0..length {
                block[place] = 0x80 >> (place % 8);
                assert!(!is_zero(&block), "{place} of {length}");
                block[place] = 0;
            }
        }
    }

    #[test]
    fn nothing_is_zero() {
        assert!(is_zero(&[]));
    }
}
