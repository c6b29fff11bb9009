//! Full page or patch: decides how a changed page is written.
//!
//! A patch holds all that differs from its full page, so patches grow until a full page is due. When that is follows
//! the rule for renting or buying (the ski rental problem; Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy
//! caching", 1988): rent until the rent paid equals the price, then buy. Whatever the changes, that costs at most
//! twice as much as deciding with the future known. The price is the size of the full page as it was last written;
//! each patch carries what was spent since then. Sizes are those of plain bodies, plus what a slot costs by itself:
//! columns shrink alike in both, and near the best moment the cost hardly depends on the moment.

use crate::ids::SlotAddress;

use super::changes::covered_blocks;
use super::geometry::Geometry;
use super::page::{PageExtent, Patch, overlay};
use super::path::StoredPage;

/// What a slot costs beside its body: nonce, tag, locator, frame of the compression.
pub(crate) const SLOT_BYTES: u64 = 48;

/// How a changed page gets into the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangedPage {
    /// All of it is zero now.
    Zero,
    /// It is what the base says, or the full page under the base's patch: point there again.
    At(SlotAddress),
    /// It has to be written.
    Write(Vec<u8>),
}

/// Says whether `changes` of a page leave most of what is below in use: what they cover is kept in the repository as
/// long as the page below is, though nobody reads it.
pub(crate) fn covers_little(geometry: Geometry, changes: &[PageExtent]) -> bool {
    covered_blocks(changes).saturating_mul(geometry.cover_factor) <= u64::from(geometry.page_blocks)
}

/// Decides how the page `base` with the extents `set`, which are in order, on top is written; what was collected
/// in the node counts only as part of `set`.
///
/// Looks at what was set only, and not at every extent of the page, unless all of it has to be written.
pub(crate) fn change_page(geometry: Geometry, base: &StoredPage, set: &[PageExtent]) -> ChangedPage {
    let (full_address, earlier, spent_bytes) = match &base.patch {
        Some(patch) => (patch.base, patch.changes.as_slice(), patch.spent_bytes),
        None => (base.address, Default::default(), 0),
    };
    let changes = base.full.differing(&overlay(earlier, set));
    if changes == earlier {
        return ChangedPage::At(base.address);
    }
    if changes.is_empty() {
        return ChangedPage::At(full_address);
    }
    if base.full.is_zero_below(&changes, 0, geometry.page_blocks) {
        return ChangedPage::Zero;
    }
    let full_cost = base.full_body_bytes + SLOT_BYTES;
    let mut patch = Patch { base: full_address, spent_bytes, changes };
    let patch_cost = patch.encode().len() as u64 + SLOT_BYTES;
    patch.spent_bytes = spent_bytes.saturating_add(patch_cost);
    let is_small =
        patch_cost.saturating_mul(geometry.patch_factor) <= full_cost && covers_little(geometry, &patch.changes);
    let is_worth_it = is_small && patch.spent_bytes < full_cost;
    ChangedPage::Write(if is_worth_it { patch.encode() } else { base.full.patched(&patch.changes).encode() })
}
