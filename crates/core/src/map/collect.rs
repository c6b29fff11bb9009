//! Page or node: decides where the changes of a page are kept, and when a node gets a new sheet.
//!
//! ```text
//!   changes of a page --> collected in the node --> the sheet of the node --> the page, or a patch of it
//!                         written anew each time    written now and then      written when much has come together
//! ```
//!
//! A page costs a slot, and a pack id for each pack, however little it says; in a node, the changes of many pages
//! share both. The node is written anew by each version, with all that it has collected, so it hands what it has on to a
//! sheet when it has paid for that as much as the sheet costs (renting and buying, as for patches). What a page has
//! in the node and the sheet goes into the page when it is no longer little beside the page.
//!
//! How many changes a node and its sheet have is limited. Near the limit the pages with the most changes are written.

use super::changes::{in_node, of_page, write_changes};
use super::geometry::Geometry;
use super::node::{Changed, Sheet, SheetPointer};
use super::page::{PageExtent, overlay};
use super::patch::{SLOT_BYTES, covers_little};
use super::path::{Collected, LoadedNode, StoredPage};
use crate::wire::Writer;

/// About what a change costs in a body: two bytes of gap, one each of length, pack and slot, and its part of a pack id.
const CHANGE_BYTES: u64 = 6;

/// The changes of a node in the making, page after page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collecting {
    /// The changes of the pages that are done, after those of the sheet.
    changes: Vec<PageExtent>,
    /// How many changes the base's sheet has for pages that are done and were not written.
    in_sheet: usize,
    /// Which pages were written, or are zero, so that the base's sheet says nothing about them.
    written: Vec<u32>,
    /// With more changes than this a page is written, if something changes in it; known from the first page on.
    page_max: Option<usize>,
}

/// What is to be done for a page in which something is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PagePlan {
    /// Its own changes in the node, those after the sheet, are now these; perhaps the same as in the base.
    Keep(Vec<PageExtent>),
    /// Write it with all of these changes.
    Write(Vec<PageExtent>),
}

impl Collecting {
    /// Decides where the changes of the page `offset` go after `set`; `node` is the base's.
    pub fn plan(
        &mut self,
        geometry: Geometry,
        node: &LoadedNode,
        offset: u32,
        page: &StoredPage,
        set: &[PageExtent],
    ) -> PagePlan {
        let Collected { sheet, own: old_own } = &page.collected;
        let stored = page.full.with(page.patch_changes());
        let own = stored.with(sheet).differing(&overlay(old_own, set));
        if own == *old_own {
            return PagePlan::Keep(own);
        }
        let all = overlay(sheet, &own);
        let differing = stored.differing(&all);
        let is_stored_or_zero = differing.is_empty() || stored.is_zero_below(&differing, 0, geometry.page_blocks);
        let cost = (differing.len() as u64).saturating_mul(CHANGE_BYTES);
        let is_little = cost.saturating_mul(geometry.patch_factor) <= page.full_body_bytes.saturating_add(SLOT_BYTES)
            && covers_little(geometry, &differing);
        let page_max = *self.page_max.get_or_insert_with(|| page_max(geometry, node));
        let count = self.changes.len() + self.in_sheet + sheet.len() + own.len() + count_behind(geometry, node, offset);
        if is_stored_or_zero || !is_little || all.len() > page_max || count > geometry.changes_max {
            PagePlan::Write(all)
        } else {
            PagePlan::Keep(own)
        }
    }

    /// Goes on behind the page `offset`, which is not written and has these changes of its own.
    pub fn keep(&mut self, geometry: Geometry, node: &LoadedNode, offset: u32, own: &[PageExtent]) {
        self.changes.extend(in_node(own, geometry.page_blocks, offset));
        self.in_sheet += of_page(&node.sheet, geometry.page_blocks, offset).len();
    }

    /// Goes on behind the page `offset`, which was written or is zero: nothing in the node changes it any more.
    pub fn drop_page(&mut self, offset: u32) {
        self.written.push(offset);
    }

    /// Says whether the node has any changes, so that the base's must be known.
    pub fn has_any(&self) -> bool {
        self.in_sheet > 0 || !self.changes.is_empty()
    }

    /// Returns what the node has when all of its pages are done, without a new sheet.
    pub fn finish(self, geometry: Geometry, base: Option<&LoadedNode>) -> Changed {
        let Some(base) = base else { return Changed::default() };
        let has_sheet = |offset: &u32| !of_page(&base.sheet, geometry.page_blocks, *offset).is_empty();
        let old_sheet = base.node.changed.sheet.as_ref().filter(|_| self.in_sheet > 0);
        let sheet = old_sheet.map(|sheet| {
            let mut hidden = sheet.hidden.clone();
            hidden.extend(self.written.into_iter().filter(has_sheet));
            hidden.sort_unstable();
            SheetPointer { address: sheet.address, hidden }
        });
        let is_none = sheet.is_none() && self.changes.is_empty();
        let spent_bytes = if is_none { 0 } else { base.node.changed.spent_bytes };
        Changed { sheet, spent_bytes, changes: self.changes }
    }
}

/// Pays for a node that is to be written with `changed`, on top of `base`, and returns its new sheet if one is due.
pub(crate) fn new_sheet(geometry: Geometry, base: Option<&LoadedNode>, changed: &mut Changed) -> Option<Sheet> {
    let base = base.filter(|_| !changed.is_none())?;
    let hidden = changed.sheet.as_ref().map_or(&[][..], |sheet| &sheet.hidden);
    let is_hidden = |change: &PageExtent| hidden.binary_search(&(change.start / geometry.page_blocks)).is_ok();
    let below = if changed.sheet.is_some() { base.sheet.as_slice() } else { &[] };
    let in_sheet: Vec<PageExtent> = below.iter().copied().filter(|change| !is_hidden(change)).collect();
    if !changed.changes.is_empty() {
        changed.spent_bytes = changed.spent_bytes.saturating_add(cost(&changed.changes));
    }
    let changes = merged(geometry, &in_sheet, &changed.changes);
    let is_mostly_hidden = changed.sheet.is_some() && in_sheet.len() * 2 < base.sheet_count;
    let is_due = is_mostly_hidden || changed.spent_bytes >= cost(&changes).saturating_add(SLOT_BYTES);
    is_due.then_some(Sheet { changes })
}

/// Returns `below` with `above` on top, page by page.
fn merged(geometry: Geometry, below: &[PageExtent], above: &[PageExtent]) -> Vec<PageExtent> {
    let mut merged = Vec::with_capacity(below.len() + above.len());
    let (mut below, mut above) = (below, above);
    while let Some(first) = below.first().into_iter().chain(above.first()).map(|change| change.start).min() {
        let offset = first / geometry.page_blocks;
        let (lower, upper) =
            (of_page(below, geometry.page_blocks, offset), of_page(above, geometry.page_blocks, offset));
        merged.extend(overlay(lower, upper));
        below = below.get(lower.len()..).unwrap_or_default();
        above = above.get(upper.len()..).unwrap_or_default();
    }
    merged
}

/// Returns how many changes the base has for pages behind `offset`.
fn count_behind(geometry: Geometry, node: &LoadedNode, offset: u32) -> usize {
    let end = offset.saturating_add(1).saturating_mul(geometry.page_blocks);
    let behind = |changes: &[PageExtent]| changes.len() - changes.partition_point(|change| change.start < end);
    behind(&node.sheet) + behind(&node.node.changed.changes)
}

/// Returns how many changes a page may have: half more than the others when the node is three quarters full.
fn page_max(geometry: Geometry, node: &LoadedNode) -> usize {
    let count = node.sheet.len() + node.node.changed.changes.len();
    if count.saturating_mul(4) <= geometry.changes_max.saturating_mul(3) {
        return usize::MAX;
    }
    let pages = node.node.pointers.iter().flatten().count().max(1);
    (count.saturating_mul(3) / 2 / pages).max(1)
}

fn cost(changes: &[PageExtent]) -> u64 {
    let mut writer = Writer::new();
    write_changes(&mut writer, changes);
    writer.len() as u64
}
