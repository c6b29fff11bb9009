//! What the map promises beyond holding places: few reads, few writes, and refusals.

use super::*;
use crate::map::geometry::Geometry;
use crate::map::page::PageBody;

const SMALL: Geometry =
    Geometry { page_blocks: 16, node_pointers: 4, patch_factor: 1, cover_factor: 1, changes_max: 20 };

/// A map whose blocks are stored, each in a pack of its own row.
fn fragmented(slots: &Slots, blocks: u64) -> MapRoot {
    let mut writer = slots.clone();
    let mut builder = MapBuilder::with_geometry(SMALL, None, BlockCount(blocks));
    for block in 0..blocks {
        let pack = u32::try_from(block % 7).unwrap();
        let place = stored(pack, u16::try_from(block % 8000).unwrap());
        builder.set(slots, &mut writer, extent(block, block + 1, place)).unwrap();
    }
    builder.finish(slots, &mut writer).unwrap()
}

fn change(slots: &Slots, base: MapRoot, blocks: u64, extents: &[Extent]) -> MapRoot {
    let mut writer = slots.clone();
    let mut builder = MapBuilder::with_geometry(SMALL, Some(base), BlockCount(blocks));
    extents.iter().for_each(|extent| builder.set(slots, &mut writer, *extent).unwrap());
    builder.finish(slots, &mut writer).unwrap()
}

#[test]
fn a_huge_map_of_zeros_is_one_extent_without_reads() {
    let slots = Slots::new(100);
    let blocks = BlockCount(200 << 26);
    let root = MapBuilder::new(None, blocks).finish(&slots, &mut slots.clone()).unwrap();
    assert_eq!(root, MapRoot { blocks, root: None });
    let extents: Vec<_> = MapCursor::new(&slots, root, range(0, u64::MAX)).map(Result::unwrap).collect();
    assert_eq!(extents, [extent(0, blocks.0, Place::Zero)]);

    let mut builder = MapBuilder::new(None, blocks);
    builder.set(&slots, &mut slots.clone(), extent(12_345_678_901, 12_345_678_902, stored(1, 1))).unwrap();
    let root = builder.finish(&slots, &mut slots.clone()).unwrap();
    assert_eq!((slots.reads(), slots.writes()), (0, 3), "a page and two nodes");
    assert_eq!(MapCursor::new(&slots, root, range(0, u64::MAX)).map(Result::unwrap).count(), 3);
    assert_eq!(slots.reads(), 3);
}

#[test]
fn zeros_over_allocated_blocks_read_the_edges_only() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 1000); // 63 pages, height 3
    let reads = slots.reads();
    let root = change(&slots, base, 1000, &[extent(5, 995, Place::Zero)]);
    assert!(slots.reads() - reads <= 2 + 2 * 3, "{}", slots.reads() - reads);
    let extents: Vec<_> = MapCursor::with_geometry(SMALL, &slots, root, range(0, 1000)).map(Result::unwrap).collect();
    assert_eq!(extents.len(), 5 + 1 + 5);
}

#[test]
fn one_changed_block_reads_one_page_and_writes_its_parents() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 1000);
    let (reads, writes) = (slots.reads(), slots.writes());
    change(&slots, base, 1000, &[extent(500, 501, Place::Missing)]);
    assert_eq!((slots.reads() - reads, slots.writes() - writes), (4, 3));
}

#[test]
fn growing_and_shrinking_share_what_stays() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 256); // height 2, 16 full pages
    let writes = slots.writes();
    let grown = change(&slots, base, 1000, &[]);
    assert_eq!(slots.writes() - writes, 1, "a node above the old root");
    let back = change(&slots, grown, 256, &[]);
    assert_eq!((back, slots.writes() - writes), (base, 1));
    let cut = change(&slots, base, 40, &[]);
    assert_eq!(slots.writes() - writes, 2, "a node, which collects what is zero now");
    let again = change(&slots, cut, 256, &[]);
    let last = MapCursor::with_geometry(SMALL, &slots, again, range(0, 256)).last().unwrap().unwrap();
    assert_eq!(last, extent(40, 256, Place::Zero), "what was cut does not come back");
}

#[test]
fn differences_read_only_what_differs() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 1000);
    let root = change(&slots, base, 1000, &[extent(500, 501, Place::Missing)]);
    let reads = slots.reads();
    let found: Vec<_> = difference::difference_with_geometry(SMALL, &slots, base, root).map(Result::unwrap).collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].blocks, found[0].right), (range(500, 501), Place::Missing));
    assert!(slots.reads() - reads <= 2 * 5, "{}", slots.reads() - reads);
}

#[test]
fn patches_are_written_until_they_cost_a_full_page() {
    let slots = Slots::new(1000);
    let mut root = fragmented(&slots, 16);
    let first = root.root.unwrap();
    let mut kinds = Vec::new();
    for block in 0..14 {
        root = change(&slots, root, 16, &[extent(block, block + 1, Place::Missing)]);
        kinds.push(match PageBody::decode_with(SMALL, &slots.body(root.root.unwrap())).unwrap() {
            PageBody::Full(_) => 'f',
            PageBody::Patch(patch) => {
                assert_eq!(patch.base == first, !kinds.contains(&'f'), "the base is the last full page");
                'p'
            }
        });
    }
    let kinds: String = kinds.into_iter().collect();
    assert!(kinds.starts_with("ppf") && kinds.contains("fp"), "{kinds}");
}

#[test]
fn undoing_a_patch_points_to_the_full_page_again() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 16);
    let patched = change(&slots, base, 16, &[extent(3, 4, Place::Missing)]);
    let writes = slots.writes();
    let undone = change(&slots, patched, 16, &[extent(3, 4, stored(3, 3))]);
    assert_eq!((undone, slots.writes()), (base, writes));
}

#[test]
fn a_patch_of_a_patch_is_damaged() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 16);
    let patched = change(&slots, base, 16, &[extent(3, 4, Place::Missing)]);
    let PageBody::Patch(mut patch) = PageBody::decode_with(SMALL, &slots.body(patched.root.unwrap())).unwrap() else {
        panic!("not a patch")
    };
    patch.base = patched.root.unwrap();
    let address = SlotAddress { pack: map_pack(99), slot: SlotNumber(0) };
    slots.put(address, SlotKind::MapPage, PageBody::Patch(patch).encode());
    let root = MapRoot { blocks: BlockCount(16), root: Some(address) };
    let mut cursor = MapCursor::with_geometry(SMALL, &slots, root, range(0, 16));
    assert_eq!(cursor.next().unwrap().unwrap_err().kind(), ErrorKind::Damaged);
    assert!(cursor.next().is_none());
}

#[test]
fn what_lies_behind_the_end_is_damaged() {
    let slots = Slots::new(1000);
    let whole = fragmented(&slots, 256);
    for blocks in [15, 16, 17, 64, 65, 255, 257, 1000, u64::MAX] {
        let root = MapRoot { blocks: BlockCount(blocks), ..whole };
        let end = MapCursor::with_geometry(SMALL, &slots, root, range(0, u64::MAX)).last().unwrap();
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Damaged, "{blocks}");
    }
}

#[test]
fn refuses_what_cannot_be_set_and_stays_as_it_was() {
    let slots = Slots::new(1000);
    let mut writer = slots.clone();
    let mut builder = MapBuilder::new(None, BlockCount(50_000));
    builder.set(&slots, &mut writer, extent(10, 20, stored(1, 0))).unwrap();
    for bad in [
        extent(19, 25, Place::Missing),
        extent(0, 1, Place::Zero),
        extent(49_999, 50_001, Place::Zero),
        extent(50_001, 50_001, Place::Zero),
        extent(20, 29, stored(1, 8184)),
        extent(20, 21, stored(1, 8192)),
        Extent { blocks: BlockRange { start: BlockIndex(30), count: BlockCount(u64::MAX) }, place: Place::Zero },
    ] {
        assert_eq!(builder.set(&slots, &mut writer, bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
    builder.set(&slots, &mut writer, extent(20, 28, stored(1, 8184))).unwrap();
    let root = builder.finish(&slots, &mut writer).unwrap();
    let extents: Vec<_> = MapCursor::new(&slots, root, range(0, 30)).map(Result::unwrap).collect();
    assert_eq!(
        extents,
        [
            extent(0, 10, Place::Zero),
            extent(10, 20, stored(1, 0)),
            extent(20, 28, stored(1, 8184)),
            extent(28, 30, Place::Zero)
        ]
    );
    let too_large = MapBuilder::new(None, BlockCount(u64::MAX)).finish(&slots, &mut writer);
    assert_eq!(too_large.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn after_an_error_a_builder_publishes_nothing() {
    for calls in 0..20 {
        let slots = Slots::new(1000);
        let base = fragmented(&slots, 1000);
        let mut writer = slots.clone();
        let mut builder = MapBuilder::with_geometry(SMALL, Some(base), BlockCount(1000));
        slots.fail_after(calls);
        let set = builder.set(&slots, &mut writer, extent(100, 300, stored(20, 5)));
        slots.fail_after(usize::MAX);
        if set.is_err() {
            assert!(builder.checkpoint(&slots, &mut writer).is_err());
            assert!(builder.set(&slots, &mut writer, extent(400, 401, Place::Zero)).is_err());
            assert!(builder.finish(&slots, &mut writer).is_err());
        }
        let next = || MapCursor::with_geometry(SMALL, &slots, base, range(0, 1000));
        slots.fail_after(calls);
        let items: Vec<_> = next().collect();
        slots.fail_after(usize::MAX);
        let failures = items.iter().filter(|item| item.is_err()).count();
        assert_eq!((failures, items.last().unwrap().is_err()), (1, true), "an error is the last item");
        let seen: Vec<_> = items.into_iter().map_while(Result::ok).collect();
        assert_eq!(seen, next().map(Result::unwrap).take(seen.len()).collect::<Vec<_>>());
    }
}

#[test]
fn a_checkpoint_of_a_failed_write_leaves_the_builder_usable() {
    let slots = Slots::new(1000);
    let mut writer = slots.clone();
    let mut builder = MapBuilder::with_geometry(SMALL, None, BlockCount(100));
    builder.set(&slots, &mut writer, extent(3, 4, stored(1, 1))).unwrap();
    slots.fail_after(1);
    assert_eq!(builder.checkpoint(&slots, &mut writer).unwrap_err().kind(), ErrorKind::Unavailable);
    slots.fail_after(usize::MAX);
    let root = builder.finish(&slots, &mut writer).unwrap();
    assert_eq!(MapCursor::with_geometry(SMALL, &slots, root, range(0, 100)).map(Result::unwrap).count(), 3);
}

#[test]
fn visiting_stops_where_it_is_told_to() {
    let slots = Slots::new(1000);
    let base = fragmented(&slots, 1000);
    let root = change(&slots, base, 1000, &[extent(500, 501, Place::Missing)]);
    let mut seen = std::collections::HashSet::new();
    let mut visit = |root| {
        let mut new = 0;
        let mut enter = |address, _| {
            let is_new = seen.insert(address);
            new += usize::from(is_new);
            Ok(is_new)
        };
        visit::visit_with_geometry(SMALL, &slots, root, &mut enter, &mut |_| Ok(())).unwrap();
        new
    };
    assert_eq!(visit(base), 63 + 16 + 4 + 1);
    let reads = slots.reads();
    assert_eq!(visit(root), 3, "the parents of one page, which was seen");
    assert_eq!(slots.reads() - reads, 3);
}
