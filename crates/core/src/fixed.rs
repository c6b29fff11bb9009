//! An environment from a seed, for tests: the clock stands still and the random bytes are a BLAKE3 stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::environment::{Clock, Environment, Random, Timestamp};

struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp { milliseconds: 1_800_000_000_000 }
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _duration: Duration) {}
}

struct SeededRandom(Mutex<blake3::OutputReader>);

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().fill(bytes);
    }
}

/// Returns an environment whose random bytes follow from `seed`.
pub fn fixed_environment(seed: u64) -> Environment {
    let stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    Environment { clock: Arc::new(StillClock), random: Arc::new(SeededRandom(Mutex::new(stream))) }
}

/// Compares `bytes` with the golden file `name`, or writes it when `BACKY2_WRITE_GOLDEN` is set.
///
/// A golden file that changes is a change of the stored format: existing repositories must stay readable.
pub fn assert_golden(name: &str, bytes: &[u8]) {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BACKY2_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = read_golden(name);
    assert!(golden == bytes, "{path} differs; if the format changes deliberately, set BACKY2_WRITE_GOLDEN=1");
}

/// Reads the golden file `name`.
pub fn read_golden(name: &str) -> Vec<u8> {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}; BACKY2_WRITE_GOLDEN=1 writes it"))
}
