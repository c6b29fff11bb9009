//! Publishes a version of a volume of any size that is fully allocated and fragmented, for the benchmark.
//!
//! ```text
//! cargo test -p backy2-engine fragmented -- --ignored
//! ```
//!
//! with `BACKY2_FRAGMENTED_REPOSITORY` (a folder with a repository), `BACKY2_FRAGMENTED_STATE` (the state folder),
//! `BACKY2_FRAGMENTED_PASSPHRASE`, `BACKY2_FRAGMENTED_BYTES` (size of the volume) and `BACKY2_FRAGMENTED_PIECE` (pieces
//! of 1 to so many blocks). The version is called `volume`; the nodes of its map and as many map packs as such a volume
//! has are real. The pages are copies of some hundred different ones, and the blocks that they speak of do not exist:
//! such a version serves as the base of a hinted backup without audit, and for nothing else.

use std::collections::HashMap;

use backy_core::codec::compression::{Codec, Compressor};
use backy_core::ids::{LeaseId, PackId, SlotAddress, SlotNumber, VersionUid};
use backy_core::keys::RecordKind;
use backy_core::map::{Extent, MapBuilder, MapReader, MapRoot, MapWriter, Place};
use backy_core::names;
use backy_core::pack::{NewSlot, PackWriter, SlotKind};
use backy_core::records::label::LabelChange;
use backy_core::records::manifest::{Manifest, Origin, Statistics};
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use backy_core::{Error, Result};
use backy_store::open::{OpenHow, StoreOptions};
use backy_testkit::random::environment;

use super::Repository;
use super::map_io::MapPackWriter;
use super::unlock::{Secret, SecretSource};

const PAGE_BLOCKS: u64 = 16_384;
/// How many pages of a pack-sized neighbourhood there are; as many lie in one map pack of 8 MiB, for pages of 8 KiB.
const PAGES_PER_PACK: u64 = 1024;
/// How many different pages there are; each pack has as many of them as [`COPIES_BYTES_MAX`] allows.
const DIFFERENT_PAGES: u64 = 256;
/// How many bytes of pages a pack has; fewer than real ones, so that all of them fit in memory.
const COPIES_BYTES_MAX: u64 = 2 << 20;

/// The splitmix64 generator (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Reads nothing: there is no base.
struct Nothing;

impl MapReader for Nothing {
    fn read_map_slot(&self, address: SlotAddress, _kind: SlotKind) -> Result<Vec<u8>> {
        Err(Error::damaged(format!("slot {address} does not exist")))
    }
}

/// Keeps the last body.
#[derive(Default)]
struct Kept(Vec<u8>);

impl MapWriter for Kept {
    fn write_map_slot(&mut self, _kind: SlotKind, body: &[u8]) -> Result<SlotAddress> {
        self.0 = body.to_vec();
        Ok(SlotAddress { pack: PackId::from_bytes([1; 16]), slot: SlotNumber(0) })
    }
}

/// Returns the body of a page in pieces of 1 to `piece` blocks from 32 packs.
fn page_body(seed: u64, piece: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let packs: Vec<PackId> = (0..32)
        .map(|_| {
            let id = u128::from(0x0193_0000_0000 + random.below(1 << 30)) << 80 | u128::from(random.next());
            PackId::from_bytes(id.to_be_bytes())
        })
        .collect();
    let mut next_slots: HashMap<PackId, u64> = packs.iter().map(|pack| (*pack, random.below(4000))).collect();
    let mut builder = MapBuilder::new(None, BlockCount(PAGE_BLOCKS));
    let mut kept = Kept::default();
    let mut start = 0;
    while start < PAGE_BLOCKS {
        let count = (1 + random.below(piece)).min(PAGE_BLOCKS - start);
        let pack = packs[usize::try_from(random.below(32)).unwrap()];
        let slot = next_slots.get_mut(&pack).unwrap();
        *slot += random.below(3);
        let place = Place::Stored { pack, first_slot: SlotNumber(u16::try_from(*slot % 8000).unwrap()) };
        *slot += count;
        let blocks = BlockRange { start: BlockIndex(start), count: BlockCount(count) };
        builder.set(&Nothing, &mut kept, Extent { blocks, place }).unwrap();
        start += count;
    }
    builder.finish(&Nothing, &mut kept).unwrap();
    kept.0
}

/// Gives pages the addresses of the copies, in packs that go through the volume; nodes are written for real.
struct Shared<'a> {
    nodes: MapPackWriter<'a>,
    packs: Vec<PackId>,
    pages_per_pack: u64,
    page: u64,
}

impl MapWriter for Shared<'_> {
    fn write_map_slot(&mut self, kind: SlotKind, body: &[u8]) -> Result<SlotAddress> {
        if kind == SlotKind::MapNode {
            return self.nodes.write_map_slot(kind, body);
        }
        let page = self.page;
        self.page += 1;
        let mut random = Random(page);
        // Half of the pages are where the first backup put them, half where one of fifty later ones did.
        let count = self.packs.len() as u64;
        let pack = if random.below(2) == 0 || count < 100 {
            page / PAGES_PER_PACK % count
        } else {
            random.below(50) * (count / 50) + page / PAGES_PER_PACK / 50 % (count / 50)
        };
        let slot = SlotNumber(u16::try_from(random.below(self.pages_per_pack)).unwrap());
        Ok(SlotAddress { pack: self.packs[usize::try_from(pack).unwrap()], slot })
    }
}

struct Passphrase(String);

impl SecretSource for Passphrase {
    fn is_configured(&self) -> bool {
        true
    }

    fn secret(&self) -> Result<Secret> {
        Ok(Secret::Passphrase(self.0.clone().into_bytes().into()))
    }
}

fn variable(name: &str) -> String {
    std::env::var(format!("BACKY2_FRAGMENTED_{name}")).unwrap_or_else(|_| panic!("BACKY2_FRAGMENTED_{name} is not set"))
}

fn write_page_packs(repository: &Repository, count: u64, piece: u64) -> (Vec<PackId>, u64) {
    let mut compressor = Compressor::new(super::map_io::MAP_COMPRESSION_LEVEL).unwrap();
    let bodies: Vec<(u32, Codec, Vec<u8>)> = (0..DIFFERENT_PAGES)
        .map(|seed| {
            let plain = page_body(seed, piece);
            let mut body = Vec::new();
            let codec = compressor.compress(&plain, &mut body).unwrap();
            (u32::try_from(plain.len()).unwrap(), codec, body)
        })
        .collect();
    let sizes = bodies.iter().fold((0, 0), |sum, (plain, _, body)| (sum.0 + *plain as usize, sum.1 + body.len()));
    println!("a page has {} bytes, {} compressed", sizes.0 / bodies.len(), sizes.1 / bodies.len());
    let pages_per_pack = (COPIES_BYTES_MAX * DIFFERENT_PAGES / sizes.1 as u64).clamp(1, DIFFERENT_PAGES);
    let lease = repository.new_lease_id();
    let write_pack = |number: u64| {
        let mut writer = PackWriter::new(&repository.keys, repository.new_pack_name(lease), Vec::new()).unwrap();
        for slot in 0..pages_per_pack {
            let (plain_length, codec, body) = &bodies[usize::try_from((slot + number) % DIFFERENT_PAGES).unwrap()];
            let slot = NewSlot {
                kind: SlotKind::MapPage,
                plain_length: *plain_length,
                codec: *codec,
                body,
                fingerprint: None,
            };
            writer.append(slot, &repository.environment).unwrap();
        }
        let pack = repository.put_pack(writer).unwrap();
        repository.index_pack(&pack, pack.bytes.len() as u64);
        pack.name.id
    };
    ((0..count).map(write_pack).collect(), pages_per_pack)
}

/// Publishes a first version whose map is written.
pub(super) fn publish(repository: &Repository, name: &str, size_bytes: u64, lease: LeaseId, map: MapRoot) {
    let manifest = Manifest {
        uid: VersionUid::generate(&repository.environment),
        name: name.to_owned(),
        snapshot_name: String::new(),
        created: repository.environment.clock.now(),
        size_bytes,
        block_size: BlockSize::DEFAULT,
        base: None,
        base_bytes: None,
        lease,
        encryption_version: repository.encryption_version(),
        map,
        missing_blocks: BlockCount(0),
        origin: Origin::default(),
        statistics: Statistics::default(),
        audit: Default::default(),
        label: LabelChange::default(),
        continues: Vec::new(),
    };
    manifest.check().unwrap();
    repository.put_record(RecordKind::Manifest, &names::manifest(manifest.uid), &manifest).unwrap();
}

#[test]
#[ignore = "makes a repository for scripts/bench/run.sh"]
fn fragmented_volume_for_the_benchmark() {
    if std::env::var_os("BACKY2_FRAGMENTED_BYTES").is_none() {
        println!("skipped: it makes a repository for a measurement, and BACKY2_FRAGMENTED_BYTES is not set");
        return;
    }
    let size_bytes = variable("BYTES").parse::<u64>().unwrap();
    let piece: u64 = variable("PIECE").parse().unwrap();
    let environment = environment(size_bytes ^ piece);
    let url = format!("file://{}", variable("REPOSITORY"));
    let store = backy_store::open::open(&url, OpenHow::Existing, &StoreOptions::default(), &environment).unwrap();
    let secrets = Passphrase(variable("PASSPHRASE"));
    let state = variable("STATE");
    let repository =
        super::open::open(store, &secrets, state.as_ref(), crate::settings::Settings::default(), environment).unwrap();

    let blocks = BlockSize::DEFAULT.count(size_bytes);
    let pages = blocks.0.div_ceil(PAGE_BLOCKS);
    let (packs, pages_per_pack) = write_page_packs(&repository, pages.div_ceil(PAGES_PER_PACK), piece);
    let lease = repository.new_lease_id();
    let mut writer = Shared { nodes: MapPackWriter::new(&repository, lease).unwrap(), packs, pages_per_pack, page: 0 };
    let mut builder = MapBuilder::new(None, blocks);
    for page in 0..pages {
        // One block is enough to make the builder ask where the page is.
        let place = Place::Stored { pack: PackId::from_bytes([1; 16]), first_slot: SlotNumber(0) };
        let blocks = BlockRange { start: BlockIndex(page * PAGE_BLOCKS), count: BlockCount(1) };
        builder.set(&Nothing, &mut writer, Extent { blocks, place }).unwrap();
    }
    let map: MapRoot = builder.finish(&Nothing, &mut writer).unwrap();
    for pack in writer.nodes.flush().unwrap() {
        repository.index_pack(&pack.pack, pack.size_bytes);
    }
    publish(&repository, "volume", size_bytes, lease, map);
    println!("volume of {size_bytes} bytes: {pages} pages, {} map packs", writer.packs.len());
}
