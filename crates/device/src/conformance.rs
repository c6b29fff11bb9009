//! What every device must pass. Each kind runs it in its tests; it panics where a promise is broken.
#![allow(clippy::unwrap_used, reason = "this is a test that other crates run too")]

use std::thread;

use backy_core::ErrorKind;
use backy_core::units::ByteRange;

use crate::buffer::AlignedBuffer;
use crate::device::{Source, Target};

/// Checks that `source` reads as `expected` in every way, and refuses what lies beyond its end.
pub fn check_source(source: &dyn Source, expected: &[u8]) {
    let size_bytes = expected.len() as u64;
    assert_eq!(source.size_bytes(), size_bytes);
    assert!(source.url().contains("://"), "{} is no URL", source.url());
    check_reads(source, expected);
    check_end(source, size_bytes);
    check_data_ranges(source, expected);
    source.check_unchanged().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| check_reads(source, expected));
        }
    });
}

/// Checks that `target`, whatever it holds, keeps what is written to it. At least 64 KiB; better a few MiB.
///
/// Afterwards it holds what the return value says.
pub fn check_target(target: &dyn Target) -> Vec<u8> {
    let size_bytes = target.size_bytes();
    assert!(size_bytes >= 64 << 10, "{} is too small for this check", target.url());
    let mut model = vec![0; usize::try_from(size_bytes).unwrap()];
    target.read_at(0, &mut model).unwrap();
    assert!(!target.is_known_zero() || model.iter().all(|byte| *byte == 0), "{} is not zero", target.url());
    check_writes(target, &mut model);
    check_refusals(target, &model);
    check_neighbours(target, &mut model);
    target.flush().unwrap();
    check_source(target, &model);
    let all = ByteRange::between(0, size_bytes);
    target.zero_range(all).unwrap();
    model.fill(0);
    check_source(target, &model);
    check_writes(target, &mut model);
    target.flush().unwrap();
    check_source(target, &model);
    model
}

fn check_reads(source: &dyn Source, expected: &[u8]) {
    let size = expected.len();
    let mut aligned = AlignedBuffer::new(size);
    source.read_at(0, &mut aligned).unwrap();
    assert!(*aligned == *expected, "{} reads wrong as a whole", source.url());
    for (start, length) in spots(size) {
        aligned.resize(length);
        source.read_at(start as u64, &mut aligned).unwrap();
        assert!(*aligned == expected[start..start + length], "{} reads wrong at {start}+{length}", source.url());
        // One byte behind an aligned address, nothing is aligned.
        let mut unaligned = AlignedBuffer::new(length + 1);
        source.read_at(start as u64, &mut unaligned[1..]).unwrap();
        assert!(unaligned[1..] == expected[start..start + length], "{} reads wrong at {start}+{length}", source.url());
    }
}

fn check_end(source: &dyn Source, size_bytes: u64) {
    let mut buffer = vec![0; 4096];
    source.read_at(size_bytes, &mut []).unwrap();
    let beyond = [
        (size_bytes, 1),
        (size_bytes + 1, 0),
        (size_bytes.saturating_sub(1), 2),
        (u64::MAX, 1),
        (u64::MAX - 4095, 4096),
    ];
    for (start_bytes, length) in beyond {
        let error = source.read_at(start_bytes, &mut buffer[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

fn check_data_ranges(source: &dyn Source, expected: &[u8]) {
    let size = expected.len();
    let mut asked: Vec<ByteRange> = spots(size).map(|(start, length)| range_of(start, length)).collect();
    asked.push(range_of(0, size));
    asked.push(ByteRange { offset_bytes: 0, length_bytes: u64::MAX });
    asked.push(ByteRange { offset_bytes: u64::MAX, length_bytes: u64::MAX });
    asked.push(range_of(size / 2, size));
    for range in asked {
        let found = source.data_ranges(range).unwrap();
        let range = range.intersection(range_of(0, size));
        let mut behind_bytes = range.offset_bytes;
        for data in &found {
            assert!(!data.is_empty() && data.intersection(range) == *data, "{data:?} is not within {range:?}");
            assert!(data.offset_bytes > behind_bytes || data == &found[0], "{data:?} touches the one before");
            check_zero(expected, ByteRange::between(behind_bytes, data.offset_bytes));
            behind_bytes = data.end_bytes();
        }
        check_zero(expected, ByteRange::between(behind_bytes, range.end_bytes()));
    }
}

fn check_zero(expected: &[u8], range: ByteRange) {
    let start = usize::try_from(range.offset_bytes).unwrap().min(expected.len());
    let end = usize::try_from(range.end_bytes()).unwrap().clamp(start, expected.len());
    assert!(expected[start..end].iter().all(|byte| *byte == 0), "{range:?} is said to be a hole, and is not zero");
}

fn check_writes(target: &dyn Target, model: &mut [u8]) {
    for (number, (start, length)) in spots(model.len()).enumerate() {
        if number % 3 == 2 {
            target.zero_range(range_of(start, length)).unwrap();
            model[start..start + length].fill(0);
        } else {
            let mut data = AlignedBuffer::new(length + number % 2);
            let data = &mut data[number % 2..];
            fill(data, number as u64 + 1);
            target.write_at(start as u64, data).unwrap();
            model[start..start + length].copy_from_slice(data);
        }
        // Reading back at once sees it, on both sides of the edges too.
        let (around_start, around_end) = (start.saturating_sub(5000), (start + length + 5000).min(model.len()));
        let mut around = AlignedBuffer::new(around_end - around_start);
        target.read_at(around_start as u64, &mut around).unwrap();
        assert!(*around == model[around_start..around_end], "step {number} at {start}+{length} reads back wrong");
    }
}

fn check_refusals(target: &dyn Target, model: &[u8]) {
    let size_bytes = model.len() as u64;
    target.write_at(size_bytes, &[]).unwrap();
    for (start_bytes, length) in [(size_bytes, 1), (size_bytes - 1, 2), (u64::MAX, 1), (u64::MAX - 4095, 4096)] {
        let error = target.write_at(start_bytes, &vec![255; length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let range = ByteRange { offset_bytes: start_bytes, length_bytes: length as u64 };
        assert_eq!(target.zero_range(range).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    check_reads(target, model);
}

/// Several threads write, zero and read neighbouring ranges that share pages and do not overlap.
fn check_neighbours(target: &dyn Target, model: &mut [u8]) {
    const PIECE: usize = 3000;
    let pieces: Vec<(usize, &mut [u8])> = model.chunks_mut(PIECE).enumerate().collect();
    let mut hands: [Vec<(usize, &mut [u8])>; 4] = Default::default();
    for (number, piece) in pieces {
        hands[number % 4].push((number, piece));
    }
    thread::scope(|scope| {
        for hand in hands {
            scope.spawn(move || {
                for (number, piece) in hand {
                    let start_bytes = (number * PIECE) as u64;
                    if number % 7 == 3 {
                        piece.fill(0);
                        target.zero_range(range_of(number * PIECE, piece.len())).unwrap();
                    } else {
                        fill(piece, 1000 + number as u64);
                        target.write_at(start_bytes, piece).unwrap();
                    }
                    let mut back = vec![0; piece.len()];
                    target.read_at(start_bytes, &mut back).unwrap();
                    assert!(back == *piece, "piece {number} reads back wrong");
                }
            });
        }
    });
}

/// Returns places and lengths around everything that is a round number to somebody; 40 more are scattered.
fn spots(size: usize) -> impl Iterator<Item = (usize, usize)> {
    let round = [(0, 0), (0, 1), (0, 4096), (4096, 4096), (4095, 2), (512, 512), (1, 8191), (8192, 20000), (3, 40000)];
    let ends = [1, 511, 512, 4095, 4096, 4097, 16384].map(|length| (size.saturating_sub(length), length));
    let scattered = (0..40u64).map(move |number| {
        let place =
            |salt: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt).wrapping_mul(salt | 1) >> 20;
        let below = |value: u64, bound: usize| usize::try_from(value % bound.max(1) as u64).unwrap();
        (below(place(0x51_7cc1_b727), size), below(place(0x2545_f491), (size / 8).min(300_000)))
    });
    round.into_iter().chain(ends).chain(scattered).filter_map(move |(start, length)| {
        let start = start.min(size);
        (start + length <= size).then_some((start, length))
    })
}

fn range_of(start: usize, length: usize) -> ByteRange {
    ByteRange { offset_bytes: start as u64, length_bytes: length as u64 }
}

/// Fills with bytes none of which is zero.
fn fill(buffer: &mut [u8], seed: u64) {
    let mut state = seed;
    for byte in buffer {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = state.to_le_bytes()[7] | 1;
    }
}
