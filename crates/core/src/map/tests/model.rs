//! Maps against a plain vector of places: random maps on top of random maps, of all heights.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::map::difference::difference_with_geometry;
use crate::map::geometry::Geometry;
use crate::map::merge::Mergeable;
use crate::map::visit::visit_with_geometry;

const SHAPES: [Geometry; 4] = [
    Geometry { page_blocks: 4, node_pointers: 2, patch_factor: 1, cover_factor: 1, changes_max: 3 },
    Geometry { page_blocks: 16, node_pointers: 2, patch_factor: 1, cover_factor: 1, changes_max: 12 },
    Geometry { page_blocks: 8, node_pointers: 3, patch_factor: 4, cover_factor: 8, changes_max: 8 },
    Geometry { page_blocks: 16, node_pointers: 4, patch_factor: 1, cover_factor: 2, changes_max: 1000 },
];

#[derive(Clone, Debug)]
struct Change {
    gap: u64,
    count: u64,
    place: Place,
}

/// A new map: as large as this part (of 1,000) of the largest one, with these changes and a checkpoint after some.
#[derive(Clone, Debug)]
struct Step {
    size: u64,
    changes: Vec<Change>,
    checkpoint_after: usize,
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        2 => Just(Place::Zero),
        1 => Just(Place::Missing),
        5 => (0u32..5, 0u16..40).prop_map(|(pack, slot)| stored(pack, slot)),
        1 => Just(stored(9, 8191)),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let number = || prop_oneof![4 => 0u64..5, 2 => 5u64..40, 1 => 40u64..300];
    (number(), number(), place()).prop_map(|(gap, count, place)| Change { gap, count, place })
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![1 => 0u64..60, 3 => 0u64..=1000, 1 => Just(1000u64)];
    (size, prop::collection::vec(change(), 0..40), 0usize..40).prop_map(|(size, changes, checkpoint_after)| Step {
        size,
        changes,
        checkpoint_after,
    })
}

fn set_in_model(model: &mut [Place], extent: Extent) {
    for block in 0..extent.blocks.count.0 {
        model[usize::try_from(extent.blocks.start.0 + block).unwrap()] = extent.place.after(block);
    }
}

/// Reads a range with a cursor and checks that it is complete and merged.
fn read(geometry: Geometry, slots: &Slots, root: MapRoot, blocks: BlockRange) -> Vec<Place> {
    let mut places = Vec::new();
    let mut last: Option<Extent> = None;
    for extent in MapCursor::with_geometry(geometry, slots, root, blocks) {
        let extent = extent.unwrap();
        assert!(!extent.blocks.is_empty());
        assert_eq!(extent.blocks.start, last.map_or(blocks.start, |last| last.blocks.end()), "a gap");
        assert!(last.is_none_or(|mut last| !last.try_extend(&extent)), "not merged: {last:?} {extent:?}");
        places.extend((0..extent.blocks.count.0).map(|block| extent.place.after(block)));
        last = Some(extent);
    }
    places
}

fn read_all(geometry: Geometry, slots: &Slots, root: MapRoot) -> Vec<Place> {
    read(geometry, slots, root, range(0, u64::MAX))
}

fn check_difference(geometry: Geometry, slots: &Slots, left: (MapRoot, &[Place]), right: (MapRoot, &[Place])) {
    let at = |model: &[Place], block: u64| model.get(usize::try_from(block).unwrap()).copied().unwrap_or(Place::Zero);
    let end = left.1.len().max(right.1.len()) as u64;
    let mut position = 0;
    let check_equal = |from: u64, to: u64| {
        (from..to).for_each(|block| assert_eq!(at(left.1, block), at(right.1, block), "block {block} was passed over"));
    };
    for found in difference_with_geometry(geometry, slots, left.0, right.0) {
        let found = found.unwrap();
        check_equal(position, found.blocks.start.0);
        assert!(found.blocks.start.0 >= position && !found.blocks.is_empty());
        for block in 0..found.blocks.count.0 {
            let index = found.blocks.start.0 + block;
            assert_eq!(found.left.after(block), at(left.1, index));
            assert_eq!(found.right.after(block), at(right.1, index));
            assert_ne!(found.left.after(block), found.right.after(block));
        }
        position = found.blocks.end().0;
    }
    assert!(position <= end);
    check_equal(position, end);
}

/// Returns the slots that a map reaches, and checks that they name all places of the model.
fn reached(geometry: Geometry, slots: &Slots, root: MapRoot, model: &[Place]) -> Vec<SlotAddress> {
    let mut reached = Vec::new();
    let mut named = HashSet::new();
    visit_with_geometry(
        geometry,
        slots,
        root,
        &mut |address, _| {
            reached.push(address);
            Ok(true)
        },
        &mut |extent| {
            named.extend((0..extent.blocks.count.0).map(|block| extent.place.after(block)));
            Ok(())
        },
    )
    .unwrap();
    assert!(model.iter().all(|place| *place == Place::Zero || named.contains(place)));
    let distinct: HashSet<_> = reached.iter().collect();
    assert_eq!(distinct.len(), reached.len(), "a map that has a slot twice");
    reached
}

fn run(geometry: Geometry, steps: &[Step]) {
    let slots = Slots::new(7);
    let mut writer = slots.clone();
    let mut base: Option<(MapRoot, Vec<Place>)> = None;
    let mut all: Vec<(MapRoot, Vec<Place>)> = Vec::new();
    for step in steps {
        let blocks = geometry.blocks_max() * step.size / 1000;
        let mut model = base.as_ref().map(|(_, model)| model.clone()).unwrap_or_default();
        model.resize(usize::try_from(blocks).unwrap(), Place::Zero);
        let mut builder = MapBuilder::with_geometry(geometry, base.as_ref().map(|base| base.0), BlockCount(blocks));
        let mut position = 0;
        for (number, change) in step.changes.iter().enumerate() {
            let start = position + change.gap;
            let slots_left = match change.place {
                Place::Stored { first_slot, .. } => SLOTS_MAX as u64 - u64::from(first_slot.0),
                _ => u64::MAX,
            };
            let end = (start + change.count.min(slots_left)).min(blocks);
            if start > blocks {
                break;
            }
            position = end;
            let extent = extent(start, end, change.place);
            set_in_model(&mut model, extent);
            builder.set(&slots, &mut writer, extent).unwrap();
            if number == step.checkpoint_after {
                let root = builder.checkpoint(&slots, &mut writer).unwrap();
                assert_eq!(read_all(geometry, &slots, root), model, "checkpoint");
            }
        }
        let root = builder.finish(&slots, &mut writer).unwrap();
        assert_eq!(root.blocks.0, blocks);
        assert_eq!(read_all(geometry, &slots, root), model);
        assert_eq!(root.root.is_none(), model.iter().all(|place| *place == Place::Zero));

        let middle = usize::try_from(blocks / 3).unwrap()..usize::try_from(blocks / 2).unwrap();
        let part = read(geometry, &slots, root, range(middle.start as u64, middle.end as u64));
        assert_eq!(part, model[middle]);
        reached(geometry, &slots, root, &model);
        check_unchanged_writes_nothing(geometry, &slots, root, &model);
        if let Some((base_root, base_model)) = &base {
            check_difference(geometry, &slots, (*base_root, base_model), (root, &model));
            check_difference(geometry, &slots, (root, &model), (*base_root, base_model));
        }
        all.push((root, model.clone()));
        base = Some((root, model));
    }
    check_references(geometry, &slots, &all);
    if let Some((root, model)) = base {
        let kept = reached(geometry, &slots, root, &model);
        slots.retain(|address| kept.contains(&address));
        assert_eq!(read_all(geometry, &slots, root), model, "what is not reached is not needed");
    }
}

/// Goes through all maps as cleanup does: each slot is read once, whichever map has it first, and everything that any of
/// the maps holds is named.
fn check_references(geometry: Geometry, slots: &Slots, maps: &[(MapRoot, Vec<Place>)]) {
    let reads = slots.reads();
    let mut seen = HashSet::new();
    let mut named = HashSet::new();
    for (root, _) in maps {
        visit_with_geometry(geometry, slots, *root, &mut |address, _| Ok(seen.insert(address)), &mut |extent| {
            named.extend((0..extent.blocks.count.0).map(|block| extent.place.after(block)));
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(slots.reads() - reads, seen.len());
    let is_named = |place: &Place| *place == Place::Zero || named.contains(place);
    assert!(maps.iter().all(|(_, model)| model.iter().all(is_named)), "cleanup would delete what a version needs");
}

fn check_unchanged_writes_nothing(geometry: Geometry, slots: &Slots, root: MapRoot, model: &[Place]) {
    let mut writer = slots.clone();
    let writes = slots.writes();
    let mut builder = MapBuilder::with_geometry(geometry, Some(root), root.blocks);
    for (block, place) in (0u64..).zip(model) {
        if block % 11 != 5 {
            builder.set(slots, &mut writer, extent(block, block + 1, *place)).unwrap();
        }
    }
    assert_eq!(builder.finish(slots, &mut writer).unwrap(), root);
    assert_eq!(slots.writes(), writes);
}

/// Pages that are large beside a few lone changes, so that nodes collect them for long.
const COLLECTING: Geometry =
    Geometry { page_blocks: 64, node_pointers: 3, patch_factor: 2, cover_factor: 4, changes_max: 30 };

fn fragmented_step() -> Step {
    let change = |block: u32| Change { gap: 0, count: 1, place: stored(block % 7, u16::try_from(block).unwrap()) };
    Step { size: 100, changes: (0..518).map(change).collect(), checkpoint_after: usize::MAX }
}

/// One to three lone changes, often of the same few blocks; seldom another size.
fn lone_step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![2 => Just(7u64), 2 => Just(60u64), 1 => 0u64..400];
    let change = (gap, 0u64..3, place()).prop_map(|(gap, count, place)| Change { gap, count, place });
    let size = prop_oneof![20 => Just(100u64), 1 => 0u64..110];
    (size, prop::collection::vec(change, 1..4), 0usize..9).prop_map(|(size, changes, checkpoint_after)| Step {
        size,
        changes,
        checkpoint_after,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn maps_hold_many_small_changes(steps in prop::collection::vec(lone_step(), 20..60)) {
        let steps: Vec<Step> = std::iter::once(fragmented_step()).chain(steps).collect();
        run(COLLECTING, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn maps_hold_what_was_set(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..6)) {
        run(SHAPES[shape], &steps);
    }
}
