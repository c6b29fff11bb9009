//! Changes that nodes collect for their pages.

use std::collections::HashSet;

use super::*;
use crate::map::changes::covered_blocks;
use crate::map::geometry::Geometry;
use crate::map::node::{Changed, Node, NodeBody, Sheet, SheetPointer};
use crate::map::page::{PageBody, PageExtent};
use crate::map::salvage::salvage_with_geometry;
use crate::map::visit::visit_with_geometry;

const SMALL: Geometry =
    Geometry { page_blocks: 64, node_pointers: 8, patch_factor: 3, cover_factor: 8, changes_max: 40 };

/// A map whose blocks are stored, each in another pack than the one before.
fn fragmented(slots: &Slots, blocks: u64) -> MapRoot {
    let mut builder = MapBuilder::with_geometry(SMALL, None, BlockCount(blocks));
    for block in 0..blocks {
        let place = stored(u32::try_from(block % 7).unwrap(), u16::try_from(block).unwrap());
        builder.set(slots, &mut slots.clone(), extent(block, block + 1, place)).unwrap();
    }
    builder.finish(slots, &mut slots.clone()).unwrap()
}

fn change(slots: &Slots, base: MapRoot, extents: &[Extent]) -> MapRoot {
    resize(slots, base, base.blocks.0, extents)
}

fn resize(slots: &Slots, base: MapRoot, blocks: u64, extents: &[Extent]) -> MapRoot {
    let mut writer = slots.clone();
    let mut builder = MapBuilder::with_geometry(SMALL, Some(base), BlockCount(blocks));
    extents.iter().for_each(|extent| builder.set(slots, &mut writer, *extent).unwrap());
    builder.finish(slots, &mut writer).unwrap()
}

fn root_node(slots: &Slots, root: MapRoot) -> Node {
    match NodeBody::decode_with(SMALL, &slots.body(root.root.unwrap())).unwrap() {
        NodeBody::Node(node) => node,
        NodeBody::Sheet(_) => panic!("a sheet as the root"),
    }
}

fn read(slots: &Slots, root: MapRoot) -> Vec<Place> {
    let mut places = Vec::new();
    for extent in MapCursor::with_geometry(SMALL, slots, root, range(0, u64::MAX)) {
        let extent = extent.unwrap();
        places.extend((0..extent.blocks.count.0).map(|block| extent.place.after(block)));
    }
    places
}

#[test]
fn lone_changes_go_through_node_and_sheet_into_pages() {
    let slots = Slots::new(1000);
    let mut root = fragmented(&slots, 512);
    let mut model = read(&slots, root);
    let first_pages = root_node(&slots, root).pointers;
    let (mut had_sheet, mut had_both, mut had_hidden, mut had_plain) = (false, false, false, false);
    for day in 0..200u32 {
        let block = u64::from(day) * 197 % 512;
        let place = stored(100 + day, 0);
        root = change(&slots, root, &[extent(block, block + 1, place)]);
        model[usize::try_from(block).unwrap()] = place;
        assert_eq!(read(&slots, root), model, "day {day}");
        let Changed { sheet, changes, .. } = root_node(&slots, root).changed;
        had_both |= sheet.is_some() && !changes.is_empty();
        had_hidden |= sheet.as_ref().is_some_and(|sheet| !sheet.hidden.is_empty());
        had_plain |= sheet.is_none() && changes.is_empty();
        had_sheet |= sheet.is_some();
    }
    assert!(had_sheet && had_both && had_hidden, "sheet {had_sheet}, both {had_both}, hidden {had_hidden}");
    assert!(!had_plain, "a change that no node has");
    let pages = root_node(&slots, root).pointers;
    assert!(pages.iter().zip(&first_pages).all(|(page, first)| page != first), "a page that was never written");
}

#[test]
fn the_changes_of_a_node_are_limited() {
    let slots = Slots::new(1000);
    let mut root = fragmented(&slots, 512);
    for day in 0..30u64 {
        let blocks: Vec<_> = (0..512).filter(|block| block % 31 == day).collect();
        let lone = blocks.iter().map(|block| extent(*block, block + 1, stored(200, u16::try_from(*block).unwrap())));
        root = change(&slots, root, &lone.collect::<Vec<_>>());
        let changed = root_node(&slots, root).changed;
        let in_sheet =
            changed.sheet.map_or(0, |sheet| match NodeBody::decode_with(SMALL, &slots.body(sheet.address)).unwrap() {
                NodeBody::Sheet(sheet) => sheet.changes.len(),
                NodeBody::Node(_) => panic!("a node as a sheet"),
            });
        assert!(changed.changes.len() + in_sheet <= SMALL.changes_max);
    }
}

#[test]
fn neither_node_nor_patch_covers_much_of_a_page() {
    let slots = Slots::new(1000);
    let root = fragmented(&slots, 512);
    let little = change(&slots, root, &[extent(3, 11, stored(300, 0))]);
    assert_eq!(root_node(&slots, little).pointers, root_node(&slots, root).pointers);
    let much = change(&slots, root, &[extent(3, 12, stored(300, 0))]);
    assert!(root_node(&slots, much).changed.is_none());
    let page = root_node(&slots, much).pointers[0].unwrap();
    assert!(matches!(PageBody::decode_with(SMALL, &slots.body(page)).unwrap(), PageBody::Full(_)));

    let small = fragmented(&slots, 64);
    for (end, is_patch) in [(11, true), (12, false)] {
        let root = change(&slots, small, &[extent(3, end, stored(300, 0))]);
        match PageBody::decode_with(SMALL, &slots.body(root.root.unwrap())).unwrap() {
            PageBody::Patch(patch) => assert!(is_patch && covered_blocks(&patch.changes) == 8),
            PageBody::Full(_) => assert!(!is_patch),
        }
    }
}

#[test]
fn undoing_what_a_node_has_collected_leads_back_to_the_base() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 512);
    let before = read(&slots, base);
    let (mut root, mut undo) = (base, Vec::new());
    for block in (10..450).step_by(37) {
        root = change(&slots, root, &[extent(block, block + 1, Place::Missing)]);
        undo.push(extent(block, block + 1, before[usize::try_from(block).unwrap()]));
    }
    let changed = root_node(&slots, root).changed;
    assert!(changed.sheet.is_some() && !changed.changes.is_empty());
    let undone = change(&slots, root, &undo);
    assert_eq!(root_node(&slots, undone), root_node(&slots, base));
}

#[test]
fn a_map_that_loses_its_nodes_keeps_what_they_have_collected() {
    let slots = Slots::new(1000);
    let root = change(&slots, fragmented(&slots, 512), &[extent(5, 6, Place::Missing)]);
    assert!(!root_node(&slots, root).changed.is_none());
    for blocks in [64, 63, 6] {
        let small = resize(&slots, root, blocks, &[]);
        assert_eq!(read(&slots, small), read(&slots, root)[..usize::try_from(blocks).unwrap()]);
        let grown = resize(&slots, small, 512, &[]);
        assert_eq!(read(&slots, grown)[..6], read(&slots, root)[..6]);
    }
}

#[test]
fn pages_without_new_changes_are_not_read() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 512);
    let one = change(&slots, base, &[extent(5, 6, Place::Missing), extent(400, 401, Place::Missing)]);
    let reads = slots.reads();
    let two = change(&slots, one, &[extent(100, 101, Place::Missing)]);
    assert_eq!(slots.reads() - reads, 2, "the node and a page");
    let reads = slots.reads();
    let found: Vec<_> = difference::difference_with_geometry(SMALL, &slots, one, two).map(Result::unwrap).collect();
    assert_eq!(found.iter().map(|found| found.blocks).collect::<Vec<_>>(), [range(100, 101)]);
    assert!(
        slots.reads() - reads <= 2 + 2 + 2,
        "{}: both nodes, a sheet each, one page from both sides",
        slots.reads() - reads
    );
}

/// A map with a sheet and with changes in the node.
fn with_sheet(slots: &Slots) -> (MapRoot, SheetPointer) {
    let mut root = fragmented(slots, 512);
    for block in 0..512 {
        let sheet = root_node(slots, root).changed.sheet;
        match sheet {
            Some(sheet) if !root_node(slots, root).changed.changes.is_empty() => return (root, sheet),
            _ => root = change(slots, root, &[extent(block * 67 % 512, block * 67 % 512 + 1, Place::Missing)]),
        }
    }
    panic!("no sheet was written")
}

#[test]
fn a_sheet_that_is_gone_loses_the_blocks_below_its_node() {
    let slots = Slots::new(1000);
    let (root, sheet) = with_sheet(&slots);
    slots.retain(|address| address != sheet.address);
    let failed = MapCursor::with_geometry(SMALL, &slots, root, range(0, 512)).find_map(Result::err).unwrap();
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    let mut lost = Vec::new();
    salvage_with_geometry(SMALL, &slots, root, &mut |part| {
        if let MapPart::Lost { blocks, address, .. } = part {
            lost.push((blocks, address));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(lost, [(range(0, 512), sheet.address)]);

    let mut builder = MapBuilder::with_geometry(SMALL, Some(root), BlockCount(512));
    builder.set(&slots, &mut slots.clone(), extent(0, 511, Place::Missing)).unwrap();
    assert!(builder.finish(&slots, &mut slots.clone()).is_err(), "nobody knows where block 511 is");
    let all_new = change(&slots, root, &[extent(0, 512, Place::Missing)]);
    assert_eq!(read(&slots, all_new), vec![Place::Missing; 512]);
}

#[test]
fn a_sheet_or_a_node_that_does_not_fit_is_damaged() {
    let slots = Slots::new(1000);
    let (root, sheet) = with_sheet(&slots);
    let good = slots.body(sheet.address);
    let node = root_node(&slots, root);
    let is_damaged = |what: &str| {
        let failed = MapCursor::with_geometry(SMALL, &slots, root, range(0, 512)).find_map(Result::err).expect(what);
        assert_eq!(failed.kind(), ErrorKind::Damaged, "{what}");
    };
    slots.put(sheet.address, SlotKind::MapNode, node.encode());
    is_damaged("a node as a sheet");
    slots.put(sheet.address, SlotKind::MapNode, good.clone());
    slots.put(root.root.unwrap(), SlotKind::MapNode, good);
    is_damaged("a sheet as a node");
    let changes = vec![PageExtent { start: 500, end: 501, place: Place::Missing }];
    for in_sheet in [true, false] {
        let mut bad = node.clone();
        bad.pointers[7] = None;
        bad.changed.changes.clone_from(&changes);
        if in_sheet {
            bad.changed.changes.clear();
            slots.put(sheet.address, SlotKind::MapNode, Sheet { changes: changes.clone() }.encode());
        }
        slots.put(root.root.unwrap(), SlotKind::MapNode, bad.encode());
        is_damaged("a change of a page that is not there");
    }
    let mut hidden = node;
    hidden.pointers[7] = None;
    hidden.changed.sheet.as_mut().unwrap().hidden = vec![7];
    slots.put(root.root.unwrap(), SlotKind::MapNode, hidden.encode());
    assert!(MapCursor::with_geometry(SMALL, &slots, root, range(0, 512)).all(|extent| extent.is_ok()), "hidden");
}

#[test]
fn a_smaller_map_does_not_hide_what_a_larger_one_refers_to() {
    let slots = Slots::new(1000);
    let large = change(&slots, fragmented(&slots, 512), &[extent(500, 501, stored(400, 1))]);
    let small = resize(&slots, large, 509, &[]);
    let (mut seen, mut named) = (HashSet::new(), HashSet::new());
    for root in [small, large] {
        visit_with_geometry(SMALL, &slots, root, &mut |address, _| Ok(seen.insert(address)), &mut |extent| {
            named.extend((0..extent.blocks.count.0).map(|block| extent.place.after(block)));
            Ok(())
        })
        .unwrap();
    }
    assert!(read(&slots, large).iter().all(|place| named.contains(place)));
}
