//! How many bytes maps cost, compressed and sealed; `docs/map-size.md` has the table.
//!
//! `cargo test --release -p backy2-core map::tests::size -- --ignored --nocapture` prints it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::*;
use crate::map::geometry::Geometry;
use crate::map::node::{Changed, Node};
use crate::map::page::{Page, PageExtent, push_merged};
use crate::pack::MAP_PACK_BYTES_MAX;

const BLOCK_BYTES: u64 = 16 << 10;
/// Nonce and tag (28 bytes) and the locator of a slot.
const SLOT_OVERHEAD_BYTES: u64 = 31;
/// What a manifest takes, sealed.
const MANIFEST_BYTES: u64 = 1 << 10;

/// The splitmix64 generator (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A pack id as random as real ones: 48 bits of time, the rest random.
fn random_pack(number: u64) -> PackId {
    let mut random = Random(number);
    let time = 0x0193_0000_0000 + number;
    PackId::from_bytes(
        (u128::from(time) << 80 | u128::from(random.next() << 16 >> 16) << 32 | u128::from(random.next() >> 32))
            .to_be_bytes(),
    )
}

/// Counts what the engine would store; ends map packs where it would.
struct Measured {
    slots: Slots,
    bytes: u64,
    count: u64,
    pack_bytes: usize,
}

impl Measured {
    fn new(slots: &Slots) -> Measured {
        slots.start_pack();
        Measured { slots: slots.clone(), bytes: 0, count: 0, pack_bytes: 0 }
    }
}

impl MapWriter for Measured {
    fn write_map_slot(&mut self, kind: SlotKind, body: &[u8]) -> Result<SlotAddress> {
        let stored = zstd::bulk::compress(body, 1).unwrap().len().min(body.len());
        self.bytes += stored as u64 + SLOT_OVERHEAD_BYTES;
        self.count += 1;
        self.pack_bytes += stored;
        if self.pack_bytes > MAP_PACK_BYTES_MAX {
            self.slots.start_pack();
            self.pack_bytes = stored;
        }
        self.slots.write_map_slot(kind, body)
    }
}

/// Gives out slots as the engine does: consecutive ones in volume order, the next pack when one is full.
struct DataSlots {
    pack: u64,
    slot: u64,
}

impl DataSlots {
    fn start_pack(&mut self) {
        *self = DataSlots { pack: self.pack + 1, slot: 0 };
    }

    /// Returns where the next blocks go, and how many of `count` fit there.
    fn take(&mut self, count: u64) -> (Place, u64) {
        if self.slot == SLOTS_MAX as u64 {
            self.start_pack();
        }
        let count = count.min(SLOTS_MAX as u64 - self.slot);
        let first_slot = SlotNumber(u16::try_from(self.slot).unwrap());
        self.slot += count;
        (Place::Stored { pack: random_pack(self.pack), first_slot }, count)
    }
}

struct Year {
    pages: u64,
    days: u64,
    /// How many blocks a day, anywhere; or runs of so many blocks.
    writes: u64,
    run: u64,
}

/// A fully allocated page in pieces of 1 to 16 blocks from about 32 packs.
fn fragmented_page(seed: u64) -> Page {
    let mut random = Random(seed);
    let mut extents = Vec::new();
    let first_pack = 1_000_000 + seed / 2 * 16;
    let mut next_slots = [0u64; 32];
    next_slots.iter_mut().for_each(|slot| *slot = random.below(6000));
    let mut start = 0;
    while start < 16_384 {
        let count = (1 + random.below(16)).min(16_384 - start);
        let pack = random.below(32);
        let slot = &mut next_slots[usize::try_from(pack).unwrap()];
        *slot += random.below(3);
        let place = Place::Stored {
            pack: random_pack(first_pack + pack),
            first_slot: SlotNumber(u16::try_from(*slot).unwrap()),
        };
        *slot += count;
        let extent =
            PageExtent { start: u32::try_from(start).unwrap(), end: u32::try_from(start + count).unwrap(), place };
        push_merged(&mut extents, extent);
        start += count;
    }
    Page { extents }
}

fn fragmented_map(slots: &Slots, pages: u64) -> MapRoot {
    let mut writer = slots.clone();
    let mut builder = MapBuilder::new(None, BlockCount(pages * 16_384));
    for index in 0..pages {
        for piece in fragmented_page(index).extents {
            let start = index * 16_384;
            let extent = extent(start + u64::from(piece.start), start + u64::from(piece.end), piece.place);
            builder.set(slots, &mut writer, extent).unwrap();
        }
    }
    builder.finish(slots, &mut writer).unwrap()
}

struct Cost {
    changed_bytes: u64,
    map_bytes: u64,
    last_month: f64,
}

/// Makes a version a day and returns what all of them cost.
fn simulate(year: &Year) -> Cost {
    let slots = Slots::new(8192);
    let mut root = fragmented_map(&slots, year.pages);
    let mut random = Random(42);
    let mut data = DataSlots { pack: 10_000_000, slot: 0 };
    let (mut changed_bytes, mut map_bytes, mut last_month) = (0, 0, (0, 0));
    for day in 0..year.days {
        let blocks = root.blocks.0;
        let mut starts: Vec<u64> = (0..year.writes).map(|_| random.below(blocks / year.run) * year.run).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut writer = Measured::new(&slots);
        let mut builder = MapBuilder::new(Some(root), root.blocks);
        data.start_pack();
        for &start in &starts {
            let mut position = start;
            while position < start + year.run {
                let (place, count) = data.take(start + year.run - position);
                builder.set(&slots, &mut writer, extent(position, position + count, place)).unwrap();
                position += count;
            }
        }
        root = builder.finish(&slots, &mut writer).unwrap();
        let changed = starts.len() as u64 * year.run * BLOCK_BYTES;
        let map = writer.bytes + MANIFEST_BYTES;
        changed_bytes += changed;
        map_bytes += map;
        if day + 30 >= year.days {
            last_month = (last_month.0 + changed, last_month.1 + map);
        }
        if day % 20 == 19 {
            let mut kept = HashSet::new();
            visit_map_slots(&slots, root, &mut |address, _| Ok(kept.insert(address))).unwrap();
            slots.retain(|address| kept.contains(&address));
        }
    }
    Cost { changed_bytes, map_bytes, last_month: percent(last_month.1, last_month.0) }
}

/// Returns for how long this thread has run on a processor, whatever else the machine does (Linux).
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split_whitespace().next().unwrap().parse().unwrap())
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}

#[test]
fn scattered_writes_cost_below_one_percent() {
    for (pages, writes) in [(2, 2 * 164), (24, 4 * 24), (24, 24)] {
        let cost = simulate(&Year { pages, days: 100, writes, run: 1 });
        let percent = percent(cost.map_bytes, cost.changed_bytes);
        assert!(percent < 1.0, "{writes} writes a day to {pages} pages: {percent} %");
    }
}

#[test]
#[ignore = "takes minutes; prints a table"]
fn a_year_of_scattered_writes() {
    let pages: u64 = std::env::var("BACKY2_PAGES").map_or(373, |pages| pages.parse().unwrap());
    println!("| writes a day | per page and day | blocks each | changed a day | map, year | map, last month |");
    println!("|--:|--:|--:|--:|--:|--:|");
    for (quarters, run) in [(656, 1), (164, 1), (64, 1), (40, 1), (16, 1), (4, 1), (1, 1), (64, 4), (16, 16), (4, 64)] {
        let started = Instant::now();
        let year = Year { pages, days: 365, writes: pages * quarters / 4, run };
        let cost = simulate(&year);
        println!(
            "| {} | {} | {run} | {:.1} MiB | {:.2} % | {:.2} % | {:?}",
            year.writes,
            quarters as f64 / 4.0,
            cost.changed_bytes as f64 / 365.0 / f64::from(1 << 20),
            percent(cost.map_bytes, cost.changed_bytes),
            cost.last_month,
            started.elapsed(),
        );
    }
}

/// A fragmented map of any size whose slots are made when they are read.
struct MadeUp {
    written: Slots,
    blocks: u64,
    known: RefCell<HashMap<SlotAddress, (u8, u64)>>,
    spent: RefCell<Duration>,
}

impl MadeUp {
    fn new(blocks: u64) -> (MadeUp, MapRoot) {
        let root = SlotAddress { pack: random_pack(77), slot: SlotNumber(0) };
        let height = Geometry::STORED.height(blocks);
        let known = RefCell::new(HashMap::from([(root, (height, 0))]));
        let map = MadeUp { written: Slots::new(8192), blocks, known, spent: RefCell::default() };
        (map, MapRoot { blocks: BlockCount(blocks), root: Some(root) })
    }

    /// Half of the children are where the first backup put them, half where one of the last 50 days did.
    fn child_address(level: u8, index: u64) -> SlotAddress {
        let mut random = Random(index * 5 + u64::from(level));
        let (pack, slot) = if random.below(2) == 0 {
            (2_000_000 + index / 300, index % 300)
        } else {
            let day = random.below(50);
            (3_000_000 + day * 1000 + index / 32_768, index % 32_768 / 4)
        };
        SlotAddress { pack: random_pack(pack * 5 + u64::from(level)), slot: SlotNumber(u16::try_from(slot).unwrap()) }
    }

    fn make(&self, address: SlotAddress) -> Vec<u8> {
        let (level, index) = self.known.borrow()[&address];
        if level == 0 {
            return fragmented_page(index).encode();
        }
        let children = (index * 1024)..(index + 1) * 1024;
        let mut pointers = Vec::new();
        for child in children {
            let is_inside = child * Geometry::STORED.span(level - 1) < self.blocks;
            pointers.push(is_inside.then(|| {
                let mut address = MadeUp::child_address(level - 1, child);
                while self.known.borrow().get(&address).is_some_and(|known| *known != (level - 1, child)) {
                    address.slot.0 = (address.slot.0 + 1) % 8192;
                }
                self.known.borrow_mut().insert(address, (level - 1, child));
                address
            }));
        }
        Node { level, pointers, changed: Changed::default() }.encode()
    }
}

impl MapReader for MadeUp {
    fn read_map_slot(&self, address: SlotAddress, kind: SlotKind) -> Result<Vec<u8>> {
        if !self.known.borrow().contains_key(&address) {
            return self.written.read_map_slot(address, kind);
        }
        let started = processor_time();
        let body = self.make(address);
        *self.spent.borrow_mut() += processor_time() - started;
        Ok(body)
    }
}

#[test]
#[ignore = "takes minutes; prints a table"]
fn one_gibibyte_in_a_huge_volume() {
    println!("| volume | runs | blocks each | slots | map bytes | of 1 GiB | processor time of the builder |");
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for (name, bytes) in [("10 GB", 10_000_000_000), ("1 TB", 1_000_000_000_000), ("200 TB", 200_000_000_000_000u64)] {
        for run in [64, 1] {
            let (map, base) = MadeUp::new(bytes.div_ceil(BLOCK_BYTES * 16_384) * 16_384);
            let mut random = Random(7);
            let mut starts = HashSet::new();
            while (starts.len() as u64) < 65_536 / run {
                starts.insert(random.below(base.blocks.0 / run) * run);
            }
            let mut starts: Vec<u64> = starts.into_iter().collect();
            starts.sort_unstable();
            let mut writer = Measured::new(&map.written);
            let mut data = DataSlots { pack: 10_000_000, slot: 0 };
            let started = processor_time();
            let mut builder = MapBuilder::new(Some(base), base.blocks);
            for start in starts {
                let (place, count) = data.take(run);
                assert_eq!(count, run);
                builder.set(&map, &mut writer, extent(start, start + run, place)).unwrap();
            }
            builder.finish(&map, &mut writer).unwrap();
            let time = processor_time() - started - *map.spent.borrow();
            println!(
                "| {name} | {} | {run} | {} | {} | {:.2} % | {time:?} |",
                65_536 / run,
                writer.count,
                writer.bytes,
                percent(writer.bytes, 1 << 30),
            );
        }
    }
}
