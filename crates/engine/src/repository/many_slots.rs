//! Makes a repository with very many slots, to measure what a cleanup needs for its mark.
//!
//! ```text
//! cargo test --release -p backy2-engine many_slots -- --ignored
//! ```
//!
//! with `BACKY2_MANY_REPOSITORY` (a folder with a repository that a key file opens), `BACKY2_MANY_STATE` (the state folder),
//! `BACKY2_MANY_KEY` (the key file), `BACKY2_MANY_SLOTS` (how many blocks the first version has) and `BACKY2_MANY_DAYS`
//! (how many more versions there are). The maps are real, each page for itself. The packs of blocks are empty objects under
//! the names of packs, which the catalog knows: a mark and a survey need no more of them, a sweep would.
//!
//! ```text
//!  first version   pieces of 1 to 16 blocks, from eight packs at a time; after each piece a slot that nobody needs,
//!                  now and then: so the slots of a pack are no single run
//!  each day        one block in 400 anew, alone, at random
//! ```

use backy_catalog::PackFact;
use backy_core::Result;
use backy_core::ids::{PackId, SlotNumber};
use backy_core::map::{Extent, MapBuilder, Place};
use backy_core::pack::SLOTS_MAX;
use backy_core::units::{BlockCount, BlockIndex, BlockRange, BlockSize};
use backy_store::open::{OpenHow, StoreOptions};
use backy_testkit::random::environment;

use super::Repository;
use super::fragmented::{Random, publish};
use super::map_io::MapPackWriter;
use super::unlock::{Secret, SecretSource};

/// How many packs are filled at one time.
const PACKS_AT_ONCE: u64 = 8;
/// One block in so many changes each day.
const CHANGED_ONE_IN: u64 = 400;

struct KeyFile(Vec<u8>);

impl SecretSource for KeyFile {
    fn is_configured(&self) -> bool {
        true
    }

    fn secret(&self) -> Result<Secret> {
        Ok(Secret::KeyFile(self.0.clone().into()))
    }
}

fn variable(name: &str) -> String {
    std::env::var(format!("BACKY2_MANY_{name}")).unwrap_or_else(|_| panic!("BACKY2_MANY_{name} is not set"))
}

/// Gives slots of packs that are there by name only.
struct Packs<'a> {
    repository: &'a Repository,
    open: Vec<(PackId, u64)>,
    count: u64,
}

impl Packs<'_> {
    fn new_pack(&mut self) -> PackId {
        let name = self.repository.new_pack_name(self.repository.new_lease_id());
        let fact = PackFact {
            name,
            encryption_version: self.repository.encryption_version(),
            slot_count: u32::try_from(SLOTS_MAX).unwrap(),
            size_bytes: 0,
        };
        self.repository.store.put(&name.object_name(), &[]).unwrap();
        self.repository.catalog.remember_packs(&[fact]).unwrap();
        self.count += 1;
        name.id
    }

    /// Returns where `count` blocks lie, and leaves out a slot behind them now and then.
    fn take(&mut self, random: &mut Random, count: u64) -> Place {
        let index = usize::try_from(random.below(PACKS_AT_ONCE)).unwrap();
        if self.open.get(index).is_none_or(|(_, used)| used + count + 1 > SLOTS_MAX as u64) {
            let pack = self.new_pack();
            if index < self.open.len() { self.open[index] = (pack, 0) } else { self.open.push((pack, 0)) }
        }
        let index = index.min(self.open.len() - 1);
        let (pack, used) = &mut self.open[index];
        let first_slot = SlotNumber(u16::try_from(*used).unwrap());
        *used += count + u64::from(random.below(4) == 0);
        Place::Stored { pack: *pack, first_slot }
    }
}

#[test]
#[ignore = "makes a repository to measure a cleanup with"]
fn many_slots_for_a_mark() {
    if std::env::var_os("BACKY2_MANY_SLOTS").is_none() {
        println!("skipped: it makes a repository for a measurement, and BACKY2_MANY_SLOTS is not set");
        return;
    }
    let slots: u64 = variable("SLOTS").parse().unwrap();
    let days: u64 = variable("DAYS").parse().unwrap();
    let environment = environment(slots);
    let url = format!("file://{}", variable("REPOSITORY"));
    let store = backy_store::open::open(&url, OpenHow::Existing, &StoreOptions::default(), &environment).unwrap();
    let secrets = KeyFile(std::fs::read(variable("KEY")).unwrap());
    let settings = crate::settings::Settings::default();
    let repository = super::open::open(store, &secrets, variable("STATE").as_ref(), settings, environment).unwrap();

    let mut random = Random(slots);
    let mut packs = Packs { repository: &repository, open: Vec::new(), count: 0 };
    let mut map = None;
    for day in 0..=days {
        let lease = repository.new_lease_id();
        let mut writer = MapPackWriter::new(&repository, lease).unwrap();
        let mut builder = MapBuilder::new(map, BlockCount(slots));
        let mut start = 0;
        while start < slots {
            let step = if day == 0 { 0 } else { random.below(2 * CHANGED_ONE_IN) };
            let count = if day == 0 { 1 + random.below(16) } else { 1 };
            start += step;
            let count = count.min(slots.saturating_sub(start));
            if count == 0 {
                break;
            }
            let blocks = BlockRange { start: BlockIndex(start), count: BlockCount(count) };
            let place = packs.take(&mut random, count);
            builder.set(&repository, &mut writer, Extent { blocks, place }).unwrap();
            start += count;
        }
        let root = builder.finish(&repository, &mut writer).unwrap();
        for pack in writer.flush().unwrap() {
            repository.index_pack(&pack.pack, pack.size_bytes);
        }
        publish(&repository, "many", slots * BlockSize::DEFAULT.bytes_u64(), repository.new_lease_id(), root);
        map = Some(root);
    }
    println!("{slots} slots, {days} days, {} packs of blocks", packs.count);
}
