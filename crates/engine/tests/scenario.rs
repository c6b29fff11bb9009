//! Random rounds of a volume's life, compared byte by byte with a model that knows nothing of blocks.
//!
//! `BACKY2_SEED` chooses the seed, `BACKY2_ROUNDS` the number of rounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use backy_core::hint::{Hint, HintState};
use backy_core::policy::audit::AuditSettings;
use backy_core::records::manifest::Manifest;
use backy_core::units::ByteRange;
use backy_engine::backup::{BackupRequest, BaseChoice};
use backy_engine::remove::{self, RemoveRequest};
use backy_engine::repository::versions::VersionState;
use backy_testkit::clock::SimulatedClock;
use backy_testkit::device::MemoryDevice;
use backy_testkit::random::environment_with_clock;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Host, all_bytes, new_store, request, restore_request, spec};

const VOLUME_BYTES_MAX: usize = 3 << 20;

/// A version and what it must contain.
struct Known {
    manifest: Manifest,
    bytes: Vec<u8>,
    /// What has changed on the volume since.
    hints: Vec<Hint>,
}

struct Life {
    rng: ChaCha8Rng,
    volume: Vec<u8>,
    known: Vec<Known>,
}

impl Life {
    fn range(&mut self) -> std::ops::Range<usize> {
        let start = self.rng.random_range(0..=self.volume.len());
        let longest = if self.rng.random_bool(0.2) { 1 << 20 } else { 20_000 };
        let end = (start + self.rng.random_range(0..=longest)).min(self.volume.len());
        if self.rng.random_bool(0.3) { start & !4095..end & !4095 } else { start..end }
    }

    fn hint(&mut self, range: &std::ops::Range<usize>, state: HintState) {
        let range = ByteRange::between(range.start as u64, range.end as u64);
        for known in &mut self.known {
            known.hints.push(Hint { range, state });
        }
    }

    fn change(&mut self) {
        match self.rng.random_range(0..10) {
            0..5 => {
                let range = self.range();
                let is_random = self.rng.random_bool(0.5);
                let byte = self.rng.random();
                if is_random {
                    self.rng.fill_bytes(&mut self.volume[range.clone()]);
                } else {
                    self.volume[range.clone()].fill(byte);
                }
                self.hint(&range, HintState::Changed);
            }
            5..8 => {
                let range = self.range();
                self.volume[range.clone()].fill(0);
                self.hint(&range, HintState::Discarded);
            }
            8 => {
                // A grown volume has no hints for its new tail, which may hold anything.
                let more = self.rng.random_range(0..100_000);
                let mut tail = vec![0; more];
                if self.rng.random_bool(0.7) {
                    self.rng.fill_bytes(&mut tail);
                }
                self.volume.extend(tail);
                self.volume.truncate(VOLUME_BYTES_MAX);
            }
            _ => {
                let less = self.rng.random_range(0..100_000).min(self.volume.len());
                self.volume.truncate(self.volume.len() - less);
            }
        }
    }

    /// The hints since a version, as somebody would give them for the volume as it is now.
    fn hints_since(&self, index: usize) -> Vec<Hint> {
        let whole = ByteRange::between(0, self.volume.len() as u64);
        let hints = self.known[index].hints.iter();
        hints
            .map(|hint| Hint { range: hint.range.intersection(whole), ..*hint })
            .filter(|hint| !hint.range.is_empty())
            .collect()
    }
}

/// A volume that shrinks and grows again has lost what was between: no hints can tell, so the model keeps the smallest size.
fn forget_hints_that_cannot_tell(life: &mut Life) {
    let size = life.volume.len();
    for known in &mut life.known {
        if size < known.bytes.len() {
            let lost = ByteRange::between(size as u64, known.bytes.len() as u64);
            known.hints.push(Hint { range: lost, state: HintState::Changed });
        }
    }
}

fn live(seed: u64, rounds: usize) {
    println!("seed {seed}");
    let clock = Arc::new(SimulatedClock::default());
    let environment = environment_with_clock(seed, clock.clone());
    let store = Arc::new(new_store(&environment));
    let mut host = Host::new(store.clone(), environment.clone());
    let mut life = Life { rng: ChaCha8Rng::seed_from_u64(seed), volume: vec![0; 1 << 20], known: Vec::new() };

    for round in 0..rounds {
        clock.advance(Duration::from_secs(60));
        for _ in 0..life.rng.random_range(0..8) {
            life.change();
            forget_hints_that_cannot_tell(&mut life);
        }
        let source = MemoryDevice::with_bytes(&life.volume);
        let audit = AuditSettings {
            percent_of_volume: if life.rng.random_bool(0.5) { 0.5 } else { 0.0 },
            ..AuditSettings::default()
        };
        let mut wanted = BackupRequest { audit, ..request(&source, "vm") };
        let is_hinted = !life.known.is_empty() && life.rng.random_bool(0.7);
        if is_hinted {
            let index = life.rng.random_range(0..life.known.len());
            wanted.hints = Some(life.hints_since(index));
            wanted.base = BaseChoice::Version(spec(&life.known[index].manifest));
        }
        let report = host.try_backup(&wanted).unwrap_or_else(|failure| panic!("round {round}: {failure:?}"));
        assert!(report.wrong_hints.is_empty(), "round {round}: true hints were called wrong");
        let statistics = report.manifest.statistics;
        let parts =
            statistics.zero_bytes + statistics.deduplicated_bytes + statistics.new_bytes + statistics.missing_bytes;
        assert_eq!(parts, statistics.read_bytes, "round {round}: {statistics:?}");
        life.known.push(Known { manifest: report.manifest, bytes: life.volume.clone(), hints: Vec::new() });

        if life.known.len() > 8 {
            let index = life.rng.random_range(0..life.known.len() - 1);
            let gone = life.known.remove(index);
            let removal = RemoveRequest { version: spec(&gone.manifest), young: Duration::ZERO, is_forced: false };
            remove::run(&host.repository, &removal).unwrap();
            assert!(host.repository.find_version(&spec(&gone.manifest)).is_err());
        }
        let chosen = [life.known.len() - 1, life.rng.random_range(0..life.known.len())];
        for known in chosen.map(|index| &life.known[index]) {
            let (restored, report) = host.restore(&known.manifest);
            assert!(report.lost.is_empty());
            assert!(restored == known.bytes, "round {round}: version {} differs", known.manifest.uid);
        }
        let older = &life.known[chosen[1]];
        restore_over(&host, older, &life.volume, life.rng.random_bool(0.5));

        // The catalog may be lost, at any time; and another host has none.
        match life.rng.random_range(0..12) {
            0 => host = Host::new(store.clone(), environment.clone()),
            1 => host = Host::reopen(store.clone(), environment.clone(), host.state),
            _ => {}
        }
    }
    let listing = host.repository.versions().unwrap();
    assert!(listing.unreadable.is_empty());
    assert_eq!(listing.versions.len(), life.known.len());
    assert!(listing.versions.iter().all(|entry| entry.state == VersionState::Valid));
}

/// Restores over a device that holds other data: all of it must be replaced.
fn restore_over(host: &Host, known: &Known, dirt: &[u8], writes_differences_only: bool) {
    let mut old = dirt.to_vec();
    old.resize(known.bytes.len(), 0xee);
    let target = MemoryDevice::with_bytes(&old);
    let mut request = restore_request(&known.manifest, &target);
    request.writes_differences_only = writes_differences_only;
    host.try_restore(&request).unwrap();
    assert!(all_bytes(&target) == known.bytes, "version {} over old data differs", known.manifest.uid);
}

#[test]
fn every_round_restores_what_was_there() {
    let seed = std::env::var("BACKY2_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |time| u64::from(time.subsec_nanos())));
    let rounds = std::env::var("BACKY2_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    live(seed, rounds);
}
