//! What is left of a map when some of its slots are gone.

use super::*;
use crate::map::geometry::Geometry;
use crate::map::salvage::salvage_with_geometry;
use crate::map::visit::visit_with_geometry;

const SMALL: Geometry =
    Geometry { page_blocks: 8, node_pointers: 4, patch_factor: 4, cover_factor: 1, changes_max: 20 };

/// A map of 70 blocks: three levels of nodes above nine pages, the last one short.
fn map(slots: &mut Slots) -> MapRoot {
    let reader = slots.clone();
    let mut builder = MapBuilder::with_geometry(SMALL, None, BlockCount(70));
    for extent in [extent(0, 3, stored(1, 0)), extent(10, 12, stored(2, 5)), extent(60, 70, stored(3, 7))] {
        builder.set(&reader, slots, extent).unwrap();
    }
    builder.finish(&reader, slots).unwrap()
}

/// All slots of the map with the blocks below them, and whether each is a page.
fn parts(slots: &Slots, root: MapRoot) -> Vec<SlotAddress> {
    let mut found = Vec::new();
    let mut enter = |address, _| {
        found.push(address);
        Ok(true)
    };
    visit_with_geometry(SMALL, slots, root, &mut enter, &mut |_| Ok(())).unwrap();
    found
}

fn salvage(slots: &Slots, root: MapRoot) -> (Vec<Extent>, Vec<(BlockRange, SlotAddress)>) {
    let (mut extents, mut lost) = (Vec::new(), Vec::new());
    salvage_with_geometry(SMALL, slots, root, &mut |part| {
        match part {
            MapPart::Extent(extent) => extents.push(extent),
            MapPart::Lost { blocks, address, .. } => lost.push((blocks, address)),
        }
        Ok(())
    })
    .unwrap();
    (extents, lost)
}

#[test]
fn a_whole_map_is_salvaged_as_it_is() {
    let mut slots = Slots::new(100);
    let root = map(&mut slots);
    let (extents, lost) = salvage(&slots, root);
    assert!(lost.is_empty());
    let found: Vec<Extent> = extents.into_iter().filter(|extent| extent.place != Place::Zero).collect();
    let expected = [
        extent(0, 3, stored(1, 0)),
        extent(10, 12, stored(2, 5)),
        extent(60, 64, stored(3, 7)),
        extent(64, 70, stored(3, 11)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn whatever_slot_is_gone_takes_its_own_blocks_and_no_others() {
    let mut slots = Slots::new(100);
    let root = map(&mut slots);
    let (whole, _) = salvage(&slots, root);
    let all = parts(&slots, root);
    assert!(all.len() > 5);
    for gone in all {
        let mut slots = Slots::new(100);
        map(&mut slots);
        slots.retain(|address| address != gone);
        let (extents, lost) = salvage(&slots, root);
        let [(blocks, address)] = lost.as_slice() else { panic!("{lost:?}") };
        assert_eq!(*address, gone);
        assert!(blocks.end() <= BlockIndex(70));
        let is_outside = |extent: &Extent| extent.blocks.intersection(*blocks).is_empty();
        let expected: Vec<Extent> = whole.iter().copied().filter(is_outside).collect();
        assert_eq!(extents, expected);
        let taken = whole.len() - expected.len();
        assert!(taken > 0, "a slot that says nothing");
    }
}

#[test]
fn a_reader_that_does_not_answer_is_no_damage() {
    let mut slots = Slots::new(100);
    let root = map(&mut slots);
    for calls in 0..4 {
        slots.fail_after(calls);
        let error = salvage_with_geometry(SMALL, &slots, root, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

#[test]
fn a_map_is_written_over_pages_that_are_gone_when_all_of_them_is_set() {
    let mut slots = Slots::new(100);
    let root = map(&mut slots);
    let pages = parts(&slots, root);
    slots.retain(|address| !pages.contains(&address));
    let reader = slots.clone();
    let mut builder = MapBuilder::with_geometry(SMALL, Some(root), BlockCount(70));
    builder.set(&reader, &mut slots, extent(0, 70, stored(9, 0))).unwrap();
    let new = builder.finish(&reader, &mut slots).unwrap();
    let range = BlockRange { start: BlockIndex(0), count: BlockCount(70) };
    let found: Vec<Extent> = MapCursor::with_geometry(SMALL, &slots, new, range).map(Result::unwrap).collect();
    assert_eq!(found, [extent(0, 70, stored(9, 0))]);
    // What is kept of a page must be known.
    let mut builder = MapBuilder::with_geometry(SMALL, Some(root), BlockCount(70));
    builder.set(&reader, &mut slots, extent(1, 2, stored(9, 0))).unwrap();
    assert!(builder.finish(&reader, &mut slots).is_err());
}
