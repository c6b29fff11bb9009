//! Compares two maps; reads only below pointers that differ.

use std::collections::VecDeque;

use crate::error::Result;
use crate::units::{BlockCount, BlockIndex, BlockRange};

use super::extent::Place;
use super::geometry::Geometry;
use super::merge::{Mergeable, Merging};
use super::page::Page;
use super::path::{MapPath, Subtree};
use super::{MapReader, MapRoot};

/// Consecutive blocks that two maps have in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapDifference {
    /// The blocks.
    pub blocks: BlockRange,
    /// Where the left map has the first of them; the others follow.
    pub left: Place,
    /// Where the right map has the first of them; the others follow.
    pub right: Place,
}

impl Mergeable for MapDifference {
    fn try_extend(&mut self, next: &MapDifference) -> bool {
        let count = self.blocks.count.0;
        let follows = self.blocks.end() == next.blocks.start
            && self.left.after(count) == next.left
            && self.right.after(count) == next.right;
        if follows {
            self.blocks.count += next.blocks.count;
        }
        follows
    }
}

/// Returns the blocks whose place differs, in order; a map has zeros behind its end.
///
/// Time and reads follow from the number of pages that differ, not from the size of the maps. After an error there is
/// nothing more.
pub fn difference<'a>(reader: &'a dyn MapReader, left: MapRoot, right: MapRoot) -> Differences<'a> {
    difference_with_geometry(Geometry::STORED, reader, left, right)
}

pub(crate) fn difference_with_geometry<'a>(
    geometry: Geometry,
    reader: &'a dyn MapReader,
    left: MapRoot,
    right: MapRoot,
) -> Differences<'a> {
    let end = left.blocks.max(right.blocks).0;
    let (left, right) = (MapPath::new(geometry, left), MapPath::new(geometry, right));
    let walk = Walk { geometry, left, right, position: 0, end, found: VecDeque::new() };
    Differences { reader, walk, merging: Merging::new() }
}

/// See [`difference`].
pub struct Differences<'a> {
    reader: &'a dyn MapReader,
    walk: Walk,
    merging: Merging<MapDifference>,
}

impl Iterator for Differences<'_> {
    type Item = Result<MapDifference>;

    fn next(&mut self) -> Option<Result<MapDifference>> {
        let Differences { reader, walk, merging } = self;
        merging.next(|| walk.step(*reader))
    }
}

struct Walk {
    geometry: Geometry,
    left: MapPath,
    right: MapPath,
    /// The first block of the next page to look at.
    position: u64,
    end: u64,
    /// What differs in the page before the position.
    found: VecDeque<MapDifference>,
}

impl Walk {
    fn step(&mut self, reader: &dyn MapReader) -> Result<Option<MapDifference>> {
        while self.found.is_empty() && self.position < self.end {
            match self.equal_span(reader)? {
                Some(span) => self.position = self.position.saturating_add(span),
                None => self.compare_page(reader)?,
            }
        }
        Ok(self.found.pop_front())
    }

    /// Returns how many blocks the largest subtree at the position has that is the same on both sides, if there is one.
    fn equal_span(&mut self, reader: &dyn MapReader) -> Result<Option<u64>> {
        for level in (0..=self.left.height.max(self.right.height)).rev() {
            let span = self.geometry.span(level);
            if !self.position.is_multiple_of(span) {
                continue;
            }
            let left = self.left.subtree(reader, level, self.position / span)?;
            let right = self.right.subtree(reader, level, self.position / span)?;
            if left == right && left != Subtree::Above && (level > 0 || self.have_changed_alike(reader)?) {
                return Ok(Some(span));
            }
        }
        Ok(None)
    }

    /// Says whether both nodes have the same changes for the page at the position.
    fn have_changed_alike(&mut self, reader: &dyn MapReader) -> Result<bool> {
        let (index, _) = self.geometry.page_of(self.position);
        let left = self.left.collected(reader, index)?;
        Ok(left.all() == self.right.collected(reader, index)?.all())
    }

    fn compare_page(&mut self, reader: &dyn MapReader) -> Result<()> {
        let (index, _) = self.geometry.page_of(self.position);
        let zero = Page::zero(self.geometry.page_blocks);
        let left = self.left.page(reader, index)?.unwrap_or(&zero);
        let right = self.right.page(reader, index)?.unwrap_or(&zero);
        let page_start = BlockIndex(self.position);
        Page::compare(left, right, |left, right| {
            if left.place != right.place {
                let start = page_start + BlockCount(u64::from(left.start));
                let blocks = BlockRange { start, count: BlockCount(u64::from(left.count())) };
                self.found.push_back(MapDifference { blocks, left: left.place, right: right.place });
            }
        });
        self.position = self.position.saturating_add(u64::from(self.geometry.page_blocks));
        Ok(())
    }
}
