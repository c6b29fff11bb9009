//! Runs: each a sorted sequence of segments that divide the keys among them.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::segment::Segment;
use super::{Candidate, Key, prefix_of};

/// All segments, as lookups see them.
#[derive(Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
}

/// Segments that were written together.
pub(crate) struct Run {
    /// Its place in the order of runs; higher is newer.
    pub number: i64,
    /// Sorted by their first key.
    pub segments: Vec<Arc<Segment>>,
}

impl Runs {
    /// Sorts segments into their runs.
    pub fn new(mut segments: Vec<Arc<Segment>>) -> Runs {
        segments.sort_by_key(|segment| (std::cmp::Reverse(segment.fact.run), segment.first_prefix(), segment.fact.id));
        let mut runs: Vec<Run> = Vec::new();
        for segment in segments {
            match runs.last_mut() {
                Some(run) if run.number == segment.fact.run => run.segments.push(segment),
                _ => runs.push(Run { number: segment.fact.run, segments: vec![segment] }),
            }
        }
        Runs { runs }
    }

    /// Returns the runs, newest first.
    pub fn newest_first(&self) -> &[Run] {
        &self.runs
    }

    /// Returns all segments.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.runs.iter().flat_map(|run| &run.segments)
    }

    /// Calls `visit` with the slots of `key`, newest first, until it breaks.
    pub fn find(&self, key: &Key, visit: &mut impl FnMut(Candidate) -> ControlFlow<()>) -> ControlFlow<()> {
        self.runs.iter().try_for_each(|run| run.find(key, visit))
    }
}

impl Run {
    /// Returns how many keys it has.
    pub fn key_count(&self) -> u64 {
        self.segments.iter().map(|segment| segment.fact.key_count).sum()
    }

    fn find(&self, key: &Key, visit: &mut impl FnMut(Candidate) -> ControlFlow<()>) -> ControlFlow<()> {
        let prefix = prefix_of(key);
        // As with pages: the key may begin at the end of the segment before.
        let first = self.segments.partition_point(|segment| segment.first_prefix() < prefix).saturating_sub(1);
        for (position, segment) in self.segments.iter().enumerate().skip(first) {
            if position > first && segment.first_prefix() > prefix {
                break;
            }
            segment.find(key, visit)?;
        }
        ControlFlow::Continue(())
    }
}
