//! Puts that are on their way: their callers were told that they have failed, or that they have happened, or have crashed.
//!
//! The protocol sets no bound on how late a put may come (H22, H20, and why a failed backup revokes its own lease), so
//! there is none here: one may land at the next call, or when all is over.

use backy_core::names::ObjectName;
use backy_testkit::store::FaultyStore;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The late puts of all processes.
pub struct LatePuts {
    pub stores: Vec<FaultyStore>,
    pub random: ChaCha8Rng,
}

impl LatePuts {
    /// Lets any one of them land, if there is one.
    pub fn land_one(&mut self) -> Option<ObjectName> {
        let count: usize = self.stores.iter().map(FaultyStore::late_puts).sum();
        let mut number = (count > 0).then(|| self.random.random_range(0..count))?;
        for store in &self.stores {
            if number < store.late_puts() {
                return Some(store.land(number).unwrap());
            }
            number -= store.late_puts();
        }
        None
    }

    /// Lets about half of them land, in any order.
    pub fn land_half(&mut self) -> Vec<ObjectName> {
        let count: usize = self.stores.iter().map(FaultyStore::late_puts).sum();
        (0..count.div_ceil(2)).filter_map(|_| self.land_one()).collect()
    }

    /// Lets all of them land, in any order.
    pub fn land_all(&mut self) -> Vec<ObjectName> {
        std::iter::from_fn(|| self.land_one()).collect()
    }
}
