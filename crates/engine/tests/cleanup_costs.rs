//! What a cleanup reads and writes, for docs/performance.md:
//! `cargo test --release -p backy2-engine --test cleanup_costs -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use backy_core::cancel::Cancel;
use backy_core::names;
use backy_core::records::manifest::Manifest;
use backy_core::units::BlockSize;
use backy_device::null::Pattern;
use backy_engine::cleanup::{self, CleanupRequest};
use backy_engine::progress::Progress;
use backy_engine::remove::{self, RemoveRequest};
use backy_store::layers::observe::{Counters, Observe};
use backy_store::object_store::list_all;
use backy_testkit::device::MemoryDevice;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Host, new_store, request, seeded, spec};

const BLOCK: usize = 16 << 10;
const IMAGE_BYTES: usize = 1 << 30;
const DAYS: usize = 30;
/// How many places change each day, of one to four blocks each.
const PLACES_A_DAY: usize = 640;

#[test]
#[ignore = "measures; takes minutes and 4 GiB"]
fn half_of_thirty_daily_versions_are_removed() {
    for (what, is_removed) in [
        ("the oldest 15", (|day| day < DAYS / 2) as fn(usize) -> bool),
        ("every second one", |day| day % 2 == 0 && day < DAYS),
    ] {
        let environment = seeded(30);
        let counters = Arc::new(Counters::default());
        let store = Arc::new(Observe::new(new_store(&environment), counters.clone()));
        let host = Host::new(store.clone(), environment);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut image = vec![0; IMAGE_BYTES];
        Pattern::Half.fill(0, 0, &mut image);
        let mut versions: Vec<Manifest> = Vec::new();
        for day in 0..DAYS {
            for _ in 0..PLACES_A_DAY {
                let start = rng.random_range(0..IMAGE_BYTES / BLOCK - 4) * BLOCK;
                let end = start + rng.random_range(1..=4) * BLOCK;
                Pattern::Half.fill(1 + day as u64, start as u64, &mut image[start..end]);
            }
            let device = MemoryDevice::with_bytes(&image);
            let mut request = request(&device, "image");
            request.block_size = Some(BlockSize::DEFAULT);
            versions.push(host.try_backup(&request).unwrap().manifest);
        }
        let stored = || list_all(&store, names::PACKS).unwrap().iter().map(|object| object.size_bytes).sum::<u64>();
        let before_bytes = stored();
        for version in versions.iter().enumerate().filter(|(day, _)| is_removed(*day)).map(|(_, version)| version) {
            let request = RemoveRequest { version: spec(version), young: Duration::ZERO, is_forced: true };
            remove::run(&host.repository, &request).unwrap();
        }
        for below in [75.0, 100.0] {
            let counts = counters.counts();
            let request = CleanupRequest { is_dry_run: false, compact_below_percent: below, time_max: None };
            let report = cleanup::run(&host.repository, &request, &Progress::default(), &Cancel::default()).unwrap();
            let after = counters.counts();
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            println!(
                "{what}, --compact-below {below}: of {:.1} MiB freed {:.1}, read {:.1} MiB in {} requests, wrote {:.1} MiB; \
                 {} packs deleted, {} written anew, {:.1} MiB unused",
                mib(before_bytes),
                mib(report.freed_bytes),
                mib(after.read_bytes - counts.read_bytes),
                after.gets + after.range_gets - counts.gets - counts.range_gets,
                mib(after.put_bytes - counts.put_bytes),
                report.deleted_packs.len(),
                report.rewritten_packs,
                mib(report.unused_bytes),
            );
        }
        println!("{what}: {:.1} MiB are left", stored() as f64 / f64::from(1 << 20));
    }
}
