//! What will be read next: a guess from what was read.
//!
//! Who reads one piece after the other - several readers at once, each in its own place, a little out of order too - gets
//! a window before it that doubles as long as it goes on. A lone read gets nothing. Pure: no clock, no I/O.

use backy_core::units::ByteRange;

/// How many readers in different places are told apart.
const STREAMS_MAX: usize = 16;
/// How far from where a stream should go on, in bytes, a read still belongs to it.
const SLACK_BYTES: u64 = 1 << 20;
/// The first window in bytes.
const WINDOW_BYTES_FIRST: u64 = 256 << 10;

/// The streams of one view.
pub(crate) struct ReadAhead {
    streams: Vec<Stream>,
    window_bytes_max: u64,
    turn: u64,
}

struct Stream {
    next_bytes: u64,
    ahead_bytes: u64,
    window_bytes: u64,
    used_at: u64,
}

impl ReadAhead {
    /// Never looks further than `window_bytes_max`; not at all if that is 0.
    pub(crate) fn new(window_bytes_max: u64) -> ReadAhead {
        ReadAhead { streams: Vec::new(), window_bytes_max, turn: 0 }
    }

    /// Notes that `read` was read, and returns what to read ahead now.
    pub(crate) fn note(&mut self, read: ByteRange) -> Option<ByteRange> {
        if self.window_bytes_max == 0 || read.is_empty() {
            return None;
        }
        self.turn += 1;
        let is_near = |stream: &&mut Stream| stream.next_bytes.abs_diff(read.offset_bytes) <= SLACK_BYTES;
        let Some(stream) = self.streams.iter_mut().filter(is_near).max_by_key(|stream| stream.used_at) else {
            self.begin(read.end_bytes());
            return None;
        };
        stream.used_at = self.turn;
        let end_bytes = read.end_bytes();
        if end_bytes <= stream.next_bytes {
            return None;
        }
        stream.next_bytes = end_bytes;
        stream.ahead_bytes = stream.ahead_bytes.max(end_bytes);
        // Half a window is still to come: time enough.
        if stream.ahead_bytes - end_bytes > stream.window_bytes / 2 {
            return None;
        }
        let ahead = ByteRange::between(stream.ahead_bytes, end_bytes.saturating_add(stream.window_bytes));
        stream.ahead_bytes = ahead.end_bytes();
        stream.window_bytes = (stream.window_bytes * 2).min(self.window_bytes_max);
        Some(ahead)
    }

    fn begin(&mut self, next_bytes: u64) {
        let window_bytes = WINDOW_BYTES_FIRST.min(self.window_bytes_max);
        let stream = Stream { next_bytes, ahead_bytes: next_bytes, window_bytes, used_at: self.turn };
        if self.streams.len() < STREAMS_MAX {
            self.streams.push(stream);
        } else if let Some(oldest) = self.streams.iter_mut().min_by_key(|stream| stream.used_at) {
            *oldest = stream;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 8 << 20;

    fn range(start: u64, length: u64) -> ByteRange {
        ByteRange { offset_bytes: start, length_bytes: length }
    }

    #[test]
    fn who_reads_on_gets_all_of_it_ahead_exactly_once() {
        let mut guess = ReadAhead::new(MAX);
        let mut ahead_until = None;
        for number in 0..10_000u64 {
            let read = range(number * 4096, 4096);
            if let Some(ahead) = guess.note(read) {
                assert!(ahead.offset_bytes >= read.end_bytes() && ahead.end_bytes() <= read.end_bytes() + MAX);
                assert!(ahead_until.is_none_or(|until| until == ahead.offset_bytes), "a gap, or twice");
                ahead_until = Some(ahead.end_bytes());
            }
            assert!(number < 2 || ahead_until.is_some_and(|until| until > read.end_bytes()));
        }
    }

    #[test]
    fn several_readers_are_told_apart_and_may_be_out_of_order() {
        let mut guess = ReadAhead::new(MAX);
        let mut count = [0; 4];
        for number in 0..64u64 {
            for reader in 0..4u64 {
                // 1, 0, 3, 2, 5, 4 ...
                let read = range((reader << 30) + (number ^ 1) * 65536, 65536);
                if let Some(ahead) = guess.note(read) {
                    assert_eq!(ahead.offset_bytes >> 30, reader);
                    count[usize::try_from(reader).unwrap()] += 1;
                }
            }
        }
        assert!(count.iter().all(|&count| count > 1), "{count:?}");
    }

    #[test]
    fn lone_reads_get_nothing() {
        let mut guess = ReadAhead::new(MAX);
        for number in 0..1000u64 {
            assert_eq!(guess.note(range((number * 7919 % 1000) << 24, 4096)), None);
        }
        assert_eq!(ReadAhead::new(0).note(range(0, 1)), None);
    }
}
