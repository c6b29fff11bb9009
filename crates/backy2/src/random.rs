//! Random bytes from the system, fit for keys and nonces.
//!
//! Nonces are drawn by twelve bytes, a few hundred thousand times a minute. So each thread keeps a small pool and asks
//! the system once per pool; bytes are wiped from the pool as they are given out. The program never forks a copy of
//! itself, which would share a pool.

use std::cell::RefCell;

use backy_core::environment::Random;
use zeroize::Zeroize;

const POOL_BYTES: usize = 3072;

/// Random bytes from the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

struct Pool {
    bytes: [u8; POOL_BYTES],
    /// How many bytes at the end have not been given out.
    left: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], left: 0 }) };
}

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > POOL_BYTES / 4 {
            return fill_from_system(bytes);
        }
        POOL.with_borrow_mut(|pool| {
            if pool.left < bytes.len() {
                fill_from_system(&mut pool.bytes);
                pool.left = POOL_BYTES;
            }
            let rest = pool.left - bytes.len();
            let given = &mut pool.bytes[rest..pool.left];
            bytes.copy_from_slice(given);
            given.zeroize();
            pool.left = rest;
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Without random bytes there are no safe keys: then the program ends at once.
fn fill_from_system(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        crate::console::message(&format!("error: the system gives no random bytes: {error}"));
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_given_out_twice() {
        let draw = || {
            let mut nonce = [0; 12];
            SystemRandom.fill(&mut nonce);
            nonce
        };
        let other = std::thread::spawn(move || (0..1000).map(|_| draw()).collect::<Vec<_>>());
        let mut seen: BTreeSet<[u8; 12]> = (0..1000).map(|_| draw()).collect();
        seen.extend(other.join().unwrap());
        assert_eq!(seen.len(), 2000);
        let mut large = [0; 10_000];
        SystemRandom.fill(&mut large);
        assert!(large[9_000..].iter().any(|byte| *byte != 0));
    }
}
