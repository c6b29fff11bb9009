//! Measures a scrub against decrypting, decompressing and hashing the same slots with all cores, from memory:
//! `cargo run --release -p backy2-engine --example scrub_costs -- IMAGE FOLDER`. Makes a repository in FOLDER, which must not
//! be there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use backy_core::cancel::Cancel;
use backy_core::keys::ArgonCost;
use backy_core::names::{self, PackName};
use backy_core::pack::{SlotOpener, SuffixRead, read_directory};
use backy_core::policy::audit::AuditSettings;
use backy_core::records::label::LabelChange;
use backy_core::units::BlockSize;
use backy_core::{Error, Result};
use backy_device::{DeviceOptions, open_source};
use backy_engine::Repository;
use backy_engine::backup::{self, BackupRequest, BaseChoice, OnMismatch};
use backy_engine::progress::Progress;
use backy_engine::repository::init::{Protection, init};
use backy_engine::repository::open::open;
use backy_engine::repository::unlock::{Secret, SecretSource};
use backy_engine::scrub::{self, ScrubRequest};
use backy_engine::settings::Settings;
use backy_store::object_store::list_all;
use backy_store::open::{OpenHow, StoreOptions, open as open_store};
use backy_testkit::random::environment;

const ROUNDS: u32 = 5;

struct Key;

impl SecretSource for Key {
    fn is_configured(&self) -> bool {
        true
    }

    fn secret(&self) -> Result<Secret> {
        Ok(Secret::KeyFile(vec![1; 32].into()))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(image), Some(folder)) = (arguments.next(), arguments.next().map(PathBuf::from)) else {
        return Err(Error::invalid("say IMAGE FOLDER"));
    };
    let environment = environment(1);
    std::fs::create_dir_all(&folder).map_err(|error| Error::io("make the folder", error))?;
    let url = folder.join("repository").display().to_string();
    let store = open_store(&url, OpenHow::Create, &StoreOptions::default(), &environment)?;
    let protection = Protection::Encrypted { secret: Key.secret()?, cost: ArgonCost::new(8 << 10, 1, 1)? };
    init(store.as_ref(), &protection, &environment)?;
    let repository = open(Arc::clone(&store), &Key, &folder.join("state"), Settings::default(), environment)?;
    let manifest = back_up(&repository, &image)?;

    let mut packs = Vec::new();
    for object in list_all(store.as_ref(), names::PACKS)? {
        packs.push((PackName::parse(&object.name)?, store.get(&object.name, u64::MAX)?));
    }
    let (mut floor, mut took) = (Cost::MAX, Cost::MAX);
    for _ in 0..ROUNDS {
        let begin = Cost::now();
        open_all(&repository, &packs)?;
        floor = floor.min(Cost::since(&begin));
        let request = ScrubRequest { versions: vec![manifest.clone()], sample: None, source: None };
        let begin = Cost::now();
        let report = scrub::run(&repository, &request, &Progress::default(), &Cancel::default())?;
        took = took.min(Cost::since(&begin));
        println!("{} packs, {} bytes read, {} checked", report.packs, report.read_bytes, report.plain_bytes);
    }
    let ratios = (took.seconds / floor.seconds, took.cpu_seconds / floor.cpu_seconds);
    println!("floor {:.2} s, scrub {:.2} s: {:.2}", floor.seconds, took.seconds, ratios.0);
    println!("floor {:.2} s CPU, scrub {:.2} s CPU: {:.2}", floor.cpu_seconds, took.cpu_seconds, ratios.1);
    Ok(())
}

/// Time by the clock and of all cores together.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    cpu_seconds: f64,
}

impl Cost {
    const MAX: Cost = Cost { seconds: f64::MAX, cpu_seconds: f64::MAX };

    fn now() -> (Instant, f64) {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name, which may hold anything, ends with the last bracket; then come user and system time as 12th and 13th.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
        (Instant::now(), ticks / 100.0)
    }

    fn since((begin, cpu_begin): &(Instant, f64)) -> Cost {
        Cost { seconds: begin.elapsed().as_secs_f64(), cpu_seconds: Cost::now().1 - cpu_begin }
    }

    fn min(self, other: Cost) -> Cost {
        Cost { seconds: self.seconds.min(other.seconds), cpu_seconds: self.cpu_seconds.min(other.cpu_seconds) }
    }
}

fn back_up(repository: &Repository, image: &str) -> Result<backy_core::records::manifest::Manifest> {
    let source = open_source(&format!("file://{image}"), &DeviceOptions::default())?;
    let request = BackupRequest {
        source: source.as_ref(),
        name: "image".to_owned(),
        snapshot_name: String::new(),
        block_size: None,
        block_size_default: BlockSize::DEFAULT,
        base: BaseChoice::None,
        continued: None,
        hints: None,
        may_be_empty: false,
        label: LabelChange::default(),
        audit: AuditSettings::default(),
        on_mismatch: OnMismatch::ReadEverything,
        verify_percent: 0.0,
        host: "example".to_owned(),
        program: "example".to_owned(),
    };
    let report = backup::run(repository, &request, &Progress::default(), &Cancel::default());
    report.map(|report| report.manifest).map_err(|failure| failure.error)
}

/// Opens and fingerprints every slot, on all cores.
fn open_all(repository: &Repository, packs: &[(PackName, Vec<u8>)]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| open_some(repository, packs, &next))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Error::invalid("panic"))));
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}

fn open_some(repository: &Repository, packs: &[(PackName, Vec<u8>)], next: &AtomicUsize) -> Result<()> {
    let mut opener = SlotOpener::new()?;
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    let mut mix = 0;
    while let Some((name, object)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
        let SuffixRead::Directory(directory) = read_directory(repository.keys(), *name, None, object)? else {
            return Err(Error::damaged("no directory"));
        };
        for (slot, locator) in directory.slots() {
            let start = locator.offset_bytes as usize;
            sealed.clear();
            sealed.extend_from_slice(object.get(start..start + locator.stored_length as usize).unwrap_or_default());
            opener.open(repository.keys(), &directory, slot, &mut sealed, &mut plain)?;
            mix ^= repository.keys().fingerprint_key().fingerprint(&plain).0[0];
        }
    }
    // What it is does not matter, only that the compiler cannot leave it out.
    std::hint::black_box(mix);
    Ok(())
}
