//! `cargo xtask floor`: the least work that a step of the benchmark could do, on all cores of this machine.
//!
//! Sources are read through the page cache in pieces of 1 MiB. Each chore prints one line with what it handled; the
//! benchmark takes the time around it.
//!
//! ```text
//!  what `floor compress` writes:   frame, frame, ...   |  table, of pieces: offset, length, length of its frames u64  |
//!                                  end: image size, piece count u64
//! ```

use crate::Result;
use crate::image::{create, data_ranges, is_zero, on_all_cores, open, pieces, read};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const PIECE_BYTES: u64 = 1 << 20;

/// Writes the data ranges of an image one after the other.
pub fn dense(image: &str, file: &str) -> Result<()> {
    let (source, size_bytes) = open(image)?;
    let mut target = BufWriter::with_capacity(1 << 20, create(file)?);
    let mut buffer = Vec::new();
    let mut count_bytes = 0;
    for piece in pieces(&data_ranges(&source, size_bytes)?, PIECE_BYTES) {
        target.write_all(read(&source, &piece, &mut buffer)?)?;
        count_bytes += piece.end - piece.start;
    }
    target.flush()?;
    println!("{count_bytes} bytes of data.");
    Ok(())
}

/// Reads and hashes the data ranges.
pub fn hash(image: &str) -> Result<()> {
    let (source, size_bytes) = open(image)?;
    let pieces = pieces(&data_ranges(&source, size_bytes)?, PIECE_BYTES);
    let states = on_all_cores(
        &pieces,
        || Ok((Vec::new(), 0_u8)),
        |(buffer, mix), piece| {
            // What the hashes are does not matter, only that the compiler cannot leave them out.
            *mix ^= blake3::hash(read(&source, piece, buffer)?).as_bytes()[0];
            Ok(())
        },
    )?;
    let mix = states.iter().fold(0, |mix, (_, one)| mix ^ one);
    println!("{} bytes hashed ({mix:02x}).", total_bytes(&pieces));
    Ok(())
}

/// Reads all of a file, holes too, and looks whether it is zero.
pub fn zeros(file: &str) -> Result<()> {
    let (source, size_bytes) = open(file)?;
    let everything = 0..size_bytes;
    let pieces = pieces(std::slice::from_ref(&everything), PIECE_BYTES);
    let states = on_all_cores(
        &pieces,
        || Ok((Vec::new(), 0_u64)),
        |(buffer, zero_bytes), piece| {
            if is_zero(read(&source, piece, buffer)?) {
                *zero_bytes += piece.end - piece.start;
            }
            Ok(())
        },
    )?;
    println!("{} of {size_bytes} bytes are zero.", states.iter().map(|(_, zero_bytes)| zero_bytes).sum::<u64>());
    Ok(())
}

/// Compresses the data ranges, and writes them with a table of where they belong.
///
/// A piece is one frame, or with `frame_bytes` as many frames of so many plain bytes as it has: what a program has to open that
/// compresses each block by itself.
pub fn compress(image: &str, file: &str, frame_bytes: Option<usize>) -> Result<()> {
    if frame_bytes == Some(0) {
        return Err("a frame has at least one byte".into());
    }
    let (source, size_bytes) = open(image)?;
    let target = create(file)?;
    let pieces = pieces(&data_ranges(&source, size_bytes)?, PIECE_BYTES);
    let end = AtomicU64::new(0);
    let table = Mutex::new(Vec::with_capacity(pieces.len()));
    on_all_cores(
        &pieces,
        || Ok((Vec::new(), zstd::bulk::Compressor::new(1)?)),
        |(buffer, compressor), piece| {
            let mut frames = Vec::new();
            let plain = read(&source, piece, buffer)?;
            for plain in plain.chunks(frame_bytes.unwrap_or(plain.len()).max(1)) {
                frames.extend_from_slice(&compressor.compress(plain)?);
            }
            let at = end.fetch_add(frames.len() as u64, Ordering::Relaxed);
            target.write_all_at(&frames, at)?;
            let row = Frames { at, length_bytes: frames.len() as u64, piece: piece.clone() };
            table.lock().map_err(|_| "another thread panicked")?.push(row);
            Ok(())
        },
    )?;
    let mut table = table.into_inner()?;
    table.sort_unstable_by_key(|frame| frame.at);
    let mut tail = Vec::with_capacity(table.len() * 24 + 16);
    for frame in &table {
        for number in [frame.piece.start, frame.piece.end - frame.piece.start, frame.length_bytes] {
            tail.extend_from_slice(&number.to_le_bytes());
        }
    }
    tail.extend_from_slice(&size_bytes.to_le_bytes());
    tail.extend_from_slice(&(table.len() as u64).to_le_bytes());
    let frames_bytes = end.into_inner();
    target.write_all_at(&tail, frames_bytes)?;
    println!("{} bytes compressed to {frames_bytes}.", total_bytes(&pieces));
    Ok(())
}

/// Writes the image that a file of `compress` was made of; holes stay holes.
pub fn decompress(file: &str, image: &str) -> Result<()> {
    let (source, file_size_bytes) = open(file)?;
    let (table, size_bytes) = read_table(&source, file_size_bytes)?;
    let target = create(image)?;
    target.set_len(size_bytes)?;
    on_all_cores(
        &table,
        || Ok((Vec::new(), Vec::with_capacity(1 << 20), zstd::bulk::Decompressor::new()?)),
        |(buffer, plain, decompressor), frame| {
            decompressor
                .decompress_to_buffer(read(&source, &(frame.at..frame.at + frame.length_bytes), buffer)?, plain)?;
            target.write_all_at(plain, frame.piece.start)?;
            plain.clear();
            Ok(())
        },
    )?;
    println!("{} bytes of data written.", table.iter().map(|frame| frame.piece.end - frame.piece.start).sum::<u64>());
    Ok(())
}

/// The frames of a piece.
struct Frames {
    at: u64,
    length_bytes: u64,
    piece: Range<u64>,
}

fn read_table(source: &File, file_size_bytes: u64) -> Result<(Vec<Frames>, u64)> {
    let mut buffer = Vec::new();
    let end_at = file_size_bytes.checked_sub(16).ok_or("the file is too short")?;
    let (size_bytes, frame_count) = match numbers(read(source, &(end_at..file_size_bytes), &mut buffer)?).as_slice() {
        [size_bytes, frame_count] => (*size_bytes, *frame_count),
        _ => return Err("the file has no end".into()),
    };
    let table_bytes = frame_count.checked_mul(24).filter(|bytes| *bytes <= end_at).ok_or("the table is too long")?;
    let rows = numbers(read(source, &(end_at - table_bytes..end_at), &mut buffer)?);
    let mut table = Vec::new();
    let mut at = 0;
    for row in rows.chunks_exact(3) {
        if let [offset, plain_bytes, length_bytes] = *row {
            table.push(Frames { at, length_bytes, piece: offset..offset + plain_bytes });
            at += length_bytes;
        }
    }
    Ok((table, size_bytes))
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect()
}

fn total_bytes(pieces: &[Range<u64>]) -> u64 {
    pieces.iter().map(|piece| piece.end - piece.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let image = File::create(path("image")).unwrap();
        image.set_len(5_000_001).unwrap();
        image.write_all_at(&[3; 1_500_000], 2_000_000).unwrap();
        for frame_bytes in [None, Some(16 << 10), Some(7_001)] {
            compress(&path("image"), &path("frames"), frame_bytes).unwrap();
            decompress(&path("frames"), &path("again")).unwrap();
            assert!(std::fs::read(path("image")).unwrap() == std::fs::read(path("again")).unwrap());
        }
    }
}
