//! `cargo xtask floor study`: what a store of 16 KiB blocks has to keep at least.
//!
//! The images are taken in the given order. A block counts as new when it is not all zero and no earlier block, of this
//! image or one before, was equal. Each new block is compressed by itself with zstd -1; a block that would grow counts
//! with its plain size. What a backup stores beyond this sum is its own overhead.

use crate::Result;
use crate::image::{data_ranges, is_zero, on_all_cores, open, pieces, read};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Mutex;

const BLOCK_BYTES: u64 = 16 << 10;
const BLOCK_LENGTH: usize = 16 << 10;
const PIECE_BYTES: u64 = 4 << 20;

/// Prints one line of tab-separated numbers per image, and their sum.
pub fn run(images: &[&str]) -> Result<()> {
    println!("image\tdata_bytes\tnew_blocks\tnew_bytes\tstored_bytes");
    let shards: Vec<Mutex<HashSet<[u8; 16]>>> = (0..256).map(|_| Mutex::default()).collect();
    let mut sum = Count::default();
    for image in images {
        let count = count_image(image, &shards)?;
        println!("{}\t{}", image.rsplit('/').next().unwrap_or(image), count.columns());
        sum.add(&count);
    }
    println!("sum\t{}", sum.columns());
    Ok(())
}

#[derive(Default)]
struct Count {
    data_bytes: u64,
    new_blocks: u64,
    new_bytes: u64,
    stored_bytes: u64,
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.data_bytes += other.data_bytes;
        self.new_blocks += other.new_blocks;
        self.new_bytes += other.new_bytes;
        self.stored_bytes += other.stored_bytes;
    }

    fn columns(&self) -> String {
        format!("{}\t{}\t{}\t{}", self.data_bytes, self.new_blocks, self.new_bytes, self.stored_bytes)
    }
}

fn count_image(image: &str, shards: &[Mutex<HashSet<[u8; 16]>>]) -> Result<Count> {
    let (source, size_bytes) = open(image)?;
    let pieces = pieces(&rounded_out(&data_ranges(&source, size_bytes)?, size_bytes), PIECE_BYTES);
    let states = on_all_cores(
        &pieces,
        || Ok((Vec::new(), zstd::bulk::Compressor::new(1)?, Count::default())),
        |(buffer, compressor, count), piece| {
            for block in read(&source, piece, buffer)?.chunks(BLOCK_LENGTH) {
                count.data_bytes += block.len() as u64;
                if is_zero(block) || !is_new(block, shards)? {
                    continue;
                }
                count.new_blocks += 1;
                count.new_bytes += block.len() as u64;
                count.stored_bytes += compressor.compress(block)?.len().min(block.len()) as u64;
            }
            Ok(())
        },
    )?;
    let mut sum = Count::default();
    states.iter().for_each(|(_, _, count)| sum.add(count));
    Ok(sum)
}

fn is_new(block: &[u8], shards: &[Mutex<HashSet<[u8; 16]>>]) -> Result<bool> {
    let hash = blake3::hash(block);
    let mut key = [0; 16];
    key.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    let shard = shards.get(usize::from(key[0])).ok_or("there are 256 shards")?;
    Ok(shard.lock().map_err(|_| "another thread panicked")?.insert(key))
}

/// Rounds ranges outward to whole blocks and joins those that touch.
fn rounded_out(ranges: &[Range<u64>], size_bytes: u64) -> Vec<Range<u64>> {
    let mut rounded: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let start = range.start / BLOCK_BYTES * BLOCK_BYTES;
        let end = (range.end.div_ceil(BLOCK_BYTES) * BLOCK_BYTES).min(size_bytes);
        match rounded.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => rounded.push(start..end),
        }
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_round_out_to_blocks_and_join() {
        assert_eq!(rounded_out(&[1..2, 16_383..16_385, 65_536..65_537], 65_600), [0..32_768, 65_536..65_600]);
    }

    #[test]
    fn equal_and_zero_blocks_count_once_or_not_at_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![0; 4 * BLOCK_LENGTH];
        bytes[..2 * BLOCK_LENGTH].fill(5);
        std::fs::write(file.path(), &bytes).unwrap();
        let shards: Vec<_> = (0..256).map(|_| Mutex::default()).collect();
        let count = count_image(file.path().to_str().unwrap(), &shards).unwrap();
        assert_eq!((count.new_blocks, count.new_bytes), (1, BLOCK_BYTES));
    }
}
