//! Random bytes that one seed repeats.

use std::sync::{Arc, Mutex, PoisonError};

use backy_core::environment::{Environment, Random};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::clock::SimulatedClock;

/// ChaCha8 from a seed. Several threads may draw from it; what each gets then depends on who comes first.
pub struct SeededRandom(Mutex<ChaCha8Rng>);

impl SeededRandom {
    /// Makes a sequence that is the same for the same seed.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// Returns a simulated clock and random bytes from `seed`.
pub fn environment(seed: u64) -> Environment {
    environment_with_clock(seed, Arc::new(SimulatedClock::default()))
}

/// Returns random bytes from `seed` beside a clock that the test keeps in its hand, or shares between hosts.
pub fn environment_with_clock(seed: u64, clock: Arc<SimulatedClock>) -> Environment {
    Environment { clock, random: Arc::new(SeededRandom::new(seed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_bytes_and_no_others() {
        let bytes = |seed| environment(seed).random_bytes::<32>();
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
        let environment = environment(1);
        assert_ne!(environment.random_bytes::<32>(), environment.random_bytes::<32>());
    }
}
