//! What fuzz targets share: keys that are the same in every run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backy_core::environment::{Clock, Environment, Random, Timestamp};
use backy_core::ids::{EncryptionVersion, Generation, LeaseId, PackId, RepositoryId};
use backy_core::keys::{DataKey, KeySet, MasterKey, Suite};
use backy_core::names::PackName;

struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp { milliseconds: 0 }
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _duration: Duration) {}
}

struct SeededRandom(Mutex<blake3::OutputReader>);

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().expect("no other thread panicked").fill(bytes);
    }
}

/// The repository of all targets.
pub const REPOSITORY: RepositoryId = RepositoryId::from_bytes([1; 16]);
/// The pack of all targets.
pub const PACK: PackName =
    PackName { id: PackId::from_bytes([2; 16]), generation: Generation(0), lease: LeaseId::from_bytes([3; 16]) };

/// Returns an environment that is the same in every run.
pub fn environment() -> Environment {
    let stream = blake3::Hasher::new().finalize_xof();
    Environment { clock: Arc::new(StillClock), random: Arc::new(SeededRandom(Mutex::new(stream))) }
}

/// Returns keys that are the same in every run; `suite` is that of data slots.
pub fn keys(suite: Suite) -> KeySet {
    let environment = environment();
    let master = MasterKey::generate(&environment);
    let version = EncryptionVersion(u32::from(suite != Suite::None));
    let data = BTreeMap::from([(version, DataKey::generate(suite, &environment))]);
    KeySet::new(REPOSITORY, master, data).expect("one data key of the right suite")
}
