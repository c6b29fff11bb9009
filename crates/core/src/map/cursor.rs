//! Reads a map in order.

use crate::error::{Error, Result};
use crate::units::{BlockIndex, BlockRange};

use super::extent::{Extent, Place};
use super::geometry::Geometry;
use super::merge::Merging;
use super::path::{MapPath, Subtree};
use super::{MapReader, MapRoot};

/// The extents of a range of a map, in order, without gaps, joined across pages.
///
/// Reads a page or node when its first extent is asked for; nothing below null pointers and before the range. After an
/// error there is nothing more.
pub struct MapCursor<'a> {
    reader: &'a dyn MapReader,
    walk: Walk,
    merging: Merging<Extent>,
}

struct Walk {
    path: MapPath,
    position: u64,
    end: u64,
    /// The page that holds `position` and which of its extents comes next, if it was looked up.
    place_in_page: Option<(u64, usize)>,
}

impl<'a> MapCursor<'a> {
    /// Begins at the start of `range`, which is cut at the end of the map.
    pub fn new(reader: &'a dyn MapReader, root: MapRoot, range: BlockRange) -> MapCursor<'a> {
        MapCursor::with_geometry(Geometry::STORED, reader, root, range)
    }

    pub(crate) fn with_geometry(
        geometry: Geometry,
        reader: &'a dyn MapReader,
        root: MapRoot,
        range: BlockRange,
    ) -> MapCursor<'a> {
        let end = range.end().0.min(root.blocks.0);
        let path = MapPath::new(geometry, root);
        let walk = Walk { path, position: range.start.0, end, place_in_page: None };
        MapCursor { reader, walk, merging: Merging::new() }
    }
}

impl Iterator for MapCursor<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Result<Extent>> {
        let MapCursor { reader, walk, merging } = self;
        merging.next(|| walk.step(*reader))
    }
}

impl Walk {
    /// Returns the next piece of an extent: of one page, or of one null subtree.
    fn step(&mut self, reader: &dyn MapReader) -> Result<Option<Extent>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let (page_index, offset) = self.path.geometry.page_of(self.position);
        if self.place_in_page.is_none_or(|(page, _)| page != page_index)
            && let Some(end) = self.null_end(reader)?
        {
            return Ok(Some(self.take(end, Place::Zero)));
        }
        let page_start = self.position - u64::from(offset);
        let Some(page) = self.path.page(reader, page_index)? else {
            let end = page_start + u64::from(self.path.geometry.page_blocks);
            return Ok(Some(self.take(end, Place::Zero)));
        };
        let extents = &page.extents;
        let next = match self.place_in_page {
            Some((page, next)) if page == page_index => next,
            _ => extents.partition_point(|extent| extent.end <= offset),
        };
        self.place_in_page = Some((page_index, next + 1));
        let extent = extents.get(next).ok_or_else(|| Error::damaged("a map page ends too early"))?;
        let extent = extent.clip(offset, extent.end);
        Ok(Some(self.take(page_start + u64::from(extent.end), extent.place)))
    }

    /// Returns where the null subtree that holds the position ends; none if there is a page.
    fn null_end(&mut self, reader: &dyn MapReader) -> Result<Option<u64>> {
        for level in (0..=self.path.height).rev() {
            let span = self.path.geometry.span(level);
            let index = self.position / span;
            if self.path.subtree(reader, level, index)? == Subtree::Null {
                return Ok(Some((index + 1).saturating_mul(span)));
            }
        }
        Ok(None)
    }

    fn take(&mut self, end: u64, place: Place) -> Extent {
        let end = end.min(self.end);
        let blocks = BlockRange::between(BlockIndex(self.position), BlockIndex(end));
        self.position = end;
        Extent { blocks, place }
    }
}
