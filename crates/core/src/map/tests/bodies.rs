//! Bodies of pages and nodes: golden bytes, arbitrary bytes, refusals.

use proptest::prelude::*;

use super::*;
use crate::fixed::assert_golden;
use crate::map::geometry::Geometry;
use crate::map::node::{Changed, NODE_BODY_BYTES_MAX, Node, NodeBody, Sheet, SheetPointer};
use crate::map::page::{PAGE_BODY_BYTES_MAX, Page, PageBody, PageExtent, Patch};

const TINY: Geometry = Geometry { page_blocks: 4, node_pointers: 3, patch_factor: 1, cover_factor: 1, changes_max: 20 };

fn golden_page() -> Page {
    let mut extents = Vec::new();
    for (start, end, place) in [
        (0, 100, stored(1, 0)),
        (100, 101, stored(2, 500)),
        (101, 200, stored(1, 101)),
        (200, 300, Place::Zero),
        (300, 301, Place::Missing),
        (301, 8301, stored(3, 192)),
        (8301, 8302, stored(2, 501)),
        (8302, 16384, Place::Zero),
    ] {
        extents.push(PageExtent { start, end, place });
    }
    Page { extents }
}

fn golden_patch() -> Patch {
    let changes = vec![
        PageExtent { start: 7, end: 9, place: stored(4, 10) },
        PageExtent { start: 150, end: 151, place: stored(4, 12) },
        PageExtent { start: 151, end: 152, place: Place::Missing },
        PageExtent { start: 16_383, end: 16_384, place: stored(1, 8191) },
    ];
    let base = SlotAddress { pack: map_pack(5), slot: SlotNumber(300) };
    Patch { base, spent_bytes: 1234, changes }
}

fn golden_node() -> Node {
    let mut pointers = vec![None; 1024];
    for (index, pointer) in pointers.iter_mut().enumerate().filter(|(index, _)| index % 3 != 1) {
        let pack = map_pack(u32::try_from(index / 300).unwrap());
        *pointer = Some(SlotAddress { pack, slot: SlotNumber(u16::try_from(index).unwrap()) });
    }
    Node { level: 2, pointers, changed: Changed::default() }
}

fn golden_changes() -> Vec<PageExtent> {
    vec![
        PageExtent { start: 5, end: 6, place: stored(6, 17) },
        PageExtent { start: 16_000, end: 16_384, place: stored(6, 18) },
        // The page ends here, so this is an extent of its own.
        PageExtent { start: 16_384, end: 16_390, place: stored(6, 402) },
        PageExtent { start: 40_000, end: 40_001, place: Place::Zero },
        PageExtent { start: 16_777_215, end: 16_777_216, place: stored(7, 8191) },
    ]
}

fn golden_changed_node(sheet: Option<SheetPointer>, changes: Vec<PageExtent>) -> Node {
    let mut node = Node { level: 1, ..golden_node() };
    node.changed = Changed { sheet, spent_bytes: 321, changes };
    node
}

fn golden_sheet_pointer() -> SheetPointer {
    let address = SlotAddress { pack: map_pack(6), slot: SlotNumber(500) };
    SheetPointer { address, hidden: vec![0, 3, 4, 1023] }
}

fn golden_nodes() -> [(&'static str, NodeBody); 5] {
    let with_sheet = |changes| NodeBody::Node(golden_changed_node(Some(golden_sheet_pointer()), changes));
    [
        ("map_node", NodeBody::Node(golden_node())),
        ("map_node_changed", NodeBody::Node(golden_changed_node(None, golden_changes()))),
        ("map_node_sheet_only", with_sheet(Vec::new())),
        ("map_node_sheet_changed", with_sheet(golden_changes())),
        ("map_sheet", NodeBody::Sheet(Sheet { changes: golden_changes() })),
    ]
}

#[test]
fn bodies_are_what_they_always_were() {
    for (name, page) in
        [("map_page_full", PageBody::Full(golden_page())), ("map_page_patch", PageBody::Patch(golden_patch()))]
    {
        assert_golden(name, &page.encode());
        assert_eq!(PageBody::decode(&page.encode()).unwrap(), page);
    }
    for (name, node) in golden_nodes() {
        assert_golden(name, &node.encode());
        assert_eq!(NodeBody::decode(&node.encode()).unwrap(), node);
    }
}

#[test]
fn the_format_document_shows_a_changed_node_as_it_is() {
    let mut pointers = vec![None; 1024];
    pointers[0] = Some(SlotAddress { pack: PackId::from_bytes([b'M'; 16]), slot: SlotNumber(9) });
    let place = Place::Stored { pack: PackId::from_bytes([b'P'; 16]), first_slot: SlotNumber(4) };
    let changes = vec![PageExtent { start: 300, end: 301, place }];
    let changed = Changed { sheet: None, spent_bytes: 22, changes };
    let mut symbols = vec![0; 1024];
    symbols[0] = 2;
    let expected = [&[1, 1][..], &symbols, &[b'M'; 16], &[0x12, 0x16, 0, 1, 0xac, 2, 1, 2], &[b'P'; 16], &[8]].concat();
    assert_eq!(Node { level: 1, pointers, changed }.encode(), expected);
}

#[test]
fn every_shorter_or_longer_body_is_damaged() {
    let page = golden_page().encode();
    let patch = golden_patch().encode();
    let nodes = golden_nodes().map(|(_, node)| node.encode());
    for length in 0..page.len() {
        assert_eq!(PageBody::decode(&page[..length]).unwrap_err().kind(), ErrorKind::Damaged);
    }
    for length in 0..patch.len() {
        assert_eq!(PageBody::decode(&patch[..length]).unwrap_err().kind(), ErrorKind::Damaged);
    }
    for mut node in nodes {
        for length in 0..node.len() {
            assert_eq!(NodeBody::decode(&node[..length]).unwrap_err().kind(), ErrorKind::Damaged);
        }
        node.push(0);
        assert_eq!(NodeBody::decode(&node).unwrap_err().kind(), ErrorKind::Damaged);
    }
    for mut body in [page, patch] {
        body.push(0);
        assert_eq!(PageBody::decode(&body).unwrap_err().kind(), ErrorKind::Damaged);
    }
    assert_eq!(PageBody::decode(&vec![0; PAGE_BODY_BYTES_MAX + 1]).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(NodeBody::decode(&vec![0; NODE_BODY_BYTES_MAX + 1]).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn an_unknown_kind_is_unsupported_and_not_damaged() {
    assert_eq!(PageBody::decode(&[2, 0]).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(NodeBody::decode(&[3, 0]).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn the_largest_bodies_fit() {
    let pack = |number: usize| data_pack(u32::try_from(number).unwrap());
    let extents =
        (0..16_384u32).map(|start| PageExtent { start, end: start + 1, place: stored(start, 8191) }).collect();
    let page = PageBody::Full(Page { extents });
    assert!(page.encode().len() <= PAGE_BODY_BYTES_MAX, "{}", page.encode().len());
    assert_eq!(PageBody::decode(&page.encode()).unwrap(), page);
    let pointers = (0..1024).map(|index| Some(SlotAddress { pack: pack(index), slot: SlotNumber(8191) })).collect();
    let changes = (0..65_536u32)
        .map(|number| {
            let start = number * 256 + 255 * (number % 2);
            PageExtent { start, end: start + 1, place: stored(number, 8191) }
        })
        .collect();
    let address = SlotAddress { pack: pack(0), slot: SlotNumber(8191) };
    let sheet = Some(SheetPointer { address, hidden: (0..1024).collect() });
    let changed = Changed { sheet, spent_bytes: u64::MAX, changes };
    let node = NodeBody::Node(Node { level: 1, pointers, changed });
    assert!(node.encode().len() <= NODE_BODY_BYTES_MAX, "{}", node.encode().len());
    assert_eq!(NodeBody::decode(&node.encode()).unwrap(), node);
}

#[test]
fn bodies_that_are_never_written_are_damaged() {
    let pack = [7; 16];
    let body = |parts: &[&[u8]]| parts.concat();
    let pages = [
        ("zeros only", body(&[&[0, 1, 4, 0]])),
        ("no extents", body(&[&[0, 0]])),
        ("too few blocks", body(&[&[0, 1, 3, 1]])),
        ("too many blocks", body(&[&[0, 2, 3, 3, 1, 0]])),
        ("too many extents", body(&[&[0, 5, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0]])),
        ("an empty extent", body(&[&[0, 2, 0, 4, 0, 1]])),
        ("not merged missing", body(&[&[0, 2, 2, 2, 1, 1]])),
        ("not merged slots", body(&[&[0, 2, 2, 2, 2, 2], &pack, &[0, 0]])),
        ("a pack that is not next", body(&[&[0, 1, 4, 3], &pack, &pack, &[0]])),
        ("a pack twice", body(&[&[0, 2, 2, 2, 2, 3], &pack, &pack, &[0, 2]])),
        ("a slot below 0", body(&[&[0, 1, 4, 2], &pack, &[1]])),
        ("a slot above 8191", body(&[&[0, 1, 4, 2], &pack, &[0xfa, 0xff, 0]])),
        ("slots above 8191", body(&[&[0, 1, 4, 2], &pack, &[0xfa, 0x7f]])),
        ("an empty patch", body(&[&[1], &pack, &[0, 0, 0, 0]])),
        ("a patch of a slot above 8191", body(&[&[1], &pack, &[0, 32, 0, 1, 0, 1, 1]])),
        ("a patch behind the end", body(&[&[1], &pack, &[0, 0, 0, 1, 4, 1, 1]])),
        ("a patch not merged", body(&[&[1], &pack, &[0, 0, 0, 2, 0, 0, 1, 1, 1, 1]])),
    ];
    for (what, body) in pages {
        let error = PageBody::decode_with(TINY, &body).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Damaged, "{what}");
    }
    let nodes = [
        ("null only", body(&[&[0, 1, 0, 0, 0]])),
        ("missing", body(&[&[0, 1, 0, 1, 2], &pack, &[0]])),
        ("level 0", body(&[&[0, 0, 0, 0, 2], &pack, &[0]])),
        ("level 5", body(&[&[0, 5, 0, 0, 2], &pack, &[0]])),
        ("changes above nodes", body(&[&[1, 2, 0, 0, 2], &pack, &[0, 0, 0, 1, 0, 1, 1]])),
        ("changed by nothing", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 0, 0]])),
        ("neither a sheet nor none", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 2, 1, 0, 1, 1]])),
        ("too many changes", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 0, 21], &[0; 21], &[1; 21], &[0, 1].repeat(11)])),
        ("a change behind the end", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 0, 1, 12, 1, 1]])),
        ("a change over two pages", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 0, 1, 2, 3, 1]])),
        ("changes not merged", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 0, 2, 1, 0, 1, 1, 1, 1]])),
        ("a sheet in slot 8192", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 1], &pack, &[0, 32, 0, 0]])),
        ("hides a page too many", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 1], &pack, &[0, 0, 1, 3, 0]])),
        ("hides too many pages", body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 1], &pack, &[0, 0, 4, 0, 0, 0, 0, 0]])),
        ("an empty sheet", body(&[&[2, 0]])),
        ("a sheet over two pages", body(&[&[2, 1, 2, 3, 1]])),
    ];
    for (what, body) in nodes {
        assert_eq!(NodeBody::decode_with(TINY, &body).expect_err(what).kind(), ErrorKind::Damaged, "{what}");
    }
    assert!(PageBody::decode_with(TINY, &body(&[&[0, 1, 4, 2], &pack, &[0]])).is_ok());
    assert!(PageBody::decode_with(TINY, &body(&[&[1], &pack, &[0, 0, 0, 1, 3, 1, 1]])).is_ok());
    for good in [
        body(&[&[0, 1, 0, 0, 2], &pack, &[0]]),
        body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 0, 2, 3, 0, 1, 1, 1, 1]]),
        body(&[&[1, 1, 0, 0, 2], &pack, &[0, 0, 1], &pack, &[0, 0, 1, 2, 0]]),
        body(&[&[2, 1, 11, 1, 1]]),
    ] {
        assert!(NodeBody::decode_with(TINY, &good).is_ok(), "{good:?}");
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        prop::collection::vec(prop_oneof![4 => 0u8..5, 1 => any::<u8>()], 0..80),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_are_refused_or_exactly_one_page_or_node(body in body()) {
        for geometry in [TINY, Geometry::STORED] {
            if let Ok(page) = PageBody::decode_with(geometry, &body) {
                prop_assert_eq!(page.encode(), body.clone());
            }
            if let Ok(node) = NodeBody::decode_with(geometry, &body) {
                prop_assert_eq!(node.encode(), body.clone());
            }
        }
    }

    #[test]
    fn flipped_bits_are_refused_or_exactly_one_page_or_node(which in 0usize..7, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let nodes = golden_nodes().map(|(_, node)| node.encode());
        let mut body = [&[golden_page().encode(), golden_patch().encode()], &nodes[..]].concat()[which].clone();
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
        if let Ok(page) = PageBody::decode(&body) {
            prop_assert_eq!(page.encode(), body.clone());
        }
        if let Ok(node) = NodeBody::decode(&body) {
            prop_assert_eq!(node.encode(), body);
        }
    }
}
