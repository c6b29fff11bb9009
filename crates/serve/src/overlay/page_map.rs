//! Which pages an overlay has of its own: a set of page numbers that only grows.
//!
//! ```text
//!  chunks    number -> all, or a bit for each of its 16,384 pages (64 MiB of the disk)
//! ```
//!
//! A chunk that nobody has written to takes nothing, one that is wholly written next to nothing; so memory follows what is
//! written, whatever the size of the disk. Which chunks have changed is noted for those who keep the map in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How many pages a chunk has.
pub(crate) const CHUNK_PAGES: u64 = 16_384;
/// How many bytes the bits of a chunk take.
pub(crate) const CHUNK_BYTES: usize = 2048;

/// The set. See the module.
#[derive(Debug, Default)]
pub(crate) struct PageMap {
    chunks: BTreeMap<u64, Chunk>,
    changed: BTreeSet<u64>,
}

#[derive(Debug)]
enum Chunk {
    All,
    Bits(Box<[u8; CHUNK_BYTES]>),
}

impl PageMap {
    /// Says whether all of `pages` are in the set.
    pub(crate) fn contains_all(&self, pages: Range<u64>) -> bool {
        self.run_end(pages.start, pages.end, true) == pages.end
    }

    /// Calls `visit` with each run of pages within `pages` that are all in the set or all not in it, in order.
    pub(crate) fn runs(&self, pages: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut runs = Vec::new();
        let mut start = pages.start;
        while start < pages.end {
            let is_in = self.contains_all(start..start + 1);
            let end = self.run_end(start, pages.end, is_in);
            runs.push((start..end, is_in));
            start = end;
        }
        runs
    }

    /// Adds `pages`.
    pub(crate) fn insert(&mut self, pages: Range<u64>) {
        let mut start = pages.start;
        while start < pages.end {
            let number = start / CHUNK_PAGES;
            let end = pages.end.min((number + 1) * CHUNK_PAGES);
            let chunk = self.chunks.entry(number).or_insert_with(|| Chunk::Bits(Box::new([0; CHUNK_BYTES])));
            if chunk.insert(start % CHUNK_PAGES..end - number * CHUNK_PAGES) {
                self.changed.insert(number);
            }
            start = end;
        }
    }

    /// Adds the pages of a chunk whose bits are set.
    pub(crate) fn load(&mut self, number: u64, bits: &[u8; CHUNK_BYTES]) {
        if bits.iter().any(|byte| *byte != 0) {
            let is_all = bits.iter().all(|byte| *byte == 0xff);
            self.chunks.insert(number, if is_all { Chunk::All } else { Chunk::Bits(Box::new(*bits)) });
        }
    }

    /// Returns the chunks that have changed since the last call, with their bits.
    pub(crate) fn take_changed(&mut self) -> Vec<(u64, [u8; CHUNK_BYTES])> {
        let bits = |number: u64| match self.chunks.get(&number) {
            Some(Chunk::All) => [0xff; CHUNK_BYTES],
            Some(Chunk::Bits(bits)) => **bits,
            None => [0; CHUNK_BYTES],
        };
        std::mem::take(&mut self.changed).into_iter().map(|number| (number, bits(number))).collect()
    }

    /// Notes again that chunks have changed: they could not be kept.
    pub(crate) fn note_changed(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.changed.extend(numbers);
    }

    /// Returns the first page at or after `start` and before `end` whose being in the set is not `is_in`; else `end`.
    fn run_end(&self, start: u64, end: u64, is_in: bool) -> u64 {
        let mut page = start;
        while page < end {
            let number = page / CHUNK_PAGES;
            let chunk_end = end.min((number + 1) * CHUNK_PAGES);
            match self.chunks.get(&number) {
                Some(Chunk::All) if is_in => page = chunk_end,
                Some(Chunk::All) => return page,
                None if is_in => return page,
                // Straight to the next chunk that has pages.
                None => {
                    page = self.chunks.range(number..).next().map_or(end, |(next, _)| (next * CHUNK_PAGES).min(end))
                }
                Some(Chunk::Bits(bits)) => {
                    let found = (page..chunk_end).find(|page| is_set(bits, page % CHUNK_PAGES) != is_in);
                    match found {
                        Some(page) => return page,
                        None => page = chunk_end,
                    }
                }
            }
        }
        end
    }
}

impl Chunk {
    /// Adds pages, counted within the chunk; says whether that changed anything.
    fn insert(&mut self, pages: Range<u64>) -> bool {
        let Chunk::Bits(bits) = self else { return false };
        if pages == (0..CHUNK_PAGES) {
            *self = Chunk::All;
            return true;
        }
        let mut is_changed = false;
        for page in pages {
            is_changed |= !is_set(bits, page);
            if let Some(byte) = bits.get_mut(byte_of(page)) {
                *byte |= 1 << (page % 8);
            }
        }
        is_changed
    }
}

fn is_set(bits: &[u8; CHUNK_BYTES], page: u64) -> bool {
    bits.get(byte_of(page)).is_some_and(|byte| byte & 1 << (page % 8) != 0)
}

fn byte_of(page: u64) -> usize {
    usize::try_from(page / 8).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(
            inserted in prop::collection::vec((0u64..70_000, 1u64..40_000), 0..12),
            asked in (0u64..120_000, 0u64..60_000),
        ) {
            let mut map = PageMap::default();
            let mut model = BTreeSet::new();
            for (start, count) in inserted {
                map.insert(start..start + count);
                model.extend(start..start + count);
            }
            let mut copy = PageMap::default();
            for (number, bits) in map.take_changed() {
                copy.load(number, &bits);
            }
            for map in [&map, &copy] {
                let asked = asked.0..asked.0 + asked.1;
                let mut next = asked.start;
                for (run, is_in) in map.runs(asked.clone()) {
                    prop_assert!(run.start == next && !run.is_empty());
                    prop_assert!(run.clone().all(|page| model.contains(&page) == is_in));
                    next = run.end;
                }
                prop_assert_eq!(next, asked.end);
                prop_assert_eq!(map.contains_all(asked.clone()), asked.clone().all(|page| model.contains(&page)));
            }
        }
    }

    #[test]
    fn a_huge_disk_takes_memory_for_what_is_written_only() {
        let mut map = PageMap::default();
        let end = 200 << 40 >> 12;
        map.insert(end - 1..end);
        assert_eq!(map.runs(0..end), [(0..end - 1, false), (end - 1..end, true)]);
        assert_eq!(map.take_changed().len(), 1);
        assert_eq!(map.take_changed().len(), 0);
    }
}
